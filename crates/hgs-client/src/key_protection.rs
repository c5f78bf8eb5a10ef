//! One request for the keys of a protector to one key protection service, and what is made of the
//! answer.

pub(crate) mod failure;

use std::panic::resume_unwind;
use std::sync::Arc;

use bytes::Bytes;
use hgs_custody::HeldKeys;
use hgs_kps::offline_report::{OFFLINE_UNWRAPS, OfflineReport};
use hgs_kps::signed_response::{
    ACCEPT_SIGNATURE, CONTENT_DIGEST, Nonce, ResponseFields, ResponseSignatureError,
    SignatureRequest,
};
use hgs_kps::wire::{self, Algorithms};
use hgs_kps::{Authenticity, Caches, PendingRoll, Released, ServiceVersion};
use hgs_protector::VerifiedProtector;
use hgs_protector::suite::{KeyEncryption, TransportKeysEncryption, WrappingKeyEncryption};
use hyper::header::HeaderValue;

use crate::certify::Certified;
use crate::http::{Conversation, Request, Response};
use crate::kept_keys::OfflineUses;
use crate::service::Answer;
use crate::url::ServiceUrls;
use hgs_clock::Clock;

use self::failure::KeyProtectionFailure;

/// What is asked for: the suite's first choice for each use.
const ALGORITHMS: Algorithms = Algorithms {
    transfer_key: KeyEncryption::RsaOaep,
    wrapping_key: WrappingKeyEncryption::Aes256Gcm,
    transport_keys: TransportKeysEncryption::Aes256Gcm,
};

/// A key protection service, and how it is asked.
pub(crate) struct KeyProtection<'a> {
    pub(crate) conversation: &'a Conversation<'a>,
    pub(crate) urls: &'a ServiceUrls,
    pub(crate) version: ServiceVersion,
    pub(crate) caches: &'a Arc<Caches>,
    pub(crate) clock: &'a dyn Clock,
    /// Whether an answer without a signature is used.
    pub(crate) dangerous_accept_unsigned_responses: bool,
}

impl KeyProtection<'_> {
    /// Has the keys in `ingress` released to the holder of a health certificate, and opens the answer. `nonce` is fresh; the
    /// report says how often the ingress key was used offline.
    pub(crate) async fn roll(
        &self,
        ingress: &VerifiedProtector,
        certified: &Certified,
        nonce: Nonce,
        report: Option<&OfflineUses>,
    ) -> Answer<Released> {
        let certificate = certified.certificate.clone();
        let pending = PendingRoll::new(ingress.clone(), certificate, ALGORITHMS, self.version);
        let body = pending.request();
        let request = SignatureRequest::new(nonce, &body);
        let mut fields = vec![
            (CONTENT_DIGEST, request.content_digest()),
            (ACCEPT_SIGNATURE, request.accept_signature()),
        ];
        if let Some(OfflineUses { count, key, .. }) = report {
            let (digest, certificate) = (ingress.digest(), &certified.certificate);
            match OfflineReport::new(*count, key, &digest, certificate) {
                Ok(report) => fields.push((OFFLINE_UNWRAPS, report.value())),
                Err(error) => tracing::warn!(%error, "offline use of a key can't be reported"),
            }
        }
        let response = post(self.conversation, self.urls, self.version, body, fields).await?;
        let fields = ResponseFields::read(|name| {
            let values = response.fields.get_all(name).iter();
            values.map(HeaderValue::as_bytes).collect()
        });
        let fields = match fields {
            Err(ResponseSignatureError::Unsigned) if self.dangerous_accept_unsigned_responses => {
                tracing::warn!(
                    url = %self.urls.first(),
                    "an answer without a signature is used, because dangerous_accept_unsigned_responses is set"
                );
                None
            }
            fields => Some(fields.map_err(|error| KeyProtectionFailure::NotUsed(error.into()))?),
        };
        let key = certified.key.private();
        let is_blocking = key.is_blocking();
        let mut keys = HeldKeys::default();
        keys.hold(&certified.certificate, key);
        let (caches, now) = (Arc::clone(self.caches), self.clock.now());
        let receive = move || {
            let authenticity = match &fields {
                None => Authenticity::DangerouslyUnsigned,
                Some(fields) => Authenticity::Signed {
                    request: &request,
                    fields,
                    now,
                },
            };
            pending.receive(&response.body, authenticity, &caches, &mut &keys)
        };
        // A TPM takes its time.
        let released = match is_blocking {
            true => tokio::task::spawn_blocking(receive)
                .await
                .unwrap_or_else(|error| resume_unwind(error.into_panic())),
            false => receive(),
        };
        Ok(released.map_err(KeyProtectionFailure::from)?)
    }
}

/// Posts a request to roll, and returns an answer that is no refusal.
pub(crate) async fn post(
    conversation: &Conversation<'_>,
    key_protection: &ServiceUrls,
    version: ServiceVersion,
    request: Vec<u8>,
    fields: Vec<(&'static str, String)>,
) -> Answer<Response> {
    let response = conversation
        .send(&Request::Post {
            urls: key_protection.join(match version {
                ServiceVersion::V1 => "/service/v1.0/rolltransportkey",
                ServiceVersion::V2 => "/service/v2.0/rolltransportkey",
            }),
            content_type: wire::CONTENT_TYPE,
            fields,
            body: Bytes::from(request),
        })
        .await?;
    match response.status {
        200 => Ok(response),
        _ => Err(KeyProtectionFailure::of_reply(response.status, &response.body).into()),
    }
}

/// The metadata that the service at `key_protection` publishes ([MS-KPS] 3.2.5.2).
pub(crate) async fn metadata(
    conversation: &Conversation<'_>,
    key_protection: &ServiceUrls,
) -> Answer<Vec<u8>> {
    let urls = key_protection.join("/service/metadata/2014-07/metadata.xml");
    let response = conversation.send(&Request::Get { urls }).await?;
    match response.status {
        200 => Ok(response.body.to_vec()),
        _ => Err(KeyProtectionFailure::of_reply(response.status, &response.body).into()),
    }
}
