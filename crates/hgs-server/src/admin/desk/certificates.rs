//! The life of the guardian's certificates.

mod add;
mod document;

use hgs_pki::Thumbprint;
use hgs_store::{CertificateKind, CertificateRecord, PairUsage, State, Transaction};

use super::super::changes::SetCertificate;
use super::super::types::{Certificate, CertificateUsage};
use super::super::{AdminError, views};
use super::signers::optional_label;
use super::{Desk, not_found, unavailable};

impl Desk {
    pub(super) fn change_certificate(
        &self,
        thumbprint: &str,
        change: &SetCertificate,
    ) -> Result<Certificate, AdminError> {
        let thumbprint = parse(thumbprint)?;
        let mut transactions = Vec::new();
        if let Some(label) = &change.label {
            let label = optional_label(Some(label))?;
            transactions.push(Transaction::SetCertificateLabel { thumbprint, label });
        }
        if change.primary || change.head {
            transactions.push(Transaction::SetHead {
                thumbprint,
                primary: change.primary,
            });
        }
        if let Some(since) = &change.compromised_since {
            let since = match since.as_str() {
                "now" => self.guardian.clock().now(),
                time => time.parse().map_err(AdminError::invalid)?,
            };
            transactions.push(Transaction::SetCompromised { thumbprint, since });
        }
        if transactions.is_empty() {
            return Err(AdminError::invalid("nothing is to be changed"));
        }
        self.transact_all(transactions)?;
        self.shown_certificate(&thumbprint)
    }

    pub(super) fn set_enabled(
        &self,
        thumbprint: &str,
        enabled: bool,
    ) -> Result<Certificate, AdminError> {
        let thumbprint = parse(thumbprint)?;
        self.transact(Transaction::SetCertificateEnabled {
            thumbprint,
            enabled,
        })?;
        self.shown_certificate(&thumbprint)
    }

    pub(super) fn retire(&self, thumbprint: &str) -> Result<Certificate, AdminError> {
        let thumbprint = parse(thumbprint)?;
        self.transact(Transaction::RetireCertificate { thumbprint })?;
        self.shown_certificate(&thumbprint)
    }

    pub(super) fn remove(
        &self,
        thumbprint: &str,
        even_if_needed: bool,
    ) -> Result<Certificate, AdminError> {
        let thumbprint = parse(thumbprint)?;
        let was = self.shown_certificate(&thumbprint)?;
        self.transact(Transaction::RemoveCertificate {
            thumbprint,
            even_if_needed,
        })?;
        Ok(was)
    }

    pub(super) fn usage_of_certificates(&self) -> Result<Vec<CertificateUsage>, AdminError> {
        let pairs = self.guardian.store().usage().map_err(unavailable)?;
        let state = self.guardian.state();
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
        thumbprint: &str,
    ) -> Result<CertificateRecord, AdminError> {
        let thumbprint = parse(thumbprint)?;
        let state = self.guardian.state();
        find(&state, &thumbprint).cloned()
    }

    fn shown_certificate(&self, thumbprint: &Thumbprint) -> Result<Certificate, AdminError> {
        let snapshot = self.snapshot()?;
        let record = find(&snapshot.state, thumbprint)?;
        let usable = snapshot.holdings.has_key_of(record);
        Ok(views::certificate(record, usable))
    }
}

fn parse(thumbprint: &str) -> Result<Thumbprint, AdminError> {
    thumbprint.parse().map_err(AdminError::invalid)
}

fn find<'s>(
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
        kind: record.kind.to_string(),
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

/// What a certificate opened that was removed since: those protectors may have nobody who opens them.
fn usage_of_removed(pair: &PairUsage) -> CertificateUsage {
    CertificateUsage {
        thumbprint: pair.encryption.to_string(),
        kind: "removed".to_owned(),
        label: None,
        lineage: String::new(),
        head: false,
        protectors: pair.protectors,
        first: Some(pair.first.to_string()),
        last: Some(pair.last.to_string()),
    }
}
