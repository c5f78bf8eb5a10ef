//! Records of the store as administrators see them.

use std::fmt::Display;

use hgs_admin::types::{
    Action, AttestationMode, AuditRecord, Certificate, CertificateDetail, CertificateKind,
    DeniedHost, Host, IdentityKey, IdentityKind, Outcome, RemovedHost, Revocation, Signer,
    SignerStage, Standing,
};
use hgs_attest::signer::SignerStage as StageOfOwn;
use hgs_crypto::hex;
use hgs_kps::CertificateKind as StoredKind;
use hgs_pki::health::HealthKind;
use hgs_store::{
    AttestationMode as StoredMode, AttestationSigner, AuditRecord as StoredAuditRecord,
    CertificateRecord, DeniedHost as StoredDenied, Host as StoredHost, HostIdentity,
    RemovedHost as StoredRemoved, Revocation as StoredRevocation,
};

pub(super) fn attestation_mode(mode: StoredMode) -> AttestationMode {
    match mode {
        StoredMode::HostKey => AttestationMode::HostKey,
    }
}

fn kind(kind: StoredKind) -> CertificateKind {
    match kind {
        StoredKind::Signing => CertificateKind::Signing,
        StoredKind::Encryption => CertificateKind::Encryption,
        StoredKind::Communications => CertificateKind::Communications,
    }
}

pub(super) fn stored_kind(kind: CertificateKind) -> StoredKind {
    match kind {
        CertificateKind::Signing => StoredKind::Signing,
        CertificateKind::Encryption => StoredKind::Encryption,
        CertificateKind::Communications => StoredKind::Communications,
    }
}

pub(super) fn certificate(record: &CertificateRecord, usable: bool) -> Certificate {
    let certificate = &record.certificate;
    let validity = certificate.validity();
    Certificate {
        thumbprint: record.thumbprint().to_string(),
        kind: kind(record.kind),
        subject: certificate.subject().to_owned(),
        label: text(record.label.as_ref()),
        lineage: record.lineage.to_string(),
        enabled: record.enabled,
        primary: record.is_primary(),
        head: record.head,
        compromised: text(record.compromised),
        retired: text(record.retired),
        key: record.key.to_string(),
        key_bits: certificate.public_key().modulus_bits(),
        usable,
        not_before: validity.not_before.to_string(),
        not_after: validity.not_after.to_string(),
        added: record.added.to_string(),
    }
}

pub(super) fn certificate_detail(record: &CertificateRecord, usable: bool) -> CertificateDetail {
    let whole = &record.certificate;
    CertificateDetail {
        certificate: certificate(record, usable),
        issuer: whole.issuer().to_owned(),
        serial_number: hex::encode(whole.serial_number()),
        sha1_thumbprint: whole.sha1_thumbprint(),
        pem: whole.to_pem(),
    }
}

/// `stage` is absent for a signer of another cluster.
pub(super) fn signer(signer: &AttestationSigner, stage: Option<StageOfOwn>) -> Signer {
    let validity = signer.certificate.validity();
    Signer {
        thumbprint: signer.thumbprint().to_string(),
        subject: signer.certificate.subject().to_owned(),
        label: text(signer.label.as_ref()),
        own: signer.is_own(),
        stage: match stage {
            None => SignerStage::Trusted,
            Some(StageOfOwn::Pending) => SignerStage::Pending,
            Some(StageOfOwn::Active) => SignerStage::Active,
            Some(StageOfOwn::Retired) => SignerStage::Retired,
        },
        deny_before: text(signer.deny_before),
        denied_serial_numbers: signer.deny_list.len(),
        maximum_validity_seconds: signer.maximum_validity_seconds.map(u64::from),
        not_before: validity.not_before.to_string(),
        not_after: validity.not_after.to_string(),
        added: signer.added.to_string(),
        pem: signer.certificate.to_pem(),
    }
}

pub(super) fn host(host: &StoredHost) -> Host {
    Host {
        name: host.name.to_string(),
        id: host.id.to_string(),
        host_key_digest: host.host_key_digest().to_string(),
        added: host.added.to_string(),
        last_attested: text(host.last_attested),
        revoked: host.revoked.as_ref().map(revocation),
    }
}

pub(super) fn removed_host(removed: &StoredRemoved) -> RemovedHost {
    RemovedHost {
        name: removed.name.to_string(),
        id: removed.id.to_string(),
        host_key_digest: removed.host_key.to_string(),
        removed: removed.removed.to_string(),
        by: removed.by.clone(),
        revoked: removed.revoked.as_ref().map(revocation),
        readmitted: text(removed.readmitted),
    }
}

pub(super) fn denied_host(denied: &StoredDenied) -> DeniedHost {
    DeniedHost {
        policy_digest: denied.policy.to_string(),
        denied: revocation(&denied.denied),
    }
}

fn revocation(stored: &StoredRevocation) -> Revocation {
    Revocation {
        time: stored.time.to_string(),
        reason: stored.reason.clone(),
        by: stored.by.clone(),
    }
}

pub(super) fn identity_key(identity: &HostIdentity) -> IdentityKey {
    IdentityKey {
        digest: identity.public_key.to_string(),
        kind: match identity.kind {
            HealthKind::Encryption => IdentityKind::Encryption,
            HealthKind::Signing => IdentityKind::Signing,
        },
        first_seen: identity.first_seen.to_string(),
        superseded: text(identity.superseded),
        returned: text(identity.returned),
    }
}

pub(super) fn audit_record(record: StoredAuditRecord) -> AuditRecord {
    let entry = record.entry;
    let changes = record.changes.iter();
    AuditRecord {
        sequence: record.sequence,
        time: entry.time.to_string(),
        node: record.node,
        actor: entry.actor,
        action: action(entry.action),
        outcome: outcome(entry.outcome),
        reason: entry.reason,
        host: entry.host,
        host_name: entry.host_name,
        serial: text(entry.serial.as_ref()),
        policy: text(entry.policy),
        protector: text(entry.protector),
        egress_protector: text(entry.egress_protector),
        standing: entry.standing.map(standing),
        owner: text(entry.owner),
        guardian: text(entry.guardian),
        lineage: text(entry.lineage),
        count: entry.count,
        generation: record.generation,
        before: entry.before,
        after: entry.after,
        changes: changes
            .map(|change| {
                let sign = if change.removed { "-" } else { "" };
                format!("{sign}{}/{}", change.kind, change.name)
            })
            .collect(),
    }
}

fn action(action: hgs_store::Action) -> Action {
    use hgs_store::Action as Stored;
    match action {
        Stored::SetSettings => Action::SetSettings,
        Stored::AddCertificate => Action::AddCertificate,
        Stored::EnableCertificate => Action::EnableCertificate,
        Stored::DisableCertificate => Action::DisableCertificate,
        Stored::SetHead => Action::SetHead,
        Stored::SetCertificateLabel => Action::SetCertificateLabel,
        Stored::SetCompromised => Action::SetCompromised,
        Stored::RetireCertificate => Action::RetireCertificate,
        Stored::RemoveCertificate => Action::RemoveCertificate,
        Stored::SetRekeyWindow => Action::SetRekeyWindow,
        Stored::AddAttestationSigner => Action::AddAttestationSigner,
        Stored::SetAttestationSigner => Action::SetAttestationSigner,
        Stored::RetireAttestationSigner => Action::RetireAttestationSigner,
        Stored::RemoveAttestationSigner => Action::RemoveAttestationSigner,
        Stored::AddHost => Action::AddHost,
        Stored::RevokeHost => Action::RevokeHost,
        Stored::RemoveHost => Action::RemoveHost,
        Stored::ReadmitHostKey => Action::ReadmitHostKey,
        Stored::DenyHost => Action::DenyHost,
        Stored::AllowHost => Action::AllowHost,
        Stored::ReturnIdentityKey => Action::ReturnIdentityKey,
        Stored::ExportState => Action::ExportState,
        Stored::ImportState => Action::ImportState,
        Stored::RotateMasterKey => Action::RotateMasterKey,
        Stored::ArchiveAudit => Action::ArchiveAudit,
        Stored::AcceptState => Action::AcceptState,
        Stored::Attest => Action::Attest,
        Stored::Release => Action::Release,
        Stored::Trace => Action::Trace,
    }
}

fn outcome(outcome: hgs_store::Outcome) -> Outcome {
    match outcome {
        hgs_store::Outcome::Done => Outcome::Done,
        hgs_store::Outcome::Refused => Outcome::Refused,
    }
}

fn standing(standing: hgs_store::Standing) -> Standing {
    match standing {
        hgs_store::Standing::New => Standing::New,
        hgs_store::Standing::Head => Standing::Head,
        hgs_store::Standing::Sibling => Standing::Sibling,
        hgs_store::Standing::Ancestor => Standing::Ancestor,
    }
}

fn text(value: Option<impl Display>) -> Option<String> {
    value.map(|value| value.to_string())
}
