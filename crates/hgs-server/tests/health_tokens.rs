//! Health tokens as hosts ask for them and as strangers' libraries verify them: `jsonwebtoken`, and PyJWT by the program in
//! docs/health-token.md.

mod guardian;

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use guardian::{ATTEST, Answer, Host, Site, exchange};
use hgs_admin::types::Outcome;
use hgs_admin::{Administration as _, Client};
use hgs_attest::freshness::Nonce;
use hgs_attest::health_token::{
    Challenge, DISCOVERY_PATH, IssuedToken, JWKS_PATH, SHORTEST_LIFETIME, TokenRequest,
};
use hgs_clock::Clock as _;
use hgs_crypto::base64;
use hgs_crypto::rsa::PrivateKey;
use hgs_pki::health::HealthKind;
use hgs_pki::{Certificate, Seconds, Thumbprint};
use hgs_testkit::{block_of_page, date_variables, tool};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};

const PATH: &str = "/Attestation/openhgs/v1/token";
const ISSUER: &str = "https://hgs.example";
const SETTINGS: &str =
    "[health_token]\nissuer = \"https://hgs.example\"\naudiences = [\"kubernetes\", \"openbao\"]\n";

/// A guardian that issues tokens, with one host that has a certificate for signing.
async fn site_with_host() -> (Site, Host, Certificate) {
    let site = Site::start_with(SETTINGS).await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let attested = host.attest(&site, HealthKind::Signing).await;
    let certificate = attested.certificate().clone();
    (site, host, certificate)
}

async fn nonce(site: &Site) -> Nonce {
    let answer = site.get(PATH).await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    Challenge::read(&answer.body).unwrap().nonce
}

/// A request as a host makes it.
fn request(
    key: &PrivateKey,
    certificate: &Certificate,
    issuer: &str,
    audience: &str,
    nonce: Nonce,
) -> Vec<u8> {
    let (issuer, audience) = (issuer.parse().unwrap(), audience.parse().unwrap());
    let prepared = TokenRequest::prepare(&issuer, audience, nonce, certificate);
    let signature = key.sign(prepared.scheme(), prepared.to_be_signed());
    prepared.assemble(signature.unwrap()).unwrap().to_json()
}

async fn ask(site: &Site, host: &Host, certificate: &Certificate, audience: &str) -> Answer {
    let key = &host.signing_identity;
    let body = request(key, certificate, ISSUER, audience, nonce(site).await);
    site.post(PATH, &body).await
}

async fn token(site: &Site, host: &Host, certificate: &Certificate, audience: &str) -> String {
    let answer = ask(site, host, certificate, audience).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    IssuedToken::read(&answer.body).unwrap().token
}

async fn keys(site: &Site) -> JwkSet {
    let answer = site.get(JWKS_PATH).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("cache-control"), Some("public, max-age=900"));
    serde_json::from_slice(&answer.body).unwrap()
}

/// What `jsonwebtoken` says of a token, all but its times: it looks at the machine's clock, and the guardian has one of the test.
fn verified(token: &str, keys: &JwkSet, audience: &str) -> jsonwebtoken::errors::Result<Value> {
    let header = jsonwebtoken::decode_header(token)?;
    let key = keys.find(header.kid.as_deref().unwrap_or_default());
    let key = key.ok_or(jsonwebtoken::errors::ErrorKind::InvalidToken)?;
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[audience]);
    validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
    validation.validate_exp = false;
    let key = DecodingKey::from_jwk(key)?;
    Ok(jsonwebtoken::decode(token, &key, &validation)?.claims)
}

fn kid(token: &str) -> String {
    jsonwebtoken::decode_header(token).unwrap().kid.unwrap()
}

/// Runs the program of the page at the time that the guardian's clock shows.
async fn python(site: &Site, token: &str, issuer: &str, audience: &str) -> Output {
    let program = block_of_page("health-token.md", "python");
    let url = format!("http://{}{JWKS_PATH}", site.http());
    let mut command = Command::new(tool("faketime", "faketime"));
    // The date of this test itself, if it has another one, would be added to it.
    for (name, _) in date_variables() {
        command.env_remove(name);
    }
    command
        .arg(format!("@{}", site.clock.now().unix()))
        .args(["/usr/bin/python3", "-c", &program, &url, issuer, audience])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let token = token.to_owned();
    let run = move || {
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(token.as_bytes()).unwrap();
        drop(input);
        child.wait_with_output().unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn error_of(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it was accepted");
    assert!(
        !error.contains("ModuleNotFoundError"),
        "{error}\ninstall the Debian package python3-jwt"
    );
    error
}

/// What the program of the page says of a host in host-key mode, once it has verified everything else.
const NOT_MEASURED: &str = "was not measured: none";

#[tokio::test]
async fn strangers_libraries_verify_a_token_by_the_published_keys() {
    let (site, host, certificate) = site_with_host().await;
    let token = token(&site, &host, &certificate, "kubernetes").await;
    let keys = keys(&site).await;
    let claims = verified(&token, &keys, "kubernetes").unwrap();

    let now = site.clock.now().unix();
    assert_eq!(claims["iss"], ISSUER);
    assert_eq!(claims["aud"], "kubernetes");
    assert_eq!((&claims["iat"], &claims["nbf"]), (&json!(now), &json!(now)));
    assert_eq!(claims["exp"], json!(now + 600));
    assert_eq!(
        claims["eat_profile"],
        "tag:github.com,2026:openhgs/openhgs/health-token"
    );
    // Nothing is measured in host-key mode, and nothing is claimed.
    let submodule = &claims["submods"]["host"];
    assert_eq!(submodule["ear.status"], "none");
    let vector = submodule["ear.trustworthiness-vector"].as_object().unwrap();
    assert_eq!(vector.len(), 8);
    assert!(
        vector.values().all(|claim| *claim == json!(0)),
        "{vector:?}"
    );
    let evidence = &submodule["ear.veraison.annotated-evidence"];
    assert_eq!(evidence["mode"], "host-key");
    assert_eq!(evidence["host-name"], "node-1");
    // The header names a key, and brings none that a verifier could believe.
    let header: Value = part(&token, 0);
    let members: Vec<_> = header.as_object().unwrap().keys().collect();
    assert_eq!(members, ["typ", "alg", "kid"]);

    let recorded = &site.recorded("attest").await[0];
    assert_eq!(recorded.host_name.as_deref(), Some("node-1"));
    let after = recorded.after.as_ref().unwrap();
    assert_eq!(after["health_token"]["audience"], "kubernetes");
    assert_eq!(after["health_token"]["id"], claims["jti"]);
    assert_eq!(
        site.metric("hgs_health_tokens_total{outcome=\"issued\"}"),
        1.0
    );

    let discovery: Value = serde_json::from_slice(&site.get(DISCOVERY_PATH).await.body).unwrap();
    assert_eq!(discovery["issuer"], ISSUER);
    assert_eq!(discovery["jwks_uri"], format!("{ISSUER}{JWKS_PATH}"));
    assert_eq!(
        discovery["id_token_signing_alg_values_supported"],
        json!(["RS256"])
    );

    let said = error_of(&python(&site, &token, ISSUER, "kubernetes").await);
    assert!(said.contains(NOT_MEASURED), "{said}");
    for (issuer, audience, error) in [
        (ISSUER, "openbao", "InvalidAudienceError"),
        ("https://other.example", "kubernetes", "InvalidIssuerError"),
    ] {
        let said = error_of(&python(&site, &token, issuer, audience).await);
        assert!(said.contains(error), "{said}");
    }
    assert!(verified(&token, &keys, "openbao").is_err());
    site.clock.advance(Seconds::new(601));
    let said = error_of(&python(&site, &token, ISSUER, "kubernetes").await);
    assert!(said.contains("ExpiredSignatureError"), "{said}");
}

/// One part of a token, as JSON.
fn part(token: &str, number: usize) -> Value {
    let text = token.split('.').nth(number).unwrap();
    let standard = text.replace('-', "+").replace('_', "/");
    let padding = "=".repeat((4 - standard.len() % 4) % 4);
    serde_json::from_slice(&base64::decode(&(standard + &padding)).unwrap()).unwrap()
}

/// What others made of a token is none, for either library.
#[tokio::test]
async fn a4_no_altered_token_verifies() {
    let (site, host, certificate) = site_with_host().await;
    let good = token(&site, &host, &certificate, "kubernetes").await;
    let keys = keys(&site).await;
    let parts: Vec<_> = good.split('.').collect();
    let [header, payload, signature] = parts[..] else {
        panic!("three parts")
    };
    let encode = |json: &Value| base64::encode_url(json.to_string().as_bytes());
    let mut claims = part(&good, 1);
    claims["submods"]["host"]["ear.status"] = "affirming".into();
    let claims = encode(&claims);
    let with = |member: &str, value: Value| {
        let mut header = part(&good, 0);
        header[member] = value;
        encode(&header)
    };
    // A key of the attacker's own, in the header: a verifier must look at `kid` only.
    let own = &host.signing_identity;
    let own_key = json!({
        "kty": "RSA",
        "n": base64::encode_url(own.public().modulus()),
        "e": base64::encode_url(own.public().exponent()),
    });
    let own_header = with("jwk", own_key);
    let signed = format!("{own_header}.{claims}");
    let scheme = hgs_crypto::rsa::SignatureScheme::Pkcs1Sha256;
    let own_signature = base64::encode_url(&own.sign(scheme, signed.as_bytes()).unwrap());
    // The public key as the secret of an HMAC.
    let symmetric = with("alg", "HS256".into());
    let secret = serde_json::to_vec(&keys).unwrap();
    let tag = hgs_crypto::hash::hmac_sha256(
        &hgs_crypto::SecretBytes::from(&secret[..]),
        &[symmetric.as_bytes(), b".", claims.as_bytes()],
    );
    for altered in [
        format!("{header}.{claims}.{signature}"),
        format!("{header}.{payload}."),
        format!("{}.{claims}.", with("alg", "none".into())),
        format!("{symmetric}.{claims}.{}", base64::encode_url(&tag)),
        format!("{signed}.{own_signature}"),
        format!("{}.{payload}.{signature}", with("kid", "other".into())),
    ] {
        assert!(
            verified(&altered, &keys, "kubernetes").is_err(),
            "{altered}"
        );
        let said = error_of(&python(&site, &altered, ISSUER, "kubernetes").await);
        assert!(!said.contains(NOT_MEASURED), "{altered}: {said}");
    }
}

#[tokio::test]
async fn old_tokens_verify_after_a_rotation_and_the_next_key_is_there_before_it_signs() {
    let site = Site::start_with(SETTINGS).await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let first = keys(&site).await;
    assert_eq!(first.keys.len(), 1);
    // A year, less thirty days: a new signer is made, and waits for a day.
    let both = later(&site, Seconds::from_days(335), 2).await;
    let attested = host.attest(&site, HealthKind::Signing).await;
    let by_first = token(&site, &host, attested.certificate(), "kubernetes").await;
    assert_eq!(Some(kid(&by_first)), first.keys[0].common.key_id);
    site.clock.advance(Seconds::from_days(1));
    let attested = host.attest(&site, HealthKind::Signing).await;
    let by_second = token(&site, &host, attested.certificate(), "kubernetes").await;
    assert_ne!(kid(&by_second), kid(&by_first));
    let now = keys(&site).await;
    for token in [&by_first, &by_second] {
        assert!(verified(token, &now, "kubernetes").is_ok());
        assert!(verified(token, &both, "kubernetes").is_ok(), "kept keys");
    }
    assert!(verified(&by_second, &first, "kubernetes").is_err());
    // A day later nothing that the first has signed is alive.
    let last = later(&site, Seconds::from_hours(25), 1).await;
    assert_eq!(last.keys[0].common.key_id, Some(kid(&by_second)));
}

async fn active_signer(site: &Site) -> Thumbprint {
    let status = site.admin(Client::status).await.unwrap();
    let signer = status.attestation_signer.unwrap();
    signer.thumbprint.parse().unwrap()
}

/// The token of a moment ago is not given out again once another signer signs.
#[tokio::test]
async fn a_host_gets_no_token_of_a_signer_that_was_retired_or_removed_a_moment_ago() {
    let (site, host, certificate) = site_with_host().await;
    let by_first = token(&site, &host, &certificate, "kubernetes").await;
    let first = active_signer(&site).await;
    site.admin(move |client| client.retire_signer(&first))
        .await
        .unwrap();
    let by_second = token(&site, &host, &certificate, "kubernetes").await;
    assert_ne!(kid(&by_second), kid(&by_first));
    assert_eq!(
        token(&site, &host, &certificate, "kubernetes").await,
        by_second,
        "of the same minute"
    );
    // What the first has signed is still good, also the certificate that the host asks with.
    let both = keys(&site).await;
    assert!(verified(&by_first, &both, "kubernetes").is_ok());

    let second = active_signer(&site).await;
    site.admin(move |client| client.remove_signer(&second))
        .await
        .unwrap();
    let by_third = token(&site, &host, &certificate, "kubernetes").await;
    let left = keys(&site).await;
    assert!(verified(&by_third, &left, "kubernetes").is_ok());
    assert!(verified(&by_second, &left, "kubernetes").is_err());
}

/// Moves the clock, and waits until so many keys are published. It fails by the runner's timeout.
async fn later(site: &Site, by: Seconds, count: usize) -> JwkSet {
    site.clock.advance(by);
    loop {
        let keys = keys(site).await;
        if keys.keys.len() == count {
            return keys;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A token does not outlive the health certificate of its host.
#[tokio::test]
async fn a_token_ends_with_the_health_certificate() {
    let settings = format!("{SETTINGS}lifetime = \"24h\"\n");
    let site = Site::start_with(&settings).await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let attested = host.attest(&site, HealthKind::Signing).await;
    let token = token(&site, &host, attested.certificate(), "openbao").await;
    let ends = attested.certificate().validity().not_after.unix();
    assert_eq!(part(&token, 1)["exp"], json!(ends));
    assert!(SHORTEST_LIFETIME < Seconds::from_hours(24));
}

/// The code of a refusal; nothing but that, and what the next request needs, is told.
fn refused(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{}", answer.text());
    answer.attestation_code()
}

/// attacks.md A1: a request that was captured is worth nothing.
#[tokio::test]
async fn a1_a_request_for_a_token_is_answered_once_and_for_a_minute() {
    let (mut site, host, certificate) = site_with_host().await;
    let key = &host.signing_identity;
    let make = |nonce| request(key, &certificate, ISSUER, "kubernetes", nonce);
    let captured = make(nonce(&site).await);
    let first = site.post(PATH, &captured).await;
    assert_eq!(first.status, 200);
    let again = site.post(PATH, &captured).await;
    assert_eq!(refused(&again, 403), "nonce-used");
    let next: Value = serde_json::from_slice(&again.body).unwrap();
    assert!(next["Nonce"].is_string(), "{next}");
    // The node that has forgotten, as one that never knew, issues the same token once more.
    site.restart().await;
    let repeated = site.post(PATH, &captured).await;
    assert_eq!(repeated.body, first.body);
    site.clock.advance(Seconds::new(61));
    let late = site.post(PATH, &captured).await;
    assert_eq!(refused(&late, 403), "nonce-expired");
    // One of another guardian, and one of an attestation here.
    let info = site.get("/Attestation/getinfo").await;
    let of_attestation = info.header("openhgs-attestation-nonce").unwrap();
    let foreign = make(Nonce::from_header(of_attestation).unwrap());
    assert_eq!(
        refused(&site.post(PATH, &foreign).await, 403),
        "nonce-foreign"
    );
}

/// attacks.md A16: each part of a request is bound to the others, and to this guardian.
#[tokio::test]
async fn a16_a_request_for_a_token_is_good_for_its_host_issuer_and_audience_alone() {
    let (site, host, certificate) = site_with_host().await;
    let other = Host::numbered(1);
    site.register(&other, "node-2").await;
    let others = other.attest(&site, HealthKind::Signing).await;
    let (key, others_key) = (&host.signing_identity, &other.signing_identity);
    // Made for another guardian.
    let nonce_of = nonce(&site).await;
    let elsewhere = request(
        key,
        &certificate,
        "https://other.example",
        "kubernetes",
        nonce_of,
    );
    let code = refused(&site.post(PATH, &elsewhere).await, 403);
    assert_eq!(code, "request-signature");
    // Another audience, another host's certificate, another nonce: none was signed.
    let good = |nonce| request(key, &certificate, ISSUER, "kubernetes", nonce);
    let (first, second) = (nonce(&site).await, nonce(&site).await);
    let body = String::from_utf8(good(first.clone())).unwrap();
    let certificates = (
        base64::encode(certificate.der()),
        base64::encode(others.certificate().der()),
    );
    for forged in [
        body.replace("kubernetes", "openbao"),
        body.replace(&certificates.0, &certificates.1),
        body.replace(&first.to_header(), &second.to_header()),
    ] {
        assert_ne!(forged, body);
        let answer = site.post(PATH, forged.as_bytes()).await;
        assert_eq!(refused(&answer, 403), "request-signature");
    }
    // The certificate for encryption, and one that nobody here issued.
    let encryption = host.healthy(&site).await;
    let body = request(
        &host.identity,
        &encryption,
        ISSUER,
        "openbao",
        nonce(&site).await,
    );
    let code = refused(&site.post(PATH, &body).await, 403);
    assert_eq!(code, "health-certificate");
    let stranger = Site::start_with(SETTINGS).await;
    stranger.register(&other, "node-2").await;
    let foreign = other.attest(&stranger, HealthKind::Signing).await;
    let nonce_here = nonce(&site).await;
    let body = request(
        others_key,
        foreign.certificate(),
        ISSUER,
        "openbao",
        nonce_here,
    );
    let code = refused(&site.post(PATH, &body).await, 403);
    assert_eq!(code, "health-certificate");
    // Nobody has proved to be a host in all of this, so nothing is on record.
    let tokens = site.recorded("attest").await;
    assert!(tokens.iter().all(|record| record.outcome == Outcome::Done));
    let answer = ask(&site, &host, &certificate, "vault").await;
    assert_eq!(refused(&answer, 403), "audience-not-allowed");
    let refusal = &site.recorded("attest").await[0];
    assert_eq!(refusal.outcome, Outcome::Refused);
    assert!(
        refusal
            .reason
            .as_ref()
            .unwrap()
            .contains("health-token-audience-not-allowed"),
        "{refusal:?}"
    );
}

/// attacks.md K4: there is no token after a revocation, or when the certificate has ended.
#[tokio::test]
async fn k4_a_revoked_host_gets_no_token_for_the_certificate_that_it_holds() {
    let (site, host, certificate) = site_with_host().await;
    token(&site, &host, &certificate, "kubernetes").await;
    site.revoke("node-1").await;
    // Not even the one of a moment ago.
    for audience in ["kubernetes", "openbao"] {
        let answer = ask(&site, &host, &certificate, audience).await;
        assert_eq!(refused(&answer, 403), "host-revoked");
    }
    let name = "node-1";
    site.admin(move |client| client.remove_host(&name.parse().unwrap()))
        .await
        .unwrap();
    let answer = ask(&site, &host, &certificate, "kubernetes").await;
    assert_eq!(refused(&answer, 403), "host-revoked");

    let (site, host, certificate) = site_with_host().await;
    site.clock.advance(Seconds::from_hours(9));
    let answer = ask(&site, &host, &certificate, "kubernetes").await;
    assert_eq!(refused(&answer, 403), "health-certificate");
}

/// attacks.md K4: a token says that the host is healthy by what was last found of it.
#[tokio::test]
async fn k4_a_host_that_was_refused_since_gets_no_token_before_it_attests_again() {
    let (site, host, certificate) = site_with_host().await;
    token(&site, &host, &certificate, "kubernetes").await;
    let of_other_kind = host.request_for(HealthKind::Encryption, &host.signing_identity);
    let answer = site.post(ATTEST, of_other_kind.body()).await;
    assert_eq!(answer.attestation_code(), "identity-key-of-other-kind");
    // Not even the one of a moment ago.
    for audience in ["kubernetes", "openbao"] {
        let answer = ask(&site, &host, &certificate, audience).await;
        assert_eq!(refused(&answer, 403), "attestation-outdated");
    }
    let again = host.attest(&site, HealthKind::Signing).await;
    token(&site, &host, again.certificate(), "kubernetes").await;
}

/// attacks.md K2: what one host can make the audit log grow by has a bound, whatever it asks for.
#[tokio::test]
async fn k2_a_host_that_asks_again_and_again_leaves_one_record_a_minute() {
    let (site, host, certificate) = site_with_host().await;
    let before = site.recorded("attest").await.len();
    let mut tokens = Vec::new();
    for _ in 0..64 {
        tokens.push(token(&site, &host, &certificate, "kubernetes").await);
    }
    tokens.dedup();
    assert_eq!(tokens.len(), 1);
    for _ in 0..3 {
        let answer = ask(&site, &host, &certificate, "kubernetes").await;
        assert_eq!(refused(&answer, 429), "too-many-requests");
        assert!(answer.header("retry-after").is_some());
    }
    // The token, and the first refusal.
    assert_eq!(site.recorded("attest").await.len(), before + 2);
}

#[tokio::test]
async fn a_guardian_without_an_issuer_has_no_tokens() {
    let site = Site::start().await;
    assert_eq!(refused(&site.get(PATH).await, 404), "tokens-not-enabled");
    let answer = site.post(PATH, b"{}").await;
    assert_eq!(refused(&answer, 404), "tokens-not-enabled");
    for path in [JWKS_PATH, DISCOVERY_PATH] {
        let answer = site.get(path).await;
        assert_eq!(answer.status, 404);
        assert!(answer.text().contains("issues no health tokens"));
    }
    let site = Site::start_with(SETTINGS).await;
    assert_eq!(exchange(site.http(), "PUT", PATH, b"").await.status, 405);
    assert_eq!(
        exchange(site.http(), "POST", JWKS_PATH, b"").await.status,
        405
    );
    for body in [
        &b""[..],
        b"{}",
        b"[]",
        b"\xff",
        br#"{"Audience":"a","Audience":"b"}"#,
    ] {
        let answer = site.post(PATH, body).await;
        assert_eq!(refused(&answer, 400), "malformed-request");
    }
}
