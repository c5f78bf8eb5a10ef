//! Signers of health certificates.

use std::sync::Arc;

use hgs_attest::signer::check_room;
use hgs_custody::SoftwareKey;
use hgs_pki::Thumbprint;

use super::{MAX_DENIED, Plan, Planner, Refusal, SignerChange, shown};
use crate::change::{Change, Record, RecordKey};
use crate::model::AttestationSigner;

impl Planner<'_> {
    pub(super) fn add_attestation_signer(
        &mut self,
        signer: &AttestationSigner,
        key: Option<&SoftwareKey>,
    ) -> Result<Plan, Refusal> {
        let thumbprint = signer.thumbprint();
        if self.state.attestation_signer(&thumbprint).is_some() {
            return Err(Refusal::SignerKnown(thumbprint));
        }
        if signer.is_own() {
            let own: Vec<_> = self
                .state
                .attestation_signers()
                .filter(|known| known.is_own())
                .map(AttestationSigner::scheduled)
                .collect();
            check_room(&own, &signer.certificate, self.act.time)?;
        }
        let sealed = self.seal(&signer.certificate, signer.key.as_ref(), key)?;
        let after = Some(shown(signer));
        let changes = sealed
            .into_iter()
            .chain([Change::Put(Record::AttestationSigner(signer.clone()))])
            .collect();
        Ok(Plan {
            changes,
            before: None,
            after,
        })
    }

    pub(super) fn set_attestation_signer(
        &self,
        thumbprint: &Thumbprint,
        change: &SignerChange,
    ) -> Result<Plan, Refusal> {
        let signer = self.signer(thumbprint)?;
        let mut changed = signer.clone();
        match change {
            SignerChange::DenyBefore(time) => changed.deny_before = *time,
            SignerChange::MaximumValiditySeconds(_) if signer.is_own() => {
                return Err(Refusal::OwnSigner(*thumbprint));
            }
            SignerChange::MaximumValiditySeconds(seconds) => {
                changed.maximum_validity_seconds = *seconds;
            }
            SignerChange::Label(label) => changed.label.clone_from(label),
            SignerChange::Deny(serial) => {
                Arc::make_mut(&mut changed.deny_list).insert(serial.clone());
            }
            SignerChange::Allow(serial) => {
                Arc::make_mut(&mut changed.deny_list).remove(serial);
            }
        }
        if changed.deny_list.len() > MAX_DENIED {
            return Err(Refusal::TooManyDenied);
        }
        Ok(Plan {
            before: Some(shown(signer)),
            after: Some(shown(&changed)),
            changes: vec![Change::Put(Record::AttestationSigner(changed))],
        })
    }

    pub(super) fn retire_attestation_signer(
        &self,
        thumbprint: &Thumbprint,
    ) -> Result<Plan, Refusal> {
        let signer = self.signer(thumbprint)?;
        if !signer.is_own() {
            return Err(Refusal::ForeignSigner(*thumbprint));
        }
        if signer.retired {
            return Err(Refusal::SignerRetiredAlready(*thumbprint));
        }
        let changed = AttestationSigner {
            retired: true,
            ..signer.clone()
        };
        Ok(Plan {
            before: Some(shown(signer)),
            after: Some(shown(&changed)),
            changes: vec![Change::Put(Record::AttestationSigner(changed))],
        })
    }

    pub(super) fn remove_attestation_signer(
        &self,
        thumbprint: &Thumbprint,
    ) -> Result<Plan, Refusal> {
        let signer = self.signer(thumbprint)?;
        let orphan = self.orphaned_key(&signer.certificate);
        let removed = Change::Remove(RecordKey::AttestationSigner(*thumbprint));
        let changes = orphan.into_iter().chain([removed]).collect();
        Ok(Plan {
            before: Some(shown(signer)),
            after: None,
            changes,
        })
    }

    fn signer(&self, thumbprint: &Thumbprint) -> Result<&AttestationSigner, Refusal> {
        let signer = self.state.attestation_signer(thumbprint);
        signer.ok_or(Refusal::NoSuchSigner(*thumbprint))
    }
}
