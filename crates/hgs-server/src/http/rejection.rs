//! Requests that never reach a service, and connections that end early: each has a name, which is
//! the label of its metric, and most have a status.

use hyper::StatusCode;
use hyper::header::{CONNECTION, HeaderValue, RETRY_AFTER};

use super::service::Response;

/// Why the engine itself answered a request or ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Rejection {
    #[error("the request has more than one length, or a length and a transfer coding")]
    AmbiguousLength,
    #[error("a line of the header does not end with CR LF")]
    BareLineFeed,
    #[error("the request needs exactly one Host field")]
    Host,
    #[error("the request target is not a path as in RFC 3986")]
    Target,
    #[error("the expectation is not 100-continue")]
    Expectation,
    #[error("the header is not HTTP/1.1, or over a limit")]
    MalformedHeader,
    #[error("the header did not arrive in time")]
    SlowHeader,
    #[error("the body is over {limit} octets")]
    BodyTooLarge { limit: usize },
    #[error("the body did not arrive in time")]
    SlowBody,
    #[error("the body is not framed as its header says")]
    MalformedBody,
    #[error("the response was not read in time")]
    SlowReader,
    #[error("too many octets of requests are held at once")]
    BodyMemory,
    #[error("too many requests are waiting")]
    QueueFull,
    #[error("the request waited too long for its turn")]
    QueueTime,
    #[error("the request was not finished in time")]
    RequestTime,
    #[error("the service failed; the log has the reason")]
    Panic,
    #[error("too many connections from one address")]
    ConnectionsPerAddress,
}

impl Rejection {
    /// The label `reason` of the metric.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AmbiguousLength => "ambiguous_length",
            Self::BareLineFeed => "bare_line_feed",
            Self::Host => "host",
            Self::Target => "target",
            Self::Expectation => "expectation",
            Self::MalformedHeader => "malformed_header",
            Self::SlowHeader => "slow_header",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::SlowBody => "slow_body",
            Self::MalformedBody => "malformed_body",
            Self::SlowReader => "slow_reader",
            Self::BodyMemory => "body_memory",
            Self::QueueFull => "queue_full",
            Self::QueueTime => "queue_time",
            Self::RequestTime => "request_time",
            Self::Panic => "panic",
            Self::ConnectionsPerAddress => "connections_per_address",
        }
    }

    /// The answer to the request. The connection is kept only where its framing is beyond doubt
    /// and the peer did nothing wrong.
    pub(super) fn response(self) -> Response {
        let status = self.status();
        let response = Response::text(status, self);
        match status {
            StatusCode::SERVICE_UNAVAILABLE => {
                response.with_header(RETRY_AFTER, HeaderValue::from_static("1"))
            }
            StatusCode::INTERNAL_SERVER_ERROR => response,
            _ => response.with_header(CONNECTION, HeaderValue::from_static("close")),
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::AmbiguousLength
            | Self::BareLineFeed
            | Self::Host
            | Self::Target
            | Self::MalformedHeader
            | Self::MalformedBody => StatusCode::BAD_REQUEST,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::SlowHeader | Self::SlowBody | Self::SlowReader => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyMemory
            | Self::QueueFull
            | Self::QueueTime
            | Self::RequestTime
            | Self::ConnectionsPerAddress => StatusCode::SERVICE_UNAVAILABLE,
            Self::Panic => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}
