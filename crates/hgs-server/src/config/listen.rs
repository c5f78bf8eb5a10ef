//! `[listen.*]`: who can reach the service, and how. Each listener can be left out.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::public_url::PublicUrl;
use super::quantity::{DAY, SECOND, period};

/// `[listen]`: the four listeners.
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
