//! A module: its settings, its tokens, and the keeper that it is given when it is first needed.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hgs_custody::{PinSource, Pkcs11Uri};

use crate::search::Selector;
use crate::token::Token;
use crate::wake_up::{WakeUp, lock};
use crate::{ModuleSettings, ModuleStatus};

/// A module and the tokens in it that URIs name.
#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) settings: ModuleSettings,
    tokens: Mutex<Vec<Arc<Token>>>,
    pub(crate) wake_up: Arc<WakeUp>,
    pub(crate) state: Mutex<State>,
}

/// What the keeper tells about the module.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Whether there is a keeper.
    pub(crate) kept: bool,
    pub(crate) initialised: bool,
    pub(crate) recoveries: u64,
}

impl Module {
    pub(crate) fn new(settings: ModuleSettings) -> Self {
        Self {
            settings,
            tokens: Mutex::new(Vec::new()),
            wake_up: Arc::new(WakeUp::default()),
            state: Mutex::new(State::default()),
        }
    }

    /// The token of a URI. It is not looked for before it has work.
    pub(crate) fn token(&self, uri: &Pkcs11Uri, pin_source: Option<&PinSource>) -> Arc<Token> {
        let selector = Selector::of(uri);
        let pin_source = uri.pin_source.as_ref().or(pin_source);
        let mut tokens = lock(&self.tokens);
        let known = tokens
            .iter()
            .find(|token| token.selector == selector && token.pin_source.as_ref() == pin_source);
        if let Some(token) = known {
            return Arc::clone(token);
        }
        let wake_up = Arc::clone(&self.wake_up);
        let wait = self.settings.wait;
        let token = Arc::new(Token::new(selector, pin_source.cloned(), wait, wake_up));
        tokens.push(Arc::clone(&token));
        token
    }

    pub(crate) fn status(&self) -> ModuleStatus {
        let tokens = self.wanted();
        let state = lock(&self.state);
        ModuleStatus {
            path: self.settings.path.clone(),
            initialised: state.initialised,
            recoveries: state.recoveries,
            tokens: tokens.iter().map(|token| token.status()).collect(),
        }
    }

    pub(crate) fn retry(&self) {
        self.tokens().iter().for_each(|token| token.forgive());
        self.wake_up.notify_retry();
    }

    /// Ends all work and waits, for a bounded time, until the module is finalised.
    pub(crate) fn close(&self) {
        if lock(&self.state).kept {
            self.wake_up.notify_closing();
            let bound = self.settings.wait + Duration::from_secs(1);
            self.wake_up.wait_until_ended(Instant::now() + bound);
        }
    }

    /// The tokens that had work. Those without a key in use, and that never worked, are
    /// forgotten: an operator's slip is no outage.
    pub(crate) fn wanted(&self) -> Vec<Arc<Token>> {
        let mut tokens = lock(&self.tokens);
        // Keys, jobs and workers hold their token too.
        tokens.retain(|token| Arc::strong_count(token) > 1 || !token.is_done_with());
        let wanted = tokens.iter().filter(|token| token.is_wanted());
        wanted.cloned().collect()
    }

    pub(crate) fn tokens(&self) -> Vec<Arc<Token>> {
        lock(&self.tokens).clone()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.settings.path
    }
}
