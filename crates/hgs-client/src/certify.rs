//! From an identity key to a health certificate, and to a new one in time.

use std::sync::Arc;

use hgs_attest::Code;
use hgs_attest::wire::{AttestationOperationMode, SessionId};
use hgs_crypto::random::{self, System};
use hgs_custody::{PrivateKey as _, SoftwareKey};
use hgs_files::Lock;
use hgs_pki::health::HealthKind;
use hgs_pki::{Certificate, Time};

use crate::attestation::{AttestationService, HealthRequest, service_information};
use crate::error::Error;
use crate::host_key::HostKey;
use crate::http::Client;
use crate::identity::{self, Identity};
use crate::service::{Answer, Cause, Side};
use crate::state::StateFolder;
use crate::status::Record;
use crate::url::Url;
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
pub(crate) struct Certified {
    pub(crate) certificate: Certificate,
    pub(crate) key: Arc<SoftwareKey>,
    /// Whether it was there before.
    pub(crate) held: bool,
}

/// One host before one attestation service.
pub(crate) struct Certifier<'h> {
    pub(crate) client: &'h Client,
    pub(crate) clock: &'h dyn Clock,
    pub(crate) state: StateFolder,
    pub(crate) side: Side,
    pub(crate) attestation: &'h Url,
}

impl Certifier<'_> {
    /// A health certificate for `kind`.
    pub(crate) async fn certify(
        &self,
        kind: HealthKind,
        required: RequiredCertificate,
    ) -> Result<Answer<Certified>, Error> {
        if required == RequiredCertificate::Valid
            && let Some(fresh) = self.fresh(self.held(kind)?)
        {
            return Ok(Ok(fresh));
        }
        let _lock = self.lock().await?;
        let held = self.held(kind)?;
        // Another process may have got what is needed here while it had the lock.
        if required == RequiredCertificate::Valid
            && let Some(fresh) = self.fresh(held.clone())
        {
            return Ok(Ok(fresh));
        }
        match self.request(kind, held.clone(), required).await? {
            Ok(identity) => Ok(Ok(self.keep(&identity)?)),
            Err(cause) => self.without_new(required, held, cause),
        }
    }

    /// Deletes the certificates of a service that says that this host was revoked.
    pub(crate) async fn forget_certificates(&self, cause: &Cause) -> Result<(), Error> {
        let _lock = self.lock().await?;
        self.note_failure(cause)?;
        self.forget()
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

    fn store(&self, identity: &Identity) -> Result<(), Error> {
        let path = self.state.identity(identity.kind());
        Ok(identity.store(&path, &self.state.master_key()?)?)
    }

    /// The certificate that is held, if there is no reason yet to ask for a new one.
    fn fresh(&self, held: Option<Identity>) -> Option<Certified> {
        let certified = self.certified(&held.filter(|held| !held.is_due(self.now()))?)?;
        (self.now() < identity::renewal_of(&certified.certificate)).then_some(certified)
    }

    /// The certificate that is held, if it is valid.
    fn certified(&self, held: &Identity) -> Option<Certified> {
        let certificate = held.certificate(self.attestation, self.now())?.clone();
        Some(Certified {
            certificate,
            key: Arc::clone(held.key()),
            held: true,
        })
    }

    /// Asks for a certificate over the key that is held, or over a new one: when there is none, when it is old, and when
    /// the service accepts it no more.
    async fn request(
        &self,
        kind: HealthKind,
        held: Option<Identity>,
        required: RequiredCertificate,
    ) -> Result<Answer<Identity>, Error> {
        let host_key = HostKey::load(&self.state.host_key())?;
        let information = match service_information(self.client, self.attestation).await {
            Ok(information) => information,
            Err(cause) => return Ok(Err(cause)),
        };
        if let Some(there) = information.date {
            self.note(|record, now| record.saw_clock(there, now))?;
        }
        if information.operation_mode != AttestationOperationMode::HostKey {
            return Ok(Err(Cause::other_mode(information.operation_mode)));
        }
        let mut service = AttestationService::new(self.client, self.attestation, information);
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
        let session = random::array(&mut System::new());
        let session = SessionId(session.map_err(|error| Error::System(error.to_string()))?);
        let public = identity.newest_key().public();
        let request = HealthRequest::sign(identity.kind(), host_key, public, session)?;
        let answer = service.certificate(&request, host_key, self.now()).await?;
        Ok(answer.map(|certificate| {
            identity.keep(self.attestation, certificate, self.now());
            identity
        }))
    }

    fn keep(&self, identity: &Identity) -> Result<Certified, Error> {
        self.store(identity)?;
        self.note(|record, now| record.passed(self.side, self.attestation, now))?;
        let certified = self.certified(identity).map(|certified| Certified {
            held: false,
            ..certified
        });
        certified.ok_or_else(|| Error::System("the clock went back or ahead".to_owned()))
    }

    /// There is no new certificate. A decision against this host voids the old ones as well
    /// (attacks.md K4); when the service only failed, the old one serves until its end.
    fn without_new(
        &self,
        required: RequiredCertificate,
        held: Option<Identity>,
        cause: Cause,
    ) -> Result<Answer<Certified>, Error> {
        self.note_failure(&cause)?;
        if cause.is_decision() {
            self.forget()?;
            return Ok(Err(cause));
        }
        match held.and_then(|held| self.certified(&held)) {
            Some(certified) if required == RequiredCertificate::Valid => {
                tracing::warn!(%cause, "no new health certificate; the old one serves");
                Ok(Ok(certified))
            }
            _ => Ok(Err(cause)),
        }
    }

    fn note_failure(&self, cause: &Cause) -> Result<(), Error> {
        self.note(|record, now| record.failed(self.side, self.attestation, cause, now))
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
        }
        Ok(())
    }
}

/// Runs what may take long on a thread that may block.
async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, Error>
where
    T: Send + 'static,
    E: Send + 'static,
    Error: From<E>,
{
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| Error::System(error.to_string()))??)
}
