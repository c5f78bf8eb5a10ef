use hgs_crypto::base64;
use hgs_xml::Document;

use super::{LIMITS, octets, texts, write};

const NAME: &str = "RollTransportKeyResponse";

/// The answer to a request ([MS-KPS] 2.2.2.2). Only the protector is readable without the key of the health certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollTransportKeyResponse {
    /// The document of the egress protector.
    pub egress_protector: Vec<u8>,
    /// The transfer key, encrypted to the health certificate.
    pub encrypted_transfer_key: Vec<u8>,
    /// The wrapping key, encrypted under the transfer key.
    pub encrypted_wrapping_key: Vec<u8>,
    /// The transport key blob, encrypted under the wrapping key.
    pub encrypted_transport_keys: Vec<u8>,
}

/// Why octets are not a response. The sender is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// Not a document of the schema.
    #[error("not a response with rolled transport keys: {0}")]
    Xml(#[from] hgs_xml::Error),
    /// Not Base64, or nothing in it.
    #[error("{element} is not the canonical Base64 of at least one octet")]
    Base64 {
        /// The element.
        element: &'static str,
    },
}

const EGRESS_PROTECTOR: &str = "EgressProtector";
const TRANSFER_KEY: &str = "EncryptedTransferKey";
const WRAPPING_KEY: &str = "EncryptedWrappingKey";
const TRANSPORT_KEYS: &str = "EncryptedTransportKeys";

impl RollTransportKeyResponse {
    /// Reads a response of at most [`MAX_OCTETS`](super::MAX_OCTETS).
    pub fn from_xml(body: &[u8]) -> Result<Self, ResponseError> {
        let document = Document::parse(body, &LIMITS)?;
        let elements = [EGRESS_PROTECTOR, TRANSFER_KEY, WRAPPING_KEY, TRANSPORT_KEYS];
        let [egress, transfer_key, wrapping_key, transport_keys] =
            texts(&document, NAME, elements)?;
        let required = |text, element| octets(text).ok_or(ResponseError::Base64 { element });
        Ok(Self {
            egress_protector: required(egress, EGRESS_PROTECTOR)?,
            encrypted_transfer_key: required(transfer_key, TRANSFER_KEY)?,
            encrypted_wrapping_key: required(wrapping_key, WRAPPING_KEY)?,
            encrypted_transport_keys: required(transport_keys, TRANSPORT_KEYS)?,
        })
    }

    /// Writes the response.
    #[must_use]
    pub fn to_xml(&self) -> Vec<u8> {
        write(
            NAME,
            &[
                (EGRESS_PROTECTOR, &base64::encode(&self.egress_protector)),
                (TRANSFER_KEY, &base64::encode(&self.encrypted_transfer_key)),
                (WRAPPING_KEY, &base64::encode(&self.encrypted_wrapping_key)),
                (
                    TRANSPORT_KEYS,
                    &base64::encode(&self.encrypted_transport_keys),
                ),
            ],
        )
    }
}
