//! Software private keys. Only `hgs-custody` holds them; everyone else names a place where work
//! is done.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeySize, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair};

use super::public::oaep;
use super::{OaepHash, PublicKey, PublicKeyError, SignatureScheme};
use crate::{CryptoError, SecretBytes};

/// An RSA private key held in this process's memory.
pub struct PrivateKey {
    decrypting: OaepPrivateDecryptingKey,
    signing: RsaKeyPair,
    public: PublicKey,
    // The library gives no way back from a prepared key to its octets.
    pkcs8: SecretBytes,
}

/// Why octets are not an acceptable private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrivateKeyError {
    /// Not an unencrypted PKCS#8 `PrivateKeyInfo` with an RSA key of at least 2048 bits.
    #[error("not an RSA private key in PKCS#8 of at least 2048 bits")]
    Malformed,
    /// The public half is not acceptable.
    #[error(transparent)]
    Public(#[from] PublicKeyError),
    /// The size asked for is not one of 2048, 3072, 4096 or 8192 bits.
    #[error("RSA keys are generated with 2048, 3072, 4096 or 8192 bits")]
    Size,
    /// The library could not generate a key.
    #[error(transparent)]
    Generation(#[from] CryptoError),
}

impl PrivateKey {
    /// Generates a key of 2048, 3072, 4096 or 8192 bits. Takes from a tenth of a second to many
    /// seconds.
    ///
    /// # Errors
    /// For any other size, or when generation fails.
    pub fn generate(bits: usize) -> Result<Self, PrivateKeyError> {
        let size = match bits {
            2048 => KeySize::Rsa2048,
            3072 => KeySize::Rsa3072,
            4096 => KeySize::Rsa4096,
            8192 => KeySize::Rsa8192,
            _ => return Err(PrivateKeyError::Size),
        };
        let key = PrivateDecryptingKey::generate(size).map_err(|_| CryptoError)?;
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&key).map_err(|_| CryptoError)?;
        Self::from_pkcs8_der(&SecretBytes::from(der.as_ref()))
    }

    /// Reads the DER of an unencrypted PKCS#8 `PrivateKeyInfo`.
    pub fn from_pkcs8_der(der: &SecretBytes) -> Result<Self, PrivateKeyError> {
        let malformed = |_| PrivateKeyError::Malformed;
        let signing = RsaKeyPair::from_pkcs8(der.expose()).map_err(malformed)?;
        let decrypting = PrivateDecryptingKey::from_pkcs8(der.expose()).map_err(malformed)?;
        let spki = AsDer::<PublicKeyX509Der<'_>>::as_der(signing.public_key())
            .map_err(|_| PrivateKeyError::Malformed)?;
        Ok(Self {
            public: PublicKey::from_spki_der(spki.as_ref())?,
            decrypting: OaepPrivateDecryptingKey::new(decrypting)
                .map_err(|_| PrivateKeyError::Malformed)?,
            signing,
            pkcs8: der.clone(),
        })
    }

    /// The PKCS#8 octets, for sealing at rest and for export to the key's owner.
    #[must_use]
    pub fn pkcs8_der(&self) -> &SecretBytes {
        &self.pkcs8
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs `message`.
    ///
    /// # Errors
    /// When the library fails.
    pub fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let mut signature = vec![0; self.public.modulus_octets()];
        let padding = match scheme {
            SignatureScheme::Pkcs1Sha256 => &RSA_PKCS1_SHA256,
            SignatureScheme::PssSha256 => &RSA_PSS_SHA256,
        };
        self.signing
            .sign(padding, &SystemRandom::new(), message, &mut signature)
            .map_err(|_| CryptoError)?;
        Ok(signature)
    }

    /// Decrypts RSA-OAEP with an empty label, in constant time; one error for every failure.
    ///
    /// # Errors
    /// When the ciphertext was not made for this key with this hash.
    pub fn decrypt_oaep(
        &self,
        hash: OaepHash,
        ciphertext: &[u8],
    ) -> Result<SecretBytes, CryptoError> {
        let mut plaintext = zeroize::Zeroizing::new(vec![0; self.decrypting.min_output_size()]);
        let length = self
            .decrypting
            .decrypt(oaep(hash), ciphertext, &mut plaintext, None)
            .map_err(|_| CryptoError)?
            .len();
        Ok(SecretBytes::from(&plaintext[..length]))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PrivateKey(of {:?})", self.public)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_and_decrypts_for_its_public_half() {
        let key = PrivateKey::generate(2048).unwrap();
        for scheme in [SignatureScheme::Pkcs1Sha256, SignatureScheme::PssSha256] {
            let signature = key.sign(scheme, b"message").unwrap();
            assert!(key.public().verify(scheme, b"message", &signature).is_ok());
            assert!(key.public().verify(scheme, b"massage", &signature).is_err());
            let digest = crate::hash::sha256(b"message");
            assert!(
                key.public()
                    .verify_digest(scheme, &digest, &signature)
                    .is_ok()
            );
            let other = crate::hash::sha256(b"massage");
            assert!(
                key.public()
                    .verify_digest(scheme, &other, &signature)
                    .is_err()
            );
        }
        let secret = SecretBytes::new(vec![5; 32]);
        for hash in [OaepHash::Sha1, OaepHash::Sha256] {
            let ciphertext = key.public().encrypt_oaep(hash, &secret).unwrap();
            assert_eq!(key.decrypt_oaep(hash, &ciphertext), Ok(secret.clone()));
        }
    }

    #[test]
    fn debug_shows_the_public_half_only() {
        let key = PrivateKey::generate(2048).unwrap();
        let shown = format!("{key:?}");
        assert!(
            shown.starts_with("PrivateKey(of PublicKey(RSA-2048, "),
            "{shown}"
        );
        assert!(shown.len() < 120, "{shown}");
    }

    #[test]
    fn other_sizes_and_garbage_are_refused() {
        assert_eq!(
            PrivateKey::generate(1024).unwrap_err(),
            PrivateKeyError::Size
        );
        let garbage = SecretBytes::from(b"not a key".as_slice());
        let error = PrivateKey::from_pkcs8_der(&garbage).unwrap_err();
        assert_eq!(error, PrivateKeyError::Malformed);
    }
}
