//! What a host needs before it sends a request.

use super::facts::Facts;
use crate::{Check, Group, Judgement, PathFacts, PathKind};

pub(super) fn checks() -> Vec<Check<Facts>> {
    vec![
        Check {
            id: "HGS-H001",
            group: Group::Service,
            title: "the configuration can be read",
            fails_when: "the file is not TOML, has an unknown key, or half a pair of URLs",
            remedy: "write it again with `guarded-host configure`",
            after: &[],
            judge: readable,
        },
        Check {
            id: "HGS-H002",
            group: Group::Service,
            title: "this host is configured for a guardian",
            fails_when: "the host is in local mode",
            remedy: "run `guarded-host configure URL`",
            after: &["HGS-H001"],
            judge: guarded,
        },
        Check {
            id: "HGS-H003",
            group: Group::State,
            title: "only its owner can enter the state folder",
            fails_when: "it is absent, a link, belongs to another user, or others may enter it",
            remedy: "run `guarded-host host-key new`, or `guarded-host identity export` where the guardian attests by TPM, as the user that runs VMs: both make it",
            after: &[],
            judge: |facts| private(facts, &facts.state_folder, PathKind::Folder),
        },
        Check {
            id: "HGS-H004",
            group: Group::Keys,
            title: "only its owner can read the file of the host key",
            fails_when: "it is absent, a link, belongs to another user, or others may read it; a host whose guardians attest by TPM needs none",
            remedy: "run `guarded-host host-key new`, then register the key on the guardian with `hgs host add`",
            after: &["HGS-H003"],
            judge: host_key_file,
        },
        Check {
            id: "HGS-H005",
            group: Group::Keys,
            title: "the host key works",
            fails_when: "it can't be read, or makes no signature that verifies",
            remedy: "put the host key back from its copy, or make a new one and register it",
            after: &["HGS-H004", "HGS-H003"],
            judge: host_key,
        },
    ]
}

const CONFIGURATION: &str = "configuration";

fn readable(facts: &Facts) -> Vec<Judgement> {
    vec![match &facts.configuration {
        Ok(_) => Judgement::pass(CONFIGURATION, "every key is known"),
        Err(problem) => Judgement::fail(CONFIGURATION, problem).remedy(problem.remedy.clone()),
    }]
}

fn guarded(facts: &Facts) -> Vec<Judgement> {
    match facts.configuration {
        Err(_) => vec![],
        Ok(true) => vec![Judgement::pass(CONFIGURATION, "services are configured")],
        Ok(false) => vec![Judgement::fail(CONFIGURATION, "local mode")],
    }
}

fn private(facts: &Facts, place: &PathFacts, kind: PathKind) -> Vec<Judgement> {
    vec![match place.not_private(kind, facts.user) {
        None => Judgement::pass(&place.path, place.shown()),
        Some(problem) => Judgement::fail(&place.path, &problem).remedy(problem.remedy.clone()),
    }]
}

/// A host that attests by its TPM has no host key.
fn host_key_file(facts: &Facts) -> Vec<Judgement> {
    let mut modes = facts.services.iter().filter_map(|service| {
        let mode = service.attestation_mode.as_ref()?;
        mode.as_ref().ok()
    });
    let is_needed = facts.tpm.is_none() || modes.any(|mode| mode == "HostKey");
    match facts.host_key_file.kind {
        PathKind::Absent if !is_needed => vec![],
        _ => private(facts, &facts.host_key_file, PathKind::File),
    }
}

fn host_key(facts: &Facts) -> Vec<Judgement> {
    let path = &facts.host_key_file.path;
    match &facts.host_key {
        None => vec![],
        Some(Ok(digest)) => vec![Judgement::pass(path, format!("its SHA-256 is {digest}"))],
        Some(Err(problem)) => {
            vec![Judgement::fail(path, problem).remedy(problem.remedy.clone())]
        }
    }
}
