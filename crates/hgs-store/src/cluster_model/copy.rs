//! A copy of the state, as each node has one, and what is decided from it.

use std::collections::BTreeMap;
use std::fmt;

use super::service;
use crate::audit;
use crate::engine::{FIRST_PLACE, Kept, View, sum_of_lineage};
use crate::model::CertificateRecord;
use crate::order::Position;
use crate::record::{Integrity, Keys, Sum};
use crate::{OpenError, State, StoreError, opening};
use hgs_crypto::hash::sha256;

/// A short digest, by which states are told from each other.
pub(super) type Name = [u8; 16];

pub(super) fn name(parts: &[&[u8]]) -> Name {
    let mut octets = Vec::new();
    for part in parts {
        octets.extend_from_slice(&(part.len() as u64).to_be_bytes());
        octets.extend_from_slice(part);
    }
    let digest = sha256(&octets);
    std::array::from_fn(|place| digest[place])
}

/// What lies on the disk of a node, and the state in its memory that belongs to it.
#[derive(Clone)]
pub(super) struct Copy {
    pub(super) kept: Kept,
    pub(super) state: State,
    pub(super) integrity: Integrity,
    pub(super) position: Position,
    /// Of all of it.
    pub(super) name: Name,
    /// Of all but the position.
    pub(super) content: Name,
    /// Of what rolls are decided from, beside the lineage.
    pub(super) for_rolls: Name,
    /// Whether it matters to rolls which protectors were seen.
    pub(super) any_compromised: bool,
}

impl fmt::Debug for Copy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Copy(at {})", self.position.revision)
    }
}

impl Copy {
    pub(super) fn of(
        kept: Kept,
        state: State,
        integrity: Integrity,
        position: Position,
    ) -> Result<Self, StoreError> {
        let mut octets = format!("{:?}", kept.row()?).into_bytes();
        let view: &dyn View = &kept;
        view.each_record(|row| {
            octets.extend_from_slice(
                format!("{} {} {}", row.kind, row.name, row.generation).as_bytes(),
            );
            octets.extend_from_slice(row.value.as_bytes());
            octets.extend_from_slice(&row.tag);
            Ok::<_, StoreError>(())
        })?;
        view.each_node(|node| {
            octets.extend_from_slice(format!("{:?}", node.node).as_bytes());
            octets.extend_from_slice(&node.tag);
            Ok::<_, StoreError>(())
        })?;
        view.each_audit_row(|row| {
            octets.extend_from_slice(row.text.as_bytes());
            octets.extend_from_slice(&row.tag);
            Ok::<_, StoreError>(())
        })?;
        for (key, generation) in state.written() {
            let version = state.version(&key);
            octets.extend_from_slice(format!("{key} {generation} {version:?}").as_bytes());
        }
        let content = name(&[&octets]);
        let kept_position = format!("{position:?} {:?}", kept.position()?);
        Ok(Self {
            content,
            name: name(&[&content, kept_position.as_bytes()]),
            for_rolls: name(&[for_rolls(&state).as_bytes()]),
            any_compromised: !service::compromised(&state).is_empty(),
            kept,
            state,
            integrity,
            position,
        })
    }

    /// Whether every tag is good, they belong together, and the state in memory is what is kept. Values are not read: most of
    /// the time would go into certificates that were read before.
    pub(super) fn is_sound(&self, keys: &Keys) -> bool {
        let (mut records, mut versions) = (Sum::EMPTY, BTreeMap::new());
        let view: &dyn View = &self.kept;
        let read = view.each_record(|row| -> Result<(), OpenError> {
            let (kind, tag) = row.verified(keys)?;
            records.add(&keys.term(&tag));
            versions.insert((kind, row.name), tag);
            Ok(())
        });
        let whole = read.and_then(|()| {
            Ok(Integrity {
                generation: self.state.generation(),
                records,
                lineage: sum_of_lineage(view, keys)?,
                audit: audit::verify(view, &keys.audit, |_| Ok::<_, OpenError>(()))?,
            })
        });
        let row = view.row().ok().flatten();
        let in_memory = self.state.written().into_keys().map(|key| {
            let version = self.state.version(&key).unwrap_or_default();
            ((key.kind(), key.to_string()), version)
        });
        whole.is_ok_and(|whole| whole == self.integrity)
            && row.is_some_and(|row| self.integrity.is_of(&row, keys))
            && in_memory.collect::<BTreeMap<_, _>>() == versions
    }

    /// The same, as when the service starts.
    pub(super) fn can_be_opened(&self, keys: &Keys) -> bool {
        let opened = opening::verify(&self.kept, keys);
        self.is_sound(keys) && opened.is_ok_and(|(_, integrity)| integrity == self.integrity)
    }

    pub(super) fn nodes(&self) -> Vec<crate::node::StoredNode> {
        let page = self.kept.nodes_after(FIRST_PLACE, usize::MAX);
        page.unwrap_or_default().0
    }
}

fn for_rolls(state: &State) -> String {
    let held: Vec<_> = state
        .certificates()
        .map(|one| {
            let thumbprint = one.thumbprint();
            let CertificateRecord {
                enabled,
                head,
                compromised,
                ..
            } = one;
            format!(
                "{thumbprint} {} {enabled} {head} {compromised:?}",
                one.lineage
            )
        })
        .collect();
    let hosts: Vec<_> = state
        .hosts()
        .map(|host| (host.id, host.revoked.is_some()))
        .collect();
    let signers: Vec<_> = state
        .attestation_signers()
        .map(|one| {
            format!(
                "{} {:?} {:?}",
                one.thumbprint(),
                one.deny_before,
                one.deny_list
            )
        })
        .collect();
    format!("{held:?} {hosts:?} {signers:?} {:?}", state.settings())
}
