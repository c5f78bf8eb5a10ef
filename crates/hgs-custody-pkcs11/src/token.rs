//! A token: its breaker, the queue before it, and the workers behind it.
//!
//! Callers bring jobs. The keeper of the module brings workers, each with a logged-in session, and
//! takes them away again. A token can be in three states: it *works*; it is *paused* while its
//! module is initialised (for the first time, or for the sake of another token), and jobs wait; its
//! breaker is *open*, and jobs are refused at once with the reason.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use hgs_custody::PinSource;
use tracing::{info, warn};

use crate::bell::{Bell, lock};
use crate::key::Place;
use crate::pin::Pin;
use crate::search::Selector;
use crate::session::Seat;
use crate::worker::Worker;
use crate::{
    Breaker, Code, ModuleFinding, PinFinding, SessionFinding, TokenError, TokenFinding, TokenStatus,
};

/// Jobs that may wait for one token. The server admits fewer requests than this at once.
const MAX_WAITING: usize = 1024;

/// A token that some URI names.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) selector: Selector,
    pub(crate) pin_source: Option<PinSource>,
    wait: Duration,
    inner: Mutex<Inner>,
    /// A job came, or workers are to leave.
    for_workers: Condvar,
    /// A worker left.
    left: Condvar,
    bell: Arc<Bell>,
}

struct Inner {
    jobs: VecDeque<Job>,
    breaker: Breaker,
    /// Whether a job ever came, so that the keeper has to bring workers.
    wanted: bool,
    /// Whether it ever worked. One that did is brought back without being asked for.
    worked: bool,
    /// Whether a job came since the keeper last looked for it in a fresh module.
    asked: bool,
    /// The life of the module whose workers may stay; none while the token is paused.
    life: Option<u64>,
    workers: usize,
    busy: usize,
    failures: u64,
    refused: Option<(Pin, TokenError)>,
    report: Report,
    /// The key that was last found, with which a recovered token is tried.
    probe: Weak<Place>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Inner")
            .field("breaker", &self.breaker)
            .finish_non_exhaustive()
    }
}

/// Does its work at a session, or hears why there is none. What comes back tells the caller, for
/// whom the session should be free again when it hears.
pub(crate) type Job = Box<dyn FnOnce(Result<&mut Seat, TokenError>) -> Reply + Send>;

/// Tells the caller.
pub(crate) type Reply = Box<dyn FnOnce()>;

/// What the keeper saw on its way to the sessions, as far as it came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    pub(crate) module: Option<ModuleFinding>,
    pub(crate) token: Option<TokenFinding>,
    pub(crate) pin: Option<PinFinding>,
    pub(crate) logged_in: bool,
}

impl Token {
    pub(crate) fn new(
        selector: Selector,
        pin_source: Option<PinSource>,
        wait: Duration,
        bell: Arc<Bell>,
    ) -> Self {
        Self {
            selector,
            pin_source,
            wait,
            inner: Mutex::new(Inner {
                jobs: VecDeque::new(),
                breaker: Breaker::Closed,
                wanted: false,
                worked: false,
                asked: false,
                life: None,
                workers: 0,
                busy: 0,
                failures: 0,
                refused: None,
                report: Report::default(),
                probe: Weak::new(),
            }),
            for_workers: Condvar::new(),
            left: Condvar::new(),
            bell,
        }
    }

    /// Has `work` done at one of the sessions, and waits for it.
    pub(crate) fn run<T, W>(self: &Arc<Self>, work: W) -> Result<T, TokenError>
    where
        T: Send + 'static,
        W: FnOnce(&mut Seat) -> Result<T, TokenError> + Send + 'static,
    {
        self.run_patiently(self.wait, work)
    }

    /// As [`Self::run`], for a call into the module that may take as long as `patience`.
    pub(crate) fn run_patiently<T, W>(
        self: &Arc<Self>,
        patience: Duration,
        work: W,
    ) -> Result<T, TokenError>
    where
        T: Send + 'static,
        W: FnOnce(&mut Seat) -> Result<T, TokenError> + Send + 'static,
    {
        let (answer, answered) = mpsc::sync_channel(1);
        let begun = Arc::new(AtomicBool::new(false));
        let (token, begins) = (Arc::clone(self), Arc::clone(&begun));
        let deadline = Instant::now() + self.wait;
        self.submit(Box::new(move |seat| {
            let outcome = seat.and_then(|seat| {
                if Instant::now() > deadline {
                    return Err(TokenError::Busy);
                }
                begins.store(true, Ordering::SeqCst);
                let outcome = work(seat);
                // Before the caller hears of it, so that its next call finds the breaker open.
                if let Err(error @ (TokenError::Lost { .. } | TokenError::WrongResult)) = &outcome {
                    token.trip(seat.life, error);
                }
                outcome
            });
            Box::new(move || {
                // The caller may have gone.
                let _ = answer.send(outcome);
            })
        }))?;
        match answered.recv_timeout(self.wait) {
            Ok(outcome) => return outcome,
            Err(RecvTimeoutError::Disconnected) => return Err(self.panicked()),
            Err(RecvTimeoutError::Timeout) if !begun.load(Ordering::SeqCst) => {
                return Err(TokenError::Busy);
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        match answered.recv_timeout(patience) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Disconnected) => Err(self.panicked()),
            Err(RecvTimeoutError::Timeout) => {
                let error = TokenError::Hangs;
                self.trip_any(&error);
                Err(error)
            }
        }
    }

    /// A job ended without an answer, and its worker with it.
    fn panicked(&self) -> TokenError {
        let error = TokenError::Lost {
            code: Code {
                name: "a panic".to_owned(),
                function: "the session's thread".to_owned(),
            },
        };
        self.trip_any(&error);
        error
    }

    fn submit(&self, job: Job) -> Result<(), TokenError> {
        let mut inner = self.lock();
        let ring = !std::mem::replace(&mut inner.asked, true);
        inner.wanted = true;
        let outcome = if let Breaker::Open { reason, .. } = &inner.breaker {
            Err(reason.clone())
        } else if inner.jobs.len() >= MAX_WAITING {
            Err(TokenError::Busy)
        } else {
            inner.jobs.push_back(job);
            Ok(())
        };
        drop(inner);
        if outcome.is_ok() {
            self.for_workers.notify_one();
        }
        if ring {
            self.bell.ring();
        }
        outcome
    }

    /// Opens the breaker, unless that life is over already.
    fn trip(&self, life: u64, error: &TokenError) {
        let inner = self.lock();
        if inner.life == Some(life) {
            self.open(inner, error);
            self.bell.ring();
        }
    }

    fn trip_any(&self, error: &TokenError) {
        let inner = self.lock();
        if inner.breaker == Breaker::Closed {
            self.open(inner, error);
            self.bell.ring();
        }
    }

    /// Opens the breaker or gives it a new reason, sends the workers away and refuses what waits.
    fn open(&self, mut inner: MutexGuard<'_, Inner>, error: &TokenError) {
        let since = match &inner.breaker {
            Breaker::Open { since, reason } if reason == error => *since,
            Breaker::Open { since, .. } => {
                info!(token = %self.selector, reason = %error, "token still unavailable");
                *since
            }
            Breaker::Closed => {
                warn!(token = %self.selector, reason = %error, "token unavailable");
                inner.failures += 1;
                Instant::now()
            }
        };
        let reason = error.clone();
        inner.breaker = Breaker::Open { since, reason };
        inner.life = None;
        let refused = std::mem::take(&mut inner.jobs);
        drop(inner);
        self.for_workers.notify_all();
        for job in refused {
            job(Err(error.clone()))();
        }
    }

    pub(crate) fn status(&self) -> TokenStatus {
        let inner = self.lock();
        TokenStatus {
            name: self.selector.to_string(),
            breaker: inner.breaker.clone(),
            sessions: inner.workers,
            busy: inner.busy,
            waiting: inner.jobs.len(),
            failures: inner.failures,
        }
    }

    pub(crate) fn report(&self) -> Report {
        self.lock().report.clone()
    }

    pub(crate) fn sessions(&self) -> SessionFinding {
        let inner = self.lock();
        SessionFinding {
            open: inner.workers,
            idle: inner.workers - inner.busy,
            maximum: None,
            in_use: None,
        }
    }

    /// Remembers a key to try the token with after a recovery.
    pub(crate) fn remember(&self, place: &Arc<Place>) {
        self.lock().probe = Arc::downgrade(place);
    }

    /// The token is elsewhere: the keeper need not look for it any more.
    pub(crate) fn forget(&self) {
        let mut inner = self.lock();
        if matches!(inner.breaker, Breaker::Open { .. }) {
            inner.breaker = Breaker::Closed;
            inner.wanted = false;
        }
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.lock().wanted
    }

    /// Whether the keeper may forget it when nobody has a key in it: not while it is to be looked
    /// for, and not when its PIN was refused, which must not be forgotten.
    pub(crate) fn is_done_with(&self) -> bool {
        let inner = self.lock();
        inner.refused.is_none() && !(inner.wanted && inner.asked)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

/// What workers do with a token.
impl Token {
    pub(crate) fn worker_comes(&self) {
        self.lock().workers += 1;
    }

    pub(crate) fn worker_leaves(&self) {
        self.lock().workers -= 1;
        self.left.notify_all();
    }

    pub(crate) fn work_begins(&self) {
        self.lock().busy += 1;
    }

    pub(crate) fn work_ends(&self) {
        self.lock().busy -= 1;
    }

    /// Waits for a job; none when the workers of this life are to leave.
    pub(crate) fn next_job(&self, life: u64) -> Option<Job> {
        let mut inner = self.lock();
        loop {
            if inner.life != Some(life) {
                return None;
            }
            if let Some(job) = inner.jobs.pop_front() {
                return Some(job);
            }
            let woken = self.for_workers.wait(inner);
            inner = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What the keeper does with a token.
impl Token {
    /// What is to be done for it.
    pub(crate) fn need(&self) -> Need {
        let inner = self.lock();
        match &inner.breaker {
            _ if !inner.wanted => Need::Nothing,
            Breaker::Closed if inner.life.is_some() => Need::Nothing,
            Breaker::Closed => Need::Sessions,
            Breaker::Open { reason, .. } => match reason {
                TokenError::Pin(_) | TokenError::PinRefused { .. } => Need::Pin,
                _ if inner.worked || inner.asked => Need::Initialisation,
                _ => Need::Nothing,
            },
        }
    }

    /// Whether it takes work at this moment.
    pub(crate) fn works(&self) -> bool {
        self.lock().life.is_some()
    }

    /// It was looked for in a fresh module; whoever wants it looked for again has to ask.
    pub(crate) fn answer(&self) {
        self.lock().asked = false;
    }

    /// Keeps new jobs waiting and sends the workers away.
    pub(crate) fn pause(&self) {
        self.lock().life = None;
        self.for_workers.notify_all();
    }

    /// Waits until no worker is left. Answers whether that came to pass.
    pub(crate) fn drained(&self, deadline: Instant) -> bool {
        let mut inner = self.lock();
        while inner.workers > 0 {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return false;
            };
            let waited = self.left.wait_timeout(inner, left);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    pub(crate) fn note(&self, report: Report) {
        self.lock().report = report;
    }

    /// What the token said when it last refused a PIN, if it was this one.
    pub(crate) fn refused(&self, pin: &Pin) -> Option<TokenError> {
        let inner = self.lock();
        let (refused, error) = inner.refused.as_ref()?;
        (refused == pin).then(|| error.clone())
    }

    pub(crate) fn refuse(&self, pin: Pin, error: &TokenError) {
        self.lock().refused = Some((pin, error.clone()));
    }

    /// Allows the PIN that was refused once more.
    pub(crate) fn forgive(&self) {
        self.lock().refused = None;
    }

    pub(crate) fn probe(&self) -> Option<Arc<Place>> {
        self.lock().probe.upgrade()
    }

    pub(crate) fn fail(&self, error: &TokenError) {
        self.open(self.lock(), error);
    }

    /// Closes the breaker and sets a worker to each seat.
    pub(crate) fn serve(self: &Arc<Self>, seats: Vec<Seat>) -> Result<(), TokenError> {
        let life = seats.first().map(|seat| seat.life);
        let mut inner = self.lock();
        inner.life = life;
        inner.worked = true;
        inner.refused = None;
        if let Breaker::Open { since, .. } = std::mem::replace(&mut inner.breaker, Breaker::Closed)
        {
            info!(token = %self.selector, away = ?since.elapsed(), "token available again");
        }
        drop(inner);
        for seat in seats {
            Worker::start(self, seat)?;
        }
        Ok(())
    }
}

/// What a token needs of the keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing: it works, or nobody asks for it.
    Nothing,
    /// Sessions in the module as it is.
    Sessions,
    /// A PIN that was not refused before.
    Pin,
    /// A module that is initialised anew.
    Initialisation,
}
