//! Signers of health certificates.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::named;
use crate::text;

/// A signer of health certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Signer {
    /// SHA-256 of its certificate's DER.
    #[schemars(with = "text::Digest")]
    pub thumbprint: String,
    /// Its subject.
    pub subject: String,
    /// A label for people.
    pub label: Option<String>,
    /// Whether it is this guardian's own.
    pub own: bool,
    /// Where it stands in its life.
    pub stage: SignerStage,
    /// Health certificates that it issued before this are refused.
    #[schemars(with = "Option<text::Time>")]
    pub deny_before: Option<String>,
    /// How many health certificates are refused by their serial numbers.
    pub denied_serial_numbers: usize,
    /// Health certificates valid for longer than so many seconds are refused.
    #[serde(default)]
    pub maximum_validity_seconds: Option<u64>,
    /// Its first second.
    #[schemars(with = "text::Time")]
    pub not_before: String,
    /// Its last second.
    #[schemars(with = "text::Time")]
    pub not_after: String,
    /// When it was added.
    #[schemars(with = "text::Time")]
    pub added: String,
    /// The certificate itself.
    pub pem: String,
}

/// Where a signer stands in its life.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum SignerStage {
    /// One of the guardian's own, which will sign.
    Pending,
    /// The one of the guardian's own that signs now.
    Active,
    /// One of the guardian's own, which signs no more.
    Retired,
    /// One of another cluster.
    Trusted,
}

named!(SignerStage);
