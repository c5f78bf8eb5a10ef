//! The administrators' API: one trait, [`Administration`], with one method for each operation.
//!
//! ```text
//!  program hgs          socket                       server
//!  Client: Administration -> HTTP, JSON -> routes -> role -> Desk: Administration -> transaction and audit record
//! ```
//!
//! The server's side does what a method says to its own guardian; the [`Client`] does it by asking a server over the
//! Unix socket, whose kernel says which user asks. The types are those of version 1, under `/v1`: fields may come, none
//! goes or changes its meaning. No answer holds a secret: the types have no room for one.
//!
//! It does NOT open listeners or decide who may connect: see `[listen.admin]` in the configuration.

mod client;
mod desk;
mod error;
mod query;
mod routes;
mod service;
#[cfg(test)]
mod tests;
pub mod types;
mod views;

pub use client::Client;
pub use error::{AdminError, ErrorCode};
pub(crate) use service::AdminService;

use hgs_trace::guardian::Inside;
use types::{
    AddHost, AuditQuery, AuditRecord, Certificate, CertificateDetail, Host, HostDetail,
    RecordExport, RevokeHost, ServerSettings, Signer, Status, Trial, TrialAnswer, TrialVerdict,
};

/// Everything that administrators and reviewers can ask for. Calls block.
///
/// Names of hosts and thumbprints may be given in either case.
pub trait Administration {
    /// How the guardian is: its name, its addresses, its primary certificates, and what needs attention.
    ///
    /// # Errors
    /// See [`AdminError`].
    fn status(&self) -> Result<Status, AdminError>;

    /// The settings in effect.
    ///
    /// # Errors
    /// See [`AdminError`].
    fn server(&self) -> Result<ServerSettings, AdminError>;

    /// All certificates of the guardian: signing, encryption, communications.
    ///
    /// # Errors
    /// See [`AdminError`].
    fn certificates(&self) -> Result<Vec<Certificate>, AdminError>;

    /// One of them, by its thumbprint.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`]; see [`AdminError`] for others.
    fn certificate(&self, thumbprint: &str) -> Result<CertificateDetail, AdminError>;

    /// The signers of health certificates that are known.
    ///
    /// # Errors
    /// See [`AdminError`].
    fn signers(&self) -> Result<Vec<Signer>, AdminError>;

    /// All hosts, by name.
    ///
    /// # Errors
    /// See [`AdminError`].
    fn hosts(&self) -> Result<Vec<Host>, AdminError>;

    /// One of them, by its name or id.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`]; see [`AdminError`] for others.
    fn host(&self, name: &str) -> Result<HostDetail, AdminError>;

    /// Registers a host.
    ///
    /// # Errors
    /// [`ErrorCode::Conflict`] when the name or the key is that of another; see [`AdminError`] for others.
    fn add_host(&self, host: &AddHost) -> Result<Host, AdminError>;

    /// Bars a host, from its next request on, and keeps its record.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`], and [`ErrorCode::Conflict`] when it is barred already; see [`AdminError`] for others.
    fn revoke_host(&self, name: &str, revocation: &RevokeHost) -> Result<Host, AdminError>;

    /// Forgets a host, which stops its releases too; it can be registered again. Returns what it was.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`]; see [`AdminError`] for others.
    fn remove_host(&self, name: &str) -> Result<Host, AdminError>;

    /// The newest audit records that match, newest first.
    ///
    /// # Errors
    /// See [`AdminError`].
    fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditRecord>, AdminError>;

    /// One audit record, by its number.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`]; see [`AdminError`] for others.
    fn audit_record(&self, sequence: u64) -> Result<AuditRecord, AdminError>;

    /// What only the guardian itself can see of itself, for a diagnosis. Every private key in use is asked to work.
    ///
    /// # Errors
    /// See [`AdminError`].
    fn trace(&self) -> Result<Inside, AdminError>;

    /// Makes up a host, an owner and a protector, and the requests of a roll that is to go through the listeners. It
    /// opens nothing that anybody else has.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`] when a key does not work; see [`AdminError`] for others.
    fn begin_trial(&self) -> Result<Trial, AdminError>;

    /// Says whether what a listener answered to the request of a trial is what the synthetic host needs.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`] when the trial is over; see [`AdminError`] for others.
    fn judge_trial(&self, id: &str, answer: &TrialAnswer) -> Result<TrialVerdict, AdminError>;

    /// Records that the state was written to an encrypted file, by whoever could read the state and its master key
    /// anyway: nothing of the state goes this way.
    ///
    /// # Errors
    /// See [`AdminError`]; then the file is not to be kept.
    fn record_export(&self, export: &RecordExport) -> Result<AuditRecord, AdminError>;
}
