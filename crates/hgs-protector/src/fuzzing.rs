//! Bodies for fuzzing: they take any octets, and panic only if this crate is wrong.

use hgs_crypto::SecretBytes;
use hgs_pki::{CertificateCache, SignatureCache};

use crate::metadata::Metadata;
use crate::transport_key_blob::TransportKeyBlob;
use crate::{Protector, write};

/// Reads and verifies a protector, and writes a valid one again.
///
/// # Panics
///
/// If what was written is not read again as the same.
pub fn fuzz_protector(data: &[u8]) {
    let certificates = CertificateCache::new(16);
    let signatures = SignatureCache::new(32);
    let Ok(protector) = Protector::read(data, &certificates) else {
        return;
    };
    let rewritten = write::wrappings(protector.unverified().wrappings());
    let Ok(verified) = protector.verify(&signatures) else {
        return;
    };
    assert!(!verified.wrappings().is_empty());
    assert!(verified.wrapping(verified.owner().id()).is_some());
    assert!(verified.wrapping(verified.guardian().id()).is_some());
    // Written again by us, a verified protector says the same, though its signatures cover other octets.
    let around = write::protector(
        &rewritten,
        &[0; 32],
        verified.guardian().id(),
        &crate::Signature::written(Vec::new()),
        verified.max_offline_unwraps(),
    );
    let read_again = Protector::read(&around, &certificates).expect("what we write is read");
    let again = read_again.unverified().wrappings();
    assert_eq!(again.len(), verified.wrappings().len());
    for (one, other) in again.iter().zip(verified.wrappings()) {
        assert_eq!((one.id(), one.parent()), (other.id(), other.parent()));
        assert_eq!(one.transport_key(), other.transport_key());
    }
}

/// Reads and verifies metadata.
pub fn fuzz_metadata(data: &[u8]) {
    let certificates = CertificateCache::new(16);
    let signatures = SignatureCache::new(32);
    if let Ok(metadata) = Metadata::read(data, &certificates, &signatures) {
        // Any answer is right; none may panic.
        let _ = (metadata.signer(), metadata.unverified());
    }
}

/// Reads a transport key blob.
///
/// # Panics
///
/// If what is read has more than one form.
pub fn fuzz_transport_key_blob(data: &[u8]) {
    let octets = SecretBytes::from(data);
    if let Ok(blob) = TransportKeyBlob::from_secret(&octets) {
        assert!(blob.to_secret() == octets, "one blob, one form");
    }
}
