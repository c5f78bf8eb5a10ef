//! A guardian put together from its parts, behind its listeners.
//!
//! ```text
//!  initialise           once: folder, master key, certificates, first commit
//!  start                opens the state, listens, keeps time -> Running
//!  Running::shutdown    finishes what was taken, closes the state
//! ```
//!
//! Nothing here is global: a process can hold several guardians.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock};

use hgs_attest::freshness::NonceKey;
use hgs_cluster::folder::ClusterFolder;
use hgs_custody_pkcs11::Tokens;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::{error, warn};

use crate::admin::{AdminParts, AdminService};
use crate::config::Config;
use crate::console::ConsoleService;
use crate::guardian::{
    Attestations, Certification, Cluster, Console, Credentials, Events, GuardianError,
    HealthTokens, Inspection, Liveness, Modes, Observer, OpenStore, OwnCertificate, Places,
    RecentCertificates, RefusalLog, ReleaseCaches, ReleasePolicy, Releases, SignerRotation,
    Snapshots, SyntheticRolls, TokenParts, Upkeep, Workers, follow_settings, raise_level,
};
use crate::health::Readiness;
use crate::http::{
    Addresses, BindError, PassedSockets, Reloader, Server, Service, Services, Stopped,
};
use crate::metrics::Metrics;
use crate::protocol::Protocols;
use crate::task::Task;
use crate::telemetry;
use hgs_clock::Clock;

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
    liveness: Arc<Liveness>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Stopped>,
    upkeep: Task,
    clock: Arc<dyn Clock>,
    tokens: Tokens,
    refusals: Arc<RefusalLog>,
    cluster: Option<Arc<Cluster>>,
    closed: mpsc::Receiver<()>,
}

/// Opens the state that [`initialise`](crate::initialise) made, listens where `config` says, and serves. It must be called
/// in the context of a Tokio runtime.
///
/// # Errors
/// See [`StartError`]; nothing is left running then.
pub async fn start(config: &Config, clock: Arc<dyn Clock>) -> Result<Running, StartError> {
    start_with(config, clock, PassedSockets::default()).await
}

/// As [`start`], with sockets that the service manager has opened.
///
/// # Errors
/// As for [`start`].
pub async fn start_with(
    config: &Config,
    clock: Arc<dyn Clock>,
    passed: PassedSockets,
) -> Result<Running, StartError> {
    let metrics = Metrics::new();
    let (open, closed) = mpsc::channel(1);
    let opening = {
        let (config, metrics) = (config.clone(), metrics.clone());
        spawn_blocking(move || Parts::open(&config, clock, &metrics, open))
    };
    let parts = match opening.await {
        Ok(opened) => opened?,
        Err(failure) => std::panic::resume_unwind(failure.into_panic()),
    };
    let readiness = parts.readiness();
    let administration = Arc::new(parts.admin());
    administration.events.show_in(&metrics);
    telemetry::show_in(&metrics);
    let console = parts.console.as_ref().map(|console| {
        let administration = Arc::clone(&administration);
        Arc::new(ConsoleService::new(administration, Arc::clone(console))) as Arc<dyn Service>
    });
    let services = Services {
        protocol: Arc::new(Protocols {
            attestations: Arc::clone(&parts.attestations),
            releases: Arc::clone(&parts.releases),
            health_tokens: Arc::clone(&parts.health_tokens),
        }),
        admin: Arc::new(AdminService::new(administration, &config.listen.admin)),
        console,
        readiness: readiness.clone(),
        metrics: metrics.clone(),
        clock: Arc::clone(&parts.clock),
        cluster: parts.cluster.as_ref().map(Cluster::listening),
    };
    let bound = Server::bind_with(config, services, passed)?;
    // A guardian starts to listen once.
    let _ = parts.inspection.addresses.set(bound.addresses());
    let _ = parts.inspection.clients.set(bound.clients());
    if let (Some(console), Some(certificate), Some(address)) = (
        &parts.console,
        bound.console_certificate(),
        bound.addresses().console,
    ) {
        let for_certificates = bound.addresses().console_client_certificates;
        let certificate_port = for_certificates.map(|address| address.port());
        console.opened(config.console_url(address), certificate, certificate_port);
    }
    let (stop, stopped) = oneshot::channel::<()>();
    Ok(Running {
        addresses: bound.addresses(),
        reloader: bound.reloader(),
        metrics,
        liveness: Arc::new(Liveness::new(readiness.clone(), &parts.workers)),
        readiness,
        stop,
        upkeep: Task::spawn(parts.upkeep().run()),
        server: tokio::spawn(bound.run(async {
            // Also when the handle was dropped.
            let _ = stopped.await;
        })),
        clock: parts.clock,
        tokens: parts.tokens,
        refusals: parts.refusals,
        cluster: parts.cluster,
        closed,
    })
}

/// The parts of one guardian, over one state.
pub(crate) struct Parts {
    clock: Arc<dyn Clock>,
    store: Arc<OpenStore>,
    tokens: Tokens,
    snapshots: Arc<Snapshots>,
    workers: Arc<Workers>,
    refusals: Arc<RefusalLog>,
    signers: Arc<SignerRotation>,
    inspection: Arc<Inspection>,
    attestations: Arc<Attestations>,
    pub(crate) releases: Arc<Releases>,
    health_tokens: Arc<HealthTokens>,
    cluster: Option<Arc<Cluster>>,
    console: Option<Arc<Console>>,
    console_certificate: Option<Arc<OwnCertificate>>,
}

impl Parts {
    /// Opens the state of `config`, and brings settings and attestation signers up to date. It blocks.
    fn open(
        config: &Config,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
        open: mpsc::Sender<()>,
    ) -> Result<Self, GuardianError> {
        for setting in config.dangerous_settings() {
            warn!(setting, "this setting weakens verification");
        }
        let master_key = OpenStore::master_key(config)?;
        let folder = ClusterFolder::of_state(&config.state_folder());
        let cluster = Cluster::start(folder, master_key.clone(), Arc::clone(&clock), metrics)?;
        let store = Arc::new(OpenStore::open(
            config,
            &master_key,
            cluster.as_deref(),
            open,
        )?);
        store.show_in(metrics);
        if cluster.is_none() {
            raise_level(&store, clock.now()).map_err(GuardianError::Level)?;
        }
        follow_settings(&store, config, clock.now()).map_err(GuardianError::Settings)?;
        if store.state().settings().is_rekey_window_open(clock.now()) {
            warn!("a re-key window is open: what a compromised guardian signed is accepted unseen");
        }
        let console = Console::of(config, &clock)?;
        let console_certificate = OwnCertificate::of(config);
        if let Some(certificate) = &console_certificate {
            certificate
                .renew_if_due(clock.now())
                .map_err(GuardianError::Console)?;
        }
        let tokens = Tokens::new(config.pkcs11.settings());
        let observer = Arc::new(Observer::new(metrics));
        let places = Places {
            store: Arc::clone(&store),
            tokens: tokens.clone(),
            settings: config.pkcs11.clone(),
        };
        let snapshots = Arc::new(Snapshots::new(places, observer.generation_gauge())?);
        let signers = Arc::new(SignerRotation {
            store: Arc::clone(&store),
            observer: Arc::clone(&observer),
        });
        signers.rotate(clock.now())?;
        let workers = Arc::new(Workers::start(config, metrics).map_err(GuardianError::Threads)?);
        let refusals = Arc::new(RefusalLog::new(Arc::clone(&store)));
        let inspection = Arc::new(Inspection {
            config: config.clone(),
            clock: Arc::clone(&clock),
            store: Arc::clone(&store),
            tokens: tokens.clone(),
            snapshots: Arc::clone(&snapshots),
            addresses: OnceLock::new(),
            clients: OnceLock::new(),
        });
        inspection.show_in(metrics, &workers);
        if let Some(cluster) = &cluster {
            cluster.show_in(metrics);
            let inspection = Arc::downgrade(&inspection);
            cluster.serve(&store, move || {
                let inspection = inspection.upgrade();
                inspection.map_or_else(Default::default, |inspection| inspection.try_keys())
            });
        }
        Ok(Self {
            inspection,
            attestations: Arc::new(Attestations {
                require_nonce: config.attestation.require_nonce,
                clock: Arc::clone(&clock),
                store: Arc::clone(&store),
                snapshots: Arc::clone(&snapshots),
                credentials: Credentials::default(),
                modes: Modes::new(
                    store.attestation_context_secret(),
                    config.attestation.identity_pcrs,
                ),
                nonces: NonceKey::new(store.attestation_nonce_secret()),
                recent: RecentCertificates::default(),
                workers: Arc::clone(&workers),
                observer: Arc::clone(&observer),
                refusals: Arc::clone(&refusals),
            }),
            health_tokens: Arc::new(HealthTokens::new(
                config.health_token.clone(),
                ReleasePolicy::of(config).clock_skew,
                TokenParts {
                    clock: Arc::clone(&clock),
                    store: Arc::clone(&store),
                    snapshots: Arc::clone(&snapshots),
                    workers: Arc::clone(&workers),
                    observer: Arc::clone(&observer),
                    refusals: Arc::clone(&refusals),
                },
            )),
            releases: Arc::new(Releases {
                policy: ReleasePolicy::of(config),
                clock: Arc::clone(&clock),
                store: Arc::clone(&store),
                snapshots: Arc::clone(&snapshots),
                caches: ReleaseCaches::default(),
                workers: Arc::clone(&workers),
                observer: Arc::clone(&observer),
                refusals: Arc::clone(&refusals),
            }),
            clock,
            store,
            tokens,
            snapshots,
            workers,
            refusals,
            signers,
            cluster,
            console,
            console_certificate: console_certificate.map(Arc::new),
        })
    }

    /// What this node is called in audit records.
    fn node(&self) -> String {
        match &self.cluster {
            Some(cluster) => cluster.node().to_string(),
            None => self.inspection.config.server.name.clone(),
        }
    }

    fn upkeep(&self) -> Upkeep {
        Upkeep {
            clock: Arc::clone(&self.clock),
            refusals: Arc::clone(&self.refusals),
            signers: Arc::clone(&self.signers),
            console_certificate: self.console_certificate.clone(),
        }
    }

    /// Whether this node can do its work.
    fn readiness(&self) -> Readiness {
        let readiness = self.inspection.readiness();
        match &self.cluster {
            Some(cluster) => readiness.and(cluster.readiness()),
            None => readiness,
        }
    }

    /// What administrators reach.
    pub(crate) fn admin(&self) -> AdminParts {
        AdminParts {
            clock: Arc::clone(&self.clock),
            store: Arc::clone(&self.store),
            snapshots: Arc::clone(&self.snapshots),
            signers: Arc::clone(&self.signers),
            inspection: Arc::clone(&self.inspection),
            certification: Certification {
                tokens: self.tokens.clone(),
                workers: Arc::clone(&self.workers),
            },
            synthetic_rolls: self.synthetic_rolls(),
            events: Arc::new(Events::new(
                &self.store,
                &self.inspection,
                self.readiness(),
                self.node(),
            )),
            cluster: self.cluster.clone(),
            console: self.console.clone(),
        }
    }

    pub(crate) fn synthetic_rolls(&self) -> SyntheticRolls {
        SyntheticRolls {
            store: Arc::clone(&self.store),
            snapshots: Arc::clone(&self.snapshots),
            releases: Arc::clone(&self.releases),
            workers: Arc::clone(&self.workers),
        }
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
        &self.tokens
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

    /// Whether its threads work.
    pub(crate) fn liveness(&self) -> Arc<Liveness> {
        Arc::clone(&self.liveness)
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
            upkeep,
            clock,
            refusals,
            cluster,
            mut closed,
            ..
        } = self;
        drop(upkeep);
        refusals.record_all(clock.now()).await;
        drop(refusals);
        if stopped.finished {
            // The last part that holds the store is about to drop it; then the state is free for another process.
            let _ = closed.recv().await;
        }
        // etcd ends with it, after the last commit.
        let _ = spawn_blocking(move || drop(cluster)).await;
        stopped
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Running({:?})", self.addresses)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use futures_util::future::BoxFuture;
    use hgs_pki::Time;
    use tempfile::TempDir;

    use super::*;
    use crate::config::Layout;
    use crate::guardian::{InitOptions, KeySize, Signers, initialise};

    /// A clock that stands still.
    #[derive(Debug)]
    struct FixedClock(Time);

    impl Clock for FixedClock {
        fn now(&self) -> Time {
            self.0
        }

        fn wait_until(&self, _: Time) -> BoxFuture<'_, ()> {
            Box::pin(std::future::pending())
        }
    }

    /// A new guardian, and the folder that it lives in.
    pub(crate) fn opened() -> (TempDir, Parts) {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("server.state = \"{}/state\"", folder.path().display());
        let config = Config::parse(&text, "test.toml".as_ref(), Layout::system()).unwrap();
        let now = Time::from_unix(1_795_287_600);
        let options = InitOptions {
            key_size: KeySize::Rsa2048,
            ..InitOptions::default()
        };
        initialise(&config, options, now).unwrap();
        let (open, _) = mpsc::channel(1);
        let opened = Parts::open(&config, Arc::new(FixedClock(now)), &Metrics::new(), open);
        (folder, opened.unwrap())
    }

    #[test]
    fn holdings_are_made_anew_when_keys_change_and_only_then() {
        let (_folder, parts) = opened();
        let before = parts.snapshots.current().unwrap();
        assert!(Arc::ptr_eq(
            &before.holdings,
            &parts.snapshots.current().unwrap().holdings
        ));

        let act = || hgs_store::Act::new(parts.clock.now(), "test");
        let settings = hgs_store::Settings {
            accept_next_boot_claims: true,
            ..before.state.settings().clone()
        };
        let settings = hgs_store::Transaction::SetSettings(settings);
        parts.store.transact(vec![settings], act()).unwrap();
        let after = parts.snapshots.current().unwrap();
        assert!(after.state.settings().accept_next_boot_claims);
        assert!(
            Arc::ptr_eq(&before.holdings, &after.holdings),
            "no key is parsed twice"
        );

        let signer = parts.snapshots.current().unwrap();
        let signer = Signers::at(&signer.state, parts.clock.now())
            .active()
            .unwrap()
            .thumbprint();
        let removal = hgs_store::Transaction::RemoveAttestationSigner { thumbprint: signer };
        parts.store.transact(vec![removal], act()).unwrap();
        parts.signers.rotate(parts.clock.now()).unwrap();
        let after = parts.snapshots.current().unwrap();
        assert!(!Arc::ptr_eq(&before.holdings, &after.holdings));
        for record in before.state.certificates() {
            let thumbprint = record.thumbprint();
            let old = before.holdings.keys.find(&thumbprint).unwrap();
            let new = after.holdings.keys.find(&thumbprint).unwrap();
            assert!(std::ptr::addr_eq(old, new), "no key is parsed twice");
        }
    }
}
