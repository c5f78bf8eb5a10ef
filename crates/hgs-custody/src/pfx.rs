//! PFX files (PKCS#12, RFC 7292): certificates and keys under a passphrase. [`Bundle`](crate::Bundle) reads them.
//!
//! Files of OpenSSL, NSS, Windows, Java and Bouncy Castle are read. None are written: no command gives a private key
//! away.

use hgs_crypto::SecretBytes;

use crate::pkcs12::{self, OpenError};

/// Why a PFX file can't be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PfxError {
    /// The passphrase does not open it (or, where the file has no MAC, it is damaged).
    #[error("wrong passphrase")]
    WrongPassphrase,
    /// The passphrase is not UTF-8, which the format needs to turn it into UTF-16.
    #[error("the passphrase of a PFX file must be UTF-8")]
    PassphraseNotUtf8,
    /// Encrypted in a way that is not read.
    #[error("the PFX file has {0}, which is not supported")]
    Unsupported(String),
    /// Opening it would take too long or too much memory.
    #[error("the PFX file asks for more rounds of key derivation than are computed for a file")]
    TooMuchWork,
    /// It is under a passphrase, and none was given.
    #[error("the PFX file needs a passphrase")]
    PassphraseNeeded,
    /// Not a PKCS#12 structure.
    #[error("not a PFX file: {0}")]
    Malformed(String),
}

impl From<OpenError> for PfxError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::WrongPassphrase => Self::WrongPassphrase,
            OpenError::PassphraseNotUtf8 => Self::PassphraseNotUtf8,
            OpenError::Unsupported(what) => Self::Unsupported(what),
            OpenError::TooMuchWork => Self::TooMuchWork,
            OpenError::Malformed => Self::Malformed("malformed ASN.1".to_owned()),
        }
    }
}

/// Reads whatever it is given and never panics.
#[doc(hidden)]
pub fn fuzz_pfx(octets: &[u8]) {
    let passphrase = SecretBytes::from(b"secret".as_slice());
    let _ = pkcs12::open(octets, Some(&passphrase));
}
