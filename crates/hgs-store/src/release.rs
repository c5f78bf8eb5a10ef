//! A release of keys: what is recorded of it, and what is checked once more before it is.

use std::num::NonZeroU32;

use hgs_fault::{Fault, seeded};
use hgs_pki::{Thumbprint, Time};

use crate::State;
use crate::audit::{Action, AuditEntry, OfflineUse, Outcome, RequestId};
use crate::lineage::{Standing, Step};
use crate::model::Digest;
use crate::node::Opener;
use hgs_kps::{HostStandings, Lineage, Reason, Recorded};
use hgs_pki::SerialNumber;
use hgs_pki::health::HealthCertificateError;
use hgs_pki::health::HostId;
use hgs_protector::{OpenError, ProtectorDigest};

/// What is put on record of a [decided release](hgs_kps::Release). The caller has verified everything in it.
#[derive(Debug, Clone)]
pub struct ReleaseRecord {
    /// When.
    pub time: Time,
    /// To whom.
    pub recipient: Recipient,
    /// The thumbprint of the attestation signer of the health certificate.
    pub signer: Thumbprint,
    /// The serial number of the health certificate.
    pub serial: SerialNumber,
    /// When the health certificate was issued.
    pub issued: Time,
    /// The digest of the policy its health was judged by.
    pub policy: Digest,
    /// The digest of the ingress protector.
    pub ingress: Digest,
    /// The digest of the egress protector.
    pub egress: Digest,
    /// The owner's signing certificate.
    pub owner: Thumbprint,
    /// The encryption certificate that opened the ingress protector.
    pub guardian: Thumbprint,
    /// The signing certificate beside it in that wrapping.
    pub guardian_signing: Thumbprint,
    /// The generation of the state that it was decided from, or an earlier one.
    pub decided_from: u64,
    /// What the host may do with the keys without asking again.
    pub offline_use: Option<OfflineUse>,
    /// How often the host has used kept keys of the ingress protector, as it reported.
    pub offline_unwraps: Option<NonZeroU32>,
    /// The request that asked for it.
    pub request: Option<RequestId>,
}

/// The host that keys are released to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipient {
    /// A host of our registry, attested by one of our own signers.
    Registered(HostId),
    /// A host of another cluster, by the name its signer gives it.
    Foreign(String),
}

/// Why a release that was decided is not recorded after all: the state has changed since. The
/// refusal itself is recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseRefusal {
    /// The rules by which it was decided refuse it now.
    #[error(transparent)]
    Refused(#[from] Reason),
    /// Since it was decided, a certificate was marked as compromised, which may be one that it wraps
    /// the new key to.
    #[error("a certificate was marked as compromised meanwhile")]
    CompromisedMeanwhile,
    /// Since it was decided, what hosts may keep was restricted.
    #[error("hosts may keep less meanwhile")]
    KeyCachingMeanwhile,
    /// The egress protector is known already: it was not made afresh.
    #[error("the egress protector is not new")]
    EgressKnown,
}

/// A release that is on the disk. Only the store makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedRelease {
    pub(crate) sequence: u64,
    pub(crate) standing: Standing,
    pub(crate) egress: Digest,
}

impl RecordedRelease {
    /// The number of its audit record.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Where the ingress protector stands among its descendants.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// The proof against which the decided release gives its answer.
    #[must_use]
    pub fn proof(&self) -> Recorded {
        Recorded::after_commit(ProtectorDigest::from_bytes(*self.egress.as_bytes()))
    }
}

impl ReleaseRecord {
    /// Checks against the newest state what an administrator may have changed since the release
    /// was decided, so that no release follows the revocation that forbids it (attacks.md K4).
    pub(crate) fn check(&self, state: &State) -> Result<(), ReleaseRefusal> {
        let untrusted = Reason::from(HealthCertificateError::UntrustedIssuer);
        let signer = state
            .attestation_signer(&self.signer)
            .ok_or_else(|| untrusted.clone())?
            .trusted();
        let host = match &self.recipient {
            Recipient::Registered(id) if signer.is_own() => Some(id),
            Recipient::Foreign(_) if !signer.is_own() => None,
            _ => return Err(untrusted.into()),
        };
        signer.check_not_ended(self.time).map_err(Reason::from)?;
        signer
            .check_not_denied(self.issued, self.serial.as_bytes())
            .map_err(Reason::from)?;
        if !seeded(Fault::HostNotCheckedAgain) {
            HostStandings::check(state, host, self.policy.as_bytes())?;
        }
        let is_compromised = state.has_compromised_since(self.decided_from);
        if is_compromised && !seeded(Fault::CompromiseNotCheckedAgain) {
            return Err(ReleaseRefusal::CompromisedMeanwhile);
        }
        if let Some(granted) = self.offline_use {
            let allowed = state.settings().key_caching;
            let allowed = allowed.map(|caching| OfflineUse::of(caching.policy(self.time)));
            if allowed != Some(granted) {
                return Err(ReleaseRefusal::KeyCachingMeanwhile);
            }
        }
        let is_enabled = |thumbprint| {
            let certificate = state.certificate(thumbprint);
            certificate.is_some_and(|certificate| certificate.enabled)
                || seeded(Fault::PairNotCheckedAgain)
        };
        match is_enabled(&self.guardian) && is_enabled(&self.guardian_signing) {
            true => Ok(()),
            false => Err(Reason::from(OpenError::NoWrapping).into()),
        }
    }

    /// What the lineage tree is told.
    pub(crate) fn step<'a>(&self, host: &'a str) -> Step<'a> {
        Step {
            time: self.time,
            ingress: self.ingress,
            egress: self.egress,
            owner: self.owner,
            opener: Opener {
                encryption: self.guardian,
                signing: Some(self.guardian_signing),
            },
            host,
        }
    }

    /// The host as it stands in records.
    pub(crate) fn host(&self) -> String {
        match &self.recipient {
            Recipient::Registered(id) => id.to_string(),
            Recipient::Foreign(name) => name.clone(),
        }
    }

    /// The audit entry of what the host reported about kept keys.
    pub(crate) fn offline_entry(&self, state: &State) -> Option<AuditEntry> {
        let count = self.offline_unwraps?.get().into();
        let entry = self.entry(state, Outcome::Done);
        Some(AuditEntry {
            action: Action::OfflineUnwraps,
            count: Some(count),
            egress_protector: None,
            offline_use: None,
            ..entry
        })
    }

    /// The audit entry of the release, or of its refusal.
    pub(crate) fn entry(&self, state: &State, outcome: Outcome) -> AuditEntry {
        let registered = match &self.recipient {
            Recipient::Registered(id) => state.host(id),
            Recipient::Foreign(_) => None,
        };
        let host = self.host();
        AuditEntry {
            host_name: registered.map(|host| host.name.to_string()),
            serial: Some(self.serial.clone()),
            policy: Some(self.policy),
            protector: Some(self.ingress),
            egress_protector: (outcome == Outcome::Done).then_some(self.egress),
            owner: Some(self.owner),
            guardian: Some(self.guardian),
            lineage: self.lineage(state),
            offline_use: self.offline_use.filter(|_| outcome == Outcome::Done),
            host: Some(host.clone()),
            request: self.request,
            ..AuditEntry::new(self.time, format!("host {host}"), Action::Release, outcome)
        }
    }

    fn lineage(&self, state: &State) -> Option<Lineage> {
        let guardian = state.certificate(&self.guardian);
        guardian.map(|guardian| guardian.lineage.clone())
    }
}
