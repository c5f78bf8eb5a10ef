//! The roll: a new transport key for the same guardians ([MS-KPS] 3.1.5.1.1).

use std::collections::BTreeSet;

use hgs_crypto::{Random, SecretBytes};

use crate::form::Signature;
use crate::seal::{Next, Unsealed};
use crate::{
    GuardianCertificates, Opened, SealError, Step, TransportKey, VerifiedProtector, Wrapping,
    WrappingId,
};

/// What a roll does beyond renewing every wrapping. The default is nothing.
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
    /// The signature by the pair that opened over the guardian's signing certificate, when it was made before. It is
    /// the same in every protector, so after a rotation one signature serves all of them.
    pub endorsement: Option<Signature>,
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
    random: &mut dyn Random,
) -> Result<Step<Rolled, SealError>, SealError> {
    let RollPlan {
        successor,
        shut_out,
        signer,
    } = plan;
    let egress_key = TransportKey::random(random)?;
    let mut unsealed = renew(&ingress, &egress_key, &shut_out, random)?;
    let opener = ingress.wrapping().id();
    let rolled = Unfinished {
        ingress,
        egress_key,
        signer,
    };
    let Some(Successor {
        guardian,
        endorsement,
    }) = successor
    else {
        return rolled.seal(unsealed, None);
    };
    if let Some(endorsement) = endorsement {
        endorsement.verify_ours(
            guardian.signing_certificate(),
            unsealed.signing_certificate(opener)?,
        )?;
        let id = unsealed.append_endorsed(opener, &guardian, endorsement, &rolled.egress_key)?;
        return rolled.seal(unsealed, Some(id));
    }
    let key = rolled.egress_key.clone();
    unsealed.append(opener, guardian, key, move |unsealed, _| {
        let appended = unsealed.wrappings.last().map(Wrapping::id);
        rolled.seal(unsealed, appended)
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
            if shut_out.contains(&wrapping.id()) {
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

/// A roll of which only the signature is missing.
struct Unfinished {
    ingress: Opened,
    egress_key: TransportKey,
    signer: Signer,
}

impl Unfinished {
    fn seal(self, unsealed: Unsealed, appended: Option<WrappingId>) -> Next<Rolled> {
        let opener = self.ingress.wrapping().id();
        let signer = match self.signer {
            Signer::Opener => opener,
            Signer::Successor => appended.ok_or(SealError::NoSuccessor)?,
            Signer::Wrapping(id) => id,
        };
        let Self {
            ingress,
            egress_key,
            ..
        } = self;
        let key = egress_key.clone();
        unsealed.seal(signer, &key, |egress| Rolled {
            ingress,
            egress_key,
            egress,
        })
    }
}
