//! The checks of a guardian.
//!
//! Each module has one group of checks; [`checks`] returns all of them in the order in which they run.

mod attestation;
mod certificates;
mod cluster;
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
    Attributes, Certificate, Cluster, ClusterCertificate, ClusterNode, ClusterStanding, Disk,
    DiskSpace, Facts, KeyTest, LaggingNode, Listener, ListenerCertificate, LocalFacts, Metadata,
    NameMatch, Process, PublicFacts, Service, Sessions, Setting, Signer, State, SyntheticRoll,
    Token, TpmMode,
};
pub(crate) use network::{answers, connected, resolved, trusted};
pub use state::MANY_AUDIT_RECORDS;

use crate::{Check, Group, Report, Selection, diagnose};

/// The role of a guardian in reports and collections.
pub const ROLE: &str = "guardian";

/// The checks that need the synthetic roll.
pub const ROLLS: &[&str] = &["HGS-P004", "HGS-P005"];

/// All checks.
pub fn checks() -> Vec<Check<Facts>> {
    [
        service::checks(),
        cluster::ordered(),
        state::checks(),
        machine::checks(),
        certificates::checks(),
        tokens::checks(),
        keys::checks(),
        attestation::checks(),
        cluster::offline(),
        network::tls(),
        service::running(),
        machine::process_checks(),
        cluster::checks(),
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
        let mut checks = checks();
        if self.cluster().is_none() {
            // Where there is none, they would be told as skipped whenever the service does not run.
            checks.retain(|check| check.group != Group::Cluster);
        }
        let findings = diagnose(&checks, self, wanted);
        Report::new(ROLE, self.time, findings)
    }

    /// The cluster, if the guardian is a node of one, as far as that is known.
    fn cluster(&self) -> Option<&Cluster> {
        self.local.as_ref()?.cluster.as_ref()
    }

    /// The state, where it could be opened.
    fn state(&self) -> Option<&State> {
        self.local.as_ref()?.state.as_ref()?.as_ref().ok()
    }
}
