//! TLS of the listeners, which speak HTTP/1.1 only: versions 1.2 and 1.3, or 1.3 alone where peers show certificates.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::bind::ClientListening;
use super::certificate::{self, CurrentCertificate};
use super::clients::{self, PinnedClients};
use super::connection;
use super::exchange::Engine;
use super::listener::{Listener, accept_tcp, admit};
use super::listener_protocol::{self, ListenerProtocol};
use super::overload::ConnectionCounts;
use super::rejection::CloseReason;
use super::service::Peer;
use super::shutdown::ShutdownSignal;

/// HTTPS.
pub(super) struct Tls {
    listener: TcpListener,
    counts: Arc<ConnectionCounts>,
    settings: Settings,
    handshake_time: Duration,
}

/// How it answers.
enum Settings {
    /// As it was made.
    Fixed(Arc<rustls::ServerConfig>),
    /// As it is told for each connection. Peers may have certificates of the cluster.
    OfCluster(Arc<dyn Fn() -> Arc<rustls::ServerConfig> + Send + Sync>),
    /// To clients whose certificates a file has.
    OfClients(Arc<rustls::ServerConfig>, Arc<PinnedClients>),
}

impl Tls {
    /// That of the cluster listener.
    pub(super) fn of_cluster(
        listener: TcpListener,
        counts: Arc<ConnectionCounts>,
        settings: Arc<dyn Fn() -> Arc<rustls::ServerConfig> + Send + Sync>,
        handshake_time: Duration,
    ) -> Self {
        Self {
            listener,
            counts,
            settings: Settings::OfCluster(settings),
            handshake_time,
        }
    }

    /// That of a listener which asks for certificates.
    pub(super) fn of_clients(
        listening: ClientListening,
        counts: Arc<ConnectionCounts>,
        handshake_time: Duration,
    ) -> Self {
        let settings = clients::tls_settings(&listening.clients, listening.certificate);
        Self {
            listener: listening.listener,
            counts,
            settings: Settings::OfClients(settings, listening.clients),
            handshake_time,
        }
    }

    pub(super) fn new(
        listener: TcpListener,
        counts: Arc<ConnectionCounts>,
        current: Arc<CurrentCertificate>,
        handshake_time: Duration,
    ) -> Self {
        let mut config = rustls::ServerConfig::builder_with_provider(certificate::provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("the provider has cipher suites for both versions")
            .with_no_client_auth()
            .with_cert_resolver(current);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self {
            listener,
            counts,
            settings: Settings::Fixed(Arc::new(config)),
            handshake_time,
        }
    }
}

impl Listener for Tls {
    type Raw = (TcpStream, SocketAddr);

    async fn accept(&self) -> io::Result<Self::Raw> {
        accept_tcp(&self.listener).await
    }

    fn serve(
        &self,
        (stream, address): Self::Raw,
        engine: Arc<Engine>,
        mut shutdown: ShutdownSignal,
    ) -> impl Future<Output = ()> + Send + 'static {
        let admission = admit(&self.counts, &engine, &stream, address);
        let (settings, peers) = match &self.settings {
            Settings::Fixed(settings) => (Arc::clone(settings), Peers::Strangers),
            Settings::OfCluster(settings) => (settings(), Peers::Nodes),
            Settings::OfClients(settings, clients) => {
                (Arc::clone(settings), Peers::Clients(Arc::clone(clients)))
            }
        };
        let acceptor = TlsAcceptor::from(settings);
        let handshake_time = self.handshake_time;
        async move {
            let Some(_admission) = admission else {
                return;
            };
            let deadline = Instant::now() + handshake_time;
            let is_wrong = tokio::select! {
                is_wrong = ListenerProtocol::Tls.is_wrong_for(&stream, handshake_time) => is_wrong,
                () = shutdown.received() => return,
            };
            match is_wrong {
                Some(false) => {}
                Some(true) => {
                    failed(&engine, CloseReason::PlainToTls);
                    return ListenerProtocol::Tls.correct(stream, address).await;
                }
                None if Instant::now() < deadline => {
                    return failed(&engine, CloseReason::Handshake);
                }
                None => return failed(&engine, CloseReason::SlowHandshake),
            }
            let handshake = tokio::select! {
                handshake = timeout_at(deadline, acceptor.accept(stream).into_fallible()) => handshake,
                () = shutdown.received() => return,
            };
            match handshake {
                Ok(Ok(stream)) => {
                    let shown = stream.get_ref().1.peer_certificates();
                    match peers.peer(shown, address) {
                        Some(peer) => connection::serve(stream, peer, engine, shutdown).await,
                        // Its access ended during the handshake.
                        None => failed(&engine, CloseReason::Handshake),
                    }
                }
                Ok(Err((error, stream))) => {
                    debug!(peer = %address, %error, "a TLS handshake failed");
                    failed(&engine, CloseReason::Handshake);
                    if matches!(peers, Peers::Clients(_)) {
                        // It may have sent its request already, and is to read why it is refused.
                        listener_protocol::linger(stream).await;
                    }
                }
                Err(_elapsed) => failed(&engine, CloseReason::SlowHandshake),
            }
        }
    }
}

/// Who connects.
enum Peers {
    Strangers,
    Nodes,
    Clients(Arc<PinnedClients>),
}

impl Peers {
    /// The peer that showed these certificates; they are there only where they were verified.
    fn peer(&self, shown: Option<&[CertificateDer<'_>]>, address: SocketAddr) -> Option<Peer> {
        match self {
            Self::Nodes if shown.is_some() => Some(Peer::Node(address)),
            Self::Strangers | Self::Nodes => Some(Peer::Tcp(address)),
            Self::Clients(clients) => {
                let client = clients.client(shown?.first()?, address)?;
                Some(Peer::Client(client))
            }
        }
    }
}

fn failed(engine: &Engine, reason: CloseReason) {
    engine.metrics.handshake_failed();
    engine.metrics.rejected(reason.name());
}
