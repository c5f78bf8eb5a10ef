//! Parts of lists that can be long.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text;

/// Entries that one question gets at most, where it says how many.
pub const MAX_PAGE: usize = 1000;

/// Hosts, or authorities of TPMs, that one request adds at most.
pub const MAX_AT_ONCE: usize = 100;

/// Which part of a list is wanted. A page that has as many entries as were asked for may have others after it: they are
/// asked for by the key of its last one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PageQuery {
    /// How many entries at most: 1 to 1000; all of them if absent.
    #[schemars(range(min = 1, max = MAX_PAGE))]
    pub limit: Option<usize>,
    /// Only what follows the entry with this key, by which the list is in order. The entry need not be there any more.
    pub after: Option<String>,
}

/// Which part of a list is wanted that is in the order of digests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DigestPageQuery {
    /// How many entries at most: 1 to 1000; all of them if absent.
    #[schemars(range(min = 1, max = MAX_PAGE))]
    pub limit: Option<usize>,
    /// Only what follows the entry with this digest. The entry need not be there any more.
    #[schemars(with = "Option<text::Digest>")]
    pub after: Option<String>,
}

impl From<PageQuery> for DigestPageQuery {
    fn from(PageQuery { limit, after }: PageQuery) -> Self {
        Self { limit, after }
    }
}

/// Which hosts are wanted. An absent filter lets all pass.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HostQuery {
    /// How many hosts at most: 1 to 1000; all of them if absent. A page with as many as that may have others after it.
    #[schemars(range(min = 1, max = MAX_PAGE))]
    pub limit: Option<usize>,
    /// Only hosts whose names follow this one.
    pub after: Option<String>,
    /// Only hosts of this group; `default` for those of none.
    #[schemars(with = "Option<text::ShortName>")]
    pub group: Option<String>,
    /// Only hosts that were revoked, or only those that were not.
    pub revoked: Option<bool>,
}
