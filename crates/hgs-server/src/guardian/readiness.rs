//! Whether the guardian can do its work: what `/health/ready` asks.

use std::sync::{Arc, Weak};

use hgs_custody::KeyReference;
use hgs_custody_pkcs11::TokenError;
use hgs_kps::Lineage;
use hgs_pki::Thumbprint;
use hgs_store::State;
use hgs_trace::guardian::DiskSpace;

use super::inspection::Inspection;
use super::keys::Snapshot;
use super::signers::Signers;
use crate::health::Readiness;

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

    /// The thumbprints of the certificates whose keys this node can use now.
    pub(crate) fn usable_keys(&self) -> Vec<String> {
        let Ok(Snapshot { state, holdings }) = self.snapshots.current() else {
            return Vec::new();
        };
        let usable = state.certificates().filter(|record| {
            holdings.has_key_of(record)
                && self.unavailability(&state, &record.thumbprint()).is_none()
        });
        usable
            .map(|record| record.thumbprint().to_string())
            .collect()
    }

    /// Why the key of a certificate takes no work, if all tokens that hold it are unavailable.
    fn unavailability(&self, state: &State, certificate: &Thumbprint) -> Option<TokenError> {
        let Some(KeyReference::Pkcs11(uris)) =
            state.certificate(certificate).map(|record| &record.key)
        else {
            return None;
        };
        let reasons: Option<Vec<TokenError>> = uris
            .iter()
            .map(|uri| self.tokens.unavailability(uri))
            .collect();
        reasons?.into_iter().next()
    }
}
