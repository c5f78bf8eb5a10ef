//! Files of certificates and keys as other programs write them, and as people mangle them.

mod judge;

use std::fs;
use std::path::Path;
use std::process::Command;

use hgs_crypto::SecretBytes;
use hgs_custody::PrivateKey as _;
use hgs_custody::bundle::{Bundle, BundleError};
use hgs_custody::pem::PemError;
use hgs_custody::pfx::PfxError;
use hgs_pki::Certificate;
use judge::openssl;
use tempfile::TempDir;

/// A folder with a root, an intermediate and a leaf with its key (`root.pem`, `middle.pem`, `leaf.pem`, `leaf.key`).
fn authority() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &str| openssl(folder.path(), arguments, b"");
    fs::write(
        folder.path().join("ca"),
        "basicConstraints=critical,CA:TRUE",
    )
    .unwrap();
    run("req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.pem -subj /CN=Root -days 9");
    run("req -newkey rsa:2048 -nodes -keyout middle.key -out middle.csr -subj /CN=Middle");
    run(
        "x509 -req -in middle.csr -CA root.pem -CAkey root.key -CAcreateserial -days 9 -extfile ca -out middle.pem",
    );
    run("req -newkey rsa:2048 -nodes -keyout leaf.key -out leaf.csr -subj /CN=Leaf");
    run(
        "x509 -req -in leaf.csr -CA middle.pem -CAkey middle.key -CAcreateserial -days 9 -out leaf.pem",
    );
    folder
}

fn file(folder: &TempDir, name: &str) -> Vec<u8> {
    fs::read(folder.path().join(name)).unwrap()
}

fn certificate(folder: &TempDir, name: &str) -> Certificate {
    Certificate::from_pem(str::from_utf8(&file(folder, name)).unwrap()).unwrap()
}

fn secret(text: &str) -> SecretBytes {
    SecretBytes::from(text.as_bytes())
}

fn tool(folder: &Path, name: &str, package: &str, arguments: &str) {
    let output = Command::new(hgs_testkit::tool(name, package))
        .args(arguments.split(' '))
        .current_dir(folder)
        .env("HOME", folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{name} {arguments}: {output:?}");
}

/// The certificate and its key come out of `octets`, and the passphrase decides.
fn gives_leaf(how: &str, folder: &TempDir, octets: &[u8], passphrase: Option<&str>) {
    let leaf = certificate(folder, "leaf.pem");
    let given = passphrase.map(secret);
    let bundle =
        Bundle::read(octets, given.as_ref()).unwrap_or_else(|error| panic!("{how}: {error}"));
    let certified = bundle
        .certified(given.as_ref())
        .unwrap_or_else(|error| panic!("{how}: {error}"));
    assert_eq!(certified.certificate, leaf, "{how}");
    assert_eq!(certified.key.public(), leaf.public_key(), "{how}");
    if let Some(passphrase) = passphrase.filter(|passphrase| !passphrase.is_empty()) {
        let wrong = secret(&format!("{passphrase}x"));
        let error = Bundle::read(octets, Some(&wrong)).unwrap_err();
        assert!(
            matches!(error, BundleError::Pfx(PfxError::WrongPassphrase)),
            "{how}: {error}"
        );
        let error = Bundle::read(octets, None).unwrap_err();
        assert!(error.needs_passphrase(), "{how}: {error}");
    }
}

#[test]
fn pfx_of_openssl() {
    let folder = authority();
    for how in [
        "",
        "-legacy",
        "-keypbe PBE-SHA1-2DES -certpbe PBE-SHA1-RC2-128 -legacy",
        "-keypbe NONE -certpbe NONE",
        "-keypbe DES-EDE3-CBC -certpbe AES-128-CBC",
        "-macalg SHA384 -maciter",
        "-nomac",
        "-nomaciter -noiter",
    ] {
        for passphrase in ["secret", "p\u{e4}ss\u{1f511}", ""] {
            let arguments = format!(
                "pkcs12 -export -inkey leaf.key -in leaf.pem -certfile middle.pem -passout pass:{passphrase} {how}"
            );
            let pfx = openssl(folder.path(), arguments.trim_end(), b"");
            let plain = how.contains("NONE") && how.contains("nomac");
            gives_leaf(
                &arguments,
                &folder,
                &pfx,
                Some(passphrase).filter(|_| !plain),
            );
            if passphrase.is_empty() {
                gives_leaf(&arguments, &folder, &pfx, None);
            }
        }
    }
}

#[test]
fn pfx_of_nss() {
    let folder = authority();
    let run = |name, arguments: &str| tool(folder.path(), name, "libnss3-tools", arguments);
    openssl(
        folder.path(),
        "pkcs12 -export -name leaf -inkey leaf.key -in leaf.pem -passout pass:secret -out in.p12",
        b"",
    );
    fs::create_dir(folder.path().join("db")).unwrap();
    run("certutil", "-N -d sql:db --empty-password");
    run("pk12util", "-i in.p12 -d sql:db -W secret");
    run("pk12util", "-o out.p12 -n leaf -d sql:db -W secret");
    let pfx = file(&folder, "out.p12");
    assert_eq!(pfx[..2], [0x30, 0x80], "NSS writes BER");
    gives_leaf("NSS", &folder, &pfx, Some("secret"));
}

#[test]
fn pfx_of_python() {
    let folder = authority();
    let program = "
import sys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization as s
from cryptography.hazmat.primitives.serialization import pkcs12, PrivateFormat
key = s.load_pem_private_key(open('leaf.key','rb').read(), None)
cert = x509.load_pem_x509_certificate(open('leaf.pem','rb').read())
for name, algorithm in [('best', s.BestAvailableEncryption(b'secret')), ('none', s.NoEncryption()), ('3des',
    PrivateFormat.PKCS12.encryption_builder().kdf_rounds(5000).key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC).hmac_hash(hashes.SHA1()).build(b'secret'))]:
    open(name + '.pfx', 'wb').write(pkcs12.serialize_key_and_certificates(b'leaf', key, cert, None, algorithm))
";
    fs::write(folder.path().join("write.py"), program).unwrap();
    tool(folder.path(), "python3", "python3-cryptography", "write.py");
    gives_leaf("best", &folder, &file(&folder, "best.pfx"), Some("secret"));
    gives_leaf("3des", &folder, &file(&folder, "3des.pfx"), Some("secret"));
    gives_leaf("none", &folder, &file(&folder, "none.pfx"), None);
}

/// What the usual programs leave open, written by a small writer of its own: open lengths at every level and octet
/// strings in pieces (Bouncy Castle), a null password (Windows, Java), and PBMAC1 (OpenSSL 3.4, NSS).
#[test]
fn pfx_of_writers_that_are_not_here() {
    let folder = authority();
    fs::write(folder.path().join("write.py"), include_str!("judge/pfx.py")).unwrap();
    tool(folder.path(), "python3", "python3-cryptography", "write.py");
    gives_leaf(
        "Bouncy Castle",
        &folder,
        &file(&folder, "ber.pfx"),
        Some("secret"),
    );
    gives_leaf(
        "PBMAC1",
        &folder,
        &file(&folder, "pbmac1.pfx"),
        Some("secret"),
    );
    gives_leaf("null", &folder, &file(&folder, "null.pfx"), None);
    gives_leaf("null", &folder, &file(&folder, "null.pfx"), Some(""));
    let mut forged = file(&folder, "pbmac1.pfx");
    let middle = forged.len() / 2;
    forged[middle] ^= 1;
    assert!(Bundle::read(&forged, Some(&secret("secret"))).is_err());
}

#[test]
fn zeros_behind_der_are_padding() {
    let folder = authority();
    let mut der = openssl(folder.path(), "x509 -in leaf.pem -outform DER", b"");
    der.extend_from_slice(&[0; 100]);
    let leaf = certificate(&folder, "leaf.pem");
    assert_eq!(
        Bundle::read(&der, None).unwrap().certificate().unwrap(),
        leaf
    );
    // What follows them is not dropped silently.
    der.push(1);
    assert!(Bundle::read(&der, None).is_err());
}

#[test]
fn a_public_key_of_openssh_is_named_as_such() {
    let error = Bundle::read(b"ssh-rsa AAAAB3NzaC1yc2E= ann@host\n", None).unwrap_err();
    assert!(
        error.to_string().contains("ssh-keygen -e -m PKCS8"),
        "{error}"
    );
}

#[test]
fn a_file_of_zeros_is_named_as_such() {
    let error = Bundle::read(&[0; 4096], None).unwrap_err();
    assert!(error.to_string().contains("zeros"), "{error}");
}

/// The files of RFC 9579, appendix A, as other programs write them (`openssl pkcs12 -export -pbmac1_pbkdf2`).
#[test]
fn pfx_of_the_specification_of_pbmac1() {
    let read = |octets: &[u8], password| {
        let password = secret(password);
        Bundle::read(octets, Some(&password))?.certified(Some(&password))
    };
    let good = [
        &include_bytes!("pbmac1-vectors/a1.p12")[..],
        include_bytes!("pbmac1-vectors/a2.p12"),
        include_bytes!("pbmac1-vectors/a3.p12"),
    ];
    for octets in good {
        let certified = read(octets, "1234").unwrap();
        let subject = certified.certificate.subject();
        assert_eq!(subject, "CN=tt,OU=rr,O=ee,L=ww,ST=qq,C=XX");
        assert_eq!(
            read(octets, "12345").unwrap_err().to_string(),
            "wrong passphrase"
        );
    }
    for (octets, expected) in [
        (
            &include_bytes!("pbmac1-vectors/a4.p12")[..],
            "wrong passphrase",
        ),
        (include_bytes!("pbmac1-vectors/a5.p12"), "wrong passphrase"),
        (
            include_bytes!("pbmac1-vectors/a6.p12"),
            "not a PFX file: malformed ASN.1",
        ),
    ] {
        let error = read(octets, "1234").unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn every_form_of_a_certificate_and_of_a_key() {
    let folder = authority();
    let run = |arguments: &str| openssl(folder.path(), arguments, b"");
    let certificates = [
        run("x509 -in leaf.pem"),
        run("x509 -in leaf.pem -outform DER"),
        run("x509 -in leaf.pem -trustout"),
        run("crl2pkcs7 -nocrl -certfile leaf.pem -outform DER"),
        run("crl2pkcs7 -nocrl -certfile leaf.pem -certfile middle.pem -certfile root.pem"),
        run("x509 -in leaf.pem -text"),
    ];
    let keys = [
        run("pkcs8 -topk8 -nocrypt -in leaf.key"),
        run("pkcs8 -topk8 -nocrypt -in leaf.key -outform DER"),
        run("rsa -traditional -in leaf.key"),
        run("rsa -traditional -in leaf.key -outform DER"),
        run("pkcs8 -topk8 -in leaf.key -passout pass:secret -v2 des3 -v2prf hmacWithSHA1"),
        run("pkcs8 -topk8 -in leaf.key -passout pass:secret -outform DER"),
    ];
    let leaf = certificate(&folder, "leaf.pem");
    let passphrase = secret("secret");
    for (number, octets) in certificates.iter().enumerate() {
        let mut bundle = Bundle::read(octets, None).unwrap();
        assert_eq!(bundle.certificate().unwrap(), leaf, "{number}");
        assert_eq!(bundle.public_key().unwrap(), *leaf.public_key(), "{number}");
        for (key_number, key) in keys.iter().enumerate() {
            let mut with_key = Bundle::read(octets, None).unwrap();
            with_key.add(key, None).unwrap();
            let certified = with_key.certified(Some(&passphrase));
            assert_eq!(
                certified.unwrap().certificate,
                leaf,
                "{number} and {key_number}"
            );
        }
        let missing = bundle.private_key(None).unwrap_err().to_string();
        assert!(missing.contains("certificate"), "{missing}");
        bundle.add(&keys[4], None).unwrap();
        assert!(bundle.certified(None).unwrap_err().needs_passphrase());
    }
    for arguments in [
        "rsa -in leaf.key -pubout",
        "rsa -in leaf.key -pubout -outform DER",
        "rsa -in leaf.key -RSAPublicKey_out",
    ] {
        let bundle = Bundle::read(&run(arguments), None).unwrap();
        assert_eq!(
            bundle.public_key().unwrap(),
            *leaf.public_key(),
            "{arguments}"
        );
    }
}

#[test]
fn the_order_is_no_matter_and_nothing_is_dropped() {
    let folder = authority();
    let (leaf, middle, key) = (
        file(&folder, "leaf.pem"),
        file(&folder, "middle.pem"),
        file(&folder, "leaf.key"),
    );
    let glued = [leaf.trim_ascii_end(), &middle, &key].concat();
    let marked = [
        b"\xef\xbb\xbf".as_slice(),
        &middle,
        b"\xef\xbb\xbf",
        &leaf,
        &key,
    ]
    .concat();
    let windows = String::from_utf8([key.as_slice(), &middle, &leaf].concat())
        .unwrap()
        .replace('\n', "\r\n");
    for octets in [glued, marked, windows.into_bytes()] {
        gives_leaf("mangled", &folder, &octets, None);
        assert_eq!(
            Bundle::read(&octets, None)
                .unwrap()
                .certificates()
                .unwrap()
                .len(),
            2
        );
    }
    let other = file(&folder, "root.key");
    let error = Bundle::read(&[&leaf[..], &key, &other].concat(), None)
        .unwrap()
        .certified(None)
        .unwrap_err();
    assert!(
        matches!(error, BundleError::SeveralPrivateKeys(2)),
        "{error}"
    );
    let error = Bundle::read(&[&leaf[..], &other].concat(), None)
        .unwrap()
        .certified(None)
        .unwrap_err();
    assert!(matches!(error, BundleError::OtherKey(_)), "{error}");
    let request = file(&folder, "leaf.csr");
    let error = Bundle::read(&request, None)
        .unwrap()
        .certificate()
        .unwrap_err()
        .to_string();
    assert!(error.contains("a certificate request"), "{error}");
    let list = openssl(folder.path(), "req -in leaf.csr -outform DER", b"");
    assert_eq!(
        Bundle::read(&list, None).unwrap().summary(),
        "a certificate request"
    );
    let utf16: Vec<u8> = String::from_utf8(leaf)
        .unwrap()
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let error = Bundle::read(&utf16, None).unwrap_err().to_string();
    assert!(error.contains("UTF-16"), "{error}");
    assert!(matches!(
        Bundle::read(b" \n", None),
        Err(BundleError::Empty)
    ));
    assert_eq!(
        Bundle::read(b"age-encryption.org/v1\n", None)
            .unwrap()
            .summary(),
        "an age file"
    );
}

/// What mail, editors and transfers in text mode do to binary files, and formats that are named rather than guessed at.
#[test]
fn what_is_wrong_with_a_binary_file_is_named() {
    let folder = authority();
    let run = |arguments: &str| openssl(folder.path(), arguments, b"");
    let der = run("x509 -in leaf.pem -outform DER");
    let key = run("pkcs8 -topk8 -nocrypt -in leaf.key -outform DER");
    gives_leaf(
        "a line end after DER",
        &folder,
        &[&der[..], b"\r\n", &key, b"\n"].concat(),
        None,
    );
    let pfx = run("pkcs12 -export -inkey leaf.key -in leaf.pem -passout pass:secret");
    for whole in [&der, &key, &pfx] {
        let error = Bundle::read(&whole[..whole.len() - 5], None).unwrap_err();
        let (declared, found) = (whole.len(), whole.len() - 5);
        assert_eq!(
            error.to_string(),
            format!(
                "it is cut off: its first octets announce {declared} octets, and {found} are there"
            )
        );
        assert!(Bundle::read(&[&whole[..], b"x"].concat(), Some(&secret("secret"))).is_err());
    }
    for magic in [b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce"] {
        let error = Bundle::read(&[&magic[..], &[0, 0, 0, 2]].concat(), None).unwrap_err();
        assert!(matches!(error, BundleError::JavaKeystore), "{error}");
    }
}

/// OpenSSL's `-v1`, and what Java and Windows export: PKCS#8 under the schemes of PKCS#12.
#[test]
fn encrypted_keys_of_older_programs_are_read() {
    let folder = authority();
    let leaf = certificate(&folder, "leaf.pem");
    for scheme in [
        "-v1 PBE-SHA1-3DES",
        "-v1 PBE-SHA1-2DES",
        "-v2 des3",
        "-v2 aes-128-cbc",
        "-scrypt",
    ] {
        for form in ["PEM", "DER"] {
            let key = openssl(
                folder.path(),
                &format!(
                    "pkcs8 -topk8 -in leaf.key -outform {form} -passout pass:s\u{e9}cret {scheme}"
                ),
                b"",
            );
            let bundle = Bundle::read(&key, None).unwrap();
            let read = bundle.private_key(Some(&secret("s\u{e9}cret"))).unwrap();
            assert_eq!(read.public(), leaf.public_key(), "{scheme} {form}");
            let error = bundle.private_key(Some(&secret("secret"))).unwrap_err();
            assert!(
                matches!(error, BundleError::Key(PemError::WrongPassphrase)),
                "{scheme}: {error}"
            );
            assert!(
                bundle.private_key(None).unwrap_err().needs_passphrase(),
                "{scheme}"
            );
        }
    }
}

#[test]
fn spoilt_bundles_never_panic() {
    let folder = authority();
    let run = |arguments: &str| openssl(folder.path(), arguments, b"");
    let corpus = [
        run("pkcs12 -export -inkey leaf.key -in leaf.pem -passout pass:secret -noiter -nomac"),
        run("crl2pkcs7 -nocrl -certfile leaf.pem -outform DER"),
        file(&folder, "leaf.pem"),
    ];
    let tokens: [&[u8]; 5] = [
        b"\x30\x80",
        b"\0\0",
        b"-----BEGIN ",
        b"-----END ",
        b"\x24\x80",
    ];
    for mutated in hgs_testkit::Mutations::of(&corpus, &tokens).take(3000) {
        hgs_custody::bundle::fuzz_bundle(&mutated);
    }
}
