//! Certificates of the key protection service.

use hgs_custody::SoftwareKey;
use hgs_pki::Thumbprint;

use super::{Plan, Planner, Refusal, shown};
use crate::change::{Change, Record};
use crate::model::CertificateRecord;

impl Planner<'_> {
    pub(super) fn add_certificate(
        &mut self,
        record: &CertificateRecord,
        key: Option<&SoftwareKey>,
    ) -> Result<Plan, Refusal> {
        let thumbprint = record.thumbprint();
        if self.state.certificate(&thumbprint).is_some() {
            return Err(Refusal::CertificateKnown(thumbprint));
        }
        if record.head {
            self.check_new_head(record)?;
        }
        let sealed = self.seal(&record.certificate, Some(&record.key), key)?;
        let after = Some(shown(record));
        let changes = sealed
            .into_iter()
            .chain([Change::Put(Record::Certificate(record.clone()))])
            .collect();
        Ok(Plan {
            changes,
            before: None,
            after,
        })
    }

    fn check_new_head(&self, record: &CertificateRecord) -> Result<(), Refusal> {
        if !record.enabled || record.compromised.is_some() {
            return Err(Refusal::UnusableHead);
        }
        let rival = self.state.certificates().find(|other| {
            other.head && other.kind == record.kind && other.lineage == record.lineage
        });
        match rival {
            Some(head) => Err(Refusal::HeadKnown {
                lineage: record.lineage.clone(),
                kind: record.kind,
                head: head.thumbprint(),
            }),
            None => Ok(()),
        }
    }

    pub(super) fn set_certificate_enabled(
        &self,
        thumbprint: &Thumbprint,
        enabled: bool,
    ) -> Result<Plan, Refusal> {
        let record = self.state.certificate(thumbprint);
        let record = record.ok_or(Refusal::NoSuchCertificate(*thumbprint))?;
        if !enabled && record.is_primary() {
            return Err(Refusal::Primary(*thumbprint));
        }
        let changed = CertificateRecord {
            enabled,
            ..record.clone()
        };
        Ok(Plan {
            before: Some(shown(record)),
            after: Some(shown(&changed)),
            changes: vec![Change::Put(Record::Certificate(changed))],
        })
    }
}
