//! The HTTP/1.1 engine: listeners, limits, and the [`Service`] that stands behind each.
//!
//! hyper parses and frames; this module decides who may have how much of the server, for how long.
//! The way of a connection: [`listener`] accepts it, [`guard`] watches its octets, [`exchange`]
//! takes each request through its checks, its [`body`] and its turn ([`overload`]) to the service.

mod body;
mod connection;
mod exchange;
mod guard;
mod head;
mod listener;
mod overload;
mod rejection;
mod server;
mod service;
mod stopping;

pub(crate) use rejection::Rejection;
pub use server::{Addresses, BindError, Bound, ListenerName, Server, Services, Stopped};
pub use service::{Credentials, Peer, Request, RequestId, Response, Service};
