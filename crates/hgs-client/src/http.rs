//! HTTP/1.1 as a client that is asked for exactly one thing at a time: no redirect is followed, no
//! proxy taken from the environment, nothing kept beyond a budget.

mod connection_steps;
mod conversation;
mod exchange;
mod health;
mod node;
mod race;
mod resolve;
pub(crate) mod tls;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use hgs_crypto::random::{self, System};
use hgs_pki::Time;
use hyper::HeaderMap;
use tokio::time::{Instant, sleep_until};

use crate::url::{ServiceUrls, Url};

use health::Health;

pub(crate) use conversation::Conversation;

pub use race::Unreachable;
pub use resolve::{Addresses, Resolve, SystemResolver};
pub use tls::{TlsFailure, TlsSettingsError, tls_settings};

/// Octets of the longest body that is accepted (protocol profile, section 2).
pub const MAX_BODY: usize = 512 * 1024;

/// Until all nodes of a service are asked again that can't decide.
const PAUSE: Duration = Duration::from_millis(250);

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Head start of one address of a name before the next is tried beside it (RFC 8305,
    /// Connection Attempt Delay).
    pub stagger: Duration,
    /// Until one of the addresses has accepted a connection.
    pub connect: Duration,
    /// Until another node, or another address, is asked beside one that has not answered.
    pub patience: Duration,
    /// For how long the nodes of a service are asked again while none of them can decide: nodes that lose one of them need a
    /// moment.
    pub unable: Duration,
    /// From the connection to the last octet of the answer, TLS handshake included.
    pub exchange: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            stagger: Duration::from_millis(250),
            connect: Duration::from_secs(10),
            patience: Duration::from_secs(1),
            unable: Duration::from_secs(5),
            // The server gives up on a request after 30 seconds: its answer should still arrive.
            exchange: Duration::from_secs(35),
        }
    }
}

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    Get {
        urls: ServiceUrls,
    },
    Post {
        urls: ServiceUrls,
        content_type: &'static str,
        /// Further header fields.
        fields: Vec<(&'static str, String)>,
        body: Bytes,
    },
}

impl Request {
    /// Where it can be sent.
    fn urls(&self) -> &ServiceUrls {
        match self {
            Self::Get { urls } | Self::Post { urls, .. } => urls,
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
    /// None of several nodes answered.
    #[error("no node answers: {}", each(.0))]
    NoNode(Vec<(Url, Self)>),
    /// The service sends us elsewhere; it is not gone to (attacks.md K3).
    #[error("the service answers with a redirect (status {status}), which is not followed")]
    Redirect {
        /// The status code.
        status: u16,
    },
}

fn each(failures: &[(Url, TransportError)]) -> String {
    let each = failures
        .iter()
        .map(|(url, error)| format!("{url}: {error}"));
    each.collect::<Vec<_>>().join("; ")
}

/// Sends requests, and remembers for each service the node that answered last, and for each host the address.
#[derive(Debug)]
pub(crate) struct Client {
    timing: Timing,
    resolver: Arc<dyn Resolve>,
    tls: Result<Arc<rustls::ClientConfig>, TlsSettingsError>,
    /// By their origins.
    nodes: Mutex<Health<String>>,
    addresses: Mutex<Health<SocketAddr>>,
    /// The place in the list of URLs where the first choice is.
    first_choice: usize,
}

impl Client {
    /// A client for plain HTTP and, given settings, for HTTPS. If there are none, a request
    /// for an https URL fails with the reason.
    pub(crate) fn new(
        timing: Timing,
        resolver: Arc<dyn Resolve>,
        tls: Result<Arc<rustls::ClientConfig>, TlsSettingsError>,
    ) -> Self {
        // Hosts that have the same list share out among the nodes. Without randomness, all begin with the first.
        let first_choice = random::array(&mut System::new()).map_or(0, u16::from_be_bytes);
        Self {
            timing,
            resolver,
            tls,
            nodes: Mutex::default(),
            addresses: Mutex::default(),
            first_choice: first_choice.into(),
        }
    }

    /// Sends `request` to the nodes of the service until one answers. Every request of the two protocols may be repeated.
    pub(crate) async fn send(&self, request: &Request) -> Result<Response, TransportError> {
        let deadline = Instant::now() + self.timing.unable;
        loop {
            let outcome = self.ask_all(request).await;
            let again = Instant::now() + PAUSE;
            match &outcome {
                Ok(Response { status: 503, .. })
                    if request.urls().iter().len() > 1 && again < deadline =>
                {
                    sleep_until(again).await;
                }
                _ => return outcome,
            }
        }
    }

    /// Sends `request` to the nodes of the service until one answers, each at most once.
    ///
    /// The next node is asked when one fails or can't answer now, and beside one that keeps silent. Whatever a node decides
    /// is the answer.
    async fn ask_all(&self, request: &Request) -> Result<Response, TransportError> {
        let service = request.urls().first().origin();
        let mut waiting = self.nodes_in_order(request.urls());
        let mut asked = FuturesUnordered::new();
        let mut failures = Failures::default();
        let mut newest = None;
        // From when on another node is asked beside those that keep silent.
        let mut next = Instant::now();
        loop {
            if asked.is_empty() || next <= Instant::now() {
                match waiting.pop_front() {
                    Some(url) => {
                        newest = Some(url.origin());
                        asked.push(async move { (url, self.ask_node(request, url).await) });
                        let remaining = |url: &&Url| lock(&self.nodes).remaining(&url.origin());
                        let remaining = waiting.front().and_then(remaining).unwrap_or_default();
                        next = Instant::now() + self.timing.patience.max(remaining);
                    }
                    None if asked.is_empty() => return failures.into_outcome(),
                    None => {}
                }
            }
            tokio::select! {
                biased;
                Some((url, outcome)) = asked.next() => match outcome {
                    Ok(response) if response.status < 500 => {
                        lock(&self.nodes).answered(&service, &url.origin());
                        return Ok(response);
                    }
                    // Whichever node is asked.
                    Err(error @ TransportError::TlsSettings(_)) => return Err(error),
                    outcome => {
                        lock(&self.nodes).failed(&service, &url.origin());
                        failures.add(url, outcome);
                        next = Instant::now();
                    }
                },
                () = sleep_until(next), if !waiting.is_empty() => {
                    if let Some(silent) = &newest {
                        tracing::info!(%silent, "no answer yet; another node is asked, too");
                        lock(&self.nodes).failed(&service, silent);
                    }
                }
            }
        }
    }

    /// The node that answered last, then from the first choice on, with those last that failed lately.
    fn nodes_in_order<'u>(&self, urls: &'u ServiceUrls) -> VecDeque<&'u Url> {
        let health = lock(&self.nodes);
        let preferred = health.preferred(&urls.first().origin());
        let mut nodes: Vec<_> = urls.iter().collect();
        let start = self.first_choice % nodes.len();
        nodes.rotate_left(start);
        nodes.sort_by_key(|url| Some(url.origin()) != preferred);
        health.sort(&mut nodes, |url| url.origin());
        nodes.into()
    }
}

/// What came in place of an answer, from nodes that were asked.
#[derive(Default)]
struct Failures {
    /// That a node can't answer now.
    unable: Option<Response>,
    errors: Vec<(Url, TransportError)>,
}

impl Failures {
    fn add(&mut self, url: &Url, outcome: Result<Response, TransportError>) {
        match outcome {
            Ok(response) => {
                tracing::info!(%url, status = response.status, "node can't answer now");
                self.unable = Some(response);
            }
            Err(error) => {
                tracing::info!(%url, %error, "node did not answer");
                self.errors.push((url.clone(), error));
            }
        }
    }

    /// A node that says why it can't answer says more than one that can't be reached.
    fn into_outcome(mut self) -> Result<Response, TransportError> {
        if let Some(response) = self.unable {
            return Ok(response);
        }
        match self.errors.pop() {
            Some((_, error)) if self.errors.is_empty() => Err(error),
            Some(last) => {
                self.errors.push(last);
                Err(TransportError::NoNode(self.errors))
            }
            None => Err(TransportError::NoNode(Vec::new())),
        }
    }
}

fn lock<K>(health: &Mutex<Health<K>>) -> MutexGuard<'_, Health<K>> {
    // Hints stay usable whatever happened to the thread that held them.
    health.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
