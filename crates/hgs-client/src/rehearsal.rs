//! Attestation without the last step: what would be sent where, and who would receive it.
//!
//! Nothing is asked for. A request names an identity key, and the guardian records each one it
//! accepts, so a request "only to see" would supersede the key that this host works with. What is
//! asked is what anybody may ask, `getinfo`: that the URL, the name, the network, TLS and the mode
//! are right. Whether the guardian knows this host, only attesting tells.

use hgs_attest::Endpoint;
use hgs_attest::wire::{AttestationOperationMode, SessionId};
use hgs_crypto::hash::sha256;
use hgs_crypto::hex;
use hgs_custody::PrivateKey as _;
use hgs_pki::health::HealthKind;
use serde::Serialize;

use crate::attestation::{HealthRequest, ServiceInformation, service_information};
use crate::certify::blocking;
use crate::configuration::Endpoints;
use crate::error::Error;
use crate::host::GuardedHost;
use crate::host_key::HostKey;
use crate::identity::Identity;
use crate::service::{Cause, Side, Sides};
use crate::tpm_identity::TpmIdentity;

/// What attesting would do.
#[derive(Debug, Clone, Serialize)]
pub struct Rehearsal {
    /// SHA-256 of the SubjectPublicKeyInfo of the host key, by which a guardian in host-key mode knows this host; `None` if
    /// there is none.
    pub host_key: Option<String>,
    /// SHA-256 of the TPMT_PUBLIC of the endorsement key, by which a guardian in TPM mode knows this host; `None` if no
    /// service is in that mode.
    pub endorsement_key: Option<String>,
    /// What would be sent, the same to every service in one mode.
    pub requests: Vec<RehearsedRequest>,
    /// To whom, in the order in which they would be asked.
    pub services: Vec<RehearsedService>,
}

/// A request that was not sent.
#[derive(Debug, Clone, Serialize)]
pub struct RehearsedRequest {
    /// `encryption` or `signing`.
    pub kind: String,
    /// SHA-256 of the SubjectPublicKeyInfo of the identity key, or of its TPMT_PUBLIC in TPM mode; `None` if a new one would
    /// be made.
    pub identity_key: Option<String>,
    /// Octets of the body; `None` if a new identity key would be made, and in TPM mode, where the service asks.
    pub octets: Option<usize>,
}

/// An attestation service that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct RehearsedService {
    /// Which of the two.
    pub side: Side,
    /// Where the requests would be posted; the URLs of several nodes are separated by commas.
    pub url: String,
    /// How it attests, by name: `HostKey`, `Tpm`.
    pub operation_mode: Option<String>,
    /// Whether this host can attest there, as far as is known without trying.
    pub ready: bool,
    /// What is in the way.
    pub message: Option<String>,
    /// What helps.
    pub remedy: Option<&'static str>,
}

impl Rehearsal {
    /// Whether the service that would decide is ready: the first that answers at all.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let mut services = self.services.iter();
        services
            .find(|service| service.operation_mode.is_some())
            .is_some_and(|service| service.ready)
    }
}

impl GuardedHost {
    /// Finds out what [`Self::attest`] would do, without asking for a health certificate.
    ///
    /// # Errors
    /// Everything that keeps this host from asking: local mode, no host key, no TPM, unreadable files.
    pub async fn rehearse_attestation(
        &self,
        kinds: &[HealthKind],
        sides: Sides,
    ) -> Result<Rehearsal, Error> {
        let mut services = Vec::new();
        for (side, endpoints) in self.services(sides)? {
            services.push(self.look_at(side, endpoints).await);
        }
        let tpm_mode = AttestationOperationMode::Tpm.to_string();
        let is_tpm =
            |service: &RehearsedService| service.operation_mode.as_ref() == Some(&tpm_mode);
        let mut rehearsal = Rehearsal {
            host_key: None,
            endorsement_key: None,
            requests: Vec::new(),
            services,
        };
        if rehearsal.services.iter().any(is_tpm) {
            let tpm = self.tpm()?;
            let key = blocking(move || tpm.endorsement_key(&mut tpm.open()?)).await?;
            rehearsal.endorsement_key = Some(hex::encode(&key.digest()));
            for kind in kinds {
                rehearsal.requests.push(self.rehearse_by_tpm(*kind)?);
            }
        }
        let host_key_mode = AttestationOperationMode::HostKey.to_string();
        let is_host_key =
            |service: &RehearsedService| service.operation_mode.as_ref() == Some(&host_key_mode);
        // Where no service has said how it attests, the host key is what is known.
        if rehearsal.endorsement_key.is_none() || rehearsal.services.iter().any(is_host_key) {
            let host_key = self.host_key()?;
            rehearsal.host_key = Some(hex::encode(host_key.public().digest()));
            for kind in kinds {
                let request = self.rehearse_request(*kind, &host_key)?;
                rehearsal.requests.push(request);
            }
        }
        Ok(rehearsal)
    }

    fn rehearse_by_tpm(&self, kind: HealthKind) -> Result<RehearsedRequest, Error> {
        let path = self.state()?.tpm_identity(kind);
        let held = TpmIdentity::load(&path, kind, &self.tpm()?)?;
        let usable = held.filter(|held| !held.is_due(self.now()));
        Ok(RehearsedRequest {
            kind: kind.to_string(),
            identity_key: usable.map(|held| hex::encode(&sha256(held.public().octets()))),
            octets: None,
        })
    }

    fn rehearse_request(
        &self,
        kind: HealthKind,
        host_key: &HostKey,
    ) -> Result<RehearsedRequest, Error> {
        let state = self.state()?;
        let held = Identity::load(&state.identity(kind), kind, &state.master_key()?)?;
        let mut rehearsed = RehearsedRequest {
            kind: kind.to_string(),
            identity_key: None,
            octets: None,
        };
        if let Some(identity) = held.filter(|held| held.has_next_key() || !held.is_due(self.now()))
        {
            let public = identity.newest_key().public();
            let request = HealthRequest::sign(kind, host_key, public, SessionId([0; 16]))?;
            rehearsed.identity_key = Some(hex::encode(public.digest()));
            rehearsed.octets = Some(request.body().len());
        }
        Ok(rehearsed)
    }

    async fn look_at(&self, side: Side, endpoints: &Endpoints) -> RehearsedService {
        let attestation = &endpoints.attestation;
        let info = service_information(&self.client().conversation(), attestation).await;
        let mode = info.as_ref().ok().map(|info| info.operation_mode);
        let failure = match info {
            Ok(ServiceInformation {
                operation_mode: AttestationOperationMode::HostKey | AttestationOperationMode::Tpm,
                ..
            }) => None,
            Ok(info) => Some(Cause::other_mode(info.operation_mode)),
            Err(cause) => Some(cause),
        };
        RehearsedService {
            side,
            url: match mode {
                Some(AttestationOperationMode::Tpm) => attestation.join(Endpoint::Attest.path()),
                _ => HealthRequest::urls(attestation),
            }
            .to_string(),
            operation_mode: mode.map(|mode| mode.to_string()),
            ready: failure.is_none(),
            message: failure.as_ref().map(Cause::to_string),
            remedy: failure.as_ref().and_then(Cause::remedy),
        }
    }
}
