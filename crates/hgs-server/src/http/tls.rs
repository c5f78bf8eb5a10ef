//! TLS of the HTTPS listener: versions 1.2 and 1.3, HTTP/1.1 only.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::certificate::{self, CurrentCertificate};
use super::connection;
use super::exchange::Engine;
use super::listener::{Listener, admit};
use super::mismatch::{Mismatch, Spoken};
use super::overload::Addresses;
use super::rejection::Ending;
use super::service::Peer;
use super::stopping::Stopping;

/// HTTPS.
pub(super) struct Tls {
    listener: TcpListener,
    addresses: Arc<Addresses>,
    acceptor: TlsAcceptor,
    handshake_time: Duration,
    mismatch: Mismatch,
}

impl Tls {
    pub(super) fn new(
        listener: TcpListener,
        addresses: Arc<Addresses>,
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
            addresses,
            acceptor: TlsAcceptor::from(Arc::new(config)),
            handshake_time,
            mismatch: Mismatch {
                spoken: Spoken::Tls,
            },
        }
    }
}

impl Listener for Tls {
    type Raw = (TcpStream, SocketAddr);

    async fn accept(&self) -> io::Result<Self::Raw> {
        self.listener.accept().await
    }

    fn serve(
        &self,
        (stream, address): Self::Raw,
        engine: Arc<Engine>,
        mut stopping: Stopping,
    ) -> impl Future<Output = ()> + Send + 'static {
        let admission = admit(&self.addresses, &engine, &stream, address);
        let acceptor = self.acceptor.clone();
        let handshake_time = self.handshake_time;
        let mismatch = self.mismatch;
        async move {
            let Some(_admission) = admission else {
                return;
            };
            let deadline = Instant::now() + handshake_time;
            let mistaken = tokio::select! {
                mistaken = mismatch.is_mistaken(&stream, handshake_time) => mistaken,
                () = stopping.ordered() => return,
            };
            match mistaken {
                Some(false) => {}
                Some(true) => {
                    failed(&engine, Ending::PlainToTls);
                    return mismatch.answer(stream, address).await;
                }
                None if Instant::now() < deadline => return failed(&engine, Ending::Handshake),
                None => return failed(&engine, Ending::SlowHandshake),
            }
            let handshake = tokio::select! {
                handshake = timeout_at(deadline, acceptor.accept(stream)) => handshake,
                () = stopping.ordered() => return,
            };
            match handshake {
                Ok(Ok(stream)) => {
                    connection::serve(stream, Peer::Tcp(address), engine, stopping).await;
                }
                Ok(Err(error)) => {
                    debug!(peer = %address, %error, "a TLS handshake failed");
                    failed(&engine, Ending::Handshake);
                }
                Err(_elapsed) => failed(&engine, Ending::SlowHandshake),
            }
        }
    }
}

fn failed(engine: &Engine, ending: Ending) {
    engine.metrics.handshake_failed();
    engine.metrics.rejected(ending.name());
}
