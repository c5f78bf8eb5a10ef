//! PEM files of openssl read by us, and ours by openssl.

mod judge;

use hgs_crypto::SecretBytes;
use hgs_crypto::random::System;
use hgs_custody::pem::{PemError, write_private_key};
use hgs_custody::{Bundle, BundleError, PrivateKey as _, SoftwareKey};
use judge::openssl;

fn read(text: &[u8], passphrase: &SecretBytes) -> Result<SoftwareKey, BundleError> {
    Bundle::read(text, Some(passphrase))?.private_key(Some(passphrase))
}

#[test]
fn openssl_reads_what_we_write() {
    let directory = tempfile::tempdir().unwrap();
    let key = SoftwareKey::generate(2048).unwrap();
    let passphrase = SecretBytes::from("pässword".as_bytes());
    for passphrase in [None, Some(&passphrase)] {
        let text = write_private_key(&key, passphrase, &mut System::new()).unwrap();
        let arguments = "pkey -passin pass:pässword -pubout -outform DER";
        let public = openssl(directory.path(), arguments, text.as_bytes());
        assert_eq!(public, key.public().spki_der());
    }
}

#[test]
fn we_read_what_openssl_writes() {
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &str, input: &[u8]| openssl(directory.path(), arguments, input);
    let plain = run("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048", b"");
    let public = run("pkey -pubout -outform DER", &plain);
    let passphrase = SecretBytes::from(b"secret".as_slice());
    for convert in [
        "pkey",
        "rsa -traditional",
        "pkcs8 -topk8 -passout pass:secret",
        "pkcs8 -topk8 -passout pass:secret -v2 aes-128-cbc -v2prf hmacWithSHA512 -iter 5000",
        "pkcs8 -topk8 -passout pass:secret -scrypt",
    ] {
        let text = run(convert, &plain);
        let key = read(&text, &passphrase).unwrap_or_else(|error| panic!("{convert}: {error}"));
        assert_eq!(key.public().spki_der(), public, "{convert}");
    }
}

#[test]
fn what_we_do_not_read_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &str, input: &[u8]| openssl(directory.path(), arguments, input);
    let plain = run("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048", b"");
    let passphrase = SecretBytes::from(b"secret".as_slice());
    let refused = |arguments: &str, input: &[u8]| {
        let text = run(arguments, input);
        match read(&text, &passphrase).unwrap_err() {
            BundleError::Key(error) => error,
            other => panic!("{other}"),
        }
    };
    let outdated = refused("rsa -traditional -aes256 -passout pass:secret", &plain);
    assert_eq!(outdated, PemError::OutdatedEncryption);
    let pbes1 = refused(
        "pkcs8 -topk8 -v1 PBE-MD5-DES -provider legacy -provider default -passout pass:secret",
        &plain,
    );
    assert_eq!(pbes1, PemError::UnsupportedEncryption);
    let elliptic = refused("ecparam -genkey -noout -name prime256v1", b"");
    assert_eq!(elliptic, PemError::Kind("EC PRIVATE KEY".to_owned()));
    let elliptic = refused(
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256",
        b"",
    );
    assert!(matches!(elliptic, PemError::Key(_)), "{elliptic}");
    let short = refused(
        "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -quiet",
        b"",
    );
    assert!(matches!(short, PemError::Key(_)), "{short}");
}
