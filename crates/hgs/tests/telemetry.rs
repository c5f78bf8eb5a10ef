//! `[telemetry]` of the program: a host has keys released, and a collector gets a trace that the id leads to which the host printed.

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use common::served::{Served, configure};
use common::{Home, Outcome};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

/// A collector: where it listens, and the spans that it is sent. It ends with the test.
fn collector() -> (String, Receiver<Vec<Span>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (spans, received) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream);
            let batch = ExportTraceServiceRequest::decode(&*body(&mut reader)).unwrap();
            let scopes = batch.resource_spans.into_iter();
            let scopes = scopes.flat_map(|of_resource| of_resource.scope_spans);
            // Before the answer: the server may end with it, and the test looks then.
            if spans
                .send(scopes.flat_map(|scope| scope.spans).collect())
                .is_err()
            {
                return;
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            reader.get_mut().write_all(answer).unwrap();
        }
    });
    (url, received)
}

/// The body of a request.
fn body(reader: &mut BufReader<TcpStream>) -> Vec<u8> {
    let (mut line, mut length) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        assert_ne!(reader.read_line(&mut line).unwrap(), 0);
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    body
}

fn attribute<'s>(span: &'s Span, name: &str) -> Option<&'s str> {
    let found = span.attributes.iter().find(|pair| pair.key == name)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

#[test]
fn a_release_is_traced_under_the_id_that_the_host_printed() {
    let (collector, received) = collector();
    let home = Home::new();
    configure(&home);
    let configuration = String::from_utf8(home.read("hgs.toml")).unwrap();
    let telemetry = format!("[telemetry]\notlp_endpoint = \"{collector}\"\n");
    home.write("hgs.toml", configuration + &telemetry);
    home.hgs("init --config hgs.toml --name guardian.example --bits 2048")
        .done();
    home.write("guarded-host.toml", "mode = \"local\"\n");
    let served = Served::start(&home);
    let host = |words: &str| Outcome::of(&mut common::guarded_host(home.path(), words));
    host(&format!("configure {}", served.url())).done();
    host("host-key new --bits 2048").done();
    host("host-key export --out host1.pem").done();
    home.hgs("host add host1 --host-key host1.pem --config hgs.toml")
        .done();
    home.write(
        "fabric.xml",
        served.get("/KeyProtection/service/metadata/2014-07/metadata.xml"),
    );
    home.unlocked("guardian new ann --bits 2048").done();
    home.unlocked("guardian import fabric fabric.xml --dangerously-trust-unverified")
        .done();
    home.unlocked("protector new --owner ann --guardian fabric --out vm.xml")
        .done();
    let released = host("protector unwrap vm.xml --json").done().json();
    let id = released["request_id"].as_str().unwrap();
    // The administrator finds the record by what the host printed, and by nothing else.
    let list = |words: &str| home.hgs(&format!("audit list {words} --config hgs.toml"));
    let found = list(&format!("--request {id} --json")).done().json();
    let [record] = &found.as_array().unwrap()[..] else {
        panic!("one record: {found}");
    };
    assert_eq!(record["action"], "release");
    assert_eq!(record["host_name"], "host1");
    assert_eq!(record["request"], id);
    let show = format!("audit show {} --config hgs.toml", record["sequence"]);
    home.hgs(&show).done().saying(id);
    let other = list(&format!("--request {id}0 --json")).done().json();
    assert_eq!(other, serde_json::json!([]));
    list("--request 17").ended(64).saying("as in 0a1b2c3d-17");
    // It sends what waits when it stops.
    assert_eq!(served.stop().0, Some(0));

    let spans: Vec<Span> = received.try_iter().flatten().collect();
    let mut of_id = spans
        .iter()
        .filter(|span| attribute(span, "openhgs.request.id") == Some(id));
    let request = of_id.next().expect("a span of the request");
    assert!(of_id.next().is_none() && request.parent_span_id.is_empty());
    let below = |parent: &Span, name: &str| {
        let is_below = |span: &&Span| {
            (&span.trace_id, &span.parent_span_id) == (&parent.trace_id, &parent.span_id)
        };
        let mut found = spans.iter().filter(is_below);
        let found = found.find(|span| span.name == name);
        found.unwrap_or_else(|| panic!("no {name} below {}", parent.name))
    };
    let release = below(request, "release");
    assert_eq!(attribute(release, "openhgs.outcome"), Some("released"));
    let key = below(below(release, "work"), "key");
    assert_eq!(attribute(key, "openhgs.key.place"), Some("software"));
    below(release, "commit");
}
