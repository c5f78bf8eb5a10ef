//! HTTP/1.1 as a client that is asked for exactly one thing at a time: no redirect is followed, no
//! proxy taken from the environment, nothing kept beyond a budget.

mod connection_steps;
mod exchange;
mod race;
mod resolve;
pub(crate) mod tls;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hgs_pki::Time;
use hyper::HeaderMap;
use tokio::net::TcpStream;

use crate::url::{Scheme, Url};

pub use race::Unreachable;
pub use resolve::{Addresses, Resolve, SystemResolver};
pub use tls::{TlsFailure, TlsSettingsError};

/// Octets of the longest body that is accepted (protocol profile, section 2).
pub const MAX_BODY: usize = 512 * 1024;

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Head start of one address of a name before the next is tried beside it (RFC 8305,
    /// Connection Attempt Delay).
    pub stagger: Duration,
    /// Until one of the addresses has accepted a connection.
    pub connect: Duration,
    /// From the connection to the last octet of the answer, TLS handshake included.
    pub exchange: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            stagger: Duration::from_millis(250),
            connect: Duration::from_secs(10),
            // The server gives up on a request after 30 seconds: its answer should still arrive.
            exchange: Duration::from_secs(35),
        }
    }
}

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    Get {
        url: Url,
    },
    Post {
        url: Url,
        content_type: &'static str,
        /// Further header fields.
        fields: Vec<(&'static str, String)>,
        body: Bytes,
    },
}

impl Request {
    pub(crate) fn url(&self) -> &Url {
        match self {
            Self::Get { url } | Self::Post { url, .. } => url,
        }
    }
}

/// What was answered, whatever the status but for a redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
    /// The time that the service says it is.
    pub(crate) date: Option<Time>,
    /// All header fields.
    pub(crate) fields: HeaderMap,
}

/// Why there is no answer. At fault is the network, the service, or the configured URL.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransportError {
    /// The name of the service can't be resolved.
    #[error("{host} can't be resolved: {reason}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver says.
        reason: String,
    },
    /// No address accepted a connection.
    #[error("{0}")]
    Unreachable(Unreachable),
    /// The TLS handshake failed: a certificate that no configured authority vouches for, for
    /// another name, or expired; or no common version.
    #[error("TLS with {address} failed: {failure}")]
    Tls {
        /// The address.
        address: SocketAddr,
        /// Why.
        failure: TlsFailure,
    },
    /// No TLS settings could be made, so nothing was asked.
    #[error(transparent)]
    TlsSettings(#[from] TlsSettingsError),
    /// Connected, but no whole answer in time.
    #[error("{address} did not answer within {} s", limit.as_secs())]
    Timeout {
        /// The address.
        address: SocketAddr,
        /// The time it had.
        limit: Duration,
    },
    /// Connected, but what came was not HTTP, or ended early.
    #[error("{address} does not speak HTTP/1.1 properly: {reason}")]
    Broken {
        /// The address.
        address: SocketAddr,
        /// What the HTTP library says.
        reason: String,
    },
    /// Plain HTTP was spoken to a listener that speaks TLS, and said so.
    #[error("{address} speaks TLS, and the URL begins with http:")]
    PlainToTls {
        /// The address.
        address: SocketAddr,
    },
    /// The body is longer than any answer can be.
    #[error("the answer has more than {limit} octets")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The service sends us elsewhere; it is not gone to (attacks.md K3).
    #[error("the service answers with a redirect (status {status}), which is not followed")]
    Redirect {
        /// The status code.
        status: u16,
    },
}

/// Sends requests, and remembers for each host the address that answered last.
#[derive(Debug)]
pub(crate) struct Client {
    timing: Timing,
    resolver: Arc<dyn Resolve>,
    tls: Result<Arc<rustls::ClientConfig>, TlsSettingsError>,
    healthy: Mutex<HashMap<String, SocketAddr>>,
}

impl Client {
    /// A client for plain HTTP and, given settings, for HTTPS. If there are none, a request
    /// for an https URL fails with the reason.
    pub(crate) fn new(
        timing: Timing,
        resolver: Arc<dyn Resolve>,
        tls: Result<Arc<rustls::ClientConfig>, TlsSettingsError>,
    ) -> Self {
        Self {
            timing,
            resolver,
            tls,
            healthy: Mutex::default(),
        }
    }

    /// Sends `request` to the addresses of its host until one answers, each at most once. Every
    /// request of the two protocols may be repeated.
    pub(crate) async fn send(&self, request: &Request) -> Result<Response, TransportError> {
        let authority = request.url().authority();
        let mut addresses = self.addresses(request.url()).await?;
        loop {
            let (address, stream) = self.connect(&mut addresses).await?;
            match self.exchange(request, address, stream).await {
                Ok(response) => {
                    tracing::debug!(url = %request.url(), %address, status = response.status);
                    self.healthy().insert(authority, address);
                    return Ok(response);
                }
                // An answer that is refused is an answer: the other addresses would give it too.
                Err(
                    error @ (TransportError::TooLarge { .. } | TransportError::Redirect { .. }),
                ) => {
                    return Err(error);
                }
                Err(error) => {
                    self.healthy().remove(&authority);
                    tracing::debug!(%address, %error, "address did not answer");
                    if addresses.is_empty() {
                        return Err(error);
                    }
                }
            }
        }
    }

    async fn addresses(&self, url: &Url) -> Result<Vec<SocketAddr>, TransportError> {
        let refused = |reason: String| TransportError::Resolve {
            host: url.host().to_string(),
            reason,
        };
        let resolved = tokio::time::timeout(
            self.timing.connect,
            self.resolver.resolve(url.host(), url.port()),
        );
        let resolved = match resolved.await {
            Ok(resolved) => resolved.map_err(|error| refused(error.to_string()))?,
            Err(_) => {
                let seconds = self.timing.connect.as_secs();
                return Err(refused(format!("no answer within {seconds} s")));
            }
        };
        let healthy = self.healthy().get(&url.authority()).copied();
        let addresses = race::order(resolved, healthy);
        if addresses.is_empty() {
            return Err(refused("the name has no address".to_owned()));
        }
        Ok(addresses)
    }

    async fn connect(
        &self,
        addresses: &mut Vec<SocketAddr>,
    ) -> Result<(SocketAddr, TcpStream), TransportError> {
        let connect = |address| async move {
            let stream = TcpStream::connect(address).await?;
            // Small requests must not wait for more to send.
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(stream)
        };
        race::first(addresses, self.timing.stagger, self.timing.connect, connect)
            .await
            .map_err(TransportError::Unreachable)
    }

    async fn exchange(
        &self,
        request: &Request,
        address: SocketAddr,
        stream: TcpStream,
    ) -> Result<Response, TransportError> {
        let limit = self.timing.exchange;
        let exchange = async {
            match (request.url().scheme(), &self.tls) {
                (Scheme::Http, _) => exchange::exchange(request, address, stream).await,
                (Scheme::Https, Err(error)) => Err(error.clone().into()),
                (Scheme::Https, Ok(settings)) => {
                    let stream = tls::connect(settings, request.url(), address, stream).await?;
                    exchange::exchange(request, address, stream).await
                }
            }
        };
        tokio::time::timeout(limit, exchange)
            .await
            .unwrap_or(Err(TransportError::Timeout { address, limit }))
    }

    fn healthy(&self) -> std::sync::MutexGuard<'_, HashMap<String, SocketAddr>> {
        // A map of hints stays usable whatever happened to the thread that held it.
        self.healthy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
