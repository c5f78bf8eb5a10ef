//! Certificates that have no place in a protector, made by openssl.

mod common;

use std::path::Path;
use std::process::Command;

use common::verify;
use hgs_crypto::base64;
use hgs_crypto::rsa::{PublicKeyError, Weakness};
use hgs_pki::CertificateError;
use hgs_protector::{FormError, ProtectorError, ProtectorErrorKind};
use hgs_testkit::fixtures::{Forge, Guardian, key_octets, signature_element};
use hgs_testkit::tool;

/// The DER of a self-signed certificate over a new key of this kind.
fn made_by_openssl(key: &[&str], folder: &Path) -> Vec<u8> {
    let file = folder.join("certificate.der");
    let status = Command::new(tool("openssl", "openssl"))
        .args([
            "req", "-x509", "-nodes", "-subj", "/CN=Weak", "-days", "30", "-outform", "DER",
        ])
        .args(key)
        .arg("-keyout")
        .arg(folder.join("key.pem"))
        .arg("-out")
        .arg(&file)
        .output()
        .unwrap();
    assert!(status.status.success(), "{status:?}");
    std::fs::read(file).unwrap()
}

fn refused(der: &[u8]) -> ProtectorError {
    let [owner, fabric] = ["owner", "fabric"].map(Guardian::named);
    let mut errors = [true, false].map(|signing| {
        let mut forge = Forge::new(owner, &[fabric], key_octets(7));
        let wrapping = &mut forge.wrappings[1];
        let place = if signing {
            &mut wrapping.signing_certificate
        } else {
            &mut wrapping.encryption_certificate
        };
        *place = base64::encode(der);
        verify(forge.seal(owner).as_bytes()).unwrap_err()
    });
    for error in &errors {
        assert!(
            matches!(
                error,
                ProtectorError::Wrapping {
                    position: 2,
                    error: FormError::Certificate { .. }
                }
            ),
            "{error}"
        );
    }
    errors.swap(0, 1);
    let [error, _] = errors;
    error
}

#[test]
fn a17_weak_and_foreign_keys() {
    let folder = tempfile::tempdir().unwrap();
    let kinds: [&[&str]; 4] = [
        &["-newkey", "rsa:1024"],
        &["-newkey", "rsa:2048", "-pkeyopt", "rsa_keygen_pubexp:3"],
        &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
        &["-newkey", "ed25519"],
    ];
    for kind in kinds {
        let error = refused(&made_by_openssl(kind, folder.path()));
        assert_eq!(
            error.kind(),
            ProtectorErrorKind::InvalidWrapping,
            "{kind:?}"
        );
    }
}

/// attacks.md A17: keys are searched for weaknesses once their signatures have verified, and a weak one is refused then.
#[test]
fn a17_a_weak_key_that_its_guardian_has_signed() {
    let [owner, fabric] = ["owner", "fabric"].map(Guardian::named);
    const SIGNATURE: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";
    let mut der = fabric.encryption.der().to_vec();
    // The modulus stands at the end of a key, before the exponent: 2^2048 - 1, which 3 divides.
    let key = fabric.encryption.public_key().spki_der();
    let modulus = &key[key.len() - 5 - 256..key.len() - 5];
    let at = der.windows(256).position(|octets| octets == modulus);
    let at = at.unwrap();
    der[at..at + 256].fill(0xff);
    let mut forge = Forge::new(owner, &[fabric], key_octets(7));
    let wrapping = &mut forge.wrappings[1];
    wrapping.encryption_certificate = base64::encode(&der);
    wrapping.encryption_certificate_signature = signature_element(SIGNATURE, &fabric.sign(&der));
    let refused = verify(forge.seal(owner).as_bytes()).unwrap_err();
    let weak = Weakness::SmallFactor(3);
    let error = CertificateError::Key(PublicKeyError::Weak(weak));
    assert!(
        matches!(&refused, ProtectorError::Wrapping { position: 2, error: FormError::Certificate { error: found, .. } } if *found == error),
        "{refused:?}"
    );
}

#[test]
fn octets_that_are_not_one_certificate() {
    let good = Guardian::named("fabric").signing.der().to_vec();
    let pem = Guardian::named("fabric").signing.to_pem().into_bytes();
    let spki = Guardian::named("fabric")
        .signing
        .public_key()
        .spki_der()
        .to_vec();
    for der in [
        b"x".to_vec(),
        pem,
        spki,
        [good.as_slice(), b"\0"].concat(),
        good[..good.len() - 1].to_vec(),
    ] {
        assert_eq!(refused(&der).kind(), ProtectorErrorKind::InvalidWrapping);
    }
    let error = refused(&[good, vec![0; 16_384]].concat());
    assert_eq!(error.kind(), ProtectorErrorKind::LimitExceeded);
}
