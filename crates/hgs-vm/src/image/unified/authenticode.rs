//! The signature of an image: SpcIndirectDataContent with the image's digest, in a SignedData of PKCS#7.

use hgs_crypto::hash::sha256;
use hgs_crypto::rsa::SignatureScheme;
use hgs_pki::{Certificate, KeyError, KeyWork};
use hgs_tcg::image::{ImageError as PeError, PeImage};

// Object identifiers in DER.
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
const SPC_INDIRECT_DATA: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x01, 0x04];
const SPC_PE_IMAGE_DATA: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x01, 0x0f];

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const NULL: u8 = 0x05;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// Context-specific and constructed, number 0.
const CONTEXT_0: u8 = 0xa0;
const CONTEXT_2: u8 = 0xa2;

/// WIN_CERTIFICATE: revision 2.0, PKCS#7 SignedData.
const WIN_CERTIFICATE: [u8; 4] = [0x00, 0x02, 0x02, 0x00];

/// Who signs an image.
#[expect(missing_debug_implementations, reason = "work with keys shows nothing")]
pub struct Signer<'a> {
    /// The certificate, which the firmware's db has.
    pub certificate: &'a Certificate,
    /// The key of it.
    pub keys: &'a mut dyn KeyWork,
}

/// Why an image is not signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SigningError {
    /// It is no image.
    #[error(transparent)]
    Image(#[from] PeError),
    /// It has a signature.
    #[error("the image is signed already")]
    Signed,
    /// The key can't be used.
    #[error("the key of the Secure Boot signature: {0}")]
    Key(#[from] KeyError),
    /// The signature is not that of the certificate's key.
    #[error("the key does not belong to the certificate of the Secure Boot signature")]
    OtherKey,
}

/// Appends a signature to an unsigned image, whose length may grow by up to seven zeros before it.
///
/// # Errors
/// When it is signed already, or the key does no work.
pub fn sign(mut image: Vec<u8>, signer: &mut Signer<'_>) -> Result<Vec<u8>, SigningError> {
    image.resize(image.len().next_multiple_of(8), 0);
    let parsed = PeImage::parse(&image)?;
    if !parsed.certificates().is_empty() {
        return Err(SigningError::Signed);
    }
    let digest = parsed.authenticode_sha256().as_it_is;
    let signed = signed_data(&digest, signer)?;
    let length = (8 + signed.len()).next_multiple_of(8);
    let too_long = |_| SigningError::Image(PeError::TooLong(image.len()));
    let place = u32::try_from(image.len()).map_err(too_long)?;
    let size = u32::try_from(length).map_err(too_long)?;
    let entry = certificate_entry(&image);
    image[entry..entry + 4].copy_from_slice(&place.to_le_bytes());
    image[entry + 4..entry + 8].copy_from_slice(&size.to_le_bytes());
    image.extend(size.to_le_bytes());
    image.extend(WIN_CERTIFICATE);
    image.extend(signed);
    image.resize(image.len().next_multiple_of(8), 0);
    Ok(image)
}

/// The place of data directory entry 4, in an image that the reader has accepted.
fn certificate_entry(image: &[u8]) -> usize {
    let header = image[0x3c..].first_chunk().copied().map(u32::from_le_bytes);
    let optional = header.unwrap_or_default() as usize + 24;
    match image[optional..optional + 2] {
        [0x0b, 0x01] => optional + 96 + 32,
        _ => optional + 112 + 32,
    }
}

fn signed_data(digest: &[u8], signer: &mut Signer<'_>) -> Result<Vec<u8>, SigningError> {
    let content = indirect_data(digest);
    let attributes = {
        let content_type = [oid(CONTENT_TYPE), tlv(SET, &oid(SPC_INDIRECT_DATA))].concat();
        // The digest is that of the value, without its tag and length (PKCS#7 9.3).
        let of_value = sha256(value(&content));
        let message_digest =
            [oid(MESSAGE_DIGEST), tlv(SET, &tlv(OCTET_STRING, &of_value))].concat();
        [tlv(SEQUENCE, &content_type), tlv(SEQUENCE, &message_digest)].concat()
    };
    let signature = {
        let scheme = SignatureScheme::Pkcs1Sha256;
        let message = tlv(SET, &attributes);
        let certificate = signer.certificate;
        let signature = signer
            .keys
            .sign(&certificate.thumbprint(), scheme, &message)?;
        let verified = certificate
            .public_key()
            .verify(scheme, &message, &signature);
        verified.map_err(|_| SigningError::OtherKey)?;
        signature
    };
    let version = tlv(INTEGER, &[1]);
    let certificate = signer.certificate;
    let serial = tlv(INTEGER, certificate.serial_number());
    let signer_info = [
        version.clone(),
        tlv(SEQUENCE, &[certificate.issuer_der(), &serial].concat()),
        algorithm(SHA256),
        tlv(CONTEXT_0, &attributes),
        algorithm(RSA_ENCRYPTION),
        tlv(OCTET_STRING, &signature),
    ];
    let signed = [
        version,
        tlv(SET, &algorithm(SHA256)),
        tlv(
            SEQUENCE,
            &[oid(SPC_INDIRECT_DATA), tlv(CONTEXT_0, &content)].concat(),
        ),
        tlv(CONTEXT_0, certificate.der()),
        tlv(SET, &tlv(SEQUENCE, &signer_info.concat())),
    ];
    let signed = tlv(CONTEXT_0, &tlv(SEQUENCE, &signed.concat()));
    Ok(tlv(SEQUENCE, &[oid(SIGNED_DATA), signed].concat()))
}

/// SpcIndirectDataContent with an empty SpcPeImageData.
fn indirect_data(digest: &[u8]) -> Vec<u8> {
    // file [0] SpcLink: file [2] SpcString: unicode [0], empty.
    let file = tlv(CONTEXT_0, &tlv(CONTEXT_2, &tlv(0x80, &[])));
    let image = tlv(SEQUENCE, &[tlv(BIT_STRING, &[0]), file].concat());
    let data = tlv(SEQUENCE, &[oid(SPC_PE_IMAGE_DATA), image].concat());
    let digest = tlv(
        SEQUENCE,
        &[algorithm(SHA256), tlv(OCTET_STRING, digest)].concat(),
    );
    tlv(SEQUENCE, &[data, digest].concat())
}

fn algorithm(identifier: &[u8]) -> Vec<u8> {
    tlv(SEQUENCE, &[oid(identifier), tlv(NULL, &[])].concat())
}

fn oid(identifier: &[u8]) -> Vec<u8> {
    tlv(OBJECT_IDENTIFIER, identifier)
}

fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len().to_be_bytes();
    let significant = length
        .iter()
        .position(|octet| *octet != 0)
        .unwrap_or(length.len() - 1);
    let length = &length[significant..];
    let mut octets = vec![tag];
    if value.len() >= 0x80 {
        octets.push(0x80 | length.len() as u8);
    }
    octets.extend(length);
    octets.extend(value);
    octets
}

/// The value of what [`tlv`] made.
fn value(octets: &[u8]) -> &[u8] {
    match octets[1] {
        long if long & 0x80 != 0 => &octets[2 + usize::from(long & 0x7f)..],
        _ => &octets[2..],
    }
}
