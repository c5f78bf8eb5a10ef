//! Requests and answers, version 1.
//!
//! Times are RFC 3339 in UTC; digests and thumbprints are SHA-256 in lower-case hexadecimal. No field can hold a secret:
//! a private key travels beside its request ([`WithKey`](crate::WithKey)). Answers may gain fields, and enumerations may
//! gain values.

mod audit;
mod certificates;
mod changes;
mod diagnosis;
mod hosts;
mod service;
mod signers;

pub use audit::{
    Action, ArchiveAudit, AuditArchive, AuditLog, AuditQuery, AuditRecord, Outcome, RecordExport,
    Standing,
};
pub use certificates::{
    AddedCertificate, Certificate, CertificateDetail, CertificateKind, CertificateUsage, Finding,
    GuardianDocument, RotatedCertificates, Severity, UsedCertificate,
};
pub use changes::{
    AddCertificate, AddSigner, NewCertificate, RemoveCertificate, RotateCertificates,
    SetCertificate, SetServer, SetSigner,
};
pub use diagnosis::Facts;
pub use hosts::{
    AddHost, DeniedHost, DenyHost, Host, HostDetail, IdentityKey, IdentityKind, RemovedHost,
    Revocation, RevokeHost,
};
pub use service::{AttestationMode, Listener, ListenerName, ServerSettings, Status, Warning};
pub use signers::{Signer, SignerStage};

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
