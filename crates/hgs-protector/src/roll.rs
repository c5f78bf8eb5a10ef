//! The roll: a new transport key for the same guardians ([MS-KPS] 3.1.5.1.1).

use std::collections::BTreeSet;

use hgs_crypto::{Random, SecretBytes};
use hgs_fault::{Fault, seeded};
use hgs_pki::KeyWork;

use crate::form::Signature;
use crate::seal::Unsealed;
use crate::{GuardianCertificates, Opened, SealError, TransportKey, VerifiedProtector, WrappingId};

/// The changes of a roll beyond a new transport key. The default is none.
///
/// Who is whose successor and who is compromised, the protector does not say: `hgs-kps` decides it from the key ring.
#[derive(Debug, Default)]
pub struct RollPlan {
    /// The head of the lineage, when it has no wrapping yet and gets one.
    pub successor: Option<Successor>,
    /// Wrappings that get random octets in place of the transport key; they keep their place in the chain.
    pub shut_out: BTreeSet<WrappingId>,
    /// Who signs as guardian.
    pub signer: Signer,
}

/// A guardian for which a roll appends a wrapping, under the one that opened.
#[derive(Debug)]
pub struct Successor {
    /// The guardian.
    pub guardian: GuardianCertificates,
    /// The signature by the pair that opened over the guardian's signing certificate ([`endorse`](crate::endorse)). It is
    /// the same in every protector, so after a rotation one signature serves all of them.
    pub endorsement: Signature,
}

/// Who signs a rolled protector as guardian.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// The wrapping that opened.
    #[default]
    Opener,
    /// The wrapping that is appended for the successor.
    Successor,
    /// Another wrapping.
    Wrapping(WrappingId),
}

/// A protector that was rolled. Nothing of it may leave before the release is on record.
#[derive(Debug)]
pub struct Rolled {
    /// The ingress protector, who opened it, and its transport key.
    pub ingress: Opened,
    /// The new transport key.
    pub egress_key: TransportKey,
    /// The new protector.
    pub egress: VerifiedProtector,
}

/// Rolls a protector: draws a new transport key and wraps it for the owner and every guardian, each with the
/// algorithm that its wrapping had. Ids, parents and certificates stay.
///
/// # Errors
/// [`SealError::TooManyWrappings`], [`SealError::NoFreeId`] and [`SealError::DuplicateGuardian`] when a successor can't
/// be appended; [`SealError::NoSuchWrapping`] when the plan names a signer that is not there.
pub fn roll(
    ingress: Opened,
    plan: RollPlan,
    keys: &mut dyn KeyWork,
    random: &mut dyn Random,
) -> Result<Rolled, SealError> {
    let egress_key = match seeded(Fault::KeyNotRolled) {
        true => ingress.transport_key().clone(),
        false => TransportKey::random(random)?,
    };
    let mut unsealed = renew(&ingress, &egress_key, &plan.shut_out, random)?;
    let opener = ingress.wrapping().id();
    let mut appended = None;
    if let Some(successor) = plan.successor {
        let (guardian, endorsement) = (&successor.guardian, successor.endorsement);
        appended = Some(unsealed.append_endorsed(opener, guardian, endorsement, &egress_key)?);
    }
    let signer = match plan.signer {
        Signer::Opener => opener,
        Signer::Successor => appended.ok_or(SealError::NoSuccessor)?,
        Signer::Wrapping(id) => id,
    };
    Ok(Rolled {
        egress: unsealed.seal(signer, &egress_key, keys)?,
        ingress,
        egress_key,
    })
}

/// The wrappings of the ingress protector with the new key in them, or nothing where they are shut out.
fn renew(
    ingress: &Opened,
    key: &TransportKey,
    shut_out: &BTreeSet<WrappingId>,
    random: &mut dyn Random,
) -> Result<Unsealed, SealError> {
    let protector = ingress.protector();
    let wrappings = protector
        .wrappings()
        .iter()
        .map(|wrapping| {
            if shut_out.contains(&wrapping.id()) && !seeded(Fault::ShutOutGetsKey) {
                wrapping.renewed(&SecretBytes::random(TransportKey::LENGTH, random)?)
            } else {
                wrapping.renewed(key.secret())
            }
        })
        .collect::<Result<_, SealError>>()?;
    Ok(Unsealed {
        wrappings,
        max_offline_unwraps: protector.max_offline_unwraps(),
    })
}
