//! A host of ours and one that knows [MS-HGSA] only, before a guardian that runs: what a captured request is worth.

mod common;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use common::Home;
use common::machine::Machine;
use common::served::{Served, configure};
use hgs_attest::client::{self, SignedRequest};
use hgs_attest::freshness::NONCE_HEADER;
use hgs_attest::wire::SessionId;
use hgs_client::configuration::{Configuration, Endpoints, Services};
use hgs_client::service::Sides;
use hgs_client::{Folders, GuardedHost};
use hgs_cluster::folder::ClusterFolder;
use hgs_crypto::rsa::PrivateKey;
use hgs_crypto::{SecretBytes, base64};
use hgs_pki::health::HealthKind;
use hgs_testkit::etcd::Etcd;

/// A host's key in `NAME.key`, registered under that name.
fn registered(home: &Home, name: &str) -> PrivateKey {
    home.make_host_key(name);
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

/// How long octets take to a node that is slow to hear of anything, each way.
const SLOW: Duration = Duration::from_millis(400);

/// A wire to `to`, on which octets take a while. Its address.
fn slow_wire(to: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for near in listener.incoming() {
            let (near, far) = (near.unwrap(), TcpStream::connect(&to).unwrap());
            let both = [&near, &far].map(|stream| stream.try_clone().unwrap());
            let [other_near, other_far] = both;
            thread::spawn(move || carry(near, far));
            thread::spawn(move || carry(other_far, other_near));
        }
    });
    address
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    let (sender, pieces) = channel::<(Instant, Vec<u8>)>();
    let writing = thread::spawn(move || {
        for (sent, octets) in pieces {
            while let Some(left) = (sent + SLOW).checked_duration_since(Instant::now()) {
                thread::park_timeout(left);
            }
            if to.write_all(&octets).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
    let mut buffer = vec![0; 65536];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if sender
            .send((Instant::now(), buffer[..read].to_vec()))
            .is_err()
        {
            break;
        }
    }
    drop(sender);
    let _ = writing.join();
}

/// A host asks one node right after an administrator was answered by another one, and before anything can tell the first node of it.
#[test]
fn a_node_asks_what_others_have_recorded_before_it_refuses_a_host_or_answers_it_as_a_moment_ago() {
    let etcd = Etcd::new(1);
    let [first, second] = ["n1", "n2"].map(Machine::new);
    first
        .init(&format!(" --etcd http://{}", etcd.address(0)))
        .done();
    let _served_first = Served::start_with(&first.home, "hgs.toml");
    second.join(&first.invitation()).done();
    let folder = ClusterFolder::of_state(&second.home.file("guardian"));
    let mut facts = folder.facts().unwrap().unwrap();
    let wire = slow_wire(etcd.address(0));
    facts.etcd.as_mut().unwrap().place.urls = vec![format!("http://{wire}").parse().unwrap()];
    folder.keep_facts(&facts).unwrap();
    let served = Served::start_with(&second.home, "hgs.toml");

    let new_key = || PrivateKey::generate(2048).unwrap();
    let host_key = registered(&first.home, "host-1");
    let request = plain_request(&host_key, &new_key());
    let asked = Instant::now();
    let (status, answer) = post(&served, &request);
    println!("over the slow wire it took {:?}", asked.elapsed());
    assert_eq!(status, 200, "{answer}");
    // What nobody knows is refused, as before.
    let (status, _) = post(&served, &plain_request(&new_key(), &new_key()));
    assert_eq!(status, 403);
    // What it has certified a moment ago it hands out again, but not once the host was revoked.
    assert_eq!(post(&served, &request).0, 200);
    let of_new_key = plain_request(&host_key, &new_key());
    first.hgs("host revoke host-1 --reason stolen --yes").done();
    let (status, answer) = post(&served, &request);
    assert_eq!(status, 403, "{answer}");
    assert!(answer.contains("host-revoked"), "{answer}");
    let (status, answer) = post(&served, &of_new_key);
    assert_eq!(status, 403, "{answer}");
    // What is asked of all hosts from now on is asked of the next one.
    let host_key = registered(&first.home, "host-2");
    assert_eq!(post(&served, &plain_request(&host_key, &new_key())).0, 200);
    let of_new_key = plain_request(&host_key, &new_key());
    first.hgs("server set --attestation-mode tpm --yes").done();
    let (status, answer) = post(&served, &of_new_key);
    assert_ne!(status, 200, "{answer}");
}
