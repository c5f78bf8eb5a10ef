//! Where a certificate's private key lives.

use std::fmt;
use std::str::FromStr;

/// Where the private key of a certificate lives. The text form is `sealed` or a `pkcs11:` URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyReference {
    /// A software key, sealed under the master key and kept beside the record.
    Sealed,
    /// A key in a PKCS#11 token, by the URI of RFC 7512; its octets never leave the token.
    Pkcs11(String),
}

/// Octets of the longest PKCS#11 URI that is kept.
const MAX_URI_LENGTH: usize = 2048;

/// The text names no place this version knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyReferenceError {
    /// Neither `sealed` nor a `pkcs11:` URI.
    #[error("a key reference is `sealed` or a `pkcs11:` URI, found {0:?}")]
    Unknown(String),
    /// A URI that carries its PIN would put it into listings, backups and the audit log.
    #[error("a key's URI must not hold a pin-value; name a pin-source")]
    PinInside,
    /// Longer than 2048 octets, or with characters that RFC 3986 does not allow.
    #[error("not a URI of at most 2048 printable ASCII characters")]
    NotUri,
}

impl fmt::Display for KeyReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sealed => formatter.write_str("sealed"),
            Self::Pkcs11(uri) => formatter.write_str(uri),
        }
    }
}

impl FromStr for KeyReference {
    type Err = KeyReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "sealed" {
            return Ok(Self::Sealed);
        }
        let Some(attributes) = text.strip_prefix("pkcs11:") else {
            let start = text.chars().take(32).collect();
            return Err(KeyReferenceError::Unknown(start));
        };
        if text.len() > MAX_URI_LENGTH || !text.bytes().all(|octet| octet.is_ascii_graphic()) {
            return Err(KeyReferenceError::NotUri);
        }
        // RFC 7512 section 2.3: attribute names are case-sensitive and never percent-encoded.
        let names = attributes.split([';', '?', '&']);
        if names.into_iter().any(|one| one.starts_with("pin-value=")) {
            return Err(KeyReferenceError::PinInside);
        }
        Ok(Self::Pkcs11(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trip() {
        for text in [
            "sealed",
            "pkcs11:token=hgs;object=signing?pin-source=file:/etc/openhgs/pin",
        ] {
            assert_eq!(text.parse::<KeyReference>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn pins_and_other_places_are_refused() {
        let refused = |text: &str| text.parse::<KeyReference>().unwrap_err();
        let pin = refused("pkcs11:token=hgs?pin-source=x&pin-value=1234");
        assert_eq!(pin, KeyReferenceError::PinInside);
        assert_eq!(refused("pkcs11:token=a b"), KeyReferenceError::NotUri);
        let unknown = KeyReferenceError::Unknown("/etc/key".to_owned());
        assert_eq!(refused("/etc/key"), unknown);
    }
}
