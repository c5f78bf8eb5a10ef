//! Requests that never reach a service, and connections that end early: each has a name, which is
//! the label `reason` of its metric.

use hyper::StatusCode;
use hyper::header::{CONNECTION, HeaderValue, RETRY_AFTER};

use super::service::{Response, Service};

/// Why the engine itself answered a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Rejection {
    #[error("the request has more than one length, or a length and a transfer coding")]
    AmbiguousLength,
    #[error("the only transfer coding understood is chunked, once")]
    TransferCoding,
    #[error("a line of the header does not end with CR LF")]
    BareLineFeed,
    #[error("the request needs exactly one Host field")]
    Host,
    #[error("the Host field or the request target names no host as in RFC 3986")]
    Authority,
    #[error("the request target is not a path as in RFC 3986")]
    Target,
    #[error("the expectation is not 100-continue")]
    Expectation,
    #[error("the body is over {limit} octets")]
    BodyTooLarge { limit: usize },
    #[error("the body did not arrive in time")]
    SlowBody,
    #[error("the body is not framed as its header says")]
    MalformedBody,
    #[error("too many octets of requests are held at once")]
    BodyMemory,
    #[error("too many requests are waiting")]
    QueueFull,
    #[error("the request waited too long for its turn")]
    QueueTime,
    #[error("too many streaming answers are sent at once")]
    Streams,
    #[error("the request was not finished in time")]
    RequestTime,
    #[error("the service failed; the log has the reason")]
    Panic,
}

impl Rejection {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AmbiguousLength => "ambiguous_length",
            Self::TransferCoding => "transfer_coding",
            Self::BareLineFeed => "bare_line_feed",
            Self::Host => "host",
            Self::Authority => "authority",
            Self::Target => "target",
            Self::Expectation => "expectation",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::SlowBody => "slow_body",
            Self::MalformedBody => "malformed_body",
            Self::BodyMemory => "body_memory",
            Self::QueueFull => "queue_full",
            Self::QueueTime => "queue_time",
            Self::Streams => "streams",
            Self::RequestTime => "request_time",
            Self::Panic => "panic",
        }
    }

    /// The answer to the request for `path`, in the form of the service that would have answered it. Where the peer is
    /// at fault the connection ends with it: what comes next could be the rest of what was wrong.
    pub(super) fn response(self, service: &dyn Service, path: &str) -> Response {
        let status = self.status();
        let mut response = service.rejection(path, status, &self.to_string());
        let (name, value) = match status {
            StatusCode::SERVICE_UNAVAILABLE => (RETRY_AFTER, "1"),
            StatusCode::INTERNAL_SERVER_ERROR => return response,
            _ => (CONNECTION, "close"),
        };
        response
            .headers
            .insert(name, HeaderValue::from_static(value));
        response
    }

    fn status(self) -> StatusCode {
        match self {
            Self::AmbiguousLength
            | Self::BareLineFeed
            | Self::Host
            | Self::Authority
            | Self::Target
            | Self::MalformedBody => StatusCode::BAD_REQUEST,
            Self::TransferCoding => StatusCode::NOT_IMPLEMENTED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyMemory
            | Self::QueueFull
            | Self::QueueTime
            | Self::Streams
            | Self::RequestTime => StatusCode::SERVICE_UNAVAILABLE,
            Self::Panic => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Why a connection ended without an answer from a service or from this engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CloseReason {
    /// The header is not HTTP/1.x, or over a limit; the parser may have answered.
    MalformedHeader,
    /// The header did not arrive in time.
    SlowHeader,
    /// The peer did not read its response in time.
    SlowReader,
    /// Its address has as many connections as one may have.
    ConnectionsPerAddress,
    /// The TLS handshake did not finish in time.
    SlowHandshake,
    /// The TLS handshake failed.
    Handshake,
    /// It spoke TLS to a plain listener.
    TlsToPlain,
    /// It spoke plain HTTP to a TLS listener.
    PlainToTls,
}

impl CloseReason {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::MalformedHeader => "malformed_header",
            Self::SlowHeader => "slow_header",
            Self::SlowReader => "slow_reader",
            Self::ConnectionsPerAddress => "connections_per_address",
            Self::SlowHandshake => "slow_handshake",
            Self::Handshake => "handshake",
            Self::TlsToPlain => "tls_to_plain",
            Self::PlainToTls => "plain_to_tls",
        }
    }
}
