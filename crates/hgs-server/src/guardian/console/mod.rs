//! What a guardian knows of its console: who is signed in, where it is reached, and the certificate that it shows.

mod certificate;
mod openid;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use hgs_admin::{AdminError, Caller, ErrorCode};
use hgs_clock::Clock;
use hgs_console::requests::OwnNames;
use hgs_console::routes::{self, beginning_of_links};
use hgs_console::sessions::{LookAgain, Sessions};
use hgs_crypto::{hash, hex};
use hgs_pki::Time;
use hyper::Uri;
use hyper::http::uri::Authority;
use tracing::info;

use crate::config::{Config, PublicUrl};
use crate::http::CurrentCertificate;

pub use certificate::ConsoleCertificateError;
pub(crate) use certificate::OwnCertificate;
pub use openid::OpenIdError;
pub(crate) use openid::{NotSignedIn, OpenId};

/// The console of one guardian.
pub(crate) struct Console {
    names: OwnNames,
    cookie: OnceLock<String>,
    sessions: Mutex<Sessions>,
    place: OnceLock<(String, Arc<CurrentCertificate>)>,
    openid: Option<OpenId>,
    /// The URL that the configuration has for browsers which show a certificate.
    certificate_url: Option<PublicUrl>,
    for_certificates: OnceLock<ForCertificates>,
}

/// The listener for browsers that show a certificate.
struct ForCertificates {
    port: u16,
    cookie: String,
}

/// Where a console is, and how it is known.
pub(crate) struct ConsolePlace {
    url: String,
    /// SHA-256 of its certificate.
    pub(crate) fingerprint: String,
}

impl ConsolePlace {
    /// How a link begins that signs in.
    pub(crate) fn beginning_of_links(&self) -> String {
        self.url.clone() + beginning_of_links()
    }
}

impl Console {
    /// The console, if there is to be one.
    pub(crate) fn of(
        config: &Config,
        clock: &Arc<dyn Clock>,
    ) -> Result<Option<Arc<Self>>, OpenIdError> {
        let settings = &config.listen.console;
        if !settings.enabled {
            return Ok(None);
        }
        Ok(Some(Arc::new(Self {
            names: OwnNames::new(config.console_names()),
            cookie: OnceLock::new(),
            sessions: Mutex::new(Sessions::new(settings.session_times())),
            place: OnceLock::new(),
            openid: OpenId::new(&settings.openid, Arc::clone(clock))?,
            certificate_url: settings.client_certificates.public_url.clone(),
            for_certificates: OnceLock::new(),
        })))
    }

    /// Tells it once where it listens: also at `certificate_port`, if browsers may show a certificate.
    pub(crate) fn opened(
        &self,
        url: String,
        certificate: Arc<CurrentCertificate>,
        certificate_port: Option<u16>,
    ) {
        let _ = self.cookie.set(cookie_of(&url));
        if let Some(port) = certificate_port {
            let cookie = cookie_of(&format!("{url} {port}"));
            let _ = self.for_certificates.set(ForCertificates { port, cookie });
        }
        let _ = self.place.set((url, certificate));
        if let (Some(openid), Some(redirect_uri)) = (&self.openid, self.redirect_uri()) {
            let issuer = openid.issuer();
            info!(
                issuer,
                redirect_uri, "users sign in to the console by OpenID Connect, too"
            );
        }
    }

    /// The provider of OpenID Connect at which users sign in, if there is one.
    pub(crate) fn openid(&self) -> Option<&OpenId> {
        self.openid.as_ref()
    }

    /// Where that provider sends browsers back to.
    pub(crate) fn redirect_uri(&self) -> Option<String> {
        let (url, _) = self.place.get()?;
        Some(url.trim_end_matches('/').to_owned() + routes::openid_callback().as_str())
    }

    /// Where a browser has to begin that reached the console by `host`: the provider knows one name of the console, and a
    /// cookie of another name would not come back.
    pub(crate) fn beginning_at_own_name(&self, host: &str) -> Option<String> {
        let (url, _) = self.place.get()?;
        let place = |url: &str| {
            let url: Uri = url.parse().ok()?;
            let port = url.port_u16().unwrap_or(443);
            Some((url.host()?.to_ascii_lowercase(), port))
        };
        let is_own = place(url) == place(&format!("https://{host}"));
        let beginning = url.trim_end_matches('/').to_owned() + routes::openid().as_str();
        (!is_own).then_some(beginning)
    }

    /// The names by which browsers reach it.
    pub(crate) fn names(&self) -> &OwnNames {
        &self.names
    }

    /// The name of the cookie that holds a session.
    pub(crate) fn cookie(&self) -> &str {
        self.cookie.get().map_or("__Host-openhgs", String::as_str)
    }

    /// The name of the cookie that holds the session of a user who signed in by a certificate.
    pub(crate) fn certificate_cookie(&self) -> &str {
        let listening = self.for_certificates.get();
        listening.map_or("__Host-openhgs-certificate", |listening| &listening.cookie)
    }

    /// Where a browser that reached the console by `host` shows a certificate, if it may.
    pub(crate) fn certificate_sign_in(&self, host: &str) -> Option<String> {
        let listening = self.for_certificates.get()?;
        let beginning = match &self.certificate_url {
            Some(url) => url.to_string(),
            // Its own name for this machine leads to the other port, too.
            None => {
                let authority: Authority = host.parse().ok()?;
                format!("https://{}:{}", authority.host(), listening.port)
            }
        };
        Some(beginning + routes::certificate().as_str())
    }

    /// Links and sessions.
    pub(crate) fn sessions(&self) -> MutexGuard<'_, Sessions> {
        // No change of them is left half-way by a panic.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a link. Until when it holds.
    pub(crate) fn add_link(
        &self,
        secret_digest: &str,
        user: Caller,
        look_again: LookAgain,
        now: Time,
    ) -> Result<Time, AdminError> {
        self.sessions()
            .add_link(secret_digest, user, look_again, now)
    }

    /// Where it is.
    pub(crate) fn place(&self) -> Result<ConsolePlace, AdminError> {
        let place = self.place.get().and_then(|(url, certificate)| {
            Some(ConsolePlace {
                url: url.clone(),
                fingerprint: certificate.fingerprint()?.to_string(),
            })
        });
        place.ok_or_else(|| AdminError::new(ErrorCode::Unavailable, "the console is not open yet"))
    }
}

/// Browsers send a cookie to every port of a name, so each listener of a machine has a cookie of another name.
fn cookie_of(listener: &str) -> String {
    let digest = hex::encode(&hash::sha256(listener.as_bytes())[..4]);
    format!("__Host-openhgs-{digest}")
}

impl fmt::Debug for Console {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Console(..)")
    }
}
