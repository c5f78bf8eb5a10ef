use std::fmt;
use std::str::FromStr;

use hgs_protector::transport_key_blob::{BlobVersion, CachingPolicy};

/// The version of the service that a request is for ([MS-KPS] 2.2.3.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceVersion {
    /// `v1.0`: keys only.
    V1,
    /// `v2.0`: keys and policies.
    V2,
}

/// The text is not `v1.0` or `v2.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the versions of the key protection service are v1.0 and v2.0")]
pub struct UnknownVersion;

impl ServiceVersion {
    /// The form of the keys in an answer of this version. Version 1 has no room for `caching`.
    #[must_use]
    pub fn blob(self, caching: Option<CachingPolicy>) -> BlobVersion {
        match self {
            Self::V1 => BlobVersion::V1,
            Self::V2 => BlobVersion::V2 { caching },
        }
    }
}

impl fmt::Display for ServiceVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::V1 => "v1.0",
            Self::V2 => "v2.0",
        })
    }
}

impl FromStr for ServiceVersion {
    type Err = UnknownVersion;

    /// Reads a segment of a path, which matches without regard to ASCII case.
    fn from_str(segment: &str) -> Result<Self, UnknownVersion> {
        [Self::V1, Self::V2]
            .into_iter()
            .find(|version| segment.eq_ignore_ascii_case(&version.to_string()))
            .ok_or(UnknownVersion)
    }
}
