//! Body of a fuzz target: a connection on which any octets may come.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use hyper::header::{HOST, TRANSFER_ENCODING};
use hyper::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};

use super::connection;
use super::exchange::Engine;
use super::service::{Peer, Request, Response, Service};
use super::shutdown;
use crate::config::Limits;
use crate::metrics::{ListenerMetrics, Metrics};

/// One for all inputs, as a process has one: what a histogram has taken in and nobody has asked for is not freed with it.
static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// A whole connection: guard, parser, checks and body.
///
/// # Panics
///
/// If a request reaches the service that breaks what [`Request`] promises, or if the answer is no
/// HTTP.
pub fn fuzz_connection(octets: &[u8]) {
    let (requests, answer) = requests_in(octets);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."));
    for request in requests {
        let count = |name| request.headers.get_all(name).iter().count();
        assert!(request.path.starts_with('/') && request.path.is_ascii());
        assert!(request.body.len() <= Limits::default().body);
        assert!(count(HOST) <= 1);
        assert!(count(TRANSFER_ENCODING) <= 1);
    }
}

/// The requests that reach a service when a peer sends `octets` and then no more, and everything
/// that the peer is answered.
pub(crate) fn requests_in(octets: &[u8]) -> (Vec<Request>, Vec<u8>) {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let limits = Limits::default();
    let metrics = ListenerMetrics::new(&METRICS, "http");
    let recorder = Arc::new(Recorder(requests.clone()));
    let engine = Engine::new(recorder, &limits, metrics, 0, Arc::new(AtomicU64::new(1)));
    let (_trigger, signal) = shutdown::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without I/O needs nothing of the system");
    let answer = runtime.block_on(async {
        let (stream, peer) = duplex(16 * 1024);
        let (mut reader, mut writer) = split(peer);
        let mut answer = Vec::new();
        let address = ([192, 0, 2, 1], 1).into();
        let send = async {
            // The server may have had enough before the end.
            let _ = writer.write_all(octets).await;
            let _ = writer.shutdown().await;
        };
        let serve = connection::serve(stream, Peer::Tcp(address), Arc::new(engine), signal);
        let _ = tokio::join!(send, serve, reader.read_to_end(&mut answer));
        answer
    });
    let requests = std::mem::take(&mut *requests.lock().unwrap_or_else(PoisonError::into_inner));
    (requests, answer)
}

/// Notes the requests that reach it.
struct Recorder(Arc<Mutex<Vec<Request>>>);

impl Service for Recorder {
    fn handle(&self, request: Request) -> BoxFuture<'_, Response> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(request);
        Box::pin(async { Response::empty(StatusCode::NO_CONTENT) })
    }

    fn route(&self, _method: &Method, _path: &str) -> &'static str {
        "recorder"
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lines that one reader takes for a length or a transfer coding and another may not.
    const LINES: [&str; 20] = [
        "Content-Length: 5\r\n",
        "content-length:5\r\n",
        "Content-Length: 5\n",
        "Content-Length : 5\r\n",
        " Content-Length: 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 0\r\n",
        "\tContent-Length: 5\r\n",
        "Content-Length\0: 5\r\n",
        "X: y\rContent-Length: 5\r\n",
        "X: y\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\n",
        "transfer-encoding:\tchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "X: y\r\n",
    ];

    proptest! {
        /// Whatever reaches a service is framed in one way only, so a proxy in front, however it
        /// reads, can't see another request in the same octets.
        #[test]
        fn no_request_that_can_be_read_in_two_ways_reaches_a_service(
            lines in prop::collection::vec(prop::sample::select(&LINES[..]), 0..4),
        ) {
            let fields = lines.concat();
            let octets = format!(
                "POST /outer HTTP/1.1\r\nHost: a\r\n{fields}\r\n0\r\n\r\n\
                 GET /inner HTTP/1.1\r\nHost: a\r\n\r\n"
            );
            let (seen, _) = requests_in(octets.as_bytes());
            let fields = fields.to_ascii_lowercase();
            let lengths = fields.matches("content-length").count();
            let codings = fields.matches("transfer-encoding").count();
            let inner = seen.iter().any(|request| request.path == "/inner");
            if lengths + codings > 1 {
                prop_assert!(seen.is_empty(), "{octets:?}");
            }
            if inner {
                // Only behind a body that every reader ends in the same place.
                prop_assert!(lengths == 1 && codings == 0, "{octets:?}");
            }
        }
    }
}
