//! What is compiled when a change is checked: what it can break, however large the fleet is.

use std::collections::BTreeMap;

use hgs_attest::policy::{
    self, Baseline, ComponentKind, HostComponent, HostMeasurements, UsedAlternative,
};
use hgs_crypto::random::System;
use hgs_crypto::rsa::PublicKey;
use hgs_custody::PrivateKey as _;
use hgs_tcg::tpm::EndorsementKey;

use super::*;
use crate::ExpectedMeasurements;
use crate::fixture::*;
use crate::model::{DocumentKind, ShortName};
use crate::policies::count;
use crate::transaction::Planner;

const HOSTS: u8 = 12;

fn name(text: &str) -> ShortName {
    text.parse().unwrap()
}

fn host_id(number: u8) -> HostId {
    HostId::from_bytes([number; 16])
}

/// A baseline with an alternative that is staged.
fn staged_baseline() -> Baseline {
    let mut baseline = Baseline::from_json(baseline("first").as_bytes()).unwrap();
    let alternatives = &mut baseline.components[0].alternatives;
    alternatives.push(staged_alternative("next"));
    baseline
}

fn staged_alternative(alternative: &str) -> policy::Alternative {
    let baseline = Baseline::from_json(baseline(alternative).as_bytes()).unwrap();
    policy::Alternative {
        state: policy::State::Staged {
            expires: time(1000),
        },
        ..baseline.components[0].alternatives[0].clone()
    }
}

fn own_measurements(alternative: &str) -> String {
    let own = HostMeasurements {
        components: vec![HostComponent {
            name: "boot".to_owned(),
            alternatives: vec![staged_alternative(alternative)],
        }],
        parameters: BTreeMap::new(),
    };
    own.to_json()
}

fn set_measurements(number: u8, text: String) -> Transaction {
    Transaction::SetHostMeasurements {
        id: host_id(number),
        expected: ExpectedMeasurements::Any,
        text: Some(text.into()),
        note: None,
    }
}

fn change(document: &str, text: String) -> Transaction {
    Transaction::ChangePolicyDocument {
        name: name(document),
        expected: None,
        text: text.into(),
        note: None,
    }
}

fn new_group_with_baseline(group: &str) -> [Transaction; 2] {
    let document = Transaction::AddPolicyDocument {
        name: name(&format!("of-{group}")),
        kind: DocumentKind::Baseline,
        text: baseline(group).into(),
        group: Some(name(group)),
    };
    [Transaction::NewHostGroup(name(group)), document]
}

/// Keys like another one, of other TPMs.
fn keys_like(key: &PublicKey) -> impl Iterator<Item = EndorsementKey> {
    let octets = endorsement_key(key).public().octets().to_vec();
    (1..=u16::MAX).filter_map(move |number| {
        let mut octets = octets.clone();
        let place = octets.len() - 100;
        octets[place..place + 2].copy_from_slice(&number.to_be_bytes());
        // Weak keys are refused.
        EndorsementKey::parse(&octets).ok()
    })
}

/// Hosts that each stage an alternative of their own, half of them in the default group and half in `racks`; `empty` and `spare` have
/// none. All groups have `first-boot`, and all but the default group and `empty` have a baseline of their own beside it.
fn fleet() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new();
    let store = fixture.create(&folder.path().join("state"));
    let first = Transaction::AddPolicyDocument {
        name: name("first-boot"),
        kind: DocumentKind::Baseline,
        text: staged_baseline().to_json().into(),
        group: None,
    };
    let mut transactions = vec![first, Transaction::NewHostGroup(name("empty"))];
    transactions.extend(new_group_with_baseline("racks"));
    transactions.extend(new_group_with_baseline("spare"));
    for (number, key) in (1..=HOSTS).zip(keys_like(fixture.other.public())) {
        transactions.push(add_tpm_host(
            host_id(number),
            &format!("node-{number}"),
            &key,
        ));
        transactions.push(Transaction::SetHostGroup {
            id: host_id(number),
            group: (number % 2 == 0).then(|| name("racks")),
        });
        let own = own_measurements(&format!("own-{number}"));
        transactions.push(set_measurements(number, own));
    }
    store.transact(transactions, act(1)).unwrap();
    (folder, store)
}

/// How many sets of groups and of hosts are compiled to check a transaction.
fn compiled_for(store: &Store, transaction: &Transaction) -> (u64, u64) {
    let state = store.state();
    let group = |group: Option<&str>| drop(state.policy_set(group.map(name).as_ref()));
    // As they are while hosts attest.
    [None, Some("racks"), Some("spare")]
        .into_iter()
        .for_each(group);
    let mut planner = Planner {
        state: &state,
        act: &act(2),
        generation: state.generation() + 1,
        needed_by: 0,
        sealer: &store.keys.private_keys,
        random: &mut System::new(),
    };
    count::taken();
    let plan = planner.plan(transaction).unwrap();
    assert!(!plan.changes.is_empty(), "{transaction:?}");
    count::taken()
}

#[test]
fn a_change_has_compiled_what_it_can_break_and_nothing_else() {
    let (_folder, store) = fleet();
    let half = u64::from(HOSTS / 2);
    let used = |alternative: &str, of_host| UsedAlternative {
        document: "first-boot".to_owned(),
        component: "boot".to_owned(),
        alternative: alternative.to_owned(),
        staged: true,
        of_host,
    };
    let promote = |used| Transaction::PromoteAlternatives {
        id: host_id(3),
        used,
    };
    // What is promoted was accepted before.
    for used in [
        vec![used("own-3", true)],
        vec![used("next", false)],
        vec![used("next", false), used("own-3", true)],
    ] {
        assert_eq!(compiled_for(&store, &promote(used)), (0, 0));
    }
    let own = set_measurements(3, own_measurements("other"));
    assert_eq!(compiled_for(&store, &own), (0, 1));
    let moved = |group: Option<&str>| Transaction::SetHostGroup {
        id: host_id(3),
        group: group.map(name),
    };
    assert_eq!(compiled_for(&store, &moved(Some("spare"))), (0, 1));
    // A document that one group has, and one that all have: `empty` is judged as the default group is.
    let of_racks = change("of-racks", baseline("racks-2"));
    assert_eq!(compiled_for(&store, &of_racks), (1, half));
    let of_spare = change("of-spare", baseline("spare-2"));
    assert_eq!(compiled_for(&store, &of_spare), (1, 0));
    let of_all = change("first-boot", baseline("first"));
    assert_eq!(compiled_for(&store, &of_all), (3, 2 * half));
    let [new_group, _] = new_group_with_baseline("more");
    assert_eq!(compiled_for(&store, &new_group), (0, 0));
    assert_eq!(
        compiled_for(&store, &Transaction::RemoveHost { id: host_id(3) }),
        (0, 0)
    );
    let disable = Transaction::SetPolicy {
        group: Some(name("spare")),
        policy: crate::PolicySelector::Document(name("first-boot")),
        enabled: Some(false),
    };
    assert_eq!(compiled_for(&store, &disable), (1, 0));
}

/// What is not looked at can't be what breaks.
#[test]
fn what_a_change_breaks_is_found_wherever_it_is() {
    let (_folder, store) = fleet();
    let refused = |transaction: Transaction| match store.transact(vec![transaction], act(2)) {
        Err(Failure::Refused(Refusal::Policies { group, error })) => format!("{group}: {error}"),
        other => panic!("{other:?}"),
    };
    let shared = |alternative: &str| {
        let mut shared = Baseline::from_json(baseline(alternative).as_bytes()).unwrap();
        shared.components[0].kind = ComponentKind::Shared;
        shared.to_json()
    };
    // Hosts have alternatives of their own of what would not be the host's own.
    let refusal = refused(change("of-racks", shared("racks")));
    assert!(
        refusal.starts_with("racks: the measurements of host node-10"),
        "{refusal}"
    );
    let refusal = refused(change("first-boot", shared("first")));
    assert!(
        refusal.starts_with("default: the measurements of host"),
        "{refusal}"
    );
    store
        .transact(vec![change("of-spare", shared("spare"))], act(2))
        .unwrap();
    let refusal = refused(Transaction::SetHostGroup {
        id: host_id(3),
        group: Some(name("spare")),
    });
    assert!(
        refusal.starts_with("spare: the measurements of host node-3"),
        "{refusal}"
    );
    // What the host has of its own goes on where the baseline's ends.
    let mut longer = staged_alternative("first");
    for (more, slot) in longer
        .events
        .iter_mut()
        .zip(staged_alternative("own").events)
    {
        more.events.extend(slot.events);
    }
    let mut own = HostMeasurements::default();
    own.add("boot", longer);
    let refusal = refused(set_measurements(3, own.to_json()));
    assert!(
        refusal.starts_with("default: the measurements of host node-3"),
        "{refusal}"
    );
}

#[test]
fn a_set_is_compiled_once_until_something_of_it_changes() {
    let (_folder, store) = fleet();
    let of_host = |state: &State| {
        state
            .policy_set_of(state.host(&host_id(3)).unwrap())
            .unwrap()
    };
    let state = store.state();
    let (group, host) = (state.policy_set(None).unwrap(), of_host(&state));
    count::taken();
    assert!(Arc::ptr_eq(
        &group,
        &state.policy_set(Some(&name("default"))).unwrap()
    ));
    // Another host has something of its own.
    let other = set_measurements(5, own_measurements("other"));
    store.transact(vec![other], act(2)).unwrap();
    let state = store.state();
    assert!(Arc::ptr_eq(&group, &state.policy_set(None).unwrap()));
    assert!(Arc::ptr_eq(&host, &of_host(&state)));
    assert_eq!(count::taken(), (0, 0));
    let own = set_measurements(3, own_measurements("third"));
    store.transact(vec![own], act(2)).unwrap();
    let state = store.state();
    assert_ne!(of_host(&state).digest(), host.digest());
    assert_eq!(count::taken(), (0, 1));
    let changed = change("first-boot", baseline("first"));
    store.transact(vec![changed], act(2)).unwrap();
    let state = store.state();
    assert_ne!(state.policy_set(None).unwrap().digest(), group.digest());
    of_host(&state);
    assert_eq!(count::taken(), (1, 1));
}
