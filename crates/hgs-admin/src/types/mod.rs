//! Requests and answers, version 1.
//!
//! Times are RFC 3339 in UTC; digests and thumbprints are SHA-256 in lower-case hexadecimal. No field can hold a secret:
//! a private key travels beside its request ([`WithKey`](crate::WithKey)). Answers may gain fields, and enumerations may
//! gain values.

use schemars::{Schema, SchemaGenerator, json_schema};

mod audit;
mod certificates;
mod changes;
mod cluster;
mod console;
mod diagnosis;
mod events;
mod hosts;
mod judgements;
mod pages;
mod policies;
mod protectors;
mod service;
mod signers;

pub use audit::{
    ArchiveAudit, AuditArchive, AuditLog, AuditQuery, AuditRecord, NamedAction, OfflineUse,
    RecordExport,
};
pub use certificates::{
    AddedCertificate, Certificate, CertificateDetail, CertificateUsage, Finding, GuardianDocument,
    RotatedCertificates, Severity, UsedCertificate,
};
pub use changes::{
    AddCertificate, AddSigner, NewCertificate, RemoveCertificate, RotateCertificates,
    SetCertificate, SetServer, SetSigner,
};
pub use cluster::{
    Cluster, ClusterNode, ClusterUpgrade, ExistingEtcd, ExistingEtcdMember, InviteNode,
    NodeInvitation,
};
pub use console::{ConsoleLink, ConsoleSession, NewConsoleLink, SignInWay};
pub use diagnosis::Diagnosis;
pub use events::{
    CaughtUp, CertificateRole, Event, EventKind, EventKinds, EventQuery, Expiry, ExpiryStage, Gap,
    GapReason, Readiness, RecordedEvent,
};
pub use hosts::{
    AddEkRoots, AddHost, AddHosts, DeniedHost, DenyHost, EkRoot, Host, HostDetail, IdentityKey,
    RemovedHost, Revocation, RevokeHost, Tpm,
};
pub use judgements::{
    ApproveHosts, ApprovedHost, Difference, EventSummary, Judgement, PolicyOutcome,
    SimulatePolicies, Trial, UsedAlternative,
};
pub use pages::{DigestPageQuery, HostQuery, MAX_AT_ONCE, MAX_PAGE, PageQuery};
pub use policies::{
    AddPolicyDocument, ChangePolicyDocument, DocumentKind, EventPreimage, HostEvidence, HostGroup,
    HostMeasurements, LastAttempt, NewHostGroup, PcrValue, Policy, PolicyDocument,
    PolicyDocumentDetail, PolicyQuery, SetHost, SetHostMeasurements, SetPolicy, UnexplainedEvent,
};
pub use protectors::{Protector, ProtectorLineage, ProtectorQuery, ProtectorStage};
pub use service::{KeyCaching, Listener, ListenerName, ServerSettings, Status, Warning};
pub use signers::{Signer, SignerStage};

pub use hgs_audit::{Action, Outcome, RequestId, Standing};
pub use hgs_kps::CertificateKind;
pub use hgs_pki::health::{AttestationMode, HealthKind};

/// Values of the protocol crates' enumerations, by their names.
mod by_name {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        value: &impl Display,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(D::Error::custom)
    }
}

fn certificate_kinds(_: &mut SchemaGenerator) -> Schema {
    let names = CertificateKind::ALL.map(CertificateKind::name);
    json_schema!({"type": "string", "enum": names})
}

fn health_kinds(_: &mut SchemaGenerator) -> Schema {
    let names = HealthKind::ALL.map(HealthKind::name);
    json_schema!({"type": "string", "enum": names})
}

fn attestation_modes(_: &mut SchemaGenerator) -> Schema {
    let names = AttestationMode::ALL.map(AttestationMode::name);
    json_schema!({"type": "string", "enum": names})
}

/// `Display` and `FromStr` of an enumeration by the names that its values have in JSON.
macro_rules! named {
    ($($name:ident),+ $(,)?) => {$(
        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                serde::Serialize::serialize(self, formatter)
            }
        }

        impl std::str::FromStr for $name {
            type Err = serde::de::value::Error;

            fn from_str(name: &str) -> Result<Self, Self::Err> {
                let name = serde::de::IntoDeserializer::into_deserializer(name);
                serde::Deserialize::deserialize(name)
            }
        }
    )+};
}
use named;
