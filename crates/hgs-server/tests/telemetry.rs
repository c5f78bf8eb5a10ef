//! Traces, as a collector of OpenTelemetry reads them.

mod guardian;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};

use guardian::{ATTEST, Answer, Host, Site, exchange_with, roll_path};
use hgs_kps::ServiceVersion::V2;
use hgs_pki::health::HealthKind;
use hgs_server::{PEERS, TRACED, Telemetry};
use hgs_terminal::{LogForm, Traces, start_logging_and_traces};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

/// What a collector was sent.
#[derive(Default)]
struct Received {
    heads: Vec<String>,
    resources: Vec<KeyValue>,
    spans: Vec<Span>,
    octets: Vec<u8>,
}

impl Received {
    fn keep(&mut self, head: String, body: Vec<u8>) {
        let batch = ExportTraceServiceRequest::decode(&*body).unwrap();
        self.heads.push(head);
        self.octets.extend(body);
        for of_resource in batch.resource_spans {
            self.resources = of_resource.resource.unwrap().attributes;
            let scopes = of_resource.scope_spans.into_iter();
            self.spans.extend(scopes.flat_map(|scope| scope.spans));
        }
    }
}

/// A collector: where it listens, and what it was sent.
async fn collector() -> (String, Arc<Mutex<Received>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let received = Arc::new(Mutex::new(Received::default()));
    let kept = Arc::clone(&received);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (head, body) = taken(&mut stream).await;
            // Before the answer: whoever has it looks at what came.
            kept.lock().unwrap().keep(head, body);
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        }
    });
    (url, received)
}

/// The head of one request and its body.
async fn taken(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut octets = Vec::new();
    let (head, length) = loop {
        assert!(stream.read_buf(&mut octets).await.unwrap() > 0);
        let Some(end) = octets.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8(octets[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let length = lines.find_map(|line| line.strip_prefix("content-length: "));
        break (
            head.clone(),
            end + 4 + length.unwrap().parse::<usize>().unwrap(),
        );
    };
    while octets.len() < length {
        assert!(stream.read_buf(&mut octets).await.unwrap() > 0);
    }
    let body = octets.split_off(octets.len() - (length - head.len() - 4));
    (head, body)
}

fn shown(value: &AnyValue) -> String {
    match value.value.as_ref().unwrap() {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    }
}

fn attributes(attributes: &[KeyValue]) -> BTreeMap<&str, String> {
    let pairs = attributes.iter();
    pairs
        .map(|pair| (pair.key.as_str(), shown(pair.value.as_ref().unwrap())))
        .collect()
}

/// The request that was answered so, and what is below it: names and attributes by depth first.
struct Trace<'s> {
    spans: &'s [Span],
    root: &'s Span,
}

impl<'s> Trace<'s> {
    fn of(spans: &'s [Span], answer: &Answer) -> Self {
        let id = answer.header("x-request-id").unwrap();
        let mut roots = spans.iter().filter(|span| {
            attributes(&span.attributes)
                .get("openhgs.request.id")
                .is_some_and(|of_span| of_span == id)
        });
        let root = roots.next().unwrap_or_else(|| panic!("no trace of {id}"));
        assert!(roots.next().is_none() && root.parent_span_id.is_empty());
        Self { spans, root }
    }

    fn below(&self, parent: &'s Span) -> impl Iterator<Item = &'s Span> {
        let spans = self.spans.iter();
        spans.filter(|span| {
            span.trace_id == parent.trace_id && span.parent_span_id == parent.span_id
        })
    }

    fn names_below(&self, parent: &'s Span) -> BTreeSet<&'s str> {
        self.below(parent).map(|span| span.name.as_str()).collect()
    }

    fn child(&self, parent: &'s Span, name: &str) -> &'s Span {
        let found = self.below(parent).find(|span| span.name == name);
        found.unwrap_or_else(|| panic!("no {name} below {}", parent.name))
    }
}

/// Every attribute that may leave the process.
const ATTRIBUTES: [&str; 13] = [
    "http.request.method",
    "http.response.status_code",
    "http.route",
    "openhgs.audit.record",
    "openhgs.certificate",
    "openhgs.commit.jobs",
    "openhgs.host.id",
    "openhgs.key.operation",
    "openhgs.key.place",
    "openhgs.listener",
    "openhgs.outcome",
    "openhgs.request.id",
    "service.name",
];

const NAMED_BY_PEER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_sees_what_a_request_went_through_and_nothing_else() {
    let (url, received) = collector().await;
    let folder = tempfile::tempdir().unwrap();
    let headers = folder.path().join("headers");
    fs::write(&headers, "Authorization: Bearer hunter2\n").unwrap();
    fs::set_permissions(&headers, Permissions::from_mode(0o600)).unwrap();
    let mut site = Site::initialised(&format!(
        "telemetry.otlp_endpoint = \"{url}\"\ntelemetry.headers_file = \"{}\"",
        headers.display()
    ))
    .await;
    let telemetry = Telemetry::start(&site.config, &Handle::current());
    let telemetry = telemetry.unwrap().expect("it is configured");
    let (target, layer) = (TRACED, telemetry.layer());
    // The log has no line, and so no span; what is traced does not depend on it.
    start_logging_and_traces(
        "error",
        LogForm::Json,
        Some(PEERS),
        Some(Traces { target, layer }),
    )
    .unwrap();
    site.restart().await;
    let host = Host::numbered(0);
    let registered = site.register(&host, "node-1").await;
    let attested = site
        .post(ATTEST, host.request(HealthKind::Encryption).body())
        .await;
    assert_eq!(attested.status, 200);
    let certificate = host.healthy(&site).await;
    let (ingress, _) = site.protector().await;
    let pending = guardian::pending(&ingress, &certificate, V2);
    let request = pending.request();
    let fields = [("traceparent", NAMED_BY_PEER)];
    let released = exchange_with(site.http(), "POST", &roll_path(V2), &fields, &request).await;
    assert_eq!(released.status, 200, "{}", released.text());
    let refused = site.post(&roll_path(V2), b"<no/>").await;
    assert_ne!(refused.status, 200);
    site.stop().await;
    spawn_blocking(|| telemetry.stop()).await.unwrap();

    let received = received.lock().unwrap();
    for head in &received.heads {
        assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nauthorization: Bearer hunter2"), "{head}");
        assert!(
            head.contains("\r\ncontent-type: application/x-protobuf"),
            "{head}"
        );
    }
    let resource = attributes(&received.resources);
    assert_eq!(resource["service.name"], "openhgs");
    assert_eq!(resource["service.instance.id"], site.config.server.name);

    let trace = Trace::of(&received.spans, &released);
    let of_request = attributes(&trace.root.attributes);
    assert_eq!(trace.root.name, "request");
    assert_eq!(of_request["http.response.status_code"], "200");
    assert_eq!(of_request["openhgs.listener"], "http");
    // What a stranger names is linked, and does not become the trace.
    let [link] = trace.root.links.as_slice() else {
        panic!("{:?}", trace.root.links);
    };
    assert_eq!(
        hgs_crypto::hex::encode(&link.trace_id),
        NAMED_BY_PEER[3..35]
    );
    assert_ne!(link.trace_id, trace.root.trace_id);
    let release = trace.child(trace.root, "release");
    let of_release = attributes(&release.attributes);
    assert_eq!(of_release["openhgs.outcome"], "released");
    assert_eq!(of_release["openhgs.host.id"], registered.id);
    assert_eq!(
        trace.names_below(release),
        BTreeSet::from(["wait", "identify", "work", "commit"])
    );
    let key = trace.child(trace.child(release, "work"), "key");
    assert_eq!(attributes(&key.attributes)["openhgs.key.place"], "software");
    let commit = trace.child(release, "commit");
    assert_eq!(attributes(&commit.attributes)["openhgs.commit.jobs"], "1");
    assert!(commit.start_time_unix_nano >= release.start_time_unix_nano);
    assert!(commit.end_time_unix_nano <= release.end_time_unix_nano);

    let trace = Trace::of(&received.spans, &attested);
    let attestation = trace.child(trace.root, "attestation");
    let of_attestation = attributes(&attestation.attributes);
    assert_eq!(of_attestation["openhgs.outcome"], "healthy");
    assert!(trace.names_below(attestation).contains("commit"));

    let trace = Trace::of(&received.spans, &refused);
    let of_refused = attributes(&trace.child(trace.root, "release").attributes);
    assert_ne!(of_refused["openhgs.outcome"], "released");
    assert!(!of_refused.contains_key("openhgs.host.id"));

    for span in &received.spans {
        assert!(span.events.is_empty(), "{span:?}");
        for name in attributes(&span.attributes).keys() {
            assert!(ATTRIBUTES.contains(name), "{name} of {}", span.name);
        }
    }
    let secrets = [b"hunter2".as_slice(), b"BEGIN", &request[..64]];
    for secret in secrets {
        let mut windows = received.octets.windows(secret.len());
        assert!(!windows.any(|window| window == secret));
    }
}
