//! Writing a protector, directly in the form that its signatures cover.

use hgs_crypto::base64;
use hgs_xml::Writer;

use crate::form::{Encoded, Signature};
use crate::suite::{self, KeyEncryption, NAMESPACE};
use crate::transport_key::Mac;
use crate::wrapping::EncryptedTransportKey;
use crate::{Wrapping, WrappingId};

/// Octets of a wrapping of RSA-2048 keys, with room to spare.
const USUAL_WRAPPING: usize = 5 * 1024;

/// `Wrappings` in its canonical form.
pub(crate) fn wrappings(wrappings: &[Wrapping]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(wrappings.len() * USUAL_WRAPPING);
    writer.start("Wrappings", &[("xmlns", NAMESPACE)]);
    for wrapping in wrappings {
        write_wrapping(&mut writer, wrapping);
    }
    writer.end();
    writer.finish()
}

/// The whole document around the canonical form of `Wrappings`.
pub(crate) fn protector(
    signed: &[u8],
    mac: &Mac,
    guardian: WrappingId,
    signature: &Signature,
    max_offline_unwraps: u32,
) -> Vec<u8> {
    let mut writer = Writer::with_capacity(signed.len() + USUAL_WRAPPING);
    let limit = max_offline_unwraps.to_string();
    let attributes = [("xmlns", NAMESPACE), ("MaxOfflineUnwraps", &limit)];
    // Zero is the schema's default.
    let used = if max_offline_unwraps == 0 { 1 } else { 2 };
    writer.start("Protector", &attributes[..used]);
    writer.raw_canonical(signed);

    writer.start("TransportKeySignature", &[]);
    writer.element("KeyDerivationMethod", &[("Algorithm", suite::HKDF)], "");
    write_signature(&mut writer, suite::HMAC_SHA256, &base64::encode(mac));
    writer.end();

    let id = guardian.to_string();
    writer.start("GuardianSignature", &[("WrappingId", &id)]);
    let identifier = suite::signature_identifier(signature.scheme);
    write_signature(&mut writer, identifier, &base64::encode(&signature.value));
    writer.end();
    writer.end();
    writer.finish()
}

fn write_wrapping(writer: &mut Writer, wrapping: &Wrapping) {
    let certified = &wrapping.certified;
    writer.start("Wrapping", &[]);
    writer.element("Id", &[], &wrapping.id().to_string());

    writer.element("SigningCertificate", &[], &certified.signing.base64);
    let parent = wrapping.parent().to_string();
    writer.start(
        "SigningCertificateSignature",
        &[("ParentWrappingId", &parent)],
    );
    write_encoded_signature(writer, &certified.signing_signature);
    writer.end();

    writer.element("EncryptionCertificate", &[], &certified.encryption.base64);
    writer.start("EncryptionCertificateSignature", &[]);
    write_encoded_signature(writer, &certified.encryption_signature);
    writer.end();

    writer.start("TransportKey", &[]);
    write_encrypted_transport_key(writer, wrapping.transport_key());
    writer.end();
    writer.end();
}

fn write_encrypted_transport_key(writer: &mut Writer, key: &EncryptedTransportKey) {
    writer.start(
        "EncryptedData",
        &[("Algorithm", key.encryption.identifier())],
    );
    match key.encryption {
        KeyEncryption::RsaOaep => {
            writer.start("Parameters", &[]);
            writer.element(
                "DigestMethod",
                &[
                    ("xmlns", suite::XMLDSIG_NAMESPACE),
                    ("Algorithm", suite::SHA256),
                ],
                "",
            );
            writer.element(
                "MGF",
                &[
                    ("xmlns", suite::XMLENC11_NAMESPACE),
                    ("Algorithm", suite::MGF1_SHA256),
                ],
                "",
            );
            writer.end();
        }
        KeyEncryption::RsaOaepMgf1p => {}
    }
    writer.element("CipherValue", &[], &base64::encode(&key.ciphertext));
    writer.end();
}

/// `Signature_T` of a signature whose Base64 is known.
fn write_encoded_signature(writer: &mut Writer, signature: &Encoded<Signature>) {
    let identifier = suite::signature_identifier(signature.value.scheme);
    write_signature(writer, identifier, &signature.base64);
}

/// An element `Signature` of the type `Signature_T`.
fn write_signature(writer: &mut Writer, identifier: &str, value: &str) {
    type_signature(writer, "Signature", identifier, value);
}

/// An element of the type `Signature_T`.
pub(crate) fn type_signature(writer: &mut Writer, name: &str, identifier: &str, value: &str) {
    writer.start(name, &[("Algorithm", identifier)]);
    writer.element("SignatureValue", &[], value);
    writer.end();
}
