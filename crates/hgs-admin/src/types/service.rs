//! The service as a whole.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AttestationMode, Certificate, Signer, attestation_modes, by_name, named};
use crate::text;

/// The guardian at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// The version of the program that serves.
    pub version: String,
    /// The time by its clock.
    #[schemars(with = "text::Time")]
    pub time: String,
    /// How hosts attest.
    #[serde(with = "by_name")]
    #[schemars(schema_with = "attestation_modes")]
    pub attestation_mode: AttestationMode,
    /// Where hosts attest.
    pub attestation_urls: Vec<String>,
    /// Where hosts get keys released.
    pub key_protection_urls: Vec<String>,
    /// Hosts that may attest.
    pub registered_hosts: usize,
    /// Hosts that were revoked.
    pub revoked_hosts: usize,
    /// The primary signing certificate.
    pub primary_signing: Option<Certificate>,
    /// The primary encryption certificate.
    pub primary_encryption: Option<Certificate>,
    /// The attestation signer that signs now.
    pub attestation_signer: Option<Signer>,
    /// How many transactions have changed the state.
    pub generation: u64,
    /// What needs attention.
    pub warnings: Vec<Warning>,
}

/// Something that needs the attention of an administrator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Warning {
    /// Names the kind, for programs.
    pub code: String,
    /// What was found.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// The settings in effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServerSettings {
    /// The name of the guardian.
    pub name: String,
    /// The name of this node, as in audit records.
    pub node: String,
    /// The folder of the state.
    pub state_folder: String,
    /// The file of the master key.
    pub master_key_file: String,
    /// Where it listens.
    pub listeners: Vec<Listener>,
    /// How hosts attest.
    #[serde(with = "by_name")]
    #[schemars(schema_with = "attestation_modes")]
    pub attestation_mode: AttestationMode,
    /// Whether healthy hosts may add to their own records what they will boot next.
    pub accept_next_boot_claims: bool,
    /// For how many seconds health certificates are valid.
    pub health_certificate_seconds: u64,
    /// How many seconds the clocks of signers may be ahead.
    pub clock_skew_seconds: u64,
    /// What hosts that attest by TPM may do with released keys while the guardian is away; absent where that is nothing.
    #[serde(default)]
    pub key_caching: Option<KeyCaching>,
    /// Whether a protector is refused once a descendant of it has come back.
    pub refuse_superseded_protectors: bool,
    /// Settings that weaken verification.
    pub dangerous_settings: Vec<String>,
    /// The certificate that signs the metadata.
    pub communications_certificate: Option<Certificate>,
    /// Until when protectors signed by a compromised guardian are accepted although the server has not seen them
    /// before; absent when the re-key window is closed.
    #[serde(default)]
    #[schemars(with = "Option<text::Time>")]
    pub rekey_window_until: Option<String>,
}

/// How hosts may use keys that they keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyCaching {
    /// How often the keys of one release.
    pub unwraps: u32,
    /// For how many hours after the release.
    pub hours: u32,
}

/// An open listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Listener {
    /// Which of them.
    pub name: ListenerName,
    /// Address and port, or the path of the socket.
    pub address: String,
}

/// Names of listeners.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ListenerName {
    /// The protocols over HTTP.
    Http,
    /// The protocols over HTTPS.
    Https,
    /// Metrics and health.
    Metrics,
    /// This API over a Unix socket.
    Admin,
    /// This API under mutual TLS.
    Api,
    /// The console, in a browser.
    Console,
    /// The console, in a browser that shows a certificate.
    ConsoleClientCertificates,
}

named!(ListenerName);
