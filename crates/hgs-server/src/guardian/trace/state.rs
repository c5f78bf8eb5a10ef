//! The state, its certificates and signers.

use hgs_attest::signer::SignerStage;
use hgs_pki::{KeyUsage, Time};
use hgs_store::{
    AttestationSigner, AuditFilter, CertificateKind, CertificateRecord, OpenError, Store,
};
use hgs_trace::guardian::{Certificate, Signer, State, Work};
use hgs_trace::{Found, Problem};

use super::super::keys::{Holdings, Snapshot};
use super::super::signers::Signers;
use super::issue;
use super::keys::{Use, work};
use super::tokens::Examiner;

/// What a store holds, and how it is.
pub(super) fn examined(
    store: &Store,
    snapshot: &Snapshot,
    examiner: Examiner<'_>,
    now: Time,
) -> State {
    let Snapshot { state, holdings } = snapshot;
    let signers = Signers::at(state, now);
    let active = signers.active();
    let last = store.audit(&AuditFilter::default(), 1).ok();
    let last = last.and_then(|records| records.into_iter().next());
    let certificates = state.certificates();
    let all_signers = state.attestation_signers();
    State {
        name: state.settings().name.to_string(),
        generation: state.generation(),
        sound: sound(store),
        writable: store.check().map_err(|error| Problem::of(&error)),
        last_record: last.map(|record| record.entry.time),
        certificates: certificates
            .map(|record| certificate(record, holdings, examiner))
            .collect(),
        signers: all_signers
            .map(|one| signer(one, &signers, holdings, examiner))
            .collect(),
        new_signer_due: signers.new_one_is_due,
        active_signer: active.map(|signer| signer.thumbprint().to_string()),
        health_certificate: active.and_then(|active| issue::believed(snapshot, active, now)),
    }
}

fn sound(store: &Store) -> Found<()> {
    match store.check_pages() {
        Ok(()) => Ok(()),
        Err(OpenError::Store(error)) => Err(Problem::of(&error)),
        Err(error) => Err(Problem::of(&error)),
    }
}

fn certificate(
    record: &CertificateRecord,
    holdings: &Holdings,
    examiner: Examiner<'_>,
) -> Certificate {
    let certificate = &record.certificate;
    let allows = |usage| {
        let usages = certificate.key_usage();
        usages.is_none_or(|usages| usages.contains(usage))
    };
    let for_use = match record.kind {
        CertificateKind::Encryption => Use::Decryption,
        CertificateKind::Signing | CertificateKind::Communications => Use::Signing,
    };
    Certificate {
        thumbprint: record.thumbprint().to_string(),
        kind: match record.kind {
            CertificateKind::Signing => "signing",
            CertificateKind::Encryption => "encryption",
            CertificateKind::Communications => "communications",
        }
        .to_owned(),
        subject: certificate.subject().to_owned(),
        label: record.label.as_ref().map(ToString::to_string),
        lineage: record.lineage.to_string(),
        enabled: record.enabled,
        primary: record.is_primary(),
        key: record.key.to_string(),
        key_bits: certificate.public_key().modulus_bits(),
        may_sign: allows(KeyUsage::DIGITAL_SIGNATURE),
        may_encrypt: allows(KeyUsage::KEY_ENCIPHERMENT) || allows(KeyUsage::DATA_ENCIPHERMENT),
        validity: certificate.validity().into(),
        added: record.added,
        work: record.enabled.then(|| Work {
            tokens: examiner.ways(&record.key, certificate, for_use),
            ..work(&holdings.keys, certificate, for_use)
        }),
    }
}

fn signer(
    signer: &AttestationSigner,
    signers: &Signers<'_>,
    holdings: &Holdings,
    examiner: Examiner<'_>,
) -> Signer {
    let mut own = signers.own().iter();
    let signs = own.any(|(one, stage)| {
        one.thumbprint() == signer.thumbprint() && *stage != SignerStage::Retired
    });
    Signer {
        thumbprint: signer.thumbprint().to_string(),
        own: signer.is_own(),
        validity: signer.certificate.validity().into(),
        work: signs.then(|| {
            let (certificate, for_use) = (&signer.certificate, Use::Signing);
            let ways = |reference| examiner.ways(reference, certificate, for_use);
            Work {
                tokens: signer.key.as_ref().map(ways).unwrap_or_default(),
                ..work(&holdings.keys, certificate, for_use)
            }
        }),
    }
}
