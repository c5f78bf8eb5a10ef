//! Several writers over one state, as the nodes of a service would be: each is a store of its own.

use std::sync::mpsc::channel;

use super::*;
use crate::engine::Memory;
use crate::fixture::*;

struct Nodes {
    memory: Memory,
    fixture: Fixture,
    folder: tempfile::TempDir,
}

impl Nodes {
    fn new() -> Self {
        let nodes = Self {
            memory: Memory::new(&Keys::derive(&master_key())),
            fixture: Fixture::new(),
            folder: tempfile::tempdir().unwrap(),
        };
        let settings = Transaction::SetSettings(Settings::new("hgs".parse().unwrap()));
        let first_transactions = nodes.fixture.first_transactions();
        let transactions = [settings].into_iter().chain(first_transactions).collect();
        let mut first = nodes.found("first");
        first.initialise(transactions, act(0)).unwrap();
        nodes
    }

    fn found(&self, name: &str) -> OpenedState {
        let (directory, master_key) = (self.folder.path().join(name), master_key());
        let engine = Box::new(self.memory.clone());
        let keys = Keys::derive(&master_key);
        OpenedState::through(engine, keys, opening(&directory, &master_key)).unwrap()
    }

    /// A store of its own over the same state, which is verified as whenever one is opened.
    fn store(&self, name: &str) -> Arc<Store> {
        Arc::new(self.found(name).start().unwrap())
    }
}

fn revoke(store: &Store) {
    let revoke = Transaction::RevokeHost {
        id: HOST,
        reason: "stolen".to_owned(),
    };
    store.transact(vec![revoke], act(2)).unwrap();
}

#[test]
fn what_one_writer_commits_is_news_to_the_others() {
    let nodes = Nodes::new();
    let (one, other) = (nodes.store("a"), nodes.store("b"));
    record(&one, nodes.fixture.release(1, 10, 11)).unwrap();
    assert!(other.seen(&digest(11)).unwrap().is_some());
    revoke(&other);
    let host = one.state().host(&HOST).cloned().unwrap();
    assert!(host.revoked.is_some());
    let refused = record(&one, nodes.fixture.release(3, 11, 12));
    assert_eq!(
        refused,
        Err(Failure::Refused(ReleaseRefusal::Refused(
            hgs_kps::Reason::HostRevoked
        )))
    );
    // Sums and log of all of them belong together.
    let third = nodes.store("c");
    let log = third.audit(&AuditFilter::default(), 99).unwrap();
    let numbers: Vec<_> = log.iter().map(|record| record.sequence).collect();
    let all = numbers.len() as u64;
    assert_eq!(numbers, (1..=all).rev().collect::<Vec<_>>());
    assert_eq!(one.state().generation(), third.state().generation());
}

/// attacks.md K4: whichever writer revokes a host, no other releases keys to it afterwards, though
/// the release was being decided at that moment.
#[test]
fn k4_a_commit_is_decided_again_when_another_writer_was_first() {
    let nodes = Nodes::new();
    let (one, other) = (nodes.store("a"), nodes.store("b"));
    let (release, mut decided) = (nodes.fixture.release(1, 10, 11), 0);
    let (sender, receiver) = channel();
    let decide = move |planner: &mut crate::planner::BatchPlanner<'_>| {
        let outcome = planner.release(&release)?;
        decided += 1;
        if decided == 1 {
            assert!(outcome.is_ok());
            revoke(&other);
        }
        Ok(outcome)
    };
    let reply = move |result: Result<Recorded, _>| sender.send(result).unwrap();
    one.queue
        .submit(job(false, decide, Box::new(reply)))
        .unwrap();
    let refused = receiver.recv().unwrap();
    assert_eq!(
        refused,
        Err(Failure::Refused(ReleaseRefusal::Refused(
            hgs_kps::Reason::HostRevoked
        )))
    );
    assert_eq!(one.seen(&digest(11)).unwrap(), None);
    let newest = &one.audit(&AuditFilter::default(), 2).unwrap()[..];
    let actions = [newest[0].entry.action, newest[1].entry.action];
    assert_eq!(actions, [Action::Release, Action::RevokeHost]);
    nodes.store("c");
}
