//! What hosts with TPMs are judged by.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use hgs_crypto::hash::sha256;
use hgs_pki::Time;
use hgs_pki::health::HostId;
use serde::{Deserialize, Serialize};

use super::{Digest, NameError, ShortName, text};

/// Octets of the longest document. A line of an export holds it with all that has to be escaped.
pub const MAX_DOCUMENT_OCTETS: usize = 8 * 1024 * 1024;

/// The kinds of documents that measurements are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DocumentKind {
    /// What may be measured when a host boots.
    Baseline,
    /// Which files a host may use.
    CiPolicy,
    /// What may write crash dumps.
    DumpKey,
}

impl DocumentKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Baseline, Self::CiPolicy, Self::DumpKey];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::CiPolicy => "ci-policy",
            Self::DumpKey => "dump-key",
        }
    }
}

impl fmt::Display for DocumentKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A document that measurements are compared with, as its JSON text. Whether it is compared with those of a host, its group says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyDocument {
    /// What administrators call it, by which the record is named. No two documents of any kind share a name.
    pub name: ShortName,
    /// Its kind.
    pub kind: DocumentKind,
    /// The document.
    #[serde(with = "text::shared")]
    pub text: Arc<str>,
    /// When it was added.
    #[serde(with = "text::display")]
    pub added: Time,
    /// When it was last changed.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "text::optional"
    )]
    pub changed: Option<Time>,
}

impl PolicyDocument {
    /// SHA-256 of its text.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::from_bytes(sha256(self.text.as_bytes()))
    }
}

/// What only one host measures, as the JSON text of its document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostMeasurementsRecord {
    /// Whose, by which the record is named.
    #[serde(with = "text::display")]
    pub host: HostId,
    /// The document.
    #[serde(with = "text::shared")]
    pub text: Arc<str>,
    /// When it was last changed.
    #[serde(with = "text::display")]
    pub changed: Time,
}

impl HostMeasurementsRecord {
    /// SHA-256 of its text.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::from_bytes(sha256(self.text.as_bytes()))
    }
}

/// The name of the group that hosts are in which are in no other one. It is always there.
pub const DEFAULT_GROUP: &str = "default";

/// A group of hosts, and what it has others be judged by than [the default group](DEFAULT_GROUP).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostGroup {
    /// What administrators call it, by which the record is named.
    pub name: ShortName,
    /// When it was made.
    #[serde(with = "text::display")]
    pub added: Time,
    /// Policies that were enabled or disabled for it, by name. The others are as in the default group, and there as they are by themselves.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub policies: BTreeMap<String, bool>,
    /// Documents that were enabled or disabled for it. The others are as in the default group, and there they are disabled.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub documents: BTreeMap<ShortName, bool>,
}

impl HostGroup {
    /// A group that differs in nothing.
    #[must_use]
    pub fn new(name: ShortName, added: Time) -> Self {
        Self {
            name,
            added,
            policies: BTreeMap::new(),
            documents: BTreeMap::new(),
        }
    }
}

impl ShortName {
    /// The name of [the default group](DEFAULT_GROUP).
    #[must_use]
    pub fn of_default_group() -> Self {
        DEFAULT_GROUP.parse().expect("it is a name")
    }
}

impl FromStr for DocumentKind {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        let mut kinds = Self::ALL.into_iter();
        kinds
            .find(|kind| kind.name() == name)
            .ok_or(NameError::DocumentKind)
    }
}
