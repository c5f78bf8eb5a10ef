//! One request for the keys of a protector to one key protection service, and what is made of the
//! answer.

use std::sync::Arc;

use bytes::Bytes;
use hgs_custody::HeldKeys;
use hgs_kps::wire::{self, Algorithms};
use hgs_kps::{Caches, ClientError, Code, PendingRoll, Released, ServiceVersion};
use hgs_protector::suite::{KeyEncryption, TransportKeysEncryption, WrappingKeyEncryption};
use hgs_protector::{Fault, VerifiedProtector};

use crate::certify::Certified;
use crate::http::{Client, Request, Response};
use crate::service::Cause;
use crate::url::Url;

/// What is asked for: the suite's first choice for each use.
const ALGORITHMS: Algorithms = Algorithms {
    transfer_key: KeyEncryption::RsaOaep,
    wrapping_key: WrappingKeyEncryption::Aes256Gcm,
    transport_keys: TransportKeysEncryption::Aes256Gcm,
};

/// Characters kept of what a service says for people, which ends up on screens and in logs.
const MAX_MESSAGE: usize = 500;

/// What a key protection service answered instead of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyProtectionFailure {
    /// It refused.
    #[error("{message} ({name})")]
    Refused {
        /// The code, where it is one of the protocol profile, section 6.
        code: Option<Code>,
        /// The code as it was sent.
        name: String,
        /// For people.
        message: String,
    },
    /// The reply is not of this protocol: perhaps that of a proxy, or of another service.
    #[error("reply with HTTP status {status} is not one of a key protection service: {reason}")]
    Unintelligible {
        /// The HTTP status.
        status: u16,
        /// What is wrong with the body.
        reason: String,
    },
    /// It answered, but what it sent must not be used: nothing is sealed anew, and the protector and
    /// what is sealed under it stay as they are.
    #[error("the answer is not used: {0}")]
    NotUsed(#[from] ClientError),
}

impl KeyProtectionFailure {
    /// Whether this is a decision about the host or the protector, and not a failure of the service.
    #[must_use]
    pub fn is_decision(&self) -> bool {
        let Self::Refused { code, .. } = self else {
            return false;
        };
        code.is_some_and(|code| matches!(code.fault(), Fault::Host | Fault::Protector))
    }
}

/// Has the keys in `ingress` released to the holder of a health certificate, and opens the answer.
pub(crate) async fn roll(
    client: &Client,
    key_protection: &Url,
    version: ServiceVersion,
    ingress: &VerifiedProtector,
    certified: &Certified,
    caches: &Caches,
) -> Result<Released, Cause> {
    let certificate = certified.certificate.clone();
    let pending = PendingRoll::new(ingress.clone(), certificate, ALGORITHMS, version);
    let answer = post(client, key_protection, version, pending.request()).await?;
    let mut keys = HeldKeys::default();
    keys.hold(&certified.certificate, Arc::clone(&certified.key) as _);
    let released = pending.receive(&answer, caches, &mut &keys);
    Ok(released.map_err(KeyProtectionFailure::from)?)
}

/// Posts a request to roll, and returns the body of an answer that is no refusal.
pub(crate) async fn post(
    client: &Client,
    key_protection: &Url,
    version: ServiceVersion,
    request: Vec<u8>,
) -> Result<Bytes, Cause> {
    let response = client
        .send(&Request::Post {
            url: key_protection.join(match version {
                ServiceVersion::V1 => "/service/v1.0/rolltransportkey",
                ServiceVersion::V2 => "/service/v2.0/rolltransportkey",
            }),
            content_type: wire::CONTENT_TYPE,
            body: Bytes::from(request),
        })
        .await?;
    match response.status {
        200 => Ok(response.body),
        _ => Err(refused(&response).into()),
    }
}

/// The metadata that the service at `key_protection` publishes ([MS-KPS] 3.2.5.2).
pub(crate) async fn metadata(client: &Client, key_protection: &Url) -> Result<Vec<u8>, Cause> {
    let url = key_protection.join("/service/metadata/2014-07/metadata.xml");
    let response = client.send(&Request::Get { url }).await?;
    match response.status {
        200 => Ok(response.body.to_vec()),
        _ => Err(refused(&response).into()),
    }
}

fn refused(response: &Response) -> KeyProtectionFailure {
    let status = response.status;
    match wire::Error::from_xml(&response.body) {
        Ok(error) => KeyProtectionFailure::Refused {
            code: Code::ALL.into_iter().find(|code| code.name() == error.code),
            name: plain(&error.code),
            message: plain(&error.message),
        },
        Err(error) => KeyProtectionFailure::Unintelligible {
            status,
            reason: error.to_string(),
        },
    }
}

/// Text of strangers, made fit for a terminal.
fn plain(text: &str) -> String {
    let shown = text.chars().filter(|character| !character.is_control());
    shown.take(MAX_MESSAGE).collect()
}
