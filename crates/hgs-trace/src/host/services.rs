//! The services of a host's guardian, as the host sees them.

use hgs_pki::{Seconds, Time};

use super::facts::{Facts, Service};
use crate::guardian::{answers, connected, resolved, trusted};
use crate::{Check, Clocks, Group, Judgement, Observed, Reachability, Verdict};

pub(super) fn checks() -> Vec<Check<Facts>> {
    let mut checks = reaching();
    checks.extend(answering());
    checks
}

fn reaching() -> Vec<Check<Facts>> {
    vec![
        Check {
            id: "HGS-H006",
            group: Group::Network,
            title: "the name in the URL has an address",
            fails_when: "the name of a configured URL can't be resolved within 5 s; where another node of the guardian can be reached, this warns",
            remedy: "check the host's name in the URL, and this host's DNS",
            after: &["HGS-H002"],
            judge: |facts| by_some_node(facts, reached(facts, resolved)),
        },
        Check {
            id: "HGS-H007",
            group: Group::Network,
            title: "the service accepts connections at the URL",
            fails_when: "no address of a configured URL accepts a connection within 5 s; where another node does, this warns",
            remedy: "check that the guardian runs, the port in the URL, and the firewalls in between",
            after: &["HGS-H006"],
            judge: |facts| by_some_node(facts, reached(facts, connected)),
        },
        Check {
            id: "HGS-H008",
            group: Group::Network,
            title: "TLS at the URL is trusted",
            fails_when: "the certificate is not for the name in the URL, no configured authority vouches for it, it has expired, or the handshake takes more than 10 s; where another node can be reached, this warns",
            remedy: "check the name in the URL; for a certification authority of your own, run `guarded-host configure` with --ca FILE",
            after: &["HGS-H007"],
            judge: |facts| by_some_node(facts, reached(facts, trusted)),
        },
        Check {
            id: "HGS-H015",
            group: Group::Network,
            title: "something answers over HTTP at the URL",
            fails_when: "no whole answer comes within 10 s, or what comes is not HTTP; where another node answers, this warns",
            remedy: "see on the guardian, with `hgs trace`, whether the service hangs or is overloaded; check the port in the URL",
            after: &["HGS-H007", "HGS-H008"],
            judge: |facts| by_some_node(facts, reached(facts, answers)),
        },
        Check {
            id: "HGS-H009",
            group: Group::Machine,
            title: "the clocks of host and service agree",
            fails_when: "they differ by more than 5 minutes; more than 30 seconds warns",
            remedy: "set the clocks of this host and of the guardian right and keep them so with NTP: `timedatectl`",
            after: &["HGS-H015"],
            judge: |facts| reached(facts, clocks_agree),
        },
    ]
}

fn answering() -> Vec<Check<Facts>> {
    vec![
        Check {
            id: "HGS-H010",
            group: Group::Protocols,
            title: "attestation answers at the URL",
            fails_when: "`getinfo` of [MS-HGSA] gives no answer of the protocol within 10 s; where another node gives one, this warns",
            remedy: "check the attestation URL: it ends in /Attestation, as a rule",
            after: &["HGS-H007", "HGS-H008", "HGS-H015"],
            judge: attestation,
        },
        Check {
            id: "HGS-H011",
            group: Group::Protocols,
            title: "host and service attest in the same mode",
            fails_when: "the service attests neither by host keys nor by TPMs",
            remedy: "see on the guardian: `hgs server set --attestation-mode tpm` or `host-key`",
            after: &["HGS-H010"],
            judge: mode,
        },
        Check {
            id: "HGS-H012",
            group: Group::Protocols,
            title: "key protection answers at the URL",
            fails_when: "the metadata of [MS-KPS] gives no answer of the protocol within 10 s, or its signatures do not hold; where another node gives a good one, this warns",
            remedy: "check the key protection URL: it ends in /KeyProtection, as a rule",
            after: &["HGS-H007", "HGS-H008", "HGS-H015"],
            judge: key_protection,
        },
        Check {
            id: "HGS-H013",
            group: Group::Attestation,
            title: "the last attempt to attest succeeded",
            fails_when: "a service refused or failed, or the host never attested",
            remedy: "run `guarded-host attest`",
            after: &[
                "HGS-H005", "HGS-H017", "HGS-H018", "HGS-H019", "HGS-H021", "HGS-H022", "HGS-H023",
                "HGS-H010", "HGS-H011",
            ],
            judge: last_attempt,
        },
        Check {
            id: "HGS-H014",
            group: Group::Attestation,
            title: "the host holds a valid health certificate",
            fails_when: "it holds none of the primary that is valid now; one that should have been renewed warns",
            remedy: "run `guarded-host attest`; a start of a VM does the same",
            after: &["HGS-H013", "HGS-H009"],
            judge: health_certificate,
        },
        Check {
            id: "HGS-H016",
            group: Group::Attestation,
            title: "nothing will keep the host from attesting soon",
            fails_when: "never; an identity key that another has taken the place of, many new identity keys, and a clock that is more than 30 seconds off warn",
            remedy: "see `guarded-host status`",
            after: &["HGS-H002"],
            judge: warnings,
        },
    ]
}

/// Judges each listener once, though it serves both protocols: a fault on the way to it is one cause.
fn reached(facts: &Facts, judge: fn(&Reachability) -> Option<Judgement>) -> Vec<Judgement> {
    let mut judged: Vec<Judgement> = Vec::new();
    let reaches = facts
        .services
        .iter()
        .flat_map(|service| [&service.attestation, &service.key_protection]);
    for reach in reaches {
        let seen = judged.iter().any(|one| one.target == reach.origin());
        if !seen && let Some(judgement) = judge(reach) {
            judged.push(Judgement {
                target: reach.origin().to_owned(),
                ..judgement
            });
        }
    }
    judged
}

/// What fails at one node of a guardian is a warning, if both its services can be had at others.
fn by_some_node(facts: &Facts, judged: Vec<Judgement>) -> Vec<Judgement> {
    let passed: Vec<_> = judged
        .iter()
        .filter(|one| one.verdict != Verdict::Fail)
        .map(|one| one.target.clone())
        .collect();
    let works = |reach: &Reachability| reach.is_open() || passed.contains(&reach.origin().into());
    let is_replaced = |target: &str| {
        [Service::attestation, Service::key_protection]
            .iter()
            .all(|reach| {
                let concerned = |service: &&Service| reach(service).origin() == target;
                facts.services.iter().filter(concerned).all(|service| {
                    let mut nodes = facts.services.iter();
                    nodes.any(|other| other.side == service.side && works(reach(other)))
                })
            })
    };
    let judge = |one: Judgement| match one.verdict {
        Verdict::Fail if is_replaced(&one.target) => of_one_node(one),
        _ => one,
    };
    judged.into_iter().map(judge).collect()
}

fn of_one_node(judgement: Judgement) -> Judgement {
    Judgement {
        verdict: Verdict::Warning,
        evidence: format!("{}; another node answers in its place", judgement.evidence),
        ..judgement
    }
}

/// Certificates begin to be valid this long before their issue, for hosts that are late.
const FATAL: Seconds = Seconds::from_minutes(5);
const NOTICEABLE: Seconds = Seconds::new(30);

fn clocks_agree(reach: &Reachability) -> Option<Judgement> {
    let Clocks { there, here } = reach.clocks?;
    let (ahead, word) = match here.since(there) {
        Some(ahead) => (ahead, "ahead"),
        None => (there.since(here)?, "behind"),
    };
    let seen = format!("this host is {} s {word}", ahead.get());
    Some(match ahead {
        _ if ahead > FATAL => Judgement::fail(&reach.url, seen),
        _ if ahead > NOTICEABLE => Judgement::warning(&reach.url, seen),
        _ => Judgement::pass(&reach.url, seen),
    })
}

fn attestation(facts: &Facts) -> Vec<Judgement> {
    answered(facts, Service::attestation, |service| {
        let mode = service.attestation_mode.as_ref()?;
        let seen = mode.as_deref().unwrap_or_default();
        Some((mode.clone().map(drop), format!("it attests by {seen}")))
    })
}

fn mode(facts: &Facts) -> Vec<Judgement> {
    let judge = |service: &Service| {
        let mode = service.attestation_mode.as_ref()?.as_ref().ok()?;
        let url = &service.attestation.url;
        Some(match &**mode {
            "HostKey" | "Tpm" => Judgement::pass(url, mode),
            _ => Judgement::fail(url, format!("the service attests by {mode}")),
        })
    };
    facts.services.iter().filter_map(judge).collect()
}

fn key_protection(facts: &Facts) -> Vec<Judgement> {
    answered(facts, Service::key_protection, |service| {
        let metadata = service.metadata.as_ref()?;
        let seen = metadata.as_deref().unwrap_or_default();
        let seen = format!("the guardian's signing certificate is {seen}");
        Some((metadata.clone().map(drop), seen))
    })
}

/// Judges each service separately. A service that could not be asked does not work; one that a node has in its place does.
fn answered(
    facts: &Facts,
    reach: fn(&Service) -> &Reachability,
    answer: impl Fn(&Service) -> Option<(Observed<()>, String)>,
) -> Vec<Judgement> {
    let judge = |service| {
        let reach = reach(service);
        if !reach.is_open() {
            return Some(Judgement::fail(&reach.url, "it could not be asked"));
        }
        let (found, seen) = answer(service)?;
        Some(match found {
            Ok(()) => Judgement::pass(&reach.url, seen),
            Err(problem) => Judgement::fail(&reach.url, &problem).remedy(problem.remedy),
        })
    };
    let mut judged: Vec<(&str, Judgement)> = Vec::new();
    for service in &facts.services {
        // Nodes may share a URL of one service.
        let seen = |one: &(&str, Judgement)| one.1.target == reach(service).url;
        if !judged.iter().any(seen)
            && let Some(judgement) = judge(service)
        {
            judged.push((&service.side, judgement));
        }
    }
    let works = |side: &str| {
        let mut nodes = judged.iter();
        nodes.any(|(other, one)| *other == side && one.verdict != Verdict::Fail)
    };
    let replaced = |(side, one): &(&str, Judgement)| match one.verdict {
        Verdict::Fail if works(side) => of_one_node(one.clone()),
        _ => one.clone(),
    };
    judged.iter().map(replaced).collect()
}

fn last_attempt(facts: &Facts) -> Vec<Judgement> {
    let Some(primary) = facts.services.first() else {
        return vec![];
    };
    vec![match &facts.last_attempt {
        None => Judgement::fail(&primary.attestation.url, "this host never attested"),
        Some(attempt) => match &attempt.message {
            None => Judgement::pass(&attempt.url, "a health certificate was issued"),
            Some(message) => Judgement::fail(&attempt.url, message).remedy(attempt.remedy.clone()),
        },
    }]
}

fn health_certificate(facts: &Facts) -> Vec<Judgement> {
    let judge = |service: &Service| held(service, facts.time);
    // The fallback is asked when the primary fails, and not before.
    facts.services.iter().take(1).map(judge).collect()
}

fn held(service: &Service, now: Time) -> Judgement {
    let url = &service.attestation.url;
    let Some(held) = &service.health_certificate else {
        return Judgement::fail(url, "there is none");
    };
    let end = held.expires;
    if now > end {
        Judgement::fail(url, format!("it ended at {end}; it is {now}"))
    } else if now > held.renewed_from {
        Judgement::warning(url, format!("it ends at {end} and was not renewed"))
    } else {
        Judgement::pass(url, format!("number {}, until {end}", held.serial_number))
    }
}

fn warnings(facts: &Facts) -> Vec<Judgement> {
    let Some(primary) = facts.services.first() else {
        return vec![];
    };
    let url = &primary.attestation.url;
    if facts.warnings.is_empty() {
        return vec![Judgement::pass(
            url,
            "the last attempts to attest show nothing",
        )];
    }
    let warnings = facts.warnings.iter();
    warnings
        .map(|warning| Judgement::warning(url, warning).remedy(warning.remedy.clone()))
        .collect()
}
