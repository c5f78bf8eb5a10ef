//! With which pair of certificates protectors were last opened: what an administrator asks before a
//! pair is removed.

use hgs_pki::{Thumbprint, Time};

use crate::State;
use crate::model::CertificateRecord;
use hgs_kps::CertificateKind;
use hgs_kps::Lineage;

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

impl PairUsage {
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
