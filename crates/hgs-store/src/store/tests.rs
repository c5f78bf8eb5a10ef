//! The store as its users see it.

use std::sync::mpsc::channel;

use super::*;
use std::num::NonZeroU32;

use crate::audit::{Action, AuditFilter, OfflineUse, Outcome, RequestId};
use crate::fixture::*;
use crate::lineage::Standing;
use hgs_attest::{CredentialId, IdentityRefusal};
use hgs_crypto::hash::{sha256, sha256_of};
use hgs_crypto::rsa::PublicKey;
use hgs_custody::PrivateKey as _;

use crate::{
    Attestation, AttestationSigner, CertificateRecord, KeyCaching, Recipient, RecordKind,
    Transaction,
};
use hgs_pki::health::HealthKind;

fn standing(store: &Store, release: ReleaseRecord) -> Standing {
    record(store, release).unwrap().standing()
}

fn refused<T: std::fmt::Debug, E: Clone>(result: Result<T, Failure<E>>) -> E {
    match result.map_err(|failure| match failure {
        Failure::Refused(refusal) => Ok(refusal),
        Failure::Store(error) => Err(error),
    }) {
        Err(Ok(refusal)) => refusal,
        other => panic!("not refused: {:?}", other.map_err(Result::err)),
    }
}

#[test]
fn what_was_written_is_there_when_it_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    let fixture = Fixture::new();
    let store = fixture.create(&directory);
    let identity = attestation(1, HealthKind::Encryption);
    let attested = Transaction::RecordAttestation(identity);
    store.transact(vec![attested], act(5)).unwrap();
    let recorded = record(&store, fixture.release(6, 100, 101)).unwrap();
    let before = store.state();
    drop(store);

    let store = open(&directory).unwrap();
    let state = store.state();
    assert_eq!(state.generation(), before.generation());
    assert_eq!(state.settings(), before.settings());
    assert!(state.certificates().eq(before.certificates()));
    assert!(state.hosts().eq(before.hosts()));
    assert!(
        state
            .host_identities(&HOST)
            .eq(before.host_identities(&HOST))
    );
    assert!(state.attestation_signers().eq(before.attestation_signers()));
    assert_eq!(state.host(&HOST).unwrap().last_attested, Some(time(5)));
    let public_key = Digest::from_bytes(*fixture.encryption.public_key().digest());
    let key = store.private_key(&public_key).unwrap().unwrap();
    assert_eq!(
        hgs_custody::PrivateKey::public(&key),
        fixture.encryption.public_key()
    );
    let newest = &store.audit(&AuditFilter::default(), 1).unwrap()[0];
    assert_eq!(newest.sequence, recorded.sequence());
    assert_eq!(newest.entry.action, Action::Release);
    assert_eq!(newest.entry.host_name.as_deref(), Some("node-a"));
    let seen = store.seen(&digest(101)).unwrap().unwrap();
    assert_eq!(seen.first, time(6));
    assert_eq!(store.seen(&digest(102)).unwrap(), None);
}

#[test]
fn a_state_is_created_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    let fixture = Fixture::new();
    let master_key = master_key();
    let settings = Settings::new("hgs".parse().unwrap());
    let mut first_transactions = fixture.first_transactions();
    first_transactions.extend(fixture.first_transactions());
    let opening = || opening(&directory, &master_key);
    let error = Store::create(opening(), settings.clone(), first_transactions, act(0)).err();
    assert!(matches!(error, Some(OpenError::Refused(_))), "{error:?}");
    let error = open(&directory).err();
    assert!(
        matches!(error, Some(OpenError::NotInitialised { .. })),
        "{error:?}"
    );
    drop(fixture.create(&directory));
    let error = Store::create(opening(), settings, Vec::new(), act(0)).err();
    assert!(
        matches!(error, Some(OpenError::AlreadyInitialised { .. })),
        "{error:?}"
    );
    assert!(open(&directory).is_ok());
}

#[test]
fn the_wrong_master_key_is_told_from_tampering() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    drop(Fixture::new().create(&directory));
    let other = MasterKey::generate(&mut hgs_crypto::random::System::new()).unwrap();
    let error = Store::open(opening(&directory, &other)).err();
    assert!(
        matches!(error, Some(OpenError::WrongMasterKey)),
        "{error:?}"
    );
}

/// attacks.md K8: a batch is carried out whole or not at all, in memory and on the disk.
#[test]
fn k8_a_refused_batch_leaves_only_its_refusal() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    let store = Fixture::new().create(&directory);
    let before = store.state();
    let revoke = |id| Transaction::RevokeHost {
        id,
        reason: "stolen".to_owned(),
    };
    let batch = vec![revoke(HOST), revoke(OTHER_HOST), revoke(HOST)];
    let refusal = refused(store.transact(batch, act(1)));
    assert_eq!(refusal, Refusal::HostRevoked("node-a".parse().unwrap()));
    assert!(store.state().hosts().eq(before.hosts()));
    assert_eq!(store.state().generation(), before.generation());
    let newest = &store.audit(&AuditFilter::default(), 1).unwrap()[0];
    assert_eq!(newest.entry.outcome, Outcome::Refused);
    assert_eq!(newest.entry.action, Action::RevokeHost);
    let reason = newest.entry.reason.as_deref();
    assert_eq!(reason, Some("host node-a was revoked"));
    drop(store);
    assert!(open(&directory).unwrap().state().hosts().eq(before.hosts()));
}

/// attacks.md K4: a decision that was made before a revocation is not carried out after it.
#[test]
fn k4_no_release_follows_the_revocation_that_forbids_it() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new();
    let store = fixture.create(&folder.path().join("state"));
    let decided = fixture.release(1, 100, 101);
    let revoke = Transaction::RevokeHost {
        id: HOST,
        reason: String::new(),
    };
    store.transact(vec![revoke], act(2)).unwrap();
    let refusal = refused(record(&store, decided));
    assert_eq!(
        refusal,
        ReleaseRefusal::Refused(hgs_kps::Reason::HostRevoked)
    );
    let newest = &store.audit(&AuditFilter::default(), 1).unwrap()[0];
    assert_eq!(newest.entry.outcome, Outcome::Refused);
    assert_eq!(newest.entry.action, Action::Release);
    assert_eq!(store.seen(&digest(101)).unwrap(), None);

    let remove = Transaction::RemoveHost { id: HOST };
    store.transact(vec![remove], act(3)).unwrap();
    let refusal = refused(record(&store, fixture.release(4, 100, 101)));
    assert_eq!(
        refusal,
        ReleaseRefusal::Refused(hgs_kps::Reason::HostNotRegistered)
    );
    let forget = Transaction::RemoveAttestationSigner {
        thumbprint: fixture.signer.thumbprint(),
    };
    store.transact(vec![forget], act(5)).unwrap();
    let refusal = refused(record(&store, fixture.release(6, 100, 101)));
    assert_eq!(
        refusal,
        ReleaseRefusal::Refused(hgs_pki::health::HealthCertificateError::UntrustedIssuer.into())
    );
}

#[test]
fn the_tree_tells_heads_siblings_and_ancestors() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new();
    let store = fixture.create(&folder.path().join("state"));
    let release = |second, ingress, egress| fixture.release(second, ingress, egress);
    assert_eq!(standing(&store, release(1, 10, 11)), Standing::New);
    // The host crashed before it kept 11, and asks again.
    assert_eq!(standing(&store, release(2, 10, 12)), Standing::Head);
    assert_eq!(standing(&store, release(3, 12, 13)), Standing::Head);
    assert_eq!(standing(&store, release(4, 13, 14)), Standing::Head);
    // 11 never came back before, and stays valid.
    assert_eq!(standing(&store, release(5, 11, 15)), Standing::Sibling);
    assert_eq!(standing(&store, release(6, 15, 16)), Standing::Head);
    assert_eq!(standing(&store, release(7, 10, 17)), Standing::Ancestor);
    assert_eq!(standing(&store, release(8, 12, 18)), Standing::Ancestor);
    assert_eq!(standing(&store, release(9, 13, 19)), Standing::Head);
}

#[test]
fn superseded_protectors_are_refused_where_the_settings_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    let fixture = Fixture::new();
    let store = fixture.create(&directory);
    let strict = Settings {
        refuse_superseded_protectors: true,
        ..store.state().settings().clone()
    };
    let strict = Transaction::SetSettings(strict);
    store.transact(vec![strict], act(0)).unwrap();
    record(&store, fixture.release(1, 10, 11)).unwrap();
    record(&store, fixture.release(2, 11, 12)).unwrap();
    let refusal = refused(record(&store, fixture.release(3, 10, 13)));
    assert_eq!(
        refusal,
        ReleaseRefusal::Refused(hgs_kps::Reason::ProtectorSuperseded)
    );
    for known in [10, 11, 12] {
        let refusal = refused(record(&store, fixture.release(4, 11, known)));
        assert_eq!(refusal, ReleaseRefusal::EgressKnown);
    }
    record(&store, fixture.release(5, 11, 14)).unwrap();
    drop(store);
    assert!(open(&directory).is_ok());
}

#[test]
fn ancestors_are_forgotten_when_their_time_has_passed() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    let fixture = Fixture::new();
    let store = fixture.create(&directory);
    record(&store, fixture.release(1, 10, 11)).unwrap();
    record(&store, fixture.release(2, 10, 12)).unwrap();
    record(&store, fixture.release(3, 11, 13)).unwrap();
    let late = i64::try_from(crate::RETENTION.get()).unwrap();
    record(&store, fixture.release(late, 50, 51)).unwrap();
    assert!(store.seen(&digest(10)).unwrap().is_some());
    record(&store, fixture.release(late + 4, 50, 52)).unwrap();
    // The ancestor and its child that never came back are gone, the line goes on.
    assert!(store.seen(&digest(10)).unwrap().is_none());
    assert!(store.seen(&digest(12)).unwrap().is_none());
    assert!(store.seen(&digest(11)).unwrap().is_some());
    let head = standing(&store, fixture.release(late + 5, 13, 14));
    assert_eq!(head, Standing::Head);
    drop(store);
    assert!(open(&directory).is_ok());
}

#[test]
fn identity_keys_supersede_each_other_and_never_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = Fixture::new().create(&folder.path().join("state"));
    let attest = |second, key, kind| {
        let attestation = Transaction::RecordAttestation(attestation(key, kind));
        store.transact(vec![attestation], act(second))
    };
    let identity = |refusal| Refusal::Identity {
        host: "node-a".parse().unwrap(),
        refusal,
    };
    attest(1, 1, HealthKind::Encryption).unwrap();
    attest(2, 2, HealthKind::Signing).unwrap();
    attest(3, 1, HealthKind::Encryption).unwrap();
    attest(4, 3, HealthKind::Encryption).unwrap();
    let superseded = refused(attest(5, 1, HealthKind::Encryption));
    let expected = identity(IdentityRefusal::Superseded { at: time(4) });
    assert_eq!(superseded, expected);
    let other = refused(attest(6, 2, HealthKind::Encryption));
    let recorded = HealthKind::Signing;
    assert_eq!(other, identity(IdentityRefusal::OtherKind { recorded }));
    attest(7, 2, HealthKind::Signing).unwrap();
    let state = store.state();
    let old = state.host_identity(&HOST, &digest(1)).unwrap();
    assert_eq!(old.first_seen, time(1));
    assert_eq!(old.superseded, Some(time(4)));
    assert_eq!(state.host_identities(&HOST).count(), 3);
    assert_eq!(state.host_identities(&OTHER_HOST).count(), 0);
}

/// A request that was captured before a host was removed stays worthless: its key can't be registered again unless an
/// administrator readmits it, and no identity key that it had is accepted then.
#[test]
fn a_removed_host_comes_back_only_by_a_deliberate_act_and_with_new_identity_keys() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    let fixture = Fixture::new();
    let mut store = fixture.create(&directory);
    let transact = |store: &Store, second, transaction| {
        store.transact(vec![transaction], act(second)).map(drop)
    };
    let attest = |store: &Store, second, host, key| {
        let attested = Transaction::RecordAttestation(Attestation {
            host,
            returned_nonce: second == 2,
            ..attestation(key, HealthKind::Encryption)
        });
        transact(store, second, attested)
    };
    attest(&store, 1, HOST, 1).unwrap();
    attest(&store, 2, HOST, 2).unwrap();
    let host_key = fixture.encryption_key.public();
    let credential = CredentialId::HostKey(*host_key.digest());
    let readmit = || Transaction::ReadmitHost { credential };
    let refusal = refused(transact(&store, 3, readmit()));
    let digest_of_key = Digest::from_bytes(*host_key.digest());
    assert_eq!(refusal, Refusal::NoSuchRemovedHost(digest_of_key));
    transact(&store, 3, Transaction::RemoveHost { id: HOST }).unwrap();

    let again = HostId::from_bytes([0xc3; 16]);
    let add = || add_host(again, "node-again", host_key);
    drop(store);
    store = open(&directory).unwrap();
    let expected = Refusal::HostRemoved {
        name: "node-a".parse().unwrap(),
        removed: time(3),
        credential,
    };
    assert_eq!(refused(transact(&store, 4, add())), expected);
    transact(&store, 5, readmit()).unwrap();
    let refusal = refused(transact(&store, 5, readmit()));
    assert_eq!(
        refusal,
        Refusal::ReadmittedAlready("node-a".parse().unwrap())
    );
    transact(&store, 6, add()).unwrap();
    assert!(store.state().removed_host(&credential).is_none());
    assert!(store.state().host(&again).unwrap().returns_nonces);
    assert_eq!(store.state().host_identities(&HOST).count(), 0);

    // The first was superseded by the second, the second by the removal.
    let with_nonce = |second, key| {
        let attested = Transaction::RecordAttestation(Attestation {
            host: again,
            returned_nonce: true,
            ..attestation(key, HealthKind::Encryption)
        });
        transact(&store, second, attested)
    };
    for (key, at) in [(1, 2), (2, 3)] {
        let refusal = IdentityRefusal::Superseded { at: time(at) };
        let host = "node-again".parse().unwrap();
        let expected = Refusal::Identity { host, refusal };
        assert_eq!(refused(with_nonce(7, key)), expected);
    }
    let refusal = refused(attest(&store, 8, again, 3));
    assert_eq!(
        refusal,
        Refusal::NonceRequired("node-again".parse().unwrap())
    );
    with_nonce(9, 3).unwrap();
    drop(store);
    assert!(open(&directory).is_ok());
}

/// A revocation reaches every health certificate of a host, whoever signed it: also when its record is gone, or it was
/// never registered here.
#[test]
fn a_policy_digest_is_barred_by_revoked_removed_and_denied_hosts() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    let fixture = Fixture::new();
    let store = fixture.create(&directory);
    let transact = |transaction| store.transact(vec![transaction], act(1)).map(drop);
    let policy = |state: &State, host| state.host(&host).unwrap().credential.policy();
    let (first, second) = {
        let state = store.state();
        (policy(&state, HOST), policy(&state, OTHER_HOST))
    };
    let digest_of_key = fixture.other.public().digest();
    let independently = sha256_of(&[b"OpenHGS HostKey 1", digest_of_key]);
    assert_eq!(second, Digest::from_bytes(independently));
    let barred =
        |policy| hgs_kps::HostStandings::is_barred(&*store.state(), Digest::as_bytes(policy));
    assert!(!barred(&first) && !barred(&second));

    let reason = String::new;
    let revoke = |id| Transaction::RevokeHost {
        id,
        reason: reason(),
    };
    transact(revoke(OTHER_HOST)).unwrap();
    assert!(barred(&second) && !barred(&first));
    transact(Transaction::RemoveHost { id: OTHER_HOST }).unwrap();
    assert!(barred(&second));
    let credential = CredentialId::HostKey(*digest_of_key);
    transact(Transaction::ReadmitHost { credential }).unwrap();
    assert!(!barred(&second));

    // One that is registered here is revoked, not denied.
    let deny = |policy| Transaction::DenyHost {
        policy,
        reason: reason(),
    };
    let refusal = refused(transact(deny(first)));
    assert_eq!(
        refusal,
        Refusal::DeniedHostRegistered("node-a".parse().unwrap())
    );
    transact(deny(second)).unwrap();
    assert!(barred(&second));
    assert_eq!(refused(transact(deny(second))), Refusal::HostDenied(second));
    let add = fixture.first_transactions().remove(3);
    assert_eq!(refused(transact(add.clone())), Refusal::HostDenied(second));
    transact(Transaction::AllowHost { policy: second }).unwrap();
    let refusal = refused(transact(Transaction::AllowHost { policy: second }));
    assert_eq!(refusal, Refusal::NoSuchDenial(second));
    assert!(!barred(&second));
    transact(add).unwrap();
    assert!(!barred(&second));
    drop(store);
    assert!(open(&directory).is_ok());
}

/// The commit decides again: by the host's key, not only by the id that another cluster gave it.
#[test]
fn a_release_to_a_host_of_another_cluster_is_refused_when_its_key_is_revoked_here() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new();
    let store = fixture.create(&folder.path().join("state"));
    let template = hgs_pki::profile::attestation_signer(hgs_pki::Validity {
        not_before: time(0),
        not_after: time(1000),
    });
    let signer = AttestationSigner {
        certificate: certificate(&fixture.other, template),
        key: None,
        ..fixture.signer_record()
    };
    let thumbprint = signer.thumbprint();
    let last = signer.certificate.validity().not_after;
    let add = Transaction::AddAttestationSigner { signer, key: None };
    store.transact(vec![add], act(1)).unwrap();
    let policy = store.state().host(&HOST).unwrap().credential.policy();
    let foreign = |second, egress| ReleaseRecord {
        recipient: Recipient::Foreign("elsewhere".to_owned()),
        signer: thumbprint,
        policy,
        ..fixture.release(second, 10, egress)
    };
    record(&store, foreign(2, 11)).unwrap();
    let revoke = Transaction::RevokeHost {
        id: HOST,
        reason: "stolen".to_owned(),
    };
    store.transact(vec![revoke], act(3)).unwrap();
    let refusal = refused(record(&store, foreign(4, 12)));
    assert_eq!(
        refusal,
        ReleaseRefusal::Refused(hgs_kps::Reason::HostRevoked)
    );
    // What another host's certificate says is not touched.
    let other = ReleaseRecord {
        policy: digest(77),
        ..foreign(5, 13)
    };
    record(&store, other.clone()).unwrap();
    // A signer of another cluster ends with its certificate.
    let late = ReleaseRecord {
        time: last.checked_add(hgs_pki::Seconds::new(1)).unwrap(),
        ..other
    };
    let refusal = refused(record(&store, late));
    assert_eq!(
        refusal,
        ReleaseRefusal::Refused(
            hgs_pki::health::HealthCertificateError::SignerExpired {
                not_after: last,
                now: last.checked_add(hgs_pki::Seconds::new(1)).unwrap(),
            }
            .into()
        )
    );
}

#[test]
fn a_superseded_key_that_comes_back_is_recorded_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = Fixture::new().create(&folder.path().join("state"));
    for (second, key) in [(1, 1), (2, 2)] {
        let attested = attestation(key, HealthKind::Encryption);
        let attested = Transaction::RecordAttestation(attested);
        store.transact(vec![attested], act(second)).unwrap();
    }
    for second in [3, 4] {
        let returned = Transaction::RecordReturnedIdentity {
            host: HOST,
            identity_key: digest(1),
        };
        store.transact(vec![returned], act(second)).unwrap();
    }
    let state = store.state();
    let identity = state.host_identity(&HOST, &digest(1)).unwrap();
    assert_eq!(identity.returned, Some(time(3)));
    assert_eq!(
        state.host_identity(&HOST, &digest(2)).unwrap().returned,
        None
    );
    assert_eq!(state.identities(&HOST).host_key_shared(time(5)), None);
}

/// attacks.md A2: another host's name or key does not take its place.
#[test]
fn a2_a_host_is_registered_once() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new();
    let store = fixture.create(&folder.path().join("state"));
    let third = SoftwareKey::generate(2048).unwrap();
    let known = hgs_custody::PrivateKey::public(&*fixture.other).clone();
    let fresh = hgs_custody::PrivateKey::public(&third).clone();
    let id = HostId::from_bytes([3; 16]);
    let add = |id, name: &str, host_key: &PublicKey| {
        store.transact(vec![add_host(id, name, host_key)], act(1))
    };
    let refusal = refused(add(id, "node-c", &known));
    assert_eq!(refusal, Refusal::HostKeyKnown("node-b".parse().unwrap()));
    let refusal = refused(add(id, "NODE-A", &fresh));
    assert_eq!(refusal, Refusal::HostNameKnown("node-a".parse().unwrap()));
    let refusal = refused(add(HOST, "node-c", &fresh));
    assert_eq!(refusal, Refusal::HostIdKnown(HOST));
    add(id, "node-c", &fresh).unwrap();
    let state = store.state();
    let names: Vec<_> = state.hosts().map(|host| host.name.as_str()).collect();
    assert_eq!(names, ["node-a", "node-b", "node-c"]);
    assert!(state.host_by_name(&"Node-C".parse().unwrap()).is_some());
}

/// attacks.md A2: one TPM is one host, also against registrations that race.
#[test]
fn a2_one_tpm_is_one_host() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new();
    let store = fixture.create(&folder.path().join("state"));
    let key = endorsement_key(fixture.other.public());
    let add = |octet: u8| {
        let id = HostId::from_bytes([octet; 16]);
        let add = add_tpm_host(id, &format!("tpm-{octet}"), &key);
        store.transact(vec![add], act(1))
    };
    let add = &add;
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let racing: Vec<_> = (1..=8)
            .map(|octet| scope.spawn(move || add(octet)))
            .collect();
        let joined = racing.into_iter().map(|one| one.join().unwrap());
        joined.collect()
    });
    assert_eq!(outcomes.iter().filter(|one| one.is_ok()).count(), 1);
    let state = store.state();
    let id = CredentialId::EndorsementKey(key.digest());
    let host = state.host_by_credential(&id).unwrap();
    for outcome in outcomes.into_iter().filter(Result::is_err) {
        assert_eq!(
            refused(outcome),
            Refusal::EndorsementKeyKnown(host.name.clone())
        );
    }
    // The digest of a host key is not the digest of an endorsement key.
    let as_host_key = CredentialId::HostKey(key.digest());
    assert!(state.host_by_credential(&as_host_key).is_none());
    let entry = store.audit(&AuditFilter::default(), 99).unwrap();
    let added = entry
        .iter()
        .find(|one| one.entry.host == Some(host.id.to_string()));
    let reason = added.unwrap().entry.reason.as_deref().unwrap();
    assert!(reason.contains("without an EK certificate"), "{reason}");
}

/// Of a TPM as of a host key: what was removed or revoked does not come back by itself, under any signer.
#[test]
fn a_tpm_is_barred_by_revocation_and_removal() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    let fixture = Fixture::new();
    let mut store = fixture.create(&directory);
    let key = endorsement_key(fixture.other.public());
    let id = HostId::from_bytes([0xc3; 16]);
    let add = |id| add_tpm_host(id, "tpm", &key);
    store.transact(vec![add(id)], act(1)).unwrap();
    let policy = store.state().host(&id).unwrap().credential.policy();
    let independently = sha256_of(&[b"OpenHGS TPM 1", &sha256(key.public().octets())]);
    assert_eq!(policy, Digest::from_bytes(independently));
    let barred =
        |store: &Store| hgs_kps::HostStandings::is_barred(&*store.state(), policy.as_bytes());
    assert!(!barred(&store));
    let reason = "stolen".to_owned();
    let revoke = Transaction::RevokeHost { id, reason };
    store.transact(vec![revoke], act(2)).unwrap();
    assert!(barred(&store));
    store
        .transact(vec![Transaction::RemoveHost { id }], act(3))
        .unwrap();
    drop(store);
    store = open(&directory).unwrap();
    assert!(barred(&store));
    let credential = CredentialId::EndorsementKey(key.digest());
    let again = HostId::from_bytes([0xd4; 16]);
    let refusal = refused(store.transact(vec![add(again)], act(4)));
    let expected = Refusal::HostRemoved {
        name: "tpm".parse().unwrap(),
        removed: time(3),
        credential,
    };
    assert_eq!(refusal, expected);
    // A host key with the same digest is another credential.
    let digest = *credential.digest();
    let other = Transaction::ReadmitHost {
        credential: CredentialId::HostKey(digest),
    };
    let refusal = refused(store.transact(vec![other], act(5)));
    assert_eq!(
        refusal,
        Refusal::NoSuchRemovedHost(Digest::from_bytes(digest))
    );
    let readmit = Transaction::ReadmitHost { credential };
    store.transact(vec![readmit, add(again)], act(6)).unwrap();
    assert!(!barred(&store));
    let actions: Vec<_> = store.audit(&AuditFilter::default(), 99).unwrap();
    let actions: Vec<_> = actions.iter().map(|record| record.entry.action).collect();
    assert!(actions.contains(&Action::ReadmitEndorsementKey));
    drop(store);
    assert!(open(&directory).is_ok());
}

#[test]
fn heads_and_keys_are_held_to_what_they_must_be() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new();
    let store = fixture.create(&folder.path().join("state"));
    let thumbprint = fixture.encryption.thumbprint();
    let disable = |enabled| {
        let disable = Transaction::SetCertificateEnabled {
            thumbprint,
            enabled,
        };
        store.transact(vec![disable], act(1))
    };
    assert_eq!(refused(disable(false)), Refusal::Primary(thumbprint));
    let second = CertificateRecord {
        certificate: certificate_of(&fixture.other),
        ..fixture.encryption_record()
    };
    let add = |record: &CertificateRecord, key: Option<&Arc<SoftwareKey>>| {
        let record = record.clone();
        let key = key.cloned();
        store.transact(vec![Transaction::AddCertificate { record, key }], act(1))
    };
    let refusal = refused(add(&second, None));
    assert!(matches!(refusal, Refusal::HeadKnown { head, .. } if head == thumbprint));
    let tenant = CertificateRecord {
        lineage: "tenant:Contoso".parse().unwrap(),
        ..second
    };
    assert!(!tenant.is_primary());
    let refusal = refused(add(&tenant, None));
    assert_eq!(refusal, Refusal::KeyMissing(tenant.thumbprint()));
    let refusal = refused(add(&tenant, Some(&fixture.encryption_key)));
    assert_eq!(refusal, Refusal::KeyMismatch(tenant.thumbprint()));
    let token = CertificateRecord {
        key: "pkcs11:object=x".parse().unwrap(),
        ..tenant
    };
    let refusal = refused(add(&token, Some(&fixture.encryption_key)));
    assert_eq!(refusal, Refusal::KeyElsewhere(token.thumbprint()));
    add(&token, None).unwrap();
    let refusal = refused(add(&token, None));
    assert_eq!(refusal, Refusal::CertificateKnown(token.thumbprint()));
}

fn certificate_of(key: &SoftwareKey) -> hgs_pki::Certificate {
    let validity = hgs_pki::Validity {
        not_before: time(0),
        not_after: time(1),
    };
    let template = hgs_pki::profile::guardian_encryption("second", validity);
    certificate(key, template)
}

/// attacks.md K4: the key of a removed signer is removed with it, unless something else needs it.
#[test]
fn k4_a_sealed_key_does_not_outlive_its_use() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new();
    let store = fixture.create(&folder.path().join("state"));
    let signer = AttestationSigner {
        certificate: certificate_of(&fixture.other),
        ..fixture.signer_record()
    };
    let key = Some(Arc::clone(&fixture.other));
    let thumbprint = signer.thumbprint();
    let add = Transaction::AddAttestationSigner { signer, key };
    store.transact(vec![add], act(1)).unwrap();
    let public_key = hgs_custody::PrivateKey::public(&*fixture.other).digest();
    let public_key = Digest::from_bytes(*public_key);
    assert!(store.private_key(&public_key).unwrap().is_some());
    let remove = |thumbprint| Transaction::RemoveAttestationSigner { thumbprint };
    store.transact(vec![remove(thumbprint)], act(2)).unwrap();
    assert!(store.private_key(&public_key).unwrap().is_none());
    let shared = fixture.signer.thumbprint();
    store.transact(vec![remove(shared)], act(3)).unwrap();
    let public_key = Digest::from_bytes(*fixture.encryption.public_key().digest());
    assert!(store.private_key(&public_key).unwrap().is_some());
}

fn by_request(sequence: u64) -> RequestId {
    RequestId {
        run: 0xa1b_2c3d,
        sequence: sequence + 1,
    }
}

#[test]
fn the_audit_log_is_filtered_and_paged() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new();
    let store = fixture.create(&folder.path().join("state"));
    for number in 0..10_i64 {
        let release = ReleaseRecord {
            request: Some(by_request(number.unsigned_abs())),
            ..fixture.release(number, 100, 200 + number.unsigned_abs())
        };
        record(&store, release).unwrap();
    }
    let sequences = |filter: AuditFilter, limit| -> Vec<u64> {
        let records = store.audit(&filter, limit).unwrap();
        records.iter().map(|record| record.sequence).collect()
    };
    // Five records of the beginning: settings, certificate, signer and two hosts.
    assert_eq!(sequences(AuditFilter::default(), 3), [15, 14, 13]);
    let page = AuditFilter {
        before_sequence: Some(8),
        action: Some(Action::Release),
        ..AuditFilter::default()
    };
    assert_eq!(sequences(page, 9), [7, 6]);
    let one = AuditFilter {
        protector: Some(digest(203)),
        ..AuditFilter::default()
    };
    assert_eq!(sequences(one, 9), [9]);
    let of_request = |number, outcome| AuditFilter {
        request: Some(by_request(number)),
        outcome,
        ..AuditFilter::default()
    };
    assert_eq!(sequences(of_request(4, None), 9), [10]);
    assert_eq!(sequences(of_request(4, Some(Outcome::Done)), 9), [10]);
    assert!(sequences(of_request(4, Some(Outcome::Refused)), 9).is_empty());
    assert!(sequences(of_request(99, None), 9).is_empty());
    let host = |name: &str| AuditFilter {
        host: Some(name.to_owned()),
        action: Some(Action::AddHost),
        ..AuditFilter::default()
    };
    assert_eq!(sequences(host("NODE-B"), 9), [5]);
    assert_eq!(sequences(host(&HOST.to_string()), 9), [4]);
    let period = AuditFilter {
        since: Some(time(3)),
        until: Some(time(5)),
        ..AuditFilter::default()
    };
    assert_eq!(sequences(period, 9), [10, 9]);
    let shown = store.audit_record(2).unwrap().unwrap();
    assert_eq!(shown.sequence, 2);
    let written: Vec<_> = shown.changes.iter().map(|change| change.kind).collect();
    // The settings are the gate that every change by an administrator goes through.
    let expected = [
        RecordKind::PrivateKey,
        RecordKind::Certificate,
        RecordKind::Settings,
    ];
    assert_eq!(written, expected);
    assert_eq!(shown.entry.after.unwrap()["label"], "first");
    assert_eq!(store.audit_record(16).unwrap(), None);
    assert_eq!(store.audit_record(0).unwrap(), None);
}

/// The index of the log is in parts, of which a question sees nothing.
#[test]
fn a_long_audit_log_is_filtered_and_paged() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new();
    let store = fixture.create(&folder.path().join("state"));
    let (sender, receiver) = channel();
    // Records 6 to 5005; of each thousand, the first is about another host.
    for number in 0..5000 {
        let entry = AuditEntry {
            host: Some(if number % 1000 == 0 { "rare" } else { "common" }.to_owned()),
            ..AuditEntry::new(time(0), "test", Action::Trace, Outcome::Done)
        };
        let sender = sender.clone();
        let submitted = store.note(entry, move |noted| sender.send(noted).unwrap());
        submitted.unwrap();
        if number % 1000 == 999 {
            let noted = receiver.iter().take(1000);
            assert!(noted.map(Result::ok).all(|number| number.is_some()));
        }
    }
    let sequences = |host: &str, before_sequence, limit| -> Vec<u64> {
        let filter = AuditFilter {
            host: Some(host.to_owned()),
            before_sequence,
            ..AuditFilter::default()
        };
        let records = store.audit(&filter, limit).unwrap();
        records.iter().map(|record| record.sequence).collect()
    };
    assert_eq!(sequences("rare", None, 99), [4006, 3006, 2006, 1006, 6]);
    assert_eq!(sequences("rare", None, 3), [4006, 3006, 2006]);
    assert_eq!(sequences("rare", Some(3006), 2), [2006, 1006]);
    assert!(sequences("absent", None, 99).is_empty());
    let common = sequences("common", None, 9999);
    assert_eq!(common.len(), 4995);
    assert!(common.is_sorted_by(|newer, older| newer > older));
}

/// Commits `release`, and holds the writer in its reply until the sender is used.
fn hold_the_writer(store: &Store, release: ReleaseRecord) -> std::sync::mpsc::SyncSender<()> {
    let (gate, closed) = sync_channel::<()>(0);
    let (started, starts) = channel();
    let hold = move |_| {
        started.send(()).unwrap();
        closed.recv().unwrap();
    };
    store.release(release, hold).unwrap();
    starts.recv().unwrap();
    gate
}

/// Many wait for one commit. Counted, not timed.
#[test]
fn waiting_releases_share_a_commit() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new();
    let store = fixture.create(&folder.path().join("state"));
    let before = store.counters();
    let (told, commits) = channel();
    store.watch_commits(move |commit| told.send((commit.jobs, commit.done)).unwrap());
    let gate = hold_the_writer(&store, fixture.release(1, 1, 1_000));
    let (sender, receiver) = channel();
    for number in 0..600 {
        let sender = sender.clone();
        let release = fixture.release(1, number, 10_000 + number);
        let reply = move |result: Result<_, _>| sender.send(result.is_ok()).unwrap();
        store.release(release, reply).unwrap();
    }
    assert_eq!(store.counters().waiting, 600);
    gate.send(()).unwrap();
    drop(sender);
    assert!(receiver.iter().all(|ok| ok));
    // Told before anybody is answered.
    let told: Vec<_> = commits.try_iter().collect();
    assert_eq!(told, [(1, true), (512, true), (88, true)]);
    let after = store.counters();
    assert_eq!(after.waiting, 0);
    assert_eq!(after.jobs - before.jobs, 601);
    // One for the first, 512 in the second, the rest in the third.
    assert_eq!(after.commits - before.commits, 3);
}

/// A commit waits for what was announced and comes, and for nothing else: for an hour here, so that it shows.
#[test]
fn a_commit_waits_for_what_is_on_its_way() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    let fixture = Fixture::new();
    drop(fixture.create(&directory));
    let hour = std::time::Duration::from_hours(1);
    let store = Store::open_gathering(opening(&directory, &master_key()), hour).unwrap();

    record(&store, fixture.release(1, 1, 2)).unwrap();
    let before = store.counters();
    let announced = store.announce();
    let (sender, receiver) = channel();
    for number in [10, 11] {
        let sender = sender.clone();
        let reply = move |result: Result<_, _>| sender.send(result.is_ok()).unwrap();
        store
            .release(fixture.release(1, number, 100 + number), reply)
            .unwrap();
    }
    assert!(receiver.try_recv().is_err(), "the commit did not wait");
    store.release(fixture.release(1, 12, 112), |_| ()).unwrap();
    drop(announced);
    assert!(receiver.iter().take(2).all(|ok| ok));
    let after = store.counters();
    assert_eq!(after.commits - before.commits, 1);
    assert_eq!(after.jobs - before.jobs, 3);
}

/// attacks.md K14: what waits is bounded.
#[test]
fn k14_a_full_queue_turns_work_away() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new();
    let store = fixture.create(&folder.path().join("state"));
    let gate = hold_the_writer(&store, fixture.release(1, 1, 2));
    let submit = |number| store.release(fixture.release(1, 1, number), |_| ());
    let accepted = (10..).take_while(|number| submit(*number).is_ok()).count();
    assert_eq!(accepted, crate::writer::MAX_WAITING);
    assert_eq!(submit(9), Err(StoreError::Busy));
    assert_eq!(store.check(), Err(StoreError::Busy));
    gate.send(()).unwrap();
}

/// attacks.md K16: a reply that panics takes nothing else with it.
#[test]
fn k16_a_panic_in_a_reply_does_not_end_the_writer() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new();
    let store = fixture.create(&folder.path().join("state"));
    let release = fixture.release(1, 1, 2);
    store.release(release, |_| panic!("on purpose")).unwrap();
    assert!(record(&store, fixture.release(2, 2, 3)).is_ok());
    assert_eq!(store.check(), Ok(()));
}

#[test]
fn closing_finishes_what_waits() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    let fixture = Fixture::new();
    let store = fixture.create(&directory);
    let (sender, receiver) = channel();
    for number in 0..100 {
        let sender = sender.clone();
        let release = fixture.release(1, number, 1_000 + number);
        let reply = move |result: Result<RecordedRelease, _>| sender.send(result.unwrap()).unwrap();
        store.release(release, reply).unwrap();
    }
    drop((store, sender));
    let recorded: Vec<_> = receiver.try_iter().collect();
    assert_eq!(recorded.len(), 100);
    let store = open(&directory).unwrap();
    for recorded in recorded {
        let record = store.audit_record(recorded.sequence()).unwrap().unwrap();
        assert_eq!(record.entry.egress_protector, Some(recorded.egress));
    }
}

#[test]
fn a_full_disk_refuses_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    let fixture = Fixture::new();
    drop(fixture.create(&directory));
    let master_key = master_key();
    let place = StateFolder::take_existing(&directory).unwrap();
    let keys = Arc::new(Keys::derive(&master_key));
    let engine = Sqlite::open(
        place,
        Durability::Full,
        &Program::this(),
        &master_key,
        &keys,
    )
    .unwrap();
    engine.leave_room_for_pages(12);
    let opening = opening(&directory, &master_key);
    let store = OpenedState::through(Box::new(engine), keys, opening)
        .unwrap()
        .start()
        .unwrap();
    let release = |number| record(&store, fixture.release(1, number, number + 1));
    let mut recorded = (1..).map(release).take_while(Result::is_ok).count() as u64;
    assert!(recorded > 10, "{recorded}");
    let state = store.state();
    let attest = |key: u64| {
        let attested = attestation(key, HealthKind::Encryption);
        // New identity keys come slowly enough to be accepted.
        let slowly = act(200 * key.cast_signed());
        store.transact(vec![Transaction::RecordAttestation(attested)], slowly)
    };
    // Smaller things may still fit; what does not is refused as our own fault.
    let failed = (1..).map(attest).find_map(Result::err);
    assert!(
        matches!(failed, Some(Failure::Store(StoreError::DiskFull))),
        "{failed:?}"
    );
    let identities = store.state().host_identities(&HOST).count();
    assert_eq!(state.host_identities(&HOST).count(), 0);
    drop(store);

    // With room again everything goes on, and nothing but what was acknowledged is there.
    let store = open(&directory).unwrap();
    assert_eq!(store.state().host_identities(&HOST).count(), identities);
    assert!(store.seen(&digest(recorded + 1)).unwrap().is_some());
    assert!(store.seen(&digest(recorded + 2)).unwrap().is_none());
    recorded += 1;
    let release = fixture.release(3, recorded, recorded + 1);
    assert_eq!(standing(&store, release), Standing::Head);
}

#[test]
fn every_file_of_the_state_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    let store = Fixture::new().create(&directory);
    let mut names = Vec::new();
    for file in std::fs::read_dir(&directory).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", file.path());
        names.push(file.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["lock", "state.db", "state.db-shm", "state.db-wal"]);
    drop(store);
}

/// A release says what its host may keep; what the host has used is a record of its own.
#[test]
fn offline_use_is_on_record_and_what_was_taken_back_is_not_granted() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new();
    let store = fixture.create(&folder.path().join("state"));
    let caching = KeyCaching {
        unwraps: 5,
        hours: 72,
    };
    let set = |caching| {
        let set = Transaction::SetKeyCaching(caching);
        store.transact(vec![set], act(1)).unwrap();
    };
    let granted = |ingress, egress| {
        let release = fixture.release(2, ingress, egress);
        ReleaseRecord {
            offline_use: Some(OfflineUse::of(caching.policy(release.time))),
            offline_unwraps: NonZeroU32::new(3),
            ..release
        }
    };
    let newest = |action: Action| {
        let filter = AuditFilter {
            action: Some(action),
            ..AuditFilter::default()
        };
        store.audit(&filter, 10).unwrap()
    };
    // Not allowed, or allowed less by the time of the commit.
    assert_eq!(
        refused(record(&store, granted(10, 11))),
        ReleaseRefusal::KeyCachingMeanwhile
    );
    set(Some(KeyCaching {
        unwraps: 4,
        ..caching
    }));
    assert_eq!(
        refused(record(&store, granted(10, 11))),
        ReleaseRefusal::KeyCachingMeanwhile
    );
    assert_eq!(newest(Action::Release)[0].entry.offline_use, None);

    set(Some(caching));
    record(&store, granted(10, 11)).unwrap();
    let release = &newest(Action::Release)[0].entry;
    let until = release.time.checked_add(hgs_pki::Seconds::from_hours(72));
    let offline_use = release.offline_use.unwrap();
    assert_eq!((offline_use.unwraps, Some(offline_use.until)), (5, until));
    // Also with the releases that were refused: the uses have happened.
    let reports = newest(Action::OfflineUnwraps);
    assert_eq!(reports.len(), 3);
    let report = &reports[0].entry;
    assert_eq!(
        (report.count, report.protector),
        (Some(3), Some(digest(10)))
    );
    assert_eq!(report.host, Some(HOST.to_string()));
    assert_eq!(report.egress_protector, None);

    let silent = fixture.release(3, 11, 12);
    record(&store, silent).unwrap();
    assert_eq!(newest(Action::Release)[0].entry.offline_use, None);
    assert_eq!(newest(Action::OfflineUnwraps).len(), 3);
}
