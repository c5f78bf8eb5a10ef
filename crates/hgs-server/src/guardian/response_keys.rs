//! The keys that sign responses (section 10 of the protocol profile): one for each signing certificate that needs one, in
//! memory only, for a day.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hgs_crypto::random::System;
use hgs_kps::signed_response::{ResponseSigner, ResponseSignerError};
use hgs_pki::{Certificate, Thumbprint, Time};

use super::key_work::SnapshotKeys;
use super::keys::KeyTable;
use super::workers::ProcessorPermit;

/// Response keys by the thumbprints of the signing certificates that have delegated them.
#[derive(Debug, Default)]
pub(crate) struct ResponseKeys {
    made: RwLock<HashMap<Thumbprint, Arc<ResponseSigner>>>,
    /// Held while one is made, so that a token is not asked twice.
    making: Mutex<()>,
}

impl ResponseKeys {
    /// The response key that `guardian` has delegated for today; makes one if there is none.
    pub(crate) fn signer(
        &self,
        guardian: &Certificate,
        now: Time,
        keys: &KeyTable,
        processor: &mut ProcessorPermit,
    ) -> Result<Arc<ResponseSigner>, ResponseSignerError> {
        let thumbprint = guardian.thumbprint();
        if let Some(signer) = self.current(&thumbprint, now) {
            return Ok(signer);
        }
        // Another thread may be making it and wait for a processor: this one must not keep its own while it waits for the lock.
        let _making = processor
            .without_processor(|| self.making.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(signer) = self.current(&thumbprint, now) {
            return Ok(signer);
        }
        let keys = &mut SnapshotKeys { keys, processor };
        let signer = ResponseSigner::delegated_by(guardian, now, keys, &mut System::new())?;
        let signer = Arc::new(signer);
        let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
        made.retain(|_, signer| signer.is_current(now));
        made.insert(thumbprint, Arc::clone(&signer));
        Ok(signer)
    }

    fn current(&self, guardian: &Thumbprint, now: Time) -> Option<Arc<ResponseSigner>> {
        let made = self.made.read().unwrap_or_else(PoisonError::into_inner);
        made.get(guardian)
            .filter(|signer| signer.is_current(now))
            .cloned()
    }
}
