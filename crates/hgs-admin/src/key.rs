//! How a private key reaches the guardian: in the body of a request, after the JSON and a line feed, as unencrypted
//! PKCS#8 in PEM (RFC 7468). It travels over a Unix socket of this machine only, and no type that can be logged,
//! recorded or answered has room for it.
//!
//! Both ends wipe their copies of the body. The buffers of the kernel and of the HTTP library are out of reach; neither
//! process can be dumped.

use std::sync::Arc;

use bytes::Bytes;
use hgs_crypto::SecretBytes;
use hgs_crypto::random::System;
use hgs_custody::{Bundle, SoftwareKey, pem};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::AdminError;
use crate::read::Object;

/// A request with the private key that belongs to it. It does not serialise; its `Debug` shows no key.
#[derive(Debug, Clone)]
pub struct WithKey<T> {
    /// The request.
    pub request: T,
    /// The software key; absent where the key lives in a token.
    pub key: Option<Arc<SoftwareKey>>,
}

/// A body that is wiped when it was sent.
struct WipedBody(SecretBytes);

impl AsRef<[u8]> for WipedBody {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

/// The body of a request with its key.
pub(crate) fn write<T: Serialize>(with_key: &WithKey<T>) -> Result<Bytes, AdminError> {
    let json = serde_json::to_vec(&with_key.request).map_err(AdminError::invalid)?;
    let Some(key) = &with_key.key else {
        return Ok(json.into());
    };
    let pem = pem::write_private_key(key, None, &mut System::new()).map_err(AdminError::invalid)?;
    // At once, so that nothing grows and leaves a copy behind.
    let body = [&json[..], b"\n", pem.as_bytes()].concat();
    Ok(Bytes::from_owner(WipedBody(SecretBytes::new(body))))
}

/// Reads a body: its JSON, and the key after it.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<WithKey<T>, AdminError> {
    let end = body.iter().position(|octet| *octet == b'\n');
    let (json, rest) = body.split_at(end.unwrap_or(body.len()));
    let Object(request) = serde_json::from_slice(json).map_err(AdminError::invalid)?;
    if rest.trim_ascii().is_empty() {
        return Ok(WithKey { request, key: None });
    }
    let key = Bundle::read(rest, None)
        .and_then(|bundle| bundle.private_key(None))
        .map_err(|error| AdminError::invalid(format_args!("private key: {error}")))?;
    Ok(WithKey {
        request,
        key: Some(Arc::new(key)),
    })
}

/// Wipes the body of a request that was read.
pub fn wipe(body: Bytes) {
    // Without a copy where this is the only reference.
    drop(SecretBytes::new(body.into()));
}

#[cfg(test)]
mod tests {
    use hgs_custody::PrivateKey as _;
    use proptest::prelude::*;

    use super::*;
    use crate::ErrorCode;

    #[test]
    fn what_is_written_is_read_again() {
        let request = serde_json::json!({"text": "with a\nline feed"});
        let key = Some(Arc::new(SoftwareKey::generate(2048).unwrap()));
        let given = WithKey { request, key };
        let body = write(&given).unwrap();
        let read_back: WithKey<serde_json::Value> = read(&body).unwrap();
        assert_eq!(read_back.request, given.request);
        assert_eq!(
            read_back.key.unwrap().public(),
            given.key.as_ref().unwrap().public()
        );
        let body = write(&WithKey { key: None, ..given }).unwrap();
        assert!(read::<serde_json::Value>(&body).unwrap().key.is_none());
        wipe(body);
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(rest in "\n.*") {
            if let Err(error) = read::<serde_json::Value>(format!("{{}}{rest}").as_bytes()) {
                prop_assert_eq!(error.code, ErrorCode::InvalidRequest);
                prop_assert!(rest.len() < 16 || !error.message.contains(rest.trim()));
            }
        }
    }
}
