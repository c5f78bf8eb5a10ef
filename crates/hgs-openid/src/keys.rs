//! The keys with which a provider signs (RFC 7517).

use hgs_crypto::rsa::{self, SignatureScheme};
use hgs_crypto::{base64, p256};
use hgs_json::{Json, JsonLimits, quoted};

use crate::json::{DocumentError, text};
use crate::relying_party::Algorithm;

/// Octets of the longest set of keys: some with the chains of their certificates.
pub(crate) const MAX_KEY_SET: usize = 256 * 1024;
/// Keys in one set.
const MAX_KEYS: usize = 64;

const LIMITS: JsonLimits = JsonLimits {
    octets: MAX_KEY_SET,
    depth: 8,
    values: 4096,
    members: 64,
};

/// The keys that a provider publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySet(Vec<Key>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    key: Result<Verifier, UnusableKey>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Verifier {
    Rsa(rsa::PublicKey),
    P256(p256::PublicKey),
}

/// Why keys are not taken. The provider is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Not such a document.
    #[error("its keys can't be read: {0}")]
    Document(#[from] DocumentError),
    /// More than any provider has.
    #[error("it publishes {0} keys; {MAX_KEYS} are accepted")]
    TooMany(usize),
}

/// Why one key is not used. The provider is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnusableKey {
    /// A number is absent, or is not Base64 for URLs.
    #[error("its numbers can't be read")]
    Malformed,
    /// An RSA key that is not secure.
    #[error("{0}")]
    Rsa(rsa::PublicKeyError),
    /// No point of the curve.
    #[error("it is no point of the curve P-256")]
    NotOnTheCurve,
}

/// What came of looking for the key of a signature.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// One of the keys made the signature.
    Good,
    /// Those that may have made it have not.
    Bad,
    /// No key has this name.
    UnknownKey,
    /// The token names no key, and several may be meant.
    Ambiguous,
    /// The key with this name can't be used.
    Unusable(UnusableKey),
}

impl KeySet {
    /// Reads a JSON Web Key Set. Keys for something else are left out.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(body: &[u8]) -> Result<Self, KeySetError> {
        let json = Json::read(body, &LIMITS).map_err(DocumentError::from)?;
        let keys = json.member("keys").and_then(Json::array);
        let keys = keys.ok_or(DocumentError::Member {
            member: "keys",
            expected: "an array",
        })?;
        match keys.len() {
            0..=MAX_KEYS => Ok(Self(keys.iter().filter_map(Key::read).collect())),
            count => Err(KeySetError::TooMany(count)),
        }
    }

    /// Whether one of these keys signed `message`: of those for `algorithm` that with the name `kid`, or, where a token
    /// names none, the only one.
    pub(crate) fn check(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
        message: &[u8],
        signature: &[u8],
    ) -> Checked {
        let may_be_meant = |key: &&Key| {
            key.algorithm == algorithm && kid.is_none_or(|kid| key.kid.as_deref() == Some(kid))
        };
        let candidates: Vec<_> = self.0.iter().filter(may_be_meant).collect();
        match (candidates.len(), kid) {
            (0, _) => return Checked::UnknownKey,
            (2.., None) => return Checked::Ambiguous,
            _ => {}
        }
        let mut unusable = None;
        for candidate in candidates {
            match &candidate.key {
                Ok(key) if key.has_signed(message, signature) => return Checked::Good,
                Ok(_) => {}
                Err(error) => unusable = Some(error.clone()),
            }
        }
        unusable.map_or(Checked::Bad, Checked::Unusable)
    }
}

impl Key {
    /// `None` for a key that is not one for signatures of ID tokens.
    fn read(json: &Json<'_>) -> Option<Self> {
        let is = |member, value| {
            let found = json.member(member);
            found.is_none_or(|found| found.text() == Some(value))
        };
        let algorithm = match text(json, "kty").ok()? {
            "RSA" => Algorithm::Rs256,
            "EC" if text(json, "crv").ok()? == "P-256" => Algorithm::Es256,
            _ => return None,
        };
        if !is("use", "sig") || !is("alg", algorithm.name()) {
            return None;
        }
        Some(Self {
            kid: json.member("kid").and_then(Json::text).map(str::to_owned),
            algorithm,
            key: Verifier::read(json, algorithm),
        })
    }
}

impl Verifier {
    fn read(json: &Json<'_>, algorithm: Algorithm) -> Result<Self, UnusableKey> {
        let number = |member| {
            let text = text(json, member).map_err(|_| UnusableKey::Malformed)?;
            base64::decode_url(text).map_err(|_| UnusableKey::Malformed)
        };
        match algorithm {
            Algorithm::Rs256 => {
                let key = rsa::PublicKey::from_numbers(&number("n")?, &number("e")?);
                key.map(Self::Rsa).map_err(UnusableKey::Rsa)
            }
            Algorithm::Es256 => {
                let coordinate = |member| {
                    let octets: Result<[u8; p256::COORDINATE_LENGTH], _> =
                        number(member)?.try_into();
                    octets.map_err(|_| UnusableKey::Malformed)
                };
                let key = p256::PublicKey::from_coordinates(&coordinate("x")?, &coordinate("y")?);
                key.map(Self::P256).map_err(|_| UnusableKey::NotOnTheCurve)
            }
        }
    }

    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa(key) => key
                .verify(SignatureScheme::Pkcs1Sha256, message, signature)
                .is_ok(),
            Self::P256(key) => key.verify(message, signature).is_ok(),
        }
    }
}

/// The name of a key as an error shows it.
pub(crate) fn shown(kid: Option<&str>) -> String {
    kid.map_or_else(
        || "without a name".to_owned(),
        |kid| format!("`{}`", quoted(kid)),
    )
}
