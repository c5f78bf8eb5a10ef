//! Private keys in PEM (RFC 7468), under a passphrase or not. [`Bundle`](crate::Bundle) reads them.
//!
//! Read: PKCS#8 (`PRIVATE KEY`), PKCS#8 under PBES2 or a scheme of PKCS#12 (`ENCRYPTED PRIVATE KEY`), and PKCS#1
//! (`RSA PRIVATE KEY`). Written: PKCS#8, and under a passphrase PBES2 with scrypt and AES-256-CBC,
//! which `openssl pkey` reads.

use hgs_crypto::rsa::PrivateKeyError;
use hgs_crypto::{CryptoError, Random, SecretBytes, random};
use hgs_pki::pem as text;
use pkcs8::der::asn1::{AnyRef, OctetStringRef};
use pkcs8::der::{Decode as _, Encode as _};
use pkcs8::pkcs5::pbes2;
use pkcs8::pkcs5::scrypt;
use pkcs8::{
    AlgorithmIdentifierRef, EncryptedPrivateKeyInfoRef, ObjectIdentifier, PrivateKeyInfoRef,
    SecretDocument,
};
use zeroize::Zeroizing;

use crate::SoftwareKey;
use crate::pkcs12::{self, OpenError};

/// N of the scrypt that is written, as a power of two: more needs more memory than openssl grants.
const SCRYPT_LOG_N: u8 = 14;
/// r of the scrypt that is written.
const SCRYPT_R: u32 = 8;
/// p of the scrypt that is written: with N and r above, the cost OWASP asks of a password hash.
const SCRYPT_P: u32 = 5;

/// rsaEncryption, RFC 8017 appendix A.1.
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// Why an encoded private key can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// The structure of the key is malformed.
    #[error("malformed private key")]
    Malformed,
    /// The encryption of RFC 1421 (`Proc-Type: 4,ENCRYPTED`), whose key derivation is one MD5.
    #[error("encrypted in the outdated PEM way; convert it with `openssl pkcs8 -topk8`")]
    OutdatedEncryption,
    /// A label of another kind of key.
    #[error("{0:?} is not a kind of private key that can be used")]
    Kind(String),
    /// An encryption other than PBES2 and those of PKCS#12.
    #[error("encrypted with an unsupported algorithm; convert it with `openssl pkcs8 -topk8`")]
    UnsupportedEncryption,
    /// Deriving the key from the passphrase would take too long or too much memory.
    #[error("the key derivation asks for more work than is done for a file")]
    TooMuchWork,
    /// The key is encrypted and no passphrase was given.
    #[error("the private key is encrypted and needs a passphrase")]
    PassphraseNeeded,
    /// The passphrase does not open the key.
    #[error("wrong passphrase")]
    WrongPassphrase,
    /// The key itself is not acceptable.
    #[error(transparent)]
    Key(#[from] PrivateKeyError),
}

/// A private key as it stands in a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum EncodedKey {
    /// `PrivateKeyInfo` of RFC 5208.
    Pkcs8(SecretBytes),
    /// `RSAPrivateKey` of RFC 8017.
    Pkcs1(SecretBytes),
    /// `ECPrivateKey` of RFC 5915.
    Sec1(SecretBytes),
    /// `EncryptedPrivateKeyInfo` of RFC 5208.
    Encrypted(SecretBytes),
}

impl EncodedKey {
    pub(crate) fn of_block(block: text::Block) -> Result<Self, PemError> {
        if block.is_encrypted_by_header {
            return Err(PemError::OutdatedEncryption);
        }
        match block.label.as_str() {
            "PRIVATE KEY" => Ok(Self::Pkcs8(block.octets)),
            "RSA PRIVATE KEY" => Ok(Self::Pkcs1(block.octets)),
            "EC PRIVATE KEY" => Ok(Self::Sec1(block.octets)),
            "ENCRYPTED PRIVATE KEY" => Ok(Self::Encrypted(block.octets)),
            other => Err(PemError::Kind(other.to_owned())),
        }
    }

    /// The RSA key, and no other kind.
    pub(crate) fn rsa(&self, passphrase: Option<&SecretBytes>) -> Result<SoftwareKey, PemError> {
        let pkcs8 = match self {
            Self::Pkcs8(octets) => octets.clone(),
            Self::Pkcs1(octets) => pkcs8_of_pkcs1(octets.expose())?,
            Self::Sec1(_) => return Err(PemError::Kind("EC PRIVATE KEY".to_owned())),
            Self::Encrypted(octets) => decrypt(
                octets.expose(),
                passphrase.ok_or(PemError::PassphraseNeeded)?,
            )?,
        };
        Ok(SoftwareKey::from_pkcs8_der(&pkcs8)?)
    }

    /// The key in the clear, of whatever kind.
    pub(crate) fn plain(&self, passphrase: Option<&SecretBytes>) -> Result<PlainKey, PemError> {
        Ok(match self {
            Self::Pkcs8(octets) => PlainKey::Pkcs8(octets.clone()),
            Self::Pkcs1(octets) => PlainKey::Pkcs1(octets.clone()),
            Self::Sec1(octets) => PlainKey::Sec1(octets.clone()),
            Self::Encrypted(octets) => {
                let passphrase = passphrase.ok_or(PemError::PassphraseNeeded)?;
                PlainKey::Pkcs8(decrypt(octets.expose(), passphrase)?)
            }
        })
    }
}

/// A private key in the clear.
#[derive(Debug)]
pub enum PlainKey {
    /// `PrivateKeyInfo`, of any algorithm.
    Pkcs8(SecretBytes),
    /// `RSAPrivateKey`.
    Pkcs1(SecretBytes),
    /// `ECPrivateKey`.
    Sec1(SecretBytes),
}

/// Writes `key` as PKCS#8, encrypted when there is a passphrase. Lines end in LF.
///
/// # Errors
/// When the source of randomness fails.
pub fn write_private_key(
    key: &SoftwareKey,
    passphrase: Option<&SecretBytes>,
    random: &mut dyn Random,
) -> Result<Zeroizing<String>, CryptoError> {
    let pkcs8 = key.pkcs8_der();
    let Some(passphrase) = passphrase else {
        return Ok(Zeroizing::new(text::encode("PRIVATE KEY", pkcs8.expose())));
    };
    let document = encrypt(pkcs8, passphrase, random)?;
    Ok(Zeroizing::new(text::encode(
        "ENCRYPTED PRIVATE KEY",
        document.as_bytes(),
    )))
}

fn pkcs8_of_pkcs1(pkcs1: &[u8]) -> Result<SecretBytes, PemError> {
    let algorithm = AlgorithmIdentifierRef {
        oid: RSA_ENCRYPTION,
        parameters: Some(AnyRef::NULL),
    };
    OctetStringRef::new(pkcs1)
        .and_then(|key| PrivateKeyInfoRef::new(algorithm, key).to_der())
        .map(SecretBytes::new)
        .map_err(|_| PemError::Malformed)
}

fn decrypt(document: &[u8], passphrase: &SecretBytes) -> Result<SecretBytes, PemError> {
    let octets = pkcs12::decrypt_key(document, passphrase)?;
    // Under a wrong passphrase the padding is right by chance, one time in 256.
    match PrivateKeyInfoRef::from_der(octets.expose()) {
        Ok(_) => Ok(octets),
        Err(_) => Err(PemError::WrongPassphrase),
    }
}

impl From<OpenError> for PemError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Malformed => Self::Malformed,
            OpenError::Unsupported(_) => Self::UnsupportedEncryption,
            OpenError::TooMuchWork => Self::TooMuchWork,
            OpenError::WrongPassphrase | OpenError::PassphraseNotUtf8 => Self::WrongPassphrase,
        }
    }
}

fn encrypt(
    pkcs8: &SecretBytes,
    passphrase: &SecretBytes,
    random: &mut dyn Random,
) -> Result<SecretDocument, CryptoError> {
    let salt = random::array::<16>(random)?;
    let iv = random::array::<16>(random)?;
    let cost = scrypt::Params::new(SCRYPT_LOG_N, SCRYPT_R, SCRYPT_P).map_err(|_| CryptoError)?;
    let parameters =
        pbes2::Parameters::generate_scrypt_aes256cbc(cost, &salt, iv).map_err(|_| CryptoError)?;
    let ciphertext = parameters
        .encrypt(passphrase.expose(), pkcs8.expose())
        .map_err(|_| CryptoError)?;
    let encrypted = EncryptedPrivateKeyInfoRef {
        encryption_algorithm: parameters.into(),
        encrypted_data: OctetStringRef::new(&ciphertext).map_err(|_| CryptoError)?,
    };
    encrypted.try_into().map_err(|_| CryptoError)
}

#[cfg(test)]
mod tests {
    use hgs_crypto::random::System;
    use proptest::prelude::*;

    use super::*;
    use crate::{Bundle, BundleError, PrivateKey as _};

    fn passphrase() -> SecretBytes {
        SecretBytes::from(b"correct horse".as_slice())
    }

    fn read(text: &[u8], passphrase: Option<&SecretBytes>) -> Result<SoftwareKey, BundleError> {
        Bundle::read(text, passphrase)?.private_key(passphrase)
    }

    fn key() -> SoftwareKey {
        SoftwareKey::generate(2048).unwrap()
    }

    #[test]
    fn round_trip_with_and_without_passphrase() {
        let key = key();
        for passphrase in [None, Some(&passphrase())] {
            let text = write_private_key(&key, passphrase, &mut System::new()).unwrap();
            let read_back = read(text.as_bytes(), passphrase).unwrap();
            assert_eq!(read_back.public(), key.public());
        }
    }

    #[test]
    fn the_passphrase_decides() {
        let text = write_private_key(&key(), Some(&passphrase()), &mut System::new()).unwrap();
        let error = read(text.as_bytes(), None).unwrap_err();
        assert!(matches!(
            error,
            BundleError::Key(PemError::PassphraseNeeded)
        ));
        let wrong = SecretBytes::from(b"battery staple".as_slice());
        let error = read(text.as_bytes(), Some(&wrong)).unwrap_err();
        assert!(matches!(error, BundleError::Key(PemError::WrongPassphrase)));
    }

    #[test]
    fn which_key_is_meant_must_be_clear() {
        let text = write_private_key(&key(), None, &mut System::new()).unwrap();
        let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let with_certificate = format!("Bag Attributes\n{certificate}{}", *text);
        assert!(read(with_certificate.as_bytes(), None).is_ok());
        let other = write_private_key(&key(), None, &mut System::new()).unwrap();
        let error = read(format!("{}{}", *text, *other).as_bytes(), None).unwrap_err();
        assert!(
            matches!(error, BundleError::SeveralPrivateKeys(2)),
            "{error}"
        );
        let error = read(certificate.as_bytes(), None).unwrap_err();
        assert!(matches!(error, BundleError::NoPrivateKey(_)), "{error}");
        let elliptic = text.replace("PRIVATE KEY", "EC PRIVATE KEY");
        let error = read(elliptic.as_bytes(), None).unwrap_err();
        let BundleError::Key(PemError::Kind(kind)) = error else {
            panic!("{error}");
        };
        assert_eq!(kind, "EC PRIVATE KEY");
        let longest = crate::bundle::MAX_FILE_LENGTH;
        let error = read(&vec![b' '; longest + 1], None).unwrap_err();
        assert!(matches!(error, BundleError::TooLong(_)), "{error}");
    }

    proptest! {
        #[test]
        fn spoilt_files_never_panic(place: prop::sample::Index, octet: u8, cut: prop::sample::Index) {
            const FILE: &str = "-----BEGIN RSA PRIVATE KEY-----\nMAkCAQACAQMCAQU=\n-----END RSA PRIVATE KEY-----\n";
            let mut text = FILE.as_bytes().to_vec();
            let place = place.index(text.len());
            text[place] = octet;
            prop_assert!(read(&text, None).is_err());
            text.truncate(cut.index(text.len()));
            prop_assert!(read(&text, None).is_err());
        }
    }
}
