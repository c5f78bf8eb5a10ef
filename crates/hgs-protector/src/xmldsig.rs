//! One profile of XML Signature: enveloped, one reference to the whole document, exclusive C14N, SHA-256, RSA.
//!
//! A signed document is read from the octets that were digested and from nothing else, and what is read of the
//! signature is read from the octets that were signed (attacks.md X1, X4). The key is the one in the document, so the
//! signature shows that the document is whole, never whose it is (X5).

use hgs_crypto::base64;
use hgs_crypto::hash::{Sha256Digest, sha256};
use hgs_pki::{Certificate, CertificateCache};
use hgs_xml::{Document, Element, Writer};

use crate::FormError;
use crate::form::{self, CANONICAL_LIMITS};
use crate::suite::{self, XMLDSIG_NAMESPACE};

/// Why the signature of a document does not verify. The author of the document is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XmlSignatureError {
    /// The signature is not of the profile.
    #[error(transparent)]
    Form(#[from] FormError),
    /// The reference is not to the whole document.
    #[error("the signature refers to `{found}` instead of the whole document")]
    Reference {
        /// The URI, escaped and cut short.
        found: String,
    },
    /// The document is not what was digested.
    #[error("the document is not the one that was signed")]
    Digest,
    /// The signature does not verify under the key that it comes with.
    #[error("the signature does not verify under the certificate that it comes with")]
    Signature,
}

impl From<hgs_xml::Error> for XmlSignatureError {
    fn from(error: hgs_xml::Error) -> Self {
        Self::Form(error.into())
    }
}

/// A verified signature.
pub(crate) struct Signed {
    /// The canonical form of the document without its signature.
    pub(crate) document: Vec<u8>,
    /// The certificate that the signature comes with.
    pub(crate) signer: Certificate,
}

/// Verifies `signature`, which stands directly in `root`, the outermost element.
pub(crate) fn verify(
    root: Element<'_, '_>,
    signature: Element<'_, '_>,
    certificates: &CertificateCache,
) -> Result<Signed, XmlSignatureError> {
    signature.expect_attributes(&[]).map_err(FormError::Xml)?;
    let mut parts = signature.sequence()?;
    let signed_info = parts
        .required(XMLDSIG_NAMESPACE, "SignedInfo")?
        .canonical()?;
    let value = parts.required(XMLDSIG_NAMESPACE, "SignatureValue")?;
    let value = form::octets(value, "SignatureValue")?;
    let signer = key_info(parts.required(XMLDSIG_NAMESPACE, "KeyInfo")?, certificates)?;
    parts.end()?;

    signer
        .public_key()
        .verify(suite::WRITTEN_SIGNATURE, &signed_info, &value)
        .map_err(|_| XmlSignatureError::Signature)?;
    let expected = digest_value(&signed_info)?;
    let document = root.canonical_without(signature)?;
    // Both are public, so this need not take constant time.
    if sha256(&document).as_slice() != expected {
        return Err(XmlSignatureError::Digest);
    }
    Ok(Signed { document, signer })
}

/// `KeyInfo` with one certificate, and nothing else to choose a key by.
fn key_info(
    element: Element<'_, '_>,
    certificates: &CertificateCache,
) -> Result<Certificate, FormError> {
    element.expect_attributes(&[])?;
    let mut parts = element.sequence()?;
    let data = parts.required(XMLDSIG_NAMESPACE, "X509Data")?;
    parts.end()?;
    data.expect_attributes(&[])?;
    let mut parts = data.sequence()?;
    let certificate = parts.required(XMLDSIG_NAMESPACE, "X509Certificate")?;
    parts.end()?;
    Ok(form::certificate(certificate, "X509Certificate", certificates)?.value)
}

/// The digest in `SignedInfo`, read from its canonical form: all else in it is as the profile says.
fn digest_value(signed_info: &[u8]) -> Result<Vec<u8>, XmlSignatureError> {
    let document = Document::parse(signed_info, &CANONICAL_LIMITS)?;
    let root = document.root();
    root.expect_attributes(&[])?;
    let mut parts = root.sequence()?;
    let canonicalization = parts.required(XMLDSIG_NAMESPACE, "CanonicalizationMethod")?;
    let method = parts.required(XMLDSIG_NAMESPACE, "SignatureMethod")?;
    let reference = parts.required(XMLDSIG_NAMESPACE, "Reference")?;
    parts.end()?;
    let identifier = suite::signature_identifier(suite::WRITTEN_SIGNATURE);
    form::expect_algorithm(
        canonicalization,
        "CanonicalizationMethod",
        suite::EXCLUSIVE_C14N,
    )?;
    form::expect_algorithm(method, "SignatureMethod", identifier)?;

    reference.expect_attributes(&["URI"])?;
    match reference.required_attribute("URI")? {
        "" => {}
        other => {
            let found = hgs_xml::printable(other);
            return Err(XmlSignatureError::Reference { found });
        }
    }
    let mut parts = reference.sequence()?;
    let transforms = parts.required(XMLDSIG_NAMESPACE, "Transforms")?;
    let method = parts.required(XMLDSIG_NAMESPACE, "DigestMethod")?;
    let value = parts.required(XMLDSIG_NAMESPACE, "DigestValue")?;
    parts.end()?;
    check_transforms(transforms)?;
    form::expect_algorithm(method, "DigestMethod", suite::SHA256)?;
    Ok(form::octets(value, "DigestValue")?)
}

fn check_transforms(element: Element<'_, '_>) -> Result<(), FormError> {
    element.expect_attributes(&[])?;
    let mut parts = element.sequence()?;
    let enveloped = parts.required(XMLDSIG_NAMESPACE, "Transform")?;
    let exclusive = parts.required(XMLDSIG_NAMESPACE, "Transform")?;
    parts.end()?;
    form::expect_algorithm(enveloped, "Transform", suite::ENVELOPED_SIGNATURE)?;
    form::expect_algorithm(exclusive, "Transform", suite::EXCLUSIVE_C14N)
}

/// `SignedInfo` in its canonical form, for a document with this digest.
pub(crate) fn signed_info(digest: &Sha256Digest) -> Vec<u8> {
    let algorithm = |identifier| [("Algorithm", identifier)];
    let mut writer = Writer::new();
    writer.start("SignedInfo", &[("xmlns", XMLDSIG_NAMESPACE)]);
    writer.element(
        "CanonicalizationMethod",
        &algorithm(suite::EXCLUSIVE_C14N),
        "",
    );
    let method = suite::signature_identifier(suite::WRITTEN_SIGNATURE);
    writer.element("SignatureMethod", &algorithm(method), "");
    writer.start("Reference", &[("URI", "")]);
    writer.start("Transforms", &[]);
    writer.element("Transform", &algorithm(suite::ENVELOPED_SIGNATURE), "");
    writer.element("Transform", &algorithm(suite::EXCLUSIVE_C14N), "");
    writer.end();
    writer.element("DigestMethod", &algorithm(suite::SHA256), "");
    writer.element("DigestValue", &[], &base64::encode(digest));
    writer.end();
    writer.end();
    writer.finish()
}

/// The whole `Signature` around a `SignedInfo`.
pub(crate) fn signature(signed_info: &[u8], value: &[u8], signer: &Certificate) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.start("Signature", &[("xmlns", XMLDSIG_NAMESPACE)]);
    writer.raw_canonical(signed_info);
    writer.element("SignatureValue", &[], &base64::encode(value));
    writer.start("KeyInfo", &[]);
    writer.start("X509Data", &[]);
    writer.element("X509Certificate", &[], &base64::encode(signer.der()));
    writer.end();
    writer.end();
    writer.end();
    writer.finish()
}
