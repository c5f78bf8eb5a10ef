//! The certificates whose private keys a key protection service holds, and how they relate.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::lineage::{CertificateKind, Lineage};
use hgs_pki::{Certificate, KeyWork, Thumbprint, Time};
use hgs_protector::suite::KeyEncryption;
use hgs_protector::{
    GuardianCertificates, HeldPair, SealError, Signature, VerifiedProtector, Wrapping, endorse,
};

/// A certificate whose private key is held.
#[derive(Debug, Clone)]
pub struct HeldCertificate {
    /// The certificate.
    pub certificate: Certificate,
    /// What it is for. A communications certificate is no part of a key ring and is passed over.
    pub kind: CertificateKind,
    /// How the key of an encryption certificate wants transport keys encrypted.
    pub key_encryption: KeyEncryption,
    /// The lineage that it belongs to.
    pub lineage: Lineage,
    /// Whether it is used. A disabled one opens and signs nothing.
    pub enabled: bool,
    /// Whether it is the head of its lineage, for its kind.
    pub head: bool,
    /// Since when its key is known to be in foreign hands.
    pub compromised: Option<Time>,
}

impl HeldCertificate {
    /// Whether owners find it in the metadata beside the primary pair, so that protectors that it signed are known.
    #[must_use]
    pub fn is_listed_in_metadata(&self) -> bool {
        self.kind == CertificateKind::Signing
            && self.lineage == Lineage::Fabric
            && self.enabled
            && !self.head
    }
}

/// Why certificates don't make a key ring. The operator is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyRingError {
    /// The same certificate, for the same kind of use, twice.
    #[error("certificate {0} is in the key ring twice")]
    Duplicate(Thumbprint),
    /// Two heads of one kind in one lineage.
    #[error("lineage {lineage} has two heads of one kind, {first} and {second}")]
    TwoHeads {
        /// The lineage.
        lineage: Lineage,
        /// The first.
        first: Thumbprint,
        /// The second.
        second: Thumbprint,
    },
    /// A head that can't be one.
    #[error("certificate {0} is the head of its lineage, and disabled or compromised")]
    UnfitHead(Thumbprint),
    /// Nothing could take over from the compromised certificate.
    #[error("certificate {compromised} is compromised, and its lineage {lineage} has no head")]
    NoSuccessor {
        /// The compromised certificate.
        compromised: Thumbprint,
        /// Its lineage.
        lineage: Lineage,
    },
}

/// The certificates of one generation of the configuration. Nothing in it changes, but what it remembers of signatures
/// that its own keys have made over its own certificates.
#[derive(Debug)]
pub struct KeyRing {
    signing: BTreeMap<Thumbprint, HeldCertificate>,
    encryption: BTreeMap<Thumbprint, HeldCertificate>,
    heads: BTreeMap<Lineage, Head>,
    /// Enabled signing certificates of the fabric that are not the head, oldest first.
    others: Vec<Certificate>,
    /// By who signed, then whose signing certificate it is.
    endorsements: Mutex<BTreeMap<(Thumbprint, Thumbprint), Signature>>,
}

/// The pair that protectors of a lineage are handed on to.
#[derive(Debug)]
pub struct Head {
    signing: Certificate,
    encryption: Certificate,
    key_encryption: KeyEncryption,
    certified: OnceLock<GuardianCertificates>,
}

/// What the key ring knows of the pair of certificates of a wrapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair<'a> {
    pub(crate) lineage: &'a Lineage,
    pub(crate) is_head: bool,
}

impl KeyRing {
    /// Puts a key ring together. `certificates` stand in the order in which they were added, oldest first.
    pub fn new(certificates: Vec<HeldCertificate>) -> Result<Self, KeyRingError> {
        let heads = heads(&certificates)?;
        let others = certificates
            .iter()
            .filter(|held| held.is_listed_in_metadata())
            .map(|held| held.certificate.clone())
            .collect();
        let mut ring = Self {
            signing: BTreeMap::new(),
            encryption: BTreeMap::new(),
            heads,
            others,
            endorsements: Mutex::default(),
        };
        for held in certificates {
            ring.add(held)?;
        }
        Ok(ring)
    }

    fn add(&mut self, held: HeldCertificate) -> Result<(), KeyRingError> {
        let thumbprint = held.certificate.thumbprint();
        if held.compromised.is_some() && !self.heads.contains_key(&held.lineage) {
            return Err(KeyRingError::NoSuccessor {
                compromised: thumbprint,
                lineage: held.lineage,
            });
        }
        let of_kind = match held.kind {
            CertificateKind::Signing => &mut self.signing,
            CertificateKind::Encryption => &mut self.encryption,
            CertificateKind::Communications => return Ok(()),
        };
        match of_kind.entry(thumbprint) {
            Entry::Vacant(place) => {
                place.insert(held);
                Ok(())
            }
            Entry::Occupied(_) => Err(KeyRingError::Duplicate(thumbprint)),
        }
    }

    /// The head of a lineage, if it has both certificates.
    #[must_use]
    pub fn head(&self, lineage: &Lineage) -> Option<&Head> {
        self.heads.get(lineage)
    }

    pub(crate) fn has_primary_encryption(&self) -> bool {
        let mut held = self.encryption.values();
        held.any(|held| held.head && held.lineage == Lineage::Fabric)
    }

    /// The enabled signing certificates of the fabric beside its head's, oldest first.
    #[must_use]
    pub fn other_signing_certificates(&self) -> &[Certificate] {
        &self.others
    }

    /// The pair that a wrapping is for: both certificates held, enabled, and of one lineage.
    pub(crate) fn pair(&self, wrapping: &Wrapping) -> Option<Pair<'_>> {
        let signing = self.signing_of(wrapping).filter(|held| held.enabled)?;
        let encryption = self.encryption_of(wrapping).filter(|held| held.enabled)?;
        (signing.lineage == encryption.lineage).then_some(Pair {
            lineage: &signing.lineage,
            is_head: signing.head && encryption.head,
        })
    }

    /// Since when one of the certificates of a wrapping is compromised, enabled or not.
    pub(crate) fn compromised(&self, wrapping: &Wrapping) -> Option<Time> {
        [self.signing_of(wrapping), self.encryption_of(wrapping)]
            .into_iter()
            .flatten()
            .filter_map(|held| held.compromised)
            .min()
    }

    /// Whether a wrapping is for the head of any lineage.
    pub(crate) fn is_head(&self, wrapping: &Wrapping) -> bool {
        self.pair(wrapping).is_some_and(|pair| pair.is_head)
    }

    /// The pairs with which a protector may be opened.
    pub(crate) fn held(&self, protector: &VerifiedProtector) -> Vec<HeldPair> {
        let wrappings = protector.wrappings().iter();
        wrappings
            .filter_map(|wrapping| {
                Some(HeldPair {
                    head: self.pair(wrapping)?.is_head,
                    signing: wrapping.signing_certificate().thumbprint(),
                    encryption: wrapping.encryption_certificate().thumbprint(),
                })
            })
            .collect()
    }

    /// The signature by the key of `signer` over `subject`, both of this key ring: made once, then remembered.
    pub(crate) fn endorsement(
        &self,
        subject: &Certificate,
        signer: &Certificate,
        keys: &mut dyn KeyWork,
    ) -> Result<Signature, SealError> {
        let pair = (signer.thumbprint(), subject.thumbprint());
        if let Some(signature) = self.endorsements().get(&pair) {
            return Ok(signature.clone());
        }
        let signature = endorse(subject, signer, keys)?;
        self.endorsements().insert(pair, signature.clone());
        Ok(signature)
    }

    fn endorsements(
        &self,
    ) -> std::sync::MutexGuard<'_, BTreeMap<(Thumbprint, Thumbprint), Signature>> {
        // Nothing between lock and unlock can panic half-way through a change.
        self.endorsements
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn signing_of(&self, wrapping: &Wrapping) -> Option<&HeldCertificate> {
        self.signing
            .get(&wrapping.signing_certificate().thumbprint())
    }

    fn encryption_of(&self, wrapping: &Wrapping) -> Option<&HeldCertificate> {
        self.encryption
            .get(&wrapping.encryption_certificate().thumbprint())
    }
}

impl Head {
    /// The signing certificate.
    #[must_use]
    pub fn signing_certificate(&self) -> &Certificate {
        &self.signing
    }

    /// The encryption certificate.
    #[must_use]
    pub fn encryption_certificate(&self) -> &Certificate {
        &self.encryption
    }

    /// How it wants transport keys encrypted.
    #[must_use]
    pub fn key_encryption(&self) -> KeyEncryption {
        self.key_encryption
    }

    /// The head as a guardian, which takes two signatures the first time.
    pub(crate) fn certified(
        &self,
        keys: &mut dyn KeyWork,
    ) -> Result<&GuardianCertificates, SealError> {
        if let Some(certified) = self.certified.get() {
            return Ok(certified);
        }
        let certified = GuardianCertificates::certify(
            self.signing.clone(),
            self.encryption.clone(),
            self.key_encryption,
            keys,
        )?;
        Ok(self.certified.get_or_init(|| certified))
    }

    pub(crate) fn is_wrapped_by(&self, wrapping: &Wrapping) -> bool {
        wrapping.is_for(&self.signing, &self.encryption)
    }
}

/// The lineages that have a head of both kinds.
fn heads(certificates: &[HeldCertificate]) -> Result<BTreeMap<Lineage, Head>, KeyRingError> {
    let mut signing = BTreeMap::new();
    let mut encryption = BTreeMap::new();
    for held in certificates.iter().filter(|held| held.head) {
        if !held.enabled || held.compromised.is_some() {
            return Err(KeyRingError::UnfitHead(held.certificate.thumbprint()));
        }
        let of_kind = match held.kind {
            CertificateKind::Signing => &mut signing,
            CertificateKind::Encryption => &mut encryption,
            CertificateKind::Communications => continue,
        };
        if let Some(first) = of_kind.insert(held.lineage.clone(), held) {
            return Err(KeyRingError::TwoHeads {
                lineage: held.lineage.clone(),
                first: first.certificate.thumbprint(),
                second: held.certificate.thumbprint(),
            });
        }
    }
    Ok(signing
        .into_iter()
        .filter_map(|(lineage, signing)| {
            let encryption = encryption.get(&lineage)?;
            let head = Head {
                signing: signing.certificate.clone(),
                encryption: encryption.certificate.clone(),
                key_encryption: encryption.key_encryption,
                certified: OnceLock::new(),
            };
            Some((lineage, head))
        })
        .collect())
}
