//! The Key Protection Service protocol [MS-KPS], both roles.
//!
//! A host sends a key protector and its health certificate; the service opens the protector, gives it a new transport
//! key, and releases the old and the new one, readable for that host alone. Each release changes the key: that is the
//! *roll*.
//!
//! ```text
//! service                             KeyProtection::roll -> Release -> (recorded) -> into_response
//! host      PendingRoll::request --->                                                 ------------> receive -> Released
//! ```
//!
//! * [`KeyProtection::roll`] is RollTransportKey; what it decides by are arguments: [`KeyRing`], [`Trust`] with the time,
//!   private keys ([`KeyWork`](hgs_pki::KeyWork)), randomness.
//! * A [`Release`] gives its answer only against [`Recorded`], the proof that it is on record.
//! * A [`Refusal`] has a reason, from which one function makes the code, the status and the party at fault.
//! * [`offline_report`] tells the service how often a host has used keys that it had kept.
//! * [`signed_response`] authenticates the answer over HTTP, which [MS-KPS] does not.
//! * [`MetadataService`] is GetMetaData. [`PendingRoll`] is the host's side of a roll.
//!
//! It does NOT speak HTTP, keep hosts or records, or hold private keys. How the messages look in every detail says `docs/protocol-profile.md`.

mod client;
#[doc(hidden)]
pub mod fuzzing;
mod key_ring;
mod lineage;
mod metadata;
pub mod offline_report;
mod plan;
mod refusal;
mod roll;
pub mod signed_response;
mod trust;
mod version;
pub mod wire;

pub use client::{Authenticity, ClientError, PendingRoll, Released};
pub use key_ring::{Head, HeldCertificate, KeyRing, KeyRingError};
pub use lineage::{CertificateKind, Label, Lineage, NameError};
pub use metadata::MetadataService;
pub use refusal::{Code, ErrorResponse, RETRY_AFTER, Reason, Refusal, RollFacts, StateUnavailable};
pub use roll::{IdentifiedRequest, KeyProtection, Recorded, Release, ReleaseFacts};
pub use trust::{Caches, HostStanding, HostStandings, SKEW, SeenProtector, SeenProtectors, Trust};
pub use version::{ServiceVersion, UnknownVersion};
