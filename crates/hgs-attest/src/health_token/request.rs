//! What a host sends for a token.

use hgs_crypto::base64;
use hgs_crypto::hash::{Sha256Digest, sha256};
use hgs_crypto::rsa::{PublicKey, SignatureScheme};
use hgs_pki::Certificate;

use super::{Audience, Issuer};
use crate::freshness::Nonce;
use crate::wire::{Json, JsonError, JsonLimits};

/// Octets of the longest request: a certificate of 16 KiB and a signature in Base64, and short texts.
pub const MAX_REQUEST: usize = 32 * 1024;

const LIMITS: JsonLimits = JsonLimits {
    octets: MAX_REQUEST,
    depth: 4,
    values: 32,
    members: 16,
};

/// Octets of the longest certificate (section 2 of the profile).
const MAX_CERTIFICATE: usize = 16 * 1024;

/// Octets of the longest signature: that of an RSA key of 8192 bits.
const MAX_SIGNATURE: usize = 1024;

/// What the signed octets begin with. Nothing else that an identity key signs begins so.
const LABEL: &[u8] = b"OpenHGS health token request 1\0";

/// A request of which nothing is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    pub(super) audience: Audience,
    pub(super) nonce: Nonce,
    /// The health certificate for signing, in DER.
    pub(super) certificate: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

/// A request that is to be signed with the identity key that its health certificate is over.
#[derive(Debug)]
#[must_use = "a request is to be signed"]
pub struct PreparedTokenRequest {
    unsigned: TokenRequest,
    key: PublicKey,
    to_be_signed: Vec<u8>,
}

/// Why octets are no request. Who sent them is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRequestError {
    /// Not JSON, or over a limit.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A member is absent, or its value is not what it should be.
    #[error("the member `{member}` is absent, or is not {expected}")]
    Member {
        /// The name of the member.
        member: &'static str,
        /// What its value should be.
        expected: &'static str,
    },
    /// The signature is not that of the key of the health certificate.
    #[error("the signature is not by the key of the health certificate")]
    Signature,
}

impl TokenRequest {
    /// A request for a token of `issuer` for `audience`, by the host with this health certificate for signing.
    pub fn prepare(
        issuer: &Issuer,
        audience: Audience,
        nonce: Nonce,
        certificate: &Certificate,
    ) -> PreparedTokenRequest {
        let unsigned = Self {
            audience,
            nonce,
            certificate: certificate.der().to_vec(),
            signature: Vec::new(),
        };
        PreparedTokenRequest {
            key: certificate.public_key().clone(),
            to_be_signed: unsigned.signed_octets(issuer),
            unsigned,
        }
    }

    /// Reads a body. Members that it does not know are ignored, but may not stand twice.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(body: &[u8]) -> Result<Self, TokenRequestError> {
        let json = Json::read(body, &LIMITS)?;
        let text = |member, expected| {
            let text = json.member(member).and_then(Json::text);
            text.ok_or(TokenRequestError::Member { member, expected })
        };
        let octets = |member, expected, limit| {
            let decoded = base64::decode(text(member, expected)?).ok();
            let decoded = decoded.filter(|octets| (1..=limit).contains(&octets.len()));
            decoded.ok_or(TokenRequestError::Member { member, expected })
        };
        let audience = "1 to 256 printable characters of ASCII without white space";
        let nonce = "the Base64 of a nonce of this guardian";
        Ok(Self {
            audience: text("Audience", audience)?.parse().map_err(|_| {
                TokenRequestError::Member {
                    member: "Audience",
                    expected: audience,
                }
            })?,
            nonce: Nonce::from_header(text("Nonce", nonce)?).map_err(|_| {
                TokenRequestError::Member {
                    member: "Nonce",
                    expected: nonce,
                }
            })?,
            certificate: octets(
                "HealthCertificate",
                "the Base64 of 1 to 16,384 octets",
                MAX_CERTIFICATE,
            )?,
            signature: octets(
                "Signature",
                "the Base64 of 1 to 1,024 octets",
                MAX_SIGNATURE,
            )?,
        })
    }

    /// The body.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let body = serde_json::json!({
            "HealthCertificate": base64::encode(&self.certificate),
            "Audience": self.audience.as_str(),
            "Nonce": self.nonce.to_header(),
            "Signature": base64::encode(&self.signature),
        });
        body.to_string().into_bytes()
    }

    /// What the identity key signs: issuer, audience, nonce and health certificate, each by its digest, so that no two requests have
    /// the same octets.
    pub(super) fn signed_octets(&self, issuer: &Issuer) -> Vec<u8> {
        [
            LABEL,
            &sha256(issuer.as_str().as_bytes()),
            &sha256(self.audience.as_str().as_bytes()),
            &sha256(self.nonce.octets()),
            &sha256(&self.certificate),
        ]
        .concat()
    }

    /// Whether `key` has signed this for `issuer`; then the digest of what it has signed.
    pub(super) fn verify(&self, issuer: &Issuer, key: &PublicKey) -> Option<Sha256Digest> {
        let signed = self.signed_octets(issuer);
        key.verify(SignatureScheme::Pkcs1Sha256, &signed, &self.signature)
            .ok()?;
        Some(sha256(&signed))
    }
}

impl PreparedTokenRequest {
    /// What the identity key is to sign.
    #[must_use]
    pub fn to_be_signed(&self) -> &[u8] {
        &self.to_be_signed
    }

    /// How.
    #[must_use]
    pub fn scheme(&self) -> SignatureScheme {
        SignatureScheme::Pkcs1Sha256
    }

    /// The request with its signature.
    ///
    /// # Errors
    /// [`TokenRequestError::Signature`] when it is not the identity key's.
    pub fn assemble(self, signature: Vec<u8>) -> Result<TokenRequest, TokenRequestError> {
        self.key
            .verify(self.scheme(), &self.to_be_signed, &signature)
            .map_err(|_| TokenRequestError::Signature)?;
        Ok(TokenRequest {
            signature,
            ..self.unsigned
        })
    }
}
