#![doc = include_str!("../../../docs/sealed-file.md")]

use hgs_crypto::hash::hkdf_sha256;
use hgs_crypto::{CryptoError, Random, SecretBytes, aes, random};
use hgs_pki::KeyWork;
use hgs_protector::{
    GuardianCertificates, ProtectorDigest, SealError, TransportKey, VerifiedProtector, create,
};

/// Octets of the longest plaintext: a vTPM's state has some ten thousand, a firmware's variables
/// under a million.
pub const MAX_PLAINTEXT: usize = 64 * 1024 * 1024;
/// Octets of the longest sealed file.
pub const MAX_LENGTH: usize = HEADER_LENGTH + aes::IV_LENGTH + MAX_PLAINTEXT + aes::TAG_LENGTH;

const MAGIC: &[u8; 8] = b"OpenHGS\x1a";
const VERSION: u32 = 1;
const DIGEST_AT: usize = MAGIC.len() + size_of::<u32>();
const SALT_AT: usize = DIGEST_AT + 32;
const SALT_LENGTH: usize = 32;
const HEADER_LENGTH: usize = SALT_AT + SALT_LENGTH;
const INFO: &[u8] = b"OpenHGS sealed file 1";

/// A sealed file as it was read: its form is right, and nothing else is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedFile<'o> {
    header: &'o [u8; HEADER_LENGTH],
    sealed: &'o [u8],
}

/// Why octets are not a sealed file, or do not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealedFileError {
    /// It opens not with this transport key, or was changed. There is no telling which.
    #[error(
        "the file does not open: it was sealed under another protector's transport key, or changed"
    )]
    DoesNotOpen,
    /// It starts with something else.
    #[error("not a sealed file")]
    NotSealed,
    /// More than 64 MiB of plaintext.
    #[error("a sealed file holds at most {MAX_PLAINTEXT} octets")]
    TooLarge,
    /// The file ends too early.
    #[error("the sealed file is cut short")]
    Truncated,
    /// A version from the future.
    #[error("sealed file of version {found}; this program knows version {VERSION}")]
    Version {
        /// The version.
        found: u32,
    },
    /// Randomness failed.
    #[error("no randomness to seal with")]
    Random,
}

/// A file that was sealed under a protector of its own.
#[derive(Debug)]
pub struct SealedAnew {
    /// The transport key.
    pub key: TransportKey,
    /// The protector of it.
    pub protector: VerifiedProtector,
    /// The file.
    pub file: Vec<u8>,
}

/// Why a file is not sealed under a new protector.
#[derive(Debug, thiserror::Error)]
pub enum SealAnewError {
    /// There is no randomness.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// There is no protector.
    #[error(transparent)]
    Protector(#[from] SealError),
    /// There is no file.
    #[error(transparent)]
    File(#[from] SealedFileError),
}

/// Seals `plaintext` under a new transport key, and makes the protector of that for `owner` and `guardians`.
///
/// # Errors
/// As of [`create`] and [`seal`].
pub fn seal_anew(
    plaintext: &SecretBytes,
    owner: &GuardianCertificates,
    guardians: &[GuardianCertificates],
    keys: &mut dyn KeyWork,
    random: &mut dyn Random,
) -> Result<SealedAnew, SealAnewError> {
    let key = TransportKey::random(random)?;
    let protector = create(owner, guardians, &key, keys)?;
    let file = seal(&key, &protector.digest(), plaintext, random)?;
    Ok(SealedAnew {
        key,
        protector,
        file,
    })
}

/// Seals `plaintext` under `transport_key`, naming the protector that holds it by its digest.
///
/// # Errors
/// When the plaintext is too long, or randomness fails.
pub fn seal(
    transport_key: &TransportKey,
    protector: &ProtectorDigest,
    plaintext: &SecretBytes,
    random: &mut dyn Random,
) -> Result<Vec<u8>, SealedFileError> {
    if plaintext.len() > MAX_PLAINTEXT {
        return Err(SealedFileError::TooLarge);
    }
    let failed = |CryptoError| SealedFileError::Random;
    let salt = random::array::<SALT_LENGTH>(random).map_err(failed)?;
    let mut file = Vec::with_capacity(HEADER_LENGTH);
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&VERSION.to_le_bytes());
    file.extend_from_slice(protector.as_bytes());
    file.extend_from_slice(&salt);
    let key = file_key(transport_key, &salt);
    let sealed = aes::gcm_seal(&key, &file, plaintext.expose(), random).map_err(failed)?;
    file.extend_from_slice(&sealed);
    Ok(file)
}

impl<'o> SealedFile<'o> {
    /// Reads the form of a sealed file.
    ///
    /// # Errors
    /// When it has another, or is too long.
    pub fn read(octets: &'o [u8]) -> Result<Self, SealedFileError> {
        if octets.len() > MAX_LENGTH {
            return Err(SealedFileError::TooLarge);
        }
        let Some(rest) = octets.strip_prefix(MAGIC) else {
            return Err(SealedFileError::NotSealed);
        };
        let Some((version, _)) = rest.split_first_chunk() else {
            return Err(SealedFileError::Truncated);
        };
        let found = u32::from_le_bytes(*version);
        if found != VERSION {
            return Err(SealedFileError::Version { found });
        }
        match octets.split_first_chunk() {
            Some((header, sealed)) if sealed.len() >= aes::IV_LENGTH + aes::TAG_LENGTH => {
                Ok(Self { header, sealed })
            }
            _ => Err(SealedFileError::Truncated),
        }
    }

    /// The digest of the protector that it says it belongs to; true once the file has opened.
    #[must_use]
    pub fn unverified_protector(&self) -> ProtectorDigest {
        let mut digest = [0; 32];
        digest.copy_from_slice(&self.header[DIGEST_AT..SALT_AT]);
        ProtectorDigest::from_bytes(digest)
    }

    /// Opens the file.
    ///
    /// # Errors
    /// [`SealedFileError::DoesNotOpen`] for every cause.
    pub fn open(&self, transport_key: &TransportKey) -> Result<SecretBytes, SealedFileError> {
        let key = file_key(transport_key, &self.header[SALT_AT..]);
        aes::gcm_open(&key, self.header, self.sealed)
            .map_err(|CryptoError| SealedFileError::DoesNotOpen)
    }
}

fn file_key(transport_key: &TransportKey, salt: &[u8]) -> SecretBytes {
    hkdf_sha256(transport_key.secret(), salt, INFO, aes::KEY_LENGTH)
        .expect("HKDF-SHA-256 yields up to 8160 octets, and 32 are asked for")
}

/// Reads and tries to open anything; never panics.
#[doc(hidden)]
pub fn fuzz_sealed_file(data: &[u8]) {
    let known = hgs_crypto::hash::sha256(b"a key that everybody knows");
    let key = TransportKey::from_secret(SecretBytes::from(&known[..]));
    if let (Ok(file), Ok(key)) = (SealedFile::read(data), key) {
        let _ = file.unverified_protector();
        let _ = file.open(&key);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use hgs_crypto::random::System;
    use hgs_testkit::fixtures::key_octets;
    use hgs_testkit::tool;
    use proptest::prelude::*;

    use super::*;

    const PROTECTOR: ProtectorDigest = ProtectorDigest::from_bytes([7; 32]);

    fn key(octet: u8) -> TransportKey {
        TransportKey::from_secret(SecretBytes::from(&key_octets(octet)[..])).unwrap()
    }

    fn sealed(plaintext: &[u8]) -> Vec<u8> {
        seal(&key(1), &PROTECTOR, &plaintext.into(), &mut System::new()).unwrap()
    }

    #[test]
    fn every_changed_octet_is_noticed() {
        let original = sealed(b"state");
        for index in 0..original.len() {
            let mut changed = original.clone();
            changed[index] ^= 1;
            let outcome = SealedFile::read(&changed).and_then(|file| file.open(&key(1)));
            assert!(outcome.is_err(), "octet {index}");
        }
    }

    #[test]
    fn every_truncation_is_noticed() {
        let original = sealed(b"state");
        for length in 0..original.len() {
            let outcome = SealedFile::read(&original[..length]);
            assert!(outcome.and_then(|file| file.open(&key(1))).is_err());
        }
    }

    #[test]
    fn other_forms_are_told_apart() {
        assert_eq!(SealedFile::read(b"<Prot"), Err(SealedFileError::NotSealed));
        let mut future = sealed(b"");
        future[8] = 2;
        let error = SealedFile::read(&future).unwrap_err();
        assert_eq!(error, SealedFileError::Version { found: 2 });
        let header = &sealed(b"")[..HEADER_LENGTH];
        assert_eq!(SealedFile::read(header), Err(SealedFileError::Truncated));
    }

    #[test]
    fn the_largest_plaintext_is_not_exceeded() {
        let plaintext = SecretBytes::new(vec![0; MAX_PLAINTEXT + 1]);
        let error = seal(&key(1), &PROTECTOR, &plaintext, &mut System::new()).unwrap_err();
        assert_eq!(error, SealedFileError::TooLarge);
        let octets = vec![0; MAX_LENGTH + 1];
        assert_eq!(SealedFile::read(&octets), Err(SealedFileError::TooLarge));
    }

    /// The format as the page above has it, opened by Python's `cryptography`.
    #[test]
    fn python_opens_it_from_the_description_alone() {
        const SCRIPT: &str = r"
import sys
from hashlib import sha256
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.hashes import SHA256
file = sys.stdin.buffer.read()
assert file[:12] == b'OpenHGS\x1a\x01\x00\x00\x00' and file[12:44] == bytes([7]) * 32
key = HKDF(SHA256(), 32, file[44:76], b'OpenHGS sealed file 1').derive(sha256(b'a key of the tests: \x01').digest())
sys.stdout.buffer.write(AESGCM(key).decrypt(file[76:88], file[88:], file[:76]))
";
        tool("python3", "python3");
        let mut python = Command::new("/usr/bin/python3")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = python.stdin.take().unwrap();
        input.write_all(&sealed(b"vTPM state")).unwrap();
        drop(input);
        let output = python.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "python3 must have the Debian package python3-cryptography"
        );
        assert_eq!(output.stdout, b"vTPM state");
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_with_its_key_alone(plaintext: Vec<u8>, digest: [u8; 32], a: u8, b: u8) {
            let plaintext = SecretBytes::new(plaintext);
            let digest = ProtectorDigest::from_bytes(digest);
            let octets = seal(&key(a), &digest, &plaintext, &mut System::new()).unwrap();
            let file = SealedFile::read(&octets).unwrap();
            prop_assert_eq!(file.unverified_protector(), digest);
            prop_assert_eq!(file.open(&key(a)), Ok(plaintext));
            if a != b {
                prop_assert_eq!(file.open(&key(b)), Err(SealedFileError::DoesNotOpen));
            }
        }

        #[test]
        fn anything_is_read_without_panic(data: Vec<u8>) {
            fuzz_sealed_file(&data);
            let mut with_header = sealed(b"");
            with_header.extend_from_slice(&data);
            fuzz_sealed_file(&with_header);
        }
    }
}
