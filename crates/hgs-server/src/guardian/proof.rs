//! Whether a private key does what its certificate is for: not asked, but tried.

use hgs_crypto::random::System;
use hgs_crypto::rsa::{OaepHash, SignatureScheme};
use hgs_crypto::{CryptoError, SecretBytes};
use hgs_custody::{KeyError, PrivateKey};
use hgs_custody_pkcs11::Usage;
use hgs_pki::{Certificate, Thumbprint};

/// A private key does not do what its certificate is for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyProofError {
    /// The key is that of another certificate.
    #[error("the private key does not belong to certificate {0}")]
    OtherKey(Thumbprint),
    /// The key could not be used.
    #[error("the private key of certificate {certificate} can't be used")]
    Key {
        /// Whose.
        certificate: Thumbprint,
        /// Why.
        #[source]
        error: KeyError,
    },
    /// The place where the key lives gives wrong results.
    #[error("the private key of certificate {0} gives wrong results")]
    WrongResult(Thumbprint),
    /// There is no randomness for the challenge.
    #[error("the source of randomness failed")]
    Randomness,
}

/// Has `key` sign or decrypt something new, as `usage` says, and checks that with `certificate`. Gives [`oaep_hash`].
pub(crate) fn prove(
    key: &dyn PrivateKey,
    certificate: &Certificate,
    usage: Usage,
) -> Result<OaepHash, KeyProofError> {
    let thumbprint = certificate.thumbprint();
    if key.public() != certificate.public_key() {
        return Err(KeyProofError::OtherKey(thumbprint));
    }
    let failed = |error| KeyProofError::Key {
        certificate: thumbprint,
        error,
    };
    let hash = oaep_hash(key).map_err(failed)?;
    match works(key, certificate, usage) {
        Ok(true) => Ok(hash),
        Ok(false) | Err(KeyTestError::Encryption(_)) => Err(KeyProofError::WrongResult(thumbprint)),
        // The ciphertext was made for this key.
        Err(KeyTestError::Key(KeyError::Refused)) if usage == Usage::Decrypt => {
            Err(KeyProofError::WrongResult(thumbprint))
        }
        Err(KeyTestError::Key(error)) => Err(failed(error)),
        Err(KeyTestError::Randomness(_)) => Err(KeyProofError::Randomness),
    }
}

/// Why a private key could not be tested.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyTestError {
    /// The key did nothing.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There is no randomness for the challenge.
    #[error(transparent)]
    Randomness(CryptoError),
    /// Nothing could be encrypted to the certificate.
    #[error(transparent)]
    Encryption(CryptoError),
}

/// Whether `key` signs or decrypts something new so that `certificate` agrees.
pub(crate) fn works(
    key: &dyn PrivateKey,
    certificate: &Certificate,
    usage: Usage,
) -> Result<bool, KeyTestError> {
    // As many octets as a transport key has.
    let challenge =
        SecretBytes::random(32, &mut System::new()).map_err(KeyTestError::Randomness)?;
    let public = certificate.public_key();
    match usage {
        Usage::Sign => {
            let scheme = SignatureScheme::Pkcs1Sha256;
            let signature = key.sign(scheme, challenge.expose())?;
            let verified = public.verify(scheme, challenge.expose(), &signature);
            Ok(verified.is_ok())
        }
        Usage::Decrypt => {
            let hash = oaep_hash(key)?;
            let ciphertext = public
                .encrypt_oaep(hash, &challenge)
                .map_err(KeyTestError::Encryption)?;
            Ok(key.decrypt(hash, &ciphertext)? == challenge)
        }
    }
}

/// The hash of OAEP with which owners should wrap for `key`: SHA-256, unless the place where it lives can do SHA-1 only.
///
/// # Errors
/// When that place has to be asked and is away.
pub(crate) fn oaep_hash(key: &dyn PrivateKey) -> Result<OaepHash, KeyError> {
    let can = key.capabilities()?;
    Ok(match can.oaep_sha1 && !can.oaep_sha256 {
        true => OaepHash::Sha1,
        false => OaepHash::Sha256,
    })
}

#[cfg(test)]
mod tests {
    use hgs_pki::{Time, Validity, profile};

    use super::super::KeySize;
    use super::*;
    use hgs_custody::self_signed;

    #[test]
    fn a_key_is_tried_for_what_its_certificate_is_for() {
        let validity = Validity {
            not_before: Time::from_unix(0),
            not_after: Time::MAX,
        };
        let certified = || {
            let template = profile::guardian_signing("proof", validity);
            self_signed(template, KeySize::Rsa2048.bits()).unwrap()
        };
        let ((ours, key), (other, _)) = (certified(), certified());
        for usage in [Usage::Sign, Usage::Decrypt] {
            assert_eq!(prove(&key, &ours, usage), Ok(OaepHash::Sha256));
            let refused = KeyProofError::OtherKey(other.thumbprint());
            assert_eq!(prove(&key, &other, usage), Err(refused));
        }
    }
}
