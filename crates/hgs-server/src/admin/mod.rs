//! Administration of the guardian: the service behind `[listen.admin]`. What can be asked is declared in `hgs-admin`.
//!
//! A request comes to the [`AdminService`], which asks [`Roles`](crate::Roles) what its caller may do and finds the
//! operation. The operation checks the caller's permission and calls its method of the [`AdminHandler`], which reads the
//! state or commits a transaction with its audit record.

mod handler;
mod judgement;
mod service;
#[cfg(test)]
mod tests;
mod views;

use std::sync::Arc;

pub use handler::audit::archived_records;
pub(crate) use handler::perform_for;
pub(crate) use service::AdminService;

use crate::guardian::{
    Certification, Cluster, Console, Events, Inspection, OpenStore, SignerRotation, Snapshots,
    SyntheticRolls,
};
use hgs_clock::Clock;

/// The parts of a guardian that administrators reach.
pub(crate) struct AdminParts {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: Arc<OpenStore>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) signers: Arc<SignerRotation>,
    pub(crate) inspection: Arc<Inspection>,
    pub(crate) certification: Certification,
    pub(crate) synthetic_rolls: SyntheticRolls,
    pub(crate) events: Arc<Events>,
    /// Where this guardian is one node of several.
    pub(crate) cluster: Option<Arc<Cluster>>,
    /// Where browsers are served.
    pub(crate) console: Option<Arc<Console>>,
}
