//! The open store: reading from memory, writing through one queue.

mod archive;
mod dissolve;
mod import;
mod rotate;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};

use hgs_crypto::{Random, SecretBytes};
use hgs_custody::SoftwareKey;
use hgs_custody::seal::MasterKey;
use hgs_files::FileError;
use hgs_pki::health::HostId;

use crate::audit::{self, Action, AuditEntry, AuditFilter, AuditRecord, LaterRecords, Outcome};
use crate::engine::{
    Durability, Engine, Program, Readers, Replicated, Sqlite, View, check_copy, close_copy,
    forget_mark, position_of,
};
use crate::evidence::{Attempted, KeptEvidence};
use crate::high_water_mark::HighWaterMark;
use crate::level::{Level, Levels};
use crate::lineage::{self, Seen};
use crate::model::{Digest, Settings};
use crate::order::{self, Ordered};
use crate::outcome::{Committed, Failure};
use crate::protectors::{self, Heads, KnownProtector, ProtectorLine};
use crate::record::{Integrity, Keys};
use crate::refusal::Refusal;
use crate::release::{RecordedRelease, ReleaseRecord, ReleaseRefusal};
use crate::state_folder::{DATABASE, StateFolder};
use crate::transaction::{Act, Transaction};
use crate::usage::PairUsage;
use crate::writer::{Announcement, CommitFacts, Job, Queue, Shared, Writer, job};
use crate::{Finding, OpenError, RolledBack, State, StoreError, Tampered, opening};

pub use archive::{Archived, ArchivingError, AuditExtent};
pub use dissolve::{CopyExtent, StoppedCopy};
pub use import::{Import, ImportError, Imported};

/// The state of the guardian service on this machine's disk, held by one process.
///
/// Reading the [`State`] is a matter of memory. Everything that is written waits for the disk:
/// when an answer says that something was done, no crash undoes it. Dropping the store finishes
/// what waits and closes it.
pub struct Store {
    // Dropped first: the last commits need what follows.
    queue: Queue,
    shared: Arc<Shared>,
    keys: Arc<Keys>,
    /// For what rolls ask.
    lineage: Mutex<Box<dyn View>>,
    /// For what people ask, which may take long: each question has a view of its own.
    readers: Arc<dyn Readers>,
    /// Held while audit records are archived.
    archiving: Mutex<()>,
}

/// Where and for whom a store is opened.
pub struct Opening<'a> {
    /// The folder of the state, mode 0700; it is created where it is missing.
    pub directory: &'a Path,
    /// The key that everything in the store hangs from.
    pub master_key: &'a MasterKey,
    /// What this node of the service is called in audit records.
    pub node: &'a str,
    /// The file of the [high-water mark](crate::high_water_mark). Its folder is made when it is missing.
    pub high_water_mark: PathBuf,
    /// For sealing.
    pub random: Box<dyn Random>,
    /// What orders the commits, where the state is one of several nodes'.
    pub order: Option<Ordered>,
}

/// A state that was not the newest one, and is the state from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// What was found.
    pub rolled_back: RolledBack,
    /// The number of the audit record that says so.
    pub sequence: u64,
}

/// How far the disk of a node holds what several nodes have ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Where it is in the order.
    pub position: order::Position,
    /// The number of its newest audit record.
    pub audit_sequence: u64,
    /// The tag of that record, which is over all before it: nodes with the same number have the same tag.
    pub audit_tag: Vec<u8>,
}

/// What a store has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// Commits of the database; each waited for the disk once.
    pub commits: u64,
    /// Releases, transactions and notes that they held.
    pub jobs: u64,
    /// Those that wait now.
    pub waiting: usize,
}

impl Store {
    /// Makes a new state: its settings and whatever else it begins with, all in one commit.
    ///
    /// # Errors
    /// [`OpenError::AlreadyInitialised`] where there is a state; see [`OpenError`] for the rest.
    /// After an error, or a crash, there is no state and this can be tried again.
    pub fn create(
        opening: Opening<'_>,
        settings: Settings,
        more: Vec<Transaction>,
        act: Act,
    ) -> Result<Self, OpenError> {
        let folder = StateFolder::take(opening.directory)?;
        let mut found = OpenedState::look(folder, opening, Durability::Full, &Program::this())?;
        if found.is_initialised() {
            let directory = found.directory;
            return Err(OpenError::AlreadyInitialised { directory });
        }
        let settings = Transaction::SetSettings(settings);
        let newest = Levels::of_this_program().newest;
        let level = Some(newest).filter(|newest| *newest > Level::FIRST);
        let transactions = [settings]
            .into_iter()
            .chain(level.map(Transaction::RaiseLevel))
            .chain(more)
            .collect();
        // The mark of a guardian that was here before says nothing about this one.
        found.writer.mark.reset(None)?;
        found.initialise(transactions, act)?;
        found.start()
    }

    /// Whether there is a database in `directory`, whatever is in it.
    #[must_use]
    pub fn is_in(directory: &Path) -> bool {
        directory.join(DATABASE).symlink_metadata().is_ok()
    }

    /// Opens a state and checks all of it: every record, their sum, the lineage tree and the audit
    /// log. Takes in the order of ten seconds for a million releases.
    ///
    /// # Errors
    /// [`OpenError::Tampered`] names the record that another program changed,
    /// [`OpenError::RolledBack`] says that the state is not the newest one; see [`OpenError`] for
    /// the rest.
    pub fn open(opening: Opening<'_>) -> Result<Self, OpenError> {
        Self::open_with(opening, Durability::Full, &Program::this())
    }

    pub(crate) fn open_with(
        opening: Opening<'_>,
        durability: Durability,
        program: &Program<'_>,
    ) -> Result<Self, OpenError> {
        let found = OpenedState::take(opening, durability, program)?;
        found.refuse_older()?;
        found.start()
    }

    /// Takes the state for the newest one from now on, although its high-water mark does not say
    /// so, and records that. `None` where nothing is wrong with it.
    ///
    /// # Errors
    /// See [`OpenError`]. What else is wrong with the state is not accepted.
    pub fn accept(opening: Opening<'_>, act: Act) -> Result<Option<Accepted>, OpenError> {
        let mut found = OpenedState::take(opening, Durability::Full, &Program::this())?;
        let Some(rolled_back) = found.rolled_back.take() else {
            return Ok(None);
        };
        let entry = AuditEntry {
            reason: Some(rolled_back.to_string()),
            before: serde_json::to_value(rolled_back.mark()).ok(),
            after: serde_json::to_value(rolled_back.state()).ok(),
            ..act.entry(Action::AcceptState, Outcome::Done)
        };
        let (sender, receiver) = sync_channel(1);
        let reply = move |result| drop(sender.send(result));
        found.writer.accept(note(entry, reply));
        match receiver.recv() {
            Ok(Ok(sequence)) => Ok(Some(Accepted {
                rolled_back,
                sequence,
            })),
            Ok(Err(failure)) => Err(StoreError::from(failure).into()),
            Err(_) => Err(StoreError::Closed.into()),
        }
    }

    #[cfg(test)]
    pub(crate) fn open_gathering(
        opening: Opening<'_>,
        gathering: std::time::Duration,
    ) -> Result<Self, OpenError> {
        let mut found = OpenedState::take(opening, Durability::Full, &Program::this())?;
        found.refuse_older()?;
        found.writer.gathering = gathering;
        found.start()
    }

    /// The newest state that is on the disk. Decisions are made from one such generation.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        self.shared.state()
    }

    /// Records a release; `reply` is told once it is on the disk, or will not be.
    ///
    /// What an administrator may have changed since the release was decided is checked again in
    /// the same commit. `reply` is called on the store's own thread and must not block.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when too much waits already; `reply` is dropped then.
    pub fn release(
        &self,
        release: ReleaseRecord,
        reply: impl FnOnce(Result<RecordedRelease, Failure<ReleaseRefusal>>) + Send + 'static,
    ) -> Result<(), StoreError> {
        self.queue.submit(job(
            false,
            move |planner| planner.release(&release),
            Box::new(reply),
        ))
    }

    /// Says that something is about to be recorded, so that a commit which would just miss it waits
    /// for it, two milliseconds at most.
    pub fn announce(&self) -> Announcement {
        Announcement::announce(&self.shared)
    }

    /// Carries out all of `transactions` in one commit, or none; waits for the disk.
    ///
    /// # Errors
    /// The first refusal, or why the commit failed.
    pub fn transact(
        &self,
        transactions: Vec<Transaction>,
        act: Act,
    ) -> Result<Committed, Failure<Refusal>> {
        let (sender, receiver) = sync_channel(1);
        let reply = move |result| drop(sender.send(result));
        self.queue
            .submit_waiting(transact(transactions, act, reply))?;
        receiver.recv().map_err(|_| StoreError::Closed)?
    }

    /// The same without waiting: `reply` is told once the transactions are on the disk, or will
    /// not be. It is called on the store's own thread and must not block.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when too much waits already; `reply` is dropped then.
    pub fn submit(
        &self,
        transactions: Vec<Transaction>,
        act: Act,
        reply: impl FnOnce(Result<Committed, Failure<Refusal>>) + Send + 'static,
    ) -> Result<(), StoreError> {
        self.queue.submit(transact(transactions, act, reply))
    }

    /// Records something that changes no state, such as the refusal of a host with a verified
    /// health certificate; `reply` is told the number of the record.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when too much waits already; `reply` is dropped then.
    pub fn note(
        &self,
        entry: AuditEntry,
        reply: impl FnOnce(Result<u64, Failure<Infallible>>) + Send + 'static,
    ) -> Result<(), StoreError> {
        self.queue.submit(note(entry, reply))
    }

    /// The same, and waits for the disk. The number of the record.
    ///
    /// # Errors
    /// Why it was not recorded.
    pub fn note_waiting(&self, entry: AuditEntry) -> Result<u64, StoreError> {
        let (sender, receiver) = sync_channel(1);
        self.note(entry, move |result| drop(sender.send(result)))?;
        let noted = receiver.recv().map_err(|_| StoreError::Closed)?;
        Ok(noted?)
    }

    /// Opens the sealed key whose public half has this SubjectPublicKeyInfo digest. Slow: keep it.
    ///
    /// # Errors
    /// When it can't be opened, which after a successful [`Self::open`] does not happen.
    pub fn private_key(&self, public_key: &Digest) -> Result<Option<SoftwareKey>, StoreError> {
        let state = self.state();
        let Some((sealed, generation)) = state.private_key(public_key) else {
            return Ok(None);
        };
        let name = public_key.to_string();
        let sealer = &self.keys.private_keys;
        let key = SoftwareKey::unseal(sealer, &name, generation, &sealed.sealed);
        let tampered = |_| Tampered::new("private-key", &name, Finding::Changed);
        Ok(Some(key.map_err(tampered)?))
    }

    /// When a protector was seen here, if it ever was (or made here, which counts as seen).
    ///
    /// # Errors
    /// When the database can't be read, or the node was changed by another program.
    pub fn seen(&self, protector: &Digest) -> Result<Option<Seen>, StoreError> {
        // A view has nothing between questions that a panic could leave half done.
        let view = self.lineage.lock().unwrap_or_else(PoisonError::into_inner);
        lineage::seen(&**view, &self.keys, protector)
    }

    /// At most `limit` of the newest protectors of each line that came back, the last released first.
    ///
    /// # Errors
    /// When the database can't be read, or a node was changed by another program.
    pub fn heads(&self, wanted: &Heads, limit: usize) -> Result<Vec<KnownProtector>, StoreError> {
        protectors::heads(&*self.readers.newest()?, &self.keys, wanted, limit)
    }

    /// A protector, with at most `limit` ancestors and as many of what was issued from it.
    ///
    /// # Errors
    /// As [`heads`](Self::heads).
    pub fn line_of(
        &self,
        protector: &Digest,
        limit: usize,
    ) -> Result<Option<ProtectorLine>, StoreError> {
        protectors::line(&*self.readers.snapshot()?, &self.keys, protector, limit)
    }

    /// With which pairs of certificates protectors were last opened.
    ///
    /// # Errors
    /// When the database can't be read.
    pub fn usage(&self) -> Result<Vec<PairUsage>, StoreError> {
        self.readers.newest()?.usage()
    }

    /// Keeps how an attempt of a host to attest went, of which no transaction is the record; does not wait.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when too much waits already; `reply` is dropped then.
    pub fn keep_attempt(
        &self,
        attempted: Attempted,
        reply: impl FnOnce(Result<(), Failure<Infallible>>) + Send + 'static,
    ) -> Result<(), StoreError> {
        self.queue.submit(job(
            false,
            move |planner| planner.attempted(&attempted).map(Ok),
            Box::new(reply),
        ))
    }

    /// The last evidence of a host, if any is kept.
    ///
    /// # Errors
    /// When the database can't be read, or the evidence was changed by another program.
    pub fn evidence(&self, host: &HostId) -> Result<Option<KeptEvidence>, StoreError> {
        let view = self.readers.newest()?;
        let digest = || {
            let state = self.state();
            let attestation = state.host_attestation(host)?;
            attestation.evidence().copied()
        };
        let mut expected = digest();
        loop {
            let Some(digest_of_kept) = expected else {
                return Ok(None);
            };
            let found = view.evidence(host)?;
            let read = found
                .as_ref()
                .and_then(|octets| KeptEvidence::read(octets, &digest_of_kept));
            if read.is_some() {
                return Ok(read);
            }
            // Newer evidence may have come in between.
            let now = digest();
            if now == expected {
                let finding = match found {
                    Some(_) => Finding::Changed,
                    None => Finding::Missing,
                };
                return Err(Tampered::new("host-evidence", host, finding).into());
            }
            expected = now;
        }
    }

    /// The newest audit records that match, newest first, at most `limit`.
    ///
    /// # Errors
    /// When the database can't be read, or a record was changed by another program.
    pub fn audit(
        &self,
        filter: &AuditFilter,
        limit: usize,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        audit::list(&*self.readers.snapshot()?, &self.keys.audit, filter, limit)
    }

    /// The audit record with this number.
    ///
    /// # Errors
    /// When the database can't be read, or the record was changed by another program.
    pub fn audit_record(&self, sequence: u64) -> Result<Option<AuditRecord>, StoreError> {
        audit::show(&*self.readers.snapshot()?, &self.keys.audit, sequence)
    }

    /// At most `limit` audit records after the one with the number `sequence`, in their order.
    ///
    /// # Errors
    /// When the database can't be read, or a record was changed by another program.
    pub fn records_after(&self, sequence: u64, limit: usize) -> Result<LaterRecords, StoreError> {
        audit::after(
            &*self.readers.snapshot()?,
            &self.keys.audit,
            sequence,
            limit,
        )
    }

    /// The number of the newest audit record.
    #[must_use]
    pub fn newest_record(&self) -> u64 {
        self.shared.newest().1.audit.sequence
    }

    /// Tells `follower` the number of the newest audit record after each commit that has written some, whichever node has
    /// committed. Only the first one is told. It is called on the store's own thread and must not block.
    pub fn follow_records(&self, follower: impl Fn(u64) + Send + Sync + 'static) {
        self.shared.follow(Box::new(follower));
    }

    /// Whether something can be written now, and the database is still the one that was opened:
    /// waits for a commit that changes nothing.
    ///
    /// # Errors
    /// Why not; [`StoreError::Tampered`] when another database was put in its place.
    pub fn check(&self) -> Result<(), StoreError> {
        let (sender, receiver) = sync_channel(1);
        self.submit_check(move |result| drop(sender.send(result)))?;
        let checked = receiver.recv().map_err(|_| StoreError::Closed)?;
        Ok(checked?)
    }

    /// The same, with the answer as `reply`. Where the state is one of several nodes', all that others had committed when this
    /// was called is taken in before.
    ///
    /// # Errors
    /// [`StoreError::Busy`] and [`StoreError::Closed`]; then `reply` is not called.
    pub fn submit_check(
        &self,
        reply: impl FnOnce(Result<(), Failure<Infallible>>) + Send + 'static,
    ) -> Result<(), StoreError> {
        self.queue
            .submit(job(false, |_| Ok(Ok(())), Box::new(reply)))
    }

    /// Takes in what other nodes have committed, soon; does not wait.
    pub fn refresh(&self) {
        let nothing = job(
            false,
            |_| Ok(Ok(())),
            Box::new(|_: Result<(), Failure<Infallible>>| ()),
        );
        // Where it is busy, its next commit takes it in.
        let _ = self.queue.submit(nothing);
    }

    /// How far the disk of this node holds what several nodes have ordered; `None` where it is alone.
    ///
    /// # Errors
    /// When the database can't be read, or the position was changed by another program.
    pub fn progress(&self) -> Result<Option<Progress>, StoreError> {
        progress_of(&*self.readers.snapshot()?, &self.keys)
    }

    /// Writes a copy of the state of now, for another node of the cluster, into a file that must not be there yet.
    ///
    /// # Errors
    /// When the database can't be read, or the file not be written.
    pub fn copy_to(&self, file: &Path) -> Result<(), OpenError> {
        hgs_files::private_file(file)?;
        Ok(self.readers.copy_to(file)?)
    }

    /// Makes a copy that another node of the cluster has made the state of this node; the file is moved. What this node has of
    /// a cluster stays beside it, as `state.db.replaced`. Nothing in the copy is believed: opening it verifies all of it.
    ///
    /// # Errors
    /// [`OpenError::AlreadyInitialised`] where there is a state of a guardian of one node, [`OpenError::Level`] and
    /// [`OpenError::NewerSchema`] where a newer program has made the copy.
    pub fn adopt(directory: &Path, copy: &Path) -> Result<(), OpenError> {
        Self::adopt_with(directory, copy, &Program::this())
    }

    fn adopt_with(directory: &Path, copy: &Path, program: &Program<'_>) -> Result<(), OpenError> {
        let folder = StateFolder::take(directory)?;
        let database = folder.database();
        check_copy(copy, program)?;
        let at = |path: &Path| {
            let path = path.to_owned();
            |error: std::io::Error| FileError {
                path,
                problem: error.into(),
            }
        };
        if std::fs::metadata(database).map_err(at(database))?.len() > 0 {
            if !close_copy(database)? {
                let directory = directory.to_owned();
                return Err(OpenError::AlreadyInitialised { directory });
            }
            let replaced = database.with_extension("db.replaced");
            hgs_files::optional(hgs_files::remove(&replaced))?;
            std::fs::hard_link(database, &replaced).map_err(at(&replaced))?;
        }
        forget_mark(copy)?;
        std::fs::rename(copy, database).map_err(at(copy))?;
        Ok(hgs_files::synchronise_folder_of(database)?)
    }

    /// Whether the pages of the database still hang together. Reads all of them.
    ///
    /// # Errors
    /// [`OpenError::Damaged`], and [`OpenError::Store`] when it can't be read.
    pub fn check_pages(&self) -> Result<(), OpenError> {
        self.readers.newest()?.check_structure()
    }

    /// The secret under which the service makes the nonces that hosts return, the same on every node.
    #[must_use]
    pub fn attestation_nonce_secret(&self) -> &SecretBytes {
        &self.keys.attestation_nonces
    }

    /// The secret under which the service seals what it has to remember of an attestation, the same on every node.
    #[must_use]
    pub fn attestation_context_secret(&self) -> &SecretBytes {
        &self.keys.attestation_contexts
    }

    /// Has `watch` told of each commit from now on, before those who wait for it. It is called on the one thread that writes, so
    /// it must not block. Only the first one counts.
    pub fn watch_commits(&self, watch: impl Fn(&CommitFacts) + Send + Sync + 'static) {
        // Where there is one, it stays.
        let _ = self.shared.watch.set(Box::new(watch));
    }

    /// What has been done since the store was opened.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let counters = &self.shared.counters;
        Counters {
            commits: counters.commits.load(Ordering::Relaxed),
            jobs: counters.jobs.load(Ordering::Relaxed),
            waiting: counters.waiting.load(Ordering::Relaxed),
        }
    }
}

fn progress_of(view: &dyn View, keys: &Keys) -> Result<Option<Progress>, StoreError> {
    let Some(position) = position_of(view, keys)? else {
        return Ok(None);
    };
    let audit_sequence = view.row()?.map_or(0, |row| row.audit_sequence);
    let newest = view.audit_row(audit_sequence)?;
    Ok(Some(Progress {
        position,
        audit_sequence,
        audit_tag: newest.map(|row| row.tag).unwrap_or_default(),
    }))
}

fn transact(
    transactions: Vec<Transaction>,
    act: Act,
    reply: impl FnOnce(Result<Committed, Failure<Refusal>>) + Send + 'static,
) -> Box<dyn Job> {
    let is_administrative = transactions.iter().any(Transaction::is_administrative);
    job(
        is_administrative,
        move |planner| planner.transact(&transactions, &act),
        Box::new(reply),
    )
}

fn note(
    entry: AuditEntry,
    reply: impl FnOnce(Result<u64, Failure<Infallible>>) + Send + 'static,
) -> Box<dyn Job> {
    job(
        false,
        move |planner| planner.note(entry.clone(), Vec::new()).map(Ok),
        Box::new(reply),
    )
}

/// A state that was opened and checked.
struct OpenedState {
    directory: PathBuf,
    writer: Writer,
    rolled_back: Option<RolledBack>,
}

impl OpenedState {
    /// The state that is there, whether or not it is the newest one.
    fn take(
        opening: Opening<'_>,
        durability: Durability,
        program: &Program<'_>,
    ) -> Result<Self, OpenError> {
        let not_initialised = |opening: &Opening<'_>| {
            let (directory, file) = (
                opening.directory.to_owned(),
                opening.high_water_mark.clone(),
            );
            match HighWaterMark::peek(&file, opening.master_key) {
                None => OpenError::NotInitialised { directory },
                Some(mark) => OpenError::RolledBack(RolledBack::Gone {
                    directory,
                    file,
                    mark,
                }),
            }
        };
        let folder = match StateFolder::take_existing(opening.directory) {
            Err(OpenError::NotInitialised { .. }) => return Err(not_initialised(&opening)),
            outcome => outcome?,
        };
        let gone = not_initialised(&opening);
        let found = Self::look(folder, opening, durability, program)?;
        match found.is_initialised() {
            true => Ok(found),
            false => Err(gone),
        }
    }

    /// What lies in a folder that this process holds.
    fn look(
        folder: StateFolder,
        mut opening: Opening<'_>,
        durability: Durability,
        program: &Program<'_>,
    ) -> Result<Self, OpenError> {
        let keys = Arc::new(Keys::derive(opening.master_key));
        let copy = Sqlite::open(folder, durability, program, opening.master_key, &keys)?;
        let ordered = opening.order.take();
        let is_in_cluster = copy.readers().newest()?.position()?.is_some();
        let Some(Ordered { order, random }) = ordered else {
            return match is_in_cluster {
                true => Err(OpenError::InCluster),
                false => Self::through(Box::new(copy), keys, opening),
            };
        };
        let verified = opening::verify(&*copy.readers().snapshot()?, &keys)?;
        let engine = Replicated::open(
            copy,
            order,
            Arc::clone(&keys),
            random,
            verified.1,
            program.levels,
        )?;
        Self::verified(Box::new(engine), verified, keys, opening)
    }

    fn through(
        engine: Box<dyn Engine>,
        keys: Arc<Keys>,
        opening: Opening<'_>,
    ) -> Result<Self, OpenError> {
        let verified = opening::verify(&*engine.readers().snapshot()?, &keys)?;
        Self::verified(engine, verified, keys, opening)
    }

    /// Takes in what other nodes have done since, and compares the state with its mark.
    fn verified(
        mut engine: Box<dyn Engine>,
        (state, integrity): (State, Integrity),
        keys: Arc<Keys>,
        opening: Opening<'_>,
    ) -> Result<Self, OpenError> {
        let shared = Arc::new(Shared::new(state, integrity));
        let news = Arc::clone(&shared);
        engine.listen(Arc::new(move |batch| news.committed(batch)));
        engine.refresh()?;
        let (_, integrity) = shared.newest();
        let mut mark = HighWaterMark::open(&opening.high_water_mark, opening.master_key)?;
        let rolled_back = opening::compare(
            &mut *engine,
            &keys,
            &integrity,
            &mut mark,
            opening.directory,
        )?;
        let gathering = engine.gathering();
        Ok(Self {
            directory: opening.directory.to_owned(),
            writer: Writer {
                engine,
                keys,
                random: opening.random,
                node: opening.node.to_owned(),
                shared,
                gathering,
                mark,
                is_at_rest: false,
            },
            rolled_back,
        })
    }

    fn refuse_older(&self) -> Result<(), OpenError> {
        match &self.rolled_back {
            Some(rolled_back) => Err(rolled_back.clone().into()),
            None => Ok(()),
        }
    }

    fn is_initialised(&self) -> bool {
        self.writer.shared.state().generation() > 0
    }

    fn initialise(&mut self, transactions: Vec<Transaction>, act: Act) -> Result<(), OpenError> {
        let (sender, receiver) = sync_channel(1);
        let reply = move |result| drop(sender.send(result));
        self.writer.commit(vec![transact(transactions, act, reply)]);
        match receiver.recv() {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(Failure::Refused(refusal))) => Err(refusal.into()),
            Ok(Err(Failure::Store(error))) => Err(error.into()),
            Err(_) => Err(StoreError::Closed.into()),
        }
    }

    fn start(mut self) -> Result<Store, OpenError> {
        // A crash may have left the mark behind.
        let (_, integrity) = self.writer.shared.newest();
        self.writer.mark.settle(integrity.mark())?;
        let readers = self.writer.engine.readers();
        let shared = Arc::clone(&self.writer.shared);
        let keys = Arc::clone(&self.writer.keys);
        Ok(Store {
            lineage: Mutex::new(readers.newest()?),
            queue: Queue::start(self.writer)?,
            shared,
            keys,
            readers,
            archiving: Mutex::default(),
        })
    }
}

#[cfg(test)]
mod certificate_tests;
#[cfg(test)]
mod durability_tests;
#[cfg(test)]
mod import_tests;
#[cfg(test)]
mod migration_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod nodes_tests;
#[cfg(test)]
mod policy_check_tests;
#[cfg(test)]
mod policy_tests;
#[cfg(test)]
mod rollback_tests;
#[cfg(test)]
mod rotate_tests;
#[cfg(test)]
mod tamper_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod upgrade_tests;
#[cfg(test)]
mod writers_tests;
