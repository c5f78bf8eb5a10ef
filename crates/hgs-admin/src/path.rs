//! What stands for one thing in a path. Nothing in a path is percent-encoded, so each of these types holds only
//! characters that can stand there as they are.

use std::fmt;
use std::str::FromStr;

use hgs_pki::Thumbprint;

use crate::AdminError;

/// Whether `segment` can stand for one thing in a path.
#[must_use]
pub fn is_plain(segment: &str) -> bool {
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'_');
    !matches!(segment, "" | "." | "..") && segment.bytes().all(plain)
}

/// The name or the id of a host, in either case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSelector(String);

impl HostSelector {
    /// The text as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostSelector {
    type Err = AdminError;

    fn from_str(text: &str) -> Result<Self, AdminError> {
        if is_plain(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(AdminError::invalid(format_args!(
            "{text:?} is no host name: those have letters, digits, `.`, `-` and `_` only"
        )))
    }
}

impl fmt::Display for HostSelector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// One signer of health certificates, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignerSelector {
    /// Every signer.
    All,
    /// The signer with this certificate.
    One(Thumbprint),
}

impl FromStr for SignerSelector {
    type Err = <Thumbprint as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "all" => Ok(Self::All),
            one => one.parse().map(Self::One),
        }
    }
}

impl fmt::Display for SignerSelector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => formatter.write_str("all"),
            Self::One(thumbprint) => thumbprint.fmt(formatter),
        }
    }
}

/// What can be a segment of a path.
pub(crate) trait Segment: Sized + fmt::Display + FromStr<Err: fmt::Display> {
    /// The JSON schema of its text.
    fn schema() -> serde_json::Value;
}

const THUMBPRINT: &str = "^[0-9A-Fa-f]{64}$";
const PLAIN: &str = "^[0-9A-Za-z._-]+$";

impl Segment for Thumbprint {
    fn schema() -> serde_json::Value {
        serde_json::json!({"type": "string", "pattern": THUMBPRINT})
    }
}

impl Segment for SignerSelector {
    fn schema() -> serde_json::Value {
        serde_json::json!({"type": "string", "pattern": format!("^all$|{THUMBPRINT}")})
    }
}

impl Segment for HostSelector {
    fn schema() -> serde_json::Value {
        serde_json::json!({"type": "string", "pattern": PLAIN})
    }
}

impl Segment for u64 {
    fn schema() -> serde_json::Value {
        serde_json::json!({"type": "integer", "minimum": 0})
    }
}
