//! Signers of health certificates.

use hgs_custody::SoftwareKey;
use hgs_pki::Thumbprint;

use super::{Plan, Planner, Refusal, shown};
use crate::change::{Change, Record, RecordKey};
use crate::model::{AttestationSigner, Digest, SignerStage};

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

    pub(super) fn retire_attestation_signer(
        &self,
        thumbprint: &Thumbprint,
    ) -> Result<Plan, Refusal> {
        let signer = self.signer(thumbprint)?;
        let changed = AttestationSigner {
            stage: SignerStage::Retired,
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
        let orphan = self.orphan_of(signer).map(RecordKey::PrivateKey);
        let changes = orphan
            .into_iter()
            .chain([RecordKey::AttestationSigner(*thumbprint)])
            .map(Change::Remove)
            .collect();
        Ok(Plan {
            before: Some(shown(signer)),
            after: None,
            changes,
        })
    }

    /// The sealed key that nothing needs when `signer` is gone (attacks.md K4: a key must not
    /// outlive what it was for).
    fn orphan_of(&self, signer: &AttestationSigner) -> Option<Digest> {
        let key = signer.certificate.public_key();
        let others = self.state.attestation_signers();
        let others = others.filter(|other| other.thumbprint() != signer.thumbprint());
        let certificates = self.state.certificates().map(|record| &record.certificate);
        let mut users = others.map(|other| &other.certificate).chain(certificates);
        let public_key = Digest::from_bytes(*key.digest());
        let sealed = self.state.private_key(&public_key).is_some();
        let orphaned = sealed && !users.any(|certificate| certificate.public_key() == key);
        orphaned.then_some(public_key)
    }

    fn signer(&self, thumbprint: &Thumbprint) -> Result<&AttestationSigner, Refusal> {
        let signer = self.state.attestation_signer(thumbprint);
        signer.ok_or(Refusal::NoSuchSigner(*thumbprint))
    }
}
