//! How a private key reaches the guardian: in the body of a request, after the JSON and a line feed, as unencrypted
//! PKCS#8 in PEM (RFC 7468). It crosses nothing but a Unix socket of this machine, and is no part of any type that
//! could be logged, recorded or answered.
//!
//! Both ends wipe their copies of the body. What the kernel and the HTTP library buffer meanwhile is out of reach;
//! neither process can be dumped.

use bytes::Bytes;
use hgs_crypto::SecretBytes;
use hgs_crypto::random::System;
use hgs_custody::{SoftwareKey, pem};
use serde::Serialize;

use super::AdminError;

/// A body that is wiped when it was sent.
struct Wiped(SecretBytes);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

/// The body of a request that brings `key`.
pub(super) fn write(
    request: &impl Serialize,
    key: Option<&SoftwareKey>,
) -> Result<Bytes, AdminError> {
    let json = serde_json::to_vec(request).map_err(AdminError::invalid)?;
    let Some(key) = key else {
        return Ok(json.into());
    };
    let pem = pem::write_private_key(key, None, &mut System::new()).map_err(AdminError::invalid)?;
    // At once, so that nothing grows and leaves a copy behind.
    let body = [&json[..], b"\n", pem.as_bytes()].concat();
    Ok(Bytes::from_owner(Wiped(SecretBytes::new(body))))
}

/// The JSON of a body, and the key after it.
pub(super) fn read(body: &[u8]) -> Result<(&[u8], Option<SoftwareKey>), AdminError> {
    let end = body.iter().position(|octet| *octet == b'\n');
    let (json, rest) = body.split_at(end.unwrap_or(body.len()));
    if rest.trim_ascii().is_empty() {
        return Ok((json, None));
    }
    let key = pem::read_private_key(rest, None)
        .map_err(|error| AdminError::invalid(format_args!("private key: {error}")))?;
    Ok((json, Some(key)))
}

/// Wipes a body that was read.
pub(super) fn wipe(body: Bytes) {
    // Without a copy where nobody else has a part of it.
    drop(SecretBytes::new(body.into()));
}

#[cfg(test)]
mod tests {
    use hgs_custody::PrivateKey as _;
    use proptest::prelude::*;

    use super::super::ErrorCode;
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let request = serde_json::json!({"text": "with a\nline feed"});
        let key = SoftwareKey::generate(2048).unwrap();
        let body = write(&request, Some(&key)).unwrap();
        let (json, read_key) = read(&body).unwrap();
        assert_eq!(json, serde_json::to_vec(&request).unwrap());
        assert_eq!(read_key.unwrap().public(), key.public());
        let body = write(&request, None).unwrap();
        assert!(read(&body).unwrap().1.is_none());
        wipe(body);
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(json in "[^\n]*", rest in "\n.*") {
            if let Err(error) = read(format!("{json}{rest}").as_bytes()) {
                prop_assert_eq!(error.code, ErrorCode::InvalidRequest);
                prop_assert!(rest.len() < 16 || !error.message.contains(rest.trim()));
            }
        }
    }
}
