//! The HTTP/1.1 engine: listeners, limits, and the [`Service`] that stands behind each.
//!
//! hyper parses and frames; this module decides who may have how much of the server, for how long.
//! The way of a connection: `listener` accepts it, `guard` watches its octets, `exchange`
//! takes each request through its checks, its `body` and the limits of `overload` to the service.

mod bind;
mod body;
mod certificate;
mod clients;
mod connection;
mod exchange;
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod head;
mod listener;
mod listener_protocol;
mod overload;
mod passed;
mod rejection;
mod server;
mod service;
mod shutdown;
mod streamed;
mod tls;
mod unix;

pub use bind::{BindError, ClusterListening, ListenerName};
pub use certificate::TlsError;
pub(crate) use certificate::{
    CurrentCertificate, check as check_certificate, provider as tls_provider,
};
pub use clients::{ClientProblem, PinnedClient, PinnedClientsError, PinnedClientsProblem};
pub(crate) use clients::{PinnedClients, check as check_clients};
pub use hgs_files::SocketError;
pub(crate) use overload::Network;
pub use passed::{PassedSocketError, PassedSockets};
pub use server::{Addresses, Bound, Reloader, Server, Services, Stopped};
pub use service::{Body, Credentials, Peer, Request, RequestId, Response, Service};
