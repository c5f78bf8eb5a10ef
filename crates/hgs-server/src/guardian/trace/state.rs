//! The state, its certificates and signers.

use hgs_admin::types::Warning;
use hgs_attest::signer::OwnSignerStage;
use hgs_custody_pkcs11::Usage;
use hgs_pki::Time;
use hgs_pki::health::AttestationMode;
use hgs_store::{
    AttestationSigner, AuditFilter, CertificateRecord, Credential, OpenError, Outcome, Store,
};
use hgs_trace::guardian::{Certificate, KeyTest, Signer, State, TpmMode};
use hgs_trace::{Observed, Problem};

use super::super::certification::usage;
use super::super::inspection::{host_warnings, policy_warnings};
use super::super::keys::{Holdings, Snapshot};

use super::super::requirements::lacking_key_usage;
use super::super::signers::Signers;
use super::issue;
use super::keys::work;
use super::tokens::TokenExaminer;

/// What a store holds, and how it is.
pub(super) fn examined(
    store: &Store,
    snapshot: &Snapshot,
    examiner: TokenExaminer<'_>,
    now: Time,
) -> State {
    let Snapshot { state, holdings } = snapshot;
    let signers = Signers::at(state, now);
    let active = signers.active();
    let last = store
        .audit(&AuditFilter::default(), 1)
        .ok()
        .and_then(|records| records.into_iter().next());
    let certificates = state.certificates();
    let all_signers = state.attestation_signers();
    State {
        name: state.settings().name.to_string(),
        generation: state.generation(),
        sound: sound(store),
        writable: store.check().map_err(|error| Problem::of(&error)),
        last_record: last.map(|record| record.entry.time),
        audit_records: store
            .audit_extent()
            .ok()
            .map(|extent| extent.last.saturating_sub(extent.first - 1)),
        certificates: certificates
            .map(|record| certificate(record, holdings, examiner))
            .collect(),
        signers: all_signers
            .map(|one| signer(one, &signers, holdings, examiner))
            .collect(),
        new_signer_due: signers.new_one_is_due,
        active_signer: active.map(|signer| signer.thumbprint().to_string()),
        health_certificate: active.and_then(|active| issue::believed(snapshot, active, now)),
        host_warnings: problems(host_warnings(state, now)),
        tpm_mode: tpm_mode(state),
    }
}

fn problems(warnings: Vec<Warning>) -> Vec<Problem> {
    let warnings = warnings.into_iter();
    warnings
        .map(|warning| Problem::new(warning.message).with_remedy(Some(&warning.remedy)))
        .collect()
}

fn tpm_mode(state: &hgs_store::State) -> Option<TpmMode> {
    if state.settings().attestation_mode != AttestationMode::Tpm {
        return None;
    }
    let hosts = state.hosts().filter(|host| {
        host.revoked.is_none() && matches!(host.credential, Credential::EndorsementKey(_))
    });
    let hosts: Vec<_> = hosts.collect();
    let refused = hosts.iter().filter_map(|host| {
        let attempt = host.last_attempt.as_ref()?;
        (attempt.outcome != Outcome::Done).then(|| {
            let reason = attempt.reason.as_deref().unwrap_or("no reason is kept");
            Problem::new(format!("{}: {reason}", host.name))
        })
    });
    Some(TpmMode {
        ek_roots: state.endorsement_roots().count() as u64,
        group_problems: problems(policy_warnings(state)),
        refused_hosts: refused.collect(),
        hosts: hosts.len() as u64,
    })
}

fn sound(store: &Store) -> Observed<()> {
    match store.check_pages() {
        Ok(()) => Ok(()),
        Err(OpenError::Store(error)) => Err(Problem::of(&error)),
        Err(error) => Err(Problem::of(&error)),
    }
}

fn certificate(
    record: &CertificateRecord,
    holdings: &Holdings,
    examiner: TokenExaminer<'_>,
) -> Certificate {
    let certificate = &record.certificate;
    let usage = usage(record.kind);
    Certificate {
        thumbprint: record.thumbprint().to_string(),
        kind: record.kind.to_string(),
        subject: certificate.subject().to_owned(),
        label: record.label.as_ref().map(ToString::to_string),
        lineage: record.lineage.to_string(),
        enabled: record.enabled,
        primary: record.is_primary(),
        key: examiner
            .settings
            .place(&record.thumbprint(), &record.key)
            .to_string(),
        key_bits: certificate.public_key().modulus_bits(),
        lacking_key_usage: lacking_key_usage(record.kind, certificate).map(str::to_owned),
        validity: certificate.validity().into(),
        added: record.added,
        work: record.enabled.then(|| KeyTest {
            tokens: examiner.ways(&record.key, certificate, usage),
            ..work(&holdings.keys, certificate, usage)
        }),
    }
}

fn signer(
    signer: &AttestationSigner,
    signers: &Signers<'_>,
    holdings: &Holdings,
    examiner: TokenExaminer<'_>,
) -> Signer {
    let mut own = signers.own().iter();
    let signs = own.any(|(one, stage)| {
        one.thumbprint() == signer.thumbprint() && *stage != OwnSignerStage::Retired
    });
    Signer {
        thumbprint: signer.thumbprint().to_string(),
        own: signer.is_own(),
        validity: signer.certificate.validity().into(),
        work: signs.then(|| {
            let (certificate, usage) = (&signer.certificate, Usage::Sign);
            let ways = |reference| examiner.ways(reference, certificate, usage);
            KeyTest {
                tokens: signer.key.as_ref().map(ways).unwrap_or_default(),
                ..work(&holdings.keys, certificate, usage)
            }
        }),
    }
}
