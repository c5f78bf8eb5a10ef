//! The octets of a certificate.

use const_oid::AssociatedOid;
use const_oid::db::rfc4519::COMMON_NAME;
use der::asn1::{Any, AnyRef, BitStringRef, OctetString};
use der::{DateTime, Decode, Encode, Tag};
use hgs_crypto::hash::sha256;
use rustls_pki_types::alg_id;
use spki::SubjectPublicKeyInfoRef;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectKeyIdentifier,
};
use x509_cert::name::{RdnSequence, RelativeDistinguishedName};

use super::{Expected, Extension, IssueError, SubjectKey};
use crate::Time;
use crate::structure::{Certificate, TbsCertificate, Validity};

/// `AlgorithmIdentifier` of sha256WithRSAEncryption, RFC 4055 section 5.
fn signature_algorithm() -> der::Result<AnyRef<'static>> {
    AnyRef::new(Tag::Sequence, &alg_id::RSA_PKCS1_SHA256)
}

pub(super) fn to_be_signed(wanted: &Expected) -> Result<Vec<u8>, IssueError> {
    let spki = SubjectPublicKeyInfoRef::from_der(wanted.subject_key.spki_der())?;
    let certificate = TbsCertificate {
        version: 2,
        serial_number: AnyRef::new(Tag::Integer, &wanted.serial_number)?,
        signature: signature_algorithm()?,
        issuer: AnyRef::from_der(&wanted.issuer)?,
        validity: Validity {
            not_before: time(wanted.template.validity.not_before)?,
            not_after: time(wanted.template.validity.not_after)?,
        },
        subject: AnyRef::from_der(&wanted.subject)?,
        subject_public_key_info: spki,
        issuer_unique_id: None,
        subject_unique_id: None,
        extensions: Some(extensions(wanted)?),
    };
    Ok(certificate.to_der()?)
}

pub(super) fn certificate(to_be_signed: &[u8], signature: &[u8]) -> Result<Vec<u8>, IssueError> {
    let certificate = Certificate {
        to_be_signed: AnyRef::from_der(to_be_signed)?,
        signature_algorithm: signature_algorithm()?,
        signature: BitStringRef::from_bytes(signature)?,
    };
    Ok(certificate.to_der()?)
}

/// A name of nothing but a common name.
pub(super) fn common_name(text: &str) -> Result<Vec<u8>, IssueError> {
    let attribute = AttributeTypeAndValue {
        oid: COMMON_NAME,
        value: Any::new(Tag::Utf8String, text.as_bytes())?,
    };
    let mut name = RdnSequence::default();
    name.push(RelativeDistinguishedName::try_from(vec![attribute])?);
    Ok(name.to_der()?)
}

fn time(time: Time) -> Result<x509_cert::time::Time, IssueError> {
    // `prepare` refused times before 1970.
    let seconds = u64::try_from(time.unix()).unwrap_or(0);
    Ok(DateTime::from_unix_duration(std::time::Duration::from_secs(seconds))?.into())
}

fn extensions(wanted: &Expected) -> Result<Vec<x509_cert::ext::Extension>, IssueError> {
    let template = &wanted.template;
    let constraints = BasicConstraints {
        ca: template.certificate_authority,
        path_len_constraint: template.certificate_authority.then_some(0),
    };
    let mut all = vec![
        extension(true, &constraints)?,
        extension(true, &KeyUsage(template.key_usage.to_flags()))?,
    ];
    if !template.extended_key_usage.is_empty() {
        let purposes = ExtendedKeyUsage(template.extended_key_usage.clone());
        all.push(extension(false, &purposes)?);
    }
    let identifier = SubjectKeyIdentifier(OctetString::new(key_identifier(&wanted.subject_key)?)?);
    all.push(extension(false, &identifier)?);
    if let Some(identifier) = &wanted.authority_key_identifier {
        let identifier = AuthorityKeyIdentifier {
            key_identifier: Some(OctetString::new(identifier.as_slice())?),
            ..AuthorityKeyIdentifier::default()
        };
        all.push(extension(false, &identifier)?);
    }
    for further in &template.extensions {
        add(&mut all, further)?;
    }
    Ok(all)
}

fn extension<T: Encode + AssociatedOid>(
    critical: bool,
    content: &T,
) -> Result<x509_cert::ext::Extension, IssueError> {
    Ok(x509_cert::ext::Extension {
        extn_id: T::OID,
        critical,
        extn_value: OctetString::new(content.to_der()?)?,
    })
}

fn add(all: &mut Vec<x509_cert::ext::Extension>, further: &Extension) -> Result<(), IssueError> {
    if all.iter().any(|extension| extension.extn_id == further.oid) {
        return Err(IssueError::DuplicateExtension(further.oid));
    }
    all.push(x509_cert::ext::Extension {
        extn_id: further.oid,
        critical: further.critical,
        extn_value: OctetString::new(further.der.clone())?,
    });
    Ok(())
}

/// RFC 7093 section 2, method 1: the first 160 bits of SHA-256 of the key's bit string.
fn key_identifier(key: &SubjectKey) -> Result<Vec<u8>, IssueError> {
    let spki = SubjectPublicKeyInfoRef::from_der(key.spki_der())?;
    let digest = sha256(spki.subject_public_key.raw_bytes());
    Ok(digest.iter().take(20).copied().collect())
}
