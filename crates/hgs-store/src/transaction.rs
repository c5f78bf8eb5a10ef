//! The named transactions: everything that may change a [`State`].
//!
//! A transaction is planned against a state, which decides whether it may happen and yields the
//! records it writes; planning changes nothing. So a refused transaction leaves no trace but its
//! audit record, and the same plan can later be carried out on another engine.

mod certificates;
mod hosts;
mod signers;

use std::sync::Arc;

use hgs_crypto::Random;
use hgs_custody::seal::Sealer;
use hgs_custody::{KeyReference, PrivateKey as _, SoftwareKey};
use hgs_pki::{Certificate, Thumbprint, Time};
use serde::Serialize;

use crate::State;
use crate::audit::Action;
use crate::change::{Change, Record};
use crate::model::{
    AttestationSigner, CertificateKind, CertificateRecord, Digest, HostId, HostName, IdentityKind,
    Lineage, SealedKey, SerialNumber, Settings, SettingsError,
};

/// A change of the state, as somebody asks for it.
#[derive(Debug, Clone)]
pub enum Transaction {
    /// Replaces the settings of the service.
    SetSettings(Settings),
    /// Adds a certificate of the key protection service.
    AddCertificate {
        /// The record; it may be a head only where its lineage has none of its kind.
        record: CertificateRecord,
        /// The private key, where the record says it is sealed here.
        key: Option<Arc<SoftwareKey>>,
    },
    /// Enables or disables a certificate; the primary ones can't be disabled.
    SetCertificateEnabled {
        /// Which certificate.
        thumbprint: Thumbprint,
        /// Whether it is enabled from now on.
        enabled: bool,
    },
    /// Adds a signer of health certificates.
    AddAttestationSigner {
        /// The record.
        signer: AttestationSigner,
        /// The private key, where the record says it is sealed here.
        key: Option<Arc<SoftwareKey>>,
    },
    /// A signer signs no more; certificates it signed stay valid.
    RetireAttestationSigner {
        /// Which signer.
        thumbprint: Thumbprint,
    },
    /// Forgets a signer; its certificates are refused from now on.
    RemoveAttestationSigner {
        /// Which signer.
        thumbprint: Thumbprint,
    },
    /// Registers a host.
    AddHost {
        /// A fresh id ([`HostId::random`]).
        id: HostId,
        /// What it is called.
        name: HostName,
        /// Its host key.
        host_key: hgs_crypto::rsa::PublicKey,
    },
    /// Bars a host and keeps its record.
    RevokeHost {
        /// Which host.
        id: HostId,
        /// Why, for people.
        reason: String,
    },
    /// Forgets a host and its identity keys.
    RemoveHost {
        /// Which host.
        id: HostId,
    },
    /// A host has attested and is about to get a health certificate.
    RecordAttestation(Attestation),
}

/// What an attestation leaves behind.
#[derive(Debug, Clone)]
pub struct Attestation {
    /// Which host.
    pub host: HostId,
    /// What its identity key is for.
    pub kind: IdentityKind,
    /// SHA-256 of the identity key's SubjectPublicKeyInfo.
    pub identity_key: Digest,
    /// The serial number of the health certificate.
    pub serial: SerialNumber,
    /// The digest of the policy that was evaluated.
    pub policy: Digest,
}

/// Who asks for a transaction, and when.
#[derive(Debug, Clone)]
pub struct Act {
    /// When.
    pub time: Time,
    /// Who: a user of the administration socket, a host, or the service itself.
    pub actor: String,
}

/// Why a transaction may not happen. The fault is with whoever asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A setting is out of range.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A certificate is known already.
    #[error("certificate {0} is known already")]
    CertificateKnown(Thumbprint),
    /// There is no such certificate.
    #[error("there is no certificate {0}")]
    NoSuchCertificate(Thumbprint),
    /// The lineage has a head of this kind.
    #[error("lineage {lineage} has a {kind:?} certificate as head already: {head}")]
    HeadKnown {
        /// Whose succession.
        lineage: Lineage,
        /// Which kind.
        kind: CertificateKind,
        /// The head that is there.
        head: Thumbprint,
    },
    /// A primary certificate can't be disabled.
    #[error("certificate {0} is primary and can't be disabled")]
    Primary(Thumbprint),
    /// A disabled or compromised certificate can't be a head.
    #[error("a disabled or compromised certificate can't be the head of a lineage")]
    UnusableHead,
    /// The record says that its key is sealed here, and no key came with it.
    #[error("the private key of certificate {0} is missing")]
    KeyMissing(Thumbprint),
    /// The key is not the certificate's.
    #[error("the private key does not belong to certificate {0}")]
    KeyMismatch(Thumbprint),
    /// A key came with a record that says that its key lives elsewhere.
    #[error("the key of certificate {0} lives elsewhere, and a private key was given")]
    KeyElsewhere(Thumbprint),
    /// There is no such signer.
    #[error("there is no attestation signer {0}")]
    NoSuchSigner(Thumbprint),
    /// A signer is known already.
    #[error("attestation signer {0} is known already")]
    SignerKnown(Thumbprint),
    /// There is no such host.
    #[error("there is no host {0}")]
    NoSuchHost(HostId),
    /// Another host has this id.
    #[error("host id {0} is taken")]
    HostIdKnown(HostId),
    /// Another host has this name.
    #[error("a host named {0} is registered already")]
    HostNameKnown(HostName),
    /// Another host has this host key: one key is one host (attacks.md A2).
    #[error("the host key is registered already, for host {0}")]
    HostKeyKnown(HostName),
    /// The host is barred.
    #[error("host {0} was revoked")]
    HostRevoked(HostName),
    /// A newer identity key of that kind is recorded.
    #[error("the identity key of host {0} was superseded")]
    IdentitySuperseded(HostName),
    /// The identity key is recorded for the other kind.
    #[error("the identity key of host {0} is recorded for the other use")]
    IdentityOfOtherKind(HostName),
    /// The host has used too many identity keys (attacks.md K14).
    #[error("host {0} has {MAX_IDENTITY_KEYS} identity keys of one kind; register it anew")]
    TooManyIdentities(HostName),
    /// The text is too long to keep.
    #[error("a reason has at most {MAX_REASON_LENGTH} octets")]
    ReasonTooLong,
    /// The key could not be sealed.
    #[error("the private key can't be sealed: no randomness")]
    NotSealed,
}

/// Identity keys of one kind that a host may use while it is registered: superseded ones can't be
/// forgotten, and a host that makes a new one for each request must not fill the store.
pub const MAX_IDENTITY_KEYS: usize = 4096;

/// Octets of the reason an administrator may give.
pub const MAX_REASON_LENGTH: usize = 1024;

/// What a transaction does when it is carried out.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) changes: Vec<Change>,
    /// The record that is meant, before and after, for the audit record; sealed keys never.
    pub(crate) before: Option<serde_json::Value>,
    pub(crate) after: Option<serde_json::Value>,
}

/// What planning needs besides the state.
pub(crate) struct Planner<'a> {
    pub(crate) state: &'a State,
    pub(crate) act: &'a Act,
    /// The generation in which the plan's records will stand.
    pub(crate) generation: u64,
    pub(crate) sealer: &'a Sealer,
    pub(crate) random: &'a mut dyn Random,
}

impl Transaction {
    /// What it is called in the audit log.
    #[must_use]
    pub fn action(&self) -> Action {
        match self {
            Self::SetSettings(_) => Action::SetSettings,
            Self::AddCertificate { .. } => Action::AddCertificate,
            Self::SetCertificateEnabled { enabled: true, .. } => Action::EnableCertificate,
            Self::SetCertificateEnabled { enabled: false, .. } => Action::DisableCertificate,
            Self::AddAttestationSigner { .. } => Action::AddAttestationSigner,
            Self::RetireAttestationSigner { .. } => Action::RetireAttestationSigner,
            Self::RemoveAttestationSigner { .. } => Action::RemoveAttestationSigner,
            Self::AddHost { .. } => Action::AddHost,
            Self::RevokeHost { .. } => Action::RevokeHost,
            Self::RemoveHost { .. } => Action::RemoveHost,
            Self::RecordAttestation(_) => Action::Attest,
        }
    }

    /// The host it is about, and what that is called.
    pub(crate) fn host<'a>(&'a self, state: &'a State) -> Option<(HostId, Option<&'a HostName>)> {
        let id = match self {
            Self::AddHost { id, name, .. } => return Some((*id, Some(name))),
            Self::RevokeHost { id, .. } | Self::RemoveHost { id } => *id,
            Self::RecordAttestation(attestation) => attestation.host,
            _ => return None,
        };
        Some((id, state.host(&id).map(|host| &host.name)))
    }
}

impl Planner<'_> {
    /// Decides whether `transaction` may happen, and what it writes.
    pub(crate) fn plan(&mut self, transaction: &Transaction) -> Result<Plan, Refusal> {
        match transaction {
            Transaction::SetSettings(settings) => self.set_settings(settings),
            Transaction::AddCertificate { record, key } => {
                self.add_certificate(record, key.as_deref())
            }
            Transaction::SetCertificateEnabled {
                thumbprint,
                enabled,
            } => self.set_certificate_enabled(thumbprint, *enabled),
            Transaction::AddAttestationSigner { signer, key } => {
                self.add_attestation_signer(signer, key.as_deref())
            }
            Transaction::RetireAttestationSigner { thumbprint } => {
                self.retire_attestation_signer(thumbprint)
            }
            Transaction::RemoveAttestationSigner { thumbprint } => {
                self.remove_attestation_signer(thumbprint)
            }
            Transaction::AddHost { id, name, host_key } => self.add_host(id, name, host_key),
            Transaction::RevokeHost { id, reason } => self.revoke_host(id, reason),
            Transaction::RemoveHost { id } => self.remove_host(id),
            Transaction::RecordAttestation(attestation) => self.record_attestation(attestation),
        }
    }

    fn set_settings(&self, settings: &Settings) -> Result<Plan, Refusal> {
        settings.check()?;
        Ok(Plan {
            before: self.state.known_settings().map(shown),
            after: Some(shown(settings)),
            changes: vec![Change::Put(Record::Settings(settings.clone()))],
        })
    }

    /// Seals the software key of `certificate`, if that is where `reference` says it lives.
    fn seal(
        &mut self,
        certificate: &Certificate,
        reference: Option<&KeyReference>,
        key: Option<&SoftwareKey>,
    ) -> Result<Option<Change>, Refusal> {
        let thumbprint = certificate.thumbprint();
        let public_key = Digest::from_bytes(*certificate.public_key().digest());
        let key = match (reference, key) {
            (Some(KeyReference::Sealed), Some(key)) => key,
            // Renewed over the same key: it is sealed already.
            (Some(KeyReference::Sealed), None) => {
                let known = self.state.private_key(&public_key).is_some();
                return known.then_some(None).ok_or(Refusal::KeyMissing(thumbprint));
            }
            (_, Some(_)) => return Err(Refusal::KeyElsewhere(thumbprint)),
            (_, None) => return Ok(None),
        };
        if key.public() != certificate.public_key() {
            return Err(Refusal::KeyMismatch(thumbprint));
        }
        let name = public_key.to_string();
        let sealed = key.seal(self.sealer, &name, self.generation, &mut *self.random);
        let sealed = sealed.map_err(|_| Refusal::NotSealed)?;
        let sealed = SealedKey { public_key, sealed };
        Ok(Some(Change::Put(Record::PrivateKey(sealed))))
    }
}

/// A record as it stands in an audit record.
fn shown(value: &impl Serialize) -> serde_json::Value {
    // Records serialise to objects with text keys, which can't fail; an audit record without the
    // value would still name the record.
    serde_json::to_value(value).unwrap_or_default()
}
