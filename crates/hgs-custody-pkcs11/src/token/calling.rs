//! What callers do with a token: they bring a job and wait for its outcome.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::{Job, Token};
use crate::session::TokenSession;
use crate::{Breaker, Code, TokenError};

/// Jobs that may wait for one token. The server admits fewer requests than this at once.
const MAX_WAITING: usize = 1024;

impl Token {
    /// Has `work` done at one of the sessions, and waits for it.
    pub(crate) fn run<T, W>(self: &Arc<Self>, work: W) -> Result<T, TokenError>
    where
        T: Send + 'static,
        W: FnOnce(&mut TokenSession) -> Result<T, TokenError> + Send + 'static,
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
        W: FnOnce(&mut TokenSession) -> Result<T, TokenError> + Send + 'static,
    {
        let (answer, answered) = mpsc::sync_channel(1);
        let begun = Arc::new(AtomicBool::new(false));
        let (token, begins) = (Arc::clone(self), Arc::clone(&begun));
        let deadline = Instant::now() + self.wait;
        self.submit(Box::new(move |token_session| {
            let outcome = token_session.and_then(|token_session| {
                if Instant::now() > deadline {
                    return Err(TokenError::Busy);
                }
                begins.store(true, Ordering::SeqCst);
                let outcome = work(token_session);
                // Before the caller hears of it, so that its next call finds the breaker open.
                if let Err(error @ (TokenError::Lost { .. } | TokenError::WrongResult)) = &outcome {
                    token.trip(token_session.initialisation, error);
                }
                outcome
            });
            Box::new(move || {
                // The caller may have gone.
                let _ = answer.send(outcome);
            })
        }))?;
        let first = answered.recv_timeout(self.wait);
        let answer = match first {
            Err(RecvTimeoutError::Timeout) if begun.load(Ordering::SeqCst) => {
                answered.recv_timeout(patience)
            }
            Err(RecvTimeoutError::Timeout) if !self.works() => return Err(TokenError::Starting),
            Err(RecvTimeoutError::Timeout) => return Err(TokenError::Busy),
            first => first,
        };
        answer.unwrap_or_else(|error| {
            let error = match error {
                RecvTimeoutError::Timeout => TokenError::Hangs,
                RecvTimeoutError::Disconnected => TokenError::Lost {
                    code: Code {
                        name: "a panic".to_owned(),
                        function: "the session's thread".to_owned(),
                    },
                },
            };
            self.trip_any(&error);
            Err(error)
        })
    }

    /// Has the keeper look anew for a token that was not there, and waits for it: a person who asks may have plugged it
    /// in since. (Requests of hosts do not wait: they hear at once what is known.)
    pub(crate) fn look_again(&self) {
        let mut inner = self.lock();
        let away = match &inner.breaker {
            Breaker::Open { reason, .. } => matches!(
                reason,
                TokenError::TokenAbsent { .. }
                    | TokenError::ModuleNotLoadable { .. }
                    | TokenError::ModuleFailed { .. }
            ),
            Breaker::Closed => false,
        };
        if !away {
            return;
        }
        (inner.wanted, inner.asked) = (true, true);
        self.wake_up.notify_retry();
        let looks = inner.looks;
        // Whatever comes of it is said by the job that follows.
        let _ = self
            .looked
            .wait_timeout_while(inner, self.wait, |inner| inner.looks == looks);
    }

    fn submit(&self, job: Job) -> Result<(), TokenError> {
        let mut inner = self.lock();
        let notify = !std::mem::replace(&mut inner.asked, true);
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
        if notify {
            self.wake_up.notify_work();
        }
        outcome
    }
}
