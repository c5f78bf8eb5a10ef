//! The spans of requests, with every attribute that they may have. All are disabled where nothing is sent.

use std::fmt::Display;

use hgs_pki::Thumbprint;
use hyper::http::request::Parts;
use hyper::{HeaderMap, StatusCode};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use tracing::field::Empty;
use tracing::{Span, trace_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::TRACED;

/// A request from the end of its head to its answer. `log` is its span in the log.
pub(crate) fn request(
    log: &Span,
    id: &dyn Display,
    head: &Parts,
    listener: &'static str,
    route: &'static str,
) -> Span {
    // The trace begins here, whatever is around it in the log.
    let span = trace_span!(
        target: TRACED,
        parent: log,
        "request",
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = %head.method,
        http.route = route,
        http.response.status_code = Empty,
        openhgs.listener = listener,
        openhgs.request.id = %id,
    );
    if !span.is_disabled()
        && let Some(link) = named_by_peer(&head.headers)
    {
        span.add_link(link);
    }
    span
}

/// What the request was answered with.
pub(crate) fn answered(span: &Span, status: StatusCode) {
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}

/// What a host asks for: `release` or `attestation`.
pub(crate) fn service(name: &'static str) -> Span {
    trace_span!(
        target: TRACED,
        "service",
        otel.name = name,
        openhgs.outcome = Empty,
        openhgs.host.id = Empty,
        openhgs.audit.record = Empty,
    )
}

/// What was decided of it, in the span of the caller.
pub(crate) fn decided(outcome: &str, host: Option<&String>, record: Option<u64>) {
    let span = Span::current();
    if span.is_disabled() {
        return;
    }
    span.record("openhgs.outcome", outcome);
    span.record("openhgs.host.id", host);
    span.record("openhgs.audit.record", record);
}

/// Until a processor is free.
pub(crate) fn wait() -> Span {
    trace_span!(target: TRACED, "wait")
}

/// Finding out whose request it is.
pub(crate) fn identify(parent: &Span) -> Span {
    trace_span!(target: TRACED, parent: parent, "identify")
}

/// A decision, on a thread for that.
pub(crate) fn work(parent: &Span) -> Span {
    trace_span!(target: TRACED, parent: parent, "work")
}

/// Work with the private key of a certificate.
pub(crate) fn key(operation: &'static str, certificate: &Thumbprint, is_token: bool) -> Span {
    trace_span!(
        target: TRACED,
        "key",
        openhgs.key.operation = operation,
        openhgs.key.place = if is_token { "token" } else { "software" },
        openhgs.certificate = %certificate,
    )
}

/// The span that a peer names in `traceparent` (<https://www.w3.org/TR/trace-context/>), without the state that it may carry.
fn named_by_peer(headers: &HeaderMap) -> Option<SpanContext> {
    let mut fields = headers.get_all("traceparent").iter();
    let (Some(field), None) = (fields.next(), fields.next()) else {
        return None;
    };
    let field = field.to_str().ok()?;
    let mut parts = field.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_form = version == "00"
        && parts.next().is_none()
        && trace.len() == 32
        && span.len() == 16
        && flags.len() == 2
        && field
            .bytes()
            .all(|octet| octet == b'-' || octet.is_ascii_digit() || (b'a'..=b'f').contains(&octet));
    if !is_form {
        return None;
    }
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let context = SpanContext::new(trace, span, TraceFlags::default(), true, TraceState::NONE);
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_names_its_span_in_the_form_of_the_standard() {
        let named = |fields: &[&str]| {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append("traceparent", field.parse().unwrap());
            }
            named_by_peer(&headers)
        };
        let whole = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = named(&[whole]).unwrap();
        assert_eq!(
            context.trace_id().to_string(),
            "0af7651916cd43dd8448eb211c80319c"
        );
        assert_eq!(context.span_id().to_string(), "b7ad6b7169203331");
        assert!(context.is_remote());
        for wrong in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert!(named(&[wrong]).is_none(), "{wrong}");
        }
        assert!(named(&[whole, whole]).is_none());
    }
}
