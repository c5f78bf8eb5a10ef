//! The plan of a roll beyond the new transport key: section 5 of the protocol profile, rules 4 to 6.

use std::collections::BTreeSet;

use hgs_fault::{Fault, seeded};
use hgs_protector::{Opened, Signer, VerifiedProtector, Wrapping, WrappingId};

use crate::key_ring::{Head, KeyRing};
use crate::lineage::Lineage;

/// The changes that a roll makes to an opened protector.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// The lineage of the pair that opened it.
    pub(crate) lineage: &'a Lineage,
    /// The head of that lineage, if a wrapping is to be appended for it.
    pub(crate) append: Option<&'a Head>,
    /// The wrappings that get random octets.
    pub(crate) shut_out: BTreeSet<WrappingId>,
    /// Who signs as guardian.
    pub(crate) signer: Signer,
}

impl<'a> Plan<'a> {
    /// Decides. `None` if the wrapping that opened is not of an enabled pair.
    pub(crate) fn new(ring: &'a KeyRing, opened: &Opened) -> Option<Self> {
        let (protector, opener) = (opened.protector(), opened.wrapping());
        let pair = ring.pair(opener)?;
        // A lineage without a head has no successor.
        let lineage = match seeded(Fault::HeadOfFabricAppended) {
            true => &Lineage::Fabric,
            false => pair.lineage,
        };
        let head = ring.head(lineage).filter(|_| !pair.is_head);
        let shut_out = shut_out(ring, protector);

        let Some(head) = head else {
            // A head is never compromised, and a lineage without one has no compromised pair. What may have been
            // above it in the chain does not matter: it is the holder of these very keys.
            let shut_out = without(shut_out, opener);
            return Some(Self {
                lineage: pair.lineage,
                append: None,
                shut_out,
                signer: Signer::Opener,
            });
        };
        let wrapping_of_head = protector
            .wrappings()
            .iter()
            .find(|wrapping| head.is_wrapped_by(wrapping));
        let is_shut_out = shut_out.contains(&opener.id());
        let (append, signer) = if is_shut_out && !seeded(Fault::CompromisedPairSigns) {
            // A pair that is shut out does not sign either, or the next roll would refuse the protector.
            match wrapping_of_head {
                Some(wrapping) => (None, Signer::Wrapping(wrapping.id())),
                None => (Some(head), Signer::Successor),
            }
        } else {
            let reaches_head =
                wrapping_of_head.is_some_and(|wrapping| !shut_out.contains(&wrapping.id()));
            let append = !reaches_head && !seeded(Fault::HeadNotAppended);
            (append.then_some(head), Signer::Opener)
        };
        Some(Self {
            lineage: pair.lineage,
            append,
            shut_out,
            signer,
        })
    }
}

fn without(mut ids: BTreeSet<WrappingId>, wrapping: &Wrapping) -> BTreeSet<WrappingId> {
    ids.remove(&wrapping.id());
    ids
}

/// The wrappings of compromised pairs and all that descend from them, but for those of heads: in every roll, whichever pair
/// opened, or the next one would give a compromised pair what this one took away.
fn shut_out(ring: &KeyRing, protector: &VerifiedProtector) -> BTreeSet<WrappingId> {
    let wrappings = protector.wrappings().iter();
    let compromised = wrappings
        .clone()
        .filter(|wrapping| ring.compromised(wrapping).is_some() && !seeded(Fault::NothingShutOut))
        .map(Wrapping::id);
    // Once for all of them, so that a chain of 64 compromised wrappings costs no more than another protector.
    let mut shut_out = protector.with_descendants(compromised);
    for head in wrappings.filter(|wrapping| ring.is_head(wrapping)) {
        shut_out.remove(&head.id());
    }
    shut_out
}

/// Whether the guardian signature is by a compromised pair, or by one that only a compromised pair has endorsed, and so
/// by any holder of the compromised keys. Pairs that are held and not compromised are known to be ours.
pub(crate) fn signed_by_compromised(
    ring: &KeyRing,
    protector: &VerifiedProtector,
) -> Option<hgs_pki::Time> {
    let guardian = protector.guardian();
    if let Some(since) = ring.compromised(guardian) {
        return Some(since);
    }
    if ring.pair(guardian).is_some() {
        return None;
    }
    protector
        .ancestry(guardian)
        .filter_map(|ancestor| ring.compromised(ancestor))
        .min()
}
