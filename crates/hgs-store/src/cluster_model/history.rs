//! What the audit log must add up to: kept beside the service, from the records alone and by simpler rules.

use std::collections::{BTreeMap, BTreeSet};

use hgs_pki::health::HostId;
use hgs_pki::{Thumbprint, Time};

use crate::State;
use crate::audit::{Action, AuditRecord, Outcome};
use crate::lineage::Standing;
use crate::model::Digest;
use crate::node::{Node, Stage};

/// What was recorded so far.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    /// The release of each request, by the time of the request.
    released: BTreeMap<Time, Digest>,
    /// From which protector each was made.
    parent: BTreeMap<Digest, Digest>,
    /// Protectors that were opened here.
    opened: BTreeSet<Digest>,
    revoked: BTreeSet<String>,
    /// Hosts and certificates that the state has ever called revoked or compromised.
    barred: BTreeSet<HostId>,
    compromised: BTreeSet<Thumbprint>,
    generation: u64,
    /// The identity keys of the first host, the current one last.
    identities: Vec<u8>,
    was_removed: bool,
}

impl History {
    pub(super) fn release(&self, request: Time) -> Option<&Digest> {
        self.released.get(&request)
    }

    pub(super) fn compromised(&self) -> &BTreeSet<Thumbprint> {
        &self.compromised
    }

    /// Takes in an attestation of the first host.
    pub(super) fn take_identity(&mut self, key: u8) -> Option<&'static str> {
        let is_known = self.identities.contains(&key);
        if self.identities.last() == Some(&key) {
            return None;
        }
        self.identities.push(key);
        is_known.then_some(super::SUPERSEDED_IDENTITY)
    }

    /// Takes in a record; what must not be in a log.
    pub(super) fn take(&mut self, record: &AuditRecord, is_strict: bool) -> Option<&'static str> {
        let entry = &record.entry;
        match (entry.action, entry.outcome) {
            (Action::RevokeHost, Outcome::Done) => {
                self.revoked.extend(entry.host.clone());
                None
            }
            (Action::RemoveHost, Outcome::Done) => {
                self.revoked.extend(entry.host.clone());
                self.was_removed = true;
                None
            }
            (Action::Attest, Outcome::Done) => {
                let is_revoked = entry
                    .host
                    .as_ref()
                    .is_some_and(|host| self.revoked.contains(host));
                is_revoked.then_some(super::ATTESTED_AFTER_REVOCATION)
            }
            (Action::Release, Outcome::Done) => self.take_release(record, is_strict),
            _ => None,
        }
    }

    fn take_release(&mut self, record: &AuditRecord, is_strict: bool) -> Option<&'static str> {
        let entry = &record.entry;
        let (Some(ingress), Some(egress)) = (entry.protector, entry.egress_protector) else {
            return Some(super::NO_TREE);
        };
        let standing = self.standing(&ingress);
        let is_known = self.parent.contains_key(&egress) || self.opened.contains(&egress);
        self.opened.insert(ingress);
        self.parent.insert(egress, ingress);
        let other = self.released.insert(entry.time, egress);
        if entry
            .host
            .as_ref()
            .is_some_and(|host| self.revoked.contains(host))
        {
            return Some(super::RELEASED_AFTER_REVOCATION);
        }
        if other.is_some() {
            return Some(super::RECORDED_TWICE);
        }
        if is_known || entry.standing != Some(standing) {
            return Some(super::NO_TREE);
        }
        (is_strict && standing == Standing::Ancestor).then_some(super::SUPERSEDED_RELEASED)
    }

    fn standing(&self, ingress: &Digest) -> Standing {
        let parent = self.parent.get(ingress);
        if self.has_successor(ingress) {
            Standing::Ancestor
        } else if self.opened.contains(ingress) {
            Standing::Head
        } else {
            match parent {
                None => Standing::New,
                Some(parent) if self.has_successor(parent) => Standing::Sibling,
                Some(_) => Standing::Head,
            }
        }
    }

    /// Whether a protector that was made from it came back.
    fn has_successor(&self, protector: &Digest) -> bool {
        self.parent
            .iter()
            .any(|(child, parent)| parent == protector && self.opened.contains(child))
    }

    /// Whether the nodes that a state has are those of the tree, each where it belongs.
    pub(super) fn check_tree<'n>(
        &self,
        nodes: impl Iterator<Item = &'n Node>,
    ) -> Option<&'static str> {
        let mut known: BTreeSet<_> = self
            .opened
            .union(&self.parent.keys().copied().collect())
            .copied()
            .collect();
        for node in nodes {
            let stage = if self.has_successor(&node.digest) {
                Stage::Ancestor
            } else if self.opened.contains(&node.digest) {
                Stage::Head
            } else {
                Stage::Issued
            };
            let is_there = known.remove(&node.digest);
            if !is_there
                || node.stage != stage
                || node.parent.as_ref() != self.parent.get(&node.digest)
            {
                return Some(super::NO_TREE);
            }
        }
        (!known.is_empty()).then_some(super::NO_TREE)
    }

    /// Takes in a state; what it must not have come to.
    pub(super) fn take_state(&mut self, state: &State) -> Option<&'static str> {
        let lifted = self.barred.iter().any(|host| {
            let host = state.host(host);
            host.is_some_and(|host| host.revoked.is_none())
        });
        let is_back = self.was_removed && state.host(&super::service::host_id(0)).is_some();
        let restored = self.compromised.iter().any(|thumbprint| {
            let record = state.certificate(thumbprint);
            record.is_some_and(|record| record.compromised.is_none())
        });
        let went_back = state.generation() < self.generation;
        self.generation = state.generation();
        let revoked = state.hosts().filter(|host| host.revoked.is_some());
        self.barred.extend(revoked.map(|host| host.id));
        self.compromised.extend(super::service::compromised(state));
        if lifted || is_back {
            Some(super::REVOCATION_LIFTED)
        } else if restored {
            Some(super::COMPROMISE_LIFTED)
        } else {
            went_back.then_some(super::GENERATION_WENT_BACK)
        }
    }
}
