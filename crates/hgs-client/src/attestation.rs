//! One request for a health certificate to one attestation service, and what is checked of it.

use bytes::Bytes;
use hgs_attest::Endpoint;
use hgs_attest::client::{self, Attested};
use hgs_attest::signing_certificates;
use hgs_attest::wire::{ServiceInfoReply, SessionId};
use hgs_crypto::rsa::PublicKey;
use hgs_pki::health::{self, HealthCertificate, HealthKind, TrustedSigner, TrustedSigners};
use hgs_pki::{Certificate, Time};

use crate::host_key::{HostKey, HostKeyError};
use crate::http::{Client, Request};
use crate::service::Cause;
use crate::url::Url;

/// The media type of the requests of [MS-HGSA] 2.1.
const JSON: &str = "application/json; charset=utf-8";

/// A request that is ready to be sent.
pub(crate) struct HealthRequest {
    kind: HealthKind,
    signed: client::SignedRequest,
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
        let signed = prepared.assemble(signature);
        let signed = signed.map_err(|error| HostKeyError::Unusable(error.to_string()))?;
        Ok(Self { kind, signed })
    }

    /// Where requests are sent.
    pub(crate) fn url(attestation: &Url) -> Url {
        attestation.join(Endpoint::HostKeyAttest.path())
    }

    /// The octets that are sent.
    pub(crate) fn body(&self) -> &[u8] {
        self.signed.body()
    }

    /// Sends it, and believes the certificate only if it is over our key, for what was asked, valid
    /// now, and by a signer that the same service lists: any other would be refused at the next
    /// start of a VM, where nobody would know why (attacks.md A16).
    pub(crate) async fn send(
        &self,
        client: &Client,
        attestation: &Url,
        now: Time,
    ) -> Result<Certificate, Cause> {
        let response = client
            .send(&Request::Post {
                url: Self::url(attestation),
                content_type: JSON,
                fields: Vec::new(),
                body: Bytes::copy_from_slice(self.body()),
            })
            .await?;
        let attested = self.signed.receive(response.status, &response.body)?;
        let signers = signers(client, attestation).await?;
        check(&attested, self.kind, &signers, now)?;
        Ok(attested.certificate().clone())
    }
}

/// What the service at `attestation` says of itself ([MS-HGSA] 3.1.5.4).
pub(crate) async fn service_info(
    client: &Client,
    attestation: &Url,
) -> Result<ServiceInfoReply, Cause> {
    let url = attestation.join("/getinfo");
    let response = client.send(&Request::Get { url }).await?;
    Ok(client::read_service_info(response.status, &response.body)?)
}

/// Who signs the health certificates of the service at `attestation` ([MS-HGSA] 3.1.5.5).
pub(crate) async fn signing_certificates(
    client: &Client,
    attestation: &Url,
) -> Result<Vec<Certificate>, Cause> {
    let url = attestation.join("/v2.0/signingCertificates");
    let response = client.send(&Request::Get { url }).await?;
    signing_certificates::read(&response.body).map_err(|error| Cause::SigningCertificates {
        status: response.status,
        error,
    })
}

async fn signers(client: &Client, attestation: &Url) -> Result<TrustedSigners, Cause> {
    let certificates = signing_certificates(client, attestation).await?;
    let signers = certificates.into_iter().map(TrustedSigner::own);
    Ok(TrustedSigners::new(signers.collect()))
}

fn check(
    attested: &Attested,
    kind: HealthKind,
    signers: &TrustedSigners,
    now: Time,
) -> Result<(), Cause> {
    let certificate = HealthCertificate::from_der(attested.certificate().der())
        .map_err(health::HealthCertificateError::from)?;
    // A clock that is late by less than certificates are backdated is no reason to have none.
    certificate.verify(signers, kind, now, health::BACKDATED)?;
    Ok(())
}
