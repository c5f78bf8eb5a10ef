//! The facts about a guarded host. No type here can hold a secret; a test checks each of them.

use hgs_pki::Time;
use serde::{Deserialize, Serialize};

use crate::{Observed, PathFacts, Problem, Reachability, text};

/// Everything that was found out about a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// When, by its clock.
    #[serde(with = "text::display")]
    pub time: Time,
    /// The version of the program that collected.
    pub version: String,
    /// The number of the user that the program runs as.
    pub user: u32,
    /// The configuration: whether this host is configured for a guardian.
    pub configuration: Observed<bool>,
    /// The state folder.
    pub state_folder: PathFacts,
    /// The file of the host key.
    pub host_key_file: PathFacts,
    /// The host key: SHA-256 of its SubjectPublicKeyInfo, by which guardians know this host.
    pub host_key: Option<Observed<String>>,
    /// The services, the primary first: each node of them.
    pub services: Vec<Service>,
    /// The TPM, where a guardian attests by it, or where this host has attested by it.
    #[serde(default)]
    pub tpm: Option<Tpm>,
    /// How the last attempt to attest ended.
    pub last_attempt: Option<Attempt>,
    /// What a person should look at before it keeps the host from attesting.
    #[serde(default)]
    pub warnings: Vec<Problem>,
}

/// One of the guardians of this host, or a node of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// `primary` or `fallback`.
    pub side: String,
    /// How far one gets towards attestation.
    pub attestation: Reachability,
    /// How far one gets towards key protection.
    pub key_protection: Reachability,
    /// How hosts attest there, by name.
    pub attestation_mode: Option<Observed<String>>,
    /// The thumbprint of the guardian's signing certificate, from metadata whose signatures hold.
    pub metadata: Option<Observed<String>>,
    /// The thumbprints of the signers of health certificates.
    pub signing_certificates: Option<Observed<Vec<String>>>,
    /// The health certificate for encryption that the host holds of it.
    pub health_certificate: Option<HealthCertificate>,
}

impl Service {
    pub(super) fn attestation(&self) -> &Reachability {
        &self.attestation
    }

    pub(super) fn key_protection(&self) -> &Reachability {
        &self.key_protection
    }
}

/// A health certificate that a host holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCertificate {
    /// Its serial number.
    pub serial_number: String,
    /// The last second in which it is valid.
    #[serde(with = "text::display")]
    pub expires: Time,
    /// When a new one is asked for.
    #[serde(with = "text::display")]
    pub renewed_from: Time,
}

/// How an attempt to attest ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Where it was made.
    pub url: String,
    /// What was said instead of a certificate.
    pub message: Option<String>,
    /// The remedy.
    pub remedy: Option<String>,
}

/// The TPM of a host, and what the host says about its boot. What is not there was not looked at, because of what is wrong
/// before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tpm {
    /// Where it is.
    pub device: String,
    /// Whether it answers, and if so, whether it is locked after too many wrong passwords.
    pub is_locked: Observed<bool>,
    /// SHA-256 of the TPMT_PUBLIC of its endorsement key, by which guardians know this host.
    pub endorsement_key: Option<Observed<String>>,
    /// The SHA-256 of its EK certificate, if it has one.
    pub endorsement_certificate: Option<Observed<Option<String>>>,
    /// Whether its PCRs for SHA-256 can be read.
    pub pcrs: Option<Observed<()>>,
    /// The event log of the boot.
    pub event_log: Log,
    /// The log of IMA.
    pub ima_log: Log,
}

/// A log of what was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// Where it is.
    pub path: String,
    /// How many events it has; `None` if there is no log.
    pub events: Observed<Option<usize>>,
    /// Whether it gives the values that the PCRs have.
    pub replay: Option<Observed<()>>,
}
