//! Selections of PCRs, and the digest of the policy that demands their values.

use hgs_crypto::hash::{Sha256Digest, sha256_of};

use super::wire::{Reader, StructureError};

pub(super) const SHA256: u16 = 0x000b;
pub(super) const POLICY_PCR: u32 = 0x0000_017f;
/// PCRs of a TPM for PCs; three octets select among them.
const PCRS: u8 = 24;

/// At least one of the PCRs 0 to 23, in the bank of SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PcrSelection(u32);

/// Why there is no such selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PcrSelectionError {
    /// Nothing is selected: a policy over it would demand nothing.
    #[error("no PCR is selected")]
    Empty,
    /// There are 24 of them.
    #[error("there is no PCR {0}; they are 0 to 23")]
    NoSuchPcr(u8),
}

impl PcrSelection {
    /// How many PCRs a TPM returns in one response.
    pub const MAX_READ: usize = 8;

    /// Selects `pcrs`.
    ///
    /// # Errors
    /// When there are none, or one that does not exist.
    pub fn new(pcrs: impl IntoIterator<Item = u8>) -> Result<Self, PcrSelectionError> {
        let mut selected = 0;
        for pcr in pcrs {
            if pcr >= PCRS {
                return Err(PcrSelectionError::NoSuchPcr(pcr));
            }
            selected |= 1 << pcr;
        }
        match selected {
            0 => Err(PcrSelectionError::Empty),
            _ => Ok(Self(selected)),
        }
    }

    /// The selected PCRs in rising order.
    pub fn pcrs(self) -> impl Iterator<Item = u8> {
        (0..PCRS).filter(move |pcr| self.0 & (1 << pcr) != 0)
    }

    /// How many are selected.
    #[must_use]
    pub fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The same PCRs in selections that a TPM returns in one response each.
    #[must_use]
    pub fn reads(self) -> Vec<Self> {
        let pcrs: Vec<u8> = self.pcrs().collect();
        let mask = |pcrs: &[u8]| pcrs.iter().fold(0, |mask, pcr| mask | 1 << pcr);
        let reads = pcrs.chunks(Self::MAX_READ).map(|read| Self(mask(read)));
        reads.collect()
    }

    /// The octets of a TPML_PCR_SELECTION.
    #[must_use]
    pub fn octets(self) -> Vec<u8> {
        let [a, b, c, _] = self.0.to_le_bytes();
        let one = 1u32.to_be_bytes();
        [&one[..], &SHA256.to_be_bytes(), &[3, a, b, c]].concat()
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, StructureError> {
        reader.expect_u32(1, "pcrSelection.count")?;
        reader.expect_u16(SHA256, "pcrSelection.hash")?;
        reader.expect_u8(3, "pcrSelection.sizeofSelect")?;
        let [a, b, c] = reader.array("pcrSelection.pcrSelect")?;
        match u32::from_le_bytes([a, b, c, 0]) {
            0 => Err(StructureError::Number {
                field: "pcrSelection.pcrSelect",
                found: 0,
            }),
            selected => Ok(Self(selected)),
        }
    }
}

/// The digest of a policy that is PolicyPCR alone: it holds while the PCRs of `selection` have `values`, given in rising
/// order of their PCRs. `None` if there are not as many values as PCRs.
#[must_use]
pub fn policy_pcr(selection: PcrSelection, values: &[Sha256Digest]) -> Option<Sha256Digest> {
    if values.len() != selection.count() {
        return None;
    }
    let values: Vec<&[u8]> = values.iter().map(|value| &value[..]).collect();
    Some(sha256_of(&[
        // The digest of a policy starts as zeros.
        &[0; 32],
        &POLICY_PCR.to_be_bytes(),
        &selection.octets(),
        &sha256_of(&values),
    ]))
}
