//! Where a certificate's private key lives.

use std::fmt;
use std::str::FromStr;

use crate::pkcs11_uri::{Pkcs11Uri, Pkcs11UriError, is_uri};

/// Where the private key of a certificate lives. The text form is `sealed`, or one or two
/// `pkcs11:` URIs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyReference {
    /// A software key, sealed under the master key and kept beside the record.
    Sealed,
    /// A key in a PKCS#11 token, by the URI of RFC 7512; its octets never leave the token.
    Pkcs11(Box<Pkcs11Uris>),
}

/// One private key in a token, or the same private key in two tokens: the second stands in when
/// the first is away. The text form is the URIs with one space between them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pkcs11Uris {
    /// The key that is used as long as its token works.
    pub primary: Pkcs11Uri,
    /// The same key in another token.
    pub spare: Option<Pkcs11Uri>,
}

impl Pkcs11Uris {
    /// The URIs, in the order in which they are tried.
    pub fn iter(&self) -> impl Iterator<Item = &Pkcs11Uri> {
        std::iter::once(&self.primary).chain(&self.spare)
    }
}

impl From<Pkcs11Uri> for Pkcs11Uris {
    fn from(primary: Pkcs11Uri) -> Self {
        let spare = None;
        Self { primary, spare }
    }
}

impl From<Pkcs11Uris> for KeyReference {
    fn from(uris: Pkcs11Uris) -> Self {
        Self::Pkcs11(Box::new(uris))
    }
}

impl FromStr for Pkcs11Uris {
    type Err = Pkcs11UriError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A space within a URI is that URI's fault: the next one begins with the scheme.
        let spaces = text.match_indices(' ').map(|(place, _)| place);
        let between = spaces
            .into_iter()
            .find(|place| is_uri(text.get(place + 1..).unwrap_or_default()));
        let (primary, spare) = match between.and_then(|place| text.split_at_checked(place)) {
            Some((primary, spare)) => (primary.trim_end(), Some(spare.trim_start())),
            None => (text, None),
        };
        Ok(Self {
            primary: primary.parse()?,
            spare: spare.map(str::parse).transpose()?,
        })
    }
}

impl fmt::Display for Pkcs11Uris {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.primary)?;
        if let Some(spare) = &self.spare {
            write!(formatter, " {spare}")?;
        }
        Ok(())
    }
}

/// The text names no place this version knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyReferenceError {
    /// Neither `sealed` nor a `pkcs11:` URI.
    #[error("a key reference is `sealed` or a `pkcs11:` URI, found {0:?}")]
    Unknown(String),
    /// Not the URI of a private key.
    #[error(transparent)]
    Uri(#[from] Pkcs11UriError),
}

impl fmt::Display for KeyReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sealed => formatter.write_str("sealed"),
            Self::Pkcs11(uris) => write!(formatter, "{uris}"),
        }
    }
}

impl FromStr for KeyReference {
    type Err = KeyReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "sealed" {
            Ok(Self::Sealed)
        } else if is_uri(text) {
            Ok(text.parse::<Pkcs11Uris>()?.into())
        } else {
            let start = text.chars().take(32).collect();
            Err(KeyReferenceError::Unknown(start))
        }
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
            "pkcs11:token=one;object=signing pkcs11:token=two;object=signing",
        ] {
            assert_eq!(text.parse::<KeyReference>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_spare_comes_second() {
        let uris: Pkcs11Uris = "pkcs11:token=one pkcs11:token=two".parse().unwrap();
        let tokens: Vec<_> = uris.iter().map(|uri| uri.token.as_deref()).collect();
        assert_eq!(tokens, [Some("one"), Some("two")]);
    }

    #[test]
    fn pins_and_other_places_are_refused() {
        let refused = |text: &str| text.parse::<KeyReference>().unwrap_err();
        for pin in [
            "pkcs11:token=hgs?pin-source=/x&pin-value=1234",
            "pkcs11:token=hgs pkcs11:token=two?pin-value=1234",
        ] {
            let expected = KeyReferenceError::Uri(Pkcs11UriError::PinInside);
            assert_eq!(refused(pin), expected);
        }
        let three = "pkcs11:token=a pkcs11:token=b pkcs11:token=c";
        let error = refused(three).to_string();
        assert!(error.contains("a space must be percent-encoded"), "{error}");
        let error = "pkcs11:token=My HSM;object=s"
            .parse::<Pkcs11Uris>()
            .unwrap_err();
        assert!(
            matches!(error, Pkcs11UriError::Encoding { character: ' ', .. }),
            "{error}"
        );
        let unknown = KeyReferenceError::Unknown("/etc/key".to_owned());
        assert_eq!(refused("/etc/key"), unknown);
    }
}
