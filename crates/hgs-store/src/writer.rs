//! The one thread that writes.
//!
//! Whatever wants to be recorded waits in a bounded queue. The writer takes all that wait, at most
//! [`Engine::max_group`], carries them out in one commit of the database, and only then answers each:
//! while one commit waits for the disk, the next group gathers. So the cost of the disk is shared
//! by as many as wait for it. For jobs that were announced ([`Announcement`]) a commit waits
//! [`Engine::gathering`] at most, so that more share it; a job that is alone does not wait.

use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hgs_crypto::Random;

use crate::engine::{Batch, CommitError, Engine, Key};
use crate::high_water_mark::HighWaterMark;
use crate::outcome::{Committed, Failure};
use crate::planner::{Basis, BatchPlanner};
use crate::record::{Integrity, Keys};
use crate::release::RecordedRelease;
use crate::{State, StoreError};

/// Jobs that may wait; above it the store is busy (attacks.md K14).
pub(crate) const MAX_WAITING: usize = 4096;

/// After how much time it is looked again whether an announced job is still on its way.
const LOOK: Duration = Duration::from_millis(2);

/// After how much time without a job what was committed is brought to where it stays.
const IDLE: Duration = Duration::from_millis(500);

/// How often a commit is decided again because something it depends on has changed meanwhile.
const MAX_TRIES: usize = 16;

/// Something to be done in a commit, and whom to tell.
pub(crate) trait Job: Send {
    /// Decides what is to be done. It may be asked again, of a later state. An error is the
    /// engine's, and ends the whole commit.
    fn decide(&mut self, planner: &mut BatchPlanner<'_>) -> Result<(), StoreError>;

    /// Whether an administrator waits for it, rather than a host.
    fn is_administrative(&self) -> bool;

    /// Tells how it went: the number of the first audit record of the commit, or why there was no
    /// commit.
    fn answer(self: Box<Self>, committed: Result<u64, StoreError>);
}

/// A job that `decide`s to do something, and does it when that is committed.
pub(crate) fn job<T, E, D>(is_administrative: bool, decide: D, reply: Reply<T, E>) -> Box<dyn Job>
where
    T: Numbered + Send + 'static,
    E: Send + 'static,
    D: FnMut(&mut BatchPlanner<'_>) -> Result<Result<T, Failure<E>>, StoreError> + Send + 'static,
{
    let decided = Err(StoreError::Closed.into());
    Box::new(Submitted {
        is_administrative,
        decide,
        decided,
        reply,
    })
}

struct Submitted<T, E, D> {
    is_administrative: bool,
    decide: D,
    decided: Result<T, Failure<E>>,
    reply: Reply<T, E>,
}

impl<T, E, D> Job for Submitted<T, E, D>
where
    T: Numbered + Send,
    E: Send,
    D: FnMut(&mut BatchPlanner<'_>) -> Result<Result<T, Failure<E>>, StoreError> + Send,
{
    fn decide(&mut self, planner: &mut BatchPlanner<'_>) -> Result<(), StoreError> {
        self.decided = (self.decide)(planner)?;
        Ok(())
    }

    fn is_administrative(&self) -> bool {
        self.is_administrative
    }

    fn answer(self: Box<Self>, committed: Result<u64, StoreError>) {
        (self.reply)(match committed {
            Ok(first) => self.decided.map(|done| done.numbered_from(first)),
            Err(failure) => Err(Failure::Store(failure)),
        });
    }
}

/// What is known of something that was done, but for the numbers of audit records: those are
/// counted from the first of the commit, which the engine numbers.
pub(crate) trait Numbered {
    fn numbered_from(self, first: u64) -> Self;
}

impl Numbered for Committed {
    fn numbered_from(self, first: u64) -> Self {
        let sequence = first + self.sequence;
        Self { sequence, ..self }
    }
}

impl Numbered for RecordedRelease {
    fn numbered_from(self, first: u64) -> Self {
        let sequence = first + self.sequence;
        Self { sequence, ..self }
    }
}

impl Numbered for u64 {
    fn numbered_from(self, first: u64) -> Self {
        first + self
    }
}

impl Numbered for () {
    fn numbered_from(self, _: u64) {}
}

/// Told once, on the writer's thread, after the commit: so it must not block.
pub(crate) type Reply<T, E> = Box<dyn FnOnce(Result<T, Failure<E>>) + Send>;

/// What has been done since the store was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commits: AtomicU64,
    pub(crate) jobs: AtomicU64,
    /// Jobs that wait.
    pub(crate) waiting: AtomicUsize,
}

/// How one commit went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitFacts {
    /// When its jobs were begun to be decided.
    pub begun: Instant,
    /// When it was on the disk, or had failed.
    pub ended: Instant,
    /// Jobs that shared it.
    pub jobs: usize,
    /// Whether it was made.
    pub done: bool,
}

/// Is told of each commit, on the writer's thread, before those whose jobs it has are answered: so it must not block.
pub(crate) type CommitWatch = Box<dyn Fn(&CommitFacts) + Send + Sync>;

/// What the writer's thread and everybody else share.
pub(crate) struct Shared {
    newest: RwLock<(Arc<State>, Integrity)>,
    pub(crate) counters: Counters,
    announced: AtomicUsize,
    follower: OnceLock<Follower>,
    pub(crate) watch: OnceLock<CommitWatch>,
}

/// Told the number of the newest audit record after each commit that has written some, whichever node has committed. It is
/// called on the writer's thread and must not block.
pub(crate) type Follower = Box<dyn Fn(u64) + Send + Sync>;

/// A job that will be submitted soon, or not at all: the next commit waits for it, but not long. It
/// is to be dropped when the job is submitted.
#[must_use = "it announces a job as long as it lives"]
pub struct Announcement(Arc<Shared>);

impl Announcement {
    pub(crate) fn announce(shared: &Arc<Shared>) -> Self {
        shared.announced.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        self.0.announced.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Announcement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Announcement")
    }
}

impl Shared {
    pub(crate) fn new(state: State, integrity: Integrity) -> Self {
        Self {
            newest: RwLock::new((Arc::new(state), integrity)),
            counters: Counters::default(),
            announced: AtomicUsize::new(0),
            follower: OnceLock::new(),
            watch: OnceLock::new(),
        }
    }

    /// Tells `follower` from now on, unless there is one already.
    pub(crate) fn follow(&self, follower: Follower) {
        let _ = self.follower.set(follower);
    }

    /// The newest state that is on the disk.
    pub(crate) fn state(&self) -> Arc<State> {
        self.newest().0
    }

    /// The same, and what it is held together by.
    pub(crate) fn newest(&self) -> (Arc<State>, Integrity) {
        // It is replaced in one assignment, so a poisoned lock guards a whole one.
        let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner);
        newest.clone()
    }

    /// Takes in the news of a commit.
    pub(crate) fn committed(&self, batch: &Batch) {
        let (state, integrity) = self.newest();
        // A document that changes nothing makes a generation all the same.
        let is_same = batch.records.is_empty() && !batch.makes_generation();
        let state = match is_same {
            true => state,
            false => {
                let mut state = State::clone(&state);
                state.apply(batch);
                Arc::new(state)
            }
        };
        let integrity = integrity.after(batch);
        let mut newest = self.newest.write().unwrap_or_else(PoisonError::into_inner);
        *newest = (state, integrity);
        drop(newest);
        if let Some(follower) = self.follower.get().filter(|_| !batch.audit.is_empty()) {
            follower(integrity.audit.sequence);
        }
    }
}

/// Writes.
pub(crate) struct Writer {
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) random: Box<dyn Random>,
    pub(crate) node: String,
    pub(crate) shared: Arc<Shared>,
    pub(crate) gathering: Duration,
    pub(crate) mark: HighWaterMark,
    /// Whether all that was committed is in the database itself, and the mark on its disk.
    pub(crate) is_at_rest: bool,
}

/// The queue in front of the writer's thread. Dropping it waits until all that waits is done.
pub(crate) struct Queue {
    sender: Option<SyncSender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

impl Queue {
    pub(crate) fn start(mut writer: Writer) -> Result<Self, StoreError> {
        let (sender, receiver) = sync_channel(MAX_WAITING);
        let shared = Arc::clone(&writer.shared);
        let thread = thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(|error| StoreError::Unavailable {
                reason: error.to_string(),
            })?;
        Ok(Self {
            sender: Some(sender),
            thread: Some(thread),
            shared,
        })
    }

    /// Puts a job into the queue; it is refused when the queue is full, and its reply is dropped.
    pub(crate) fn submit(&self, job: Box<dyn Job>) -> Result<(), StoreError> {
        let sender = self.sender.as_ref().ok_or(StoreError::Closed)?;
        self.shared.counters.waiting.fetch_add(1, Ordering::Relaxed);
        sender.try_send(job).map_err(|error| {
            self.shared.counters.waiting.fetch_sub(1, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => StoreError::Busy,
                TrySendError::Disconnected(_) => StoreError::Closed,
            }
        })
    }

    /// Puts a job into the queue, and waits for room: an administrator's revocation must not be
    /// turned away because hosts are many.
    pub(crate) fn submit_waiting(&self, job: Box<dyn Job>) -> Result<(), StoreError> {
        let sender = self.sender.as_ref().ok_or(StoreError::Closed)?;
        self.shared.counters.waiting.fetch_add(1, Ordering::Relaxed);
        sender.send(job).map_err(|_| {
            self.shared.counters.waiting.fetch_sub(1, Ordering::Relaxed);
            StoreError::Closed
        })
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
    fn run(&mut self, receiver: &Receiver<Box<dyn Job>>) {
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
            let max_group = self.engine.max_group();
            while jobs.len() < max_group
                && let Some(job) = self.next(receiver, deadline)
            {
                jobs.push(job);
            }
            let late = max_group - jobs.len();
            jobs.extend(receiver.try_iter().take(late));
            let waiting = &self.shared.counters.waiting;
            waiting.fetch_sub(jobs.len(), Ordering::Relaxed);
            self.commit(jobs);
        }
    }

    /// The next job that waits, or comes before `deadline` if any is on its way.
    fn next(&self, receiver: &Receiver<Box<dyn Job>>, deadline: Instant) -> Option<Box<dyn Job>> {
        loop {
            if let Ok(job) = receiver.try_recv() {
                return Some(job);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.shared.announced.load(Ordering::Relaxed) == 0 {
                return None;
            }
            // An announcement ends without a message, so it is looked at again.
            match receiver.recv_timeout(left.min(LOOK)) {
                Ok(job) => return Some(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Leaves nothing in the log that is not in the database too, the mark on its disk, and no room in the database that
    /// nothing uses. What can't be done now is tried again.
    fn rest(&mut self) {
        let is_small = self.engine.shrink().unwrap_or(false);
        let is_moved = self.engine.checkpoint().unwrap_or(false);
        let is_marked = self.mark.synchronise().is_ok();
        self.is_at_rest = is_small && is_moved && is_marked;
    }

    /// Carries out `jobs` in one commit and tells each how it went.
    pub(crate) fn commit(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        let begun = Instant::now();
        let is_administrative = jobs.iter().any(|job| job.is_administrative());
        // Nothing that the mark does not know of may be acknowledged.
        let committed = self.mark.recover().and_then(|()| {
            let first = self.try_commit(&mut jobs)?;
            self.is_at_rest = false;
            if is_administrative {
                // The log holds it if this fails.
                let _ = self.engine.checkpoint();
            }
            let (_, integrity) = self.shared.newest();
            self.mark.advance(integrity.mark(), is_administrative)?;
            Ok(first)
        });
        if let Some(watch) = self.shared.watch.get() {
            watch(&CommitFacts {
                begun,
                ended: Instant::now(),
                jobs: jobs.len(),
                done: committed.is_ok(),
            });
        }
        self.tell(jobs, committed);
    }

    /// Carries out a job in a state that is not the newest one, which it is from then on.
    pub(crate) fn accept(&mut self, job: Box<dyn Job>) {
        let mut jobs = vec![job];
        let accepted = self.try_commit(&mut jobs).and_then(|first| {
            let (_, integrity) = self.shared.newest();
            self.mark.reset(Some(integrity.mark()))?;
            self.engine.set_has_mark()?;
            self.engine.checkpoint()?;
            Ok(first)
        });
        self.tell(jobs, accepted);
    }

    fn tell(&self, jobs: Vec<Box<dyn Job>>, committed: Result<u64, StoreError>) {
        let (counters, count) = (&self.shared.counters, jobs.len() as u64);
        counters.jobs.fetch_add(count, Ordering::Relaxed);
        if committed.is_ok() {
            counters.commits.fetch_add(1, Ordering::Relaxed);
        }
        for job in jobs {
            let committed = committed.clone();
            // Code of the caller runs here; its panic must not end the writer (attacks.md K16).
            let _ = catch_unwind(AssertUnwindSafe(|| job.answer(committed)));
        }
    }

    /// Decides and commits until nothing that it was decided from has changed meanwhile. The number
    /// of the first audit record.
    fn try_commit(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<u64, StoreError> {
        let mut spoilt = BTreeSet::new();
        let mut last = Err(StoreError::Busy);
        for _ in 0..MAX_TRIES {
            let (state, integrity) = self.shared.newest();
            let share = self.engine.share();
            let committed = self.engine.commit(&mut |view| {
                let basis = Basis {
                    view,
                    keys: &self.keys,
                    node: &self.node,
                    random: &mut *self.random,
                    spoilt: &spoilt,
                    share,
                };
                let mut planner = BatchPlanner::new(basis, State::clone(&state), integrity);
                jobs.iter_mut()
                    .try_for_each(|job| job.decide(&mut planner))?;
                planner.finish()
            });
            match committed {
                Ok(first) => return Ok(first),
                Err(CommitError::Store(failure)) => return Err(failure),
                Err(CommitError::Conflict(key)) => {
                    // Another writer's commit was in the news. Where there are none, somebody
                    // wrote without the engine: what depends on that can't be done, the rest can.
                    let is_news = self.shared.newest().1 != integrity;
                    if !is_news && (key == Key::Row || !spoilt.insert(key)) {
                        return Err(key.tampered().into());
                    }
                    last = Err(key.tampered().into());
                }
            }
        }
        last
    }
}
