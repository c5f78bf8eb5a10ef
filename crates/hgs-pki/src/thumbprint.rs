//! The name of a certificate that can't be forged: SHA-256 of its DER.

use std::fmt;
use std::str::FromStr;

use hgs_crypto::hash::sha256;
use hgs_crypto::hex;

/// SHA-256 of a certificate's DER; written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Thumbprint([u8; 32]);

/// The text is not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 thumbprint has 64 hexadecimal digits")]
pub struct ThumbprintError;

impl Thumbprint {
    /// The thumbprint of the certificate whose DER is `der`.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        Self(sha256(der))
    }

    /// From the 32 octets of the digest.
    #[must_use]
    pub const fn from_bytes(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The 32 octets of the digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Thumbprint({self})")
    }
}

impl FromStr for Thumbprint {
    type Err = ThumbprintError;

    /// Reads either case, with colons or white space between the digits, as tools print them.
    fn from_str(text: &str) -> Result<Self, ThumbprintError> {
        let octets = hex::decode(text).ok_or(ThumbprintError)?;
        octets.try_into().map(Self).map_err(|_| ThumbprintError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_tools_print() {
        let digits = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let thumbprint = Thumbprint::of(b"abc");
        assert_eq!(thumbprint.to_string(), digits);
        let colons: Vec<String> = digits
            .as_bytes()
            .chunks(2)
            .map(|pair| String::from_utf8_lossy(pair).to_uppercase())
            .collect();
        for text in [
            digits,
            &digits.to_uppercase(),
            &colons.join(":"),
            &colons.join(" "),
        ] {
            assert_eq!(text.parse(), Ok(thumbprint), "{text}");
        }
        for text in [
            "",
            &digits[2..],
            &format!("{digits}00"),
            &digits.replace('b', "g"),
        ] {
            assert_eq!(text.parse::<Thumbprint>(), Err(ThumbprintError), "{text}");
        }
    }
}
