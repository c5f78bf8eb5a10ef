//! A state goes into a document and comes out of it, into nothing or into another state.

use std::path::Path;
use std::sync::Arc;

use hgs_attest::CredentialId;
use hgs_attest::policy::RecordedEvidence;
use hgs_crypto::SecretBytes;
use hgs_custody::PrivateKey as _;
use hgs_custody::seal::MasterKey;
use hgs_pki::{Validity, profile};
use hgs_tcg::event_log::{Bank, PcrValues};
use proptest::prelude::*;
use tempfile::{TempDir, tempdir};

use crate::backup::{
    About, Configuration, Document, MAX_LINE_LENGTH, Resolution, Snapshot, fuzzing,
};
use crate::fixture::{
    Fixture, HOST, OTHER_HOST, TPM_HOST, act, add_host, attestation, certificate, digest,
    master_key, open, opening, record, time, tpm_transactions,
};
use crate::model::{CertificateRecord, Credential, Digest};
use crate::{
    Action, Attempted, Attestation, AuditFilter, EvidenceToKeep, Import, ImportError, Imported,
    LastAttempt, OpenError, Opening, Standing, Store, Transaction,
};
use hgs_pki::health::HealthKind;
use hgs_pki::health::HostId;

/// A site with a past: a host that is barred, an identity key that was superseded, a protector that was rolled twice.
struct Site {
    fixture: Fixture,
    folder: TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Self {
            fixture: Fixture::new(),
            folder: tempdir().unwrap(),
        };
        let store = site.fixture.create(&site.state());
        let reason = "stolen".to_owned();
        let past = vec![
            Transaction::RecordAttestation(attestation(1, HealthKind::Encryption)),
            Transaction::RecordAttestation(attestation(2, HealthKind::Encryption)),
            Transaction::RevokeHost {
                id: OTHER_HOST,
                reason,
            },
        ];
        store.transact(past, act(5)).unwrap();
        store
            .transact(tpm_transactions(&site.fixture), act(5))
            .unwrap();
        let tenant = Transaction::AddCertificate {
            record: site.tenants_certificate(),
            key: None,
        };
        store.transact(vec![tenant], act(6)).unwrap();
        record(&store, site.fixture.release(10, 100, 101)).unwrap();
        record(&store, site.fixture.release(11, 101, 102)).unwrap();
        drop(store);
        site
    }

    /// A tenant's certificate, whose key is in a token.
    fn tenants_certificate(&self) -> CertificateRecord {
        let validity = Validity {
            not_before: time(0),
            not_after: time(1000),
        };
        let template = profile::guardian_encryption("tenant", validity);
        CertificateRecord {
            certificate: certificate(&self.fixture.other, template),
            key: "pkcs11:token=hgs;object=tenant".parse().unwrap(),
            sha1_only: true,
            lineage: "tenant:Contoso".parse().unwrap(),
            head: false,
            ..self.fixture.encryption_record()
        }
    }

    fn state(&self) -> std::path::PathBuf {
        self.folder.path().join("state")
    }

    fn document(&self) -> Vec<u8> {
        document(&self.state(), &master_key())
    }
}

fn document(directory: &Path, master_key: &MasterKey) -> Vec<u8> {
    let snapshot = Snapshot::open(directory, master_key).unwrap();
    let about = About {
        time: time(20),
        program: "test",
        node: "node-1",
        configuration: Some(Configuration {
            file: "/etc/openhgs/openhgs.toml".to_owned(),
            text: "[server]\nname = \"node-1\"\n".to_owned(),
        }),
    };
    let mut document = Vec::new();
    snapshot.write(about, &mut document).unwrap();
    document
}

fn import(resolution: Resolution) -> Import {
    Import {
        name: None,
        resolution,
        dry_run: false,
        file: digest(77),
        act: act(30),
    }
}

fn other_master_key() -> MasterKey {
    MasterKey::from_octets(SecretBytes::from(&hgs_testkit::fixtures::key_octets(9)[..])).unwrap()
}

fn restore(directory: &Path, document: &[u8], import: &Import) -> Result<Imported, ImportError> {
    let key = other_master_key();
    Store::restore(
        elsewhere(directory, &key),
        Document::open(document)?,
        import,
    )
}

fn elsewhere<'a>(directory: &'a Path, master_key: &'a MasterKey) -> Opening<'a> {
    Opening {
        node: "node-2",
        ..opening(directory, master_key)
    }
}

fn open_elsewhere(directory: &Path) -> Result<Store, OpenError> {
    Store::open(elsewhere(directory, &other_master_key()))
}

fn merge(directory: &Path, document: &[u8], import: &Import) -> Result<Imported, ImportError> {
    let key = master_key();
    Store::merge(opening(directory, &key), Document::open(document)?, import)
}

/// The lines of a document that say something about the guardian.
fn told(document: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(document).unwrap();
    let lines = text.lines().filter(|line| {
        let aside = ["{\"header\"", "{\"audit\"", "{\"attestation-signer\""];
        !aside.iter().any(|kind| line.starts_with(kind))
    });
    lines.map(str::to_owned).collect()
}

#[test]
fn everything_comes_back_under_another_name_and_master_key() {
    let site = Site::new();
    let document = site.document();
    let folder = tempdir().unwrap();
    let directory = folder.path().join("state");
    let named = Import {
        name: Some("moved".parse().unwrap()),
        ..import(Resolution::Refuse)
    };
    let imported = restore(&directory, &document, &named).unwrap();
    assert_eq!((imported.protectors, imported.conflicts), (3, vec![]));
    assert_eq!(
        imported.configuration.unwrap().file,
        "/etc/openhgs/openhgs.toml"
    );

    let store = open_elsewhere(&directory).unwrap();
    let state = store.state();
    assert_eq!(state.settings().name.as_str(), "moved");
    assert!(state.host(&OTHER_HOST).unwrap().revoked.is_some());
    let superseded = state.host_identity(&HOST, &digest(1)).unwrap().superseded;
    assert_eq!(superseded, Some(time(5)));
    let key = site.fixture.encryption_key.public();
    let opened = store
        .private_key(&Digest::from_bytes(*key.digest()))
        .unwrap();
    assert_eq!(opened.unwrap().public(), key);
    // A host with a TPM is known by it, and so is who vouched for it.
    let there = open(&site.state()).unwrap();
    let (tpm_host, ours) = (state.host(&TPM_HOST).unwrap(), there.state());
    assert_eq!(Some(tpm_host), ours.host(&TPM_HOST));
    assert!(tpm_host.platform.endorsement_certificate.is_some());
    assert!(
        state
            .endorsement_roots()
            .eq(there.state().endorsement_roots())
    );
    assert_eq!(state.endorsement_roots().count(), 1);
    drop(there);
    // A key in a token is named.
    let tenants = state
        .certificate(&site.tenants_certificate().thumbprint())
        .unwrap();
    assert_eq!(tenants.key.to_string(), "pkcs11:token=hgs;object=tenant");
    // Their signer is believed and signs no more.
    let signer = state
        .attestation_signer(&site.fixture.signer.thumbprint())
        .unwrap();
    assert_eq!((signer.retired, signer.is_own()), (true, true));

    let audit = store.audit(&AuditFilter::default(), 10).unwrap();
    assert_eq!(
        (audit.len(), audit[0].entry.action),
        (1, Action::ImportState)
    );
    assert_eq!(
        audit[0].entry.after.as_ref().unwrap()["file"],
        digest(77).to_string()
    );

    // What it writes is what was read, but for the name.
    let renamed = |line: String| line.replace("\"name\":\"moved\"", "\"name\":\"hgs\"");
    let again: Vec<_> = told(&self::document(&directory, &other_master_key()))
        .into_iter()
        .map(renamed)
        .collect();
    assert_eq!(again, told(&document));
    // The tree goes on where it was: the newest is the head, what it was made from is reported.
    let standing = |ingress, egress| {
        let recorded = record(&store, site.fixture.release(40, ingress, egress));
        recorded.unwrap().standing()
    };
    assert_eq!(standing(100, 110), Standing::Ancestor);
    assert_eq!(standing(102, 103), Standing::Head);
    assert_eq!(standing(101, 111), Standing::Ancestor);
    assert_eq!(standing(103, 104), Standing::Head);
    drop(store);
    open_elsewhere(&directory).unwrap();
}

#[test]
fn a_snapshot_is_taken_beside_a_server_that_goes_on_writing() {
    let site = Site::new();
    let store = open(&site.state()).unwrap();
    let before = Snapshot::open(&site.state(), &master_key()).unwrap();
    record(&store, site.fixture.release(20, 102, 103)).unwrap();
    let removed = vec![Transaction::RemoveHost { id: OTHER_HOST }];
    store.transact(removed, act(21)).unwrap();
    assert!(before.state().host(&OTHER_HOST).is_some());
    let about = About {
        time: time(22),
        program: "test",
        node: "node-1",
        configuration: None,
    };
    let mut document = Vec::new();
    let header = before.write(about, &mut document).unwrap();
    assert_eq!(header.protectors, 3);
    let folder = tempdir().unwrap();
    let directory = folder.path().join("state");
    restore(&directory, &document, &import(Resolution::Refuse)).unwrap();
    assert!(
        open_elsewhere(&directory)
            .unwrap()
            .state()
            .host(&OTHER_HOST)
            .is_some()
    );
}

#[test]
fn what_is_cut_off_changes_nothing() {
    let site = Site::new();
    let document = site.document();
    let lines: Vec<usize> = document
        .iter()
        .enumerate()
        .filter(|(_, octet)| **octet == b'\n')
        .map(|(place, _)| place + 1)
        .collect();
    let target = Site::new();
    for end in lines
        .into_iter()
        .flat_map(|end| [end - 2, end - 1, end])
        .filter(|end| *end < document.len())
    {
        let folder = tempdir().unwrap();
        let directory = folder.path().join("state");
        let cut = &document[..end];
        assert!(
            restore(&directory, cut, &import(Resolution::Refuse)).is_err(),
            "{end}"
        );
        let opened = open_elsewhere(&directory);
        assert!(
            matches!(opened, Err(OpenError::NotInitialised { .. })),
            "{end}"
        );
        assert!(merge(&target.state(), cut, &import(Resolution::TakeTheirs)).is_err());
    }
    let longer = [&document[..], b"{\"audit\":{}}\n"].concat();
    assert!(merge(&target.state(), &longer, &import(Resolution::TakeTheirs)).is_err());
    let store = open(&target.state()).unwrap();
    let hosts: Vec<_> = store
        .state()
        .hosts()
        .map(|host| host.name.to_string())
        .collect();
    assert_eq!(hosts, ["node-a", "node-b", "node-t"]);
    assert!(
        store
            .state()
            .certificate(&site.fixture.encryption.thumbprint())
            .is_none()
    );
    assert_eq!(
        store.seen(&digest(102)).unwrap().map(|seen| seen.first),
        Some(time(11))
    );
}

#[test]
fn the_same_document_twice_changes_nothing_more() {
    let site = Site::new();
    let document = site.document();
    let imported = merge(&site.state(), &document, &import(Resolution::Refuse)).unwrap();
    assert_eq!(
        (imported.written, imported.removed, imported.protectors),
        (0, 0, 0)
    );
    let store = open(&site.state()).unwrap();
    let state = store.state();
    let signer = state
        .attestation_signer(&site.fixture.signer.thumbprint())
        .unwrap();
    assert!(!signer.retired, "our own signs on");
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_not() {
    let (site, target) = (Site::new(), Site::new());
    let dry = Import {
        dry_run: true,
        ..import(Resolution::TakeTheirs)
    };
    let before = told(&target.document());
    let would = merge(&target.state(), &site.document(), &dry).unwrap();
    assert_eq!(told(&target.document()), before);
    let done = merge(
        &target.state(),
        &site.document(),
        &import(Resolution::TakeTheirs),
    )
    .unwrap();
    assert_eq!(
        (would.written, would.conflicts),
        (done.written, done.conflicts)
    );
    assert_ne!(told(&target.document()), before);
}

/// Two guardians that have hosts of the same names and ids, and each a head.
#[test]
fn conflicts_are_named_and_somebody_prevails() {
    let (site, target) = (Site::new(), Site::new());
    let document = site.document();
    let ImportError::Conflicts(conflicts) =
        merge(&target.state(), &document, &import(Resolution::Refuse)).unwrap_err()
    else {
        panic!("conflicts");
    };
    let named: Vec<_> = conflicts
        .iter()
        .map(|one| (one.name.as_str(), one.what))
        .collect();
    let expected = [
        ("fabric encryption", "head"),
        ("node-a", "credential"),
        ("node-b", "credential"),
        ("node-t", "credential"),
    ];
    assert_eq!(named, expected);
    assert!(
        conflicts[0]
            .to_string()
            .starts_with("certificate fabric encryption: head is ")
    );

    merge(&target.state(), &document, &import(Resolution::KeepOurs)).unwrap();
    let head_and_host = |target: &Site| {
        let store = open(&target.state()).unwrap();
        let state = store.state();
        assert_eq!(state.certificates().count(), 4);
        let head = state
            .certificates()
            .find(|one| one.head)
            .unwrap()
            .thumbprint();
        (head, state.host(&HOST).unwrap().credential.clone())
    };
    let spki = |site: &Site| {
        let key = site.fixture.encryption_key.public();
        Credential::HostKey(key.spki_der().to_vec())
    };
    let of = |site: &Site| (site.fixture.encryption.thumbprint(), spki(site));
    assert_eq!(head_and_host(&target), of(&target));
    merge(&target.state(), &document, &import(Resolution::TakeTheirs)).unwrap();
    assert_eq!(head_and_host(&target), of(&site));
}

/// attacks.md K4: an old backup must not let anybody in again.
#[test]
fn k4_no_import_lifts_a_revocation() {
    for resolution in [
        Resolution::Refuse,
        Resolution::KeepOurs,
        Resolution::TakeTheirs,
    ] {
        let site = Site::new();
        let old = site.document();
        let store = open(&site.state()).unwrap();
        let reason = "lost".to_owned();
        store
            .transact(vec![Transaction::RevokeHost { id: HOST, reason }], act(25))
            .unwrap();
        drop(store);
        merge(&site.state(), &old, &import(resolution)).unwrap();
        let store = open(&site.state()).unwrap();
        assert!(
            store.state().host(&HOST).unwrap().revoked.is_some(),
            "{resolution:?}"
        );
    }
    // The host under another name and id, barred there.
    for resolution in [Resolution::KeepOurs, Resolution::TakeTheirs] {
        let site = Site::new();
        let document = site.document();
        let renamed = HostId::from_bytes([0xc3; 16]);
        let store = open(&site.state()).unwrap();
        let host_key = site.fixture.other.public();
        let credential = CredentialId::HostKey(*host_key.digest());
        let add = add_host(renamed, "renamed", host_key);
        store
            .transact(
                vec![
                    Transaction::RemoveHost { id: OTHER_HOST },
                    Transaction::ReadmitHost { credential },
                    add,
                ],
                act(26),
            )
            .unwrap();
        drop(store);
        merge(&site.state(), &document, &import(resolution)).unwrap();
        let store = open(&site.state()).unwrap();
        let state = store.state();
        let host = state.host_by_credential(&credential).unwrap();
        assert!(host.revoked.is_some(), "{resolution:?}");
        let expected = if resolution == Resolution::KeepOurs {
            renamed
        } else {
            OTHER_HOST
        };
        assert_eq!(host.id, expected);
    }
}

#[test]
fn a_state_that_is_there_is_not_made_anew() {
    let site = Site::new();
    let document = site.document();
    let key = master_key();
    let restored = Store::restore(
        opening(&site.state(), &key),
        Document::open(&document[..]).unwrap(),
        &import(Resolution::TakeTheirs),
    );
    assert!(matches!(
        restored,
        Err(ImportError::AlreadyInitialised { .. })
    ));
}

#[test]
fn documents_that_contradict_themselves_are_refused() {
    let site = Site::new();
    let text = String::from_utf8(site.document()).unwrap();
    let with = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        let folder = tempdir().unwrap();
        let text = text.replacen(from, to, 1);
        let refused = restore(
            &folder.path().join("state"),
            text.as_bytes(),
            &import(Resolution::Refuse),
        );
        refused.unwrap_err().to_string()
    };
    assert_eq!(
        with("openhgs-state", "other-state"),
        "not the state of a guardian"
    );
    assert!(with("\"version\":3", "\"version\":5").contains("version 5"));
    // One of version 4 says at which level it is.
    assert!(with("\"version\":3", "\"version\":4").contains("malformed"));
    assert!(with("\"protectors\":3", "\"protectors\":2").contains("as many lines"));
    assert!(with("\"protectors\":3", "\"protectors\":99999999999").contains("at most"));
    assert!(with("\"records\":", "\"records\":9999999").contains("at most"));
    let long = format!("\"reason\":\"{}", "x".repeat(MAX_LINE_LENGTH));
    assert!(with("\"reason\":\"", &long).contains("octets"));
    let long = format!("\"reason\":\"{}", "x".repeat(1025));
    assert!(with("\"reason\":\"", &long).contains("too long"));
    assert!(with("\"name\":\"node-b\"", "\"name\":\"NODE-A\"").contains("can't be registered"));
    assert!(with("\"host\":\"a1a1", "\"host\":\"a2a1").contains("which is not there"));
    assert!(
        with(
            "\"health_certificate_seconds\":28800",
            "\"health_certificate_seconds\":1"
        )
        .contains("seconds")
    );
    let broken = with("\"pkcs8\":\"MII", "\"pkcs8\":\"MIJ");
    assert!(
        broken.starts_with("the records can't be one guardian's: the private key"),
        "{broken}"
    );
    // A private key that stands where it does not belong is not repeated.
    let key_line = text.lines().find(|line| line.contains("pkcs8")).unwrap();
    let secret = key_line.split('"').nth_back(1).unwrap();
    let malformed = with(
        "\"lineage\":\"fabric\"",
        &format!("\"lineage\":[\"{secret}\"]"),
    );
    assert!(
        malformed.contains("malformed at line") && !malformed.contains(secret),
        "{malformed}"
    );
}

/// attacks.md K9.
#[test]
fn k9_debug_shows_no_private_key() {
    let document = Site::new().document();
    let mut document = Document::open(&document[..]).unwrap();
    let mut keys = 0;
    while let Some(item) = document.next().unwrap() {
        let shown = format!("{document:?} {item:?}");
        assert!(
            !shown.contains("MII") && shown.contains("Lines(at "),
            "{shown}"
        );
        keys += usize::from(shown.contains("PrivateKey(KeyText"));
    }
    assert!(keys > 0);
}

/// attacks.md K4: a sealed key must not outlive what it was for.
#[test]
fn k4_a_key_that_moved_into_a_token_is_not_kept() {
    let site = Site::new();
    let text = String::from_utf8(site.document()).unwrap();
    let moved = text.replacen("\"key\":\"sealed\"", "\"key\":\"pkcs11:object=moved\"", 2);
    let lines = moved
        .lines()
        .filter(|line| !line.starts_with("{\"private-key\""));
    let moved: String = lines.map(|line| format!("{line}\n")).collect();
    let records = Document::open(text.as_bytes()).unwrap().header().records;
    let from = format!("\"records\":{records}");
    let moved = moved.replacen(&from, &format!("\"records\":{}", records - 1), 1);
    let public = site.fixture.encryption_key.public();
    let is_sealed = || {
        let store = open(&site.state()).unwrap();
        let key = Digest::from_bytes(*public.digest());
        store.private_key(&key).unwrap().is_some()
    };
    let store = open(&site.state()).unwrap();
    let thumbprint = site.fixture.signer.thumbprint();
    let remove = Transaction::RemoveAttestationSigner { thumbprint };
    store.transact(vec![remove], act(29)).unwrap();
    drop(store);
    assert!(is_sealed());
    merge(
        &site.state(),
        moved.as_bytes(),
        &import(Resolution::TakeTheirs),
    )
    .unwrap();
    assert!(!is_sealed());
}

#[test]
fn mutated_documents_never_panic() {
    let corpus = [Site::new().document()];
    let tokens: [&[u8]; 5] = [b"\n", b"\"head\":true", b"null", b"{\"host\":", b"\\u0000"];
    for mutated in hgs_testkit::Mutations::of(&corpus, &tokens).take(1500) {
        fuzzing::fuzz_state_document(&mutated);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Any tree that releases make goes through a document as it is.
    #[test]
    fn trees_come_back_as_they_were(steps in prop::collection::vec(0_u64..40, 1..30)) {
        let fixture = shared_fixture();
        let folder = tempdir().unwrap();
        let directory = folder.path().join("state");
        let store = fixture.create(&directory);
        for (number, ingress) in steps.iter().enumerate() {
            // Some of what was given back comes back.
            let (second, egress) = (10 + number as i64, number as u64);
            let _ = record(&store, fixture.release(second, *ingress, egress));
        }
        drop(store);
        let written = document(&directory, &master_key());
        let copy = folder.path().join("copy");
        restore(&copy, &written, &import(Resolution::Refuse)).unwrap();
        prop_assert_eq!(told(&document(&copy, &other_master_key())), told(&written));
        // And taking it in where it came from changes nothing.
        let again = merge(&directory, &written, &import(Resolution::Refuse)).unwrap();
        prop_assert_eq!((again.written, again.protectors), (0, 0));
    }
}

/// Evidence is in no backup, and neither is the attempt that it belongs to: nothing refers to what is not there.
#[test]
fn the_last_evidence_of_hosts_is_not_in_it() {
    let site = Site::new();
    let store = open(&site.state()).unwrap();
    let mut values = PcrValues::new(Bank::Sha256);
    values.insert(0, &[1; 32]).unwrap();
    let evidence = RecordedEvidence {
        values,
        log: b"log".to_vec(),
        ima: Vec::new(),
        preimages: Vec::new(),
        unexplained: Vec::new(),
    };
    let evidence = EvidenceToKeep::of(&evidence).unwrap();
    let attempted = Attempted {
        host: TPM_HOST,
        attempt: LastAttempt {
            evidence: Some(evidence.digest()),
            ..LastAttempt::healthy(time(70))
        },
        evidence: Some(evidence),
    };
    let attested = Attestation {
        host: TPM_HOST,
        attempted: Some(Box::new(attempted)),
        ..attestation(7, HealthKind::Encryption)
    };
    let transaction = Transaction::RecordAttestation(attested);
    store.transact(vec![transaction], act(70)).unwrap();
    assert!(store.evidence(&TPM_HOST).unwrap().is_some());
    drop(store);

    let document = site.document();
    let folder = tempdir().unwrap();
    let directory = folder.path().join("state");
    restore(&directory, &document, &import(Resolution::Refuse)).unwrap();
    let store = open_elsewhere(&directory).unwrap();
    assert_eq!(store.evidence(&TPM_HOST), Ok(None));
    let host = store.state().host(&TPM_HOST).unwrap().clone();
    assert_eq!(host.last_attempt, None);
    assert_eq!(host.last_attested, Some(time(70)));
    drop(store);
    // Where the evidence is, a backup takes it not away.
    merge(&site.state(), &document, &import(Resolution::TakeTheirs)).unwrap();
    let store = open(&site.state()).unwrap();
    assert!(store.evidence(&TPM_HOST).unwrap().is_some());
}

fn shared_fixture() -> Arc<Fixture> {
    static FIXTURE: std::sync::OnceLock<Arc<Fixture>> = std::sync::OnceLock::new();
    Arc::clone(FIXTURE.get_or_init(|| Arc::new(Fixture::new())))
}

/// The diagnosis of a state that was tampered with knows what an import wrote.
#[test]
fn what_is_missing_after_an_import_is_named() {
    let site = Site::new();
    let document = site.document();
    for (sql, expected) in [
        (
            "DELETE FROM record WHERE kind = 'host' AND name LIKE 'b2%'",
            ("host", HostId::to_string(&OTHER_HOST)),
        ),
        (
            "DELETE FROM lineage WHERE stage = 1",
            ("store", "1".to_owned()),
        ),
    ] {
        let folder = tempdir().unwrap();
        let directory = folder.path().join("state");
        restore(&directory, &document, &import(Resolution::Refuse)).unwrap();
        let connection =
            rusqlite::Connection::open(directory.join(crate::state_folder::DATABASE)).unwrap();
        assert_eq!(connection.execute(sql, ()).unwrap(), 1);
        drop(connection);
        let Err(OpenError::Tampered(tampered)) = open_elsewhere(&directory) else {
            panic!("{sql}");
        };
        assert_eq!((tampered.table.as_str(), tampered.name), expected);
    }
}

/// A newer program beside a server that has not been started again.
#[test]
fn a_snapshot_needs_a_schema_that_it_knows() {
    let site = Site::new();
    let connection =
        rusqlite::Connection::open(site.state().join(crate::state_folder::DATABASE)).unwrap();
    for (version, expected) in [(8, "reads 9 beside a server"), (10, "knows up to 9")] {
        let sql = "UPDATE store SET schema_version = ?1";
        connection.execute(sql, [version]).unwrap();
        let refused = Snapshot::open(&site.state(), &master_key())
            .err()
            .unwrap()
            .to_string();
        assert!(refused.contains(expected), "{refused}");
    }
    let nowhere = tempdir().unwrap();
    let refused = Snapshot::open(nowhere.path(), &master_key()).err().unwrap();
    assert!(matches!(refused, OpenError::NotInitialised { .. }));
    let refused = Snapshot::open(&site.state(), &other_master_key())
        .err()
        .unwrap();
    assert!(matches!(refused, OpenError::WrongMasterKey));
}
