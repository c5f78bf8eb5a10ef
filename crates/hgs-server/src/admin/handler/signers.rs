//! Signers of health certificates.

use hgs_admin::types::{SetSigner, Signer};
use hgs_admin::{AdminError, ErrorCode};
use hgs_crypto::hex;
use hgs_kps::Label;
use hgs_pki::{SerialNumber, Thumbprint, Time};
use hgs_store::SignerChange;
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

    pub(super) fn replace_signer(&self) {
        if let Err(failure) = self.parts.signers.rotate(self.parts.clock.now()) {
            // It is tried again within a minute.
            error!(%failure, "no attestation signer took the place of the one that signs no more");
        }
    }

    pub(super) fn shown_signer(&self, thumbprint: &Thumbprint) -> Result<Signer, AdminError> {
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

pub(super) fn changes(wanted: &SetSigner, now: Time) -> Result<Vec<SignerChange>, AdminError> {
    let mut changes = Vec::new();
    if let Some(time) = &wanted.deny_before {
        let time = (!time.is_empty()).then(|| given::time(time)).transpose()?;
        if let Some(ahead) = time.filter(|time| *time > now) {
            return Err(not_issued_yet(ahead, now));
        }
        changes.push(SignerChange::DenyBefore(time));
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
    Ok(changes)
}

/// What is issued between now and then would be refused as well: hosts would attest and get no keys.
fn not_issued_yet(time: Time, now: Time) -> AdminError {
    let message = format!("deny-before {time} lies in the future; it is {now} here");
    AdminError::new(ErrorCode::Conflict, message).with_remedy(format!(
        "say {now} to refuse all that has been issued; `hgs signer retire` has another signer take over"
    ))
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
