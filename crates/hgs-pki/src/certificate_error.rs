//! The errors of reading a certificate.

use const_oid::ObjectIdentifier;
use hgs_crypto::rsa::PublicKeyError;

/// Octets of the largest certificate that is read. Guardians' certificates have about one
/// thousand; certificates of TPM makers stay below four thousand.
pub const MAX_CERTIFICATE_OCTETS: usize = 16 * 1024;

/// Why octets are not an acceptable certificate. The sender is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// More than [`MAX_CERTIFICATE_OCTETS`].
    #[error("certificate has {0} octets; {MAX_CERTIFICATE_OCTETS} are accepted")]
    TooLarge(usize),
    /// Not the DER of a certificate.
    #[error("not an X.509 certificate in DER: {0}")]
    Malformed(der::Error),
    /// Octets follow the certificate.
    #[error("octets follow the certificate")]
    TrailingOctets,
    /// DER has another encoding for the same content, for instance without a default value.
    #[error("certificate is not encoded as DER prescribes")]
    NotCanonical,
    /// Neither version 1 nor version 3.
    #[error("certificate has version {0}; 1 and 3 are accepted")]
    UnsupportedVersion(u16),
    /// The algorithm identifiers inside and outside the signed octets differ.
    #[error("certificate names two different signature algorithms")]
    SignatureAlgorithmMismatch,
    /// The subject's key is not an RSA key.
    #[error("certificate has a key of algorithm {}; only RSA is accepted", name_of(.0))]
    UnsupportedKey(ObjectIdentifier),
    /// The subject's RSA key is not acceptable.
    #[error("key of the certificate: {0}")]
    Key(#[from] PublicKeyError),
    /// Extensions in a certificate of version 1.
    #[error("certificate of version 1 has extensions")]
    ExtensionsInVersion1,
    /// An extension occurs twice.
    #[error("certificate has the extension {} twice", name_of(.0))]
    DuplicateExtension(ObjectIdentifier),
    /// The content of an extension is not of the type that its identifier names.
    #[error("extension {} of the certificate is malformed", name_of(.0))]
    MalformedExtension(ObjectIdentifier),
    /// The extended key usage lists no purpose at all.
    #[error("certificate has an empty list of extended key usages")]
    EmptyExtendedKeyUsage,
}

/// Why one certificate was not issued by another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotIssued {
    /// The issuer's name is another.
    #[error("certificate was issued by {expected}, not by {found}")]
    Name {
        /// The issuer that the certificate names.
        expected: String,
        /// The subject of the supposed issuer.
        found: String,
    },
    /// Signed with an algorithm other than RSA with SHA-256.
    #[error("certificate is signed with {}; RSA with SHA-256 is accepted", name_of(.0))]
    UnsupportedAlgorithm(ObjectIdentifier),
    /// The signature is not by the issuer's key.
    #[error("signature of the certificate was not made by its issuer")]
    Signature,
}

/// The identifier with its name in the standards, where it has one.
pub(crate) fn name_of(oid: &ObjectIdentifier) -> String {
    match const_oid::db::DB.by_oid(oid) {
        Some(name) => format!("{name} ({oid})"),
        None => oid.to_string(),
    }
}
