//! Whether the guardian can do its work: what `/health/ready` asks.

use std::sync::{Arc, Weak};

use hgs_kps::Lineage;

use super::overview::LEAST_ROOM;
use super::signers::Signers;
use super::{Guardian, Snapshot};
use crate::Readiness;

impl Guardian {
    /// Asks the store to commit, and looks for the keys without which nothing is issued or released.
    pub(crate) fn readiness(self: &Arc<Self>) -> Readiness {
        // Monitoring must not keep a guardian open that was shut down.
        let guardian = Arc::downgrade(self);
        Readiness::new(move || {
            let guardian = Weak::upgrade(&guardian);
            guardian.map_or_else(
                || Err("shutting down".to_owned()),
                |guardian| guardian.ready(),
            )
        })
    }

    fn ready(&self) -> Result<(), String> {
        self.store.check().map_err(|failure| failure.to_string())?;
        if let Some(free) = self.free_octets().filter(|free| *free < LEAST_ROOM) {
            return Err(format!(
                "the disk of the state folder is full: {free} octets are free"
            ));
        }
        let Snapshot { state, holdings } =
            self.snapshot().map_err(|failure| failure.to_string())?;
        let head = holdings.ring.head(&Lineage::Fabric);
        let head = head.ok_or("there is no primary pair of certificates")?;
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
        }
        Ok(())
    }
}
