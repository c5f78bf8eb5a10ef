//! The words of audit records: what was asked for, by which request, how it went, and where a protector stood.
//!
//! The store keeps them and the administrators' API shows them, by the same names. A name, once written, keeps its
//! meaning: it stands in logs and archives that outlive every version of the program.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::de::IntoDeserializer as _;
use serde::de::value::Error;
use serde::{Deserialize, Serialize};

/// What audit records are about.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The level of the format of what nodes share was raised.
    RaiseLevel,
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
    /// How hosts attest was changed.
    SetAttestationMode,
    /// Whether hosts say what they will boot next was changed.
    SetNextBootClaims,
    /// Whether hosts may keep keys, to start VMs while the service is away, was changed.
    SetKeyCaching,
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
    /// The endorsement key of a removed host was readmitted.
    ReadmitEndorsementKey,
    /// An authority that vouches for TPMs was added.
    AddEndorsementRoot,
    /// An authority that vouches for TPMs was removed.
    RemoveEndorsementRoot,
    /// A host was moved into another group.
    SetHostGroup,
    /// What only one host measures was changed.
    SetHostMeasurements,
    /// What a healthy host said that it will boot next was added to what only it measures.
    AcceptNextBoot,
    /// A group of hosts was made.
    NewHostGroup,
    /// A group of hosts was removed.
    RemoveHostGroup,
    /// A document that measurements are compared with was added.
    AddPolicyDocument,
    /// A document that measurements are compared with was changed.
    ChangePolicyDocument,
    /// Alternatives that were predicted are approved for good: a host has booted them.
    PromoteAlternatives,
    /// A document that measurements are compared with was removed.
    RemovePolicyDocument,
    /// A policy or a document was enabled for a group of hosts.
    EnablePolicy,
    /// A policy or a document was disabled for a group of hosts.
    DisablePolicy,
    /// A policy or a document is for a group of hosts as it is by default.
    ResetPolicy,
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
    /// An invitation to join the cluster was made.
    InviteNode,
    /// A node was given what it needs to join the cluster.
    AdmitNode,
    /// A node was removed from the cluster.
    RemoveNode,
    /// The copy of a node became the state of a guardian of one node.
    DissolveCluster,
    /// Old audit records were moved to an archive.
    ArchiveAudit,
    /// A host attested.
    Attest,
    /// The keys of a protector were released.
    Release,
    /// A host reported that it has used kept keys of a protector while the service was away.
    OfflineUnwraps,
    /// A diagnosis used a synthetic host, owner and protector.
    Trace,
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

/// Names one request to a node of a guardian: in its answer, in the log and traces of that node, and in the audit records that it led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestId {
    /// Random, the same for all requests of one run of the server.
    pub run: u32,
    /// Counts from one.
    pub sequence: u64,
}

/// A text is no id of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestIdError;

impl fmt::Display for RequestIdError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(
            "the id of a request is 8 hexadecimal digits in lower case, a hyphen and a number from 1 on, as in 0a1b2c3d-17",
        )
    }
}

impl std::error::Error for RequestIdError {}

/// Digits of the longest number of a request: more than any server will ever count to.
const MAX_NUMBER_LENGTH: usize = 19;

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:08x}-{}", self.run, self.sequence)
    }
}

impl FromStr for RequestId {
    type Err = RequestIdError;

    fn from_str(text: &str) -> Result<Self, RequestIdError> {
        let (run, sequence) = text.split_once('-').ok_or(RequestIdError)?;
        if sequence.len() > MAX_NUMBER_LENGTH {
            return Err(RequestIdError);
        }
        let id = Self {
            run: u32::from_str_radix(run, 16).map_err(|_| RequestIdError)?,
            sequence: sequence.parse().map_err(|_| RequestIdError)?,
        };
        // It is compared as a text where records are looked up, so there is one form of it.
        let is_canonical = id.sequence > 0 && id.to_string() == text;
        is_canonical.then_some(id).ok_or(RequestIdError)
    }
}

impl TryFrom<String> for RequestId {
    type Error = RequestIdError;

    fn try_from(text: String) -> Result<Self, RequestIdError> {
        text.parse()
    }
}

impl From<RequestId> for String {
    fn from(id: RequestId) -> Self {
        id.to_string()
    }
}

/// `Display` and `FromStr` by the names that the values have in JSON.
macro_rules! named {
    ($($name:ident),+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.serialize(formatter)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(name: &str) -> Result<Self, Error> {
                Self::deserialize(name.into_deserializer())
            }
        }
    )+};
}
named!(Action, Outcome, Standing);

#[cfg(test)]
mod tests {
    use super::*;

    /// The names stand in audit logs.
    #[test]
    fn names_are_those_that_are_on_record() {
        assert_eq!(
            Action::RetireAttestationSigner.to_string(),
            "retire-attestation-signer"
        );
        assert_eq!("release".parse(), Ok(Action::Release));
        assert_eq!(
            serde_json::to_string(&Outcome::Refused).unwrap(),
            "\"refused\""
        );
        assert_eq!("sibling".parse(), Ok(Standing::Sibling));
        assert!("steal-host".parse::<Action>().is_err());
    }

    #[test]
    fn the_id_of_a_request_has_one_form() {
        let id = RequestId {
            run: 0xa1b_2c3d,
            sequence: 17,
        };
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"0a1b2c3d-17\"");
        assert_eq!("0a1b2c3d-17".parse(), Ok(id));
        assert!("0a1b2c3d-9999999999999999999".parse::<RequestId>().is_ok());
        for text in [
            "",
            "-",
            "0a1b2c3d",
            "0a1b2c3d-",
            "0a1b2c3d-0",
            "0a1b2c3d-017",
            "0a1b2c3d-+17",
            "0A1B2C3D-17",
            "a1b2c3d-17",
            "+a1b2c3d-17",
            "00a1b2c3d-17",
            "0a1b2c3d-17 ",
            "0a1b2c3d-10000000000000000000",
        ] {
            assert_eq!(text.parse::<RequestId>(), Err(RequestIdError), "{text}");
        }
    }
}
