//! What stands for one thing in a path. Nothing in a path is percent-encoded, so each of these types holds only
//! characters that can stand there as they are.

use std::fmt;
use std::str::FromStr;

use hgs_pki::Thumbprint;
use schemars::JsonSchema;

use crate::{AdminError, text};

/// Whether `segment` can stand for one thing in a path.
#[must_use]
pub fn is_plain(segment: &str) -> bool {
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'_');
    !matches!(segment, "" | "." | "..") && segment.bytes().all(plain)
}

/// Whether `text` is a name of letters, digits, `.`, `-` and `_` that begins with a letter or digit.
fn is_name(text: &str, longest: usize) -> bool {
    let begins = text.starts_with(|first: char| first.is_ascii_alphanumeric());
    begins && text.len() <= longest && is_plain(text)
}

/// Whether `text` is SHA-256 in hexadecimal.
fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|octet| octet.is_ascii_hexdigit())
}

macro_rules! selectors {
    ($($(#[doc = $line:literal])+ $name:ident($form:ident), if $is:expr, else $refusal:literal;)+) => {$(
        $(#[doc = $line])+
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(String);

        impl $name {
            /// The text as it was given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = AdminError;

            fn from_str(text: &str) -> Result<Self, AdminError> {
                let is: fn(&str) -> bool = $is;
                match is(text) {
                    true => Ok(Self(text.to_owned())),
                    false => Err(AdminError::invalid(format_args!(concat!("{:?} ", $refusal), text))),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl Segment for $name {
            type Form = text::$form;
        }
    )+};
}

selectors! {
    /// The name or the id of a host, in either case.
    HostSelector(HostName), if |text| is_name(text, 253), else "is no host name: \
        those have 1 to 253 letters, digits, `.`, `-` and `_`, and begin with a letter or digit";
    /// The name of a group of hosts, a policy or a document, in either case.
    NameSelector(ShortName), if |text| is_name(text, 64), else "is no name of a group, a policy or a document: \
        those have 1 to 64 letters, digits, `.`, `-` and `_`, and begin with a letter or digit";
    /// The name of a node.
    NodeSelector(NodeName), if |text| is_name(text, 63) && text.bytes().all(|octet| octet != b'_' && !octet.is_ascii_uppercase()),
        else "is no name of a node: those have 1 to 63 small letters, digits, `.` and `-`, and begin with a letter or digit";
    /// The policy digest of a host's health certificates.
    PolicyDigest(Digest), if is_digest,
        else "is no policy digest: those have 64 hexadecimal digits";
    /// The digest of a protector.
    ProtectorDigest(Digest), if is_digest,
        else "is no digest of a protector: those have 64 hexadecimal digits";
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
    /// The form of its text.
    type Form: JsonSchema;
}

impl Segment for Thumbprint {
    type Form = text::Digest;
}

impl Segment for SignerSelector {
    type Form = text::DigestOrAll;
}

impl Segment for u64 {
    type Form = text::Number;
}
