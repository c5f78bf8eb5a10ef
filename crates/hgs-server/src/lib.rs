//! The guardian service: it listens, decides by the protocols' crates, records, and answers.
//!
//! * [`initialise`] makes a guardian, [`start`] lets it serve.
//! * [`Config`] is its one file. Administrators ask over a socket; `hgs-admin` has what they can ask for, and the client.
//! * [`http`] is the engine below: listeners, limits, time, and a [`Service`] behind each listener. [`Server`] runs any
//!   services, which is how the engine is tested.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//!
//! use hgs_server::config::Environment;
//! use hgs_clock::{Clock, SystemClock};
//! use hgs_server::{Config, InitOptions};
//!
//! let config = Config::load(None, &Environment::of_process())?;
//! hgs_server::initialise(&config, InitOptions::default(), SystemClock.now())?;
//! let running = hgs_server::start(&config, Arc::new(SystemClock)).await?;
//! println!("{:?}", running.addresses());
//! assert!(running.shutdown().await.finished);
//! # Ok(())
//! # }
//! ```
//!
//! What it does NOT do: it decides nothing about health, protectors or keys (`hgs-attest` and `hgs-kps` do), and keeps
//! nothing (`hgs-store` does). Nothing here is global to the process but for `logging`, [`process`] and [`signals`],
//! which only a program's `main` calls: several guardians live in one process, on ports of the system's choosing,
//! without root and without systemd.

mod admin;
mod check;
pub mod config;
mod console;
mod guardian;
mod health;
pub mod http;
mod logging;
pub mod metrics;
mod outgoing;
pub mod process;
mod protocol;
mod public_name;
mod roles;
mod running;
pub mod signals;
mod task;
mod telemetry;

pub use admin::archived_records;
pub use config::Config;
#[doc(hidden)]
pub use console::fuzz_console_request;
pub use guardian::{
    CertificateSource, CertifyError, ClusterError, ConsoleCertificateError, Dissolved,
    GivenCertificate, GivenError, GuardianError, HoldingsError, InitOptions, InitialiseError,
    Initialised, Joined, KeyOrigin, KeyProofError, KeySize, MAX_NAME, OpenIdError, PlacedKey,
    RotationError, StoppedNode, UnusableKey, check_etcd, default_node_name, examine_stopped, found,
    initialise, join, removal_of, unusable_keys,
};
pub use health::Readiness;
pub use hgs_custody_pkcs11::ReturnBlame;
pub use http::{
    Bound, PassedSocketError, PassedSockets, Peer, Request, Response, Server, Service, Services,
};
pub use logging::PEERS;
pub use metrics::Metrics;
pub use outgoing::AuthoritiesError;
pub use roles::{Roles, RolesError};
pub use running::{Running, StartError, start, start_with};
pub use telemetry::{HeadersError, TRACED, Telemetry, TelemetryError};
