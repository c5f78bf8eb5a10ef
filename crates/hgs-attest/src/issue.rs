//! Health certificates as a suspended step: the attestation signer's key may be a token elsewhere.
//!
//! ```text
//! SerialNumber::draw, then record it with the grant
//! RecordedGrant ---> prepare ---> PreparedHealthCertificate::to_be_signed ---> whoever holds the key signs
//!                                 PreparedHealthCertificate::assemble <------- signature
//! ```

use hgs_crypto::random::{self, Random};
use hgs_crypto::rsa::SignatureScheme;
use hgs_pki::health::{self, HealthKind, HealthValidity};
use hgs_pki::issue::{Issuer, Prepared};
use hgs_pki::{Certificate, Thumbprint, issue};

use crate::host_key::{Grant, RecordedGrant};
use crate::wire::{AttestationResultType, HealthCertificateReply, Reply, ResultContent};

/// Why no health certificate was issued. The fault is ours, or the key store's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// No serial number could be drawn.
    #[error("the source of randomness failed")]
    Randomness,
    /// The certificate could not be made, or the signature is not the signer's.
    #[error(transparent)]
    Certificate(#[from] issue::IssueError),
}

/// A health certificate that only lacks its signature.
#[derive(Debug)]
#[must_use = "nothing is issued until the signature is assembled"]
pub struct PreparedHealthCertificate {
    prepared: Prepared,
    signer: Thumbprint,
    grant: RecordedGrant,
}

/// The serial number of a health certificate. It is drawn before the grant is recorded, so that the record names the
/// certificate that it is about.
#[derive(Debug, PartialEq, Eq)]
pub struct SerialNumber([u8; 16]);

impl SerialNumber {
    /// Draws the number of one certificate.
    ///
    /// # Errors
    ///
    /// [`IssueError::Randomness`].
    pub fn draw(random: &mut dyn Random) -> Result<Self, IssueError> {
        let octets = random::array(random).map_err(|_| IssueError::Randomness)?;
        Ok(Self(issue::serial_number(octets)))
    }

    /// Its octets, as they will stand in the certificate.
    #[must_use]
    pub fn octets(&self) -> &[u8; 16] {
        &self.0
    }
}

/// Writes down the health certificate of a grant, by the signer whose certificate is `signer`.
///
/// # Errors
///
/// See [`IssueError`].
pub fn prepare(
    grant: RecordedGrant,
    signer: &Certificate,
    validity: HealthValidity,
    serial: SerialNumber,
) -> Result<PreparedHealthCertificate, IssueError> {
    let template = health::template(grant.grant().kind(), grant.grant().statement(), validity)?;
    let issuer = Issuer::Certificate(signer);
    Ok(PreparedHealthCertificate {
        prepared: issue::prepare(template, grant.identity_key(), issuer, serial.0)?,
        signer: signer.thumbprint(),
        grant,
    })
}

impl PreparedHealthCertificate {
    /// The certificate of the signer whose key is to sign.
    #[must_use]
    pub fn signer(&self) -> Thumbprint {
        self.signer
    }

    /// How it is to sign.
    #[must_use]
    pub fn scheme(&self) -> SignatureScheme {
        SignatureScheme::Pkcs1Sha256
    }

    /// What it is to sign.
    #[must_use]
    pub fn to_be_signed(&self) -> &[u8] {
        self.prepared.to_be_signed()
    }

    /// Puts the certificate together, once.
    ///
    /// # Errors
    ///
    /// See [`IssueError`].
    pub fn assemble(self, signature: &[u8]) -> Result<IssuedHealthCertificate, IssueError> {
        Ok(IssuedHealthCertificate {
            certificate: self.prepared.assemble(signature)?,
            grant: self.grant,
        })
    }
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
