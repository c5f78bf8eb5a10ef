//! `[listen.*]`: who can reach the service, and how. Each listener can be left out.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hgs_console::sessions::Times;
use hgs_pki::Seconds;
use serde::{Deserialize, Serialize};

use super::openid::OpenId;
use super::public_url::PublicUrl;
use super::quantity::{DAY, HOUR, MINUTE, SECOND, period};

/// `[listen]`: the listeners.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// The two protocols in plain HTTP.
    pub http: Http,
    /// The two protocols under TLS.
    pub https: Https,
    /// Metrics, liveness and readiness.
    pub metrics: Metrics,
    /// The admin API on a Unix socket.
    pub admin: Admin,
    /// The admin API under mutual TLS.
    pub api: Api,
    /// The console, for browsers.
    pub console: Console,
}

/// `[listen.http]`: what the protocols carry is encrypted to the host or signed, so plain HTTP is
/// served unless it is switched off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Whether there is such a listener.
    pub enabled: bool,
    /// Address and port; every address of the machine when absent.
    pub address: Option<SocketAddr>,
    /// What the URLs begin with under which hosts reach it; see [`Config::public_urls`](super::Config::public_urls).
    pub public_url: Option<PublicUrl>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            enabled: true,
            address: None,
            public_url: None,
        }
    }
}

/// `[listen.https]`: HTTP/1.1 under TLS 1.2 or 1.3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Https {
    /// Whether there is such a listener.
    pub enabled: bool,
    /// Address and port; every address of the machine when absent.
    pub address: Option<SocketAddr>,
    /// What the URLs begin with under which hosts reach it; see [`Config::public_urls`](super::Config::public_urls).
    pub public_url: Option<PublicUrl>,
    /// PEM file with the server's certificate, then its chain; or PFX file with both and the key.
    pub certificate: Option<PathBuf>,
    /// PEM file with the private key; the certificate's file when absent.
    pub key: Option<PathBuf>,
    /// File with the passphrase of the key or the PFX file, when it has one. A newline at its end is
    /// not part of it.
    pub passphrase_file: Option<PathBuf>,
    /// How often the files are looked at for a change.
    #[serde(
        serialize_with = "period::serialize",
        deserialize_with = "period::between::<_, 1, DAY>"
    )]
    pub check_interval: Duration,
    /// Time that a TLS handshake may take.
    #[serde(
        serialize_with = "period::serialize",
        deserialize_with = "period::between::<_, 1, { 60 * SECOND }>"
    )]
    pub handshake_time: Duration,
}

impl Default for Https {
    fn default() -> Self {
        Self {
            enabled: false,
            address: None,
            public_url: None,
            certificate: None,
            key: None,
            passphrase_file: None,
            check_interval: Duration::from_mins(1),
            handshake_time: Duration::from_secs(10),
        }
    }
}

/// The files of a TLS certificate and its key.
#[derive(Debug, Clone, Copy)]
pub struct TlsFiles<'c> {
    /// The section whose listener uses them.
    pub section: &'static str,
    /// PEM file with the server's certificate, then its chain; or PFX file with both and the key.
    pub certificate: Option<&'c Path>,
    /// PEM file with the private key; the certificate's file when absent.
    pub key: Option<&'c Path>,
    /// File with the passphrase of the key or the PFX file, when it has one.
    pub passphrase_file: Option<&'c Path>,
}

impl Https {
    /// The certificate that it names.
    #[must_use]
    pub fn tls_files(&self) -> TlsFiles<'_> {
        TlsFiles {
            section: "listen.https",
            certificate: self.certificate.as_deref(),
            key: self.key.as_deref(),
            passphrase_file: self.passphrase_file.as_deref(),
        }
    }
}

/// `[listen.api]`: the admin API in HTTP/1.1 under TLS 1.3, for callers with a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// Whether there is such a listener.
    pub enabled: bool,
    /// Address and port.
    pub address: SocketAddr,
    /// What the URL begins with by which callers reach it, if not derived from `address`.
    pub public_url: Option<PublicUrl>,
    /// File with the callers, their certificates and roles; `api-clients.toml` beside the configuration when absent.
    pub clients: Option<PathBuf>,
    /// As in `[listen.https]`. Its certificate, key and passphrase are used when absent.
    pub certificate: Option<PathBuf>,
    /// PEM file with the private key; the certificate's file when absent.
    pub key: Option<PathBuf>,
    /// File with the passphrase of the key or the PFX file, when it has one.
    pub passphrase_file: Option<PathBuf>,
    /// How often the files, those of the callers among them, are looked at for a change.
    #[serde(
        serialize_with = "period::serialize",
        deserialize_with = "period::between::<_, 1, DAY>"
    )]
    pub check_interval: Duration,
    /// Time that a TLS handshake may take.
    #[serde(
        serialize_with = "period::serialize",
        deserialize_with = "period::between::<_, 1, { 60 * SECOND }>"
    )]
    pub handshake_time: Duration,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            enabled: false,
            address: (Ipv6Addr::UNSPECIFIED, 9443).into(),
            public_url: None,
            clients: None,
            certificate: None,
            key: None,
            passphrase_file: None,
            check_interval: Duration::from_secs(10),
            handshake_time: Duration::from_secs(10),
        }
    }
}

impl Api {
    /// The certificate that it names.
    pub(super) fn tls_files(&self) -> TlsFiles<'_> {
        TlsFiles {
            section: "listen.api",
            certificate: self.certificate.as_deref(),
            key: self.key.as_deref(),
            passphrase_file: self.passphrase_file.as_deref(),
        }
    }
}

/// `[listen.console]`: the console, in HTTP/1.1 under TLS 1.2 or 1.3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Console {
    /// Whether there is such a listener.
    pub enabled: bool,
    /// Address and port.
    pub address: SocketAddr,
    /// The URL by which browsers reach it; derived as those of hosts when absent.
    pub public_url: Option<PublicUrl>,
    /// As in `[listen.https]`. Without one the server makes one that signs itself, in the state folder.
    pub certificate: Option<PathBuf>,
    /// PEM file with the private key; the certificate's file when absent.
    pub key: Option<PathBuf>,
    /// File with the passphrase of the key or the PFX file, when it has one.
    pub passphrase_file: Option<PathBuf>,
    /// How often the files are looked at for a change.
    #[serde(
        serialize_with = "period::serialize",
        deserialize_with = "period::between::<_, 1, DAY>"
    )]
    pub check_interval: Duration,
    /// Time that a TLS handshake may take.
    #[serde(
        serialize_with = "period::serialize",
        deserialize_with = "period::between::<_, 1, { 60 * SECOND }>"
    )]
    pub handshake_time: Duration,
    /// After how long without a click a session ends.
    #[serde(
        serialize_with = "period::serialize",
        deserialize_with = "period::between::<_, { MINUTE }, { 8 * HOUR }>"
    )]
    pub idle_time: Duration,
    /// How long a session lasts at most.
    #[serde(
        serialize_with = "period::serialize",
        deserialize_with = "period::between::<_, { 5 * MINUTE }, DAY>"
    )]
    pub session_time: Duration,
    /// Signing in by OpenID Connect.
    pub openid: OpenId,
    /// Signing in by a client certificate.
    pub client_certificates: ClientCertificates,
}

impl Default for Console {
    fn default() -> Self {
        let times = Times::default();
        Self {
            enabled: false,
            address: (Ipv6Addr::UNSPECIFIED, 9444).into(),
            public_url: None,
            certificate: None,
            key: None,
            passphrase_file: None,
            check_interval: Duration::from_mins(1),
            handshake_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(times.idle.get()),
            session_time: Duration::from_secs(times.whole.get()),
            openid: OpenId::default(),
            client_certificates: ClientCertificates::default(),
        }
    }
}

impl Console {
    /// When sessions end by themselves.
    pub(crate) fn session_times(&self) -> Times {
        Times {
            idle: Seconds::new(self.idle_time.as_secs()),
            whole: Seconds::new(self.session_time.as_secs()),
        }
    }
}

/// `[listen.console.client_certificates]`: the console under TLS 1.3, for browsers that show a certificate of its user. It shows
/// the certificate of `[listen.console]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientCertificates {
    /// Whether there is such a listener.
    pub enabled: bool,
    /// Address and port.
    pub address: SocketAddr,
    /// The URL by which browsers reach it; the name by which they reached the console, and this port, when absent.
    pub public_url: Option<PublicUrl>,
    /// File with the users, their certificates and roles; `console-clients.toml` beside the configuration when absent.
    pub clients: Option<PathBuf>,
    /// How often the file, and the certificates that it names, are looked at for a change.
    #[serde(
        serialize_with = "period::serialize",
        deserialize_with = "period::between::<_, 1, DAY>"
    )]
    pub check_interval: Duration,
    /// Time that a TLS handshake may take. Some browsers ask their user for a certificate in the midst of it.
    #[serde(
        serialize_with = "period::serialize",
        deserialize_with = "period::between::<_, 1, { 60 * SECOND }>"
    )]
    pub handshake_time: Duration,
}

impl Default for ClientCertificates {
    fn default() -> Self {
        Self {
            enabled: false,
            address: (Ipv6Addr::UNSPECIFIED, 9445).into(),
            public_url: None,
            clients: None,
            check_interval: Duration::from_secs(10),
            handshake_time: Duration::from_mins(1),
        }
    }
}

/// `[listen.metrics]`: for the monitoring system, not for hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Whether there is such a listener.
    pub enabled: bool,
    /// Address and port; only this machine reaches the default.
    pub address: SocketAddr,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            enabled: true,
            address: (Ipv4Addr::LOCALHOST, 9464).into(),
        }
    }
}

/// `[listen.admin]`: the administrators' socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Whether there is such a listener.
    pub enabled: bool,
    /// Path of the socket; `admin.sock` in the runtime folder when absent.
    pub socket: Option<PathBuf>,
    /// Group that may connect; the server's own when absent.
    pub group: Option<String>,
    /// Group whose members may change things.
    pub administrators_group: Option<String>,
    /// Group whose members may look.
    pub reviewers_group: Option<String>,
    /// Group whose members may register and revoke hosts, and approve what they booted.
    pub host_managers_group: Option<String>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            enabled: true,
            socket: None,
            group: None,
            administrators_group: None,
            reviewers_group: None,
            host_managers_group: None,
        }
    }
}
