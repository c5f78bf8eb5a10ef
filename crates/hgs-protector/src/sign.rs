//! Signatures that our keys make.

use hgs_crypto::hash::{Sha256Digest, sha256};
use hgs_pki::{Certificate, KeyWork};

use crate::form::Signature;
use crate::{SealError, suite};

/// Has the key of `signer` sign the certificate `subject`, in the form that protectors and metadata have.
///
/// # Errors
/// When the key can't be used, or the signature does not verify.
pub fn endorse(
    subject: &Certificate,
    signer: &Certificate,
    keys: &mut dyn KeyWork,
) -> Result<Signature, SealError> {
    sign(subject.der(), &sha256(subject.der()), signer, keys)
}

/// Has the key of `signer` sign `message`, and verifies the signature: a key store that answers with anything else would
/// cost the virtual machine.
pub(crate) fn sign(
    message: &[u8],
    digest: &Sha256Digest,
    signer: &Certificate,
    keys: &mut dyn KeyWork,
) -> Result<Signature, SealError> {
    let certificate = signer.thumbprint();
    let signature = keys
        .sign(&certificate, suite::WRITTEN_SIGNATURE, message)
        .map_err(|error| SealError::Key { certificate, error })?;
    let signature = Signature::written(signature);
    signer
        .public_key()
        .verify_digest(signature.scheme, digest, &signature.value)
        .map_err(|_| SealError::Signature { certificate })?;
    Ok(signature)
}
