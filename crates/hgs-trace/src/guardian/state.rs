//! The folder, the master key, the database.

use super::facts::{DiskSpace, Facts, LocalFacts};
use crate::{Check, Group, Judgement, Observed, PathFacts, PathKind};

pub(super) fn checks() -> Vec<Check<Facts>> {
    vec![
        Check {
            id: "HGS-D001",
            group: Group::State,
            title: "only its owner can enter the state folder",
            fails_when: "it is absent, a link, belongs to another user, or others may enter it",
            remedy: "run `hgs init`, or set server.state to the folder that it made",
            after: &["HGS-S001"],
            judge: |facts| private(facts, PathKind::Folder, |local| &local.state_folder),
        },
        Check {
            id: "HGS-D002",
            group: Group::State,
            title: "only its owner can read the file of the master key",
            fails_when: "it is absent, a link, belongs to another user, or others may read it",
            remedy: "where no guardian was made yet, run `hgs init`; otherwise set server.master_key to the master key of this state, without which the state is lost",
            after: &["HGS-D001"],
            judge: |facts| private(facts, PathKind::File, |local| &local.master_key_file),
        },
        Check {
            id: "HGS-D003",
            group: Group::State,
            title: "the master key can be read",
            fails_when: "the service's user can't read it, it is not 32 octets long, or they are not random",
            remedy: "put the master key of this state back from its copy; for one that is not random see `hgs serve`",
            after: &["HGS-D002"],
            judge: master_key,
        },
        Check {
            id: "HGS-D005",
            group: Group::State,
            title: "the disk of the state has room",
            fails_when: "less than 8 MiB are free, or no more than a few files can be made; less than 256 MiB warns",
            remedy: "make room on the disk of the state folder: nothing is released that can't be recorded",
            after: &["HGS-D001"],
            judge: space,
        },
        Check {
            id: "HGS-D007",
            group: Group::State,
            title: "the state is not older than its high-water mark",
            fails_when: "the state has not come as far as its high-water mark, has another history, or its mark is missing",
            remedy: "put the newest copy of the whole state folder back, or go on with this one by `hgs state accept`",
            after: &["HGS-D005", "HGS-D003", "HGS-D001", "HGS-S004"],
            judge: not_rolled_back,
        },
        Check {
            id: "HGS-D004",
            group: Group::State,
            title: "the state is sound",
            fails_when: "the state can't be opened, was written under another master key, or is damaged or tampered with",
            remedy: "`hgs serve` names the cause; move the state folder away and make the guardian of its newest backup",
            after: &["HGS-D007", "HGS-D005", "HGS-D003", "HGS-D001", "HGS-S004"],
            judge: sound,
        },
        Check {
            id: "HGS-D006",
            group: Group::State,
            title: "the state can be written",
            fails_when: "a commit that changes nothing fails",
            remedy: "see the disk and the mount options of the state folder; nothing is released meanwhile",
            after: &["HGS-Q003", "HGS-D005", "HGS-D004"],
            judge: writable,
        },
        Check {
            id: "HGS-D008",
            group: Group::State,
            title: "the audit log in the database is short enough for a fast start",
            fails_when: "never; more than a million records in the database warn, as all are read at each start",
            remedy: "move old records to archives: `hgs audit archive --keep 90d`",
            after: &["HGS-D004"],
            judge: audit_log,
        },
    ]
}

fn private(facts: &Facts, kind: PathKind, which: fn(&LocalFacts) -> &PathFacts) -> Vec<Judgement> {
    let Some(local) = &facts.local else {
        return vec![];
    };
    let place = which(local);
    let Some(problem) = place.not_private(kind, local.user) else {
        return vec![Judgement::pass(&place.path, place.shown())];
    };
    let owner = place.owner.unwrap_or_default();
    let remedy = if local.process.is_none() && owner != local.user && place.mode.is_some() {
        // The service may well run as that user.
        Some(format!(
            "run this as the user that the service runs as: `sudo -u '#{owner}' hgs trace`"
        ))
    } else {
        problem.remedy.clone()
    };
    vec![Judgement::fail(&place.path, problem).remedy(remedy)]
}

fn master_key(facts: &Facts) -> Vec<Judgement> {
    let Some(local) = &facts.local else {
        return vec![];
    };
    let read = "it has 32 octets";
    vec![found(&local.master_key_file.path, &local.master_key, read)]
}

fn not_rolled_back(facts: &Facts) -> Vec<Judgement> {
    let Some((local, mark)) = facts
        .local
        .as_ref()
        .and_then(|local| Some((local, local.high_water_mark.as_ref()?)))
    else {
        return vec![];
    };
    let seen = "it had come as far when it was opened";
    vec![found(&local.state_folder.path, mark, seen)]
}

fn sound(facts: &Facts) -> Vec<Judgement> {
    let Some(local) = &facts.local else {
        return vec![];
    };
    let target = &local.state_folder.path;
    match &local.state {
        None => vec![],
        Some(Err(problem)) => {
            vec![Judgement::fail(target, problem).remedy(problem.remedy.clone())]
        }
        Some(Ok(state)) => {
            let seen = format!(
                "state of {}, generation {}, every record verified when it was opened",
                state.name, state.generation
            );
            vec![found(target, &state.sound, &seen)]
        }
    }
}

fn space(facts: &Facts) -> Vec<Judgement> {
    let local = facts.local.as_ref();
    let Some((local, disk)) = local.and_then(|local| Some((local, local.disk.as_ref()?))) else {
        return vec![];
    };
    let target = &local.state_folder.path;
    vec![match disk.space() {
        DiskSpace::Full => Judgement::fail(target, disk),
        DiskSpace::Little => Judgement::warning(target, disk),
        DiskSpace::Enough => Judgement::pass(target, disk),
    }]
}

fn writable(facts: &Facts) -> Vec<Judgement> {
    let target = facts.local.as_ref().map(|local| &local.state_folder.path);
    let (Some(target), Some(state)) = (target, facts.state()) else {
        return vec![];
    };
    vec![found(target, &state.writable, "a commit reached the disk")]
}

/// Records in the database with which a start takes several seconds longer.
pub const MANY_AUDIT_RECORDS: u64 = 1_000_000;

fn audit_log(facts: &Facts) -> Vec<Judgement> {
    let local = facts.local.as_ref();
    let records = facts.state().and_then(|state| state.audit_records);
    let (Some(local), Some(records)) = (local, records) else {
        return vec![];
    };
    let target = &local.state_folder.path;
    let seen = format!("{records} audit records are in the database and are read at each start");
    vec![match records > MANY_AUDIT_RECORDS {
        true => Judgement::warning(target, seen),
        false => Judgement::pass(target, seen),
    }]
}

/// Passes with `seen`, or fails with the problem.
pub(super) fn found<T>(target: &str, found: &Observed<T>, seen: &str) -> Judgement {
    match found {
        Ok(_) => Judgement::pass(target, seen),
        Err(problem) => Judgement::fail(target, problem).remedy(problem.remedy.clone()),
    }
}
