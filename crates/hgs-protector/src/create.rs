//! Making protectors, and changing who can open them: the owner's work.

use std::convert::identity;
use std::vec;

use crate::seal::{Next, Unsealed};
use crate::{
    GuardianCertificates, Opened, SealError, Step, TransportKey, VerifiedProtector, Wrapping,
    WrappingId,
};

/// Makes a protector of `key`: the owner's wrapping with Id 1, one for each of `guardians` from 2 on, vouched for by
/// the owner, whose key signs everything.
///
/// # Errors
/// [`SealError::DuplicateGuardian`] when two of them have the same pair of certificates,
/// [`SealError::TooManyWrappings`] for more guardians than fit.
pub fn create(
    owner: &GuardianCertificates,
    guardians: Vec<GuardianCertificates>,
    key: TransportKey,
) -> Result<Step<VerifiedProtector, SealError>, SealError> {
    let signature = owner.self_signature().clone();
    let wrapping = Wrapping::for_guardian(FIRST, FIRST, owner, signature, key.secret())?;
    let unsealed = Unsealed {
        wrappings: vec![wrapping],
        max_offline_unwraps: 0,
    };
    append_all(unsealed, guardians.into_iter(), key)
}

const FIRST: WrappingId = WrappingId::new(1);

fn append_all(
    unsealed: Unsealed,
    mut guardians: vec::IntoIter<GuardianCertificates>,
    key: TransportKey,
) -> Next<VerifiedProtector> {
    match guardians.next() {
        None => unsealed.seal(FIRST, &key, identity),
        Some(guardian) => unsealed.append(FIRST, guardian, key, |unsealed, key| {
            append_all(unsealed, guardians, key)
        }),
    }
}

/// Adds `guardian` to a protector that the owner's keys have opened. The transport key stays.
///
/// # Errors
/// [`SealError::NotOwner`] when another guardian opened it, [`SealError::DuplicateGuardian`] when the guardian can
/// open it already, [`SealError::TooManyWrappings`] and [`SealError::NoFreeId`] when nothing can be added.
pub fn grant(
    opened: Opened,
    guardian: GuardianCertificates,
) -> Result<Step<VerifiedProtector, SealError>, SealError> {
    let (unsealed, owner, key) = owners(opened)?;
    unsealed.append(owner, guardian, key, move |unsealed, key| {
        unsealed.seal(owner, &key, identity)
    })
}

/// Takes the wrapping `id`, and all that descend from it, out of a protector that the owner's keys have opened. The
/// transport key stays, so this does not reach copies that were made before.
///
/// # Errors
/// [`SealError::NotOwner`] when another guardian opened it, [`SealError::NoSuchWrapping`], and
/// [`SealError::OwnerStays`].
pub fn revoke(
    opened: Opened,
    id: WrappingId,
) -> Result<Step<VerifiedProtector, SealError>, SealError> {
    if opened.protector().wrapping(id).is_none() {
        return Err(SealError::NoSuchWrapping { id });
    }
    let revoked = opened.protector().with_descendants([id]);
    let (mut unsealed, owner, key) = owners(opened)?;
    if id == owner {
        return Err(SealError::OwnerStays);
    }
    unsealed
        .wrappings
        .retain(|wrapping| !revoked.contains(&wrapping.id()));
    unsealed.seal(owner, &key, identity)
}

/// The parts of a protector, the owner's wrapping and the transport key, if it was the owner who opened it.
fn owners(opened: Opened) -> Result<(Unsealed, WrappingId, TransportKey), SealError> {
    let owner = opened.protector().owner().id();
    let id = opened.wrapping().id();
    if id != owner {
        return Err(SealError::NotOwner { id });
    }
    let unsealed = Unsealed {
        wrappings: opened.protector().wrappings().to_vec(),
        max_offline_unwraps: opened.protector().max_offline_unwraps(),
    };
    Ok((unsealed, owner, opened.into_transport_key()))
}
