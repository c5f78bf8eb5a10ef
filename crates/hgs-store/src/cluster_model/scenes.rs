//! What is explored, and how far; and which faults are found in which scene.

use std::collections::BTreeSet;
use std::time::Instant;

use hgs_fault::Fault;
use stateright::{Checker, HasDiscoveries, Model, UniformChooser};

use super::job::Task;
use super::world::Left;
use super::*;

/// A host is revoked while it asks, and answers are lost.
fn revocation() -> Scene {
    Scene {
        name: "revocation",
        is_strict: true,
        queue: 1,
        nodes: 2,
        left: Left {
            requests: [2, 0],
            tasks: vec![Task::Revoke],
            lost: 1,
            ..Left::default()
        },
        events: &[
            Event::Released,
            Event::RefusedAtRequest,
            Event::RefusedAtCommit,
            Event::TaskDone,
            Event::DecidedAgain,
        ],
    }
}

/// The VM moves between hosts, or does not arrive, and a copy of its disk is started.
fn migration() -> Scene {
    Scene {
        name: "migration",
        is_strict: true,
        queue: 1,
        nodes: 2,
        left: Left {
            requests: [2, 1],
            copies: 1,
            ..Left::default()
        },
        events: &[Event::Released, Event::RefusedAtCommit, Event::Kept],
    }
}

/// Copies of a VM go on side by side on one node; superseded protectors are released and reported.
fn siblings() -> Scene {
    Scene {
        name: "siblings",
        is_strict: false,
        nodes: 1,
        left: Left {
            requests: [4, 0],
            copies: 1,
            ..Left::default()
        },
        events: &[Event::Released, Event::Kept],
        ..migration()
    }
}

/// Releases and attestations that do not wait for each other.
fn side_by_side() -> Scene {
    Scene {
        name: "side by side",
        left: Left {
            requests: [2, 0],
            attestations: vec![1],
            ..Left::default()
        },
        events: &[Event::Released, Event::Attested, Event::Kept],
        ..migration()
    }
}

/// The tenant's pair is followed by another and removed.
fn removal() -> Scene {
    Scene {
        name: "removal",
        left: Left {
            requests: [1, 0],
            tasks: vec![Task::Rotate, Task::Remove],
            ..Left::default()
        },
        events: &[
            Event::Released,
            Event::TaskDone,
            Event::TaskRefused,
            Event::Kept,
        ],
        ..migration()
    }
}

/// The tenant's pair is followed by another and retired.
fn retirement() -> Scene {
    Scene {
        name: "retirement",
        left: Left {
            requests: [1, 0],
            tasks: vec![Task::Rotate, Task::Retire],
            ..Left::default()
        },
        events: &[Event::Released, Event::TaskDone, Event::Kept],
        ..migration()
    }
}

/// The tenant's pair is compromised.
fn compromise() -> Scene {
    Scene {
        name: "compromise",
        is_strict: true,
        queue: 1,
        nodes: 2,
        left: Left {
            requests: [1, 0],
            tasks: vec![Task::Rotate, Task::Compromise],
            ..Left::default()
        },
        events: &[
            Event::Released,
            Event::RefusedAtCommit,
            Event::TaskDone,
            Event::Kept,
        ],
    }
}

/// The tenant's pair is disabled.
fn disabling() -> Scene {
    Scene {
        name: "disabling",
        is_strict: true,
        queue: 1,
        nodes: 2,
        left: Left {
            requests: [1, 0],
            tasks: vec![Task::Disable],
            ..Left::default()
        },
        events: &[Event::Released, Event::RefusedAtCommit, Event::TaskDone],
    }
}

/// An old backup is taken in after a revocation, a compromise or the removal of a host.
fn backup() -> Scene {
    Scene {
        name: "backup",
        is_strict: true,
        queue: 1,
        nodes: 2,
        left: Left {
            tasks: vec![Task::Revoke, Task::Rotate, Task::Compromise, Task::Merge],
            ..Left::default()
        },
        events: &[Event::TaskDone, Event::DecidedAgain],
    }
}

fn backup_with_removed_host() -> Scene {
    Scene {
        name: "backup with a removed host",
        left: Left {
            requests: [1, 0],
            tasks: vec![Task::RemoveHost, Task::Merge],
            ..Left::default()
        },
        ..backup()
    }
}

/// Proposals are lost, come twice or late, and nodes crash.
fn unknown_outcomes() -> Scene {
    Scene {
        name: "unknown outcomes",
        is_strict: true,
        queue: 1,
        nodes: 2,
        left: Left {
            requests: [1, 0],
            attestations: vec![1],
            lost: 1,
            duplicates: 1,
            given_up: 1,
            crashes: 1,
            ..Left::default()
        },
        events: &[
            Event::Released,
            Event::LearntLate,
            Event::NotTaken,
            Event::StartedAgain,
        ],
    }
}

/// A second machine runs as the same node, or a node starts from an old disk.
fn clones() -> Scene {
    Scene {
        name: "clones",
        is_strict: true,
        queue: 1,
        nodes: 2,
        left: Left {
            requests: [1, 0],
            tasks: vec![Task::Revoke],
            clones: 1,
            old_disks: 1,
            ..Left::default()
        },
        events: &[Event::Released, Event::TaskDone, Event::StartedAgain],
    }
}

/// The order itself is put back.
fn old_order() -> Scene {
    Scene {
        name: "old order",
        is_strict: true,
        queue: 1,
        nodes: 2,
        left: Left {
            requests: [1, 0],
            tasks: vec![Task::Revoke],
            old_orders: 1,
            ..Left::default()
        },
        events: &[Event::TaskDone, Event::Stopped],
    }
}

/// Several jobs in one commit.
fn groups() -> Scene {
    Scene {
        name: "groups",
        is_strict: true,
        queue: 2,
        nodes: 2,
        left: Left {
            requests: [1, 0],
            tasks: vec![Task::Revoke, Task::RevokeTwice],
            ..Left::default()
        },
        events: &[
            Event::Released,
            Event::TaskDone,
            Event::TaskRefused,
            Event::DecidedAgain,
        ],
    }
}

/// A host attests with an old identity key and a new one, and is revoked.
fn attestation() -> Scene {
    Scene {
        name: "attestation",
        is_strict: true,
        queue: 1,
        nodes: 2,
        left: Left {
            tasks: vec![Task::Revoke],
            attestations: vec![1, 1, 2],
            ..Left::default()
        },
        events: &[Event::Attested, Event::AttestationRefused, Event::TaskDone],
    }
}

/// Everything that can happen, of which only walks are taken.
fn everything() -> Scene {
    Scene {
        name: "everything",
        is_strict: true,
        queue: 2,
        nodes: 2,
        left: Left {
            requests: [4, 2],
            tasks: vec![
                Task::Revoke,
                Task::Rotate,
                Task::Compromise,
                Task::Retire,
                Task::RevokeTwice,
            ],
            attestations: vec![1, 1, 2],
            lost: 2,
            duplicates: 2,
            given_up: 2,
            crashes: 2,
            old_disks: 1,
            clones: 0,
            old_orders: 0,
            copies: 1,
        },
        events: &[
            Event::Released,
            Event::TaskDone,
            Event::DecidedAgain,
            Event::Kept,
        ],
    }
}

/// A number that a run is given from outside.
fn given(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

/// Explores all of a scene. `OPENHGS_MODEL_MORE` is how much more often each thing may happen than in a short run.
fn explore(mut scene: Scene) {
    let begun = Instant::now();
    let (name, events) = (scene.name, scene.events);
    let more = given("OPENHGS_MODEL_MORE").map_or(0, |more| more as u8);
    scene.left.requests[0] += more;
    scene.left.lost += more;
    scene.left.crashes += more;
    let checker = Cluster::new(scene, None)
        .checker()
        .threads(2)
        .spawn_bfs()
        .join();
    println!(
        "{name}: {} states, {} of them different, at most {} steps deep, {} rolls, {} commits, {:?}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        checker.model().rolls.len(),
        checker.model().messages.len(),
        begun.elapsed()
    );
    if let Some(found) = found(&checker) {
        panic!("{found}");
    }
    let seen = checker.model().events.lock().unwrap();
    for event in events {
        assert!(
            seen.contains_key(event),
            "{name} never came across {event:?}"
        );
    }
}

/// Walks at random through all that can happen together: `OPENHGS_MODEL_STATES` steps, from `OPENHGS_MODEL_SEED`.
#[test]
fn walks_hold() {
    let states = given("OPENHGS_MODEL_STATES").unwrap_or(3_000);
    let seed = given("OPENHGS_MODEL_SEED").unwrap_or(1);
    let scene = everything();
    let events = scene.events;
    let checker = Cluster::new(scene, None)
        .checker()
        .target_state_count(states as usize)
        .spawn_simulation(seed, UniformChooser)
        .join();
    println!(
        "OPENHGS_MODEL_SEED={seed}: {} states, at most {} steps deep, {} rolls, {} commits",
        checker.state_count(),
        checker.max_depth(),
        checker.model().rolls.len(),
        checker.model().messages.len(),
    );
    if let Some(found) = found(&checker) {
        panic!("{found}");
    }
    let seen = checker.model().events.lock().unwrap();
    for event in events {
        assert!(seen.contains_key(event), "no walk came across {event:?}");
    }
}

/// What is wrong, and how it came about.
fn found(checker: &impl Checker<Cluster>) -> Option<String> {
    let mut discoveries = checker.discoveries().into_iter();
    let (property, path) = discoveries.find(|(property, _)| *property != SOMETHING_HAPPENS)?;
    let last = path.last_state();
    let wrong = last.log.wrong.or(last.wrong).unwrap_or(property);
    let steps: Vec<_> = path
        .into_actions()
        .iter()
        .map(|action| format!("{action:?}"))
        .collect();
    Some(format!("{wrong}\n{}", steps.join("\n")))
}

/// Explores a scene with a fault in it, until something is wrong.
fn find(fault: Fault, scene: Scene, expected: &str) {
    let (begun, name) = (Instant::now(), scene.name);
    let checker = Cluster::new(scene, Some(fault))
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let states = checker.unique_state_count();
    println!(
        "{fault:?} in {name}: {states} states, {:?}",
        begun.elapsed()
    );
    let found = found(&checker).unwrap_or_else(|| panic!("{name} does not show {fault:?}"));
    println!("{found}");
    assert_eq!(found.lines().next(), Some(expected), "{fault:?} in {name}");
}

macro_rules! explored {
    (holds { $($scene:ident)* } finds { $($test:ident = $fault:ident in $place:ident as $finding:ident)* }) => {
        /// Each scene holds as it is.
        mod holds {
            $(
                #[test]
                fn $scene() {
                    super::explore(super::$scene());
                }
            )*
        }

        /// Each fault is found.
        mod finds {
            $(
                #[test]
                fn $test() {
                    super::find(super::Fault::$fault, super::$place(), super::$finding);
                }
            )*
        }

        /// Where each fault is found, and as what.
        const FOUND: &[(Fault, fn() -> Scene, &str)] = &[
            $((Fault::$fault, $place, $finding)),*
        ];
    };
}

explored! {
    holds {
    revocation migration siblings side_by_side removal retirement compromise disabling backup
    backup_with_removed_host unknown_outcomes clones old_order groups attestation
    }
    finds {
    gate_not_written = GateNotWritten in compromise as DECIDED_BEFORE_COMPROMISE
    gate_not_expected = GateNotExpected in compromise as DECIDED_BEFORE_COMPROMISE
    protectors_not_expected = ProtectorsNotExpected in migration as NOT_CARRIED_OUT
    tree_not_expected = TreeNotExpected in removal as CANNOT_START
        refused_batch_not_undone = RefusedBatchNotUndone in groups as REFUSED_AND_DONE
    superseded_released = SupersededReleased in migration as SUPERSEDED_RELEASED
    host_not_checked_again = HostNotCheckedAgain in revocation as RELEASED_AFTER_REVOCATION
    compromise_not_checked_again = CompromiseNotCheckedAgain in compromise as DECIDED_BEFORE_COMPROMISE
    pair_not_checked_again = PairNotCheckedAgain in disabling as DISABLED_PAIR_OPENED
    parent_not_superseded = ParentNotSuperseded in migration as NO_TREE
    sibling_called_head = SiblingCalledHead in siblings as NO_TREE
    egress_without_parent = EgressWithoutParent in migration as NO_TREE
    stage_not_raised = StageNotRaised in migration as NO_TREE
    audit_tags_not_followed = AuditTagsNotFollowed in side_by_side as NOT_SOUND
    generation_not_followed = GenerationNotFollowed in side_by_side as NOT_EQUAL
    lineage_not_in_whole = LineageNotInWhole in migration as NOT_SOUND
    removed_stays_in_memory = RemovedStaysInMemory in removal as NOT_SOUND
    backup_lifts_revocation = BackupLiftsRevocation in backup as REVOCATION_LIFTED
    backup_lifts_compromise = BackupLiftsCompromise in backup as COMPROMISE_LIFTED
    backup_returns_host = BackupReturnsHost in backup_with_removed_host as REVOCATION_LIFTED
    former_head_stays = FormerHeadStays in retirement as CANNOT_START
    head_may_be_compromised = HeadMayBeCompromised in compromise as CANNOT_START
    needed_may_be_removed = NeededMayBeRemoved in removal as CANNOT_START
    retired_is_disabled = RetiredIsDisabled in retirement as CANNOT_START
    revoked_host_attests = RevokedHostAttests in attestation as ATTESTED_AFTER_REVOCATION
    superseded_identity_accepted = SupersededIdentityAccepted in attestation as SUPERSEDED_IDENTITY
    head_of_fabric_appended = HeadOfFabricAppended in retirement as FOREIGN_WRAPPING
    head_not_appended = HeadNotAppended in retirement as HEAD_CANNOT_OPEN
    nothing_shut_out = NothingShutOut in compromise as COMPROMISED_PAIR_SIGNS
    compromised_pair_signs = CompromisedPairSigns in compromise as COMPROMISED_PAIR_SIGNS
    shut_out_gets_key = ShutOutGetsKey in compromise as COMPROMISED_PAIR_OPENS
    key_not_rolled = KeyNotRolled in migration as KEY_NOT_ROLLED
    stale_batch_proposed = StaleBatchProposed in old_order as RELEASED_AFTER_REVOCATION
    own_not_followed = OwnNotFollowed in side_by_side as NOT_CARRIED_OUT
    position_not_kept = PositionNotKept in unknown_outcomes as NOT_CARRIED_OUT
    writes_not_told = WritesNotTold in old_order as RELEASED_AFTER_REVOCATION
    order_compares_too_late = OrderComparesTooLate in old_order as RELEASED_AFTER_REVOCATION
    order_ignores_its_node = OrderIgnoresItsNode in unknown_outcomes as NOT_CARRIED_OUT
    order_ignores_halt = OrderIgnoresHalt in old_order as ORDERED_AFTER_HALT
    }
}

#[test]
fn every_fault_is_in_the_table() {
    let named: BTreeSet<_> = FOUND.iter().map(|(fault, ..)| *fault).collect();
    assert_eq!(named, Fault::ALL.iter().copied().collect());
}

/// docs/model.md says where each fault is found, and as what.
#[test]
fn the_documentation_has_every_fault() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/model.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows: BTreeSet<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let expected: Vec<_> = FOUND
        .iter()
        .map(|(fault, scene, finding)| format!("| `{fault:?}` | {} | {finding} |", scene().name))
        .collect();
    let missing: Vec<_> = expected
        .iter()
        .filter(|row| !rows.contains(row.as_str()))
        .collect();
    assert!(missing.is_empty(), "docs/model.md lacks\n{missing:#?}");
    assert_eq!(
        rows.len(),
        expected.len(),
        "docs/model.md has rows of faults that there are not"
    );
}
