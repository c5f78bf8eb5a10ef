//! Section 10 of the protocol profile, the service's side over HTTP.

mod guardian;

use guardian::{Answer, Host, Site, exchange_with, pending, protector_for, roll_path};
use hgs_crypto::random::System;
use hgs_kps::ServiceVersion::V2;
use hgs_kps::signed_response::{Nonce, ResponseFields, ResponseSignatureError, SignatureRequest};
use hgs_kps::{Authenticity, Caches, ClientError, PendingRoll};
use hgs_pki::Seconds;
use hgs_testkit::fixtures::Keys;

fn asked(body: &[u8]) -> SignatureRequest {
    SignatureRequest::new(Nonce::random(&mut System::new()).unwrap(), body)
}

async fn roll(site: &Site, fields: &str, body: &[u8]) -> Answer {
    exchange_with(site.http(), "POST", &roll_path(V2), fields, body).await
}

fn fields_of(asked: &SignatureRequest) -> String {
    let (digest, accept) = (asked.content_digest(), asked.accept_signature());
    format!("Content-Digest: {digest}\r\nAccept-Signature: {accept}\r\n")
}

fn signature(answer: &Answer) -> Result<ResponseFields, ResponseSignatureError> {
    ResponseFields::read(|name| answer.header(name).map(str::as_bytes).into_iter().collect())
}

#[tokio::test]
async fn a_host_that_asks_gets_a_signature_by_one_key_a_day() {
    let site = Site::start().await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let mut keys_seen = Vec::new();
    for hours in [0, 23, 1] {
        site.clock.advance(Seconds::from_hours(hours)).await;
        let certificate = host.healthy(&site).await;
        let ingress = protector_for(&site.guardian().await);
        let pending: PendingRoll = pending(&ingress, &certificate, V2);
        let body = pending.request();
        let asked = asked(&body);
        let answer = roll(&site, &fields_of(&asked), &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let fields = signature(&answer).unwrap();
        let mut keys = Keys::default();
        keys.hold(&certificate, &host.identity);
        let receive = |asked: &SignatureRequest| {
            let authenticity = Authenticity::Signed {
                request: asked,
                fields: &fields,
                now: site.clock.now(),
            };
            pending.receive(&answer.body, authenticity, &Caches::new(64), &mut &keys)
        };
        receive(&asked).unwrap();
        let other = SignatureRequest::new(Nonce::random(&mut System::new()).unwrap(), &body);
        assert_eq!(
            receive(&other).unwrap_err(),
            ClientError::Signature(ResponseSignatureError::Nonce)
        );
        keys_seen.push(answer.header("openhgs-response-key").unwrap().to_owned());
    }
    assert_eq!(keys_seen[0], keys_seen[1]);
    assert_ne!(keys_seen[1], keys_seen[2]);
}

/// A Windows host.
#[tokio::test]
async fn a_host_that_does_not_ask_gets_the_plain_response() {
    let site = Site::start().await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let certificate = host.healthy(&site).await;
    let ingress = protector_for(&site.guardian().await);
    let body = pending(&ingress, &certificate, V2).request();
    let answer = roll(&site, "Content-Digest: sha-512=:AA==:\r\n", &body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(signature(&answer), Err(ResponseSignatureError::Unsigned));
    assert_eq!(answer.header("content-digest"), None);
}

/// What is asked for in another form is refused before the request is looked at, and releases nothing.
#[tokio::test]
async fn a_signature_in_another_form_is_not_made() {
    let site = Site::start().await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let certificate = host.healthy(&site).await;
    let ingress = protector_for(&site.guardian().await);
    let body = pending(&ingress, &certificate, V2).request();
    let good = fields_of(&asked(&body));
    let (digest, accept) = good.split_once("\r\n").unwrap();
    let other_body = fields_of(&asked(b"another"));
    for fields in [
        good.replace("openhgs=", "sig1="),
        good.replace(" \"content-digest\";req", ""),
        good.replace("sha-256", "sha-512"),
        format!("{good}{accept}"),
        format!("{good}{digest}\r\n"),
        accept.to_owned(),
        other_body,
    ] {
        let answer = roll(&site, &fields, &body).await;
        assert_eq!(answer.key_protection_code(), "InvalidRequestException", "{fields}");
        assert_eq!(answer.status, 400, "{fields}");
        assert!(signature(&answer).is_err());
    }
    let released = site.metric("hgs_releases_total{outcome=\"released\"}");
    assert_eq!(released, 0.0);
    assert_eq!(roll(&site, &good, &body).await.status, 200);
}
