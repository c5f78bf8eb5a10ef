//! The one request of a host that does not exist which key protection accepts: it wrote it itself.

use hgs_kps::{HostRegistry, HostStanding, Recorded, Refusal, Release};
use hgs_pki::Time;
use hgs_pki::health::HostId;
use hgs_store::{Action, AuditEntry, Digest, Outcome};
use tracing::info;

use super::super::hosts::{Registry, from_health};
use super::super::release::{digest, unavailable};
use super::super::{Guardian, ledger};
use super::issue::SYNTHETIC_HOST;

/// A request, octet for octet one that a trial has made.
#[derive(Debug, Clone)]
pub(in super::super) struct Admission {
    /// Whose trial it is.
    pub(super) actor: String,
}

/// The registry of hosts, with the synthetic one in it for a request that a trial has made.
pub(in super::super) struct Admitting<'a> {
    pub(in super::super) registry: Registry<'a>,
    pub(in super::super) synthetic: Option<HostId>,
}

impl HostRegistry for Admitting<'_> {
    fn standing(&self, host: &HostId) -> HostStanding {
        match &self.synthetic {
            Some(synthetic) if synthetic == host => HostStanding::Registered,
            _ => HostRegistry::standing(&self.registry, host),
        }
    }
}

impl Admission {
    /// The host that the request may be of.
    pub(in super::super) fn host(&self) -> HostId {
        SYNTHETIC_HOST
    }

    fn entry(&self, outcome: Outcome, now: Time) -> AuditEntry {
        AuditEntry {
            host: Some(from_health(&SYNTHETIC_HOST).to_string()),
            ..AuditEntry::new(now, self.actor.clone(), Action::Trace, outcome)
        }
    }
}

impl Guardian {
    /// Puts on record what was decided about the request of a trial, as what it is: it is no release of anybody's keys,
    /// has no place in the lineage of protectors, and is not counted with those of hosts.
    pub(in super::super) async fn record_trial(
        &self,
        decided: Result<Release, Refusal>,
        trial: &Admission,
        now: Time,
    ) -> Result<Vec<u8>, Refusal> {
        let entry = match &decided {
            Ok(release) => {
                let facts = release.facts();
                AuditEntry {
                    protector: Some(digest(&facts.ingress)),
                    egress_protector: Some(digest(&facts.egress)),
                    owner: Some(facts.owner),
                    guardian: Some(facts.opened_with),
                    ..trial.entry(Outcome::Done, now)
                }
            }
            Err(refusal) => AuditEntry {
                reason: Some(refusal.to_string()),
                protector: refusal.facts().ingress.as_ref().map(digest),
                ..trial.entry(Outcome::Refused, now)
            },
        };
        let recorded = ledger::note(&self.store, entry).await;
        let record = recorded.map_err(|failure| unavailable(&failure))?;
        let outcome = decided.as_ref().err().map(|refusal| refusal.code().name());
        info!(
            actor = trial.actor,
            record,
            outcome = outcome.unwrap_or("released"),
            "a roll of a trace was decided"
        );
        decided.map(|release| release.into_response(Recorded::after_commit()))
    }

    /// Puts on record that a trial was made. It blocks.
    pub(super) fn note_trial(
        &self,
        trial: &Admission,
        protector: Digest,
        now: Time,
    ) -> Result<(), hgs_store::StoreError> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let entry = AuditEntry {
            protector: Some(protector),
            ..trial.entry(Outcome::Done, now)
        };
        self.store
            .note(entry, move |result| drop(sender.send(result)))?;
        match receiver.recv() {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(hgs_store::Failure::Store(error))) => Err(error),
            Ok(Err(hgs_store::Failure::Refused(never))) => match never {},
            Err(_) => Err(hgs_store::StoreError::Closed),
        }
    }
}
