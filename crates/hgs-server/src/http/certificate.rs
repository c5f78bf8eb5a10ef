//! The TLS certificate: read from files, and exchanged while the server runs.

use std::error::Error;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hgs_crypto::SecretBytes;
use hgs_custody::SoftwareKey;
use hgs_custody::pem::{PemError, read_private_key};
use hgs_custody::pfx::{self, PfxError};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tracing::{error, info};

use crate::config::Https;

/// Octets of a certificate or key file. A chain of a dozen certificates is well below.
const FILE_LIMIT: u64 = 1024 * 1024;

/// The server's TLS certificate can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// `[listen.https]` is enabled without a certificate.
    #[error("[listen.https] names no certificate")]
    NotConfigured,
    /// A file is absent or its permissions are in the way.
    #[error("can't read {}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// A file is too large to be a certificate or a key.
    #[error("{} is over {FILE_LIMIT} octets", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// The PEM file holds no certificate, or a broken one.
    #[error("no certificate in {}", file.display())]
    NoCertificate {
        /// The file.
        file: PathBuf,
    },
    /// The file is not PEM, and not a PFX file that the passphrase opens either.
    #[error("neither PEM nor a usable PFX file: {}", file.display())]
    Pfx {
        /// The file.
        file: PathBuf,
        /// Why it is no PFX file.
        #[source]
        error: PfxError,
    },
    /// The PEM file holds no private key, or one that the passphrase does not open.
    #[error("no usable private key in {}", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        error: PemError,
    },
    /// The key is of a kind that TLS here does not use, or does not belong to the certificate.
    #[error("the certificate {} and its key can't be used", file.display())]
    Refused {
        /// The file of the certificate.
        file: PathBuf,
        /// Why.
        #[source]
        error: rustls::Error,
    },
}

/// Says whether the certificate that `settings` name can be used, and which it is.
pub(crate) fn check(settings: &Https) -> Result<CertificateDer<'static>, TlsError> {
    let files = Files::of(settings)?;
    let mut chain = files.read()?.cert.clone().into_iter();
    chain.next().ok_or(TlsError::NoCertificate {
        file: files.certificate,
    })
}

/// The certificate in use, and the files that it came from.
#[derive(Debug)]
pub(super) struct CurrentCertificate {
    files: Files,
    current: RwLock<Arc<CertifiedKey>>,
    /// What the files looked like when they were last read, for better or worse.
    seen: Mutex<Vec<FileState>>,
}

impl CurrentCertificate {
    /// Reads the certificate that `settings` name.
    pub(super) fn load(settings: &Https) -> Result<Arc<Self>, TlsError> {
        let files = Files::of(settings)?;
        let seen = files.state();
        let current = files.read()?;
        Ok(Arc::new(Self {
            files,
            current: RwLock::new(Arc::new(current)),
            seen: Mutex::new(seen),
        }))
    }

    /// Reads the files again. When they can't be used, the certificate stays as it was.
    pub(super) fn reload(&self) -> Result<(), TlsError> {
        // First the state: a change during the reading is then noticed at the next look.
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = self.files.state();
        let read = self.files.read().inspect_err(|error| {
            error!(
                %error,
                source = error.source().map(tracing::field::display),
                "the TLS certificate stays as it was"
            );
        })?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(read);
        info!(certificate = %self.files.certificate.display(), "the TLS certificate was read again");
        Ok(())
    }

    /// Reads the files again if they have changed since they were last read.
    pub(super) fn reload_if_changed(&self) {
        let found = self.files.state();
        if *self.seen.lock().unwrap_or_else(PoisonError::into_inner) != found {
            // A failure was logged.
            let _ = self.reload();
        }
    }
}

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Some(current.clone())
    }
}

/// What a certificate and its key are read from.
#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    passphrase: Option<PathBuf>,
}

/// Device, inode, size and time of change: enough to notice that a file was replaced or written.
type FileState = Option<(u64, u64, u64, i64, i64)>;

impl Files {
    fn of(settings: &Https) -> Result<Self, TlsError> {
        let certificate = settings
            .certificate
            .clone()
            .ok_or(TlsError::NotConfigured)?;
        Ok(Self {
            key: settings.key.clone().unwrap_or_else(|| certificate.clone()),
            certificate,
            passphrase: settings.passphrase_file.clone(),
        })
    }

    fn state(&self) -> Vec<FileState> {
        let state = |metadata: Metadata| {
            (
                metadata.dev(),
                metadata.ino(),
                metadata.size(),
                metadata.ctime(),
                metadata.ctime_nsec(),
            )
        };
        [
            Some(&self.certificate),
            Some(&self.key),
            self.passphrase.as_ref(),
        ]
        .into_iter()
        .flatten()
        .map(|file| fs::metadata(file).ok().map(state))
        .collect()
    }

    fn read(&self) -> Result<CertifiedKey, TlsError> {
        let octets = read_file(&self.certificate)?;
        let passphrase = self
            .passphrase
            .as_deref()
            .map(read_passphrase)
            .transpose()?;
        let (chain, key) = if is_pem(octets.expose()) {
            let chain = self.read_pem_chain(octets.expose())?;
            (chain, self.read_pem_key(passphrase.as_ref())?)
        } else {
            self.read_pfx(octets.expose(), passphrase.as_ref())?
        };
        CertifiedKey::from_der(chain, key, &provider()).map_err(|error| TlsError::Refused {
            file: self.certificate.clone(),
            error,
        })
    }

    fn read_pem_chain(&self, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        CertificateDer::pem_slice_iter(text)
            .collect::<Result<Vec<_>, _>>()
            .ok()
            .filter(|chain| !chain.is_empty())
            .ok_or_else(|| TlsError::NoCertificate {
                file: self.certificate.clone(),
            })
    }

    fn read_pem_key(
        &self,
        passphrase: Option<&SecretBytes>,
    ) -> Result<PrivateKeyDer<'static>, TlsError> {
        let text = read_file(&self.key)?;
        // Keys in the clear may be of any kind that TLS knows; those under a passphrase are RSA.
        if let Ok(key) = PrivateKeyDer::from_pem_slice(text.expose()) {
            return Ok(key);
        }
        read_private_key(text.expose(), passphrase)
            .map(|key| pkcs8(&key))
            .map_err(|error| TlsError::Key {
                file: self.key.clone(),
                error,
            })
    }

    fn read_pfx(
        &self,
        octets: &[u8],
        passphrase: Option<&SecretBytes>,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let none = SecretBytes::new(Vec::new());
        let pfx =
            pfx::read(octets, passphrase.unwrap_or(&none)).map_err(|error| TlsError::Pfx {
                file: self.certificate.clone(),
                error,
            })?;
        let chain = std::iter::once(&pfx.certificate)
            .chain(&pfx.chain)
            .map(|certificate| CertificateDer::from(certificate.der().to_vec()))
            .collect();
        Ok((chain, pkcs8(&pfx.key)))
    }
}

/// A PFX file is DER and begins with a SEQUENCE of more than 127 octets; PEM is text.
fn is_pem(octets: &[u8]) -> bool {
    !matches!(octets, [0x30, 0x80..=0xff, ..])
}

fn pkcs8(key: &SoftwareKey) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(key.pkcs8_der().expose().to_vec()).into()
}

fn read_passphrase(file: &Path) -> Result<SecretBytes, TlsError> {
    let text = read_file(file)?;
    let text = text.expose();
    let line = text.strip_suffix(b"\n").unwrap_or(text);
    Ok(SecretBytes::from(line.strip_suffix(b"\r").unwrap_or(line)))
}

/// The file may hold a secret, so its octets are treated as one.
fn read_file(file: &Path) -> Result<SecretBytes, TlsError> {
    let unreadable = |error| TlsError::Unreadable {
        file: file.to_path_buf(),
        error,
    };
    if fs::metadata(file).map_err(unreadable)?.len() > FILE_LIMIT {
        return Err(TlsError::TooLarge {
            file: file.to_path_buf(),
        });
    }
    fs::read(file).map(SecretBytes::new).map_err(unreadable)
}

/// The cryptography of TLS, the same as everywhere else here.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
