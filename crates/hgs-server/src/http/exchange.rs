//! One request from its head to its response.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, EXPECT, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Version};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tracing::field::Empty;
use tracing::{Instrument, debug, error, info_span};

use super::body::{self, HeldBody, LargeBodies};
use super::guard::ConnectionState;
use super::overload::{BodyMemory, ConnectionLimit, Network, RequestLimiter};
use super::rejection::Rejection;
use super::service::{Body, Peer, Request, RequestId, Response, Service};
use super::shutdown::ShutdownSignal;
use super::streamed::StreamedBody;
use crate::config::Limits;
use crate::metrics::ListenerMetrics;
use crate::telemetry;

/// Streaming answers that one listener sends at once. Each holds a connection as long as its peer reads.
const MAX_STREAMS: usize = 64;

/// A body as the HTTP library sends it.
pub(super) type WireBody = Either<Full<Bytes>, StreamedBody>;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Everything that the requests of one listener share.
pub(super) struct Engine {
    service: Arc<dyn Service>,
    pub(super) limits: Limits,
    pub(super) connections: ConnectionLimit,
    limiter: RequestLimiter,
    memory: BodyMemory,
    streams: Arc<Semaphore>,
    pub(super) metrics: ListenerMetrics,
    run: u32,
    sequence: Arc<AtomicU64>,
}

impl Engine {
    /// `run` and `sequence` make up the names of requests, for all listeners of a server.
    pub(super) fn new(
        service: Arc<dyn Service>,
        limits: &Limits,
        metrics: ListenerMetrics,
        run: u32,
        sequence: Arc<AtomicU64>,
    ) -> Self {
        Self {
            service,
            limits: limits.clone(),
            connections: ConnectionLimit::new(limits),
            limiter: RequestLimiter::new(limits),
            memory: BodyMemory::new(limits),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            metrics,
            run,
            sequence,
        }
    }

    /// Whether a peer may have said its last word and still wait for the answer.
    pub(super) fn allows_half_close(&self) -> bool {
        self.service.allows_half_close()
    }

    /// Answers one request that came over the connection of `peer`.
    pub(super) async fn answer(
        self: Arc<Self>,
        peer: Peer,
        state: Arc<ConnectionState>,
        shutdown: ShutdownSignal,
        request: hyper::Request<Incoming>,
    ) -> hyper::Response<WireBody> {
        let begun = Instant::now();
        let fault = state.begin_answer();
        let _in_flight = self.metrics.in_flight();
        let id = RequestId {
            run: self.run,
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed),
        };
        let (mut head, body) = request.into_parts();
        let span = info_span!("request", %id, %peer, method = %head.method, route = Empty);
        // RFC 9110, 9.3.2: the same answer without its body, which the HTTP library leaves out.
        if head.method == Method::HEAD {
            head.method = Method::GET;
        }
        let route = self.service.route(&head.method, head.uri.path());
        span.record("route", route);
        let traced = telemetry::request(&span, &id, &head, self.metrics.listener(), route);
        let target = head.uri.clone();
        let framed_by_length = !head.headers.contains_key(TRANSFER_ENCODING);

        let outcome = match fault {
            Some(fault) => Err(fault),
            None => {
                self.run(id, peer, head, body)
                    .instrument(traced.clone())
                    .instrument(span.clone())
                    .await
            }
        };
        let streams = || Arc::clone(&self.streams).try_acquire_owned();
        let outcome = outcome.and_then(|response| match response.body {
            Body::Complete(_) => Ok((response, None)),
            Body::Stream(_) => match streams() {
                Ok(permit) => Ok((response, Some(permit))),
                Err(_) => Err(Rejection::Streams),
            },
        });
        let (response, permit) = outcome.unwrap_or_else(|rejection| {
            self.metrics.rejected(rejection.name());
            // Any peer can cause any number of these, so by default they are only counted.
            span.in_scope(|| debug!(reason = rejection.name(), "{rejection}"));
            (rejection.response(&*self.service, target.path()), None)
        });
        if permit.is_some() {
            state.begin_stream();
        }
        let mut response = self.wire_form(response, permit, shutdown);
        let headers = response.headers_mut();
        // Without a length, the parser alone decides where the next request begins; the guard does
        // not see it.
        if !framed_by_length || self.connections.is_nearly_reached() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Ok(id) = HeaderValue::try_from(id.to_string()) {
            headers.insert(REQUEST_ID, id);
        }
        let elapsed = begun.elapsed();
        self.metrics.answered(route, response.status(), elapsed);
        telemetry::answered(&traced, response.status());
        span.in_scope(|| {
            debug!(
                status = response.status().as_u16(),
                seconds = elapsed.as_secs_f64(),
                "answered"
            );
        });
        state.end_answer();
        response
    }

    /// The response for the HTTP library. A stream without a permit is not sent.
    fn wire_form(
        &self,
        response: Response,
        permit: Option<OwnedSemaphorePermit>,
        shutdown: ShutdownSignal,
    ) -> hyper::Response<WireBody> {
        let body = match (response.body, permit) {
            (Body::Complete(octets), _) => Either::Left(Full::new(octets)),
            (Body::Stream(parts), Some(permit)) => {
                let idle_time = self.limits.idle_time;
                Either::Right(StreamedBody::new(parts, shutdown, idle_time, permit))
            }
            (Body::Stream(_), None) => Either::Left(Full::default()),
        };
        let mut wire = hyper::Response::new(body);
        *wire.status_mut() = response.status;
        *wire.headers_mut() = response.headers;
        let headers = wire.headers_mut();
        if let Some(content_type) = response.content_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        offer_head(headers);
        wire
    }

    async fn run(
        &self,
        id: RequestId,
        peer: Peer,
        head: Parts,
        body: Incoming,
    ) -> Result<Response, Rejection> {
        let expects_continue = check_head(&head)?;
        let network = Network::from(&peer);
        let large = LargeBodies {
            service: &*self.service,
            path: head.uri.path(),
        };
        let (limits, memory) = (&self.limits, &self.memory);
        let body = body::read(body, network, limits, memory, large, expects_continue).await?;
        let deadline = Instant::now() + self.limits.request_time;
        let waiting = self.metrics.waiting();
        let permit = self.limiter.acquire(network, deadline).await?;
        drop(waiting);
        let HeldBody {
            octets,
            reservation,
        } = body;
        let request = Request {
            id,
            path: head.uri.path().to_owned(),
            query: head.uri.query().map(str::to_owned),
            method: head.method,
            headers: head.headers,
            body: octets,
            peer,
        };
        // A task of its own: it is finished even if the peer goes away, and its panic ends here.
        let service = self.service.clone();
        let work = tokio::spawn(
            async move {
                let response = timeout_at(deadline, service.handle(request)).await;
                drop((permit, reservation));
                response
            }
            .in_current_span(),
        );
        match work.await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(_elapsed)) => Err(Rejection::RequestTime),
            Err(failure) => {
                error!(%failure, "a handler panicked");
                self.metrics.panicked();
                Err(Rejection::Panic)
            }
        }
    }
}

/// Where `GET` is allowed, so is `HEAD` (RFC 9110, 9.1).
fn offer_head(headers: &mut HeaderMap) {
    let Some(methods) = headers.get(ALLOW).and_then(|value| value.to_str().ok()) else {
        return;
    };
    let mut methods: Vec<&str> = methods.split(',').map(str::trim).collect();
    if let Some(place) = methods.iter().position(|method| *method == "GET")
        && !methods.contains(&"HEAD")
    {
        methods.insert(place + 1, "HEAD");
        if let Ok(methods) = HeaderValue::try_from(methods.join(", ")) {
            headers.insert(ALLOW, methods);
        }
    }
}

/// What every request must satisfy; says whether the peer waits to be told to send its body.
fn check_head(head: &Parts) -> Result<bool, Rejection> {
    let hosts = head.headers.get_all(HOST).iter().count();
    // RFC 9112, 3.2; HTTP/1.0 did not have the field yet.
    if hosts > 1 || (hosts == 0 && head.version == Version::HTTP_11) {
        return Err(Rejection::Host);
    }
    let named = head.headers.get(HOST).map(HeaderValue::as_bytes);
    let target = head
        .uri
        .authority()
        .map(|authority| authority.as_str().as_bytes());
    if !named.into_iter().chain(target).all(is_authority) {
        return Err(Rejection::Authority);
    }
    let path = head.uri.path();
    if !path.starts_with('/')
        || !is_valid(path, b"/")
        || !head.uri.query().is_none_or(|query| is_valid(query, b"/?"))
    {
        return Err(Rejection::Target);
    }
    check_transfer_coding(&head.headers)?;
    expects_continue(&head.headers)
}

/// RFC 9112, 6.1: a coding that is not understood is answered with 501.
fn check_transfer_coding(headers: &HeaderMap) -> Result<(), Rejection> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if is_chunked(coding) => Ok(()),
        _ => Err(Rejection::TransferCoding),
    }
}

/// RFC 9110, 7.2: a host and maybe a port, as in RFC 3986, 3.2, without a user. It may be empty.
fn is_authority(octets: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(octets) else {
        return false;
    };
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, port)) = rest.split_once(']') else {
                return false;
            };
            if address.parse::<Ipv6Addr>().is_err() {
                return false;
            }
            ("", port)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let is_port = |port: &str| port.bytes().all(|octet| octet.is_ascii_digit());
    let host = host.bytes().all(|octet| !b":@".contains(&octet)) && is_valid(host, b"");
    host && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

fn expects_continue(headers: &HeaderMap) -> Result<bool, Rejection> {
    match headers.get(EXPECT) {
        None => Ok(false),
        Some(value) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => Ok(true),
        Some(_) => Err(Rejection::Expectation),
    }
}

/// RFC 3986, 3.3 and 3.4: `pchar` and the characters in `more`.
fn is_valid(component: &str, more: &[u8]) -> bool {
    let mut octets = component.bytes();
    while let Some(octet) = octets.next() {
        let valid = match octet {
            b'%' => {
                let mut is_digit = || octets.next().is_some_and(|digit| digit.is_ascii_hexdigit());
                is_digit() && is_digit()
            }
            _ => {
                octet.is_ascii_alphanumeric()
                    || b"-._~!$&'()*+,;=:@".contains(&octet)
                    || more.contains(&octet)
            }
        };
        if !valid {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_rfc_3986() {
        for path in [
            "/",
            "/KeyProtection/service/v2.0/x",
            "/a%2Fb",
            "/a:b@c;d=e",
            "//a/../b",
        ] {
            assert!(is_valid(path, b"/"), "{path}");
        }
        for path in [
            "/a%2", "/a%zz", "/a b", "/a\\b", "/a|b", "/a\"b", "/\u{e9}", "/a?b", "/{a}",
        ] {
            assert!(!is_valid(path, b"/"), "{path}");
        }
    }
    #[test]
    fn hosts_are_those_of_rfc_9110() {
        for host in [
            "",
            "a",
            "a.example:443",
            "192.0.2.1:80",
            "[2001:db8::1]",
            "[::1]:8080",
            "a:",
            "xn--a_b",
        ] {
            assert!(is_authority(host.as_bytes()), "{host}");
        }
        for host in [
            "a b@c", "a@b", "a b", "a:b", "a:80:90", "[::1", "::1", "[a]", "[::1]x", "a/b", "a?b",
            "a#b", "a\\b", "http://a", "a%2", "\u{e9}",
        ] {
            assert!(!is_authority(host.as_bytes()), "{host}");
        }
        assert!(!is_authority(b"\xff"));
    }
}
