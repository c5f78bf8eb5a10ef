//! Work that needs a private key is never done here, only asked for.
//!
//! A [`Step`] is a computation that has run until it needs a private key, or to its end. Whoever drives it looks the
//! key up by the thumbprint of its certificate, does the work where that key lives (in this process, in a token, in a
//! TPM) and resumes:
//!
//! ```
//! use hgs_crypto::{Random, SecretBytes};
//! use hgs_protector::{DecryptionRefused, NeedsDecrypt, NeedsSign, Step};
//!
//! fn drive<T, E>(
//!     mut step: Step<T, E>,
//!     decrypt: impl Fn(&NeedsDecrypt<T, E>) -> Result<SecretBytes, DecryptionRefused>,
//!     sign: impl Fn(&NeedsSign<T, E>) -> Vec<u8>,
//!     random: &mut dyn Random,
//! ) -> Result<T, E> {
//!     loop {
//!         step = match step {
//!             Step::Done(value) => return Ok(value),
//!             Step::NeedsDecrypt(request) => {
//!                 let plaintext = decrypt(&request);
//!                 request.resume(plaintext, random)?
//!             }
//!             Step::NeedsSign(request) => {
//!                 let signature = sign(&request);
//!                 request.resume(signature, random)?
//!             }
//!         };
//!     }
//! }
//! ```
//!
//! When the place where the key lives is away, the driver drops the step and says so itself: nothing was changed.

use std::fmt;

use hgs_crypto::rsa::{OaepHash, SignatureScheme};
use hgs_crypto::{Random, SecretBytes};
use hgs_pki::Thumbprint;

use crate::suite;

/// A computation that is done, or waits for work with a private key.
#[must_use = "a step that is not driven to its end has no effect"]
pub enum Step<T, E> {
    /// Waits for a decryption.
    NeedsDecrypt(NeedsDecrypt<T, E>),
    /// Waits for a signature.
    NeedsSign(NeedsSign<T, E>),
    /// The result.
    Done(T),
}

/// The key declined: the ciphertext was not made for it. There is deliberately no reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key does not decrypt this")]
pub struct DecryptionRefused;

/// A computation that waits for an RSA-OAEP decryption with an empty label.
#[must_use = "a step that is not resumed has no effect"]
pub struct NeedsDecrypt<T, E> {
    key: Thumbprint,
    hash: OaepHash,
    ciphertext: Vec<u8>,
    resume: AfterDecrypt<T, E>,
}

/// A computation that waits for a signature.
#[must_use = "a step that is not resumed has no effect"]
pub struct NeedsSign<T, E> {
    key: Thumbprint,
    message: Vec<u8>,
    resume: AfterSign<T, E>,
}

type Next<T, E> = Result<Step<T, E>, E>;
type AfterDecrypt<T, E> =
    Box<dyn FnOnce(Result<SecretBytes, DecryptionRefused>, &mut dyn Random) -> Next<T, E> + Send>;
type AfterSign<T, E> = Box<dyn FnOnce(Signed, &mut dyn Random) -> Next<T, E> + Send>;

/// A message, given back, and the signature that was made over it.
pub struct Signed {
    /// What was to be signed.
    pub message: Vec<u8>,
    /// What the key answered; nobody has verified it.
    pub signature: Vec<u8>,
}

impl<T, E> NeedsDecrypt<T, E> {
    /// Waits for `key` to decrypt `ciphertext`, then goes on with `resume`.
    pub fn new(
        key: Thumbprint,
        hash: OaepHash,
        ciphertext: Vec<u8>,
        resume: impl FnOnce(
            Result<SecretBytes, DecryptionRefused>,
            &mut dyn Random,
        ) -> Result<Step<T, E>, E>
        + Send
        + 'static,
    ) -> Self {
        Self {
            key,
            hash,
            ciphertext,
            resume: Box::new(resume),
        }
    }

    /// The thumbprint of the certificate whose private key is needed.
    #[must_use]
    pub fn key(&self) -> &Thumbprint {
        &self.key
    }

    /// The hash of label and mask.
    #[must_use]
    pub fn hash(&self) -> OaepHash {
        self.hash
    }

    /// What is to be decrypted.
    #[must_use]
    pub fn ciphertext(&self) -> &[u8] {
        &self.ciphertext
    }

    /// Goes on with what the key answered, up to the next step.
    ///
    /// # Errors
    /// As the computation says.
    pub fn resume(
        self,
        plaintext: Result<SecretBytes, DecryptionRefused>,
        random: &mut dyn Random,
    ) -> Result<Step<T, E>, E> {
        (self.resume)(plaintext, random)
    }
}

impl<T, E> NeedsSign<T, E> {
    /// Waits for `key` to sign `message`, then goes on with `resume`.
    pub fn new(
        key: Thumbprint,
        message: Vec<u8>,
        resume: impl FnOnce(Signed, &mut dyn Random) -> Result<Step<T, E>, E> + Send + 'static,
    ) -> Self {
        Self {
            key,
            message,
            resume: Box::new(resume),
        }
    }

    /// The thumbprint of the certificate whose private key is needed.
    #[must_use]
    pub fn key(&self) -> &Thumbprint {
        &self.key
    }

    /// The scheme to sign with.
    #[must_use]
    pub fn scheme(&self) -> SignatureScheme {
        suite::WRITTEN_SIGNATURE
    }

    /// What is to be signed; the scheme hashes it.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// Goes on with the signature, up to the next step.
    ///
    /// # Errors
    /// As the computation says.
    pub fn resume(self, signature: Vec<u8>, random: &mut dyn Random) -> Result<Step<T, E>, E> {
        let signed = Signed {
            message: self.message,
            signature,
        };
        (self.resume)(signed, random)
    }
}

impl<T: 'static, E: 'static> Step<T, E> {
    /// Goes on with `next` when this computation is done.
    ///
    /// # Errors
    /// Those of `next`, if this computation is done already.
    pub fn and_then<U>(
        self,
        random: &mut dyn Random,
        next: impl FnOnce(T, &mut dyn Random) -> Result<Step<U, E>, E> + Send + 'static,
    ) -> Result<Step<U, E>, E> {
        match self {
            Self::Done(value) => next(value, random),
            Self::NeedsDecrypt(request) => Ok(Step::NeedsDecrypt(NeedsDecrypt {
                key: request.key,
                hash: request.hash,
                ciphertext: request.ciphertext,
                resume: Box::new(|plaintext, random| {
                    (request.resume)(plaintext, random)?.and_then(random, next)
                }),
            })),
            Self::NeedsSign(request) => Ok(Step::NeedsSign(NeedsSign {
                key: request.key,
                message: request.message,
                resume: Box::new(|signed, random| {
                    (request.resume)(signed, random)?.and_then(random, next)
                }),
            })),
        }
    }

    /// The same computation with other words for its error.
    pub fn map_err<F>(self, words: impl FnOnce(E) -> F + Send + 'static) -> Step<T, F> {
        match self {
            Self::Done(value) => Step::Done(value),
            Self::NeedsDecrypt(request) => Step::NeedsDecrypt(NeedsDecrypt {
                key: request.key,
                hash: request.hash,
                ciphertext: request.ciphertext,
                resume: Box::new(|plaintext, random| {
                    translate((request.resume)(plaintext, random), words)
                }),
            }),
            Self::NeedsSign(request) => Step::NeedsSign(NeedsSign {
                key: request.key,
                message: request.message,
                resume: Box::new(|signed, random| {
                    translate((request.resume)(signed, random), words)
                }),
            }),
        }
    }
}

fn translate<T: 'static, E: 'static, F>(
    next: Next<T, E>,
    words: impl FnOnce(E) -> F + Send + 'static,
) -> Next<T, F> {
    match next {
        Ok(step) => Ok(step.map_err(words)),
        Err(error) => Err(words(error)),
    }
}

impl<T: fmt::Debug, E> fmt::Debug for Step<T, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeedsDecrypt(request) => request.fmt(formatter),
            Self::NeedsSign(request) => request.fmt(formatter),
            Self::Done(value) => formatter.debug_tuple("Done").field(value).finish(),
        }
    }
}

impl<T, E> fmt::Debug for NeedsDecrypt<T, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "NeedsDecrypt(by {})", self.key)
    }
}

impl<T, E> fmt::Debug for NeedsSign<T, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "NeedsSign(by {})", self.key)
    }
}
