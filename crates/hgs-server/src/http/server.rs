//! A server: the listeners of one configuration, and the services behind them.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use hgs_clock::Clock;
use hgs_crypto::random::{self, System};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, interval_at, timeout};
use tracing::{info, warn};

use super::bind::{BindError, ClusterListening, ListenerName, Listeners};
use super::certificate::{CurrentCertificate, TlsError};
use super::clients::PinnedClients;
use super::exchange::Engine;
use super::listener::{self, Listener, Plain};
use super::overload;
use super::passed::PassedSockets;
use super::service::Service;
use super::shutdown::{self, ShutdownSignal};
use super::tls::Tls;
use crate::config::{Config, Limits};
use crate::health::{Monitoring, Readiness};
use crate::metrics::{ListenerMetrics, Metrics};

/// How often measurements that were not fetched are folded into their buckets.
const SETTLE: Duration = Duration::from_secs(5);

/// What a server serves.
#[derive(Clone)]
pub struct Services {
    /// Behind `[listen.http]` and `[listen.https]`.
    pub protocol: Arc<dyn Service>,
    /// Behind `[listen.admin]` and `[listen.api]`.
    pub admin: Arc<dyn Service>,
    /// Behind `[listen.console]` and `[listen.console.client_certificates]`, where there is a console.
    pub console: Option<Arc<dyn Service>>,
    /// Asked by `/health/ready`.
    pub readiness: Readiness,
    /// Counts for the listeners; the services may add their own.
    pub metrics: Metrics,
    /// Tells whether certificates of callers are valid.
    pub clock: Arc<dyn Clock>,
    /// For other nodes, where there are any.
    pub cluster: Option<ClusterListening>,
}

impl fmt::Debug for Services {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Services(..)")
    }
}

/// Makes servers. There is nothing global about one: a process can hold several.
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Opens every listener that `config` enables. From then on peers can connect; they are served
    /// by [`Bound::run`]. It must be called in the context of a Tokio runtime.
    ///
    /// # Errors
    /// When a listener can't be opened; those opened before are closed again.
    pub fn bind(config: &Config, services: Services) -> Result<Bound, BindError> {
        Self::bind_with(config, services, PassedSockets::default())
    }

    /// As [`Self::bind`], with sockets that the service manager has opened.
    ///
    /// # Errors
    /// As for [`Self::bind`], and when a socket was passed for a listener that `config` switches off.
    pub fn bind_with(
        config: &Config,
        services: Services,
        passed: PassedSockets,
    ) -> Result<Bound, BindError> {
        for setting in config.dangerous_settings() {
            warn!(setting, "this setting weakens verification");
        }
        Ok(Bound {
            listeners: Listeners::open(config, &services.clock, services.cluster.clone(), passed)?,
            config: config.clone(),
            services,
        })
    }
}

/// Where a server really listens: the ports that the system chose where the configuration says 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Plain HTTP.
    pub http: Option<SocketAddr>,
    /// HTTPS.
    pub https: Option<SocketAddr>,
    /// Metrics and health.
    pub metrics: Option<SocketAddr>,
    /// The admin API's socket.
    pub admin: Option<PathBuf>,
    /// The admin API under TLS.
    pub api: Option<SocketAddr>,
    /// The console.
    pub console: Option<SocketAddr>,
    /// The console for browsers that show a certificate.
    pub console_client_certificates: Option<SocketAddr>,
    /// What other nodes reach.
    pub cluster: Option<SocketAddr>,
}

/// Makes a running server read its TLS certificates, and the files of clients, again.
#[derive(Debug, Clone)]
pub struct Reloader {
    https: Option<Arc<CurrentCertificate>>,
    api: Option<(Arc<CurrentCertificate>, Arc<PinnedClients>)>,
    console: Option<Arc<CurrentCertificate>>,
    console_clients: Option<Arc<PinnedClients>>,
}

impl Reloader {
    /// Reads certificates and their keys from their files, for the connections that come from now
    /// on, and whose certificates are taken. What can't be used was logged, and stays as it was.
    ///
    /// # Errors
    /// When the files of a certificate can't be used.
    pub fn reload(&self) -> Result<(), TlsError> {
        let clients = self.api.iter().map(|(_, clients)| clients);
        let clients = clients.chain(&self.console_clients);
        clients.for_each(|clients| drop(clients.reload()));
        let certificates = self.api.iter().map(|(certificate, _)| certificate);
        let certificates = self.https.iter().chain(certificates).chain(&self.console);
        let all: Vec<_> = certificates.map(|current| current.reload()).collect();
        all.into_iter().collect()
    }
}

/// A server whose listeners are open.
#[derive(Debug)]
pub struct Bound {
    config: Config,
    services: Services,
    listeners: Listeners,
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Stopped {
    /// Whether all accepted requests were answered; otherwise some were cut off.
    pub finished: bool,
}

impl Bound {
    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        let address = |listener: &TcpListener| listener.local_addr().ok();
        let Listeners {
            http,
            https,
            metrics,
            admin,
            api,
            console,
            console_client_certificates,
            cluster,
        } = &self.listeners;
        Addresses {
            http: http.as_ref().and_then(address),
            https: https.as_ref().and_then(|(listener, _)| address(listener)),
            metrics: metrics.as_ref().and_then(address),
            admin: admin.as_ref().map(|socket| socket.path().to_path_buf()),
            api: api.as_ref().and_then(|api| address(&api.listener)),
            console: console.as_ref().and_then(|(listener, _)| address(listener)),
            console_client_certificates: console_client_certificates
                .as_ref()
                .and_then(|listening| address(&listening.listener)),
            cluster: cluster.as_ref().and_then(|(listener, _)| address(listener)),
        }
    }

    /// A handle with which TLS certificates and callers are exchanged while the server runs.
    #[must_use]
    pub fn reloader(&self) -> Reloader {
        let Listeners {
            https,
            api,
            console,
            console_client_certificates,
            ..
        } = &self.listeners;
        Reloader {
            https: https
                .as_ref()
                .map(|(_, certificate)| Arc::clone(certificate)),
            api: api
                .as_ref()
                .map(|api| (Arc::clone(&api.certificate), Arc::clone(&api.clients))),
            console: console
                .as_ref()
                .map(|(_, certificate)| Arc::clone(certificate)),
            console_clients: console_client_certificates
                .as_ref()
                .map(|listening| Arc::clone(&listening.clients)),
        }
    }

    /// The certificate that the console shows.
    pub(crate) fn console_certificate(&self) -> Option<Arc<CurrentCertificate>> {
        let console = self.listeners.console.as_ref();
        console.map(|(_, certificate)| Arc::clone(certificate))
    }

    /// Whose certificates are taken, by listener.
    pub(crate) fn clients(&self) -> Vec<Arc<PinnedClients>> {
        let listeners = &self.listeners;
        let asking = [&listeners.api, &listeners.console_client_certificates];
        let asking = asking.into_iter().flatten();
        asking
            .map(|listening| Arc::clone(&listening.clients))
            .collect()
    }

    /// Serves until `shutdown` resolves. Then no more connections are accepted, the requests in
    /// progress are answered, and what is left after `limits.drain_time` is cut off.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Stopped {
        let (trigger, signal) = shutdown::channel();
        let drain_time = self.config.limits.drain_time;
        let metrics = self.services.metrics.clone();
        let listen = &self.config.listen;
        let intervals = [
            listen.https.check_interval,
            listen.api.check_interval,
            listen.console.check_interval,
            listen.console.client_certificates.check_interval,
        ];
        let reloader = self.reloader();
        let addresses = self.addresses();
        let mut tasks = self.spawn_listeners(&signal);
        info!(
            http = addresses.http.map(display),
            https = addresses.https.map(display),
            metrics = addresses.metrics.map(display),
            cluster = addresses.cluster.map(display),
            api = addresses.api.map(display),
            console = addresses.console.map(display),
            console_client_certificates = addresses.console_client_certificates.map(display),
            admin = addresses
                .admin
                .as_deref()
                .map(|socket| display(socket.display())),
            "serving"
        );
        tokio::select! {
            () = shutdown => {}
            () = settle(&metrics) => {}
            () = watch_files(&reloader, intervals) => {}
        }
        info!("stopping");
        trigger.fire();
        let drained = async { while tasks.join_next().await.is_some() {} };
        let finished = timeout(drain_time, drained).await.is_ok();
        if !finished {
            warn!(
                drain_seconds = drain_time.as_secs(),
                "requests were cut off"
            );
        }
        Stopped { finished }
    }

    fn spawn_listeners(self, shutdown: &ShutdownSignal) -> JoinSet<()> {
        let mut tasks = Tasks {
            set: JoinSet::new(),
            limits: self.config.limits,
            metrics: self.services.metrics,
            // Only a label in logs; a server without randomness fails where it matters.
            run: random::array(&mut System::new()).map_or(0, u32::from_be_bytes),
            sequence: Arc::new(AtomicU64::new(1)),
            shutdown: shutdown.clone(),
        };
        let protocol = self.services.protocol;
        if let Some(listener) = self.listeners.http {
            let plain = Plain::new(listener, tasks.connection_counts());
            tasks.spawn(ListenerName::Http, plain, protocol.clone());
        }
        if let Some((listener, certificate)) = self.listeners.https {
            let handshake_time = self.config.listen.https.handshake_time;
            certificate.show_in(&tasks.metrics, ListenerName::Https.label());
            let tls = Tls::new(
                listener,
                tasks.connection_counts(),
                certificate,
                handshake_time,
            );
            tasks.spawn(ListenerName::Https, tls, protocol);
        }
        if let Some(listener) = self.listeners.metrics {
            let plain = Plain::new(listener, tasks.connection_counts());
            let monitoring = Monitoring::new(tasks.metrics.clone(), self.services.readiness);
            tasks.spawn(ListenerName::Metrics, plain, Arc::new(monitoring));
        }
        if let Some(socket) = self.listeners.admin {
            tasks.spawn(ListenerName::Admin, socket, self.services.admin.clone());
        }
        if let Some(api) = self.listeners.api {
            let handshake_time = self.config.listen.api.handshake_time;
            let label = ListenerName::Api.label();
            api.certificate.show_in(&tasks.metrics, label);
            let tls = Tls::of_clients(api, tasks.connection_counts(), handshake_time);
            tasks.spawn(ListenerName::Api, tls, self.services.admin);
        }
        if let (Some(listening), Some(console)) = (
            self.listeners.console_client_certificates,
            self.services.console.clone(),
        ) {
            let handshake_time = self
                .config
                .listen
                .console
                .client_certificates
                .handshake_time;
            let tls = Tls::of_clients(listening, tasks.connection_counts(), handshake_time);
            tasks.spawn(ListenerName::ConsoleClientCertificates, tls, console);
        }
        if let (Some((listener, certificate)), Some(console)) =
            (self.listeners.console, self.services.console)
        {
            let handshake_time = self.config.listen.console.handshake_time;
            certificate.show_in(&tasks.metrics, ListenerName::Console.label());
            let counts = tasks.connection_counts();
            let tls = Tls::new(listener, counts, certificate, handshake_time);
            tasks.spawn(ListenerName::Console, tls, console);
        }
        if let Some((listener, cluster)) = self.listeners.cluster {
            let handshake_time = self.config.listen.https.handshake_time;
            let tls = Tls::of_cluster(
                listener,
                tasks.connection_counts(),
                cluster.tls,
                handshake_time,
            );
            tasks.spawn(ListenerName::Cluster, tls, cluster.service);
        }
        tasks.set
    }
}

/// The listeners' tasks, and what they are made of.
struct Tasks {
    set: JoinSet<()>,
    limits: Limits,
    metrics: Metrics,
    run: u32,
    sequence: Arc<AtomicU64>,
    shutdown: ShutdownSignal,
}

impl Tasks {
    fn connection_counts(&self) -> Arc<overload::ConnectionCounts> {
        overload::ConnectionCounts::new(&self.limits)
    }

    fn spawn(&mut self, name: ListenerName, listener: impl Listener, service: Arc<dyn Service>) {
        let engine = Engine::new(
            service,
            &self.limits,
            ListenerMetrics::new(&self.metrics, name.label()),
            self.run,
            self.sequence.clone(),
        );
        let running = listener::run(listener, Arc::new(engine), self.shutdown.clone());
        self.set.spawn(running);
    }
}

async fn settle(metrics: &Metrics) {
    let mut interval = interval(SETTLE);
    loop {
        interval.tick().await;
        metrics.settle();
    }
}

/// Looks at the files from time to time, as renewal tools do not send signals.
async fn watch_files(
    reloader: &Reloader,
    [of_https, of_api, of_console, of_console_clients]: [Duration; 4],
) {
    let certificate = async |certificate: &Option<Arc<CurrentCertificate>>, interval| {
        let Some(certificate) = certificate.clone() else {
            return std::future::pending().await;
        };
        every(interval, move || certificate.reload_if_changed()).await
    };
    let api = async {
        let Some((certificate, clients)) = reloader.api.clone() else {
            return std::future::pending().await;
        };
        let look = move || {
            clients.reload_if_changed();
            certificate.reload_if_changed();
        };
        every(of_api, look).await
    };
    let console_clients = async {
        let Some(clients) = reloader.console_clients.clone() else {
            return std::future::pending().await;
        };
        every(of_console_clients, move || clients.reload_if_changed()).await
    };
    tokio::select! {
        () = console_clients => {}
        () = certificate(&reloader.https, of_https) => {}
        () = certificate(&reloader.console, of_console) => {}
        () = api => {}
    }
}

/// Does what may block every so often, for ever.
async fn every(time: Duration, look: impl Fn() + Clone + Send + 'static) {
    let mut interval = interval_at(Instant::now() + time, time);
    loop {
        interval.tick().await;
        // A panic there would have been reported; the next look is the next attempt.
        let _ = tokio::task::spawn_blocking(look.clone()).await;
    }
}
