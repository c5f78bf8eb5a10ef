//! Reading a protector ([MS-KPS] 6.1).

use std::sync::Arc;

use hgs_pki::CertificateCache;
use hgs_xml::{Document, Element, Limits};

use crate::contents::{Contents, MAX_KEY_BITS, MAX_WRAPPINGS};
use crate::form::{self, Signature};
use crate::suite::{self, KeyEncryption, NAMESPACE};
use crate::transport_key::Mac;
use crate::wrapping::{Certified, EncryptedTransportKey};
use crate::{FormError, ProtectorDigest, ProtectorError, Wrapping, WrappingId};

/// Reads everything that a protector says. What its signatures cover is read from the canonical form that they cover,
/// so no trick of the document around it can make the two differ.
pub(crate) fn protector(
    octets: &[u8],
    certificates: &CertificateCache,
) -> Result<Contents, ProtectorError> {
    let document = Document::parse(octets, &Limits::DOCUMENT).map_err(FormError::Xml)?;
    let root = document.root();
    root.expect(NAMESPACE, "Protector")
        .map_err(FormError::Xml)?;
    let (parts, max_offline_unwraps) = parts(root)?;

    let signed = parts.wrappings.canonical().map_err(FormError::Xml)?;
    let (guardian, guardian_signature) = guardian_signature(parts.guardian_signature)?;
    Ok(Contents {
        octets: octets.to_vec(),
        wrappings: signed_wrappings(parts.wrappings, &signed, certificates)?,
        digest: ProtectorDigest::of(&signed),
        signed,
        mac: transport_key_signature(parts.transport_key_signature)?,
        guardian,
        guardian_signature,
        max_offline_unwraps,
    })
}

struct Parts<'d, 't> {
    wrappings: Element<'d, 't>,
    transport_key_signature: Element<'d, 't>,
    guardian_signature: Element<'d, 't>,
}

fn parts<'d, 't>(root: Element<'d, 't>) -> Result<(Parts<'d, 't>, u32), FormError> {
    const ATTRIBUTE: &str = "MaxOfflineUnwraps";
    root.expect_attributes(&[ATTRIBUTE])?;
    let max_offline_unwraps = match root.attribute(ATTRIBUTE) {
        Some(value) => form::unsigned_int(value, ATTRIBUTE)?,
        None => 0,
    };
    let mut sequence = root.sequence()?;
    let parts = Parts {
        wrappings: sequence.required(NAMESPACE, "Wrappings")?,
        transport_key_signature: sequence.required(NAMESPACE, "TransportKeySignature")?,
        guardian_signature: sequence.required(NAMESPACE, "GuardianSignature")?,
    };
    sequence.end()?;
    Ok((parts, max_offline_unwraps))
}

/// The wrappings as the canonical form has them. Where the document has that very form they are read where they stand,
/// which spares us reading the same octets twice.
fn signed_wrappings(
    element: Element<'_, '_>,
    signed: &[u8],
    certificates: &CertificateCache,
) -> Result<Vec<Wrapping>, ProtectorError> {
    if element.source().as_bytes() == signed {
        return wrappings(element, certificates);
    }
    let document = Document::parse(signed, &form::CANONICAL_LIMITS).map_err(FormError::Xml)?;
    wrappings(document.root(), certificates)
}

/// `WrappingCollection_T`.
fn wrappings(
    root: Element<'_, '_>,
    certificates: &CertificateCache,
) -> Result<Vec<Wrapping>, ProtectorError> {
    root.expect_attributes(&[]).map_err(FormError::Xml)?;
    let found = root.children().count();
    if found > MAX_WRAPPINGS {
        return Err(ProtectorError::TooManyWrappings {
            limit: MAX_WRAPPINGS,
            found,
        });
    }
    let mut sequence = root.sequence().map_err(FormError::Xml)?;
    let mut wrappings = Vec::with_capacity(found);
    let mut key_bits = 0;
    loop {
        let element = match sequence.optional(NAMESPACE, "Wrapping") {
            Some(element) => element,
            // There must be one at least.
            None if wrappings.is_empty() => sequence
                .required(NAMESPACE, "Wrapping")
                .map_err(FormError::Xml)?,
            None => break,
        };
        let position = wrappings.len() + 1;
        let wrapping = wrapping(element, certificates)
            .map_err(|error| ProtectorError::Wrapping { position, error })?;
        key_bits += wrapping.signing_certificate().public_key().modulus_bits()
            + wrapping
                .encryption_certificate()
                .public_key()
                .modulus_bits();
        if key_bits > MAX_KEY_BITS {
            return Err(ProtectorError::TooManyKeyBits {
                limit: MAX_KEY_BITS,
            });
        }
        wrappings.push(wrapping);
    }
    sequence.end().map_err(FormError::Xml)?;
    Ok(wrappings)
}

/// `Wrapping_T`.
fn wrapping(
    element: Element<'_, '_>,
    certificates: &CertificateCache,
) -> Result<Wrapping, FormError> {
    element.expect_attributes(&[])?;
    let mut parts = element.sequence()?;
    let id = form::plain_text(parts.required(NAMESPACE, "Id")?)?;
    let signing = parts.required(NAMESPACE, "SigningCertificate")?;
    let signing_signature = parts.required(NAMESPACE, "SigningCertificateSignature")?;
    let encryption = parts.required(NAMESPACE, "EncryptionCertificate")?;
    let encryption_signature = parts.required(NAMESPACE, "EncryptionCertificateSignature")?;
    let transport_key = parts.required(NAMESPACE, "TransportKey")?;
    parts.end()?;

    encryption_signature.expect_attributes(&[])?;
    Ok(Wrapping {
        id: WrappingId::new(form::unsigned_int(id, "Id")?),
        parent: wrapping_id(signing_signature, "ParentWrappingId")?,
        certified: Arc::new(Certified {
            signing: form::unexamined_certificate(signing, "SigningCertificate", certificates)?,
            signing_signature: inner_signature(signing_signature, "SigningCertificateSignature")?,
            encryption: form::unexamined_certificate(
                encryption,
                "EncryptionCertificate",
                certificates,
            )?,
            encryption_signature: inner_signature(
                encryption_signature,
                "EncryptionCertificateSignature",
            )?,
        }),
        transport_key: encrypted_transport_key(transport_key)?,
    })
}

/// The only attribute of an element that names a wrapping.
fn wrapping_id(element: Element<'_, '_>, attribute: &'static str) -> Result<WrappingId, FormError> {
    element.expect_attributes(&[attribute])?;
    let number = form::unsigned_int(element.required_attribute(attribute)?, attribute)?;
    Ok(WrappingId::new(number))
}

/// The only child, `Signature`, of the element `name`.
fn inner_signature(
    element: Element<'_, '_>,
    name: &'static str,
) -> Result<form::Encoded<Signature>, FormError> {
    let mut parts = element.sequence()?;
    let signature = form::signature(parts.required(NAMESPACE, "Signature")?, name)?;
    parts.end()?;
    Ok(signature)
}

/// `TransportKey_T`.
fn encrypted_transport_key(element: Element<'_, '_>) -> Result<EncryptedTransportKey, FormError> {
    const NAME: &str = "TransportKey";
    element.expect_attributes(&[])?;
    let mut parts = element.sequence()?;
    let data = parts.required(NAMESPACE, "EncryptedData")?;
    parts.end()?;

    let identifier = form::algorithm(data)?;
    let encryption = KeyEncryption::from_identifier(identifier)
        .ok_or_else(|| form::unknown_algorithm(NAME, identifier))?;
    let mut parts = data.sequence()?;
    match encryption {
        KeyEncryption::RsaOaep => oaep_parameters(parts.required(NAMESPACE, "Parameters")?)?,
        // XML Encryption's own defaults, SHA-1 for both: anything stated could only differ.
        KeyEncryption::RsaOaepMgf1p => {}
    }
    let ciphertext = form::octets(parts.required(NAMESPACE, "CipherValue")?, NAME)?;
    parts.end()?;
    Ok(EncryptedTransportKey {
        encryption,
        ciphertext,
    })
}

/// The parameters of `rsa-oaep`, of which XML Encryption's defaults are SHA-1: so both must be there.
fn oaep_parameters(element: Element<'_, '_>) -> Result<(), FormError> {
    element.expect_attributes(&[])?;
    let mut parts = element.sequence()?;
    let digest = parts.required(suite::XMLDSIG_NAMESPACE, "DigestMethod")?;
    let mask = parts.required(suite::XMLENC11_NAMESPACE, "MGF")?;
    parts.end()?;
    form::expect_algorithm(digest, "DigestMethod", suite::SHA256)?;
    form::expect_algorithm(mask, "MGF", suite::MGF1_SHA256)
}

/// `TransportKeySignature_T`: one way to derive the key, one MAC, in full length.
fn transport_key_signature(element: Element<'_, '_>) -> Result<Mac, FormError> {
    const NAME: &str = "TransportKeySignature";
    element.expect_attributes(&[])?;
    let mut parts = element.sequence()?;
    let derivation = parts.required(NAMESPACE, "KeyDerivationMethod")?;
    let signature = parts.required(NAMESPACE, "Signature")?;
    parts.end()?;

    form::expect_algorithm(derivation, "KeyDerivationMethod", suite::HKDF)?;
    match form::algorithm(signature)? {
        suite::HMAC_SHA256 => {}
        other => return Err(form::unknown_algorithm(NAME, other)),
    }
    let value = form::signature_value(signature, NAME)?.value;
    value.as_slice().try_into().map_err(|_| FormError::Length {
        element: NAME,
        expected: size_of::<Mac>(),
        found: value.len(),
    })
}

/// `GuardianSignature_T`.
fn guardian_signature(element: Element<'_, '_>) -> Result<(WrappingId, Signature), FormError> {
    const NAME: &str = "GuardianSignature";
    let id = wrapping_id(element, "WrappingId")?;
    Ok((id, inner_signature(element, NAME)?.value))
}
