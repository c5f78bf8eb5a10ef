//! Signers of health certificates.

use hgs_pki::{Seconds, Time};

use super::certificates::valid;
use super::facts::{Facts, Signer, TpmMode};
use super::keys::signer_target;
use super::state::found;
use crate::{Check, Group, Judgement};

pub(super) fn checks() -> Vec<Check<Facts>> {
    vec![
        Check {
            id: "HGS-A001",
            group: Group::Attestation,
            title: "an attestation signer can sign now",
            fails_when: "every signer of our own has expired, is denied, retired, or not valid yet",
            remedy: "see the service's log for why no new signer was made; a restart makes one",
            after: &["HGS-D004", "HGS-M001"],
            judge: active,
        },
        Check {
            id: "HGS-A002",
            group: Group::Attestation,
            title: "key protection believes the attestation signer",
            fails_when: "a health certificate by the signer that signs now does not pass the checks of key protection",
            remedy: "see `hgs signer list` for a deny-before date that lies ahead",
            after: &["HGS-A001", "HGS-K004"],
            judge: believed,
        },
        Check {
            id: "HGS-A003",
            group: Group::Attestation,
            title: "the attestation signer is renewed in time",
            fails_when: "the newest signer ends within 7 days; one that should have a successor already warns",
            remedy: "see the service's log for why no new signer was made; a restart makes one",
            after: &["HGS-A001", "HGS-D006"],
            judge: renewed,
        },
        Check {
            id: "HGS-A004",
            group: Group::Attestation,
            title: "the signers of other clusters are valid",
            fails_when: "never; one that has expired, or will within 30 days, warns",
            remedy: "get the cluster's new signer and add it, or remove the old one with `hgs signer remove`",
            after: &["HGS-M001"],
            judge: others,
        },
        Check {
            id: "HGS-A005",
            group: Group::Attestation,
            title: "each host has a host key of its own and few identity keys",
            fails_when: "never; a host key that two machines use, and a host that has used a quarter of the identity keys that it may have, warn",
            remedy: "see `hgs host show NAME`; give each machine a host key of its own, by `guarded-host host-key remove` and `guarded-host host-key new` there",
            after: &["HGS-D004"],
            judge: hosts,
        },
        Check {
            id: "HGS-A006",
            group: Group::Attestation,
            title: "in TPM mode, hosts of every group can be healthy",
            fails_when: "a group with hosts has no baseline enabled, or a policy without what it compares with",
            remedy: "add what is missing with `hgs baseline add`, or enable it with `hgs policy enable`",
            after: &["HGS-D004"],
            judge: groups,
        },
        Check {
            id: "HGS-A007",
            group: Group::Attestation,
            title: "in TPM mode, somebody vouches for TPMs",
            fails_when: "never; no EK root warns: no further host can be registered but by the administrator's own word",
            remedy: "add the certificates of the makers of your TPMs with `hgs ek-root add`",
            after: &["HGS-D004"],
            judge: ek_roots,
        },
        Check {
            id: "HGS-A008",
            group: Group::Attestation,
            title: "in TPM mode, the last attempt of each host succeeded",
            fails_when: "never; a host that was refused at its last attempt warns",
            remedy: "see `hgs policy simulate --against-evidence`, and approve what was meant to change with `hgs host approve`",
            after: &["HGS-A006"],
            judge: attempts,
        },
    ]
}

fn active(facts: &Facts) -> Vec<Judgement> {
    let Some(state) = facts.state() else {
        return vec![];
    };
    let Some(active) = &state.active_signer else {
        let own = state.signers.iter().filter(|signer| signer.own).count();
        return vec![Judgement::fail(
            "attestation",
            format!("none of {own} signers of our own can sign"),
        )];
    };
    vec![Judgement::pass("attestation", format!("{active} signs"))]
}

fn believed(facts: &Facts) -> Vec<Judgement> {
    let Some(state) = facts.state() else {
        return vec![];
    };
    let (Some(active), Some(issued)) = (&state.active_signer, &state.health_certificate) else {
        return vec![];
    };
    let target = format!("attestation-signer {active}");
    let seen = "a health certificate by it passes every check; it went nowhere";
    vec![found(&target, issued, seen)]
}

/// When there is no time left to publish a successor.
const LATE: Seconds = Seconds::from_days(7);

fn renewed(facts: &Facts) -> Vec<Judgement> {
    let (Some(local), Some(state)) = (&facts.local, facts.state()) else {
        return vec![];
    };
    let own = state.signers.iter().filter(|signer| signer.own);
    let Some(newest) = own.max_by_key(|signer| signer.validity.not_after) else {
        return vec![];
    };
    let end = newest.validity.not_after;
    let late = local.time.checked_add(LATE).unwrap_or(Time::MAX);
    let target = signer_target(newest);
    vec![if late > end {
        Judgement::fail(target, format!("the newest signer ends at {end}"))
    } else if state.new_signer_due {
        Judgement::warning(
            target,
            format!("a successor is due, and was not made; it ends at {end}"),
        )
    } else {
        Judgement::pass(
            target,
            format!("it ends at {end}; its successor comes 30 days before"),
        )
    }]
}

fn others(facts: &Facts) -> Vec<Judgement> {
    let (Some(local), Some(state)) = (&facts.local, facts.state()) else {
        return vec![];
    };
    let judge = |signer: &Signer| {
        let judged = valid(signer_target(signer), signer.validity, local.time);
        match judged.verdict {
            // It is another cluster's; nothing of this guardian stops working.
            crate::Verdict::Fail => Judgement {
                verdict: crate::Verdict::Warning,
                ..judged
            },
            _ => judged,
        }
    };
    let others = state.signers.iter().filter(|signer| !signer.own);
    others.map(judge).collect()
}

fn hosts(facts: &Facts) -> Vec<Judgement> {
    let Some(state) = facts.state() else {
        return vec![];
    };
    if state.host_warnings.is_empty() {
        return vec![Judgement::pass("hosts", "none stands out")];
    }
    let warnings = state.host_warnings.iter();
    warnings
        .map(|warning| Judgement::warning("hosts", warning).remedy(warning.remedy.clone()))
        .collect()
}

fn tpm_mode(facts: &Facts) -> Option<&TpmMode> {
    facts.state()?.tpm_mode.as_ref()
}

fn groups(facts: &Facts) -> Vec<Judgement> {
    let Some(mode) = tpm_mode(facts) else {
        return vec![];
    };
    if mode.group_problems.is_empty() {
        return vec![Judgement::pass(
            "host groups",
            "each has something to match",
        )];
    }
    let problems = mode.group_problems.iter();
    problems
        .map(|problem| Judgement::fail("host groups", problem).remedy(problem.remedy.clone()))
        .collect()
}

fn ek_roots(facts: &Facts) -> Vec<Judgement> {
    let Some(mode) = tpm_mode(facts) else {
        return vec![];
    };
    vec![match mode.ek_roots {
        0 => Judgement::warning("EK roots", "there is none"),
        count => Judgement::pass("EK roots", format!("there are {count}")),
    }]
}

fn attempts(facts: &Facts) -> Vec<Judgement> {
    let Some(mode) = tpm_mode(facts) else {
        return vec![];
    };
    if mode.refused_hosts.is_empty() {
        let evidence = format!("none of {} was refused", mode.hosts);
        return vec![Judgement::pass("hosts", evidence)];
    }
    let refused = mode.refused_hosts.iter();
    refused
        .map(|refused| Judgement::warning("hosts", refused))
        .collect()
}
