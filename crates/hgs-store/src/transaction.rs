//! The named transactions: everything that may change a [`State`].
//!
//! A transaction is planned against a state, which decides whether it may happen and yields the
//! records it writes; planning changes nothing. So a refused transaction leaves no trace but its
//! audit record, and the same plan can later be carried out on another engine.

mod certificates;
mod endorsement_roots;
mod hosts;
mod policies;
mod signers;

use std::sync::Arc;

use hgs_attest::CredentialId;
use hgs_attest::policy::{NextBootClaim, PolicyName, UsedAlternative};
use hgs_crypto::Random;
use hgs_custody::seal::Sealer;
use hgs_custody::{KeyReference, PrivateKey as _, SoftwareKey};
use hgs_pki::{Certificate, Thumbprint, Time};
use serde::Serialize;

use crate::State;
use crate::audit::{Action, AuditEntry, Outcome, RequestId};
use crate::change::{Change, Record, RecordKey};
use crate::evidence::Attempted;
use crate::level::{Format, Level, Levels};
use crate::model::{
    AttestationSigner, CertificateRecord, Digest, DocumentKind, EndorsementRoot,
    HostMeasurementsRecord, HostName, KeyCaching, MAX_REKEY_WINDOW, Platform, SealedKey, Settings,
    SettingsError, ShortName,
};
use crate::record::RecordKind;
use crate::refusal::{MAX_DENIED, MAX_REASON_LENGTH, Refusal};
use hgs_kps::{Label, Lineage};
use hgs_pki::SerialNumber;
use hgs_pki::health::{AttestationMode, HealthKind, HostId};

pub(crate) use certificates::fit_metadata;

/// A change of the state, as it is requested.
#[derive(Debug, Clone)]
pub enum Transaction {
    /// Raises the level of the format: every node must be able to read it. See the module `level`.
    RaiseLevel(Level),
    /// Replaces the settings of the service.
    SetSettings(Settings),
    /// Adds a certificate of the key protection service.
    AddCertificate {
        /// The record; it may be a head only where its lineage has none of its kind.
        record: CertificateRecord,
        /// The private key, where the record says it is sealed here.
        key: Option<Arc<SoftwareKey>>,
    },
    /// Enables or disables a certificate. The primary ones can't be disabled; the head of a tenant's
    /// lineage can, and is its head no more.
    SetCertificateEnabled {
        /// Which certificate.
        thumbprint: Thumbprint,
        /// Whether it is enabled from now on.
        enabled: bool,
    },
    /// Makes a certificate the head of its lineage for its kind; the former head stays enabled.
    SetHead {
        /// Which certificate.
        thumbprint: Thumbprint,
        /// Whether it is to be the primary certificate: then it must be the fabric's.
        primary: bool,
    },
    /// Changes what people call a certificate.
    SetCertificateLabel {
        /// Which certificate.
        thumbprint: Thumbprint,
        /// What it is called from now on.
        label: Option<Label>,
    },
    /// The key of a certificate is known to others: rolls shut it out, for good. Every certificate
    /// over the same key is marked.
    SetCompromised {
        /// Which certificate.
        thumbprint: Thumbprint,
        /// Since when; it can be moved back in time later, not forth.
        since: Time,
    },
    /// A certificate opens and signs as before, and is never a head again.
    RetireCertificate {
        /// Which certificate.
        thumbprint: Thumbprint,
    },
    /// Forgets a certificate, and its sealed key unless something else needs it.
    RemoveCertificate {
        /// Which certificate.
        thumbprint: Thumbprint,
        /// Also if protectors were last opened with it, or it is compromised.
        even_if_needed: bool,
    },
    /// Opens the re-key window, or closes it.
    SetRekeyWindow {
        /// Until when it is open.
        until: Option<Time>,
    },
    /// Changes how hosts attest. What the other mode needs stays.
    SetAttestationMode(AttestationMode),
    /// Whether healthy hosts may add to their own records what they will boot next.
    SetNextBootClaims {
        /// Whether that is accepted from now on.
        accept: bool,
    },
    /// What hosts may do with released keys while the service is away.
    SetKeyCaching(Option<KeyCaching>),
    /// Adds a signer of health certificates.
    AddAttestationSigner {
        /// The record.
        signer: AttestationSigner,
        /// The private key, where the record says it is sealed here.
        key: Option<Arc<SoftwareKey>>,
    },
    /// Changes which certificates of a signer are believed, or what it is called.
    SetAttestationSigner {
        /// Which signer.
        thumbprint: Thumbprint,
        /// What changes.
        change: SignerChange,
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
    AddHost(NewHost),
    /// Bars a host and keeps its record.
    RevokeHost {
        /// Which host.
        id: HostId,
        /// Why, for people.
        reason: String,
    },
    /// Moves a host into a group, or out of any.
    SetHostGroup {
        /// Which host.
        id: HostId,
        /// The group; absent for the default group.
        group: Option<ShortName>,
    },
    /// Says what only one host measures, or that it measures nothing of its own.
    SetHostMeasurements {
        /// Which host.
        id: HostId,
        /// What this was made from.
        expected: ExpectedMeasurements,
        /// The document.
        text: Option<Arc<str>>,
        /// What was approved, for the audit log.
        note: Option<serde_json::Value>,
    },
    /// A healthy host says what it will boot next: it is staged in the host's own record, if that is accepted.
    AcceptNextBoot {
        /// Which host.
        id: HostId,
        /// What it says, and its TPM has confirmed.
        claim: Box<NextBootClaim>,
    },
    /// Makes a group of hosts.
    NewHostGroup(ShortName),
    /// Forgets a group of hosts, which must have none.
    RemoveHostGroup(ShortName),
    /// Adds a document that measurements are compared with, and enables it.
    AddPolicyDocument {
        /// What it is called.
        name: ShortName,
        /// Its kind.
        kind: DocumentKind,
        /// The document.
        text: Arc<str>,
        /// The group it is enabled for; absent for all that say nothing else.
        group: Option<ShortName>,
    },
    /// Replaces a document.
    ChangePolicyDocument {
        /// Which.
        name: ShortName,
        /// SHA-256 of the text that the change was made from. If it is given, the document must still have that.
        expected: Option<Digest>,
        /// The document from now on.
        text: Arc<str>,
        /// What was approved, for the audit log.
        note: Option<serde_json::Value>,
    },
    /// A healthy host has used alternatives that were predicted: they do not expire any more.
    PromoteAlternatives {
        /// Which host.
        id: HostId,
        /// What it used.
        used: Vec<UsedAlternative>,
    },
    /// Forgets a document.
    RemovePolicyDocument(ShortName),
    /// Enables or disables a policy or a document.
    SetPolicy {
        /// The group it is for; absent for the default group.
        group: Option<ShortName>,
        /// Which.
        policy: PolicySelector,
        /// Whether it is enabled from now on; absent to have it as it is by default.
        enabled: Option<bool>,
    },
    /// Takes a host out of the registry. Its credential can't be registered again before it is readmitted.
    RemoveHost {
        /// Which host.
        id: HostId,
    },
    /// The credential of a host that was removed may be registered again.
    ReadmitHost {
        /// Its host key or its TPM.
        credential: CredentialId,
    },
    /// A host of another cluster gets no keys here.
    DenyHost {
        /// The policy digest of its health certificates.
        policy: Digest,
        /// Why, for people.
        reason: String,
    },
    /// A host that was denied is denied no longer.
    AllowHost {
        /// The policy digest of its health certificates.
        policy: Digest,
    },
    /// Trusts an authority to vouch for TPMs.
    AddEndorsementRoot(EndorsementRoot),
    /// Trusts an authority no longer. Hosts that were registered stay registered.
    RemoveEndorsementRoot {
        /// Which authority.
        thumbprint: Thumbprint,
    },
    /// A host has attested and is about to get a health certificate.
    RecordAttestation(Attestation),
    /// A host has presented an identity key that was superseded. It is recorded once for each key, and shows, when it
    /// happens again with another, that two machines have one host key.
    RecordReturnedIdentity {
        /// Which host.
        host: HostId,
        /// SHA-256 of the identity key's SubjectPublicKeyInfo.
        identity_key: Digest,
    },
}

/// What is enabled or disabled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicySelector {
    /// A policy.
    Policy(PolicyName),
    /// A document.
    Document(ShortName),
}

/// A host that is registered.
#[derive(Debug, Clone)]
pub struct NewHost {
    /// A fresh id ([`HostId::random`]).
    pub id: HostId,
    /// What it is called.
    pub name: HostName,
    /// What it proves that it holds.
    pub credential: hgs_attest::Credential,
    /// What else is known of a host with a TPM. Its EK certificate has been checked.
    pub platform: Platform,
    /// The group that it belongs to.
    pub group: Option<ShortName>,
}

impl NewHost {
    /// Whether it has a TPM, and no certificate says that it is one.
    pub(crate) fn is_vouched_for(&self) -> bool {
        let has_tpm = matches!(self.credential, hgs_attest::Credential::EndorsementKey(_));
        has_tpm && self.platform.endorsement_certificate.is_none()
    }
}

/// What changes about a signer.
#[derive(Debug, Clone)]
pub enum SignerChange {
    /// Certificates issued before this are refused.
    DenyBefore(Option<Time>),
    /// Certificates valid for longer than so many seconds are refused; not for our own signers.
    MaximumValiditySeconds(Option<u32>),
    /// What people call it.
    Label(Option<Label>),
    /// The certificate with this serial number is refused.
    Deny(SerialNumber),
    /// The certificate with this serial number is no longer refused.
    Allow(SerialNumber),
}

/// What an attestation leaves behind.
#[derive(Debug, Clone)]
pub struct Attestation {
    /// Which host.
    pub host: HostId,
    /// What its identity key is for.
    pub kind: HealthKind,
    /// SHA-256 of the identity key's SubjectPublicKeyInfo.
    pub identity_key: Digest,
    /// Whether the request was shown to have been made now.
    pub returned_nonce: bool,
    /// The serial number of the health certificate.
    pub serial: SerialNumber,
    /// The digest of the policy that was evaluated.
    pub policy: Digest,
    /// When the health certificate ends.
    pub expires: Option<Time>,
    /// What its TPM proved.
    pub attempted: Option<Box<Attempted>>,
}

/// What a change of a host's own measurements was made from. It is refused if that was changed meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedMeasurements {
    /// It was not looked at.
    Any,
    /// The host had none.
    None,
    /// The document with this digest.
    Digest(Digest),
}

impl ExpectedMeasurements {
    /// What was read is still there.
    #[must_use]
    pub fn still(read: Option<&HostMeasurementsRecord>) -> Self {
        read.map_or(Self::None, |read| Self::Digest(read.digest()))
    }
}

/// Who asks for a transaction, and when.
#[derive(Debug, Clone)]
pub struct Act {
    /// When.
    pub time: Time,
    /// Who: a user of the administration socket, a host, or the service itself.
    pub actor: String,
    /// The request that it came by; none where the service acts by itself, or a program beside it.
    pub request: Option<RequestId>,
}

impl Act {
    /// Of nobody's request.
    #[must_use]
    pub fn new(time: Time, actor: impl Into<String>) -> Self {
        Self {
            time,
            actor: actor.into(),
            request: None,
        }
    }

    /// The same by a request.
    #[must_use]
    pub fn by_request(self, request: RequestId) -> Self {
        Self {
            request: Some(request),
            ..self
        }
    }

    /// What is recorded of it first.
    #[must_use]
    pub fn entry(&self, action: Action, outcome: Outcome) -> AuditEntry {
        AuditEntry {
            request: self.request,
            ..AuditEntry::new(self.time, self.actor.clone(), action, outcome)
        }
    }
}

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
    /// How many recorded protectors need the certificate that a transaction removes.
    pub(crate) needed_by: u64,
    pub(crate) sealer: &'a Sealer,
    pub(crate) random: &'a mut dyn Random,
}

impl Plan {
    /// The level of the format once it is carried out.
    pub(crate) fn level(&self) -> Option<Level> {
        self.changes.iter().find_map(|change| match change {
            Change::Put(Record::Format(format)) => Some(format.level),
            _ => None,
        })
    }
}

impl Transaction {
    /// Whether an administrator asks for it, rather than a host.
    pub(crate) fn is_administrative(&self) -> bool {
        !matches!(
            self,
            Self::RecordAttestation(_)
                | Self::RecordReturnedIdentity { .. }
                | Self::PromoteAlternatives { .. }
                | Self::AcceptNextBoot { .. }
        )
    }

    /// What it is called in the audit log.
    #[must_use]
    pub fn action(&self) -> Action {
        match self {
            Self::RaiseLevel(_) => Action::RaiseLevel,
            Self::SetSettings(_) => Action::SetSettings,
            Self::AddCertificate { .. } => Action::AddCertificate,
            Self::SetCertificateEnabled { enabled: true, .. } => Action::EnableCertificate,
            Self::SetCertificateEnabled { enabled: false, .. } => Action::DisableCertificate,
            Self::SetHead { .. } => Action::SetHead,
            Self::SetCertificateLabel { .. } => Action::SetCertificateLabel,
            Self::SetCompromised { .. } => Action::SetCompromised,
            Self::RetireCertificate { .. } => Action::RetireCertificate,
            Self::RemoveCertificate { .. } => Action::RemoveCertificate,
            Self::SetRekeyWindow { .. } => Action::SetRekeyWindow,
            Self::SetAttestationMode(_) => Action::SetAttestationMode,
            Self::SetNextBootClaims { .. } => Action::SetNextBootClaims,
            Self::SetKeyCaching(_) => Action::SetKeyCaching,
            Self::AcceptNextBoot { .. } => Action::AcceptNextBoot,
            Self::AddAttestationSigner { .. } => Action::AddAttestationSigner,
            Self::SetAttestationSigner { .. } => Action::SetAttestationSigner,
            Self::RetireAttestationSigner { .. } => Action::RetireAttestationSigner,
            Self::RemoveAttestationSigner { .. } => Action::RemoveAttestationSigner,
            Self::AddHost(_) => Action::AddHost,
            Self::RevokeHost { .. } => Action::RevokeHost,
            Self::RemoveHost { .. } => Action::RemoveHost,
            Self::SetHostGroup { .. } => Action::SetHostGroup,
            Self::SetHostMeasurements { .. } => Action::SetHostMeasurements,
            Self::NewHostGroup(_) => Action::NewHostGroup,
            Self::RemoveHostGroup(_) => Action::RemoveHostGroup,
            Self::AddPolicyDocument { .. } => Action::AddPolicyDocument,
            Self::ChangePolicyDocument { .. } => Action::ChangePolicyDocument,
            Self::PromoteAlternatives { .. } => Action::PromoteAlternatives,
            Self::RemovePolicyDocument(_) => Action::RemovePolicyDocument,
            Self::SetPolicy {
                enabled: Some(true),
                ..
            } => Action::EnablePolicy,
            Self::SetPolicy {
                enabled: Some(false),
                ..
            } => Action::DisablePolicy,
            Self::SetPolicy { enabled: None, .. } => Action::ResetPolicy,
            Self::ReadmitHost {
                credential: CredentialId::HostKey(_),
            } => Action::ReadmitHostKey,
            Self::ReadmitHost {
                credential: CredentialId::EndorsementKey(_),
            } => Action::ReadmitEndorsementKey,
            Self::AddEndorsementRoot(_) => Action::AddEndorsementRoot,
            Self::RemoveEndorsementRoot { .. } => Action::RemoveEndorsementRoot,
            Self::DenyHost { .. } => Action::DenyHost,
            Self::AllowHost { .. } => Action::AllowHost,
            Self::RecordAttestation(_) => Action::Attest,
            Self::RecordReturnedIdentity { .. } => Action::ReturnIdentityKey,
        }
    }

    /// The lineage of the certificate that it is about.
    pub(crate) fn lineage(&self, state: &State) -> Option<Lineage> {
        let thumbprint = match self {
            Self::AddCertificate { record, .. } => return Some(record.lineage.clone()),
            Self::SetCertificateEnabled { thumbprint, .. }
            | Self::SetHead { thumbprint, .. }
            | Self::SetCertificateLabel { thumbprint, .. }
            | Self::SetCompromised { thumbprint, .. }
            | Self::RetireCertificate { thumbprint }
            | Self::RemoveCertificate { thumbprint, .. } => thumbprint,
            _ => return None,
        };
        let record = state.certificate(thumbprint)?;
        Some(record.lineage.clone())
    }

    /// The record that it depends on without writing it: a host must be in good standing when it attests.
    pub(crate) fn basis(&self) -> Option<RecordKey> {
        match self {
            Self::RecordAttestation(attestation) => Some(RecordKey::Host(attestation.host)),
            Self::RecordReturnedIdentity { host, .. } => Some(RecordKey::Host(*host)),
            Self::AcceptNextBoot { id, .. } => Some(RecordKey::Host(*id)),
            _ => None,
        }
    }

    /// The host it is about, and what that is called.
    pub(crate) fn host<'a>(&'a self, state: &'a State) -> Option<(HostId, Option<&'a HostName>)> {
        let id = match self {
            Self::AddHost(host) => return Some((host.id, Some(&host.name))),
            Self::RevokeHost { id, .. }
            | Self::RemoveHost { id }
            | Self::SetHostGroup { id, .. }
            | Self::SetHostMeasurements { id, .. }
            | Self::PromoteAlternatives { id, .. }
            | Self::AcceptNextBoot { id, .. } => *id,
            Self::RecordAttestation(attestation) => attestation.host,
            Self::RecordReturnedIdentity { host, .. } => *host,
            Self::ReadmitHost { credential } => {
                let removed = state.removed_host(credential)?;
                return Some((removed.id, Some(&removed.name)));
            }
            _ => return None,
        };
        Some((id, state.host(&id).map(|host| &host.name)))
    }
}

impl Planner<'_> {
    /// Decides whether `transaction` may happen, and what it writes.
    pub(crate) fn plan(&mut self, transaction: &Transaction) -> Result<Plan, Refusal> {
        let plan = self.plan_single(transaction)?;
        let is_of_certificates = |change: &Change| change.key().kind() == RecordKind::Certificate;
        if plan.changes.iter().any(is_of_certificates) {
            self.check_metadata(&plan.changes)?;
        }
        match transaction {
            // What is accepted already is accepted for longer: every set compiles as before.
            Transaction::PromoteAlternatives { .. } => self.check_documents(&plan.changes)?,
            _ => self.check_policies(&plan.changes)?,
        }
        Ok(plan)
    }

    fn plan_single(&mut self, transaction: &Transaction) -> Result<Plan, Refusal> {
        match transaction {
            Transaction::RaiseLevel(level) => self.raise_level(*level),
            Transaction::SetSettings(settings) => self.set_settings(settings),
            Transaction::AddCertificate { record, key } => {
                self.add_certificate(record, key.as_deref())
            }
            Transaction::SetCertificateEnabled {
                thumbprint,
                enabled,
            } => self.set_certificate_enabled(thumbprint, *enabled),
            Transaction::SetHead {
                thumbprint,
                primary,
            } => self.set_head(thumbprint, *primary),
            Transaction::SetCertificateLabel { thumbprint, label } => {
                self.set_certificate_label(thumbprint, label.as_ref())
            }
            Transaction::SetCompromised { thumbprint, since } => {
                self.set_compromised(thumbprint, *since)
            }
            Transaction::RetireCertificate { thumbprint } => self.retire_certificate(thumbprint),
            Transaction::RemoveCertificate {
                thumbprint,
                even_if_needed,
            } => self.remove_certificate(thumbprint, *even_if_needed),
            Transaction::SetRekeyWindow { until } => self.set_rekey_window(*until),
            Transaction::SetAttestationMode(mode) => self.set_settings(&Settings {
                attestation_mode: *mode,
                ..self.state.settings().clone()
            }),
            Transaction::SetNextBootClaims { accept } => self.set_settings(&Settings {
                accept_next_boot_claims: *accept,
                ..self.state.settings().clone()
            }),
            Transaction::SetKeyCaching(key_caching) => self.set_settings(&Settings {
                key_caching: *key_caching,
                ..self.state.settings().clone()
            }),
            Transaction::AcceptNextBoot { id, claim } => self.accept_next_boot(id, claim),
            Transaction::SetAttestationSigner { thumbprint, change } => {
                self.set_attestation_signer(thumbprint, change)
            }
            Transaction::AddAttestationSigner { signer, key } => {
                self.add_attestation_signer(signer, key.as_deref())
            }
            Transaction::RetireAttestationSigner { thumbprint } => {
                self.retire_attestation_signer(thumbprint)
            }
            Transaction::RemoveAttestationSigner { thumbprint } => {
                self.remove_attestation_signer(thumbprint)
            }
            Transaction::AddHost(host) => self.add_host(host),
            Transaction::RevokeHost { id, reason } => self.revoke_host(id, reason),
            Transaction::RemoveHost { id } => self.remove_host(id),
            Transaction::SetHostGroup { id, group } => self.set_host_group(id, *group),
            Transaction::SetHostMeasurements {
                id,
                expected,
                text,
                note,
            } => self.set_host_measurements(id, expected, text.as_ref(), note.as_ref()),
            Transaction::NewHostGroup(name) => self.new_host_group(name),
            Transaction::RemoveHostGroup(name) => self.remove_host_group(name),
            Transaction::AddPolicyDocument {
                name,
                kind,
                text,
                group,
            } => self.add_policy_document(name, *kind, text, *group),
            Transaction::ChangePolicyDocument {
                name,
                expected,
                text,
                note,
            } => self.change_policy_document(name, expected.as_ref(), text, note.as_ref()),
            Transaction::PromoteAlternatives { id, used } => self.promote_alternatives(id, used),
            Transaction::RemovePolicyDocument(name) => self.remove_policy_document(name),
            Transaction::SetPolicy {
                group,
                policy,
                enabled,
            } => self.set_policy(*group, policy, *enabled),
            Transaction::ReadmitHost { credential } => self.readmit_host(credential),
            Transaction::DenyHost { policy, reason } => self.deny_host(policy, reason),
            Transaction::AllowHost { policy } => self.allow_host(policy),
            Transaction::AddEndorsementRoot(root) => self.add_endorsement_root(root),
            Transaction::RemoveEndorsementRoot { thumbprint } => {
                self.remove_endorsement_root(thumbprint)
            }
            Transaction::RecordAttestation(attestation) => self.record_attestation(attestation),
            Transaction::RecordReturnedIdentity { host, identity_key } => {
                self.record_returned_identity(host, identity_key)
            }
        }
    }

    fn raise_level(&self, to: Level) -> Result<Plan, Refusal> {
        let level = self.state.level();
        if to <= level || !Levels::of_this_program().contain(to) {
            return Err(Refusal::LevelNotRaised { level, to });
        }
        let format = Format::of(to);
        Ok(Plan {
            before: Some(shown(&Format::of(level))),
            after: Some(shown(&format)),
            changes: vec![Change::Put(Record::Format(format))],
        })
    }

    fn set_settings(&self, settings: &Settings) -> Result<Plan, Refusal> {
        settings.check()?;
        Ok(Plan {
            before: self.state.known_settings().map(shown),
            after: Some(shown(settings)),
            changes: vec![Change::Put(Record::Settings(settings.clone()))],
        })
    }

    fn set_rekey_window(&self, until: Option<Time>) -> Result<Plan, Refusal> {
        let latest = self
            .act
            .time
            .checked_add(MAX_REKEY_WINDOW)
            .unwrap_or(Time::MAX);
        if until.is_some_and(|until| until > latest) {
            return Err(SettingsError::RekeyWindow.into());
        }
        self.set_settings(&Settings {
            rekey_window_until: until,
            ..self.state.settings().clone()
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
        let sealed = key
            .seal(self.sealer, &name, self.generation, &mut *self.random)
            .map_err(|_| Refusal::NotSealed)?;
        let sealed = SealedKey { public_key, sealed };
        Ok(Some(Change::Put(Record::PrivateKey(sealed))))
    }
}

impl Planner<'_> {
    /// The sealed key of `certificate`, if nothing needs it any more when the one record of that
    /// certificate is gone (attacks.md K4: a key must not outlive what it was for).
    fn orphaned_key(&self, certificate: &Certificate) -> Option<Change> {
        let key = certificate.public_key();
        let public_key = Digest::from_bytes(*key.digest());
        self.state.private_key(&public_key)?;
        let signers = self.state.attestation_signers();
        let certificates = self.state.certificates().map(|record| &record.certificate);
        let users = signers
            .map(|signer| &signer.certificate)
            .chain(certificates)
            .filter(|user| user.public_key() == key)
            .count();
        (users <= 1).then_some(Change::Remove(RecordKey::PrivateKey(public_key)))
    }
}

/// A record as it stands in an audit record.
fn shown(value: &impl Serialize) -> serde_json::Value {
    // Records serialise to objects with text keys, which can't fail; an audit record without the
    // value would still name the record.
    serde_json::to_value(value).unwrap_or_default()
}
