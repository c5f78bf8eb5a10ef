//! The life of a guardian: initialised once, started, stopped and started again.

mod guardian;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use guardian::{METADATA, SIGNING_CERTIFICATES, Site, options};
use hgs_attest::signing_certificates;
use hgs_crypto::SecretBytes;
use hgs_crypto::random::System;
use hgs_custody::{Bundle, BundleError};
use hgs_custody::{SoftwareKey, pem};
use hgs_server::{
    GivenCertificate, GivenError, GuardianError, InitOptions, InitialiseError, KeySize, StartError,
};
use hgs_store::OpenError;
use hgs_testkit::fixtures::{Guardian as Fixture, now};

#[tokio::test]
async fn what_initialisation_makes_is_private_and_what_starts_is_ready() {
    let site = Site::start().await;
    let state = site.folder.path().join("state");
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(state.clone()), 0o700);
    for file in ["master.key", "state.db"] {
        assert_eq!(mode(state.join(file)), 0o600, "{file}");
    }
    let monitoring = site.running().addresses().metrics.unwrap();
    let ready = guardian::exchange(monitoring, "GET", "/health/ready", b"").await;
    assert_eq!((ready.status, ready.text().as_str()), (200, "ready\n"));
}

#[tokio::test]
async fn the_metadata_is_the_guardian_that_was_given_and_stays_the_same_document() {
    let mut site = Site::start().await;
    let fabric = Fixture::named("fabric");
    let guardian = site.guardian().await;
    assert_eq!(*guardian.signing_certificate(), fabric.signing);
    assert_eq!(*guardian.encryption_certificate(), fabric.encryption);
    let first = site.get(METADATA).await;
    let posted = site.post(METADATA, b"").await;
    assert_eq!(first.body, posted.body);
    assert_eq!(
        first.header("content-type"),
        Some("application/xml; charset=utf-8")
    );
    site.restart().await;
    assert_eq!(site.guardian().await, guardian);
}

#[tokio::test]
async fn a_guardian_says_what_it_is_and_who_signs() {
    let site = Site::start().await;
    let info = site.get("/Attestation/getinfo").await;
    assert_eq!(info.status, 200);
    assert!(
        info.text().contains("\"OperationMode\":3"),
        "{}",
        info.text()
    );
    let published = site.get(SIGNING_CERTIFICATES).await;
    let certificates = signing_certificates::read(&published.body).unwrap();
    assert_eq!(certificates.len(), 1);
    assert_eq!(certificates[0].subject(), "CN=OpenHGS Attestation Signer");
}

#[tokio::test]
async fn a_guardian_is_not_made_over_another() {
    let site = Site::initialised("").await;
    let before = fs::read(site.folder.path().join("state/master.key")).unwrap();
    let again = hgs_server::initialise(&site.config, options(), now());
    assert!(
        matches!(again, Err(InitialiseError::AlreadyInitialised { .. })),
        "{again:?}"
    );
    // Nor where its master key has been taken away: a new one would bury the old state.
    fs::remove_file(site.folder.path().join("state/master.key")).unwrap();
    let again = hgs_server::initialise(&site.config, options(), now());
    assert!(
        matches!(again, Err(InitialiseError::AlreadyInitialised { .. })),
        "{again:?}"
    );
    assert!(!site.folder.path().join("state/master.key").exists());
    fs::write(site.folder.path().join("state/master.key"), before).unwrap();
}

#[tokio::test]
async fn a_guardian_that_nobody_initialised_does_not_start() {
    let site = Site::empty("");
    let started = hgs_server::start(&site.config, site.clock.clone()).await;
    assert!(matches!(
        started,
        Err(StartError::Guardian(GuardianError::Store(
            OpenError::NotInitialised { .. }
        )))
    ));
    assert!(
        !site.folder.path().join("state").exists(),
        "nothing was made"
    );
}

#[tokio::test]
async fn one_state_has_one_guardian_and_is_free_when_that_has_stopped() {
    let mut site = Site::start().await;
    let second = hgs_server::start(&site.config, site.clock.clone()).await;
    assert!(matches!(
        second,
        Err(StartError::Guardian(GuardianError::Store(
            OpenError::InUse { .. }
        )))
    ));
    site.restart().await;
}

#[tokio::test]
async fn a_guardian_whose_handle_is_dropped_stops_by_itself() {
    let mut site = Site::start().await;
    site.forget();
    // It fails by the runner's timeout.
    while let Err(error) = hgs_server::start(&site.config, site.clock.clone())
        .await
        .map(drop)
    {
        assert!(error.to_string().contains("in use"), "{error}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn several_guardians_live_in_one_process() {
    let (one, other) = (Site::start().await, Site::start().await);
    assert_ne!(one.http(), other.http());
    let (one, other) = (
        one.get(SIGNING_CERTIFICATES).await,
        other.get(SIGNING_CERTIFICATES).await,
    );
    assert_ne!(one.body, other.body);
}

#[test]
fn a_generated_guardian_has_keys_of_the_size_that_was_asked_for() {
    let site = Site::empty("");
    let made = hgs_server::initialise(
        &site.config,
        InitOptions {
            name: Some("relecloud".to_owned()),
            key_size: KeySize::Rsa2048,
            ..InitOptions::default()
        },
        now(),
    )
    .unwrap();
    assert_eq!(
        made.signing.subject(),
        "CN=OpenHGS Guardian Signing (relecloud)"
    );
    assert_eq!(
        made.encryption.subject(),
        "CN=OpenHGS Guardian Encryption (relecloud)"
    );
    for certificate in [&made.signing, &made.encryption, &made.communications] {
        assert_eq!(certificate.public_key().modulus_bits(), 2048);
    }
}

#[test]
fn a_name_that_does_not_fit_into_certificates_is_refused_before_anything_is_made() {
    let site = Site::empty("");
    for name in ["", "a\u{7}b", &"x".repeat(35)] {
        let options = InitOptions {
            name: Some(name.to_owned()),
            ..options()
        };
        let refused = hgs_server::initialise(&site.config, options, now());
        assert!(
            matches!(refused, Err(InitialiseError::Name(_))),
            "{name:?}: {refused:?}"
        );
    }
    assert!(!site.folder.path().join("state").exists());
}

#[test]
fn a_key_that_is_not_the_certificates_is_refused() {
    let fabric = Fixture::named("fabric");
    let key = SoftwareKey::from_pkcs8_der(fabric.signing_key.pkcs8_der()).unwrap();
    let refused = GivenCertificate::new(fabric.encryption.clone(), key);
    assert!(matches!(refused, Err(GivenError::Mismatch(_))));
}

/// A PFX file by openssl, under the passphrase `correct horse`.
fn pfx_of(certificate: &str, key: &SoftwareKey) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let pem = pem::write_private_key(key, None, &mut System::new()).unwrap();
    fs::write(
        folder.path().join("both.pem"),
        format!("{certificate}{}", *pem),
    )
    .unwrap();
    let output = Command::new(hgs_testkit::tool("openssl", "openssl"))
        .args([
            "pkcs12",
            "-export",
            "-in",
            "both.pem",
            "-passout",
            "pass:correct horse",
        ])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

#[test]
fn certificates_are_given_in_pem_and_in_pfx() {
    let fabric = Fixture::named("fabric");
    let key = SoftwareKey::from_pkcs8_der(fabric.signing_key.pkcs8_der()).unwrap();
    let passphrase = SecretBytes::from(b"correct horse".as_slice());
    let pem = pem::write_private_key(&key, Some(&passphrase), &mut System::new()).unwrap();
    let certificate = fabric.signing.to_pem();
    let one_file = format!("{certificate}{}", *pem);
    for (certificate, key) in [(&certificate, &*pem), (&one_file, &one_file)] {
        let (certificate, key) = (certificate.as_bytes(), key.as_bytes());
        let mut bundle = Bundle::read(certificate, None).unwrap();
        bundle.add(key, None).unwrap();
        assert!(GivenCertificate::from_bundle(&bundle, Some(&passphrase)).is_ok());
        let refused = GivenCertificate::from_bundle(&bundle, None);
        assert!(matches!(refused, Err(GivenError::Files(error)) if error.needs_passphrase()));
    }
    let file = pfx_of(&certificate, &key);
    let bundle = Bundle::read(&file, Some(&passphrase)).unwrap();
    assert!(GivenCertificate::from_bundle(&bundle, None).is_ok());
    let wrong = SecretBytes::from(b"wrong".as_slice());
    let refused = Bundle::read(&file, Some(&wrong)).unwrap_err();
    assert!(matches!(refused, BundleError::Pfx(_)));
}
