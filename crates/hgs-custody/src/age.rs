//! Files encrypted in the format of [age] (version 1), for keys or under a passphrase.
//!
//! It is a published format with programs of others' that read and write it, which holds a file of any length: it is
//! encrypted and opened piece by piece, and no piece is given out before it is authentic. Recipients are X25519 keys
//! (`age1…`); a passphrase goes through scrypt.
//!
//! ```
//! use std::io::{Read as _, Write as _};
//!
//! use hgs_crypto::SecretBytes;
//! use hgs_crypto::random::System;
//! use hgs_custody::age::{self, OpenedBy, SealedTo};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let recipient = "age1pc79rpwyduuwlurmevsrr3ht6ky3j04rdxf5vn9qh4hhnzzh9quqc5j40n".parse()?;
//! let mut file = age::encrypt(Vec::new(), &SealedTo::Recipients(vec![recipient]), &mut System::new())?;
//! file.write_all(b"Precious")?;
//! let file = file.finish()?;
//!
//! let identity = "AGE-SECRET-KEY-1XWEAYE77JF6CU9ZNXT9YLJF7KYYNLV89GU23VW4R5CG050NRG3ZSPLL0NW";
//! let identities = age::identities(&SecretBytes::from(identity.as_bytes()))?;
//! let mut text = String::new();
//! age::open(&file[..])?.unlock(&OpenedBy::Identities(identities))?.read_to_string(&mut text)?;
//! assert_eq!(text, "Precious");
//! # Ok(())
//! # }
//! ```
//!
//! Armoured files are read too, and never written.
//!
//! What it does *not* do: plugins, SSH keys, hybrid keys. And it does not say **who wrote a file**: everybody who knows a
//! recipient can encrypt to it.
//!
//! **Why it is our own.** The library for this format, crate `age`, brings a second set of cryptographic libraries (X25519,
//! ChaCha20-Poly1305, HKDF, scrypt, each of RustCrypto's), while all of ours stands in `hgs-crypto`, and plugins, prompts
//! and translations beside. What is read here is its smallest part: two kinds of recipients. The program `age` and the
//! test vectors of C2SP (`tests/age_vectors.rs`) judge it.
//!
//! [age]: https://c2sp.org/age

mod armour;
mod header;
mod keys;
mod payload;

use std::io::{self, BufRead, Write};

use hgs_crypto::{CryptoError, Random, SecretBytes};

pub use armour::Content;
use header::Header;
pub use header::MAX_HEADER_LENGTH;
pub use keys::{Identity, MAX_SCRYPT_LOG_N, Recipient, identities};
pub use payload::{Decrypted, Encrypted};

/// Octets of the key that a file's other keys are derived from.
const FILE_KEY_LENGTH: usize = 16;

/// Who shall be able to open a file.
#[derive(Debug)]
pub enum SealedTo {
    /// Each of these, with the private half.
    Recipients(Vec<Recipient>),
    /// Everyone who knows the passphrase.
    Passphrase(SecretBytes),
}

/// What a file is opened with.
#[derive(Debug)]
pub enum OpenedBy {
    /// Private keys, of which one has to fit.
    Identities(Vec<Identity>),
    /// A passphrase.
    Passphrase(SecretBytes),
}

/// Why a file was not written or not opened.
#[derive(Debug, thiserror::Error)]
pub enum AgeError {
    /// Not a file of this format: its first line is another.
    #[error("not an age file")]
    Foreign,
    /// The header is not well formed.
    #[error("the header of the encrypted file is malformed: {0}")]
    Malformed(&'static str),
    /// The header is longer than [`MAX_HEADER_LENGTH`].
    #[error("the header of the encrypted file has more than {MAX_HEADER_LENGTH} octets")]
    HeaderTooLong,
    /// Deriving the key from the passphrase would take more memory than is spent on a file.
    #[error(
        "the encrypted file asks for scrypt with N = 2^{0}; at most 2^{MAX_SCRYPT_LOG_N} is done"
    )]
    TooMuchWork(u8),
    /// The passphrase is another.
    #[error("wrong passphrase")]
    WrongPassphrase,
    /// None of the private keys opens it.
    #[error("the file is not encrypted to any of these identities")]
    NoMatch,
    /// It is opened by a passphrase, and keys were given.
    #[error("the file is opened by a passphrase")]
    NeedsPassphrase,
    /// It is opened by a key, and a passphrase was given.
    #[error("the file is opened by an identity, not by a passphrase")]
    NeedsIdentity,
    /// The header was changed after it was written.
    #[error("the header of the encrypted file was changed")]
    HeaderChanged,
    /// Not a recipient.
    #[error("not an age recipient: one begins with `age1`")]
    Recipient,
    /// It has no recipient, so it could never be opened.
    #[error("a file needs 1 to {} recipients", header::MAX_STANZAS)]
    Recipients,
    /// No identity, or a malformed one, in a file of identities.
    #[error("no well-formed age identity: one begins with `AGE-SECRET-KEY-1`")]
    Identity,
    /// A key that could be guessed.
    #[error("{0} is not random: its octets repeat, or count up")]
    NotRandom(&'static str),
    /// The file can't be read or written.
    #[error(transparent)]
    File(#[from] io::Error),
    /// No randomness.
    #[error("the source of randomness failed")]
    Random(#[from] CryptoError),
}

/// Begins an encrypted file in `out`. It is whole only after [`Encrypted::finish`].
pub fn encrypt<W: Write>(
    mut out: W,
    readers: &SealedTo,
    random: &mut dyn Random,
) -> Result<Encrypted<W>, AgeError> {
    let file_key = SecretBytes::random(FILE_KEY_LENGTH, random)?;
    let stanzas = match readers {
        SealedTo::Passphrase(passphrase) => {
            vec![keys::passphrase_stanza(passphrase, &file_key, random)?]
        }
        SealedTo::Recipients(recipients) => {
            let stanzas = recipients.iter().map(|one| one.stanza(&file_key, random));
            stanzas.collect::<Result<Vec<_>, _>>()?
        }
    };
    if stanzas.is_empty() || stanzas.len() > header::MAX_STANZAS {
        return Err(AgeError::Recipients);
    }
    out.write_all(&Header::new(stanzas, &file_key)?.octets())?;
    Encrypted::begin(out, &file_key, random)
}

/// Reads the header of an encrypted file, armoured or not.
pub fn open<R: BufRead>(file: R) -> Result<Locked<R>, AgeError> {
    let mut file = Content::of(file)?;
    let header = Header::read(&mut file)?;
    Ok(Locked { header, file })
}

/// An encrypted file whose header was read.
#[derive(Debug)]
pub struct Locked<R> {
    header: Header,
    file: Content<R>,
}

impl<R: BufRead> Locked<R> {
    /// Whether a passphrase opens it, and not a private key.
    #[must_use]
    pub fn needs_passphrase(&self) -> bool {
        self.header.is_under_passphrase()
    }

    /// Opens it. What follows the header is checked as it is read.
    pub fn unlock(self, key: &OpenedBy) -> Result<Decrypted<Content<R>>, AgeError> {
        let file_key = match (key, self.needs_passphrase()) {
            (OpenedBy::Passphrase(passphrase), true) => {
                keys::open_with_passphrase(&self.header, passphrase)?
            }
            (OpenedBy::Identities(identities), false) => {
                keys::open_with_identities(&self.header, identities)?
            }
            (OpenedBy::Identities(_), true) => return Err(AgeError::NeedsPassphrase),
            (OpenedBy::Passphrase(_), false) => return Err(AgeError::NeedsIdentity),
        };
        self.header.verify(&file_key)?;
        if file_key.is_degenerate() {
            return Err(AgeError::NotRandom("the key of the encrypted file"));
        }
        Decrypted::begin(self.file, &file_key)
    }
}

/// Bodies for fuzzing: they take any octets, and panic only if this module is wrong.
#[doc(hidden)]
pub mod fuzzing {
    use std::io::Read as _;

    use super::{OpenedBy, open};

    /// Opens a file with a key that is known, so that a fuzzer can come past the header.
    pub fn fuzz_age_file(data: &[u8]) {
        if let Ok(locked) = open(data) {
            // Seconds of scrypt would find nothing.
            if locked.needs_passphrase() {
                return;
            }
            let identities = super::keys::well_known_identity().into_iter().collect();
            if let Ok(mut file) = locked.unlock(&OpenedBy::Identities(identities)) {
                let _ = file.read_to_end(&mut Vec::new());
            }
        }
    }
}
