//! What a key protection service trusts, as arguments.

use hgs_crypto::hash::Sha256Digest;
use hgs_pki::health::{HostId, TrustedSigners};
use hgs_pki::{CertificateCache, Seconds, SignatureCache, Time};
use hgs_protector::ProtectorDigest;
use hgs_protector::transport_key_blob::CachingPolicy;

use crate::{Reason, StateUnavailable};

/// How far the clock of an attestation signer may be ahead of ours, unless configured.
pub const SKEW: Seconds = Seconds::new(60);

/// The inputs of a decision, beside the request and the key ring.
pub struct Trust<'a> {
    /// The attestation signers whose health certificates are accepted.
    pub signers: &'a TrustedSigners,
    /// The time of the request.
    pub now: Time,
    /// How far their clocks may be ahead; [`SKEW`] unless configured.
    pub skew: Seconds,
    /// The hosts that our own signers attest.
    pub hosts: &'a dyn HostStandings,
    /// The protectors that passed through here.
    pub protectors: &'a dyn SeenProtectors,
    /// Whether an ancestor of a protector that is in use is refused, rather than reported.
    pub refuse_superseded: bool,
    /// Whether protectors that a compromised guardian signed are accepted, for as long as it takes to re-key.
    pub rekey_window: bool,
    /// What hosts that attested by TPM may keep, for version 2. Others get nothing: they have no TPM to seal it to.
    pub caching: Option<CachingPolicy>,
}

/// What the registry knows of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostStanding {
    /// Registered.
    Registered,
    /// Kept as one that is barred.
    Revoked,
    /// Not there: never registered, or removed.
    Unknown,
}

/// The registered hosts.
pub trait HostStandings {
    /// What is known of a host.
    fn standing(&self, host: &HostId) -> HostStanding;

    /// Whether the host whose health certificates have this policy digest is revoked or denied here, under any id that
    /// another cluster gives it.
    fn is_barred(&self, policy: &Sha256Digest) -> bool;

    /// Check 9 of section 8 of the protocol profile: whether a host with a verified health certificate over this policy
    /// gets keys. `host` is absent where another cluster's signer vouches for it. It is decided again when a release is
    /// recorded.
    ///
    /// # Errors
    /// [`Reason::HostRevoked`] and [`Reason::HostNotRegistered`].
    fn check(&self, host: Option<&HostId>, policy: &Sha256Digest) -> Result<(), Reason> {
        // A revocation applies to every certificate of the host, by whichever signer.
        if self.is_barred(policy) {
            return Err(Reason::HostRevoked);
        }
        match host.map(|host| self.standing(host)) {
            None | Some(HostStanding::Registered) => Ok(()),
            Some(HostStanding::Revoked) => Err(Reason::HostRevoked),
            Some(HostStanding::Unknown) => Err(Reason::HostNotRegistered),
        }
    }
}

/// The tree of protectors that a KPS has released.
pub trait SeenProtectors {
    /// What is known of a protector, if it was the ingress or egress protector of a release.
    ///
    /// # Errors
    /// When that can't be looked up now, which is not the same as not having seen it.
    fn seen(&self, protector: &ProtectorDigest) -> Result<Option<SeenProtector>, StateUnavailable>;
}

/// What is known of a protector that was seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenProtector {
    /// When it was seen first.
    pub first_seen: Time,
    /// Whether a descendant of it came back as ingress, so that it is out of use.
    pub superseded: bool,
}

/// Caches that outlive a request. They change no answer.
#[derive(Debug)]
pub struct Caches {
    /// Certificates of guardians and hosts.
    pub certificates: CertificateCache,
    /// Signatures over certificates.
    pub signatures: SignatureCache,
}

impl Caches {
    /// Caches of this many certificates and twice as many signatures.
    #[must_use]
    pub fn new(certificates: usize) -> Self {
        Self {
            certificates: CertificateCache::new(certificates),
            signatures: SignatureCache::new(certificates.saturating_mul(2)),
        }
    }
}
