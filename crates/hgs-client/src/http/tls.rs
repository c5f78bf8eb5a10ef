//! TLS with a service: who may vouch for its certificate, and the handshake.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hgs_crypto::SecretBytes;
use hgs_custody::bundle::KeyedChain;
use hgs_custody::pem::PlainKey;
use hgs_custody::{Bundle, BundleError};
use hgs_files::FileError;
use hgs_pki::Time;
use hgs_pki::chain::{ChainError, ConstrainedRoots};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
    ServerName, UnixTime,
};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, InvalidMessage, OtherError,
    RootCertStore, SignatureScheme,
};
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
    /// The client's certificate or key can't be used.
    #[error("the client certificate can't be used: {0}")]
    ClientCertificate(String),
    /// The cryptographic library does not offer TLS 1.2 and 1.3.
    #[error("TLS can't be set up: {0}")]
    Unsupported(String),
}

/// Why a TLS handshake failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsFailure {
    /// What came is no record of TLS.
    #[error("what answers there does not speak TLS")]
    NotTls,
    /// The certificate of a certification authority, which RFC 5280 accepts from no server.
    #[error(
        "its certificate is one of a certification authority (CA:TRUE), which no server may present"
    )]
    CertificateIsAuthority,
    /// No path leads to a trusted authority.
    #[error("no trusted certification authority has issued its certificate")]
    UnknownIssuer,
    /// The certificate has expired.
    #[error("its certificate expired at {0}")]
    Expired(Time),
    /// The certificate is not valid yet.
    #[error("its certificate is not valid before {0}")]
    NotYetValid(Time),
    /// Any other finding about the path to a trusted authority.
    #[error("its certificate is refused: {0}")]
    Chain(ChainError),
    /// Anything else, in the words of the TLS library.
    #[error("{0}")]
    Other(String),
}

impl TlsFailure {
    /// From what the handshake returned.
    fn of(error: &io::Error) -> Self {
        let source = error.get_ref().and_then(|inner| inner.downcast_ref());
        match source {
            Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => Self::NotTls,
            Some(rustls::Error::InvalidCertificate(refused)) => Self::of_certificate(refused),
            _ => Self::Other(error.to_string()),
        }
    }

    fn of_certificate(refused: &CertificateError) -> Self {
        match refused {
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::ExpiredContext { not_after, .. } => Self::Expired(time(*not_after)),
            CertificateError::NotValidYetContext { not_before, .. } => {
                Self::NotYetValid(time(*not_before))
            }
            CertificateError::Other(OtherError(other)) => match ChainError::find(other.as_ref()) {
                Some(ChainError::LeafIsAuthority) => Self::CertificateIsAuthority,
                Some(ChainError::UnknownIssuer) => Self::UnknownIssuer,
                Some(ChainError::Expired(time)) => Self::Expired(time),
                Some(ChainError::NotYetValid(time)) => Self::NotYetValid(time),
                Some(found) => Self::Chain(found),
                None => Self::Other(refused.to_string()),
            },
            _ => Self::Other(refused.to_string()),
        }
    }
}

fn time(time: UnixTime) -> Time {
    Time::from_unix(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

/// TLS settings that accept certificates from the authorities in `file` and no others, or else from
/// those that the system trusts. TLS 1.2 or 1.3, HTTP/1.1 only.
pub(crate) fn settings(file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsSettingsError> {
    tls_settings(file, None)
}

/// TLS settings as every client here has them: certificates from the authorities in `file` and no others, or else from those
/// that the system trusts. The client shows the certificate over the key in `certificate`.
///
/// # Errors
/// When the file can't be used, and when key and certificate do not belong together.
pub fn tls_settings(
    file: Option<&Path>,
    certificate: Option<KeyedChain>,
) -> Result<Arc<ClientConfig>, TlsSettingsError> {
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
    let authorities = Bundle::read(&octets, None)
        .and_then(Bundle::certificates_der)
        .map_err(refused)?;
    let mut roots = ConstrainedRoots::default();
    for (number, authority) in (1..).zip(authorities) {
        let mut store = RootCertStore::empty();
        let added = store.add(CertificateDer::from(authority));
        let added = added.map_err(|error| error.to_string()).and_then(|()| {
            let anchors = store.roots.into_iter();
            let mut added = anchors.map(|anchor| roots.add(anchor));
            added.try_for_each(|one| one.map_err(|error| error.to_string()))
        });
        match added {
            // Of a distribution's many, one that can't be an authority here is no reason to trust none.
            Err(reason) if !is_system => {
                return Err(TlsSettingsError::NoAuthority {
                    path: file.to_owned(),
                    number,
                    reason,
                });
            }
            _ => {}
        }
    }
    let certificate = certificate.map(over_key).transpose()?;
    client_configuration(roots, certificate)
        .map_err(|error| TlsSettingsError::Unsupported(error.to_string()))
        .map(Arc::new)
}

/// The certificate over the key, whatever others there are.
fn over_key(
    keyed: KeyedChain,
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), TlsSettingsError> {
    let unusable = |error: rustls::Error| TlsSettingsError::ClientCertificate(error.to_string());
    let octets = |octets: SecretBytes| octets.expose().to_vec();
    let key: PrivateKeyDer<'static> = match keyed.key {
        PlainKey::Pkcs8(key) => PrivatePkcs8KeyDer::from(octets(key)).into(),
        PlainKey::Pkcs1(key) => PrivatePkcs1KeyDer::from(octets(key)).into(),
        PlainKey::Sec1(key) => PrivateSec1KeyDer::from(octets(key)).into(),
    };
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let signing = provider.key_provider.load_private_key(key.clone_key());
    let signing = signing.map_err(unusable)?;
    let found = keyed.certificates.into_iter().find(|certificate| {
        let alone = vec![CertificateDer::from(certificate.clone())];
        let pair = CertifiedKey::new(alone, Arc::clone(&signing));
        pair.keys_match().is_ok()
    });
    let found = found.ok_or_else(|| {
        let reason = "no certificate in the file belongs to the key";
        TlsSettingsError::ClientCertificate(reason.to_owned())
    })?;
    Ok((found.into(), key))
}

fn client_configuration(
    roots: ConstrainedRoots<'static>,
    certificate: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let store = RootCertStore {
        roots: roots.anchors().to_vec(),
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = match roots.anchors_lack_constraints() {
        false => builder.with_root_certificates(store),
        true => {
            let algorithms = provider.signature_verification_algorithms;
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(ConstrainedVerifier {
                    roots,
                    algorithms,
                }))
        }
    };
    let mut settings = match certificate {
        Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key)?,
        None => builder.with_no_client_auth(),
    };
    settings.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(settings)
}

/// Verifies as rustls does, with the same library, and in the same pass the name constraints of roots that rustls leaves out.
#[derive(Debug)]
struct ConstrainedVerifier {
    roots: ConstrainedRoots<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ConstrainedVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.roots
            .verify_tls_server(leaf, intermediates, now, self.algorithms.all)
            .map_err(|error| CertificateError::Other(OtherError(Arc::new(error))))?;
        verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

pub(super) async fn connect(
    settings: &Arc<ClientConfig>,
    url: &Url,
    address: SocketAddr,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, TransportError> {
    let failed = |failure| TransportError::Tls { address, failure };
    let name = match url.host() {
        Host::Address(address) => ServerName::from(*address),
        Host::Name(name) => {
            let name = ServerName::try_from(name.clone());
            name.map_err(|error| failed(TlsFailure::Other(error.to_string())))?
        }
    };
    TlsConnector::from(Arc::clone(settings))
        .connect(name, stream)
        .await
        .map_err(|error| failed(TlsFailure::of(&error)))
}
