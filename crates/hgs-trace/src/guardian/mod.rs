//! The checks of a guardian.
//!
//! Each module has one group of checks; [`checks`] returns all of them in the order in which they run.

mod attestation;
mod certificates;
mod facts;
mod keys;
mod machine;
mod network;
mod protocols;
mod service;
mod state;
#[cfg(test)]
mod tests;
mod tokens;

pub use facts::{
    Attributes, Certificate, Disk, DiskSpace, Facts, Https, KeyTest, Listener, LocalFacts,
    Metadata, NameMatch, Process, PublicFacts, Service, Sessions, Setting, Signer, State,
    SyntheticRoll, Token, TpmMode,
};
pub(crate) use network::{answers, connected, resolved, trusted};
pub use state::MANY_AUDIT_RECORDS;

use crate::{Check, Report, Selection, diagnose};

/// The role of a guardian in reports and collections.
pub const ROLE: &str = "guardian";

/// The checks that need the synthetic roll.
pub const ROLLS: &[&str] = &["HGS-P004", "HGS-P005"];

/// All checks.
pub fn checks() -> Vec<Check<Facts>> {
    [
        service::checks(),
        state::checks(),
        machine::checks(),
        certificates::checks(),
        tokens::checks(),
        keys::checks(),
        attestation::checks(),
        network::tls(),
        service::running(),
        machine::process_checks(),
        network::reaching(),
        protocols::checks(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl Facts {
    /// Judges them by the checks that are wanted.
    #[must_use]
    pub fn diagnose(&self, wanted: &Selection) -> Report {
        let findings = diagnose(&checks(), self, wanted);
        Report::new(ROLE, self.time, findings)
    }

    /// The state, where it could be opened.
    fn state(&self) -> Option<&State> {
        self.local.as_ref()?.state.as_ref()?.as_ref().ok()
    }
}
