//! The state of the service in memory: what every decision is made from.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use hgs_attest::{CredentialId, HostIdentities};
use hgs_crypto::hash::Sha256Digest;
use hgs_custody::seal::Tag;
use hgs_fault::{Fault, seeded};
use hgs_kps::{CertificateKind, HostStanding, Lineage};
use hgs_pki::Thumbprint;
use imbl::OrdMap;

use crate::change::{Record, RecordKey};
use crate::engine::{Batch, Version};
use crate::level::{Format, Level};
use crate::model::{
    AttestationSigner, CertificateRecord, DeniedHost, Digest, EndorsementRoot, Host,
    HostAttestation, HostGroup, HostIdentity, HostMeasurementsRecord, HostName, PolicyDocument,
    RemovedHost, SealedKey, Settings, ShortName, policy_of,
};
use crate::policy_sets::PolicySets;
use crate::usage::PairUsage;
use hgs_pki::health::HostId;

/// One generation of the state. Cheap to clone: tables are shared until one changes.
#[derive(Clone, Default)]
pub struct State {
    generation: u64,
    format: Option<Stored<Format>>,
    settings: Option<Stored<Settings>>,
    certificates: Table<Thumbprint, CertificateRecord>,
    private_keys: Table<Digest, SealedKey>,
    /// With what their attestations say.
    hosts: Table<HostId, Host>,
    host_attestations: Table<HostId, HostAttestation>,
    host_identities: Table<(HostId, Digest), HostIdentity>,
    attestation_signers: Table<Thumbprint, AttestationSigner>,
    removed_hosts: Table<CredentialId, RemovedHost>,
    denied_hosts: Table<Digest, DeniedHost>,
    endorsement_roots: Table<Thumbprint, EndorsementRoot>,
    host_groups: Table<ShortName, HostGroup>,
    policy_documents: Table<ShortName, PolicyDocument>,
    host_measurements: Table<HostId, HostMeasurementsRecord>,
    // Other ways to find a host; derived from `hosts` and `removed_hosts`, not stored.
    hosts_by_name: OrdMap<String, HostId>,
    hosts_by_credential: OrdMap<CredentialId, HostId>,
    hosts_by_policy: OrdMap<Digest, HostId>,
    removed_by_policy: OrdMap<Digest, CredentialId>,
    // Not stored either, and the same for all generations: what is compiled stays compiled.
    policy_sets: Arc<PolicySets>,
}

/// The documents and settings that groups of hosts are judged by, at one moment.
#[derive(Clone, Default)]
pub(crate) struct PolicyVersion {
    host_groups: Table<ShortName, HostGroup>,
    policy_documents: Table<ShortName, PolicyDocument>,
}

/// Nothing of them was written between the two, whichever is the later one.
impl PartialEq for PolicyVersion {
    fn eq(&self, other: &Self) -> bool {
        self.host_groups.ptr_eq(&other.host_groups)
            && self.policy_documents.ptr_eq(&other.policy_documents)
    }
}

impl Eq for PolicyVersion {}

impl std::fmt::Debug for PolicyVersion {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("PolicyVersion")
    }
}

type Table<K, V> = OrdMap<K, Stored<V>>;

/// A record with what it takes to replace it.
#[derive(Clone)]
struct Stored<V> {
    value: Arc<V>,
    generation: u64,
    tag: Tag,
}

impl State {
    /// How many transactions have changed it.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// In which generation an administrator has changed something last: whatever one does writes the settings anew.
    #[must_use]
    pub fn administered(&self) -> u64 {
        let settings = self.settings.as_ref();
        settings.map_or(0, |stored| stored.generation)
    }

    /// Whether certificates, signers and their keys are those of `other`: nothing of them was
    /// written between the two, whichever is the later one. Cheap, so that what is made of them
    /// can be kept while hosts attest.
    #[must_use]
    pub fn has_same_keys_as(&self, other: &Self) -> bool {
        self.certificates.ptr_eq(&other.certificates)
            && self.private_keys.ptr_eq(&other.private_keys)
            && self.attestation_signers.ptr_eq(&other.attestation_signers)
    }

    /// The level of its format: what is written must be readable at it.
    #[must_use]
    pub fn level(&self) -> Level {
        let format = self.format.as_ref();
        format.map_or(Level::FIRST, |stored| stored.value.level)
    }

    /// The same, with the version of the program that introduced it.
    #[must_use]
    pub fn format(&self) -> Format {
        let format = self.format.as_ref();
        format.map_or_else(Format::default, |stored| Format::clone(&stored.value))
    }

    /// How many records say at which level it is; a document says it in its header.
    pub(crate) fn count_formats(&self) -> u64 {
        u64::from(self.format.is_some())
    }

    /// The settings of the service.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        let settings = self.settings.as_ref();
        &settings
            .expect("a state is created with its settings, and is not opened without them")
            .value
    }

    /// All certificates, by thumbprint.
    pub fn certificates(&self) -> impl Iterator<Item = &CertificateRecord> {
        self.certificates.values().map(|stored| &*stored.value)
    }

    /// The certificate with this thumbprint.
    #[must_use]
    pub fn certificate(&self, thumbprint: &Thumbprint) -> Option<&CertificateRecord> {
        find(&self.certificates, thumbprint)
    }

    /// Whether a compromised certificate was written after `generation`.
    pub(crate) fn has_compromised_since(&self, generation: u64) -> bool {
        let mut written = self.certificates.values();
        self.generation > generation
            && written.any(|one| one.generation > generation && one.value.compromised.is_some())
    }

    /// All hosts, by name.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        let ids = self.hosts_by_name.values();
        ids.filter_map(|id| self.host(id))
    }

    /// The host with this id.
    #[must_use]
    pub fn host(&self, id: &HostId) -> Option<&Host> {
        find(&self.hosts, id)
    }

    /// The record of a host's attestations, if there is one.
    pub(crate) fn host_attestation(&self, host: &HostId) -> Option<&HostAttestation> {
        find(&self.host_attestations, host)
    }

    /// How many records stand beside those of hosts; a document has one line for both.
    pub(crate) fn count_host_attestations(&self) -> u64 {
        self.host_attestations.len() as u64
    }

    /// The host with this name, whatever its case.
    #[must_use]
    pub fn host_by_name(&self, name: &HostName) -> Option<&Host> {
        self.host(self.hosts_by_name.get(&name.folded())?)
    }

    /// The host with this credential.
    #[must_use]
    pub fn host_by_credential(&self, credential: &CredentialId) -> Option<&Host> {
        self.host(self.hosts_by_credential.get(credential)?)
    }

    /// The host whose health certificates have this policy digest.
    #[must_use]
    pub fn host_by_policy(&self, policy: &Digest) -> Option<&Host> {
        self.host(self.hosts_by_policy.get(policy)?)
    }

    /// The identity key with this digest, if that host ever attested with it.
    #[must_use]
    pub fn host_identity(&self, host: &HostId, public_key: &Digest) -> Option<&HostIdentity> {
        find(&self.host_identities, &(*host, *public_key))
    }

    /// All identity keys that a host attested with.
    pub fn host_identities(&self, host: &HostId) -> impl Iterator<Item = &HostIdentity> {
        let all = self.host_identities.range(every_key_of(host));
        all.map(|(_, stored)| &*stored.value)
    }

    /// The identity keys of a host, as the rules for them see it.
    #[must_use]
    pub fn identities(&self, host: &HostId) -> HostIdentities {
        HostIdentities::new(self.host_identities(host).map(HostIdentity::record))
    }

    /// All hosts that were removed, by credential.
    pub fn removed_hosts(&self) -> impl Iterator<Item = &RemovedHost> {
        self.removed_hosts.values().map(|stored| &*stored.value)
    }

    /// What is left of the host with this credential.
    #[must_use]
    pub fn removed_host(&self, credential: &CredentialId) -> Option<&RemovedHost> {
        find(&self.removed_hosts, credential)
    }

    /// All hosts of other clusters that get no keys here, by policy digest.
    pub fn denied_hosts(&self) -> impl Iterator<Item = &DeniedHost> {
        self.denied_hosts.values().map(|stored| &*stored.value)
    }

    /// The denial of health certificates with this policy digest.
    #[must_use]
    pub fn denied_host(&self, policy: &Digest) -> Option<&DeniedHost> {
        find(&self.denied_hosts, policy)
    }

    /// The authorities that vouch for TPMs, by thumbprint.
    pub fn endorsement_roots(&self) -> impl Iterator<Item = &EndorsementRoot> {
        self.endorsement_roots.values().map(|stored| &*stored.value)
    }

    /// The authority whose certificate has this thumbprint.
    #[must_use]
    pub fn endorsement_root(&self, thumbprint: &Thumbprint) -> Option<&EndorsementRoot> {
        find(&self.endorsement_roots, thumbprint)
    }

    /// Which documents and settings groups of hosts are judged by. Equal ones are the same; cheap, so that what is made of
    /// them can be kept while hosts attest.
    pub(crate) fn policy_version(&self) -> PolicyVersion {
        PolicyVersion {
            host_groups: self.host_groups.clone(),
            policy_documents: self.policy_documents.clone(),
        }
    }

    pub(crate) fn policy_sets(&self) -> &PolicySets {
        &self.policy_sets
    }

    /// The groups of hosts, by name. The default group is among them only if something was set for it.
    pub fn host_groups(&self) -> impl Iterator<Item = &HostGroup> {
        self.host_groups.values().map(|stored| &*stored.value)
    }

    /// The group with this name.
    #[must_use]
    pub fn host_group(&self, name: &ShortName) -> Option<&HostGroup> {
        find(&self.host_groups, name)
    }

    /// The documents that measurements are compared with, by name.
    pub fn policy_documents(&self) -> impl Iterator<Item = &PolicyDocument> {
        self.policy_documents.values().map(|stored| &*stored.value)
    }

    /// The document with this name.
    #[must_use]
    pub fn policy_document(&self, name: &ShortName) -> Option<&PolicyDocument> {
        find(&self.policy_documents, name)
    }

    /// What only single hosts measure, by host.
    pub fn all_host_measurements(&self) -> impl Iterator<Item = &HostMeasurementsRecord> {
        self.host_measurements.values().map(|stored| &*stored.value)
    }

    /// What only this host measures.
    #[must_use]
    pub fn host_measurements(&self, host: &HostId) -> Option<&HostMeasurementsRecord> {
        find(&self.host_measurements, host)
    }

    /// All attestation signers, by thumbprint.
    pub fn attestation_signers(&self) -> impl Iterator<Item = &AttestationSigner> {
        let all = self.attestation_signers.values();
        all.map(|stored| &*stored.value)
    }

    /// The attestation signer with this thumbprint.
    #[must_use]
    pub fn attestation_signer(&self, thumbprint: &Thumbprint) -> Option<&AttestationSigner> {
        find(&self.attestation_signers, thumbprint)
    }

    /// The sealed key with this public half, and the generation it was sealed in.
    pub(crate) fn private_key(&self, public_key: &Digest) -> Option<(&SealedKey, u64)> {
        let stored = self.private_keys.get(public_key)?;
        Some((&stored.value, stored.generation))
    }

    /// All sealed keys, each with the generation it was sealed in.
    pub(crate) fn private_keys(&self) -> impl Iterator<Item = (&SealedKey, u64)> {
        let all = self.private_keys.values();
        all.map(|stored| (&*stored.value, stored.generation))
    }

    /// The identity keys of all hosts.
    pub(crate) fn all_host_identities(&self) -> impl Iterator<Item = &HostIdentity> {
        self.host_identities.values().map(|stored| &*stored.value)
    }

    pub(crate) fn known_settings(&self) -> Option<&Settings> {
        self.settings.as_ref().map(|stored| &*stored.value)
    }

    pub(crate) fn set_generation(&mut self, generation: u64) {
        self.generation = generation;
    }

    /// The tag of a record.
    pub(crate) fn version(&self, key: &RecordKey) -> Version {
        fn tag<K: Ord, V>(table: &Table<K, V>, key: &K) -> Version {
            table.get(key).map(|stored| stored.tag)
        }
        match key {
            RecordKey::Format => self.format.as_ref().map(|stored| stored.tag),
            RecordKey::Settings => self.settings.as_ref().map(|stored| stored.tag),
            RecordKey::Certificate(thumbprint) => tag(&self.certificates, thumbprint),
            RecordKey::PrivateKey(public_key) => tag(&self.private_keys, public_key),
            RecordKey::Host(id) => tag(&self.hosts, id),
            RecordKey::HostAttestation(id) => tag(&self.host_attestations, id),
            RecordKey::HostIdentity(host, public_key) => {
                tag(&self.host_identities, &(*host, *public_key))
            }
            RecordKey::AttestationSigner(thumbprint) => tag(&self.attestation_signers, thumbprint),
            RecordKey::RemovedHost(credential) => tag(&self.removed_hosts, credential),
            RecordKey::DeniedHost(policy) => tag(&self.denied_hosts, policy),
            RecordKey::EndorsementRoot(thumbprint) => tag(&self.endorsement_roots, thumbprint),
            RecordKey::HostGroup(name) => tag(&self.host_groups, name),
            RecordKey::PolicyDocument(name) => tag(&self.policy_documents, name),
            RecordKey::HostMeasurements(host) => tag(&self.host_measurements, host),
        }
    }

    /// Takes in what was committed.
    pub(crate) fn apply(&mut self, batch: &Batch) {
        for (key, put) in &batch.records {
            match put {
                Some(put) => self.put(put.record.clone(), put.generation, put.tag),
                None if seeded(Fault::RemovedStaysInMemory) => {}
                None => self.remove(key),
            }
        }
        self.generation = batch.row.generation;
    }

    /// Puts a record.
    pub(crate) fn put(&mut self, record: Record, generation: u64, tag: Tag) {
        match record {
            Record::Format(value) => {
                self.format = Some(Stored::new(value, generation, tag));
            }
            Record::Settings(value) => {
                self.settings = Some(Stored::new(value, generation, tag));
            }
            Record::Certificate(value) => {
                let key = value.thumbprint();
                put(&mut self.certificates, key, value, generation, tag)
            }
            Record::PrivateKey(value) => {
                let key = value.public_key;
                put(&mut self.private_keys, key, value, generation, tag)
            }
            Record::Host(value) => {
                self.index_host(&value);
                let id = value.id;
                put(&mut self.hosts, id, value, generation, tag);
                self.show_attestation(&id);
            }
            Record::HostAttestation(value) => {
                let id = value.host;
                put(&mut self.host_attestations, id, value, generation, tag);
                self.show_attestation(&id);
            }
            Record::HostIdentity(value) => {
                let key = (value.host, value.public_key);
                put(&mut self.host_identities, key, value, generation, tag)
            }
            Record::AttestationSigner(value) => {
                let key = value.thumbprint();
                put(&mut self.attestation_signers, key, value, generation, tag)
            }
            Record::RemovedHost(value) => {
                let (key, policy) = (value.credential, policy_of(&value.credential));
                self.removed_by_policy.insert(policy, key);
                put(&mut self.removed_hosts, key, value, generation, tag);
            }
            Record::DeniedHost(value) => {
                let key = value.policy;
                put(&mut self.denied_hosts, key, value, generation, tag);
            }
            Record::EndorsementRoot(value) => {
                let key = value.thumbprint();
                put(&mut self.endorsement_roots, key, value, generation, tag);
            }
            Record::HostGroup(value) => {
                let key = value.name;
                put(&mut self.host_groups, key, value, generation, tag);
            }
            Record::PolicyDocument(value) => {
                let key = value.name;
                put(&mut self.policy_documents, key, value, generation, tag);
            }
            Record::HostMeasurements(value) => {
                let key = value.host;
                put(&mut self.host_measurements, key, value, generation, tag);
            }
        }
    }

    /// Removes a record.
    pub(crate) fn remove(&mut self, key: &RecordKey) {
        match key {
            RecordKey::Format => self.format = None,
            RecordKey::Settings => self.settings = None,
            RecordKey::Certificate(thumbprint) => delete(&mut self.certificates, thumbprint),
            RecordKey::PrivateKey(public_key) => delete(&mut self.private_keys, public_key),
            RecordKey::Host(id) => {
                self.forget_host(id);
                delete(&mut self.hosts, id)
            }
            RecordKey::HostAttestation(id) => {
                delete(&mut self.host_attestations, id);
                self.show_attestation(id);
            }
            RecordKey::HostIdentity(host, public_key) => {
                delete(&mut self.host_identities, &(*host, *public_key))
            }
            RecordKey::AttestationSigner(thumbprint) => {
                delete(&mut self.attestation_signers, thumbprint)
            }
            RecordKey::RemovedHost(credential) => {
                self.removed_by_policy.remove(&policy_of(credential));
                delete(&mut self.removed_hosts, credential)
            }
            RecordKey::DeniedHost(policy) => delete(&mut self.denied_hosts, policy),
            RecordKey::EndorsementRoot(thumbprint) => {
                delete(&mut self.endorsement_roots, thumbprint)
            }
            RecordKey::HostGroup(name) => delete(&mut self.host_groups, name),
            RecordKey::PolicyDocument(name) => delete(&mut self.policy_documents, name),
            RecordKey::HostMeasurements(host) => delete(&mut self.host_measurements, host),
        }
    }

    /// The generation in which each record was written.
    pub(crate) fn written(&self) -> BTreeMap<RecordKey, u64> {
        let mut written = BTreeMap::new();
        let format = self.format.iter();
        written.extend(format.map(|one| (RecordKey::Format, one.generation)));
        let settings = self.settings.iter();
        written.extend(settings.map(|one| (RecordKey::Settings, one.generation)));
        written.extend(generations(&self.certificates, |key| {
            RecordKey::Certificate(*key)
        }));
        written.extend(generations(&self.private_keys, |key| {
            RecordKey::PrivateKey(*key)
        }));
        written.extend(generations(&self.hosts, |key| RecordKey::Host(*key)));
        written.extend(generations(&self.host_attestations, |key| {
            RecordKey::HostAttestation(*key)
        }));
        written.extend(generations(&self.host_identities, |(host, public_key)| {
            RecordKey::HostIdentity(*host, *public_key)
        }));
        written.extend(generations(&self.attestation_signers, |key| {
            RecordKey::AttestationSigner(*key)
        }));
        written.extend(generations(&self.removed_hosts, |key| {
            RecordKey::RemovedHost(*key)
        }));
        written.extend(generations(&self.denied_hosts, |key| {
            RecordKey::DeniedHost(*key)
        }));
        written.extend(generations(&self.endorsement_roots, |key| {
            RecordKey::EndorsementRoot(*key)
        }));
        written.extend(generations(&self.host_groups, |key| {
            RecordKey::HostGroup(*key)
        }));
        written.extend(generations(&self.policy_documents, |key| {
            RecordKey::PolicyDocument(*key)
        }));
        written.extend(generations(&self.host_measurements, |key| {
            RecordKey::HostMeasurements(*key)
        }));
        written
    }

    /// Has a host say what the record of its attestations says.
    fn show_attestation(&mut self, id: &HostId) {
        let attested = find(&self.host_attestations, id);
        let last_attested = attested.and_then(|attested| attested.last_attested);
        let returns_nonces = attested.is_some_and(|attested| attested.returns_nonces);
        let certificate_expires = attested.and_then(|attested| attested.certificate_expires);
        let last_attempt = attested.and_then(|attested| attested.last_attempt.clone());
        if let Some(stored) = self.hosts.get_mut(id) {
            let host = Arc::make_mut(&mut stored.value);
            host.last_attested = last_attested;
            host.returns_nonces = returns_nonces;
            host.certificate_expires = certificate_expires;
            host.last_attempt = last_attempt;
        }
    }

    fn index_host(&mut self, host: &Host) {
        if let Some(known) = self.host(&host.id) {
            if known.name.as_str() == host.name.as_str() && known.credential == host.credential {
                return;
            }
            self.forget_host(&host.id);
        }
        self.hosts_by_name.insert(host.name.folded(), host.id);
        self.hosts_by_credential
            .insert(host.credential.id(), host.id);
        self.hosts_by_policy
            .insert(host.credential.policy(), host.id);
    }

    fn forget_host(&mut self, id: &HostId) {
        let Some(host) = self.host(id).cloned() else {
            return;
        };
        // Another host may have its name by now.
        let (name, credential) = (host.name.folded(), host.credential.id());
        let policy = policy_of(&credential);
        if self.hosts_by_name.get(&name) == Some(id) {
            self.hosts_by_name.remove(&name);
        }
        if self.hosts_by_credential.get(&credential) == Some(id) {
            self.hosts_by_credential.remove(&credential);
        }
        if self.hosts_by_policy.get(&policy) == Some(id) {
            self.hosts_by_policy.remove(&policy);
        }
    }
}

impl hgs_kps::HostStandings for State {
    fn standing(&self, host: &HostId) -> HostStanding {
        match self.host(host) {
            None => HostStanding::Unknown,
            Some(host) if host.revoked.is_some() => HostStanding::Revoked,
            Some(_) => HostStanding::Registered,
        }
    }

    fn is_barred(&self, policy: &Sha256Digest) -> bool {
        let policy = Digest::from_bytes(*policy);
        let registered = self.host_by_policy(&policy);
        let removed = self
            .removed_by_policy
            .get(&policy)
            .and_then(|credential| self.removed_host(credential));
        registered.is_some_and(|host| host.revoked.is_some())
            || removed.is_some_and(RemovedHost::is_barred)
            || self.denied_host(&policy).is_some()
    }
}

impl<V> Stored<V> {
    fn new(value: V, generation: u64, tag: Tag) -> Self {
        let value = Arc::new(value);
        Self {
            value,
            generation,
            tag,
        }
    }
}

fn find<'t, K: Ord, V>(table: &'t Table<K, V>, key: &K) -> Option<&'t V> {
    table.get(key).map(|stored| &*stored.value)
}

fn generations<K: Ord, V>(
    table: &Table<K, V>,
    key: impl Fn(&K) -> RecordKey,
) -> impl Iterator<Item = (RecordKey, u64)> {
    table
        .iter()
        .map(move |(name, stored)| (key(name), stored.generation))
}

fn put<K: Ord + Clone, V>(table: &mut Table<K, V>, key: K, value: V, generation: u64, tag: Tag)
where
    Stored<V>: Clone,
{
    table.insert(key, Stored::new(value, generation, tag));
}

fn delete<K: Ord + Clone, V>(table: &mut Table<K, V>, key: &K)
where
    Stored<V>: Clone,
{
    table.remove(key);
}

fn every_key_of(host: &HostId) -> RangeInclusive<(HostId, Digest)> {
    let first = Digest::from_bytes([0; 32]);
    let last = Digest::from_bytes([0xff; 32]);
    (*host, first)..=(*host, last)
}

impl PairUsage {
    /// Whether these protectors need `record`: it is half of the pair, or may have been.
    #[must_use]
    pub fn needs(&self, state: &State, record: &CertificateRecord) -> bool {
        let thumbprint = record.thumbprint();
        match (record.kind, self.signing) {
            (CertificateKind::Communications, _) => false,
            (CertificateKind::Encryption, _) => self.encryption == thumbprint,
            (CertificateKind::Signing, Some(signing)) => signing == thumbprint,
            // It may have been any of the lineage.
            (CertificateKind::Signing, None) => self
                .lineage(state)
                .is_some_and(|lineage| *lineage == record.lineage),
        }
    }

    fn lineage<'s>(&self, state: &'s State) -> Option<&'s Lineage> {
        let encryption = state.certificate(&self.encryption);
        encryption.map(|encryption| &encryption.lineage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{digest, time};
    use hgs_pki::health::HealthKind;

    fn identity(host: u64, key: u64) -> Record {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&host.to_be_bytes());
        Record::HostIdentity(HostIdentity {
            host: HostId::from_bytes(id),
            kind: HealthKind::Encryption,
            public_key: digest(key),
            first_seen: time(0),
            superseded: None,
            returned: None,
        })
    }

    /// A commit copies the state that others still look at, so what is not changed must be shared.
    #[test]
    fn a_change_copies_no_table() {
        let mut state = State::default();
        for (host, key) in (0..2_000).flat_map(|host| (0..10).map(move |key| (host, key))) {
            state.put(identity(host, key), 1, [0; 32]);
        }
        let before = state.clone();
        state.put(identity(7, 99), 2, [0; 32]);
        let shared =
            |one: &Stored<HostIdentity>, other: &Stored<HostIdentity>| std::ptr::eq(one, other);
        let places = before.host_identities.iter().filter(|(key, one)| {
            let other = state.host_identities.get(*key);
            other.is_some_and(|other| shared(one, other))
        });
        let (shared, all) = (places.count(), before.host_identities.len());
        assert_eq!(all, 20_000);
        assert!(shared > 19_000, "{shared} of {all} places are shared");
    }
}
