//! PFX files (PKCS#12, RFC 7292): one certificate, its key, and the chain above it.
//!
//! Files of OpenSSL, NSS, Windows, Java and Bouncy Castle are read. None are written: no command gives a private key
//! away.

use hgs_crypto::SecretBytes;
use hgs_crypto::rsa::PrivateKeyError;
use hgs_pki::{Certificate, CertificateError};

use crate::pkcs12::{self, OpenError};
use crate::{PrivateKey as _, SoftwareKey};

/// Octets of the largest file that is read. A long chain under 8192-bit keys stays below a tenth.
pub const MAX_FILE_LENGTH: usize = 1024 * 1024;
/// Certificates that a file may hold.
pub const MAX_CERTIFICATES: usize = 32;

/// What a PFX file holds.
#[derive(Debug)]
pub struct Pfx {
    /// The certificate of the key.
    pub certificate: Certificate,
    /// The private key.
    pub key: SoftwareKey,
    /// The other certificates, in the order of the file.
    pub chain: Vec<Certificate>,
}

/// Why a file is not an acceptable PFX.
#[derive(Debug, thiserror::Error)]
pub enum PfxError {
    /// Larger than [`MAX_FILE_LENGTH`].
    #[error("a PFX file has at most {MAX_FILE_LENGTH} octets, found {found}")]
    TooLong {
        /// Octets of the file.
        found: usize,
    },
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
    /// No private key in it.
    #[error("the PFX file holds no private key")]
    NoPrivateKey,
    /// Several private keys: which is meant can't be known.
    #[error("the PFX file holds {0} private keys; export one at a time")]
    SeveralPrivateKeys(usize),
    /// No certificate has the key's public half.
    #[error("the PFX file holds no certificate for its private key")]
    NoCertificate,
    /// More than [`MAX_CERTIFICATES`].
    #[error("the PFX file holds {0} certificates; at most {MAX_CERTIFICATES} are read")]
    TooManyCertificates(usize),
    /// The key is not acceptable.
    #[error(transparent)]
    Key(#[from] PrivateKeyError),
    /// A certificate, of the key or above it, is not acceptable.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// Reads a PFX file. The certificate is the one with the key's public half, whatever the file says
/// about which belongs to which; nothing is said about whether the chain leads anywhere.
pub fn read(octets: &[u8], passphrase: &SecretBytes) -> Result<Pfx, PfxError> {
    if octets.len() > MAX_FILE_LENGTH {
        let found = octets.len();
        return Err(PfxError::TooLong { found });
    }
    let safe = pkcs12::open(octets, Some(passphrase))?;
    let key = match safe.keys.as_slice() {
        [] => return Err(PfxError::NoPrivateKey),
        [key] => SoftwareKey::from_pkcs8_der(key)?,
        keys => return Err(PfxError::SeveralPrivateKeys(keys.len())),
    };
    if safe.certificates.len() > MAX_CERTIFICATES {
        return Err(PfxError::TooManyCertificates(safe.certificates.len()));
    }
    let certificates = safe.certificates.iter();
    let mut chain = certificates
        .map(|der| Certificate::from_der(der))
        .collect::<Result<Vec<_>, _>>()?;
    let ours = chain
        .iter()
        .position(|certificate| certificate.public_key() == key.public());
    let certificate = chain.remove(ours.ok_or(PfxError::NoCertificate)?);
    Ok(Pfx {
        certificate,
        key,
        chain,
    })
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
    let _ = read(octets, &SecretBytes::from(b"secret".as_slice()));
}
