//! Signing in by OpenID Connect: what the guardian asks the provider, and what it keeps of that.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hgs_admin::{Caller, Identity, Role};
use hgs_clock::Clock;
use hgs_crypto::random::System;
use hgs_crypto::{CryptoError, SecretBytes};
use hgs_files::{FileError, TypedError, typed_line};
use hgs_openid::{
    BrowserSecret, Callback, Fault, IdTokenError, KeySet, Provider, ProviderUrl, RelyingParty,
    SignIn, SignInError, SignIns, User, read_token_answer, token_request,
};
use hgs_pki::{Seconds, Time};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::config::{self, OpenIdIncomplete};
use crate::outgoing::{AuthoritiesError, Outgoing};

/// How long the provider may take for one answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// For how long metadata and keys are used.
const KEPT: Seconds = Seconds::from_minutes(10);
/// How soon keys are fetched again, because a token is signed with another one.
const KEYS_AGAIN: Seconds = Seconds::from_minutes(1);
/// How soon a provider is asked again that failed.
const FAILURE_KEPT: Seconds = Seconds::new(5);
/// Users for whom the provider is asked at once.
const AT_ONCE: usize = 8;
/// Octets of the longest answer. Each reader has a smaller limit, or the same.
const MAX_ANSWER: usize = 256 * 1024;
/// Octets of the longest file with a secret.
const MAX_SECRET: usize = 4096;

/// `[listen.console.openid]` can't be used. The operator is at fault.
#[derive(Debug, thiserror::Error)]
pub enum OpenIdError {
    /// Something is missing.
    #[error(transparent)]
    Incomplete(#[from] OpenIdIncomplete),
    /// The secret of the client.
    #[error("listen.console.openid.client_secret_file: {0}")]
    Secret(#[from] FileError),
    /// The file holds no secret.
    #[error("listen.console.openid.client_secret_file: the file {0}")]
    UnfitSecret(#[from] TypedError),
    /// Who may vouch for the provider.
    #[error("listen.console.openid.authorities: {0}")]
    Authorities(#[from] AuthoritiesError),
}

/// Why a user is not signed in.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum NotSignedIn {
    /// The provider is away.
    #[error("the provider does not answer at {url}: {reason}")]
    NoAnswer { url: String, reason: String },
    /// The provider answers with something else.
    #[error("the provider answers at {url} with status {status}")]
    Status { url: String, status: u16 },
    /// What it, the browser or the user did.
    #[error(transparent)]
    Refused(#[from] SignInError),
    /// The provider knows the user, and the configuration does not.
    #[error("{0} is in no group that has a role here")]
    NoRole(Identity),
    /// Nothing of the provider.
    #[error("there is no randomness")]
    Randomness(#[from] CryptoError),
}

impl NotSignedIn {
    /// What to do.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::NoAnswer { .. } => {
                "ask who runs the provider; where its certificate is refused, name its authorities in `authorities` of [listen.console.openid]"
            }
            Self::Status { .. } => {
                "compare `issuer` in [listen.console.openid] with the URL of the provider, or ask who runs it"
            }
            Self::Refused(error) => error.remedy(),
            Self::NoRole(_) => {
                "have the user put into such a group at the provider, or give one of the user's groups a role by [[listen.console.openid.group]]"
            }
            Self::Randomness(_) => "try again; if it persists, restart the guardian's machine",
        }
    }

    /// Whether the provider is away.
    pub(crate) fn is_of_provider(&self) -> bool {
        matches!(self, Self::NoAnswer { .. } | Self::Status { .. })
    }

    /// Whether those who run the guardian should hear of it.
    pub(crate) fn is_for_operators(&self) -> bool {
        match self {
            Self::NoAnswer { .. } | Self::Status { .. } | Self::Randomness(_) => true,
            Self::Refused(error) => error.fault() != Fault::User,
            Self::NoRole(_) => false,
        }
    }
}

/// Users who come back from a provider, and what of it is known.
pub(crate) struct OpenId {
    party: RelyingParty,
    roles: BTreeMap<String, Vec<Role>>,
    session_time: Seconds,
    outgoing: Outgoing,
    clock: Arc<dyn Clock>,
    sign_ins: Mutex<SignIns>,
    /// Held while the provider is asked, so that it is asked once for all who wait.
    known: tokio::sync::Mutex<Known>,
    at_once: Semaphore,
}

/// What the provider has published.
#[derive(Default)]
struct Known {
    provider: Option<Fetched<Provider>>,
    keys: Option<Fetched<KeySet>>,
    failure: Option<Fetched<NotSignedIn>>,
}

#[derive(Clone)]
struct Fetched<T> {
    what: T,
    when: Time,
}

impl<T> Fetched<T> {
    fn is_younger(&self, age: Seconds, now: Time) -> bool {
        // A clock that was put back makes everything old.
        now.since(self.when).is_some_and(|since| since < age)
    }
}

impl OpenId {
    /// What the configuration says, if users sign in so.
    pub(crate) fn new(
        settings: &config::OpenId,
        clock: Arc<dyn Clock>,
    ) -> Result<Option<Self>, OpenIdError> {
        let Some((issuer, client_id)) = settings.provider()? else {
            return Ok(None);
        };
        let seconds = |time: Duration| Seconds::new(time.as_secs());
        let party = RelyingParty {
            issuer: issuer.clone(),
            client_id: client_id.to_owned(),
            secret: secret(settings)?,
            scopes: settings.scopes.clone(),
            algorithms: settings.algorithms.clone(),
            groups_claim: settings.groups_claim.clone(),
            max_age: settings.max_age.map(seconds),
            clock_tolerance: seconds(settings.clock_tolerance),
        };
        Ok(Some(Self {
            party,
            roles: settings.roles(),
            session_time: seconds(settings.session_time),
            outgoing: Outgoing::new(settings.authorities.as_deref())?,
            clock,
            sign_ins: Mutex::default(),
            known: tokio::sync::Mutex::default(),
            at_once: Semaphore::new(AT_ONCE),
        }))
    }

    /// Whether these settings can be used on this machine.
    pub(crate) fn check(settings: &config::OpenId) -> Result<(), OpenIdError> {
        if settings.provider()?.is_some() {
            secret(settings)?;
            Outgoing::new(settings.authorities.as_deref())?;
        }
        Ok(())
    }

    /// The provider, as people are shown it.
    pub(crate) fn issuer(&self) -> &str {
        self.party.issuer.as_str()
    }

    /// How long a session lasts at most.
    pub(crate) fn session_time(&self) -> Seconds {
        self.session_time
    }

    /// A browser at `address` begins: what it keeps, and where it is sent. The provider sends it back to `redirect_uri`.
    pub(crate) async fn begin(
        &self,
        redirect_uri: &str,
        address: &str,
    ) -> Result<(BrowserSecret, String), NotSignedIn> {
        let provider = self.provider().await?;
        let now = self.clock.now();
        let mut sign_ins = self.sign_ins();
        let (party, random) = (&self.party, &mut System::new());
        Ok(sign_ins.begin(party, &provider, redirect_uri, address, now, random)?)
    }

    /// A browser comes back: who its user is, and what the user may do.
    pub(crate) async fn finish(
        &self,
        secret: Option<&str>,
        query: &str,
    ) -> Result<Caller, NotSignedIn> {
        let refused = SignInError::from;
        let callback = Callback::read(query).map_err(refused)?;
        let provider = self.provider().await?;
        let now = self.clock.now();
        let (sign_in, code) = self
            .sign_ins()
            .finish(secret, &callback, &self.party, &provider, now)
            .map_err(refused)?;
        let user = self.user(&provider, &sign_in, &code).await?;
        self.caller(user)
    }

    async fn user(
        &self,
        provider: &Provider,
        sign_in: &SignIn,
        code: &SecretBytes,
    ) -> Result<User, NotSignedIn> {
        let _permit = self.at_once.acquire().await;
        let request = token_request(&self.party, provider, sign_in, code);
        let mut post = Request::builder()
            .method(Method::POST)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(authorization) = &request.authorization {
            let value = HeaderValue::from_bytes(authorization.expose());
            post = post.header(AUTHORIZATION, value.map_err(|_| CryptoError)?);
        }
        let body = Bytes::copy_from_slice(request.body.expose());
        let (status, answer) = self.ask(post, request.url, body).await?;
        let token = read_token_answer(status, &answer).map_err(SignInError::from)?;
        let verify = |keys: &KeySet| token.verify(&self.party, keys, sign_in, self.clock.now());
        let verified = match verify(&self.keys(provider, KEPT).await?) {
            Err(error) if error.may_be_of_new_key() => {
                verify(&self.keys(provider, KEYS_AGAIN).await?)
            }
            verified => verified,
        };
        Ok(verified.map_err(|error: IdTokenError| SignInError::from(error))?)
    }

    fn caller(&self, user: User) -> Result<Caller, NotSignedIn> {
        let roles = user.groups.iter().filter_map(|group| self.roles.get(group));
        let roles: Vec<Role> = roles.flatten().copied().collect();
        let identity = Identity::OpenId {
            issuer: self.party.issuer.to_string(),
            subject: user.subject,
            name: user.name,
        };
        match roles.is_empty() {
            true => Err(NotSignedIn::NoRole(identity)),
            false => Ok(Caller {
                identity,
                permissions: roles.into_iter().collect(),
            }),
        }
    }

    async fn provider(&self) -> Result<Provider, NotSignedIn> {
        let (url, read) = (self.party.issuer.discovery_url(), |body: &[u8]| {
            Ok(Provider::read(body, &self.party)?)
        });
        self.published(|known| &mut known.provider, KEPT, &url, read)
            .await
    }

    /// The keys of the provider, fetched within the last `age`.
    async fn keys(&self, provider: &Provider, age: Seconds) -> Result<KeySet, NotSignedIn> {
        let read = |body: &[u8]| Ok(KeySet::read(body)?);
        self.published(|known| &mut known.keys, age, provider.jwks_uri(), read)
            .await
    }

    /// What the provider publishes at `url`: as it was `kept`, if it was fetched within the last `age`.
    async fn published<T: Clone>(
        &self,
        kept: fn(&mut Known) -> &mut Option<Fetched<T>>,
        age: Seconds,
        url: &ProviderUrl,
        read: impl FnOnce(&[u8]) -> Result<T, SignInError>,
    ) -> Result<T, NotSignedIn> {
        let mut known = self.known.lock().await;
        let now = self.clock.now();
        let found = kept(&mut known).as_ref();
        if let Some(found) = found.filter(|it| it.is_younger(age, now)) {
            return Ok(found.what.clone());
        }
        known.check_failure(now)?;
        let fetched = self.fetch(url).await;
        let fetched = fetched.and_then(|body| Ok(read(&body)?));
        let fetched = known.keep_failure(fetched, &*self.clock)?;
        *kept(&mut known) = Some(Fetched {
            what: fetched.clone(),
            when: now,
        });
        Ok(fetched)
    }

    async fn fetch(&self, url: &ProviderUrl) -> Result<Bytes, NotSignedIn> {
        let request = Request::builder().method(Method::GET);
        match self.ask(request, url, Bytes::new()).await? {
            (200, body) => Ok(body),
            (status, _) => Err(NotSignedIn::Status {
                url: url.to_string(),
                status,
            }),
        }
    }

    async fn ask(
        &self,
        request: hyper::http::request::Builder,
        url: &ProviderUrl,
        body: Bytes,
    ) -> Result<(u16, Bytes), NotSignedIn> {
        let no_answer = |reason: String| NotSignedIn::NoAnswer {
            url: url.to_string(),
            reason,
        };
        let request = request.uri(url.as_str()).header(ACCEPT, "application/json");
        let request = request
            .body(body)
            .map_err(|error| no_answer(error.to_string()))?;
        let sent = timeout(PATIENCE, self.outgoing.send(request, MAX_ANSWER)).await;
        let sent =
            sent.map_err(|_| no_answer(format!("nothing within {} s", PATIENCE.as_secs())))?;
        let answer = sent.map_err(|error| no_answer(error.to_string()))?;
        Ok((answer.status().as_u16(), answer.into_body()))
    }

    fn sign_ins(&self) -> MutexGuard<'_, SignIns> {
        // No change of them is left half-way by a panic.
        self.sign_ins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// A provider that has just failed is not asked again at once, whoever wants to sign in.
    fn check_failure(&self, now: Time) -> Result<(), NotSignedIn> {
        match &self.failure {
            Some(failure) if failure.is_younger(FAILURE_KEPT, now) => Err(failure.what.clone()),
            _ => Ok(()),
        }
    }

    /// The time is that of now, and not of the question: whoever has waited meanwhile need not wait as long again.
    fn keep_failure<T>(
        &mut self,
        fetched: Result<T, NotSignedIn>,
        clock: &dyn Clock,
    ) -> Result<T, NotSignedIn> {
        self.failure = fetched.as_ref().err().map(|failure| Fetched {
            what: failure.clone(),
            when: clock.now(),
        });
        fetched
    }
}

impl fmt::Debug for OpenId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "OpenId({})", self.party.issuer)
    }
}

fn secret(settings: &config::OpenId) -> Result<Option<SecretBytes>, OpenIdError> {
    let Some(path) = &settings.client_secret_file else {
        return Ok(None);
    };
    let octets = hgs_files::read_named_secret(path, MAX_SECRET)?;
    Ok(Some(typed_line(&octets)?))
}
