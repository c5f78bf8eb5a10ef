//! One commit of many jobs.

use hgs_pki::Time;
use rusqlite::Connection;

use super::{Answer, Committed, Failure, Job, Reply, Writer};
use crate::audit::{self, AuditEntry, AuditRecord, Outcome, RecordChange};
use crate::change::Change;
use crate::engine::{self, Whole};
use crate::lineage::{Standing, Tree};
use crate::record::Keys;
use crate::release::{Recorded, Release, ReleaseRefusal};
use crate::transaction::{Act, Plan, Planner, Refusal, Transaction};
use crate::{State, StoreError, usage};

/// A commit under way: the state as it will be, and whether anything has failed.
pub(super) struct Group<'a> {
    connection: &'a Connection,
    keys: &'a Keys,
    random: &'a mut dyn hgs_crypto::Random,
    node: &'a str,
    state: State,
    before: Whole,
    whole: Whole,
    releases: usize,
    last_release: Option<Time>,
    failure: Option<StoreError>,
}

/// What a commit has made.
pub(super) struct Done {
    pub(super) whole: Whole,
    /// The new state, if it is another one.
    pub(super) state: Option<State>,
}

impl<'a> Group<'a> {
    pub(super) fn begin(writer: &'a mut Writer) -> Self {
        let state = State::clone(&writer.shared.state());
        let mut group = Self {
            connection: &writer.connection,
            keys: &writer.keys,
            random: &mut *writer.random,
            node: &writer.node,
            before: writer.whole,
            state,
            whole: writer.whole,
            releases: 0,
            last_release: None,
            failure: None,
        };
        group.failure = group.execute("BEGIN IMMEDIATE").err();
        group
    }

    /// Does one job, unless something has failed already; nobody is told yet.
    pub(super) fn perform(&mut self, job: Job) -> Answer {
        match job {
            Job::Transact {
                transactions,
                act,
                reply,
            } => self.attempt(reply, |group| group.transact(&transactions, &act)),
            Job::Release { release, reply } => self.attempt(reply, |group| group.release(&release)),
            Job::Note { entry, reply } => self.attempt(reply, |group| {
                let sequence = group.note(*entry, Vec::new())?;
                Ok(Ok(sequence))
            }),
            Job::Probe { reply } => self.attempt(reply, |group| {
                let checked = group.before.check_row(group.connection, group.keys);
                Ok(checked.map_err(Failure::Store))
            }),
        }
    }

    /// Commits, or takes everything back.
    pub(super) fn finish(mut self) -> Result<Done, StoreError> {
        let result = match self.failure.take() {
            Some(failure) => Err(failure),
            None => self.complete(),
        };
        if let Err(failure) = result {
            // Where BEGIN failed, or SQLite has rolled back by itself, there is nothing to do.
            if !self.connection.is_autocommit() {
                self.execute("ROLLBACK")?;
            }
            return Err(failure);
        }
        let changed = self.whole.generation != self.before.generation;
        Ok(Done {
            whole: self.whole,
            state: changed.then_some(self.state),
        })
    }

    fn complete(&mut self) -> Result<(), StoreError> {
        if let Some(now) = self.last_release {
            // Every release adds at most two nodes, so forgetting two for each keeps pace.
            let limit = 2 * self.releases;
            self.tree().prune(now, limit)?;
        }
        self.whole.update(self.connection, self.keys)?;
        self.execute("COMMIT")
    }

    fn attempt<T: 'static, E: 'static>(
        &mut self,
        reply: Reply<T, E>,
        work: impl FnOnce(&mut Self) -> Result<Result<T, Failure<E>>, StoreError>,
    ) -> Answer {
        let outcome = match &self.failure {
            Some(failure) => Err(failure.clone()),
            None => work(self),
        };
        match outcome {
            Ok(outcome) => Box::new(move |commit| {
                reply(match commit {
                    Ok(()) => outcome,
                    Err(failure) => Err(Failure::Store(failure)),
                });
            }),
            Err(failure) => {
                // Half a job can't stay in a commit, and a job that fails here would mostly fail
                // for the others too.
                self.failure.get_or_insert_with(|| failure.clone());
                Box::new(move |_| reply(Err(Failure::Store(failure))))
            }
        }
    }

    /// Carries out all of `transactions`, each with its audit record, or none.
    fn transact(
        &mut self,
        transactions: &[Transaction],
        act: &Act,
    ) -> Result<Result<Committed, Failure<Refusal>>, StoreError> {
        // A single transaction is planned whole before it writes anything, and needs no way back.
        // (Holding on to the state would make each change copy a table.)
        let before = (transactions.len() > 1).then(|| (self.state.clone(), self.whole));
        if before.is_some() {
            self.execute("SAVEPOINT transactions")?;
        }
        for transaction in transactions {
            let generation = self.state.generation() + 1;
            let needed_by = self.needed_by(transaction)?;
            let planned = Planner {
                state: &self.state,
                act,
                generation,
                needed_by,
                sealer: &self.keys.private_keys,
                random: &mut *self.random,
            }
            .plan(transaction);
            match planned {
                Ok(plan) => self.carry_out(transaction, plan, act, generation)?,
                Err(refusal) => {
                    // What it is about may have come with the ones before it.
                    let mut entry = self.entry(transaction, act, Outcome::Refused);
                    if let Some(before) = before {
                        self.execute("ROLLBACK TO transactions")?;
                        self.execute("RELEASE transactions")?;
                        (self.state, self.whole) = before;
                    }
                    entry.reason = Some(refusal.to_string());
                    self.note(entry, Vec::new())?;
                    return Ok(Err(Failure::Refused(refusal)));
                }
            }
        }
        if before.is_some() {
            self.execute("RELEASE transactions")?;
        }
        Ok(Ok(Committed {
            generation: self.state.generation(),
            sequence: self.whole.audit.sequence,
        }))
    }

    fn carry_out(
        &mut self,
        transaction: &Transaction,
        plan: Plan,
        act: &Act,
        generation: u64,
    ) -> Result<(), StoreError> {
        let entry = AuditEntry {
            before: plan.before,
            after: plan.after,
            ..self.entry(transaction, act, Outcome::Done)
        };
        let changes = plan.changes.iter().map(RecordChange::of).collect();
        self.state.set_generation(generation);
        self.whole.generation = generation;
        for change in plan.changes {
            engine::write(
                self.connection,
                self.keys,
                &mut self.state,
                &mut self.whole.records,
                change,
            )?;
        }
        self.note(entry, changes)?;
        Ok(())
    }

    /// Asked only where it matters: it takes a look at the whole tree.
    fn needed_by(&self, transaction: &Transaction) -> Result<u64, StoreError> {
        let Transaction::RemoveCertificate {
            thumbprint,
            even_if_needed: false,
        } = transaction
        else {
            return Ok(0);
        };
        match self.state.certificate(thumbprint) {
            Some(record) => usage::needing(self.connection, &self.state, record),
            None => Ok(0),
        }
    }

    fn entry(&self, transaction: &Transaction, act: &Act, outcome: Outcome) -> AuditEntry {
        let entry = AuditEntry::new(act.time, act.actor.clone(), transaction.action(), outcome);
        let entry = AuditEntry {
            lineage: transaction.lineage(&self.state),
            ..entry
        };
        let mut entry = match transaction.host(&self.state) {
            Some((id, name)) => entry.about_host(id, name),
            None => entry,
        };
        if let Transaction::RecordAttestation(attestation) = transaction {
            entry.serial = Some(attestation.serial.clone());
            entry.policy = Some(attestation.policy);
        }
        entry
    }

    fn release(
        &mut self,
        release: &Release,
    ) -> Result<Result<Recorded, Failure<ReleaseRefusal>>, StoreError> {
        let located = match self.tree().locate(&release.ingress) {
            // One spoilt node must not keep the other releases from being recorded.
            Err(StoreError::Tampered(tampered)) => {
                return Ok(Err(Failure::Store(tampered.into())));
            }
            other => other?,
        };
        let standing = located.standing;
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
        let host = release.host();
        let step = release.step(sequence, &host);
        self.tree().step(located, &step)?;
        self.releases += 1;
        self.last_release = Some(release.time);
        Ok(Ok(Recorded {
            sequence,
            standing,
            egress: release.egress,
        }))
    }

    fn check(
        &mut self,
        release: &Release,
        standing: Standing,
    ) -> Result<Result<(), ReleaseRefusal>, StoreError> {
        if let Err(refusal) = release.check(&self.state) {
            return Ok(Err(refusal));
        }
        let refused = self.state.settings().refuse_superseded_protectors;
        if refused && standing == Standing::Ancestor {
            return Ok(Err(ReleaseRefusal::ProtectorSuperseded));
        }
        let known = release.egress == release.ingress || self.tree().contains(&release.egress)?;
        if known {
            return Ok(Err(ReleaseRefusal::EgressKnown));
        }
        Ok(Ok(()))
    }

    /// Appends to the audit log; the record's number is returned.
    fn note(&mut self, entry: AuditEntry, changes: Vec<RecordChange>) -> Result<u64, StoreError> {
        let record = AuditRecord {
            sequence: self.whole.audit.sequence + 1,
            node: self.node.to_owned(),
            generation: self.state.generation(),
            entry: entry.bounded(),
            changes,
        };
        self.whole.audit = audit::append(
            self.connection,
            &self.keys.audit,
            &self.whole.audit,
            &record,
        )?;
        Ok(record.sequence)
    }

    fn tree(&mut self) -> Tree<'_> {
        Tree {
            connection: self.connection,
            keys: self.keys,
            sum: &mut self.whole.lineage,
        }
    }

    fn execute(&self, sql: &str) -> Result<(), StoreError> {
        self.connection.prepare_cached(sql)?.execute(())?;
        Ok(())
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
