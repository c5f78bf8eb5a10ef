//! From an identity key to a health certificate, and to a new one in time.

use std::sync::Arc;

use hgs_attest::Code;
use hgs_attest::client::rtpm::RtpmFault;
use hgs_attest::client::{AttestationFailure, NotAsked};
use hgs_attest::wire::{AttestationOperationMode, SessionId};
use hgs_crypto::random::{self, System};
use hgs_custody::{PrivateKey, SoftwareKey};
use hgs_custody_tpm::TpmKey;
use hgs_files::Lock;
use hgs_pki::health::HealthKind;
use hgs_pki::{Certificate, Time};

use crate::attestation::{
    AttestationService, HealthRequest, ServiceInformation, service_information,
};
use crate::error::Error;
use crate::host_key::HostKey;
use crate::http::Conversation;
use crate::identity::{self, Identity};
use crate::request_id::RequestId;
use crate::service::{Answer, Cause, ServiceFailure, Side};
use crate::state::StateFolder;
use crate::status::{Attempt, Record};
use crate::tpm::{HostTpm, HostTpmError};
use crate::tpm_attestation::{self, AttestedInTpm};
use crate::tpm_identity::TpmIdentity;
use crate::url::{ServiceUrls, Url};
use hgs_clock::Clock;

/// Which health certificate is required.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequiredCertificate {
    /// A certificate that is valid. One that is held will do until two thirds of its validity are over, and to its end if
    /// the service can't issue a new one.
    Valid,
    /// A certificate that is issued now.
    New,
    /// A certificate that is issued now over an identity key that is made now.
    WithNewIdentityKey,
}

/// A health certificate with the key it is over.
#[derive(Debug, Clone)]
pub(crate) struct Certified {
    pub(crate) certificate: Certificate,
    pub(crate) key: IdentityKey,
    /// Whether it was there before.
    pub(crate) held: bool,
}

/// The key that a health certificate is over.
#[derive(Debug, Clone)]
pub(crate) enum IdentityKey {
    /// In this process.
    Software(Arc<SoftwareKey>),
    /// In the TPM.
    Tpm(Arc<TpmKey>),
}

impl IdentityKey {
    /// The place where its work is done.
    pub(crate) fn private(&self) -> Arc<dyn PrivateKey> {
        match self {
            Self::Software(key) => Arc::clone(key) as _,
            Self::Tpm(key) => Arc::clone(key) as _,
        }
    }

    /// Whether the key has turned out to be of no more use.
    pub(crate) fn is_void(&self) -> bool {
        match self {
            Self::Software(_) => false,
            Self::Tpm(key) => key.is_void(),
        }
    }
}

/// One host before one attestation service.
pub(crate) struct Certifier<'h> {
    pub(crate) conversation: Conversation<'h>,
    pub(crate) clock: &'h dyn Clock,
    pub(crate) state: StateFolder,
    pub(crate) side: Side,
    pub(crate) attestation: &'h ServiceUrls,
    pub(crate) tpm: HostTpm,
    /// What this host will boot next, to be sent with its next attestation by TPM.
    pub(crate) next_boot: Option<Vec<u8>>,
}

impl Certifier<'_> {
    /// A health certificate for `kind`.
    pub(crate) async fn certify(
        &self,
        kind: HealthKind,
        required: RequiredCertificate,
    ) -> Result<Answer<Certified>, Error> {
        if required == RequiredCertificate::Valid
            && let Some(fresh) = self.fresh(kind).await?
        {
            return Ok(Ok(fresh));
        }
        let _lock = self.lock().await?;
        // Another process may have got what is needed here while it had the lock.
        if required == RequiredCertificate::Valid
            && let Some(fresh) = self.fresh(kind).await?
        {
            return Ok(Ok(fresh));
        }
        let requested = self.request(kind, required).await;
        if let Err(Error::Tpm(error)) = &requested {
            let attempt = self.attempt();
            self.note(|record, _| record.tpm_failed(attempt, error))?;
        }
        match requested? {
            Ok(certified) => Ok(Ok(certified)),
            Err(cause) if self.refuses_next_boot(&cause) => Ok(Err(cause)),
            Err(cause) => self.without_new(kind, required, cause),
        }
    }

    /// Deletes the certificates of a service that says that this host was revoked.
    pub(crate) async fn forget_certificates(&self, cause: &Cause) -> Result<(), Error> {
        let _lock = self.lock().await?;
        self.note_failure(cause)?;
        self.forget()
    }

    /// What came instead of an answer to the last request, which went to `url`.
    pub(crate) fn failure(&self, url: &Url, cause: Cause) -> ServiceFailure {
        ServiceFailure::new(self.side, url, &self.conversation, cause)
    }

    async fn lock(&self) -> Result<Lock, Error> {
        let state = self.state.clone();
        blocking(move || state.wait_for_attestation_lock()).await
    }

    fn now(&self) -> Time {
        self.clock.now()
    }

    fn held(&self, kind: HealthKind) -> Result<Option<Identity>, Error> {
        let path = self.state.identity(kind);
        let master_key = self.state.master_key()?;
        Ok(Identity::load(&path, kind, &master_key)?)
    }

    fn held_in_tpm(&self, kind: HealthKind) -> Result<Option<TpmIdentity>, Error> {
        let path = self.state.tpm_identity(kind);
        Ok(TpmIdentity::load(&path, kind, &self.tpm)?)
    }

    fn store(&self, identity: &Identity) -> Result<(), Error> {
        let path = self.state.identity(identity.kind());
        Ok(identity.store(&path, &self.state.master_key()?)?)
    }

    fn store_in_tpm(&self, identity: &TpmIdentity) -> Result<(), Error> {
        Ok(identity.store(&self.state.tpm_identity(identity.kind))?)
    }

    /// The certificate that is held, if there is no reason yet to ask for a new one.
    async fn fresh(&self, kind: HealthKind) -> Result<Option<Certified>, Error> {
        let is_fresh =
            |certified: &Certified| self.now() < identity::renewal_of(&certified.certificate);
        let now = self.now();
        if let Some(held) = self.held_in_tpm(kind)?.filter(|held| !held.is_due(now))
            && let Some(certified) = self.certified_in_tpm(&held).filter(is_fresh)
            && self.works(&held).await?
        {
            return Ok(Some(certified));
        }
        let held = self.held(kind)?.filter(|held| !held.is_due(now));
        let certified = held.and_then(|held| self.certified(&held));
        Ok(certified.filter(is_fresh))
    }

    /// Whether the TPM still works with this key: it does not once PCRs have other values than when the key was made, as
    /// after a patch.
    async fn works(&self, held: &TpmIdentity) -> Result<bool, Error> {
        let tpm = self.tpm.clone();
        let values = blocking(move || tpm.open()?.pcr_values().map_err(HostTpmError::from)).await?;
        Ok(held.works_with(&values))
    }

    /// The certificate that is held, if it is valid.
    fn certified(&self, held: &Identity) -> Option<Certified> {
        let certificate = held.certificate(self.attestation, self.now())?.clone();
        Some(Certified {
            certificate,
            key: IdentityKey::Software(Arc::clone(held.key())),
            held: true,
        })
    }

    fn certified_in_tpm(&self, held: &TpmIdentity) -> Option<Certified> {
        let certificate = held.certificate(self.attestation, self.now())?.clone();
        Some(Certified {
            certificate,
            key: IdentityKey::Tpm(Arc::clone(&held.key)),
            held: true,
        })
    }

    /// Asks for a certificate in the mode in which the service attests.
    async fn request(
        &self,
        kind: HealthKind,
        required: RequiredCertificate,
    ) -> Result<Answer<Certified>, Error> {
        let mut information = match self.information().await? {
            Ok(information) => information,
            Err(cause) => return Ok(Err(cause)),
        };
        let mode = information.operation_mode;
        let answer = self.request_in(mode, information, kind, required).await?;
        let Err(Cause::Attestation(AttestationFailure::OtherMode { expected, .. })) = &answer
        else {
            return Ok(answer);
        };
        if *expected == mode {
            return Ok(answer);
        }
        // Its mode was changed in between, or a cache on the way answered for it: what sent us on is right.
        information = match self.information().await? {
            Ok(information) => information,
            Err(cause) => return Ok(Err(cause)),
        };
        self.request_in(*expected, information, kind, required)
            .await
    }

    /// What the service says of itself.
    async fn information(&self) -> Result<Answer<ServiceInformation>, Error> {
        let answer = service_information(&self.conversation, self.attestation).await;
        if let Ok(information) = &answer
            && let Some(there) = information.date
        {
            self.note(|record, now| record.saw_clock(there, now))?;
        }
        Ok(answer)
    }

    async fn request_in(
        &self,
        mode: AttestationOperationMode,
        information: ServiceInformation,
        kind: HealthKind,
        required: RequiredCertificate,
    ) -> Result<Answer<Certified>, Error> {
        let service = AttestationService::new(&self.conversation, self.attestation, information);
        match mode {
            mode @ AttestationOperationMode::HostKey if self.next_boot.is_some() => {
                Ok(Err(Cause::other_mode(mode)))
            }
            AttestationOperationMode::HostKey => {
                let held = self.held(kind)?;
                match self
                    .request_by_host_key(service, kind, held, required)
                    .await?
                {
                    Ok(identity) => self.keep(&identity).map(Ok),
                    Err(cause) => Ok(Err(cause)),
                }
            }
            AttestationOperationMode::Tpm => {
                match self.request_by_tpm(&service, kind, required).await? {
                    Ok(identity) => self.keep_in_tpm(&identity).map(Ok),
                    Err(cause) => Ok(Err(cause)),
                }
            }
            other => Ok(Err(Cause::other_mode(other))),
        }
    }

    /// Whether the service refuses what this host says of its next boot, and not the host.
    fn refuses_next_boot(&self, cause: &Cause) -> bool {
        let Cause::Attestation(failure) = cause else {
            return false;
        };
        let is_of_next_boot = failure.code().is_some_and(Code::is_of_next_boot);
        self.next_boot.is_some()
            && (is_of_next_boot
                || matches!(
                    failure,
                    AttestationFailure::OtherMode { .. }
                        | AttestationFailure::Rtpm(RtpmFault::ClaimIgnored)
                ))
    }

    /// Asks for a certificate over the key that is held, or over a new one: when there is none, when it is old, and when
    /// the service accepts it no more.
    async fn request_by_host_key(
        &self,
        mut service: AttestationService<'_>,
        kind: HealthKind,
        held: Option<Identity>,
        required: RequiredCertificate,
    ) -> Result<Answer<Identity>, Error> {
        let host_key = HostKey::load(&self.state.host_key())?;
        let usable = held.as_ref().filter(|held| match required {
            RequiredCertificate::WithNewIdentityKey => held.has_next_key(),
            _ => held.has_next_key() || !held.is_due(self.now()),
        });
        if let Some(identity) = usable {
            let answer = self.ask(&mut service, &host_key, identity.clone()).await?;
            let Err(Cause::Attestation(failure)) = &answer else {
                return Ok(answer);
            };
            let is_shared = failure.code() == Some(Code::HostKeyShared);
            if is_shared || failure.code() == Some(Code::IdentityKeySuperseded) {
                self.note(|record, now| record.was_superseded(failure, now))?;
            }
            // Where two machines have this host key, a new identity key would take the place of the other machine's, and so
            // on in turn. A person ends that.
            let may_replace = is_shared && required == RequiredCertificate::WithNewIdentityKey;
            if !failure.needs_new_identity_key() && !may_replace {
                return Ok(answer);
            }
            tracing::warn!(%kind, %failure, "identity key is refused; asking with a new one");
        }
        let identity = self.with_new_key(kind, held).await?;
        self.ask(&mut service, &host_key, identity).await
    }

    /// Has the server speak to the TPM. A key that is held, and that the PCRs allow to be used, is presented; whether it is
    /// used again, the server says.
    async fn request_by_tpm(
        &self,
        service: &AttestationService<'_>,
        kind: HealthKind,
        required: RequiredCertificate,
    ) -> Result<Answer<TpmIdentity>, Error> {
        let mut held = self.held_in_tpm(kind)?;
        if let Some(identity) = &held
            && (required == RequiredCertificate::WithNewIdentityKey
                || identity.is_due(self.now())
                || !self.works(identity).await?)
        {
            held = None;
        }
        let presented = held.as_ref().map(|held| held.public().clone());
        let session = session_id()?;
        let answer = tpm_attestation::attest(
            &self.conversation,
            self.attestation,
            &self.tpm,
            kind,
            session,
            presented,
            self.next_boot.clone(),
        );
        let AttestedInTpm { attested, created } = match answer.await? {
            Ok(attested) => attested,
            Err(cause) => return Ok(Err(cause)),
        };
        let now = self.now();
        let identity = match (created, held) {
            (Some(key), _) => {
                self.note(|record, now| record.made_identity_key(kind, now))?;
                Some(TpmIdentity::new(kind, key, now))
            }
            (None, held) => held,
        };
        let checked = service.checked(&attested, kind, now).await;
        Ok(checked.and_then(|certificate| {
            let mut identity =
                identity.ok_or_else(|| AttestationFailure::from(NotAsked::OtherKey))?;
            identity.keep(self.attestation, certificate, now);
            Ok(identity)
        }))
    }

    /// The identity that is held with a new key to ask with, which is in its file.
    async fn with_new_key(
        &self,
        kind: HealthKind,
        held: Option<Identity>,
    ) -> Result<Identity, Error> {
        let now = self.now();
        let new = blocking(move || Identity::generate(kind, now)).await?;
        let identity = match held {
            Some(held) => held.followed_by(new),
            None => new,
        };
        self.store(&identity)?;
        self.note(|record, now| record.made_identity_key(kind, now))?;
        Ok(identity)
    }

    /// Asks for a certificate over the newest key of `identity`, and has `identity` keep it.
    async fn ask(
        &self,
        service: &mut AttestationService<'_>,
        host_key: &HostKey,
        mut identity: Identity,
    ) -> Result<Answer<Identity>, Error> {
        let public = identity.newest_key().public();
        let request = HealthRequest::sign(identity.kind(), host_key, public, session_id()?)?;
        let answer = service.certificate(&request, host_key, self.now()).await?;
        Ok(answer.map(|certificate| {
            identity.keep(self.attestation, certificate, self.now());
            identity
        }))
    }

    fn keep(&self, identity: &Identity) -> Result<Certified, Error> {
        self.store(identity)?;
        if let Some(mut other) = self.held_in_tpm(identity.kind())?
            && other.forget(self.attestation)
        {
            self.store_in_tpm(&other)?;
        }
        self.passed(AttestationOperationMode::HostKey, self.certified(identity))
    }

    fn keep_in_tpm(&self, identity: &TpmIdentity) -> Result<Certified, Error> {
        self.store_in_tpm(identity)?;
        if let Some(mut other) = self.held(identity.kind)?
            && other.forget(self.attestation)
        {
            self.store(&other)?;
        }
        self.passed(
            AttestationOperationMode::Tpm,
            self.certified_in_tpm(identity),
        )
    }

    fn passed(
        &self,
        mode: AttestationOperationMode,
        certified: Option<Certified>,
    ) -> Result<Certified, Error> {
        let attempt = self.attempt();
        let request_id = attempt.request_id.as_ref().map(RequestId::as_str);
        tracing::info!(side = %self.side, url = %attempt.url, request_id, "a health certificate was issued");
        self.note(|record, _| record.passed(mode, attempt))?;
        let certified = certified.map(|certified| Certified {
            held: false,
            ..certified
        });
        certified.ok_or_else(|| Error::System("the clock went back or ahead".to_owned()))
    }

    /// There is no new certificate. A decision against this host voids the old ones as well
    /// (attacks.md K4); when the service only failed, the old one serves until its end.
    fn without_new(
        &self,
        kind: HealthKind,
        required: RequiredCertificate,
        cause: Cause,
    ) -> Result<Answer<Certified>, Error> {
        self.note_failure(&cause)?;
        if cause.is_decision() {
            self.forget()?;
            return Ok(Err(cause));
        }
        let in_tpm = self.held_in_tpm(kind)?;
        let held = match in_tpm.and_then(|held| self.certified_in_tpm(&held)) {
            Some(certified) => Some(certified),
            None => self.held(kind)?.and_then(|held| self.certified(&held)),
        };
        match held {
            Some(certified) if required == RequiredCertificate::Valid => {
                let request_id = self.conversation.request_id();
                let request_id = request_id.as_ref().map(RequestId::as_str);
                tracing::warn!(%cause, request_id, "no new health certificate; the old one serves");
                Ok(Ok(certified))
            }
            _ => Ok(Err(cause)),
        }
    }

    fn note_failure(&self, cause: &Cause) -> Result<(), Error> {
        let attempt = self.attempt();
        self.note(|record, _| record.failed(attempt, cause))
    }

    /// The attempt to attest that the last request belongs to.
    fn attempt(&self) -> Attempt {
        Attempt {
            time: self.now().to_string(),
            side: self.side,
            url: self.attestation.first().to_string(),
            request_id: self.conversation.request_id(),
            message: None,
            remedy: None,
        }
    }

    fn note(&self, change: impl FnOnce(&mut Record, Time)) -> Result<(), Error> {
        let path = self.state.status();
        let mut record = Record::load(&path)?;
        change(&mut record, self.now());
        Ok(record.store(&path)?)
    }

    /// Deletes the certificates of this service of both kinds: its decision is about the host.
    fn forget(&self) -> Result<(), Error> {
        for kind in [HealthKind::Encryption, HealthKind::Signing] {
            if let Some(mut held) = self.held(kind)?
                && held.forget(self.attestation)
            {
                self.store(&held)?;
            }
            if let Some(mut held) = self.held_in_tpm(kind)?
                && held.forget(self.attestation)
            {
                self.store_in_tpm(&held)?;
            }
        }
        Ok(())
    }
}

fn session_id() -> Result<SessionId, Error> {
    let session = random::array(&mut System::new());
    session
        .map(SessionId)
        .map_err(|error| Error::System(error.to_string()))
}

/// Runs what may take long on a thread that may block.
pub(crate) async fn blocking<T, E>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Error>
where
    T: Send + 'static,
    E: Send + 'static,
    Error: From<E>,
{
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| Error::System(error.to_string()))??)
}
