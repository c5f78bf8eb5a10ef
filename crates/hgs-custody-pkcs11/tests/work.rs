//! Keys in SoftHSM at work: found, used, generated, refused.

use hgs_crypto::SecretBytes;
use hgs_crypto::rsa::{OaepHash, PublicKeyError, SignatureScheme};
use hgs_custody::{Capabilities, KeyError, Pkcs11Uri, PrivateKey};
use hgs_custody_pkcs11::{ModuleSettings, Oaep, OaepPlace, Settings, TokenError, Tokens, Usage};
use hgs_testkit::fixtures::private_key;
use hgs_testkit::softhsm::{SoftHsm, isolated};

const SCHEMES: [SignatureScheme; 2] = [SignatureScheme::Pkcs1Sha256, SignatureScheme::PssSha256];
const HASHES: [OaepHash; 2] = [OaepHash::Sha256, OaepHash::Sha1];

fn tokens() -> Tokens {
    tokens_with(Oaep::Auto)
}

fn tokens_with(oaep: Oaep) -> Tokens {
    let module = ModuleSettings {
        sessions: 2,
        oaep,
        ..ModuleSettings::new(SoftHsm::module())
    };
    Tokens::new(Settings {
        modules: vec![module],
        pin_source: None,
    })
}

fn uri(hsm: &SoftHsm, object: &str) -> Pkcs11Uri {
    hsm.uri(object).parse().unwrap()
}

fn assert_decrypts(key: &dyn PrivateKey, hash: OaepHash) {
    let secret = SecretBytes::new(vec![7; 32]);
    let ciphertext = key.public().encrypt_oaep(hash, &secret).unwrap();
    assert_eq!(key.decrypt(hash, &ciphertext), Ok(secret), "{hash:?}");
}

fn assert_signs(key: &dyn PrivateKey) {
    for scheme in SCHEMES {
        let signature = key.sign(scheme, b"message").unwrap();
        let verified = key.public().verify(scheme, b"message", &signature);
        assert!(verified.is_ok(), "{scheme:?}");
    }
}

#[test]
fn a_key_made_by_pkcs11_tool_works() {
    isolated(|hsm| {
        hsm.generate("signing", "--usage-sign");
        hsm.generate("encryption", "--usage-decrypt");
        let tokens = tokens();
        let signing = tokens.open(&uri(hsm, "signing")).unwrap();
        assert_signs(&signing);
        let encryption = tokens.open(&uri(hsm, "encryption")).unwrap();
        HASHES
            .into_iter()
            .for_each(|hash| assert_decrypts(&encryption, hash));

        let certified = tokens.key(&uri(hsm, "signing").into(), signing.public());
        assert_signs(&*certified);
        assert!(certified.is_blocking());
    });
}

/// SoftHSM 2.6 does OAEP with SHA-1 itself, and with SHA-256 only raw RSA.
#[test]
fn what_the_token_can_is_found_out_by_trial() {
    isolated(|hsm| {
        hsm.generate("encryption", "--usage-decrypt");
        let of = |oaep| {
            let tokens = tokens_with(oaep);
            let examination = tokens.examine(&uri(hsm, "encryption"));
            assert!(examination.failure().is_none(), "{examination:?}");
            let mechanisms = *examination.mechanisms.passed().unwrap();
            (mechanisms.oaep_sha256, mechanisms.oaep_sha1)
        };
        use OaepPlace::{Host, Nowhere, Token};
        assert_eq!(of(Oaep::Auto), (Host, Token));
        assert_eq!(of(Oaep::Host), (Host, Host));
        assert_eq!(of(Oaep::Token), (Nowhere, Token));
        assert_eq!(of(Oaep::Sha1), (Nowhere, Token));
    });
}

#[test]
fn each_way_of_oaep_opens_what_it_says_and_nothing_else() {
    isolated(|hsm| {
        let encryption = uri(hsm, "encryption");
        tokens()
            .generate(&encryption, 2048, Usage::Decrypt)
            .unwrap();
        let secret = SecretBytes::new(vec![7; 32]);
        for (oaep, sha256) in [
            (Oaep::Auto, true),
            (Oaep::Host, true),
            (Oaep::Token, false),
            (Oaep::Sha1, false),
        ] {
            let tokens = tokens_with(oaep);
            let key = tokens.open(&encryption).unwrap();
            let capabilities = Capabilities {
                oaep_sha256: sha256,
                oaep_sha1: true,
                pkcs1_sha256: false,
                pss_sha256: false,
            };
            assert_eq!(key.capabilities(), Ok(capabilities), "{oaep:?}");
            assert_decrypts(&key, OaepHash::Sha1);
            let public = key.public().clone();
            let ciphertext = public.encrypt_oaep(OaepHash::Sha256, &secret).unwrap();
            let expected = if sha256 {
                Ok(secret.clone())
            } else {
                Err(KeyError::Unsupported)
            };
            assert_eq!(
                key.decrypt(OaepHash::Sha256, &ciphertext),
                expected,
                "{oaep:?}"
            );
            let refused = key.sign(SignatureScheme::Pkcs1Sha256, b"message");
            assert_eq!(refused, Err(KeyError::Unsupported));
        }
    });
}

/// attacks.md K17: no defect of a ciphertext is told from another, and none looks like an outage.
#[test]
fn k17_a_bad_ciphertext_is_refused_and_the_token_stays() {
    isolated(|hsm| {
        hsm.generate("encryption", "--usage-decrypt");
        for oaep in [Oaep::Auto, Oaep::Host] {
            let tokens = tokens_with(oaep);
            let key = tokens.open(&uri(hsm, "encryption")).unwrap();
            let modulus = key.public().modulus().to_vec();
            let secret = SecretBytes::new(vec![7; 32]);
            let good = key.public().encrypt_oaep(OaepHash::Sha1, &secret).unwrap();
            let changed: Vec<u8> = good.iter().map(|octet| octet ^ 1).collect();
            let bad: [&[u8]; 8] = [
                &changed,
                &good[1..],
                &[&[0], good.as_slice()].concat(),
                &vec![0; modulus.len()],
                &[&vec![0; modulus.len() - 1][..], &[1]].concat(),
                &modulus,
                &vec![0xff; modulus.len()],
                &[],
            ];
            for hash in HASHES {
                for ciphertext in bad {
                    // Some changed octets make a number above the modulus, which is refused too.
                    let outcome = key.decrypt(hash, ciphertext);
                    assert_eq!(outcome, Err(KeyError::Refused), "{hash:?} {ciphertext:?}");
                }
            }
            let other = key
                .public()
                .encrypt_oaep(OaepHash::Sha256, &secret)
                .unwrap();
            assert_eq!(key.decrypt(OaepHash::Sha1, &other), Err(KeyError::Refused));
            assert_eq!(tokens.status()[0].tokens[0].failures, 0);
            assert_decrypts(&key, OaepHash::Sha1);
        }
    });
}

#[test]
fn generated_keys_are_sensitive_for_one_use_and_never_overwritten() {
    isolated(|hsm| {
        let tokens = tokens();
        let named = |name: &str| -> Pkcs11Uri {
            let pin = hsm.pin_file();
            let text = format!("pkcs11:token=hgs;{name}?pin-source=file:{}", pin.display());
            text.parse().unwrap()
        };
        let signing = named("object=signing;id=%01");
        let key = tokens.generate(&signing, 2048, Usage::Sign).unwrap();
        assert_signs(&key);
        let encryption = named("object=encryption;id=%02");
        let key = tokens.generate(&encryption, 3072, Usage::Decrypt).unwrap();
        assert_eq!(key.public().modulus_bits(), 3072);
        HASHES
            .into_iter()
            .for_each(|hash| assert_decrypts(&key, hash));

        for (uri, id) in [(&signing, 1), (&encryption, 2)] {
            let examination = tokens.examine(uri);
            let key = examination.key.passed().unwrap();
            assert_eq!((key.sensitive, key.extractable), (true, false));
            assert_eq!((key.signs, key.decrypts), (id == 1, id == 2));
            assert_eq!(key.id, [id]);
        }
        let again = tokens.generate(&signing, 2048, Usage::Sign).unwrap_err();
        let wanted = "object=signing;id=%01".to_owned();
        assert_eq!(again, TokenError::KeyExists { wanted });
        let same_id = tokens.generate(&named("object=other;id=%01"), 2048, Usage::Sign);
        let (id, present) = ("id=%01".to_owned(), "object=signing;id=%01".to_owned());
        assert_eq!(
            same_id.unwrap_err(),
            TokenError::IdentifierInUse { id, present }
        );
        let small = tokens.generate(&named("object=small"), 1024, Usage::Sign);
        let bits = TokenError::Key(PublicKeyError::ModulusBits(1024));
        assert_eq!(small.unwrap_err(), bits);
        let nameless = tokens.generate(&"pkcs11:token=hgs".parse().unwrap(), 2048, Usage::Sign);
        assert_eq!(nameless.unwrap_err(), TokenError::KeyNotNamed);
        let listed = hsm.pkcs11_tool(&["--list-objects", "--type", "privkey"]);
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert_eq!(listed.matches("never extractable").count(), 2, "{listed}");
    });
}

#[test]
fn what_the_uri_does_not_single_out_is_refused_by_name() {
    isolated(|hsm| {
        hsm.generate("one", "--usage-sign");
        hsm.generate("two", "--usage-sign");
        hsm.add_token("other");
        let tokens = tokens();
        let refused = |text: &str| {
            let pin = hsm.pin_file();
            let uri = format!("{text}?pin-source=file:{}", pin.display());
            tokens.open(&uri.parse().unwrap()).unwrap_err()
        };
        let absent = TokenError::TokenAbsent {
            wanted: "token=away".to_owned(),
            present: vec!["hgs".to_owned(), "other".to_owned()],
        };
        match (refused("pkcs11:token=away;object=one"), absent) {
            (
                TokenError::TokenAbsent {
                    wanted,
                    mut present,
                },
                TokenError::TokenAbsent {
                    wanted: expected,
                    present: there,
                },
            ) => {
                present.sort();
                assert_eq!((wanted, present), (expected, there));
            }
            (error, _) => panic!("{error}"),
        }
        let wanted = "any token".to_owned();
        let ambiguous = TokenError::TokenAmbiguous { wanted, count: 2 };
        assert_eq!(refused("pkcs11:object=one"), ambiguous);
        let wanted = "of any name".to_owned();
        let ambiguous = TokenError::KeyAmbiguous { wanted, count: 2 };
        assert_eq!(refused("pkcs11:token=hgs"), ambiguous);
        let TokenError::KeyAbsent {
            wanted,
            mut present,
        } = refused("pkcs11:token=hgs;object=three")
        else {
            panic!("the key is there");
        };
        present.sort();
        assert_eq!(
            (wanted.as_str(), present),
            (
                "object=three",
                vec!["object=one".to_owned(), "object=two".to_owned()]
            )
        );
    });
}

#[test]
fn a_certificate_of_another_key_does_not_get_this_one() {
    isolated(|hsm| {
        hsm.generate("signing", "--usage-sign");
        let key = tokens().key(&uri(hsm, "signing").into(), private_key(0).public());
        let reason = TokenError::OtherKey.to_string();
        let refused = key.sign(SignatureScheme::Pkcs1Sha256, b"message");
        assert_eq!(refused, Err(KeyError::Unavailable { reason }));
    });
}

#[test]
fn only_modules_of_the_settings_are_loaded() {
    isolated(|hsm| {
        hsm.generate("signing", "--usage-sign");
        let text = format!("{}&module-path=/no/such/module.so", hsm.uri("signing"));
        let error = tokens().open(&text.parse().unwrap()).unwrap_err();
        let path = "/no/such/module.so".into();
        assert_eq!(error, TokenError::ModuleNotConfigured { path });

        let none = Tokens::new(Settings::default());
        let error = none.open(&uri(hsm, "signing")).unwrap_err();
        assert_eq!(error, TokenError::NoModule);

        // What is no module, and a module that comes after it: the token is found there.
        let modules = ["/no/such/module.so", "/dev/null"].map(ModuleSettings::new);
        let mut settings = Settings {
            modules: modules.to_vec(),
            pin_source: None,
        };
        let error = Tokens::new(settings.clone()).open(&uri(hsm, "signing"));
        assert!(matches!(error, Err(TokenError::ModuleNotLoadable { .. })));
        settings
            .modules
            .push(ModuleSettings::new(SoftHsm::module()));
        assert_signs(&Tokens::new(settings).open(&uri(hsm, "signing")).unwrap());
    });
}

#[test]
fn the_pin_comes_from_where_the_uri_says_or_the_settings() {
    isolated(|hsm| {
        hsm.generate("signing", "--usage-sign");
        let plain = "pkcs11:token=hgs;object=signing";
        let path = hsm.pin_file().display().to_string();
        for source in [
            format!("file:{path}"),
            path,
            "credential:pin".to_owned(),
            "env:HGS_TEST_PIN".to_owned(),
        ] {
            let named = format!("{plain}?pin-source={source}").parse().unwrap();
            assert_signs(&tokens().open(&named).unwrap());
            let tokens = Tokens::new(Settings {
                modules: vec![ModuleSettings::new(SoftHsm::module())],
                pin_source: Some(source.parse().unwrap()),
            });
            assert_signs(&tokens.open(&plain.parse().unwrap()).unwrap());
        }
    });
}

/// attacks.md K9.
#[test]
fn k9_debug_of_a_token_key_shows_its_public_half_only() {
    isolated(|hsm| {
        hsm.generate("signing", "--usage-sign");
        let tokens = tokens();
        let key = tokens.open(&uri(hsm, "signing")).unwrap();
        assert_signs(&key);
        let public = format!("{:?}", key.public());
        assert_eq!(format!("{key:?}"), format!("TokenKey(of {public})"));
        let shown = format!("{tokens:?}");
        assert!(!shown.contains(hgs_testkit::softhsm::PIN), "{shown}");
    });
}

/// Many threads on few sessions: each gets its own answer.
#[test]
fn sessions_are_shared_by_many_threads() {
    isolated(|hsm| {
        hsm.generate("encryption", "--usage-decrypt");
        let tokens = tokens();
        let key = tokens.open(&uri(hsm, "encryption")).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..16 {
                let key = &key;
                scope.spawn(move || {
                    for turn in 0..8 {
                        let secret = SecretBytes::new(vec![thread, turn]);
                        let hash = HASHES[usize::from(turn) % 2];
                        let ciphertext = key.public().encrypt_oaep(hash, &secret).unwrap();
                        assert_eq!(key.decrypt(hash, &ciphertext), Ok(secret));
                    }
                });
            }
        });
        let status = &tokens.status()[0];
        assert_eq!((status.recoveries, status.tokens[0].sessions), (0, 2));
        assert_eq!((status.tokens[0].busy, status.tokens[0].waiting), (0, 0));
    });
}
