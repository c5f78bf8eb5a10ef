//! Signers of health certificates.

use hgs_admin::types::{AddSigner, SetSigner, Signer};
use hgs_admin::{AdminError, SignerSelector};
use hgs_crypto::hex;
use hgs_kps::Label;
use hgs_pki::SerialNumber;
use hgs_pki::Thumbprint;
use hgs_store::{AttestationSigner, SignerChange, Transaction};
use tracing::error;

use super::super::views;
use super::{AdminHandler, given, not_found};
use crate::guardian::Signers;

impl AdminHandler<'_> {
    /// Our own, oldest first, then those of other clusters.
    pub(super) fn signers_now(&self) -> Vec<Signer> {
        let state = self.parts.store.state();
        let signers = Signers::at(&state, self.parts.clock.now());
        let own = signers
            .own()
            .iter()
            .map(|(signer, stage)| views::signer(signer, Some(*stage)));
        let foreign = signers
            .foreign()
            .iter()
            .map(|signer| views::signer(signer, None));
        own.chain(foreign).collect()
    }

    pub(super) fn add_foreign_signer(&self, wanted: &AddSigner) -> Result<Signer, AdminError> {
        let certificate = given::certificate(&wanted.certificate)?;
        if !certificate.is_certificate_authority() {
            return Err(AdminError::invalid(
                "not the certificate of a signer: it may not issue certificates",
            )
            .with_remedy(
                "`hgs signer list --json` of the other guardian shows its signers' certificates",
            ));
        }
        let signer = AttestationSigner {
            certificate,
            key: None,
            retired: false,
            deny_before: None,
            maximum_validity_seconds: wanted.maximum_validity_seconds,
            label: optional_label(wanted.label.as_deref())?,
            deny_list: std::sync::Arc::default(),
            added: self.parts.clock.now(),
        };
        let thumbprint = signer.thumbprint();
        self.transact(Transaction::AddAttestationSigner { signer, key: None })?;
        self.shown_signer(&thumbprint)
    }

    pub(super) fn change_signer(
        &self,
        selector: &SignerSelector,
        wanted: &SetSigner,
    ) -> Result<Vec<Signer>, AdminError> {
        let thumbprints = match selector {
            SignerSelector::All => {
                let state = self.parts.store.state();
                let all = state.attestation_signers();
                all.map(AttestationSigner::thumbprint).collect()
            }
            SignerSelector::One(thumbprint) => vec![*thumbprint],
        };
        let changes = changes(wanted)?;
        let transactions = thumbprints.iter().flat_map(|thumbprint| {
            let of_one = |change: &SignerChange| Transaction::SetAttestationSigner {
                thumbprint: *thumbprint,
                change: change.clone(),
            };
            changes.iter().map(of_one)
        });
        self.transact_all(transactions.collect())?;
        let names: Vec<_> = thumbprints.iter().map(Thumbprint::to_string).collect();
        let mut shown = self.signers_now();
        shown.retain(|signer| names.contains(&signer.thumbprint));
        Ok(shown)
    }

    pub(super) fn forget_signer(&self, thumbprint: &Thumbprint) -> Result<Signer, AdminError> {
        let state = self.parts.store.state();
        let signer = state.attestation_signer(thumbprint);
        let own = signer.is_some_and(AttestationSigner::is_own);
        let shown = self.shown_signer(thumbprint)?;
        self.transact(Transaction::RemoveAttestationSigner {
            thumbprint: *thumbprint,
        })?;
        if own && let Err(failure) = self.parts.signers.rotate(self.parts.clock.now()) {
            // It is tried again within a minute.
            error!(%failure, "no attestation signer took the place of the one that was removed");
        }
        Ok(shown)
    }

    fn shown_signer(&self, thumbprint: &Thumbprint) -> Result<Signer, AdminError> {
        let name = thumbprint.to_string();
        let mut signers = self.signers_now().into_iter();
        let shown = signers.find(|signer| signer.thumbprint == name);
        shown.ok_or_else(|| {
            not_found(
                format_args!("there is no attestation signer {thumbprint}"),
                "hgs signer list",
            )
        })
    }
}

/// At least one.
fn changes(wanted: &SetSigner) -> Result<Vec<SignerChange>, AdminError> {
    let mut changes = Vec::new();
    if let Some(time) = &wanted.deny_before {
        let time = (!time.is_empty()).then(|| time.parse()).transpose();
        changes.push(SignerChange::DenyBefore(time.map_err(AdminError::invalid)?));
    }
    if let Some(label) = &wanted.label {
        changes.push(SignerChange::Label(optional_label(Some(label))?));
    }
    if let Some(seconds) = wanted.maximum_validity_seconds {
        changes.push(SignerChange::MaximumValiditySeconds(Some(seconds)));
    }
    for serial in &wanted.deny {
        changes.push(SignerChange::Deny(read_serial(serial)?));
    }
    for serial in &wanted.allow {
        changes.push(SignerChange::Allow(read_serial(serial)?));
    }
    match changes.is_empty() {
        true => Err(AdminError::invalid("nothing is to be changed")),
        false => Ok(changes),
    }
}

/// A serial number as people have it: hexadecimal, with or without colons.
fn read_serial(text: &str) -> Result<SerialNumber, AdminError> {
    let digits = text.replace(':', "");
    let octets = hex::decode(&digits).unwrap_or_default();
    SerialNumber::from_bytes(&octets).map_err(AdminError::invalid)
}

/// An empty label is none.
pub(super) fn optional_label(text: Option<&str>) -> Result<Option<Label>, AdminError> {
    let text = text.filter(|text| !text.is_empty());
    text.map(Label::given)
        .transpose()
        .map_err(AdminError::invalid)
}
