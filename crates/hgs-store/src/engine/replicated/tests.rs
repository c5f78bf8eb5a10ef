//! Entries: what is sealed is opened again, and what is spoilt is refused without a panic.

use std::collections::BTreeSet;
use std::sync::Arc;

use hgs_crypto::random::System;
use hgs_pki::health::HealthKind;
use proptest::prelude::*;
use prost::Message as _;

use super::entry::{EntryMessage, Opened, seal};
use crate::change::RecordKey;
use crate::engine::{Batch, Engine as _, Key, Memory};
use crate::fixture::{Fixture, OTHER_HOST, act, attestation, master_key};
use crate::level::Levels;
use crate::order::Last;
use crate::planner::{Basis, BatchPlanner};
use crate::record::{Integrity, Keys};
use crate::writer::Shared;
use crate::{Attestation, Settings, State, Transaction};

/// A state in memory, and what is committed to it.
struct Site {
    keys: Arc<Keys>,
    memory: Memory,
    shared: Arc<Shared>,
    fixture: Fixture,
}

impl Site {
    fn new() -> Self {
        let keys = Arc::new(Keys::derive(&master_key()));
        let mut memory = Memory::new(&keys);
        let shared = Arc::new(Shared::new(State::default(), Integrity::EMPTY));
        let news = Arc::clone(&shared);
        memory.listen(Arc::new(move |batch| news.committed(batch)));
        let fixture = Fixture::new();
        let mut site = Self {
            keys,
            memory,
            shared,
            fixture,
        };
        let settings = Transaction::SetSettings(Settings::new("hgs".parse().unwrap()));
        let first = [settings]
            .into_iter()
            .chain(site.fixture.first_transactions());
        let first: Vec<_> = first.collect();
        let batch = site.decide(|planner| drop(planner.transact(&first, &act(0)).unwrap()));
        site.memory.commit(&mut |_| Ok(batch.clone())).unwrap();
        site
    }

    fn decide(&self, decide: impl FnOnce(&mut BatchPlanner<'_>)) -> Batch {
        let view = self.memory.readers().newest().unwrap();
        let (state, integrity) = self.shared.newest();
        let (mut random, spoilt) = (System::new(), BTreeSet::new());
        let basis = Basis {
            view: &*view,
            keys: &self.keys,
            node: "node-1",
            random: &mut random,
            spoilt: &spoilt,
            share: (0, 1),
        };
        let mut planner = BatchPlanner::new(basis, State::clone(&state), integrity);
        decide(&mut planner);
        planner.finish().unwrap()
    }

    /// A release, an attestation, a host that is removed, and evidence: something of each kind.
    fn batch(&self) -> Batch {
        let release = self.fixture.release(1, 10, 11);
        let attest = Transaction::RecordAttestation(Attestation {
            host: OTHER_HOST,
            ..attestation(1, HealthKind::Signing)
        });
        let remove = Transaction::RemoveHost { id: OTHER_HOST };
        let mut batch = self.decide(|planner| {
            planner.release(&release).unwrap().unwrap();
            planner
                .transact(&[attest, remove], &act(2))
                .unwrap()
                .unwrap();
        });
        batch.evidence.insert(OTHER_HOST, Some(vec![1, 2, 3]));
        assert!(batch.records.values().any(Option::is_none));
        batch
    }

    fn read(&self, opened: &Opened, part: usize) -> Batch {
        let view = self.memory.readers().newest().unwrap();
        let (_, integrity) = self.shared.newest();
        opened
            .batch(part, &integrity, &*view, &self.keys, &Levels::default())
            .unwrap()
    }
}

/// Compared where it is written only: the rest was compared by the order.
fn shown(batch: &Batch) -> String {
    let mut shown = batch.clone();
    let before = shown.expected.clone();
    let stood = |key: &RecordKey| before.get(&Key::Record(*key)).is_some_and(Option::is_some);
    shown.records.retain(|key, put| put.is_some() || stood(key));
    let written: BTreeSet<_> = shown.written().collect();
    shown.expected.retain(|key, _| written.contains(key));
    let sums = (
        batch.records_difference.octets(),
        batch.lineage_difference.octets(),
    );
    format!("{shown:?} {sums:?}")
}

#[test]
fn what_is_sealed_is_opened_in_its_place_only() {
    let site = Site::new();
    let (batch, cluster) = (site.batch(), &site.keys.cluster);
    let batches = [batch.clone(), batch.clone()];
    let sealed = seal(&batches, "node-1", &Last::NONE, cluster, &mut System::new());
    let (octets, last) = sealed.unwrap();
    let opened = Opened::open(&octets, "node-1", &Last::NONE, cluster).unwrap();
    assert_eq!(opened.count(), 2);
    for part in 0..2 {
        assert_eq!(shown(&site.read(&opened, part)), shown(&batch));
    }
    assert!(Opened::open(&octets, "node-2", &Last::NONE, cluster).is_none());
    assert!(Opened::open(&octets, "node-1", &last, cluster).is_none());
    let other = Last {
        number: 0,
        chain: [1; 32],
    };
    assert!(Opened::open(&octets, "node-1", &other, cluster).is_none());
}

/// A later version may add fields. What it writes at another level is not misread.
#[test]
fn an_entry_of_a_later_level_is_not_carried_out() {
    let site = Site::new();
    let message = EntryMessage {
        format: 2,
        previous: Last::NONE.chain.to_vec(),
        parts: Vec::new(),
    };
    let plaintext = hgs_crypto::SecretBytes::from(&message.encode_to_vec()[..]);
    let cluster = &site.keys.cluster;
    let sealed = cluster
        .entries
        .seal("node-1", 1, &plaintext, &mut System::new());
    let opened = Opened::open(&sealed.unwrap(), "node-1", &Last::NONE, cluster).unwrap();
    let refused = opened.check(&Levels::default()).unwrap_err();
    assert_eq!(refused.format.level.number(), 2);
}

proptest! {
    #[test]
    fn what_is_spoilt_never_panics(places: Vec<(prop::sample::Index, u8)>) {
        thread_local!(static SITE: (Site, Vec<u8>) = {
            let site = Site::new();
            let message = EntryMessage::of(&[site.batch()], &Last::NONE);
            (site, message.encode_to_vec())
        });
        SITE.with(|(site, octets)| {
            let mut octets = octets.clone();
            for (place, octet) in places {
                let place = place.index(octets.len());
                octets[place] = octet;
            }
            let view = site.memory.readers().newest().unwrap();
            let (_, integrity) = site.shared.newest();
            if let Ok(message) = EntryMessage::decode(&octets[..]) {
                let opened = Opened::from(message);
                for part in 0..opened.count() {
                    let _ = opened.batch(part, &integrity, &*view, &site.keys, &Levels::default());
                }
            }
        });
    }
}
