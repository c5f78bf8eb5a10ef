//! A server: the listeners of one configuration, and the services behind them.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use hgs_crypto::random::{self, System};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{info, warn};

use super::exchange::Engine;
use super::listener::{self, Plain};
use super::overload::{self, BodyMemory, Turnstile};
use super::service::Service;
use super::stopping::{self, Stopping};
use crate::config::Config;
use crate::health::{Monitoring, Readiness};
use crate::metrics::{ListenerMetrics, Metrics};

/// How often measurements that nobody fetched are folded into their buckets.
const SETTLE: Duration = Duration::from_secs(5);

/// What a server serves.
#[derive(Clone)]
pub struct Services {
    /// Behind `[listen.http]` and `[listen.https]`.
    pub protocol: Arc<dyn Service>,
    /// Behind `[listen.admin]`.
    pub admin: Arc<dyn Service>,
    /// Asked by `/health/ready`.
    pub readiness: Readiness,
    /// Counts for the listeners; the services may add their own.
    pub metrics: Metrics,
}

/// Makes servers. There is nothing global about one: a process can hold several.
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Opens every listener that `config` enables. From then on peers can connect; they are served
    /// by [`Bound::run`].
    ///
    /// # Errors
    /// When a listener can't be opened; those opened before are closed again.
    pub fn bind(config: &Config, services: Services) -> Result<Bound, BindError> {
        let listen = &config.listen;
        let tcp =
            |enabled: bool, name, address| enabled.then(|| bind_tcp(name, address)).transpose();
        Ok(Bound {
            http: tcp(
                listen.http.enabled,
                ListenerName::Http,
                config.http_address(),
            )?,
            metrics: tcp(
                listen.metrics.enabled,
                ListenerName::Metrics,
                listen.metrics.address,
            )?,
            config: config.clone(),
            services,
        })
    }
}

/// The names of the listeners, as in configuration, logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerName {
    /// `[listen.http]`
    Http,
    /// `[listen.metrics]`
    Metrics,
}

impl ListenerName {
    fn label(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Metrics => "metrics",
        }
    }
}

impl fmt::Display for ListenerName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "[listen.{}]", self.label())
    }
}

/// The system or the configuration is in the way of a listener.
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
}

fn bind_tcp(listener: ListenerName, address: SocketAddr) -> Result<TcpListener, BindError> {
    listener::bind_tcp(address).map_err(|error| BindError::Address {
        listener,
        address,
        error,
    })
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
}

/// A server whose listeners are open.
pub struct Bound {
    config: Config,
    services: Services,
    http: Option<TcpListener>,
    metrics: Option<TcpListener>,
}

impl Bound {
    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        let address = |listener: &Option<TcpListener>| listener.as_ref()?.local_addr().ok();
        Addresses {
            http: address(&self.http),
            metrics: address(&self.metrics),
            ..Addresses::default()
        }
    }

    /// Serves until `shutdown` resolves. Then no more connections are taken, the requests that were
    /// taken are finished, and what is left after `limits.drain_time` is cut off.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Stopped {
        let (stop, stopping) = stopping::channel();
        let drain_time = self.config.limits.drain_time;
        let metrics = self.services.metrics.clone();
        let mut listeners = self.spawn_listeners(&stopping);
        tokio::select! {
            () = shutdown => {}
            () = settle(&metrics) => {}
        }
        info!("stopping");
        stop.order();
        let finished = timeout(drain_time, async {
            while listeners.join_next().await.is_some() {}
        })
        .await
        .is_ok();
        if !finished {
            warn!(?drain_time, "requests were cut off");
        }
        Stopped { finished }
    }

    fn spawn_listeners(self, stopping: &Stopping) -> JoinSet<()> {
        let mut random = System::new();
        // Only a label for logs: a server without randomness fails where it matters.
        let run = random::array(&mut random).map_or(0, u32::from_be_bytes);
        let sequence = Arc::new(AtomicU64::new(1));
        let limits = &self.config.limits;
        let engine = |name: ListenerName, service: Arc<dyn Service>| {
            Arc::new(Engine {
                service,
                limits: limits.clone(),
                turnstile: Turnstile::new(limits),
                memory: BodyMemory::new(limits),
                metrics: ListenerMetrics::new(&self.services.metrics, name.label()),
                run,
                sequence: sequence.clone(),
            })
        };
        let mut listeners = JoinSet::new();
        if let Some(http) = self.http {
            let plain = Plain::new(http, overload::Addresses::new(limits));
            let engine = engine(ListenerName::Http, self.services.protocol.clone());
            listeners.spawn(listener::run(plain, engine, stopping.clone()));
        }
        if let Some(metrics) = self.metrics {
            let plain = Plain::new(metrics, overload::Addresses::new(limits));
            let monitoring = Monitoring {
                metrics: self.services.metrics.clone(),
                readiness: self.services.readiness.clone(),
            };
            let engine = engine(ListenerName::Metrics, Arc::new(monitoring));
            listeners.spawn(listener::run(plain, engine, stopping.clone()));
        }
        listeners
    }
}

impl fmt::Debug for Bound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Bound")
            .field("addresses", &self.addresses())
            .finish_non_exhaustive()
    }
}

/// How a server came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Stopped {
    /// Whether everything that was taken was finished; otherwise some requests were cut off.
    pub finished: bool,
}

async fn settle(metrics: &Metrics) {
    let mut interval = tokio::time::interval(SETTLE);
    loop {
        interval.tick().await;
        metrics.settle();
    }
}
