//! The threads behind a token. Each owns one session, because a session is for one thread.

use std::sync::Arc;
use std::thread;

use crate::session::Seat;
use crate::token::Token;
use crate::{Code, TokenError};

/// One worker, counted from before its thread begins until its session is closed, whatever ends it.
pub(crate) struct Worker(Arc<Token>);

impl Worker {
    /// Sets a thread of its own to `seat`.
    pub(crate) fn start(token: &Arc<Token>, seat: Seat) -> Result<(), TokenError> {
        token.worker_comes();
        let worker = Self(Arc::clone(token));
        thread::Builder::new()
            .name("pkcs11-session".to_owned())
            .spawn(move || worker.work(seat))
            .map(drop)
            .map_err(|error| TokenError::NoSession {
                code: Code {
                    name: error.to_string(),
                    function: "the operating system".to_owned(),
                },
            })
    }

    fn work(self, mut seat: Seat) {
        while let Some(job) = self.0.next_job(seat.life) {
            let busy = Busy::at(&self.0);
            let reply = job(Ok(&mut seat));
            drop(busy);
            reply();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.worker_leaves();
    }
}

struct Busy<'t>(&'t Token);

impl<'t> Busy<'t> {
    fn at(token: &'t Token) -> Self {
        token.work_begins();
        Self(token)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.work_ends();
    }
}
