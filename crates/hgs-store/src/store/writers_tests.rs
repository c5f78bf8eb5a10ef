//! Several writers over one state, as the nodes of a service would be: each is a store of its own.

use std::sync::mpsc::channel;

use hgs_kps::CertificateKind;
use hgs_pki::{Validity, profile};
use hgs_protector::metadata::MAX_OTHER_CERTIFICATES;

use super::*;
use crate::engine::Memory;
use crate::fixture::*;
use crate::{AttestationSigner, CertificateRecord};

struct Nodes {
    memory: Memory,
    fixture: Fixture,
    folder: tempfile::TempDir,
}

impl Nodes {
    fn new() -> Self {
        let nodes = Self {
            memory: Memory::new(&Arc::new(Keys::derive(&master_key()))),
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
        let keys = Arc::new(Keys::derive(&master_key));
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
    let reply = move |result: Result<RecordedRelease, _>| sender.send(result).unwrap();
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

/// Two administrators add a certificate at the same time, each of which the metadata has room for.
#[test]
fn certificates_that_two_writers_add_at_once_do_not_overflow_the_metadata() {
    let nodes = Nodes::new();
    let (one, other) = (nodes.store("a"), nodes.store("b"));
    let add = |number: usize| {
        let validity = Validity {
            not_before: time(0),
            not_after: time(1000),
        };
        let template = profile::guardian_signing(&format!("signing-{number}"), validity);
        let record = CertificateRecord {
            kind: CertificateKind::Signing,
            certificate: certificate(&nodes.fixture.encryption_key, template),
            head: false,
            ..nodes.fixture.encryption_record()
        };
        Transaction::AddCertificate { record, key: None }
    };
    let all_but_one = (1..MAX_OTHER_CERTIFICATES).map(add).collect();
    one.transact(all_but_one, act(1)).unwrap();
    let (last, rival) = (add(MAX_OTHER_CERTIFICATES), add(0));
    let refused = transact_after(&one, vec![last], move || {
        other.transact(vec![rival], act(2)).unwrap();
    });
    assert_eq!(refused, Err(Failure::Refused(Refusal::MetadataFull)));
    let listed = one.state();
    let listed = listed
        .certificates()
        .filter(|record| record.held().is_listed_in_metadata());
    assert_eq!(listed.count(), MAX_OTHER_CERTIFICATES);
}

/// The same for the list of signers, which some clients read up to the end of one TLS record.
#[test]
fn signers_that_two_writers_add_at_once_do_not_overflow_a_tls_record() {
    let nodes = Nodes::new();
    let (one, other) = (nodes.store("a"), nodes.store("b"));
    let add = |second: i64| {
        let template = hgs_attest::signer::template(time(second));
        let signer = AttestationSigner {
            certificate: certificate(&nodes.fixture.encryption_key, template),
            ..nodes.fixture.signer_record()
        };
        Transaction::AddAttestationSigner { signer, key: None }
    };
    // Five over keys of 2048 bits fit.
    let all_but_one = (-3..0).map(add).collect();
    one.transact(all_but_one, act(1)).unwrap();
    let (last, rival) = (add(-4), add(-5));
    let refused = transact_after(&one, vec![last], move || {
        other.transact(vec![rival], act(2)).unwrap();
    });
    let full = hgs_attest::signer::NoRoomForSigner { published: 5 };
    assert_eq!(refused, Err(Failure::Refused(full.into())));
}

/// Has `transactions` decided, `first` done by another writer before they are committed, and them decided again.
fn transact_after(
    store: &Store,
    transactions: Vec<Transaction>,
    first: impl FnOnce() + Send + 'static,
) -> Result<Committed, Failure<Refusal>> {
    let (sender, receiver) = channel();
    let mut first = Some(first);
    let decide = move |planner: &mut crate::planner::BatchPlanner<'_>| {
        let outcome = planner.transact(&transactions, &act(3))?;
        if let Some(first) = first.take() {
            assert!(outcome.is_ok(), "{outcome:?}");
            first();
        }
        Ok(outcome)
    };
    let reply = move |result: Result<Committed, _>| sender.send(result).unwrap();
    let decided = job(true, decide, Box::new(reply));
    store.queue.submit(decided).unwrap();
    receiver.recv().unwrap()
}
