//! Two ends on a loopback port, honest and not.

use hgs_crypto::SecretBytes;
use hgs_crypto::hash::sha256;
use hgs_pki::Seconds;
use hgs_pki::health::{AttestationMode, HealthStatement, HealthValidity, HostId};
use hgs_pki::issue::Issuer;
use hgs_pki::profile;
use hgs_protector::TransportKey;
use hgs_testkit::fixtures::{certificate, now, private_key, self_signed, ten_years};
use tokio::net::TcpListener;

use super::*;
use crate::migration::message::PIECE;

/// The keys of the signers that both hosts know, and of another one.
const SIGNER: usize = 12;
const STRANGER: usize = 16;

fn signer(key: usize) -> Certificate {
    self_signed(profile::attestation_signer(ten_years()), &private_key(key))
}

/// A host with a certificate by `signer_key`, which believes certificates by [`SIGNER`].
fn host(signer_key: usize, issued_before: Seconds) -> Credentials {
    let statement = HealthStatement {
        mode: AttestationMode::HostKey,
        host_id: HostId::from_bytes([7; 16]),
        issued_at: now().checked_sub(issued_before).unwrap(),
        policy_digest: [1; 32],
    };
    let kind = HealthKind::Encryption;
    let template = health::template(kind, &statement, HealthValidity::default()).unwrap();
    let issuer = signer(signer_key);
    let issuer_key = private_key(signer_key);
    Credentials {
        health_certificate: certificate(
            template,
            &private_key(14),
            Issuer::Certificate(&issuer),
            &issuer_key,
        ),
        signers: TrustedSigners::new(vec![TrustedSigner::own(signer(SIGNER))]),
        now: now(),
    }
}

fn healthy() -> Credentials {
    host(SIGNER, Seconds::new(60))
}

fn keys(of: &[u8]) -> ProofKey {
    let key = TransportKey::from_secret(SecretBytes::from(&sha256(of)[..])).unwrap();
    ProofKey::of_transport_key(&key).unwrap()
}

fn digest(of: &[u8]) -> ProtectorDigest {
    ProtectorDigest::from_bytes(sha256(of))
}

fn vm() -> OfferedVm {
    OfferedVm {
        description: "name = \"web1\"".to_owned(),
        protector: b"<protector/>".to_vec(),
        digest: digest(b"<protector/>"),
        protection: b"sealed".to_vec(),
        migration_key: None,
        carrier: Carrier::Libvirt {},
    }
}

/// The destination's first steps.
async fn arrive(
    listener: &TcpListener,
    credentials: &Credentials,
) -> Result<IncomingOffer, AgentFailure> {
    let (stream, _) = listener.accept().await.unwrap();
    let authority = Arc::new(Authority::new().unwrap());
    match Arrival::receive(stream, authority).await? {
        (arrival, Opening::Offer(greeting)) => arrival.offer(&greeting, credentials).await,
        (_, other) => panic!("{other:?}"),
    }
}

/// What both ends come to.
async fn pair(
    source: Credentials,
    source_keys: &'static [u8],
    destination: Credentials,
    (destination_keys, protector): (&'static [u8], &'static [u8]),
) -> (Result<Paired, AgentFailure>, Result<Paired, AgentFailure>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = async {
        let incoming = arrive(&listener, &destination).await?;
        assert_eq!(incoming.unverified().description, vm().description);
        assert_eq!(incoming.unverified().protector.0, vm().protector);
        incoming
            .accept(&keys(destination_keys), digest(protector))
            .await
    };
    let offering = async {
        let stream = TcpStream::connect(address).await.unwrap();
        offer(stream, &source, &vm(), &keys(source_keys)).await
    };
    tokio::join!(offering, accepting)
}

fn failure(outcome: Result<Paired, AgentFailure>) -> AgentFailure {
    match outcome {
        Ok(_) => panic!("they are paired"),
        Err(failure) => failure,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_with_the_same_release_are_paired_and_go_on_speaking() {
    let outcome = pair(healthy(), b"key", healthy(), (b"key", b"<protector/>")).await;
    let (mut source, mut destination) = (outcome.0.unwrap(), outcome.1.unwrap());
    assert_eq!(&source.peer_authority, destination.authority.certificate());
    assert_eq!(&destination.peer_authority, source.authority.certificate());
    assert_eq!(source.peer.statement().host_id, HostId::from_bytes([7; 16]));
    source.channel.send_octets(&[7; PIECE]).await.unwrap();
    let received = destination.channel.receive_octets(PIECE).await.unwrap();
    assert_eq!(received, vec![7; PIECE]);
    // Its length is refused before memory is taken for it.
    source.channel.send_octets(&[7; PIECE]).await.unwrap();
    let error = destination.channel.receive_octets(PIECE - 1).await;
    assert!(error.unwrap_err().to_string().contains("at most"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_without_the_key_or_with_that_of_another_protector_is_refused() {
    for (keys, protector) in [
        (b"another", b"<protector/>" as &[u8]),
        (b"another", b"<another/>"),
    ] {
        let outcome = pair(healthy(), b"another key", healthy(), (keys, protector)).await;
        let refused = failure(outcome.1);
        assert!(refused.refused, "{refused}");
        assert!(refused.message.contains("does not prove"), "{refused}");
        let told = failure(outcome.0);
        assert!(told.message.starts_with("the other host says:"), "{told}");
    }
    // The same key under another protector is not it, either.
    let outcome = pair(healthy(), b"key", healthy(), (b"key", b"<another/>")).await;
    failure(outcome.1);
    failure(outcome.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_without_a_valid_certificate_of_a_known_signer_get_no_further() {
    let stranger = || host(STRANGER, Seconds::new(60));
    let late = || host(SIGNER, Seconds::from_hours(9));
    for unattested in [stranger, late] {
        let release = (b"key" as &[u8], b"<protector/>" as &[u8]);
        // The destination is not shown what is offered.
        let outcome = pair(healthy(), b"key", unattested(), release).await;
        let refused = failure(outcome.0);
        assert!(
            refused.message.contains("no valid health certificate"),
            "{refused}"
        );
        assert_eq!(refused.at_fault, Some(Fault::Host));
        failure(outcome.1);
        let outcome = pair(unattested(), b"key", healthy(), release).await;
        let refused = failure(outcome.1);
        assert!(
            refused.message.contains("no valid health certificate"),
            "{refused}"
        );
        let told = failure(outcome.0);
        assert!(told.message.starts_with("the other host says:"), "{told}");
    }
}

/// A destination that has no release, and sends back what it was sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_is_sent_back_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = async {
        let mut incoming = arrive(&listener, &healthy()).await.unwrap();
        let proof = incoming.offer.proof.clone();
        let sent = incoming
            .channel
            .send(&Answer::Done(Acceptance { proof }))
            .await;
        sent.unwrap();
        let refused: Answer<()> = incoming.channel.receive(LIMIT).await.unwrap();
        answered(refused).unwrap_err()
    };
    let offering = async {
        let stream = TcpStream::connect(address).await.unwrap();
        offer(stream, &healthy(), &vm(), &keys(b"key")).await
    };
    let (refused, told) = tokio::join!(offering, accepting);
    assert!(failure(refused).message.contains("does not prove"));
    assert!(told.message.contains("does not prove"), "{told}");
}

/// Somebody between the two hosts, with a key of his own to each: he passes everything on, and both see other certificates.
#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_is_passed_on_from_another_connection_is_refused() {
    let between = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = (
        between.local_addr().unwrap(),
        listener.local_addr().unwrap(),
    );
    let destination = async {
        let incoming = arrive(&listener, &healthy()).await.unwrap();
        incoming
            .accept(&keys(b"key"), digest(b"<protector/>"))
            .await
    };
    let attacker = async {
        let incoming = arrive(&between, &healthy()).await.unwrap();
        let stream = TcpStream::connect(addresses.1).await.unwrap();
        let authority = Authority::new().unwrap();
        let (mut channel, _) = Channel::connect(stream, &authority).await.unwrap();
        channel
            .send(&Opening::Offer(healthy().greeting()))
            .await
            .unwrap();
        let _: Answer<Greeting> = channel.receive(LIMIT).await.unwrap();
        channel.send(&Answer::Done(&incoming.offer)).await.unwrap();
        let told: Answer<Acceptance> = channel.receive(LIMIT).await.unwrap();
        answered(told).unwrap_err()
    };
    let source = async {
        let stream = TcpStream::connect(addresses.0).await.unwrap();
        offer(stream, &healthy(), &vm(), &keys(b"key")).await
    };
    let (refused, told, source) = tokio::join!(destination, attacker, source);
    assert!(failure(refused).message.contains("does not prove"));
    assert!(told.message.contains("does not prove"), "{told}");
    failure(source);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_and_what_is_no_message_are_refused_by_name() {
    let greeting = Greeting {
        version: 2,
        ..healthy().greeting()
    };
    let error = healthy().check(&greeting).unwrap_err();
    assert!(error.message.contains("version 2"), "{error}");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let speaking = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let authority = Authority::new().unwrap();
        let (mut channel, _) = Channel::connect(stream, &authority).await.unwrap();
        channel.send_octets(b"GET / HTTP/1.1").await.unwrap();
    };
    let accepting = async { arrive(&listener, &healthy()).await.map(drop) };
    let (refused, ()) = tokio::join!(accepting, speaking);
    let refused = refused.unwrap_err();
    assert!(refused.message.contains("not understood"), "{refused}");
}
