//! The form of an answer that is none: an `Error` in XML where KPS is, a typed reply in JSON where attestation is, and a
//! line of text elsewhere.

use hgs_attest::Reason as AttestationReason;
use hgs_attest::freshness::Nonce;
use hgs_attest::health_token::TokenRefusal;
use hgs_kps::Reason as KeyProtectionReason;
use hgs_kps::wire::{CONTENT_TYPE as XML, MAX_OCTETS};
use hyper::StatusCode;

use super::with_retry_after;
use crate::http::Response;

/// The type of every body of attestation.
pub(crate) const JSON: &str = "application/json; charset=utf-8";

/// One of the two protocols, or what well-known paths lead to (RFC 8615), by the first segment of the path; or neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    KeyProtection,
    Attestation,
    WellKnown,
    Neither,
}

impl Family {
    /// Where its paths begin, in lower case.
    pub(super) fn roots(self) -> &'static [&'static str] {
        match self {
            Self::KeyProtection => &["/keyprotection"],
            Self::Attestation => &["/attestation", "/attestation/attestationservice.svc"],
            Self::WellKnown => &["/.well-known"],
            Self::Neither => &[],
        }
    }

    /// Whose error form a path gets, whether or not there is something at it.
    pub(super) fn of(path: &str) -> Self {
        let first = path.strip_prefix('/').unwrap_or(path).split('/').next();
        match first {
            Some(name) if name.eq_ignore_ascii_case("keyprotection") => Self::KeyProtection,
            Some(name) if name.eq_ignore_ascii_case("attestation") => Self::Attestation,
            Some(name) if name.eq_ignore_ascii_case(".well-known") => Self::WellKnown,
            _ => Self::Neither,
        }
    }

    pub(super) fn not_found(self) -> Response {
        self.error(
            KeyProtectionReason::NotFound,
            AttestationReason::NotFound,
            StatusCode::NOT_FOUND,
            "there is nothing here",
        )
    }

    pub(super) fn method_not_allowed(self) -> Response {
        self.error(
            KeyProtectionReason::MethodNotAllowed,
            AttestationReason::MethodNotAllowed,
            StatusCode::METHOD_NOT_ALLOWED,
            "the path has other methods",
        )
    }

    /// The answer to a request that the engine refused. What is wrong with its HTTP rather than with its body has no
    /// code of its own.
    pub(super) fn rejection(self, status: StatusCode, line: &str) -> Response {
        let (key_protection, attestation) = match status {
            StatusCode::PAYLOAD_TOO_LARGE => (
                KeyProtectionReason::BodyTooLarge { limit: MAX_OCTETS },
                AttestationReason::TooLarge,
            ),
            StatusCode::REQUEST_TIMEOUT => (
                KeyProtectionReason::RequestTimeout,
                AttestationReason::Timeout,
            ),
            StatusCode::SERVICE_UNAVAILABLE => (
                KeyProtectionReason::ServerBusy,
                AttestationReason::Unavailable,
            ),
            StatusCode::INTERNAL_SERVER_ERROR => {
                (KeyProtectionReason::Internal, AttestationReason::Internal)
            }
            _ => return Response::text(status, line),
        };
        self.error(key_protection, attestation, status, line)
    }

    fn error(
        self,
        key_protection: KeyProtectionReason,
        attestation: AttestationReason,
        status: StatusCode,
        line: &str,
    ) -> Response {
        match self {
            Self::KeyProtection => key_protection_error(&key_protection.into()),
            Self::Attestation => attestation_error(&attestation.into()),
            Self::WellKnown | Self::Neither => Response::text(status, line),
        }
    }
}

/// The answer of KPS to what it refuses.
pub(super) fn key_protection_error(refusal: &hgs_kps::Refusal) -> Response {
    let error = refusal.to_response();
    let response = Response::new(status(error.status), XML, error.body);
    match error.retry_after {
        Some(seconds) => with_retry_after(response, seconds),
        None => response,
    }
}

/// The answer of attestation to what it refuses.
pub(super) fn attestation_error(refusal: &hgs_attest::Refusal) -> Response {
    let status = status(refusal.status());
    let response = Response::new(status, JSON, refusal.reply().to_json());
    match status {
        StatusCode::SERVICE_UNAVAILABLE => with_retry_after(response, hgs_kps::RETRY_AFTER),
        _ => response,
    }
}

/// The answer to what is refused about health tokens.
pub(super) fn health_token_error(refusal: &TokenRefusal, nonce: Option<&Nonce>) -> Response {
    let status = status(refusal.code().status());
    let response = Response::new(status, JSON, refusal.reply(nonce));
    match status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
            with_retry_after(response, hgs_kps::RETRY_AFTER)
        }
        _ => response,
    }
}

fn status(number: u16) -> StatusCode {
    StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_segment_decides_whose_form_an_error_has() {
        for (path, family) in [
            ("/KeyProtection", Family::KeyProtection),
            ("/keyprotection/", Family::KeyProtection),
            ("/KEYPROTECTION/service/%2e%2e", Family::KeyProtection),
            ("/attestation/no/such/path", Family::Attestation),
            ("/KeyProtectionX/service", Family::Neither),
            ("//KeyProtection", Family::Neither),
            ("/", Family::Neither),
        ] {
            assert_eq!(Family::of(path), family, "{path}");
        }
    }
}
