//! Behind `[listen.http]` and `[listen.https]`: the two protocols. Every route is a section of a specification.

mod family;
mod routes;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hgs_kps::wire::CONTENT_TYPE as XML;
use hyper::header::{ALLOW, HeaderValue, RETRY_AFTER};
use hyper::{Method, StatusCode};

use self::family::Family;
use self::routes::{Operation, Route, find};
use crate::guardian::{Attested, Guardian};
use crate::http::{Request, Response, Service};

pub(crate) use family::JSON;

/// The service of both protocols.
pub(crate) struct Protocols(Arc<Guardian>);

impl Protocols {
    pub(crate) fn new(guardian: Arc<Guardian>) -> Self {
        Self(guardian)
    }

    async fn answer(&self, operation: Operation, body: Bytes) -> Response {
        let guardian = &self.0;
        match operation {
            Operation::RollTransportKey(version) => match guardian.roll(version, body).await {
                Ok(document) => Response::new(StatusCode::OK, XML, document),
                Err(refusal) => family::key_protection_error(&refusal),
            },
            Operation::Metadata => match guardian.metadata().await {
                Ok(document) => Response::new(StatusCode::OK, XML, Bytes::from_owner(document)),
                Err(refusal) => family::key_protection_error(&refusal),
            },
            Operation::ServiceInfo => json(Guardian::service_info().to_json()),
            Operation::Attest(endpoint) => match guardian.attest(endpoint, body).await {
                Attested::Issued(issued) => json(issued.reply().to_json()),
                Attested::Refused(refusal) => family::attestation_error(&refusal),
            },
            Operation::SigningCertificates => json(guardian.signing_certificates()),
        }
    }
}

impl Service for Protocols {
    fn handle(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            let Some(route) = find(&request.path) else {
                return Family::of(&request.path).not_found();
            };
            if !route.methods.contains(&request.method.as_str()) {
                return method_not_allowed(route);
            }
            self.answer(route.operation, request.body).await
        })
    }

    fn route(&self, _method: &Method, path: &str) -> &'static str {
        find(path).map_or("unknown", |route| route.name)
    }

    fn rejection(&self, path: &str, status: StatusCode, line: &str) -> Response {
        Family::of(path).rejection(status, line)
    }
}

fn json(body: Vec<u8>) -> Response {
    Response::new(StatusCode::OK, JSON, body)
}

fn method_not_allowed(route: &Route) -> Response {
    // The names of methods are ASCII.
    let methods = HeaderValue::try_from(route.methods.join(", "));
    let response = route.family.method_not_allowed();
    match methods {
        Ok(methods) => response.with_header(ALLOW, methods),
        Err(_) => response,
    }
}

fn with_retry_after(mut response: Response, seconds: u32) -> Response {
    response
        .headers
        .insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}
