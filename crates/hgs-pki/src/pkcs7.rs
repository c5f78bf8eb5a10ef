//! Certs-only PKCS#7: the degenerate `SignedData` of RFC 5652 that signs nothing and carries
//! certificates. Attestation servers publish their signers so.

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5911::{ID_DATA, ID_SIGNED_DATA};
use der::asn1::AnyRef;
use der::{Decode, Encode, Reader, Sequence, SliceReader, Tag, TagNumber, Tagged};

use crate::{Certificate, CertificateError};

/// Octets of the largest bundle that is read.
pub const MAX_OCTETS: usize = 256 * 1024;
/// Certificates that one bundle may carry.
pub const MAX_CERTIFICATES: usize = 64;

/// Why octets are not an acceptable bundle of certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Pkcs7Error {
    /// More than [`MAX_OCTETS`].
    #[error("PKCS#7 bundle has {0} octets; {MAX_OCTETS} are accepted")]
    TooLarge(usize),
    /// Not the DER of a `ContentInfo`.
    #[error("not a PKCS#7 bundle in DER: {0}")]
    Malformed(#[from] der::Error),
    /// Octets follow the bundle.
    #[error("octets follow the PKCS#7 bundle")]
    TrailingOctets,
    /// The content is something else than `SignedData`.
    #[error("PKCS#7 content is {0}, not signed data")]
    NotSignedData(ObjectIdentifier),
    /// It has content or signatures; only bundles of certificates are read.
    #[error("PKCS#7 holds signed content, not only certificates")]
    NotCertificatesOnly,
    /// More than [`MAX_CERTIFICATES`].
    #[error("PKCS#7 bundle holds more than {MAX_CERTIFICATES} certificates")]
    TooManyCertificates,
    /// A certificate is not acceptable.
    #[error("certificate {number} of the PKCS#7 bundle: {error}")]
    Certificate {
        /// Which certificate, counted from 1.
        number: usize,
        /// The reason.
        error: CertificateError,
    },
}

/// ```text
/// ContentInfo ::= SEQUENCE {
///     contentType ContentType,
///     content [0] EXPLICIT ANY DEFINED BY contentType }
/// ```
#[derive(Sequence)]
struct ContentInfo<'a> {
    content_type: ObjectIdentifier,
    #[asn1(context_specific = "0")]
    content: AnyRef<'a>,
}

/// ```text
/// SignedData ::= SEQUENCE {
///     version CMSVersion,
///     digestAlgorithms DigestAlgorithmIdentifiers,
///     encapContentInfo EncapsulatedContentInfo,
///     certificates [0] IMPLICIT CertificateSet OPTIONAL,
///     crls [1] IMPLICIT RevocationInfoChoices OPTIONAL,
///     signerInfos SignerInfos }
/// ```
///
/// The optional parts are kept as they stand, tag included.
struct SignedData<'a> {
    digest_algorithms: AnyRef<'a>,
    encapsulated_content: EncapsulatedContent<'a>,
    certificates: Option<AnyRef<'a>>,
    signer_infos: AnyRef<'a>,
}

/// ```text
/// EncapsulatedContentInfo ::= SEQUENCE {
///     eContentType ContentType,
///     eContent [0] EXPLICIT OCTET STRING OPTIONAL }
/// ```
#[derive(Sequence)]
struct EncapsulatedContent<'a> {
    content_type: ObjectIdentifier,
    #[asn1(context_specific = "0", optional = "true")]
    content: Option<AnyRef<'a>>,
}

const CERTIFICATES: Tag = implicit(TagNumber(0));
const REVOCATION_LISTS: Tag = implicit(TagNumber(1));

const fn implicit(number: TagNumber) -> Tag {
    Tag::ContextSpecific {
        constructed: true,
        number,
    }
}

/// The DER of a bundle of `certificates`. It is a set: sorted, and without repetitions.
#[must_use]
pub fn certificates_only(certificates: &[Certificate]) -> Vec<u8> {
    let mut set: Vec<&[u8]> = certificates.iter().map(Certificate::der).collect();
    set.sort_unstable();
    set.dedup();
    // DER is written up to 256 MiB, and that would be 16,384 certificates of the largest size.
    encode(&set.concat()).expect("a bundle of so few certificates can be encoded")
}

fn encode(certificates: &[u8]) -> der::Result<Vec<u8>> {
    let empty = AnyRef::new(Tag::Set, &[])?;
    let content = EncapsulatedContent {
        content_type: ID_DATA,
        content: None,
    };
    let certificates = AnyRef::new(CERTIFICATES, certificates)?;
    let parts = [
        1u8.to_der()?,
        empty.to_der()?,
        content.to_der()?,
        certificates.to_der()?,
        empty.to_der()?,
    ]
    .concat();
    let info = ContentInfo {
        content_type: ID_SIGNED_DATA,
        content: AnyRef::new(Tag::Sequence, &parts)?,
    };
    info.to_der()
}

/// Reads a bundle: at most [`MAX_OCTETS`] and [`MAX_CERTIFICATES`], without content and signers.
/// Revocation lists, which some tools add, are skipped. The certificates come in the order in
/// which they stand. None of them is verified.
pub fn parse(octets: &[u8]) -> Result<Vec<Certificate>, Pkcs7Error> {
    if octets.len() > MAX_OCTETS {
        return Err(Pkcs7Error::TooLarge(octets.len()));
    }
    let mut reader = SliceReader::new(octets)?;
    let info: ContentInfo<'_> = reader.decode()?;
    if !reader.is_finished() {
        return Err(Pkcs7Error::TrailingOctets);
    }
    if info.content_type != ID_SIGNED_DATA {
        return Err(Pkcs7Error::NotSignedData(info.content_type));
    }
    let signed = SignedData::read(info.content)?;
    if !signed.is_certificates_only() {
        return Err(Pkcs7Error::NotCertificatesOnly);
    }
    match signed.certificates {
        Some(set) => read_certificates(set.value()),
        None => Ok(Vec::new()),
    }
}

impl<'a> SignedData<'a> {
    fn read(content: AnyRef<'a>) -> der::Result<Self> {
        content.sequence(|parts| {
            u8::decode(parts)?;
            Ok(Self {
                digest_algorithms: AnyRef::decode(parts)?,
                encapsulated_content: EncapsulatedContent::decode(parts)?,
                certificates: read_optional(parts, CERTIFICATES)?,
                signer_infos: {
                    read_optional(parts, REVOCATION_LISTS)?;
                    AnyRef::decode(parts)?
                },
            })
        })
    }

    fn is_certificates_only(&self) -> bool {
        let empty_set = |set: AnyRef<'_>| set.tag() == Tag::Set && set.value().is_empty();
        empty_set(self.digest_algorithms)
            && self.encapsulated_content.content_type == ID_DATA
            && self.encapsulated_content.content.is_none()
            && empty_set(self.signer_infos)
    }
}

fn read_optional<'a>(reader: &mut SliceReader<'a>, tag: Tag) -> der::Result<Option<AnyRef<'a>>> {
    match Tag::peek(reader)? == tag {
        true => AnyRef::decode(reader).map(Some),
        false => Ok(None),
    }
}

fn read_certificates(set: &[u8]) -> Result<Vec<Certificate>, Pkcs7Error> {
    let mut reader = SliceReader::new(set)?;
    let mut certificates = Vec::new();
    while !reader.is_finished() {
        let number = certificates.len() + 1;
        if number > MAX_CERTIFICATES {
            return Err(Pkcs7Error::TooManyCertificates);
        }
        let certificate = Certificate::from_der(reader.tlv_bytes()?)
            .map_err(|error| Pkcs7Error::Certificate { number, error })?;
        certificates.push(certificate);
    }
    Ok(certificates)
}
