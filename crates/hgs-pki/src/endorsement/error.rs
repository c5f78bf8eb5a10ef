//! Why an EK certificate, or an authority for them, is refused.

use const_oid::ObjectIdentifier;

use super::{MAX_ENDORSEMENT_OCTETS, MAX_PATH_INTERMEDIATES};
use crate::certificate_error::name_of;
use crate::{CertificateError, PemError, Time};

/// Why octets are not an acceptable EK certificate. The host, or who made its TPM, is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndorsementCertificateError {
    /// More than [`MAX_ENDORSEMENT_OCTETS`].
    #[error("EK certificate has {0} octets; {MAX_ENDORSEMENT_OCTETS} are accepted")]
    TooLarge(usize),
    /// The NV index is empty, or holds padding only.
    #[error("there is no EK certificate: no octets, or padding only")]
    Absent,
    /// The text does not hold one certificate.
    #[error("EK certificate: {0}")]
    Pem(#[from] PemError),
    /// Not a certificate over an acceptable RSA key.
    #[error("EK certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// A certificate of version 1 can't say what it is for.
    #[error("EK certificate has version 1")]
    Version1,
    /// It may issue certificates, which no endorsement key does.
    #[error("EK certificate is a certificate authority's")]
    CertificateAuthority,
    /// The key usage does not include key encipherment.
    #[error("the key usage of the EK certificate does not allow key encipherment")]
    KeyUsage,
    /// The extended key usage is another's.
    #[error(
        "the extended key usage of the EK certificate lacks tcg-kp-EKCertificate (2.23.133.8.1)"
    )]
    ExtendedKeyUsage,
    /// An empty subject, and no critical subjectAltName.
    #[error("EK certificate names neither its subject nor, in a critical extension, its TPM")]
    NoName,
    /// A critical extension that is not known.
    #[error("EK certificate has the critical extension {}, which is not known", name_of(.0))]
    UnknownCriticalExtension(ObjectIdentifier),
}

/// Why a certificate can't be trusted to issue EK certificates. The administrator who offers it, or the host whose chain it is of, is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndorsementAuthorityError {
    /// The text holds no certificate, or is no PEM.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// Not a certificate, or over a key that is not acceptable.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// It does not say that its subject may issue certificates.
    #[error("{0} is not a certificate authority's certificate")]
    NotAuthority(String),
    /// Its extended key usage is another's.
    #[error("the extended key usage of {0} lacks tcg-kp-EKCertificate (2.23.133.8.1)")]
    ExtendedKeyUsage(String),
    /// It constrains names, which are not compared for EK certificates.
    #[error("{0} constrains the names below it, which is not supported for EK certificates")]
    NameConstraints(String),
    /// A critical extension that is not known.
    #[error("{subject} has the critical extension {}, which is not known", name_of(.oid))]
    UnknownCriticalExtension {
        /// The name of the authority.
        subject: String,
        /// The extension.
        oid: ObjectIdentifier,
    },
}

/// Why an EK certificate is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndorsementTrustError {
    /// The certificate is of another TPM.
    #[error("EK certificate is over another key than the TPM's endorsement key")]
    OtherKey,
    /// No root is configured.
    #[error("no EK root is configured")]
    NoRoots,
    /// More intermediate certificates than [`MAX_PATH_INTERMEDIATES`].
    #[error(
        "EK certificate comes with {0} intermediate certificates; {MAX_PATH_INTERMEDIATES} are accepted"
    )]
    TooManyIntermediates(usize),
    /// The issuer is neither a root nor an intermediate certificate that is known or came along.
    #[error(
        "the issuer of {subject}, {issuer}, is not among the EK roots and intermediate certificates"
    )]
    UnknownIssuer {
        /// The subject of the certificate whose issuer is missing; `the EK certificate` for that itself.
        subject: String,
        /// The name of the missing issuer.
        issuer: String,
    },
    /// The issuer's name is right, and the signature is not by its key.
    #[error("the signature of {0} was not made by its issuer's key")]
    Signature(String),
    /// Signed over SHA-1, for which forgeries can be made.
    #[error(
        "{0} is signed over SHA-1, which is not accepted; its issuer's certificate can't vouch for it"
    )]
    Sha1(String),
    /// Signed with another algorithm, or one that does not fit the issuer's key.
    #[error("{subject} is signed with {}, which is not accepted for its issuer's key", name_of(.algorithm))]
    UnsupportedAlgorithm {
        /// The subject of the certificate.
        subject: String,
        /// The algorithm of its signature.
        algorithm: ObjectIdentifier,
    },
    /// A certificate of the path does not say that its subject may issue others; roots need not.
    #[error(
        "{0} may be trusted as a root, but is not a certificate authority's certificate below one"
    )]
    NotIntermediate(String),
    /// An authority forbids so long a path below it.
    #[error("the path to {0} is longer than it allows")]
    PathLength(String),
    /// More intermediate certificates on the path than [`MAX_PATH_INTERMEDIATES`].
    #[error("the path to a root has more than {MAX_PATH_INTERMEDIATES} intermediate certificates")]
    TooDeep,
    /// So many certificates have the same names that looking at all paths would take too long.
    #[error("too many certificates of the same name offer too many paths")]
    TooManyPaths,
    /// An authority of the path has expired. All else is right.
    #[error(
        "{subject}, which issued the EK certificate or leads to its root, expired at {not_after}"
    )]
    AuthorityExpired {
        /// The name of the authority.
        subject: String,
        /// When it expired.
        not_after: Time,
    },
    /// An authority of the path is not yet valid. All else is right.
    #[error(
        "{subject}, which issued the EK certificate or leads to its root, is not valid before {not_before}"
    )]
    AuthorityNotYetValid {
        /// The name of the authority.
        subject: String,
        /// When it begins to be valid.
        not_before: Time,
    },
    /// The EK certificate has expired. All else is right.
    #[error("EK certificate expired at {0}")]
    Expired(Time),
    /// The EK certificate is not yet valid. All else is right.
    #[error("EK certificate is not valid before {0}")]
    NotYetValid(Time),
}
