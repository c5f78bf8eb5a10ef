//! A sign-in from its beginning to the user, and everything that ends it. Tokens are made by another library.

use std::collections::BTreeMap;

use hgs_crypto::SecretBytes;
use hgs_crypto::base64;
use hgs_crypto::random::System;
use hgs_crypto::rsa::{PrivateKey, PublicKeyError, SignatureScheme};
use hgs_openid::{
    Algorithm, BrowserSecret, Callback, CallbackError, ClaimError, Fault, IdToken, IdTokenError,
    KeySet, Provider, ProviderError, RelyingParty, SignIn, SignInError, SignIns, UnusableKey, User,
    fuzzing, read_token_answer, token_request,
};
use hgs_pki::{Seconds, Time};
use hgs_testkit::Mutations;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

const NOW: i64 = 1_800_000_000;
const REDIRECT: &str = "https://hgs.example:8443/sign-in/openid/callback";
const ISSUER: &str = "https://login.example/realms/hosts";

/// PKCS#8, made for these tests.
const P256: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgo14tOgL7ookDLy4vKcTF5YUtYwEFiB2m2K6_Ol0ibeWhRANCAAQQ\
    PFOPNH4cjE8Uc6QFK3m39SeVRIQprhdBFcjLFRJ9-gL6pYpMAkKthC3vMlGQmbyggnDQV7wVlbhfivR0ty70";
const X: &str = "EDxTjzR-HIxPFHOkBSt5t_UnlUSEKa4XQRXIyxUSffo";
const Y: &str = "AvqlikwCQq2ELe8yUZCZvKCCcNBXvBWVuF-K9HS3LvQ";

fn party() -> RelyingParty {
    RelyingParty {
        issuer: ISSUER.parse().unwrap(),
        client_id: "hgs".to_owned(),
        secret: Some(SecretBytes::from(&b"hunter2"[..])),
        scopes: vec!["groups".to_owned()],
        algorithms: vec![Algorithm::Rs256, Algorithm::Es256],
        groups_claim: "groups".to_owned(),
        max_age: None,
        clock_tolerance: Seconds::new(60),
    }
}

fn metadata() -> Value {
    json!({
        "issuer": ISSUER,
        "authorization_endpoint": "https://login.example/auth?tenant=1",
        "token_endpoint": "https://login.example/token",
        "jwks_uri": "https://login.example/keys",
        "response_types_supported": ["code", "id_token"],
        "code_challenge_methods_supported": ["plain", "S256"],
        "id_token_signing_alg_values_supported": ["RS256", "ES256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
    })
}

fn provider(change: impl FnOnce(&mut Value)) -> Result<Provider, ProviderError> {
    let mut metadata = metadata();
    change(&mut metadata);
    Provider::read(metadata.to_string().as_bytes(), &party())
}

fn now() -> Time {
    Time::from_unix(NOW)
}

/// What the provider gets by the way of the browser.
fn query(url: &str) -> BTreeMap<String, String> {
    let (_, query) = url.split_once('?').unwrap();
    serde_urlencoded::from_str(query).unwrap()
}

/// A sign-in that has begun: what the server keeps, what the browser keeps, and where it is sent.
fn begun(party: &RelyingParty, provider: &Provider) -> (SignIns, BrowserSecret, String) {
    let mut sign_ins = SignIns::default();
    let begun = sign_ins.begin(
        party,
        provider,
        REDIRECT,
        "192.0.2.1",
        now(),
        &mut System::new(),
    );
    let (secret, url) = begun.unwrap();
    (sign_ins, secret, url)
}

/// A sign-in whose user is back from the provider, and its nonce.
fn returned() -> (SignIn, String) {
    let (party, provider) = (party(), provider(|_| {}).unwrap());
    let (mut sign_ins, secret, url) = begun(&party, &provider);
    let query = query(&url);
    let callback = Callback::read(&format!("state={}&code=c0de", query["state"])).unwrap();
    let finished = sign_ins.finish(Some(secret.expose()), &callback, &party, &provider, now());
    (finished.unwrap().0, query["nonce"].clone())
}

fn keys() -> KeySet {
    key_set(&[json!({"kty": "EC", "crv": "P-256", "kid": "one", "use": "sig", "x": X, "y": Y})])
}

fn key_set(keys: &[Value]) -> KeySet {
    KeySet::read(json!({"keys": keys}).to_string().as_bytes()).unwrap()
}

fn claims(nonce: &str) -> Value {
    json!({
        "iss": ISSUER, "sub": "248289761001", "aud": "hgs", "exp": NOW + 300, "iat": NOW, "nonce": nonce,
        "preferred_username": "alice", "groups": ["hgs-reviewers", "staff"],
    })
}

/// Signed with ES256.
fn token(kid: &str, claims: &Value) -> String {
    let mut header = Header::new(jsonwebtoken::Algorithm::ES256);
    header.kid = Some(kid.to_owned());
    signed(&header, claims)
}

fn signed(header: &Header, claims: &Value) -> String {
    let key = EncodingKey::from_ec_der(&base64::decode_url(P256).unwrap());
    jsonwebtoken::encode(header, claims, &key).unwrap()
}

fn id_token(token: &str) -> IdToken {
    read_token_answer(200, json!({"id_token": token}).to_string().as_bytes()).unwrap()
}

fn verify(party: &RelyingParty, change: impl FnOnce(&mut Value)) -> Result<User, IdTokenError> {
    let (sign_in, nonce) = returned();
    let mut claims = claims(&nonce);
    change(&mut claims);
    id_token(&token("one", &claims)).verify(party, &keys(), &sign_in, now())
}

fn refused(change: impl FnOnce(&mut Value)) -> ClaimError {
    match verify(&party(), change) {
        Err(IdTokenError::Claim(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// One part of a token by hand.
fn part(json: &Value) -> String {
    base64::encode_url(json.to_string().as_bytes())
}

#[test]
fn a_user_is_who_the_provider_says() {
    let alice = User {
        subject: "248289761001".to_owned(),
        name: Some("alice".to_owned()),
        groups: vec!["hgs-reviewers".to_owned(), "staff".to_owned()],
    };
    assert_eq!(verify(&party(), |_| {}), Ok(alice.clone()));
    let several = |claims: &mut Value| {
        claims["aud"] = json!(["hgs", "other"]);
        claims["azp"] = json!("hgs");
    };
    assert_eq!(verify(&party(), several), Ok(alice));
    let little = verify(&party(), |claims| {
        claims["preferred_username"] = json!("");
        claims["email"] = json!("a\u{1b}[2Jlice@example");
        claims["groups"] = json!("one");
    });
    let little = little.unwrap();
    assert_eq!(little.name.as_deref(), Some("a[2Jlice@example"));
    assert_eq!(little.groups, ["one"]);
    let nothing = verify(&party(), |claims| claims["groups"] = json!([]));
    assert!(nothing.unwrap().groups.is_empty());
}

#[test]
fn a_browser_is_sent_with_all_that_binds_the_answer() {
    let (party, provider) = (party(), provider(|_| {}).unwrap());
    let (mut sign_ins, secret, url) = begun(&party, &provider);
    assert!(
        url.starts_with("https://login.example/auth?tenant=1&response_type=code&"),
        "{url}"
    );
    let query = query(&url);
    assert_eq!(query["client_id"], "hgs");
    assert_eq!(query["redirect_uri"], REDIRECT);
    assert_eq!(query["scope"], "openid groups");
    assert_eq!(query["code_challenge_method"], "S256");
    for secret_of_ours in [secret.expose(), "hunter2"] {
        assert!(!url.contains(secret_of_ours));
    }
    let callback = Callback::read(&format!(
        "state={}&code=c0de&session_state=x",
        query["state"]
    ))
    .unwrap();
    let finished = sign_ins.finish(Some(secret.expose()), &callback, &party, &provider, now());
    let (sign_in, code) = finished.unwrap();

    let request = token_request(&party, &provider, &sign_in, &code);
    assert_eq!(request.url.as_str(), "https://login.example/token");
    let authorization = request.authorization.unwrap();
    assert_eq!(authorization.expose(), b"Basic aGdzOmh1bnRlcjI=");
    let form: BTreeMap<String, String> =
        serde_urlencoded::from_bytes(request.body.expose()).unwrap();
    assert_eq!(
        (&*form["grant_type"], &*form["code"]),
        ("authorization_code", "c0de")
    );
    let digest = hgs_crypto::hash::sha256(form["code_verifier"].as_bytes());
    assert_eq!(query["code_challenge"], base64::encode_url(&digest));
    assert!(!form.contains_key("client_secret"));
    let shown = format!("{sign_in:?} {secret:?} {party:?} {callback:?}");
    for hidden in ["hunter2", "c0de", &form["code_verifier"], &query["nonce"]] {
        assert!(!shown.contains(hidden), "{shown}");
    }
}

#[test]
fn a_client_proves_itself_as_the_provider_wants() {
    let (sign_in, _) = returned();
    let code = SecretBytes::from(&b"c0de"[..]);
    let form = |party: &RelyingParty, methods: Value| {
        let mut metadata = metadata();
        metadata["token_endpoint_auth_methods_supported"] = methods;
        let provider = Provider::read(metadata.to_string().as_bytes(), party).unwrap();
        let request = token_request(party, &provider, &sign_in, &code);
        let form: BTreeMap<String, String> =
            serde_urlencoded::from_bytes(request.body.expose()).unwrap();
        (
            request.authorization.is_some(),
            form.get("client_id").cloned(),
            form.get("client_secret").cloned(),
        )
    };
    let (id, secret) = (Some("hgs".to_owned()), Some("hunter2".to_owned()));
    assert_eq!(
        form(&party(), json!(["client_secret_post"])),
        (false, id.clone(), secret)
    );
    let public = RelyingParty {
        secret: None,
        ..party()
    };
    assert_eq!(form(&public, json!(["none"])), (false, id, None));
    let only_keys =
        provider(|it| it["token_endpoint_auth_methods_supported"] = json!(["private_key_jwt"]));
    assert!(matches!(only_keys, Err(ProviderError::Unsupported { .. })));
}

#[test]
fn metadata_of_another_provider_or_of_one_that_can_t_do_it_are_refused() {
    assert!(provider(|_| {}).is_ok());
    let few = |it: &mut Value| {
        for member in [
            "response_types_supported",
            "code_challenge_methods_supported",
            "id_token_signing_alg_values_supported",
            "token_endpoint_auth_methods_supported",
        ] {
            it.as_object_mut().unwrap().remove(member);
        }
    };
    assert!(
        provider(few).is_ok(),
        "Microsoft's do not name the methods of PKCE"
    );
    for issuer in [
        "https://login.example/realms/hosts/",
        "https://LOGIN.example/realms/hosts",
        "https://login.example",
    ] {
        let other = provider(|it| it["issuer"] = json!(issuer));
        assert!(
            matches!(other, Err(ProviderError::Issuer { .. })),
            "{issuer}"
        );
    }
    for member in ["authorization_endpoint", "token_endpoint", "jwks_uri"] {
        let plain = provider(|it| it[member] = json!("http://login.example/x"));
        assert!(matches!(plain, Err(ProviderError::Url { .. })), "{member}");
        let absent = provider(|it| it[member] = json!(null));
        assert!(
            matches!(absent, Err(ProviderError::Document(_))),
            "{member}"
        );
    }
    let implicit = provider(|it| it["response_types_supported"] = json!(["id_token"]));
    assert!(matches!(
        implicit,
        Err(ProviderError::Unsupported { needed: "code", .. })
    ));
    let without_pkce = provider(|it| it["code_challenge_methods_supported"] = json!(["plain"]));
    assert!(matches!(
        without_pkce,
        Err(ProviderError::Unsupported { needed: "S256", .. })
    ));
    let symmetric = provider(|it| it["id_token_signing_alg_values_supported"] = json!(["HS256"]));
    assert!(matches!(symmetric, Err(ProviderError::Algorithms { .. })));
}

#[test]
fn a_browser_comes_back_once_with_its_own_cookie_and_state_and_within_five_minutes() {
    let (party, provider) = (party(), provider(|_| {}).unwrap());
    let mut sign_ins = SignIns::default();
    let begin = |sign_ins: &mut SignIns, address: &str| {
        let begun = sign_ins.begin(
            &party,
            &provider,
            REDIRECT,
            address,
            now(),
            &mut System::new(),
        );
        let (secret, url) = begun.unwrap();
        (secret, query(&url)["state"].clone())
    };
    let (secret, state) = begin(&mut sign_ins, "192.0.2.1");
    let (other, other_state) = begin(&mut sign_ins, "192.0.2.2");
    let later = |seconds: u64| now().checked_add(Seconds::new(seconds)).unwrap();
    let finish = |sign_ins: &mut SignIns, secret: Option<&str>, state: &str, now| {
        let callback = Callback::read(&format!("state={state}&code=c")).unwrap();
        sign_ins
            .finish(secret, &callback, &party, &provider, now)
            .map(|_| ())
    };
    let mine = Some(secret.expose());
    assert_eq!(
        finish(&mut sign_ins, None, &state, later(1)),
        Err(CallbackError::NoCookie)
    );
    assert_eq!(
        finish(&mut sign_ins, Some("x"), &state, later(1)),
        Err(CallbackError::NotBegun)
    );
    // The link of an attacker, who wants somebody to be signed in as the attacker.
    assert_eq!(
        finish(&mut sign_ins, mine, &other_state, later(1)),
        Err(CallbackError::OtherState)
    );
    assert_eq!(finish(&mut sign_ins, mine, &state, later(299)), Ok(()));
    assert_eq!(
        finish(&mut sign_ins, mine, &state, later(299)),
        Err(CallbackError::NotBegun)
    );
    assert_eq!(
        finish(
            &mut sign_ins,
            Some(other.expose()),
            &other_state,
            later(300)
        ),
        Err(CallbackError::NotBegun)
    );

    // One address can't crowd out the others.
    let (secret, state) = begin(&mut sign_ins, "192.0.2.1");
    let (first, first_state) = begin(&mut sign_ins, "192.0.2.66");
    for _ in 0..16 {
        begin(&mut sign_ins, "192.0.2.66");
    }
    assert_eq!(
        finish(&mut sign_ins, Some(first.expose()), &first_state, now()),
        Err(CallbackError::NotBegun)
    );
    assert_eq!(
        finish(&mut sign_ins, Some(secret.expose()), &state, now()),
        Ok(())
    );
}

#[test]
fn what_the_provider_or_a_stranger_sends_by_the_browser_is_told_apart() {
    let party = party();
    let answer = |provider: &Provider, query_of: &dyn Fn(&str) -> String| {
        let (mut sign_ins, secret, url) = begun(&party, provider);
        let callback = Callback::read(&query_of(&query(&url)["state"])).unwrap();
        sign_ins
            .finish(Some(secret.expose()), &callback, &party, provider, now())
            .map(|_| ())
    };
    let silent = provider(|_| {}).unwrap();
    let named =
        provider(|it| it["authorization_response_iss_parameter_supported"] = json!(true)).unwrap();
    let no = answer(&silent, &|state| {
        format!("error=access_denied&error_description=No%1b%5b2J+way&state={state}")
    });
    let no = no.unwrap_err();
    assert_eq!(
        no.to_string(),
        "the provider refuses: access_denied: No[2J way"
    );
    assert_eq!(SignInError::from(no).fault(), Fault::User);
    assert_eq!(
        answer(&silent, &|state| format!("state={state}")),
        Err(CallbackError::NoCode)
    );
    let other = answer(&silent, &|state| {
        format!("state={state}&code=c&iss=https%3A%2F%2Fother.example")
    });
    assert_eq!(
        other,
        Err(CallbackError::OtherIssuer(
            "https://other.example".to_owned()
        ))
    );
    let nameless = answer(&named, &|state| format!("state={state}&code=c"));
    assert!(matches!(nameless, Err(CallbackError::OtherIssuer(_))));
    let same = answer(&named, &|state| {
        format!("state={state}&code=c&iss=https://login.example/realms/hosts")
    });
    assert_eq!(same, Ok(()));
    for wrong in [
        "code=c",
        "state=a&state=b&code=c",
        "state=a&code=c&code=d",
        &"a=b&".repeat(40),
        &"a".repeat(9000),
    ] {
        assert!(
            matches!(Callback::read(wrong), Err(CallbackError::Malformed(_))),
            "{wrong}"
        );
    }
}

#[test]
fn claims_of_other_sign_ins_clients_providers_and_times_are_refused() {
    assert!(matches!(
        refused(|it| it["iss"] = json!("https://login.example")),
        ClaimError::Issuer { .. }
    ));
    assert!(matches!(
        refused(|it| it["aud"] = json!("other")),
        ClaimError::Audience { .. }
    ));
    assert!(matches!(
        refused(|it| it["aud"] = json!([])),
        ClaimError::Audience { .. }
    ));
    let several = |it: &mut Value| it["aud"] = json!(["hgs", "other"]);
    assert_eq!(refused(several), ClaimError::NoAuthorisedParty);
    assert!(matches!(
        refused(|it| it["azp"] = json!("other")),
        ClaimError::AuthorisedParty { .. }
    ));
    assert_eq!(refused(|it| it["nonce"] = json!("n")), ClaimError::Nonce);
    assert!(matches!(
        refused(|it| it["exp"] = json!(NOW - 60)),
        ClaimError::Expired { .. }
    ));
    assert!(verify(&party(), |it| it["exp"] = json!(NOW - 59)).is_ok());
    for (member, good, wrong) in [
        ("iat", NOW + 60, NOW + 61),
        ("iat", NOW - 60, NOW - 61),
        ("nbf", NOW + 60, NOW + 61),
    ] {
        assert!(
            verify(&party(), |it| it[member] = json!(good)).is_ok(),
            "{member} {good}"
        );
        assert!(
            matches!(
                refused(|it| it[member] = json!(wrong)),
                ClaimError::Issued { .. }
            ),
            "{member} {wrong}"
        );
    }
    for member in ["iss", "aud", "exp", "iat", "nonce", "sub"] {
        let absent = |it: &mut Value| drop(it.as_object_mut().unwrap().remove(member));
        assert!(
            matches!(refused(absent), ClaimError::Document(_)),
            "{member}"
        );
    }
    for wrong in [
        json!("1800000300"),
        json!(-1),
        json!(1.8e9),
        json!(u64::MAX),
    ] {
        assert!(
            matches!(
                refused(|it| it["exp"] = wrong.clone()),
                ClaimError::Document(_)
            ),
            "{wrong}"
        );
    }
    for wrong in ["", "a\nb", "\u{e9}", &"a".repeat(256)] {
        assert!(
            matches!(
                refused(|it| it["sub"] = json!(wrong)),
                ClaimError::Document(_)
            ),
            "{wrong}"
        );
    }
}

#[test]
fn groups_that_are_elsewhere_or_no_texts_are_refused_by_name() {
    let overage = |it: &mut Value| {
        it.as_object_mut().unwrap().remove("groups");
        it["_claim_names"] = json!({"groups": "src1"});
    };
    assert_eq!(
        refused(overage),
        ClaimError::GroupsLeftOut("groups".to_owned())
    );
    for wrong in [
        json!(1),
        json!({"a": "b"}),
        json!([1]),
        json!(vec!["g"; 1025]),
    ] {
        assert_eq!(
            refused(|it| it["groups"] = wrong),
            ClaimError::Groups("groups".to_owned())
        );
    }
    assert!(verify(&party(), |it| it["groups"] = json!(vec!["g"; 1024])).is_ok());
    let other = RelyingParty {
        groups_claim: "https://example/roles".to_owned(),
        ..party()
    };
    let user = verify(&other, |it| it["https://example/roles"] = json!(["a"])).unwrap();
    assert_eq!(user.groups, ["a"]);
}

#[test]
fn a_provider_that_should_ask_the_user_again_says_when_it_did() {
    let strict = RelyingParty {
        max_age: Some(Seconds::new(600)),
        ..party()
    };
    let expected = IdTokenError::Claim(ClaimError::AuthenticationTime {
        max_age: Seconds::new(600),
    });
    assert_eq!(verify(&strict, |_| {}), Err(expected.clone()));
    assert!(verify(&strict, |it| it["auth_time"] = json!(NOW - 659)).is_ok());
    assert_eq!(
        verify(&strict, |it| it["auth_time"] = json!(NOW - 660)),
        Err(expected)
    );
}

/// attacks on JSON Web Signatures: `none`, a public key as a shared secret, keys that a token brings along.
#[test]
fn only_keys_of_the_provider_and_named_algorithms_sign() {
    let (sign_in, nonce) = returned();
    let claims = claims(&nonce);
    let verify = |token: &str, party: &RelyingParty| {
        id_token(token)
            .verify(party, &keys(), &sign_in, now())
            .map(|_| ())
    };
    let good = token("one", &claims);
    assert_eq!(verify(&good, &party()), Ok(()));
    let rs256_only = RelyingParty {
        algorithms: vec![Algorithm::Rs256],
        ..party()
    };
    assert!(matches!(
        verify(&good, &rs256_only),
        Err(IdTokenError::Algorithm { .. })
    ));

    let unsigned = format!("{}.{}.", part(&json!({"alg": "none"})), part(&claims));
    assert!(matches!(
        verify(&unsigned, &party()),
        Err(IdTokenError::Algorithm { .. })
    ));
    let public = [
        &[4],
        &base64::decode_url(X).unwrap()[..],
        &base64::decode_url(Y).unwrap(),
    ]
    .concat();
    let mut header = Header::new(jsonwebtoken::Algorithm::HS256);
    header.kid = Some("one".to_owned());
    let shared = jsonwebtoken::encode(
        &header,
        &claims,
        &EncodingKey::from_secret(&public).unwrap(),
    )
    .unwrap();
    assert!(matches!(
        verify(&shared, &party()),
        Err(IdTokenError::Algorithm { .. })
    ));

    let (start, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = start.split_once('.').unwrap();
    let mut changed = claims.clone();
    changed["groups"] = json!(["hgs-administrators"]);
    let changed = format!("{header}.{}.{signature}", part(&changed));
    assert_eq!(
        verify(&changed, &party()),
        Err(IdTokenError::Signature("`one`".to_owned()))
    );
    let zeros = format!("{start}.{}", base64::encode_url(&[0; 64]));
    assert_eq!(
        verify(&zeros, &party()),
        Err(IdTokenError::Signature("`one`".to_owned()))
    );
    for wrong in [
        "",
        "a",
        "a.b",
        "a.b.c",
        &format!("{good}."),
        &format!("{good}="),
        &format!("{start} .{signature}"),
    ] {
        assert!(verify(wrong, &party()).is_err(), "{wrong}");
    }
    assert_eq!(verify("a.b.c.d.e", &party()), Err(IdTokenError::Encrypted));
    assert!(matches!(
        verify(&"a".repeat(64 * 1024 + 1), &party()),
        Err(IdTokenError::TooLong(65_537))
    ));
}

#[test]
fn what_a_header_says_of_keys_is_not_believed() {
    let (sign_in, nonce) = returned();
    let claims = claims(&nonce);
    // The provider has another key under the name; the token brings the right one along.
    let other = PrivateKey::generate(2048).unwrap();
    let rsa = |kid: &str| {
        let (n, e) = (other.public().modulus(), other.public().exponent());
        json!({"kty": "RSA", "kid": kid, "alg": "RS256", "n": base64::encode_url(n), "e": base64::encode_url(e)})
    };
    let verify = |keys: &[Value], header: &Value| {
        let start = format!("{}.{}", part(header), part(&claims));
        let signature = other
            .sign(SignatureScheme::Pkcs1Sha256, start.as_bytes())
            .unwrap();
        let token = format!("{start}.{}", base64::encode_url(&signature));
        id_token(&token)
            .verify(&party(), &key_set(keys), &sign_in, now())
            .map(|_| ())
    };
    let own = json!({"alg": "RS256", "kid": "one", "jwk": rsa("one"), "jku": "https://evil.example/keys", "x5c": ["AAAA"]});
    assert_eq!(verify(&[rsa("one")], &own), Ok(()), "RS256");
    let unknown = Err(IdTokenError::UnknownKey("`one`".to_owned()));
    assert_eq!(verify(&[], &own), unknown);
    assert_eq!(verify(&[rsa("two")], &own), unknown);
    let elliptic = json!({"kty": "EC", "crv": "P-256", "kid": "one", "x": X, "y": Y});
    assert_eq!(
        verify(std::slice::from_ref(&elliptic), &own),
        unknown,
        "a key for another algorithm"
    );
    for use_of in [json!({"use": "enc"}), json!({"alg": "PS256"})] {
        let mut key = rsa("one");
        key.as_object_mut()
            .unwrap()
            .extend(use_of.as_object().unwrap().clone());
        assert_eq!(verify(&[key], &own), unknown);
    }
    let nameless = json!({"alg": "RS256"});
    assert_eq!(
        verify(&[rsa("one"), elliptic], &nameless),
        Ok(()),
        "there is one that may be meant"
    );
    assert_eq!(
        verify(&[rsa("one"), rsa("two")], &nameless),
        Err(IdTokenError::KeyNotNamed)
    );
    let critical = json!({"alg": "RS256", "kid": "one", "crit": ["b64"], "b64": false});
    assert_eq!(
        verify(&[rsa("one")], &critical),
        Err(IdTokenError::Critical)
    );
    let access = json!({"alg": "RS256", "kid": "one", "typ": "at+jwt"});
    assert_eq!(
        verify(&[rsa("one")], &access),
        Err(IdTokenError::Type("at+jwt".to_owned()))
    );
}

#[test]
fn keys_that_can_t_be_used_are_named_when_they_are_needed() {
    let (sign_in, nonce) = returned();
    let token = token("one", &claims(&nonce));
    let verify = |keys: &[Value]| {
        id_token(&token)
            .verify(&party(), &key_set(keys), &sign_in, now())
            .unwrap_err()
    };
    let short = json!({"kty": "EC", "crv": "P-256", "kid": "one", "x": "AAAA", "y": Y});
    let error = UnusableKey::Malformed;
    assert_eq!(
        verify(&[short]),
        IdTokenError::UnusableKey {
            kid: "`one`".to_owned(),
            error
        }
    );
    let off = json!({"kty": "EC", "crv": "P-256", "kid": "one", "x": Y, "y": X});
    let error = UnusableKey::NotOnTheCurve;
    assert_eq!(
        verify(&[off]),
        IdTokenError::UnusableKey {
            kid: "`one`".to_owned(),
            error
        }
    );
    let weak = UnusableKey::Rsa(PublicKeyError::ModulusBits(1024)).to_string();
    assert!(weak.contains("1024"));
    // Neither keeps the others from being used.
    let weak =
        json!({"kty": "RSA", "kid": "weak", "n": base64::encode_url(&[0xff; 128]), "e": "AQAB"});
    let good = json!({"kty": "EC", "crv": "P-256", "kid": "one", "x": X, "y": Y});
    let others = [
        weak,
        json!({"kty": "OKP"}),
        json!({"kty": "oct", "k": "AAAA"}),
        json!({}),
        good,
    ];
    assert!(
        id_token(&token)
            .verify(&party(), &key_set(&others), &sign_in, now())
            .is_ok()
    );
    for wrong in ["{}", "[]", "{\"keys\":{}}", "{\"keys\":[],\"keys\":[]}"] {
        assert!(KeySet::read(wrong.as_bytes()).is_err(), "{wrong}");
    }
    let many = json!({"keys": vec![json!({"kty": "OKP"}); 65]});
    assert!(KeySet::read(many.to_string().as_bytes()).is_err());
}

#[test]
fn every_error_has_a_remedy_for_those_who_are_at_fault() {
    let issuer = provider(|it| it["issuer"] = json!("https://other.example")).unwrap_err();
    let issuer = SignInError::from(issuer);
    assert_eq!(issuer.fault(), Fault::Configuration);
    assert!(
        issuer.to_string().contains("`https://other.example`"),
        "{issuer}"
    );
    assert!(issuer.remedy().contains("`issuer`"));
    let client = read_token_answer(401, br#"{"error":"invalid_client"}"#).unwrap_err();
    assert!(SignInError::from(client).remedy().contains("client_id"));
    let expired = SignInError::from(IdTokenError::Claim(refused(|it| it["exp"] = json!(1))));
    assert_eq!(expired.fault(), Fault::Clocks);
}

#[test]
fn no_octets_upset_what_reads_a_provider() {
    let key = json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "one", "x": X, "y": Y}]});
    let mut own = metadata();
    own["issuer"] = json!("https://login.example");
    let corpus = [
        own.to_string().into_bytes(),
        key.to_string().into_bytes(),
        json!({"id_token": token("one", &claims("n"))})
            .to_string()
            .into_bytes(),
    ];
    let tokens: [&[u8]; 6] = [
        b"{",
        b"[[[[[[[[[[",
        b"\"keys\":",
        b"null",
        b"https://",
        b"\"issuer\":\"https://login.example\",",
    ];
    corpus
        .iter()
        .for_each(|octets| fuzzing::fuzz_openid_provider(octets));
    for octets in Mutations::of(&corpus, &tokens).take(3000) {
        fuzzing::fuzz_openid_provider(&octets);
    }
    let corpus = [
        token("one", &claims("n")).into_bytes(),
        b"code=c&state=s&iss=https://login.example".to_vec(),
    ];
    let tokens: [&[u8]; 5] = [b".", b"eyJhbGciOiJub25lIn0", b"&", b"%00", b"state="];
    for octets in corpus
        .iter()
        .cloned()
        .chain(Mutations::of(&corpus, &tokens).take(1000))
    {
        fuzzing::fuzz_id_token(&octets);
    }
}
