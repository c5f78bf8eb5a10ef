//! Issuing in two steps, because the private key may be a token elsewhere.
//!
//! [`prepare`] writes down what is to be signed and remembers what was wanted. The holder of the
//! issuer's key signs it, and [`Prepared::assemble`] lets only that leave which carries a good
//! signature and says, when it is read again as anybody would read it, exactly what was wanted.

mod encode;
mod endorsement;

use const_oid::ObjectIdentifier;
use hgs_crypto::rsa::{PublicKey, SignatureScheme};

pub use self::endorsement::{EndorsementSubject, PreparedEndorsement, prepare_endorsement};
use crate::endorsement::EndorsementCertificateError;
pub use crate::extension::Extension;
use crate::{Certificate, CertificateError, KeyUsage, Time, Validity, Version};

/// Characters of the longest common name, `ub-common-name` of RFC 5280 appendix A.1.
pub const MAX_COMMON_NAME_CHARACTERS: usize = 64;

/// The contents of a certificate to be issued. The key identifiers are added automatically.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// The subject's common name, which is its whole name: 1 to 64 characters.
    pub common_name: String,
    /// When it shall be valid; from 1970 on.
    pub validity: Validity,
    /// The purposes of the key. Critical.
    pub key_usage: KeyUsage,
    /// The extended purposes of the key; without any, there is no such extension. Not critical.
    pub extended_key_usage: Vec<ObjectIdentifier>,
    /// Whether the subject may issue certificates, though none of other authorities. Critical.
    pub certificate_authority: bool,
    /// Further extensions, in this order, after those that the fields above make.
    pub extensions: Vec<Extension>,
}

/// Who signs.
#[derive(Debug, Clone, Copy)]
pub enum Issuer<'a> {
    /// The subject itself.
    SelfSigned,
    /// The subject of this certificate, which must be an authority.
    Certificate(&'a Certificate),
}

/// A certificate that only lacks its signature.
#[derive(Debug)]
#[must_use = "nothing is issued until the signature is assembled"]
pub struct Prepared {
    to_be_signed: Vec<u8>,
    issuer_key: PublicKey,
    wanted: Expected,
}

/// The values that the finished certificate is compared with.
#[derive(Debug)]
struct Expected {
    template: Template,
    subject: Vec<u8>,
    subject_key: SubjectKey,
    issuer: Vec<u8>,
    authority_key_identifier: Option<Vec<u8>>,
    serial_number: [u8; 16],
}

/// The key that is certified.
#[derive(Debug, PartialEq, Eq)]
enum SubjectKey {
    Rsa(PublicKey),
    /// SubjectPublicKeyInfo in DER.
    Other(Vec<u8>),
}

impl SubjectKey {
    fn spki_der(&self) -> &[u8] {
        match self {
            Self::Rsa(key) => key.spki_der(),
            Self::Other(der) => der,
        }
    }
}

/// Why no certificate was issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The common name is empty or too long.
    #[error("common name has {0} characters; 1 to {MAX_COMMON_NAME_CHARACTERS} are possible")]
    CommonName(usize),
    /// The validity ends before it begins, or lies before 1970.
    #[error("validity from {} to {} is not possible", .0.not_before, .0.not_after)]
    Validity(Validity),
    /// The issuer's certificate does not allow it to issue certificates.
    #[error("{0} is not a certificate authority")]
    IssuerNotAuthority(String),
    /// A further extension repeats another, or one that the template's fields make.
    #[error("extension {0} is given twice")]
    DuplicateExtension(ObjectIdentifier),
    /// The parts don't fit into a certificate.
    #[error("certificate can't be encoded: {0}")]
    Encoding(#[from] der::Error),
    /// The signature is not by the issuer's key over the prepared octets.
    #[error("signature for the certificate was not made by the issuer's key")]
    Signature,
    /// The result is not an acceptable certificate.
    #[error("result is not acceptable: {0}")]
    Certificate(#[from] CertificateError),
    /// The result is not an acceptable EK certificate.
    #[error("result is not acceptable: {0}")]
    Endorsement(#[from] EndorsementCertificateError),
    /// The result says something else than the template.
    #[error("result differs from the template in its {0}")]
    Deviates(Deviation),
}

/// How a certificate differs from its template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Deviation {
    /// The version is not 3.
    #[error("version")]
    Version,
    /// Another serial number.
    #[error("serial number")]
    SerialNumber,
    /// Another subject.
    #[error("subject")]
    Subject,
    /// Another issuer.
    #[error("issuer")]
    Issuer,
    /// Another validity.
    #[error("validity")]
    Validity,
    /// Another subject key.
    #[error("public key")]
    PublicKey,
    /// Other purposes of the key.
    #[error("key usage")]
    KeyUsage,
    /// Other extended purposes of the key.
    #[error("extended key usage")]
    ExtendedKeyUsage,
    /// An authority where none was wanted, or the reverse.
    #[error("basic constraints")]
    BasicConstraints,
    /// Further extensions are missing, other, or too many.
    #[error("extensions")]
    Extensions,
}

/// Writes down what is to be signed for a certificate over `subject_key`.
///
/// `serial` is 16 random octets, which become the number that [`serial_number`] makes of them. A `subject_key` that was
/// read without the search for weaknesses must be [examined](PublicKey::examine) first.
///
/// # Errors
/// When `template` or `issuer` can't give a good certificate; see [`IssueError`].
pub fn prepare(
    template: Template,
    subject_key: &PublicKey,
    issuer: Issuer<'_>,
    serial: [u8; 16],
) -> Result<Prepared, IssueError> {
    let key = SubjectKey::Rsa(subject_key.clone());
    let (wanted, issuer_key) = expect(template, key, issuer, serial)?;
    Ok(Prepared {
        to_be_signed: encode::to_be_signed(&wanted)?,
        issuer_key,
        wanted,
    })
}

/// The values of the certificate, and the key that signs it.
fn expect(
    template: Template,
    subject_key: SubjectKey,
    issuer: Issuer<'_>,
    serial: [u8; 16],
) -> Result<(Expected, PublicKey), IssueError> {
    check(&template)?;
    let subject = encode::common_name(&template.common_name)?;
    let (issuer, issuer_key, authority_key_identifier) = match (issuer, &subject_key) {
        (Issuer::SelfSigned, SubjectKey::Rsa(key)) => (subject.clone(), key.clone(), None),
        (Issuer::SelfSigned, SubjectKey::Other(_)) => {
            return Err(IssueError::IssuerNotAuthority(template.common_name));
        }
        (Issuer::Certificate(certificate), _) => {
            if !certificate.may_issue() {
                let name = certificate.subject().to_owned();
                return Err(IssueError::IssuerNotAuthority(name));
            }
            (
                certificate.subject_der().to_vec(),
                certificate.public_key().clone(),
                certificate.subject_key_identifier().map(<[u8]>::to_vec),
            )
        }
    };
    let wanted = Expected {
        template,
        subject,
        subject_key,
        issuer,
        authority_key_identifier,
        serial_number: serial_number(serial),
    };
    Ok((wanted, issuer_key))
}

fn check(template: &Template) -> Result<(), IssueError> {
    let characters = template.common_name.chars().count();
    if !(1..=MAX_COMMON_NAME_CHARACTERS).contains(&characters) {
        return Err(IssueError::CommonName(characters));
    }
    let Validity {
        not_before,
        not_after,
    } = template.validity;
    if not_before > not_after || not_before < Time::from_unix(0) {
        return Err(IssueError::Validity(template.validity));
    }
    Ok(())
}

/// The serial number made of 16 random octets: the first two bits are replaced so that it is
/// positive, not zero, and always 16 octets long. What it is made of again stays as it is.
#[must_use]
pub fn serial_number(random: [u8; 16]) -> [u8; 16] {
    let mut serial = random;
    serial[0] = serial[0] & 0x7f | 0x40;
    serial
}

impl Prepared {
    /// The octets over which the issuer makes a signature with RSASSA-PKCS1-v1_5 and SHA-256.
    #[must_use]
    pub fn to_be_signed(&self) -> &[u8] {
        &self.to_be_signed
    }

    /// Puts the certificate together. It is returned only if `signature` verifies under the
    /// issuer's key, and reading the result gives what the template wanted.
    pub fn assemble(self, signature: &[u8]) -> Result<Certificate, IssueError> {
        self.issuer_key
            .verify(SignatureScheme::Pkcs1Sha256, &self.to_be_signed, signature)
            .map_err(|_| IssueError::Signature)?;
        let der = encode::certificate(&self.to_be_signed, signature)?;
        let certificate = match &self.wanted.subject_key {
            // It was searched for weaknesses when it was read, which takes long and is not done twice.
            SubjectKey::Rsa(key) => Certificate::of_known_key(&der, key)?,
            SubjectKey::Other(_) => Certificate::from_der(&der)?,
        };
        self.wanted
            .compare(&certificate)
            .map_err(IssueError::Deviates)?;
        Ok(certificate)
    }
}

impl Expected {
    fn compare(&self, certificate: &Certificate) -> Result<(), Deviation> {
        let template = &self.template;
        let purposes = certificate.extended_key_usage().unwrap_or(&[]);
        let authority = certificate.is_certificate_authority();
        let findings = [
            (certificate.version() == Version::V3, Deviation::Version),
            (
                certificate.serial_number() == self.serial_number,
                Deviation::SerialNumber,
            ),
            (
                certificate.subject_der() == self.subject,
                Deviation::Subject,
            ),
            (certificate.issuer_der() == self.issuer, Deviation::Issuer),
            (
                certificate.validity() == template.validity,
                Deviation::Validity,
            ),
            (
                self.subject_key == SubjectKey::Rsa(certificate.public_key().clone()),
                Deviation::PublicKey,
            ),
            (
                certificate.key_usage() == Some(template.key_usage),
                Deviation::KeyUsage,
            ),
            (
                purposes == template.extended_key_usage,
                Deviation::ExtendedKeyUsage,
            ),
            (
                authority == template.certificate_authority,
                Deviation::BasicConstraints,
            ),
            (self.has_extensions(certificate), Deviation::Extensions),
        ];
        match findings.into_iter().find(|(equal, _)| !equal) {
            Some((_, deviation)) => Err(deviation),
            None => Ok(()),
        }
    }
    /// The further extensions stand at the end; before them are basic constraints, key usage and
    /// subject key identifier, and two more where there is reason for them.
    fn has_extensions(&self, certificate: &Certificate) -> bool {
        let made = 3
            + usize::from(!self.template.extended_key_usage.is_empty())
            + usize::from(self.authority_key_identifier.is_some());
        let found = certificate.extensions();
        found.ends_with(&self.template.extensions)
            && found.len() == made + self.template.extensions.len()
    }
}

#[cfg(test)]
mod tests {
    use hgs_crypto::rsa::PrivateKey;

    use super::*;
    use crate::profile;

    type Change<'a> = &'a dyn Fn(&mut Expected);

    /// The certificate can't deviate as long as it is encoded rightly; so here what was wanted
    /// changes after it was encoded.
    #[test]
    fn whatever_deviates_from_the_template_is_not_issued() {
        let key = PrivateKey::generate(2048).unwrap();
        let other = PrivateKey::generate(2048).unwrap();
        let assembled = |change: Change<'_>| {
            let mut prepared = prepared(key.public());
            change(&mut prepared.wanted);
            let signature = key.sign(SignatureScheme::Pkcs1Sha256, prepared.to_be_signed());
            prepared.assemble(&signature.unwrap()).map(drop)
        };
        assert_eq!(assembled(&|_| ()), Ok(()));
        let extension = Extension {
            oid: profile::HEALTH_STATEMENT,
            critical: true,
            der: vec![5, 0],
        };
        let changes: [(Change<'_>, Deviation); 11] = [
            (
                &|wanted| wanted.serial_number[15] = 1,
                Deviation::SerialNumber,
            ),
            (&|wanted| wanted.subject.push(0), Deviation::Subject),
            (&|wanted| wanted.issuer.push(0), Deviation::Issuer),
            (
                &|wanted| wanted.subject_key = SubjectKey::Rsa(other.public().clone()),
                Deviation::PublicKey,
            ),
            (
                &|wanted| wanted.template.validity.not_after = Time::MAX,
                Deviation::Validity,
            ),
            (
                &|wanted| wanted.template.key_usage = KeyUsage::CRL_SIGN,
                Deviation::KeyUsage,
            ),
            (
                &|wanted| wanted.template.extended_key_usage.clear(),
                Deviation::ExtendedKeyUsage,
            ),
            (
                &|wanted| wanted.template.certificate_authority = true,
                Deviation::BasicConstraints,
            ),
            (
                &|wanted| wanted.template.extensions.clear(),
                Deviation::Extensions,
            ),
            (
                &|wanted| wanted.template.extensions[0] = extension.clone(),
                Deviation::Extensions,
            ),
            (
                &|wanted| wanted.authority_key_identifier = Some(vec![1]),
                Deviation::Extensions,
            ),
        ];
        for (change, deviation) in changes {
            assert_eq!(assembled(change), Err(IssueError::Deviates(deviation)));
        }
    }

    fn prepared(subject_key: &PublicKey) -> Prepared {
        let validity = Validity {
            not_before: Time::from_unix(0),
            not_after: Time::from_unix(1_000_000_000),
        };
        let mut template = profile::host_key("node", validity);
        template.extensions.push(Extension {
            oid: profile::HEALTH_STATEMENT,
            critical: false,
            der: vec![5, 0],
        });
        prepare(template, subject_key, Issuer::SelfSigned, [7; 16]).unwrap()
    }
}
