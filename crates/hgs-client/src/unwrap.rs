//! Having the keys of a protector released, as the start of a virtual machine does.

use std::fmt;

use hgs_crypto::SecretBytes;
use hgs_crypto::random::System;
use hgs_kps::signed_response::Nonce;
use hgs_kps::{Code, Released, ServiceVersion};
use hgs_pki::health::HealthKind;
use hgs_protector::transport_key_blob::CachingPolicy;
use hgs_protector::{Protector, TransportKey, VerifiedProtector};

use crate::certify::RequiredCertificate;
use crate::configuration::Endpoints;
use crate::error::Error;
use crate::host::{GuardedHost, ServiceFailures};
use crate::kept_keys::OfflineUses;
use crate::key_protection::KeyProtection;
use crate::key_protection::failure::KeyProtectionFailure;
use crate::request_id::RequestId;
use crate::sealed_file::{self, SealedFile, SealedFileError};
use crate::service::{Cause, ServiceFailure, Side, Sides};
use crate::status::Record;
use crate::url::Url;

/// Keys that were released for a protector. Dropping this wipes them.
pub struct Unwrapped {
    ingress: VerifiedProtector,
    released: Released,
    side: Side,
    request_id: Option<RequestId>,
    key_protection: Url,
}

impl GuardedHost {
    /// Attests if need be, and has the keys of a protector released.
    ///
    /// The egress protector has passed every check of section 5 of the protocol profile when this
    /// returns: what is sealed under it can be opened by the owner and by every guardian that could
    /// open it before.
    ///
    /// # Errors
    /// [`Error::Protector`] when the protector does not hold, before anybody is asked;
    /// [`Error::Services`] with the refusal or failure; and everything that keeps a host from asking.
    pub async fn unwrap(
        &self,
        protector: &[u8],
        version: ServiceVersion,
    ) -> Result<Unwrapped, Error> {
        let caches = self.caches();
        let ingress =
            Protector::read(protector, &caches.certificates)?.verify(&caches.signatures)?;
        let digest = ingress.digest();
        let unwrapped = self.unwrap_verified(ingress, version).await;
        match unwrapped {
            Err(error) => Err(self.after_refusal(error, Some(digest)).await),
            unwrapped => unwrapped,
        }
    }

    async fn unwrap_verified(
        &self,
        ingress: VerifiedProtector,
        version: ServiceVersion,
    ) -> Result<Unwrapped, Error> {
        let report = self.offline_report(ingress.digest()).await?;
        let mut failures = ServiceFailures::default();
        for (side, endpoints) in self.services(Sides::Both)? {
            let released = self.release(side, endpoints, &ingress, version, report.as_ref());
            match released.await? {
                Ok((released, request_id)) => {
                    let url = endpoints.key_protection.first();
                    let id = request_id.as_ref().map(RequestId::as_str);
                    tracing::info!(%side, %url, request_id = id, protector = %ingress.digest(), "keys were released");
                    let path = self.state()?.status();
                    let mut record = Record::load(&path)?;
                    if record.served_by(side) {
                        record.store(&path)?;
                    }
                    // Otherwise what is kept is replaced once the egress protector is the current one.
                    if (report.is_some() || released.caching.is_none())
                        && let Err(error) = self
                            .renew_kept_key(ingress.digest(), released.caching)
                            .await
                    {
                        tracing::warn!(%error, "what is kept of the protector stays as it was");
                    }
                    return Ok(Unwrapped {
                        ingress,
                        released,
                        side,
                        request_id,
                        key_protection: url.clone(),
                    });
                }
                Err(failure) => failures.add(failure)?,
            }
        }
        Err(failures.into_error())
    }

    async fn release(
        &self,
        side: Side,
        endpoints: &Endpoints,
        ingress: &VerifiedProtector,
        version: ServiceVersion,
        report: Option<&OfflineUses>,
    ) -> Result<Result<(Released, Option<RequestId>), ServiceFailure>, Error> {
        let certifier = self.certifier(side, endpoints)?;
        let ask = async |required| -> Result<_, Error> {
            let certified = match certifier.certify(HealthKind::Encryption, required).await? {
                Ok(certified) => certified,
                Err(cause) => {
                    let failure = certifier.failure(endpoints.attestation.first(), cause);
                    return Ok((Err(failure), None));
                }
            };
            let urls = &endpoints.key_protection;
            let nonce = Nonce::random(&mut System::new())
                .map_err(|error| Error::System(error.to_string()))?;
            let service = KeyProtection {
                conversation: &certifier.conversation,
                urls,
                version,
                caches: self.caches(),
                clock: self.clock(),
                dangerous_accept_unsigned_responses: self
                    .configuration()
                    .dangerous_accept_unsigned_responses(),
            };
            let answer = (service.roll(ingress, &certified, nonce, report).await)
                .map_err(|cause| certifier.failure(urls.first(), cause));
            Ok((answer, Some(certified)))
        };
        let (mut answer, certified) = ask(RequiredCertificate::Valid).await?;
        if let Err(failure) = &answer
            && let Some(certified) = certified.filter(|certified| certified.held)
        {
            if code(failure) == Some(Code::HealthCertificate) {
                // The service may want a newer certificate than the one that was held.
                tracing::warn!(%failure, "health certificate is refused; asking for a new one");
                (answer, _) = ask(RequiredCertificate::New).await?;
            } else if certified.key.is_void() {
                tracing::warn!(%failure, "the TPM has no more use for the identity key; attesting with a new one");
                (answer, _) = ask(RequiredCertificate::WithNewIdentityKey).await?;
            }
        }
        if let Err(failure) = &answer
            && code(failure) == Some(Code::HostRevoked)
        {
            certifier.forget_certificates(&failure.cause).await?;
        }
        Ok(answer.map(|released| (released, certifier.conversation.request_id())))
    }
}

impl Unwrapped {
    /// The protector that was given.
    #[must_use]
    pub fn ingress(&self) -> &VerifiedProtector {
        &self.ingress
    }

    /// The protector to keep instead of it, once everything is sealed under its key.
    #[must_use]
    pub fn egress(&self) -> &VerifiedProtector {
        &self.released.egress
    }

    /// Whether, and how long, the keys may be kept.
    #[must_use]
    pub fn caching(&self) -> Option<CachingPolicy> {
        self.released.caching
    }

    /// Who released the keys.
    #[must_use]
    pub fn side(&self) -> Side {
        self.side
    }

    /// The id that the service gave the request.
    #[must_use]
    pub fn request_id(&self) -> Option<&RequestId> {
        self.request_id.as_ref()
    }

    /// The first URL of the service that released the keys.
    #[must_use]
    pub fn key_protection(&self) -> &Url {
        &self.key_protection
    }

    /// The transport key of the protector that was given: what was kept until now is under it.
    #[must_use]
    pub fn ingress_key(&self) -> &TransportKey {
        &self.released.ingress_key
    }

    /// The transport key of the protector to keep instead: what is kept from now on is under it.
    #[must_use]
    pub fn egress_key(&self) -> &TransportKey {
        &self.released.egress_key
    }

    /// Opens a file that is sealed under the ingress protector.
    pub fn open(&self, file: &[u8]) -> Result<SecretBytes, SealedFileError> {
        SealedFile::read(file)?.open(&self.released.ingress_key)
    }

    /// Seals a file under the ingress protector, which stays the one to keep.
    pub fn seal(&self, plaintext: &SecretBytes) -> Result<Vec<u8>, SealedFileError> {
        let key = &self.released.ingress_key;
        sealed_file::seal(key, &self.ingress.digest(), plaintext, &mut System::new())
    }

    /// Seals a file under the egress protector, which is then the one to keep.
    pub fn reseal(&self, plaintext: &SecretBytes) -> Result<Vec<u8>, SealedFileError> {
        let key = &self.released.egress_key;
        let digest = self.released.egress.digest();
        sealed_file::seal(key, &digest, plaintext, &mut System::new())
    }
}

impl fmt::Debug for Unwrapped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ingress, egress) = (self.ingress.digest(), self.released.egress.digest());
        write!(formatter, "Unwrapped({ingress} to {egress})")
    }
}

fn code(failure: &ServiceFailure) -> Option<Code> {
    match &failure.cause {
        Cause::KeyProtection(KeyProtectionFailure::Refused { code, .. }) => *code,
        _ => None,
    }
}
