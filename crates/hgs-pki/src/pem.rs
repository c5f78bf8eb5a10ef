//! Certificates in the textual encoding of RFC 7468.

use crate::{Certificate, CertificateError};

/// Octets of the longest text that is read.
pub const MAX_PEM_OCTETS: usize = 256 * 1024;
/// Certificates that one text may hold.
pub const MAX_PEM_CERTIFICATES: usize = 64;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Why a text does not hold acceptable certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// More than [`MAX_PEM_OCTETS`].
    #[error("text has {0} octets; {MAX_PEM_OCTETS} are accepted")]
    TooLarge(usize),
    /// More than [`MAX_PEM_CERTIFICATES`].
    #[error("text holds more than {MAX_PEM_CERTIFICATES} certificates")]
    TooManyCertificates,
    /// No line begins a certificate.
    #[error("text has no line -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    /// One certificate is wanted.
    #[error("text holds {0} certificates; one is wanted")]
    SeveralCertificates(usize),
    /// A certificate begins and does not end.
    #[error("certificate {number} has no line -----END CERTIFICATE-----")]
    Unterminated {
        /// Which certificate, counted from 1.
        number: usize,
    },
    /// What stands between the lines is not Base64.
    #[error("certificate {number} is not Base64")]
    NotBase64 {
        /// Which certificate, counted from 1.
        number: usize,
    },
    /// The octets are not an acceptable certificate.
    #[error("certificate {number}: {error}")]
    Certificate {
        /// Which certificate, counted from 1.
        number: usize,
        /// What is wrong with it.
        error: CertificateError,
    },
}

pub(crate) fn single(text: &str) -> Result<Certificate, PemError> {
    let mut certificates = list(text)?;
    match (certificates.pop(), certificates.len()) {
        (Some(certificate), 0) => Ok(certificate),
        (_, others) => Err(PemError::SeveralCertificates(others + 1)),
    }
}

pub(crate) fn list(text: &str) -> Result<Vec<Certificate>, PemError> {
    if text.len() > MAX_PEM_OCTETS {
        return Err(PemError::TooLarge(text.len()));
    }
    let mut certificates = Vec::new();
    let mut lines = text.lines().map(str::trim_end);
    while lines.any(|line| line == BEGIN) {
        let number = certificates.len() + 1;
        if number > MAX_PEM_CERTIFICATES {
            return Err(PemError::TooManyCertificates);
        }
        let der = read_block(&mut lines, number)?;
        let certificate =
            Certificate::from_der(&der).map_err(|error| PemError::Certificate { number, error })?;
        certificates.push(certificate);
    }
    match certificates.is_empty() {
        true => Err(PemError::NoCertificate),
        false => Ok(certificates),
    }
}

fn read_block<'t>(
    lines: &mut impl Iterator<Item = &'t str>,
    number: usize,
) -> Result<Vec<u8>, PemError> {
    let mut base64 = String::new();
    for line in lines {
        if line == END {
            return hgs_crypto::base64::decode_xml(&base64)
                .map_err(|_| PemError::NotBase64 { number });
        }
        base64.push_str(line);
    }
    Err(PemError::Unterminated { number })
}

pub(crate) fn encode(der: &[u8]) -> String {
    let base64 = hgs_crypto::base64::encode(der);
    let mut text = String::with_capacity(base64.len() * 65 / 64 + 64);
    text.push_str(BEGIN);
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII, so every place is a boundary between characters.
        let (line, after) = rest.split_at_checked(64).unwrap_or((rest, ""));
        text.push('\n');
        text.push_str(line);
        rest = after;
    }
    text.push('\n');
    text.push_str(END);
    text.push('\n');
    text
}
