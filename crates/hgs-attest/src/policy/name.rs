//! The policies by name and GUID, and which of them are enabled.

use std::collections::BTreeMap;
use std::fmt;

use hgs_tcg::event_log::Guid;

use crate::status::AttestationSubstatus;

/// A policy of [MS-HGSA] 2.2.2.13. What it means on Linux is in `docs/policies.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyName {
    /// Secure Boot was on.
    SecureBootEnabled,
    /// The boot matches a baseline.
    SecureBootSettings,
    /// No debugger was attached to the firmware or to the kernel.
    UefiDebugDisabled,
    /// The IMA log matches a code integrity policy.
    CiPolicy,
    /// The kernel refuses code that is not signed.
    HypervisorEnforcedCiPolicy,
    /// The host did not resume from hibernation.
    FullBoot,
    /// The identity key is a key of the host's TPM.
    VsmIdkPresent,
    /// Virtual Secure Mode of Windows runs.
    VsmRunning,
    /// No memory is written to an unencrypted page file.
    PageFileEncryptionEnabled,
    /// The volume of the operating system is encrypted.
    BitLockerEnabled,
    /// Devices reach memory through an IOMMU only.
    IommuEnabled,
    /// The host can't hibernate.
    NoHibernation,
    /// The host can't write a crash dump.
    NoDumps,
    /// Crash dumps, if there are any, are encrypted.
    DumpEncryption,
    /// Crash dumps, if there are any, are encrypted to a registered key.
    DumpEncryptionKey,
}

/// What decides a policy for a host that runs Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecidedBy {
    /// What was measured.
    Evidence,
    /// The exchange itself: it certifies no key that the host's TPM did not make. Such a policy is always on.
    Exchange,
    /// Nothing that is measured on Linux. Such a policy can't be enabled.
    Nothing,
}

impl PolicyName {
    /// Every policy, in the order of the specification.
    pub const ALL: [Self; 15] = [
        Self::SecureBootEnabled,
        Self::SecureBootSettings,
        Self::UefiDebugDisabled,
        Self::CiPolicy,
        Self::FullBoot,
        Self::VsmIdkPresent,
        Self::VsmRunning,
        Self::IommuEnabled,
        Self::BitLockerEnabled,
        Self::PageFileEncryptionEnabled,
        Self::HypervisorEnforcedCiPolicy,
        Self::NoHibernation,
        Self::NoDumps,
        Self::DumpEncryption,
        Self::DumpEncryptionKey,
    ];

    /// Its name, as administrators of the incumbent know it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SecureBootEnabled => "Hgs_SecureBootEnabled",
            Self::SecureBootSettings => "Hgs_SecureBootSettings",
            Self::UefiDebugDisabled => "Hgs_UefiDebugDisabled",
            Self::CiPolicy => "Hgs_CiPolicy",
            Self::HypervisorEnforcedCiPolicy => "Hgs_HypervisorEnforcedCiPolicy",
            Self::FullBoot => "Hgs_FullBoot",
            Self::VsmIdkPresent => "Hgs_VsmIdkPresent",
            Self::VsmRunning => "Hgs_VsmRunning",
            Self::PageFileEncryptionEnabled => "Hgs_PageFileEncryptionEnabled",
            Self::BitLockerEnabled => "Hgs_BitLockerEnabled",
            Self::IommuEnabled => "Hgs_IommuEnabled",
            Self::NoHibernation => "Hgs_NoHibernation",
            Self::NoDumps => "Hgs_NoDumps",
            Self::DumpEncryption => "Hgs_DumpEncryption",
            Self::DumpEncryptionKey => "Hgs_DumpEncryptionKey",
        }
    }

    /// The policy with that name, which may be written without `Hgs_` and in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let bare = |name: &str| {
            let lower = name.to_ascii_lowercase();
            lower
                .strip_prefix("hgs_")
                .map(str::to_owned)
                .unwrap_or(lower)
        };
        let mut all = Self::ALL.into_iter();
        all.find(|policy| bare(policy.name()) == bare(name))
    }

    /// The GUID by which replies name it.
    #[must_use]
    pub fn guid(self) -> Guid {
        let (first, second, third, rest) = match self {
            Self::SecureBootEnabled => (0x6a46_0ee1, 0x62ea, 0x416f, 0xae6c_04e2_9634_506d),
            Self::SecureBootSettings => (0x756d_c455, 0x9528, 0x479a, 0xa86a_c646_4173_16c9),
            Self::UefiDebugDisabled => (0x2018_8fda, 0xd40b, 0x460d, 0xb078_2e78_98a4_2ae9),
            Self::CiPolicy => (0x81f1_10ba, 0x53c5, 0x4064, 0x9d64_5102_9fa2_4f49),
            Self::FullBoot => (0x75ad_09c9, 0x7254, 0x4d00, 0x96f3_3b09_d0aa_ac54),
            Self::VsmIdkPresent => (0x75d5_95de, 0x12f5, 0x41e9, 0xa61e_469d_3205_ecca),
            Self::VsmRunning => (0x6c0a_6d29, 0x5bcb, 0x4f28, 0xbafb_f71e_b60f_dae0),
            Self::IommuEnabled => (0xda07_76e5, 0x6570, 0x44b3, 0x9a17_7e95_b4fc_7779),
            Self::BitLockerEnabled => (0x347d_a547, 0xd266, 0x4939, 0xbf3d_9ec7_3a90_bdbc),
            Self::PageFileEncryptionEnabled => (0x12df_0ee9, 0xb38e, 0x4086, 0x90f8_703d_9e7c_b878),
            Self::HypervisorEnforcedCiPolicy => {
                (0x5408_bd30, 0x3250, 0x4ac1, 0xa150_c410_af75_6699)
            }
            Self::NoHibernation => (0xa320_22c6, 0xdccd, 0x4bf5, 0xbe76_3b5c_a154_2559),
            Self::NoDumps => (0x2a79_6e36, 0xe918, 0x454f, 0xb610_60f0_86e8_d334_u64),
            Self::DumpEncryption => (0x6f39_0a71, 0x753c, 0x43aa, 0xa326_74e3_0aed_cd9d),
            Self::DumpEncryptionKey => (0x85da_c0a4, 0x8ba9, 0x4a7f, 0xa342_2118_62ce_0be8),
        };
        Guid::new(first, second, third, u64::to_be_bytes(rest))
    }

    /// What a host shows when it failed.
    #[must_use]
    pub fn substatus(self) -> AttestationSubstatus {
        match self {
            Self::SecureBootEnabled => AttestationSubstatus::SecureBoot,
            Self::SecureBootSettings => AttestationSubstatus::SecureBootSettings,
            Self::UefiDebugDisabled => AttestationSubstatus::DebugMode,
            Self::CiPolicy => AttestationSubstatus::CodeIntegrityPolicy,
            Self::HypervisorEnforcedCiPolicy => {
                AttestationSubstatus::HypervisorEnforcedCodeIntegrityPolicy
            }
            Self::FullBoot => AttestationSubstatus::FullBoot,
            Self::VsmIdkPresent | Self::VsmRunning => AttestationSubstatus::VirtualSecureMode,
            Self::PageFileEncryptionEnabled => AttestationSubstatus::PagefileEncryption,
            Self::BitLockerEnabled => AttestationSubstatus::BitLocker,
            Self::IommuEnabled => AttestationSubstatus::Iommu,
            Self::NoHibernation => AttestationSubstatus::HibernationEnabled,
            Self::NoDumps => AttestationSubstatus::DumpsEnabled,
            Self::DumpEncryption => AttestationSubstatus::DumpEncryption,
            Self::DumpEncryptionKey => AttestationSubstatus::DumpEncryptionKey,
        }
    }

    /// What decides it for a host that runs Linux.
    #[must_use]
    pub fn decided_by(self) -> DecidedBy {
        match self {
            Self::VsmIdkPresent => DecidedBy::Exchange,
            Self::VsmRunning | Self::BitLockerEnabled => DecidedBy::Nothing,
            _ => DecidedBy::Evidence,
        }
    }

    /// Whether it can't be disabled: without a baseline nothing would be approved.
    #[must_use]
    pub fn is_locked(self) -> bool {
        matches!(self, Self::SecureBootSettings | Self::VsmIdkPresent)
    }

    /// Whether it is on unless an administrator says otherwise. [`Self::CiPolicy`] and [`Self::DumpEncryptionKey`] are
    /// also on where a document of their kind is enabled.
    #[must_use]
    pub fn is_on_by_default(self) -> bool {
        matches!(
            self,
            Self::SecureBootEnabled
                | Self::SecureBootSettings
                | Self::UefiDebugDisabled
                | Self::VsmIdkPresent
        )
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Why a policy can't be enabled or disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicySettingError {
    /// It is locked.
    #[error("{0} can't be disabled: without it nothing that a host boots would be approved")]
    Locked(PolicyName),
    /// Nothing that is measured on Linux says whether it holds.
    #[error("{0} can't be enabled: nothing that is measured on Linux decides it")]
    NotDecided(PolicyName),
}

/// Which policies an administrator enabled or disabled for a host group. The others are as they are by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicySelection {
    settings: BTreeMap<PolicyName, bool>,
}

impl PolicySelection {
    /// Enables or disables a policy.
    pub fn set(&mut self, policy: PolicyName, enabled: bool) -> Result<(), PolicySettingError> {
        if !enabled && policy.is_locked() {
            return Err(PolicySettingError::Locked(policy));
        }
        if enabled && policy.decided_by() == DecidedBy::Nothing {
            return Err(PolicySettingError::NotDecided(policy));
        }
        self.settings.insert(policy, enabled);
        Ok(())
    }

    /// Makes a policy as it is by default.
    pub fn reset(&mut self, policy: PolicyName) {
        self.settings.remove(&policy);
    }

    /// What was set, by policy.
    pub fn settings(&self) -> impl Iterator<Item = (PolicyName, bool)> {
        self.settings
            .iter()
            .map(|(policy, enabled)| (*policy, *enabled))
    }

    /// Whether a policy is on, in a group in which `has_documents` says whether a document that it compares with is
    /// enabled.
    #[must_use]
    pub fn is_enabled(&self, policy: PolicyName, has_documents: bool) -> bool {
        let by_default = || {
            let by_documents =
                matches!(policy, PolicyName::CiPolicy | PolicyName::DumpEncryptionKey);
            policy.is_on_by_default() || (by_documents && has_documents)
        };
        self.settings
            .get(&policy)
            .copied()
            .unwrap_or_else(by_default)
    }
}
