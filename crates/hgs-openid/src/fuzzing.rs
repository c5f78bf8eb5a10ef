//! Bodies of fuzz targets: they take any octets and panic only if something is wrong with this crate.

use hgs_crypto::random::Random;
use hgs_crypto::{CryptoError, SecretBytes};
use hgs_pki::{Seconds, Time};

use crate::callback::Callback;
use crate::id_token::IdToken;
use crate::keys::KeySet;
use crate::provider::Provider;
use crate::relying_party::{Algorithm, RelyingParty};
use crate::sign_in::{BrowserSecret, SignIns};
use crate::token::{read_token_answer, token_request};

/// The key of the example in RFC 7515 appendix A.3.
const KEYS: &[u8] = br#"{"keys":[{"kty":"EC","crv":"P-256","kid":"a",
    "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

const REDIRECT: &str = "https://hgs.example/sign-in/openid/callback";

/// What a provider publishes: its metadata and its keys.
///
/// # Panics
///
/// If metadata that were taken lead a browser or a request to another place than they say.
pub fn fuzz_openid_provider(data: &[u8]) {
    let party = party();
    if let Ok(provider) = Provider::read(data, &party) {
        let now = Time::from_unix(0);
        let (_, secret, url) = begun(&party, &provider, now);
        assert!(url.starts_with(provider.authorization_endpoint.as_str()));
        assert!(url.starts_with("https://") || url.starts_with("http://"));
        assert!(
            !url.contains(secret.expose()),
            "the browser's secret stays in the browser"
        );
        assert!(provider.jwks_uri().port() != 0);
    }
    let _ = KeySet::read(data);
    let _ = read_token_answer(200, data);
    let _ = read_token_answer(400, data);
}

/// An ID token, and what a browser brings back.
///
/// # Panics
///
/// If a token of a stranger is believed, or if a browser is signed in that did not begin.
pub fn fuzz_id_token(data: &[u8]) {
    let party = party();
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let keys = KeySet::read(KEYS).expect("keys");
    // The claims of the example are no claims of an ID token.
    let provider = provider(&party);
    let now = Time::from_unix(1_300_819_000);
    let (mut sign_ins, secret, url) = begun(&party, &provider, now);
    let state = url
        .split("state=")
        .nth(1)
        .and_then(|it| it.split('&').next());
    let state = state.expect("a state");
    if let Ok(callback) = Callback::read(text) {
        let is_known = callback.state == state;
        let finished = sign_ins.finish(Some(secret.expose()), &callback, &party, &provider, now);
        assert!(finished.is_err() || is_known, "nobody else knows the state");
    }
    let (mut sign_ins, secret, _) = begun(&party, &provider, now);
    let callback = Callback::read(&format!("code=c&state={state}")).expect("a callback");
    let finished = sign_ins.finish(Some(secret.expose()), &callback, &party, &provider, now);
    let (sign_in, code) = finished.expect("it is the same state");
    let request = token_request(&party, &provider, &sign_in, &code);
    assert!(request.authorization.is_some());
    let verified = IdToken::new(text).verify(&party, &keys, &sign_in, now);
    assert!(verified.is_err(), "nobody has the key");
}

/// A sign-in that has begun: what the server keeps, what the browser keeps, and where it is sent.
fn begun(party: &RelyingParty, provider: &Provider, now: Time) -> (SignIns, BrowserSecret, String) {
    let mut sign_ins = SignIns::default();
    let begun = sign_ins.begin(
        party,
        provider,
        REDIRECT,
        "192.0.2.1",
        now,
        &mut Counting(0),
    );
    let (secret, url) = begun.expect("it counts");
    (sign_ins, secret, url)
}

fn party() -> RelyingParty {
    RelyingParty {
        issuer: "https://login.example".parse().expect("an issuer"),
        client_id: "hgs".to_owned(),
        secret: Some(SecretBytes::from(&b"secret"[..])),
        scopes: Vec::new(),
        algorithms: vec![Algorithm::Rs256, Algorithm::Es256],
        groups_claim: "groups".to_owned(),
        max_age: None,
        clock_tolerance: Seconds::new(60),
    }
}

fn provider(party: &RelyingParty) -> Provider {
    let metadata = br#"{"issuer":"https://login.example","authorization_endpoint":"https://login.example/auth",
        "token_endpoint":"https://login.example/token","jwks_uri":"https://login.example/keys"}"#;
    Provider::read(metadata, party).expect("metadata")
}

/// A repeatable source, for the bodies of fuzz targets: octets that count from this one.
pub struct Counting(pub u8);

impl Random for Counting {
    fn fill(&mut self, octets: &mut [u8]) -> Result<(), CryptoError> {
        for octet in octets {
            *octet = self.0;
            self.0 = self.0.wrapping_add(1);
        }
        Ok(())
    }
}
