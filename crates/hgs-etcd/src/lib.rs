//! A client of etcd, version 3.
//!
//! ```text
//!  Client ── asks one member after the other, each within its time ──▶ Member ── gRPC over HTTP/2, TLS ──▶ etcd
//!     │
//!     └── Error: what each member said, and whether what was asked may have been done all the same
//! ```
//!
//! etcd's own client library needs a compiler of Protocol Buffers at build time, and kept asking a member that was gone. What
//! is needed of etcd is little: transactions, ranges, watches, members and maintenance. Every request says `hasleader`, so
//! a member that is cut off from the others answers at once.
//!
//! What this crate does *not* do: it knows nothing of what is stored, and starts no etcd.

mod client;
mod connection;
mod error;
mod grpc;
mod members;
mod txn;
mod watch;
mod wire;

pub use client::{Client, Repeat, Settings};
pub use error::{Code, Error, MemberError, Status};
pub use grpc::FrameError;
#[doc(hidden)]
pub use grpc::fuzz_answer;
pub use members::{Alarm, AlarmKind, Listed, MemberId, MemberStatus, Members};
pub use txn::{Committed, Compare, Found, Keys, Operation, Range, Record, Revision, Txn};
pub use watch::{Change, News, Watch, WatchError};
