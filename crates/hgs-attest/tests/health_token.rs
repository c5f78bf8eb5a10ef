//! Health tokens, and requests for them that prove nothing.

use hgs_attest::health_token::{
    Appraisal, Audience, Issuer, PreparedTokenRequest, ProvedRequest, TokenAttempt, TokenError,
    TokenNonceKey, TokenRefusal, TokenRequest, TokenRequestError, Verifier, prove, sign,
};
use hgs_crypto::SecretBytes;
use hgs_crypto::rsa::PrivateKey;
use hgs_pki::health::{HealthCertificateError, HealthKind, TrustedSigner, TrustedSigners};
use hgs_pki::{Certificate, Seconds, Time};
use hgs_testkit::fixtures::{AttestationSigner, Host, Keys, Repeatable, now};

fn issuer() -> Issuer {
    "https://hgs.example".parse().unwrap()
}

fn nonces() -> TokenNonceKey {
    TokenNonceKey::new(&SecretBytes::new(vec![7; 32]))
}

fn after(seconds: u64) -> Time {
    now().checked_add(Seconds::new(seconds)).unwrap()
}

fn host() -> Host {
    Host::numbered(0)
}

fn certificate(signer: &AttestationSigner, kind: HealthKind) -> Certificate {
    signer.health_certificate(&host(), kind, now())
}

fn prepared(certificate: &Certificate, issuer: &Issuer, made: Time) -> PreparedTokenRequest {
    let audience: Audience = "kubernetes".parse().unwrap();
    let nonce = nonces().nonce(&mut Repeatable::seeded(1), made).unwrap();
    TokenRequest::prepare(issuer, audience, nonce, certificate)
}

fn signed(prepared: PreparedTokenRequest, key: &PrivateKey) -> Result<Vec<u8>, TokenRequestError> {
    let signature = key
        .sign(prepared.scheme(), prepared.to_be_signed())
        .unwrap();
    Ok(prepared.assemble(signature)?.to_json())
}

/// A request of the host with this certificate.
fn request(certificate: &Certificate, made: Time) -> Vec<u8> {
    signed(prepared(certificate, &issuer(), made), &host().key).unwrap()
}

/// What a guardian finds that believes its own signer, and that of another cluster.
fn proved(body: &[u8], now: Time) -> Result<ProvedRequest, TokenRefusal> {
    let (ours, foreign) = (AttestationSigner::ours(), AttestationSigner::foreign());
    let signers = TrustedSigners::new(vec![
        TrustedSigner::own(ours.certificate),
        TrustedSigner::of_another_cluster(foreign.certificate, Seconds::from_hours(8)),
    ]);
    prove(&TokenAttempt {
        body,
        issuer: &issuer(),
        nonces: &nonces(),
        signers: &signers,
        now,
        skew: Seconds::new(60),
    })
}

fn issued(
    request: &ProvedRequest,
    signer: &AttestationSigner,
    now: Time,
) -> Result<Time, TokenError> {
    // Another key in the place of the signer's, where it is not our own.
    let mut keys = Keys::default();
    keys.hold(&AttestationSigner::ours().certificate, &signer.key);
    let appraisal = Appraisal {
        host_name: "node-1",
        group: None,
        measured: None,
    };
    let verifier = Verifier {
        issuer: &issuer(),
        build: "test",
        lifetime: Seconds::from_minutes(10),
    };
    let certificate = AttestationSigner::ours().certificate;
    let issued = sign(request, &appraisal, verifier, now, &certificate, &mut &keys)?;
    assert_eq!(issued.token.split('.').count(), 3);
    Ok(issued.expires)
}

#[test]
fn a_request_is_signed_by_the_key_of_its_certificate_for_this_issuer_and_as_it_came() {
    let ours = certificate(&AttestationSigner::ours(), HealthKind::Signing);
    let stranger = Host::numbered(1).key;
    let foreign = signed(prepared(&ours, &issuer(), now()), &stranger);
    assert_eq!(foreign, Err(TokenRequestError::Signature));

    let good = request(&ours, now());
    let found = proved(&good, now()).unwrap();
    assert_eq!(found.certificate().certificate(), &ours);
    assert_eq!(
        (found.audience().as_str(), found.made()),
        ("kubernetes", now())
    );

    let elsewhere = "https://other.example".parse().unwrap();
    let elsewhere = signed(prepared(&ours, &elsewhere, now()), &host().key).unwrap();
    assert_eq!(proved(&elsewhere, now()), Err(TokenRefusal::Signature));
    let text = String::from_utf8(good).unwrap();
    let altered = text.replace("kubernetes", "openbao");
    assert_eq!(
        proved(altered.as_bytes(), now()),
        Err(TokenRefusal::Signature)
    );
    let used_elsewhere = request(&ours, after(1));
    let used_elsewhere = proved(&used_elsewhere, after(1)).unwrap();
    assert_ne!(used_elsewhere.token_id(), found.token_id());
}

#[test]
fn tokens_are_for_hosts_of_this_cluster_with_a_certificate_for_signing() {
    let foreign = certificate(&AttestationSigner::foreign(), HealthKind::Signing);
    let refused = proved(&request(&foreign, now()), now());
    assert_eq!(refused, Err(TokenRefusal::OtherCluster));
    let encryption = certificate(&AttestationSigner::ours(), HealthKind::Encryption);
    let refused = proved(&request(&encryption, now()), now());
    let expected = HealthKind::Signing;
    let error = HealthCertificateError::Purpose { expected };
    assert_eq!(refused, Err(TokenRefusal::HealthCertificate(error)));
}

#[test]
fn a_token_ends_with_the_health_certificate_and_is_signed_by_the_signer() {
    let (ours, foreign) = (AttestationSigner::ours(), AttestationSigner::foreign());
    let certificate = certificate(&ours, HealthKind::Signing);
    let found = proved(&request(&certificate, now()), now()).unwrap();
    assert_eq!(issued(&found, &ours, now()), Ok(after(600)));
    let signer = ours.certificate.thumbprint();
    let refused = issued(&found, &foreign, now());
    assert_eq!(refused, Err(TokenError::Signature(signer)));

    let end = certificate.validity().not_after;
    let late = end.checked_sub(Seconds::new(60)).unwrap();
    let found = proved(&request(&certificate, late), late).unwrap();
    assert_eq!(issued(&found, &ours, late), Ok(end));
    let refused = TokenError::Refused(TokenRefusal::CertificateEnds(end));
    assert_eq!(issued(&found, &ours, end), Err(refused));
}
