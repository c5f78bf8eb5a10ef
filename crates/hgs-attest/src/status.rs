//! How a host stands with its attestation server, in the words that administrators know.

use std::collections::BTreeSet;
use std::fmt;

use hgs_pki::Time;

use crate::client::{AttestationFailure, Attested, RefusedKind};
use crate::policy::PolicyName;

macro_rules! named {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.name())
            }
        }
    };
}

/// How the last attestation ended, with the numbers that the incumbent's management interface has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AttestationStatus {
    /// 0: the host is in local mode and attests to no service.
    NotConfigured,
    /// 1: no attempt has been made yet.
    Unknown,
    /// 100: the host holds a health certificate.
    Passed,
    /// 200: it passed, but the certificate has expired since.
    Expired,
    /// 300: the network or the service failed; another try may succeed.
    TransientError,
    /// 301: the server does not know the host, or bars it.
    UnauthorizedHost,
    /// 302: the host's TPM failed.
    TpmError,
    /// 303: the host is not as a policy wants it; the substatus names the policy.
    InsecureHostConfiguration,
}

impl AttestationStatus {
    /// Every status.
    pub const ALL: [Self; 8] = [
        Self::NotConfigured,
        Self::Unknown,
        Self::Passed,
        Self::Expired,
        Self::TransientError,
        Self::UnauthorizedHost,
        Self::TpmError,
        Self::InsecureHostConfiguration,
    ];

    /// Its number.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::NotConfigured => 0,
            Self::Unknown => 1,
            Self::Passed => 100,
            Self::Expired => 200,
            Self::TransientError => 300,
            Self::UnauthorizedHost => 301,
            Self::TpmError => 302,
            Self::InsecureHostConfiguration => 303,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotConfigured => "NotConfigured",
            Self::Unknown => "Unknown",
            Self::Passed => "Passed",
            Self::Expired => "Expired",
            Self::TransientError => "TransientError",
            Self::UnauthorizedHost => "UnauthorizedHost",
            Self::TpmError => "TpmError",
            Self::InsecureHostConfiguration => "InsecureHostConfiguration",
        }
    }

    /// The status with that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

named!(AttestationStatus);

/// Which policy a host failed. Only three have a documented number, so they go by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AttestationSubstatus {
    /// The volume of the operating system is not encrypted.
    BitLocker,
    /// No code integrity policy matches.
    CodeIntegrityPolicy,
    /// Crash dumps are enabled.
    DumpsEnabled,
    /// Crash dumps are not encrypted.
    DumpEncryption,
    /// Crash dumps are encrypted with an unknown key.
    DumpEncryptionKey,
    /// The host resumed from sleep or hibernation.
    FullBoot,
    /// Hibernation is enabled.
    HibernationEnabled,
    /// The hypervisor does not enforce code integrity.
    HypervisorEnforcedCodeIntegrityPolicy,
    /// The IOMMU is not in use.
    Iommu,
    /// The page file is not encrypted.
    PagefileEncryption,
    /// Secure Boot is off, or not set up as expected.
    SecureBoot,
    /// No baseline matches.
    SecureBootSettings,
    /// The boot log is missing or does not hold.
    TcgLogVerification,
    /// What protects the identity key is not running, or the key is not acceptable.
    VirtualSecureMode,
    /// A debugger is enabled.
    DebugMode,
}

impl AttestationSubstatus {
    /// Every substatus.
    pub const ALL: [Self; 15] = [
        Self::BitLocker,
        Self::CodeIntegrityPolicy,
        Self::DumpsEnabled,
        Self::DumpEncryption,
        Self::DumpEncryptionKey,
        Self::FullBoot,
        Self::HibernationEnabled,
        Self::HypervisorEnforcedCodeIntegrityPolicy,
        Self::Iommu,
        Self::PagefileEncryption,
        Self::SecureBoot,
        Self::SecureBootSettings,
        Self::TcgLogVerification,
        Self::VirtualSecureMode,
        Self::DebugMode,
    ];

    /// Its bit in the incumbent's field, where that is documented.
    #[must_use]
    pub fn bit(self) -> Option<u64> {
        match self {
            Self::SecureBoot => Some(1),
            Self::DebugMode => Some(2),
            Self::CodeIntegrityPolicy => Some(4),
            _ => None,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BitLocker => "BitLocker",
            Self::CodeIntegrityPolicy => "CodeIntegrityPolicy",
            Self::DumpsEnabled => "DumpsEnabled",
            Self::DumpEncryption => "DumpEncryption",
            Self::DumpEncryptionKey => "DumpEncryptionKey",
            Self::FullBoot => "FullBoot",
            Self::HibernationEnabled => "HibernationEnabled",
            Self::HypervisorEnforcedCodeIntegrityPolicy => "HypervisorEnforcedCodeIntegrityPolicy",
            Self::Iommu => "Iommu",
            Self::PagefileEncryption => "PagefileEncryption",
            Self::SecureBoot => "SecureBoot",
            Self::SecureBootSettings => "SecureBootSettings",
            Self::TcgLogVerification => "TcgLogVerification",
            Self::VirtualSecureMode => "VirtualSecureMode",
            Self::DebugMode => "DebugMode",
        }
    }

    /// The substatus with that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|substatus| substatus.name() == name)
    }
}

named!(AttestationSubstatus);

/// What a host knows of its own health. Plain data, so that it can be kept between two runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationState {
    /// How the last attempt ended; for what it is now, ask [`Self::status`].
    pub last: AttestationStatus,
    /// Which policies failed; empty is what the incumbent calls NoInformation.
    pub substatus: BTreeSet<AttestationSubstatus>,
    /// What the server, or the network, said.
    pub detail: Option<String>,
    /// The last second of the newest health certificate, which may be older than the last attempt.
    pub expires: Option<Time>,
}

impl AttestationState {
    /// A host in local mode.
    #[must_use]
    pub fn not_configured() -> Self {
        Self::of(AttestationStatus::NotConfigured)
    }

    /// A host that has not tried yet.
    #[must_use]
    pub fn unknown() -> Self {
        Self::of(AttestationStatus::Unknown)
    }

    /// A host that holds a health certificate until `expires`.
    #[must_use]
    pub fn passed(expires: Time) -> Self {
        Self {
            expires: Some(expires),
            ..Self::of(AttestationStatus::Passed)
        }
    }

    /// The state after an attempt. A certificate that is still valid is not lost by a failure.
    #[must_use]
    pub fn after(&self, attempt: &Result<Attested, AttestationFailure>) -> Self {
        match attempt {
            Ok(attested) => Self::passed(attested.expires()),
            Err(failure) => {
                let (status, substatus) = classify(failure);
                Self {
                    substatus,
                    detail: Some(failure.to_string()),
                    expires: self.expires,
                    ..Self::of(status)
                }
            }
        }
    }

    /// The state after an attempt that got no reply at all.
    #[must_use]
    pub fn unreachable(&self, detail: String) -> Self {
        Self {
            detail: Some(detail),
            expires: self.expires,
            ..Self::of(AttestationStatus::TransientError)
        }
    }

    /// The status at `now`.
    #[must_use]
    pub fn status(&self, now: Time) -> AttestationStatus {
        match self.last {
            AttestationStatus::Passed if !self.has_certificate(now) => AttestationStatus::Expired,
            last => last,
        }
    }

    /// Whether the host holds a valid health certificate, which may be older than the last attempt.
    #[must_use]
    pub fn has_certificate(&self, now: Time) -> bool {
        self.expires.is_some_and(|expires| now <= expires)
    }

    fn of(last: AttestationStatus) -> Self {
        Self {
            last,
            substatus: BTreeSet::new(),
            detail: None,
            expires: None,
        }
    }
}

fn classify(failure: &AttestationFailure) -> (AttestationStatus, BTreeSet<AttestationSubstatus>) {
    use AttestationStatus::{
        InsecureHostConfiguration, TpmError, TransientError, UnauthorizedHost,
    };
    let none = BTreeSet::new();
    let refused = match failure {
        AttestationFailure::Refused(refused) => refused,
        AttestationFailure::Rtpm(_) => return (TpmError, none),
        _ => return (TransientError, none),
    };
    match refused.kind {
        RefusedKind::Unauthorized => (UnauthorizedHost, none),
        RefusedKind::Rtpm => (TpmError, none),
        RefusedKind::PolicyEvaluation => {
            let failed = refused.policies.iter().filter(|policy| !policy.result);
            let failed = failed.filter_map(|failed| {
                let mut policies = PolicyName::ALL.into_iter();
                policies.find(|policy| policy.guid().octets()[..] == failed.reason)
            });
            (
                InsecureHostConfiguration,
                failed.map(PolicyName::substatus).collect(),
            )
        }
        RefusedKind::TcgLogValidation => {
            let substatus = AttestationSubstatus::TcgLogVerification;
            (InsecureHostConfiguration, BTreeSet::from([substatus]))
        }
        RefusedKind::VirtualSecureMode | RefusedKind::VsmReportValidation => {
            let substatus = AttestationSubstatus::VirtualSecureMode;
            (InsecureHostConfiguration, BTreeSet::from([substatus]))
        }
        // The list has no status for a request that the server does not understand.
        RefusedKind::Error | RefusedKind::Payload | RefusedKind::Unavailable => {
            (TransientError, none)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::{Code, Reason, Refusal};

    #[test]
    fn names_and_numbers_go_both_ways() {
        for status in AttestationStatus::ALL {
            assert_eq!(AttestationStatus::from_name(status.name()), Some(status));
            assert_eq!(status.name(), format!("{status:?}"));
        }
        let numbers: Vec<_> = AttestationStatus::ALL.map(AttestationStatus::number).into();
        assert_eq!(numbers, [0, 1, 100, 200, 300, 301, 302, 303]);
        for substatus in AttestationSubstatus::ALL {
            let name = substatus.name();
            assert_eq!(AttestationSubstatus::from_name(name), Some(substatus));
            assert_eq!(name, format!("{substatus:?}"));
        }
    }

    #[test]
    fn passed_becomes_expired_one_second_after_the_certificate() {
        let expires = Time::from_unix(1_000);
        let state = AttestationState::passed(expires);
        assert_eq!(state.status(expires), AttestationStatus::Passed);
        let later = Time::from_unix(1_001);
        assert_eq!(state.status(later), AttestationStatus::Expired);
        assert!(!state.has_certificate(later));
    }

    #[test]
    fn a_failure_is_shown_and_the_certificate_from_before_is_kept() {
        let expires = Time::from_unix(1_000);
        let refused = Refusal::from(Reason::HostRevoked);
        let failure = receive(&refused);
        let state = AttestationState::passed(expires).after(&Err(failure));
        assert_eq!(state.status(expires), AttestationStatus::UnauthorizedHost);
        assert_eq!(state.substatus.len(), 0);
        assert!(state.has_certificate(expires));
        let detail = state.detail.unwrap();
        assert!(detail.contains("the host was revoked"), "{detail}");
        assert!(detail.contains(Code::HostRevoked.name()), "{detail}");
    }

    #[test]
    fn every_reply_has_a_status() {
        use AttestationStatus as Status;
        for (reason, status, substatus) in [
            (Reason::HostNotRegistered, Status::UnauthorizedHost, None),
            (Reason::Unavailable, Status::TransientError, None),
            (Reason::CaIntermediate, Status::TransientError, None),
            (Reason::Internal, Status::TransientError, None),
            (
                Reason::IdentityKeyIsHostKey,
                Status::InsecureHostConfiguration,
                Some(AttestationSubstatus::VirtualSecureMode),
            ),
        ] {
            let failure = receive(&Refusal::from(reason));
            let state = AttestationState::unknown().after(&Err(failure));
            assert_eq!(state.status(Time::from_unix(0)), status);
            assert_eq!(state.substatus.into_iter().next(), substatus);
        }
    }

    fn receive(refusal: &Refusal) -> AttestationFailure {
        let body = refusal.reply().to_json();
        crate::client::read_service_info(refusal.status(), &body).unwrap_err()
    }
}
