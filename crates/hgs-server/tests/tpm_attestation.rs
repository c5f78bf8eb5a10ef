//! Attestation by TPM over HTTP, with a TPM in software: requests with logs, and those of strangers.

mod guardian;

use guardian::Site;
use hgs_admin::{Administration as _, types};
use hgs_attest::client::rtpm::{Measurements, RtpmExchange, Step};
use hgs_attest::platform_identity::{PlatformIdentity, SmbiosIdentifiers};
use hgs_attest::wire::SessionId;
use hgs_pki::health::HealthKind;
use hgs_tcg::tpm::{Command, EndorsementKey, Primary, created_primary, flush_context};
use hgs_testkit::swtpm::SoftwareTpm;

const PATH: &str = "/Attestation/v2.0/attest";

fn endorsement_key(tpm: &mut SoftwareTpm) -> EndorsementKey {
    let command = Command::CreatePrimary(Primary::EndorsementKey);
    let created = created_primary(&tpm.send(&command.octets())).unwrap();
    tpm.send(&flush_context(created.handle));
    EndorsementKey::parse(created.public.octets()).unwrap()
}

/// The exchange until the server has an answer for good: its status and code, and how long the longest request was.
async fn attest(
    site: &Site,
    tpm: &mut SoftwareTpm,
    key: EndorsementKey,
    measurements: &Measurements,
) -> (u16, String, usize) {
    let session = SessionId([1; 16]);
    let mut exchange = RtpmExchange::start(session, HealthKind::Encryption, key, None);
    let mut body = exchange.body();
    let mut longest = 0;
    let refused = loop {
        longest = longest.max(body.len());
        let answer = site.post(PATH, &body).await;
        match exchange.receive(answer.status, answer.text().as_bytes()) {
            Ok(Step::Execute) => {}
            Ok(Step::Attested(_)) => panic!("there is no baseline"),
            Err(_) => break (answer.status, answer.attestation_code(), longest),
        }
        while let Some(command) = exchange.next_command() {
            let response = tpm.send(&command.octets());
            exchange.executed(response).unwrap();
        }
        body = exchange.answer(measurements);
    };
    for handle in exchange.handles() {
        tpm.send(&flush_context(handle));
    }
    refused
}

#[tokio::test]
async fn a_registered_host_sends_its_logs_and_a_stranger_is_not_read() {
    let site = Site::start().await;
    let mode = types::SetServer {
        attestation_mode: Some("tpm".to_owned()),
        ..types::SetServer::default()
    };
    site.admin(move |client| client.set_server(&mode))
        .await
        .unwrap();
    let mut tpm = SoftwareTpm::new();
    let key = endorsement_key(&mut tpm);
    let identity = PlatformIdentity::new(
        key.public().octets().to_vec(),
        None,
        SmbiosIdentifiers::new(None, None).unwrap(),
    )
    .unwrap();
    let host = types::AddHost {
        name: "node-1".to_owned(),
        identity: Some(String::from_utf8(identity.to_json()).unwrap()),
        without_ek_certificate: true,
        ..types::AddHost::default()
    };
    let strangers = site.get("/Attestation/getinfo").await.text();
    assert!(strangers.contains("\"OperationMode\":1"), "{strangers}");
    let logs = Measurements {
        event_log: vec![0xee; 1024 * 1024],
        ima_log: vec![0; 6 * 1024 * 1024],
        ..Measurements::default()
    };
    let (status, code, _) = attest(&site, &mut tpm, key.clone(), &logs).await;
    assert_eq!((status, &code[..]), (403, "host-not-registered"));
    site.admin(move |client| client.add_host(&host))
        .await
        .unwrap();
    // All of it is read, and judged: it is no log.
    let (status, code, longest) = attest(&site, &mut tpm, key.clone(), &logs).await;
    assert_eq!((status, &code[..]), (403, "event-log-malformed"));
    assert!(longest > 9 * 1024 * 1024);
    let (status, code, _) = attest(&site, &mut tpm, key.clone(), &Measurements::default()).await;
    assert_eq!((status, &code[..]), (403, "no-event-log"));
    assert_eq!(site.recorded("attest").await.len(), 2);
    // A stranger's request of that length is cut off at the length of any other.
    let other = endorsement_key(&mut SoftwareTpm::new());
    let exchange = RtpmExchange::start(SessionId([2; 16]), HealthKind::Encryption, other, None);
    let body = String::from_utf8(exchange.body()).unwrap();
    let context = "A".repeat(600 * 1024);
    let body = body.replace(
        "}]}",
        &format!(r#"}},{{"m_Item1":2,"m_Item2":"{context}"}}]}}"#),
    );
    let answer = site.post(PATH, body.as_bytes()).await;
    assert_eq!(answer.attestation_code(), "too-large");
    // The other modes' paths send a host here.
    for path in [
        "/Attestation/v1.0/domainattest",
        "/Attestation/v2.0/domainattest",
        "/Attestation/v2.0/hostkeyattest",
    ] {
        let answer = site.post(path, b"{}").await;
        assert_eq!(answer.attestation_code(), "operation-mode");
        assert!(answer.text().contains("\"ExpectedOperationMode\":1"));
    }
}
