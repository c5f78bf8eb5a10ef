//! Hosts, and what they attest with.

use hgs_crypto::rsa::PublicKey;

use super::{Attestation, MAX_IDENTITY_KEYS, MAX_REASON_LENGTH, Plan, Planner, Refusal, shown};
use crate::change::{Change, Record, RecordKey};
use crate::model::{Digest, Host, HostId, HostIdentity, HostName, Revocation};

impl Planner<'_> {
    pub(super) fn add_host(
        &self,
        id: &HostId,
        name: &HostName,
        host_key: &PublicKey,
    ) -> Result<Plan, Refusal> {
        if self.state.host(id).is_some() {
            return Err(Refusal::HostIdKnown(*id));
        }
        if let Some(other) = self.state.host_by_name(name) {
            return Err(Refusal::HostNameKnown(other.name.clone()));
        }
        let digest = Digest::from_bytes(*host_key.digest());
        if let Some(other) = self.state.host_by_key(&digest) {
            return Err(Refusal::HostKeyKnown(other.name.clone()));
        }
        let host = Host {
            id: *id,
            name: name.clone(),
            host_key: host_key.spki_der().to_vec(),
            added: self.act.time,
            revoked: None,
            last_attested: None,
        };
        Ok(Plan {
            before: None,
            after: Some(shown(&host)),
            changes: vec![Change::Put(Record::Host(host))],
        })
    }

    pub(super) fn revoke_host(&self, id: &HostId, reason: &str) -> Result<Plan, Refusal> {
        let host = self.host_in_good_standing(id)?;
        if reason.len() > MAX_REASON_LENGTH {
            return Err(Refusal::ReasonTooLong);
        }
        let revocation = Revocation {
            time: self.act.time,
            reason: reason.to_owned(),
            by: self.act.actor.clone(),
        };
        let changed = Host {
            revoked: Some(revocation),
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
        let identities = self.state.host_identities(id);
        let identities = identities.map(|one| RecordKey::HostIdentity(*id, one.public_key));
        Ok(Plan {
            before: Some(shown(host)),
            after: None,
            changes: identities
                .chain([RecordKey::Host(*id)])
                .map(Change::Remove)
                .collect(),
        })
    }

    /// Whoever made the decision read an earlier state; what could have changed since is decided
    /// here again.
    pub(super) fn record_attestation(&self, attested: &Attestation) -> Result<Plan, Refusal> {
        let host = self.host_in_good_standing(&attested.host)?;
        let mut changes = self.record_identity(host, attested)?;
        changes.push(Record::Host(Host {
            last_attested: Some(self.act.time),
            ..host.clone()
        }));
        Ok(Plan {
            changes: changes.into_iter().map(Change::Put).collect(),
            before: None,
            after: None,
        })
    }

    fn record_identity(&self, host: &Host, attested: &Attestation) -> Result<Vec<Record>, Refusal> {
        let known = self.state.host_identity(&host.id, &attested.identity_key);
        match known {
            Some(known) if known.kind != attested.kind => {
                return Err(Refusal::IdentityOfOtherKind(host.name.clone()));
            }
            Some(known) if known.superseded.is_some() => {
                return Err(Refusal::IdentitySuperseded(host.name.clone()));
            }
            Some(_) => return Ok(Vec::new()),
            None => {}
        }
        let of_kind = self.state.host_identities(&host.id);
        let of_kind: Vec<_> = of_kind.filter(|one| one.kind == attested.kind).collect();
        if of_kind.len() >= MAX_IDENTITY_KEYS {
            return Err(Refusal::TooManyIdentities(host.name.clone()));
        }
        let current = of_kind.into_iter().filter(|one| one.superseded.is_none());
        let superseded = current.map(|one| HostIdentity {
            superseded: Some(self.act.time),
            ..one.clone()
        });
        let new = HostIdentity {
            host: host.id,
            kind: attested.kind,
            public_key: attested.identity_key,
            first_seen: self.act.time,
            superseded: None,
        };
        let changes = superseded.chain([new]).map(Record::HostIdentity);
        Ok(changes.collect())
    }

    fn host_in_good_standing(&self, id: &HostId) -> Result<&Host, Refusal> {
        let host = self.state.host(id).ok_or(Refusal::NoSuchHost(*id))?;
        match host.revoked {
            Some(_) => Err(Refusal::HostRevoked(host.name.clone())),
            None => Ok(host),
        }
    }
}
