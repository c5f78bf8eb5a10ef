//! What administrators ask for that changes certificates, signers or settings, version 1. As with the answers
//! ([`types`](super::types)), none of these types has room for a secret: a private key travels beside its request, see
//! `private_key`.

use serde::{Deserialize, Serialize};

/// A certificate that somebody brings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddCertificate {
    /// `signing`, `encryption` or `communications`.
    pub kind: String,
    /// The certificate, in PEM or in the Base64 of its DER.
    pub certificate: String,
    /// Where its key lives: one or two `pkcs11:` URIs; absent where the key comes along.
    #[serde(default)]
    pub key: Option<String>,
    /// The tenant whose lineage it belongs to; absent for the fabric's.
    #[serde(default)]
    pub tenant: Option<String>,
    /// What people shall call it.
    #[serde(default)]
    pub label: Option<String>,
    /// Whether it shall be the primary one of its kind. A tenant's first of its kind is the head of its lineage unasked.
    #[serde(default)]
    pub primary: bool,
}

/// A certificate that the guardian makes, over a key that it makes or that lies in a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewCertificate {
    /// `signing`, `encryption` or `communications`.
    pub kind: String,
    /// Its common name; by kind and guardian when absent.
    #[serde(default)]
    pub subject: Option<String>,
    /// Bits of a key that is made: 2048, 3072 or 4096.
    #[serde(default)]
    pub bits: Option<usize>,
    /// The `pkcs11:` URI of its key, which is made there unless it is there; absent for a software key.
    #[serde(default)]
    pub key: Option<String>,
    /// The tenant whose lineage it belongs to; absent for the fabric's.
    #[serde(default)]
    pub tenant: Option<String>,
    /// What people shall call it.
    #[serde(default)]
    pub label: Option<String>,
    /// Whether it shall be the primary one of its kind.
    #[serde(default)]
    pub primary: bool,
}

/// What changes about a certificate; what is absent stays. All of it happens, or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SetCertificate {
    /// It becomes the primary one of its kind.
    pub primary: bool,
    /// It becomes the head of its lineage, whosever that is.
    pub head: bool,
    /// What people call it; empty for nothing.
    pub label: Option<String>,
    /// Since when its key is known to others: a time, or `now`.
    pub compromised_since: Option<String>,
}

/// What changes about the service; what is absent stays. All of it happens, or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SetServer {
    /// The thumbprint of the certificate that shall sign the metadata.
    pub communications_certificate: Option<String>,
    /// For how many seconds from now the re-key window is open; 0 closes it.
    pub rekey_window_seconds: Option<u64>,
}

/// A signer of another cluster that shall be believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddSigner {
    /// Its certificate, in PEM or in the Base64 of its DER.
    pub certificate: String,
    /// What people shall call it.
    #[serde(default)]
    pub label: Option<String>,
    /// Health certificates valid for longer than so many seconds are refused.
    #[serde(default)]
    pub maximum_validity_seconds: Option<u32>,
}

/// What changes about a signer; what is absent stays. All of it happens, or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SetSigner {
    /// Health certificates issued before this are refused; empty for none.
    pub deny_before: Option<String>,
    /// What people call it; empty for nothing.
    pub label: Option<String>,
    /// Health certificates valid for longer than so many seconds are refused; not for our own signers.
    pub maximum_validity_seconds: Option<u32>,
    /// Serial numbers of health certificates that are refused from now on.
    pub deny: Vec<String>,
    /// Serial numbers of health certificates that are no longer refused.
    pub allow: Vec<String>,
}
