//! The audit log.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::named;

/// Which audit records are wanted. An absent filter lets all pass.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuditQuery {
    /// How many records at most: 1 to 1000, 100 if absent.
    pub limit: Option<usize>,
    /// Only records with a number below this one, to page backwards.
    pub before: Option<u64>,
    /// Only records of this time or later.
    pub since: Option<String>,
    /// Only records before this time.
    pub until: Option<String>,
    /// Only records about the host with this name or id.
    pub host: Option<String>,
    /// Only records of this action.
    pub action: Option<Action>,
    /// Only records with this outcome.
    pub outcome: Option<Outcome>,
    /// Only records about the protector with this digest.
    pub protector: Option<String>,
    /// Only records about this lineage: `fabric`, or `tenant:` and the tenant's label.
    pub lineage: Option<String>,
}

/// An audit record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditRecord {
    /// Its number, from 1.
    pub sequence: u64,
    /// When.
    pub time: String,
    /// The node of the guardian that made it.
    pub node: String,
    /// Who asked.
    pub actor: String,
    /// What was asked for.
    pub action: Action,
    /// How it went.
    pub outcome: Outcome,
    /// Why it was refused.
    pub reason: Option<String>,
    /// The id of the host.
    pub host: Option<String>,
    /// The name that the host had.
    pub host_name: Option<String>,
    /// The serial number of its health certificate.
    pub serial: Option<String>,
    /// The digest of the policy by which its health was judged.
    pub policy: Option<String>,
    /// The digest of the protector that came in.
    pub protector: Option<String>,
    /// The digest of the protector that went out.
    pub egress_protector: Option<String>,
    /// Where the protector stood among its relatives.
    pub standing: Option<Standing>,
    /// The thumbprint of its owner's signing certificate.
    pub owner: Option<String>,
    /// The thumbprint of the encryption certificate that opened it.
    pub guardian: Option<String>,
    /// The lineage of that certificate.
    pub lineage: Option<String>,
    /// How many equal events this record stands for.
    pub count: Option<u64>,
    /// The generation of the state after it.
    pub generation: u64,
    /// The record of the state that was changed, as it was before.
    #[schemars(schema_with = "any_value")]
    pub before: Option<serde_json::Value>,
    /// The record of the state that was changed, as it was after.
    #[schemars(schema_with = "any_value")]
    pub after: Option<serde_json::Value>,
    /// The records of the state that were written or removed, as `kind/name`.
    pub changes: Vec<String>,
}

/// How much of the audit log is in the database, and what is in archives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditLog {
    /// The number of the oldest record in the database.
    pub first: u64,
    /// The number of the newest record.
    pub last: u64,
    /// The number of the last record in archives; zero where there are none.
    pub archived: u64,
    /// SHA-256 of the newest archive.
    pub digest: Option<String>,
}

/// Which records are moved to an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArchiveAudit {
    /// Those of the days before the one of this time.
    pub before: String,
}

/// An archive of the audit log that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditArchive {
    /// The number of its first record.
    pub first: u64,
    /// The number of its last record.
    pub last: u64,
    /// The path of its file, on the machine of the server.
    pub file: String,
    /// SHA-256 of the file.
    pub digest: String,
}

/// What audit records are about.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The settings of the service were replaced.
    SetSettings,
    /// A certificate was added.
    AddCertificate,
    /// A certificate was enabled.
    EnableCertificate,
    /// A certificate was disabled.
    DisableCertificate,
    /// A certificate became the head of its lineage.
    SetHead,
    /// A certificate's label was changed.
    SetCertificateLabel,
    /// A certificate's key was marked as compromised.
    SetCompromised,
    /// A certificate was retired.
    RetireCertificate,
    /// A certificate was removed.
    RemoveCertificate,
    /// The re-key window was opened or closed.
    SetRekeyWindow,
    /// A signer of health certificates was added.
    AddAttestationSigner,
    /// What is accepted of a signer of health certificates was changed.
    SetAttestationSigner,
    /// A signer of health certificates stopped signing.
    RetireAttestationSigner,
    /// A signer of health certificates was removed.
    RemoveAttestationSigner,
    /// A host was registered.
    AddHost,
    /// A host was revoked.
    RevokeHost,
    /// A host was removed.
    RemoveHost,
    /// The host key of a removed host was readmitted.
    ReadmitHostKey,
    /// A host of another cluster was denied.
    DenyHost,
    /// A host that was denied was allowed again.
    AllowHost,
    /// A host presented an identity key again that had been superseded.
    ReturnIdentityKey,
    /// The state was exported to an encrypted file.
    ExportState,
    /// An export of another state was imported.
    ImportState,
    /// The state was sealed again under another master key.
    RotateMasterKey,
    /// A state that is not the newest one is the state from now on.
    AcceptState,
    /// Old audit records were moved to an archive.
    ArchiveAudit,
    /// A host attested.
    Attest,
    /// The keys of a protector were released.
    Release,
    /// A diagnosis used a synthetic host, owner and protector.
    Trace,
    /// An action that this version does not know, by its name.
    #[serde(untagged)]
    Other(String),
}

/// How something went.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused, and changed nothing.
    Refused,
}

/// Where a protector stood among its relatives.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It was never seen here.
    New,
    /// It is the newest of its line that came back.
    Head,
    /// It came back for the first time, after another child of its parent had: a migration failed late, or the VM was
    /// copied.
    Sibling,
    /// A descendant of it came back before: the VM was rolled back, or copied.
    Ancestor,
}

/// An export of the state to an encrypted file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordExport {
    /// SHA-256 of the file.
    pub file: String,
    /// Its length.
    pub octets: u64,
    /// The generation of the state in it.
    pub generation: u64,
    /// The recipients whose keys open it; none where a passphrase does.
    pub recipients: Vec<String>,
}

named!(Action, Outcome, Standing);

/// Records of the state are shown as the store writes them.
fn any_value(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({})
}
