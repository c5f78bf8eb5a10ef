//! Certificates of those who issue EK certificates.

use std::fmt;
use std::sync::Arc;

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5280::{ID_CE_BASIC_CONSTRAINTS, ID_CE_NAME_CONSTRAINTS};
use const_oid::db::rfc5912::{ID_EC_PUBLIC_KEY, RSA_ENCRYPTION};
use rustls_pki_types::SignatureVerificationAlgorithm;
use webpki::aws_lc_rs;

use super::{
    EndorsementAuthorityError, EndorsementTrustError, certificate_blocks, is_for_endorsement,
    is_pem, is_signing_certificates, unrecognised_critical,
};
use crate::certificate::AnyKeyCertificate;
use crate::{CertificateError, KeyUsage, PemError, Thumbprint, Validity, Version};

/// How EK certificates and their authorities may be signed.
static ALGORITHMS: [&dyn SignatureVerificationAlgorithm; 17] = [
    aws_lc_rs::ECDSA_P256_SHA256,
    aws_lc_rs::ECDSA_P256_SHA384,
    aws_lc_rs::ECDSA_P256_SHA512,
    aws_lc_rs::ECDSA_P384_SHA256,
    aws_lc_rs::ECDSA_P384_SHA384,
    aws_lc_rs::ECDSA_P384_SHA512,
    aws_lc_rs::ECDSA_P521_SHA256,
    aws_lc_rs::ECDSA_P521_SHA384,
    aws_lc_rs::ECDSA_P521_SHA512,
    aws_lc_rs::RSA_PKCS1_2048_8192_SHA256,
    aws_lc_rs::RSA_PKCS1_2048_8192_SHA384,
    aws_lc_rs::RSA_PKCS1_2048_8192_SHA512,
    aws_lc_rs::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
    aws_lc_rs::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
    aws_lc_rs::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    aws_lc_rs::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    aws_lc_rs::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// sha1WithRSAEncryption and ecdsa-with-SHA1.
const OVER_SHA_1: [ObjectIdentifier; 2] = [
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.5"),
    ObjectIdentifier::new_unwrap("1.2.840.10045.4.1"),
];

/// The certificate of an authority for EK certificates, over an RSA key or one on P-256, P-384 or P-521. Nothing is verified but its
/// form, what it says it is for, and the strength of its key.
///
/// Cloning shares the contents.
#[derive(Clone)]
pub struct EndorsementAuthority(Arc<AnyKeyCertificate>);

impl EndorsementAuthority {
    /// Reads one certificate in DER.
    pub fn from_der(der: &[u8]) -> Result<Self, EndorsementAuthorityError> {
        let certificate = AnyKeyCertificate::from_der(der)?;
        let extensions = &certificate.extensions;
        let subject = || certificate.subject.text().to_owned();
        if !says_that_it_may_issue(&certificate) {
            return Err(EndorsementAuthorityError::NotAuthority(subject()));
        }
        if !is_for_endorsement(extensions) {
            return Err(EndorsementAuthorityError::ExtendedKeyUsage(subject()));
        }
        if extensions.find(&ID_CE_NAME_CONSTRAINTS).is_some() {
            return Err(EndorsementAuthorityError::NameConstraints(subject()));
        }
        if let Some(oid) = unrecognised_critical(extensions) {
            let subject = subject();
            return Err(EndorsementAuthorityError::UnknownCriticalExtension { subject, oid });
        }
        check_key(&certificate)?;
        Ok(Self(Arc::new(certificate)))
    }

    /// Reads all certificates of a file: one in DER, or any number in PEM with other text and blocks between them.
    pub fn list_from_octets(octets: &[u8]) -> Result<Vec<Self>, EndorsementAuthorityError> {
        if !is_pem(octets) {
            return Ok(vec![Self::from_der(octets)?]);
        }
        let blocks = certificate_blocks(octets)?;
        if blocks.is_empty() {
            return Err(PemError::NoCertificate.into());
        }
        let ders = blocks.iter().map(|block| block.octets.expose());
        ders.map(Self::from_der).collect()
    }

    /// The octets it was read from.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// SHA-256 of [`Self::der`].
    #[must_use]
    pub fn thumbprint(&self) -> Thumbprint {
        Thumbprint::of(self.der())
    }

    /// The subject's name.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.0.subject.text()
    }

    /// The issuer's name.
    #[must_use]
    pub fn issuer(&self) -> &str {
        self.0.issuer.text()
    }

    /// When it is valid.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.0.validity
    }

    /// Whether it names itself as its issuer, as roots do.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.0.subject.der == self.0.issuer.der
    }

    pub(super) fn certificate(&self) -> &AnyKeyCertificate {
        &self.0
    }

    /// Whether it may stand on a path below a root: a root is trusted because an administrator says so, and the others because they say so
    /// themselves, under a signature.
    pub(super) fn may_be_intermediate(&self) -> bool {
        self.0.extensions.certificate_authority && self.0.version == Version::V3
    }

    /// Checks that this authority's key made the signature of `below`, whose name for people is `subject`.
    pub(super) fn verify_signature(
        &self,
        below: &AnyKeyCertificate,
        subject: &str,
    ) -> Result<(), EndorsementTrustError> {
        if OVER_SHA_1.contains(&below.signature_oid) {
            return Err(EndorsementTrustError::Sha1(subject.to_owned()));
        }
        let algorithm = ALGORITHMS.iter().find(|algorithm| {
            algorithm.signature_alg_id().as_ref() == below.signature_algorithm
                && algorithm.public_key_alg_id().as_ref() == self.0.key_algorithm
        });
        let algorithm = algorithm.ok_or_else(|| EndorsementTrustError::UnsupportedAlgorithm {
            subject: subject.to_owned(),
            algorithm: below.signature_oid,
        })?;
        algorithm
            .verify_signature(&self.0.key, below.to_be_signed(), &below.signature)
            .map_err(|_| EndorsementTrustError::Signature(subject.to_owned()))
    }
}

/// Whether a certificate says that its subject may issue others. Old roots have no basic constraints; then the key usage has to say it,
/// or the version is one that has no place for either.
fn says_that_it_may_issue(certificate: &AnyKeyCertificate) -> bool {
    let extensions = &certificate.extensions;
    match extensions.find(&ID_CE_BASIC_CONSTRAINTS) {
        Some(_) => extensions.certificate_authority && certificate.allows(KeyUsage::KEY_CERT_SIGN),
        None => certificate.version == Version::V1 || is_signing_certificates(extensions),
    }
}

/// RSA keys are held to the rules of all others; of elliptic curves, only those with an algorithm are accepted.
fn check_key(certificate: &AnyKeyCertificate) -> Result<(), CertificateError> {
    match certificate.key_oid {
        RSA_ENCRYPTION => certificate.rsa_key().map(|_| ()),
        ID_EC_PUBLIC_KEY if is_on_known_curve(certificate) => Ok(()),
        other => Err(CertificateError::UnsupportedKey(other)),
    }
}

fn is_on_known_curve(certificate: &AnyKeyCertificate) -> bool {
    let mut algorithms = ALGORITHMS.iter();
    algorithms.any(|algorithm| algorithm.public_key_alg_id().as_ref() == certificate.key_algorithm)
}

impl PartialEq for EndorsementAuthority {
    fn eq(&self, other: &Self) -> bool {
        self.der() == other.der()
    }
}

impl Eq for EndorsementAuthority {}

impl fmt::Debug for EndorsementAuthority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "EndorsementAuthority({}, {})",
            self.subject(),
            self.thumbprint()
        )
    }
}
