//! The guarded host: what the program `guarded-host`, the agent and `hgs quickstart` do.

use std::sync::Arc;

use hgs_custody_tpm::Journal;
use hgs_files::FileError;
use hgs_kps::Caches;
use hgs_pki::health::HealthKind;
use hgs_pki::{Certificate, Time};

use crate::certify::{Certified, Certifier, RequiredCertificate};
use crate::configuration::{Configuration, Endpoints, TpmSettings};
use crate::error::{Error, ServicesError};
use crate::folders::Folders;
use crate::host_key::{HostKey, HostKeySize};
use crate::http::{Client, Resolve, SystemResolver, Timing, TlsSettingsError, tls};
use crate::identity;
use crate::request_id::RequestId;
use crate::service::{ServiceFailure, Side, Sides};
use crate::state::StateFolder;
use crate::status::{Record, Status};
use crate::tpm::{HostTpm, Progress};
use crate::tpm_identity;
use crate::url::{Scheme, ServiceUrls, Url};
use hgs_clock::{Clock, SystemClock};

/// Is another after each start of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Certificates of guardians that are remembered: the fabric's few, and those of the owners of the
/// VMs on this host.
const CACHED_CERTIFICATES: usize = 256;

/// What a host takes from the system: clock, resolver, time limits. The default is that of the machine.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Resolves names.
    pub resolver: Arc<dyn Resolve>,
    /// How long things may take.
    pub timing: Timing,
    /// Is told what takes a TPM long.
    pub progress: Progress,
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            resolver: Arc::new(SystemResolver),
            timing: Timing::default(),
            progress: Progress::default(),
        }
    }
}

/// One host, with its configuration as it was when this was opened. Any number of them can live in
/// one process; each has its own folders.
#[derive(Debug)]
pub struct GuardedHost {
    folders: Folders,
    configuration: Configuration,
    tpm: TpmSettings,
    progress: Progress,
    clock: Arc<dyn Clock>,
    client: Client,
    caches: Arc<Caches>,
}

/// A health certificate that this host holds, and where from.
#[derive(Debug, Clone)]
pub struct Attestation {
    /// The service that issued it.
    pub side: Side,
    /// The first URL of that service.
    pub attestation: Url,
    /// What its key is for.
    pub kind: HealthKind,
    /// The health certificate.
    pub certificate: Certificate,
    /// The id that the service gave the request for it, if it was asked for now.
    pub request_id: Option<RequestId>,
}

impl Attestation {
    /// From when on a new certificate is asked for.
    #[must_use]
    pub fn renewed_from(&self) -> Time {
        identity::renewal_of(&self.certificate)
    }
}

impl GuardedHost {
    /// The host with these folders.
    ///
    /// # Errors
    /// When there is a configuration file that is not one.
    pub fn open(folders: Folders) -> Result<Self, Error> {
        Self::open_in(folders, Environment::default())
    }

    /// The same in another environment.
    ///
    /// # Errors
    /// When there is a configuration file that is not one.
    pub fn open_in(folders: Folders, environment: Environment) -> Result<Self, Error> {
        let configuration = Configuration::load(&folders.configuration)?;
        let Environment {
            clock,
            resolver,
            timing,
            progress,
        } = environment;
        if configuration.dangerous_accept_unsigned_responses() {
            tracing::warn!(
                setting = "dangerous_accept_unsigned_responses = true",
                "this setting weakens verification: an attacker on the way can choose the next keys of a virtual machine"
            );
        }
        let tls = tls_settings(&configuration);
        Ok(Self {
            tpm: TpmSettings::load(&folders.configuration)?,
            folders,
            progress,
            clock,
            client: Client::new(timing, resolver, tls),
            configuration,
            caches: Arc::new(Caches::new(CACHED_CERTIFICATES)),
        })
    }

    /// What was configured.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// The time, as this host sees it.
    #[must_use]
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// Generates the host key, which must not exist. Takes up to seconds.
    ///
    /// # Errors
    /// [`Error::HostKey`] when there is one, or it can't be written.
    pub fn create_host_key(&self, size: HostKeySize) -> Result<HostKey, Error> {
        let path = self.state()?.host_key();
        Ok(HostKey::create(&path, size)?)
    }

    /// The host key.
    ///
    /// # Errors
    /// [`Error::HostKey`] when there is none, or it can't be read.
    pub fn host_key(&self) -> Result<HostKey, Error> {
        Ok(HostKey::load(&self.state()?.host_key())?)
    }

    /// Removes the host key. The guardian keeps the public half until the host is removed there.
    ///
    /// # Errors
    /// [`Error::HostKey`] when there is none, or it can't be removed.
    pub fn remove_host_key(&self) -> Result<(), Error> {
        let state = self.state()?;
        HostKey::remove(&state.host_key())?;
        let mut record = Record::load(&state.status())?;
        record.forget_host_key();
        Ok(record.store(&state.status())?)
    }

    /// Asks for a new health certificate, whatever certificates the host holds, and keeps it.
    ///
    /// # Errors
    /// [`Error::Services`] with the refusal or failure, and everything that keeps a host from asking.
    pub async fn attest(&self, kind: HealthKind, sides: Sides) -> Result<Attestation, Error> {
        self.certify(kind, sides, RequiredCertificate::New, None)
            .await
    }

    /// Sees to it that the host holds a valid health certificate: asks for a new one if there is none, or if two thirds of its
    /// validity have passed.
    ///
    /// # Errors
    /// Those of [`Self::attest`], when the host holds no valid certificate.
    pub async fn keep_attested(
        &self,
        kind: HealthKind,
        sides: Sides,
    ) -> Result<Attestation, Error> {
        self.certify(kind, sides, RequiredCertificate::Valid, None)
            .await
    }

    /// As [`Self::attest`] with a new identity key, which takes the place of the one that the host has. A host needs that when another
    /// machine had its host key, and has it no more.
    ///
    /// # Errors
    /// Those of [`Self::attest`].
    pub async fn attest_with_new_identity_key(
        &self,
        kind: HealthKind,
        sides: Sides,
    ) -> Result<Attestation, Error> {
        let required = RequiredCertificate::WithNewIdentityKey;
        self.certify(kind, sides, required, None).await
    }

    /// Attests by TPM, and says with it what this host will boot next: `claim` is a document of what only a host measures. When
    /// this is done, a guardian has added it to what it knows of this host. The certificate is one for signing over a new key:
    /// with that, the TPM confirms the claim.
    ///
    /// # Errors
    /// Those of [`Self::attest`]; a guardian that takes no claims, or not this one, says so.
    pub async fn claim_next_boot(
        &self,
        claim: Vec<u8>,
        sides: Sides,
    ) -> Result<Attestation, Error> {
        let required = RequiredCertificate::WithNewIdentityKey;
        self.certify(HealthKind::Signing, sides, required, Some(claim))
            .await
    }

    async fn certify(
        &self,
        kind: HealthKind,
        sides: Sides,
        required: RequiredCertificate,
        next_boot: Option<Vec<u8>>,
    ) -> Result<Attestation, Error> {
        let certified = self.certify_by(kind, sides, required, next_boot).await;
        match certified {
            Err(error) => Err(self.after_refusal(error, None).await),
            attestation => attestation,
        }
    }

    async fn certify_by(
        &self,
        kind: HealthKind,
        sides: Sides,
        required: RequiredCertificate,
        next_boot: Option<Vec<u8>>,
    ) -> Result<Attestation, Error> {
        let mut failures = ServiceFailures::default();
        for (side, endpoints) in self.services(sides)? {
            let certifier = Certifier {
                next_boot: next_boot.clone(),
                ..self.certifier(side, endpoints)?
            };
            match certifier.certify(kind, required).await? {
                Ok(Certified {
                    certificate, held, ..
                }) => {
                    return Ok(Attestation {
                        side,
                        attestation: endpoints.attestation.first().clone(),
                        kind,
                        certificate,
                        request_id: certifier.conversation.request_id().filter(|_| !held),
                    });
                }
                Err(cause) => {
                    failures.add(certifier.failure(endpoints.attestation.first(), cause))?;
                }
            }
        }
        Err(failures.into_error())
    }

    /// The status of this host.
    ///
    /// # Errors
    /// When the state folder can't be read.
    pub fn status(&self) -> Result<Status, Error> {
        let (mut record, mut held) = (Record::default(), Vec::new());
        if let Some(state) = StateFolder::existing(&self.folders.state)? {
            record = Record::load(&state.status())?;
            for kind in [HealthKind::Encryption, HealthKind::Signing] {
                let mut certificates = identity::certificates(&state.identity(kind))?;
                // Of one service there is a certificate in one mode only.
                certificates.extend(tpm_identity::certificates(&state.tpm_identity(kind))?);
                held.push((kind, certificates));
            }
        }
        let now = self.now();
        Ok(Status::new(&self.configuration, record, &held, now))
    }

    /// The services that may be asked, in order; never none.
    pub(crate) fn services(&self, sides: Sides) -> Result<Vec<(Side, &Endpoints)>, Error> {
        let Configuration::HostGuardianService(services) = &self.configuration else {
            return Err(Error::LocalMode);
        };
        let services: Vec<_> = services.in_order(sides).collect();
        if services.is_empty() {
            return Err(Error::NoFallback);
        }
        Ok(services)
    }

    /// This host before the attestation service of `endpoints`.
    pub(crate) fn certifier<'h>(
        &'h self,
        side: Side,
        endpoints: &'h Endpoints,
    ) -> Result<Certifier<'h>, Error> {
        Ok(Certifier {
            conversation: self.client.conversation(),
            clock: &*self.clock,
            state: self.state()?,
            side,
            attestation: &endpoints.attestation,
            tpm: self.tpm()?,
            next_boot: None,
        })
    }

    /// Where the TPM of this host is, and its logs.
    #[must_use]
    pub fn tpm_settings(&self) -> &TpmSettings {
        &self.tpm
    }

    /// The TPM of this host, whether or not there is one.
    pub(crate) fn tpm(&self) -> Result<HostTpm, FileError> {
        Ok(self.tpm_in(&self.state()?, true))
    }

    /// The same without making a state folder.
    pub(crate) fn tpm_as_it_is(&self) -> Result<HostTpm, FileError> {
        let state = StateFolder::existing(&self.folders.state)?;
        let exists = state.is_some();
        let state = state.unwrap_or_else(|| StateFolder::absent(&self.folders.state));
        Ok(self.tpm_in(&state, exists))
    }

    fn tpm_in(&self, state: &StateFolder, exists: bool) -> HostTpm {
        // Without it, handles of an earlier boot could not be told from ours: so nothing is kept of them.
        let boot = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
        HostTpm {
            settings: self.tpm.clone(),
            journal: exists.then(|| Journal::new(state.tpm_handles(), &boot)),
            progress: self.progress.clone(),
            endorsement_key: state.endorsement_key(),
        }
    }

    pub(crate) fn state(&self) -> Result<StateFolder, FileError> {
        StateFolder::open(&self.folders.state)
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn caches(&self) -> &Arc<Caches> {
        &self.caches
    }
}

/// The failures of the services that were asked so far.
#[derive(Debug, Default)]
pub(crate) struct ServiceFailures(Vec<ServiceFailure>);

impl ServiceFailures {
    /// Adds what a service answered. A decision ends the attempts: it is the error. After a failure the next service is asked.
    pub(crate) fn add(&mut self, failure: ServiceFailure) -> Result<(), Error> {
        let ServiceFailure {
            side,
            url,
            request_id,
            cause,
        } = &failure;
        let request_id = request_id.as_ref().map(RequestId::as_str);
        tracing::info!(%side, %url, %cause, request_id, "service did not give what was asked for");
        let ends = failure.cause.is_decision();
        self.0.push(failure);
        if ends { Err(self.take()) } else { Ok(()) }
    }

    /// The error of a host that has no other service to ask.
    pub(crate) fn into_error(mut self) -> Error {
        self.take()
    }

    fn take(&mut self) -> Error {
        let mut failures = std::mem::take(&mut self.0);
        match failures.pop() {
            Some(last) => ServicesError::new(failures, last).into(),
            None => Error::LocalMode,
        }
    }
}

fn tls_settings(
    configuration: &Configuration,
) -> Result<Arc<rustls::ClientConfig>, TlsSettingsError> {
    let Configuration::HostGuardianService(services) = configuration else {
        return Err(TlsSettingsError::Absent);
    };
    let is_https = |urls: &ServiceUrls| urls.iter().any(|url| url.scheme() == Scheme::Https);
    let needed = services
        .in_order(Sides::Both)
        .any(|(_, pair)| is_https(&pair.attestation) || is_https(&pair.key_protection));
    if needed {
        tls::settings(services.certificate_authorities.as_deref())
    } else {
        Err(TlsSettingsError::Absent)
    }
}
