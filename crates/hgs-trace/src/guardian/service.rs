//! Whether the service is configured and runs.

use super::facts::{Facts, Listener, Service};
use super::state::found;
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
            id: "HGS-S004",
            group: Group::Service,
            title: "the service answers this user",
            fails_when: "the socket or the service refuses this user, or gives no answer within 5 s, or none about its keys within 30 s",
            remedy: "run this as root or as a member of one of the groups in [listen.admin]",
            after: &["HGS-S001"],
            judge: answers,
        },
        Check {
            id: "HGS-S005",
            group: Group::Service,
            title: "a service that does not run could open its listeners",
            fails_when: "the address of a listener is taken or not this machine's, or its port is privileged and this user may not open it",
            remedy: "see who listens there with `ss -ltnp`, and end that, or choose another address or port",
            after: &["HGS-S001", "HGS-S002"],
            judge: openable,
        },
    ]
}

/// Whether it runs is asked after everything that keeps it from starting.
pub(super) fn running() -> Vec<Check<Facts>> {
    vec![Check {
        id: "HGS-S003",
        group: Group::Service,
        title: "the service runs",
        fails_when: "nothing listens at the administrators' socket, and no other check names what keeps the service from starting",
        remedy: "start it with `hgs serve` or `systemctl start openhgs`; if it runs by another configuration, name that with --config",
        after: &[
            "HGS-S001", "HGS-S002", "HGS-S005", "HGS-D001", "HGS-D002", "HGS-D003", "HGS-D005",
            "HGS-D007", "HGS-D004", "HGS-D006", "HGS-N001", "HGS-Q013",
        ],
        judge: runs,
    }]
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
    // The service knows its own limits and privileges, and the settings that it runs by.
    let by_service = facts
        .local
        .as_ref()
        .and_then(|local| local.settings.as_ref());
    let settings = by_service.unwrap_or(settings);
    let wrong: Vec<_> = settings
        .iter()
        .filter(|setting| !ELSEWHERE.contains(&&*setting.name))
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

fn openable(facts: &Facts) -> Vec<Judgement> {
    let listeners = facts.local.iter().flat_map(|local| &local.listeners);
    let judge = |listener: &Listener| found(&listener.name, &listener.free, "it is free");
    listeners.map(judge).collect()
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
