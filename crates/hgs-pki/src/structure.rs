//! The ASN.1 of RFC 5280 section 4.1, used in both directions.

use der::Sequence;
use der::asn1::{AnyRef, BitStringRef};
use spki::SubjectPublicKeyInfoRef;
use x509_cert::ext::Extension;
use x509_cert::time::Time;

/// ```text
/// TBSCertificate  ::=  SEQUENCE  {
///     version         [0]  EXPLICIT Version DEFAULT v1,
///     serialNumber         CertificateSerialNumber,
///     signature            AlgorithmIdentifier,
///     issuer               Name,
///     validity             Validity,
///     subject              Name,
///     subjectPublicKeyInfo SubjectPublicKeyInfo,
///     issuerUniqueID  [1]  IMPLICIT UniqueIdentifier OPTIONAL,
///     subjectUniqueID [2]  IMPLICIT UniqueIdentifier OPTIONAL,
///     extensions      [3]  Extensions OPTIONAL }
/// ```
///
/// Our own structure and not that of `x509-cert`: there only a builder can set the fields, and
/// names are sorted and times rewritten, so that the octets that were read can't be had again.
#[derive(Sequence)]
pub(crate) struct TbsCertificate<'a> {
    /// 0 means version 1.
    #[asn1(context_specific = "0", default = "Default::default")]
    pub(crate) version: u8,
    pub(crate) serial_number: AnyRef<'a>,
    pub(crate) signature: AnyRef<'a>,
    pub(crate) issuer: AnyRef<'a>,
    pub(crate) validity: Validity,
    pub(crate) subject: AnyRef<'a>,
    pub(crate) subject_public_key_info: SubjectPublicKeyInfoRef<'a>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    pub(crate) issuer_unique_id: Option<BitStringRef<'a>>,
    #[asn1(context_specific = "2", tag_mode = "IMPLICIT", optional = "true")]
    pub(crate) subject_unique_id: Option<BitStringRef<'a>>,
    #[asn1(context_specific = "3", optional = "true")]
    pub(crate) extensions: Option<Vec<Extension>>,
}

/// ```text
/// Validity ::= SEQUENCE {
///     notBefore      Time,
///     notAfter       Time }
/// ```
#[derive(Sequence)]
pub(crate) struct Validity {
    pub(crate) not_before: Time,
    pub(crate) not_after: Time,
}

/// ```text
/// Certificate  ::=  SEQUENCE  {
///     tbsCertificate       TBSCertificate,
///     signatureAlgorithm   AlgorithmIdentifier,
///     signatureValue       BIT STRING }
/// ```
#[derive(Sequence)]
pub(crate) struct Certificate<'a> {
    pub(crate) to_be_signed: AnyRef<'a>,
    pub(crate) signature_algorithm: AnyRef<'a>,
    pub(crate) signature: BitStringRef<'a>,
}
