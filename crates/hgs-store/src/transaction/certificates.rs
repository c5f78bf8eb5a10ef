//! Certificates of the key protection service.
//!
//! Whatever happens here, the certificates go on making a key ring: each lineage has at most one
//! head of each kind, heads are enabled and not compromised, and where a certificate is compromised
//! its lineage has a head of both kinds.

use std::collections::BTreeMap;

use hgs_custody::SoftwareKey;
use hgs_fault::{Fault, seeded};
use hgs_pki::{Thumbprint, Time};
use hgs_protector::metadata;

use super::{Plan, Planner, Refusal, shown};
use crate::change::{Change, Record, RecordKey};
use crate::model::CertificateRecord;
use hgs_kps::{CertificateKind, HeldCertificate, Label, Lineage};

/// Whether the metadata has room for the signing certificates that it lists of these.
pub(crate) fn fit_metadata<'r>(records: impl Iterator<Item = &'r CertificateRecord>) -> bool {
    let listed = records
        .map(CertificateRecord::held)
        .filter(HeldCertificate::is_listed_in_metadata)
        .map(|held| held.certificate)
        .collect::<Vec<_>>();
    metadata::has_room_for(&listed)
}

impl Planner<'_> {
    /// Refuses what leaves signing certificates out of the metadata. A state in which some are left out already, as
    /// earlier versions allowed, can be changed as long as no more are listed.
    pub(super) fn check_metadata(&self, changes: &[Change]) -> Result<(), Refusal> {
        let mut after: BTreeMap<_, _> = self
            .state
            .certificates()
            .map(|record| (record.thumbprint(), record))
            .collect();
        for change in changes {
            match change {
                Change::Put(Record::Certificate(record)) => {
                    after.insert(record.thumbprint(), record);
                }
                Change::Remove(RecordKey::Certificate(thumbprint)) => {
                    after.remove(thumbprint);
                }
                _ => {}
            }
        }
        let listed = |records: &mut dyn Iterator<Item = &CertificateRecord>| {
            records
                .filter(|record| record.held().is_listed_in_metadata())
                .count()
        };
        let grows = listed(&mut after.values().copied()) > listed(&mut self.state.certificates());
        match fit_metadata(after.values().copied()) {
            false if grows || fit_metadata(self.state.certificates()) => Err(Refusal::MetadataFull),
            _ => Ok(()),
        }
    }

    pub(super) fn add_certificate(
        &mut self,
        record: &CertificateRecord,
        key: Option<&SoftwareKey>,
    ) -> Result<Plan, Refusal> {
        let thumbprint = record.thumbprint();
        if self.state.certificate(&thumbprint).is_some() {
            return Err(Refusal::CertificateKnown(thumbprint));
        }
        self.check_lineage(record)?;
        if record.head {
            self.check_new_head(record)?;
        }
        if record.compromised.is_some() {
            self.check_successor(record)?;
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

    pub(super) fn set_certificate_enabled(
        &self,
        thumbprint: &Thumbprint,
        enabled: bool,
    ) -> Result<Plan, Refusal> {
        let record = self.record(thumbprint)?;
        if !enabled && record.is_primary() {
            return Err(Refusal::Primary(*thumbprint));
        }
        if !enabled && record.head && self.has_compromised(&record.lineage) {
            return Err(Refusal::SuccessorNeeded(record.lineage.clone()));
        }
        Ok(changed(
            record,
            CertificateRecord {
                enabled,
                head: enabled && record.head,
                ..record.clone()
            },
        ))
    }

    pub(super) fn set_head(&self, thumbprint: &Thumbprint, primary: bool) -> Result<Plan, Refusal> {
        let record = self.record(thumbprint)?;
        if primary && record.lineage != Lineage::Fabric {
            return Err(Refusal::TenantNeverPrimary {
                thumbprint: *thumbprint,
                lineage: record.lineage.clone(),
            });
        }
        if !record.may_be_head() {
            return Err(Refusal::UnusableHead);
        }
        let former = self.head(&record.lineage, record.kind);
        let former = former
            .filter(|former| former.thumbprint() != *thumbprint && !seeded(Fault::FormerHeadStays));
        let resigned = former.map(|former| CertificateRecord {
            head: false,
            ..former.clone()
        });
        let head = CertificateRecord {
            head: true,
            ..record.clone()
        };
        Ok(Plan {
            before: Some(shown(record)),
            after: Some(shown(&head)),
            changes: resigned
                .into_iter()
                .chain([head])
                .map(|record| Change::Put(Record::Certificate(record)))
                .collect(),
        })
    }

    pub(super) fn set_certificate_label(
        &self,
        thumbprint: &Thumbprint,
        label: Option<&Label>,
    ) -> Result<Plan, Refusal> {
        let record = self.record(thumbprint)?;
        Ok(changed(
            record,
            CertificateRecord {
                label: label.cloned(),
                ..record.clone()
            },
        ))
    }

    pub(super) fn set_compromised(
        &self,
        thumbprint: &Thumbprint,
        since: Time,
    ) -> Result<Plan, Refusal> {
        let record = self.record(thumbprint)?;
        if since > self.act.time {
            return Err(Refusal::CompromisedLater(since));
        }
        if let Some(earlier) = record.compromised.filter(|earlier| *earlier <= since) {
            return Err(Refusal::CompromisedAlready {
                thumbprint: *thumbprint,
                since: earlier,
            });
        }
        // It is the key that others know.
        let over_the_key = || {
            let records = self.state.certificates();
            records.filter(|other| other.has_key_of(record))
        };
        for other in over_the_key().filter(|_| !seeded(Fault::HeadMayBeCompromised)) {
            check_not_head(other)?;
        }
        self.check_successor(record)?;
        let marked = |other: &CertificateRecord| CertificateRecord {
            compromised: Some(other.compromised.map_or(since, |known| known.min(since))),
            ..other.clone()
        };
        Ok(Plan {
            before: Some(shown(record)),
            after: Some(shown(&marked(record))),
            changes: over_the_key()
                .map(|other| Change::Put(Record::Certificate(marked(other))))
                .collect(),
        })
    }

    pub(super) fn retire_certificate(&self, thumbprint: &Thumbprint) -> Result<Plan, Refusal> {
        let record = self.record(thumbprint)?;
        check_not_head(record)?;
        if record.retired.is_some() {
            return Err(Refusal::RetiredAlready(*thumbprint));
        }
        Ok(changed(
            record,
            CertificateRecord {
                retired: Some(self.act.time),
                enabled: record.enabled && !seeded(Fault::RetiredIsDisabled),
                ..record.clone()
            },
        ))
    }

    pub(super) fn remove_certificate(
        &self,
        thumbprint: &Thumbprint,
        even_if_needed: bool,
    ) -> Result<Plan, Refusal> {
        let record = self.record(thumbprint)?;
        check_not_head(record)?;
        if !even_if_needed && record.compromised.is_some() {
            return Err(Refusal::NeededToShutOut(*thumbprint));
        }
        if !even_if_needed && self.needed_by > 0 && !seeded(Fault::NeededMayBeRemoved) {
            return Err(Refusal::NeededByProtectors {
                thumbprint: *thumbprint,
                protectors: self.needed_by,
            });
        }
        let orphan = self.orphaned_key(&record.certificate);
        let removed = Change::Remove(RecordKey::Certificate(*thumbprint));
        Ok(Plan {
            before: Some(shown(record)),
            after: None,
            changes: orphan.into_iter().chain([removed]).collect(),
        })
    }

    fn record(&self, thumbprint: &Thumbprint) -> Result<&CertificateRecord, Refusal> {
        let record = self.state.certificate(thumbprint);
        record.ok_or(Refusal::NoSuchCertificate(*thumbprint))
    }

    fn head(&self, lineage: &Lineage, kind: CertificateKind) -> Option<&CertificateRecord> {
        let mut records = self.state.certificates();
        records.find(|record| record.head && record.kind == kind && record.lineage == *lineage)
    }

    fn has_compromised(&self, lineage: &Lineage) -> bool {
        let mut records = self.state.certificates();
        records.any(|record| record.compromised.is_some() && record.lineage == *lineage)
    }

    /// A key belongs to one lineage, and once it is known to others no certificate makes it good.
    fn check_lineage(&self, record: &CertificateRecord) -> Result<(), Refusal> {
        let thumbprint = record.thumbprint();
        let lineage = record.lineage.clone();
        if record.kind == CertificateKind::Communications && lineage != Lineage::Fabric {
            return Err(Refusal::CommunicationsOfTenant(lineage));
        }
        let records = self.state.certificates();
        for other in records.filter(|other| other.has_key_of(record)) {
            if other.lineage != lineage {
                return Err(Refusal::KeyOfOtherLineage {
                    thumbprint,
                    lineage: other.lineage.clone(),
                });
            }
            if other.compromised.is_some() && record.compromised.is_none() {
                return Err(Refusal::KeyCompromised(thumbprint));
            }
        }
        Ok(())
    }

    fn check_new_head(&self, record: &CertificateRecord) -> Result<(), Refusal> {
        if !record.may_be_head() {
            return Err(Refusal::UnusableHead);
        }
        match self.head(&record.lineage, record.kind) {
            Some(head) => Err(Refusal::HeadKnown {
                lineage: record.lineage.clone(),
                kind: record.kind,
                head: head.thumbprint(),
            }),
            None => Ok(()),
        }
    }

    /// Whether the lineage has heads that take over from `record`.
    fn check_successor(&self, record: &CertificateRecord) -> Result<(), Refusal> {
        let needed: &[CertificateKind] = match record.kind {
            CertificateKind::Communications => &[CertificateKind::Communications],
            _ => &[CertificateKind::Signing, CertificateKind::Encryption],
        };
        let mut needed = needed.iter();
        match needed.find(|kind| self.head(&record.lineage, **kind).is_none()) {
            Some(missing) => Err(Refusal::NoSuccessor {
                lineage: record.lineage.clone(),
                missing: *missing,
            }),
            None => Ok(()),
        }
    }
}

fn check_not_head(record: &CertificateRecord) -> Result<(), Refusal> {
    if !record.head {
        return Ok(());
    }
    Err(Refusal::IsHead {
        thumbprint: record.thumbprint(),
        lineage: record.lineage.clone(),
    })
}

fn changed(before: &CertificateRecord, after: CertificateRecord) -> Plan {
    Plan {
        before: Some(shown(before)),
        after: Some(shown(&after)),
        changes: vec![Change::Put(Record::Certificate(after))],
    }
}
