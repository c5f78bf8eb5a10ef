//! Everything that the protocol profile refuses in a protector, each attack made by hand. Rows of attacks.md are in the
//! names.

mod common;

use common::{rolled, transport_key, verify, with_one_more};
use hgs_crypto::SecretBytes;
use hgs_protector::ProtectorErrorKind::{InvalidProtector, InvalidWrapping, LimitExceeded};
use hgs_protector::{
    FormError, OpenError, ProtectorError, ProtectorErrorKind, RollPlan, TransportKey,
    TransportKeyProblem, VerifiedProtector, WrappingId, open,
};
use hgs_testkit::fixtures::{
    Forge, ForgedWrapping, Guardian, Keys, encrypted_data, key_octets, signature_element,
};

/// `key_octets(7)`.
const KEY: [u8; 32] = [
    0xe0, 0xf7, 0x35, 0xc8, 0xb4, 0xcd, 0x05, 0xb7, 0xc6, 0x81, 0x3a, 0xb5, 0x12, 0x98, 0xd3, 0x5f,
    0x82, 0x72, 0xee, 0xd8, 0x65, 0x0a, 0x71, 0x42, 0x31, 0xf5, 0x13, 0x48, 0xef, 0x48, 0x0a, 0x03,
];
const RSA_SHA256: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";

fn owner() -> &'static Guardian {
    Guardian::named("owner")
}

fn fabric() -> &'static Guardian {
    Guardian::named("fabric")
}

fn stranger() -> &'static Guardian {
    Guardian::named("stranger")
}

/// A good protector of two wrappings.
fn good() -> Forge {
    Forge::new(owner(), &[fabric()], KEY)
}

fn accepted(document: &str) -> VerifiedProtector {
    verify(document.as_bytes()).unwrap()
}

#[track_caller]
fn refused(document: &str) -> ProtectorError {
    verify(document.as_bytes()).unwrap_err()
}

#[track_caller]
fn assert_kind(document: &str, kind: ProtectorErrorKind) {
    let error = refused(document);
    assert_eq!(error.kind(), kind, "{error}");
}

/// Seals a good protector after `change`, so that every signature is right and only the change is wrong.
fn sealed_after(change: impl FnOnce(&mut Forge)) -> String {
    let mut forge = good();
    change(&mut forge);
    forge.seal(owner())
}

/// As [`sealed_after`], changing the second wrapping.
fn with_second(change: impl FnOnce(&mut ForgedWrapping)) -> String {
    sealed_after(|forge| change(&mut forge.wrappings[1]))
}

fn form_of(error: ProtectorError) -> FormError {
    match error {
        ProtectorError::Form(error) | ProtectorError::Wrapping { error, .. } => error,
        other => panic!("not an error of form: {other}"),
    }
}

#[test]
fn the_forge_makes_good_protectors() {
    let protector = accepted(&good().seal(owner()));
    assert!(protector.check_transport_key(&transport_key(7)).is_ok());
    let mut by_guardian = good();
    by_guardian.guardian = "2".to_owned();
    let protector = accepted(&by_guardian.seal(fabric()));
    assert_eq!(protector.guardian().id(), WrappingId::new(2));
}

mod documents {
    use super::*;

    #[test]
    fn x8_document_type_entity_comment_and_processing_instruction() {
        let document = good().seal(owner());
        for foreign in [
            "<!DOCTYPE Protector>".to_owned() + &document,
            "<!DOCTYPE Protector [<!ENTITY a \"1\">]>".to_owned()
                + &document.replace("<Id>1<", "<Id>&a;<"),
            "<!DOCTYPE Protector SYSTEM \"file:///etc/passwd\">".to_owned() + &document,
            document.replace("<Id>1<", "<Id>&a;<"),
            "<!-- -->".to_owned() + &document,
            document.clone() + "<!-- -->",
            document.replace("<Wrapping>", "<Wrapping><!-- -->"),
            document.replace("<GuardianSignature", "<?a b?><GuardianSignature"),
        ] {
            assert_kind(&foreign, InvalidProtector);
        }
    }

    /// attacks.md X4: a comment in a value splits what one reader sees and another does not.
    #[test]
    fn x4_comments_inside_values() {
        let document = good().seal(owner());
        for element in ["Id", "SigningCertificate", "SignatureValue", "CipherValue"] {
            let open = format!("<{element}>");
            let foreign = document.replacen(&open, &format!("{open}<!-- -->"), 1);
            assert!(foreign != document);
            assert_kind(&foreign, InvalidProtector);
        }
    }

    #[test]
    fn what_is_not_utf_8_or_goes_on() {
        let document = good().seal(owner());
        for octets in [
            Vec::new(),
            b" ".to_vec(),
            [b"\xef\xbb\xbf", document.as_bytes()].concat(),
            [document.as_bytes(), b"\0"].concat(),
            [document.as_bytes(), document.as_bytes()].concat(),
            [b"<a>\xff</a>", document.as_bytes()].concat(),
            document.replace("<Id>1<", "<Id>1\u{0}<").into_bytes(),
            document.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        ] {
            let error = verify(&octets).unwrap_err();
            assert_eq!(error.kind(), InvalidProtector, "{error}");
        }
        let declared = r#"<?xml version="1.0" encoding="iso-8859-1"?>"#.to_owned() + &document;
        assert_kind(&declared, InvalidProtector);
        accepted(&(r#"<?xml version="1.0" encoding="utf-8"?>"#.to_owned() + &document + "\n"));
    }

    #[test]
    fn every_truncation() {
        let document = good().seal(owner());
        for length in (0..document.len()).step_by(37) {
            assert_kind(&document[..length], InvalidProtector);
        }
    }

    #[test]
    fn names_and_namespaces_other_than_the_schemas() {
        let document = good().seal(owner());
        let namespace = "http://schemas.microsoft.com/kps/2014/07";
        for (from, to) in [
            (namespace, "http://schemas.microsoft.com/kps/2014/08"),
            (
                namespace,
                "http://schemas.microsoft.com/kps/2014/07/service",
            ),
            ("Protector", "Metadata"),
            ("TransportKeySignature", "TransportkeySignature"),
            ("<Protector ", "<Protector ID=\"a\" "),
            ("<Protector ", "<Protector xml:id=\"a\" "),
            ("<GuardianSignature ", "<Extra/><GuardianSignature "),
            ("<GuardianSignature ", "text<GuardianSignature "),
            ("<GuardianSignature ", "<GuardianSignature Id=\"a\" "),
            ("</Protector>", "<Extra/></Protector>"),
            ("<KeyDerivationMethod ", "<KeyDerivationMethod x=\"1\" "),
        ] {
            let foreign = document.replace(from, to);
            assert!(foreign != document, "{from}");
            assert_kind(&foreign, InvalidProtector);
        }
    }

    /// Signed as it is, so that nothing but the reading of the form refuses it.
    #[test]
    fn every_element_with_one_attribute_or_child_more() {
        let signed = good().signed();
        let changed = with_one_more(&signed);
        assert!(changed.len() > 60, "{}", changed.len());
        for changed in changed {
            let kind = refused(&good().around(&changed, &changed, owner())).kind();
            assert!(
                matches!(kind, InvalidProtector | InvalidWrapping),
                "{changed}"
            );
        }
        let document = good().seal(owner());
        let (head, rest) = document.split_once("</Wrappings>").unwrap();
        let (rest, end) = rest.split_once("</Protector>").unwrap();
        assert_eq!(end, "");
        for rest in with_one_more(rest) {
            let error = refused(&format!("{head}</Wrappings>{rest}</Protector>"));
            assert!(matches!(error, ProtectorError::Form(_)), "{rest}: {error}");
        }
    }

    #[test]
    fn elements_out_of_order_or_missing() {
        let document = good().seal(owner());
        let start = document.find("<TransportKeySignature>").unwrap();
        let middle = document.find("<GuardianSignature ").unwrap();
        let end = document.find("</Protector>").unwrap();
        let (head, tail) = (&document[..start], &document[end..]);
        let (mac, signature) = (&document[start..middle], &document[middle..end]);
        for body in [
            format!("{signature}{mac}"),
            mac.to_owned(),
            signature.to_owned(),
            format!("{mac}{mac}{signature}"),
            format!("{mac}{signature}{signature}"),
        ] {
            assert_kind(&format!("{head}{body}{tail}"), InvalidProtector);
        }
    }

    #[test]
    fn k13_limits_of_size_depth_nodes_attributes_and_wrappings() {
        let document = good().seal(owner());
        let nested = "<a>".repeat(100) + &"</a>".repeat(100);
        let attributes: String = (0..40).map(|n| format!(" a{n}=\"\"")).collect();
        let declarations: String = (0..30).map(|n| format!(" xmlns:a{n}=\"urn:a\"")).collect();
        for foreign in [
            document.replace(
                "<GuardianSignature ",
                &(" ".repeat(262_144) + "<GuardianSignature "),
            ),
            document.replace("<GuardianSignature ", &(nested + "<GuardianSignature ")),
            document.replace(
                "<GuardianSignature ",
                &("<a/>".repeat(20_000) + "<GuardianSignature "),
            ),
            document.replace("<Protector ", &format!("<Protector{attributes} ")),
            document.replace("<Protector ", &format!("<Protector{declarations} ")),
        ] {
            assert_kind(&foreign, LimitExceeded);
        }
        let wrapping = "<Wrapping/>".repeat(65);
        let many = document.replace("</Wrappings>", &(wrapping + "</Wrappings>"));
        assert_eq!(
            refused(&many),
            ProtectorError::TooManyWrappings {
                limit: 64,
                found: 67
            }
        );
    }

    /// attacks.md X3: a canonicaliser that gives up must not end in a signature over nothing.
    #[test]
    fn x3_a_canonical_form_beyond_the_limit() {
        let long = format!("xmlns:a=\"urn:{}\"", "a".repeat(20_000));
        let document = good().seal(owner());
        let foreign = document
            .replace("<Protector ", &format!("<Protector {long} "))
            .replace("</Wrappings>", &("<a:a/>".repeat(100) + "</Wrappings>"));
        assert_kind(&foreign, LimitExceeded);
        // Signed over nothing at all.
        let nothing = good().around(&good().signed(), "", owner());
        assert_eq!(
            refused(&nothing),
            ProtectorError::GuardianSignature {
                id: WrappingId::new(1)
            }
        );
    }

    /// White space around an `xs:anyURI` does not count.
    #[test]
    fn identifiers_may_have_white_space_around_them() {
        let document = good().seal(owner());
        let changed = document.replace("<KeyDerivationMethod Algorithm=\"", "$0 \n");
        let changed = changed.replace("$0", "<KeyDerivationMethod Algorithm=\"");
        assert_ne!(changed, document);
        assert_eq!(accepted(&changed).digest(), accepted(&document).digest());
    }

    /// It stands outside every signature: changing it changes nothing but itself.
    #[test]
    fn max_offline_unwraps_is_anybodys_to_change() {
        let document = good().seal(owner());
        for (text, number) in [("0", 0), ("7", 7), (" +012 ", 12), ("4294967295", u32::MAX)] {
            let changed = document.replace(
                "<Protector ",
                &format!("<Protector MaxOfflineUnwraps=\"{text}\" "),
            );
            let accepted = accepted(&changed);
            assert_eq!(accepted.max_offline_unwraps(), number);
            assert_eq!(accepted.digest(), super::accepted(&document).digest());
            // A roll hands it on, and the schema's default is not written.
            let rolled = rolled(&accepted, fabric(), RollPlan::default(), &[fabric()]).egress;
            let written = std::str::from_utf8(rolled.octets()).unwrap();
            assert_eq!(super::accepted(written).max_offline_unwraps(), number);
            assert_eq!(written.contains("MaxOfflineUnwraps"), number != 0);
        }
        for text in ["", "-1", "4294967296", "1.0", "many"] {
            let changed = document.replace(
                "<Protector ",
                &format!("<Protector MaxOfflineUnwraps=\"{text}\" "),
            );
            assert_kind(&changed, InvalidProtector);
        }
    }
}

mod signatures {
    use super::*;

    /// attacks.md X1: the signed element moved aside, another in its place.
    #[test]
    fn x1_the_signed_wrappings_moved_aside() {
        let good = good();
        let signed = good.signed();
        let forged = Forge::new(stranger(), &[fabric()], key_octets(9)).signed();
        let document = good.seal(owner());
        for foreign in [
            document.replace(&signed, &forged),
            document.replace(&signed, &(forged.clone() + &signed)),
            document.replace(&signed, &(signed.clone() + &forged)),
            document
                .replace(&signed, &forged)
                .replace("</Protector>", &(signed.clone() + "</Protector>")),
            document.replace(&signed, &forged).replace(
                "</Wrappings>",
                &format!("<Wrapping>{signed}</Wrapping></Wrappings>"),
            ),
            document.replace(&signed, &forged).replace(
                "#hkdf\"/>",
                &format!("#hkdf\"><Parameters>{signed}</Parameters></KeyDerivationMethod>"),
            ),
            document.replace(&signed, &format!("<Wrappings>{signed}</Wrappings>")),
        ] {
            assert!(foreign != document);
            let _ = refused(&foreign);
        }
    }

    /// attacks.md X2: the same text means another thing where another default namespace is in scope; what is read is
    /// what the canonical form says, and that is what was signed.
    #[test]
    fn x2_a_namespace_from_outside_changes_what_was_signed() {
        let good = good();
        let declaration = " xmlns=\"http://schemas.microsoft.com/kps/2014/07\"";
        let undeclared = good.signed().replacen(declaration, "", 1);
        let inherits = good.around(&undeclared, &good.signed(), owner());
        accepted(&inherits);
        let elsewhere = inherits.replacen(
            "<Wrappings>",
            "<Wrappings xmlns=\"http://schemas.microsoft.com/kps/2014/08\">",
            1,
        );
        assert_kind(&elsewhere, InvalidProtector);
        // A prefix beside it changes the octets that the signature covers.
        let prefixed =
            inherits.replacen("<Wrappings>", "<Wrappings xmlns:a=\"urn:a\" a:b=\"\">", 1);
        let _ = refused(&prefixed);
    }

    #[test]
    fn x5_a_mac_in_place_of_the_signature() {
        let signed = good().signed();
        let public = owner().signing.public_key().spki_der().to_vec();
        let tag = hgs_crypto::hash::hmac_sha256(&public.as_slice().into(), &[signed.as_bytes()]);
        let hmac = "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256";
        let document = good().seal(owner());
        let start = document.find("<GuardianSignature ").unwrap();
        let foreign = format!(
            "{}<GuardianSignature WrappingId=\"1\">{}</GuardianSignature></Protector>",
            &document[..start],
            signature_element(hmac, &tag)
        );
        assert!(matches!(
            form_of(refused(&foreign)),
            FormError::UnknownAlgorithm { element: "GuardianSignature", identifier } if identifier == hmac
        ));
    }

    #[test]
    fn x6_a_truncated_mac() {
        let document = good().seal(owner());
        let start = document.find("hmac-sha256\">").unwrap() + "hmac-sha256\">".len();
        let end = document[start..].find("</Signature>").unwrap() + start;
        for length in [0, 1, 8, 10, 16, 31, 33, 64] {
            let value = hgs_crypto::base64::encode(&vec![7; length]);
            let foreign = format!(
                "{}<SignatureValue>{value}</SignatureValue>{}",
                &document[..start],
                &document[end..]
            );
            assert_eq!(
                refused(&foreign),
                ProtectorError::Form(FormError::Length {
                    element: "TransportKeySignature",
                    expected: 32,
                    found: length
                })
            );
        }
        let shortened = document.replace(
            "hmac-sha256\"><SignatureValue>",
            "hmac-sha256\"><Parameters><HMACOutputLength xmlns=\"http://www.w3.org/2000/09/xmldsig#\">8\
             </HMACOutputLength></Parameters><SignatureValue>",
        );
        assert!(shortened != document);
        assert_kind(&shortened, InvalidProtector);
    }

    /// A MAC under another key passes as far as it goes without the key, and opens for nobody.
    #[test]
    fn x7_a_wrong_mac_opens_for_nobody() {
        let mut forge = good();
        forge.key = key_octets(8).to_vec();
        let protector = accepted(&forge.seal(owner()));
        let keys = Keys::of(&[owner(), fabric()]);
        let pairs = [owner().held(), fabric().held()];
        let error = open(&protector, &pairs, &mut &keys).unwrap_err();
        assert!(matches!(error, OpenError::CannotOpen(_)));
        assert_eq!(keys.decryptions(), 2);
    }

    /// It opens, and everything in it holds: only the maker can have chosen such a key, and is told.
    #[test]
    fn transport_keys_that_are_not_random() {
        let counting: [u8; 32] = std::array::from_fn(|place| place as u8);
        for key in [
            [0; 32],
            [0x5a; 32],
            counting,
            *b"0123456789abcdef0123456789abcdef",
        ] {
            let protector = accepted(&Forge::new(owner(), &[fabric()], key).seal(owner()));
            for guardian in [owner(), fabric()] {
                let keys = Keys::of(&[guardian]);
                let error = open(&protector, &[guardian.held()], &mut &keys).unwrap_err();
                let expected = OpenError::TransportKey(TransportKeyProblem::NotRandom);
                assert_eq!(error, expected, "{key:?}");
            }
            let error = TransportKey::from_secret(SecretBytes::from(&key[..])).unwrap_err();
            assert_eq!(error, TransportKeyProblem::NotRandom);
        }
    }

    #[test]
    fn a_guardian_signature_that_does_not_hold() {
        let id = WrappingId::new(1);
        // By another's key, over something else, and by a wrapping that is not there.
        assert_eq!(
            refused(&good().seal(fabric())),
            ProtectorError::GuardianSignature { id }
        );
        let signed = good().signed();
        let other = Forge::new(owner(), &[fabric()], KEY).signed();
        assert!(signed != other, "OAEP is randomised");
        let document = good().around(&signed, &other, owner());
        assert_eq!(refused(&document), ProtectorError::GuardianSignature { id });
        let missing = sealed_after(|forge| forge.guardian = "3".to_owned());
        let id = WrappingId::new(3);
        assert_eq!(refused(&missing), ProtectorError::GuardianMissing { id });
    }

    #[test]
    fn unknown_algorithms_outside_the_wrappings() {
        let document = good().seal(owner());
        for (from, to) in [
            ("xmldsig-more#hkdf", "xmldsig-more#hkdf2"),
            ("http://www.w3.org/2021/04/xmldsig-more#hkdf", ""),
            (
                "http://www.w3.org/2021/04/xmldsig-more#hkdf",
                "http://www.w3.org/2009/xmlenc11#ConcatKDF",
            ),
            ("more#hmac-sha256", "more#hmac-sha512"),
            (
                "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256",
                RSA_SHA256,
            ),
        ] {
            let foreign = document.replace(from, to);
            assert!(foreign != document, "{from}");
            let error = form_of(refused(&foreign));
            assert!(
                matches!(error, FormError::UnknownAlgorithm { .. }),
                "{error}"
            );
        }
        let start = document.find("<GuardianSignature ").unwrap();
        let (before, after) = document.split_at(start);
        for weak in ["http://www.w3.org/2000/09/xmldsig#rsa-sha1", "none"] {
            let error = refused(&(before.to_owned() + &after.replace(RSA_SHA256, weak)));
            let unknown = matches!(form_of(error), FormError::UnknownAlgorithm { .. });
            assert!(unknown, "{weak}");
        }
    }

    #[test]
    fn parameters_where_there_are_none() {
        let document = good().seal(owner());
        for (from, to) in [
            ("#hkdf\"/>", "#hkdf\"><Parameters/></KeyDerivationMethod>"),
            ("hmac-sha256\">", "hmac-sha256\"><Parameters/>"),
        ] {
            let foreign = document.replace(from, to);
            assert!(foreign != document, "{from}");
            assert_kind(&foreign, InvalidProtector);
        }
        let (before, after) = document.split_at(document.find("<GuardianSignature ").unwrap());
        let foreign =
            before.to_owned() + &after.replace("rsa-sha256\">", "rsa-sha256\"><Parameters/>");
        assert_kind(&foreign, InvalidProtector);
    }

    #[test]
    fn the_other_signature_scheme_is_read() {
        let mut forge = good();
        let pss = "http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1";
        let by = |key: &hgs_crypto::rsa::PrivateKey, message: &[u8]| {
            let scheme = hgs_crypto::rsa::SignatureScheme::PssSha256;
            signature_element(pss, &key.sign(scheme, message).unwrap())
        };
        forge.wrappings[1].signing_certificate_signature =
            by(&owner().signing_key, fabric().signing.der());
        forge.wrappings[1].encryption_certificate_signature =
            by(&fabric().signing_key, fabric().encryption.der());
        let document = forge.seal(owner());
        let (before, _) = document.split_at(document.find("<GuardianSignature ").unwrap());
        let signature = by(&owner().signing_key, forge.signed().as_bytes());
        let protector = accepted(&format!(
            "{before}<GuardianSignature WrappingId=\"1\">{signature}</GuardianSignature></Protector>"
        ));

        // A roll keeps what others signed, and signs in its own way.
        let rolled = rolled(&protector, fabric(), Default::default(), &[fabric()]);
        let text = String::from_utf8(rolled.egress.octets().to_vec()).unwrap();
        assert_eq!(text.matches(pss).count(), 2);
        verify(text.as_bytes()).unwrap();
        // One scheme's signature does not pass for the other's.
        assert_kind(
            &good().seal(owner()).replace(RSA_SHA256, pss),
            InvalidWrapping,
        );
    }
}

mod wrappings {
    use super::*;

    #[test]
    fn numbers_that_are_none_or_stand_twice() {
        for id in ["", "a", "-1", "4294967296", "1 2"] {
            let error = form_of(refused(&with_second(|wrapping| {
                wrapping.id = id.to_owned()
            })));
            assert_eq!(error, FormError::UnsignedInt { element: "Id" });
            let error = form_of(refused(&with_second(|wrapping| {
                wrapping.parent = id.to_owned()
            })));
            let element = "ParentWrappingId";
            assert_eq!(error, FormError::UnsignedInt { element });
        }
        // The number counts, not its digits.
        for id in ["1", "01", " +1 "] {
            let error = refused(&with_second(|wrapping| wrapping.id = id.to_owned()));
            let id = WrappingId::new(1);
            assert_eq!(error, ProtectorError::DuplicateId { id });
        }
        accepted(&with_second(|wrapping| {
            wrapping.id = " +4294967295\n".to_owned()
        }));
    }

    #[test]
    fn no_owner_and_two_owners() {
        let two = sealed_after(|forge| {
            forge.wrappings[1] = ForgedWrapping::new(2, fabric(), 2, fabric(), &KEY);
        });
        let (first, second) = (WrappingId::new(1), WrappingId::new(2));
        assert_eq!(refused(&two), ProtectorError::TwoOwners { first, second });
        let none = sealed_after(|forge| {
            forge.wrappings[0] = ForgedWrapping::new(1, owner(), 2, fabric(), &KEY);
        });
        assert_eq!(refused(&none), ProtectorError::NoOwner);
        assert_eq!(refused(&none).kind(), InvalidWrapping);
    }

    #[test]
    fn a_parent_that_is_not_there_and_a_circle() {
        let (id, parent) = (WrappingId::new(2), WrappingId::new(9));
        let missing = with_second(|wrapping| wrapping.parent = "9".to_owned());
        assert_eq!(
            refused(&missing),
            ProtectorError::ParentMissing { id, parent }
        );

        // Two wrappings vouch for each other, with good signatures, beside a good owner.
        let circle = sealed_after(|forge| {
            forge.wrappings[1] = ForgedWrapping::new(2, fabric(), 3, stranger(), &KEY);
            forge
                .wrappings
                .push(ForgedWrapping::new(3, stranger(), 2, fabric(), &KEY));
        });
        assert_eq!(refused(&circle), ProtectorError::Cycle { id });
        assert_eq!(refused(&circle).kind(), InvalidWrapping);
    }

    #[test]
    fn a_chain_of_several_generations_in_any_order() {
        let document = sealed_after(|forge| {
            forge.wrappings[1] = ForgedWrapping::new(2, fabric(), 7, stranger(), &KEY);
            forge
                .wrappings
                .insert(0, ForgedWrapping::new(7, stranger(), 1, owner(), &KEY));
        });
        let protector = accepted(&document);
        assert_eq!(protector.owner().id(), WrappingId::new(1));
        let descendants = protector.with_descendants([WrappingId::new(7)]);
        assert_eq!(descendants, [2, 7].map(WrappingId::new).into());
        let of_both = protector.with_descendants([1, 7].map(WrappingId::new));
        assert_eq!(of_both, [1, 2, 7].map(WrappingId::new).into());
        assert!(protector.with_descendants([]).is_empty());
        let last = protector.wrapping(WrappingId::new(2)).unwrap();
        let ancestry = protector.ancestry(last).map(hgs_protector::Wrapping::id);
        assert_eq!(ancestry.collect::<Vec<_>>(), [2, 7, 1].map(WrappingId::new));
    }

    #[test]
    fn a_signing_certificate_that_the_parent_did_not_sign() {
        let (id, parent) = (WrappingId::new(2), WrappingId::new(1));
        let expected = ProtectorError::SigningCertificateSignature { id, parent };
        let mut forge = good();
        let of_owner = forge.wrappings[0].signing_certificate_signature.clone();
        for signature in [
            of_owner,
            signature_element(RSA_SHA256, &fabric().sign(fabric().signing.der())),
            signature_element(RSA_SHA256, b""),
            signature_element(RSA_SHA256, &[0; 256]),
            signature_element(RSA_SHA256, &owner().sign(fabric().signing.der())[..255]),
        ] {
            forge.wrappings[1].signing_certificate_signature = signature;
            assert_eq!(refused(&forge.seal(owner())), expected);
        }
        // The certificate of someone else, with everything else in place.
        let swapped = with_second(|wrapping| {
            wrapping.signing_certificate = hgs_crypto::base64::encode(stranger().signing.der());
        });
        assert_eq!(refused(&swapped), expected);
    }

    /// A self-signed chain of one's own, under the owner's name.
    #[test]
    fn an_owner_that_did_not_sign_itself() {
        let document = sealed_after(|forge| {
            let by_stranger = stranger().sign(owner().signing.der());
            forge.wrappings[0].signing_certificate_signature =
                signature_element(RSA_SHA256, &by_stranger);
        });
        let (id, parent) = (WrappingId::new(1), WrappingId::new(1));
        let expected = ProtectorError::SigningCertificateSignature { id, parent };
        assert_eq!(refused(&document), expected);
    }

    /// The attacker's encryption certificate, so that the next roll encrypts to him.
    #[test]
    fn an_encryption_certificate_that_was_swapped() {
        let id = WrappingId::new(2);
        let expected = ProtectorError::EncryptionCertificateSignature { id };
        let foreign = hgs_crypto::base64::encode(stranger().encryption.der());
        let swapped = with_second(|wrapping| wrapping.encryption_certificate = foreign.clone());
        assert_eq!(refused(&swapped), expected);
        let with_signature = with_second(|wrapping| {
            wrapping.encryption_certificate = foreign;
            let signature = stranger().sign(stranger().encryption.der());
            wrapping.encryption_certificate_signature = signature_element(RSA_SHA256, &signature);
        });
        assert_eq!(refused(&with_signature), expected);
        assert_eq!(refused(&swapped).kind(), InvalidWrapping);
    }

    #[test]
    fn elements_of_a_wrapping_that_are_not_the_schemas() {
        for (from, to) in [
            ("<Wrapping>", "<Wrapping Id=\"2\">"),
            ("<Wrapping>", "<Wrapping>text"),
            ("<Wrapping>", "<Wrapping><Extra/>"),
            ("</Wrapping>", "<Extra/></Wrapping>"),
            ("<Id>2</Id>", ""),
            ("<Id>2</Id>", "<Id>2</Id><Id>2</Id>"),
            ("<Id>2</Id>", "<Id x=\"1\">2</Id>"),
            ("<Id>2</Id>", "<Id><a>2</a></Id>"),
            ("<Id>2</Id>", "<Id xmlns=\"urn:a\">2</Id>"),
            ("<TransportKey>", "<TransportKey x=\"1\">"),
            (
                "<EncryptionCertificateSignature>",
                "<EncryptionCertificateSignature x=\"1\">",
            ),
            ("<SigningCertificate>", "<SigningCertificate x=\"1\">"),
        ] {
            let signed = good().signed();
            let place = signed.rfind("<Wrapping>").unwrap();
            let changed = signed[..place].to_owned() + &signed[place..].replacen(from, to, 1);
            assert!(changed != signed, "{from}");
            let error = refused(&good().around(&changed, &changed, owner()));
            assert!(
                matches!(error, ProtectorError::Wrapping { position: 2, .. }),
                "{error}"
            );
            assert_eq!(error.kind(), InvalidWrapping, "{error}");
        }
        let none = "<Wrappings xmlns=\"http://schemas.microsoft.com/kps/2014/07\"></Wrappings>";
        assert_kind(&good().around(none, none, owner()), InvalidProtector);
    }

    #[test]
    fn base64_in_other_than_its_one_form() {
        let text = good().wrappings[1].signing_certificate.clone();
        assert!(text.len() > 100);
        for lax in [
            text.replace('=', ""),
            text.clone() + "=",
            text.clone() + "AAAA",
            text.replacen('M', "-", 1),
            text.replacen('M', "\u{a0}M", 1),
            "Zh==".to_owned(),
        ] {
            if lax == text {
                continue;
            }
            let error = form_of(refused(&with_second(|wrapping| {
                wrapping.signing_certificate = lax.clone();
            })));
            let about = matches!(
                error,
                FormError::Base64 {
                    element: "SigningCertificate"
                } | FormError::Certificate {
                    element: "SigningCertificate",
                    ..
                }
            );
            assert!(about, "{error}");
        }
    }

    #[test]
    fn unknown_algorithms_and_wrong_parameters() {
        let good_data = good().wrappings[1].encrypted_data.clone();
        let parameters = {
            let start = good_data.find("<Parameters>").unwrap();
            let end = good_data.find("</Parameters>").unwrap() + "</Parameters>".len();
            good_data[start..end].to_owned()
        };
        let oaep = "http://www.w3.org/2009/xmlenc11#rsa-oaep";
        let mgf1p = "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p";
        for (from, to) in [
            (oaep, "http://www.w3.org/2001/04/xmlenc#rsa-1_5"),
            (oaep, ""),
            // Absent, or for the algorithm that has none.
            (parameters.as_str(), ""),
            (parameters.as_str(), "<Parameters></Parameters>"),
            (oaep, mgf1p),
            // Other hashes, missing, doubled, in the other order.
            (
                "http://www.w3.org/2001/04/xmlenc#sha256",
                "http://www.w3.org/2000/09/xmldsig#sha1",
            ),
            (
                "http://www.w3.org/2009/xmlenc11#mgf1sha256",
                "http://www.w3.org/2009/xmlenc11#mgf1sha1",
            ),
            (
                "</Parameters>",
                "<OAEPparams xmlns=\"http://www.w3.org/2001/04/xmlenc#\">AA==</OAEPparams></Parameters>",
            ),
            (
                "<Parameters>",
                "<Parameters><DigestMethod xmlns=\"http://www.w3.org/2000/09/xmldsig#\" Algorithm=\"http://www.w3.org/2001/04/xmlenc#sha256\"></DigestMethod>",
            ),
            ("</DigestMethod>", "<a></a></DigestMethod>"),
            ("<DigestMethod ", "<DigestMethod x=\"1\" "),
        ] {
            let data = good_data.replacen(from, to, 1);
            assert!(data != good_data, "{from}");
            let document = with_second(|wrapping| wrapping.encrypted_data = data);
            assert_kind(&document, InvalidWrapping);
        }
        for signature in ["none", "http://www.w3.org/2000/09/xmldsig#rsa-sha1"] {
            let by = owner().sign(fabric().signing.der());
            let document = with_second(|wrapping| {
                wrapping.signing_certificate_signature = signature_element(signature, &by);
            });
            assert_kind(&document, InvalidWrapping);
        }
    }

    /// A transport key of another length than 32 octets is none, whatever the MAC says.
    #[test]
    fn transport_keys_of_other_lengths() {
        for length in [0, 16, 31, 33, 64] {
            let key = vec![7; length];
            let mut forge = good();
            forge.key = key.clone();
            for (wrapping, guardian) in forge.wrappings.iter_mut().zip([owner(), fabric()]) {
                wrapping.encrypted_data = encrypted_data(guardian.encryption.public_key(), &key);
            }
            let protector = accepted(&forge.seal(owner()));
            let keys = Keys::of(&[fabric()]);
            let error = open(&protector, &[fabric().held()], &mut &keys).unwrap_err();
            assert!(matches!(error, OpenError::CannotOpen(_)), "{length}");
        }
    }

    /// attacks.md K17: whatever fails in an opening, the answer is the same and no more than four are tried.
    #[test]
    fn k17_one_answer_for_every_cause_and_four_decryptions() {
        let mut forge = good();
        let garbage = [
            encrypted_data(stranger().encryption.public_key(), &KEY),
            encrypted_data(fabric().encryption.public_key(), &key_octets(8)),
            encrypted_data(fabric().encryption.public_key(), b"short"),
            signature_element("x", b"")
                .replace("SignatureValue", "CipherValue")
                .replace("Signature", "EncryptedData"),
        ];
        forge.wrappings.truncate(1);
        for (id, data) in (2..).zip(garbage.iter().take(3).cycle().take(6)) {
            let mut wrapping = ForgedWrapping::new(id, fabric(), 1, owner(), &KEY);
            wrapping.encrypted_data.clone_from(data);
            forge.wrappings.push(wrapping);
        }
        // The last one would open it, and is beyond the four.
        forge
            .wrappings
            .push(ForgedWrapping::new(9, fabric(), 1, owner(), &KEY));
        let protector = accepted(&forge.seal(owner()));
        let keys = Keys::of(&[fabric()]);
        let error = open(&protector, &[fabric().head()], &mut &keys).unwrap_err();
        assert!(matches!(error, OpenError::CannotOpen(_)));
        assert_eq!(keys.decryptions(), 4);

        // One that opens after three that don't.
        forge.wrappings.drain(4..7);
        let protector = accepted(&forge.seal(owner()));
        let opened = open(&protector, &[fabric().head()], &mut &keys).unwrap();
        assert_eq!(opened.wrapping().id(), WrappingId::new(9));
    }
}
