//! Records of the store as administrators see them.

use std::fmt::Display;

use hgs_admin::types::{
    AttestationMode, AuditRecord, Certificate, CertificateDetail, DeniedHost, EkRoot, Host,
    IdentityKey, LastAttempt, NamedAction, OfflineUse, RemovedHost, Revocation, Signer,
    SignerStage, Tpm,
};
use hgs_attest::signer::OwnSignerStage;
use hgs_attest::{Credential, CredentialId};
use hgs_crypto::hex;
use hgs_pki::endorsement::EndorsementCertificate;
use hgs_store::{
    AttestationSigner, AuditRecord as StoredAuditRecord, CertificateRecord,
    DeniedHost as StoredDenied, EndorsementRoot, Host as StoredHost, HostIdentity,
    LastAttempt as StoredAttempt, Outcome, RemovedHost as StoredRemoved,
    Revocation as StoredRevocation,
};

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
        nodes: None,
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
    let credential = host.credential.id();
    let (host_key_digest, endorsement_key_digest) = digests(&credential);
    Host {
        name: host.name.to_string(),
        id: host.id.to_string(),
        attestation_mode: mode_of(&credential),
        host_key_digest,
        endorsement_key_digest,
        group: text(host.group),
        added: host.added.to_string(),
        last_attested: text(host.last_attested),
        certificate_expires: text(host.certificate_expires),
        last_attempt: host.last_attempt.as_deref().map(last_attempt),
        revoked: host.revoked.as_ref().map(revocation),
    }
}

pub(super) fn last_attempt(attempt: &StoredAttempt) -> LastAttempt {
    LastAttempt {
        time: attempt.time.to_string(),
        healthy: attempt.outcome == Outcome::Done,
        reason: attempt.reason.clone(),
        failed_policies: attempt.failed.clone(),
        policies_digest: text(attempt.policies),
        difference_digest: text(attempt.difference),
        evidence_digest: text(attempt.evidence),
    }
}

/// How a host with this credential attests.
fn mode_of(credential: &CredentialId) -> AttestationMode {
    match credential {
        CredentialId::HostKey(_) => AttestationMode::HostKey,
        CredentialId::EndorsementKey(_) => AttestationMode::Tpm,
    }
}

/// The digest of a host key, and that of an endorsement key; one of them is there.
fn digests(credential: &CredentialId) -> (Option<String>, Option<String>) {
    let digest = Some(hex::encode(credential.digest()));
    match credential {
        CredentialId::HostKey(_) => (digest, None),
        CredentialId::EndorsementKey(_) => (None, digest),
    }
}

/// The TPM of a host, if it is known by one.
pub(super) fn tpm(host: &StoredHost) -> Option<Tpm> {
    let Some(Credential::EndorsementKey(key)) = host.credential.read() else {
        return None;
    };
    let platform = &host.platform;
    let certificate = platform.endorsement_certificate.as_deref();
    let certificate = certificate.and_then(|der| EndorsementCertificate::from_octets(der).ok());
    let model = certificate.as_ref().map(|one| one.tpm().clone());
    let model = model.unwrap_or_default();
    Some(Tpm {
        endorsement_key: hgs_pki::pem::encode("PUBLIC KEY", key.key().spki_der()),
        endorsement_certificate: certificate.as_ref().map(EndorsementCertificate::to_pem),
        issuer: certificate.as_ref().map(|one| one.issuer().to_owned()),
        manufacturer: model.manufacturer_code().or(model.manufacturer),
        model: model.model,
        firmware: model.version,
        system_uuid: platform.system_uuid.clone(),
        system_serial_number: platform.system_serial_number.clone(),
    })
}

/// `unused` says why an intermediate certificate leads to no root.
pub(super) fn ek_root(root: &EndorsementRoot, unused: Option<String>) -> EkRoot {
    let certificate = &root.certificate;
    let validity = certificate.validity();
    EkRoot {
        thumbprint: root.thumbprint().to_string(),
        subject: certificate.subject().to_owned(),
        issuer: certificate.issuer().to_owned(),
        root: root.is_root,
        unused,
        not_before: validity.not_before.to_string(),
        not_after: validity.not_after.to_string(),
        added: root.added.to_string(),
    }
}

pub(super) fn removed_host(removed: &StoredRemoved) -> RemovedHost {
    let (host_key_digest, endorsement_key_digest) = digests(&removed.credential);
    RemovedHost {
        name: removed.name.to_string(),
        id: removed.id.to_string(),
        host_key_digest,
        endorsement_key_digest,
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
        request: entry.request,
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
        offline_use: entry.offline_use.map(|granted| OfflineUse {
            unwraps: granted.unwraps,
            until: granted.until.to_string(),
        }),
        count: entry.count,
        generation: record.generation,
        before: entry.before,
        after: entry.after,
        changes: changes.map(ToString::to_string).collect(),
    }
}

fn text(value: Option<impl Display>) -> Option<String> {
    value.map(|value| value.to_string())
}
