//! The threads behind a token. Each owns one session, because a session is for one thread.

use std::sync::Arc;
use std::thread;

use crate::session::TokenSession;
use crate::token::Token;
use crate::{Code, TokenError};

/// One worker, counted from before its thread begins until its session is closed, whatever ends it.
pub(crate) struct Worker(Arc<Token>);

impl Worker {
    /// Starts a thread for `token_session`.
    pub(crate) fn start(token: &Arc<Token>, token_session: TokenSession) -> Result<(), TokenError> {
        token.worker_comes();
        let worker = Self(Arc::clone(token));
        thread::Builder::new()
            .name("pkcs11-session".to_owned())
            .spawn(move || worker.work(token_session))
            .map(drop)
            .map_err(|error| TokenError::NoSession {
                code: Code {
                    name: error.to_string(),
                    function: "the operating system".to_owned(),
                },
            })
    }

    fn work(self, mut token_session: TokenSession) {
        while let Some(job) = self.0.next_job(token_session.initialisation) {
            let busy = Busy::at(&self.0);
            let reply = job(Ok(&mut token_session));
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
