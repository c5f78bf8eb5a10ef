//! Behind `[listen.http]` and `[listen.https]`: the two protocols, and health tokens. Every route is a section of a specification or
//! of the protocol profile.

mod family;
mod routes;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hgs_attest::Endpoint;
use hgs_attest::freshness::{NONCE_HEADER, PROOF_HEADER};
use hgs_attest::health_token::TokenRefusal;
use hgs_attest::rtpm::MAX_REQUEST;
use hgs_kps::offline_report::{OFFLINE_UNWRAPS, OfflineReport};
use hgs_kps::signed_response::{ACCEPT_SIGNATURE, CONTENT_DIGEST, SignatureRequest};
use hgs_kps::wire::CONTENT_TYPE as XML;
use hgs_kps::{Refusal, ServiceVersion};
use hyper::header::{ALLOW, CACHE_CONTROL, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{HeaderMap, Method, StatusCode};
use tracing::Instrument as _;

use self::family::Family;
use self::routes::{Operation, Route, find};
use crate::guardian::{
    AttestationRequest, Attestations, Attested, HealthTokens, ReleaseRequest, Releases,
    RequestFields, TokenRequest,
};
use crate::http::{Request, Response, Service};
use crate::telemetry;

pub(crate) use family::JSON;

/// How long verifiers of tokens keep the keys: a signer that an administrator removes is believed for so long.
const KEYS_KEPT: &str = "public, max-age=900";

/// The service of both protocols.
pub(crate) struct Protocols {
    pub(crate) attestations: Arc<Attestations>,
    pub(crate) releases: Arc<Releases>,
    pub(crate) health_tokens: Arc<HealthTokens>,
}

impl Protocols {
    async fn answer(&self, operation: Operation, request: Request) -> Response {
        let network = (&request.peer).into();
        match operation {
            Operation::RollTransportKey(version) => match self.roll(version, request).await {
                Ok(response) => response,
                Err(refusal) => family::key_protection_error(&refusal),
            },
            Operation::Metadata => match self.releases.metadata(network).await {
                Ok(document) => Response::new(StatusCode::OK, XML, Bytes::from_owner(document)),
                Err(refusal) => family::key_protection_error(&refusal),
            },
            Operation::ServiceInfo => {
                self.with_nonce(json(self.attestations.service_info().to_json()))
            }
            Operation::Attest(endpoint) => {
                let request = AttestationRequest {
                    id: request.id,
                    proof: proof(&request.headers),
                    body: request.body,
                    network,
                };
                let attested = self.attestations.attest(endpoint, request);
                let attested = attested.instrument(telemetry::service("attestation"));
                match attested.await {
                    Attested::Issued(issued) => json(issued.reply().to_json()),
                    Attested::Continue(reply) => json(reply.to_json()),
                    Attested::Refused(refusal) => {
                        self.with_nonce(family::attestation_error(&refusal))
                    }
                }
            }
            Operation::SigningCertificates => json(self.attestations.signing_certificates()),
            Operation::HealthToken if request.method == Method::GET => {
                match self.health_tokens.challenge() {
                    Ok(challenge) => not_stored(json(challenge.to_json())),
                    Err(refusal) => family::health_token_error(&refusal, None),
                }
            }
            Operation::HealthToken => {
                let asked = TokenRequest {
                    id: request.id,
                    body: request.body,
                    network,
                };
                match self.health_tokens.issue(asked).await {
                    Ok(issued) => not_stored(json(issued.to_json())),
                    Err(refusal) => not_stored(self.no_token(&refusal)),
                }
            }
            Operation::HealthTokenKeys => published(self.health_tokens.key_set()),
            Operation::HealthTokenDiscovery => published(self.health_tokens.discovery()),
        }
    }
}

impl Protocols {
    async fn roll(&self, version: ServiceVersion, request: Request) -> Result<Response, Refusal> {
        let values = |name| -> Vec<&[u8]> {
            let values = request.headers.get_all(name).iter();
            values.map(HeaderValue::as_bytes).collect()
        };
        let (accepted, digest) = (values(ACCEPT_SIGNATURE), values(CONTENT_DIGEST));
        let signature = SignatureRequest::read(&accepted, &digest, &request.body);
        let report = OfflineReport::read(&values(OFFLINE_UNWRAPS));
        let fields = signature.map_err(Refusal::from).and_then(|signature| {
            let report = report?;
            Ok(RequestFields { signature, report })
        });
        let request = ReleaseRequest {
            id: request.id,
            version,
            network: (&request.peer).into(),
            body: request.body,
        };
        let rolled = self.releases.roll(request, fields);
        let rolled = rolled.instrument(telemetry::service("release"));
        let (document, fields) = rolled.await?;
        let mut response = Response::new(StatusCode::OK, XML, document);
        for (name, value) in fields.iter().flat_map(|fields| fields.values()) {
            // Base64 and the characters of section 10 of the profile.
            if let Ok(value) = HeaderValue::from_str(value) {
                response = response.with_header(HeaderName::from_static(name), value);
            }
        }
        Ok(response)
    }

    /// The answer to a host that gets no token, with a nonce where another request can succeed.
    fn no_token(&self, refusal: &TokenRefusal) -> Response {
        let is_retryable = refusal.code().is_retryable();
        let nonce = is_retryable.then(|| self.health_tokens.nonce()).flatten();
        family::health_token_error(refusal, nonce.as_ref())
    }

    /// The response with a nonce, which the host returns with its next request.
    fn with_nonce(&self, response: Response) -> Response {
        match HeaderValue::try_from(self.attestations.nonce().to_header()) {
            Ok(nonce) => response.with_header(HeaderName::from_static(NONCE_HEADER), nonce),
            Err(_) => response,
        }
    }
}

/// The nonce that a host returns. Two headers are none that could be read.
fn proof(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(PROOF_HEADER).iter();
    let first = values.next()?;
    let only = values.next().is_none();
    let text = first.to_str().ok().filter(|_| only);
    Some(text.unwrap_or_default().to_owned())
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
            self.answer(route.operation, request).await
        })
    }

    fn route(&self, _method: &Method, path: &str) -> &'static str {
        find(path).map_or("unknown", |route| route.name)
    }

    fn large_body(&self, path: &str) -> Option<usize> {
        let operation = find(path)?.operation;
        (operation == Operation::Attest(Endpoint::Attest)).then_some(MAX_REQUEST)
    }

    fn admits_large_body(&self, _path: &str, beginning: &[u8]) -> bool {
        self.attestations.admits_large_body(beginning)
    }

    fn rejection(&self, path: &str, status: StatusCode, line: &str) -> Response {
        Family::of(path).rejection(status, line)
    }
}

fn json(body: Vec<u8>) -> Response {
    Response::new(StatusCode::OK, JSON, body)
}

/// What verifiers fetch and keep for a while. A new signer is published for a day before it signs.
fn published(document: Result<Vec<u8>, TokenRefusal>) -> Response {
    match document {
        Ok(document) => Response::new(StatusCode::OK, "application/json", document)
            .with_header(CACHE_CONTROL, HeaderValue::from_static(KEYS_KEPT)),
        Err(refusal) => Response::text(StatusCode::NOT_FOUND, refusal),
    }
}

/// What is for one host alone, and once.
fn not_stored(response: Response) -> Response {
    response.with_header(CACHE_CONTROL, HeaderValue::from_static("no-store"))
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
