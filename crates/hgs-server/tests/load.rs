//! Many at once: every release succeeds, is recorded, and shares the disk with others.

mod guardian;

use std::collections::BTreeSet;
use std::sync::Arc;

use guardian::{Answer, Host, Site, ask, exchange, pending, protector_for, roll_path};
use hgs_admin::types::{AuditRecord, Outcome};
use hgs_kps::ServiceVersion::V2;
use hgs_pki::Certificate;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const ROLLS: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_rolls_all_succeed_and_are_all_recorded() {
    let site = Site::start().await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let certificate = host.healthy(&site).await;
    let guardian = site.guardian().await;
    let protectors: Vec<_> = (0..ROLLS)
        .map(|_| protector_for(vec![guardian.clone()]).0)
        .collect();

    let mut asked = JoinSet::new();
    for ingress in &protectors {
        let pending = pending(ingress, &certificate, V2);
        let address = site.http();
        asked.spawn(async move {
            let answer = exchange(address, "POST", &roll_path(V2), &pending.request()).await;
            (pending, answer)
        });
    }
    let mut given = BTreeSet::new();
    for (pending, answer) in asked.join_all().await {
        assert_eq!(answer.status, 200, "{}", answer.text());
        let released = host.receive(&pending, &certificate, &answer.body);
        given.insert(released.egress.digest().to_string());
    }
    assert_eq!(given.len(), ROLLS);
    let records = site.recorded("release").await;
    let recorded: BTreeSet<_> = records
        .iter()
        .filter_map(|record| record.egress_protector.clone())
        .collect();
    assert_eq!(recorded, given);
    assert_eq!(
        site.metric("hgs_releases_total{outcome=\"released\"}"),
        ROLLS as f64
    );
}

/// One host asks over 120 connections, and another, from the same address, comes after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_with_many_connections_does_not_delay_another() {
    let site = Site::start().await;
    let (hostile, honest) = (Host::numbered(0), Host::numbered(1));
    site.register(&hostile, "hostile").await;
    site.register(&honest, "honest").await;
    let guardian = site.guardian().await;
    let request = |certificate: &Certificate| {
        let (ingress, _) = protector_for(vec![guardian.clone()]);
        let body = pending(&ingress, certificate, V2).request();
        let length = body.len();
        let path = roll_path(V2);
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: hgs\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        [head.into_bytes(), body].concat()
    };
    let hostile_request = request(&hostile.healthy(&site).await);
    let honest_request = request(&honest.healthy(&site).await);
    let mut connections = Vec::new();
    for _ in 0..120 {
        connections.push(TcpStream::connect(site.http()).await.unwrap());
    }
    let mut last = TcpStream::connect(site.http()).await.unwrap();
    for connection in &mut connections {
        connection.write_all(&hostile_request).await.unwrap();
    }
    let waiting = loop {
        let in_flight = site.metric("hgs_http_requests_in_flight{listener=\"http\"}");
        let answered =
            "hgs_http_requests_total{listener=\"http\",route=\"roll-v2.0\",status=\"200\"}";
        if in_flight + site.metric(answered) >= 120.0 {
            break in_flight as usize;
        }
        tokio::task::yield_now().await;
    };
    last.write_all(&honest_request).await.unwrap();
    for connection in connections.into_iter().chain([last]) {
        assert_eq!(answer(connection).await.status, 200);
    }
    // The newest first.
    let records = site.recorded("release").await;
    let is_honest = |record: &AuditRecord| record.host_name.as_deref() == Some("honest");
    let later = records.iter().position(is_honest).unwrap();
    assert!(later >= waiting / 2, "{later} of {waiting}");
    assert!(waiting > 20, "the machine is too fast for this test");
}

async fn answer(mut connection: TcpStream) -> Answer {
    let mut octets = Vec::new();
    connection.read_to_end(&mut octets).await.unwrap();
    Answer::parse(&octets)
}

/// One protector, asked for by many at once: each gets keys of its own, and all are siblings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_rolls_of_one_protector_give_different_keys() {
    let site = Arc::new(Site::start().await);
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let certificate = host.healthy(&site).await;
    let (ingress, _) = site.protector().await;
    let mut asked = JoinSet::new();
    for _ in 0..16 {
        let (site, ingress, certificate) = (site.clone(), ingress.clone(), certificate.clone());
        asked.spawn(async move { ask(&site, &ingress, &certificate, V2).await });
    }
    let mut keys = Vec::new();
    for answer in asked.join_all().await {
        assert_eq!(answer.status, 200);
        let pending = pending(&ingress, &certificate, V2);
        keys.push(
            host.receive(&pending, &certificate, &answer.body)
                .egress_key,
        );
    }
    for (place, key) in keys.iter().enumerate() {
        assert!(!keys[place + 1..].contains(key));
    }
}

/// attacks.md K8: a revocation is one step. Releases that are under way while it happens are on record before it, or
/// refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k8_no_release_is_recorded_after_the_revocation_of_its_host() {
    let site = Arc::new(Site::start().await);
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let certificate = host.healthy(&site).await;
    let (ingress, _) = site.protector().await;
    let mut asked = JoinSet::new();
    for _ in 0..32 {
        let (site, ingress, certificate) = (site.clone(), ingress.clone(), certificate.clone());
        asked.spawn(async move { ask(&site, &ingress, &certificate, V2).await });
    }
    site.revoke("node-1").await;
    let answers = asked.join_all().await;
    let released = answers.iter().filter(|answer| answer.status == 200).count();
    for refused in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!(refused.key_protection_code(), "HostRevokedException");
    }
    let revoked = site.recorded("revoke-host").await[0].sequence;
    let releases = site.recorded("release").await;
    let done: Vec<_> = releases
        .iter()
        .filter(|record| record.outcome == Outcome::Done)
        .collect();
    assert_eq!(
        done.len(),
        released,
        "what was answered is what was recorded"
    );
    assert!(done.iter().all(|record| record.sequence < revoked));
    // Refusals that are only counted are recorded when the server stops, at the latest.
    let mut site = Arc::into_inner(site).unwrap();
    site.restart().await;
    let releases = site.recorded("release").await;
    let refused = releases
        .iter()
        .filter(|record| record.outcome == Outcome::Refused)
        .map(|record| record.count.unwrap_or(1));
    assert_eq!(
        usize::try_from(refused.sum::<u64>()).unwrap(),
        answers.len() - released,
        "each refusal has a record of its own or is counted in one"
    );
}
