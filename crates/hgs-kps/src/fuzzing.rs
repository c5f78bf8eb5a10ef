//! Bodies for fuzzing: they take any octets, and panic only if this crate is wrong.

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
