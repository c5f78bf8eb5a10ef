//! What becomes of a state when a document is taken in.
//!
//! Where the two differ, a person has to choose, and each such place is named. Not chosen is what must never
//! be undone by an old backup: a host that is barred here or there stays barred, the key of a host that was removed here is
//! not registered again, a key that is compromised stays so, and of restrictions on a signer the stricter holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use hgs_attest::CredentialId;
use hgs_crypto::hash::sha256;
use hgs_custody::KeyReference;
use hgs_fault::{Fault, seeded};
use hgs_pki::{Thumbprint, Time};
use serde::Serialize;

use super::carried::{
    check_certificates, check_groups, check_hosts, check_policies, check_removed,
};
use super::{Carried, Inconsistent};
use crate::State;
use crate::change::{Change, Record, RecordKey};
use crate::model::{
    AttestationSigner, CertificateRecord, DeniedHost, Digest, EndorsementRoot, Host, HostGroup,
    HostIdentity, HostMeasurementsRecord, HostName, PolicyDocument, RemovedHost, Settings,
    ShortName, digest_of,
};
use crate::record::RecordKind;
use crate::transaction::fit_metadata;
use hgs_kps::CertificateKind;
use hgs_kps::Lineage;
use hgs_pki::health::HealthKind;
use hgs_pki::health::HostId;

/// Who prevails where a state and a document differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resolution {
    /// Neither: then nothing is taken in.
    Refuse,
    /// The state.
    KeepOurs,
    /// The document.
    TakeTheirs,
}

/// A place where a state and a document differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conflict {
    /// The kind of record.
    pub kind: RecordKind,
    /// Which one.
    pub name: String,
    /// What of it differs.
    pub what: &'static str,
    /// What the state says.
    pub ours: String,
    /// What the document says.
    pub theirs: String,
}

impl fmt::Display for Conflict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            name,
            what,
            ours,
            theirs,
        } = self;
        write!(
            formatter,
            "{kind} {name}: {what} is {ours} here and {theirs} in the document"
        )
    }
}

/// What a document makes of a state.
#[derive(Debug)]
pub(crate) struct Merged {
    /// What is written, private keys aside.
    pub(crate) changes: Vec<Change>,
    /// The public halves of the private keys that are new.
    pub(crate) keys: Vec<Digest>,
    /// Where the two differ.
    pub(crate) conflicts: Vec<Conflict>,
}

/// Plans what `theirs` makes of `ours`, which may be empty.
pub(crate) fn merge(
    ours: &State,
    theirs: &Carried,
    resolution: Resolution,
) -> Result<Merged, Inconsistent> {
    let mut merge = Merge {
        ours,
        theirs,
        take_theirs: resolution == Resolution::TakeTheirs,
        conflicts: Vec::new(),
    };
    let mut changes = merge.settings();
    let certificates = merge.certificates()?;
    let signers = merge.signers();
    let (keys, orphans) = merge.keys(&certificates, &signers);
    changes.extend(orphans);
    let (hosts, gone) = merge.hosts()?;
    let removed = merge.removed(&hosts);
    check_removed(hosts.values(), &removed)?;
    let identities = merge.identities(&hosts, &removed);
    let (groups, documents) = (merge.groups(), merge.documents());
    check_policies(&groups, &documents)?;
    check_groups(hosts.values(), &groups)?;
    let measurements = merge.measurements(&hosts);
    let known = ours
        .certificates()
        .map(|one| (one.thumbprint(), one))
        .collect();
    changes.extend(changed(&known, certificates, Record::Certificate));
    let known = ours
        .attestation_signers()
        .map(|one| (one.thumbprint(), one))
        .collect();
    changes.extend(changed(&known, signers, Record::AttestationSigner));
    changes.extend(gone.iter().flat_map(|host| forgotten(ours, host)));
    // A host that is gone may come back under the same id.
    let stay = |id: &HostId| !gone.contains(id);
    let known = ours
        .hosts()
        .map(|one| (one.id, one))
        .filter(|(id, _)| stay(id))
        .collect();
    changes.extend(hosts.values().filter_map(|host| attested(ours, host)));
    changes.extend(changed(&known, hosts, Record::Host));
    let known = ours
        .all_host_identities()
        .map(|one| ((one.host, one.public_key), one))
        .filter(|((id, _), _)| stay(id))
        .collect();
    changes.extend(changed(&known, identities, Record::HostIdentity));
    let known = ours
        .removed_hosts()
        .map(|one| (one.credential, one))
        .collect();
    changes.extend(changed(&known, removed, Record::RemovedHost));
    let known = ours.denied_hosts().map(|one| (one.policy, one)).collect();
    changes.extend(changed(&known, merge.denied(), Record::DeniedHost));
    let known = ours
        .endorsement_roots()
        .map(|one| (one.thumbprint(), one))
        .collect();
    let roots = merge.endorsement_roots();
    changes.extend(changed(&known, roots, Record::EndorsementRoot));
    let known = ours.host_groups().map(|one| (one.name, one)).collect();
    changes.extend(changed(&known, groups, Record::HostGroup));
    let known = ours.policy_documents().map(|one| (one.name, one)).collect();
    changes.extend(changed(&known, documents, Record::PolicyDocument));
    let known = ours
        .all_host_measurements()
        .map(|one| (one.host, one))
        .filter(|(id, _)| stay(id))
        .collect();
    changes.extend(changed(&known, measurements, Record::HostMeasurements));
    Ok(Merged {
        changes,
        keys,
        conflicts: merge.conflicts,
    })
}

fn changed<K: Ord, V: PartialEq>(
    known: &BTreeMap<K, &V>,
    merged: BTreeMap<K, V>,
    record: impl Fn(V) -> Record,
) -> Vec<Change> {
    let changed = merged
        .into_iter()
        .filter(|(key, value)| known.get(key) != Some(&value));
    changed
        .map(|(_, value)| Change::Put(record(value)))
        .collect()
}

/// The record of a host's attestations, if it changes.
fn attested(ours: &State, host: &Host) -> Option<Change> {
    let attestation = host.attestation()?;
    let is_known = ours.host_attestation(&host.id) == Some(&attestation);
    (!is_known).then_some(Change::Put(Record::HostAttestation(attestation)))
}

fn forgotten(ours: &State, host: &HostId) -> Vec<Change> {
    let identities = ours
        .host_identities(host)
        .map(|one| RecordKey::HostIdentity(*host, one.public_key));
    let attestation = ours.host_attestation(host);
    let measurements = ours.host_measurements(host);
    identities
        .chain(attestation.map(|_| RecordKey::HostAttestation(*host)))
        .chain(measurements.map(|_| RecordKey::HostMeasurements(*host)))
        .chain([RecordKey::Host(*host)])
        .map(Change::Remove)
        .collect()
}

struct Merge<'m> {
    ours: &'m State,
    theirs: &'m Carried,
    take_theirs: bool,
    conflicts: Vec<Conflict>,
}

impl Merge<'_> {
    /// Chooses between two values; where they differ, that is a conflict.
    fn choose<T: PartialEq + Clone>(
        &mut self,
        (kind, name): (RecordKind, &str),
        what: &'static str,
        (ours, theirs): (&T, &T),
        shown: impl Fn(&T) -> String,
    ) -> T {
        if ours == theirs {
            return ours.clone();
        }
        self.conflicts.push(Conflict {
            kind,
            name: name.to_owned(),
            what,
            ours: shown(ours),
            theirs: shown(theirs),
        });
        if self.take_theirs { theirs } else { ours }.clone()
    }

    fn settings(&mut self) -> Vec<Change> {
        let Some(theirs) = &self.theirs.settings else {
            return Vec::new();
        };
        // A re-key window is an exception made there and then.
        let Some(ours) = self.ours.known_settings() else {
            let settings = Settings {
                rekey_window_until: None,
                ..theirs.clone()
            };
            return vec![Change::Put(Record::Settings(settings))];
        };
        let (place, of) = ((RecordKind::Settings, "service"), |url: &Option<String>| {
            url.clone().unwrap_or_else(|| "none".to_owned())
        });
        let settings = Settings {
            name: self.choose(
                place,
                "name",
                (&ours.name, &theirs.name),
                ToString::to_string,
            ),
            attestation_url: self.choose(
                place,
                "attestation_url",
                (&ours.attestation_url, &theirs.attestation_url),
                of,
            ),
            key_protection_url: self.choose(
                place,
                "key_protection_url",
                (&ours.key_protection_url, &theirs.key_protection_url),
                of,
            ),
            attestation_mode: self.choose(
                place,
                "attestation_mode",
                (&ours.attestation_mode, &theirs.attestation_mode),
                ToString::to_string,
            ),
            accept_next_boot_claims: self.choose(
                place,
                "accept_next_boot_claims",
                (
                    &ours.accept_next_boot_claims,
                    &theirs.accept_next_boot_claims,
                ),
                ToString::to_string,
            ),
            key_caching: self.choose(
                place,
                "key_caching",
                (&ours.key_caching, &theirs.key_caching),
                |caching| {
                    let limits = caching.map(|it| format!("{},{}", it.unwraps, it.hours));
                    limits.unwrap_or_else(|| "off".to_owned())
                },
            ),
            // These follow the configuration of this node whenever it starts.
            ..ours.clone()
        };
        let changed = settings != *ours;
        changed
            .then_some(Change::Put(Record::Settings(settings)))
            .into_iter()
            .collect()
    }

    fn certificates(&mut self) -> Result<BTreeMap<Thumbprint, CertificateRecord>, Inconsistent> {
        let ours = self.ours.certificates();
        let mut all: BTreeMap<_, _> = ours.map(|one| (one.thumbprint(), one.clone())).collect();
        for (thumbprint, theirs) in &self.theirs.certificates {
            let merged = match self.ours.certificate(thumbprint) {
                Some(ours) => self.certificate(ours, theirs),
                None => theirs.clone(),
            };
            all.insert(*thumbprint, merged);
        }
        self.same_compromise(&mut all);
        self.heads(&mut all);
        check_certificates(&all.values().collect::<Vec<_>>())?;
        // What was written before this was a rule is taken in as it is.
        let is_full_together = !fit_metadata(all.values())
            && fit_metadata(self.ours.certificates())
            && fit_metadata(self.theirs.certificates.values());
        match is_full_together {
            true => Err(Inconsistent::MetadataFull),
            false => Ok(all),
        }
    }

    fn certificate(
        &mut self,
        ours: &CertificateRecord,
        theirs: &CertificateRecord,
    ) -> CertificateRecord {
        let name = ours.thumbprint().to_string();
        let place = (RecordKind::Certificate, name.as_str());
        let label = |label: &Option<hgs_kps::Label>| {
            label
                .as_ref()
                .map_or_else(|| "none".to_owned(), ToString::to_string)
        };
        let key = self.choose(place, "key", (&ours.key, &theirs.key), ToString::to_string);
        CertificateRecord {
            kind: self.choose(
                place,
                "kind",
                (&ours.kind, &theirs.kind),
                ToString::to_string,
            ),
            certificate: ours.certificate.clone(),
            key: key.clone(),
            lineage: self.choose(
                place,
                "lineage",
                (&ours.lineage, &theirs.lineage),
                ToString::to_string,
            ),
            enabled: self.choose(
                place,
                "enabled",
                (&ours.enabled, &theirs.enabled),
                ToString::to_string,
            ),
            head: ours.head,
            compromised: match seeded(Fault::BackupLiftsCompromise) {
                true => theirs.compromised,
                false => earlier(ours.compromised, theirs.compromised),
            },
            retired: earlier(ours.retired, theirs.retired),
            label: self.choose(place, "label", (&ours.label, &theirs.label), label),
            // What the place of the key can do goes with the key.
            sha1_only: match key == ours.key {
                true => ours.sha1_only,
                false => theirs.sha1_only,
            },
            added: ours.added.min(theirs.added),
        }
    }

    /// A key that is compromised is so under each of its certificates.
    fn same_compromise(&self, all: &mut BTreeMap<Thumbprint, CertificateRecord>) {
        let mut since: BTreeMap<[u8; 32], Option<Time>> = BTreeMap::new();
        for record in all.values() {
            let known = since
                .entry(*record.certificate.public_key().digest())
                .or_default();
            *known = earlier(*known, record.compromised);
        }
        for record in all.values_mut() {
            let known = since.get(record.certificate.public_key().digest());
            record.compromised = known.copied().flatten();
        }
    }

    /// One head of each kind for each lineage.
    fn heads(&mut self, all: &mut BTreeMap<Thumbprint, CertificateRecord>) {
        type Heads = BTreeMap<(Lineage, CertificateKind), Thumbprint>;
        let place = |one: &CertificateRecord| ((one.lineage.clone(), one.kind), one.thumbprint());
        let ours: Heads = self
            .ours
            .certificates()
            .filter(|one| one.head)
            .map(place)
            .collect();
        let theirs = self
            .theirs
            .certificates
            .values()
            .filter(|one| one.head)
            .map(place);
        let mut heads = ours;
        for (succession, theirs) in theirs {
            let name = format!("{} {}", succession.0, succession.1);
            let ours = *heads.get(&succession).unwrap_or(&theirs);
            let place = (RecordKind::Certificate, name.as_str());
            let head = self.choose(place, "head", (&ours, &theirs), ToString::to_string);
            heads.insert(succession, head);
        }
        for (thumbprint, record) in all {
            let succession = (record.lineage.clone(), record.kind);
            record.head = heads.get(&succession) == Some(thumbprint);
        }
    }

    /// Signers of the document sign no more: the importing service makes a signer of its own, and what theirs have signed is
    /// believed until it ends.
    fn signers(&mut self) -> BTreeMap<Thumbprint, AttestationSigner> {
        let ours = self.ours.attestation_signers();
        let mut all: BTreeMap<_, _> = ours.map(|one| (one.thumbprint(), one.clone())).collect();
        for (thumbprint, theirs) in &self.theirs.signers {
            let merged = match self.ours.attestation_signer(thumbprint) {
                Some(ours) => self.signer(ours, theirs),
                None => AttestationSigner {
                    retired: theirs.is_own() || theirs.retired,
                    ..theirs.clone()
                },
            };
            all.insert(*thumbprint, merged);
        }
        all
    }

    fn signer(
        &mut self,
        ours: &AttestationSigner,
        theirs: &AttestationSigner,
    ) -> AttestationSigner {
        let name = ours.thumbprint().to_string();
        let place = (RecordKind::AttestationSigner, name.as_str());
        let shown = |label: &Option<hgs_kps::Label>| {
            label
                .as_ref()
                .map_or_else(|| "none".to_owned(), ToString::to_string)
        };
        AttestationSigner {
            key: ours.key.clone().or_else(|| theirs.key.clone()),
            deny_before: ours.deny_before.max(theirs.deny_before),
            maximum_validity_seconds: earlier(
                ours.maximum_validity_seconds,
                theirs.maximum_validity_seconds,
            ),
            label: self.choose(place, "label", (&ours.label, &theirs.label), shown),
            deny_list: Arc::new(ours.deny_list.union(&theirs.deny_list).cloned().collect()),
            added: ours.added.min(theirs.added),
            ..ours.clone()
        }
    }

    /// The private keys that are sealed anew, and those that nothing needs any more (attacks.md K4).
    fn keys(
        &self,
        certificates: &BTreeMap<Thumbprint, CertificateRecord>,
        signers: &BTreeMap<Thumbprint, AttestationSigner>,
    ) -> (Vec<Digest>, Vec<Change>) {
        let certificates = certificates
            .values()
            .map(|one| (&one.certificate, Some(&one.key)));
        let signers = signers
            .values()
            .map(|one| (&one.certificate, one.key.as_ref()));
        let sealed = certificates
            .chain(signers)
            .filter(|(_, key)| *key == Some(&KeyReference::Sealed));
        let needed: BTreeSet<_> = sealed
            .map(|(one, _)| Digest::from_bytes(*one.public_key().digest()))
            .collect();
        let is_new = |key: &Digest| needed.contains(key) && self.ours.private_key(key).is_none();
        let new = self.theirs.keys.keys().copied().filter(is_new).collect();
        let ours = self.ours.private_keys().map(|(key, _)| key.public_key);
        let orphans = ours.filter(|key| !needed.contains(key));
        let removed = orphans.map(|key| Change::Remove(RecordKey::PrivateKey(key)));
        (new, removed.collect())
    }

    /// The hosts as they will be, and those of ours that go.
    fn hosts(&mut self) -> Result<(BTreeMap<HostId, Host>, BTreeSet<HostId>), Inconsistent> {
        let mut all: BTreeMap<_, _> = self.ours.hosts().map(|one| (one.id, one.clone())).collect();
        let (mut gone, mut taken) = (BTreeSet::new(), BTreeSet::new());
        let was_removed = |host: &&Host| {
            let removed = self.ours.removed_host(&host.credential.id());
            removed.is_some_and(|removed| removed.readmitted.is_none())
                && !seeded(Fault::BackupReturnsHost)
        };
        let theirs: Vec<_> = self
            .theirs
            .hosts
            .values()
            .filter(|host| !was_removed(host))
            .collect();
        for theirs in theirs {
            let rivals = self.rivals(theirs);
            rivals
                .iter()
                .for_each(|rival| self.name_rival(rival, theirs));
            let same = matches!(&rivals[..], [rival] if is_same(rival, theirs));
            let of_its_key = rivals
                .iter()
                .filter(|rival| rival.credential == theirs.credential);
            if !(self.take_theirs || same || rivals.is_empty()) {
                // Barred there is barred here, be it under another name.
                for rival in of_its_key {
                    if let Some(ours) = all.get_mut(&rival.id) {
                        ours.revoked = ours.revoked.take().or_else(|| theirs.revoked.clone());
                    }
                }
                continue;
            }
            let take_theirs = self.take_theirs;
            let merged = of_its_key.fold(theirs.clone(), |merged, rival| {
                merged_host(rival, &merged, take_theirs)
            });
            let replaced = rivals.iter().map(|rival| rival.id).filter(|_| !same);
            for rival in replaced.filter(|rival| !taken.contains(rival)) {
                all.remove(&rival);
                gone.insert(rival);
            }
            taken.insert(merged.id);
            all.insert(merged.id, merged);
        }
        check_hosts(all.values())?;
        Ok((all, gone))
    }

    /// The hosts of ours with the id, the name or the key of `theirs`.
    fn rivals(&self, theirs: &Host) -> Vec<Host> {
        let by_id = self.ours.host(&theirs.id);
        let by_name = self.ours.host_by_name(&theirs.name);
        let by_key = self.ours.host_by_credential(&theirs.credential.id());
        let rivals: BTreeMap<_, _> = [by_id, by_name, by_key]
            .into_iter()
            .flatten()
            .map(|host| (host.id, host.clone()))
            .collect();
        rivals.into_values().collect()
    }

    fn name_rival(&mut self, ours: &Host, theirs: &Host) {
        let name = ours.name.to_string();
        let place = (RecordKind::Host, name.as_str());
        let names = (&ours.name.to_string(), &theirs.name.to_string());
        self.choose(place, "name", names, Clone::clone);
        let keys = (&ours.credential.id(), &theirs.credential.id());
        self.choose(place, "credential", keys, |id| digest_of(id).to_string());
        if ours.credential == theirs.credential {
            self.choose(place, "id", (&ours.id, &theirs.id), ToString::to_string);
            let group = |group: &Option<ShortName>| {
                group.map_or_else(|| "none".to_owned(), |group| group.to_string())
            };
            self.choose(place, "group", (&ours.group, &theirs.group), group);
            self.choose(
                place,
                "platform",
                (&ours.platform, &theirs.platform),
                |platform| serde_json::to_string(platform).unwrap_or_default(),
            );
        }
    }

    /// What is left of hosts that were removed here or there, unless they are registered.
    fn removed(&self, hosts: &BTreeMap<HostId, Host>) -> BTreeMap<CredentialId, RemovedHost> {
        let registered: BTreeSet<_> = hosts.values().map(|host| host.credential.id()).collect();
        let ours = self.ours.removed_hosts();
        let mut all: BTreeMap<_, RemovedHost> =
            ours.map(|one| (one.credential, one.clone())).collect();
        for (key, theirs) in &self.theirs.removed {
            let merged = match all.get(key) {
                None => theirs.clone(),
                Some(ours) => RemovedHost {
                    revoked: ours.revoked.clone().or_else(|| theirs.revoked.clone()),
                    returns_nonces: ours.returns_nonces || theirs.returns_nonces,
                    ..ours.clone()
                },
            };
            all.insert(*key, merged);
        }
        all.retain(|key, _| !registered.contains(key));
        all
    }

    /// Hosts that are denied here or there.
    fn denied(&self) -> BTreeMap<Digest, DeniedHost> {
        let mut all = self.theirs.denied.clone();
        let ours = self.ours.denied_hosts();
        all.extend(ours.map(|one| (one.policy, one.clone())));
        all
    }

    /// Authorities that are trusted here or there. What an administrator made of one here stays.
    fn endorsement_roots(&self) -> BTreeMap<Thumbprint, EndorsementRoot> {
        let mut all = self.theirs.endorsement_roots.clone();
        let ours = self.ours.endorsement_roots();
        all.extend(ours.map(|one| (one.thumbprint(), one.clone())));
        all
    }

    /// Groups that are here or there. What the two say otherwise of one group is a conflict.
    fn groups(&mut self) -> BTreeMap<ShortName, HostGroup> {
        let ours = self.ours.host_groups();
        let mut all: BTreeMap<_, _> = ours.map(|one| (one.name, one.clone())).collect();
        for theirs in self.theirs.groups.values() {
            let merged = match self.ours.host_group(&theirs.name) {
                None => theirs.clone(),
                Some(ours) => self.group(ours, theirs),
            };
            all.insert(theirs.name, merged);
        }
        all
    }

    fn group(&mut self, ours: &HostGroup, theirs: &HostGroup) -> HostGroup {
        let name = ours.name.to_string();
        let place = (RecordKind::HostGroup, name.as_str());
        let mut merged = HostGroup::new(ours.name, ours.added.min(theirs.added));
        let shown = |value: &Option<bool>| match value {
            Some(true) => "enabled".to_owned(),
            Some(false) => "disabled".to_owned(),
            None => "not set".to_owned(),
        };
        for policy in ours.policies.keys().chain(theirs.policies.keys()) {
            let values = [ours, theirs].map(|group| group.policies.get(policy).copied());
            let [one, other] = &values;
            let chosen = self.choose(place, "policy", (one, other), shown);
            merged
                .policies
                .extend(chosen.map(|on| (policy.clone(), on)));
        }
        for document in ours.documents.keys().chain(theirs.documents.keys()) {
            let one = ours.documents.get(document).copied();
            let other = theirs.documents.get(document).copied();
            // A document that only one of the two knows is as that one says.
            let chosen = match self.ours.policy_document(document) {
                None => other,
                Some(_) if !self.theirs.documents.contains_key(document) => one,
                Some(_) => self.choose(place, "document", (&one, &other), shown),
            };
            merged.documents.extend(chosen.map(|on| (*document, on)));
        }
        merged
    }

    /// Documents that are here or there.
    fn documents(&mut self) -> BTreeMap<ShortName, PolicyDocument> {
        let ours = self.ours.policy_documents();
        let mut all: BTreeMap<_, _> = ours.map(|one| (one.name, one.clone())).collect();
        for theirs in self.theirs.documents.values() {
            let merged = match self.ours.policy_document(&theirs.name) {
                None => theirs.clone(),
                Some(ours) => {
                    let name = ours.name.to_string();
                    let place = (RecordKind::PolicyDocument, name.as_str());
                    let what = |one: &PolicyDocument| (one.kind, one.text.clone());
                    let shown = |(kind, text): &(_, Arc<str>)| {
                        let digest = Digest::from_bytes(sha256(text.as_bytes()));
                        format!("the {kind} with the SHA-256 {digest}")
                    };
                    let chosen = (&what(ours), &what(theirs));
                    let chosen = self.choose(place, "content", chosen, shown);
                    let is_ours = chosen == what(ours);
                    if is_ours { ours } else { theirs }.clone()
                }
            };
            all.insert(theirs.name, merged);
        }
        all
    }

    /// What only single hosts measure, of hosts that will be there.
    fn measurements(
        &mut self,
        hosts: &BTreeMap<HostId, Host>,
    ) -> BTreeMap<HostId, HostMeasurementsRecord> {
        let ours = self.ours.all_host_measurements();
        let mut all: BTreeMap<_, _> = ours.map(|one| (one.host, one.clone())).collect();
        for theirs in self.theirs.measurements.values() {
            let merged = match self.ours.host_measurements(&theirs.host) {
                None => theirs.clone(),
                Some(ours) => {
                    let name = ours.host.to_string();
                    let place = (RecordKind::HostMeasurements, name.as_str());
                    let shown = |text: &Arc<str>| {
                        let digest = Digest::from_bytes(sha256(text.as_bytes()));
                        format!("the document with the SHA-256 {digest}")
                    };
                    let chosen = self.choose(place, "content", (&ours.text, &theirs.text), shown);
                    let is_ours = chosen == ours.text;
                    if is_ours { ours } else { theirs }.clone()
                }
            };
            all.insert(theirs.host, merged);
        }
        // Of a host that stays ours under another id, nothing of theirs is told.
        all.retain(|id, _| hosts.contains_key(id));
        all
    }

    /// Identity keys of the hosts that will be there, and of those that were removed.
    fn identities(
        &self,
        hosts: &BTreeMap<HostId, Host>,
        removed: &BTreeMap<CredentialId, RemovedHost>,
    ) -> BTreeMap<(HostId, Digest), HostIdentity> {
        let ours = self
            .ours
            .all_host_identities()
            .map(|one| ((one.host, one.public_key), one));
        let mut all: BTreeMap<_, HostIdentity> = ours
            .map(|(key, identity)| (key, identity.clone()))
            .collect();
        for theirs in self.theirs.identities.values() {
            let Some(theirs) = self.taken_over(theirs, hosts, removed) else {
                continue;
            };
            let key = (theirs.host, theirs.public_key);
            let merged = all.entry(key).or_insert_with(|| theirs.clone());
            merged.superseded = earlier(merged.superseded, theirs.superseded);
            merged.returned = earlier(merged.returned, theirs.returned);
            merged.first_seen = merged.first_seen.min(theirs.first_seen);
        }
        supersede(&mut all);
        all
    }

    /// An identity key of theirs as that of the host that will be there. Of a host that stays ours, and of whose key they
    /// know nothing, nothing of theirs is told.
    fn taken_over(
        &self,
        theirs: &HostIdentity,
        hosts: &BTreeMap<HostId, Host>,
        removed: &BTreeMap<CredentialId, RemovedHost>,
    ) -> Option<HostIdentity> {
        let registered = self.theirs.hosts.get(&theirs.host);
        let mut gone = self.theirs.removed.values();
        let credential = match registered {
            Some(host) => host.credential.id(),
            None => gone.find(|gone| gone.id == theirs.host)?.credential,
        };
        if let Some(gone) = removed.get(&credential) {
            // As when the host was removed: whatever was signed for it is worth nothing.
            return Some(HostIdentity {
                host: gone.id,
                superseded: Some(theirs.superseded.unwrap_or(gone.removed)),
                ..theirs.clone()
            });
        }
        let mut hosts = hosts.values();
        let host = hosts.find(|host| host.credential.id() == credential)?;
        match registered {
            Some(_) if host.id != theirs.host => None,
            Some(_) => Some(theirs.clone()),
            // Removed there, registered here.
            None => Some(HostIdentity {
                host: host.id,
                superseded: Some(theirs.superseded.unwrap_or(theirs.first_seen)),
                ..theirs.clone()
            }),
        }
    }
}

fn is_same(ours: &Host, theirs: &Host) -> bool {
    let names = [&ours.name, &theirs.name].map(HostName::as_str);
    ours.id == theirs.id && ours.credential == theirs.credential && names[0] == names[1]
}

/// The host of `theirs`, whose key is that of `ours`, with what both know of it.
fn merged_host(ours: &Host, theirs: &Host, take_theirs: bool) -> Host {
    let chosen = if take_theirs { theirs } else { ours };
    Host {
        certificate_expires: ours.certificate_expires,
        last_attempt: ours.last_attempt.clone(),
        platform: chosen.platform.clone(),
        group: chosen.group,
        added: ours.added.min(theirs.added),
        revoked: match seeded(Fault::BackupLiftsRevocation) {
            true => theirs.revoked.clone(),
            false => ours.revoked.clone().or_else(|| theirs.revoked.clone()),
        },
        last_attested: ours.last_attested.max(theirs.last_attested),
        returns_nonces: ours.returns_nonces || theirs.returns_nonces,
        ..theirs.clone()
    }
}

/// Of several identity keys of one host and kind that are in use, the newest is.
fn supersede(all: &mut BTreeMap<(HostId, Digest), HostIdentity>) {
    let mut newest: BTreeMap<(HostId, HealthKind), (Time, Digest)> = BTreeMap::new();
    for identity in all.values().filter(|one| one.superseded.is_none()) {
        let found = (identity.first_seen, identity.public_key);
        let known = newest
            .entry((identity.host, identity.kind))
            .or_insert(found);
        *known = found.max(*known);
    }
    for identity in all.values_mut().filter(|one| one.superseded.is_none()) {
        let newest = newest.get(&(identity.host, identity.kind));
        if let Some((time, _)) = newest.filter(|(_, key)| *key != identity.public_key) {
            identity.superseded = Some(*time);
        }
    }
}

/// The earlier, or the smaller, of two that may be absent.
fn earlier<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
