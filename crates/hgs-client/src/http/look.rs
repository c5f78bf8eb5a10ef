//! The way to a URL step by step, for a diagnosis: what [`Client::send`] does, with a result for each step.

use std::net::SocketAddr;

use hgs_pki::Time;

use super::{Client, Request, Response, TransportError, exchange, tls};
use crate::url::{Scheme, Url};

/// How far towards a URL one gets.
#[derive(Debug, Default)]
pub(crate) struct Look {
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
    /// Goes towards `url` and asks for it, as far as it gets.
    pub(crate) async fn look(&self, url: &Url) -> Look {
        let mut look = Look::default();
        let mut addresses = match self.addresses(url).await {
            Ok(addresses) => addresses,
            Err(error) => {
                look.addresses = Some(Err(error));
                return look;
            }
        };
        look.addresses = Some(Ok(addresses.clone()));
        match self.connect(&mut addresses).await {
            Ok((address, stream)) => {
                look.connected = Some(Ok(address));
                let limit = self.timing.exchange;
                let asking = self.ask(url, address, stream, &mut look);
                if tokio::time::timeout(limit, asking).await.is_err() {
                    let silent = TransportError::Timeout { address, limit };
                    if url.scheme() == Scheme::Https && look.tls.is_none() {
                        look.tls = Some(Err(silent));
                    } else {
                        look.answered = Some(Err(silent));
                    }
                }
            }
            Err(error) => look.connected = Some(Err(error)),
        }
        look
    }

    async fn ask(
        &self,
        url: &Url,
        address: SocketAddr,
        stream: tokio::net::TcpStream,
        look: &mut Look,
    ) {
        let request = Request::Get { url: url.clone() };
        let response = match (url.scheme(), &self.tls) {
            (Scheme::Http, _) => exchange::exchange(&request, address, stream).await,
            (Scheme::Https, Err(error)) => {
                look.tls = Some(Err(error.clone().into()));
                return;
            }
            (Scheme::Https, Ok(settings)) => {
                match tls::connect(settings, url, address, stream).await {
                    Ok(stream) => {
                        let presented = stream.get_ref().1.peer_certificates();
                        let leaf = presented.and_then(|chain| chain.first());
                        look.tls = Some(Ok(leaf.map_or_else(Vec::new, |leaf| leaf.to_vec())));
                        exchange::exchange(&request, address, stream).await
                    }
                    Err(error) => {
                        look.tls = Some(Err(error));
                        return;
                    }
                }
            }
        };
        match response {
            Ok(Response { date, .. }) => {
                look.answered = Some(Ok(()));
                look.date = date;
            }
            Err(
                error @ (TransportError::Broken { .. }
                | TransportError::PlainToTls { .. }
                | TransportError::Timeout { .. }),
            ) => {
                look.answered = Some(Err(error));
            }
            // An answer that those who understand its protocol judge.
            Err(_) => look.answered = Some(Ok(())),
        }
    }
}
