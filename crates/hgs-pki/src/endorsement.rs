//! EK certificates: what the maker of a TPM certifies about its endorsement key (TCG EK Credential Profile 2.x).
//!
//! ```text
//! octets of the NV index, DER or PEM -> EndorsementCertificate   (form, profile, strength of the key)
//!     EndorsementRoots::verify(certificate, public, intermediates, when)
//!         -> VerifiedEndorsement    (a path to a trusted maker, over this very key)
//! ```
//!
//! Path building is not that of [`chain`](crate::chain): makers of TPMs sign with elliptic curves too, mark their policies as critical,
//! which `rustls-webpki` refuses, and leave the subject empty. The signatures are verified by the same library.
//! SHA-1 is not accepted, though the oldest makers' certificates are signed with it: an administrator can trust such an
//! intermediate certificate itself, for then nothing depends on its signature.
//!
//! What is not looked at: revocation lists, and what certificates say about the TPM's evaluation. Manufacturer, model and version are
//! facts to show; nothing is decided by them.

mod authority;
mod error;
mod roots;

use std::fmt;
use std::sync::Arc;

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5280::{
    ID_CE_AUTHORITY_KEY_IDENTIFIER, ID_CE_BASIC_CONSTRAINTS, ID_CE_CERTIFICATE_POLICIES,
    ID_CE_CRL_DISTRIBUTION_POINTS, ID_CE_EXT_KEY_USAGE, ID_CE_KEY_USAGE, ID_CE_SUBJECT_ALT_NAME,
    ID_CE_SUBJECT_DIRECTORY_ATTRIBUTES, ID_CE_SUBJECT_KEY_IDENTIFIER, ID_PE_AUTHORITY_INFO_ACCESS,
};
use der::asn1::{PrintableStringRef, Utf8StringRef};
use hgs_crypto::rsa::PublicKey;
use x509_cert::attr::AttributeValue;
use x509_cert::ext::pkix::name::GeneralName;

pub use self::authority::EndorsementAuthority;
pub use self::error::{
    EndorsementAuthorityError, EndorsementCertificateError, EndorsementTrustError,
};
pub use self::roots::{EndorsementRoots, MAX_PATH_INTERMEDIATES, VerifiedEndorsement};
use crate::certificate::{AnyKeyCertificate, printable};
use crate::extension::Extensions;
use crate::{CertificateError, KeyUsage, PemError, Thumbprint, Validity, Version, pem};

/// tcg-kp-EKCertificate: the purpose of an EK certificate, and of authorities that issue nothing else.
pub const TCG_KP_EK_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.8.1");
/// Octets of the longest input that is read as one EK certificate: the largest certificate in PEM, or the largest NV index.
pub const MAX_ENDORSEMENT_OCTETS: usize = 64 * 1024;

pub(crate) const TPM_MANUFACTURER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.2.1");
pub(crate) const TPM_MODEL: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.2.2");
pub(crate) const TPM_VERSION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.2.3");
/// anyExtendedKeyUsage, RFC 5280 section 4.2.1.12.
const ANY_EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");

/// Extensions that may be critical: those that are acted on here, and those whose being ignored grants nothing.
/// Policies restrict nobody who asks for none (RFC 5280 section 6.1.1, no initial-explicit-policy).
const RECOGNISED: [ObjectIdentifier; 10] = [
    ID_CE_AUTHORITY_KEY_IDENTIFIER,
    ID_CE_BASIC_CONSTRAINTS,
    ID_CE_CERTIFICATE_POLICIES,
    ID_CE_CRL_DISTRIBUTION_POINTS,
    ID_CE_EXT_KEY_USAGE,
    ID_CE_KEY_USAGE,
    ID_CE_SUBJECT_ALT_NAME,
    ID_CE_SUBJECT_DIRECTORY_ATTRIBUTES,
    ID_CE_SUBJECT_KEY_IDENTIFIER,
    ID_PE_AUTHORITY_INFO_ACCESS,
];

/// The certificate of a TPM's RSA endorsement key. Its form, its purpose and the strength of its key are checked; whether it can be
/// trusted is for [`EndorsementRoots::verify`] to say.
///
/// Cloning shares the contents.
#[derive(Clone)]
pub struct EndorsementCertificate(Arc<Contents>);

struct Contents {
    certificate: AnyKeyCertificate,
    public_key: PublicKey,
    tpm: TpmModel,
}

/// What an EK certificate says about the TPM, as text of its maker with control characters escaped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TpmModel {
    /// The manufacturer: usually `id:` and eight hexadecimal digits, four characters of ASCII.
    pub manufacturer: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// The version of the firmware: usually `id:` and eight hexadecimal digits.
    pub version: Option<String>,
}

impl EndorsementCertificate {
    /// Reads the one certificate in `octets`: PEM; or DER, which may be followed by octets that are all 0x00 or all 0xFF, as
    /// they fill the rest of an NV index.
    pub fn from_octets(octets: &[u8]) -> Result<Self, EndorsementCertificateError> {
        if octets.len() > MAX_ENDORSEMENT_OCTETS {
            return Err(EndorsementCertificateError::TooLarge(octets.len()));
        }
        if !is_pem(octets) {
            return Self::from_der(without_padding(octets)?);
        }
        let blocks = certificate_blocks(octets)?;
        match blocks.as_slice() {
            [block] => Self::from_der(block.octets.expose()),
            [] => Err(PemError::NoCertificate.into()),
            several => Err(PemError::SeveralCertificates(several.len()).into()),
        }
    }

    fn from_der(der: &[u8]) -> Result<Self, EndorsementCertificateError> {
        let certificate = AnyKeyCertificate::from_der(der)?;
        // First, so that a key on a curve is refused as one, and not because it agrees on keys.
        let public_key = certificate.rsa_key()?;
        check_profile(&certificate)?;
        Ok(Self(Arc::new(Contents {
            public_key,
            tpm: TpmModel::read(&certificate.extensions)?,
            certificate,
        })))
    }

    /// The octets of the certificate, without padding.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0.certificate.der
    }

    /// SHA-256 of [`Self::der`].
    #[must_use]
    pub fn thumbprint(&self) -> Thumbprint {
        Thumbprint::of(self.der())
    }

    /// The endorsement key.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.0.public_key
    }

    /// What it says about the TPM.
    #[must_use]
    pub fn tpm(&self) -> &TpmModel {
        &self.0.tpm
    }

    /// When it is valid.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.0.certificate.validity
    }

    /// The subject's name, which is often empty.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.0.certificate.subject.text()
    }

    /// The issuer's name.
    #[must_use]
    pub fn issuer(&self) -> &str {
        self.0.certificate.issuer.text()
    }

    /// The textual encoding of RFC 7468, with a final line feed.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::encode("CERTIFICATE", self.der())
    }
}

impl PartialEq for EndorsementCertificate {
    fn eq(&self, other: &Self) -> bool {
        self.der() == other.der()
    }
}

impl Eq for EndorsementCertificate {}

impl fmt::Debug for EndorsementCertificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "EndorsementCertificate({})", self.thumbprint())
    }
}

/// What the profile asks of a certificate, as far as trust depends on it.
fn check_profile(certificate: &AnyKeyCertificate) -> Result<(), EndorsementCertificateError> {
    let extensions = &certificate.extensions;
    if certificate.version != Version::V3 {
        return Err(EndorsementCertificateError::Version1);
    }
    if extensions.certificate_authority || is_signing_certificates(extensions) {
        return Err(EndorsementCertificateError::CertificateAuthority);
    }
    if !certificate.allows(KeyUsage::KEY_ENCIPHERMENT) {
        return Err(EndorsementCertificateError::KeyUsage);
    }
    if !is_for_endorsement(extensions) {
        return Err(EndorsementCertificateError::ExtendedKeyUsage);
    }
    if certificate.subject.text().is_empty() {
        let names = extensions.find(&ID_CE_SUBJECT_ALT_NAME);
        if !names.is_some_and(|names| names.critical) {
            return Err(EndorsementCertificateError::NoName);
        }
    }
    match unrecognised_critical(extensions) {
        Some(oid) => Err(EndorsementCertificateError::UnknownCriticalExtension(oid)),
        None => Ok(()),
    }
}

/// Whether the key usage says that the key signs certificates.
fn is_signing_certificates(extensions: &Extensions) -> bool {
    let usages = extensions.key_usage;
    usages.is_some_and(|usages| usages.contains(KeyUsage::KEY_CERT_SIGN))
}

/// Whether the extended key usage, where there is one, allows EK certificates.
fn is_for_endorsement(extensions: &Extensions) -> bool {
    let purposes = extensions.extended_key_usage.as_deref();
    purposes.is_none_or(|purposes| {
        purposes.contains(&TCG_KP_EK_CERTIFICATE) || purposes.contains(&ANY_EXTENDED_KEY_USAGE)
    })
}

/// A critical extension that is not known here.
fn unrecognised_critical(extensions: &Extensions) -> Option<ObjectIdentifier> {
    let mut all = extensions.all().iter();
    all.find(|extension| extension.critical && !RECOGNISED.contains(&extension.oid))
        .map(|extension| extension.oid)
}

/// DER begins with 0x30, which is the digit 0: no PEM that people write begins with it.
fn is_pem(octets: &[u8]) -> bool {
    let begin = b"-----BEGIN ";
    octets.first() != Some(&0x30) && octets.windows(begin.len()).any(|part| part == begin)
}

fn certificate_blocks(text: &[u8]) -> Result<Vec<pem::Block>, PemError> {
    let mut blocks = pem::blocks(text)?;
    blocks.retain(|block| pem::is_certificate(&block.label));
    Ok(blocks)
}

/// The octets of one DER value without those that fill the rest of an NV index.
fn without_padding(octets: &[u8]) -> Result<&[u8], EndorsementCertificateError> {
    let is_padding = |rest: &[u8]| {
        rest.iter().all(|octet| *octet == 0xff) || rest.iter().all(|octet| *octet == 0)
    };
    if is_padding(octets) {
        return Err(EndorsementCertificateError::Absent);
    }
    // What has no length that can be read is refused by the parser, with its reason.
    match octets.split_at_checked(der_length(octets).unwrap_or(octets.len())) {
        Some((der, rest)) if is_padding(rest) => Ok(der),
        Some(_) => Err(CertificateError::TrailingOctets.into()),
        None => Ok(octets),
    }
}

/// How many octets a DER SEQUENCE takes that `octets` begin with, by its own account.
fn der_length(octets: &[u8]) -> Option<usize> {
    let [0x30, first, rest @ ..] = octets else {
        return None;
    };
    match (first, rest) {
        (0..=0x7f, _) => Some(2 + usize::from(*first)),
        (0x81, [length, ..]) => Some(3 + usize::from(*length)),
        (0x82, [high, low, ..]) => Some(4 + usize::from(u16::from_be_bytes([*high, *low]))),
        _ => None,
    }
}

impl TpmModel {
    /// Reads it from the directory names of subjectAltName. An attribute that stands there twice says nothing certain.
    fn read(extensions: &Extensions) -> Result<Self, CertificateError> {
        let malformed = CertificateError::MalformedExtension(ID_CE_SUBJECT_ALT_NAME);
        let mut model = Self::default();
        for name in extensions.alternative_names()? {
            let GeneralName::DirectoryName(name) = name else {
                continue;
            };
            for attribute in name.iter() {
                let place = match attribute.oid {
                    TPM_MANUFACTURER => &mut model.manufacturer,
                    TPM_MODEL => &mut model.model,
                    TPM_VERSION => &mut model.version,
                    _ => continue,
                };
                let text = directory_string(&attribute.value).ok_or(malformed)?;
                if place.replace(printable(text)).is_some() {
                    return Err(malformed);
                }
            }
        }
        Ok(model)
    }

    /// The manufacturer's four characters in the TCG Vendor ID Registry, such as `INTC`, where the certificate has them as a number.
    #[must_use]
    pub fn manufacturer_code(&self) -> Option<String> {
        let digits = self.manufacturer.as_deref()?.strip_prefix("id:")?;
        let octets = hgs_crypto::hex::decode(digits)?;
        let text = std::str::from_utf8(&octets)
            .ok()?
            .trim_end_matches(['\0', ' ']);
        let is_code = octets.len() == 4 && text.chars().all(|c| c.is_ascii_alphanumeric());
        (is_code && !text.is_empty()).then(|| text.to_owned())
    }
}

fn directory_string(value: &AttributeValue) -> Option<&str> {
    let text = value
        .decode_as::<Utf8StringRef<'_>>()
        .map(|text| text.as_str());
    let text = text.or_else(|_| {
        value
            .decode_as::<PrintableStringRef<'_>>()
            .map(|text| text.as_str())
    });
    text.ok()
}
