//! Whose health certificates are believed, and how far.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::HealthCertificateError;
use crate::{Certificate, Seconds, SerialNumber, Time};

/// The longest validity that any health certificate may have, counted from its issue.
pub const MAXIMUM_VALIDITY: Seconds = Seconds::from_hours(24);

/// An attestation signer whose health certificates are believed.
#[derive(Debug, Clone)]
pub struct TrustedSigner {
    certificate: Certificate,
    own: bool,
    maximum_validity: Seconds,
    deny_before: Option<Time>,
    denied_serial_numbers: Arc<BTreeSet<SerialNumber>>,
}

impl TrustedSigner {
    /// A signer of this service: its hosts are in our registry.
    #[must_use]
    pub fn own(certificate: Certificate) -> Self {
        Self {
            certificate,
            own: true,
            maximum_validity: MAXIMUM_VALIDITY,
            deny_before: None,
            denied_serial_numbers: Arc::default(),
        }
    }

    /// A signer of another cluster, whose hosts are not registered here: the validity that it may grant is bounded by `maximum_validity`, or
    /// by [`MAXIMUM_VALIDITY`] if that is less.
    #[must_use]
    pub fn of_another_cluster(certificate: Certificate, maximum_validity: Seconds) -> Self {
        Self {
            own: false,
            maximum_validity: maximum_validity.min(MAXIMUM_VALIDITY),
            ..Self::own(certificate)
        }
    }

    /// The same, but what it issued before `time` is refused.
    #[must_use]
    pub fn denying_before(mut self, time: Option<Time>) -> Self {
        self.deny_before = time;
        self
    }

    /// The same, but certificates with these serial numbers are refused.
    #[must_use]
    pub fn denying(mut self, serial_numbers: Arc<BTreeSet<SerialNumber>>) -> Self {
        self.denied_serial_numbers = serial_numbers;
        self
    }

    /// The signer's certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Whether it is a signer of this service.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.own
    }

    pub(super) fn maximum_validity(&self) -> Seconds {
        self.maximum_validity
    }

    /// Check 2, as far as it depends on the time: whether the signer's own certificate has not ended. It is decided again
    /// when a release is recorded.
    ///
    /// # Errors
    ///
    /// [`HealthCertificateError::SignerExpired`].
    pub fn check_not_ended(&self, now: Time) -> Result<(), HealthCertificateError> {
        let not_after = self.certificate.validity().not_after;
        match now > not_after {
            true => Err(HealthCertificateError::SignerExpired { not_after, now }),
            false => Ok(()),
        }
    }

    /// Check 8: whether the signer's certificate with this number, issued then, is not denied. It is decided again when a
    /// release is recorded.
    ///
    /// # Errors
    ///
    /// [`HealthCertificateError::DeniedBefore`] and [`HealthCertificateError::Denied`].
    pub fn check_not_denied(
        &self,
        issued_at: Time,
        serial_number: &[u8],
    ) -> Result<(), HealthCertificateError> {
        if let Some(deny_before) = self.deny_before.filter(|time| issued_at < *time) {
            return Err(HealthCertificateError::DeniedBefore {
                issued_at,
                deny_before,
            });
        }
        let serial_number = SerialNumber::from_bytes(serial_number);
        match serial_number.is_ok_and(|serial| self.denied_serial_numbers.contains(&serial)) {
            true => Err(HealthCertificateError::Denied),
            false => Ok(()),
        }
    }
}

/// All signers that are trusted at one time.
#[derive(Debug, Clone, Default)]
pub struct TrustedSigners(Vec<TrustedSigner>);

impl TrustedSigners {
    /// The signers, in any order.
    #[must_use]
    pub fn new(signers: Vec<TrustedSigner>) -> Self {
        Self(signers)
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &TrustedSigner> {
        self.0.iter()
    }
}
