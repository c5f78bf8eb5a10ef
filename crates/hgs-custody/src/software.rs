//! RSA keys in this process's memory.

use hgs_crypto::rsa::{self, OaepHash, PrivateKeyError, PublicKey, SignatureScheme};
use hgs_crypto::{CryptoError, Random, SecretBytes, base64};

use crate::seal::{Sealer, Unsealable};
use crate::{Capabilities, KeyError, PrivateKey};

/// An RSA private key held in memory. `Debug` shows its public half only.
#[derive(Debug)]
pub struct SoftwareKey(rsa::PrivateKey);

impl SoftwareKey {
    /// Generates a key of 2048, 3072, 4096 or 8192 bits. Takes from a tenth of a second to many
    /// seconds.
    ///
    /// # Errors
    /// For any other size, or when generation fails.
    pub fn generate(bits: usize) -> Result<Self, PrivateKeyError> {
        rsa::PrivateKey::generate(bits).map(Self)
    }

    /// Reads the DER of an unencrypted PKCS#8 `PrivateKeyInfo` (RFC 5208 section 5).
    ///
    /// # Errors
    /// When it is not an acceptable RSA key; see [`PrivateKeyError`].
    pub fn from_pkcs8_der(der: &SecretBytes) -> Result<Self, PrivateKeyError> {
        rsa::PrivateKey::from_pkcs8_der(der).map(Self)
    }

    /// The PKCS#8 octets, for sealing at rest and for export to the key's owner.
    #[must_use]
    pub fn pkcs8_der(&self) -> &SecretBytes {
        self.0.pkcs8_der()
    }

    /// The key as it stands in a backup that is encrypted as a whole: the Base64 of its PKCS#8.
    #[must_use]
    pub fn to_backup_text(&self) -> SecretBytes {
        SecretBytes::new(base64::encode(self.pkcs8_der().expose()).into_bytes())
    }

    /// Reads what [`Self::to_backup_text`] wrote.
    ///
    /// # Errors
    /// When it is not the Base64 of an acceptable key.
    pub fn from_backup_text(text: &str) -> Result<Self, PrivateKeyError> {
        let octets = base64::decode(text).map_err(|_| PrivateKeyError::Malformed)?;
        Self::from_pkcs8_der(&SecretBytes::new(octets))
    }

    /// Seals the key for the store under `name` and `generation`.
    ///
    /// # Errors
    /// When the source of randomness fails.
    pub fn seal(
        &self,
        sealer: &Sealer,
        name: &str,
        generation: u64,
        random: &mut dyn Random,
    ) -> Result<Vec<u8>, CryptoError> {
        sealer.seal(name, generation, self.pkcs8_der(), random)
    }

    /// Opens what [`Self::seal`] made.
    ///
    /// # Errors
    /// When it was sealed elsewhere, or is not an acceptable key.
    pub fn unseal(
        sealer: &Sealer,
        name: &str,
        generation: u64,
        sealed: &[u8],
    ) -> Result<Self, UnsealError> {
        let octets = sealer.open(name, generation, sealed)?;
        Ok(Self::from_pkcs8_der(&octets)?)
    }
}

/// Why a sealed key can't be had back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// Another master key, name or generation, or changed octets.
    #[error(transparent)]
    Sealed(#[from] Unsealable),
    /// What was sealed is not an acceptable key.
    #[error(transparent)]
    Key(#[from] PrivateKeyError),
}

impl PrivateKey for SoftwareKey {
    fn public(&self) -> &PublicKey {
        self.0.public()
    }

    fn decrypt(&self, hash: OaepHash, ciphertext: &[u8]) -> Result<SecretBytes, KeyError> {
        self.0
            .decrypt_oaep(hash, ciphertext)
            .map_err(|_| KeyError::Refused)
    }

    fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.0
            .sign(scheme, message)
            .map_err(|error| KeyError::Unavailable {
                reason: format!("software key: {error}"),
            })
    }

    fn capabilities(&self) -> Result<Capabilities, KeyError> {
        Ok(Capabilities {
            oaep_sha256: true,
            oaep_sha1: true,
            pkcs1_sha256: true,
            pss_sha256: true,
        })
    }

    fn is_blocking(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use hgs_crypto::random::System;

    use super::*;
    use crate::seal::MasterKey;

    #[test]
    fn works_as_a_place_behind_the_trait() {
        let key: Box<dyn PrivateKey> = Box::new(SoftwareKey::generate(2048).unwrap());
        let secret = SecretBytes::new(vec![7; 32]);
        let ciphertext = key
            .public()
            .encrypt_oaep(OaepHash::Sha256, &secret)
            .unwrap();
        assert_eq!(key.decrypt(OaepHash::Sha256, &ciphertext), Ok(secret));
        assert_eq!(
            key.decrypt(OaepHash::Sha1, &ciphertext),
            Err(KeyError::Refused)
        );
        let signature = key.sign(SignatureScheme::PssSha256, b"message").unwrap();
        let verified = key
            .public()
            .verify(SignatureScheme::PssSha256, b"message", &signature);
        assert!(verified.is_ok());
    }

    #[test]
    fn sealed_and_back() {
        let mut random = System::new();
        let sealer = MasterKey::generate(&mut random).unwrap().sealer("key");
        let key = SoftwareKey::generate(2048).unwrap();
        let sealed = key.seal(&sealer, "name", 7, &mut random).unwrap();
        let back = SoftwareKey::unseal(&sealer, "name", 7, &sealed).unwrap();
        assert_eq!(back.public(), key.public());
        let text = key.to_backup_text();
        let text = std::str::from_utf8(text.expose()).unwrap();
        let back = SoftwareKey::from_backup_text(text).unwrap();
        assert_eq!(back.public(), key.public());
        assert!(SoftwareKey::from_backup_text(&text[4..]).is_err());
        assert!(SoftwareKey::from_backup_text("-").is_err());
        let error = SoftwareKey::unseal(&sealer, "other", 7, &sealed).unwrap_err();
        assert_eq!(error, UnsealError::Sealed(Unsealable));
    }

    /// attacks.md K9: no private number in what gets logged.
    #[test]
    fn k9_debug_shows_the_public_half_only() {
        let key = SoftwareKey::generate(2048).unwrap();
        let shown = format!("{key:?}");
        let public = format!("{:?}", key.public());
        assert_eq!(shown, format!("SoftwareKey(PrivateKey(of {public}))"));
    }
}
