//! Opening the listeners of a configuration.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;

use super::certificate::{CurrentCertificate, TlsError};
use super::clients::{PinnedClients, PinnedClientsError};
use super::listener;
use super::passed::PassedSockets;
use super::service::Service;
use super::unix::AdminSocket;
use crate::config::{Config, TlsFiles};
use crate::roles::{self, RolesError};
use hgs_clock::Clock;
use hgs_files::SocketError;

/// The names of the listeners, as in configuration, logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerName {
    /// `[listen.http]`
    Http,
    /// `[listen.https]`
    Https,
    /// `[listen.metrics]`
    Metrics,
    /// `[listen.admin]`
    Admin,
    /// `[listen.api]`
    Api,
    /// `[listen.console]`
    Console,
    /// `[listen.console.client_certificates]`
    ConsoleClientCertificates,
    /// What other nodes of the cluster reach.
    Cluster,
}

impl ListenerName {
    /// The label of metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Metrics => "metrics",
            Self::Admin => "admin",
            Self::Api => "api",
            Self::Console => "console",
            Self::ConsoleClientCertificates => "console-client-certificates",
            Self::Cluster => "cluster",
        }
    }
}

impl fmt::Display for ListenerName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => formatter.write_str("the cluster listener"),
            Self::ConsoleClientCertificates => {
                formatter.write_str("[listen.console.client_certificates]")
            }
            other => write!(formatter, "[listen.{}]", other.label()),
        }
    }
}

/// Why a listener can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A TCP address could not be listened on.
    #[error("{listener}: can't listen on {address}")]
    Address {
        /// Which listener.
        listener: ListenerName,
        /// The address of the configuration.
        address: SocketAddr,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// A socket that the service manager passed can't be used.
    #[error("{listener}: the socket that the service manager passed can't be used")]
    Passed {
        /// Which listener.
        listener: ListenerName,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The service manager passed a socket for a listener that is switched off.
    #[error("the service manager passed a socket for {0}, which is switched off")]
    SwitchedOff(ListenerName),
    /// The TLS certificate can't be used.
    #[error("{listener}: no TLS")]
    Tls {
        /// Which listener.
        listener: ListenerName,
        /// Why.
        #[source]
        error: TlsError,
    },
    /// It is not known whose certificates are taken.
    #[error("{listener}: no clients")]
    Clients {
        /// Which listener.
        listener: ListenerName,
        /// Why.
        #[source]
        error: PinnedClientsError,
    },
    /// The admin socket can't be made.
    #[error("[listen.admin]: no socket at {}", path.display())]
    Socket {
        /// The path of the configuration.
        path: PathBuf,
        /// Why.
        #[source]
        error: SocketError,
    },
    /// The group of the admin socket can't be looked up.
    #[error("[listen.admin]: no group `{group}`")]
    Group {
        /// Its name.
        group: String,
        /// Why, where the database failed; otherwise it holds no such group.
        #[source]
        error: Option<RolesError>,
    },
}

/// What a server of several listens with for the others.
#[derive(Clone)]
pub struct ClusterListening {
    /// Where.
    pub address: SocketAddr,
    /// How it answers: asked for each connection, as its certificate is renewed.
    pub tls: Arc<dyn Fn() -> Arc<rustls::ServerConfig> + Send + Sync>,
    /// What it serves.
    pub service: Arc<dyn Service>,
}

impl fmt::Debug for ClusterListening {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ClusterListening({})", self.address)
    }
}

/// What a listener that asks for certificates listens with.
#[derive(Debug)]
pub(super) struct ClientListening {
    pub(super) listener: TcpListener,
    pub(super) certificate: Arc<CurrentCertificate>,
    pub(super) clients: Arc<PinnedClients>,
}

/// The open listeners of one server.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) http: Option<TcpListener>,
    pub(super) https: Option<(TcpListener, Arc<CurrentCertificate>)>,
    pub(super) metrics: Option<TcpListener>,
    pub(super) admin: Option<AdminSocket>,
    pub(super) api: Option<ClientListening>,
    pub(super) console: Option<(TcpListener, Arc<CurrentCertificate>)>,
    pub(super) console_client_certificates: Option<ClientListening>,
    pub(super) cluster: Option<(TcpListener, ClusterListening)>,
}

impl Listeners {
    /// Opens what `config` enables; a socket that was passed takes the place of an address.
    pub(super) fn open(
        config: &Config,
        clock: &Arc<dyn Clock>,
        cluster: Option<ClusterListening>,
        mut passed: PassedSockets,
    ) -> Result<Self, BindError> {
        let listen = &config.listen;
        let mut open_tcp = |listener, address| match passed.take(listener) {
            Some(socket) => {
                TcpListener::from_std(socket).map_err(|error| BindError::Passed { listener, error })
            }
            None => open_tcp(listener, address),
        };
        let console = listen
            .console
            .enabled
            .then(|| {
                let files = config.console_files();
                let certificate = load(ListenerName::Console, files.tls_files())?;
                let listener = open_tcp(ListenerName::Console, listen.console.address)?;
                Ok::<_, BindError>((listener, certificate))
            })
            .transpose()?;
        let by_certificate = &listen.console.client_certificates;
        let opened = Self {
            http: listen
                .http
                .enabled
                .then(|| open_tcp(ListenerName::Http, config.http_address()))
                .transpose()?,
            https: listen
                .https
                .enabled
                .then(|| {
                    let certificate = load(ListenerName::Https, listen.https.tls_files())?;
                    let listener = open_tcp(ListenerName::Https, config.https_address())?;
                    Ok::<_, BindError>((listener, certificate))
                })
                .transpose()?,
            metrics: listen
                .metrics
                .enabled
                .then(|| open_tcp(ListenerName::Metrics, listen.metrics.address))
                .transpose()?,
            admin: listen
                .admin
                .enabled
                .then(|| open_admin(config))
                .transpose()?,
            api: listen
                .api
                .enabled
                .then(|| {
                    let listener = ListenerName::Api;
                    let file = config.api_clients_file();
                    Ok::<_, BindError>(ClientListening {
                        certificate: load(listener, config.api_tls_files())?,
                        clients: load_clients(listener, "listen.api", file, clock)?,
                        listener: open_tcp(listener, listen.api.address)?,
                    })
                })
                .transpose()?,
            console_client_certificates: console
                .as_ref()
                .filter(|_| by_certificate.enabled)
                .map(|(_, certificate)| {
                    let listener = ListenerName::ConsoleClientCertificates;
                    let section = "listen.console.client_certificates";
                    let file = config.console_clients_file();
                    Ok::<_, BindError>(ClientListening {
                        certificate: Arc::clone(certificate),
                        clients: load_clients(listener, section, file, clock)?,
                        listener: open_tcp(listener, by_certificate.address)?,
                    })
                })
                .transpose()?,
            console,
            cluster: cluster
                .map(|cluster| {
                    let listener = open_tcp(ListenerName::Cluster, cluster.address)?;
                    Ok::<_, BindError>((listener, cluster))
                })
                .transpose()?,
        };
        match passed.left_over() {
            Some(listener) => Err(BindError::SwitchedOff(listener)),
            None => Ok(opened),
        }
    }
}

fn load(listener: ListenerName, files: TlsFiles<'_>) -> Result<Arc<CurrentCertificate>, BindError> {
    CurrentCertificate::load(files).map_err(|error| BindError::Tls { listener, error })
}

fn load_clients(
    listener: ListenerName,
    section: &'static str,
    file: PathBuf,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<PinnedClients>, BindError> {
    PinnedClients::load(section, file, Arc::clone(clock))
        .map_err(|error| BindError::Clients { listener, error })
}

fn open_tcp(listener: ListenerName, address: SocketAddr) -> Result<TcpListener, BindError> {
    listener::bind_tcp(address).map_err(|error| BindError::Address {
        listener,
        address,
        error,
    })
}

fn open_admin(config: &Config) -> Result<AdminSocket, BindError> {
    let path = config.admin_socket();
    let group = match config.listen.admin.group.as_deref() {
        Some(name) => {
            let no_group = |error| BindError::Group {
                group: name.to_owned(),
                error,
            };
            let found = roles::group_id(name).map_err(|error| no_group(Some(error)))?;
            Some(found.ok_or_else(|| no_group(None))?)
        }
        None => None,
    };
    AdminSocket::bind(&path, group).map_err(|error| BindError::Socket { path, error })
}
