//! RollTransportKey, the host's side ([MS-KPS] 3.2; the last paragraph of section 5 of the protocol profile).

use hgs_crypto::{CryptoError, SecretBytes, aes};
use hgs_pki::{Certificate, KeyError, KeyWork, Time};
use hgs_protector::suite::{TransportKeysEncryption, WrappingKeyEncryption};
use hgs_protector::transport_key_blob::{BlobError, BlobVersion, CachingPolicy, TransportKeyBlob};
use hgs_protector::{
    Protector, ProtectorError, TransportKey, VerifiedProtector, Wrapping, WrappingId,
};

use crate::signed_response::{ResponseFields, ResponseSignatureError, SignatureRequest};
use crate::wire::{Algorithms, ResponseError, RollTransportKeyRequest, RollTransportKeyResponse};
use crate::{Caches, ServiceVersion};

/// A request of a host, with what its response is checked against.
#[derive(Debug, Clone)]
pub struct PendingRoll {
    ingress: VerifiedProtector,
    health_certificate: Certificate,
    algorithms: Algorithms,
    version: ServiceVersion,
}

/// How a host knows that the guardian made an answer, and not an attacker on the way who has the ingress key.
#[derive(Debug, Clone, Copy)]
pub enum Authenticity<'a> {
    /// By the signature of the response (section 10 of the protocol profile).
    Signed {
        /// What was asked for.
        request: &'a SignatureRequest,
        /// What came.
        fields: &'a ResponseFields,
        /// The time.
        now: Time,
    },
    /// Not at all. For a host whose administrator chose so by a setting with `dangerous` in its name, and for an answer that
    /// never was on the way.
    DangerouslyUnsigned,
}

/// Keys that a KPS has released, and a protector that is fit to take the place of the old one.
#[derive(Debug, Clone)]
pub struct Released {
    /// The key that decrypts the stored state of the virtual machine.
    pub ingress_key: TransportKey,
    /// The key to seal it with from now on.
    pub egress_key: TransportKey,
    /// The protector of the new key.
    pub egress: VerifiedProtector,
    /// Whether, and how long, the keys may be kept.
    pub caching: Option<CachingPolicy>,
}

/// Why an answer is not used. Nothing may be sealed again then; the old protector and what it protects stay good.
///
/// The fault is with the service that answered, but for [`Self::Key`] and perhaps [`Self::Decryption`], which are about
/// the host's own key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Not a response.
    #[error("{0}")]
    Response(#[from] ResponseError),
    /// Nothing shows that the guardian made it.
    #[error("{0}")]
    Signature(#[from] ResponseSignatureError),
    /// The keys can't be decrypted with the key of the health certificate.
    #[error("the released keys were not encrypted to this host's health certificate")]
    Decryption,
    /// The private key of the health certificate can't be used.
    #[error("the private key of this host's health certificate can't be used: {0}")]
    Key(KeyError),
    /// The keys were encrypted under one that can be guessed.
    #[error("the released keys were encrypted under a key that is not random")]
    NotRandom,
    /// What was decrypted are not the keys.
    #[error("{0}")]
    Blob(#[from] BlobError),
    /// The keys of another version than was asked for.
    #[error("the released keys are not of version {expected}")]
    Version {
        /// The version that was asked for.
        expected: ServiceVersion,
    },
    /// The ingress key is not that of the protector that was sent.
    #[error("the released ingress key is not that of the protector that was sent")]
    IngressKey,
    /// The egress protector does not hold.
    #[error("egress protector: {0}")]
    Egress(#[from] ProtectorError),
    /// The egress key is not that of the egress protector.
    #[error("the released egress key is not that of the egress protector")]
    EgressKey,
    /// The egress protector belongs to someone else.
    #[error("the egress protector has another owner")]
    Owner,
    /// Someone can't open the egress protector who could open the ingress protector.
    #[error("the egress protector lacks the guardian of wrapping {id}")]
    GuardianMissing {
        /// The wrapping of the ingress protector.
        id: WrappingId,
    },
    /// The egress protector is the ingress protector.
    #[error("the egress protector is the one that was sent: nothing was rolled")]
    SameProtector,
    /// The egress key is the ingress key.
    #[error("the released egress key is the ingress key: nothing was rolled")]
    SameKey,
    /// A roll appends one wrapping at most, for the head of the lineage.
    #[error("the egress protector has {appended} wrappings more than the one that was sent")]
    AppendedTooMany {
        /// How many there are more.
        appended: usize,
    },
    /// The appended wrapping is not where a roll appends one.
    #[error("wrapping {id} is not appended by the guardian that opened the protector")]
    AppendedElsewhere {
        /// The appended wrapping.
        id: WrappingId,
    },
}

impl From<CryptoError> for ClientError {
    fn from(_: CryptoError) -> Self {
        Self::Decryption
    }
}

impl PendingRoll {
    /// A request for the keys in `ingress`, to be encrypted to `health_certificate`.
    #[must_use]
    pub fn new(
        ingress: VerifiedProtector,
        health_certificate: Certificate,
        algorithms: Algorithms,
        version: ServiceVersion,
    ) -> Self {
        Self {
            ingress,
            health_certificate,
            algorithms,
            version,
        }
    }

    /// The body of the request.
    #[must_use]
    pub fn request(&self) -> Vec<u8> {
        let request = RollTransportKeyRequest {
            ingress_protector: self.ingress.octets().to_vec(),
            health_certificate: self.health_certificate.der().to_vec(),
            algorithms: self.algorithms,
        };
        request.to_xml()
    }

    /// Takes the body of an answer with status 200, and has the key of the health certificate decrypt it.
    pub fn receive(
        &self,
        body: &[u8],
        authenticity: Authenticity<'_>,
        caches: &Caches,
        keys: &mut dyn KeyWork,
    ) -> Result<Released, ClientError> {
        let response = RollTransportKeyResponse::from_xml(body)?;
        let egress = Protector::read(&response.egress_protector, &caches.certificates)?
            .verify(&caches.signatures)?;
        if egress.digest() == self.ingress.digest() {
            return Err(ClientError::SameProtector);
        }
        self.check_wrappings(&egress)?;
        if let Authenticity::Signed {
            request,
            fields,
            now,
        } = authenticity
        {
            let guardian = egress.guardian().signing_certificate();
            fields.verify(request, 200, body, guardian, now)?;
        }
        let transfer_key = keys
            .decrypt(
                &self.health_certificate.thumbprint(),
                self.algorithms.transfer_key.hash(),
                &response.encrypted_transfer_key,
            )
            .map_err(|error| match error {
                KeyError::Refused => ClientError::Decryption,
                error => ClientError::Key(error),
            })?;
        let blob = self.decrypt(&transfer_key, &response)?;
        self.check_keys(blob, egress)
    }

    fn decrypt(
        &self,
        transfer_key: &SecretBytes,
        response: &RollTransportKeyResponse,
    ) -> Result<TransportKeyBlob, ClientError> {
        let wrapped = &response.encrypted_wrapping_key;
        let wrapping_key = match self.algorithms.wrapping_key {
            WrappingKeyEncryption::Aes256Gcm => aes::gcm_open(transfer_key, b"", wrapped)?,
            WrappingKeyEncryption::KwAes256 => aes::key_unwrap(transfer_key, wrapped)?,
        };
        // What was encrypted under a key that can be guessed, the whole network has read.
        if transfer_key.is_degenerate() || wrapping_key.is_degenerate() {
            return Err(ClientError::NotRandom);
        }
        let blob = match self.algorithms.transport_keys {
            TransportKeysEncryption::Aes256Gcm => {
                aes::gcm_open(&wrapping_key, b"", &response.encrypted_transport_keys)?
            }
        };
        Ok(TransportKeyBlob::from_secret(&blob)?)
    }

    fn check_keys(
        &self,
        blob: TransportKeyBlob,
        egress: VerifiedProtector,
    ) -> Result<Released, ClientError> {
        let TransportKeyBlob {
            ingress_key,
            egress_key,
            version,
        } = blob;
        let caching = match (version, self.version) {
            (BlobVersion::V1, ServiceVersion::V1) => None,
            (BlobVersion::V2 { caching }, ServiceVersion::V2) => caching,
            (_, expected) => return Err(ClientError::Version { expected }),
        };
        self.ingress
            .check_transport_key(&ingress_key)
            .map_err(|_| ClientError::IngressKey)?;
        egress
            .check_transport_key(&egress_key)
            .map_err(|_| ClientError::EgressKey)?;
        if ingress_key == egress_key {
            return Err(ClientError::SameKey);
        }
        Ok(Released {
            ingress_key,
            egress_key,
            egress,
            caching,
        })
    }

    /// Section 5 of the protocol profile, rules 3 and 4: every wrapping stays as it was, and at most one is appended, by
    /// the guardian that opened the protector.
    fn check_wrappings(&self, egress: &VerifiedProtector) -> Result<(), ClientError> {
        if !same_guardian(self.ingress.owner(), egress.owner()) {
            return Err(ClientError::Owner);
        }
        let before = self.ingress.wrappings();
        for wrapping in before {
            let stays = egress.wrappings().iter().any(|after| {
                after.id() == wrapping.id()
                    && after.parent() == wrapping.parent()
                    && same_guardian(wrapping, after)
            });
            if !stays {
                let id = wrapping.id();
                return Err(ClientError::GuardianMissing { id });
            }
        }
        let is_new = |after: &&Wrapping| before.iter().all(|wrapping| wrapping.id() != after.id());
        let appended: Vec<&Wrapping> = egress.wrappings().iter().filter(is_new).collect();
        match appended[..] {
            [] => Ok(()),
            [wrapping] => {
                // The guardian that opened signs; if it is compromised, the appended head signs in its place.
                let (id, signer) = (wrapping.id(), egress.guardian().id());
                if signer == wrapping.parent() || signer == id {
                    Ok(())
                } else {
                    Err(ClientError::AppendedElsewhere { id })
                }
            }
            _ => Err(ClientError::AppendedTooMany {
                appended: appended.len(),
            }),
        }
    }
}

fn same_guardian(one: &Wrapping, other: &Wrapping) -> bool {
    one.is_for(other.signing_certificate(), other.encryption_certificate())
}
