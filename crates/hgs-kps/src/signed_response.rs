//! Signed responses: section 10 of the protocol profile, both roles.
//!
//! Nothing in a RollTransportKeyResponse is authenticated, so a host asks for a signature over the response by
//! RFC 9421 and RFC 9530. The service signs with a *response key*, which the guardian's signing key has delegated for
//! a day. All fields have one exact form, so neither side needs a parser of structured fields.

use hgs_crypto::ed25519::{self, PrivateKey, PublicKey};
use hgs_crypto::hash::{Sha256Digest, sha256};
use hgs_crypto::{CryptoError, Random, base64, random};
use hgs_pki::{Certificate, KeyError, KeyWork, Seconds, Time};
use hgs_protector::suite::WRITTEN_SIGNATURE;

/// The request's field that asks for a signature (RFC 9421, section 5.1).
pub const ACCEPT_SIGNATURE: &str = "accept-signature";
/// The field with the digest of a body (RFC 9530, section 2), in requests and responses.
pub const CONTENT_DIGEST: &str = "content-digest";
/// The field with what is signed (RFC 9421, section 4.1).
pub const SIGNATURE_INPUT: &str = "signature-input";
/// The field with the signature (RFC 9421, section 4.2).
pub const SIGNATURE: &str = "signature";
/// The field with the delegation of the response key.
pub const RESPONSE_KEY: &str = "openhgs-response-key";

/// Octets of the longest of these fields: a delegation that a key of 8192 bits has signed.
const MAX_FIELD: usize = 2048;

const COMPONENTS: &str = "(\"@status\" \"content-digest\" \"content-digest\";req)";
const TAG: &str = ";tag=\"openhgs-response\"";

/// What the signed octets of a delegation begin with. All else that a guardian's signing key signs begins with `0`, as
/// DER does, or with `<`, as XML does.
const DELEGATION_LABEL: &[u8; 22] = b"OpenHGS response key 1";
const DELEGATION_LENGTH: usize = DELEGATION_LABEL.len() + 8 + 8 + ed25519::KEY_LENGTH;

/// How long a response key is used.
pub const RESPONSE_KEY_LIFETIME: Seconds = Seconds::new(24 * 60 * 60);
/// How far the clocks of service and host may be apart.
pub const RESPONSE_KEY_SKEW: Seconds = Seconds::new(5 * 60);

/// Chosen by a host for one request; makes the answer to it the only one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonce([u8; 32]);

impl Nonce {
    /// Draws a nonce.
    ///
    /// # Errors
    /// When the source of randomness fails.
    pub fn random(random: &mut dyn Random) -> Result<Self, CryptoError> {
        random::array(random).map(Self)
    }
}

/// A request for a signed response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureRequest {
    nonce: Nonce,
    request: Sha256Digest,
}

/// Why the fields of a request do not ask for a signature that is made. The peer is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureRequestError {
    /// The field stands more than once, is too long, or asks for something else.
    #[error("Accept-Signature does not have the form of section 10 of the protocol profile")]
    AcceptSignature,
    /// The field is absent, stands more than once, or has another form.
    #[error("Content-Digest does not have the form of section 10 of the protocol profile")]
    ContentDigest,
    /// The digest is of another body.
    #[error("Content-Digest is not the digest of the request's body")]
    OtherContent,
}

impl SignatureRequest {
    /// Asks for a signature of the response to `body`.
    #[must_use]
    pub fn new(nonce: Nonce, body: &[u8]) -> Self {
        Self {
            nonce,
            request: sha256(body),
        }
    }

    /// Reads the fields of a request with this body; `None` if they ask for no signature.
    pub fn read(
        accept_signature: &[&[u8]],
        content_digest: &[&[u8]],
        body: &[u8],
    ) -> Result<Option<Self>, SignatureRequestError> {
        let nonce = match accept_signature {
            [] => return Ok(None),
            [field] => read_accept_signature(field),
            _ => None,
        }
        .ok_or(SignatureRequestError::AcceptSignature)?;
        let [content_digest] = content_digest else {
            return Err(SignatureRequestError::ContentDigest);
        };
        let digest =
            read_content_digest(content_digest).ok_or(SignatureRequestError::ContentDigest)?;
        let read = Self::new(nonce, body);
        if digest == read.request {
            Ok(Some(read))
        } else {
            Err(SignatureRequestError::OtherContent)
        }
    }

    /// The value of [`ACCEPT_SIGNATURE`].
    #[must_use]
    pub fn accept_signature(&self) -> String {
        let nonce = base64::encode(&self.nonce.0);
        format!("openhgs={COMPONENTS};created;nonce=\"{nonce}\"{TAG}")
    }

    /// The value of [`CONTENT_DIGEST`].
    #[must_use]
    pub fn content_digest(&self) -> String {
        content_digest(&self.request)
    }

    /// What stands in [`SIGNATURE_INPUT`] after the label.
    fn parameters(&self, created: Time) -> String {
        let (created, nonce) = (created.unix(), base64::encode(&self.nonce.0));
        format!("{COMPONENTS};created={created};nonce=\"{nonce}\"{TAG}")
    }

    /// The signature base (RFC 9421, section 2.5).
    fn signature_base(&self, status: u16, response: &Sha256Digest, created: Time) -> String {
        format!(
            "\"@status\": {status}\n\"content-digest\": {}\n\"content-digest\";req: {}\n\"@signature-params\": {}",
            content_digest(response),
            content_digest(&self.request),
            self.parameters(created),
        )
    }
}

/// A response key with its delegation, on the service's side. It lives in memory only.
#[derive(Debug)]
pub struct ResponseSigner {
    key: PrivateKey,
    delegation: String,
    made: Time,
}

/// Why a service has no response key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResponseSignerError {
    /// The guardian's signing key did not sign.
    #[error("the response key is not delegated: {0}")]
    Key(#[from] KeyError),
    /// The guardian's signing key has signed something that does not verify.
    #[error("the signature over the response key does not verify")]
    Signature,
    /// No randomness, or the library fails.
    #[error("no response key can be made")]
    Crypto(#[from] CryptoError),
}

impl ResponseSigner {
    /// Makes a key and has the signing key of `guardian` delegate it: one use of that key a day.
    pub fn delegated_by(
        guardian: &Certificate,
        now: Time,
        keys: &mut dyn KeyWork,
        random: &mut dyn Random,
    ) -> Result<Self, ResponseSignerError> {
        let key = PrivateKey::generate(random)?;
        let delegation = Delegation {
            not_before: now
                .checked_sub(RESPONSE_KEY_SKEW)
                .unwrap_or(Time::from_unix(0))
                .max(Time::from_unix(0)),
            not_after: now
                .checked_add(RESPONSE_KEY_LIFETIME)
                .and_then(|end| end.checked_add(RESPONSE_KEY_SKEW))
                .unwrap_or(Time::MAX),
            key: *key.public(),
        };
        let octets = delegation.to_octets();
        let signature = keys.sign(&guardian.thumbprint(), WRITTEN_SIGNATURE, &octets)?;
        guardian
            .public_key()
            .verify(WRITTEN_SIGNATURE, &octets, &signature)
            .map_err(|CryptoError| ResponseSignerError::Signature)?;
        Ok(Self {
            key,
            delegation: format!(
                "key=:{}:, signature=:{}:",
                base64::encode(&octets),
                base64::encode(&signature)
            ),
            made: now,
        })
    }

    /// Whether the key is still to be used.
    #[must_use]
    pub fn is_current(&self, now: Time) -> bool {
        let age = now.since(self.made);
        age.is_some_and(|age| age < RESPONSE_KEY_LIFETIME)
    }

    /// Signs a response.
    ///
    /// # Errors
    /// When the library fails.
    pub fn sign(
        &self,
        request: &SignatureRequest,
        status: u16,
        body: &[u8],
        now: Time,
    ) -> Result<ResponseFields, CryptoError> {
        let digest = sha256(body);
        let base = request.signature_base(status, &digest, now);
        let signature = self.key.sign(base.as_bytes())?;
        Ok(ResponseFields {
            content_digest: content_digest(&digest),
            signature_input: format!("openhgs={}", request.parameters(now)),
            signature: format!("openhgs=:{}:", base64::encode(&signature)),
            response_key: self.delegation.clone(),
        })
    }
}

/// The fields of a signed response, not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseFields {
    content_digest: String,
    signature_input: String,
    signature: String,
    response_key: String,
}

/// Why a response is not accepted as the guardian's. The peer that answered is at fault, or a clock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResponseSignatureError {
    /// There is no signature.
    #[error("the answer is not signed")]
    Unsigned,
    /// A field is absent while others are there.
    #[error("the answer has no {field}, but other fields of a signature")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// A field stands more than once.
    #[error("the answer has {field} more than once")]
    Doubled {
        /// The field.
        field: &'static str,
    },
    /// A field does not have its form.
    #[error("{field} of the answer does not have the form of a signed response")]
    Malformed {
        /// The field.
        field: &'static str,
    },
    /// The body is not the one that the service sent.
    #[error("the answer's Content-Digest is not that of its body")]
    Content,
    /// The answer to another request.
    #[error("the answer is to another request: its nonce is not the one that was sent")]
    Nonce,
    /// A delegation for another purpose.
    #[error("the response key was not delegated as one")]
    DelegationLabel,
    /// Not by the guardian.
    #[error("the response key was not delegated by the guardian that signed the egress protector")]
    DelegationSignature,
    /// The delegation begins later.
    #[error("the response key is valid from {not_before} on, and this host's clock says {now}")]
    DelegationNotYetValid {
        /// Its beginning.
        not_before: Time,
        /// This host's clock.
        now: Time,
    },
    /// The delegation is over.
    #[error("the response key was valid until {not_after}, and this host's clock says {now}")]
    DelegationExpired {
        /// Its end.
        not_after: Time,
        /// This host's clock.
        now: Time,
    },
    /// The delegation is valid for longer than a day.
    #[error("the response key is valid for longer than a day")]
    DelegationTooLong,
    /// Signed when the key was not valid.
    #[error("the answer was signed at {created}, when the response key was not valid")]
    Created {
        /// When it says that it was signed.
        created: Time,
    },
    /// The signature does not verify.
    #[error("the signature of the answer does not verify")]
    Signature,
}

impl ResponseFields {
    /// The names of the fields.
    pub const NAMES: [&'static str; 4] = [CONTENT_DIGEST, SIGNATURE_INPUT, SIGNATURE, RESPONSE_KEY];

    /// Names and values, as they are sent.
    #[must_use]
    pub fn values(&self) -> [(&'static str, &str); 4] {
        let values: [&str; 4] = [
            &self.content_digest,
            &self.signature_input,
            &self.signature,
            &self.response_key,
        ];
        let mut values = values.into_iter();
        Self::NAMES.map(|name| (name, values.next().unwrap_or_default()))
    }

    /// Takes the fields out of a response. `field` gives all values of a field.
    ///
    /// # Errors
    /// [`ResponseSignatureError::Unsigned`] if none of the last three of [`Self::NAMES`] is there, and what is wrong
    /// if not every one is there once.
    pub fn read<'v>(
        field: impl Fn(&'static str) -> Vec<&'v [u8]>,
    ) -> Result<Self, ResponseSignatureError> {
        let found = Self::NAMES.map(|name| (name, field(name)));
        if found[1..].iter().all(|(_, values)| values.is_empty()) {
            return Err(ResponseSignatureError::Unsigned);
        }
        let once = |(field, values): &(&'static str, Vec<&[u8]>)| {
            let field = *field;
            match values[..] {
                [] => Err(ResponseSignatureError::Missing { field }),
                [value] => match str::from_utf8(value) {
                    Ok(text) if text.len() <= MAX_FIELD => Ok(text.to_owned()),
                    _ => Err(ResponseSignatureError::Malformed { field }),
                },
                _ => Err(ResponseSignatureError::Doubled { field }),
            }
        };
        let [content_digest, signature_input, signature, response_key] = &found;
        Ok(Self {
            content_digest: once(content_digest)?,
            signature_input: once(signature_input)?,
            signature: once(signature)?,
            response_key: once(response_key)?,
        })
    }

    /// Checks that the holder of the signing key of `guardian` answers `request` with this status and body.
    pub fn verify(
        &self,
        request: &SignatureRequest,
        status: u16,
        body: &[u8],
        guardian: &Certificate,
        now: Time,
    ) -> Result<(), ResponseSignatureError> {
        let malformed = |field| ResponseSignatureError::Malformed { field };
        let digest = read_content_digest(self.content_digest.as_bytes())
            .ok_or_else(|| malformed(CONTENT_DIGEST))?;
        if digest != sha256(body) {
            return Err(ResponseSignatureError::Content);
        }
        let (created, nonce) = read_signature_input(&self.signature_input)
            .ok_or_else(|| malformed(SIGNATURE_INPUT))?;
        if nonce != request.nonce {
            return Err(ResponseSignatureError::Nonce);
        }
        let delegation = self.delegation(guardian, now)?;
        if created < delegation.not_before || created > delegation.not_after {
            return Err(ResponseSignatureError::Created { created });
        }
        let signature = read_signature(&self.signature).ok_or_else(|| malformed(SIGNATURE))?;
        let base = request.signature_base(status, &digest, created);
        delegation
            .key
            .verify(base.as_bytes(), &signature)
            .map_err(|CryptoError| ResponseSignatureError::Signature)
    }

    /// Reads every field, for fuzzing.
    pub(crate) fn fuzz(&self) {
        let _ = read_content_digest(self.content_digest.as_bytes());
        let _ = read_signature_input(&self.signature_input);
        let _ = read_signature(&self.signature);
        if let Some((octets, _)) = read_response_key(&self.response_key) {
            fuzz_delegation(&octets);
        }
    }

    fn delegation(
        &self,
        guardian: &Certificate,
        now: Time,
    ) -> Result<Delegation, ResponseSignatureError> {
        let (octets, signature) =
            read_response_key(&self.response_key).ok_or(ResponseSignatureError::Malformed {
                field: RESPONSE_KEY,
            })?;
        if !octets.starts_with(DELEGATION_LABEL) {
            return Err(ResponseSignatureError::DelegationLabel);
        }
        let delegation =
            Delegation::from_octets(&octets).ok_or(ResponseSignatureError::Malformed {
                field: RESPONSE_KEY,
            })?;
        guardian
            .public_key()
            .verify(WRITTEN_SIGNATURE, &octets, &signature)
            .map_err(|CryptoError| ResponseSignatureError::DelegationSignature)?;
        let Delegation {
            not_before,
            not_after,
            ..
        } = delegation;
        if now < not_before {
            return Err(ResponseSignatureError::DelegationNotYetValid { not_before, now });
        }
        if now > not_after {
            return Err(ResponseSignatureError::DelegationExpired { not_after, now });
        }
        let longest = RESPONSE_KEY_LIFETIME.get() + 2 * RESPONSE_KEY_SKEW.get();
        let validity = not_after.since(not_before);
        if validity.is_none_or(|validity| validity.get() > longest) {
            return Err(ResponseSignatureError::DelegationTooLong);
        }
        Ok(delegation)
    }
}

/// What a guardian's signing key says of a response key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Delegation {
    not_before: Time,
    not_after: Time,
    key: PublicKey,
}

impl Delegation {
    fn to_octets(self) -> Vec<u8> {
        let mut octets = DELEGATION_LABEL.to_vec();
        octets.extend(self.not_before.unix().to_be_bytes());
        octets.extend(self.not_after.unix().to_be_bytes());
        octets.extend(self.key.0);
        octets
    }

    fn from_octets(octets: &[u8]) -> Option<Self> {
        let rest = octets.strip_prefix(DELEGATION_LABEL)?;
        let (not_before, rest) = rest.split_first_chunk()?;
        let (not_after, key) = rest.split_first_chunk()?;
        // Times before 1970 and beyond the year 9999 are none that a certificate could have either.
        let time = |octets: &[u8; 8]| {
            let seconds = i64::from_be_bytes(*octets);
            let possible = 0..=Time::MAX.unix();
            possible
                .contains(&seconds)
                .then(|| Time::from_unix(seconds))
        };
        Some(Self {
            not_before: time(not_before)?,
            not_after: time(not_after)?,
            key: PublicKey(key.try_into().ok()?),
        })
    }
}

/// Reads the octets of a delegation, for fuzzing.
pub(crate) fn fuzz_delegation(octets: &[u8]) {
    if let Some(delegation) = Delegation::from_octets(octets) {
        assert_eq!(delegation.to_octets(), octets, "one form");
    }
}

fn content_digest(digest: &Sha256Digest) -> String {
    format!("sha-256=:{}:", base64::encode(digest))
}

fn read_content_digest(field: &[u8]) -> Option<Sha256Digest> {
    let digest = str::from_utf8(field)
        .ok()?
        .strip_prefix("sha-256=:")?
        .strip_suffix(':')?;
    octets_of(digest)
}

fn read_accept_signature(field: &[u8]) -> Option<Nonce> {
    let parameters = str::from_utf8(field)
        .ok()?
        .strip_prefix("openhgs=")?
        .strip_prefix(COMPONENTS)?
        .strip_prefix(";created")?;
    read_nonce(parameters)
}

fn read_signature_input(field: &str) -> Option<(Time, Nonce)> {
    let text = field.strip_prefix("openhgs=")?.strip_prefix(COMPONENTS)?;
    let (created, nonce) = text.strip_prefix(";created=")?.split_once(';')?;
    // The form of an Integer that says the time as a Unix clock does (RFC 9651, section 3.3.1).
    let is_plain = !created.is_empty()
        && created.len() <= 12
        && created.bytes().all(|octet| octet.is_ascii_digit())
        && (created == "0" || !created.starts_with('0'));
    let created = created.parse().ok().filter(|_| is_plain)?;
    let nonce = read_nonce(&text[text.len() - nonce.len() - 1..])?;
    Some((Time::from_unix(created), nonce))
}

fn read_nonce(text: &str) -> Option<Nonce> {
    let text = text.strip_prefix(";nonce=\"")?.strip_suffix(TAG)?;
    octets_of(text.strip_suffix('"')?).map(Nonce)
}

fn read_signature(field: &str) -> Option<[u8; ed25519::SIGNATURE_LENGTH]> {
    octets_of(field.strip_prefix("openhgs=:")?.strip_suffix(':')?)
}

fn read_response_key(field: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let (key, signature) = field
        .strip_prefix("key=:")?
        .strip_suffix(':')?
        .split_once(":, signature=:")?;
    let key = base64::decode(key).ok()?;
    let signature = base64::decode(signature).ok()?;
    (key.len() <= DELEGATION_LENGTH).then_some((key, signature))
}

fn octets_of<const N: usize>(text: &str) -> Option<[u8; N]> {
    base64::decode(text).ok()?.try_into().ok()
}
