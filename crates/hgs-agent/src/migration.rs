//! Live migration: a running VM goes from this host to another one, and to no host that has no release of its own.
//!
//! ```text
//!  source                                          destination
//!  offer ── Channel: TLS 1.3, a new key on each side ──▶ IncomingOffer
//!    │  health certificates, then the protector            │  release of the same protector, by its own guardian
//!    └────────────── Paired: both have proved its transport key ──────────────┘
//! ```
//!
//! [`pairing`] makes two hosts sure of each other and moves nothing. What follows may be this agent's work or
//! another program's. `docs/migration.md` has every message.

mod authority;
mod channel;
pub(crate) mod destination;
pub(crate) mod listener;
pub(crate) mod message;
pub(crate) mod pairing;
pub(crate) mod proof;
pub(crate) mod records;
pub(crate) mod source;
mod wiring;
