//! The life of the guardian's certificates.

mod add;
mod document;
mod rotate;

use hgs_admin::AdminError;
use hgs_admin::types::{Certificate, CertificateUsage, SetCertificate, UsedCertificate};
use hgs_kps::CertificateKind;
use hgs_pki::Thumbprint;
use hgs_store::{CertificateRecord, PairUsage, State, Transaction};

use super::super::views;
use super::signers::optional_label;
use super::{AdminHandler, not_found, unavailable};

impl AdminHandler<'_> {
    pub(super) fn change_certificate(
        &self,
        thumbprint: &Thumbprint,
        change: &SetCertificate,
    ) -> Result<Certificate, AdminError> {
        let mut transactions = Vec::new();
        if let Some(label) = &change.label {
            let label = optional_label(Some(label))?;
            transactions.push(Transaction::SetCertificateLabel {
                thumbprint: *thumbprint,
                label,
            });
        }
        if change.primary || change.head {
            transactions.push(Transaction::SetHead {
                thumbprint: *thumbprint,
                primary: change.primary,
            });
        }
        if let Some(since) = &change.compromised_since {
            let since = match since.as_str() {
                "now" => self.parts.clock.now(),
                time => time.parse().map_err(AdminError::invalid)?,
            };
            transactions.push(Transaction::SetCompromised {
                thumbprint: *thumbprint,
                since,
            });
        }
        if transactions.is_empty() {
            return Err(AdminError::invalid("nothing is to be changed"));
        }
        self.transact_all(transactions)?;
        self.shown_certificate(thumbprint)
    }

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

    pub(super) fn retire(&self, thumbprint: &Thumbprint) -> Result<Certificate, AdminError> {
        self.transact(Transaction::RetireCertificate {
            thumbprint: *thumbprint,
        })?;
        self.shown_certificate(thumbprint)
    }

    pub(super) fn remove(
        &self,
        thumbprint: &Thumbprint,
        even_if_needed: bool,
    ) -> Result<Certificate, AdminError> {
        let was = self.shown_certificate(thumbprint)?;
        self.transact(Transaction::RemoveCertificate {
            thumbprint: *thumbprint,
            even_if_needed,
        })?;
        Ok(was)
    }

    pub(super) fn usage_of_certificates(&self) -> Result<Vec<CertificateUsage>, AdminError> {
        let pairs = self.parts.store.usage().map_err(unavailable)?;
        let state = self.parts.store.state();
        let mut records: Vec<_> = state
            .certificates()
            .filter(|record| record.kind != CertificateKind::Communications)
            .collect();
        records.sort_by_key(|record| {
            let lineage = record.lineage.clone();
            (lineage, record.kind, record.added, record.thumbprint())
        });
        let known = records.into_iter().map(|record| {
            let needing = pairs.iter().filter(|pair| pair.needs(&state, record));
            usage_of(record, needing)
        });
        let unknown = pairs
            .iter()
            .filter(|pair| state.certificate(&pair.encryption).is_none());
        Ok(known.chain(unknown.map(usage_of_removed)).collect())
    }

    /// The record that is meant by `thumbprint`.
    pub(super) fn find_certificate(
        &self,
        thumbprint: &Thumbprint,
    ) -> Result<CertificateRecord, AdminError> {
        let state = self.parts.store.state();
        find(&state, thumbprint).cloned()
    }

    fn shown_certificate(&self, thumbprint: &Thumbprint) -> Result<Certificate, AdminError> {
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

fn usage_of<'p>(
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
fn usage_of_removed(pair: &PairUsage) -> CertificateUsage {
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
