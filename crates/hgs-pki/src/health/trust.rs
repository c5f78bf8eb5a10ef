//! Whose health certificates are believed, and how far.

use std::collections::BTreeSet;

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
    denied_serial_numbers: BTreeSet<SerialNumber>,
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
            denied_serial_numbers: BTreeSet::new(),
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
    pub fn denying(mut self, serial_numbers: impl IntoIterator<Item = SerialNumber>) -> Self {
        self.denied_serial_numbers = serial_numbers.into_iter().collect();
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

    pub(super) fn deny_before(&self) -> Option<Time> {
        self.deny_before
    }

    pub(super) fn denies(&self, serial_number: &[u8]) -> bool {
        SerialNumber::from_bytes(serial_number)
            .is_ok_and(|serial| self.denied_serial_numbers.contains(&serial))
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
