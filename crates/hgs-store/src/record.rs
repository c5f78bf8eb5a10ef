//! Records as they are kept: named octets that an attacker without the master key can't make, change, remove or put back.
//!
//! A record's tag binds its value to its kind, name and generation, so a changed value, two
//! swapped values and a foreign record are found where they lie. A tag says nothing about records
//! that are *absent*, or present in an older version that was once true. That is what the
//! [`Sum`] is for: to every tag belongs a second, secret number, and the tag of the whole (kept in
//! table `store`) is over the sum of them all. Adding or replacing a record changes the sum by one
//! addition and one subtraction, however many there are, so no commit reads what it does not
//! change.
//!
//! An attacker who can write the database sees neither the numbers nor their sum, and can't find another
//! set of records with the same sum: each record that the sum has and the set has not (or the
//! other way round) moves it by an unpredictable 256-bit number (the construction is that of
//! multiset hashes, Clarke et al., ASIACRYPT 2003, with a keyed function that an attacker can't query).
//! What no value inside the database can stop is putting back *all* of it, as it was at one
//! earlier commit.

use std::fmt;

use hgs_crypto::{CryptoError, SecretBytes};
use hgs_custody::seal::{Authenticator, MasterKey, Sealer, Tag};
use serde::{Deserialize, Serialize};

use crate::audit_head::Head;

/// The kinds of records, as they are written in column `kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordKind {
    /// At which level of the format the state is.
    Format,
    /// The one record of settings.
    Settings,
    /// A certificate of the key protection service.
    Certificate,
    /// A sealed software key.
    PrivateKey,
    /// A registered host.
    Host,
    /// What attesting changes about a host.
    HostAttestation,
    /// An identity key of a host.
    HostIdentity,
    /// A signer of health certificates.
    AttestationSigner,
    /// What is left of a host that was removed.
    RemovedHost,
    /// A host of other clusters that gets no keys here.
    DeniedHost,
    /// An authority that vouches for TPMs.
    EndorsementRoot,
    /// A group of hosts.
    HostGroup,
    /// A document that measurements are compared with.
    PolicyDocument,
    /// What only one host measures.
    HostMeasurements,
}

impl RecordKind {
    const ALL: [Self; 14] = [
        Self::Format,
        Self::Settings,
        Self::Certificate,
        Self::PrivateKey,
        Self::Host,
        Self::HostAttestation,
        Self::HostIdentity,
        Self::AttestationSigner,
        Self::RemovedHost,
        Self::DeniedHost,
        Self::EndorsementRoot,
        Self::HostGroup,
        Self::PolicyDocument,
        Self::HostMeasurements,
    ];

    /// The kind's name in the database and in audit records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Settings => "settings",
            Self::Certificate => "certificate",
            Self::PrivateKey => "private-key",
            Self::Host => "host",
            Self::HostAttestation => "host-attestation",
            Self::HostIdentity => "host-identity",
            Self::AttestationSigner => "attestation-signer",
            Self::RemovedHost => "removed-host",
            Self::DeniedHost => "denied-host",
            Self::EndorsementRoot => "endorsement-root",
            Self::HostGroup => "host-group",
            Self::PolicyDocument => "policy-document",
            Self::HostMeasurements => "host-measurements",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The keys that everything in the store hangs from, derived once.
pub(crate) struct Keys {
    record: Authenticator,
    term: Authenticator,
    pub(crate) lineage: Authenticator,
    pub(crate) audit: Authenticator,
    pub(crate) root: Authenticator,
    pub(crate) private_keys: Sealer,
    pub(crate) cluster: ClusterKeys,
    /// Nothing in the store hangs from it: the nonces that hosts return are made under it.
    pub(crate) attestation_nonces: SecretBytes,
    pub(crate) attestation_contexts: SecretBytes,
}

/// The keys of what several nodes hand to each other.
pub(crate) struct ClusterKeys {
    pub(crate) entries: Sealer,
    pub(crate) chain: Authenticator,
    pub(crate) dependency: Authenticator,
    pub(crate) position: Authenticator,
}

impl Keys {
    pub(crate) fn derive(master_key: &MasterKey) -> Self {
        Self {
            record: master_key.authenticator("record"),
            term: master_key.authenticator("term of the sum"),
            lineage: master_key.authenticator("lineage"),
            audit: master_key.authenticator("audit"),
            root: master_key.authenticator("root"),
            private_keys: master_key.sealer("private key"),
            cluster: ClusterKeys {
                entries: master_key.sealer("cluster entry"),
                chain: master_key.authenticator("cluster chain"),
                dependency: master_key.authenticator("cluster dependency"),
                position: master_key.authenticator("cluster position"),
            },
            attestation_nonces: master_key.derive("attestation nonces"),
            attestation_contexts: master_key.derive("attestation contexts"),
        }
    }

    /// The tag of a record.
    pub(crate) fn tag(&self, kind: RecordKind, name: &str, generation: u64, value: &str) -> Tag {
        let generation = generation.to_be_bytes();
        let kind = kind.as_str().as_bytes();
        self.record
            .tag([kind, name.as_bytes(), &generation, value.as_bytes()])
    }

    /// Checks the tag of a record.
    pub(crate) fn verify(
        &self,
        kind: RecordKind,
        name: &str,
        generation: u64,
        value: &str,
        tag: &[u8],
    ) -> Result<(), CryptoError> {
        let generation = generation.to_be_bytes();
        let kind = kind.as_str().as_bytes();
        let parts = [kind, name.as_bytes(), &generation, value.as_bytes()];
        self.record.verify(parts, tag)
    }

    /// What the record or node with this tag adds to its sum.
    pub(crate) fn term(&self, tag: &Tag) -> Summand {
        let octets = self.term.tag([tag]);
        let (lanes, _) = octets.as_chunks();
        Summand(std::array::from_fn(|i| u64::from_be_bytes(lanes[i])))
    }
}

/// What one record adds to a [`Sum`]; never written anywhere.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summand([u64; 4]);

/// The sum over all records of a table: four lanes of addition modulo 2^64, and how many. What a
/// commit adds and removes is such a sum as well, so commits add up in any order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sum {
    lanes: [u64; 4],
    count: u64,
}

impl Sum {
    /// The sum over nothing.
    pub(crate) const EMPTY: Self = Self {
        lanes: [0; 4],
        count: 0,
    };

    pub(crate) fn add(&mut self, term: &Summand) {
        self.lanes = std::array::from_fn(|i| self.lanes[i].wrapping_add(term.0[i]));
        self.count = self.count.wrapping_add(1);
    }

    pub(crate) fn subtract(&mut self, term: &Summand) {
        self.lanes = std::array::from_fn(|i| self.lanes[i].wrapping_sub(term.0[i]));
        self.count = self.count.wrapping_sub(1);
    }

    pub(crate) fn plus(&self, difference: &Self) -> Self {
        Self {
            lanes: std::array::from_fn(|i| self.lanes[i].wrapping_add(difference.lanes[i])),
            count: self.count.wrapping_add(difference.count),
        }
    }

    /// How many records it is over.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn octets(&self) -> [u8; 40] {
        let mut octets = [0; 40];
        let numbers = self.lanes.iter().chain([&self.count]);
        let (places, _) = octets.as_chunks_mut();
        for (place, number) in places.iter_mut().zip(numbers) {
            *place = number.to_be_bytes();
        }
        octets
    }
}

/// What the whole of a state is held together by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Integrity {
    pub(crate) generation: u64,
    pub(crate) records: Sum,
    pub(crate) lineage: Sum,
    pub(crate) audit: Head,
}

impl Integrity {
    /// The whole of a state with nothing in it.
    pub(crate) const EMPTY: Self = Self {
        generation: 0,
        records: Sum::EMPTY,
        lineage: Sum::EMPTY,
        audit: Head::EMPTY,
    };

    /// The tag of the whole.
    pub(crate) fn root(&self, keys: &Keys) -> Tag {
        keys.root.tag([
            &self.generation.to_be_bytes(),
            &self.records.octets(),
            &self.lineage.octets(),
            &self.audit.sequence.to_be_bytes(),
            &self.audit.tag,
        ])
    }
}

/// A sum tells an attacker nothing only as long as it is never written.
impl fmt::Debug for Sum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Sum(of {})", self.count)
    }
}

#[cfg(test)]
mod tests {
    use hgs_crypto::SecretBytes;
    use hgs_testkit::fixtures::key_octets;
    use proptest::prelude::*;

    use super::*;

    fn keys() -> Keys {
        let octets = SecretBytes::from(&key_octets(1)[..]);
        Keys::derive(&MasterKey::from_octets(octets).unwrap())
    }

    #[test]
    fn kinds_are_named_in_one_way() {
        for kind in RecordKind::ALL {
            let written = serde_json::to_string(&kind).unwrap();
            assert_eq!(written, format!("\"{kind}\""));
            assert_eq!(RecordKind::from_name(kind.as_str()), Some(kind));
        }
        assert_eq!(RecordKind::from_name("audit"), None);
    }

    #[test]
    fn a_tag_holds_kind_name_generation_and_value() {
        let keys = keys();
        let tag = keys.tag(RecordKind::Host, "a", 1, "{}");
        assert_ne!(tag, keys.tag(RecordKind::HostIdentity, "a", 1, "{}"));
        assert_ne!(tag, keys.tag(RecordKind::Host, "b", 1, "{}"));
        assert_ne!(tag, keys.tag(RecordKind::Host, "a", 2, "{}"));
        assert_ne!(tag, keys.tag(RecordKind::Host, "a", 1, "[]"));
    }

    proptest! {
        #[test]
        fn the_sum_forgets_order_but_nothing_else(tags: Vec<[u8; 32]>, removed: prop::sample::Index) {
            let keys = keys();
            let sum = |tags: &[[u8; 32]]| {
                let mut sum = Sum::EMPTY;
                tags.iter().for_each(|tag| sum.add(&keys.term(tag)));
                sum
            };
            let whole = sum(&tags);
            let reversed: Vec<_> = tags.iter().rev().copied().collect();
            prop_assert!(whole == sum(&reversed));
            prop_assume!(!tags.is_empty());
            let place = removed.index(tags.len());
            let mut rest = tags.clone();
            let gone = rest.remove(place);
            let mut less = whole;
            less.subtract(&keys.term(&gone));
            prop_assert!(less == sum(&rest));
            prop_assert!(less.octets() != whole.octets());
        }
    }
}
