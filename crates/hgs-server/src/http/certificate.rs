//! The TLS certificate: read from files, and exchanged while the server runs.

use std::error::Error;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hgs_admin::types::CertificateRole;
use hgs_crypto::SecretBytes;
use hgs_custody::bundle::{Bundle, BundleError};
use hgs_custody::pem::PlainKey;
use hgs_pki::{Thumbprint, TlsCertificate, chain};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{
    CertificateDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tracing::{error, info};

use crate::config::TlsFiles;
use crate::guardian::{CertificateInUse, show_expiration};
use crate::metrics::Metrics;

/// Octets of a certificate or key file. A chain of a dozen certificates is well below.
const FILE_LIMIT: u64 = 1024 * 1024;

/// The server's TLS certificate can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A listener is enabled without a certificate.
    #[error("[{0}] names no certificate")]
    NotConfigured(&'static str),
    /// A file is absent or may not be read.
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
    /// A file does not give the certificate or the key.
    #[error("{}", file.display())]
    Content {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        error: BundleError,
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
pub(crate) fn check(settings: TlsFiles<'_>) -> Result<CertificateDer<'static>, TlsError> {
    let files = Files::of(settings)?;
    let chain = files.read()?.cert.clone();
    let none = || BundleError::NoCertificate("nothing".to_owned());
    chain.into_iter().next().ok_or_else(|| TlsError::Content {
        error: none(),
        file: files.certificate,
    })
}

/// The certificate in use, and the files that it came from.
#[derive(Debug)]
pub(crate) struct CurrentCertificate {
    files: Files,
    current: RwLock<Arc<CertifiedKey>>,
    /// The state of the files at the last attempt to read them.
    seen: Mutex<Vec<FileState>>,
}

impl CurrentCertificate {
    /// Reads the certificate that `settings` name.
    pub(super) fn load(settings: TlsFiles<'_>) -> Result<Arc<Self>, TlsError> {
        let files = Files::of(settings)?;
        let seen = files.state();
        let current = files.read()?;
        Ok(Arc::new(Self {
            files,
            current: RwLock::new(Arc::new(current)),
            seen: Mutex::new(seen),
        }))
    }

    /// Has `metrics` show when it expires, as the certificate of `listener`.
    pub(super) fn show_in(self: &Arc<Self>, metrics: &Metrics, listener: &'static str) {
        metrics.collect_from(self, move |shown, now| {
            let current = shown.current.read();
            let current = Arc::clone(&current.unwrap_or_else(PoisonError::into_inner));
            let leaf = current.cert.first();
            if let Some(Ok(leaf)) = leaf.map(|leaf| TlsCertificate::from_der(leaf)) {
                let (role, name) = (CertificateRole::Tls, listener.to_owned());
                show_expiration(now, CertificateInUse::new(role, name, leaf.validity));
            }
        });
    }

    /// SHA-256 of the certificate in use.
    pub(crate) fn fingerprint(&self) -> Option<Thumbprint> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.cert.first().map(|leaf| Thumbprint::of(leaf))
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
pub(super) type FileState = Option<(u64, u64, u64, i64, i64)>;

/// The state of a file now; `None` when it is not there.
pub(super) fn state_of(file: &Path) -> FileState {
    let state = |metadata: Metadata| {
        (
            metadata.dev(),
            metadata.ino(),
            metadata.size(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        )
    };
    fs::metadata(file).ok().map(state)
}

impl Files {
    fn of(settings: TlsFiles<'_>) -> Result<Self, TlsError> {
        let certificate = settings
            .certificate
            .ok_or(TlsError::NotConfigured(settings.section))?;
        Ok(Self {
            key: settings.key.unwrap_or(certificate).to_path_buf(),
            certificate: certificate.to_path_buf(),
            passphrase: settings.passphrase_file.map(Path::to_path_buf),
        })
    }

    fn state(&self) -> Vec<FileState> {
        [
            Some(&self.certificate),
            Some(&self.key),
            self.passphrase.as_ref(),
        ]
        .into_iter()
        .flatten()
        .map(|file| state_of(file))
        .collect()
    }

    /// The certificate that is over the key, and then those above it, in whatever order the files have them.
    fn read(&self) -> Result<CertifiedKey, TlsError> {
        let passphrase = self
            .passphrase
            .as_deref()
            .map(read_passphrase)
            .transpose()?;
        let mut bundle = Bundle::default();
        let mut files = vec![&self.certificate, &self.key];
        files.dedup();
        for file in &files {
            let octets = read_file(file)?;
            let added = bundle.add(octets.expose(), passphrase.as_ref());
            added.map_err(|error| self.content(file, error))?;
        }
        let keyed = bundle
            .keyed_chain(passphrase.as_ref())
            .map_err(|error| match error {
                BundleError::NoCertificate(_) => self.content(&self.certificate, error),
                _ => self.content(&self.key, error),
            })?;
        let refused = |error| TlsError::Refused {
            file: self.certificate.clone(),
            error,
        };
        let octets = |octets: SecretBytes| octets.expose().to_vec();
        let key = provider()
            .key_provider
            .load_private_key(match keyed.key {
                PlainKey::Pkcs8(key) => PrivatePkcs8KeyDer::from(octets(key)).into(),
                PlainKey::Pkcs1(key) => PrivatePkcs1KeyDer::from(octets(key)).into(),
                PlainKey::Sec1(key) => PrivateSec1KeyDer::from(octets(key)).into(),
            })
            .map_err(refused)?;
        let is_over_key = |certificate: &Vec<u8>| {
            let alone = vec![CertificateDer::from(certificate.clone())];
            CertifiedKey::new(alone, Arc::clone(&key)).keys_match()
        };
        let mut mismatch = None;
        let ours = keyed.certificates.iter().position(|certificate| {
            let matched = is_over_key(certificate);
            matched
                .map_err(|error| mismatch.get_or_insert(error).clone())
                .is_ok()
        });
        let Some(ours) = ours else {
            let mismatch = mismatch.unwrap_or(rustls::Error::NoCertificatesPresented);
            return Err(refused(mismatch));
        };
        let chain = chain::in_order(keyed.certificates, ours)
            .into_iter()
            .map(CertificateDer::from)
            .collect();
        Ok(CertifiedKey::new(chain, key))
    }

    fn content(&self, file: &Path, error: BundleError) -> TlsError {
        let file = file.to_owned();
        TlsError::Content { file, error }
    }
}

fn read_passphrase(file: &Path) -> Result<SecretBytes, TlsError> {
    let text = read_file(file)?;
    let octets = text.expose();
    let line = octets.strip_suffix(b"\n").unwrap_or(octets);
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
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
