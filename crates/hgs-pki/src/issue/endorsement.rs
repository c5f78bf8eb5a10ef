//! EK certificates for TPMs in software, whose maker is their owner (TCG EK Credential Profile 2.x).

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5912::{ID_EC_PUBLIC_KEY, SECP_384_R_1};
use der::Encode;
use der::asn1::{AnyRef, BitStringRef};
use hgs_crypto::rsa::{PublicKey, SignatureScheme};
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

use super::{Expected, IssueError, Issuer, SubjectKey, encode, expect};
use crate::certificate::AnyKeyCertificate;
use crate::endorsement::{EndorsementCertificate, TpmModel};
use crate::issue::Deviation;
use crate::profile::{self, EndorsementKeyUse};
use crate::{Certificate, Validity};

/// The endorsement key that is certified, as the TPM said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndorsementSubject {
    /// With RSA-2048.
    Rsa(PublicKey),
    /// On P-384: both coordinates.
    P384 {
        /// The first coordinate.
        x: [u8; 48],
        /// The second coordinate.
        y: [u8; 48],
    },
}

/// An EK certificate that only lacks its signature.
#[derive(Debug)]
#[must_use = "nothing is issued until the signature is assembled"]
pub struct PreparedEndorsement {
    to_be_signed: Vec<u8>,
    issuer_key: PublicKey,
    subject: EndorsementSubject,
    wanted: Expected,
}

/// Writes down what is to be signed for the EK certificate of `subject`, a key of the TPM `tpm` in the VM `name`.
///
/// `serial` is 16 random octets. An RSA key that was read without the search for weaknesses must be
/// [examined](PublicKey::examine) first.
///
/// # Errors
/// When the parts can't give a good certificate.
pub fn prepare_endorsement(
    name: &str,
    tpm: &TpmModel,
    validity: Validity,
    subject: EndorsementSubject,
    issuer: &Certificate,
    serial: [u8; 16],
) -> Result<PreparedEndorsement, IssueError> {
    let (usage, key) = match &subject {
        EndorsementSubject::Rsa(key) => (
            EndorsementKeyUse::Encipherment,
            SubjectKey::Rsa(key.clone()),
        ),
        EndorsementSubject::P384 { x, y } => (
            EndorsementKeyUse::Agreement,
            SubjectKey::Other(p384_spki(x, y)?),
        ),
    };
    let template = profile::endorsement(name, tpm, usage, validity)?;
    let (wanted, issuer_key) = expect(template, key, Issuer::Certificate(issuer), serial)?;
    Ok(PreparedEndorsement {
        to_be_signed: encode::to_be_signed(&wanted)?,
        issuer_key,
        subject,
        wanted,
    })
}

impl PreparedEndorsement {
    /// The octets over which the issuer makes a signature with RSASSA-PKCS1-v1_5 and SHA-256.
    #[must_use]
    pub fn to_be_signed(&self) -> &[u8] {
        &self.to_be_signed
    }

    /// Puts the certificate together and returns its DER. It is returned only if `signature` verifies under the issuer's
    /// key, and reading the result as verifiers of TPMs do gives the key and what the profile wants.
    ///
    /// # Errors
    /// When the signature is not the issuer's.
    pub fn assemble(self, signature: &[u8]) -> Result<Vec<u8>, IssueError> {
        self.issuer_key
            .verify(SignatureScheme::Pkcs1Sha256, &self.to_be_signed, signature)
            .map_err(|_| IssueError::Signature)?;
        let der = encode::certificate(&self.to_be_signed, signature)?;
        let key_is_right = match &self.subject {
            EndorsementSubject::Rsa(key) => {
                EndorsementCertificate::from_octets(&der)?.public_key() == key
            }
            EndorsementSubject::P384 { x, y } => {
                AnyKeyCertificate::from_der(&der)?.key == point(x, y)
            }
        };
        let validity = AnyKeyCertificate::from_der(&der)?.validity;
        match (key_is_right, validity == self.wanted.template.validity) {
            (false, _) => Err(IssueError::Deviates(Deviation::PublicKey)),
            (_, false) => Err(IssueError::Deviates(Deviation::Validity)),
            _ => Ok(der),
        }
    }
}

/// SEC 1, 2.3.3: an uncompressed point.
fn point(x: &[u8; 48], y: &[u8; 48]) -> Vec<u8> {
    [&[4][..], x, y].concat()
}

fn p384_spki(x: &[u8; 48], y: &[u8; 48]) -> Result<Vec<u8>, IssueError> {
    const CURVE: ObjectIdentifier = SECP_384_R_1;
    let point = point(x, y);
    let key = SubjectPublicKeyInfoRef {
        algorithm: AlgorithmIdentifierRef {
            oid: ID_EC_PUBLIC_KEY,
            parameters: Some(AnyRef::from(&CURVE)),
        },
        subject_public_key: BitStringRef::from_bytes(&point)?,
    };
    Ok(key.to_der()?)
}
