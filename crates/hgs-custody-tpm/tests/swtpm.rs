//! TPMs in software (swtpm), judged by tpm2-tools and openssl.

use std::fs;
use std::io::{Read, Write as _};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use hgs_crypto::SecretBytes;
use hgs_crypto::random::System;
use hgs_crypto::rsa::{OaepHash, SignatureScheme};
use hgs_custody::{KeyError, PrivateKey as _};
use hgs_custody_tpm::simulator::SimulatorAuthority;
use hgs_custody_tpm::{AttestedKey, Device, Journal, Tpm, TpmError, TpmKey};
use hgs_pki::endorsement::{EndorsementAuthority, EndorsementRoots};
use hgs_pki::{Seconds, pem};
use hgs_tcg::event_log::{Bank, EventLog, Limits, PcrValues};
use hgs_tcg::tpm::{
    self, EndorsementKey, KeyPurpose, KeyTemplate, KeyUseError, PcrSelection, Primary,
    StartingSession, policy_pcr,
};
use hgs_testkit::swtpm::{SoftwareTpm, altered_log};
use hgs_testkit::{shared, tool};

const PCRS: [u8; 3] = [0, 4, 9];

/// A key that a server has had made in this TPM.
fn attested(device: &Device, purpose: KeyPurpose) -> AttestedKey {
    let mut tpm = Tpm::open(device, None).unwrap();
    let random = &mut System::new();
    let values = tpm.pcr_values().unwrap();
    let values = PCRS.map(|pcr| {
        let value = values.value(pcr.into()).unwrap();
        value.as_bytes().try_into().unwrap()
    });
    let pcrs = PcrSelection::new(PCRS).unwrap();
    let template = KeyTemplate {
        purpose,
        policy: policy_pcr(pcrs, &values).unwrap(),
    };
    let command = tpm::Command::CreatePrimary(Primary::EndorsementKey);
    let created = tpm::created_primary(&tpm.execute(&command.octets()).unwrap()).unwrap();
    let endorsement_key = EndorsementKey::parse(created.public.octets()).unwrap();
    let (starting, command) =
        StartingSession::start(&endorsement_key, created.handle, random).unwrap();
    let session = starting.started(&tpm.execute(&command.octets()).unwrap());
    let (storage_root_key, parent) = tpm.storage_root_key().unwrap();
    let asked = session
        .unwrap()
        .create((&storage_root_key, parent), template, None, random);
    let (awaiting, command) = asked.unwrap();
    let response = tpm.execute(&command.octets()).unwrap();
    let (_, created) = awaiting.verify(&response).unwrap();
    let blob = tpm::created_key(&response).unwrap();
    assert_eq!(blob.public, *created.public());
    AttestedKey {
        blob,
        pcrs,
        storage_root_key,
    }
}

/// Handles of loaded keys and sessions, as tpm2_getcap lists them.
fn loaded(tpm: &mut SoftwareTpm) -> String {
    ["handles-transient", "handles-loaded-session"]
        .map(|which| {
            let output = tpm.tool("tpm2_getcap", &[which]);
            String::from_utf8(output.stdout).unwrap()
        })
        .concat()
}

#[test]
fn a_secret_is_decrypted_in_the_tpm_and_no_slot_stays_taken() {
    let mut tpm = SoftwareTpm::new();
    let device = tpm.device();
    let key = TpmKey::new(attested(&device, KeyPurpose::Encryption), device, None).unwrap();
    let secret = SecretBytes::new(b"a transfer key of 32 octets here".to_vec());
    let ciphertext = key
        .public()
        .encrypt_oaep(OaepHash::Sha256, &secret)
        .unwrap();
    assert_eq!(key.decrypt(OaepHash::Sha256, &ciphertext), Ok(secret));
    assert_eq!(loaded(&mut tpm), "");

    // The same by openssl.
    let path = |name: &str| tpm.folder().join(name);
    fs::write(
        path("key.pem"),
        pem::encode("PUBLIC KEY", key.public().spki_der()),
    )
    .unwrap();
    fs::write(path("secret"), b"from openssl").unwrap();
    let encrypted = Command::new(tool("openssl", "openssl"))
        .args(["pkeyutl", "-encrypt", "-pubin", "-inkey"])
        .arg(path("key.pem"))
        .args([
            "-pkeyopt",
            "rsa_padding_mode:oaep",
            "-pkeyopt",
            "rsa_oaep_md:sha256",
            "-in",
        ])
        .arg(path("secret"))
        .output()
        .unwrap();
    let opened = key.decrypt(OaepHash::Sha256, &encrypted.stdout).unwrap();
    assert_eq!(opened.expose(), b"from openssl");

    // What was not made for this key, or with another hash.
    let mut altered = ciphertext.clone();
    altered[100] ^= 1;
    assert_eq!(
        key.decrypt(OaepHash::Sha256, &altered),
        Err(KeyError::Refused)
    );
    let short = key.decrypt(OaepHash::Sha256, &ciphertext[1..]);
    assert_eq!(short, Err(KeyError::Refused));
    let sha1 = key.decrypt(OaepHash::Sha1, &ciphertext);
    assert_eq!(sha1, Err(KeyError::Unsupported));
    assert!(matches!(
        key.sign(SignatureScheme::Pkcs1Sha256, b"message"),
        Err(KeyError::Unavailable { .. })
    ));
    assert_eq!(loaded(&mut tpm), "");
}

#[test]
fn a_signature_of_the_tpm_verifies() {
    let mut tpm = SoftwareTpm::new();
    let device = tpm.device();
    let key = TpmKey::new(attested(&device, KeyPurpose::Signing), device, None).unwrap();
    let signature = key.sign(SignatureScheme::Pkcs1Sha256, b"message").unwrap();
    let verified = |message: &[u8]| {
        key.public()
            .verify(SignatureScheme::Pkcs1Sha256, message, &signature)
    };
    assert!(verified(b"message").is_ok());
    assert!(verified(b"another").is_err());
    let pss = key.sign(SignatureScheme::PssSha256, b"message");
    assert_eq!(pss, Err(KeyError::Unsupported));
    assert!(key.capabilities().unwrap().pkcs1_sha256);
    assert!(!key.capabilities().unwrap().oaep_sha256);
    assert_eq!(loaded(&mut tpm), "");
}

#[test]
fn a_key_stops_working_when_its_pcrs_change_and_only_then() {
    let mut tpm = SoftwareTpm::new();
    let device = tpm.device();
    let key = attested(&device, KeyPurpose::Encryption);
    let public = key.blob.public.rsa_key().unwrap();
    let secret = SecretBytes::new(vec![7; 32]);
    let ciphertext = public.encrypt_oaep(OaepHash::Sha256, &secret).unwrap();
    let decrypt = |device: &Device| {
        let mut tpm = Tpm::open(device, None).unwrap();
        tpm.decrypt(&key, &ciphertext)
    };
    let mut opened = Tpm::open(&device, None).unwrap();
    opened.extend_pcr(10, &[1; 32]).unwrap();
    drop(opened);
    assert_eq!(decrypt(&device).unwrap(), secret);
    let mut opened = Tpm::open(&device, None).unwrap();
    opened.extend_pcr(9, &[1; 32]).unwrap();
    drop(opened);
    let error = decrypt(&device).unwrap_err();
    assert!(
        matches!(error, TpmError::KeyUse(KeyUseError::PcrsChanged)),
        "{error}"
    );
    assert!(error.needs_new_key());
    assert_eq!(loaded(&mut tpm), "");
    // The same boot again.
    tpm.restart();
    assert_eq!(decrypt(&device).unwrap(), secret);
}

#[test]
fn a_key_of_another_tpm_or_one_that_was_altered_is_not_used() {
    let (mut mine, mut other) = (SoftwareTpm::new(), SoftwareTpm::new());
    let key = attested(&mine.device(), KeyPurpose::Encryption);
    let mut tpm = Tpm::open(&other.device(), None).unwrap();
    let error = tpm.decrypt(&key, &[1; 256]).unwrap_err();
    assert!(matches!(error, TpmError::OtherStorageRootKey), "{error}");
    assert!(error.needs_new_key());
    drop(tpm);
    // The storage root key that is pinned is the host's; a blob that is not under it does not load.
    let (root, _) = Tpm::open(&other.device(), None)
        .unwrap()
        .storage_root_key()
        .unwrap();
    let moved = AttestedKey {
        storage_root_key: root,
        ..key.clone()
    };
    let mut tpm = Tpm::open(&other.device(), None).unwrap();
    let error = tpm.decrypt(&moved, &[1; 256]).unwrap_err();
    assert!(error.needs_new_key(), "{error}");
    drop(tpm);
    let mut altered = key;
    altered.blob.private[40] ^= 1;
    let mut tpm = Tpm::open(&mine.device(), None).unwrap();
    let error = tpm.decrypt(&altered, &[1; 256]).unwrap_err();
    assert!(error.to_string().contains("TPM_RC_INTEGRITY"), "{error}");
    drop(tpm);
    assert_eq!(loaded(&mut other), "");
    assert_eq!(loaded(&mut mine), "");
}

/// Something between processor and TPM that keeps all that passes, and may alter what comes back.
struct Interposer {
    device: Device,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Interposer {
    fn new(
        folder: &Path,
        tpm: Device,
        alter: impl Fn(&[u8], &mut Vec<u8>) + Send + 'static,
    ) -> Self {
        let Device::UnixSocket(behind) = tpm else {
            panic!("{tpm}");
        };
        let socket = folder.join("interposer");
        let listener = UnixListener::bind(&socket).unwrap();
        let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
        let all = Arc::clone(&seen);
        thread::spawn(move || {
            let (mut host, _) = listener.accept().unwrap();
            let mut tpm = UnixStream::connect(behind).unwrap();
            while let Some(command) = message(&mut host) {
                tpm.write_all(&command).unwrap();
                let mut response = message(&mut tpm).unwrap();
                alter(&command, &mut response);
                all.lock()
                    .unwrap()
                    .extend([command, response.clone()].concat());
                host.write_all(&response).unwrap();
            }
        });
        Self {
            device: Device::UnixSocket(socket),
            seen,
        }
    }

    fn saw(&self, octets: &[u8]) -> bool {
        let seen = self.seen.lock().unwrap();
        seen.windows(octets.len()).any(|window| window == octets)
    }
}

fn message(stream: &mut impl Read) -> Option<Vec<u8>> {
    let mut message = vec![0; 10];
    stream.read_exact(&mut message).ok()?;
    let size = u32::from_be_bytes(message[2..6].try_into().unwrap());
    message.resize(size as usize, 0);
    stream.read_exact(&mut message[10..]).unwrap();
    Some(message)
}

#[test]
fn a_tpm_at_a_tcp_port_answers() {
    let mut tpm = SoftwareTpm::new();
    let Device::UnixSocket(socket) = tpm.device() else {
        panic!("{tpm:?}");
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let device = Device::Tcp {
        host: "127.0.0.1".to_owned(),
        port: listener.local_addr().unwrap().port(),
    };
    thread::spawn(move || {
        let (mut host, _) = listener.accept().unwrap();
        let mut tpm = UnixStream::connect(socket).unwrap();
        while let Some(command) = message(&mut host) {
            tpm.write_all(&command).unwrap();
            host.write_all(&message(&mut tpm).unwrap()).unwrap();
        }
    });
    let mut opened = Tpm::open(&device, None).unwrap();
    let values = opened.pcr_values().unwrap();
    assert_eq!(values.iter().count(), 24);
}

const RSA_DECRYPT: [u8; 4] = [0, 0, 1, 0x59];

#[test]
fn a_plaintext_does_not_cross_the_bus_in_clear() {
    let mut tpm = SoftwareTpm::new();
    let device = tpm.device();
    let key = attested(&device, KeyPurpose::Encryption);
    let secret = SecretBytes::new(b"a transfer key of 32 octets here".to_vec());
    let public = key.blob.public.rsa_key().unwrap();
    let ciphertext = public.encrypt_oaep(OaepHash::Sha256, &secret).unwrap();
    let between = Interposer::new(tpm.folder(), device, |_, _| ());
    let mut opened = Tpm::open(&between.device, None).unwrap();
    assert_eq!(opened.decrypt(&key, &ciphertext).unwrap(), secret);
    assert!(between.saw(&ciphertext), "the interposer sees what passes");
    assert!(!between.saw(secret.expose()));
}

#[test]
fn an_altered_response_is_not_used() {
    let mut tpm = SoftwareTpm::new();
    let device = tpm.device();
    let key = attested(&device, KeyPurpose::Encryption);
    let public = key.blob.public.rsa_key().unwrap();
    let secret = SecretBytes::new(vec![9; 32]);
    let ciphertext = public.encrypt_oaep(OaepHash::Sha256, &secret).unwrap();
    // The first octet of the encrypted parameter: after header, size of the parameters and its own size.
    let between = Interposer::new(tpm.folder(), device, |command, response| {
        if command[6..10] == RSA_DECRYPT {
            response[16] ^= 1;
        }
    });
    let mut opened = Tpm::open(&between.device, None).unwrap();
    let error = opened.decrypt(&key, &ciphertext).unwrap_err();
    assert!(
        matches!(error, TpmError::KeyUse(KeyUseError::NotAuthentic)),
        "{error}"
    );
}

/// In which the test below finds itself as the process that crashes.
const CRASHES_IN: &str = "OPENHGS_TEST_CRASHES_IN";

fn journal(folder: &Path, boot: &str) -> Option<Journal> {
    Some(Journal::new(folder.join("journal"), boot))
}

/// Fills every slot for sessions and one for keys, and ends without flushing anything.
fn crash(folder: &Path) -> ! {
    let device = Device::UnixSocket(folder.join("socket"));
    let mut tpm = Tpm::open(&device, journal(folder, "boot-1")).unwrap();
    let (root, handle) = tpm.storage_root_key().unwrap();
    for _ in 0..3 {
        let random = &mut System::new();
        let (starting, command) = tpm::StartingPolicySession::start(&root, handle, random).unwrap();
        starting.started(&tpm.execute(&command).unwrap()).unwrap();
    }
    std::process::abort()
}

#[test]
fn sessions_of_a_crashed_process_are_flushed_by_the_next() {
    if let Some(folder) = std::env::var_os(CRASHES_IN) {
        crash(Path::new(&folder));
    }
    let mut tpm = SoftwareTpm::new();
    let device = tpm.device();
    // The second finds room, for it flushes what the first has left.
    for _ in 0..2 {
        let crashed = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "sessions_of_a_crashed_process_are_flushed_by_the_next",
            ])
            .env(CRASHES_IN, tpm.folder())
            .output()
            .unwrap();
        assert_eq!(crashed.status.signal(), Some(6), "{crashed:?}");
    }
    assert_eq!(loaded(&mut tpm).lines().count(), 4);
    // Handles of an earlier boot are not ours any more.
    drop(Tpm::open(&device, journal(tpm.folder(), "boot-2")).unwrap());
    assert_eq!(loaded(&mut tpm).lines().count(), 4);
    drop(Tpm::open(&device, journal(tpm.folder(), "boot-1")).unwrap());
    assert_eq!(loaded(&mut tpm), "");
    assert!(!tpm.folder().join("journal").exists());
}

#[test]
fn keys_and_certificate_are_those_of_tpm2_tools() {
    let authority = SimulatorAuthority::new().unwrap();
    let mut tpm = SoftwareTpm::certified(&authority);
    let mut opened = Tpm::open(&tpm.device(), None).unwrap();
    let certificate = opened.endorsement_certificate().unwrap().unwrap();
    let key = opened.endorsement_key().unwrap();
    drop(opened);
    assert_eq!(certificate.public_key(), key.key());
    let arguments = ["-G", "rsa", "-c", "ek.ctx", "-u", "ek.pub", "-f", "tpmt"];
    tpm.tool("tpm2_createek", &arguments);
    let file = |name: &str| fs::read(tpm.folder().join(name)).unwrap();
    assert_eq!(file("ek.pub"), key.public().octets());
    let read = tpm.tool("tpm2_nvread", &["-C", "o", "0x01c00002"]).stdout;
    assert!(read.starts_with(certificate.der()));

    let mut roots = Vec::new();
    for text in authority.certificates().unwrap() {
        roots.extend(EndorsementAuthority::list_from_octets(text.as_bytes()).unwrap());
    }
    let roots = EndorsementRoots::new(roots, Vec::new());
    let when = certificate.validity().not_before;
    let when = when.checked_add(Seconds::from_days(1)).unwrap();
    roots.verify(&certificate, key.key(), &[], when).unwrap();

    let mut without = SoftwareTpm::new();
    let mut opened = Tpm::open(&without.device(), None).unwrap();
    assert!(opened.endorsement_certificate().unwrap().is_none());
}

#[test]
fn a_lockout_is_seen() {
    let mut tpm = SoftwareTpm::new();
    let device = tpm.device();
    let is_locked = || Tpm::open(&device, None).unwrap().is_locked().unwrap();
    assert!(!is_locked());
    // No wrong password is allowed: a new TPM that has seen none is locked at the first.
    let limits = ["-s", "-n", "1", "-t", "1000", "-l", "1000"];
    tpm.tool("tpm2_dictionarylockout", &limits);
    tpm.tool(
        "tpm2_createprimary",
        &["-C", "o", "-p", "right", "-c", "key"],
    );
    let wrong = Command::new(tool("tpm2_create", "tpm2-tools"))
        .args(["-C", "key", "-P", "wrong", "-u", "public"])
        .env("TPM2TOOLS_TCTI", device.to_string())
        .current_dir(tpm.folder())
        .output()
        .unwrap();
    assert!(!wrong.status.success());
    assert!(is_locked());
}

fn value_of(tpm: &mut SoftwareTpm) -> PcrValues {
    Tpm::open(&tpm.device(), None)
        .unwrap()
        .pcr_values()
        .unwrap()
}

#[test]
fn a_real_boot_is_replayed() {
    let Some(folder) = shared() else { return };
    let mut tpm = SoftwareTpm::new();
    for boot in [
        "uefi-shim-grub-secureboot-on",
        "uefi-shim-grub-secureboot-off",
    ] {
        let folder = folder.join("vectors/boots").join(boot);
        let log = fs::read(folder.join("eventlog.bin")).unwrap();
        let real = fs::read(folder.join("pcrs-sha256.bin")).unwrap();
        let real = PcrValues::concatenated(Bank::Sha256, &real).unwrap();
        tpm.boot(&log);
        let replayed = value_of(&mut tpm);
        // The other PCRs are the kernel's: PCR 10 of IMA, which has a log of its own.
        for pcr in (0..24).filter(|pcr| *pcr != 10) {
            assert_eq!(replayed.value(pcr), real.value(pcr), "{boot}, PCR {pcr}");
        }
        tpm.boot(&altered_log(&log, 5));
        assert_ne!(value_of(&mut tpm), replayed);
    }
}

#[test]
fn a_startup_locality_is_the_first_value_of_pcr_0() {
    let Some(folder) = shared() else { return };
    let mut found = 0;
    for file in fs::read_dir(folder.join("vectors/eventlogs/go-eventlog")).unwrap() {
        let log = fs::read(file.unwrap().path()).unwrap();
        let Ok(read) = EventLog::read(log.clone(), &Limits::LOG) else {
            continue;
        };
        if read.unverified().startup_locality() != Some(3) {
            continue;
        }
        found += 1;
        let Ok(expected) = read.unverified().replayed_values(Bank::Sha256) else {
            continue;
        };
        let mut tpm = SoftwareTpm::new();
        tpm.boot(&log);
        assert_eq!(value_of(&mut tpm).value(0), expected.value(0));
    }
    assert!(found > 0, "there is such a log");
}
