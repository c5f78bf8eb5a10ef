//! Tokens that fail: what their callers hear, and how they come back, in one and the same process.

use std::path::Path;
use std::time::{Duration, Instant};

use hgs_crypto::SecretBytes;
use hgs_crypto::rsa::{OaepHash, SignatureScheme};
use hgs_custody::{KeyError, Pkcs11Uri, Pkcs11Uris, PrivateKey};
use hgs_custody_pkcs11::{
    Breaker, ModuleSettings, Settings, TokenError, TokenStatus, Tokens, Usage,
};
use hgs_testkit::softhsm::{PIN, Proxy, SoftHsm, isolated};

/// Far longer than any recovery takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn tokens(module: &Path) -> Tokens {
    let module = ModuleSettings {
        sessions: 2,
        wait: Duration::from_secs(2),
        ..ModuleSettings::new(module)
    };
    Tokens::new(Settings {
        modules: vec![module],
        pin_source: None,
    })
}

fn uri(hsm: &SoftHsm, object: &str) -> Pkcs11Uri {
    hsm.uri(object).parse().unwrap()
}

fn sign(key: &dyn PrivateKey) -> Result<(), KeyError> {
    let signature = key.sign(SignatureScheme::PssSha256, b"message")?;
    let verified = key
        .public()
        .verify(SignatureScheme::PssSha256, b"message", &signature);
    assert!(verified.is_ok(), "a wrong signature");
    Ok(())
}

fn decrypt(key: &dyn PrivateKey) -> Result<(), KeyError> {
    let secret = SecretBytes::new(vec![7; 32]);
    let public = key.public();
    let ciphertext = public.encrypt_oaep(OaepHash::Sha256, &secret).unwrap();
    assert_eq!(key.decrypt(OaepHash::Sha256, &ciphertext)?, secret);
    Ok(())
}

fn unavailable(outcome: Result<(), KeyError>) -> String {
    match outcome {
        Err(KeyError::Unavailable { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

fn token(tokens: &Tokens) -> TokenStatus {
    tokens.status()[0].tokens[0].clone()
}

/// Asks until the answer is yes.
fn until(what: &str, mut yes: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !yes() {
        assert!(Instant::now() < deadline, "{what}");
        // A pause between two questions, on which nothing depends.
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

#[test]
fn a_token_that_was_taken_away_and_brought_back_works_again() {
    isolated(|hsm| {
        let tokens = tokens(&SoftHsm::module());
        let signing = tokens
            .generate(&uri(hsm, "signing"), 2048, Usage::Sign)
            .unwrap();
        let encryption = tokens
            .generate(&uri(hsm, "encryption"), 2048, Usage::Decrypt)
            .unwrap();
        assert_eq!((sign(&signing), decrypt(&encryption)), (Ok(()), Ok(())));

        hsm.hide();
        let reason = unavailable(sign(&signing));
        assert!(
            reason.starts_with("the token is lost: CKR_")
                || reason.starts_with("the token failed: CKR_"),
            "{reason}"
        );
        // Every key of the token, at once.
        unavailable(decrypt(&encryption));
        unavailable(sign(&signing));
        assert!(matches!(token(&tokens).breaker, Breaker::Open { .. }));

        hsm.show();
        until("the token comes back", || sign(&signing).is_ok());
        assert_eq!(decrypt(&encryption), Ok(()));
        let status = &tokens.status()[0];
        assert!(status.recoveries >= 1, "{status:?}");
        assert_eq!(status.tokens[0].breaker, Breaker::Closed);
        assert_eq!(status.tokens[0].failures, 1);
    });
}

/// The fault run in small: under load, every answer is right or an honest refusal.
#[test]
fn under_load_no_answer_is_wrong_and_none_is_lost() {
    isolated(|hsm| {
        let tokens = tokens(&SoftHsm::module());
        let key = tokens
            .generate(&uri(hsm, "encryption"), 2048, Usage::Decrypt)
            .unwrap();
        // Each thread goes on until it has seen the outage and its end.
        let ask = || {
            let mut outages = 0;
            until("work, outage, work", || match decrypt(&key) {
                Ok(()) => outages > 0,
                Err(KeyError::Unavailable { .. }) => {
                    outages += 1;
                    false
                }
                Err(error) => panic!("{error}"),
            });
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(ask);
            }
            hsm.hide();
            until("the breaker opens", || token(&tokens).failures > 0);
            hsm.show();
        });
        assert_eq!(decrypt(&key), Ok(()));
    });
}

/// What the standard's codes do to a token that works otherwise, and that it comes back without them.
#[test]
fn each_code_of_a_broken_token_is_an_outage_with_its_name() {
    isolated(|hsm| {
        let proxy = Proxy::of(hsm, "proxy");
        let tokens = tokens(proxy.module());
        let key = tokens
            .generate(&uri(hsm, "signing"), 2048, Usage::Sign)
            .unwrap();
        for (function, code, name, happened) in [
            ("C_Sign", 0x32, "CKR_DEVICE_REMOVED", "is lost"),
            ("C_Sign", 0xe0, "CKR_TOKEN_NOT_PRESENT", "is lost"),
            ("C_SignInit", 0xb3, "CKR_SESSION_HANDLE_INVALID", "is lost"),
            ("C_SignInit", 0x82, "CKR_OBJECT_HANDLE_INVALID", "is lost"),
            ("C_SignInit", 0x101, "CKR_USER_NOT_LOGGED_IN", "is lost"),
            ("C_Sign", 0x05, "CKR_GENERAL_ERROR", "failed"),
            ("C_Sign", 0x8000_0001, "CKR_0x80000001", "failed"),
        ] {
            assert_eq!(sign(&key), Ok(()), "before {name}");
            proxy.fail(function, code);
            let reason = unavailable(sign(&key));
            let expected = format!("the token {happened}: {name} from {function}");
            assert!(reason.starts_with(&expected), "{reason}");
            // A breaker that closed now would open again: the keeper tries the key first.
            // The second begins when the first has done all that it does.
            for _ in 0..2 {
                let initialised = proxy.calls("C_Initialize");
                tokens.retry();
                until("the module is initialised anew", || {
                    proxy.calls("C_Initialize") > initialised
                });
            }
            let failures = token(&tokens).failures;
            unavailable(sign(&key));
            assert_eq!(token(&tokens).failures, failures, "it closed for {name}");
            proxy.heal();
            tokens.retry();
            until("it comes back", || sign(&key).is_ok());
        }
    });
}

/// SoftHSM, like others, says CKR_GENERAL_ERROR to a bad ciphertext and to a broken token alike.
#[test]
fn a_probe_tells_a_bad_ciphertext_from_a_broken_token() {
    isolated(|hsm| {
        let proxy = Proxy::of(hsm, "proxy");
        let tokens = tokens(proxy.module());
        let key = tokens
            .generate(&uri(hsm, "encryption"), 2048, Usage::Decrypt)
            .unwrap();
        assert_eq!(decrypt(&key), Ok(()));
        let bad = vec![1; key.public().modulus_octets()];
        // In the token, where SoftHSM answers an error.
        assert_eq!(key.decrypt(OaepHash::Sha1, &bad), Err(KeyError::Refused));
        assert_eq!(token(&tokens).failures, 0);

        proxy.fail("C_Decrypt", 0x05);
        let outcome = key.decrypt(OaepHash::Sha1, &bad).map(drop);
        let reason = unavailable(outcome);
        let expected = "the token failed: CKR_GENERAL_ERROR from C_Decrypt (";
        assert!(reason.starts_with(expected), "{reason}");
        proxy.heal();
        until("it comes back", || decrypt(&key).is_ok());
    });
}

#[test]
fn a_wrong_pin_is_tried_once_and_not_again_until_it_is_another() {
    isolated(|hsm| {
        hsm.generate("signing", "--usage-sign");
        let proxy = Proxy::of(hsm, "proxy");
        let tokens = tokens(proxy.module());
        let uri = uri(hsm, "signing");
        let write = |pin: &str| std::fs::write(hsm.pin_file(), pin).unwrap();
        write("wrong");
        let error = tokens.open(&uri).unwrap_err();
        assert!(
            matches!(&error, TokenError::PinRefused { code, .. } if code.name == "CKR_PIN_INCORRECT")
        );
        assert!(!error.to_string().contains("wrong"), "{error}");
        assert_eq!(proxy.calls("C_Login"), 1);
        // Rounds of the keeper pass, callers come, and the PIN stays untried.
        until("three looks at the PIN's source", || {
            assert_eq!(tokens.open(&uri).unwrap_err(), error);
            proxy.calls("C_OpenSession") > 3
        });
        assert_eq!(proxy.calls("C_Login"), 1);
        // An operator's word allows one more try.
        tokens.retry();
        until("one more try", || proxy.calls("C_Login") == 2);

        write(&format!("{PIN}\n"));
        until("the right PIN is taken", || tokens.open(&uri).is_ok());
        assert_eq!(proxy.calls("C_Login"), 3);
        assert_eq!(proxy.calls("C_Finalize"), 0);
    });
}

#[test]
fn a_call_that_hangs_is_an_outage_and_nothing_is_finalised_under_it() {
    isolated(|hsm| {
        hsm.add_token("other");
        let other: Pkcs11Uri = hsm.uri_in("other", "signing").parse().unwrap();
        let proxy = Proxy::of(hsm, "proxy");
        let tokens = tokens(proxy.module());
        let key = tokens
            .generate(&uri(hsm, "signing"), 2048, Usage::Sign)
            .unwrap();
        assert_eq!(sign(&key), Ok(()));
        proxy.hang("C_Sign");
        assert_eq!(unavailable(sign(&key)), TokenError::Hangs.to_string());
        // Who comes now does not follow into the module.
        let calls = proxy.calls("C_Sign");
        unavailable(sign(&key));
        assert_eq!((proxy.calls("C_Sign"), token(&tokens).waiting), (calls, 0));
        // The keeper gives up waiting for that call, and serves another token meanwhile.
        until("the other token works", || {
            matches!(tokens.open(&other), Err(TokenError::KeyAbsent { .. }))
        });
        assert_eq!(proxy.calls("C_Finalize"), 0);
        proxy.heal();
        until("it comes back", || sign(&key).is_ok());
        assert!(proxy.calls("C_Finalize") >= 1);
    });
}

/// A wait has an end, and its reason says what was waited for.
#[test]
fn whoever_waits_in_vain_hears_for_what() {
    isolated(|hsm| {
        hsm.generate("signing", "--usage-sign");
        let proxy = Proxy::of(hsm, "proxy");
        let tokens = tokens(proxy.module());
        proxy.hang("C_Login");
        let error = tokens.open(&uri(hsm, "signing")).unwrap_err();
        assert_eq!(error, TokenError::Starting);
        proxy.heal();
        let key = tokens.open(&uri(hsm, "signing")).unwrap();
        assert_eq!(sign(&key), Ok(()));

        proxy.hang("C_Sign");
        let calls = proxy.calls("C_Sign");
        std::thread::scope(|scope| {
            let hung = [(); 2].map(|()| scope.spawn(|| unavailable(sign(&key))));
            // The C_Sign of a signature comes twice, and the first asks for its length.
            until("both sessions are at work", || {
                proxy.calls("C_Sign") == calls + 2
            });
            assert_eq!(unavailable(sign(&key)), TokenError::Busy.to_string());
            let hung = hung.map(|thread| thread.join().unwrap());
            assert_eq!(hung, [(); 2].map(|()| TokenError::Hangs.to_string()));
        });
        proxy.heal();
        until("it comes back", || sign(&key).is_ok());
    });
}

#[test]
fn one_token_of_a_module_fails_and_the_other_goes_on() {
    isolated(|hsm| {
        hsm.add_token("other");
        let tokens = tokens(&SoftHsm::module());
        let key = tokens
            .generate(&uri(hsm, "signing"), 2048, Usage::Sign)
            .unwrap();
        assert_eq!(sign(&key), Ok(()));
        let away: Pkcs11Uri = hsm.uri_in("away", "signing").parse().unwrap();
        let error = tokens.open(&away).unwrap_err();
        assert!(matches!(error, TokenError::TokenAbsent { .. }), "{error}");
        // The module is initialised anew in search of the other; this one waits, and is not refused.
        until("three initialisations", || {
            assert_eq!(sign(&key), Ok(()));
            let error = tokens.open(&away).unwrap_err();
            assert!(matches!(error, TokenError::TokenAbsent { .. }), "{error}");
            tokens.status()[0].recoveries >= 3
        });
        // Nobody asks any more, so it is no outage and nobody is interrupted for it.
        until("it is forgotten", || tokens.status()[0].tokens.len() == 1);
        hsm.add_token("away");
        until("it is found", || {
            assert_eq!(sign(&key), Ok(()));
            let error = tokens.open(&away).unwrap_err();
            matches!(error, TokenError::KeyAbsent { .. })
        });
    });
}

/// A person who plugs a token in and asks again is not told what was true before.
#[test]
fn a_token_that_was_plugged_in_is_found_by_the_first_command() {
    isolated(|hsm| {
        let tokens = tokens(&SoftHsm::module());
        let late: Pkcs11Uri = hsm.uri_in("late", "signing").parse().unwrap();
        for _ in 0..2 {
            let error = tokens.open(&late).unwrap_err();
            assert!(matches!(error, TokenError::TokenAbsent { .. }), "{error}");
        }
        hsm.add_token("late");
        let error = tokens.open(&late).unwrap_err();
        assert!(matches!(error, TokenError::KeyAbsent { .. }), "{error}");
    });
}

/// Bad ciphertexts have the token prove itself a few times a second, not once each.
#[test]
fn bad_ciphertexts_do_not_double_the_work_of_a_token() {
    isolated(|hsm| {
        let proxy = Proxy::of(hsm, "proxy");
        let tokens = tokens(proxy.module());
        let key = tokens
            .generate(&uri(hsm, "encryption"), 2048, Usage::Decrypt)
            .unwrap();
        assert_eq!(decrypt(&key), Ok(()));
        let bad = vec![1; key.public().modulus_octets()];
        let (before, begun) = (proxy.calls("C_Decrypt"), Instant::now());
        const BAD: usize = 40;
        for _ in 0..BAD {
            assert_eq!(key.decrypt(OaepHash::Sha1, &bad), Err(KeyError::Refused));
        }
        let calls = proxy.calls("C_Decrypt") - before;
        let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap() + 1;
        assert!(calls <= BAD + 4 * seconds, "{calls} in {seconds} s");
        assert_eq!(token(&tokens).failures, 0);
    });
}

/// A server that was started before its token.
#[test]
fn a_token_that_comes_late_is_found_when_it_is_needed() {
    isolated(|hsm| {
        let pair = hgs_testkit::fixtures::private_key(0);
        let der = hsm.folder().join("key.der");
        std::fs::write(&der, pair.pkcs8_der().expose()).unwrap();
        let tokens = tokens(&SoftHsm::module());
        let late: Pkcs11Uri = hsm.uri_in("late", "signing").parse().unwrap();
        let key = tokens.key(&late.into(), pair.public());
        let reason = unavailable(sign(&*key));
        assert_eq!(reason, "there is no token token=late; present: hgs");
        hsm.add_token("late");
        hsm.import("late", &der, "signing");
        until("it is found", || sign(&*key).is_ok());
    });
}

/// The same key in two tokens: the second does the work while the first is away.
#[test]
fn a_spare_takes_over_at_once() {
    isolated(|hsm| {
        hsm.add_token("spare");
        let pair = hgs_testkit::fixtures::private_key(0);
        let der = hsm.folder().join("key.der");
        std::fs::write(&der, pair.pkcs8_der().expose()).unwrap();
        hsm.import("hgs", &der, "signing");
        hsm.import("spare", &der, "signing");
        let proxies = ["first", "second"].map(|name| Proxy::of(hsm, name));
        let [first, second] = &proxies;
        let modules = proxies
            .each_ref()
            .map(|proxy| ModuleSettings::new(proxy.module()));
        let tokens = Tokens::new(Settings {
            modules: modules.to_vec(),
            pin_source: None,
        });
        let in_module = |token: &str, proxy: &Proxy| {
            let uri = hsm.uri_in(token, "signing");
            format!("{uri}&module-path={}", proxy.module().display())
        };
        let uris = format!("{} {}", in_module("hgs", first), in_module("spare", second));
        let key = tokens.key(&uris.parse::<Pkcs11Uris>().unwrap(), pair.public());
        assert_eq!(sign(&*key), Ok(()));
        assert_eq!(second.calls("C_Initialize"), 0, "the spare is not asked");

        // The very call that finds the first one broken is answered by the second.
        first.fail("C_Sign", 0x32);
        assert_eq!(sign(&*key), Ok(()));
        let calls = first.calls("C_Sign");
        second.fail("C_Sign", 0xe0);
        let reason = unavailable(sign(&*key));
        assert!(
            reason.contains("CKR_DEVICE_REMOVED"),
            "the first one's: {reason}"
        );
        assert!(first.calls("C_Sign") >= calls);
        second.heal();
        until("the spare comes back", || sign(&*key).is_ok());
        first.heal();
        until("the first comes back", || {
            assert_eq!(sign(&*key), Ok(()));
            matches!(token(&tokens).breaker, Breaker::Closed)
        });
    });
}

/// A key that was deleted in its token is the key's absence, and no outage of the token.
#[test]
fn a_key_that_was_deleted_is_told_from_a_token_that_is_away() {
    isolated(|hsm| {
        hsm.generate("signing", "--usage-sign");
        hsm.generate("other", "--usage-sign");
        let tokens = tokens(&SoftHsm::module());
        let key = tokens.open(&uri(hsm, "signing")).unwrap();
        let other = tokens.open(&uri(hsm, "other")).unwrap();
        assert_eq!((sign(&key), sign(&other)), (Ok(()), Ok(())));
        hsm.delete("hgs", "signing");
        unavailable(sign(&key));
        until("the other one works again", || sign(&other).is_ok());
        let reason = unavailable(sign(&key));
        let absent = "the token holds no private RSA key object=signing; it holds: object=other";
        assert_eq!(reason, absent);
        assert_eq!(sign(&other), Ok(()));
    });
}

/// The module is finalised when the last key has gone, so that the next one finds it as it should be.
#[test]
fn modules_are_finalised_with_the_last_key() {
    isolated(|hsm| {
        hsm.generate("signing", "--usage-sign");
        let proxy = Proxy::of(hsm, "proxy");
        for round in 1..=3 {
            let key = tokens(proxy.module()).open(&uri(hsm, "signing")).unwrap();
            assert_eq!(sign(&key), Ok(()));
            assert_eq!(proxy.calls("C_Finalize"), round - 1);
            drop(key);
            assert_eq!(proxy.calls("C_Finalize"), round);
        }
    });
}
