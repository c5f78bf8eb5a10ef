//! The way to a URL step by step, for a diagnosis: what [`Client::send`] does, with a result for each step.

use std::net::SocketAddr;

use hgs_pki::Time;

use super::{Client, Request, Response, TransportError, exchange, tls};
use crate::url::{Scheme, Url};

/// The result of each step of a connection to a URL; a step that was not reached has none.
#[derive(Debug, Default)]
pub(crate) struct ConnectionSteps {
    /// The addresses of its host.
    pub(crate) addresses: Option<Result<Vec<SocketAddr>, TransportError>>,
    /// The first that accepted a connection.
    pub(crate) connected: Option<Result<SocketAddr, TransportError>>,
    /// The DER of the certificate that was presented and verified.
    pub(crate) tls: Option<Result<Vec<u8>, TransportError>>,
    /// Whether something answered over HTTP.
    pub(crate) answered: Option<Result<(), TransportError>>,
    /// The time that the service says it is.
    pub(crate) date: Option<Time>,
}

impl Client {
    /// Connects to `url` and requests it, as far as that succeeds.
    pub(crate) async fn connection_steps(&self, url: &Url) -> ConnectionSteps {
        let mut steps = ConnectionSteps::default();
        let mut addresses = match self.addresses(url).await {
            Ok(addresses) => addresses,
            Err(error) => {
                steps.addresses = Some(Err(error));
                return steps;
            }
        };
        steps.addresses = Some(Ok(addresses.clone()));
        match self.connect(&mut addresses).await {
            Ok((address, stream)) => {
                steps.connected = Some(Ok(address));
                let limit = self.timing.exchange;
                let asking = self.ask(url, address, stream, &mut steps);
                if tokio::time::timeout(limit, asking).await.is_err() {
                    let silent = TransportError::Timeout { address, limit };
                    if url.scheme() == Scheme::Https && steps.tls.is_none() {
                        steps.tls = Some(Err(silent));
                    } else {
                        steps.answered = Some(Err(silent));
                    }
                }
            }
            Err(error) => steps.connected = Some(Err(error)),
        }
        steps
    }

    async fn ask(
        &self,
        url: &Url,
        address: SocketAddr,
        stream: tokio::net::TcpStream,
        steps: &mut ConnectionSteps,
    ) {
        let request = Request::Get {
            urls: url.clone().into(),
        };
        let response = match (url.scheme(), &self.tls) {
            (Scheme::Http, _) => exchange::exchange(&request, url, address, stream).await,
            (Scheme::Https, Err(error)) => {
                steps.tls = Some(Err(error.clone().into()));
                return;
            }
            (Scheme::Https, Ok(settings)) => {
                match tls::connect(settings, url, address, stream).await {
                    Ok(stream) => {
                        let presented = stream.get_ref().1.peer_certificates();
                        let leaf = presented.and_then(|chain| chain.first());
                        steps.tls = Some(Ok(leaf.map_or_else(Vec::new, |leaf| leaf.to_vec())));
                        exchange::exchange(&request, url, address, stream).await
                    }
                    Err(error) => {
                        steps.tls = Some(Err(error));
                        return;
                    }
                }
            }
        };
        match response {
            Ok(Response { date, .. }) => {
                steps.answered = Some(Ok(()));
                steps.date = date;
            }
            Err(
                error @ (TransportError::Broken { .. }
                | TransportError::PlainToTls { .. }
                | TransportError::Timeout { .. }),
            ) => {
                steps.answered = Some(Err(error));
            }
            // An answer that those who understand its protocol judge.
            Err(_) => steps.answered = Some(Ok(())),
        }
    }
}
