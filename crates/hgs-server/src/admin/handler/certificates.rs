//! The life of the guardian's certificates.

mod add;
mod document;
mod rotate;

use hgs_admin::AdminError;
use hgs_admin::types::{Certificate, CertificateUsage, UsedCertificate};
use hgs_kps::CertificateKind;
use hgs_pki::Thumbprint;
use hgs_store::{CertificateRecord, PairUsage, State, Transaction};

use super::super::views;
use super::{AdminHandler, not_found};

impl AdminHandler<'_> {
    pub(super) fn set_enabled(
        &self,
        thumbprint: &Thumbprint,
        enabled: bool,
    ) -> Result<Certificate, AdminError> {
        self.transact(Transaction::SetCertificateEnabled {
            thumbprint: *thumbprint,
            enabled,
        })?;
        self.shown_certificate(thumbprint)
    }

    /// The record that is meant by `thumbprint`.
    pub(super) fn find_certificate(
        &self,
        thumbprint: &Thumbprint,
    ) -> Result<CertificateRecord, AdminError> {
        let state = self.parts.store.state();
        find(&state, thumbprint).cloned()
    }

    pub(super) fn shown_certificate(
        &self,
        thumbprint: &Thumbprint,
    ) -> Result<Certificate, AdminError> {
        let snapshot = self.snapshot()?;
        let record = find(&snapshot.state, thumbprint)?;
        let usable = snapshot.holdings.has_key_of(record);
        Ok(views::certificate(record, usable))
    }
}

pub(super) fn find<'s>(
    state: &'s State,
    thumbprint: &Thumbprint,
) -> Result<&'s CertificateRecord, AdminError> {
    state.certificate(thumbprint).ok_or_else(|| {
        not_found(
            format_args!("there is no certificate {thumbprint}"),
            "hgs certificate list",
        )
    })
}

pub(super) fn usage_of<'p>(
    record: &CertificateRecord,
    needing: impl Iterator<Item = &'p PairUsage> + Clone,
) -> CertificateUsage {
    let times = needing.clone();
    CertificateUsage {
        thumbprint: record.thumbprint().to_string(),
        kind: match record.kind {
            CertificateKind::Signing => UsedCertificate::Signing,
            _ => UsedCertificate::Encryption,
        },
        label: record.label.as_ref().map(ToString::to_string),
        lineage: record.lineage.to_string(),
        head: record.head,
        protectors: needing.clone().map(|pair| pair.protectors).sum(),
        first: needing
            .map(|pair| pair.first)
            .min()
            .map(|time| time.to_string()),
        last: times
            .map(|pair| pair.last)
            .max()
            .map(|time| time.to_string()),
    }
}

/// What a certificate opened that was removed since: there may be no certificate that opens those protectors.
pub(super) fn usage_of_removed(pair: &PairUsage) -> CertificateUsage {
    CertificateUsage {
        thumbprint: pair.encryption.to_string(),
        kind: UsedCertificate::Removed,
        label: None,
        lineage: String::new(),
        head: false,
        protectors: pair.protectors,
        first: Some(pair.first.to_string()),
        last: Some(pair.last.to_string()),
    }
}
