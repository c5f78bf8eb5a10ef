//! A token: its breaker, the queue before it, and the workers behind it.
//!
//! Callers bring jobs. The keeper of the module brings workers, each with a logged-in session, and
//! takes them away again. A token can be in three states: it *works*; it is *paused* while its
//! module is initialised (for the first time, or for the sake of another token), and jobs wait; its
//! breaker is *open*, and jobs are refused at once with the reason.

mod calling;
mod keeping;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use hgs_custody::PinSource;
use tracing::{info, warn};

use crate::pin::Pin;
use crate::search::Selector;
use crate::session::TokenSession;
use crate::wake_up::{WakeUp, lock};
use crate::{
    Breaker, ModuleFinding, PinFinding, SessionFinding, TokenError, TokenFinding, TokenStatus,
};

pub(crate) use keeping::Need;

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
    /// The keeper has looked for the token.
    looked: Condvar,
    wake_up: Arc<WakeUp>,
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
    /// The initialisation of the module whose workers may stay; none while the token is paused.
    initialisation: Option<u64>,
    workers: usize,
    busy: usize,
    failures: u64,
    refused: Option<(Pin, TokenError)>,
    report: Report,
    /// The key that was last found, with which a recovered token is tried.
    probe: Option<Weak<dyn Probe>>,
    /// How often the keeper has come to an end with it, good or bad.
    looks: u64,
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
pub(crate) type Job = Box<dyn FnOnce(Result<&mut TokenSession, TokenError>) -> Reply + Send>;

/// Tells the caller.
pub(crate) type Reply = Box<dyn FnOnce()>;

/// Work that only a working token can do, with a key that is in it.
pub(crate) trait Probe: Send + Sync + std::fmt::Debug {
    fn probe(self: Arc<Self>, token_session: &mut TokenSession) -> Result<(), TokenError>;
}

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
        wake_up: Arc<WakeUp>,
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
                initialisation: None,
                workers: 0,
                busy: 0,
                failures: 0,
                refused: None,
                report: Report::default(),
                probe: None,
                looks: 0,
            }),
            for_workers: Condvar::new(),
            left: Condvar::new(),
            looked: Condvar::new(),
            wake_up,
        }
    }

    /// Opens the breaker, unless that initialisation is over already.
    fn trip(&self, initialisation: u64, error: &TokenError) {
        let inner = self.lock();
        if inner.initialisation == Some(initialisation) {
            self.open(inner, error);
            self.wake_up.notify_work();
        }
    }

    fn trip_any(&self, error: &TokenError) {
        let inner = self.lock();
        if inner.breaker == Breaker::Closed {
            self.open(inner, error);
            self.wake_up.notify_work();
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
            // No failure: the process ends, or the settings change.
            Breaker::Closed if *error == TokenError::Closing => Instant::now(),
            Breaker::Closed => {
                warn!(token = %self.selector, reason = %error, "token unavailable");
                inner.failures += 1;
                Instant::now()
            }
        };
        let reason = error.clone();
        inner.breaker = Breaker::Open { since, reason };
        inner.initialisation = None;
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
    pub(crate) fn remember(&self, probe: Weak<dyn Probe>) {
        self.lock().probe = Some(probe);
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

    /// Whether the keeper may forget it when no key in it is in use: not while it is to be looked
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

    /// Waits for a job; none when the workers of this initialisation are to leave.
    pub(crate) fn next_job(&self, initialisation: u64) -> Option<Job> {
        let mut inner = self.lock();
        loop {
            if inner.initialisation != Some(initialisation) {
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
