//! Making protectors, and changing who can open them: the owner's work.

use hgs_pki::KeyWork;

use crate::seal::Unsealed;
use crate::{
    GuardianCertificates, Opened, SealError, TransportKey, VerifiedProtector, Wrapping, WrappingId,
};

/// Makes a protector of `key`: the owner's wrapping with Id 1, then one for each of `guardians` from 2 on. The owner's
/// key signs the guardians' certificates and the whole.
///
/// # Errors
/// [`SealError::DuplicateGuardian`] when two of them have the same pair of certificates,
/// [`SealError::TooManyWrappings`] for more guardians than fit.
pub fn create(
    owner: &GuardianCertificates,
    guardians: &[GuardianCertificates],
    key: &TransportKey,
    keys: &mut dyn KeyWork,
) -> Result<VerifiedProtector, SealError> {
    const OWNER: WrappingId = WrappingId::new(1);
    let signature = owner.self_signature().clone();
    let mut unsealed = Unsealed {
        wrappings: vec![Wrapping::for_guardian(
            OWNER,
            OWNER,
            owner,
            signature,
            key.secret(),
        )?],
        max_offline_unwraps: 0,
    };
    for guardian in guardians {
        unsealed.append(OWNER, guardian, key, keys)?;
    }
    unsealed.seal(OWNER, key, keys)
}

/// Adds `guardian` to a protector that the owner's keys have opened. The transport key stays.
///
/// # Errors
/// [`SealError::NotOwner`] when another guardian opened it, [`SealError::DuplicateGuardian`] when the guardian can
/// open it already, [`SealError::TooManyWrappings`] and [`SealError::NoFreeId`] when nothing can be added.
pub fn grant(
    opened: &Opened,
    guardian: &GuardianCertificates,
    keys: &mut dyn KeyWork,
) -> Result<VerifiedProtector, SealError> {
    let (mut unsealed, owner) = opened_by_owner(opened)?;
    unsealed.append(owner, guardian, opened.transport_key(), keys)?;
    unsealed.seal(owner, opened.transport_key(), keys)
}

/// Takes the wrapping `id`, and all that descend from it, out of a protector that the owner's keys have opened. The
/// transport key stays, so this does not reach copies that were made before.
///
/// # Errors
/// [`SealError::NotOwner`] when another guardian opened it, [`SealError::NoSuchWrapping`], and
/// [`SealError::OwnerStays`].
pub fn revoke(
    opened: &Opened,
    id: WrappingId,
    keys: &mut dyn KeyWork,
) -> Result<VerifiedProtector, SealError> {
    if opened.protector().wrapping(id).is_none() {
        return Err(SealError::NoSuchWrapping { id });
    }
    let (mut unsealed, owner) = opened_by_owner(opened)?;
    if id == owner {
        return Err(SealError::OwnerStays);
    }
    let revoked = opened.protector().with_descendants([id]);
    unsealed
        .wrappings
        .retain(|wrapping| !revoked.contains(&wrapping.id()));
    unsealed.seal(owner, opened.transport_key(), keys)
}

/// The parts of a protector and the owner's wrapping, if it was the owner who opened it.
fn opened_by_owner(opened: &Opened) -> Result<(Unsealed, WrappingId), SealError> {
    let owner = opened.protector().owner().id();
    let id = opened.wrapping().id();
    if id != owner {
        return Err(SealError::NotOwner { id });
    }
    let unsealed = Unsealed {
        wrappings: opened.protector().wrappings().to_vec(),
        max_offline_unwraps: opened.protector().max_offline_unwraps(),
    };
    Ok((unsealed, owner))
}
