//! Requests of the guardian's own: HTTP/1.1, each over a new connection, with TLS where the URL says so. No redirect is
//! followed, and no proxy is taken from the environment.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::task::Task;

/// Where Debian, Ubuntu and many others keep the authorities that the system trusts.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What comes in place of an answer.
pub(crate) type NoAnswer = Box<dyn std::error::Error + Send + Sync>;

/// There are no authorities that could vouch for a server.
#[derive(Debug, thiserror::Error)]
pub enum AuthoritiesError {
    /// No authorities.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The cryptographic library does not offer TLS.
    #[error("TLS can't be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// Sends requests to servers for which certain authorities vouch.
#[derive(Clone)]
pub(crate) struct Outgoing(Arc<ClientConfig>);

impl Outgoing {
    /// Reads the authorities from a PEM file, or takes those of the system.
    pub(crate) fn new(authorities: Option<&Path>) -> Result<Self, AuthoritiesError> {
        let path = authorities.unwrap_or_else(|| Path::new(SYSTEM_AUTHORITIES));
        let refused = |reason: String| AuthoritiesError::File {
            path: path.to_owned(),
            reason,
        };
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| refused(error.to_string()))?;
        let mut roots = RootCertStore::empty();
        // Of a distribution's many, one that can't be an authority here is no reason to trust none.
        let (added, _) = roots.add_parsable_certificates(certificates);
        if added == 0 {
            return Err(refused("it holds no certification authority".to_owned()));
        }
        let config = ClientConfig::builder_with_provider(crate::http::tls_provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// Sends a request, and reads an answer of at most so many octets.
    pub(crate) async fn send(
        &self,
        request: Request<Bytes>,
        max_answer: usize,
    ) -> Result<Response<Bytes>, NoAnswer> {
        let (stream, host) = connect(request.uri()).await?;
        if request.uri().scheme_str() != Some("https") {
            return exchange(stream, request, max_answer).await;
        }
        let connector = TlsConnector::from(Arc::clone(&self.0));
        let stream = connector
            .connect(ServerName::try_from(host)?, stream)
            .await?;
        exchange(stream, request, max_answer).await
    }
}

/// As [`Outgoing::send`], without TLS.
pub(crate) async fn send_plain(
    request: Request<Bytes>,
    max_answer: usize,
) -> Result<Response<Bytes>, NoAnswer> {
    let (stream, _) = connect(request.uri()).await?;
    exchange(stream, request, max_answer).await
}

async fn connect(url: &Uri) -> Result<(TcpStream, String), NoAnswer> {
    let host = url.host().ok_or("the URL has no host")?;
    let host = host.trim_matches(['[', ']']).to_owned();
    let is_tls = url.scheme_str() == Some("https");
    let port = url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let stream = TcpStream::connect((host.as_str(), port)).await?;
    Ok((stream, host))
}

async fn exchange<S>(
    stream: S,
    request: Request<Bytes>,
    max_answer: usize,
) -> Result<Response<Bytes>, NoAnswer>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut head, body) = request.into_parts();
    let url = std::mem::take(&mut head.uri);
    let authority = url.authority().map_or("", |authority| authority.as_str());
    head.headers.insert(HOST, HeaderValue::try_from(authority)?);
    head.headers
        .insert(CONNECTION, HeaderValue::from_static("close"));
    let target = url.path_and_query().map_or("/", |target| target.as_str());
    head.uri = target.parse()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the exchange, also where nobody waits for the answer any more.
    let connection = Task::spawn(connection);
    let answer = sender
        .send_request(Request::from_parts(head, Full::new(body)))
        .await?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, max_answer).collect().await?.to_bytes();
    drop(connection);
    Ok(Response::from_parts(head, body))
}
