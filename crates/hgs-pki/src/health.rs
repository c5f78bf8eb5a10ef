//! Health certificates: an attestation signer's statement about a host's identity key, and what a key service checks
//! before it believes it (section 8 of the protocol profile).
//!
//! ```text
//! template(kind, statement, validity) ----> issue::prepare, sign, assemble ----> Certificate
//!
//! HealthCertificate::from_der ----> verify(signers, kind, now, skew) ----> VerifiedHealthCertificate
//! ```
//!
//! One confusion is one check: a certificate for signing where one for encryption is asked for, that of an authority
//! where a leaf is, another cluster's, an expired one. The checks have an order, and the first that fails is reported.
//! The last check, that the host is registered and not revoked, is made by the caller, who knows the hosts.

mod error;
mod statement;
mod trust;
mod verify;

use std::fmt;
use std::str::FromStr;

use const_oid::ObjectIdentifier;

use crate::issue::{IssueError, Template};
use crate::profile::{HEALTH_ENCRYPTION, HEALTH_SIGNING, HEALTH_STATEMENT};
use crate::{Certificate, CertificateCache, CertificateError, Extension, KeyUsage};
use crate::{Seconds, Time, Validity};

pub use error::HealthCertificateError;
pub use statement::{
    AttestationMode, AttestationModeError, HealthStatement, HostId, HostIdError, StatementError,
};
pub use trust::{MAXIMUM_VALIDITY, TrustedSigner, TrustedSigners};
pub use verify::VerifiedHealthCertificate;
pub(crate) use verify::fuzz_checks_behind_the_signature;

/// How long before its issue a health certificate begins to be valid, for hosts whose clocks are late.
pub const BACKDATED: Seconds = Seconds::from_minutes(5);

/// The purpose of the key of a health certificate. Each host has one key for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HealthKind {
    /// The key decrypts: what KPS releases is encrypted to it.
    Encryption,
    /// The key signs: reports of enclaves, for instance.
    Signing,
}

impl HealthKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Encryption, Self::Signing];

    /// In one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Encryption => "encryption",
            Self::Signing => "signing",
        }
    }

    /// The one purpose in its extended key usage.
    #[must_use]
    pub const fn purpose(self) -> ObjectIdentifier {
        match self {
            Self::Encryption => HEALTH_ENCRYPTION,
            Self::Signing => HEALTH_SIGNING,
        }
    }

    /// Its key usage.
    #[must_use]
    pub const fn key_usage(self) -> KeyUsage {
        match self {
            Self::Encryption => KeyUsage::KEY_ENCIPHERMENT,
            Self::Signing => KeyUsage::DIGITAL_SIGNATURE,
        }
    }
}

impl fmt::Display for HealthKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The text is not the name of a kind of identity key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an identity key is for `encryption` or `signing`")]
pub struct HealthKindError;

impl FromStr for HealthKind {
    type Err = HealthKindError;

    fn from_str(name: &str) -> Result<Self, HealthKindError> {
        let mut kinds = Self::ALL.into_iter();
        kinds
            .find(|kind| kind.name() == name)
            .ok_or(HealthKindError)
    }
}

/// How long after its issue a health certificate is valid: 5 minutes to 24 hours, by default 8 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HealthValidity(Seconds);

/// A validity that no health certificate may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("health certificates are valid for 5 minutes to 24 hours, not for {0} seconds")]
pub struct HealthValidityError(pub u64);

impl HealthValidity {
    /// The shortest: 5 minutes.
    pub const SHORTEST: Self = Self(Seconds::from_minutes(5));
    /// The longest: 24 hours.
    pub const LONGEST: Self = Self(MAXIMUM_VALIDITY);

    /// The validity as seconds.
    #[must_use]
    pub const fn seconds(self) -> Seconds {
        self.0
    }
}

impl Default for HealthValidity {
    fn default() -> Self {
        Self(Seconds::from_hours(8))
    }
}

impl TryFrom<Seconds> for HealthValidity {
    type Error = HealthValidityError;

    fn try_from(seconds: Seconds) -> Result<Self, HealthValidityError> {
        let validity = Self(seconds);
        (Self::SHORTEST..=Self::LONGEST)
            .contains(&validity)
            .then_some(validity)
            .ok_or_else(|| HealthValidityError(seconds.get()))
    }
}

/// The template of a health certificate that carries `statement`.
///
/// # Errors
///
/// [`IssueError::Encoding`] when the statement was issued before 1970.
pub fn template(
    kind: HealthKind,
    statement: &HealthStatement,
    validity: HealthValidity,
) -> Result<Template, IssueError> {
    let issued_at = statement.issued_at;
    let first = issued_at.checked_sub(BACKDATED).unwrap_or(Time::MIN);
    let last = issued_at.checked_add(validity.0).unwrap_or(Time::MAX);
    Ok(Template {
        common_name: "OpenHGS Health Certificate".to_owned(),
        validity: Validity {
            not_before: first,
            not_after: last,
        },
        key_usage: kind.key_usage(),
        extended_key_usage: vec![kind.purpose()],
        certificate_authority: false,
        extensions: vec![Extension {
            oid: HEALTH_STATEMENT,
            critical: false,
            der: statement.to_der()?,
        }],
    })
}

/// A certificate that claims to be a health certificate. Nothing in it is verified.
#[derive(Debug, Clone)]
pub struct HealthCertificate {
    certificate: Certificate,
    /// Where its key is examined once a signer has vouched for it, if that was not done yet.
    cache: Option<CertificateCache>,
}

impl HealthCertificate {
    /// Reads the certificate: check 1, its form and its key.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        Ok(Self {
            certificate: Certificate::from_der(der)?,
            cache: None,
        })
    }

    /// As [`Self::from_der`], without parsing again a certificate that `cache` has seen. The key of another is searched for
    /// weaknesses, and the certificate remembered, when a signer's signature has verified.
    pub fn from_der_cached(der: &[u8], cache: &CertificateCache) -> Result<Self, CertificateError> {
        Ok(Self {
            certificate: cache.parse_unexamined(der)?,
            cache: Some(cache.clone()),
        })
    }

    /// The certificate. It is not shown yet that a signer issued it.
    #[must_use]
    pub fn unverified(&self) -> &Certificate {
        &self.certificate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_validity_is_five_minutes_to_a_day_and_eight_hours_by_default() {
        let of = |seconds| HealthValidity::try_from(Seconds::new(seconds));
        assert_eq!(of(299), Err(HealthValidityError(299)));
        assert_eq!(of(300), Ok(HealthValidity::SHORTEST));
        assert_eq!(of(28_800), Ok(HealthValidity::default()));
        assert_eq!(of(86_400), Ok(HealthValidity::LONGEST));
        assert_eq!(of(86_401), Err(HealthValidityError(86_401)));
    }
}
