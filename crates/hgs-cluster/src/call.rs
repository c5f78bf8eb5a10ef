//! How one node calls another: HTTPS to its cluster listener, one request a connection, each within its time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hgs_pki::Thumbprint;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::node::{Host, NodeAddress};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take to begin, and each part of it after the one before.
const ANSWER: Duration = Duration::from_secs(40);
/// Octets of the longest answer that is taken as a whole.
const MAX_ANSWER: usize = 256 * 1024;

/// Why a node has not answered as asked.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It can't be reached.
    #[error("{address}: can't be reached: {reason}")]
    Unreachable {
        /// Where.
        address: NodeAddress,
        /// Why.
        reason: String,
    },
    /// Another one answers there.
    #[error("{address}: {reason}")]
    Stranger {
        /// Where.
        address: NodeAddress,
        /// What TLS says.
        reason: String,
    },
    /// It answered partly, or too late.
    #[error("{address}: {reason}")]
    Broken {
        /// Where.
        address: NodeAddress,
        /// Why.
        reason: String,
    },
    /// It refuses.
    #[error("{address} refuses: {reason}")]
    Refused {
        /// Where.
        address: NodeAddress,
        /// In its words.
        reason: String,
    },
    /// It can't do that now.
    #[error("{address} can't do that now: {reason}")]
    Later {
        /// Where.
        address: NodeAddress,
        /// In its words.
        reason: String,
    },
}

/// A node to be called.
#[derive(Debug, Clone)]
pub(crate) struct Callee<'a> {
    pub(crate) address: &'a NodeAddress,
    pub(crate) tls: Arc<ClientConfig>,
}

impl Callee<'_> {
    fn broken(&self, reason: impl ToString) -> CallError {
        CallError::Broken {
            address: self.address.clone(),
            reason: reason.to_string(),
        }
    }

    /// Asks, and takes the whole answer.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, CallError> {
        let answer = self.begin(method, path, body).await?;
        let collected = timeout(
            ANSWER,
            Limited::new(answer.into_body(), MAX_ANSWER).collect(),
        );
        let collected = collected
            .await
            .map_err(|_| self.broken("it did not answer in time"))?;
        Ok(collected.map_err(|error| self.broken(error))?.to_bytes())
    }

    /// Asks, and returns when the answer begins.
    pub(crate) async fn begin(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, CallError> {
        let stream = timeout(CONNECT, self.connect()).await;
        let stream = stream.unwrap_or_else(|_| {
            Err(CallError::Unreachable {
                address: self.address.clone(),
                reason: "it does not answer".to_owned(),
            })
        })?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.broken(error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to another node has ended");
            }
        });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.address.to_string())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| self.broken(error))?;
        let answer = timeout(ANSWER, sender.send_request(request)).await;
        let answer = answer.map_err(|_| self.broken("it did not answer in time"))?;
        let answer = answer.map_err(|error| self.broken(error))?;
        match answer.status() {
            StatusCode::OK => Ok(answer),
            status => Err(self.refusal(status, answer).await),
        }
    }

    async fn refusal(&self, status: StatusCode, answer: Response<Incoming>) -> CallError {
        let body = timeout(ANSWER, Limited::new(answer.into_body(), 4096).collect()).await;
        let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes());
        let text = String::from_utf8_lossy(body.as_deref().unwrap_or_default()).into_owned();
        // It may go to a terminal.
        let text: String = text
            .chars()
            .filter(|character| !character.is_control())
            .collect();
        let reason = if text.is_empty() {
            status.to_string()
        } else {
            text
        };
        let address = self.address.clone();
        match status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                CallError::Later { address, reason }
            }
            _ => CallError::Refused { address, reason },
        }
    }

    async fn connect(&self) -> Result<tokio_rustls::client::TlsStream<TcpStream>, CallError> {
        let unreachable = |error: &dyn ToString| CallError::Unreachable {
            address: self.address.clone(),
            reason: error.to_string(),
        };
        let stream = TcpStream::connect(self.address.to_string())
            .await
            .map_err(|error| unreachable(&error))?;
        let name = match &self.address.host {
            Host::Address(address) => ServerName::from(*address),
            Host::Name(name) => {
                ServerName::try_from(name.clone()).map_err(|error| unreachable(&error))?
            }
        };
        let connected = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream);
        connected.await.map_err(|error| CallError::Stranger {
            address: self.address.clone(),
            reason: format!("what answers there is not a node of this cluster: {error}"),
        })
    }
}

/// How a node that joins asks: it has no certificate yet, and knows the cluster by the fingerprint of its authority.
pub(crate) fn pinned(fingerprint: Thumbprint) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedAuthority {
            fingerprint,
            provider,
        }))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Accepts servers whose certificate chains to the authority with this fingerprint, which they send along, and that are
/// called as they were to be reached. rustls itself checks all that, with that authority as the only root.
#[derive(Debug)]
struct PinnedAuthority {
    fingerprint: Thumbprint,
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let unknown = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let authority = intermediates
            .iter()
            .find(|certificate| Thumbprint::of(certificate) == self.fingerprint)
            .ok_or_else(unknown)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&self.provider),
        );
        let verifier = verifier.build().map_err(|_| unknown())?;
        verifier.verify_server_cert(leaf, &[], name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
