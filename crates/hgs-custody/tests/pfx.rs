//! PFX files of openssl are read.

mod judge;

use std::fs;
use std::path::Path;

use hgs_crypto::SecretBytes;
use hgs_custody::bundle::{Certified, MAX_FILE_LENGTH};
use hgs_custody::pem::PemError;
use hgs_custody::pfx::{self, PfxError};
use hgs_custody::{Bundle, BundleError, PrivateKey as _};
use hgs_pki::Certificate;
use judge::openssl;
use tempfile::TempDir;

/// A folder with a root (`root.pem`), and a certificate under it (`leaf.pem`) with its key.
fn authority() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &str| openssl(folder.path(), arguments, b"");
    run("req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.pem -subj /CN=Root -days 9");
    run("req -newkey rsa:2048 -nodes -keyout leaf.key -out leaf.csr -subj /CN=Leaf");
    run(
        "x509 -req -in leaf.csr -CA root.pem -CAkey root.key -CAcreateserial -days 9 -out leaf.pem",
    );
    folder
}

fn certificate(folder: &Path, name: &str) -> Certificate {
    Certificate::from_pem(&fs::read_to_string(folder.join(name)).unwrap()).unwrap()
}

fn secret(text: &str) -> SecretBytes {
    SecretBytes::from(text.as_bytes())
}

fn read(file: &[u8], passphrase: &str) -> Result<Certified, BundleError> {
    let passphrase = Some(secret(passphrase));
    Bundle::read(file, passphrase.as_ref())?.certified(passphrase.as_ref())
}

#[test]
fn we_read_what_openssl_writes() {
    let folder = authority();
    let leaf = certificate(folder.path(), "leaf.pem");
    let root = certificate(folder.path(), "root.pem");
    for (how, passphrase) in [
        ("-passout pass:secret", "secret"),
        ("-passout pass:secret -legacy", "secret"),
        ("-passout pass:", ""),
        ("-passout pass:pässword", "pässword"),
        (
            "-passout pass:secret -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -macalg SHA1",
            "secret",
        ),
        ("-passout pass:secret -nomac", "secret"),
        ("-passout pass:secret -iter 100000 -macalg SHA512", "secret"),
    ] {
        let arguments =
            format!("pkcs12 -export -inkey leaf.key -in leaf.pem -certfile root.pem {how}");
        let file = openssl(folder.path(), &arguments, b"");
        let read_back = read(&file, passphrase).unwrap_or_else(|error| panic!("{how}: {error}"));
        assert_eq!(read_back.certificate, leaf, "{how}");
        assert_eq!(read_back.key.public(), leaf.public_key(), "{how}");
        assert_eq!(read_back.chain, std::slice::from_ref(&root), "{how}");
        let wrong = read(&file, "guess").unwrap_err();
        assert!(
            matches!(wrong, BundleError::Pfx(PfxError::WrongPassphrase)),
            "{how}: {wrong}"
        );
    }
}

#[test]
fn what_is_missing_or_ambiguous_is_named() {
    let folder = authority();
    let export = |arguments: &str| {
        let arguments = format!("pkcs12 -export -passout pass:secret {arguments}");
        let file = openssl(folder.path(), &arguments, b"");
        read(&file, "secret").unwrap_err()
    };
    let error = export("-nokeys -in leaf.pem");
    assert!(matches!(error, BundleError::NoPrivateKey(_)), "{error}");
    let error = export("-nocerts -inkey leaf.key");
    assert!(matches!(error, BundleError::NoCertificate(_)), "{error}");
    let error = read(&vec![0; MAX_FILE_LENGTH + 1], "").unwrap_err();
    assert!(matches!(error, BundleError::TooLong(_)), "{error}");
    let error = read(b"not a PFX file", "").unwrap_err();
    assert!(matches!(error, BundleError::Unknown(_)), "{error}");
    let file = "pkcs12 -export -inkey leaf.key -in leaf.pem -passout pass:secret";
    let file = openssl(folder.path(), file, b"");
    let error = Bundle::read(&file, Some(&SecretBytes::from([0xff].as_slice()))).unwrap_err();
    assert!(
        matches!(error, BundleError::Pfx(PfxError::PassphraseNotUtf8)),
        "{error}"
    );
}

#[test]
fn a_weak_key_is_refused_in_a_pfx_too() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &str| openssl(folder.path(), arguments, b"");
    run("req -x509 -newkey rsa:1024 -nodes -keyout weak.key -out weak.pem -subj /CN=Weak");
    let file = run("pkcs12 -export -inkey weak.key -in weak.pem -passout pass:secret");
    let error = read(&file, "secret").unwrap_err();
    assert!(
        matches!(error, BundleError::Key(PemError::Key(_))),
        "{error}"
    );
}

#[test]
fn spoilt_files_never_panic() {
    let folder = authority();
    // Few rounds: thousands of files are tried.
    let arguments = "pkcs12 -export -inkey leaf.key -in leaf.pem -passout pass:secret \
                     -iter 1 -nomaciter -legacy";
    let file = openssl(folder.path(), arguments, b"");
    for length in (0..file.len()).step_by(7) {
        pfx::fuzz_pfx(&file[..length]);
    }
    for place in 0..file.len() {
        let mut spoilt = file.clone();
        spoilt[place] ^= 1 << (place % 8);
        // Numbers of rounds stand in four octets at most: leave those that could become large.
        if spoilt[place] != file[place] && !is_round_count(&file, place) {
            pfx::fuzz_pfx(&spoilt);
        }
    }
}

fn is_round_count(file: &[u8], place: usize) -> bool {
    let around = place.saturating_sub(3)..(place + 1).min(file.len());
    file[around].windows(3).any(|three| three == [2, 1, 1])
}
