//! From DER to the contents of a certificate; the cheap checks come before the expensive ones.

use std::fmt::Write as _;
use std::sync::OnceLock;

use const_oid::db::rfc5912::{ID_RSAES_OAEP, RSA_ENCRYPTION};
use der::asn1::{AnyRef, BitStringRef, IntRef};
use der::{Decode, Encode, ErrorKind, Reader, SliceReader};
use hgs_crypto::rsa::{PublicKey, SignatureScheme};
use rustls_pki_types::alg_id;
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};
use x509_cert::name::Name;

use super::{
    AnyKeyCertificate, CertificateNames, Contents, DistinguishedName, SignatureAlgorithm,
    TlsCertificate, Validity, Version,
};
use crate::certificate_error::{CertificateError, MAX_CERTIFICATE_OCTETS};
use crate::extension::Extensions;
use crate::structure::{self, TbsCertificate};
use crate::{Thumbprint, Time};

/// Everything but the search of the key for weaknesses. Of a key that is `known` by its octets nothing is read again.
pub(super) fn certificate(
    der: &[u8],
    known: Option<&PublicKey>,
) -> Result<Contents, CertificateError> {
    if der.len() > MAX_CERTIFICATE_OCTETS {
        return Err(CertificateError::TooLarge(der.len()));
    }
    let outer = Outer::read(der)?;
    let inner = TbsCertificate::from_der(outer.to_be_signed)?;
    if inner.to_der()? != outer.to_be_signed {
        return Err(CertificateError::NotCanonical);
    }
    let version = version(inner.version)?;
    if inner.signature.to_der()? != outer.signature_algorithm {
        return Err(CertificateError::SignatureAlgorithmMismatch);
    }
    let extensions = extensions(version, inner.extensions)?;
    Ok(Contents {
        thumbprint: Thumbprint::of(der),
        to_be_signed: outer.to_be_signed_at..outer.to_be_signed_at + outer.to_be_signed.len(),
        signature_algorithm: signature_algorithm(inner.signature)?,
        signature: outer.signature.to_vec(),
        version,
        serial_number: serial_number(inner.serial_number)?,
        issuer: distinguished_name(inner.issuer)?,
        subject: distinguished_name(inner.subject)?,
        validity: period(&inner.validity),
        extensions,
        public_key: public_key(&inner.subject_public_key_info, known)?,
        der: der.to_vec(),
    })
}

pub(super) fn validity(der: &[u8]) -> Result<Validity, CertificateError> {
    if der.len() > MAX_CERTIFICATE_OCTETS {
        return Err(CertificateError::TooLarge(der.len()));
    }
    let inner = TbsCertificate::from_der(Outer::read(der)?.to_be_signed)?;
    Ok(period(&inner.validity))
}

/// See [`TlsCertificate::from_der`].
pub(super) fn tls_certificate(der: &[u8]) -> Result<TlsCertificate, CertificateError> {
    if der.len() > MAX_CERTIFICATE_OCTETS {
        return Err(CertificateError::TooLarge(der.len()));
    }
    let inner = TbsCertificate::from_der(Outer::read(der)?.to_be_signed)?;
    let extensions = extensions(version(inner.version)?, inner.extensions)?;
    Ok(TlsCertificate {
        validity: period(&inner.validity),
        is_certificate_authority: extensions.certificate_authority,
        dns_names: extensions.dns_names()?,
    })
}

/// See [`CertificateNames::from_der`].
pub(super) fn names(der: &[u8]) -> Result<CertificateNames, CertificateError> {
    let inner = TbsCertificate::from_der(Outer::read(der)?.to_be_signed)?;
    Ok(CertificateNames {
        issuer: inner.issuer.to_der()?,
        subject: inner.subject.to_der()?,
        extensions: extensions(version(inner.version)?, inner.extensions)?,
    })
}

/// See [`AnyKeyCertificate::from_der`].
pub(super) fn any_key(der: &[u8]) -> Result<AnyKeyCertificate, CertificateError> {
    if der.len() > MAX_CERTIFICATE_OCTETS {
        return Err(CertificateError::TooLarge(der.len()));
    }
    let outer = Outer::read(der)?;
    let inner = TbsCertificate::from_der(outer.to_be_signed)?;
    let version = version(inner.version)?;
    if inner.signature.to_der()? != outer.signature_algorithm {
        return Err(CertificateError::SignatureAlgorithmMismatch);
    }
    serial_number(inner.serial_number)?;
    let key = &inner.subject_public_key_info;
    Ok(AnyKeyCertificate {
        to_be_signed: outer.to_be_signed_at..outer.to_be_signed_at + outer.to_be_signed.len(),
        signature_oid: inner
            .signature
            .decode_as::<AlgorithmIdentifierRef<'_>>()?
            .oid,
        signature_algorithm: inner.signature.value().to_vec(),
        signature: outer.signature.to_vec(),
        version,
        issuer: distinguished_name(inner.issuer)?,
        subject: distinguished_name(inner.subject)?,
        validity: period(&inner.validity),
        key_oid: key.algorithm.oid,
        key_algorithm: AnyRef::from_der(&key.algorithm.to_der()?)?.value().to_vec(),
        key: whole_octets(key.subject_public_key)?.to_vec(),
        extensions: extensions(version, inner.extensions)?,
        der: der.to_vec(),
    })
}

/// See [`AnyKeyCertificate::rsa_key`].
pub(super) fn rsa_key(certificate: &AnyKeyCertificate) -> Result<PublicKey, CertificateError> {
    if ![RSA_ENCRYPTION, ID_RSAES_OAEP].contains(&certificate.key_oid) {
        return Err(CertificateError::UnsupportedKey(certificate.key_oid));
    }
    let key = SubjectPublicKeyInfoRef {
        algorithm: AlgorithmIdentifierRef {
            oid: RSA_ENCRYPTION,
            parameters: Some(AnyRef::NULL),
        },
        subject_public_key: BitStringRef::from_bytes(&certificate.key)?,
    };
    Ok(PublicKey::from_spki_der(&key.to_der()?)?)
}

fn period(encoded: &structure::Validity) -> Validity {
    Validity {
        not_before: time(encoded.not_before),
        not_after: time(encoded.not_after),
    }
}

/// The three parts of a certificate, as they stand in its octets.
struct Outer<'d> {
    to_be_signed: &'d [u8],
    to_be_signed_at: usize,
    signature_algorithm: &'d [u8],
    signature: &'d [u8],
}

impl<'d> Outer<'d> {
    fn read(der: &'d [u8]) -> Result<Self, CertificateError> {
        let mut reader = SliceReader::new(der)?;
        let outer = reader.sequence(|parts| {
            let to_be_signed_at = usize::try_from(parts.position())?;
            let to_be_signed = parts.tlv_bytes()?;
            let signature_algorithm = parts.tlv_bytes()?;
            let signature = whole_octets(BitStringRef::decode(parts)?)?;
            Ok::<_, der::Error>(Self {
                to_be_signed,
                to_be_signed_at,
                signature_algorithm,
                signature,
            })
        })?;
        match reader.is_finished() {
            true => Ok(outer),
            false => Err(CertificateError::TrailingOctets),
        }
    }
}

/// The octets of a bit string that has no loose bits.
fn whole_octets(bits: BitStringRef<'_>) -> Result<&[u8], der::Error> {
    let tag = der::Tag::BitString;
    Ok(bits.as_bytes().ok_or(ErrorKind::Noncanonical { tag })?)
}

fn version(encoded: u8) -> Result<Version, CertificateError> {
    match encoded {
        0 => Ok(Version::V1),
        2 => Ok(Version::V3),
        other => Err(CertificateError::UnsupportedVersion(u16::from(other) + 1)),
    }
}

fn extensions(
    version: Version,
    encoded: Option<Vec<x509_cert::ext::Extension>>,
) -> Result<Extensions, CertificateError> {
    match (version, encoded) {
        (_, None) => Ok(Extensions::default()),
        (Version::V1, Some(_)) => Err(CertificateError::ExtensionsInVersion1),
        (Version::V3, Some(encoded)) => Extensions::parse(encoded),
    }
}

fn serial_number(encoded: AnyRef<'_>) -> Result<Vec<u8>, CertificateError> {
    encoded.decode_as::<IntRef<'_>>()?;
    Ok(encoded.value().to_vec())
}

fn signature_algorithm(encoded: AnyRef<'_>) -> Result<SignatureAlgorithm, CertificateError> {
    let identifier: AlgorithmIdentifierRef<'_> = encoded.decode_as()?;
    let known = [
        (alg_id::RSA_PKCS1_SHA256, SignatureScheme::Pkcs1Sha256),
        (alg_id::RSA_PSS_SHA256, SignatureScheme::PssSha256),
    ];
    let scheme = known
        .into_iter()
        .find(|(content, _)| content.as_ref() == encoded.value());
    Ok(match scheme {
        Some((_, scheme)) => SignatureAlgorithm::Known(scheme),
        None => SignatureAlgorithm::Unknown(identifier.oid),
    })
}

fn public_key(
    encoded: &SubjectPublicKeyInfoRef<'_>,
    known: Option<&PublicKey>,
) -> Result<PublicKey, CertificateError> {
    if encoded.algorithm.oid != RSA_ENCRYPTION {
        return Err(CertificateError::UnsupportedKey(encoded.algorithm.oid));
    }
    let der = encoded.to_der()?;
    match known.filter(|known| known.spki_der() == der) {
        Some(known) => Ok(known.clone()),
        None => Ok(PublicKey::unexamined_from_spki_der(&der)?),
    }
}

fn time(encoded: x509_cert::time::Time) -> Time {
    let seconds = encoded.to_unix_duration().as_secs();
    Time::from_unix(i64::try_from(seconds).unwrap_or(i64::MAX))
}

fn distinguished_name(encoded: AnyRef<'_>) -> Result<DistinguishedName, CertificateError> {
    let der = encoded.to_der()?;
    Name::from_der(&der)?;
    Ok(DistinguishedName {
        der,
        text: OnceLock::new(),
    })
}

/// The text of a name that [`distinguished_name`] has read.
pub(super) fn text_of_name(der: &[u8]) -> String {
    Name::from_der(der).map_or_else(|_| String::new(), |name| printable(&name.to_string()))
}

/// Escapes characters that would act on a terminal or change the direction of text, as RFC 4514 section 2.4 allows:
/// names come from strangers and are shown to administrators.
pub(crate) fn printable(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for character in name.chars() {
        let turns_text = matches!(
            character,
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        );
        if character.is_control() || turns_text {
            let mut octets = [0; 4];
            for octet in character.encode_utf8(&mut octets).bytes() {
                // Writing to a String can't fail.
                let _ = write!(text, "\\{octet:02x}");
            }
        } else {
            text.push(character);
        }
    }
    text
}

impl From<der::Error> for CertificateError {
    fn from(error: der::Error) -> Self {
        Self::Malformed(error)
    }
}
