//! With which pair of certificates protectors were last opened: what an administrator asks before a
//! pair is removed.

use hgs_pki::{Thumbprint, Time};
use rusqlite::{Connection, Row};

use crate::model::{CertificateKind, CertificateRecord, Lineage};
use crate::{State, StoreError};

/// The protectors that one pair was the last to open. Only the newest of each line counts: what it
/// was made from is out of use, and what was made from it has never come back.
///
/// The numbers are read without the tags of the single nodes, which are checked when the store is
/// opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairUsage {
    /// The encryption certificate of the pair.
    pub encryption: Thumbprint,
    /// Its signing certificate; absent for protectors that were last opened before it was recorded.
    pub signing: Option<Thumbprint>,
    /// How many there are.
    pub protectors: u64,
    /// When the one was opened that has not been opened for longest.
    pub first: Time,
    /// When the one was opened that was opened last.
    pub last: Time,
}

/// All pairs that opened anything. Answered from an index.
pub(crate) fn pairs(connection: &Connection) -> Result<Vec<PairUsage>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT opened_by, opened_by_signing, count(*), min(last_seen), max(last_seen) \
         FROM lineage WHERE stage = 1 GROUP BY opened_by, opened_by_signing",
    )?;
    let pairs = statement.query_map((), PairUsage::read)?;
    Ok(pairs.collect::<Result<_, _>>()?)
}

/// How many protectors need `record`: they were last opened with it, so it may be the only one that
/// opens them.
pub(crate) fn needing(
    connection: &Connection,
    state: &State,
    record: &CertificateRecord,
) -> Result<u64, StoreError> {
    let pairs = pairs(connection)?;
    let needing = pairs.iter().filter(|pair| pair.needs(state, record));
    Ok(needing.map(|pair| pair.protectors).sum())
}

impl PairUsage {
    fn read(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        Ok(Self {
            encryption: Thumbprint::from_bytes(row.get(0)?),
            signing: row.get::<_, Option<_>>(1)?.map(Thumbprint::from_bytes),
            protectors: row.get::<_, i64>(2)?.cast_unsigned(),
            first: Time::from_unix(row.get(3)?),
            last: Time::from_unix(row.get(4)?),
        })
    }

    /// Whether these protectors need `record`: it is half of the pair, or may have been.
    #[must_use]
    pub fn needs(&self, state: &State, record: &CertificateRecord) -> bool {
        let thumbprint = record.thumbprint();
        match (record.kind, self.signing) {
            (CertificateKind::Communications, _) => false,
            (CertificateKind::Encryption, _) => self.encryption == thumbprint,
            (CertificateKind::Signing, Some(signing)) => signing == thumbprint,
            // It may have been any of the lineage.
            (CertificateKind::Signing, None) => self
                .lineage(state)
                .is_some_and(|lineage| *lineage == record.lineage),
        }
    }

    fn lineage<'s>(&self, state: &'s State) -> Option<&'s Lineage> {
        let encryption = state.certificate(&self.encryption);
        encryption.map(|encryption| &encryption.lineage)
    }
}
