//! The service: it listens, limits, logs and counts, and hands whole requests to a [`Service`].
//!
//! What a request means is not decided here but by the services behind the listeners. Nothing in
//! this crate is global to the process but for [`logging`], [`process`] and [`signals`], which only a program's
//! `main` calls: several servers live in one process, on ports of the system's choosing, without
//! root and without systemd.
//!
//! ```no_run
//! # async fn example(services: hgs_server::Services) -> Result<(), Box<dyn std::error::Error>> {
//! use hgs_server::config::Environment;
//! use hgs_server::{Config, Server};
//!
//! let config = Config::load(None, &Environment::of_process())?;
//! let server = Server::bind(&config, services)?;
//! println!("{:?}", server.addresses());
//! server.run(std::future::pending()).await;
//! # Ok(())
//! # }
//! ```

pub mod admin;
mod clock;
pub mod config;
mod guardian;
mod health;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod process;
mod protocol;
mod roles;
pub mod signals;

pub use clock::{Clock, SystemClock};
pub use config::Config;
pub use guardian::{
    CertificateSource, CertifyError, GivenCertificate, GivenError, Guardian, GuardianError,
    HoldingsError, InitOptions, InitialiseError, Initialised, KeySize, MAX_NAME, RotationError,
    Running, StartError,
};
pub use health::Readiness;
pub use http::{Bound, Peer, Request, Response, Server, Service, Services};
pub use metrics::Metrics;
pub use roles::{Role, Roles, RolesError};
