//! The audit log.

use hgs_audit::{Action, Outcome, RequestId, Standing};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MAX_PAGE, named};
use crate::{read, text};

/// Which audit records are wanted. An absent filter lets all pass.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuditQuery {
    /// How many records at most: 1 to 1000, 100 if absent.
    #[schemars(range(min = 1, max = MAX_PAGE))]
    pub limit: Option<usize>,
    /// Only records with a number below this one, to page backwards.
    #[schemars(with = "Option<text::Number>")]
    pub before: Option<u64>,
    /// Only records of this time or later.
    #[schemars(with = "Option<text::Time>")]
    pub since: Option<String>,
    /// Only records before this time.
    #[schemars(with = "Option<text::Time>")]
    pub until: Option<String>,
    /// Only records about the host with this name or id.
    pub host: Option<String>,
    /// Only records of this action.
    #[schemars(with = "Option<Action>")]
    pub action: Option<NamedAction>,
    /// Only records with this outcome.
    pub outcome: Option<Outcome>,
    /// Only records about the protector with this digest.
    #[schemars(with = "Option<text::Digest>")]
    pub protector: Option<String>,
    /// Only records about this lineage: `fabric`, or `tenant:` and the tenant's label.
    #[schemars(with = "Option<text::Lineage>")]
    pub lineage: Option<String>,
    /// Only records of what the request with this id led to: the `X-Request-Id` of its answer, which hosts show and log.
    #[schemars(with = "Option<text::RequestId>")]
    pub request: Option<RequestId>,
}

/// An audit record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditRecord {
    /// Its number, from 1.
    pub sequence: u64,
    /// When.
    #[schemars(with = "text::Time")]
    pub time: String,
    /// The node of the guardian that made it.
    pub node: String,
    /// Who asked.
    pub actor: String,
    /// What was asked for.
    pub action: NamedAction,
    /// How it went.
    pub outcome: Outcome,
    /// The id of the request that led to it: the `X-Request-Id` of its answer. Absent where the guardian acted by itself, where
    /// this record stands for several events, and in records of versions that did not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<text::RequestId>")]
    pub request: Option<RequestId>,
    /// Why it was refused.
    pub reason: Option<String>,
    /// The id of the host.
    pub host: Option<String>,
    /// The name that the host had.
    pub host_name: Option<String>,
    /// The serial number of its health certificate.
    pub serial: Option<String>,
    /// The digest of the policy by which its health was judged.
    #[schemars(with = "Option<text::Digest>")]
    pub policy: Option<String>,
    /// The digest of the protector that came in.
    #[schemars(with = "Option<text::Digest>")]
    pub protector: Option<String>,
    /// The digest of the protector that went out.
    #[schemars(with = "Option<text::Digest>")]
    pub egress_protector: Option<String>,
    /// Where the protector stood among its relatives.
    pub standing: Option<Standing>,
    /// The thumbprint of its owner's signing certificate.
    #[schemars(with = "Option<text::Digest>")]
    pub owner: Option<String>,
    /// The thumbprint of the encryption certificate that opened it.
    #[schemars(with = "Option<text::Digest>")]
    pub guardian: Option<String>,
    /// The lineage of that certificate.
    pub lineage: Option<String>,
    /// What the host may do with the released keys while the guardian is away; absent where hosts may keep none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offline_use: Option<OfflineUse>,
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

/// How a host may use released keys without asking again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OfflineUse {
    /// How often.
    pub unwraps: u32,
    /// Until when.
    #[schemars(with = "text::Time")]
    pub until: String,
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
    #[schemars(with = "Option<text::Digest>")]
    pub digest: Option<String>,
}

/// Which records are moved to an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArchiveAudit {
    /// Those of the days before the one of this time.
    #[schemars(with = "text::Time")]
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
    #[schemars(with = "text::Digest")]
    pub digest: String,
}

/// The action of an audit record, as a client sees it: the server may be of a later version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum NamedAction {
    /// One that this version knows.
    Known(Action),
    /// The name of another.
    Other(String),
}

named!(NamedAction);

/// An export of the state to an encrypted file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordExport {
    /// SHA-256 of the file.
    #[schemars(with = "text::Digest")]
    pub file: String,
    /// Its length.
    #[serde(deserialize_with = "read::integer")]
    #[schemars(with = "text::Number")]
    pub octets: u64,
    /// The generation of the state in it.
    #[serde(deserialize_with = "read::integer")]
    #[schemars(with = "text::Number")]
    pub generation: u64,
    /// The recipients whose keys open it; none where a passphrase does.
    pub recipients: Vec<String>,
}

/// Records of the state are shown as the store writes them.
fn any_value(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({})
}
