//! What the guardian service remembers: state, generations, named transactions, audit.
//!
//! There is one logical document, the [`State`], in memory and on the disk. It changes only by
//! named [`Transaction`]s, each of which writes its audit record in the same commit. Releases of
//! keys change no state; they are recorded in the audit log and in the lineage tree of protectors,
//! many in one commit.
//!
//! ```text
//!   release, transact, note --> queue --> writer: BatchPlanner --> Batch --> Engine --> replies
//!   state <------------------------------------------------------------------- news
//!   audit, usage, seen -----------------> views of the engine that only read
//! ```
//!
//! **Against an attacker who can write the database** every record has a tag under a key derived from the
//! master key, and so has the whole; software keys are sealed. [`Store::open`] finds any record
//! that was changed, swapped, removed, added or put back, and names it. That the *whole* database was
//! put back as it was at an earlier commit is found by the [`high_water_mark`], which is kept in
//! another folder.
//!
//! What this crate does not do: it decides nothing about health or keys, it does not talk to the
//! network, and it never gives a private key to anyone but the process that holds the master key.

mod audit;
mod audit_head;
mod audit_term;
pub mod backup;
mod change;
#[cfg(test)]
mod cluster_model;
mod diagnosis;
mod engine;
mod error;
mod evidence;
#[cfg(test)]
mod fixture;
pub mod high_water_mark;
mod level;
mod lineage;
pub mod master_key_file;
mod model;
mod node;
mod opening;
pub mod order;
mod outcome;
mod planner;
mod policies;
mod policy_sets;
mod protectors;
mod record;
mod refusal;
mod release;
mod rolled_back;
mod state;
mod state_folder;
mod store;
mod transaction;
mod usage;
mod writer;

pub use audit::{
    Action, Archive, ArchiveError, AuditEntry, AuditFilter, AuditRecord, LaterRecords,
    MAX_ARCHIVE_LENGTH, OfflineUse, Outcome, RecordChange, RequestId, fuzz_audit_archive,
};
pub use error::{Finding, MasterKeyError, OpenError, StoreError, Tampered};
pub use evidence::{Attempted, EvidenceToKeep, KeptEvidence, LastAttempt, MAX_KEPT_IMA_OCTETS};
pub use level::{Format, Level, Levels, UnreadableLevel, program_version};
pub use lineage::{RETENTION, Seen, Standing};
pub use model::{
    AttestationSigner, CertificateRecord, Credential, DEFAULT_GROUP, DeniedHost, Digest,
    DocumentKind, EndorsementRoot, Host, HostGroup, HostIdentity, HostMeasurementsRecord, HostName,
    KeyCaching, KeyCachingError, MAX_DOCUMENT_OCTETS, MAX_REKEY_WINDOW, NameError, Platform,
    PolicyDocument, RemovedHost, Revocation, SealedKey, Settings, SettingsError, ShortName,
};
pub use node::Stage;
pub use outcome::{Committed, Failure};
pub use policies::{EffectivePolicies, PolicyError, PolicyTrial};
pub use protectors::{Heads, KnownProtector, ProtectorLine};
pub use record::RecordKind;
pub use refusal::{
    MAX_DENIED, MAX_ENDORSEMENT_ROOTS, MAX_HOST_GROUPS, MAX_POLICY_DOCUMENTS, MAX_REASON_LENGTH,
    Refusal,
};
pub use release::{Recipient, RecordedRelease, ReleaseRecord, ReleaseRefusal};
pub use rolled_back::{Position, RolledBack};
pub use state::State;
pub use store::{
    Accepted, Archived, ArchivingError, AuditExtent, CopyExtent, Counters, Import, ImportError,
    Imported, Opening, Progress, StoppedCopy, Store,
};
pub use transaction::{
    Act, Attestation, ExpectedMeasurements, NewHost, PolicySelector, SignerChange, Transaction,
};
pub use usage::PairUsage;
pub use writer::{Announcement, CommitFacts};
