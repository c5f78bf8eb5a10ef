//! No secret where it does not belong: not in the files of the state, not in what is shown.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use hgs_crypto::random::System;
use hgs_crypto::rsa::SignatureScheme;
use hgs_crypto::{base64, hex};
use hgs_custody::seal::MasterKey;
use hgs_custody::{KeyReference, PrivateKey as _, SoftwareKey};
use hgs_kps::CertificateKind;
use hgs_kps::Lineage;
use hgs_pki::issue::{Issuer, prepare};
use hgs_pki::{Certificate, Time, Validity, profile};
use hgs_store::{
    Act, AuditFilter, CertificateRecord, Digest, Opening, Settings, Store, Transaction,
};

fn act(second: i64) -> Act {
    Act::new(Time::from_unix(1_800_000_000 + second), "uid 0")
}

fn certificate(key: &SoftwareKey) -> Certificate {
    let validity = Validity {
        not_before: act(0).time,
        not_after: act(1000).time,
    };
    let template = profile::guardian_encryption("test", validity);
    let prepared = prepare(template, key.public(), Issuer::SelfSigned, [1; 16]).unwrap();
    let signature = key.sign(SignatureScheme::Pkcs1Sha256, prepared.to_be_signed());
    prepared.assemble(&signature.unwrap()).unwrap()
}

fn add_certificate(key: &Arc<SoftwareKey>) -> Transaction {
    let record = CertificateRecord {
        kind: CertificateKind::Encryption,
        certificate: certificate(key),
        key: KeyReference::Sealed,
        lineage: Lineage::Fabric,
        enabled: true,
        head: true,
        compromised: None,
        retired: None,
        label: None,
        sha1_only: false,
        added: act(0).time,
    };
    let key = Some(Arc::clone(key));
    Transaction::AddCertificate { record, key }
}

fn create(directory: &Path, master_key: &MasterKey, key: &Arc<SoftwareKey>) -> Store {
    let opening = Opening {
        directory,
        master_key,
        node: "node-1",
        high_water_mark: hgs_store::high_water_mark::default_path(directory),
        random: Box::new(System::new()),
        order: None,
    };
    let settings = Settings::new("hgs".parse().unwrap());
    Store::create(opening, settings, vec![add_certificate(key)], act(0)).unwrap()
}

/// Whether any 12 octets of the secret's second half (the private numbers of an RSA key; the
/// modulus, which is public, stands before) occur in `place`, as they are, in Base64 or in
/// hexadecimal.
fn leaks(secret: &[u8], place: &[u8]) -> bool {
    // Base64 looks the same only where three octets begin.
    let private = &secret[secret.len() / 6 * 3..];
    let parts = || private.windows(12).step_by(3);
    let forms: [HashSet<Vec<u8>>; 3] = [
        parts().map(<[u8]>::to_vec).collect(),
        parts().map(|part| base64::encode(part).into()).collect(),
        parts().map(|part| hex::encode(part).into()).collect(),
    ];
    let lengths = [12, 16, 24];
    forms.iter().zip(lengths).any(|(form, length)| {
        let mut windows = place.windows(length);
        windows.any(|window| form.contains(window))
    })
}

#[test]
fn the_search_finds_a_leak() {
    let key = SoftwareKey::generate(2048).unwrap();
    let secret = key.pkcs8_der().expose();
    assert!(leaks(secret, secret));
    assert!(leaks(secret, base64::encode(secret).as_bytes()));
    assert!(leaks(secret, hex::encode(secret).as_bytes()));
    assert!(!leaks(secret, key.public().spki_der()));
}

/// attacks.md K5: the key is sealed, and stays so whatever else is written later.
#[test]
fn k5_no_update_writes_a_private_key_in_the_clear() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    let master_key = MasterKey::generate(&mut System::new()).unwrap();
    let key = Arc::new(SoftwareKey::generate(2048).unwrap());
    let store = create(&directory, &master_key, &key);
    let settings = Settings {
        health_certificate_seconds: 600,
        ..store.state().settings().clone()
    };
    let update = Transaction::SetSettings(settings);
    store.transact(vec![update], act(1)).unwrap();
    let public_key = Digest::from_bytes(*key.public().digest());
    assert!(store.private_key(&public_key).unwrap().is_some());
    let check = || {
        for file in fs::read_dir(&directory).unwrap() {
            let path = file.unwrap().path();
            let octets = fs::read(&path).unwrap();
            assert!(!leaks(key.pkcs8_der().expose(), &octets), "{path:?}");
            let master = master_key.octets().expose();
            let held = octets.windows(master.len()).any(|window| window == master);
            assert!(!held, "the master key is in {path:?}");
        }
    };
    // With the write-ahead log beside it, and after it was folded into the database.
    assert!(directory.join("state.db-wal").exists());
    check();
    drop(store);
    check();
}

/// attacks.md K9: neither the audit log nor `Debug` shows a private key, sealed or not.
#[test]
fn k9_nothing_that_is_shown_holds_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    let master_key = MasterKey::generate(&mut System::new()).unwrap();
    let key = Arc::new(SoftwareKey::generate(2048).unwrap());
    let store = create(&directory, &master_key, &key);
    let secret = key.pkcs8_der().expose();
    let again = add_certificate(&key);
    let shown = format!("{again:?}");
    assert!(!leaks(secret, shown.as_bytes()), "{shown}");
    let refusal = store.transact(vec![again], act(1)).unwrap_err();
    let shown = format!("{refusal} {refusal:?}");
    assert!(!leaks(secret, shown.as_bytes()), "{shown}");
    for record in store.audit(&AuditFilter::default(), 100).unwrap() {
        let shown = format!("{record:?}");
        assert!(!leaks(secret, shown.as_bytes()), "{shown}");
        let mut values = [&record.entry.before, &record.entry.after]
            .into_iter()
            .flatten();
        assert!(values.all(|value| value.get("sealed").is_none()), "{shown}");
    }
    let public_key = Digest::from_bytes(*key.public().digest());
    let shown = format!("{:?}", store.private_key(&public_key).unwrap());
    assert!(!leaks(secret, shown.as_bytes()), "{shown}");
}
