//! What the keeper of the module does with a token: it brings sessions, and takes them away.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tracing::info;

use super::{Probe, Report, Token};
use crate::pin::Pin;
use crate::session::TokenSession;
use crate::worker::Worker;
use crate::{Breaker, TokenError};

/// How long a lost token is hoped for at short intervals.
const LATELY: Duration = Duration::from_secs(300);

impl Token {
    /// What is to be done for it.
    pub(crate) fn need(&self) -> Need {
        let inner = self.lock();
        match &inner.breaker {
            _ if !inner.wanted => Need::Nothing,
            Breaker::Closed if inner.initialisation.is_some() => Need::Nothing,
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
        self.lock().initialisation.is_some()
    }

    /// Whether it ever worked in this process.
    pub(crate) fn worked_before(&self) -> bool {
        self.lock().worked
    }

    /// Whether it worked and was lost not long ago: then others are interrupted for it more often.
    pub(crate) fn was_lost_lately(&self) -> bool {
        let inner = self.lock();
        let Breaker::Open { since, .. } = inner.breaker else {
            return false;
        };
        inner.worked && since.elapsed() < LATELY
    }

    /// It was looked for in a fresh module; it is looked for again on request only.
    pub(crate) fn answer(&self) {
        self.lock().asked = false;
    }

    /// Keeps new jobs waiting and sends the workers away.
    pub(crate) fn pause(&self) {
        self.lock().initialisation = None;
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

    pub(crate) fn probe(&self) -> Option<Arc<dyn Probe>> {
        self.lock().probe.as_ref()?.upgrade()
    }

    pub(crate) fn fail(&self, error: &TokenError) {
        let mut inner = self.lock();
        inner.looks += 1;
        self.open(inner, error);
        self.looked.notify_all();
    }

    /// Closes the breaker and starts a worker for each session.
    pub(crate) fn serve(
        self: &Arc<Self>,
        token_sessions: Vec<TokenSession>,
    ) -> Result<(), TokenError> {
        let initialisation = token_sessions
            .first()
            .map(|token_session| token_session.initialisation);
        let mut inner = self.lock();
        inner.initialisation = initialisation;
        inner.worked = true;
        inner.looks += 1;
        inner.refused = None;
        if let Breaker::Open { since, .. } = std::mem::replace(&mut inner.breaker, Breaker::Closed)
        {
            let away_seconds = since.elapsed().as_secs();
            info!(token = %self.selector, away_seconds, "token available again");
        }
        drop(inner);
        self.looked.notify_all();
        for token_session in token_sessions {
            Worker::start(self, token_session)?;
        }
        Ok(())
    }
}

/// What a token needs of the keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing: it works, or is not needed.
    Nothing,
    /// Sessions in the module as it is.
    Sessions,
    /// A PIN that was not refused before.
    Pin,
    /// A module that is initialised anew.
    Initialisation,
}
