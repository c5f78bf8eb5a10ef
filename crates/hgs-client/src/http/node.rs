//! One node: the URL that is asked, and the addresses of its host.

use std::io;
use std::net::SocketAddr;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::{Client, Request, Response, TransportError, exchange, lock, race, tls};
use crate::url::{Scheme, Url};

impl Client {
    /// Sends `request` to the addresses of the host in `url` until one answers, each at most once.
    ///
    /// The next is asked when one fails or can't answer now, and beside one that keeps silent.
    pub(super) async fn ask_node(
        &self,
        request: &Request,
        url: &Url,
    ) -> Result<Response, TransportError> {
        let authority = url.authority();
        let mut addresses = self.addresses(url).await?;
        let mut asked = FuturesUnordered::new();
        let mut last = None;
        let mut newest = None;
        // From when on another address is asked beside those that keep silent.
        let mut next = Instant::now();
        loop {
            let is_next = asked.is_empty() || next <= Instant::now();
            if asked.is_empty()
                && addresses.is_empty()
                && let Some(last) = last
            {
                return last;
            }
            tokio::select! {
                biased;
                Some((address, outcome)) = asked.next() => match outcome {
                    // An answer that is refused is an answer: the other addresses would give it too.
                    Err(TransportError::TooLarge { .. } | TransportError::Redirect { .. }) => {
                        return outcome;
                    }
                    Ok(Response { status, .. }) if status < 500 => {
                        tracing::debug!(%url, %address, status);
                        lock(&self.addresses).answered(&authority, &address);
                        return outcome;
                    }
                    outcome => {
                        tracing::debug!(%url, %address, ?outcome, "address did not answer");
                        lock(&self.addresses).failed(&authority, &address);
                        last = Some(telling(last, outcome));
                        next = Instant::now();
                    }
                },
                connected = self.connect(&mut addresses), if is_next && !addresses.is_empty() => {
                    match connected {
                        Ok((address, stream)) => {
                            newest = Some(address);
                            let exchange = self.exchange(request, url, address, stream);
                            asked.push(async move { (address, exchange.await) });
                            next = self.next_address(&addresses);
                        }
                        Err(error) => last = Some(telling(last, Err(error))),
                    }
                }
                () = sleep_until(next), if !is_next && !addresses.is_empty() => {
                    if let Some(silent) = newest {
                        lock(&self.addresses).failed(&authority, &silent);
                    }
                }
            }
        }
    }

    /// From when on one of these addresses is asked beside one that was asked now.
    fn next_address(&self, addresses: &[SocketAddr]) -> Instant {
        let health = lock(&self.addresses);
        let remaining = addresses
            .iter()
            .map(|address| health.remaining(address).unwrap_or_default());
        let remaining = remaining.min().unwrap_or_default();
        Instant::now() + self.timing.patience.max(remaining)
    }

    pub(super) async fn addresses(&self, url: &Url) -> Result<Vec<SocketAddr>, TransportError> {
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
        let health = lock(&self.addresses);
        let mut addresses = race::order(resolved, health.preferred(&url.authority()));
        health.sort(&mut addresses, |address| *address);
        if addresses.is_empty() {
            return Err(refused("the name has no address".to_owned()));
        }
        Ok(addresses)
    }

    pub(super) async fn connect(
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
        url: &Url,
        address: SocketAddr,
        stream: TcpStream,
    ) -> Result<Response, TransportError> {
        let limit = self.timing.exchange;
        let exchange = async {
            match (url.scheme(), &self.tls) {
                (Scheme::Http, _) => exchange::exchange(request, url, address, stream).await,
                (Scheme::Https, Err(error)) => Err(error.clone().into()),
                (Scheme::Https, Ok(settings)) => {
                    let stream = tls::connect(settings, url, address, stream).await?;
                    exchange::exchange(request, url, address, stream).await
                }
            }
        };
        tokio::time::timeout(limit, exchange)
            .await
            .unwrap_or(Err(TransportError::Timeout { address, limit }))
    }
}

type Outcome = Result<Response, TransportError>;

/// What to tell in the end. A service that says why it can't answer says more than one that can't be reached.
fn telling(earlier: Option<Outcome>, later: Outcome) -> Outcome {
    match (earlier, later) {
        (Some(Ok(response)), Err(_)) => Ok(response),
        (_, later) => later,
    }
}
