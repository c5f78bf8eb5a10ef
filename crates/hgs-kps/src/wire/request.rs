use hgs_crypto::base64;
use hgs_protector::suite::{KeyEncryption, TransportKeysEncryption, WrappingKeyEncryption};
use hgs_xml::Document;

use super::{LIMITS, octets, texts, write};

const NAME: &str = "RollTransportKeyRequest";

/// A request for the keys of a virtual machine ([MS-KPS] 2.2.2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollTransportKeyRequest {
    /// The document of the ingress protector.
    pub ingress_protector: Vec<u8>,
    /// The DER of the health certificate.
    pub health_certificate: Vec<u8>,
    /// How the answer is to be encrypted.
    pub algorithms: Algorithms,
}

/// How the host wants the three layers of an answer encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Algorithms {
    /// The transfer key, to the health certificate.
    pub transfer_key: KeyEncryption,
    /// The wrapping key, under the transfer key.
    pub wrapping_key: WrappingKeyEncryption,
    /// The transport keys, under the wrapping key.
    pub transport_keys: TransportKeysEncryption,
}

/// Why octets are not a request. The sender is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not a document of the schema.
    #[error("not a request to roll a transport key: {0}")]
    Xml(#[from] hgs_xml::Error),
    /// Not Base64, or nothing in it.
    #[error("{element} is not the canonical Base64 of at least one octet")]
    Base64 {
        /// The element.
        element: &'static str,
    },
    /// An algorithm that is not in the suite for this use.
    #[error("{element} names the unknown algorithm `{identifier}`")]
    UnknownAlgorithm {
        /// The element.
        element: &'static str,
        /// The identifier, escaped and cut short.
        identifier: String,
    },
}

impl RequestError {
    /// Whether a limit was passed, rather than a rule broken.
    #[must_use]
    pub fn is_limit(&self) -> bool {
        matches!(self, Self::Xml(error) if error.is_limit())
    }
}

const INGRESS_PROTECTOR: &str = "IngressProtector";
const HEALTH_CERTIFICATE: &str = "HealthCertificate";
const TRANSFER_KEY: &str = "TransferKeyEncryptionAlgorithm";
const WRAPPING_KEY: &str = "WrappingKeyEncryptionAlgorithm";
const TRANSPORT_KEYS: &str = "TransportKeysEncryptionAlgorithm";

impl RollTransportKeyRequest {
    /// Reads a request of at most [`MAX_OCTETS`](super::MAX_OCTETS).
    pub fn from_xml(body: &[u8]) -> Result<Self, RequestError> {
        let document = Document::parse(body, &LIMITS)?;
        let [ingress, health, transfer_key, wrapping_key, transport_keys] = texts(
            &document,
            NAME,
            [
                INGRESS_PROTECTOR,
                HEALTH_CERTIFICATE,
                TRANSFER_KEY,
                WRAPPING_KEY,
                TRANSPORT_KEYS,
            ],
        )?;
        let required = |text, element| octets(text).ok_or(RequestError::Base64 { element });
        Ok(Self {
            ingress_protector: required(ingress, INGRESS_PROTECTOR)?,
            health_certificate: required(health, HEALTH_CERTIFICATE)?,
            algorithms: Algorithms {
                transfer_key: known(TRANSFER_KEY, transfer_key, KeyEncryption::from_identifier)?,
                wrapping_key: known(
                    WRAPPING_KEY,
                    wrapping_key,
                    WrappingKeyEncryption::from_identifier,
                )?,
                transport_keys: known(
                    TRANSPORT_KEYS,
                    transport_keys,
                    TransportKeysEncryption::from_identifier,
                )?,
            },
        })
    }

    /// Writes the request.
    #[must_use]
    pub fn to_xml(&self) -> Vec<u8> {
        write(
            NAME,
            &[
                (INGRESS_PROTECTOR, &base64::encode(&self.ingress_protector)),
                (
                    HEALTH_CERTIFICATE,
                    &base64::encode(&self.health_certificate),
                ),
                (TRANSFER_KEY, self.algorithms.transfer_key.identifier()),
                (WRAPPING_KEY, self.algorithms.wrapping_key.identifier()),
                (TRANSPORT_KEYS, self.algorithms.transport_keys.identifier()),
            ],
        )
    }
}

fn known<A>(
    element: &'static str,
    text: &str,
    algorithm: impl Fn(&str) -> Option<A>,
) -> Result<A, RequestError> {
    // White space around an xs:anyURI does not count.
    let identifier = text.trim_matches([' ', '\t', '\r', '\n']);
    algorithm(identifier).ok_or_else(|| RequestError::UnknownAlgorithm {
        element,
        identifier: hgs_xml::printable(identifier),
    })
}
