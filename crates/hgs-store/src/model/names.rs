//! Names, which are checked when their type is made.

use std::fmt;
use std::str::FromStr;

use hgs_crypto::text::is_invisible;
use hgs_crypto::{CryptoError, Random, hex, random};
use serde::{Deserialize, Serialize};

/// Why a text is not a name of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a host name.
    #[error(
        "a host name has 1 to 253 letters, digits, dots, hyphens and underscores, \
         and starts with a letter or digit"
    )]
    HostName,
    /// Not a label.
    #[error(
        "a label has 1 to 128 printable characters, without white space at either end and without characters that \
         can't be seen"
    )]
    Label,
    /// Not a lineage.
    #[error("a lineage is `fabric`, or `tenant:` and a label")]
    Lineage,
    /// Not a host id.
    #[error("a host id has 32 hexadecimal digits")]
    HostId,
    /// Not a digest.
    #[error("a SHA-256 digest has 64 hexadecimal digits")]
    Digest,
    /// Not a serial number.
    #[error("a serial number has 1 to 20 octets in hexadecimal")]
    SerialNumber,
}

/// What an administrator calls a host. Two names that differ in case only are the same host's, so
/// that none can pass for another (attacks.md K11).
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

impl HostName {
    /// The name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form in which names are compared.
    #[must_use]
    pub fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl FromStr for HostName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let sound = (1..=253).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(allowed);
        sound
            .then(|| Self(text.to_owned()))
            .ok_or(NameError::HostName)
    }
}

impl PartialEq for HostName {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for HostName {}

/// Free text that people give to certificates, signers and tenants, shown in listings.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

impl Label {
    /// A label that a person gives now. Unlike one that is stored since before, it has no characters that people do not
    /// see: two labels that look the same are the same.
    ///
    /// # Errors
    /// [`NameError::Label`].
    pub fn given(text: &str) -> Result<Self, NameError> {
        match text.chars().any(is_invisible) {
            true => Err(NameError::Label),
            false => text.parse(),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let sound = (1..=128).contains(&text.chars().count())
            && text.trim() == text
            && !text.chars().any(char::is_control);
        sound.then(|| Self(text.to_owned())).ok_or(NameError::Label)
    }
}

/// Whose succession a pair of certificates belongs to. Written `fabric` or `tenant:LABEL`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Lineage {
    /// The fabric's own; its heads are the primary certificates.
    Fabric,
    /// One tenant's who brought keys.
    Tenant(Label),
}

impl FromStr for Lineage {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == "fabric" {
            return Ok(Self::Fabric);
        }
        let label = text.strip_prefix("tenant:").ok_or(NameError::Lineage)?;
        label
            .parse()
            .map(Self::Tenant)
            .map_err(|_| NameError::Lineage)
    }
}

impl fmt::Display for Lineage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fabric => formatter.write_str("fabric"),
            Self::Tenant(label) => write!(formatter, "tenant:{label}"),
        }
    }
}

/// A registered host: 128 random bits, never used again. Written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostId([u8; 16]);

impl HostId {
    /// Draws a new id.
    ///
    /// # Errors
    /// When the source of randomness fails.
    pub fn random(random: &mut dyn Random) -> Result<Self, CryptoError> {
        random::array(random).map(Self)
    }

    /// From the 16 octets, as they stand in health certificates.
    #[must_use]
    pub const fn from_bytes(octets: [u8; 16]) -> Self {
        Self(octets)
    }

    /// The 16 octets.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(&self.0))
    }
}

impl FromStr for HostId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let octets = hex::decode(text).and_then(|octets| octets.try_into().ok());
        octets.map(Self).ok_or(NameError::HostId)
    }
}

/// A SHA-256 digest: of a protector, a public key or a policy. Written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// From the 32 octets.
    #[must_use]
    pub const fn from_bytes(octets: [u8; 32]) -> Self {
        Self(octets)
    }

    /// The 32 octets.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(&self.0))
    }
}

impl FromStr for Digest {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let octets = hex::decode(text).and_then(|octets| octets.try_into().ok());
        octets.map(Self).ok_or(NameError::Digest)
    }
}

/// The serial number of a certificate, in hexadecimal without leading zero octets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SerialNumber(String);

impl SerialNumber {
    /// From the octets of the DER INTEGER; leading zeros carry no value.
    ///
    /// # Errors
    /// When there are none, or more than the 20 that RFC 5280 section 4.1.2.2 allows.
    pub fn from_bytes(octets: &[u8]) -> Result<Self, NameError> {
        let zeros = octets.iter().take_while(|octet| **octet == 0).count();
        let value = octets.get(zeros..).unwrap_or_default();
        let value = if value.is_empty() { &[0] } else { value };
        let sound = !octets.is_empty() && value.len() <= 20;
        sound
            .then(|| Self(hex::encode(value)))
            .ok_or(NameError::SerialNumber)
    }

    /// The hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SerialNumber {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let octets = hex::decode(text).ok_or(NameError::SerialNumber)?;
        Self::from_bytes(&octets)
    }
}

/// Text types show themselves by their text, in messages and in `Debug`, and are kept as it.
macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!(stringify!($name), "({})"), self)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }
    )*};
}

as_text!(HostName, Label, Lineage, HostId, Digest, SerialNumber);

macro_rules! display_inner {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    )*};
}

display_inner!(HostName, Label, SerialNumber);

#[cfg(test)]
mod tests {
    use super::*;

    /// attacks.md K11: one host, one name, whatever its case; no white space, slashes, wild cards.
    #[test]
    fn k11_names_have_one_meaning() {
        let name: HostName = "Node-1.example".parse().unwrap();
        assert_eq!(name, "nODE-1.EXAMPLE".parse().unwrap());
        assert_eq!(name.to_string(), "Node-1.example");
        let long = "a".repeat(254);
        for text in [
            "", " a", "a ", "a/b", "*", "..", ".a", "-a", "a\0", "ä", &long,
        ] {
            assert_eq!(
                text.parse::<HostName>(),
                Err(NameError::HostName),
                "{text:?}"
            );
        }
    }

    /// What stands in a state of before stays readable.
    #[test]
    fn labels_that_look_the_same_are_the_same() {
        assert_eq!(
            Label::given("Contoso GmbH").unwrap().as_str(),
            "Contoso GmbH"
        );
        for unseen in [
            "Cont\u{200b}oso",
            "\u{feff}Contoso",
            "Contoso\u{202e}",
            "Con\u{ad}toso",
        ] {
            assert_eq!(Label::given(unseen), Err(NameError::Label), "{unseen:?}");
            assert_eq!(unseen.parse::<Label>().unwrap().as_str(), unseen);
        }
    }

    #[test]
    fn lineages_are_the_fabric_or_a_labelled_tenant() {
        for text in ["fabric", "tenant:Contoso GmbH", "tenant:fabric"] {
            assert_eq!(text.parse::<Lineage>().unwrap().to_string(), text);
        }
        assert_ne!("tenant:fabric".parse(), Ok(Lineage::Fabric));
        for text in ["", "Fabric", "tenant:", "tenant: x", "tenant:a\nb", "x"] {
            assert_eq!(text.parse::<Lineage>(), Err(NameError::Lineage), "{text:?}");
        }
    }

    #[test]
    fn serial_numbers_have_one_form() {
        let serial = SerialNumber::from_bytes(&[0, 0xa5, 0]).unwrap();
        assert_eq!(serial, "A5:00".parse().unwrap());
        assert_eq!(serial.as_str(), "a500");
        assert_eq!(SerialNumber::from_bytes(&[0]).unwrap().as_str(), "00");
        for octets in [&[][..], &[1; 21]] {
            let error = SerialNumber::from_bytes(octets).unwrap_err();
            assert_eq!(error, NameError::SerialNumber);
        }
    }
}
