//! The checks, in their order.

use const_oid::db::rfc5280::{ID_CE_BASIC_CONSTRAINTS, ID_CE_KEY_USAGE};

use super::{
    HealthCertificate, HealthCertificateError, HealthKind, HealthStatement, TrustedSigner,
    TrustedSigners,
};
use crate::profile::HEALTH_STATEMENT;
use crate::{Certificate, Seconds, SignatureCache, Thumbprint, Time, Version};

/// A health certificate that passed checks 1 to 8. Check 9 remains: for one of our own signers, that the host is
/// registered and not revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedHealthCertificate {
    certificate: Certificate,
    kind: HealthKind,
    statement: HealthStatement,
    signer: Thumbprint,
    own_signer: bool,
}

impl HealthCertificate {
    /// Checks 2 to 8 of section 8 of the protocol profile, in that order.
    ///
    /// `skew` is how far the clock of the issuer may be ahead; it is not granted at the end of the validity.
    ///
    /// # Errors
    ///
    /// The first check that fails; see [`HealthCertificateError`].
    pub fn verify(
        self,
        signers: &TrustedSigners,
        kind: HealthKind,
        now: Time,
        skew: Seconds,
    ) -> Result<VerifiedHealthCertificate, HealthCertificateError> {
        self.verify_with(signers, kind, now, skew, |certificate, issuer| {
            certificate.verify_issued_by(issuer).is_ok()
        })
    }

    /// As [`Self::verify`], without repeating an RSA verification that `cache` has seen.
    ///
    /// # Errors
    ///
    /// The first check that fails; see [`HealthCertificateError`].
    pub fn verify_cached(
        self,
        signers: &TrustedSigners,
        kind: HealthKind,
        now: Time,
        skew: Seconds,
        cache: &SignatureCache,
    ) -> Result<VerifiedHealthCertificate, HealthCertificateError> {
        self.verify_with(signers, kind, now, skew, |certificate, issuer| {
            certificate.verify_issued_by_cached(issuer, cache).is_ok()
        })
    }

    fn verify_with(
        self,
        signers: &TrustedSigners,
        kind: HealthKind,
        now: Time,
        skew: Seconds,
        is_issued_by: impl Fn(&Certificate, &Certificate) -> bool,
    ) -> Result<VerifiedHealthCertificate, HealthCertificateError> {
        let Self { certificate, cache } = self;
        let signer = signer_of(&certificate, signers, |issuer| {
            is_issued_by(&certificate, issuer)
        })?;
        if let Some(cache) = cache {
            cache.examine(&certificate)?;
        }
        verified(certificate, signer, kind, now, skew)
    }
}

impl VerifiedHealthCertificate {
    /// The certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The purpose of its key.
    #[must_use]
    pub fn kind(&self) -> HealthKind {
        self.kind
    }

    /// The attestation server's statement about the host.
    #[must_use]
    pub fn statement(&self) -> &HealthStatement {
        &self.statement
    }

    /// The thumbprint of the signer's certificate.
    #[must_use]
    pub fn signer(&self) -> Thumbprint {
        self.signer
    }

    /// Whether one of our own signers issued it, so that the host must be in our registry.
    #[must_use]
    pub fn is_from_own_signer(&self) -> bool {
        self.own_signer
    }
}

fn verified(
    certificate: Certificate,
    signer: &TrustedSigner,
    kind: HealthKind,
    now: Time,
    skew: Seconds,
) -> Result<VerifiedHealthCertificate, HealthCertificateError> {
    signer.check_not_ended(now)?;
    check_is_leaf(&certificate)?;
    check_purpose(&certificate, kind)?;
    let statement = read_statement(&certificate)?;
    check_time(&certificate, &statement, now, skew)?;
    check_granted_validity(&certificate, &statement, signer)?;
    signer.check_not_denied(statement.issued_at, certificate.serial_number())?;
    Ok(VerifiedHealthCertificate {
        kind,
        statement,
        signer: signer.certificate().thumbprint(),
        own_signer: signer.is_own(),
        certificate,
    })
}

/// Checks 3 to 8 without a signature, for fuzzing. The result is dropped.
pub(crate) fn fuzz_checks_behind_the_signature(
    certificate: &Certificate,
    kind: HealthKind,
    now: Time,
    skew: Seconds,
) {
    let signer = TrustedSigner::own(certificate.clone());
    let _ = verified(certificate.clone(), &signer, kind, now, skew);
}

/// Check 2. All our signers have one name, so there may be several candidates.
fn signer_of<'s>(
    certificate: &Certificate,
    signers: &'s TrustedSigners,
    issued_by: impl Fn(&Certificate) -> bool,
) -> Result<&'s TrustedSigner, HealthCertificateError> {
    let covers_key_of =
        |signer: &TrustedSigner| signer.certificate().public_key() == certificate.public_key();
    if signers.iter().any(covers_key_of) {
        return Err(HealthCertificateError::IsSigner);
    }
    let mut signers = signers.iter();
    signers
        .find(|signer| issued_by(signer.certificate()))
        .ok_or(HealthCertificateError::UntrustedIssuer)
}

/// Check 3.
fn check_is_leaf(certificate: &Certificate) -> Result<(), HealthCertificateError> {
    if certificate.version() != Version::V3 {
        return Err(HealthCertificateError::Version);
    }
    if certificate.extension(&ID_CE_BASIC_CONSTRAINTS).is_none() {
        return Err(HealthCertificateError::NoBasicConstraints);
    }
    if certificate.is_certificate_authority() {
        return Err(HealthCertificateError::CertificateAuthority);
    }
    let mut extensions = certificate.extensions().iter();
    let out_of_place = extensions.find(|extension| {
        extension.critical && ![ID_CE_BASIC_CONSTRAINTS, ID_CE_KEY_USAGE].contains(&extension.oid)
    });
    match out_of_place {
        Some(extension) => Err(HealthCertificateError::CriticalExtension(extension.oid)),
        None => Ok(()),
    }
}

/// Check 4.
fn check_purpose(
    certificate: &Certificate,
    expected: HealthKind,
) -> Result<(), HealthCertificateError> {
    if certificate.extended_key_usage() != Some(&[expected.purpose()]) {
        return Err(HealthCertificateError::Purpose { expected });
    }
    let usage = certificate.key_usage();
    if !usage.is_some_and(|usage| usage.contains(expected.key_usage())) {
        return Err(HealthCertificateError::KeyUsage { expected });
    }
    Ok(())
}

/// Check 5.
fn read_statement(certificate: &Certificate) -> Result<HealthStatement, HealthCertificateError> {
    let (_, der) = certificate
        .extension(&HEALTH_STATEMENT)
        .ok_or(HealthCertificateError::NoStatement)?;
    Ok(HealthStatement::from_der(der)?)
}

/// Check 6.
fn check_time(
    certificate: &Certificate,
    statement: &HealthStatement,
    now: Time,
    skew: Seconds,
) -> Result<(), HealthCertificateError> {
    let not_after = certificate.validity().not_after;
    if now > not_after {
        return Err(HealthCertificateError::Expired { not_after, now });
    }
    let latest = now.checked_add(skew).unwrap_or(Time::MAX);
    let not_before = certificate.validity().not_before;
    if not_before > latest {
        return Err(HealthCertificateError::NotYetValid { not_before, now });
    }
    let issued_at = statement.issued_at;
    if issued_at > latest {
        return Err(HealthCertificateError::IssuedInTheFuture { issued_at, now });
    }
    Ok(())
}

/// Check 7.
fn check_granted_validity(
    certificate: &Certificate,
    statement: &HealthStatement,
    signer: &TrustedSigner,
) -> Result<(), HealthCertificateError> {
    let maximum = signer.maximum_validity();
    match certificate.validity().not_after.since(statement.issued_at) {
        Some(found) if found > maximum => {
            Err(HealthCertificateError::ValidityTooLong { found, maximum })
        }
        _ => Ok(()),
    }
}
