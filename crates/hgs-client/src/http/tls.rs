//! TLS with a service: who may vouch for its certificate, and the handshake.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hgs_custody::{Bundle, BundleError};
use hgs_files::FileError;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::TransportError;
use crate::url::{Host, Url};

/// Where Debian, Ubuntu and many others keep the authorities that the system trusts.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Octets of the longest file of authorities.
const MAX_FILE: usize = 4 * 1024 * 1024;

/// Why there are no TLS settings. The administrator is at fault.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TlsSettingsError {
    /// An https URL, but no authority to check it with.
    #[error("no certification authorities are configured for https")]
    Absent,
    /// The file can't be read.
    #[error("certification authorities: {0}")]
    File(Arc<FileError>),
    /// The file holds no certificates.
    #[error("{}: {error}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: Arc<BundleError>,
    },
    /// A certificate in the file can't be an authority.
    #[error("{}: certificate {number} can't be a certification authority: {reason}", path.display())]
    NoAuthority {
        /// The file.
        path: PathBuf,
        /// Which certificate, counted from 1.
        number: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The cryptographic library does not offer TLS 1.2 and 1.3.
    #[error("TLS can't be set up: {0}")]
    Unsupported(String),
}

/// TLS settings that accept certificates from the authorities in `file` and no others, or else from
/// those that the system trusts. TLS 1.2 or 1.3, HTTP/1.1 only.
pub(crate) fn settings(file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsSettingsError> {
    let is_system = file.is_none();
    let file = file.unwrap_or_else(|| Path::new(SYSTEM_AUTHORITIES));
    let octets = match file.canonicalize() {
        // Debian links single certificates in that folder; what counts is whose the path is.
        Ok(target) => hgs_files::read(&target, MAX_FILE),
        Err(error) => Err(FileError {
            path: file.to_owned(),
            problem: error.into(),
        }),
    };
    let octets = octets.map_err(|error| TlsSettingsError::File(Arc::new(error)))?;
    let refused = |error| TlsSettingsError::Content {
        path: file.to_owned(),
        error: Arc::new(error),
    };
    let authorities = Bundle::read(&octets, None).and_then(Bundle::certificates_der);
    let authorities = authorities.map_err(refused)?;
    let mut roots = RootCertStore::empty();
    for (number, authority) in (1..).zip(authorities) {
        match roots.add(CertificateDer::from(authority)) {
            // Of a distribution's many, one that can't be an authority here is no reason to trust none.
            Err(error) if !is_system => {
                return Err(TlsSettingsError::NoAuthority {
                    path: file.to_owned(),
                    number,
                    reason: error.to_string(),
                });
            }
            _ => {}
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut settings = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsSettingsError::Unsupported(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    settings.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(settings))
}

pub(super) async fn connect(
    settings: &Arc<ClientConfig>,
    url: &Url,
    address: SocketAddr,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, TransportError> {
    let failed = |reason: String| TransportError::Tls { address, reason };
    let name = match url.host() {
        Host::Address(address) => ServerName::from(*address),
        Host::Name(name) => {
            ServerName::try_from(name.clone()).map_err(|error| failed(error.to_string()))?
        }
    };
    TlsConnector::from(Arc::clone(settings))
        .connect(name, stream)
        .await
        .map_err(|error| failed(error.to_string()))
}
