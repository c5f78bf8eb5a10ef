//! Banks of PCRs, digests, and PCR values.

use std::fmt;

use hgs_crypto::{hash, hex};

/// How many PCRs a bank has (TCG PC Client Platform TPM Profile).
pub const PCR_COUNT: usize = 24;

/// A bank of PCRs: the digest algorithm that extends them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names of the algorithms")]
pub enum Bank {
    Sha1,
    Sha256,
    Sha384,
}

impl Bank {
    /// All that are replayed.
    pub const ALL: [Self; 3] = [Self::Sha1, Self::Sha256, Self::Sha384];

    /// The bank of a `TPM_ALG_ID`; `None` if it is not replayed here.
    #[must_use]
    pub fn of_algorithm(identifier: u16) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|bank| bank.algorithm() == identifier)
    }

    /// The `TPM_ALG_ID`.
    #[must_use]
    pub const fn algorithm(self) -> u16 {
        match self {
            Self::Sha1 => 0x0004,
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
        }
    }

    /// How many octets its digests have.
    #[must_use]
    pub const fn digest_size(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
        }
    }

    /// The digest of the concatenation of `parts`.
    #[must_use]
    pub fn hash(self, parts: &[&[u8]]) -> Digest {
        match self {
            Self::Sha1 => Digest::of(self, &hash::sha1_of(parts)),
            Self::Sha256 => Digest::of(self, &hash::sha256_of(parts)),
            Self::Sha384 => Digest::of(self, &hash::sha384_of(parts)),
        }
    }

    /// The digest whose octets are all `octet`.
    #[must_use]
    pub fn filled(self, octet: u8) -> Digest {
        Digest::of(self, &[octet; Digest::LONGEST][..self.digest_size()])
    }
}

impl fmt::Display for Bank {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Sha1 => "SHA-1",
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
        })
    }
}

/// A digest of one bank: of an event, or the value of a PCR.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    bank: Bank,
    octets: [u8; Self::LONGEST],
}

impl Digest {
    const LONGEST: usize = Bank::Sha384.digest_size();

    /// The digest with these octets; `None` if they are not as many as the bank's digests have.
    #[must_use]
    pub fn new(bank: Bank, octets: &[u8]) -> Option<Self> {
        (octets.len() == bank.digest_size()).then(|| Self::of(bank, octets))
    }

    /// The bank it is of.
    #[must_use]
    pub fn bank(&self) -> Bank {
        self.bank
    }

    /// Its octets.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.octets[..self.bank.digest_size()]
    }

    /// The value of a PCR that has this value, after it is extended with `digest`.
    #[must_use]
    pub fn extended_with(&self, digest: &Self) -> Self {
        self.bank.hash(&[self.as_bytes(), digest.as_bytes()])
    }

    /// The value of PCR 0 at the start, if `TPM2_Startup` came from `locality`.
    pub(super) fn of_startup(bank: Bank, locality: u8) -> Self {
        let mut value = bank.filled(0);
        value.octets[bank.digest_size() - 1] = locality;
        value
    }

    fn of(bank: Bank, digest: &[u8]) -> Self {
        let mut octets = [0; Self::LONGEST];
        octets[..bank.digest_size()].copy_from_slice(digest);
        Self { bank, octets }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.as_bytes()))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {self}", self.bank)
    }
}

/// Why octets are not PCR values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PcrValuesError {
    /// There is no such PCR.
    #[error("there is no PCR {pcr}: a bank has {PCR_COUNT}")]
    NoSuchPcr {
        /// Its number.
        pcr: usize,
    },
    /// A value is not as long as a digest of the bank.
    #[error("the value of PCR {pcr} has {found} octets; a digest of the {bank} bank has {}", bank.digest_size())]
    Size {
        /// The PCR.
        pcr: usize,
        /// The bank.
        bank: Bank,
        /// How many octets there are.
        found: usize,
    },
}

/// Values of PCRs of one bank. Whether a TPM proved them is for the caller to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PcrValues {
    bank: Bank,
    values: [Option<Digest>; PCR_COUNT],
}

impl PcrValues {
    /// No values yet.
    #[must_use]
    pub fn new(bank: Bank) -> Self {
        Self {
            bank,
            values: [None; PCR_COUNT],
        }
    }

    /// The values of PCR 0 and those after it, one behind the other.
    ///
    /// # Errors
    ///
    /// When they are too many, or the last is cut short.
    pub fn concatenated(bank: Bank, octets: &[u8]) -> Result<Self, PcrValuesError> {
        let mut values = Self::new(bank);
        for (pcr, value) in octets.chunks(bank.digest_size()).enumerate() {
            values.insert(pcr, value)?;
        }
        Ok(values)
    }

    /// Sets the value of one PCR.
    ///
    /// # Errors
    ///
    /// When there is no such PCR, or the value has not the bank's size.
    pub fn insert(&mut self, pcr: usize, value: &[u8]) -> Result<(), PcrValuesError> {
        let bank = self.bank;
        let place = self.values.get_mut(pcr);
        let place = place.ok_or(PcrValuesError::NoSuchPcr { pcr })?;
        let found = value.len();
        let value = Digest::new(bank, value);
        *place = Some(value.ok_or(PcrValuesError::Size { pcr, bank, found })?);
        Ok(())
    }

    /// The bank they are of.
    #[must_use]
    pub fn bank(&self) -> Bank {
        self.bank
    }

    /// The value of one PCR, if it is among these.
    #[must_use]
    pub fn value(&self, pcr: usize) -> Option<Digest> {
        self.values.get(pcr).copied().flatten()
    }

    /// The PCRs that have values here, with these.
    pub fn iter(&self) -> impl Iterator<Item = (usize, Digest)> {
        let values = self.values.iter().enumerate();
        values.filter_map(|(pcr, value)| Some((pcr, (*value)?)))
    }
}
