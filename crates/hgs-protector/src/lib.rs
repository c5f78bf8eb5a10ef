//! Key protectors of [MS-KPS]: the secret of a virtual machine, wrapped for everybody who may open it.
//!
//! A key protector is a list of *wrappings*: one *transport key*, encrypted to each of several guardians, of whom one
//! is the owner. Every wrapping is vouched for by its parent, up to the owner; a MAC under the transport key and a
//! signature by one of the guardians cover the whole list.
//!
//! ```text
//!            octets -> Protector::read -> verify -> VerifiedProtector -> open -> Opened
//!                                                          ^                       |
//!                                                          |                       v
//!  GuardianCertificates -> create ------------------> (signatures) <---- grant, revoke, roll
//! ```
//!
//! * [`Protector`] is a document of the right form, of which nothing can be read; [`VerifiedProtector`] is one whose
//!   chain and guardian signature hold. What it says is read from the very octets that the signature covers.
//! * [`open`], [`create`], [`grant`], [`revoke`] and [`roll`] have private keys do their work through
//!   [`KeyWork`](hgs_pki::KeyWork), an argument.
//! * [`metadata`] reads and writes the public half of a guardian, signed as XML Signature says.
//! * [`suite`] has every algorithm identifier; [`transport_key_blob`] is what KPS releases.
//!
//! It does NOT decide who may open a protector, whose successor a guardian is or who is compromised: that is the key
//! ring's business, in `hgs-kps`. It knows neither files nor clocks, holds no private key, and takes randomness as an
//! argument. How the documents look in every detail says `docs/protocol-profile.md`.

mod chain;
mod contents;
mod create;
mod error;
mod form;
#[doc(hidden)]
pub mod fuzzing;
mod guardian;
pub mod metadata;
mod open;
mod protector;
mod read;
mod roll;
mod seal;
mod sign;
pub mod suite;
mod transport_key;
pub mod transport_key_blob;
mod wrapping;
mod wrapping_id;
mod write;
mod xmldsig;

pub use contents::{MAX_KEY_BITS, MAX_PROTECTOR_OCTETS, MAX_WRAPPINGS, ProtectorDigest};
pub use create::{create, grant, revoke};
pub use error::{
    CannotOpen, Fault, FormError, OpenError, ProtectorError, ProtectorErrorKind, SealError,
};
pub use form::Signature;
pub use guardian::{GuardianCertificates, GuardianError};
pub use open::{HeldPair, MAX_DECRYPTIONS, Opened, open};
pub use protector::{Protector, Unverified, VerifiedProtector};
pub use roll::{RollPlan, Rolled, Signer, Successor, roll};
pub use sign::endorse;
pub use transport_key::{TransportKey, TransportKeyProblem};
pub use wrapping::{EncryptedTransportKey, Wrapping};
pub use wrapping_id::WrappingId;
pub use xmldsig::XmlSignatureError;
