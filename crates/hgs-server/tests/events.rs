//! Events: what callers are told of, in which order, and how they go on where they were.

mod guardian;

use std::time::Duration;

use futures_util::StreamExt as _;
use guardian::{ATTEST, Host, Site};
use hgs_admin::types::{
    ArchiveAudit, CertificateKind, CertificateRole, Event, EventQuery, ExpiryStage, Gap, GapReason,
    NewCertificate,
};
use hgs_admin::{
    AdminError, Administration as _, ErrorCode, EventMessage, EventStream, LastEventId,
};
use hgs_clock::Clock as _;
use hgs_pki::Seconds;
use hgs_pki::health::HealthKind;
use tokio::time::timeout;

/// Longer than anything takes: a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_mins(2);

async fn open(
    site: &Site,
    query: EventQuery,
    last: Option<u64>,
) -> Result<EventStream, AdminError> {
    site.admin(move |client| client.events(&query, &LastEventId(last)))
        .await
}

async fn follow(site: &Site, last: Option<u64>) -> EventStream {
    open(site, EventQuery::default(), last).await.unwrap()
}

async fn next(stream: &mut EventStream) -> Option<EventMessage> {
    let message = timeout(PATIENCE, stream.next()).await;
    message.expect("a message in time").map(Result::unwrap)
}

/// The next event and its number.
async fn event(stream: &mut EventStream) -> (Option<u64>, Event) {
    loop {
        match next(stream).await.expect("the stream goes on") {
            EventMessage::Event(id, event) => return (id, event),
            EventMessage::Begin | EventMessage::Heartbeat(_) => {}
        }
    }
}

/// What is told until the client has caught up: the kinds, and the number from which it goes on.
async fn until_caught_up(stream: &mut EventStream) -> (Vec<String>, u64) {
    let mut kinds = Vec::new();
    loop {
        let (id, event) = event(stream).await;
        match (&event, id) {
            (Event::CaughtUp(told), Some(id)) => {
                assert_eq!(told.sequence, id);
                return (kinds, id);
            }
            _ => kinds.push(event.name().to_owned()),
        }
    }
}

/// Asks for a health certificate, which is refused.
async fn is_refused(site: &Site, host: &Host) {
    let request = host.request(HealthKind::Encryption);
    let answer = site.post(ATTEST, request.body()).await;
    assert_ne!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn a_stream_begins_with_how_things_stand_and_goes_on_with_what_happens() {
    let site = Site::start().await;
    let mut stream = follow(&site, None).await;
    assert_eq!(next(&mut stream).await, Some(EventMessage::Begin));
    let (id, readiness) = event(&mut stream).await;
    let Event::Readiness(readiness) = readiness else {
        panic!("{readiness:?}");
    };
    assert!(readiness.ready && id.is_none());
    assert_eq!(readiness.node, site.config.server.name);
    let (told, begun) = until_caught_up(&mut stream).await;
    assert!(told.is_empty(), "{told:?}");

    let host = Host::numbered(0);
    let made = site
        .admin(|client| {
            client.new_certificate(&NewCertificate {
                kind: CertificateKind::Signing,
                subject: None,
                bits: Some(2048),
                key: None,
                new_key: false,
                tenant: None,
                label: None,
                primary: false,
            })
        })
        .await
        .unwrap();
    let (_, made_told) = event(&mut stream).await;
    assert_eq!(made_told.name(), "certificate");
    assert_eq!(
        made_told.record().unwrap().changes,
        [format!("certificate/{}", made.certificate.thumbprint)],
        "neither its key nor the settings, which are written with it"
    );
    let registered = site.register(&host, "node-1").await;
    host.healthy(&site).await;
    site.revoke("node-1").await;
    is_refused(&site, &host).await;
    let (id, added) = event(&mut stream).await;
    let record = added.record().unwrap();
    assert_eq!((added.name(), id), ("host", Some(record.sequence)));
    assert_eq!(record.sequence, begun + 2);
    assert_eq!(record.changes, [format!("host/{}", registered.id)]);
    let (_, revoked) = event(&mut stream).await;
    let record = revoked.record().unwrap();
    assert_eq!(revoked.name(), "revocation");
    assert_eq!(record.host_name.as_deref(), Some("node-1"));
    let (_, refused) = event(&mut stream).await;
    let record = refused.record().unwrap();
    assert_eq!(refused.name(), "refused-attestation");
    assert_eq!(record.host, Some(registered.id));
    assert!(record.reason.as_ref().unwrap().contains("host-revoked"));
}

#[tokio::test]
async fn a_client_that_comes_back_misses_nothing_though_the_server_was_away() {
    let mut site = Site::start().await;
    let mut stream = follow(&site, None).await;
    let (_, begun) = until_caught_up(&mut stream).await;
    site.register(&Host::numbered(0), "node-1").await;
    let (last, _) = event(&mut stream).await;
    assert_eq!(last, Some(begun + 1));
    site.register(&Host::numbered(1), "node-2").await;
    site.restart().await;
    // What came just before the end may still be told.
    while next(&mut stream).await.is_some() {}
    site.register(&Host::numbered(2), "node-3").await;

    let mut stream = follow(&site, last).await;
    let mut names = Vec::new();
    let mut ids = Vec::new();
    loop {
        let (id, event) = event(&mut stream).await;
        match &event {
            Event::CaughtUp(_) => break,
            Event::Gap(gap) => panic!("{gap:?}"),
            _ => {}
        }
        if event.name() == "host" {
            names.push(event.record().unwrap().host_name.clone().unwrap());
            ids.extend(id);
        }
    }
    assert_eq!(names, ["node-2", "node-3"]);
    assert!(ids.is_sorted() && ids[0] == begun + 2, "{ids:?}");

    // The same by a parameter, and of the newest records only.
    for query in [
        EventQuery {
            since: last,
            ..EventQuery::default()
        },
        EventQuery {
            recent: Some(ids[1] - begun - 1),
            ..EventQuery::default()
        },
    ] {
        let query = EventQuery {
            kind: Some("host".parse().unwrap()),
            follow: Some(false),
            ..query
        };
        let mut stream = open(&site, query, None).await.unwrap();
        let (told, _) = until_caught_up(&mut stream).await;
        assert_eq!(told, ["host", "host"]);
        assert_eq!(next(&mut stream).await, None, "it was not to follow");
    }
}

#[tokio::test]
async fn what_is_missing_is_told_as_a_gap() {
    let site = Site::start().await;
    let (_, newest) = until_caught_up(&mut follow(&site, None).await).await;
    let after = newest + 1000;
    let mut stream = follow(&site, Some(after)).await;
    let (_, readiness) = event(&mut stream).await;
    assert_eq!(readiness.name(), "readiness");
    let expected = Gap {
        after,
        sequence: newest,
        reason: GapReason::Unknown,
    };
    assert_eq!(
        event(&mut stream).await,
        (Some(newest), Event::Gap(expected))
    );
    drop(stream);

    site.clock.advance(Seconds::from_days(2));
    let before = site.clock.now().to_string();
    let archived = site
        .admin(move |client| client.archive_records(&ArchiveAudit { before }))
        .await
        .unwrap();
    let sequence = archived[0].last;
    let query = EventQuery {
        since: Some(1),
        follow: Some(false),
        kind: Some("state,host".parse().unwrap()),
        ..EventQuery::default()
    };
    let mut stream = open(&site, query.clone(), None).await.unwrap();
    let expected = Gap {
        after: 1,
        sequence,
        reason: GapReason::Archived,
    };
    assert_eq!(
        event(&mut stream).await,
        (Some(sequence), Event::Gap(expected))
    );
    let (told, newest) = until_caught_up(&mut stream).await;
    assert_eq!(told, ["state"], "the archive itself");
    // Whoever asks for the newest ones has missed nothing.
    let query = EventQuery {
        since: None,
        recent: Some(1000),
        ..query
    };
    let mut stream = open(&site, query, None).await.unwrap();
    assert_eq!(
        until_caught_up(&mut stream).await,
        (vec!["state".to_owned()], newest)
    );
}

#[tokio::test]
async fn certificates_that_end_are_told_when_it_comes_to_it() {
    let site = Site::start().await;
    let query = EventQuery {
        kind: Some("expiry".parse().unwrap()),
        ..EventQuery::default()
    };
    let mut stream = open(&site, query.clone(), None).await.unwrap();
    let (told, _) = until_caught_up(&mut stream).await;
    assert!(told.is_empty(), "{told:?}");
    site.clock.advance(Seconds::from_days(3652 - 20));
    let mut roles = Vec::new();
    while roles.len() < 3 {
        let (id, event) = event(&mut stream).await;
        let Event::Expiry(expiry) = event else {
            panic!("{event:?}");
        };
        assert_eq!(id, None);
        if expiry.usage != CertificateRole::AttestationSigner {
            assert_eq!(expiry.stage, ExpiryStage::ExpiresSoon);
            roles.push(expiry.usage);
        }
    }
    roles.sort_unstable();
    assert_eq!(
        roles,
        [
            CertificateRole::Signing,
            CertificateRole::Encryption,
            CertificateRole::Communications
        ]
    );
}

/// The other limit, of all callers together, has a test of its own.
#[tokio::test]
async fn a_caller_has_two_streams_and_its_place_is_free_when_it_leaves() {
    let site = Site::start().await;
    let streams = [follow(&site, None).await, follow(&site, None).await];
    let refused = open(&site, EventQuery::default(), None).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::TooMany);
    assert!(refused.message.contains("2 event streams"), "{refused}");
    assert_eq!(site.metric("hgs_event_streams"), 2.0);
    drop(streams);
    let freed = async {
        while open(&site, EventQuery::default(), None).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    // Sooner than by a heartbeat.
    timeout(Duration::from_secs(10), freed)
        .await
        .expect("a place is free");
}

#[tokio::test]
async fn a_stop_waits_for_no_stream() {
    let mut site = Site::start_with("limits.drain_time = \"1h\"").await;
    let mut stream = follow(&site, None).await;
    until_caught_up(&mut stream).await;
    let stopped = timeout(PATIENCE, site.stop()).await;
    assert!(stopped.is_ok());
    while next(&mut stream).await.is_some() {}
}

#[tokio::test]
async fn what_is_no_question_about_events_is_refused() {
    let site = Site::start().await;
    for (query, field) in [
        ("?kind=eclipse", None),
        ("?since=x", None),
        ("?limit=3", None),
        ("", Some("Last-Event-ID: x\r\n")),
    ] {
        let answer = admin_exchange(&site, query, field.unwrap_or_default()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.contains("invalid-request"), "{answer}");
    }
    let answer = admin_exchange(&site, "?follow=false", "Last-Event-ID: 0\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(
        answer.contains("content-type: text/event-stream\r\n"),
        "{answer}"
    );
    assert!(answer.contains("retry: 3000\n\n"), "{answer}");
    assert!(answer.contains("event: readiness\ndata: {"), "{answer}");
}

/// One request over the admin socket, as it is.
async fn admin_exchange(site: &Site, query: &str, field: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::UnixStream::connect(site.config.admin_socket())
        .await
        .unwrap();
    let request =
        format!("GET /v1/events{query} HTTP/1.1\r\nHost: hgs\r\nConnection: close\r\n{field}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
