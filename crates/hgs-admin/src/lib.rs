//! The administrators' API, version 1: what a guardian can be asked over its admin socket and its `[listen.api]`.
//!
//! ```text
//!  program hgs            Unix socket, or mutual TLS       hgs-server
//!  Client: Administration -> HTTP/1.1, JSON -> Operation -> permission -> its Administration -> transaction, audit record
//! ```
//!
//! Each operation is declared once, in [`operations`]. From that declaration come the method of the trait
//! [`Administration`], the route, the server's dispatch ([`Operation::answer`]), the [`Client`], the table in
//! `docs/admin-api.md` ([`page`]) and `docs/openapi.json` ([`openapi`]).
//!
//! * [`types`] are the requests and answers. No answer can hold a secret.
//! * An answer is JSON, or an [`EventStream`].
//! * [`Caller`] is who asks: an [`Identity`] and its [`Permissions`]. A [`Role`] is a set of permissions.
//!
//! This crate opens no listener and keeps no state: `hgs-server` does both.

mod call;
mod client;
mod describe;
mod error;
mod event_stream;
mod identity;
mod key;
pub mod openapi;
pub mod operations;
pub mod page;
mod path;
mod permission;
mod query;
mod read;
mod server_address;
mod text;
pub mod types;

pub use call::{Answer, Call, LastEventId};
pub use client::Client;
pub use error::{AdminError, ErrorCode};
pub use event_stream::{EventMessage, EventStream, HEARTBEAT};
pub use identity::{Caller, Identity};
pub use key::{WithKey, wipe};
pub use operations::{Administration, OPERATIONS, Operation, Permitted, RouteMatch, find};
pub use path::{
    HostSelector, NameSelector, NodeSelector, PolicyDigest, ProtectorDigest, SignerSelector,
    is_plain,
};
pub use permission::{Permission, Permissions, Role};
pub use server_address::ServerAddress;
