//! From an identity key to a health certificate, and to a new one in time.

use std::sync::Arc;

use hgs_attest::wire::SessionId;
use hgs_crypto::random::{self, System};
use hgs_custody::{PrivateKey as _, SoftwareKey};
use hgs_files::Lock;
use hgs_pki::health::HealthKind;
use hgs_pki::{Certificate, Time};

use crate::attestation::HealthRequest;
use crate::configuration::Endpoints;
use crate::error::Error;
use crate::host::GuardedHost;
use crate::host_key::HostKey;
use crate::identity::{self, Identity};
use crate::service::{Cause, Side};
use crate::state::StateFolder;
use crate::status::Record;
use crate::url::Url;

/// Whether a certificate that is held will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// Until two thirds of its validity are over, and to the end if no new one is to be had.
    WhileValid,
    /// No.
    Never,
}

/// A health certificate with the key it is over.
pub(crate) struct Certified {
    pub(crate) certificate: Certificate,
    pub(crate) key: Arc<SoftwareKey>,
    /// Whether it was there before.
    pub(crate) held: bool,
}

/// What a service answers: what was asked for, or why not. That this host could not ask is another
/// matter, and another error.
pub(crate) type Answer<T> = Result<T, Cause>;

impl GuardedHost {
    /// A health certificate of the attestation service of `endpoints`.
    pub(crate) async fn certify(
        &self,
        side: Side,
        endpoints: &Endpoints,
        kind: HealthKind,
        reuse: Reuse,
    ) -> Result<Answer<Certified>, Error> {
        let attempt = self.attempt(side, endpoints, kind)?;
        if reuse == Reuse::WhileValid
            && let Some(fresh) = attempt.fresh(attempt.held()?)
        {
            return Ok(Ok(fresh));
        }
        let _lock = attempt.lock().await?;
        let held = attempt.held()?;
        // Whoever had the lock may have got what is needed here.
        if reuse == Reuse::WhileValid
            && let Some(fresh) = attempt.fresh(held.clone())
        {
            return Ok(Ok(fresh));
        }
        let host_key = self.host_key()?;
        match attempt.request(&host_key, held.as_ref()).await? {
            Ok(identity) => Ok(Ok(attempt.keep(&identity)?)),
            Err(cause) => attempt.without_new(reuse, held, cause),
        }
    }

    /// Lets go of the certificates of a service that says that this host was revoked.
    pub(crate) async fn forget_certificates(
        &self,
        side: Side,
        endpoints: &Endpoints,
        cause: &Cause,
    ) -> Result<(), Error> {
        let attempt = self.attempt(side, endpoints, HealthKind::Encryption)?;
        let _lock = attempt.lock().await?;
        attempt.note(cause)?;
        attempt.forget()
    }

    fn attempt<'h>(
        &'h self,
        side: Side,
        endpoints: &'h Endpoints,
        kind: HealthKind,
    ) -> Result<Attempt<'h>, Error> {
        Ok(Attempt {
            host: self,
            state: self.state()?,
            side,
            attestation: &endpoints.attestation,
            kind,
        })
    }
}

/// One attempt to get a certificate of one kind from one service.
struct Attempt<'h> {
    host: &'h GuardedHost,
    state: StateFolder,
    side: Side,
    attestation: &'h Url,
    kind: HealthKind,
}

impl Attempt<'_> {
    async fn lock(&self) -> Result<Lock, Error> {
        let state = self.state.clone();
        blocking(move || state.wait_for_attestation_lock()).await
    }

    fn now(&self) -> Time {
        self.host.now()
    }

    fn held(&self) -> Result<Option<Identity>, Error> {
        let path = self.state.identity(self.kind);
        let master_key = self.state.master_key()?;
        Ok(Identity::load(&path, self.kind, &master_key)?)
    }

    /// The certificate that is held, if there is no reason yet to ask for a new one.
    fn fresh(&self, held: Option<Identity>) -> Option<Certified> {
        let now = self.now();
        let certified = self.certified(held.filter(|identity| !identity.is_due(now))?)?;
        (now < identity::renewal_of(&certified.certificate)).then_some(certified)
    }

    /// The certificate that is held, if it is valid.
    fn certified(&self, held: Identity) -> Option<Certified> {
        let certificate = held.certificate(self.attestation, self.now())?.clone();
        Some(Certified {
            certificate,
            key: Arc::clone(held.key()),
            held: true,
        })
    }

    /// Asks for a certificate over the key that is held, or over a new one: when there is none, when
    /// it is old, and when the service wants no more of it.
    async fn request(
        &self,
        host_key: &HostKey,
        held: Option<&Identity>,
    ) -> Result<Answer<Identity>, Error> {
        let now = self.now();
        if let Some(identity) = held.filter(|identity| !identity.is_due(now)) {
            match self.request_for(host_key, identity.clone()).await? {
                Err(Cause::Attestation(failure)) if failure.needs_new_identity_key() => {
                    // After a restored backup this is as it should be; otherwise somebody else has
                    // this host's key.
                    tracing::warn!(%failure, "identity key is refused; asking with a new one");
                }
                answer => return Ok(answer),
            }
        }
        let kind = self.kind;
        let identity = blocking(move || Identity::generate(kind, now)).await?;
        self.request_for(host_key, identity).await
    }

    async fn request_for(
        &self,
        host_key: &HostKey,
        mut identity: Identity,
    ) -> Result<Answer<Identity>, Error> {
        let session = random::array(&mut System::new());
        let session = SessionId(session.map_err(|error| Error::System(error.to_string()))?);
        let public = identity.key().public();
        let request = HealthRequest::sign(self.kind, host_key, public, session)?;
        let client = self.host.client();
        let answer = request.send(client, self.attestation, self.now()).await;
        Ok(answer.map(|certificate| {
            identity.keep(self.attestation, certificate, self.now());
            identity
        }))
    }

    fn keep(&self, identity: &Identity) -> Result<Certified, Error> {
        let path = self.state.identity(self.kind);
        identity.store(&path, &self.state.master_key()?)?;
        let mut record = Record::load(&self.state.status())?;
        record.passed(self.side, self.attestation, self.now());
        record.store(&self.state.status())?;
        let certified = self.certified(identity.clone());
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
        reuse: Reuse,
        held: Option<Identity>,
        cause: Cause,
    ) -> Result<Answer<Certified>, Error> {
        self.note(&cause)?;
        if cause.is_decision() {
            self.forget()?;
            return Ok(Err(cause));
        }
        match held.and_then(|held| self.certified(held)) {
            Some(certified) if reuse == Reuse::WhileValid => {
                tracing::warn!(%cause, "no new health certificate; the old one serves");
                Ok(Ok(certified))
            }
            _ => Ok(Err(cause)),
        }
    }

    fn note(&self, cause: &Cause) -> Result<(), Error> {
        let mut record = Record::load(&self.state.status())?;
        record.failed(self.side, self.attestation, cause, self.now());
        Ok(record.store(&self.state.status())?)
    }

    /// Lets go of all certificates of this service, whatever for: its decision is about the host.
    fn forget(&self) -> Result<(), Error> {
        let master_key = self.state.master_key()?;
        for kind in [HealthKind::Encryption, HealthKind::Signing] {
            let path = self.state.identity(kind);
            if let Some(mut held) = Identity::load(&path, kind, &master_key)?
                && held.forget(self.attestation)
            {
                held.store(&path, &master_key)?;
            }
        }
        Ok(())
    }
}

/// Does what may take long where it keeps nobody else waiting.
async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, Error>
where
    T: Send + 'static,
    E: Send + 'static,
    Error: From<E>,
{
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| Error::System(error.to_string()))??)
}
