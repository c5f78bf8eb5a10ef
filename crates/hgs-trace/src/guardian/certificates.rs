//! Certificates: that there are those that are needed, and that they are as they should be.

use hgs_pki::{Time, ValidityStatus};

use super::facts::{Certificate, Facts};
use crate::{Check, Group, Judgement, Validity};

pub(super) fn checks() -> Vec<Check<Facts>> {
    vec![
        Check {
            id: "HGS-C001",
            group: Group::Certificates,
            title: "there is a primary certificate of each kind",
            fails_when: "no enabled signing, encryption or communications certificate is primary",
            remedy: "`hgs certificate list` shows what there is, `hgs certificate set THUMBPRINT --primary` makes one primary",
            after: &["HGS-D004"],
            judge: primary,
        },
        Check {
            id: "HGS-C002",
            group: Group::Certificates,
            title: "each certificate is fit for its kind",
            fails_when: "the key has less than 2048 bits; a key usage that does not allow the work, or less than 3072 bits of a primary, warns",
            remedy: "add a certificate with the key usage of its kind and make it primary",
            after: &["HGS-D004"],
            judge: fitness,
        },
        Check {
            id: "HGS-C003",
            group: Group::Certificates,
            title: "each certificate in use is valid now",
            fails_when: "it is not valid yet; one that has expired, or will within 30 days, warns: it goes on opening protectors, but owners who import the guardian are asked about it",
            remedy: "add a new certificate and make it primary; the old one goes on opening protectors",
            after: &["HGS-M001"],
            judge: validity,
        },
    ]
}

fn primary(facts: &Facts) -> Vec<Judgement> {
    let Some(state) = facts.state() else {
        return vec![];
    };
    let kinds = ["signing", "encryption", "communications"];
    let of_kind = |kind| {
        let mut certificates = state.certificates.iter();
        match certificates.find(|one| one.kind == kind && one.primary) {
            Some(found) => Judgement::pass(kind, &found.thumbprint),
            None => Judgement::fail(kind, "none is primary"),
        }
    };
    kinds.into_iter().map(of_kind).collect()
}

fn fitness(facts: &Facts) -> Vec<Judgement> {
    in_use(facts).map(fit).collect()
}

/// Bits that NIST SP 800-57 part 1 asks of keys that are to last beyond 2030.
const LASTING_BITS: usize = 3072;
const LEAST_BITS: usize = 2048;

fn fit(certificate: &Certificate) -> Judgement {
    let target = target(certificate);
    let bits = certificate.key_bits;
    let seen = format!("{bits} bits, {}", certificate.subject);
    if bits < LEAST_BITS {
        Judgement::fail(target, seen)
    } else if let Some(usage) = &certificate.lacking_key_usage {
        Judgement::warning(target, format!("its key usage lacks {usage}"))
    } else if bits < LASTING_BITS && certificate.primary && certificate.kind != "communications" {
        let remedy = "nothing at once; give the next pair 3072 bits or more".to_owned();
        Judgement::warning(
            target,
            format!("{bits} bits are no longer advised for years to come"),
        )
        .remedy(remedy)
    } else {
        Judgement::pass(target, seen)
    }
}

fn validity(facts: &Facts) -> Vec<Judgement> {
    let Some(local) = &facts.local else {
        return vec![];
    };
    in_use(facts)
        .map(|certificate| {
            let judged = valid(target(certificate), certificate.validity, local.time);
            match judged.verdict {
                // An expired certificate still opens protectors.
                crate::Verdict::Fail if certificate.validity.not_after < local.time => Judgement {
                    verdict: crate::Verdict::Warning,
                    ..judged
                },
                _ => judged,
            }
        })
        .collect()
}

/// Whether something is valid now, and for long enough.
pub(super) fn valid(target: String, validity: Validity, now: Time) -> Judgement {
    let Validity {
        not_before,
        not_after,
    } = validity;
    match hgs_pki::Validity::from(validity).status(now) {
        ValidityStatus::NotYetValid => Judgement::fail(
            target,
            format!("not valid before {not_before}; it is {now}"),
        ),
        ValidityStatus::Expired => {
            Judgement::fail(target, format!("expired at {not_after}; it is {now}"))
        }
        ValidityStatus::ExpiresSoon => {
            Judgement::warning(target, format!("expires at {not_after}"))
        }
        ValidityStatus::Valid => Judgement::pass(target, format!("valid until {not_after}")),
    }
}

/// The certificates that are used.
pub(super) fn in_use(facts: &Facts) -> impl Iterator<Item = &Certificate> {
    facts
        .state()
        .into_iter()
        .flat_map(|state| &state.certificates)
        .filter(|certificate| certificate.enabled)
}

/// How a certificate is called in findings.
pub(super) fn target(certificate: &Certificate) -> String {
    format!("{} {}", certificate.kind, certificate.thumbprint)
}
