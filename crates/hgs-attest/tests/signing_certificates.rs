//! The body of signingCertificates, parsed as real database drivers parse it, and judged by openssl.

mod common;

use std::fs;
use std::process::Command;

use common::{after, signer};
use hgs_attest::signing_certificates::{self, MAX_BODY_OCTETS, SigningCertificatesError};
use hgs_crypto::rsa::PrivateKey;
use hgs_pki::pkcs7::Pkcs7Error;
use hgs_pki::{Certificate, Seconds, pkcs7};
use hgs_testkit::fixtures::{now, private_key, self_signed};
use proptest::prelude::*;

fn signers() -> Vec<Certificate> {
    let made = |number: usize| {
        let day = after(Seconds::from_days(number as u32));
        self_signed(hgs_attest::signer::template(day), &private_key(10 + number))
    };
    vec![signer(), made(1), made(2)]
}

/// mssql-jdbc: `new String(bytes)`, without its first and last character, split at commas, each part through
/// `Integer.parseInt`, which takes a sign and digits and no white space, and cast to `byte`.
fn as_the_jdbc_driver_parses(body: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(body.to_vec()).expect("a string");
    let inner: String = {
        let mut characters = text.chars();
        characters.next();
        characters.next_back();
        characters.collect()
    };
    let parse_int = |part: &str| -> i32 {
        let digits = part.strip_prefix(['-', '+']).unwrap_or(part);
        let all_digits = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit());
        assert!(
            all_digits,
            "NumberFormatException: For input string: \"{part}\""
        );
        part.parse().expect("NumberFormatException")
    };
    inner
        .split(',')
        .map(parse_int)
        .map(|number| number as u8)
        .collect()
}

/// dotnet/SqlClient: a JSON serialiser for `List<byte>`, whose contract knows numbers from 0 to 255 and nothing else.
fn as_the_dotnet_driver_parses(body: &[u8]) -> Vec<u8> {
    let numbers: Vec<serde_json::Number> =
        serde_json::from_slice(body).expect("SerializationException");
    let octet = |number: &serde_json::Number| number.as_u64().and_then(|n| u8::try_from(n).ok());
    numbers
        .iter()
        .map(|number| octet(number).expect("OverflowException"))
        .collect()
}

#[test]
fn both_real_drivers_find_the_pkcs7() {
    for count in 1..=3 {
        let certificates = &signers()[..count];
        let body = signing_certificates::write(certificates);
        let expected = pkcs7::certificates_only(certificates);
        assert_eq!(as_the_jdbc_driver_parses(&body), expected);
        assert_eq!(as_the_dotnet_driver_parses(&body), expected);
    }
}

/// The emulations refuse what the drivers refuse, or they would show nothing.
#[test]
#[should_panic(expected = "NumberFormatException: For input string: \" 130\"")]
fn the_emulated_jdbc_driver_has_no_patience_for_white_space() {
    as_the_jdbc_driver_parses(b"[48, 130]");
}

#[test]
#[should_panic(expected = "NumberFormatException: For input string: \"130]\"")]
fn the_emulated_jdbc_driver_has_no_patience_for_a_final_newline() {
    as_the_jdbc_driver_parses(b"[48,130]\n");
}

#[test]
fn the_body_is_nothing_but_brackets_digits_and_commas() {
    let body = signing_certificates::write(&signers());
    assert_eq!(body.first(), Some(&b'['));
    assert_eq!(body.last(), Some(&b']'));
    let inner = &body[1..body.len() - 1];
    assert!(
        inner
            .iter()
            .all(|octet| octet.is_ascii_digit() || *octet == b',')
    );
    let parts = inner.split(|octet| *octet == b',');
    for part in parts {
        let text = std::str::from_utf8(part).unwrap();
        assert_eq!(text.parse::<u8>().unwrap().to_string(), text);
    }
}

#[test]
fn openssl_prints_the_certificates_and_they_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let octets = as_the_jdbc_driver_parses(&signing_certificates::write(&signers()));
    fs::write(folder.path().join("signers.p7b"), octets).unwrap();
    let openssl = hgs_testkit::tool("openssl", "openssl");
    let output = Command::new(&openssl)
        .args([
            "pkcs7",
            "-inform",
            "DER",
            "-in",
            "signers.p7b",
            "-print_certs",
        ])
        .current_dir(&folder)
        .output()
        .unwrap();
    assert!(output.status.success());
    let pem = String::from_utf8(output.stdout).unwrap();
    let mut found = Certificate::list_from_pem(&pem).unwrap();
    let mut expected = signers();
    found.sort_by_key(Certificate::thumbprint);
    expected.sort_by_key(Certificate::thumbprint);
    assert_eq!(found, expected);
}

#[test]
fn a_body_is_read_as_it_was_written_also_with_white_space() {
    let mut expected = signers();
    expected.sort_by(|a, b| a.der().cmp(b.der()));
    let body = signing_certificates::write(&expected);
    assert_eq!(signing_certificates::read(&body), Ok(expected.clone()));
    let text = String::from_utf8(body).unwrap().replace(',', " ,\r\n");
    let spaced = format!(" {text}\n");
    assert_eq!(signing_certificates::read(spaced.as_bytes()), Ok(expected));
}

#[test]
fn what_is_no_list_of_certificates_is_refused_with_its_reason() {
    for text in [
        "", "[", "{}", "null", "[256]", "[-1]", "[1.0]", "[\"48\"]", "[48] x", "[[48]]",
    ] {
        let error = signing_certificates::read(text.as_bytes()).unwrap_err();
        assert!(
            matches!(error, SigningCertificatesError::NotOctets { .. }),
            "{text}: {error}"
        );
    }
    let malformed = signing_certificates::read(b"[48,0]").unwrap_err();
    assert!(matches!(
        malformed,
        SigningCertificatesError::Pkcs7(Pkcs7Error::Malformed(_))
    ));
}

#[test]
fn k13_the_body_has_a_limit() {
    let too_large = vec![b' '; MAX_BODY_OCTETS + 1];
    assert_eq!(
        signing_certificates::read(&too_large),
        Err(SigningCertificatesError::TooLarge(MAX_BODY_OCTETS + 1))
    );
    // The largest PKCS#7 that is read fits, whatever its octets are.
    let largest = serde_json::to_vec(&vec![255u8; pkcs7::MAX_OCTETS]).unwrap();
    assert!(largest.len() <= MAX_BODY_OCTETS);
    assert!(matches!(
        signing_certificates::read(&largest),
        Err(SigningCertificatesError::Pkcs7(Pkcs7Error::Malformed(_)))
    ));
}

proptest! {
    #[test]
    fn any_octets_survive_both_drivers(octets in proptest::collection::vec(any::<u8>(), 1..2000)) {
        let body = serde_json::to_vec(&octets).unwrap();
        prop_assert_eq!(&as_the_jdbc_driver_parses(&body), &octets);
        prop_assert_eq!(&as_the_dotnet_driver_parses(&body), &octets);
    }
}

/// The number that is documented: what one record of TLS carries.
#[test]
fn as_many_signers_as_are_documented_fit_one_record() {
    for (bits, most) in [(2048, 5), (3072, 4), (4096, 3)] {
        let key = PrivateKey::generate(bits).unwrap();
        let made = |days| {
            let made = now().checked_add(Seconds::from_days(days)).unwrap();
            self_signed(hgs_attest::signer::template(made), &key)
        };
        let signers: Vec<Certificate> = (0..=most).map(made).collect();
        let (fit, more) = (&signers[1..], &signers[..]);
        assert!(
            signing_certificates::fits_one_record(fit),
            "{bits}: {}",
            signing_certificates::write(fit).len()
        );
        assert!(
            !signing_certificates::fits_one_record(more),
            "{bits}: {}",
            signing_certificates::write(more).len()
        );
    }
}
