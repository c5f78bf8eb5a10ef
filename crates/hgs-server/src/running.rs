//! A guardian that serves: what composes its parts with the listeners, the protocols and administration.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use hgs_custody_pkcs11::Tokens;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle, spawn_blocking};
use tracing::error;

use crate::admin::AdminService;
use crate::clock::Clock;
use crate::guardian::{Guardian, GuardianError};
use crate::http::{Addresses, BindError, Reloader, Stopped};
use crate::protocol::Protocols;
use crate::{Config, Metrics, Readiness, Server, Services};

/// A guardian did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its state.
    #[error(transparent)]
    Guardian(#[from] GuardianError),
    /// Its listeners.
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// A guardian that serves, until it is shut down. Dropping it stops it without waiting.
#[must_use = "a guardian serves as long as this lives"]
pub struct Running {
    addresses: Addresses,
    reloader: Reloader,
    metrics: Metrics,
    readiness: Readiness,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Stopped>,
    timekeeper: Timekeeper,
    guardian: Arc<Guardian>,
    closed: mpsc::Receiver<()>,
}

impl Guardian {
    /// Opens the state that [`Guardian::initialise`] made, listens where `config` says, and serves. It must be called in
    /// the context of a Tokio runtime.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running then.
    pub async fn start(config: &Config, clock: Arc<dyn Clock>) -> Result<Running, StartError> {
        let metrics = Metrics::new();
        let (alive, closed) = mpsc::channel(1);
        let opening = {
            let (config, metrics) = (config.clone(), metrics.clone());
            spawn_blocking(move || Self::open(&config, clock, &metrics, alive))
        };
        let guardian = match opening.await {
            Ok(opened) => opened?,
            Err(failure) => std::panic::resume_unwind(failure.into_panic()),
        };
        let readiness = guardian.readiness();
        let services = Services {
            protocol: Arc::new(Protocols::new(Arc::clone(&guardian))),
            admin: Arc::new(AdminService::new(
                Arc::clone(&guardian),
                &config.listen.admin,
            )),
            readiness: readiness.clone(),
            metrics: metrics.clone(),
        };
        let bound = Server::bind(config, services)?;
        guardian.listens_at(bound.addresses());
        let (stop, stopped) = oneshot::channel::<()>();
        Ok(Running {
            addresses: bound.addresses(),
            reloader: bound.reloader(),
            metrics,
            readiness,
            stop,
            timekeeper: Timekeeper::of(&guardian),
            server: tokio::spawn(bound.run(async {
                // Also when the handle was dropped.
                let _ = stopped.await;
            })),
            guardian,
            closed,
        })
    }
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// A handle with which the TLS certificate is read again.
    #[must_use]
    pub fn reloader(&self) -> &Reloader {
        &self.reloader
    }

    /// The tokens in which keys may be.
    pub(crate) fn tokens(&self) -> &Tokens {
        self.guardian.tokens()
    }

    /// What it counts.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether it can do its work.
    #[must_use]
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Serves until `order` resolves, then shuts down.
    pub async fn run(mut self, order: impl Future<Output = ()>) -> Stopped {
        tokio::select! {
            () = order => self.shutdown().await,
            ended = &mut self.server => {
                error!("the server has ended by itself");
                self.close(ended.unwrap_or(Stopped { finished: false })).await
            }
        }
    }

    /// Finishes the requests that were taken, within `limits.drain_time`, and closes the state.
    pub async fn shutdown(mut self) -> Stopped {
        let (stop, _) = oneshot::channel();
        drop(std::mem::replace(&mut self.stop, stop));
        let stopped = (&mut self.server).await;
        self.close(stopped.unwrap_or(Stopped { finished: false }))
            .await
    }

    async fn close(self, stopped: Stopped) -> Stopped {
        let Self {
            timekeeper,
            guardian,
            mut closed,
            ..
        } = self;
        drop(timekeeper);
        guardian.record_strangers().await;
        guardian.record_host_refusals(true).await;
        drop(guardian);
        if stopped.finished {
            // Whoever still holds the guardian is about to let it go; then the state is free for another process.
            let _ = closed.recv().await;
        }
        stopped
    }
}

/// The task that does what time brings. It ends with this.
struct Timekeeper(AbortHandle);

impl Timekeeper {
    fn of(guardian: &Arc<Guardian>) -> Self {
        Self(tokio::spawn(Arc::clone(guardian).keep_time()).abort_handle())
    }
}

impl Drop for Timekeeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Running({:?})", self.addresses)
    }
}
