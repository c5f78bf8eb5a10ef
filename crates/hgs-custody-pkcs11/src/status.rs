use std::path::PathBuf;
use std::time::Instant;

use crate::TokenError;

/// How a module is doing.
#[derive(Debug, Clone)]
pub struct ModuleStatus {
    /// The shared object.
    pub path: PathBuf,
    /// Whether it is initialised. One that was not needed yet is not.
    pub initialised: bool,
    /// How often it was initialised anew after a failure.
    pub recoveries: u64,
    /// The tokens that were needed so far.
    pub tokens: Vec<TokenStatus>,
}

/// How a token is doing.
#[derive(Debug, Clone)]
pub struct TokenStatus {
    /// The token's part of its URI.
    pub name: String,
    /// Whether it takes work.
    pub breaker: Breaker,
    /// Logged-in sessions of this process.
    pub sessions: usize,
    /// Of them, those at work.
    pub busy: usize,
    /// Jobs that wait for a session.
    pub waiting: usize,
    /// How often its breaker opened.
    pub failures: u64,
}

/// Whether a token takes work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Breaker {
    /// It does.
    Closed,
    /// It does not: every key in it is unavailable.
    Open {
        /// Since when.
        since: Instant,
        /// Why.
        reason: TokenError,
    },
}
