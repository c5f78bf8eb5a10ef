use std::path::Path;

use proptest::option;
use proptest::prelude::*;

use super::*;

fn refused(text: &str) -> Pkcs11UriError {
    text.parse::<Pkcs11Uri>().unwrap_err()
}

/// What `p11tool --list-all` of GnuTLS prints for a key in SoftHSM.
#[test]
fn reads_what_other_programs_print() {
    let text = "pkcs11:model=SoftHSM%20v2;manufacturer=SoftHSM%20project;serial=8d3e9dd31ce2a4c7;\
                token=hgs%20one;id=%01%ab;object=signing;type=private";
    let uri: Pkcs11Uri = text.parse().unwrap();
    assert_eq!(uri.model.as_deref(), Some("SoftHSM v2"));
    assert_eq!(uri.manufacturer.as_deref(), Some("SoftHSM project"));
    assert_eq!(uri.serial.as_deref(), Some("8d3e9dd31ce2a4c7"));
    assert_eq!(uri.token.as_deref(), Some("hgs one"));
    assert_eq!(uri.id.as_deref(), Some([0x01, 0xab].as_slice()));
    assert_eq!(uri.object.as_deref(), Some("signing"));
}

/// The example of RFC 7512 section 3 with a file for the PIN and a module.
#[test]
fn reads_the_sources_of_pins_and_the_module() {
    let text = "pkcs11:object=Private-key;token=Software%20PKCS%2311%20softtoken\
                ?pin-source=file:/etc/token_pin&module-path=/mnt/libmypkcs11.so.1";
    let uri: Pkcs11Uri = text.parse().unwrap();
    assert_eq!(uri.token.as_deref(), Some("Software PKCS#11 softtoken"));
    assert_eq!(
        uri.pin_source,
        Some(PinSource::File("/etc/token_pin".into()))
    );
    let module = Path::new("/mnt/libmypkcs11.so.1");
    assert_eq!(uri.module_path.as_deref(), Some(module));
    let plain: Pkcs11Uri = "pkcs11:object=x?pin-source=/etc/pin".parse().unwrap();
    assert_eq!(plain.pin_source, Some(PinSource::File("/etc/pin".into())));
    let named = |text: &str| text.parse::<PinSource>();
    let credential = PinSource::Credential("pin".to_owned());
    assert_eq!(named("credential:pin"), Ok(credential));
    let variable = PinSource::Environment("HGS_PKCS11_PIN".to_owned());
    assert_eq!(named("env:HGS_PKCS11_PIN"), Ok(variable));
}

/// attacks.md K9: a PIN must not get where URIs go.
#[test]
fn k9_pins_inside_are_refused_and_not_repeated() {
    for text in [
        "pkcs11:token=x?pin-value=1234",
        "pkcs11:token=x?pin-source=file:/x&pin-value=1234",
        "pkcs11:token=x;pin-value=1234",
    ] {
        assert_eq!(refused(text), Pkcs11UriError::PinInside);
    }
    let error = refused("pkcs11:token=x?pin-source=1234");
    assert_eq!(error, Pkcs11UriError::PinSource(PinSourceError::Form));
    assert!(!error.to_string().contains("1234"));
}

#[test]
fn sources_of_pins_name_what_they_may() {
    use PinSourceError::*;
    for (text, error) in [
        ("", Form),
        ("file:pin", Form),
        ("file:", Form),
        ("|/bin/cat pin", Form),
        ("env:PATH", Variable),
        ("env:HGS_", Variable),
        ("env:HGS_a", Variable),
        ("credential:", Credential),
        ("credential:..", Credential),
        ("credential:../pin", Credential),
    ] {
        assert_eq!(text.parse::<PinSource>(), Err(error), "{text}");
    }
}

#[test]
fn each_defect_has_its_name() {
    use Pkcs11UriError::*;
    let encoding = |attribute, place, character| Encoding {
        attribute,
        place,
        character,
    };
    let percent = |attribute, place| PercentEncoding { attribute, place };
    let unknown = |name: &str, place| Unknown {
        name: name.to_owned(),
        place,
    };
    for (text, error) in [
        ("pkcs12:token=x", Scheme),
        ("pkcs11", Scheme),
        ("pkcs11:token", NotNameAndValue { place: 8 }),
        ("pkcs11:token=x;", NotNameAndValue { place: 16 }),
        ("pkcs11:token=x?", NotNameAndValue { place: 16 }),
        ("pkcs11:token=", Empty("token")),
        ("pkcs11:token=a b", encoding("token", 15, ' ')),
        ("pkcs11:token=%2", percent("token", 14)),
        ("pkcs11:serial=1;token=a%zz", percent("token", 24)),
        ("pkcs11:token=é", encoding("token", 14, 'é')),
        ("pkcs11:token=%ff", NotText("token")),
        ("pkcs11:token=%00", NotText("token")),
        ("pkcs11:slot-id=+1", NotNumber("slot-id")),
        ("pkcs11:slot-id=0x1", NotNumber("slot-id")),
        ("pkcs11:slot-id=99999999999999999999", NotNumber("slot-id")),
        ("pkcs11:token=x;token=y", Twice("token")),
        ("pkcs11:type=private;type=private", Twice("type")),
        ("pkcs11:object=x;type=public", NotPrivate),
        ("pkcs11:x-vendor=1", unknown("x-vendor", 8)),
        ("pkcs11:token=x?module-name=p11", unknown("module-name", 16)),
    ] {
        assert_eq!(refused(text), error, "{text}");
    }
    let long = format!("pkcs11:token={}", "x".repeat(MAX_URI_LENGTH));
    assert_eq!(refused(&long), TooLong);
}

#[test]
fn the_message_says_what_to_write_instead() {
    let space = refused("pkcs11:token=My HSM;object=s").to_string();
    assert!(
        space.contains("character 16") && space.contains("%20"),
        "{space}"
    );
    let label = refused("pkcs11:token=x;label=s").to_string();
    assert!(label.contains("`object`"), "{label}");
}

#[test]
fn the_scheme_is_without_regard_to_case() {
    let uri: Pkcs11Uri = "PKCS11:token=hgs".parse().unwrap();
    assert_eq!(uri, "pkcs11:token=hgs".parse().unwrap());
    assert!(is_uri("Pkcs11:") && !is_uri("pkcs11") && !is_uri("/pkcs11:"));
}

#[test]
fn fuzz_body_over_mutations() {
    let corpus = [
        b"pkcs11:token=hgs;object=key;id=%01?pin-source=file:/pin".to_vec(),
        b"pkcs11:slot-id=1;serial=a;model=b;manufacturer=c?module-path=/m".to_vec(),
    ];
    let tokens: [&[u8]; 6] = [b"%", b";", b"?", b"&", b"pin-source=env:HGS_X", b"="];
    for mutated in hgs_testkit::Mutations::of(&corpus, &tokens).take(20_000) {
        fuzz_pkcs11_uri(&mutated);
    }
}

fn name() -> impl Strategy<Value = Option<String>> {
    option::of(r"[\PC&&[^\u{0}]]{1,20}")
}

prop_compose! {
    fn uri()(
        (token, manufacturer, model, serial, object) in (name(), name(), name(), name(), name()),
        slot_id: Option<u64>,
        id in option::of(prop::collection::vec(any::<u8>(), 1..20)),
        module_path in option::of(r"/[\PC]{0,20}"),
        pin_source in option::of(prop_oneof![
            r"/[\PC]{0,20}".prop_map(|path| PinSource::File(path.into())),
            "[a-z][a-z0-9._-]{0,9}".prop_map(PinSource::Credential),
            "HGS_[A-Z0-9_]{1,9}".prop_map(PinSource::Environment),
        ]),
    ) -> Pkcs11Uri {
        let module_path = module_path.map(PathBuf::from);
        Pkcs11Uri {
            token, manufacturer, model, serial, slot_id, object, id, module_path, pin_source,
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(uri in uri()) {
        let text = uri.to_string();
        prop_assume!(text.len() <= MAX_URI_LENGTH);
        prop_assert!(text.bytes().all(|octet| octet.is_ascii_graphic()), "{}", text);
        prop_assert_eq!(text.parse::<Pkcs11Uri>(), Ok(uri));
    }
}

/// What gets before a URI that is copied from a page or a script.
#[test]
fn what_stands_before_the_scheme_is_named() {
    for (before, first) in [
        ("'", '\''),
        (" ", ' '),
        ("\u{feff}", '\u{feff}'),
        ("\u{201c}", '\u{201c}'),
    ] {
        let text = format!("{before}pkcs11:token=hgs;object=s");
        assert!(is_uri(&text), "{text}");
        assert_eq!(
            text.parse::<Pkcs11Uri>(),
            Err(Pkcs11UriError::BeforeScheme(first))
        );
    }
    assert!(!is_uri("keys/pkcs11:token"));
    assert_eq!(
        "pkcs11://token=hgs".parse::<Pkcs11Uri>(),
        Err(Pkcs11UriError::Slashes)
    );
}
