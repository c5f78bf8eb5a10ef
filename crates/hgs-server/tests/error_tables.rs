//! The error tables of the protocol profile, sections 6 and 7, over HTTP: status, code and form of each row that a request
//! can bring about. What a request can't is named at the end.

mod guardian;

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use guardian::{
    ATTEST, Answer, Host, METADATA, SIGNING_CERTIFICATES, Site, ask, pending, protector_for,
    roll_path,
};
use hgs_admin::Administration as _;
use hgs_crypto::random::System;
use hgs_custody::{KeyReference, SoftwareKey};
use hgs_kps::CertificateKind;
use hgs_kps::Lineage;
use hgs_kps::ServiceVersion::V2;
use hgs_pki::health::HealthKind;
use hgs_pki::{Certificate, profile};
use hgs_store::{Act, CertificateRecord, Opening, Settings, Store, Transaction, master_key_file};
use hgs_testkit::fixtures::{
    Guardian as Fixture, key_octets, now, private_key, self_signed, ten_years,
};

/// A request for keys with one thing changed.
fn changed(request: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = std::str::from_utf8(request).unwrap();
    assert!(text.contains(from), "{from} is in the request");
    text.replacen(from, to, 1).into_bytes()
}

fn expect(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.key_protection_code(), code);
    assert_eq!(answer.status, status, "{code}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/xml; charset=utf-8")
    );
    let retried = answer.header("retry-after").is_some();
    assert_eq!(retried, status == 503, "Retry-After of {code}");
}

fn expect_reply(answer: &Answer, status: u16, code: &str, reply: &str, retryable: bool) {
    assert_eq!(answer.attestation_code(), code);
    assert_eq!(answer.status, status, "{code}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/json; charset=utf-8")
    );
    let start = format!(
        "{{\"__type\":\"{reply}:#Microsoft.Windows.RemoteAttestation.Core\",\"Retryable\":{retryable},"
    );
    assert!(answer.text().starts_with(&start), "{}", answer.text());
}

#[tokio::test]
async fn requests_and_protectors_that_kps_refuses() {
    let site = Site::start().await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let certificate = host.healthy(&site).await;
    let (ingress, _) = site.protector().await;
    let request = pending(&ingress, &certificate, V2).request();
    let roll = roll_path(V2);

    let malformed: Vec<&[u8]> = vec![
        b"",
        b"<",
        b"{}",
        b"<Error/>",
        &request[..request.len() - 1],
        b"\xff\xfe",
    ];
    for body in malformed {
        expect(
            &site.post(&roll, body).await,
            400,
            "InvalidRequestException",
        );
    }
    let trailing = [&request[..], b"<!-- -->"].concat();
    expect(
        &site.post(&roll, &trailing).await,
        400,
        "InvalidRequestException",
    );
    let algorithm = changed(&request, "xmlenc11#rsa-oaep<", "xmlenc#rsa-1_5<");
    expect(
        &site.post(&roll, &algorithm).await,
        400,
        "UnsupportedAlgorithmException",
    );

    let forged = self_signed(profile::host_key("node-1", ten_years()), &host.identity);
    expect(
        &ask(&site, &ingress, &forged, V2).await,
        403,
        "HealthCertificateException",
    );

    let (foreign, _) = protector_for(vec![Fixture::named("stranger").certificates.clone()]);
    expect(
        &ask(&site, &foreign, &certificate, V2).await,
        403,
        "WrappingNotFoundException",
    );

    let octets = hgs_crypto::base64::encode(ingress.octets());
    let no_protector = changed(&request, &octets, "PFByb3RlY3Rvci8+");
    expect(
        &site.post(&roll, &no_protector).await,
        400,
        "InvalidProtectorException",
    );
    let text = std::str::from_utf8(ingress.octets()).unwrap();
    let with_octets = |document: String| {
        changed(
            &request,
            &octets,
            &hgs_crypto::base64::encode(document.as_bytes()),
        )
    };
    let orphan = with_octets(text.replacen("ParentWrappingId=\"1\"", "ParentWrappingId=\"7\"", 1));
    expect(
        &site.post(&roll, &orphan).await,
        400,
        "InvalidWrappingException",
    );

    let deep = format!("{}{}", "<a>".repeat(65), "</a>".repeat(65));
    expect(
        &site.post(&roll, deep.as_bytes()).await,
        413,
        "LimitExceededException",
    );
    let large = vec![b' '; 512 * 1024 + 1];
    expect(
        &site.post(&roll, &large).await,
        413,
        "LimitExceededException",
    );

    for path in [
        "/KeyProtection",
        "/keyprotection/service/v3.0/rolltransportkey",
        "/KeyProtection/%2e",
    ] {
        expect(&site.post(path, &request).await, 404, "NotFoundException");
    }
    let got = site.get(&roll).await;
    expect(&got, 405, "MethodNotAllowedException");
    assert_eq!(got.header("allow"), Some("POST"));
    let put = guardian::exchange(site.http(), "PUT", METADATA, b"").await;
    expect(&put, 405, "MethodNotAllowedException");
    assert_eq!(put.header("allow"), Some("GET, HEAD, POST"));

    site.revoke("node-1").await;
    expect(
        &site.post(&roll, &request).await,
        403,
        "HostRevokedException",
    );
    assert_eq!(site.metric("hgs_http_panics_total{listener=\"http\"}"), 0.0);
}

#[tokio::test]
async fn a_protector_that_nothing_opens_has_one_error_for_all_causes() {
    use hgs_testkit::fixtures::Forge;
    let site = Site::start().await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let certificate = host.healthy(&site).await;
    let (ingress, _) = site.protector().await;
    let request = pending(&ingress, &certificate, V2).request();
    let octets = hgs_crypto::base64::encode(ingress.octets());
    let (owner, fabric) = (Fixture::named("owner"), Fixture::named("fabric"));
    let mut bodies = Vec::new();
    // A ciphertext for somebody else, a key of another length, and a MAC under another key.
    let mut forge = Forge::new(owner, &[fabric], key_octets(7));
    forge.wrappings[1].encrypted_data =
        hgs_testkit::fixtures::encrypted_data(owner.encryption.public_key(), &key_octets(7));
    bodies.push(forge.seal(owner));
    let mut forge = Forge::new(owner, &[fabric], key_octets(7));
    forge.wrappings[1].encrypted_data =
        hgs_testkit::fixtures::encrypted_data(fabric.encryption.public_key(), &[7; 31]);
    bodies.push(forge.seal(owner));
    let mut forge = Forge::new(owner, &[fabric], key_octets(7));
    forge.key = key_octets(8).to_vec();
    bodies.push(forge.seal(owner));
    let mut answers = BTreeSet::new();
    for document in bodies {
        let body = changed(
            &request,
            &octets,
            &hgs_crypto::base64::encode(document.as_bytes()),
        );
        let answer = site.post(&roll_path(V2), &body).await;
        expect(&answer, 400, "InvalidProtectorException");
        answers.insert(answer.text());
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[tokio::test]
async fn attestation_requests_that_are_refused() {
    let site = Site::start().await;
    let host = Host::numbered(0);
    let request = host.request(HealthKind::Encryption);
    let text = std::str::from_utf8(request.body()).unwrap().to_owned();
    let post = async |body: &str| site.post(ATTEST, body.as_bytes()).await;

    let payload = "PayloadErrorReply";
    for body in ["", "[]", "{", "{\"SessionId\":1}", "{\"a\":1,\"a\":1}"] {
        expect_reply(&post(body).await, 400, "malformed-request", payload, false);
    }
    let doubled = text.replacen(
        "\"RequestedContent\"",
        "\"RequestedContent\":[1],\"RequestedContent\"",
        1,
    );
    expect_reply(
        &post(&doubled).await,
        400,
        "malformed-request",
        payload,
        false,
    );
    let without = text.replacen("\"m_Item1\":9", "\"m_Item1\":10", 1);
    expect_reply(
        &post(&without).await,
        400,
        "missing-content",
        payload,
        false,
    );
    let two = text.replacen("\"RequestedContent\":[1]", "\"RequestedContent\":[1,2]", 1);
    expect_reply(&post(&two).await, 400, "requested-content", payload, false);
    let authority = text.replacen("\"RequestedContent\":[1]", "\"RequestedContent\":[3]", 1);
    expect_reply(
        &post(&authority).await,
        400,
        "ca-intermediate-not-offered",
        payload,
        false,
    );

    let unauthorized = "UnauthorizedErrorReply";
    expect_reply(
        &post(&text).await,
        403,
        "host-not-registered",
        unauthorized,
        false,
    );
    site.register(&host, "node-1").await;
    let other = Host::numbered(1).request(HealthKind::Encryption);
    let signature = |body: &[u8]| {
        let json: serde_json::Value = serde_json::from_slice(body).unwrap();
        let contents = json["ProvidedContent"].as_array().unwrap().clone();
        let content = contents
            .into_iter()
            .find(|content| content["m_Item1"] == 9)
            .unwrap();
        content["m_Item2"].as_str().unwrap().to_owned()
    };
    let swapped = text.replace(&signature(request.body()), &signature(other.body()));
    expect_reply(
        &post(&swapped).await,
        403,
        "host-key-signature",
        unauthorized,
        false,
    );
    let own_key = host.request_for(HealthKind::Encryption, &host.host_key);
    let answer = site.post(ATTEST, own_key.body()).await;
    expect_reply(
        &answer,
        400,
        "identity-key-invalid",
        "VirtualSecureModeErrorReply",
        false,
    );

    assert_eq!(post(&text).await.status, 200);
    let of_other_kind = host.request_for(HealthKind::Signing, &host.identity);
    let answer = site.post(ATTEST, of_other_kind.body()).await;
    expect_reply(
        &answer,
        403,
        "identity-key-of-other-kind",
        unauthorized,
        false,
    );
    site.clock.advance(hgs_pki::Seconds::from_days(31));
    expect_reply(
        &post(&text).await,
        403,
        "identity-key-expired",
        unauthorized,
        false,
    );
    let newer = host.request_for(HealthKind::Encryption, &Host::numbered(1).identity);
    assert_eq!(site.post(ATTEST, newer.body()).await.status, 200);
    expect_reply(
        &post(&text).await,
        403,
        "identity-key-superseded",
        unauthorized,
        false,
    );
    site.revoke("node-1").await;
    expect_reply(&post(&text).await, 403, "host-revoked", unauthorized, false);

    let error = "ErrorReply";
    let large = " ".repeat(512 * 1024 + 1);
    expect_reply(&post(&large).await, 413, "too-large", error, false);
    let deep = format!("{}{}", "[".repeat(17), "]".repeat(17));
    expect_reply(&post(&deep).await, 413, "too-large", error, false);
    for path in [
        "/Attestation",
        "/attestation/v1.0/hostkeyattest",
        "/Attestation/v2.0/..",
        "/Attestation//getinfo",
    ] {
        expect_reply(&site.get(path).await, 404, "not-found", error, false);
    }
    let got = site.get(ATTEST).await;
    expect_reply(&got, 405, "method-not-allowed", error, false);
    assert_eq!(got.header("allow"), Some("POST"));
    let posted = site.post(SIGNING_CERTIFICATES, b"").await;
    expect_reply(&posted, 405, "method-not-allowed", error, false);
    assert_eq!(posted.header("allow"), Some("GET, HEAD"));
    for path in [
        "v1.0/attest",
        "v2.0/attest",
        "v1.0/domainattest",
        "v2.0/domainattest",
    ] {
        for root in ["/Attestation", "/attestation/attestationservice.svc"] {
            for body in [text.as_str(), "", "not JSON"] {
                let answer = site.post(&format!("{root}/{path}/"), body.as_bytes()).await;
                expect_reply(
                    &answer,
                    400,
                    "operation-mode",
                    "OperationModeErrorReply",
                    true,
                );
                assert!(answer.text().contains("\"ExpectedOperationMode\":3"));
            }
        }
    }
}

#[tokio::test]
async fn elsewhere_errors_are_a_line_of_text() {
    let site = Site::start().await;
    for path in ["/", "/favicon.ico", "/KeyProtections/service", "/v1/status"] {
        let answer = site.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
    }
}

#[tokio::test]
async fn slow_senders_and_overload_are_answered_in_the_form_of_the_path() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let site = Site::start_with("limits.body_time = \"50ms\"\nlimits.body_memory = \"1KiB\"").await;
    let slow = async |path: &str| {
        let mut stream = tokio::net::TcpStream::connect(site.http()).await.unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nHost: hgs\r\nContent-Length: 100\r\n\r\n<");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut octets = Vec::new();
        stream.read_to_end(&mut octets).await.unwrap();
        Answer::parse(&octets)
    };
    expect(&slow(&roll_path(V2)).await, 408, "RequestTimeoutException");
    expect_reply(&slow(ATTEST).await, 408, "timeout", "ErrorReply", true);
    let more_than_there_is_room_for = vec![b' '; 2048];
    let busy = site
        .post(&roll_path(V2), &more_than_there_is_room_for)
        .await;
    expect(&busy, 503, "ServerBusyException");
    let busy = site.post(ATTEST, &more_than_there_is_room_for).await;
    expect_reply(&busy, 503, "unavailable", "UnavailableErrorReply", true);
    assert!(busy.header("retry-after").is_some());
}

/// Another process that holds the database, so that nothing can be written.
struct Holder(Child);

impl Holder {
    fn of(site: &Site) -> Self {
        use std::io::{BufRead as _, BufReader};
        const HOLD: &str = "import sqlite3, sys\n\
            database = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
            database.execute('BEGIN IMMEDIATE')\n\
            print('held', flush=True)\n\
            sys.stdin.read()\n";
        let database = site.folder.path().join("state/state.db");
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", HOLD])
            .arg(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test needs /usr/bin/python3: install the Debian package python3");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "held\n");
        Self(child)
    }

    fn let_go(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_released_that_can_not_be_recorded() {
    let site = Arc::new(Site::start().await);
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let certificate = host.healthy(&site).await;
    let (ingress, _) = site.protector().await;
    let before = site.recorded("release").await.len();
    // Within a minute the attestation would be answered with what is on record already.
    site.clock.advance(hgs_pki::Seconds::from_minutes(1));
    let holder = Holder::of(&site);
    let asked = {
        let (site, ingress, certificate) = (site.clone(), ingress.clone(), certificate.clone());
        tokio::spawn(async move { ask(&site, &ingress, &certificate, V2).await })
    };
    let attested = {
        let (site, request) = (site.clone(), host.request(HealthKind::Encryption));
        tokio::spawn(async move { site.post(ATTEST, request.body()).await })
    };
    let monitoring = site.running().addresses().metrics.unwrap();
    let ready = guardian::exchange(monitoring, "GET", "/health/ready", b"");
    let (asked, attested, ready) = tokio::join!(asked, attested, ready);
    expect(&asked.unwrap(), 503, "StateUnavailableException");
    let attested = attested.unwrap();
    expect_reply(&attested, 503, "unavailable", "UnavailableErrorReply", true);
    assert_eq!(ready.status, 503);
    holder.let_go();
    assert_eq!(site.recorded("release").await.len(), before);
    host.power_on(&site, &ingress, &certificate, V2).await;
}

fn record(kind: CertificateKind, certificate: &Certificate, head: bool) -> CertificateRecord {
    CertificateRecord {
        kind,
        certificate: certificate.clone(),
        key: KeyReference::Sealed,
        lineage: Lineage::Fabric,
        enabled: true,
        head,
        compromised: None,
        retired: None,
        label: None,
        sha1_only: false,
        added: now(),
    }
}

fn sealed(key: &hgs_crypto::rsa::PrivateKey) -> Option<Arc<SoftwareKey>> {
    Some(Arc::new(
        SoftwareKey::from_pkcs8_der(key.pkcs8_der()).unwrap(),
    ))
}

/// A site with these certificates of guardians, and a communications certificate.
async fn site_with(certificates: Vec<Transaction>) -> Site {
    let mut site = Site::empty("");
    let state = site.folder.path().join("state");
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
        .create(&state)
        .unwrap();
    let master_key =
        master_key_file::create(&state.join("master.key"), &mut System::new()).unwrap();
    let communications_key = private_key(17);
    let communications = profile::communications(&["hgs"], ten_years()).unwrap();
    let communications = self_signed(communications, &communications_key);
    let mut transactions = certificates;
    transactions.push(Transaction::AddCertificate {
        record: record(CertificateKind::Communications, &communications, true),
        key: sealed(&communications_key),
    });
    let opening = Opening {
        directory: &state,
        master_key: &master_key,
        node: "test",
        high_water_mark: hgs_store::high_water_mark::default_path(&state),
        random: Box::new(System::new()),
        order: None,
    };
    let act = Act::new(now(), "test");
    let settings = Settings::new("openhgs".parse().unwrap());
    drop(Store::create(opening, settings, transactions, act).unwrap());
    site.restart().await;
    site
}

fn fabric(kind: CertificateKind) -> Transaction {
    let fabric = Fixture::named("fabric");
    let (certificate, key) = match kind {
        CertificateKind::Signing => (&fabric.signing, &fabric.signing_key),
        _ => (&fabric.encryption, &fabric.encryption_key),
    };
    Transaction::AddCertificate {
        record: record(kind, certificate, true),
        key: sealed(key),
    }
}

#[tokio::test]
async fn metadata_without_a_primary_certificate_says_which_is_missing() {
    for (certificates, missing) in [
        (vec![], "Encryption"),
        (vec![fabric(CertificateKind::Signing)], "Encryption"),
        (vec![fabric(CertificateKind::Encryption)], "Signing"),
    ] {
        let site = site_with(certificates).await;
        let answer = site.get(METADATA).await;
        expect(&answer, 500, "MetadataException");
        let message = format!("<Message>Primary {missing} Certificate not found</Message>");
        assert!(answer.text().contains(&message), "{}", answer.text());
        let monitoring = site.running().addresses().metrics.unwrap();
        let ready = guardian::exchange(monitoring, "GET", "/health/ready", b"").await;
        assert_eq!(ready.status, 503, "{}", ready.text());
    }
}

#[tokio::test]
async fn a_key_that_is_away_is_an_outage_and_no_fault_of_the_host() {
    let elsewhere = |kind| match fabric(kind) {
        Transaction::AddCertificate { record, .. } => Transaction::AddCertificate {
            record: CertificateRecord {
                key: "pkcs11:token=hgs;object=key".parse().unwrap(),
                ..record
            },
            key: None,
        },
        other => other,
    };
    for (signing, encryption) in [
        (
            elsewhere(CertificateKind::Signing),
            fabric(CertificateKind::Encryption),
        ),
        (
            fabric(CertificateKind::Signing),
            elsewhere(CertificateKind::Encryption),
        ),
    ] {
        let site = site_with(vec![signing, encryption]).await;
        let host = Host::numbered(0);
        site.register(&host, "node-1").await;
        let certificate = host.healthy(&site).await;
        let (ingress, _) = protector_for(vec![Fixture::named("fabric").certificates.clone()]);
        let answer = ask(&site, &ingress, &certificate, V2).await;
        expect(&answer, 503, "KeyStoreUnavailableException");
        assert!(
            !answer.text().contains("pkcs11"),
            "where the key lives is nobody's business"
        );
        let status = site.admin(|client| client.status()).await;
        let codes: Vec<_> = status
            .unwrap()
            .warnings
            .into_iter()
            .map(|warning| warning.code)
            .collect();
        assert_eq!(codes, ["key-not-usable"]);
    }
}

#[tokio::test]
async fn what_a_compromised_guardian_signed_is_refused_unless_it_was_seen_before() {
    use hgs_testkit::fixtures::Forge;
    // The old pair is compromised since before this service saw anything; the new one is the head.
    let (old, new) = (Fixture::named("fabric"), Fixture::named("fabric-next"));
    let compromised = |kind, certificate: &Certificate, key| Transaction::AddCertificate {
        record: CertificateRecord {
            compromised: Some(now()),
            ..record(kind, certificate, false)
        },
        key: sealed(key),
    };
    let head = |kind, certificate: &Certificate, key| Transaction::AddCertificate {
        record: record(kind, certificate, true),
        key: sealed(key),
    };
    let site = site_with(vec![
        head(CertificateKind::Signing, &new.signing, &new.signing_key),
        head(
            CertificateKind::Encryption,
            &new.encryption,
            &new.encryption_key,
        ),
        compromised(CertificateKind::Signing, &old.signing, &old.signing_key),
        compromised(
            CertificateKind::Encryption,
            &old.encryption,
            &old.encryption_key,
        ),
    ])
    .await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let certificate = host.healthy(&site).await;
    let owner = Fixture::named("owner");
    let mut forge = Forge::new(owner, &[old], key_octets(7));
    forge.guardian = "2".to_owned();
    let document = forge.seal(old);
    let request = pending(&site.protector().await.0, &certificate, V2).request();
    let protector = request_octets(&request);
    let body = changed(
        &request,
        &protector,
        &hgs_crypto::base64::encode(document.as_bytes()),
    );
    let answer = site.post(&roll_path(V2), &body).await;
    expect(&answer, 403, "CompromisedGuardianException");

    // Signed by the owner, it is opened by the compromised pair for the last time, and handed to the head.
    let (ingress, key) = protector_for(vec![old.certificates.clone()]);
    let released = host.power_on(&site, &ingress, &certificate, V2).await;
    assert_eq!(released.ingress_key, key);
    let guardians = released.egress.wrappings();
    assert!(
        guardians
            .iter()
            .any(|one| one.is_for(&new.signing, &new.encryption))
    );
    host.power_on(&site, &released.egress, &certificate, V2)
        .await;
}

/// The Base64 of the protector in a request.
fn request_octets(request: &[u8]) -> String {
    let text = std::str::from_utf8(request).unwrap();
    let (_, rest) = text.split_once("<IngressProtector>").unwrap();
    rest.split_once("</IngressProtector>").unwrap().0.to_owned()
}

/// Rows that no request brings about: `InternalException` and `internal` are what a panic is answered with, which
/// `protocol/family.rs` and the engine's tests show; `too-many-identity-keys` takes 4,096 attestations and
/// `too-many-new-identity-keys` 25 keys, which `hgs-attest` has, as it has those of TPM mode; `ProtectorSupersededException` is in
/// `main_job.rs`.
#[test]
fn every_row_has_a_test() {
    let named = include_str!("error_tables.rs").to_owned() + include_str!("main_job.rs");
    let elsewhere = ["InternalException"];
    for code in hgs_kps::Code::ALL {
        let name = code.name();
        assert!(
            named.contains(&format!("\"{name}\"")) || elsewhere.contains(&name),
            "{name}"
        );
    }
    let elsewhere = [
        "internal",
        "too-many-identity-keys",
        "too-many-new-identity-keys",
    ];
    let named = named
        + include_str!("../../hgs-attest/tests/rtpm_refusals.rs")
        + include_str!("../../hgs-attest/tests/rtpm_next_boot.rs");
    for code in hgs_attest::Code::ALL {
        let name = code.name();
        assert!(
            named.contains(&format!("\"{name}\"")) || elsewhere.contains(&name),
            "{name}"
        );
    }
}
