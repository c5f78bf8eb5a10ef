//! Why health certificates are refused, by the number of the check.

use const_oid::ObjectIdentifier;

use super::{HealthKind, StatementError};
use crate::{CertificateError, Seconds, Time};

/// Why a health certificate is not believed. The host is at fault, or a peer that claims to be it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HealthCertificateError {
    /// Check 1: not an acceptable certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Check 2: no trusted attestation signer issued it.
    #[error("health certificate was issued by no trusted attestation signer")]
    UntrustedIssuer,
    /// Check 2: the certificate of the signer has ended.
    #[error("the certificate of the attestation signer ended at {not_after}; it is {now}")]
    SignerExpired {
        /// Its last second.
        not_after: Time,
        /// The time of the check.
        now: Time,
    },
    /// Check 2: it is the certificate of a signer, or one over a signer's key.
    #[error("certificate is that of an attestation signer, not of a host")]
    IsSigner,
    /// Check 3: not of version 3.
    #[error("health certificate is not of version 3")]
    Version,
    /// Check 3: it does not say that its subject is no authority.
    #[error("health certificate has no basic constraints")]
    NoBasicConstraints,
    /// Check 3: it is the certificate of an authority.
    #[error("health certificate is that of a certificate authority")]
    CertificateAuthority,
    /// Check 3: it has a critical extension that has no place in it.
    #[error("health certificate has the critical extension {0}")]
    CriticalExtension(ObjectIdentifier),
    /// Check 4: its extended key usage is something else than the one purpose that is asked for.
    #[error("health certificate is not for {expected} alone")]
    Purpose {
        /// What is asked for.
        expected: HealthKind,
    },
    /// Check 4: its key usage does not allow what is asked for.
    #[error("key usage of the health certificate does not allow {expected}")]
    KeyUsage {
        /// What is asked for.
        expected: HealthKind,
    },
    /// Check 5: no health statement.
    #[error("health certificate has no health statement")]
    NoStatement,
    /// Check 5: a malformed health statement.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// Check 6: no longer valid.
    #[error("health certificate expired at {not_after}; it is {now}")]
    Expired {
        /// Its last second.
        not_after: Time,
        /// The time of the check.
        now: Time,
    },
    /// Check 6: not yet valid.
    #[error("health certificate is not valid before {not_before}; it is {now}")]
    NotYetValid {
        /// Its first second.
        not_before: Time,
        /// The time of the check.
        now: Time,
    },
    /// Check 6: issued in the future.
    #[error("health certificate was issued at {issued_at}; it is {now}")]
    IssuedInTheFuture {
        /// When it says that it was issued.
        issued_at: Time,
        /// The time of the check.
        now: Time,
    },
    /// Check 7: valid for longer than its signer may grant.
    #[error("health certificate is valid for {} seconds; its signer may grant {}", .found.get(), .maximum.get())]
    ValidityTooLong {
        /// For how long, counted from its issue.
        found: Seconds,
        /// What the signer may grant.
        maximum: Seconds,
    },
    /// Check 8: issued before the signer's deny-before date.
    #[error(
        "health certificate was issued at {issued_at}; its signer is denied before {deny_before}"
    )]
    DeniedBefore {
        /// When it was issued.
        issued_at: Time,
        /// The date.
        deny_before: Time,
    },
    /// Check 8: on the signer's local deny list.
    #[error("health certificate is on the deny list of its signer")]
    Denied,
}
