//! Signatures of tokens (RFC 7515), and the public keys that verify them (RFC 7517).
//!
//! Tokens are signed with the key of the attestation signer that signs health certificates: RS256, because RSA keys in tokens and
//! TPMs do PKCS#1 v1.5 everywhere, and because verifiers accept it without being told to. What is signed begins with the letters
//! `eyJ`, and a certificate with the octet 0x30, so neither can stand for the other.
//!
//! The header of a token names its key by `kid` and carries none: a verifier that believed a key in a header would believe everyone.

use hgs_crypto::base64;
use hgs_crypto::hash::{Sha256Digest, sha256};
use hgs_crypto::rsa::{PublicKey, SignatureScheme};
use hgs_pki::{Certificate, KeyError, KeyWork, Thumbprint, Time};
use serde_json::json;

use super::appraisal::{Appraisal, Claims, Verifier};
use super::challenge::IssuedToken;
use super::prove::ProvedRequest;
use super::refusal::TokenRefusal;
use super::{Issuer, JWKS_PATH};

/// Why there is no token for a host that may have one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The host is told why.
    #[error(transparent)]
    Refused(#[from] TokenRefusal),
    /// The signer's private key can't be used. The fault is the key store's.
    #[error("the private key of certificate {certificate} can't be used: {error}")]
    Key {
        /// The thumbprint of the signer's certificate.
        certificate: Thumbprint,
        /// Why.
        error: KeyError,
    },
    /// The signature is not the signer's. The fault is ours.
    #[error("the signature of a token is not by the key of certificate {0}")]
    Signature(Thumbprint),
}

/// A token for `request`, whose host may have one, signed by the key of `signer`.
///
/// # Errors
/// See [`TokenError`].
pub fn sign(
    request: &ProvedRequest,
    appraisal: &Appraisal<'_>,
    verifier: Verifier<'_>,
    now: Time,
    signer: &Certificate,
    keys: &mut dyn KeyWork,
) -> Result<IssuedToken, TokenError> {
    let Claims { json, expires } = Claims::new(request, appraisal, verifier, now)?;
    let header = json!({"typ": "JWT", "alg": "RS256", "kid": key_id(signer)});
    let part = |json: &serde_json::Value| base64::encode_url(json.to_string().as_bytes());
    let signed = format!("{}.{}", part(&header), part(&json));
    let certificate = signer.thumbprint();
    let scheme = SignatureScheme::Pkcs1Sha256;
    let signature = keys
        .sign(&certificate, scheme, signed.as_bytes())
        .map_err(|error| TokenError::Key { certificate, error })?;
    signer
        .public_key()
        .verify(scheme, signed.as_bytes(), &signature)
        .map_err(|_| TokenError::Signature(certificate))?;
    let signature = base64::encode_url(&signature);
    Ok(IssuedToken {
        token: format!("{signed}.{signature}"),
        expires,
    })
}

/// The name of a signer's key in the header of tokens: its thumbprint of RFC 7638.
#[must_use]
pub fn key_id(signer: &Certificate) -> String {
    base64::encode_url(&thumbprint(signer.public_key()))
}

/// RFC 7638: SHA-256 over the members of the key that are needed, in the order of their names.
pub(super) fn thumbprint(key: &PublicKey) -> Sha256Digest {
    let (exponent, modulus) = (
        base64::encode_url(key.exponent()),
        base64::encode_url(key.modulus()),
    );
    sha256(format!(r#"{{"e":"{exponent}","kty":"RSA","n":"{modulus}"}}"#).as_bytes())
}

/// The keys of these signers, as a JSON Web Key Set.
#[must_use]
pub fn jwks(signers: &[Certificate]) -> Vec<u8> {
    let keys: Vec<_> = signers
        .iter()
        .map(|signer| {
            let key = signer.public_key();
            json!({
                "kty": "RSA",
                "use": "sig",
                "alg": "RS256",
                "kid": key_id(signer),
                "n": base64::encode_url(key.modulus()),
                "e": base64::encode_url(key.exponent()),
            })
        })
        .collect();
    json!({"keys": keys}).to_string().into_bytes()
}

/// The document at [`DISCOVERY_PATH`](super::DISCOVERY_PATH), by which verifiers that are told the issuer find the keys. There is nothing to log in at.
#[must_use]
pub fn discovery(issuer: &Issuer) -> Vec<u8> {
    let body = json!({
        "issuer": issuer.as_str(),
        "jwks_uri": format!("{issuer}{JWKS_PATH}"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "claims_supported": ["iss", "sub", "aud", "iat", "nbf", "exp", "jti", "cnf", "submods"],
    });
    body.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key and the thumbprint of RFC 7638 section 3.1.
    #[test]
    fn the_thumbprint_of_the_standards_example_is_the_standards() {
        let modulus = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRX\
                       jBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaS\
                       qzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksIN\
                       HaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let standard = modulus.replace('-', "+").replace('_', "/") + "==";
        let modulus = base64::decode(&standard).unwrap();
        let key = PublicKey::from_numbers(&modulus, &[1, 0, 1]).unwrap();
        assert_eq!(
            base64::encode_url(&thumbprint(&key)),
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
        );
    }
}
