//! A certificate that was parsed once.

mod parse;

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use const_oid::ObjectIdentifier;
use hgs_crypto::CryptoError;
use hgs_crypto::hash::sha1_thumbprint;
use hgs_crypto::rsa::{PublicKey, SignatureScheme};

pub(crate) use self::parse::printable;
use crate::certificate_error::{CertificateError, NotIssued};
use crate::extension::{Extension, Extensions};
use crate::{KeyUsage, Seconds, Thumbprint, Time};

/// An X.509 certificate (RFC 5280) of version 1 or 3 over an acceptable RSA key.
///
/// Two certificates are equal when their octets are. Cloning shares the contents.
#[derive(Clone)]
pub struct Certificate(Arc<Contents>);

struct Contents {
    der: Vec<u8>,
    thumbprint: Thumbprint,
    /// Where in `der` the signed octets stand.
    to_be_signed: Range<usize>,
    signature_algorithm: SignatureAlgorithm,
    signature: Vec<u8>,
    version: Version,
    serial_number: Vec<u8>,
    issuer: DistinguishedName,
    subject: DistinguishedName,
    validity: Validity,
    public_key: PublicKey,
    extensions: Extensions,
}

/// A name as DER for comparing and as text for people.
pub(crate) struct DistinguishedName {
    pub(crate) der: Vec<u8>,
    /// Written when it is first asked for: most certificates are read without anybody being told of them.
    text: OnceLock<String>,
}

impl DistinguishedName {
    /// The name as RFC 4514 writes it, without characters that would act on a terminal.
    pub(crate) fn text(&self) -> &str {
        self.text.get_or_init(|| parse::text_of_name(&self.der))
    }
}

enum SignatureAlgorithm {
    Known(SignatureScheme),
    Unknown(ObjectIdentifier),
}

/// The version of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Version 1: without extensions.
    V1,
    /// Version 3.
    V3,
}

/// How long before a certificate expires people are told.
pub const EXPIRY_NOTICE: Seconds = Seconds::from_days(30);

/// The period in which a certificate is valid, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub not_before: Time,
    /// The last second.
    pub not_after: Time,
}

impl Validity {
    /// The validity in the DER of an X.509 certificate over any kind of key. Nothing else is read.
    pub fn of_any_certificate(der: &[u8]) -> Result<Self, CertificateError> {
        parse::validity(der)
    }

    /// Whether `when` lies within.
    #[must_use]
    pub fn contains(&self, when: Time) -> bool {
        (self.not_before..=self.not_after).contains(&when)
    }

    /// Its status at the time `now`.
    #[must_use]
    pub fn status(&self, now: Time) -> ValidityStatus {
        let notice = now.checked_add(EXPIRY_NOTICE).unwrap_or(Time::MAX);
        if now < self.not_before {
            ValidityStatus::NotYetValid
        } else if now > self.not_after {
            ValidityStatus::Expired
        } else if notice > self.not_after {
            ValidityStatus::ExpiresSoon
        } else {
            ValidityStatus::Valid
        }
    }
}

/// The status of a certificate's validity at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValidityStatus {
    /// It is not valid yet.
    NotYetValid,
    /// It is valid for longer than [`EXPIRY_NOTICE`].
    Valid,
    /// It is valid, and expires within [`EXPIRY_NOTICE`].
    ExpiresSoon,
    /// It has expired.
    Expired,
}

/// What the certificate of a TLS server says. Its key may be of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsCertificate {
    /// For how long it is valid.
    pub validity: Validity,
    /// Whether its basic constraints say that it may issue certificates. Clients that follow RFC 5280 accept no such
    /// certificate from a server.
    pub is_certificate_authority: bool,
    /// The DNS names of its subjectAltName, wildcards among them.
    pub dns_names: Vec<String>,
}

impl TlsCertificate {
    /// Reads it. Nothing is verified.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        parse::tls_certificate(der)
    }
}

/// The names in a certificate over any kind of key.
pub(crate) struct CertificateNames {
    /// DER of the issuer's name.
    pub(crate) issuer: Vec<u8>,
    /// DER of the subject's name.
    pub(crate) subject: Vec<u8>,
    /// Among which subjectAltName may be.
    pub(crate) extensions: Extensions,
}

impl CertificateNames {
    /// Reads them. Nothing is verified.
    pub(crate) fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        parse::names(der)
    }
}

/// A certificate over any kind of key, signed with any algorithm. Its key is not looked at.
///
/// Makers of TPMs are not held to the one encoding that DER allows, as [`Certificate`] is: many of their certificates
/// spell out default values. The signature is verified over the octets that were read.
pub(crate) struct AnyKeyCertificate {
    pub(crate) der: Vec<u8>,
    /// Where in `der` the signed octets stand.
    pub(crate) to_be_signed: Range<usize>,
    /// The algorithm of the signature.
    pub(crate) signature_oid: ObjectIdentifier,
    /// The content of the `AlgorithmIdentifier` of the signature.
    pub(crate) signature_algorithm: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    pub(crate) version: Version,
    pub(crate) issuer: DistinguishedName,
    pub(crate) subject: DistinguishedName,
    pub(crate) validity: Validity,
    /// The algorithm of the subject's key.
    pub(crate) key_oid: ObjectIdentifier,
    /// The content of the `AlgorithmIdentifier` of the subject's key.
    pub(crate) key_algorithm: Vec<u8>,
    /// The content of `subjectPublicKey`.
    pub(crate) key: Vec<u8>,
    pub(crate) extensions: Extensions,
}

impl AnyKeyCertificate {
    /// Reads it. Nothing is verified.
    pub(crate) fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        parse::any_key(der)
    }

    /// The subject's key, if it is an acceptable RSA key. Some makers of TPMs name RSAES-OAEP as its algorithm.
    pub(crate) fn rsa_key(&self) -> Result<PublicKey, CertificateError> {
        parse::rsa_key(self)
    }

    /// Whether the key may be used for `usage`, as [`Certificate::allows`] says it.
    pub(crate) fn allows(&self, usage: KeyUsage) -> bool {
        let usages = self.extensions.key_usage;
        usages.is_none_or(|usages| usages.contains(usage))
    }

    /// The octets that the issuer signed.
    pub(crate) fn to_be_signed(&self) -> &[u8] {
        // The range was measured on these octets when they were parsed.
        self.der.get(self.to_be_signed.clone()).unwrap_or(&[])
    }
}

impl Certificate {
    /// Parses DER: at most [`MAX_CERTIFICATE_OCTETS`](crate::MAX_CERTIFICATE_OCTETS), nothing after it, version 1 or 3, an RSA
    /// key that [`PublicKey::from_spki_der`] accepts, no extension twice.
    ///
    /// Expensive by design, since the key is searched for known weaknesses: keep the result, or
    /// use a [`CertificateCache`](crate::CertificateCache). The certificate's signature is not
    /// looked at.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let certificate = Self::unexamined_from_der(der)?;
        certificate.public_key().examine()?;
        Ok(certificate)
    }

    /// As [`Self::from_der`] without the search of the key for weaknesses.
    pub(crate) fn unexamined_from_der(der: &[u8]) -> Result<Self, CertificateError> {
        parse::certificate(der, None).map(|contents| Self(Arc::new(contents)))
    }

    /// As [`Self::from_der`], of a certificate that is expected to be over `known`: that key is not parsed and examined again.
    /// One that is over another key is read all the same.
    pub(crate) fn of_known_key(der: &[u8], known: &PublicKey) -> Result<Self, CertificateError> {
        let contents = parse::certificate(der, Some(known))?;
        if contents.public_key != *known {
            contents.public_key.examine()?;
        }
        Ok(Self(Arc::new(contents)))
    }

    /// About how many octets of memory it takes: its DER, what was read from it, and the key prepared for three uses.
    pub(crate) fn memory(&self) -> usize {
        2048 + 3 * self.der().len() + 12 * self.public_key().modulus_octets()
    }

    /// The octets it was parsed from.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// SHA-256 of [`Self::der`].
    #[must_use]
    pub fn thumbprint(&self) -> Thumbprint {
        self.0.thumbprint
    }

    /// SHA-1 of [`Self::der`] as 40 upper-case hexadecimal digits, as Windows shows it; for people
    /// to compare, never for a decision.
    #[must_use]
    pub fn sha1_thumbprint(&self) -> String {
        hgs_crypto::hex::encode(&sha1_thumbprint(self.der())).to_uppercase()
    }

    /// The version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.0.version
    }

    /// The subject's name as RFC 4514 writes it, such as `CN=guardian,O=Example`, with control
    /// characters and those that change the direction of text escaped.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.0.subject.text()
    }

    /// The DER of the subject's name.
    #[must_use]
    pub fn subject_der(&self) -> &[u8] {
        &self.0.subject.der
    }

    /// The issuer's name as RFC 4514 writes it.
    #[must_use]
    pub fn issuer(&self) -> &str {
        self.0.issuer.text()
    }

    /// The DER of the issuer's name.
    #[must_use]
    pub fn issuer_der(&self) -> &[u8] {
        &self.0.issuer.der
    }

    /// The content octets of the serial number as they are encoded: big-endian, two's complement,
    /// so that a positive number whose first bit is set begins with a zero octet. RFC 5280 wants
    /// positive numbers of at most 20 octets; others are not refused, and none is confused with
    /// another.
    #[must_use]
    pub fn serial_number(&self) -> &[u8] {
        &self.0.serial_number
    }

    /// When it is valid.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.0.validity
    }

    /// The subject's key.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.0.public_key
    }

    /// The purposes of the key, if the certificate restricts them; never an empty set.
    #[must_use]
    pub fn key_usage(&self) -> Option<KeyUsage> {
        self.0.extensions.key_usage
    }

    /// Whether the key may be used for `usage`. Without the extension it may be used for everything (RFC 5280 section
    /// 4.2.1.3).
    #[must_use]
    pub fn allows(&self, usage: KeyUsage) -> bool {
        self.key_usage().is_none_or(|usages| usages.contains(usage))
    }

    /// The extended purposes of the key, if the certificate restricts them; never an empty list.
    #[must_use]
    pub fn extended_key_usage(&self) -> Option<&[ObjectIdentifier]> {
        self.0.extensions.extended_key_usage.as_deref()
    }

    /// Whether it says that its subject is a certificate authority.
    #[must_use]
    pub fn is_certificate_authority(&self) -> bool {
        self.0.extensions.certificate_authority
    }

    /// The extension named `oid`: whether it is critical, and the content of `extnValue`.
    #[must_use]
    pub fn extension(&self, oid: &ObjectIdentifier) -> Option<(bool, &[u8])> {
        let extension = self.0.extensions.find(oid)?;
        Some((extension.critical, &extension.der))
    }

    /// All extensions in their order.
    #[must_use]
    pub fn extensions(&self) -> &[Extension] {
        self.0.extensions.all()
    }

    /// Critical extensions that neither this crate nor path validation acts on. RFC 5280 section
    /// 4.2: a relying party must know each of them, or refuse the certificate.
    pub fn unrecognised_critical_extensions(&self) -> impl Iterator<Item = &ObjectIdentifier> {
        self.0.extensions.unrecognised_critical()
    }

    /// Whether the certificate allows its subject to issue others. One of version 1 has no place
    /// to say so; the operator has said it by configuring it as a root.
    pub(crate) fn may_issue(&self) -> bool {
        (self.is_certificate_authority() || self.version() == Version::V1)
            && self.may_sign_certificates()
    }

    /// Whether the key usage, if there is one, includes signatures on certificates.
    pub(crate) fn may_sign_certificates(&self) -> bool {
        self.allows(KeyUsage::KEY_CERT_SIGN)
    }

    /// The content of the subject key identifier.
    pub(crate) fn subject_key_identifier(&self) -> Option<&[u8]> {
        self.0.extensions.subject_key_identifier.as_deref()
    }

    /// Checks that `issuer` signed this certificate: its subject is the issuer that is named here,
    /// octet for octet, and the signature (RSASSA-PKCS1-v1_5 or RSASSA-PSS, SHA-256) is by its key.
    ///
    /// Neither the time nor whether `issuer` may issue certificates is looked at: this is for
    /// pinned issuers. For all others there is [`chain::verify`](crate::chain::verify).
    pub fn verify_issued_by(&self, issuer: &Self) -> Result<(), NotIssued> {
        self.verify_issued_by_with(issuer, |scheme, message, signature| {
            issuer.public_key().verify(scheme, message, signature)
        })
    }

    /// As [`Self::verify_issued_by`]; `verify` is given the scheme, the signed octets and the signature.
    pub(crate) fn verify_issued_by_with(
        &self,
        issuer: &Self,
        verify: impl FnOnce(SignatureScheme, &[u8], &[u8]) -> Result<(), CryptoError>,
    ) -> Result<(), NotIssued> {
        if self.issuer_der() != issuer.subject_der() {
            return Err(NotIssued::Name {
                expected: self.issuer().to_owned(),
                found: issuer.subject().to_owned(),
            });
        }
        match self.0.signature_algorithm {
            SignatureAlgorithm::Known(scheme) => {
                verify(scheme, self.to_be_signed(), &self.0.signature)
                    .map_err(|_| NotIssued::Signature)
            }
            SignatureAlgorithm::Unknown(oid) => Err(NotIssued::UnsupportedAlgorithm(oid)),
        }
    }

    fn to_be_signed(&self) -> &[u8] {
        // The range was measured on these octets when they were parsed.
        self.0.der.get(self.0.to_be_signed.clone()).unwrap_or(&[])
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "Certificate({}, {})",
            self.subject(),
            self.thumbprint()
        )
    }
}
