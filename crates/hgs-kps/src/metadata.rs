//! GetMetaData ([MS-KPS] 3.1.5.1.2; section 9 of the protocol profile): which certificates go in.

use std::sync::{Arc, OnceLock};

use hgs_pki::{Certificate, KeyWork};
use hgs_protector::metadata;

use crate::{KeyRing, Lineage, Reason, Refusal};

/// The metadata of one generation of the key ring, written and signed once.
#[derive(Debug)]
pub struct MetadataService {
    ring: Arc<KeyRing>,
    communications: Certificate,
    document: OnceLock<Arc<[u8]>>,
}

impl MetadataService {
    /// The metadata of `ring`, to be signed by the key of the communications certificate.
    #[must_use]
    pub fn new(ring: Arc<KeyRing>, communications: Certificate) -> Self {
        Self {
            ring,
            communications,
            document: OnceLock::new(),
        }
    }

    /// The document: at once if it was made before, otherwise after three signatures.
    ///
    /// # Errors
    /// When the fabric has no primary encryption or signing certificate, or a key can't sign.
    pub fn document(&self, keys: &mut dyn KeyWork) -> Result<Arc<[u8]>, Refusal> {
        if let Some(document) = self.document.get() {
            return Ok(Arc::clone(document));
        }
        let guardian = self.ring.primary()?.certified(keys)?;
        let signer = &self.communications;
        let others = self.ring.other_signing_certificates();
        let others = metadata::newest_that_fit(guardian, others, signer);
        let document = metadata::write(guardian, others, signer, keys)?;
        Ok(Arc::clone(self.document.get_or_init(|| document.into())))
    }
}

impl KeyRing {
    /// The primary pair, or which half of it is missing.
    fn primary(&self) -> Result<&crate::key_ring::Head, Reason> {
        self.head(&Lineage::Fabric).ok_or_else(|| {
            if self.has_primary_encryption() {
                Reason::NoPrimarySigningCertificate
            } else {
                Reason::NoPrimaryEncryptionCertificate
            }
        })
    }
}
