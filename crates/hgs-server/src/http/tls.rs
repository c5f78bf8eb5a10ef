//! TLS of the HTTPS listener: versions 1.2 and 1.3, HTTP/1.1 only, and a certificate that can be
//! exchanged while the server runs.

use std::error::Error;
use std::fs::{self, Metadata};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use hgs_crypto::SecretBytes;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, error, info};

use super::connection;
use super::exchange::Engine;
use super::listener::{Listener, admit};
use super::overload::Addresses;
use super::rejection::Ending;
use super::service::Peer;
use super::stopping::Stopping;
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
    /// The file holds no certificate in PEM form, or a broken one.
    #[error("no certificate in PEM form in {}", file.display())]
    NoCertificate {
        /// The file.
        file: PathBuf,
    },
    /// The file holds no private key in PEM form that is not under a passphrase.
    #[error("no unencrypted private key in PEM form in {}", file.display())]
    NoKey {
        /// The file.
        file: PathBuf,
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

/// The certificate in use, and the files that it came from.
#[derive(Debug)]
pub(super) struct CurrentCertificate {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
    /// What the files looked like when they were last read, for better or worse.
    seen: Mutex<Option<FileState>>,
}

impl CurrentCertificate {
    /// Reads the certificate that `settings` name.
    pub(super) fn load(settings: &Https) -> Result<Arc<Self>, TlsError> {
        let certificate = settings
            .certificate
            .clone()
            .ok_or(TlsError::NotConfigured)?;
        let key = settings.key.clone().unwrap_or_else(|| certificate.clone());
        let seen = FileState::of(&certificate, &key);
        let current = read(&certificate, &key)?;
        Ok(Arc::new(Self {
            certificate,
            key,
            current: RwLock::new(Arc::new(current)),
            seen: Mutex::new(seen),
        }))
    }

    /// Reads the files again. When they can't be used, the certificate stays as it was.
    pub(super) fn reload(&self) -> Result<(), TlsError> {
        let seen = FileState::of(&self.certificate, &self.key);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        let read = read(&self.certificate, &self.key).inspect_err(|error| {
            error!(
                %error,
                source = error.source().map(tracing::field::display),
                "the TLS certificate stays as it was"
            );
        })?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(read);
        info!(certificate = %self.certificate.display(), "the TLS certificate was read again");
        Ok(())
    }

    /// Reads the files again if they have changed since they were last read.
    pub(super) fn reload_if_changed(&self) {
        let found = FileState::of(&self.certificate, &self.key);
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

/// Enough about both files to notice that one was replaced or written.
#[derive(Debug, PartialEq, Eq)]
struct FileState([(u64, u64, u64, i64, i64); 2]);

impl FileState {
    fn of(certificate: &Path, key: &Path) -> Option<Self> {
        let state = |metadata: Metadata| {
            (
                metadata.dev(),
                metadata.ino(),
                metadata.size(),
                metadata.mtime(),
                metadata.mtime_nsec(),
            )
        };
        Some(Self([
            state(fs::metadata(certificate).ok()?),
            state(fs::metadata(key).ok()?),
        ]))
    }
}

fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = read_file(certificate)?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain.expose())
        .collect::<Result<_, _>>()
        .ok()
        .filter(|chain: &Vec<_>| !chain.is_empty())
        .ok_or_else(|| TlsError::NoCertificate {
            file: certificate.to_path_buf(),
        })?;
    let private_key =
        PrivateKeyDer::from_pem_slice(read_file(key)?.expose()).map_err(|_| TlsError::NoKey {
            file: key.to_path_buf(),
        })?;
    CertifiedKey::from_der(chain, private_key, &provider()).map_err(|error| TlsError::Refused {
        file: certificate.to_path_buf(),
        error,
    })
}

/// The file may hold a private key, so its octets are treated as a secret.
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

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// HTTPS.
pub(super) struct Tls {
    listener: TcpListener,
    addresses: Arc<Addresses>,
    acceptor: TlsAcceptor,
    handshake_time: Duration,
}

impl Tls {
    pub(super) fn new(
        listener: TcpListener,
        addresses: Arc<Addresses>,
        certificate: Arc<CurrentCertificate>,
        handshake_time: Duration,
    ) -> Self {
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("the provider has cipher suites for both versions")
            .with_no_client_auth()
            .with_cert_resolver(certificate);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self {
            listener,
            addresses,
            acceptor: TlsAcceptor::from(Arc::new(config)),
            handshake_time,
        }
    }
}

impl Listener for Tls {
    type Raw = (TcpStream, SocketAddr);

    async fn accept(&self) -> io::Result<Self::Raw> {
        self.listener.accept().await
    }

    fn serve(
        &self,
        (stream, address): Self::Raw,
        engine: Arc<Engine>,
        mut stopping: Stopping,
    ) -> impl Future<Output = ()> + Send + 'static {
        let admission = admit(&self.addresses, &engine, &stream, address);
        let acceptor = self.acceptor.clone();
        let handshake_time = self.handshake_time;
        async move {
            let Some(_admission) = admission else {
                return;
            };
            let handshake = tokio::select! {
                handshake = timeout(handshake_time, acceptor.accept(stream)) => handshake,
                () = stopping.ordered() => return,
            };
            match handshake {
                Ok(Ok(stream)) => {
                    connection::serve(stream, Peer::Tcp(address), engine, stopping).await;
                }
                Ok(Err(error)) => {
                    debug!(peer = %address, %error, "a TLS handshake failed");
                    failed(&engine, Ending::Handshake);
                }
                Err(_elapsed) => failed(&engine, Ending::SlowHandshake),
            }
        }
    }
}

fn failed(engine: &Engine, ending: Ending) {
    engine.metrics.handshake_failed();
    engine.metrics.rejected(ending.name());
}
