//! What changes certificates, signers and settings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CertificateKind, by_name, certificate_kinds};
use crate::{read, text};

/// An existing certificate to be added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddCertificate {
    /// What it is for.
    #[serde(with = "by_name")]
    #[schemars(schema_with = "certificate_kinds")]
    pub kind: CertificateKind,
    /// The certificate, in PEM or in the Base64 of its DER.
    #[schemars(with = "text::FileContent")]
    pub certificate: String,
    /// Where its key lives: one or two `pkcs11:` URIs. Absent where the key follows in the body.
    #[serde(default)]
    #[schemars(with = "Option<text::KeyReference>")]
    pub key: Option<String>,
    /// The tenant in whose lineage it is; absent for the fabric's lineage.
    #[serde(default)]
    #[schemars(with = "Option<text::Label>")]
    pub tenant: Option<String>,
    /// A label for people.
    #[serde(default)]
    #[schemars(with = "Option<text::LabelOrNone>")]
    pub label: Option<String>,
    /// Whether it becomes the primary one of its kind. A tenant's first certificate of a kind becomes the head of its
    /// lineage without this.
    #[serde(default)]
    pub primary: bool,
}

/// A self-signed certificate to be made, over a new key or one in a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCertificate {
    /// What it is for.
    #[serde(with = "by_name")]
    #[schemars(schema_with = "certificate_kinds")]
    pub kind: CertificateKind,
    /// Its common name; absent for one made from its kind and the guardian's name.
    #[serde(default)]
    #[schemars(with = "Option<text::CommonName>")]
    pub subject: Option<String>,
    /// Bits of a new key: 2048, 3072 or 4096.
    #[serde(default, deserialize_with = "read::optional_integer")]
    #[schemars(with = "Option<text::KeyBits>")]
    pub bits: Option<usize>,
    /// The `pkcs11:` URI of its key, or `sealed` for a software key. When absent, a software key is made, unless the head
    /// of that lineage has its key in a token: then it is an error.
    #[serde(default)]
    #[schemars(with = "Option<text::KeyReference>")]
    pub key: Option<String>,
    /// Whether a key that is not in the token is made there.
    #[serde(default)]
    pub new_key: bool,
    /// The tenant in whose lineage it is; absent for the fabric's lineage.
    #[serde(default)]
    #[schemars(with = "Option<text::Label>")]
    pub tenant: Option<String>,
    /// A label for people.
    #[serde(default)]
    #[schemars(with = "Option<text::LabelOrNone>")]
    pub label: Option<String>,
    /// Whether it becomes the primary one of its kind.
    #[serde(default)]
    pub primary: bool,
}

/// A new signing and a new encryption certificate that take over from those of now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RotateCertificates {
    /// The `pkcs11:` URI of the new signing key, or `sealed` for a software key. When absent, a software key is made,
    /// unless the signing key of now is in a token: then it is an error.
    #[schemars(with = "Option<text::KeyReference>")]
    pub signing_key: Option<String>,
    /// The same for the new encryption key.
    #[schemars(with = "Option<text::KeyReference>")]
    pub encryption_key: Option<String>,
    /// Whether keys that are named in tokens and are not there are made there.
    pub new_keys: bool,
    /// Bits of keys that are made: 2048, 3072 or 4096.
    #[serde(deserialize_with = "read::optional_integer")]
    #[schemars(with = "Option<text::KeyBits>")]
    pub bits: Option<usize>,
    /// The tenant whose certificates are rotated; absent for the fabric's.
    #[schemars(with = "Option<text::Label>")]
    pub tenant: Option<String>,
    /// A label for people, of both certificates.
    #[schemars(with = "Option<text::LabelOrNone>")]
    pub label: Option<String>,
}

/// Changes of a certificate. What is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SetCertificate {
    /// It becomes the primary one of its kind.
    pub primary: bool,
    /// It becomes the head of its lineage, the fabric's or a tenant's.
    pub head: bool,
    /// A label for people; empty to remove it.
    #[schemars(with = "Option<text::LabelOrNone>")]
    pub label: Option<String>,
    /// Since when its key counts as compromised: a time, or `now`.
    #[schemars(with = "Option<text::TimeOrNow>")]
    pub compromised_since: Option<String>,
}

/// Changes of the settings. What is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SetServer {
    /// The thumbprint of the certificate that signs the metadata from now on.
    #[schemars(with = "Option<text::Digest>")]
    pub communications_certificate: Option<String>,
    /// For how many seconds from now the re-key window stays open; 0 closes it.
    #[serde(deserialize_with = "read::optional_integer")]
    #[schemars(with = "Option<text::RekeyWindow>")]
    pub rekey_window_seconds: Option<u64>,
    /// How hosts attest from now on: `tpm` or `host-key`.
    #[schemars(with = "Option<text::AttestationMode>")]
    pub attestation_mode: Option<String>,
    /// Whether healthy hosts may add to their own records what they will boot next.
    pub accept_next_boot_claims: Option<bool>,
    /// What hosts may do with released keys while the guardian is away: `off`, or `COUNT,HOURS`.
    #[schemars(with = "Option<text::KeyCaching>")]
    pub key_caching: Option<String>,
}

/// A signer of another cluster to be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddSigner {
    /// Its certificate, in PEM or in the Base64 of its DER.
    #[schemars(with = "text::FileContent")]
    pub certificate: String,
    /// A label for people.
    #[serde(default)]
    #[schemars(with = "Option<text::LabelOrNone>")]
    pub label: Option<String>,
    /// Health certificates valid for longer than so many seconds are refused.
    #[serde(default, deserialize_with = "read::optional_integer")]
    #[schemars(with = "Option<text::ShortNumber>")]
    pub maximum_validity_seconds: Option<u32>,
}

/// Changes of a signer. What is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SetSigner {
    /// Health certificates issued before this time are refused; empty to refuse none for that.
    #[schemars(with = "Option<text::TimeOrNone>")]
    pub deny_before: Option<String>,
    /// A label for people; empty to remove it.
    #[schemars(with = "Option<text::LabelOrNone>")]
    pub label: Option<String>,
    /// Health certificates valid for longer than so many seconds are refused; not for our own signers.
    #[serde(deserialize_with = "read::optional_integer")]
    #[schemars(with = "Option<text::ShortNumber>")]
    pub maximum_validity_seconds: Option<u32>,
    /// Serial numbers of health certificates to be refused.
    #[schemars(with = "Vec<text::SerialNumber>")]
    pub deny: Vec<String>,
    /// Serial numbers of health certificates to be refused no longer.
    #[schemars(with = "Vec<text::SerialNumber>")]
    pub allow: Vec<String>,
}

/// How a certificate is removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RemoveCertificate {
    /// Remove it although protectors need it, or although it is compromised.
    pub even_if_needed: bool,
}
