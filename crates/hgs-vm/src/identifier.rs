//! How a VM is called, and what it is.

use std::fmt;
use std::str::FromStr;

use hgs_crypto::{CryptoError, Random};
use serde::{Deserialize, Serialize};

/// What a VM is called on its host. It is also the name of its folders there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VmName(String);

impl VmName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for VmName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let rest = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let first = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if first && text.len() <= 64 && text.chars().all(rest) {
            Ok(Self(text))
        } else {
            Err(format!(
                "{text:?} is no name of a VM: letters, digits, `-`, `_` and `.`, a letter or digit first, at most 64"
            ))
        }
    }
}

impl FromStr for VmName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.to_owned().try_into()
    }
}

impl From<VmName> for String {
    fn from(VmName(text): VmName) -> Self {
        text
    }
}

impl fmt::Display for VmName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What a VM is, wherever it runs: a UUID of RFC 9562.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VmId([u8; 16]);

impl VmId {
    /// A new one (version 4).
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn new(random: &mut dyn Random) -> Result<Self, CryptoError> {
        let mut octets = [0; 16];
        random.fill(&mut octets)?;
        octets[6] = (octets[6] & 0x0F) | 0x40;
        octets[8] = (octets[8] & 0x3F) | 0x80;
        Ok(Self(octets))
    }

    /// Its octets in the order of the text.
    #[must_use]
    pub const fn octets(&self) -> &[u8; 16] {
        &self.0
    }
}

impl TryFrom<String> for VmId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let refused = || format!("{text:?} is no UUID, or the one of all zeros");
        let octets: Vec<u8> = text
            .split('-')
            .flat_map(|part| part.as_bytes().chunks(2))
            .map_while(|pair| match pair {
                [high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()
                }
                _ => None,
            })
            .collect();
        let id = Self(octets.try_into().map_err(|_| refused())?);
        // Hyphens in their places, and nothing after the sixteenth octet.
        let same = id.to_string().eq_ignore_ascii_case(&text);
        if same && id.0 != [0; 16] {
            Ok(id)
        } else {
            Err(refused())
        }
    }
}

impl FromStr for VmId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.to_owned().try_into()
    }
}

impl From<VmId> for String {
    fn from(id: VmId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for VmId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, octet) in self.0.iter().enumerate() {
            if matches!(place, 4 | 6 | 8 | 10) {
                formatter.write_str("-")?;
            }
            write!(formatter, "{octet:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for VmId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}
