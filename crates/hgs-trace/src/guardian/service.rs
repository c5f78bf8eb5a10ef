//! Whether the service is configured and runs.

use super::facts::{Facts, Service};
use crate::{Check, Group, Judgement};

pub(super) fn checks() -> Vec<Check<Facts>> {
    vec![
        Check {
            id: "HGS-S001",
            group: Group::Service,
            title: "the configuration can be read",
            fails_when: "the file is absent though it was named, is not TOML, or has an unknown key or a value out of range",
            remedy: "correct the file; docs/configuration.md describes every key",
            after: &[],
            judge: readable,
        },
        Check {
            id: "HGS-S002",
            group: Group::Service,
            title: "the configuration can work on this machine",
            fails_when: "`hgs server check` finds an error that no other check here is about; its warnings are warnings",
            remedy: "see `hgs server check`",
            after: &["HGS-S001"],
            judge: workable,
        },
        Check {
            id: "HGS-S003",
            group: Group::Service,
            title: "the service runs",
            fails_when: "nobody listens at the administrators' socket",
            remedy: "start it with `hgs serve` or `systemctl start openhgs`, or name its socket with --socket",
            after: &["HGS-S001"],
            judge: runs,
        },
        Check {
            id: "HGS-S004",
            group: Group::Service,
            title: "the service answers this user",
            fails_when: "the socket or the service refuses this user, or gives no answer",
            remedy: "run this as root or as a member of one of the groups in [listen.admin]",
            after: &["HGS-S001"],
            judge: answers,
        },
    ]
}

/// What the settings are judged as together.
const CONFIGURATION: &str = "configuration";
const SERVICE: &str = "service";

fn readable(facts: &Facts) -> Vec<Judgement> {
    match &facts.configuration {
        None => vec![],
        Some(Ok(_)) => vec![Judgement::pass(CONFIGURATION, "every key is known")],
        Some(Err(problem)) => {
            vec![Judgement::fail(CONFIGURATION, problem).remedy(problem.remedy.clone())]
        }
    }
}

/// Settings whose failures have checks of their own here.
const ELSEWHERE: &[&str] = &[
    "server.state",
    "server.master_key",
    "listen.https.certificate",
    "listen.https.key",
];

fn workable(facts: &Facts) -> Vec<Judgement> {
    let Some(Ok(settings)) = &facts.configuration else {
        return vec![];
    };
    let wrong = settings
        .iter()
        .filter(|setting| !ELSEWHERE.contains(&&*setting.name));
    let wrong: Vec<_> = wrong
        .map(|setting| {
            let (name, problem) = (&setting.name, &setting.problem);
            let judgement = match setting.prevents {
                true => Judgement::fail(name, problem),
                false => Judgement::warning(name, problem),
            };
            judgement.remedy(problem.remedy.clone())
        })
        .collect();
    if wrong.is_empty() {
        return vec![Judgement::pass(CONFIGURATION, "nothing was found")];
    }
    wrong
}

fn runs(facts: &Facts) -> Vec<Judgement> {
    match &facts.service {
        None => vec![],
        Some(Service::NotRunning(problem)) => {
            vec![Judgement::fail(SERVICE, problem).remedy(problem.remedy.clone())]
        }
        Some(_) => vec![Judgement::pass(SERVICE, "it listens at its socket")],
    }
}

fn answers(facts: &Facts) -> Vec<Judgement> {
    match &facts.service {
        None | Some(Service::NotRunning(_)) => vec![],
        Some(Service::Answers) => vec![Judgement::pass(SERVICE, "it answered")],
        Some(Service::Forbidden(problem) | Service::NoAnswer(problem)) => {
            vec![Judgement::fail(SERVICE, problem).remedy(problem.remedy.clone())]
        }
    }
}
