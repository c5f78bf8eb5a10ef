//! Health certificates, signed by the attestation signer's key.
//!
//! ```text
//! DrawnSerialNumber::draw, then record it with the grant
//! RecordedGrant ---> issue(.., keys) ---> IssuedHealthCertificate
//! ```

use hgs_crypto::random::{self, Random};
use hgs_crypto::rsa::SignatureScheme;
use hgs_pki::health::{self, HealthKind, HealthValidity};
use hgs_pki::issue::Issuer;
use hgs_pki::{Certificate, KeyError, KeyWork, SerialNumber, Thumbprint};

use crate::verdict::{Grant, RecordedGrant};
use crate::wire::{AttestationResultType, HealthCertificateReply, Reply, ResultContent};

/// Why no health certificate was issued. The fault is ours, or the key store's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// No serial number could be drawn.
    #[error("the source of randomness failed")]
    Randomness,
    /// The signer's private key can't be used.
    #[error("the private key of certificate {certificate} can't be used: {error}")]
    Key {
        /// The thumbprint of the signer's certificate.
        certificate: Thumbprint,
        /// Why.
        error: KeyError,
    },
    /// The certificate could not be made, or the signature is not the signer's.
    #[error(transparent)]
    Certificate(#[from] hgs_pki::issue::IssueError),
}

/// The serial number of a health certificate. It is drawn before the grant is recorded, so that the record names the
/// certificate that it is about.
#[derive(Debug, PartialEq, Eq)]
pub struct DrawnSerialNumber([u8; 16]);

impl DrawnSerialNumber {
    /// Draws the number of one certificate.
    ///
    /// # Errors
    ///
    /// [`IssueError::Randomness`].
    pub fn draw(random: &mut dyn Random) -> Result<Self, IssueError> {
        let octets = random::array(random).map_err(|_| IssueError::Randomness)?;
        Ok(Self(hgs_pki::issue::serial_number(octets)))
    }

    /// The number, as records name it.
    #[must_use]
    pub fn number(&self) -> SerialNumber {
        self.0.into()
    }
}

/// Issues the health certificate of a grant, signed by the key of `signer`.
pub fn issue(
    grant: RecordedGrant,
    signer: &Certificate,
    validity: HealthValidity,
    serial: DrawnSerialNumber,
    keys: &mut dyn KeyWork,
) -> Result<IssuedHealthCertificate, IssueError> {
    let template = health::template(grant.grant().kind(), grant.grant().statement(), validity)?;
    let issuer = Issuer::Certificate(signer);
    let prepared =
        hgs_pki::issue::prepare(template, grant.grant().identity_key(), issuer, serial.0)?;
    let certificate = signer.thumbprint();
    let signature = keys
        .sign(
            &certificate,
            SignatureScheme::Pkcs1Sha256,
            prepared.to_be_signed(),
        )
        .map_err(|error| IssueError::Key { certificate, error })?;
    Ok(IssuedHealthCertificate {
        certificate: prepared.assemble(&signature)?,
        grant,
    })
}

/// A health certificate that was issued, with the grant it was issued for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "the host waits for the reply"]
pub struct IssuedHealthCertificate {
    certificate: Certificate,
    grant: RecordedGrant,
}

impl IssuedHealthCertificate {
    /// The certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// What it was issued for.
    pub fn grant(&self) -> &Grant {
        self.grant.grant()
    }

    /// The reply to the host, with status 200.
    #[must_use]
    pub fn reply(&self) -> Reply {
        Reply::HealthCertificate(HealthCertificateReply {
            content: vec![ResultContent {
                result_type: result_type(self.grant().kind()),
                octets: self.certificate.der().to_vec(),
            }],
        })
    }
}

/// The result by which a kind is requested.
#[must_use]
pub fn result_type(kind: HealthKind) -> AttestationResultType {
    match kind {
        HealthKind::Encryption => AttestationResultType::VsmIdentityEncryptionKeyCertificate,
        HealthKind::Signing => AttestationResultType::VsmIdentitySigningKeyCertificate,
    }
}
