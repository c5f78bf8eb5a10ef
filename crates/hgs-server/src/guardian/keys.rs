//! The keys of one generation of the state: parsed once, shared by all requests until a certificate, a signer or a
//! setting changes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use hgs_custody::{KeyReference, PrivateKey};
use hgs_custody_pkcs11::Tokens;
use hgs_kps::{
    CertificateKind as HeldKind, HeldCertificate, KeyRing, KeyRingError, Lineage as HeldLineage,
    MetadataService,
};
use hgs_pki::{Certificate, Thumbprint};
use hgs_protector::suite::KeyEncryption;
use hgs_store::{CertificateKind, CertificateRecord, Digest, Lineage, State, Store, StoreError};

use tracing::error;

use super::drive::KeyAway;

/// Private keys by the thumbprints of their certificates.
#[derive(Debug, Default)]
pub(crate) struct KeyTable {
    by_certificate: HashMap<Thumbprint, Arc<dyn PrivateKey>>,
    /// By the public half, and where the private half is.
    by_place: BTreeMap<(Digest, String), Arc<dyn PrivateKey>>,
}

/// Where private keys are.
#[derive(Clone, Copy)]
pub(crate) struct Places<'a> {
    pub(crate) store: &'a Store,
    pub(crate) tokens: &'a Tokens,
}

/// What all requests between two changes of the certificates share.
#[derive(Debug)]
pub(crate) struct Holdings {
    pub(crate) keys: KeyTable,
    pub(crate) ring: Arc<KeyRing>,
    /// Absent only if there is no primary communications certificate.
    pub(crate) metadata: Option<Arc<MetadataService>>,
    /// Whether any certificate is compromised, so that it matters which protectors were seen before.
    pub(crate) any_compromised: bool,
}

/// Why the holdings of a state can't be used.
#[derive(Debug, thiserror::Error)]
pub enum HoldingsError {
    /// A sealed key can't be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The certificates don't make a key ring.
    #[error(transparent)]
    KeyRing(#[from] KeyRingError),
}

/// A state and the holdings that belong to it.
#[derive(Clone)]
pub(crate) struct Snapshot {
    pub(crate) state: Arc<State>,
    pub(crate) holdings: Arc<Holdings>,
}

/// The newest snapshot that somebody needed.
pub(crate) struct Snapshots(RwLock<Snapshot>);

impl Snapshots {
    pub(crate) fn new(places: Places<'_>) -> Result<Self, HoldingsError> {
        let state = places.store.state();
        let holdings = Arc::new(Holdings::of(places, &state, &KeyTable::default())?);
        Ok(Self(RwLock::new(Snapshot { state, holdings })))
    }

    /// The newest state, with its holdings. Opens keys that are new, so it belongs on a worker.
    pub(crate) fn current(&self, places: Places<'_>) -> Result<Snapshot, HoldingsError> {
        let state = places.store.state();
        let last = self
            .0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if Arc::ptr_eq(&state, &last.state) {
            return Ok(last);
        }
        let holdings = if state.has_same_keys_as(&last.state) {
            last.holdings
        } else {
            Arc::new(Holdings::of(places, &state, &last.holdings.keys)?)
        };
        let snapshot = Snapshot { state, holdings };
        let mut place = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have come with a later state; what is kept must not go back.
        if place.state.generation() <= snapshot.state.generation() {
            *place = snapshot.clone();
        }
        Ok(snapshot)
    }
}

impl Holdings {
    /// The holdings of `state`. Keys that are `known` are not opened again.
    fn of(places: Places<'_>, state: &State, known: &KeyTable) -> Result<Self, HoldingsError> {
        let mut keys = KeyTable::default();
        for record in state.certificates() {
            keys.hold(places, known, &record.certificate, &record.key)?;
        }
        for signer in state.attestation_signers() {
            if let Some(reference) = &signer.key {
                keys.hold(places, known, &signer.certificate, reference)?;
            }
        }
        let ring = Arc::new(KeyRing::new(held_certificates(state))?);
        let communications = state
            .certificates()
            .find(|record| record.kind == CertificateKind::Communications && record.is_primary());
        Ok(Self {
            keys,
            metadata: communications.map(|record| {
                let certificate = record.certificate.clone();
                Arc::new(MetadataService::new(Arc::clone(&ring), certificate))
            }),
            ring,
            any_compromised: state
                .certificates()
                .any(|record| record.compromised.is_some()),
        })
    }
}

impl Holdings {
    /// Whether the private key of a certificate can be used here. A token is asked if nobody has asked it before.
    pub(crate) fn has_key_of(&self, record: &CertificateRecord) -> bool {
        let key = self.keys.by_certificate.get(&record.thumbprint());
        key.is_some_and(|key| key.capabilities().is_ok())
    }
}

impl KeyTable {
    /// The key of a certificate.
    pub(crate) fn find(&self, certificate: &Thumbprint) -> Result<&dyn PrivateKey, KeyAway> {
        let key = self.by_certificate.get(certificate);
        key.map(|key| &**key).ok_or_else(|| {
            error!(%certificate, "there is no private key for this certificate here");
            KeyAway(*certificate)
        })
    }

    /// Adds the key of `certificate`, unless it is sealed and gone: whoever needs it then finds it away. A token is not
    /// asked before its key is needed, so one that is away keeps nobody from starting.
    fn hold(
        &mut self,
        places: Places<'_>,
        known: &Self,
        certificate: &Certificate,
        reference: &KeyReference,
    ) -> Result<(), StoreError> {
        let public_key = Digest::from_bytes(*certificate.public_key().digest());
        let place = (public_key, reference.to_string());
        let found = [&*self, known]
            .into_iter()
            .find_map(|table| table.by_place.get(&place).cloned());
        let key = match (found, reference) {
            (Some(key), _) => Some(key),
            (None, KeyReference::Pkcs11(uris)) => {
                Some(places.tokens.key(uris, certificate.public_key()))
            }
            (None, KeyReference::Sealed) => places
                .store
                .private_key(&public_key)?
                .map(|key| Arc::new(key) as Arc<dyn PrivateKey>),
        };
        if let Some(key) = key {
            self.by_certificate
                .insert(certificate.thumbprint(), Arc::clone(&key));
            self.by_place.insert(place, key);
        }
        Ok(())
    }
}

/// The certificates of guardians, oldest first.
fn held_certificates(state: &State) -> Vec<HeldCertificate> {
    let mut records: Vec<_> = state.certificates().collect();
    records.sort_by_key(|record| (record.added, record.thumbprint()));
    records.into_iter().filter_map(held_certificate).collect()
}

fn held_certificate(record: &CertificateRecord) -> Option<HeldCertificate> {
    Some(HeldCertificate {
        certificate: record.certificate.clone(),
        kind: match record.kind {
            CertificateKind::Signing => HeldKind::Signing,
            CertificateKind::Encryption => HeldKind::Encryption(KeyEncryption::default()),
            CertificateKind::Communications => return None,
        },
        lineage: match &record.lineage {
            Lineage::Fabric => HeldLineage::Fabric,
            Lineage::Tenant(label) => HeldLineage::Tenant(label.as_str().into()),
        },
        enabled: record.enabled,
        head: record.head,
        compromised: record.compromised,
    })
}
