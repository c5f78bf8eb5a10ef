//! Metadata: the public half of a guardian as a signed document ([MS-KPS] 6.4), from KPS or from a guardian's file.

use hgs_crypto::hash::sha256;
use hgs_pki::{
    Certificate, CertificateCache, KeyWork, MAX_CERTIFICATE_OCTETS, SignatureCache, Thumbprint,
    Time, chain,
};
use hgs_xml::{Document, Element, Limits, Writer};

use crate::form::{self, CANONICAL_LIMITS, Encoded, Signature};
use crate::suite::{self, EXTENSION_NAMESPACE, KeyEncryption, NAMESPACE, XMLDSIG_NAMESPACE};
use crate::xmldsig::{self, XmlSignatureError};
use crate::{FormError, GuardianCertificates, GuardianError, SealError, sign, write};

/// Octets that a document may have.
pub const MAX_OCTETS: usize = Limits::DOCUMENT.bytes;

/// Certificates that `OtherSigningCertificates` may have.
pub const MAX_OTHER_CERTIFICATES: usize = 64;

/// A guardian's document that is whole: its own signature holds, and those that tie the guardian's certificates
/// together.
///
/// That does not show *whose* it is: every key in it comes from the document itself. [`Self::import`] is the only way to
/// take a guardian from it, and needs trust from elsewhere.
#[derive(Debug, Clone)]
pub struct Metadata {
    guardian: GuardianCertificates,
    other_signing_certificates: Vec<Certificate>,
    signer: Certificate,
}

/// Why octets are not valid metadata. Their author is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Not a document of the schema.
    #[error("not metadata of a guardian: {0}")]
    Form(#[from] FormError),
    /// The document's signature does not hold.
    #[error("signature of the metadata: {0}")]
    Signature(#[from] XmlSignatureError),
    /// The guardian's own signatures do not hold.
    #[error(transparent)]
    Guardian(#[from] GuardianError),
    /// More other signing certificates than are accepted.
    #[error("metadata has {found} other signing certificates; {limit} are accepted")]
    TooManyCertificates {
        /// How many are accepted.
        limit: usize,
        /// How many there are.
        found: usize,
    },
}

impl From<hgs_xml::Error> for MetadataError {
    fn from(error: hgs_xml::Error) -> Self {
        Self::Form(error.into())
    }
}

impl Metadata {
    /// Reads and verifies a document of at most 256 KiB.
    pub fn read(
        octets: &[u8],
        certificates: &CertificateCache,
        signatures: &SignatureCache,
    ) -> Result<Self, MetadataError> {
        let document = Document::parse(octets, &Limits::DOCUMENT)?;
        let root = document.root();
        root.expect(NAMESPACE, "Metadata")?;
        let mut parts = root.sequence()?;
        parts.required(NAMESPACE, "GuardianInformation")?;
        let signature = parts.required(XMLDSIG_NAMESPACE, "Signature")?;
        let signed = xmldsig::verify(root, signature, certificates)?;

        let document = Document::parse(&signed.document, &CANONICAL_LIMITS)?;
        let contents = contents(document.root(), certificates)?;
        Ok(Self {
            guardian: contents.guardian.verified(signatures)?,
            other_signing_certificates: contents.other_signing_certificates,
            signer: signed.signer,
        })
    }

    /// The guardian that it claims to be from, unverified: for showing, and for asking people whether
    /// the thumbprint is right.
    #[must_use]
    pub fn unverified(&self) -> &GuardianCertificates {
        &self.guardian
    }

    /// The certificate of the document's signature: the communications certificate of a KPS, or the guardian's own
    /// signing certificate.
    #[must_use]
    pub fn signer(&self) -> &Certificate {
        &self.signer
    }

    /// The guardian's other signing certificates, oldest first.
    #[must_use]
    pub fn other_signing_certificates(&self) -> &[Certificate] {
        &self.other_signing_certificates
    }

    /// Takes the guardian from the document, if `trust` verifies it.
    pub fn import(
        self,
        trust: &Trust<'_>,
        expired: Expired,
        now: Time,
    ) -> Result<GuardianCertificates, ImportError> {
        let Self { guardian, .. } = self;
        for certificate in [
            guardian.signing_certificate(),
            guardian.encryption_certificate(),
        ] {
            check_validity(certificate, expired, now)?;
        }
        match trust {
            Trust::Thumbprint(expected) => {
                let found = guardian.signing_certificate().thumbprint();
                if found != *expected {
                    let expected = *expected;
                    return Err(ImportError::Thumbprint { expected, found });
                }
            }
            Trust::Roots {
                roots,
                intermediates,
            } => {
                for certificate in [
                    guardian.signing_certificate(),
                    guardian.encryption_certificate(),
                ] {
                    // Its expiry was looked at above; whether it may be past is the caller's choice, not the path's.
                    let when = now.min(certificate.validity().not_after);
                    chain::verify(certificate, intermediates, roots, when)
                        .map_err(ImportError::Chain)?;
                }
            }
            Trust::DangerousNone => {}
        }
        Ok(guardian)
    }
}

/// How a guardian is verified when it is imported.
#[derive(Debug, Clone, Copy)]
pub enum Trust<'a> {
    /// The thumbprint of the guardian's signing certificate, given out of band. The signing key's signature carries
    /// the trust over to the encryption certificate.
    Thumbprint(Thumbprint),
    /// Both certificates must chain to one of these roots.
    Roots {
        /// The configured roots.
        roots: &'a [Certificate],
        /// Certificates that may stand between.
        intermediates: &'a [Certificate],
    },
    /// Not at all: the author of the document may be anyone.
    DangerousNone,
}

/// What to do about a guardian's certificate that has expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    /// Refuse it.
    Refuse,
    /// Take it: in a protector certificates are containers of keys.
    Allow,
}

/// Why a guardian was not imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// The thumbprint is another.
    #[error("the guardian's signing certificate has the thumbprint {found}, not {expected}")]
    Thumbprint {
        /// The thumbprint that was given out of band.
        expected: Thumbprint,
        /// The thumbprint in the document.
        found: Thumbprint,
    },
    /// No path to a configured root.
    #[error("the guardian's certificates don't lead to a configured root: {0}")]
    Chain(chain::ChainError),
    /// A certificate has expired.
    #[error("the guardian's certificate {subject} expired at {not_after}")]
    Expired {
        /// Its subject.
        subject: String,
        /// Its last second.
        not_after: Time,
    },
    /// A certificate is not yet valid.
    #[error("the guardian's certificate {subject} is not valid before {not_before}")]
    NotYetValid {
        /// Its subject.
        subject: String,
        /// Its first second.
        not_before: Time,
    },
}

fn check_validity(
    certificate: &Certificate,
    expired: Expired,
    now: Time,
) -> Result<(), ImportError> {
    let validity = certificate.validity();
    let subject = || certificate.subject().to_owned();
    if now < validity.not_before {
        return Err(ImportError::NotYetValid {
            subject: subject(),
            not_before: validity.not_before,
        });
    }
    if now > validity.not_after && expired == Expired::Refuse {
        return Err(ImportError::Expired {
            subject: subject(),
            not_after: validity.not_after,
        });
    }
    Ok(())
}

/// The contents of a document of which only its own signature was verified.
struct Contents {
    guardian: UnverifiedGuardian,
    other_signing_certificates: Vec<Certificate>,
}

struct UnverifiedGuardian {
    signing: Certificate,
    encryption: Certificate,
    self_signature: Signature,
    encryption_signature: Signature,
    key_encryption: KeyEncryption,
}

impl UnverifiedGuardian {
    fn verified(self, signatures: &SignatureCache) -> Result<GuardianCertificates, GuardianError> {
        GuardianCertificates::new(
            self.signing,
            self.encryption,
            self.self_signature,
            self.encryption_signature,
            self.key_encryption,
            signatures,
        )
    }
}

/// `Metadata_T` without its signature.
fn contents(
    root: Element<'_, '_>,
    certificates: &CertificateCache,
) -> Result<Contents, MetadataError> {
    root.expect_attributes(&["Version"])?;
    expect_version_1(root.required_attribute("Version")?, "Metadata")?;
    let information = root
        .sequence()?
        .required(NAMESPACE, "GuardianInformation")?;
    // The signature stood second, so what is left are the extensions.
    let key_encryption = extensions(root.children().skip(1))?;
    guardian_information(information, key_encryption, certificates)
}

/// `GuardianInformation_T`.
fn guardian_information(
    element: Element<'_, '_>,
    key_encryption: KeyEncryption,
    certificates: &CertificateCache,
) -> Result<Contents, MetadataError> {
    element.expect_attributes(&[])?;
    let mut parts = element.sequence()?;
    let version = form::plain_text(parts.required(NAMESPACE, "Version")?)?;
    let encryption = parts.required(NAMESPACE, "EncryptionCertificate")?;
    let signing = parts.required(NAMESPACE, "SigningCertificate")?;
    let by_itself = parts.required(NAMESPACE, "EncryptionCertificateSignature")?;
    let self_signature = parts.required(NAMESPACE, "SigningCertificateSelfSignature")?;
    let others = parts.optional(NAMESPACE, "OtherSigningCertificates");
    parts.end()?;

    expect_version_1(version, "GuardianInformation")?;
    let certificate =
        |element, name| form::certificate(element, name, certificates).map(|encoded| encoded.value);
    let signature = |element, name| form::signature(element, name).map(|encoded| encoded.value);
    Ok(Contents {
        guardian: UnverifiedGuardian {
            signing: certificate(signing, "SigningCertificate")?,
            encryption: certificate(encryption, "EncryptionCertificate")?,
            self_signature: signature(self_signature, "SigningCertificateSelfSignature")?,
            encryption_signature: signature(by_itself, "EncryptionCertificateSignature")?,
            key_encryption,
        },
        other_signing_certificates: match others {
            Some(element) => other_certificates(element, certificates)?,
            None => Vec::new(),
        },
    })
}

fn expect_version_1(text: &str, element: &'static str) -> Result<(), FormError> {
    match form::unsigned_int(text, element)? {
        1 => Ok(()),
        found => Err(FormError::Version { element, found }),
    }
}

/// `CertificateCollection_T`.
fn other_certificates(
    element: Element<'_, '_>,
    certificates: &CertificateCache,
) -> Result<Vec<Certificate>, MetadataError> {
    element.expect_attributes(&[])?;
    let found = element.children().count();
    if found > MAX_OTHER_CERTIFICATES {
        return Err(MetadataError::TooManyCertificates {
            limit: MAX_OTHER_CERTIFICATES,
            found,
        });
    }
    let mut parts = element.sequence()?;
    let mut read = Vec::with_capacity(found);
    while let Some(element) = parts.optional(NAMESPACE, "Certificate") {
        let Encoded { value, .. } = form::certificate(element, "Certificate", certificates)?;
        read.push(value);
    }
    parts.end()?;
    Ok(read)
}

/// What follows the signature: one element of ours at most; those of other namespaces are passed over, but for a
/// second signature, which could only confuse.
fn extensions<'d, 't: 'd>(
    elements: impl Iterator<Item = Element<'d, 't>>,
) -> Result<KeyEncryption, FormError> {
    const NAME: &str = "TransportKeyEncryption";
    let mut key_encryption = None;
    for element in elements {
        if element.is(EXTENSION_NAMESPACE, NAME) && key_encryption.is_none() {
            let wanted = KeyEncryption::RsaOaepMgf1p;
            form::expect_algorithm(element, NAME, wanted.identifier())?;
            key_encryption = Some(wanted);
        } else if matches!(
            element.namespace(),
            None | Some(EXTENSION_NAMESPACE | NAMESPACE | XMLDSIG_NAMESPACE)
        ) {
            return Err(element
                .unexpected("one extension of metadata, or none")
                .into());
        }
    }
    Ok(key_encryption.unwrap_or_default())
}

/// Writes the document of `guardian`, signed by the key of `signer`: the communications certificate of a KPS, or the
/// guardian's own signing certificate for a guardian's file.
///
/// # Errors
/// When that key can't be used, or makes a signature that does not verify; and [`SealError::TooManyCertificates`] or
/// [`SealError::TooLong`] when no reader would accept the document.
pub fn write(
    guardian: &GuardianCertificates,
    other_signing_certificates: &[Certificate],
    signer: &Certificate,
    keys: &mut dyn KeyWork,
) -> Result<Vec<u8>, SealError> {
    let found = other_signing_certificates.len();
    if found > MAX_OTHER_CERTIFICATES {
        let limit = MAX_OTHER_CERTIFICATES;
        return Err(SealError::TooManyCertificates { limit, found });
    }
    let unsigned = document(guardian, other_signing_certificates, b"");
    let found = unsigned.len() + signature_length(signer);
    if found > MAX_OCTETS {
        let limit = MAX_OCTETS;
        return Err(SealError::TooLong { limit, found });
    }
    let signed_info = xmldsig::signed_info(&sha256(&unsigned));
    let signature = sign::sign(&signed_info, &sha256(&signed_info), signer, keys)?;
    let signature = xmldsig::signature(&signed_info, &signature.value, signer);
    Ok(document(guardian, other_signing_certificates, &signature))
}

/// Octets of the largest element that holds a certificate: its Base64, and the tags around it.
const fn element_octets(der: usize) -> usize {
    der.div_ceil(3) * 4 + 96
}

/// Whether every document of a guardian has room for these certificates beside its own pair and the signer's, so that none
/// has to be left out, whatever becomes of the pair.
#[must_use]
pub fn has_room_for<'c>(others: impl IntoIterator<Item = &'c Certificate>) -> bool {
    // The pair, the signer's certificate, the signature, and the frame.
    let own = 3 * element_octets(MAX_CERTIFICATE_OCTETS) + 8 * 1024;
    let (mut count, mut octets) = (0, own);
    for certificate in others {
        count += 1;
        octets += element_octets(certificate.der().len());
    }
    count <= MAX_OTHER_CERTIFICATES && octets <= MAX_OCTETS
}

/// The newest of `others`, which stand oldest first, that fit into a document of `guardian` signed by `signer`.
#[must_use]
pub fn newest_that_fit<'c>(
    guardian: &GuardianCertificates,
    others: &'c [Certificate],
    signer: &Certificate,
) -> &'c [Certificate] {
    let first = others.len().saturating_sub(MAX_OTHER_CERTIFICATES);
    let mut newest = others.get(first..).unwrap_or_default();
    while !newest.is_empty()
        && document(guardian, newest, b"").len() + signature_length(signer) > MAX_OCTETS
    {
        newest = newest.get(1..).unwrap_or_default();
    }
    newest
}

/// Octets of the signature element that the key of `signer` makes.
fn signature_length(signer: &Certificate) -> usize {
    let signed_info = xmldsig::signed_info(&[0; 32]);
    let value = vec![0; signer.public_key().modulus_octets()];
    xmldsig::signature(&signed_info, &value, signer).len()
}

/// The document around `signature`; without one it is the canonical form that is signed.
fn document(
    guardian: &GuardianCertificates,
    other_signing_certificates: &[Certificate],
    signature: &[u8],
) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.start("Metadata", &[("xmlns", NAMESPACE), ("Version", "1")]);
    writer.start("GuardianInformation", &[]);
    writer.element("Version", &[], "1");
    write_certificate(
        &mut writer,
        "EncryptionCertificate",
        guardian.encryption_certificate(),
    );
    write_certificate(
        &mut writer,
        "SigningCertificate",
        guardian.signing_certificate(),
    );
    let by_itself = guardian.encryption_signature();
    write_type_signature(&mut writer, "EncryptionCertificateSignature", by_itself);
    let self_signature = guardian.self_signature();
    write_type_signature(
        &mut writer,
        "SigningCertificateSelfSignature",
        self_signature,
    );
    if !other_signing_certificates.is_empty() {
        writer.start("OtherSigningCertificates", &[]);
        for certificate in other_signing_certificates {
            write_certificate(&mut writer, "Certificate", certificate);
        }
        writer.end();
    }
    writer.end();
    writer.raw_canonical(signature);
    match guardian.key_encryption() {
        KeyEncryption::RsaOaep => {}
        asked @ KeyEncryption::RsaOaepMgf1p => writer.element(
            "TransportKeyEncryption",
            &[
                ("xmlns", EXTENSION_NAMESPACE),
                ("Algorithm", asked.identifier()),
            ],
            "",
        ),
    }
    writer.end();
    writer.finish()
}

fn write_certificate(writer: &mut Writer, name: &str, certificate: &Certificate) {
    writer.element(name, &[], &hgs_crypto::base64::encode(certificate.der()));
}

/// An element that is itself of the type `Signature_T`.
fn write_type_signature(writer: &mut Writer, name: &str, signature: &Signature) {
    let identifier = suite::signature_identifier(signature.scheme);
    let value = hgs_crypto::base64::encode(&signature.value);
    write::type_signature(writer, name, identifier, &value);
}
