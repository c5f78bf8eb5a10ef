//! Who is trusted to vouch for TPMs.

use hgs_pki::Thumbprint;

use super::{Plan, Planner, Refusal, shown};
use crate::change::{Change, Record, RecordKey};
use crate::model::EndorsementRoot;
use crate::refusal::MAX_ENDORSEMENT_ROOTS;

impl Planner<'_> {
    pub(super) fn add_endorsement_root(&self, root: &EndorsementRoot) -> Result<Plan, Refusal> {
        let thumbprint = root.thumbprint();
        if self.state.endorsement_root(&thumbprint).is_some() {
            return Err(Refusal::EndorsementRootKnown(thumbprint));
        }
        if self.state.endorsement_roots().count() >= MAX_ENDORSEMENT_ROOTS {
            return Err(Refusal::TooManyEndorsementRoots);
        }
        Ok(Plan {
            before: None,
            after: Some(shown(root)),
            changes: vec![Change::Put(Record::EndorsementRoot(root.clone()))],
        })
    }

    pub(super) fn remove_endorsement_root(&self, thumbprint: &Thumbprint) -> Result<Plan, Refusal> {
        let root = self
            .state
            .endorsement_root(thumbprint)
            .ok_or(Refusal::NoSuchEndorsementRoot(*thumbprint))?;
        Ok(Plan {
            before: Some(shown(root)),
            after: None,
            changes: vec![Change::Remove(RecordKey::EndorsementRoot(*thumbprint))],
        })
    }
}
