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

pub mod changes;
mod client;
mod desk;
mod error;
mod private_key;
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

use std::sync::Arc;

use hgs_custody::SoftwareKey;
use hgs_trace::guardian::{Inside, SyntheticRoll};

use changes::{AddCertificate, AddSigner, NewCertificate, SetCertificate, SetServer, SetSigner};
use types::{
    AddHost, AddedCertificate, AuditQuery, AuditRecord, Certificate, CertificateDetail,
    CertificateUsage, GuardianDocument, Host, HostDetail, RecordExport, RevokeHost, ServerSettings,
    Signer, Status,
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

    /// Changes settings, and returns all of them.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`] and [`ErrorCode::Conflict`] where a certificate can't be what it shall be; see
    /// [`AdminError`] for others.
    fn set_server(&self, change: &SetServer) -> Result<ServerSettings, AdminError>;

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

    /// How many protectors each signing and encryption certificate was the last to open.
    ///
    /// # Errors
    /// See [`AdminError`].
    fn certificate_usage(&self) -> Result<Vec<CertificateUsage>, AdminError>;

    /// The public half of the head of a certificate's lineage, as a document that owners import. Its two signatures are
    /// made for it.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`], and [`ErrorCode::Conflict`] where the lineage has no whole head; see [`AdminError`] for
    /// others.
    fn guardian_document(&self, thumbprint: &str) -> Result<GuardianDocument, AdminError>;

    /// Adds a certificate, whose software key is `key` unless it lives in a token.
    ///
    /// # Errors
    /// [`ErrorCode::Conflict`] where it can't be what it shall be; see [`AdminError`] for others.
    fn add_certificate(
        &self,
        certificate: &AddCertificate,
        key: Option<Arc<SoftwareKey>>,
    ) -> Result<AddedCertificate, AdminError>;

    /// Makes a certificate that signs itself, over a new key.
    ///
    /// # Errors
    /// [`ErrorCode::Conflict`] where it can't be what it shall be; see [`AdminError`] for others.
    fn new_certificate(&self, certificate: &NewCertificate)
    -> Result<AddedCertificate, AdminError>;

    /// Makes a certificate the head, calls it otherwise, or marks it as compromised.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`], and [`ErrorCode::Conflict`] where it can't be that; see [`AdminError`] for others.
    fn set_certificate(
        &self,
        thumbprint: &str,
        change: &SetCertificate,
    ) -> Result<Certificate, AdminError>;

    /// Lets a certificate open and sign again.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`]; see [`AdminError`] for others.
    fn enable_certificate(&self, thumbprint: &str) -> Result<Certificate, AdminError>;

    /// Keeps a certificate from opening and signing anything.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`], and [`ErrorCode::Conflict`] for a primary one; see [`AdminError`] for others.
    fn disable_certificate(&self, thumbprint: &str) -> Result<Certificate, AdminError>;

    /// Keeps a certificate from ever being a head again; it opens and signs as before.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`], and [`ErrorCode::Conflict`] for a head; see [`AdminError`] for others.
    fn retire_certificate(&self, thumbprint: &str) -> Result<Certificate, AdminError>;

    /// Forgets a certificate, with its sealed key. Returns what it was.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`], and [`ErrorCode::Conflict`] for a head, and for one that protectors need or that is
    /// compromised unless `even_if_needed`; see [`AdminError`] for others.
    fn remove_certificate(
        &self,
        thumbprint: &str,
        even_if_needed: bool,
    ) -> Result<Certificate, AdminError>;

    /// The signers of health certificates that are known.
    ///
    /// # Errors
    /// See [`AdminError`].
    fn signers(&self) -> Result<Vec<Signer>, AdminError>;

    /// Believes a signer of another cluster from now on.
    ///
    /// # Errors
    /// [`ErrorCode::Conflict`] when it is known; see [`AdminError`] for others.
    fn add_signer(&self, signer: &AddSigner) -> Result<Signer, AdminError>;

    /// Changes what is believed of a signer, or with `all` of every one. Returns those that it was about.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`]; see [`AdminError`] for others.
    fn set_signer(&self, thumbprint: &str, change: &SetSigner) -> Result<Vec<Signer>, AdminError>;

    /// Forgets a signer: its health certificates are refused from now on. Returns what it was.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`]; see [`AdminError`] for others.
    fn remove_signer(&self, thumbprint: &str) -> Result<Signer, AdminError>;

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

    /// Makes up a host, an owner and a protector, and has their roll decided as those of hosts are, but through no
    /// listener. Leaves records and changes nothing.
    ///
    /// # Errors
    /// See [`AdminError`]; a roll that fails is an answer.
    fn synthetic_roll(&self) -> Result<SyntheticRoll, AdminError>;

    /// Records that the state was written to an encrypted file, by whoever could read the state and its master key
    /// anyway: nothing of the state goes this way.
    ///
    /// # Errors
    /// See [`AdminError`]; then the file is not to be kept.
    fn record_export(&self, export: &RecordExport) -> Result<AuditRecord, AdminError>;
}
