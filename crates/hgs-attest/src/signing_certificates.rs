//! The body of `GET /Attestation/v2.0/signingCertificates` ([MS-HGSA] 3.1.5.5): a JSON array of the octets of a
//! certs-only PKCS#7.
//!
//! Real database drivers parse it with less than a JSON parser: one drops the first and the last character, splits at
//! commas and reads decimal numbers, with no patience for white space. So there is none, and no final newline.

use hgs_pki::Certificate;
use hgs_pki::pkcs7::{self, Pkcs7Error};

/// Octets of the largest body that is read: each octet of the largest PKCS#7 takes at most three digits and a comma.
pub const MAX_BODY_OCTETS: usize = 4 * pkcs7::MAX_OCTETS + 2;

/// Octets that one record of TLS carries (RFC 8446 section 5.1). A driver of databases that is in wide use reads no further.
const TLS_RECORD_OCTETS: usize = 16_384;
/// Octets that are left for the status line and the header fields before the body.
const HEADER_OCTETS: usize = 1024;

/// Whether these certificates with their header fields fit into one record of TLS: four over keys of 3072 bits as the
/// guardian makes them, five of 2048 bits, or three of 4096 bits.
#[must_use]
pub fn fits_one_record(certificates: &[Certificate]) -> bool {
    write(certificates).len() + HEADER_OCTETS <= TLS_RECORD_OCTETS
}

/// Why a body holds no signing certificates. The fault is with the server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigningCertificatesError {
    /// More than [`MAX_BODY_OCTETS`].
    #[error("list of signing certificates has {0} octets; {MAX_BODY_OCTETS} are accepted")]
    TooLarge(usize),
    /// Not a JSON array of numbers from 0 to 255.
    #[error(
        "list of signing certificates is no JSON array of octets at line {line}, column {column}"
    )]
    NotOctets {
        /// The line, from 1.
        line: usize,
        /// The column, from 1; 0 at the end of a line.
        column: usize,
    },
    /// The octets are not a certs-only PKCS#7.
    #[error(transparent)]
    Pkcs7(#[from] Pkcs7Error),
}

/// Writes the body, which is to be sent with `Content-Length` and at once.
#[must_use]
pub fn write(certificates: &[Certificate]) -> Vec<u8> {
    let octets = pkcs7::certificates_only(certificates);
    serde_json::to_vec(&octets).expect("octets are numbers and are written to memory")
}

/// Reads a body. White space between the tokens of the array is allowed, as JSON allows it.
pub fn read(body: &[u8]) -> Result<Vec<Certificate>, SigningCertificatesError> {
    if body.len() > MAX_BODY_OCTETS {
        return Err(SigningCertificatesError::TooLarge(body.len()));
    }
    let octets: Vec<u8> =
        serde_json::from_slice(body).map_err(|error| SigningCertificatesError::NotOctets {
            line: error.line(),
            column: error.column(),
        })?;
    Ok(pkcs7::parse(&octets)?)
}
