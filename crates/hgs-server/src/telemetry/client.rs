//! How traces reach the collector: HTTP/1.1, each time over a new connection, with TLS where the URL says so.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Uri;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tracing::warn;

use crate::config;

/// Where Debian, Ubuntu and many others keep the authorities that the system trusts.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Octets of the longest answer that is read.
const MAX_ANSWER: usize = 64 * 1024;
/// How often it is told that traces can't be sent.
const TELL_AGAIN: Duration = Duration::from_mins(1);

/// There is no way to the collector.
#[derive(Debug, thiserror::Error)]
pub enum CollectorError {
    /// No authorities.
    #[error("{}: {reason}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The cryptographic library does not offer TLS.
    #[error("TLS can't be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// Sends batches of spans.
#[derive(Clone)]
pub(super) struct Client {
    tls: Option<Arc<ClientConfig>>,
    runtime: Handle,
    patience: Duration,
    failures: Arc<Mutex<Failures>>,
}

/// What could not be sent since it was last told.
#[derive(Default)]
struct Failures {
    told: Option<Instant>,
    count: u64,
}

impl Client {
    pub(super) fn new(
        settings: &config::Telemetry,
        runtime: Handle,
        patience: Duration,
    ) -> Result<Self, CollectorError> {
        let endpoint = settings.otlp_endpoint.as_ref();
        let is_tls = endpoint.is_some_and(|it| it.traces().starts_with("https:"));
        let authorities = settings.authorities.as_deref();
        let authorities = authorities.unwrap_or_else(|| Path::new(SYSTEM_AUTHORITIES));
        Ok(Self {
            tls: is_tls.then(|| tls(authorities)).transpose()?,
            runtime,
            patience,
            failures: Arc::default(),
        })
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (host, port) = place(request.uri())?;
        let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
        match &self.tls {
            None => exchange(stream, request).await,
            Some(tls) => {
                let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
                let connector = TlsConnector::from(Arc::clone(tls));
                exchange(connector.connect(name, stream).await?, request).await
            }
        }
    }

    /// Tells of a failure, once a minute.
    fn tell(&self, failure: &dyn fmt::Display) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.count += 1;
        if failures
            .told
            .is_none_or(|told| told.elapsed() >= TELL_AGAIN)
        {
            let times = std::mem::take(&mut failures.count);
            failures.told = Some(Instant::now());
            warn!(%failure, times, "traces can't be sent to the collector; nothing else depends on it");
        }
    }
}

/// The thread that waits for it is none of the runtime's, so the runtime does the work.
#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.clone();
        let sending = self.runtime.spawn(async move {
            let sent = timeout(client.patience, client.send(request)).await;
            let sent = sent.unwrap_or_else(|_| Err("it takes too long".into()));
            match &sent {
                Ok(answer) if answer.status().is_success() => {}
                Ok(answer) => client.tell(&format_args!("it answers {}", answer.status())),
                Err(failure) => client.tell(failure),
            }
            sent
        });
        sending.await?
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Client(..)")
    }
}

fn place(url: &Uri) -> Result<(&str, u16), HttpError> {
    let host = url.host().ok_or("the endpoint has no host")?;
    let default = if url.scheme_str() == Some("https") {
        443
    } else {
        80
    };
    Ok((host, url.port_u16().unwrap_or(default)))
}

async fn exchange<S>(stream: S, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut head, body) = request.into_parts();
    let url = std::mem::take(&mut head.uri);
    let authority = url.authority().map_or("", |authority| authority.as_str());
    head.headers.insert(HOST, HeaderValue::try_from(authority)?);
    head.headers
        .insert(CONNECTION, HeaderValue::from_static("close"));
    head.uri = url.path().parse()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let answer = sender
        .send_request(Request::from_parts(head, Full::new(body)))
        .await?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
    connection.abort();
    Ok(Response::from_parts(head, body))
}

fn tls(authorities: &Path) -> Result<Arc<ClientConfig>, CollectorError> {
    let refused = |reason: String| CollectorError::Authorities {
        path: authorities.to_owned(),
        reason,
    };
    let certificates = CertificateDer::pem_file_iter(authorities)
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
    Ok(Arc::new(config))
}
