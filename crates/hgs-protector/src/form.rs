//! The values that the elements of [MS-KPS] hold, read with one error for each way to be wrong.

use hgs_crypto::rsa::SignatureScheme;
use hgs_crypto::{CryptoError, base64};
use hgs_pki::{Certificate, CertificateCache, SignatureCache};
use hgs_xml::{Element, Limits, parse_unsigned_int, printable};

use crate::{FormError, SealError, suite};

/// What a canonical form may cost to read: declarations stand on each element that uses them, so that it can be longer
/// and have more attributes to an element than the document it was made from.
pub(crate) const CANONICAL_LIMITS: Limits = Limits {
    bytes: Limits::DOCUMENT.canonical,
    attributes: 2 * Limits::DOCUMENT.attributes,
    ..Limits::DOCUMENT
};

/// A value, and the Base64 that stands for it in a document: kept, so that a roll does not encode it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Encoded<T> {
    pub(crate) value: T,
    pub(crate) base64: Box<str>,
}

impl Encoded<Certificate> {
    pub(crate) fn certificate(value: Certificate) -> Self {
        let base64 = base64::encode(value.der()).into();
        Self { value, base64 }
    }
}

impl Encoded<Signature> {
    pub(crate) fn signature(value: Signature) -> Self {
        let base64 = base64::encode(&value.value).into();
        Self { value, base64 }
    }
}

/// A signature of the type `Signature` ([MS-KPS] 2.2.2.10) that is not verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// How it was made.
    pub scheme: SignatureScheme,
    /// Its octets, as many as the modulus has.
    pub value: Vec<u8>,
}

impl Signature {
    /// A signature that one of our keys has made.
    #[must_use]
    pub fn written(value: Vec<u8>) -> Self {
        Self {
            scheme: suite::WRITTEN_SIGNATURE,
            value,
        }
    }

    /// As [`Self::verify_certificate`], for a signature that our own key store has made.
    pub(crate) fn verify_ours(
        &self,
        subject: &Certificate,
        signer: &Certificate,
    ) -> Result<(), SealError> {
        signer
            .public_key()
            .verify(self.scheme, subject.der(), &self.value)
            .map_err(|_| SealError::Signature {
                certificate: signer.thumbprint(),
            })
    }

    /// Checks that the key of `signer` made this over the DER of `subject`.
    pub(crate) fn verify_certificate(
        &self,
        subject: &Certificate,
        signer: &Certificate,
        signatures: &SignatureCache,
    ) -> Result<(), CryptoError> {
        signatures.verify_over_certificate(signer.public_key(), self.scheme, subject, &self.value)
    }
}

/// Reads an `xs:unsignedInt`.
pub(crate) fn unsigned_int(text: &str, element: &'static str) -> Result<u32, FormError> {
    parse_unsigned_int(text).ok_or(FormError::UnsignedInt { element })
}

/// The text of an element without attributes.
pub(crate) fn plain_text<'d>(element: Element<'d, '_>) -> Result<&'d str, FormError> {
    element.expect_attributes(&[])?;
    Ok(element.text()?)
}

/// Reads an `xs:base64Binary`.
pub(crate) fn octets(element: Element<'_, '_>, name: &'static str) -> Result<Vec<u8>, FormError> {
    encoded(element, name).map(|encoded| encoded.value)
}

fn encoded(element: Element<'_, '_>, name: &'static str) -> Result<Encoded<Vec<u8>>, FormError> {
    let text = plain_text(element)?;
    let malformed = |_| FormError::Base64 { element: name };
    // Without white space the form is the only one: the decoder takes no other padding and no stray bits.
    Ok(match base64::decode(text) {
        Ok(value) => Encoded {
            value,
            base64: text.into(),
        },
        Err(error) => {
            let compact = base64::without_white_space(text).ok_or_else(|| malformed(error))?;
            Encoded {
                value: base64::decode(&compact).map_err(malformed)?,
                base64: compact.into(),
            }
        }
    })
}

fn is_white_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// Reads a `Certificate_T` ([MS-KPS] 2.2.3.11).
pub(crate) fn certificate(
    element: Element<'_, '_>,
    name: &'static str,
    cache: &CertificateCache,
) -> Result<Encoded<Certificate>, FormError> {
    let Encoded { value, base64 } = encoded(element, name)?;
    match cache.parse(&value) {
        Ok(value) => Ok(Encoded { value, base64 }),
        Err(error) => Err(FormError::Certificate {
            element: name,
            error,
        }),
    }
}

/// As [`certificate`], of which the key is not searched for weaknesses yet.
pub(crate) fn unexamined_certificate(
    element: Element<'_, '_>,
    name: &'static str,
    cache: &CertificateCache,
) -> Result<Encoded<Certificate>, FormError> {
    let Encoded { value, base64 } = encoded(element, name)?;
    match cache.parse_unexamined(&value) {
        Ok(value) => Ok(Encoded { value, base64 }),
        Err(error) => Err(FormError::Certificate {
            element: name,
            error,
        }),
    }
}

/// Reads a `Signature_T` by an RSA key.
pub(crate) fn signature(
    element: Element<'_, '_>,
    name: &'static str,
) -> Result<Encoded<Signature>, FormError> {
    let identifier = algorithm(element)?;
    let scheme =
        suite::signature_scheme(identifier).ok_or_else(|| unknown_algorithm(name, identifier))?;
    let Encoded { value, base64 } = signature_value(element, name)?;
    Ok(Encoded {
        value: Signature { scheme, value },
        base64,
    })
}

/// Reads the value of a `Signature_T`. None of our algorithms has parameters, so there must be none.
pub(crate) fn signature_value(
    element: Element<'_, '_>,
    name: &'static str,
) -> Result<Encoded<Vec<u8>>, FormError> {
    let mut parts = element.sequence()?;
    let value = encoded(parts.required(suite::NAMESPACE, "SignatureValue")?, name)?;
    parts.end()?;
    Ok(value)
}

/// The `Algorithm` of an element that has no other attribute.
pub(crate) fn algorithm<'d>(element: Element<'d, '_>) -> Result<&'d str, FormError> {
    element.expect_attributes(&["Algorithm"])?;
    Ok(identifier(element.required_attribute("Algorithm")?))
}

/// The value of an `xs:anyURI`: white space around it does not count.
pub(crate) fn identifier(text: &str) -> &str {
    text.trim_matches(is_white_space)
}

/// Refuses an algorithm other than `expected` for an element that holds nothing.
pub(crate) fn expect_algorithm(
    element: Element<'_, '_>,
    name: &'static str,
    expected: &str,
) -> Result<(), FormError> {
    match algorithm(element)? {
        identifier if identifier == expected => Ok(element.sequence()?.end()?),
        identifier => Err(unknown_algorithm(name, identifier)),
    }
}

pub(crate) fn unknown_algorithm(element: &'static str, identifier: &str) -> FormError {
    FormError::UnknownAlgorithm {
        element,
        identifier: printable(identifier),
    }
}
