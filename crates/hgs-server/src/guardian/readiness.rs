//! Whether the guardian can do its work: what `/health/ready` asks.

use std::sync::{Arc, Weak};

use hgs_custody::KeyReference;
use hgs_custody_pkcs11::TokenError;
use hgs_kps::Lineage;
use hgs_pki::Thumbprint;
use hgs_store::State;
use hgs_trace::guardian::DiskSpace;

use super::certification::usage;
use super::inspection::Inspection;
use super::keys::Snapshot;
use super::proof::works;
use super::signers::Signers;
use crate::health::Readiness;

/// Which private keys of enabled certificates work here.
#[derive(Debug, Clone, Default)]
pub(crate) struct TriedKeys {
    /// Thumbprints of the certificates.
    pub(crate) usable: Vec<String>,
    /// Those whose keys do not, and why.
    pub(crate) unusable: Vec<(Thumbprint, String)>,
}

impl Inspection {
    /// Asks the store to commit, and looks for the keys without which nothing is issued or released.
    pub(crate) fn readiness(self: &Arc<Self>) -> Readiness {
        // Monitoring must not keep a guardian open that was shut down.
        let inspection = Arc::downgrade(self);
        Readiness::new(move || match Weak::upgrade(&inspection) {
            Some(inspection) => inspection.ready(),
            None => Err("shutting down".to_owned()),
        })
    }

    fn ready(&self) -> Result<(), String> {
        self.store.check().map_err(|failure| failure.to_string())?;
        if let Some(disk) = self.disk().filter(|disk| disk.space() == DiskSpace::Full) {
            return Err(format!("the disk of the state folder is full: {disk}"));
        }
        let Snapshot { state, holdings } = self
            .snapshots
            .current()
            .map_err(|failure| failure.to_string())?;
        let head = holdings
            .ring
            .head(&Lineage::Fabric)
            .ok_or("there is no primary pair of certificates")?;
        let signers = Signers::at(&state, self.clock.now());
        let signer = signers
            .active()
            .ok_or("no attestation signer can sign now")?;
        for certificate in [
            head.signing_certificate(),
            head.encryption_certificate(),
            signer,
        ] {
            let key = holdings.keys.find(&certificate.thumbprint());
            key.map_err(|error| format!("{}: {error}", certificate.thumbprint()))?;
            if let Some(reason) = self.unavailability(&state, &certificate.thumbprint()) {
                return Err(format!("{}: {reason}", certificate.thumbprint()));
            }
        }
        Ok(())
    }

    /// Has the private key of every enabled certificate work, as its certificate says. It blocks.
    pub(crate) fn try_keys(&self) -> TriedKeys {
        let snapshot = self.snapshots.current();
        snapshot.map_or_else(|_| TriedKeys::default(), |snapshot| snapshot.try_keys())
    }

    /// Why the key of a certificate takes no work, if all tokens that hold it are unavailable.
    fn unavailability(&self, state: &State, certificate: &Thumbprint) -> Option<TokenError> {
        let record = state.certificate(certificate)?;
        let place = self.config.pkcs11.place(certificate, &record.key);
        let KeyReference::Pkcs11(uris) = place else {
            return None;
        };
        let reasons: Option<Vec<TokenError>> = uris
            .iter()
            .map(|uri| self.tokens.unavailability(uri))
            .collect();
        reasons?.into_iter().next()
    }
}

impl Snapshot {
    /// Has the private key of every enabled certificate work, as its certificate says. It blocks.
    pub(crate) fn try_keys(&self) -> TriedKeys {
        let Self { state, holdings } = self;
        let mut tried = TriedKeys::default();
        for record in state.certificates().filter(|record| record.enabled) {
            let thumbprint = record.thumbprint();
            let outcome = match holdings.keys.find(&thumbprint) {
                Ok(key) => match works(key, &record.certificate, usage(record.kind)) {
                    Ok(true) => Ok(()),
                    Ok(false) => Err("it gives wrong results".to_owned()),
                    Err(error) => Err(error.to_string()),
                },
                Err(error) => Err(error.to_string()),
            };
            match outcome {
                Ok(()) => tried.usable.push(thumbprint.to_string()),
                Err(reason) => tried.unusable.push((thumbprint, reason)),
            }
        }
        tried
    }
}
