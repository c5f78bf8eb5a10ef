//! Real servers on ports of the system's choosing, and clients that send any octets they like.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream;
use hgs_clock::SystemClock;
use hgs_server::config::{Config, Layout};
use hgs_server::http::{Addresses, BindError, Reloader, Stopped};
use hgs_server::{Metrics, Readiness, Request, Response, Server, Service, Services};
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;

/// A service whose requests can be held and watched.
pub(crate) struct Probe {
    entered: mpsc::UnboundedSender<Request>,
    left: mpsc::UnboundedSender<()>,
    gate: Arc<Semaphore>,
    parts: broadcast::Sender<Bytes>,
}

/// The other end of a [`Probe`].
pub(crate) struct Watcher {
    /// Requests as they reach the service.
    pub(crate) entered: mpsc::UnboundedReceiver<Request>,
    /// One for each request of `/gate` that was finished.
    pub(crate) left: mpsc::UnboundedReceiver<()>,
    /// Lets requests of `/gate` through.
    pub(crate) gate: Arc<Semaphore>,
    /// Parts for the answers to `/stream` that are sent now.
    pub(crate) parts: broadcast::Sender<Bytes>,
}

fn probe() -> (Arc<Probe>, Watcher) {
    let (entered, entered_receiver) = mpsc::unbounded_channel();
    let (left, left_receiver) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let (parts, _) = broadcast::channel(64);
    let probe = Probe {
        entered,
        left,
        gate: gate.clone(),
        parts: parts.clone(),
    };
    let watcher = Watcher {
        entered: entered_receiver,
        left: left_receiver,
        gate,
        parts,
    };
    (Arc::new(probe), watcher)
}

/// The probe behind every listener.
pub(crate) fn services(readiness: Readiness) -> (Services, Watcher) {
    let (probe, watcher) = probe();
    let services = Services {
        clock: Arc::new(SystemClock),
        cluster: None,
        protocol: probe.clone(),
        admin: probe,
        console: None,
        readiness,
        metrics: Metrics::new(),
    };
    (services, watcher)
}

impl Service for Probe {
    fn handle(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            let _ = self.entered.send(request.clone());
            match request.path.as_str() {
                "/hello" => Response::new(StatusCode::OK, "text/plain", "hello"),
                "/echo" | "/large-echo" => Response::new(
                    StatusCode::OK,
                    "application/octet-stream",
                    request.body.clone(),
                ),
                "/large" => Response::new(StatusCode::OK, "text/plain", vec![b'x'; 32 << 20]),
                "/panic" => panic!("asked to"),
                "/stream" => {
                    let parts = stream::unfold(self.parts.subscribe(), async |mut parts| {
                        let part = parts.recv().await.ok()?;
                        Some((part, parts))
                    });
                    Response::stream("text/event-stream", parts)
                }
                "/get-only" => Response::empty(StatusCode::METHOD_NOT_ALLOWED)
                    .with_header(ALLOW, HeaderValue::from_static("GET")),
                "/gate" => {
                    self.gate.acquire().await.expect("never closed").forget();
                    let _ = self.left.send(());
                    Response::new(StatusCode::OK, "text/plain", "through")
                }
                _ => Response::empty(StatusCode::NOT_FOUND),
            }
        })
    }

    fn large_body(&self, path: &str) -> Option<usize> {
        (path == "/large-echo").then_some(4096)
    }

    fn admits_large_body(&self, _path: &str, beginning: &[u8]) -> bool {
        beginning.starts_with(b"known")
    }

    fn route(&self, _method: &Method, path: &str) -> &'static str {
        match path {
            "/hello" => "hello",
            "/panic" => "panic",
            _ => "other",
        }
    }
}

pub(crate) struct TestServer {
    pub(crate) addresses: Addresses,
    pub(crate) reloader: Reloader,
    pub(crate) metrics: Metrics,
    pub(crate) watcher: Watcher,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Stopped>,
}

/// Configuration of a metrics listener.
pub(crate) const WITH_METRICS: &str =
    "listen.metrics.enabled = true\nlisten.metrics.address = \"127.0.0.1:0\"";

/// A configuration with a plain listener on a port of the system's choosing, and whatever `extra`
/// says.
pub(crate) fn configuration(extra: &str) -> Config {
    let mut text = "listen.http.address = \"127.0.0.1:0\"\n".to_owned();
    for listener in ["metrics", "admin"] {
        let switch = format!("listen.{listener}.enabled");
        if !extra.contains(&switch) {
            text.push_str(&format!("{switch} = false\n"));
        }
    }
    text.push_str(extra);
    Config::parse(&text, "test.toml".as_ref(), Layout::system()).expect("a test's configuration")
}

impl TestServer {
    /// Starts a server; `extra` is more configuration.
    pub(crate) fn start(extra: &str) -> Self {
        Self::start_with(extra, Readiness::always())
    }

    /// Starts a server that is ready when `readiness` says so.
    pub(crate) fn start_with(extra: &str, readiness: Readiness) -> Self {
        Self::bind(extra, readiness).expect("free addresses")
    }

    /// Starts a server, or says why it can't listen.
    pub(crate) fn bind(extra: &str, readiness: Readiness) -> Result<Self, BindError> {
        let (services, watcher) = services(readiness);
        let metrics = services.metrics.clone();
        let bound = Server::bind(&configuration(extra), services)?;
        let addresses = bound.addresses();
        let reloader = bound.reloader();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(bound.run(async {
            let _ = stopped.await;
        }));
        Ok(Self {
            addresses,
            reloader,
            metrics,
            watcher,
            stop: Some(stop),
            running,
        })
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.addresses.http.expect("a plain listener")
    }

    pub(crate) fn https(&self) -> SocketAddr {
        self.addresses.https.expect("an HTTPS listener")
    }

    pub(crate) fn monitoring(&self) -> SocketAddr {
        self.addresses.metrics.expect("a metrics listener")
    }

    /// Orders the server to stop, without waiting.
    pub(crate) fn order_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Waits until it has stopped.
    pub(crate) async fn stopped(mut self) -> Stopped {
        self.order_stop();
        self.running.await.expect("the server does not panic")
    }

    /// A metric's value; zero when it was never counted.
    pub(crate) fn metric(&self, name_and_labels: &str) -> u64 {
        let text = self.metrics.render();
        text.lines()
            .filter_map(|line| line.strip_prefix(name_and_labels)?.strip_prefix(' '))
            .map(|value| value.parse::<u64>().expect("a whole number"))
            .sum()
    }

    /// How often the plain listener refused something for `reason`.
    pub(crate) fn rejected(&self, reason: &str) -> u64 {
        self.rejected_by("http", reason)
    }

    /// How often a listener refused something for `reason`.
    pub(crate) fn rejected_by(&self, listener: &str, reason: &str) -> u64 {
        self.metric(&format!(
            "hgs_http_rejected_total{{listener=\"{listener}\",reason=\"{reason}\"}}"
        ))
    }
}

/// Sends `octets` over a new connection and reads until the server closes it.
pub(crate) async fn send(address: SocketAddr, octets: impl AsRef<[u8]>) -> String {
    let mut client = Client::connect(address).await;
    client.send(octets).await;
    client.rest().await
}

/// A connection on which any octets are sent.
pub(crate) struct Client<S = TcpStream>(pub(crate) S);

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self(
            TcpStream::connect(address)
                .await
                .expect("the server listens"),
        )
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Sends; a server that closes meanwhile is no error here.
    pub(crate) async fn send(&mut self, octets: impl AsRef<[u8]>) {
        let _ = self.0.write_all(octets.as_ref()).await;
    }

    /// Everything until the server closes, or resets, the connection.
    pub(crate) async fn rest(&mut self) -> String {
        let mut octets = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = self.0.read(&mut buffer).await {
            octets.extend_from_slice(&buffer[..length]);
        }
        String::from_utf8_lossy(&octets).into_owned()
    }

    /// Everything up to `end`.
    pub(crate) async fn until(&mut self, end: &str) -> String {
        let mut octets = Vec::new();
        while !octets.ends_with(end.as_bytes()) {
            octets.push(self.0.read_u8().await.expect("more of the response"));
        }
        String::from_utf8_lossy(&octets).into_owned()
    }

    /// One response, whose end its `Content-Length` tells.
    pub(crate) async fn response(&mut self) -> String {
        let mut octets = Vec::new();
        loop {
            if let Some(length) = complete(&octets) {
                assert_eq!(length, octets.len(), "more than one response");
                return String::from_utf8_lossy(&octets).into_owned();
            }
            let mut octet = [0];
            let read = self.0.read(&mut octet).await.expect("a response");
            assert_ne!(
                read,
                0,
                "closed after {:?}",
                String::from_utf8_lossy(&octets)
            );
            octets.push(octet[0]);
        }
    }
}

fn complete(octets: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(octets).ok()?;
    let head = text.find("\r\n\r\n")? + 4;
    let body = text
        .to_ascii_lowercase()
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok())
        .unwrap_or(0);
    (octets.len() >= head + body).then_some(head + body)
}

/// The status of a response.
pub(crate) fn status(response: &str) -> u16 {
    response
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5))
        .and_then(|digits| digits.parse().ok())
        .unwrap_or_else(|| panic!("not a response: {response:?}"))
}

/// Waits for what happens beside the exchange that a test sees, such as a count that follows the
/// closing of a connection. It fails by the runner's timeout.
pub(crate) async fn eventually(mut condition: impl FnMut() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
