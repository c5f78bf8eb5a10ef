//! The checks of a guarded host.

mod facts;
mod local;
mod services;
#[cfg(test)]
mod tests;
mod tpm;

pub use facts::{Attempt, Facts, HealthCertificate, Log, Service, Tpm};

use crate::{Check, Report, Selection, diagnose};

/// The role of a host in reports and collections.
pub const ROLE: &str = "guarded-host";

/// All checks, in the order in which they are asked.
pub fn checks() -> Vec<Check<Facts>> {
    [local::checks(), tpm::checks(), services::checks()]
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
}
