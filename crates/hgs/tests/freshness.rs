//! A host of ours and one that knows [MS-HGSA] only, before a guardian that runs: what a captured request is worth.

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use common::Home;
use common::served::{Served, configure};
use hgs_attest::client::{self, SignedRequest};
use hgs_attest::freshness::NONCE_HEADER;
use hgs_attest::wire::SessionId;
use hgs_client::configuration::{Configuration, Endpoints, Services};
use hgs_client::service::Sides;
use hgs_client::{Folders, GuardedHost};
use hgs_crypto::rsa::PrivateKey;
use hgs_crypto::{SecretBytes, base64};
use hgs_pki::health::HealthKind;

/// A host's key in `NAME.key`, registered under that name.
fn registered(home: &Home, name: &str) -> PrivateKey {
    home.openssl(&format!(
        "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out {name}.key"
    ));
    home.openssl(&format!("pkey -in {name}.key -pubout -out {name}.pem"));
    home.hgs(&format!(
        "host add {name} --host-key {name}.pem --config hgs.toml"
    ))
    .done();
    let pem = String::from_utf8(home.read(&format!("{name}.key"))).unwrap();
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    PrivateKey::from_pkcs8_der(&SecretBytes::new(base64::decode(&text).unwrap())).unwrap()
}

/// A request as [MS-HGSA] has it, with nothing beside it.
fn plain_request(host_key: &PrivateKey, identity_key: &PrivateKey) -> SignedRequest {
    let prepared = client::prepare(
        SessionId([7; 16]),
        HealthKind::Signing,
        host_key.public(),
        identity_key.public(),
    );
    let signature = host_key.sign(prepared.scheme(), prepared.to_be_signed());
    prepared.assemble(signature.unwrap()).unwrap()
}

/// The status of the answer, and its head.
fn post(served: &Served, request: &SignedRequest) -> (u16, String) {
    let address = served.url();
    let address = address.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST /Attestation/v2.0/hostkeyattest HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        request.body().len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(request.body()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

fn our_host(home: &Home, served: &Served, key: &str) -> GuardedHost {
    let folders = Folders::inside(&home.file("ours"));
    let configuration = Configuration::HostGuardianService(Services {
        primary: Endpoints::below(&served.url()).unwrap(),
        fallback: None,
        certificate_authorities: None,
        dangerous_accept_unsigned_responses: false,
    });
    std::fs::create_dir(home.file("ours")).unwrap();
    configuration.store(&folders.configuration).unwrap();
    hgs_files::private_folder(&folders.state).unwrap();
    home.write_private("ours/state/host-key.pem", home.read(key));
    GuardedHost::open(folders).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_captured_request_ends_with_the_first_nonce_and_other_hosts_go_on_without() {
    let home = Home::new();
    configure(&home);
    home.hgs("init --config hgs.toml --name guardian.example --bits 2048")
        .done();
    let served = Served::start(&home);
    let ours = registered(&home, "ours-1");
    let windows = registered(&home, "windows-1");
    let identity_key = PrivateKey::generate(2048).unwrap();

    let captured = plain_request(&ours, &identity_key);
    assert_eq!(post(&served, &captured).0, 200, "nothing bars it yet");

    let host = our_host(&home, &served, "ours-1.key");
    host.attest(HealthKind::Encryption, Sides::Both)
        .await
        .unwrap();
    let (status, answer) = post(&served, &captured);
    assert_eq!(status, 403, "{answer}");
    assert!(answer.contains("nonce-required"), "{answer}");
    assert!(answer.to_lowercase().contains(NONCE_HEADER), "{answer}");
    // The host itself goes on.
    host.attest(HealthKind::Signing, Sides::Both).await.unwrap();

    let identity_key = PrivateKey::generate(2048).unwrap();
    let plain = plain_request(&windows, &identity_key);
    for _ in 0..2 {
        assert_eq!(post(&served, &plain).0, 200);
    }
}
