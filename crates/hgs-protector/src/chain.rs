//! The chain: every wrapping is vouched for by its parent, up to the one owner ([MS-KPS] 3.1.5.1.1.3).

use std::collections::{BTreeMap, BTreeSet};

use hgs_pki::SignatureCache;

use crate::{ProtectorError, Wrapping, WrappingId};

/// Checks the chain of all wrappings.
///
/// The shape is checked first, so that nonsense costs no signature verification.
pub(crate) fn verify(
    wrappings: &[Wrapping],
    signatures: &SignatureCache,
) -> Result<(), ProtectorError> {
    let by_id = index(wrappings)?;
    one_owner(wrappings)?;
    for wrapping in wrappings {
        reaches_owner(wrapping, &by_id)?;
    }
    for wrapping in wrappings {
        let parent = parent(wrapping, &by_id)?;
        wrapping.verify_signing_certificate(parent, signatures)?;
        wrapping.verify_encryption_certificate(signatures)?;
    }
    Ok(())
}

type ById<'a> = BTreeMap<WrappingId, &'a Wrapping>;

fn index(wrappings: &[Wrapping]) -> Result<ById<'_>, ProtectorError> {
    let mut by_id = BTreeMap::new();
    for wrapping in wrappings {
        let id = wrapping.id();
        if by_id.insert(id, wrapping).is_some() {
            return Err(ProtectorError::DuplicateId { id });
        }
    }
    Ok(by_id)
}

fn one_owner(wrappings: &[Wrapping]) -> Result<(), ProtectorError> {
    let mut owners = wrappings.iter().filter(|wrapping| wrapping.is_owner());
    match (owners.next(), owners.next()) {
        (Some(_), None) => Ok(()),
        (None, _) => Err(ProtectorError::NoOwner),
        (Some(first), Some(second)) => Err(ProtectorError::TwoOwners {
            first: first.id(),
            second: second.id(),
        }),
    }
}

fn parent<'a>(wrapping: &Wrapping, by_id: &ById<'a>) -> Result<&'a Wrapping, ProtectorError> {
    let (id, parent) = (wrapping.id(), wrapping.parent());
    by_id
        .get(&parent)
        .copied()
        .ok_or(ProtectorError::ParentMissing { id, parent })
}

fn reaches_owner(wrapping: &Wrapping, by_id: &ById<'_>) -> Result<(), ProtectorError> {
    let mut at = wrapping;
    // A way without a circle has fewer steps than there are wrappings.
    for _ in 0..by_id.len() {
        if at.is_owner() {
            return Ok(());
        }
        at = parent(at, by_id)?;
    }
    Err(ProtectorError::Cycle { id: wrapping.id() })
}

/// `ancestors` and every wrapping that reaches one of them over its parents.
pub(crate) fn with_descendants(
    wrappings: &[Wrapping],
    ancestors: impl IntoIterator<Item = WrappingId>,
) -> BTreeSet<WrappingId> {
    let mut found: BTreeSet<_> = ancestors.into_iter().collect();
    // Parents may stand after their children, so one pass is not enough; each pass finds one generation at least.
    loop {
        let before = found.len();
        found.extend(
            wrappings
                .iter()
                .filter(|wrapping| found.contains(&wrapping.parent()))
                .map(Wrapping::id)
                .collect::<Vec<_>>(),
        );
        if found.len() == before {
            return found;
        }
    }
}
