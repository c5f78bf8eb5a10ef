//! Whose health certificates are believed.

use std::collections::BTreeSet;
use std::sync::Arc;

use hgs_attest::signer::OwnSigner;
use hgs_custody::KeyReference;
use hgs_kps::Label;
use hgs_pki::health::{MAXIMUM_VALIDITY, TrustedSigner};
use hgs_pki::{Certificate, Seconds, SerialNumber, Thumbprint, Time};
use serde::{Deserialize, Serialize};

use super::text;

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
    /// Whether it signs no more. What it signed is trusted until the last certificate has expired.
    #[serde(rename = "stage", with = "stage")]
    pub retired: bool,
    /// Certificates issued before this are refused.
    #[serde(with = "text::optional")]
    pub deny_before: Option<Time>,
    /// Certificates valid for longer than so many seconds are refused.
    pub maximum_validity_seconds: Option<u32>,
    /// What people call it.
    #[serde(with = "text::optional")]
    pub label: Option<Label>,
    /// Certificates refused one by one: for another cluster's signer, whose registry of hosts is
    /// not ours.
    #[serde(with = "text::set")]
    pub deny_list: Arc<BTreeSet<SerialNumber>>,
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

    /// It as the checks of health certificates see it.
    #[must_use]
    pub fn trusted(&self) -> TrustedSigner {
        let certificate = self.certificate.clone();
        let trusted = match self.is_own() {
            true => TrustedSigner::own(certificate),
            false => {
                let seconds = self.maximum_validity_seconds;
                let maximum = seconds.map(|seconds| Seconds::new(seconds.into()));
                TrustedSigner::of_another_cluster(certificate, maximum.unwrap_or(MAXIMUM_VALIDITY))
            }
        };
        trusted
            .denying_before(self.deny_before)
            .denying(Arc::clone(&self.deny_list))
    }

    /// One of our own as its schedule sees it.
    #[must_use]
    pub fn scheduled(&self) -> OwnSigner {
        OwnSigner {
            certificate: self.certificate.clone(),
            deny_before: self.deny_before,
            retired: self.retired,
        }
    }

    /// Whether it is our own: then its certificates name hosts of our registry.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.key.is_some()
    }
}

/// The member `stage` of a signer's record: `active` or `retired`.
mod stage {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference to the field"
    )]
    pub(super) fn serialize<S: Serializer>(
        retired: &bool,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if *retired { "retired" } else { "active" })
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<bool, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "active" => Ok(false),
            "retired" => Ok(true),
            _ => Err(D::Error::custom("not a stage of a signer")),
        }
    }
}
