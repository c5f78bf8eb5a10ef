//! Hosts, and what they attest with.

use hgs_attest::{CredentialId, IdentityTransition};
use hgs_fault::{Fault, seeded};

use super::{Attestation, MAX_REASON_LENGTH, NewHost, Plan, Planner, Refusal, shown};
use crate::change::{Change, Record, RecordKey};
use crate::evidence::LastAttempt;
use crate::model::{
    Credential, DeniedHost, Digest, Host, HostAttestation, HostIdentity, RemovedHost, Revocation,
    digest_of, policy_of,
};
use hgs_pki::health::HostId;

impl Planner<'_> {
    pub(super) fn add_host(&self, new: &NewHost) -> Result<Plan, Refusal> {
        let (id, credential) = (&new.id, new.credential.id());
        if self.state.host(id).is_some() {
            return Err(Refusal::HostIdKnown(*id));
        }
        if let Some(other) = self.state.host_by_name(&new.name) {
            return Err(Refusal::HostNameKnown(other.name.clone()));
        }
        if let Some(other) = self.state.host_by_credential(&credential) {
            let other = other.name.clone();
            return Err(match credential {
                CredentialId::HostKey(_) => Refusal::HostKeyKnown(other),
                CredentialId::EndorsementKey(_) => Refusal::EndorsementKeyKnown(other),
            });
        }
        let policy = policy_of(&credential);
        if self.state.denied_host(&policy).is_some() {
            return Err(Refusal::HostDenied(policy));
        }
        let removed = self.state.removed_host(&credential);
        if let Some(removed) = removed.filter(|removed| removed.readmitted.is_none()) {
            return Err(Refusal::HostRemoved {
                name: removed.name.clone(),
                removed: removed.removed,
                credential,
            });
        }
        if let Some(group) = &new.group {
            self.check_group(group)?;
        }
        let host = Host {
            id: *id,
            name: new.name.clone(),
            credential: Credential::from(&new.credential),
            platform: new.platform.clone(),
            group: new.group,
            added: self.act.time,
            revoked: None,
            last_attested: None,
            returns_nonces: removed.is_some_and(|removed| removed.returns_nonces),
            certificate_expires: None,
            last_attempt: None,
        };
        let after = Some(shown(&host));
        let attestation = host.attestation().map(Record::HostAttestation);
        let mut changes = vec![Change::Put(Record::Host(host))];
        changes.extend(attestation.map(Change::Put));
        if let Some(removed) = removed {
            // Its identity keys are the new host's.
            for identity in self.state.host_identities(&removed.id) {
                let key = RecordKey::HostIdentity(removed.id, identity.public_key);
                changes.push(Change::Remove(key));
                changes.push(Change::Put(Record::HostIdentity(HostIdentity {
                    host: *id,
                    ..identity.clone()
                })));
            }
            changes.push(Change::Remove(RecordKey::RemovedHost(credential)));
        }
        Ok(Plan {
            before: removed.map(shown),
            after,
            changes,
        })
    }

    pub(super) fn revoke_host(&self, id: &HostId, reason: &str) -> Result<Plan, Refusal> {
        let host = self.host_in_good_standing(id)?;
        let changed = Host {
            revoked: Some(self.revocation(reason)?),
            ..host.clone()
        };
        Ok(Plan {
            before: Some(shown(host)),
            after: Some(shown(&changed)),
            changes: vec![Change::Put(Record::Host(changed))],
        })
    }

    pub(super) fn remove_host(&self, id: &HostId) -> Result<Plan, Refusal> {
        let host = self.state.host(id).ok_or(Refusal::NoSuchHost(*id))?;
        let removed = RemovedHost {
            credential: host.credential.id(),
            id: *id,
            name: host.name.clone(),
            removed: self.act.time,
            by: self.act.actor.clone(),
            revoked: host.revoked.clone(),
            returns_nonces: host.returns_nonces,
            readmitted: None,
        };
        // Nothing that was signed for one of its keys is worth anything when the host comes back.
        let identities = self.state.host_identities(id);
        let superseded = identities
            .filter(|one| one.superseded.is_none())
            .map(|one| {
                Change::Put(Record::HostIdentity(HostIdentity {
                    superseded: Some(self.act.time),
                    ..one.clone()
                }))
            });
        let attestation = self
            .state
            .host_attestation(id)
            .map(|_| Change::Remove(RecordKey::HostAttestation(*id)));
        let measurements = self
            .state
            .host_measurements(id)
            .map(|_| Change::Remove(RecordKey::HostMeasurements(*id)));
        let after = Some(shown(&removed));
        Ok(Plan {
            before: Some(shown(host)),
            after,
            changes: superseded
                .chain(attestation)
                .chain(measurements)
                .chain([
                    Change::Remove(RecordKey::Host(*id)),
                    Change::Put(Record::RemovedHost(removed)),
                ])
                .collect(),
        })
    }

    pub(super) fn readmit_host(&self, credential: &CredentialId) -> Result<Plan, Refusal> {
        let removed = self
            .state
            .removed_host(credential)
            .ok_or_else(|| Refusal::NoSuchRemovedHost(digest_of(credential)))?;
        if removed.readmitted.is_some() {
            return Err(Refusal::ReadmittedAlready(removed.name.clone()));
        }
        let changed = RemovedHost {
            readmitted: Some(self.act.time),
            ..removed.clone()
        };
        Ok(Plan {
            before: Some(shown(removed)),
            after: Some(shown(&changed)),
            changes: vec![Change::Put(Record::RemovedHost(changed))],
        })
    }

    pub(super) fn deny_host(&self, policy: &Digest, reason: &str) -> Result<Plan, Refusal> {
        if self.state.denied_host(policy).is_some() {
            return Err(Refusal::HostDenied(*policy));
        }
        if let Some(host) = self.state.host_by_policy(policy) {
            return Err(Refusal::DeniedHostRegistered(host.name.clone()));
        }
        let denied = DeniedHost {
            policy: *policy,
            denied: self.revocation(reason)?,
        };
        Ok(Plan {
            before: None,
            after: Some(shown(&denied)),
            changes: vec![Change::Put(Record::DeniedHost(denied))],
        })
    }

    pub(super) fn allow_host(&self, policy: &Digest) -> Result<Plan, Refusal> {
        let denied = self
            .state
            .denied_host(policy)
            .ok_or(Refusal::NoSuchDenial(*policy))?;
        Ok(Plan {
            before: Some(shown(denied)),
            after: None,
            changes: vec![Change::Remove(RecordKey::DeniedHost(*policy))],
        })
    }

    /// The decision was made from an earlier state, so the rules of [`hgs_attest`] are applied again to this one.
    pub(super) fn record_attestation(&self, attested: &Attestation) -> Result<Plan, Refusal> {
        let host = self.host_in_good_standing(&attested.host)?;
        if host.returns_nonces && !attested.returned_nonce {
            return Err(Refusal::NonceRequired(host.name.clone()));
        }
        let identities = self.state.identities(&host.id);
        let transition = identities
            .present(
                attested.kind,
                attested.identity_key.as_bytes(),
                attested.returned_nonce,
                self.act.time,
            )
            .map_err(|refusal| Refusal::Identity {
                host: host.name.clone(),
                refusal,
            })?;
        let mut changes = self.identity_changes(host, &transition);
        changes.push(Change::Put(Record::HostAttestation(HostAttestation {
            host: host.id,
            last_attested: Some(self.act.time),
            returns_nonces: host.returns_nonces || attested.returned_nonce,
            certificate_expires: attested.expires,
            last_attempt: Some(Box::new(match &attested.attempted {
                Some(attempted) => attempted.attempt.clone(),
                None => LastAttempt::healthy(self.act.time),
            })),
        })));
        let attempted = attested.attempted.as_ref();
        Ok(Plan {
            changes,
            before: None,
            after: attempted.map(|attempted| shown(&attempted.attempt)),
        })
    }

    fn identity_changes(&self, host: &Host, transition: &IdentityTransition) -> Vec<Change> {
        let IdentityTransition::Recorded {
            record,
            supersedes,
            forgets,
        } = transition
        else {
            return Vec::new();
        };
        let known = |key: &[u8; 32]| {
            let key = Digest::from_bytes(*key);
            self.state.host_identity(&host.id, &key)
        };
        let superseded = supersedes.as_ref().and_then(known).map(|old| {
            Change::Put(Record::HostIdentity(HostIdentity {
                superseded: Some(record.first_seen),
                ..old.clone()
            }))
        });
        let forgotten = forgets.map(|key| {
            let key = Digest::from_bytes(key);
            Change::Remove(RecordKey::HostIdentity(host.id, key))
        });
        let new = Change::Put(Record::HostIdentity(HostIdentity::of(host.id, record)));
        superseded
            .into_iter()
            .chain(forgotten)
            .chain([new])
            .collect()
    }

    pub(super) fn record_returned_identity(
        &self,
        host: &HostId,
        identity_key: &Digest,
    ) -> Result<Plan, Refusal> {
        let host = self.host_in_good_standing(host)?;
        let identities = self.state.identities(&host.id);
        let returned = identities
            .returned(identity_key.as_bytes(), self.act.time)
            .map(|record| HostIdentity::of(host.id, &record));
        Ok(Plan {
            before: None,
            after: returned.as_ref().map(shown),
            changes: returned
                .map(|returned| Change::Put(Record::HostIdentity(returned)))
                .into_iter()
                .collect(),
        })
    }

    fn revocation(&self, reason: &str) -> Result<Revocation, Refusal> {
        if reason.len() > MAX_REASON_LENGTH {
            return Err(Refusal::ReasonTooLong);
        }
        Ok(Revocation {
            time: self.act.time,
            reason: reason.to_owned(),
            by: self.act.actor.clone(),
        })
    }

    pub(super) fn host_in_good_standing(&self, id: &HostId) -> Result<&Host, Refusal> {
        let host = self.state.host(id).ok_or(Refusal::NoSuchHost(*id))?;
        match host.revoked {
            Some(_) if !seeded(Fault::RevokedHostAttests) => {
                Err(Refusal::HostRevoked(host.name.clone()))
            }
            _ => Ok(host),
        }
    }
}
