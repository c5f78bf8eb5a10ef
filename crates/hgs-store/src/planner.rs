//! Decides what a commit does: many jobs, one after another, from the state in memory and what a
//! view shows of the lineage tree. Nothing is written here; what comes out is a [`Batch`].

use std::collections::BTreeSet;

use hgs_crypto::Random;
use hgs_fault::{Fault, seeded};
use hgs_kps::Reason;
use hgs_pki::Time;

use crate::audit::{self, AuditEntry, AuditRecord, Outcome, RecordChange};
use crate::change::{Change, Record, RecordKey};
use crate::engine::{ArchiveChange, Batch, Key, PositionChange, PutRecord, View};
use crate::evidence::Attempted;
use crate::lineage::{Standing, Tree};
use crate::model::{Host, HostAttestation};
use crate::outcome::{Committed, Failure};
use crate::record::{Integrity, Keys};
use crate::refusal::Refusal;
use crate::release::{Recipient, RecordedRelease, ReleaseRecord, ReleaseRefusal};
use crate::transaction::{Act, Plan, Planner, Transaction};
use crate::{State, StoreError};

/// What is said of the registration of a TPM that no certificate vouches for.
const VOUCHED_FOR: &str = "without an EK certificate: the administrator vouches for the TPM";

/// What a commit is decided from, besides the state.
pub(crate) struct Basis<'a> {
    pub(crate) view: &'a dyn View,
    pub(crate) keys: &'a Keys,
    /// What this node of the service is called in audit records.
    pub(crate) node: &'a str,
    pub(crate) random: &'a mut dyn Random,
    /// What another program changed in the database: jobs that depend on it fail.
    pub(crate) spoilt: &'a BTreeSet<Key>,
    /// The share of this node in forgetting protectors, and the number of shares: two nodes that forgot the same would conflict.
    pub(crate) share: (u32, u32),
}

/// A commit that is being decided: the state as it will be, and the batch so far.
pub(crate) struct BatchPlanner<'a> {
    pub(crate) basis: Basis<'a>,
    pub(crate) state: State,
    pub(crate) tree: Tree<'a>,
    integrity: Integrity,
    batch: Batch,
    releases: usize,
    last_release: Option<Time>,
}

impl<'a> BatchPlanner<'a> {
    /// Begins with the state that is there, and the whole that it belongs to.
    pub(crate) fn new(basis: Basis<'a>, state: State, integrity: Integrity) -> Self {
        let root = integrity.root(basis.keys);
        let batch = Batch {
            level: state.level(),
            ..Batch::of(&integrity, root)
        };
        Self {
            tree: Tree::new(basis.view, basis.keys, basis.spoilt),
            basis,
            state,
            integrity,
            batch,
            releases: 0,
            last_release: None,
        }
    }

    /// The batch that does all that was decided.
    pub(crate) fn finish(mut self) -> Result<Batch, StoreError> {
        if let Some(now) = self.last_release {
            // Every release adds at most two nodes, so forgetting two for each keeps pace.
            self.tree.prune(now, 2 * self.releases, self.basis.share)?;
        }
        self.tree.finish(&mut self.batch);
        self.batch.row.generation = self.state.generation();
        self.batch.row.root = self.integrity.after(&self.batch).root(self.basis.keys);
        Ok(self.batch)
    }

    /// Decides all of `transactions`, each with its audit record, or none. Numbers of audit records
    /// are counted from the first of the batch here and in all that follows.
    pub(crate) fn transact(
        &mut self,
        transactions: &[Transaction],
        act: &Act,
    ) -> Result<Result<Committed, Failure<Refusal>>, StoreError> {
        // A single transaction is planned whole before it writes anything, and needs no way back.
        let may_need_undoing = transactions.len() > 1 || !self.basis.spoilt.is_empty();
        let before = may_need_undoing.then(|| (self.state.clone(), self.batch.clone()));
        let mut sequence = 0;
        for transaction in transactions {
            match self.transaction(transaction, act)? {
                Ok(record) => sequence = record,
                Err(failure) => {
                    // What it is about may have come with the ones before it.
                    let mut entry = self.entry(transaction, act, Outcome::Refused);
                    if let Some(before) = before.filter(|_| !seeded(Fault::RefusedBatchNotUndone)) {
                        (self.state, self.batch) = before;
                    }
                    if let Failure::Refused(refusal) = &failure {
                        entry.reason = Some(refusal.to_string());
                        self.note(entry, Vec::new())?;
                    }
                    return Ok(Err(failure));
                }
            }
        }
        Ok(Ok(Committed {
            generation: self.state.generation(),
            sequence,
        }))
    }

    fn transaction(
        &mut self,
        transaction: &Transaction,
        act: &Act,
    ) -> Result<Result<u64, Failure<Refusal>>, StoreError> {
        let generation = self.state.generation() + 1;
        let needed_by = self.needed_by(transaction)?;
        let planned = Planner {
            state: &self.state,
            act,
            generation,
            needed_by,
            sealer: &self.basis.keys.private_keys,
            random: &mut *self.basis.random,
        }
        .plan(transaction);
        let mut plan = match planned {
            Ok(plan) => plan,
            Err(refusal) => return Ok(Err(Failure::Refused(refusal))),
        };
        let (needed, level) = (Change::needed_level(&plan.changes), plan.level());
        let level = level.unwrap_or_else(|| self.state.level());
        if needed > level {
            let refusal = Refusal::LevelNeeded { needed, level };
            return Ok(Err(Failure::Refused(refusal)));
        }
        // Nothing that was decided at another level is ordered after it.
        self.batch.expects_all |= plan.level().is_some();
        if transaction.is_administrative() {
            plan.changes.extend(self.gate(&plan));
        }
        let entry = AuditEntry {
            before: plan.before,
            after: plan.after,
            ..self.entry(transaction, act, Outcome::Done)
        };
        for key in [RecordKey::Settings].into_iter().chain(transaction.basis()) {
            if let Err(tampered) = self.expect(key) {
                return Ok(Err(tampered.into()));
            }
        }
        self.state.set_generation(generation);
        let changes = plan.changes.iter().map(RecordChange::of).collect();
        for change in plan.changes {
            if let Err(tampered) = self.expect(change.key()) {
                return Ok(Err(tampered.into()));
            }
            self.write(change)?;
        }
        if let Transaction::RecordAttestation(attestation) = transaction
            && let Some(attempted) = &attestation.attempted
        {
            self.keep_evidence(attempted);
        }
        self.note(entry, changes).map(Ok)
    }

    /// The record of settings is the gate: releases and attestations depend on it, and whatever an
    /// administrator does writes it again. So none that was decided before is committed after.
    fn gate(&self, plan: &Plan) -> Option<Change> {
        let is_written = |change: &Change| change.key() == RecordKey::Settings;
        if plan.changes.iter().any(is_written) || seeded(Fault::GateNotWritten) {
            return None;
        }
        let settings = self.state.known_settings()?;
        Some(Change::Put(Record::Settings(settings.clone())))
    }

    /// Puts or removes one record.
    pub(crate) fn write(&mut self, change: Change) -> Result<(), StoreError> {
        let (key, keys) = (change.key(), self.basis.keys);
        let before = self.state.version(&key);
        if let RecordKey::HostAttestation(host) = key {
            let known = self.state.host_attestation(&host);
            let known = known.and_then(HostAttestation::evidence);
            let next = match &change {
                Change::Put(Record::HostAttestation(attestation)) => attestation.evidence(),
                _ => None,
            };
            if known != next {
                // Whoever writes newer evidence puts it in its place.
                self.batch.evidence.insert(host, None);
            }
        }
        self.expect(key)?;
        let difference = &mut self.batch.records_difference;
        before
            .iter()
            .for_each(|tag| difference.subtract(&keys.term(tag)));
        let put = match change {
            Change::Put(record) => {
                let value = record.to_text().map_err(|error| StoreError::Unavailable {
                    reason: error.to_string(),
                })?;
                let generation = self.state.generation();
                let tag = keys.tag(key.kind(), &key.to_string(), generation, &value);
                difference.add(&keys.term(&tag));
                self.state.put(record.clone(), generation, tag);
                Some(PutRecord {
                    record,
                    generation,
                    value,
                    tag,
                })
            }
            Change::Remove(key) => {
                self.state.remove(&key);
                None
            }
        };
        self.batch.records.insert(key, put);
        Ok(())
    }

    /// Makes the commit depend on a record as it is.
    fn expect(&mut self, key: RecordKey) -> Result<(), StoreError> {
        let name = Key::Record(key);
        if self.basis.spoilt.contains(&name) {
            return Err(name.tampered().into());
        }
        let version = self.state.version(&key);
        self.batch.expected.entry(name).or_insert(version);
        Ok(())
    }

    /// Asked only where it matters: it takes a look at the whole tree, of which nothing may have changed then.
    fn needed_by(&mut self, transaction: &Transaction) -> Result<u64, StoreError> {
        let Transaction::RemoveCertificate {
            thumbprint,
            even_if_needed: false,
        } = transaction
        else {
            return Ok(0);
        };
        let Some(record) = self.state.certificate(thumbprint) else {
            return Ok(0);
        };
        self.batch.expects_all = !seeded(Fault::TreeNotExpected);
        let pairs = self.basis.view.usage()?;
        let needing = pairs.iter().filter(|pair| pair.needs(&self.state, record));
        Ok(needing.map(|pair| pair.protectors).sum())
    }

    fn entry(&self, transaction: &Transaction, act: &Act, outcome: Outcome) -> AuditEntry {
        let entry = act.entry(transaction.action(), outcome);
        let entry = AuditEntry {
            lineage: transaction.lineage(&self.state),
            ..entry
        };
        let mut entry = match transaction.host(&self.state) {
            Some((id, name)) => entry.about_host(id, name),
            None => entry,
        };
        match transaction {
            Transaction::RecordAttestation(attestation) => {
                entry.serial = Some(attestation.serial.clone());
                entry.policy = Some(attestation.policy);
            }
            Transaction::AddHost(host) if host.is_vouched_for() => {
                entry.reason = Some(VOUCHED_FOR.to_owned());
            }
            _ => {}
        }
        entry
    }

    /// Decides whether a release may be recorded, and records it or its refusal.
    pub(crate) fn release(
        &mut self,
        release: &ReleaseRecord,
    ) -> Result<Result<RecordedRelease, Failure<ReleaseRefusal>>, StoreError> {
        // One spoilt record must not keep the other releases from being recorded.
        let standing = match self.depend_on_what_decides(release) {
            Err(StoreError::Tampered(tampered)) => {
                return Ok(Err(Failure::Store(tampered.into())));
            }
            other => other?,
        };
        // Reported whether or not the release is recorded: it has happened.
        if let Some(entry) = release.offline_entry(&self.state) {
            self.note(entry, Vec::new())?;
        }
        if let Err(refusal) = self.check(release, standing)? {
            let mut entry = release.entry(&self.state, Outcome::Refused);
            entry.standing = Some(standing);
            entry.reason = Some(refusal.to_string());
            self.note(entry, Vec::new())?;
            return Ok(Err(Failure::Refused(refusal)));
        }
        let mut entry = release.entry(&self.state, Outcome::Done);
        entry.standing = Some(standing);
        let sequence = self.note(entry, Vec::new())?;
        self.tree.step(&release.step(&release.host()))?;
        self.releases += 1;
        self.last_release = Some(release.time);
        Ok(Ok(RecordedRelease {
            sequence,
            standing,
            egress: release.egress,
        }))
    }

    fn depend_on_what_decides(&mut self, release: &ReleaseRecord) -> Result<Standing, StoreError> {
        if !seeded(Fault::GateNotExpected) {
            self.expect(RecordKey::Settings)?;
        }
        if let Recipient::Registered(host) = &release.recipient {
            self.expect(RecordKey::Host(*host))?;
        }
        self.tree.get(&release.egress)?;
        self.tree.locate(&release.ingress)
    }

    fn check(
        &mut self,
        release: &ReleaseRecord,
        standing: Standing,
    ) -> Result<Result<(), ReleaseRefusal>, StoreError> {
        if let Err(refusal) = release.check(&self.state) {
            return Ok(Err(refusal));
        }
        let refused = self.state.settings().refuse_superseded_protectors;
        if refused && standing == Standing::Ancestor && !seeded(Fault::SupersededReleased) {
            return Ok(Err(Reason::ProtectorSuperseded.into()));
        }
        if release.egress == release.ingress || self.tree.get(&release.egress)?.is_some() {
            return Ok(Err(ReleaseRefusal::EgressKnown));
        }
        Ok(Ok(()))
    }

    /// Keeps how an attempt of a host to attest went, without a record in the audit log. One that went as the last one is kept a minute
    /// later at the earliest: so a host can't have the disk written to for every request.
    pub(crate) fn attempted(&mut self, attempted: &Attempted) -> Result<(), StoreError> {
        let host = &attempted.host;
        let Some(known) = self.state.host(host).cloned() else {
            return Ok(());
        };
        let last = known.last_attempt.as_ref();
        if last.is_some_and(|last| last.stands_for(&attempted.attempt)) {
            return Ok(());
        }
        let changed = Host {
            last_attempt: Some(Box::new(attempted.attempt.clone())),
            ..known
        };
        if let Some(attestation) = changed.attestation() {
            self.write(Change::Put(Record::HostAttestation(attestation)))?;
            self.keep_evidence(attempted);
        }
        Ok(())
    }

    /// Puts evidence in its place, if the record that was written is about it and it is not there yet.
    fn keep_evidence(&mut self, attempted: &Attempted) {
        let Some(evidence) = &attempted.evidence else {
            return;
        };
        if let Some(place) = self.batch.evidence.get_mut(&attempted.host) {
            *place = Some(evidence.compressed());
        }
    }

    /// Has the beginning of the audit log leave the database, or moves what says where it begins.
    pub(crate) fn archive(&mut self, change: ArchiveChange) {
        self.batch.archive = Some(change);
    }

    /// Has this copy follow the order of several nodes no more.
    pub(crate) fn leave_cluster(&mut self) {
        self.batch.position = Some(PositionChange::Gone);
    }

    /// Appends to the audit log; the number of the record is returned.
    pub(crate) fn note(
        &mut self,
        entry: AuditEntry,
        changes: Vec<RecordChange>,
    ) -> Result<u64, StoreError> {
        let record = AuditRecord {
            sequence: 0,
            node: self.basis.node.to_owned(),
            generation: self.state.generation(),
            entry: entry.bounded(),
            changes,
        };
        let (row, head) = audit::append(&self.basis.keys.audit, &self.batch.row.audit, &record)?;
        let sequence = self.batch.audit.len() as u64;
        self.batch.audit.push(row);
        self.batch.row.audit = head;
        Ok(sequence)
    }
}

impl RecordChange {
    pub(crate) fn of(change: &Change) -> Self {
        let key = change.key();
        Self {
            kind: key.kind(),
            name: key.to_string(),
            removed: matches!(change, Change::Remove(_)),
        }
    }
}
