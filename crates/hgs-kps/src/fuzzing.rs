//! Bodies for fuzzing: they take any octets, and panic only if this crate is wrong.

use crate::signed_response::{ResponseFields, SignatureRequest, fuzz_delegation};
use crate::wire::{Error, RollTransportKeyRequest, RollTransportKeyResponse};

/// Reads a request.
///
/// # Panics
///
/// If what was read is not read again when it is written.
pub fn fuzz_request(data: &[u8]) {
    if let Ok(request) = RollTransportKeyRequest::from_xml(data) {
        let again = RollTransportKeyRequest::from_xml(&request.to_xml());
        assert_eq!(again.as_ref(), Ok(&request));
    }
}

/// Reads a response.
///
/// # Panics
///
/// If what was read is not read again when it is written.
pub fn fuzz_response(data: &[u8]) {
    if let Ok(response) = RollTransportKeyResponse::from_xml(data) {
        let again = RollTransportKeyResponse::from_xml(&response.to_xml());
        assert_eq!(again.as_ref(), Ok(&response));
    }
}

/// Reads an error.
///
/// # Panics
///
/// If what was read is not read again when it is written.
pub fn fuzz_error(data: &[u8]) {
    if let Ok(error) = Error::from_xml(data) {
        // Escapes may make it longer than a document may be.
        let written = error.to_xml();
        if written.len() <= crate::wire::MAX_OCTETS {
            assert_eq!(Error::from_xml(&written).as_ref(), Ok(&error));
        }
    }
}

/// Reads the fields of a request and of a response, one a line, and the octets of a delegation.
///
/// # Panics
///
/// If a request or a delegation that was read is written in another form.
pub fn fuzz_signed_response(data: &[u8]) {
    fuzz_delegation(data);
    let (body, lines) = (
        b"body",
        data.split(|octet| *octet == b'\n').collect::<Vec<_>>(),
    );
    let [accept, digest, rest @ ..] = &lines[..] else {
        return;
    };
    if let Ok(Some(request)) = SignatureRequest::read(&[accept], &[digest], body) {
        assert_eq!(request.accept_signature().as_bytes(), *accept);
        assert_eq!(request.content_digest().as_bytes(), *digest);
    }
    let value = |name| {
        let at = ResponseFields::NAMES
            .iter()
            .position(|known| *known == name);
        at.and_then(|at| rest.get(at))
            .map_or_else(Vec::new, |line| vec![*line])
    };
    if let Ok(fields) = ResponseFields::read(value) {
        fields.fuzz();
    }
}
