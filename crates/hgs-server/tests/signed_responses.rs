//! Section 10 of the protocol profile, the service's side over HTTP.

mod guardian;

use guardian::{Answer, Host, Site, exchange_with, pending, roll_path};
use hgs_crypto::random::System;
use hgs_kps::ServiceVersion::V2;
use hgs_kps::signed_response::{Nonce, ResponseFields, ResponseSignatureError, SignatureRequest};
use hgs_kps::{Authenticity, Caches, ClientError};
use hgs_pki::Seconds;
use hgs_testkit::fixtures::Keys;

const DIGEST: &str = "Content-Digest";
const ACCEPT: &str = "Accept-Signature";

fn signature_request(body: &[u8]) -> SignatureRequest {
    SignatureRequest::new(Nonce::random(&mut System::new()).unwrap(), body)
}

async fn roll(site: &Site, fields: &[(&str, &str)], body: &[u8]) -> Answer {
    exchange_with(site.http(), "POST", &roll_path(V2), fields, body).await
}

fn signature(answer: &Answer) -> Result<ResponseFields, ResponseSignatureError> {
    ResponseFields::read(|name| {
        let value = answer.header(&name.to_ascii_lowercase());
        value.map(str::as_bytes).into_iter().collect()
    })
}

#[tokio::test]
async fn a_response_is_signed_for_a_host_that_asks_by_one_key_a_day() {
    let site = Site::start().await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let mut response_keys = Vec::new();
    for hours in [0, 23, 1] {
        site.clock.advance(Seconds::from_hours(hours));
        let certificate = host.healthy(&site).await;
        let (ingress, _) = site.protector().await;
        let pending = pending(&ingress, &certificate, V2);
        let body = pending.request();
        let asked = signature_request(&body);
        let (digest, accept) = (asked.content_digest(), asked.accept_signature());
        let answer = roll(&site, &[(DIGEST, &digest), (ACCEPT, &accept)], &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let fields = signature(&answer).unwrap();
        let mut keys = Keys::default();
        keys.hold(&certificate, &host.identity);
        let receive = |request: &SignatureRequest| {
            let authenticity = Authenticity::Signed {
                request,
                fields: &fields,
                now: hgs_clock::Clock::now(&*site.clock),
            };
            pending
                .receive(&answer.body, authenticity, &Caches::new(64), &mut &keys)
                .map(drop)
        };
        assert_eq!(receive(&asked), Ok(()));
        assert_eq!(
            receive(&signature_request(&body)),
            Err(ClientError::Signature(ResponseSignatureError::Nonce))
        );
        response_keys.push(answer.header("openhgs-response-key").unwrap().to_owned());
    }
    assert_eq!(response_keys[0], response_keys[1]);
    assert_ne!(response_keys[1], response_keys[2]);
}

/// A Windows host, for one.
#[tokio::test]
async fn a_host_that_does_not_ask_gets_the_plain_response() {
    let site = Site::start().await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let certificate = host.healthy(&site).await;
    let (ingress, _) = site.protector().await;
    let body = pending(&ingress, &certificate, V2).request();
    let answer = roll(&site, &[(DIGEST, "sha-512=:AA==:")], &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(signature(&answer), Err(ResponseSignatureError::Unsigned));
    assert_eq!(answer.header("content-digest"), None);
}

/// A request for a signature in another form is refused, and nothing is released.
#[tokio::test]
async fn a_request_for_a_signature_in_another_form_is_refused() {
    let site = Site::start().await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let certificate = host.healthy(&site).await;
    let (ingress, _) = site.protector().await;
    let body = pending(&ingress, &certificate, V2).request();
    let asked = signature_request(&body);
    let (digest, accept) = (asked.content_digest(), asked.accept_signature());
    let (digest, accept) = (digest.as_str(), accept.as_str());
    let label = accept.replace("openhgs=", "sig1=");
    let components = accept.replace(" \"content-digest\";req", "");
    let algorithm = digest.replace("sha-256", "sha-512");
    let other = signature_request(b"another").content_digest();
    let refused: [&[(&str, &str)]; 7] = [
        &[(DIGEST, digest), (ACCEPT, &label)],
        &[(DIGEST, digest), (ACCEPT, &components)],
        &[(DIGEST, &algorithm), (ACCEPT, accept)],
        &[(DIGEST, &other), (ACCEPT, accept)],
        &[(DIGEST, digest), (DIGEST, digest), (ACCEPT, accept)],
        &[(DIGEST, digest), (ACCEPT, accept), (ACCEPT, accept)],
        &[(ACCEPT, accept)],
    ];
    for fields in refused {
        let answer = roll(&site, fields, &body).await;
        assert_eq!(answer.status, 400, "{fields:?}");
        assert_eq!(
            answer.key_protection_code(),
            "InvalidRequestException",
            "{fields:?}"
        );
        assert_eq!(signature(&answer), Err(ResponseSignatureError::Unsigned));
    }
    let released = site.metric("hgs_releases_total{outcome=\"released\"}");
    assert!(released == 0.0, "{released}");
    let answer = roll(&site, &[(DIGEST, digest), (ACCEPT, accept)], &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}
