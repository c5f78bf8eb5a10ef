//! Records of the store as administrators see them.

use std::fmt::Display;

use hgs_admin::types::{
    AttestationMode, AuditRecord, Certificate, CertificateDetail, DeniedHost, Host, IdentityKey,
    NamedAction, RemovedHost, Revocation, Signer, SignerStage,
};
use hgs_attest::signer::OwnSignerStage;
use hgs_crypto::hex;
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

pub(super) fn certificate(record: &CertificateRecord, usable: bool) -> Certificate {
    let certificate = &record.certificate;
    let validity = certificate.validity();
    Certificate {
        thumbprint: record.thumbprint().to_string(),
        kind: record.kind,
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
pub(super) fn signer(signer: &AttestationSigner, stage: Option<OwnSignerStage>) -> Signer {
    let validity = signer.certificate.validity();
    Signer {
        thumbprint: signer.thumbprint().to_string(),
        subject: signer.certificate.subject().to_owned(),
        label: text(signer.label.as_ref()),
        own: signer.is_own(),
        stage: match stage {
            None => SignerStage::Trusted,
            Some(OwnSignerStage::Pending) => SignerStage::Pending,
            Some(OwnSignerStage::Active) => SignerStage::Active,
            Some(OwnSignerStage::Retired) => SignerStage::Retired,
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
        kind: identity.kind,
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
        action: NamedAction::Known(entry.action),
        outcome: entry.outcome,
        reason: entry.reason,
        host: entry.host,
        host_name: entry.host_name,
        serial: text(entry.serial.as_ref()),
        policy: text(entry.policy),
        protector: text(entry.protector),
        egress_protector: text(entry.egress_protector),
        standing: entry.standing,
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

fn text(value: Option<impl Display>) -> Option<String> {
    value.map(|value| value.to_string())
}
