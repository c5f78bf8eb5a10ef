//! Whose health certificates are believed.

use std::collections::BTreeSet;

use hgs_custody::KeyReference;
use hgs_pki::{Certificate, Thumbprint, Time};
use serde::{Deserialize, Serialize};

use super::{Label, SerialNumber, text};

/// A signer of health certificates: our own attestation service's, or another cluster's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttestationSigner {
    /// Its certificate.
    #[serde(with = "text::certificate")]
    pub certificate: Certificate,
    /// Where the private key of our own signer lives; absent for another cluster's.
    #[serde(with = "text::optional")]
    pub key: Option<KeyReference>,
    /// Whether it still signs.
    pub stage: SignerStage,
    /// Certificates issued before this are refused.
    #[serde(with = "text::optional")]
    pub deny_before: Option<Time>,
    /// Certificates valid for longer than so many seconds are refused.
    pub maximum_validity_seconds: Option<u32>,
    /// What people call it.
    pub label: Option<Label>,
    /// Certificates refused one by one: for another cluster's signer, whose registry of hosts is
    /// not ours.
    pub deny_list: BTreeSet<SerialNumber>,
    /// When it was added.
    #[serde(with = "text::display")]
    pub added: Time,
}

impl AttestationSigner {
    /// The certificate's thumbprint, by which the record is named.
    #[must_use]
    pub fn thumbprint(&self) -> Thumbprint {
        self.certificate.thumbprint()
    }

    /// Whether it is our own: then its certificates name hosts of our registry.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.key.is_some()
    }
}

/// The life of a signer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignerStage {
    /// Signs, or may sign.
    Active,
    /// Signs no more; trusted until the last certificate it signed has expired.
    Retired,
}
