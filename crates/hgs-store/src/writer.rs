//! The one thread that writes.
//!
//! Whatever wants to be recorded waits in a bounded queue. The writer takes all that wait, at most
//! [`MAX_GROUP`], carries them out in one commit of the database, and only then answers each:
//! while one commit waits for the disk, the next group gathers. So the cost of the disk is shared
//! by as many as wait for it. For jobs that were announced ([`OnItsWay`]) a commit waits
//! [`GATHERING`] at most, so that more share it; whoever is alone waits for nobody.

mod group;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hgs_crypto::Random;
use rusqlite::Connection;

use crate::audit::AuditEntry;
use crate::engine::{self, Whole};
use crate::high_water_mark::HighWaterMark;
use crate::record::Keys;
use crate::release::{Recorded, Release, ReleaseRefusal};
use crate::transaction::{Act, Refusal, Transaction};
use crate::{State, StoreError};
use group::Group;

/// Jobs that may wait; above it the store is busy (attacks.md K14).
pub(crate) const MAX_WAITING: usize = 4096;

/// Jobs in one commit: a bound for how long a commit takes and how much a lost one takes along.
const MAX_GROUP: usize = 512;

/// For how long a commit waits for jobs that are on their way: less than a decision takes, so that
/// nobody notices.
pub(crate) const GATHERING: Duration = Duration::from_millis(2);

/// After how much time without a job what was committed is brought to where it stays.
const IDLE: Duration = Duration::from_millis(500);

/// Something to be done in a commit, and whom to tell.
pub(crate) enum Job {
    Transact {
        transactions: Vec<Transaction>,
        act: Act,
        reply: Reply<Committed, Refusal>,
    },
    Release {
        release: Box<Release>,
        reply: Reply<Recorded, ReleaseRefusal>,
    },
    Note {
        entry: Box<AuditEntry>,
        reply: Reply<u64, Never>,
    },
    Probe {
        reply: Reply<(), Never>,
    },
}

/// Told once, on the writer's thread, after the commit: so it must not block.
pub(crate) type Reply<T, E> = Box<dyn FnOnce(Result<T, Failure<E>>) + Send>;

/// Why something was not recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure<E> {
    /// It may not happen; that was recorded instead. The fault is with whoever asked.
    #[error(transparent)]
    Refused(E),
    /// It could not be recorded, and did not happen. The fault is ours.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A refusal that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Never {}

/// A transaction that is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The generation of the state that it made.
    pub generation: u64,
    /// The number of its (last) audit record.
    pub sequence: u64,
}

/// What has been done since the store was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commits: AtomicU64,
    pub(crate) jobs: AtomicU64,
}

/// What the writer's thread and everybody else share.
pub(crate) struct Shared {
    state: RwLock<Arc<State>>,
    pub(crate) counters: Counters,
    on_their_way: AtomicUsize,
}

/// A job that will be submitted soon, or not at all: the next commit waits for it, but not long. It
/// is to be dropped when the job is submitted.
#[must_use = "it announces a job as long as it lives"]
pub struct OnItsWay(Arc<Shared>);

impl OnItsWay {
    pub(crate) fn announce(shared: &Arc<Shared>) -> Self {
        shared.on_their_way.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.0.on_their_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for OnItsWay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("OnItsWay")
    }
}

impl Shared {
    pub(crate) fn new(state: State) -> Self {
        Self {
            state: RwLock::new(Arc::new(state)),
            counters: Counters::default(),
            on_their_way: AtomicUsize::new(0),
        }
    }

    /// The newest state that is on the disk.
    pub(crate) fn state(&self) -> Arc<State> {
        // A state is replaced in one assignment, so a poisoned lock guards a whole one.
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&state)
    }

    fn publish(&self, state: State) {
        let mut place = self.state.write().unwrap_or_else(PoisonError::into_inner);
        *place = Arc::new(state);
    }
}

/// Writes, and knows what was written.
pub(crate) struct Writer {
    pub(crate) connection: Connection,
    pub(crate) keys: Arc<Keys>,
    pub(crate) random: Box<dyn Random>,
    pub(crate) node: String,
    pub(crate) whole: Whole,
    pub(crate) shared: Arc<Shared>,
    pub(crate) gathering: Duration,
    pub(crate) mark: HighWaterMark,
    /// Whether all that was committed is in the database itself, and the mark on its disk.
    pub(crate) is_at_rest: bool,
}

/// The queue in front of the writer's thread. Dropping it waits until all that waits is done.
pub(crate) struct Queue {
    sender: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Queue {
    pub(crate) fn start(mut writer: Writer) -> Result<Self, StoreError> {
        let (sender, receiver) = sync_channel(MAX_WAITING);
        let thread = thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(|error| StoreError::Unavailable {
                reason: error.to_string(),
            })?;
        Ok(Self {
            sender: Some(sender),
            thread: Some(thread),
        })
    }

    /// Puts a job into the queue; it is refused when the queue is full, and its reply is dropped.
    pub(crate) fn submit(&self, job: Job) -> Result<(), StoreError> {
        let sender = self.sender.as_ref().ok_or(StoreError::Closed)?;
        sender.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => StoreError::Closed,
        })
    }

    /// Puts a job into the queue, and waits for room: an administrator's revocation must not be
    /// turned away because hosts are many.
    pub(crate) fn submit_waiting(&self, job: Job) -> Result<(), StoreError> {
        let sender = self.sender.as_ref().ok_or(StoreError::Closed)?;
        sender.send(job).map_err(|_| StoreError::Closed)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // Without a sender the writer ends when nothing waits any more.
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            // A reply may drop the last handle on the store: then this is the writer's thread.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl Writer {
    fn run(&mut self, receiver: &Receiver<Job>) {
        loop {
            let first = match self.is_at_rest {
                true => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => receiver.recv_timeout(IDLE),
            };
            let first = match first {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => {
                    self.rest();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.rest();
                    return;
                }
            };
            let mut jobs = vec![first];
            let deadline = Instant::now() + self.gathering;
            while jobs.len() < MAX_GROUP
                && let Some(job) = self.next(receiver, deadline)
            {
                jobs.push(job);
            }
            let late = MAX_GROUP - jobs.len();
            jobs.extend(receiver.try_iter().take(late));
            self.commit(jobs);
        }
    }

    /// Leaves nothing in the log that is not in the database too, and the mark on its disk. What
    /// can't be done now is tried again.
    fn rest(&mut self) {
        let is_moved = engine::checkpoint(&self.connection).unwrap_or(false);
        let is_marked = self.mark.synchronise().is_ok();
        self.is_at_rest = is_moved && is_marked;
    }

    /// Carries out a job in a state that is not the newest one, which it is from then on.
    pub(crate) fn accept(&mut self, job: Job) -> Result<(), StoreError> {
        let before = self.whole;
        self.commit_unmarked(vec![job], |writer| {
            if writer.whole == before {
                return Ok(());
            }
            let mark = writer.whole.mark();
            writer.mark.reset(Some(mark))?;
            engine::set_has_mark(&writer.connection)?;
            engine::checkpoint(&writer.connection).map(drop)
        });
        Ok(())
    }

    /// The next job that waits, or comes before `deadline` if any is on its way.
    fn next(&self, receiver: &Receiver<Job>, deadline: Instant) -> Option<Job> {
        receiver.try_recv().ok().or_else(|| {
            if self.shared.on_their_way.load(Ordering::Relaxed) == 0 {
                return None;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            receiver.recv_timeout(left).ok()
        })
    }

    /// Carries out `jobs` in one commit and tells each how it went.
    pub(crate) fn commit(&mut self, jobs: Vec<Job>) {
        let is_administrative = jobs.iter().any(Job::is_administrative);
        if let Err(failure) = self.mark.recover() {
            // Nothing that the mark does not know of may be acknowledged.
            let answers = jobs.into_iter().map(|job| job.fail(failure.clone()));
            return tell(answers.collect(), &Err(failure.clone()));
        }
        self.commit_unmarked(jobs, |writer| {
            writer.is_at_rest = false;
            if is_administrative {
                // The log holds it if this fails.
                let _ = engine::checkpoint(&writer.connection);
            }
            writer.mark.advance(writer.whole.mark(), is_administrative)
        });
    }

    /// The same, with something else to be done before anybody is told.
    fn commit_unmarked(
        &mut self,
        jobs: Vec<Job>,
        then: impl FnOnce(&mut Self) -> Result<(), StoreError>,
    ) {
        let mut group = Group::begin(self);
        let answers: Vec<Answer> = jobs.into_iter().map(|job| group.perform(job)).collect();
        let finished = group.finish();
        let jobs = answers.len() as u64;
        self.shared.counters.jobs.fetch_add(jobs, Ordering::Relaxed);
        let result = finished.and_then(|done| {
            self.shared.counters.commits.fetch_add(1, Ordering::Relaxed);
            self.whole = done.whole;
            if let Some(state) = done.state {
                self.shared.publish(state);
            }
            then(self)
        });
        tell(answers, &result);
    }
}

impl Job {
    /// Whether an administrator waits for it, rather than a host.
    fn is_administrative(&self) -> bool {
        match self {
            Self::Transact { transactions, .. } => transactions
                .iter()
                .any(|transaction| !matches!(transaction, Transaction::RecordAttestation(_))),
            Self::Release { .. } | Self::Note { .. } | Self::Probe { .. } => false,
        }
    }

    fn fail(self, failure: StoreError) -> Answer {
        let failure = Failure::Store(failure);
        match self {
            Self::Transact { reply, .. } => Box::new(move |_| reply(Err(failure_of(failure)))),
            Self::Release { reply, .. } => Box::new(move |_| reply(Err(failure_of(failure)))),
            Self::Note { reply, .. } => Box::new(move |_| reply(Err(failure))),
            Self::Probe { reply } => Box::new(move |_| reply(Err(failure))),
        }
    }
}

fn failure_of<E>(failure: Failure<Never>) -> Failure<E> {
    match failure {
        Failure::Store(error) => Failure::Store(error),
        Failure::Refused(never) => match never {},
    }
}

fn tell(answers: Vec<Answer>, result: &Result<(), StoreError>) {
    for answer in answers {
        let result = result.clone();
        // Somebody else's code runs here; its panic must not end the writer (attacks.md K16).
        let _ = catch_unwind(AssertUnwindSafe(|| answer(result)));
    }
}

/// Tells whoever asked, once it is known whether the commit succeeded.
type Answer = Box<dyn FnOnce(Result<(), StoreError>)>;
