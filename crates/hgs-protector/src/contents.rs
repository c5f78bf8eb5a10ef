//! The contents of a protector, their limits, and their digest.

use std::fmt;

use hgs_crypto::hash::{Sha256Digest, sha256};
use hgs_crypto::hex;
use hgs_xml::Limits;

use crate::form::Signature;
use crate::transport_key::Mac;
use crate::{Wrapping, WrappingId};

/// Octets that the document of a protector may have.
pub const MAX_PROTECTOR_OCTETS: usize = Limits::DOCUMENT.bytes;

/// Bits of the keys of all its certificates that a protector may have: 24 pairs of the largest keys, 96 of 2048 bits. What
/// a verification costs grows with them.
pub const MAX_KEY_BITS: usize = 24 * 2 * 8192;

/// Wrappings that a protector may have: one for each 4 KiB, which is about what the shortest one takes. How many fit
/// depends on the certificates: with the usual ones of 1 KiB, about 49.
pub const MAX_WRAPPINGS: usize = MAX_PROTECTOR_OCTETS / 4096;

/// The name of a protector in audit records and lineage: SHA-256 of the canonical form of its `Wrappings`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtectorDigest(Sha256Digest);

impl ProtectorDigest {
    /// Of the canonical form of `Wrappings`.
    pub(crate) fn of(signed: &[u8]) -> Self {
        Self(sha256(signed))
    }

    /// From the 32 octets of the digest.
    #[must_use]
    pub const fn from_bytes(digest: Sha256Digest) -> Self {
        Self(digest)
    }

    /// The 32 octets of the digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &Sha256Digest {
        &self.0
    }
}

impl fmt::Display for ProtectorDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for ProtectorDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ProtectorDigest({self})")
    }
}

/// The contents of a protector.
pub(crate) struct Contents {
    /// The whole document.
    pub(crate) octets: Vec<u8>,
    /// The canonical form of `Wrappings`: what both signatures cover, and what `wrappings` were read from.
    pub(crate) signed: Vec<u8>,
    pub(crate) digest: ProtectorDigest,
    /// One or more.
    pub(crate) wrappings: Vec<Wrapping>,
    pub(crate) mac: Mac,
    pub(crate) guardian: WrappingId,
    pub(crate) guardian_signature: Signature,
    pub(crate) max_offline_unwraps: u32,
}

impl Contents {
    pub(crate) fn wrapping(&self, id: WrappingId) -> Option<&Wrapping> {
        self.wrappings.iter().find(|wrapping| wrapping.id() == id)
    }
}
