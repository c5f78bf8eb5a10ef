//! Random histories: the store against a model of a few lines, and against itself after opening.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::fixture::*;
use crate::{Standing, Transaction};
use hgs_pki::health::HealthKind;

/// What may happen.
#[derive(Debug, Clone)]
enum Event {
    /// Protector `ingress` (of those made so far) is released.
    Release {
        ingress: usize,
    },
    /// A protector from elsewhere is released.
    Arrival,
    Attest {
        key: u64,
        kind: HealthKind,
    },
    Revoke(usize),
    Remove(usize),
    Add(usize),
    Open,
}

fn event() -> impl Strategy<Value = Event> {
    let kind = prop_oneof![Just(HealthKind::Encryption), Just(HealthKind::Signing)];
    prop_oneof![
        8 => (0..100usize).prop_map(|ingress| Event::Release { ingress }),
        1 => Just(Event::Arrival),
        4 => (0..6u64, kind).prop_map(|(key, kind)| Event::Attest { key, kind }),
        1 => (0..2usize).prop_map(Event::Revoke),
        1 => (0..2usize).prop_map(Event::Remove),
        2 => (0..2usize).prop_map(Event::Add),
        1 => Just(Event::Open),
    ]
}

/// The tree of protectors as its definition says: who came back, and who came of whom.
#[derive(Default)]
struct Model {
    came_back: BTreeMap<u64, bool>,
    parent: BTreeMap<u64, u64>,
}

impl Model {
    fn release(&mut self, ingress: u64, egress: u64) -> Standing {
        let known = self.came_back.get(&ingress).copied();
        let child_came_back = |node: u64| {
            let mut children = self.parent.iter().filter(|(_, parent)| **parent == node);
            children.any(|(child, _)| self.came_back[child])
        };
        let sibling = self
            .parent
            .get(&ingress)
            .copied()
            .is_some_and(child_came_back);
        let standing = match known {
            None => Standing::New,
            Some(_) if child_came_back(ingress) => Standing::Ancestor,
            Some(false) if sibling => Standing::Sibling,
            Some(_) => Standing::Head,
        };
        self.came_back.insert(ingress, true);
        self.came_back.insert(egress, false);
        self.parent.insert(egress, ingress);
        standing
    }
}

/// The part of a state that its users see.
fn shown(state: &State) -> String {
    let identities =
        [HOST, OTHER_HOST].map(|host| state.host_identities(&host).collect::<Vec<_>>());
    format!(
        "{} {:?} {:?} {identities:?}",
        state.generation(),
        state.settings(),
        state.hosts().collect::<Vec<_>>(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
    #[test]
    fn histories_are_what_the_model_says(events in prop::collection::vec(event(), 1..60)) {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("state");
        let fixture = FIXTURE.get_or_init(Fixture::new);
        let mut store = fixture.create(&directory);
        let mut model = Model::default();
        let mut next = 1;
        for (second, event) in (0..).zip(events) {
            let before = shown(&store.state());
            let refused = match event {
                Event::Release { .. } | Event::Arrival => {
                    let ingress = match event {
                        Event::Release { ingress } if next > 1 => 1 + ingress as u64 % (next - 1),
                        _ => next,
                    };
                    let egress = next.max(ingress + 1);
                    let released = record(&store, fixture.release(second, ingress, egress));
                    if let Ok(recorded) = &released {
                        next = egress + 1;
                        prop_assert_eq!(recorded.standing(), model.release(ingress, egress));
                    }
                    prop_assert_eq!(shown(&store.state()), before.clone());
                    released.is_err()
                }
                Event::Attest { key, kind } => {
                    let attested = Transaction::RecordAttestation(attestation(key, kind));
                    store.transact(vec![attested], act(second)).is_err()
                }
                Event::Revoke(host) => {
                    let id = [HOST, OTHER_HOST][host];
                    let reason = String::new();
                    let revoke = Transaction::RevokeHost { id, reason };
                    store.transact(vec![revoke], act(second)).is_err()
                }
                Event::Remove(host) => {
                    let remove = Transaction::RemoveHost { id: [HOST, OTHER_HOST][host] };
                    store.transact(vec![remove], act(second)).is_err()
                }
                Event::Add(host) => {
                    let add = fixture.first_transactions().remove(2 + host);
                    store.transact(vec![add], act(second)).is_err()
                }
                Event::Open => {
                    drop(store);
                    store = open(&directory).unwrap();
                    true
                }
            };
            if refused {
                prop_assert_eq!(shown(&store.state()), before);
            }
        }
        let state = shown(&store.state());
        drop(store);
        prop_assert_eq!(shown(&open(&directory).unwrap().state()), state);
    }
}

static FIXTURE: std::sync::OnceLock<Fixture> = std::sync::OnceLock::new();
