//! Looking at a service without being a host of it: what `hgs trace` and `guarded-host trace` see of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hgs_crypto::hash::sha256;
use hgs_crypto::hex;
use hgs_kps::ServiceVersion;
use hgs_kps::wire::{Algorithms, RollTransportKeyRequest};
use hgs_pki::{CertificateCache, SignatureCache, Validity};
use hgs_protector::metadata::Metadata;
use hgs_trace::{Clocks, Observed, PresentedCertificate, Problem, Reachability};

use crate::http::{Client, Timing, TlsFailure, TransportError, tls};
use crate::key_protection::failure::KeyProtectionFailure;
use crate::service::Cause;
use crate::url::{ServiceUrls, Url};
use crate::{Environment, attestation, key_protection, remedy};
use hgs_clock::Clock;

/// Asks services what anybody may ask.
#[derive(Debug)]
pub struct Probe {
    client: Client,
    clock: Arc<dyn Clock>,
}

/// How long each question may take: a diagnosis that is waited for says sooner than a host in need gives up.
const TIMING: Timing = Timing {
    stagger: Duration::from_millis(250),
    connect: Duration::from_secs(5),
    patience: Duration::from_secs(1),
    unable: Duration::ZERO,
    exchange: Duration::from_secs(10),
};

impl Probe {
    /// A probe that trusts the certification authorities in a PEM file, or else those of the system.
    #[must_use]
    pub fn new(authorities: Option<&Path>, environment: Environment) -> Self {
        let Environment {
            clock, resolver, ..
        } = environment;
        Self {
            client: Client::new(TIMING, resolver, tls::settings(authorities)),
            clock,
        }
    }

    /// How far towards the attestation service at `attestation` one gets.
    pub async fn reach_attestation(&self, attestation: &Url) -> Reachability {
        self.reach(attestation, &attestation.join("/getinfo")).await
    }

    /// How far towards the key protection service at `key_protection` one gets.
    pub async fn reach_key_protection(&self, key_protection: &Url) -> Reachability {
        let metadata = key_protection.join("/service/metadata/2014-07/metadata.xml");
        self.reach(key_protection, &metadata).await
    }

    async fn reach(&self, url: &Url, asked: &Url) -> Reachability {
        let steps = self.client.connection_steps(asked).await;
        let here = self.clock.now();
        let addresses = steps.addresses.unwrap_or_else(|| Ok(Vec::new()));
        let shown = |addresses: Vec<_>| addresses.iter().map(ToString::to_string).collect();
        Reachability {
            url: url.to_string(),
            addresses: addresses.map(shown).map_err(|error| transport(&error)),
            connected: steps.connected.map(|connected| {
                let connected = connected.map(|address| address.to_string());
                connected.map_err(|error| transport(&error))
            }),
            tls: steps.tls.map(|tls| {
                let presented = tls.map(|leaf| presented(&leaf));
                presented.map_err(|error| transport(&error))
            }),
            answered: steps
                .answered
                .map(|answered| answered.map_err(|error| transport(&error))),
            clocks: steps.date.map(|there| Clocks { there, here }),
        }
    }

    /// How the service at `attestation` attests, by name.
    ///
    /// # Errors
    /// Why it does not say.
    pub async fn attestation_mode(&self, attestation: &Url) -> Observed<String> {
        let info =
            attestation::service_information(&self.client.conversation(), &one(attestation)).await;
        let mode = info.map(|info| info.operation_mode.to_string());
        mode.map_err(|cause| problem(&cause))
    }

    /// The thumbprints of the signers that the service at `attestation` publishes.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn signing_certificates(&self, attestation: &Url) -> Observed<Vec<String>> {
        let listed =
            attestation::signing_certificates(&self.client.conversation(), &one(attestation))
                .await
                .map_err(|cause| problem(&cause))?;
        let thumbprints = listed.iter().map(|one| one.thumbprint().to_string());
        Ok(thumbprints.collect())
    }

    /// The metadata of the service at `key_protection` as it came, of which nothing is checked.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn metadata_document(&self, key_protection: &Url) -> Observed<Vec<u8>> {
        let octets =
            key_protection::metadata(&self.client.conversation(), &one(key_protection)).await;
        octets.map_err(|cause| problem(&cause))
    }

    /// The metadata of the service at `key_protection`, if its signatures hold.
    ///
    /// # Errors
    /// Why there is none that holds.
    pub async fn metadata(&self, key_protection: &Url) -> Observed<Metadata> {
        let octets = self.metadata_document(key_protection).await?;
        let (certificates, signatures) = (CertificateCache::new(8), SignatureCache::new(8));
        let metadata = Metadata::read(&octets, &certificates, &signatures);
        metadata.map_err(|error| Problem::of(&error))
    }

    /// Asks the service at `key_protection` for keys without a health certificate, and returns the code by which it
    /// refuses. The request is as large as one for a protector of many wrappings.
    ///
    /// # Errors
    /// Why there is no refusal of the protocol.
    pub async fn refusal(&self, key_protection: &Url) -> Observed<String> {
        let request = RollTransportKeyRequest {
            ingress_protector: vec![b' '; PROBE_PROTECTOR],
            health_certificate: b"no health certificate".to_vec(),
            algorithms: Algorithms::default(),
        };
        let (version, body) = (ServiceVersion::V2, request.to_xml());
        match key_protection::post(
            &self.client.conversation(),
            &one(key_protection),
            version,
            body,
            Vec::new(),
        )
        .await
        {
            Ok(_) => Err(Problem::new("it was answered with keys")),
            Err(Cause::KeyProtection(KeyProtectionFailure::Refused { name, .. })) => Ok(name),
            Err(cause) => Err(problem(&cause)),
        }
    }
}

/// Octets of the protector in a request that must be refused; in Base64 they are a third more.
const PROBE_PROTECTOR: usize = 96 * 1024;

/// One node, whatever others there are.
fn one(url: &Url) -> ServiceUrls {
    url.clone().into()
}

fn presented(leaf: &[u8]) -> PresentedCertificate {
    PresentedCertificate {
        thumbprint: hex::encode(&sha256(leaf)),
        validity: Validity::of_any_certificate(leaf).ok().map(Into::into),
    }
}

fn problem(cause: &Cause) -> Problem {
    Problem::of(cause).with_remedy(cause.remedy())
}

/// What is wrong on the way to a service. The check that is about it knows what helps, but for mistakes that show what
/// was meant.
fn transport(error: &TransportError) -> Problem {
    match error {
        TransportError::Tls {
            failure: TlsFailure::NotTls | TlsFailure::CertificateIsAuthority,
            ..
        }
        | TransportError::PlainToTls { .. }
        | TransportError::Broken { .. } => {
            Problem::of(error).with_remedy(remedy::of_transport(error))
        }
        _ => Problem::of(error),
    }
}
