//! A private key moved from one token to another under a wrapping key, as docs/tokens.md tells it: in the clear it is
//! in neither's memory but the tokens' own.

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::MechanismType;
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use hgs_crypto::rsa::SignatureScheme;
use hgs_custody::PrivateKey as _;
use hgs_custody_pkcs11::{ModuleSettings, Settings, Tokens, Usage};
use hgs_testkit::softhsm::{PIN, SoftHsm, isolated};

#[test]
fn a_key_moves_between_tokens_wrapped() {
    isolated(|hsm| {
        hsm.add_token("two");
        let tenant = [
            "--keypairgen",
            "--key-type",
            "rsa:2048",
            "--label",
            "tenant",
        ];
        hsm.pkcs11_tool(&[&tenant[..], &["--usage-sign", "--extractable"]].concat());
        let public = {
            let key = tokens().open(&hsm.uri("tenant").parse().unwrap());
            key.unwrap().public().clone()
        };

        let module = Pkcs11::new(SoftHsm::module()).unwrap();
        let locking = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
        module.initialize(locking).unwrap();
        let (one, two) = (session(&module, "hgs"), session(&module, "two"));
        let (wrapping, unwrapping) = shared_key(&one, &two);
        let tenant = private_key(&one, "tenant");
        let wrapped = one.wrap_key(&Mechanism::AesKeyWrapPad, wrapping, tenant);
        let moved = [
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::KeyType(KeyType::RSA),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            Attribute::Decrypt(false),
            Attribute::Label(b"tenant".to_vec()),
        ];
        two.unwrap_key(
            &Mechanism::AesKeyWrapPad,
            unwrapping,
            &wrapped.unwrap(),
            &moved,
        )
        .unwrap();
        one.destroy_object(tenant).unwrap();
        drop((one, two));
        module.finalize().unwrap();

        let tokens = tokens();
        let here = hsm.uri_in("two", "tenant").parse().unwrap();
        let key = tokens.open(&here).unwrap();
        assert_eq!(*key.public(), public);
        let signature = key.sign(SignatureScheme::PssSha256, b"message").unwrap();
        let verified = public.verify(SignatureScheme::PssSha256, b"message", &signature);
        assert!(verified.is_ok());
        let examination = tokens.examine(&here);
        let finding = examination.key.passed().unwrap();
        assert_eq!((finding.sensitive, finding.extractable), (true, false));
    });
}

/// What this program generates stays where it is, whoever asks.
#[test]
fn a_generated_key_can_not_be_wrapped() {
    isolated(|hsm| {
        hsm.add_token("two");
        let uri = hsm.uri("signing").parse().unwrap();
        drop(tokens().generate(&uri, 2048, Usage::Sign).unwrap());
        let module = Pkcs11::new(SoftHsm::module()).unwrap();
        let locking = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
        module.initialize(locking).unwrap();
        let (one, two) = (session(&module, "hgs"), session(&module, "two"));
        let (wrapping, _) = shared_key(&one, &two);
        let key = private_key(&one, "signing");
        let refused = one
            .wrap_key(&Mechanism::AesKeyWrapPad, wrapping, key)
            .unwrap_err();
        assert!(
            matches!(refused, Error::Pkcs11(RvError::KeyUnextractable, _)),
            "{refused}"
        );
    });
}

fn tokens() -> Tokens {
    Tokens::new(Settings {
        modules: vec![ModuleSettings::new(SoftHsm::module())],
        pin_source: None,
    })
}

fn session(module: &Pkcs11, label: &str) -> Session {
    let slots = module.get_slots_with_token().unwrap();
    let named = |slot: &_| module.get_token_info(*slot).unwrap().label() == label;
    let slot = slots.into_iter().find(named).unwrap();
    let session = module.open_rw_session(slot).unwrap();
    let pin = AuthPin::from(PIN.to_owned());
    session.login(UserType::User, Some(&pin)).unwrap();
    session
}

fn private_key(session: &Session, label: &str) -> ObjectHandle {
    let template = [
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::Label(label.as_bytes().to_vec()),
    ];
    session.find_objects(&template).unwrap()[0]
}

/// One AES key in both tokens, for wrapping in `from` and unwrapping in `to`. It travels under a pair of `to`, and it
/// may not decrypt anything: what wraps and decrypts gives every key away.
fn shared_key(from: &Session, to: &Session) -> (ObjectHandle, ObjectHandle) {
    let transport = to.generate_key_pair(
        &Mechanism::RsaPkcsKeyPairGen,
        &[
            Attribute::ModulusBits(2048.into()),
            Attribute::PublicExponent(vec![1, 0, 1]),
            Attribute::Wrap(true),
        ],
        &[Attribute::Unwrap(true), Attribute::Decrypt(false)],
    );
    let (public, private) = transport.unwrap();
    let types = [AttributeType::Modulus, AttributeType::PublicExponent];
    let mut imported = to.get_attributes(public, &types).unwrap();
    imported.extend([
        Attribute::Class(ObjectClass::PUBLIC_KEY),
        Attribute::KeyType(KeyType::RSA),
        Attribute::Wrap(true),
    ]);
    let imported = from.create_object(&imported).unwrap();
    let uses = |wraps| {
        vec![
            Attribute::Sensitive(true),
            Attribute::Extractable(wraps),
            Attribute::Wrap(wraps),
            Attribute::Unwrap(!wraps),
            Attribute::Encrypt(false),
            Attribute::Decrypt(false),
        ]
    };
    let length = [Attribute::ValueLen(32.into())];
    let shared = from
        .generate_key(
            &Mechanism::AesKeyGen,
            &[uses(true), length.to_vec()].concat(),
        )
        .unwrap();
    // SoftHSM 2.6 knows OAEP with SHA-1 only, which is as good here.
    let oaep = Mechanism::RsaPkcsOaep(PkcsOaepParams::new(
        MechanismType::SHA1,
        PkcsMgfType::MGF1_SHA1,
        PkcsOaepSource::empty(),
    ));
    let wrapped = from.wrap_key(&oaep, imported, shared).unwrap();
    let kind = vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
    ];
    let template = [kind, uses(false)].concat();
    let unwrapped = to.unwrap_key(&oaep, private, &wrapped, &template);
    (shared, unwrapped.unwrap())
}
