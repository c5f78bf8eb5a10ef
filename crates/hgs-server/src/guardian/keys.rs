//! The keys of one generation of the state: parsed once, shared by all requests until a certificate, a signer or a
//! setting changes.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use hgs_custody::{HeldKeys, KeyError, KeyReference, PrivateKey};
use hgs_custody_pkcs11::Tokens;
use hgs_kps::{CertificateKind, HeldCertificate, KeyRing, KeyRingError, MetadataService};
use hgs_pki::{Certificate, Thumbprint};
use hgs_store::{CertificateRecord, Digest, State, StoreError};
use metrics::Gauge;
use tracing::error;

use super::open_store::OpenStore;
use crate::config::{Config, Pkcs11};

/// Private keys by the thumbprints of their certificates.
#[derive(Debug, Default)]
pub(crate) struct KeyTable {
    by_certificate: HeldKeys,
    /// By the public half, and where the private half is.
    by_place: BTreeMap<(Digest, String), Arc<dyn PrivateKey>>,
}

/// Where private keys are.
pub(crate) struct Places {
    pub(crate) store: Arc<OpenStore>,
    pub(crate) tokens: Tokens,
    /// Where this machine has some under other names than the state says.
    pub(crate) settings: Pkcs11,
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

/// Gives the newest state with its keys.
pub(crate) struct Snapshots {
    places: Places,
    newest: RwLock<Snapshot>,
    generation: Gauge,
}

impl Snapshots {
    /// `generation` tells monitoring the generation of the newest snapshot.
    pub(crate) fn new(places: Places, generation: Gauge) -> Result<Self, HoldingsError> {
        let state = places.store.state();
        let holdings = Arc::new(Holdings::of(&places, &state, &KeyTable::default())?);
        generation.set(state.generation() as f64);
        Ok(Self {
            places,
            newest: RwLock::new(Snapshot { state, holdings }),
            generation,
        })
    }

    /// The newest state, with its holdings. Opens keys that are new, so it belongs on a worker.
    pub(crate) fn current(&self) -> Result<Snapshot, HoldingsError> {
        let state = self.places.store.state();
        let last = self
            .newest
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if Arc::ptr_eq(&state, &last.state) {
            return Ok(last);
        }
        let holdings =
            if state.has_same_keys_as(&last.state) {
                last.holdings
            } else {
                let holdings = Holdings::of(&self.places, &state, &last.holdings.keys);
                Arc::new(holdings.inspect_err(
                    |failure| error!(%failure, "the keys of the state can't be used"),
                )?)
            };
        self.generation.set(state.generation() as f64);
        let snapshot = Snapshot { state, holdings };
        let mut newest = self.newest.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have come with a later state; what is kept must not go back.
        if newest.state.generation() <= snapshot.state.generation() {
            *newest = snapshot.clone();
        }
        Ok(snapshot)
    }
}

impl Snapshot {
    /// That of a guardian that does not run, and the tokens in which its keys are.
    pub(crate) fn of_stopped(
        store: &Arc<OpenStore>,
        config: &Config,
    ) -> Result<(Self, Tokens), HoldingsError> {
        let tokens = Tokens::new(config.pkcs11.settings());
        let places = Places {
            store: Arc::clone(store),
            tokens: tokens.clone(),
            settings: config.pkcs11.clone(),
        };
        let snapshot = Snapshots::new(places, Gauge::noop())?.current()?;
        Ok((snapshot, tokens))
    }
}

impl Holdings {
    /// The holdings of `state`. Keys that are `known` are not opened again.
    fn of(places: &Places, state: &State, known: &KeyTable) -> Result<Self, HoldingsError> {
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
    /// Whether the private key of a certificate can be used here. A token is asked if it was not asked before.
    pub(crate) fn has_key_of(&self, record: &CertificateRecord) -> bool {
        let key = self.keys.find(&record.thumbprint());
        key.is_ok_and(|key| key.capabilities().is_ok())
    }
}

impl KeyTable {
    /// The key of a certificate.
    pub(crate) fn find(&self, certificate: &Thumbprint) -> Result<&dyn PrivateKey, KeyError> {
        self.by_certificate.find(certificate)
    }

    /// All keys, by their certificates.
    pub(crate) fn held(&self) -> &HeldKeys {
        &self.by_certificate
    }

    /// Adds the key of `certificate`, unless it is sealed and gone: whoever needs it then finds it away. A token is not
    /// asked before its key is needed, so one that is away keeps nobody from starting.
    fn hold(
        &mut self,
        places: &Places,
        known: &Self,
        certificate: &Certificate,
        reference: &KeyReference,
    ) -> Result<(), StoreError> {
        let public_key = Digest::from_bytes(*certificate.public_key().digest());
        let reference = &places.settings.place(&certificate.thumbprint(), reference);
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
            self.by_certificate.hold(certificate, Arc::clone(&key));
            self.by_place.insert(place, key);
        }
        Ok(())
    }
}

/// The certificates of guardians, oldest first.
fn held_certificates(state: &State) -> Vec<HeldCertificate> {
    let mut records: Vec<_> = state.certificates().collect();
    records.sort_by_key(|record| (record.added, record.thumbprint()));
    records.into_iter().map(CertificateRecord::held).collect()
}

#[cfg(test)]
mod tests {
    use hgs_crypto::random::System;
    use hgs_custody::seal::MasterKey;
    use hgs_kps::Lineage;
    use hgs_pki::{Time, profile};
    use hgs_store::{Act, Opening, Settings, Store, Transaction};
    use hgs_testkit::fixtures::{now, private_key, self_signed, ten_years};
    use proptest::prelude::*;

    use super::*;

    /// What an administrator may ask for; the number is that of a certificate.
    #[derive(Debug, Clone)]
    enum Request {
        Add(usize, bool),
        Enable(usize, bool),
        Head(usize, bool),
        Compromise(usize),
        Retire(usize),
        Remove(usize),
    }

    fn request() -> impl Strategy<Value = Request> {
        let number = 0..CERTIFICATES;
        let flagged = (number.clone(), any::<bool>());
        prop_oneof![
            2 => flagged.clone().prop_map(|(one, head)| Request::Add(one, head)),
            2 => flagged.clone().prop_map(|(one, enabled)| Request::Enable(one, enabled)),
            3 => flagged.prop_map(|(one, primary)| Request::Head(one, primary)),
            2 => number.clone().prop_map(Request::Compromise),
            1 => number.clone().prop_map(Request::Retire),
            2 => number.prop_map(Request::Remove),
        ]
    }

    /// Of two lineages and two kinds each three, of which the last is over the key of the first.
    const CERTIFICATES: usize = 12;

    /// The first of each three is the head.
    fn record(number: usize) -> CertificateRecord {
        let (family, member) = (number / 3, number % 3);
        let kind = [CertificateKind::Signing, CertificateKind::Encryption][family % 2];
        let key = private_key(2 * family + member % 2);
        let name = format!("{family}-{member}");
        let template = match kind {
            CertificateKind::Signing => profile::guardian_signing(&name, ten_years()),
            _ => profile::guardian_encryption(&name, ten_years()),
        };
        CertificateRecord {
            kind,
            certificate: self_signed(template, &key),
            // Whose octets are not needed.
            key: format!("pkcs11:object={name}").parse().unwrap(),
            lineage: ["fabric", "tenant:Contoso"][family / 2].parse().unwrap(),
            enabled: true,
            head: member == 0,
            compromised: None,
            retired: None,
            label: None,
            sha1_only: false,
            added: now(),
        }
    }

    fn transaction(request: &Request) -> Transaction {
        let thumbprint = |number: usize| record(number).thumbprint();
        match *request {
            Request::Add(number, head) => Transaction::AddCertificate {
                record: CertificateRecord {
                    head,
                    ..record(number)
                },
                key: None,
            },
            Request::Enable(number, enabled) => Transaction::SetCertificateEnabled {
                thumbprint: thumbprint(number),
                enabled,
            },
            Request::Head(number, primary) => Transaction::SetHead {
                thumbprint: thumbprint(number),
                primary,
            },
            Request::Compromise(number) => Transaction::SetCompromised {
                thumbprint: thumbprint(number),
                since: now(),
            },
            Request::Retire(number) => Transaction::RetireCertificate {
                thumbprint: thumbprint(number),
            },
            Request::Remove(number) => Transaction::RemoveCertificate {
                thumbprint: thumbprint(number),
                even_if_needed: true,
            },
        }
    }

    fn act() -> Act {
        Act::new(Time::from_unix(now().unix() + 1), "test")
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        /// Whatever administrators ask for, what is left makes a key ring, and tenants have nothing that is primary.
        #[test]
        fn invariant_certificates_always_make_a_key_ring(requests in prop::collection::vec(request(), 1..40)) {
            let folder = tempfile::tempdir().unwrap();
            let master_key = MasterKey::generate(&mut System::new()).unwrap();
            let opening = Opening {
                directory: &folder.path().join("state"),
                master_key: &master_key,
                node: "test",
                high_water_mark: folder.path().join("high-water-mark"),
                random: Box::new(System::new()), order: None };
            let first_transactions = (0..CERTIFICATES).map(|number| Transaction::AddCertificate {
                record: record(number),
                key: None,
            });
            let settings = Settings::new("test".parse().unwrap());
            let store = Store::create(opening, settings, first_transactions.collect(), act()).unwrap();
            for request in &requests {
                // Refused or not.
                let _ = store.transact(vec![transaction(request)], act());
                let state = store.state();
                let ring = KeyRing::new(held_certificates(&state));
                prop_assert!(ring.is_ok(), "{:?} after {request:?}", ring.err());
                let fabric = ring.unwrap().head(&Lineage::Fabric).is_some();
                prop_assert!(fabric, "the fabric has a primary pair after {request:?}");
                let mut primary = state.certificates().filter(|record| record.is_primary());
                prop_assert!(primary.all(|record| record.lineage == Lineage::Fabric));
            }
        }
    }
}
