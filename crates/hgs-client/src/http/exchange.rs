//! One request and its answer over a connection that is open.

use std::net::SocketAddr;
use std::pin::pin;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::StatusCode;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, CONTENT_TYPE, DATE, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{MAX_BODY, Request, Response, TransportError};
use crate::url::Url;
use hgs_clock::time_of;

/// Octets of the longest head of an answer.
const MAX_HEAD: usize = 16 * 1024;
/// Headers of an answer.
const MAX_HEADERS: usize = 64;

const PROGRAM: &str = concat!("guarded-host/", env!("CARGO_PKG_VERSION"));

pub(super) async fn exchange<S>(
    request: &Request,
    url: &Url,
    address: SocketAddr,
    stream: S,
) -> Result<Response, TransportError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let broken = |error: hyper::Error| TransportError::Broken {
        address,
        reason: reason(&error),
    };
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let mut exchange = pin!(async {
        let response = sender.send_request(written(request, url)).await;
        receive(response.map_err(broken)?, address).await
    });
    tokio::select! {
        biased;
        outcome = &mut exchange => return outcome,
        // Done with the socket, but the end of the answer may still wait to be taken.
        _ = connection => {}
    }
    exchange.await
}

pub(super) fn written(request: &Request, url: &Url) -> hyper::Request<Full<Bytes>> {
    let builder = hyper::Request::builder()
        .uri(url.path())
        .header(HOST, url.authority())
        .header(USER_AGENT, PROGRAM)
        .header(ACCEPT, "*/*")
        .header(CONNECTION, "close");
    let built = match request {
        Request::Get { .. } => builder.method("GET").body(Full::default()),
        Request::Post {
            content_type,
            fields,
            body,
            ..
        } => fields
            .iter()
            .fold(builder, |builder, (name, value)| {
                builder.header(*name, value)
            })
            .method("POST")
            .header(CONTENT_TYPE, *content_type)
            .body(Full::new(body.clone())),
    };
    built.expect("a parsed URL has no octet that a request line or header can't have")
}

async fn receive(
    response: hyper::Response<Incoming>,
    address: SocketAddr,
) -> Result<Response, TransportError> {
    let status = response.status();
    let fields = response.headers().clone();
    let date = (fields.get(DATE).and_then(|date| date.to_str().ok()))
        .and_then(|date| httpdate::parse_http_date(date).ok());
    if status.is_redirection() {
        return Err(TransportError::Redirect {
            status: status.as_u16(),
        });
    }
    let too_large = TransportError::TooLarge { limit: MAX_BODY };
    if response.body().size_hint().lower() > MAX_BODY as u64 {
        return Err(too_large);
    }
    let body = Limited::new(response.into_body(), MAX_BODY)
        .collect()
        .await
        .map_err(|error| {
            if error.is::<LengthLimitError>() {
                too_large
            } else {
                TransportError::Broken {
                    address,
                    reason: error.to_string(),
                }
            }
        })?
        .to_bytes();
    if status == StatusCode::BAD_REQUEST && complains_of_plain_http(&body) {
        return Err(TransportError::PlainToTls { address });
    }
    Ok(Response {
        status: status.as_u16(),
        body,
        date: date.map(time_of),
        fields,
    })
}

/// Whether a page is what a TLS listener answers to plain HTTP: OpenHGS, nginx, or Apache.
fn complains_of_plain_http(page: &[u8]) -> bool {
    [
        &b"this port speaks TLS"[..],
        b"plain HTTP request was sent to HTTPS port",
        b"speaking plain HTTP to an SSL-enabled server port",
    ]
    .iter()
    .any(|complaint| page.windows(complaint.len()).any(|part| part == *complaint))
}

/// The error and what caused it: hyper's own texts stop at "connection error".
fn reason(error: &hyper::Error) -> String {
    std::error::Error::source(error)
        .map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
