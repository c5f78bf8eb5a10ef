//! Deliberate breakages on the way to a key, each found at its stage.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use hgs_custody::{PinSource, Pkcs11Uri};
use hgs_custody_pkcs11::{
    Examination, ModuleSettings, OaepPlace, PinError, Settings, Stage, TokenError, Tokens, Usage,
};
use hgs_testkit::softhsm::{Proxy, SoftHsm, TOKEN, isolated};

fn tokens() -> Tokens {
    with_module(ModuleSettings::new(SoftHsm::module()))
}

fn with_module(module: ModuleSettings) -> Tokens {
    let module = ModuleSettings {
        sessions: 2,
        wait: Duration::from_secs(2),
        ..module
    };
    Tokens::new(Settings {
        modules: vec![module],
        pin_source: None,
    })
}

fn uri(hsm: &SoftHsm, object: &str) -> Pkcs11Uri {
    hsm.uri(object).parse().unwrap()
}

/// How far it came: `+` for each stage that passed, `!` for the one that failed, `-` for the rest.
fn course(examination: &Examination) -> String {
    fn mark<T>(stage: &Stage<T>) -> char {
        match stage {
            Stage::Passed(_) => '+',
            Stage::Failed(_) => '!',
            Stage::Skipped => '-',
        }
    }
    let marks = [
        mark(&examination.module),
        mark(&examination.token),
        mark(&examination.pin),
        mark(&examination.login),
        mark(&examination.sessions),
        mark(&examination.key),
        mark(&examination.mechanisms),
    ];
    marks.iter().collect()
}

fn failed(examination: &Examination) -> (String, TokenError) {
    let error = examination.failure().expect("something failed");
    (course(examination), error.clone())
}

#[test]
fn a_key_that_works_shows_all_there_is_to_know() {
    isolated(|hsm| {
        let tokens = tokens();
        let key = uri(hsm, "encryption");
        tokens.generate(&key, 2048, Usage::Decrypt).unwrap();
        let examination = tokens.examine(&key);
        assert_eq!(course(&examination), "+++++++");
        let module = examination.module.passed().unwrap();
        assert_eq!((module.path.clone(), module.tokens), (SoftHsm::module(), 1));
        assert!(module.description.contains("PKCS11"), "{module:?}");
        let token = examination.token.passed().unwrap();
        assert_eq!((token.label.as_str(), token.pin_count_low), (TOKEN, false));
        let pin = &examination.pin.passed().unwrap().source;
        assert_eq!(*pin, PinSource::File(hsm.pin_file()));
        let sessions = examination.sessions.passed().unwrap();
        assert_eq!((sessions.open, sessions.idle), (2, 2));
        let mechanisms = examination.mechanisms.passed().unwrap();
        assert_eq!(mechanisms.oaep_sha256, OaepPlace::Host);
        assert!(mechanisms.raw && !mechanisms.pkcs1_sha256);
    });
}

#[test]
fn what_is_wrong_with_the_module_is_found_there() {
    isolated(|hsm| {
        let key = uri(hsm, "signing");
        let none = Tokens::new(Settings::default()).examine(&key);
        assert_eq!(failed(&none), ("!------".to_owned(), TokenError::NoModule));

        let text = hsm.folder().join("text.so");
        fs::write(&text, "not a module").unwrap();
        let (course, error) = failed(&with_module(ModuleSettings::new(&text)).examine(&key));
        assert_eq!(course, "!------");
        assert!(matches!(error, TokenError::ModuleNotLoadable { path, .. } if path == text));

        let proxy = Proxy::of(hsm, "proxy");
        proxy.fail("C_Initialize", 0x05);
        let tokens = with_module(ModuleSettings::new(proxy.module()));
        let (course, error) = failed(&tokens.examine(&key));
        assert_eq!(course, "!------");
        assert!(matches!(error, TokenError::ModuleFailed { .. }), "{error}");
        assert!(error.remedy().is_some());
    });
}

#[test]
fn a_token_that_is_not_there_is_found_there() {
    isolated(|hsm| {
        let away: Pkcs11Uri = hsm.uri_in("away", "signing").parse().unwrap();
        let (course, error) = failed(&tokens().examine(&away));
        assert_eq!(course, "+!-----");
        let wanted = "token=away".to_owned();
        let present = vec![TOKEN.to_owned()];
        assert_eq!(error, TokenError::TokenAbsent { wanted, present });
    });
}

#[test]
fn what_is_wrong_with_the_pin_is_found_there() {
    isolated(|hsm| {
        hsm.generate("signing", "--usage-sign");
        // New tokens each time: a process that is logged in is asked for no PIN any more.
        let key = uri(hsm, "signing");
        let mode = |mode| {
            let permissions = fs::Permissions::from_mode(mode);
            fs::set_permissions(hsm.pin_file(), permissions).unwrap();
        };
        mode(0o640);
        let (course, error) = failed(&tokens().examine(&key));
        assert_eq!(course, "++!----");
        assert!(error.to_string().contains("mode 0640"), "{error}");
        assert!(error.remedy().unwrap().starts_with("run `chmod go= "));
        mode(0o600);

        let nowhere: Pkcs11Uri = "pkcs11:token=hgs;object=signing".parse().unwrap();
        let (course, error) = failed(&tokens().examine(&nowhere));
        assert_eq!(course, "++!----");
        assert_eq!(error, TokenError::Pin(PinError::NoSource));

        let wrong = hsm.folder().join("wrong");
        fs::write(&wrong, "wrong").unwrap();
        fs::set_permissions(&wrong, fs::Permissions::from_mode(0o600)).unwrap();
        let wrong = hsm.uri("signing").replace("/pin", "/wrong");
        let (course, error) = failed(&tokens().examine(&wrong.parse().unwrap()));
        assert_eq!(course, "+++!---");
        assert!(matches!(error, TokenError::PinRefused { .. }), "{error}");
    });
}

#[test]
fn a_token_without_sessions_is_found_there() {
    isolated(|hsm| {
        let proxy = Proxy::of(hsm, "proxy");
        proxy.fail("C_OpenSession", 0xb1);
        let tokens = with_module(ModuleSettings::new(proxy.module()));
        let (course, error) = failed(&tokens.examine(&uri(hsm, "signing")));
        assert_eq!(course, "+++-!--");
        let expected = "the token gives no session: CKR_SESSION_COUNT from C_OpenSession";
        assert!(error.to_string().starts_with(expected), "{error}");
    });
}

#[test]
fn what_is_wrong_with_the_key_is_found_there() {
    isolated(|hsm| {
        hsm.generate("signing", "--usage-sign");
        let tokens = tokens();
        let (course, error) = failed(&tokens.examine(&uri(hsm, "absent")));
        assert_eq!(course, "+++++!-");
        let wanted = "object=absent".to_owned();
        let present = vec!["object=signing".to_owned()];
        assert_eq!(error, TokenError::KeyAbsent { wanted, present });

        // A key that SoftHSM would ask a person for.
        let kind = [
            "--keypairgen",
            "--key-type",
            "rsa:2048",
            "--label",
            "person",
        ];
        hsm.pkcs11_tool(&[&kind[..], &["--usage-sign", "--always-auth"]].concat());
        let (course, error) = failed(&tokens.examine(&uri(hsm, "person")));
        assert_eq!(
            (course.as_str(), error),
            ("+++++!-", TokenError::PinAtEachUse)
        );

        // A key that may not decrypt is found, and says so.
        tokens
            .generate(&uri(hsm, "only"), 2048, Usage::Sign)
            .unwrap();
        let examination = tokens.examine(&uri(hsm, "only"));
        assert_eq!(
            course_and_use(&examination),
            ("+++++++".to_owned(), (true, false))
        );
        let mechanisms = examination.mechanisms.passed().unwrap();
        assert_eq!(mechanisms.oaep_sha256, OaepPlace::Nowhere);
        assert!(mechanisms.pkcs1_sha256 && mechanisms.pss_sha256);
    });
}

fn course_and_use(examination: &Examination) -> (String, (bool, bool)) {
    let key = examination.key.passed().unwrap();
    (course(examination), (key.signs, key.decrypts))
}
