//! What a listener serves: a [`Service`] gets whole requests and returns responses. Sockets, limits and
//! time are the engine's business.

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
pub use hgs_store::RequestId;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, StatusCode};

use super::clients::PinnedClient;

/// Answers the requests of one listener.
///
/// A request that is handed over is finished even if its peer goes away, within the time limit of
/// the configuration. A panic becomes a 500 and a metric.
pub trait Service: Send + Sync + 'static {
    /// Answers one request. Work that blocks a thread belongs on a pool of blocking workers.
    fn handle(&self, request: Request) -> BoxFuture<'_, Response>;

    /// The name under which a request is counted, logged and timed.
    ///
    /// It must be one of a few: the path itself, which the peer chooses, would let strangers fill
    /// the memory of the metrics.
    fn route(&self, method: &Method, path: &str) -> &'static str;

    /// Whether a peer that has said its last word still waits for the answer. Otherwise it is gone with it, and so is a stream
    /// that it was sent.
    fn allows_half_close(&self) -> bool {
        true
    }

    /// The octets of the longest body at `path`, where that is more than `limits.body`. Such a body is read on only if
    /// [`Self::admits_large_body`].
    fn large_body(&self, path: &str) -> Option<usize> {
        let _ = path;
        None
    }

    /// Whether a body of which `limits.body` octets are there may be longer. It is asked on a thread that must not block.
    fn admits_large_body(&self, path: &str, beginning: &[u8]) -> bool {
        let _ = (path, beginning);
        false
    }

    /// The answer to a request that never reaches [`Self::handle`], for instance because too many are waiting, in the
    /// form that its peer expects at that path. `line` says why; the engine adds what belongs to HTTP.
    fn rejection(&self, path: &str, status: StatusCode, line: &str) -> Response {
        let _ = path;
        Response::text(status, line)
    }
}

/// A request, read completely and within the limits.
#[derive(Debug, Clone)]
pub struct Request {
    /// Names the request in logs and audit records; the response carries it as `X-Request-Id`.
    pub id: RequestId,
    /// Any method; refusing the wrong one is the service's business. `HEAD` arrives as `GET`: the engine leaves out the
    /// body of the answer.
    pub method: Method,
    /// Path as sent: it starts with `/`, holds only characters that RFC 3986 allows in a path,
    /// and is not percent-decoded.
    pub path: String,
    /// What followed the `?`, in characters that RFC 3986 allows there, not percent-decoded.
    pub query: Option<String>,
    /// Header fields.
    pub headers: HeaderMap,
    /// The whole body, at most `limits.body` octets, unless the service has admitted more.
    pub body: Bytes,
    /// Who sent it.
    pub peer: Peer,
}

/// Who is at the other end of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// A peer of the HTTP or HTTPS listener, known by its address only.
    Tcp(SocketAddr),
    /// A node of this guardian's cluster, as its certificate shows.
    Node(SocketAddr),
    /// A process on this machine, as the kernel knew it when it connected.
    Unix(Credentials),
    /// A client of `[listen.api]` or `[listen.console.client_certificates]`, as its certificate shows.
    Client(PinnedClient),
}

impl Peer {
    /// Resolves when the peer may not be connected any more. The engine ends the connection then, and with it an answer
    /// that streams.
    pub(crate) async fn ended(&self) {
        match self {
            Self::Client(client) => client.ended().await,
            Self::Tcp(_) | Self::Node(_) | Self::Unix(_) => std::future::pending().await,
        }
    }
}

/// Identity of a process at the other end of a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Process id, where the kernel tells it. It names no process once this one has ended.
    pub pid: Option<i32>,
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) | Self::Node(address) => write!(formatter, "{address}"),
            Self::Unix(credentials) => write!(formatter, "uid {}", credentials.uid),
            Self::Client(client) => write!(formatter, "{} ({})", client.address, client.name()),
        }
    }
}

/// A response.
#[derive(Debug)]
pub struct Response {
    /// Status.
    pub status: StatusCode,
    /// `Content-Type`; absent when there is no body.
    pub content_type: Option<&'static str>,
    /// Further header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
}

/// The body of a response.
pub enum Body {
    /// It is sent with a `Content-Length`, in one write.
    Complete(Bytes),
    /// It is sent in parts as they come. It ends at once when the server is told to stop, and when no part came for
    /// `limits.idle_time`: a stream that may be silent for longer sends something meaningless in between, such as a
    /// comment of server-sent events. A part that the peer does not take within `limits.write_time` ends the connection.
    Stream(BoxStream<'static, Bytes>),
}

impl fmt::Debug for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete(octets) => write!(formatter, "Complete({} octets)", octets.len()),
            Self::Stream(_) => formatter.write_str("Stream(..)"),
        }
    }
}

impl Response {
    /// A response with a body that is known as a whole.
    #[must_use]
    pub fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            content_type: Some(content_type),
            headers: HeaderMap::new(),
            body: Body::Complete(body.into()),
        }
    }

    /// A response whose body comes in parts.
    #[must_use]
    pub fn stream(
        content_type: &'static str,
        parts: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: Some(content_type),
            headers: HeaderMap::new(),
            body: Body::Stream(Box::pin(parts)),
        }
    }

    /// A response of one line of text, for people.
    #[must_use]
    pub fn text(status: StatusCode, line: impl fmt::Display) -> Self {
        Self::new(status, "text/plain; charset=utf-8", format!("{line}\n"))
    }

    /// A response without a body.
    #[must_use]
    pub fn empty(status: StatusCode) -> Self {
        Self {
            status,
            content_type: None,
            headers: HeaderMap::new(),
            body: Body::Complete(Bytes::new()),
        }
    }

    /// The same response with one more header field.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }
}
