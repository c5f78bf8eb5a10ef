//! TLS with a service: who may vouch for its certificate, and the handshake.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hgs_files::FileError;
use rustls::pki_types::pem::PemObject as _;
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
    /// The file holds no certificate that can be an authority.
    #[error("{}: no certificate of a certification authority in PEM", .0.display())]
    Empty(PathBuf),
    /// The cryptographic library does not offer TLS 1.2 and 1.3.
    #[error("TLS can't be set up: {0}")]
    Unsupported(String),
}

/// TLS settings that accept certificates from the authorities in `file` and no others, or else from
/// those that the system trusts. TLS 1.2 or 1.3, HTTP/1.1 only.
pub(crate) fn settings(file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsSettingsError> {
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
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(&octets).filter_map(Result::ok);
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(TlsSettingsError::Empty(file.to_owned()));
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
