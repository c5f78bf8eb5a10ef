//! The platform identity file: what is written is read again, and all else is refused by name.

use hgs_attest::fuzzing;
use hgs_attest::platform_identity::{
    MAX_PUBLIC_AREA_OCTETS, PlatformIdentity, PlatformIdentityError, SmbiosIdentifiers,
};
use hgs_attest::wire::JsonError;
use hgs_crypto::base64;
use hgs_pki::endorsement::EndorsementCertificate;
use hgs_pki::profile;
use hgs_testkit::Mutations;
use hgs_testkit::fixtures::{private_key, self_signed, ten_years};
use proptest::prelude::*;

const UUID: &str = "4c4c4544-0043-3010-8052-b4c04f4e4d31";

fn ek_certificate() -> EndorsementCertificate {
    let template = profile::guardian_encryption("tpm", ten_years());
    let certificate = self_signed(template, &private_key(0));
    EndorsementCertificate::from_octets(certificate.der()).unwrap()
}

fn identity() -> PlatformIdentity {
    let smbios = SmbiosIdentifiers::new(Some(UUID.to_owned()), Some("SN 00-17".to_owned()));
    PlatformIdentity::new(vec![7; 314], Some(ek_certificate()), smbios.unwrap()).unwrap()
}

fn read(text: &str) -> Result<PlatformIdentity, PlatformIdentityError> {
    PlatformIdentity::from_json(text.as_bytes())
}

/// The document of the page in docs/, but for the length of its values.
#[test]
fn the_document_is_the_documented_one() {
    let identity = identity();
    let written = String::from_utf8(identity.to_json()).unwrap();
    let expected = format!(
        r#"{{
  "kind": "openhgs-platform-identity",
  "version": 1,
  "endorsement_public": "{}",
  "endorsement_certificate": "{}",
  "smbios": {{
    "system_uuid": "{UUID}",
    "system_serial_number": "SN 00-17"
  }}
}}
"#,
        base64::encode(&[7; 314]),
        base64::encode(ek_certificate().der())
    );
    assert_eq!(written, expected);
    assert_eq!(read(&written), Ok(identity));
    let bare = PlatformIdentity::new(vec![1], None, SmbiosIdentifiers::default()).unwrap();
    let written = String::from_utf8(bare.to_json()).unwrap();
    assert_eq!(
        written,
        "{\n  \"kind\": \"openhgs-platform-identity\",\n  \"version\": 1,\n  \"endorsement_public\": \"AQ==\"\n}\n"
    );
    assert_eq!(read(&written), Ok(bare));
}

#[test]
fn each_fault_has_its_own_error() {
    let document =
        |members: &str| format!(r#"{{"kind":"openhgs-platform-identity","version":1{members}}}"#);
    let with_public =
        |members: &str| document(&format!(r#","endorsement_public":"AQ=="{members}"#));
    assert!(read(&with_public("")).is_ok());
    let unknown = |name: &str| PlatformIdentityError::UnknownMember(name.to_owned());
    for (text, expected) in [
        ("[]".to_owned(), PlatformIdentityError::OtherKind),
        (
            r#"{"kind":"other","version":1}"#.to_owned(),
            PlatformIdentityError::OtherKind,
        ),
        (
            r#"{"kind":"openhgs-platform-identity"}"#.to_owned(),
            PlatformIdentityError::UnsupportedVersion,
        ),
        (
            // The members of another version are not known, so the version is what is told.
            r#"{"kind":"openhgs-platform-identity","version":2,"new":0}"#.to_owned(),
            PlatformIdentityError::UnsupportedVersion,
        ),
        (with_public(r#","new":0"#), unknown("new")),
        (with_public(r#","smbios":{"new":0}"#), unknown("new")),
        (
            with_public(r#","version":1"#),
            PlatformIdentityError::Json(JsonError::DoubledMember {
                name: "version".to_owned(),
            }),
        ),
    ] {
        assert_eq!(read(&text), Err(expected), "{text}");
    }
    let upper = UUID.to_uppercase();
    for (members, member) in [
        (String::new(), "endorsement_public"),
        (
            r#","endorsement_public":"""#.to_owned(),
            "endorsement_public",
        ),
        (
            r#","endorsement_public":"AQ""#.to_owned(),
            "endorsement_public",
        ),
        (
            r#","endorsement_public":7"#.to_owned(),
            "endorsement_public",
        ),
        (
            format!(
                r#","endorsement_public":"{}""#,
                base64::encode(&[0; MAX_PUBLIC_AREA_OCTETS + 1])
            ),
            "endorsement_public",
        ),
        (
            r#","endorsement_public":"AQ==","endorsement_certificate":null"#.to_owned(),
            "endorsement_certificate",
        ),
        (
            r#","endorsement_public":"AQ==","smbios":[]"#.to_owned(),
            "smbios",
        ),
        (
            r#","endorsement_public":"AQ==","smbios":{}"#.to_owned(),
            "smbios",
        ),
        (
            format!(r#","endorsement_public":"AQ==","smbios":{{"system_uuid":"{upper}"}}"#),
            "system_uuid",
        ),
        (
            r#","endorsement_public":"AQ==","smbios":{"system_serial_number":" x"}"#.to_owned(),
            "system_serial_number",
        ),
        (
            r#","endorsement_public":"AQ==","smbios":{"system_serial_number":"\u001b[2J"}"#
                .to_owned(),
            "system_serial_number",
        ),
    ] {
        let found = read(&document(&members));
        assert!(
            matches!(&found, Err(PlatformIdentityError::Member { member: found, .. }) if *found == member),
            "{members}: {found:?}"
        );
    }
    for none in [
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "4c4c454400433010-8052-b4c04f4e4d310000",
    ] {
        assert!(
            SmbiosIdentifiers::new(Some(none.to_owned()), None).is_err(),
            "{none}"
        );
    }
    let certificate = |octets: &[u8]| {
        let base64 = base64::encode(octets);
        read(&with_public(&format!(
            r#","endorsement_certificate":"{base64}""#
        )))
    };
    let refused = certificate(b"0");
    assert!(matches!(
        refused,
        Err(PlatformIdentityError::Certificate(_))
    ));
    let ek = ek_certificate();
    assert!(certificate(ek.der()).is_ok());
    for other_form in [[ek.der(), &[0xff; 20]].concat(), ek.to_pem().into_bytes()] {
        let refused = certificate(&other_form);
        assert_eq!(refused, Err(PlatformIdentityError::NotOneCertificate));
    }
    let long = " ".repeat(64 * 1024 + 1);
    assert!(matches!(
        read(&long),
        Err(PlatformIdentityError::Json(JsonError::TooManyOctets { .. }))
    ));
}

proptest! {
    #[test]
    fn every_identity_is_read_as_it_was_written(
        public in prop::collection::vec(any::<u8>(), 1..=MAX_PUBLIC_AREA_OCTETS),
        certified in any::<bool>(),
        uuid in prop::option::of("[0-9a-e]{8}-[0-9a-e]{4}-4[0-9a-e]{3}-8[0-9a-e]{3}-[0-9a-e]{12}"),
        serial in prop::option::of("[!-~]([ -~]{0,126}[!-~])?"),
    ) {
        let certificate = certified.then(ek_certificate);
        let smbios = SmbiosIdentifiers::new(uuid, serial).unwrap();
        let identity = PlatformIdentity::new(public, certificate, smbios).unwrap();
        prop_assert_eq!(PlatformIdentity::from_json(&identity.to_json()), Ok(identity));
    }

    #[test]
    fn any_octets_are_read_or_refused(octets in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzzing::fuzz_platform_identity(&octets);
    }
}

#[test]
fn no_mutation_of_a_document_makes_it_panic() {
    let corpus = [identity().to_json()];
    fuzzing::fuzz_platform_identity(&corpus[0]);
    let tokens: [&[u8]; 5] = [b"\"version\":1,", b"null", b"{", b"\\u0041", b"="];
    for octets in Mutations::of(&corpus, &tokens).take(5_000) {
        fuzzing::fuzz_platform_identity(&octets);
    }
}
