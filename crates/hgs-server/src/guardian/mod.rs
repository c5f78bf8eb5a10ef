//! A guardian: everything behind the listeners, as a library for `hgs serve`, quickstart and tests.
//!
//! ```text
//!  Guardian::initialise    once: folder, master key, certificates, first commit
//!  Guardian::start         opens the state, listens, keeps time -> Running
//!  Running::shutdown       finishes what was taken, closes the state
//! ```
//!
//! A request goes its way like this: a worker ([`workers`]) takes a snapshot of the state with the keys that belong to it
//! ([`keys`]) and decides, with private keys at work where each lives ([`key_work`]); the store records ([`ledger`]); only
//! then is there an answer. What became of it is counted and logged from the same value ([`observer`]).
//!
//! Nothing here is global: a process can hold several guardians.

mod attestation;
mod certification;
mod hosts;
mod initialise;
mod key_work;
mod keys;
mod ledger;
mod modes;
mod observer;
mod overview;
mod proof;
mod readiness;
mod recent;
mod refusals;
mod release;
mod requirements;
mod response_keys;
mod rotation;
mod settings;
mod signers;
mod strangers;
#[cfg(test)]
pub(crate) mod tests;
mod trace;
mod workers;

use std::sync::{Arc, OnceLock};

use hgs_attest::freshness::NonceKey;
use hgs_crypto::random::System;
use hgs_custody::seal::MasterKey;
use hgs_custody_pkcs11::Tokens;
use hgs_kps::Caches;
use hgs_store::{Failure, MasterKeyError, OpenError, Opening, Store, master_key_file};
use tokio::sync::mpsc;
use tracing::{error, warn};

pub use initialise::{
    CertificateSource, GivenCertificate, GivenError, InitOptions, InitialiseError, Initialised,
    KeyOrigin, KeySize, MAX_NAME, PlacedKey, removal_of,
};
pub use keys::HoldingsError;
pub use proof::KeyProofError;
pub use rotation::{CertifyError, RotationError};
pub use trace::examine_stopped;

pub(crate) use attestation::{AttestationRequest, Attested};
pub(crate) use initialise::communications as communications_template;
pub(crate) use keys::Snapshot;
pub(crate) use requirements::findings;
pub(crate) use rotation::self_signed;
pub(crate) use signers::Signers;

use crate::clock::Clock;
use crate::http::Addresses;
use crate::{Config, Metrics};
use hosts::HostKeys;
use keys::{Places, Snapshots};
use modes::Modes;
use observer::Observer;
use recent::RecentCertificates;
use refusals::HostRefusals;
use release::Policy;
use response_keys::ResponseKeys;
use strangers::Strangers;
use workers::Workers;

/// Certificates that are kept parsed: those of guardians, and the health certificates of a large site. Each takes a few
/// kilobytes.
const CACHED_CERTIFICATES: usize = 16_384;

/// The state, the keys and the clock that all requests share.
pub struct Guardian {
    config: Config,
    addresses: OnceLock<Addresses>,
    clock: Arc<dyn Clock>,
    store: Store,
    tokens: Tokens,
    snapshots: Snapshots,
    host_keys: HostKeys,
    caches: Caches,
    response_keys: ResponseKeys,
    policy: Policy,
    workers: Workers,
    observer: Observer,
    strangers: Strangers,
    host_refusals: HostRefusals,
    recent: RecentCertificates,
    modes: Modes,
    /// The key of the nonces that hosts return, the same on every node.
    nonces: NonceKey,
    // Dropped last: whoever waits for the end of the guardian then finds its state closed.
    _alive: mpsc::Sender<()>,
}

/// The guardian's state could not be opened and brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum GuardianError {
    /// The operator's turn: the file of the master key.
    #[error(transparent)]
    MasterKey(MasterKeyError),
    /// The state can't be opened; [`OpenError::NotInitialised`] where nobody has initialised it.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The settings of the configuration were not taken over.
    #[error("the settings of the configuration were not taken over: {0}")]
    Settings(#[source] Failure<hgs_store::Refusal>),
    /// There is no attestation signer, and none could be made.
    #[error("no attestation signer could be made: {0}")]
    Rotation(#[from] RotationError),
    /// The certificates or keys of the state can't be used.
    #[error(transparent)]
    Holdings(#[from] HoldingsError),
}

impl Guardian {
    /// Opens the state of `config` and brings settings and attestation signers up to date. It blocks.
    pub(crate) fn open(
        config: &Config,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
        alive: mpsc::Sender<()>,
    ) -> Result<Arc<Self>, GuardianError> {
        for setting in config.dangerous_settings() {
            warn!(setting, "this setting weakens verification");
        }
        let store = open_store(config)?;
        settings::follow(&store, config, clock.now()).map_err(GuardianError::Settings)?;
        if store.state().settings().is_rekey_window_open(clock.now()) {
            warn!("a re-key window is open: what a compromised guardian signed is accepted unseen");
        }
        let tokens = Tokens::new(config.pkcs11.settings());
        let nonces = NonceKey::new(store.attestation_nonce_secret());
        let guardian = Self {
            snapshots: Snapshots::new(Places {
                store: &store,
                tokens: &tokens,
            })?,
            config: config.clone(),
            addresses: OnceLock::new(),
            clock,
            store,
            tokens,
            host_keys: HostKeys::default(),
            caches: Caches::new(CACHED_CERTIFICATES),
            response_keys: ResponseKeys::default(),
            policy: Policy::of(config),
            workers: Workers::new(),
            observer: Observer::new(metrics),
            strangers: Strangers::default(),
            host_refusals: HostRefusals::default(),
            recent: RecentCertificates::default(),
            modes: Modes::default(),
            nonces,
            _alive: alive,
        };
        guardian.rotate(guardian.clock.now())?;
        Ok(Arc::new(guardian))
    }

    /// The newest state with its keys.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, HoldingsError> {
        let snapshot = self.snapshots.current(Places {
            store: &self.store,
            tokens: &self.tokens,
        });
        let snapshot = snapshot
            .inspect_err(|failure| error!(%failure, "the keys of the state can't be used"))?;
        self.observer.generation(snapshot.state.generation());
        Ok(snapshot)
    }
}

fn open_store(config: &Config) -> Result<Store, GuardianError> {
    let directory = config.state_folder();
    // Where there is a master key, its high-water mark tells a state that is gone from one that never was.
    if !Store::is_in(&directory) && !config.master_key_file().exists() {
        return Err(OpenError::NotInitialised { directory }.into());
    }
    // A rotation of the master key may have been interrupted.
    let master_key = master_key_file::read_settled(&config.master_key_file(), &directory);
    let master_key: MasterKey = master_key.map_err(|error| match error {
        OpenError::MasterKey(error) => GuardianError::MasterKey(error),
        other => GuardianError::Store(other),
    })?;
    Ok(Store::open(Opening {
        directory: &directory,
        master_key: &master_key,
        node: &config.server.name,
        high_water_mark: config.high_water_mark_file(),
        random: Box::new(System::new()),
    })?)
}
