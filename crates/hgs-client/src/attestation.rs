//! One attestation service: what it says of itself, a request for a health certificate, and what is checked of the answer.

use bytes::Bytes;
use hgs_attest::Endpoint;
use hgs_attest::client::{self, Attested};
use hgs_attest::freshness::{FreshnessError, NONCE_HEADER, Nonce, PROOF_HEADER};
use hgs_attest::signing_certificates;
use hgs_attest::wire::{AttestationOperationMode, SessionId};
use hgs_crypto::rsa::PublicKey;
use hgs_pki::health::{
    self, HealthCertificate, HealthCertificateError, HealthKind, TrustedSigner, TrustedSigners,
};
use hgs_pki::{Certificate, Time};

use crate::host_key::{HostKey, HostKeyError};
use crate::http::{Conversation, Request, Response};
use crate::service::{Answer, Cause};
use crate::url::ServiceUrls;

/// The media type of the requests of [MS-HGSA] 2.1.
pub(crate) const JSON: &str = "application/json; charset=utf-8";

/// A request that is ready to be sent.
pub(crate) struct HealthRequest {
    kind: HealthKind,
    signed: client::SignedRequest,
}

/// What a service says of itself.
#[derive(Debug)]
pub(crate) struct ServiceInformation {
    /// How it attests.
    pub(crate) operation_mode: AttestationOperationMode,
    /// The time that it says it is.
    pub(crate) date: Option<Time>,
    /// What a host returns with its next request.
    pub(crate) nonce: Option<Nonce>,
}

/// An attestation service that is being asked for health certificates.
pub(crate) struct AttestationService<'a> {
    conversation: &'a Conversation<'a>,
    urls: &'a ServiceUrls,
    /// The newest nonce that it handed out.
    nonce: Option<Nonce>,
}

impl HealthRequest {
    /// Has the host key sign a request for a certificate over `identity_key`.
    pub(crate) fn sign(
        kind: HealthKind,
        host_key: &HostKey,
        identity_key: &PublicKey,
        session: SessionId,
    ) -> Result<Self, HostKeyError> {
        let prepared = client::prepare(session, kind, host_key.public(), identity_key);
        let signature = host_key.sign(prepared.to_be_signed())?;
        let signed = prepared
            .assemble(signature)
            .map_err(|error| HostKeyError::Unusable(error.to_string()))?;
        Ok(Self { kind, signed })
    }

    /// Where requests are sent.
    pub(crate) fn urls(attestation: &ServiceUrls) -> ServiceUrls {
        attestation.join(Endpoint::HostKeyAttest.path())
    }

    /// The octets that are sent.
    pub(crate) fn body(&self) -> &[u8] {
        self.signed.body()
    }

    /// The value of the header that returns `nonce` with this request.
    fn proof(&self, nonce: &Nonce, host_key: &HostKey) -> Result<String, HostKeyError> {
        let prepared = self.signed.prove(nonce.clone());
        let signature = host_key.sign(prepared.to_be_signed())?;
        let proof = prepared
            .assemble(signature)
            .map_err(|error| HostKeyError::Unusable(error.to_string()))?;
        Ok(proof.to_header())
    }
}

impl<'a> AttestationService<'a> {
    /// The service at `urls`, which said this of itself.
    pub(crate) fn new(
        conversation: &'a Conversation<'a>,
        urls: &'a ServiceUrls,
        information: ServiceInformation,
    ) -> Self {
        Self {
            conversation,
            urls,
            nonce: information.nonce,
        }
    }

    /// Sends a request with the newest nonce of the service, and once more if the service wants a newer one.
    ///
    /// The certificate is believed only if it is over our key, for what was asked, valid now, and by a signer that the same
    /// service lists: any other would be refused at the next start of a VM, far from the cause (attacks.md A16).
    pub(crate) async fn certificate(
        &mut self,
        request: &HealthRequest,
        host_key: &HostKey,
        now: Time,
    ) -> Result<Answer<Certificate>, HostKeyError> {
        let returned = self.nonce.clone();
        let mut answer = self.post(request, host_key).await?;
        if let Err(Cause::Attestation(failure)) = &answer
            && failure.needs_new_nonce()
            && self.nonce != returned
        {
            answer = self.post(request, host_key).await?;
        }
        Ok(match answer {
            Ok(attested) => self.checked(&attested, request.kind, now).await,
            Err(cause) => Err(cause),
        })
    }

    async fn post(
        &mut self,
        request: &HealthRequest,
        host_key: &HostKey,
    ) -> Result<Answer<Attested>, HostKeyError> {
        let mut fields = Vec::new();
        if let Some(nonce) = &self.nonce {
            fields.push((PROOF_HEADER, request.proof(nonce, host_key)?));
        }
        let posted = Request::Post {
            urls: HealthRequest::urls(self.urls),
            content_type: JSON,
            fields,
            body: Bytes::copy_from_slice(request.body()),
        };
        Ok(match self.conversation.send(&posted).await {
            Ok(response) => self.received(request, &response),
            Err(error) => Err(error.into()),
        })
    }

    fn received(&mut self, request: &HealthRequest, response: &Response) -> Answer<Attested> {
        if let Some(nonce) = nonce(response)? {
            self.nonce = Some(nonce);
        }
        Ok(request.signed.receive(response.status, &response.body)?)
    }

    /// Whether the certificate is valid now, and by a signer that this service lists.
    pub(crate) async fn checked(
        &self,
        attested: &Attested,
        kind: HealthKind,
        now: Time,
    ) -> Answer<Certificate> {
        let issued_by = self.conversation.request_id();
        let listed = signing_certificates(self.conversation, self.urls).await?;
        self.conversation.return_to(issued_by);
        let signers = listed.into_iter().map(TrustedSigner::own).collect();
        let certificate = HealthCertificate::from_der(attested.certificate().der())
            .map_err(HealthCertificateError::from)?;
        // A clock that is late by less than certificates are backdated is no reason to have none.
        certificate
            .verify(&TrustedSigners::new(signers), kind, now, health::BACKDATED)
            .map_err(|error| match error {
                HealthCertificateError::Expired { .. }
                | HealthCertificateError::NotYetValid { .. }
                | HealthCertificateError::IssuedInTheFuture { .. } => Cause::Clocks {
                    here: now,
                    there: attested.statement().issued_at,
                },
                other => other.into(),
            })?;
        Ok(attested.certificate().clone())
    }
}

/// What the service at `attestation` says of itself ([MS-HGSA] 3.1.5.4).
pub(crate) async fn service_information(
    conversation: &Conversation<'_>,
    attestation: &ServiceUrls,
) -> Answer<ServiceInformation> {
    let urls = attestation.join("/getinfo");
    let response = conversation.send(&Request::Get { urls }).await?;
    let info = client::read_service_info(response.status, &response.body)?;
    Ok(ServiceInformation {
        operation_mode: info.operation_mode,
        date: response.date,
        nonce: nonce(&response)?,
    })
}

/// Who signs the health certificates of the service at `attestation` ([MS-HGSA] 3.1.5.5).
pub(crate) async fn signing_certificates(
    conversation: &Conversation<'_>,
    attestation: &ServiceUrls,
) -> Answer<Vec<Certificate>> {
    let urls = attestation.join("/v2.0/signingCertificates");
    let response = conversation.send(&Request::Get { urls }).await?;
    signing_certificates::read(&response.body).map_err(|error| Cause::SigningCertificates {
        status: response.status,
        error,
    })
}

/// The nonce in a response. A service that hands out none is of another make, or older.
fn nonce(response: &Response) -> Result<Option<Nonce>, FreshnessError> {
    let mut values = response.fields.get_all(NONCE_HEADER).iter();
    let malformed = FreshnessError::Malformed {
        header: NONCE_HEADER,
    };
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let text = value.to_str().map_err(|_| malformed)?;
            Nonce::from_header(text).map(Some)
        }
        (Some(_), Some(_)) => Err(malformed),
    }
}
