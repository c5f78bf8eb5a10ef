//! The parts of a guardian: what it does behind its listeners. [`running`](crate::running) puts them together.
//!
//! | part | does |
//! |---|---|
//! | [`Attestations`] | decides attestations, records them, issues health certificates |
//! | [`Releases`] | decides requests for keys, records releases, answers; and the metadata |
//! | [`HealthTokens`] | decides requests for health tokens, records and signs them; the keys that verify them |
//! | [`Upkeep`] | renews attestation signers ([`SignerRotation`]), records counted refusals ([`RefusalLog`]) |
//! | [`Inspection`] | warnings, readiness, and the facts for diagnostics |
//! | [`Events`] | tells callers what happens |
//! | [`Certification`] | certificates over keys in tokens, signatures for administrators |
//! | [`Console`] | who is signed in to the console, and where it is |
//! | [`SyntheticRolls`] | rolls of a host that does not exist, for diagnostics |
//!
//! A request goes its way like this: a worker ([`Workers`]) takes a snapshot of the state with the keys that belong to it
//! ([`Snapshots`]) and decides, with private keys at work where each lives ([`key_work`]); the store records
//! ([`OpenStore`]); only then is there an answer. What became of it is counted and logged from the same value
//! ([`Observer`]).

mod attestation;
mod certification;
mod certify;
mod cluster;
mod collected;
mod console;
mod events;
mod expiry;
mod health_tokens;
mod hosts;
mod initialise;
mod initialise_error;
mod inspection;
mod key_source;
mod key_work;
mod keys;
mod liveness;
mod modes;
mod observer;
mod open_store;
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
mod token_keys;
mod trace;
mod unauthenticated_refusals;
mod upkeep;
mod workers;

use hgs_store::{Failure, MasterKeyError, OpenError};

pub use certify::KeySize;
pub use cluster::{
    ClusterError, Dissolved, Joined, StoppedNode, UnusableKey, check_etcd, default_node_name,
    found, join, unusable_keys,
};
pub(crate) use collected::show_expiration;
pub(crate) use console::{Console, NotSignedIn, OpenId, OwnCertificate};
pub use console::{ConsoleCertificateError, OpenIdError};
pub(crate) use expiry::CertificateInUse;
pub use hgs_custody::CertifyError;
pub use initialise::{InitOptions, Initialised, initialise};
pub use initialise_error::{InitialiseError, MAX_NAME};
pub use key_source::{CertificateSource, GivenCertificate, GivenError, PlacedKey};
pub use keys::HoldingsError;
pub use proof::KeyProofError;
pub use rotation::RotationError;
pub use token_keys::{KeyOrigin, removal_of};
pub use trace::examine_stopped;

pub(crate) use attestation::{AttestationRequest, Attestations, Attested};
pub(crate) use certification::{Certification, PairRequest, RenewalError};
pub(crate) use cluster::{Cluster, EtcdStanding, NodeStanding, Standing};
pub(crate) use events::{Events, Follower};
pub(crate) use health_tokens::{HealthTokens, TokenParts, TokenRequest};
pub(crate) use hosts::Credentials;
pub(crate) use initialise::{communications as communications_template, guardian_validity};
pub(crate) use inspection::Inspection;
pub(crate) use key_source::{Certified, Pair};
pub(crate) use keys::{Places, Snapshot, Snapshots};
pub(crate) use liveness::Liveness;
pub(crate) use modes::Modes;
pub(crate) use observer::Observer;
pub(crate) use open_store::OpenStore;
pub(crate) use recent::RecentCertificates;
pub(crate) use refusals::RefusalLog;
pub(crate) use release::{ReleaseCaches, ReleasePolicy, ReleaseRequest, Releases, RequestFields};
pub(crate) use requirements::findings;
pub(crate) use rotation::SignerRotation;
pub(crate) use settings::{follow as follow_settings, raise_level};
pub(crate) use signers::Signers;
pub(crate) use trace::SyntheticRolls;
pub(crate) use upkeep::Upkeep;
pub(crate) use workers::Workers;

/// The guardian's state could not be opened and brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum GuardianError {
    /// The operator's turn: the file of the master key.
    #[error(transparent)]
    MasterKey(MasterKeyError),
    /// The state can't be opened; [`OpenError::NotInitialised`] if it was never initialised.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The settings of the configuration were not taken over.
    #[error("the settings of the configuration were not taken over: {0}")]
    Settings(#[source] Failure<hgs_store::Refusal>),
    /// The state was not brought to the newest level of the format.
    #[error("the state was not brought to the newest level of its format: {0}")]
    Level(#[source] Failure<hgs_store::Refusal>),
    /// There is no attestation signer, and none could be made.
    #[error("no attestation signer could be made: {0}")]
    Rotation(#[from] RotationError),
    /// The certificates or keys of the state can't be used.
    #[error(transparent)]
    Holdings(#[from] HoldingsError),
    /// The cluster that this guardian is a node of.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The certificate of the console.
    #[error(transparent)]
    Console(#[from] ConsoleCertificateError),
    /// Signing in to the console by OpenID Connect.
    #[error(transparent)]
    OpenId(#[from] OpenIdError),
    /// The system gives no threads.
    #[error("no thread could be started: {0}")]
    Threads(#[source] std::io::Error),
}
