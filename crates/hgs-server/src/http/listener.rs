//! Listening sockets, and the loop that takes connections from one of them.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tracing::{error, warn};

use super::connection;
use super::exchange::Engine;
use super::listener_protocol::ListenerProtocol;
use super::overload::{Admission, ConnectionCounts, ConnectionPermit};
use super::rejection::CloseReason;
use super::service::Peer;
use super::shutdown::ShutdownSignal;
use crate::logging::PEERS;

/// Connections that the kernel keeps until they are accepted. It lowers this to its own limit,
/// which is 4096 unless an administrator raised it.
const BACKLOG: u32 = 4096;

/// Pause after a failure to accept that is ours (no descriptors, no memory), not the peer's.
const PAUSE: Duration = Duration::from_millis(100);

/// Opens a TCP listener. Where all addresses were meant and the kernel has no IPv6, it is all
/// addresses of IPv4.
pub(super) fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    match listen(address) {
        Err(error)
            if address.is_ipv6()
                && address.ip().is_unspecified()
                && error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error()) =>
        {
            warn!(%address, "no IPv6 here; listening on IPv4 only");
            listen(([0, 0, 0, 0], address.port()).into())
        }
        result => result,
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv6() {
        TcpSocket::new_v6()
    } else {
        TcpSocket::new_v4()
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A source of connections: one listening socket.
pub(super) trait Listener: Send + Sync + 'static {
    /// A connection as it comes from the system.
    type Raw: Send + 'static;

    /// Waits for a connection.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Raw>> + Send;

    /// Serves one connection to its end.
    fn serve(
        &self,
        raw: Self::Raw,
        engine: Arc<Engine>,
        shutdown: ShutdownSignal,
    ) -> impl Future<Output = ()> + Send + 'static;
}

/// Accepts connections until the shutdown begins, then waits for those that are open.
pub(super) async fn run<L: Listener>(listener: L, engine: Arc<Engine>, shutdown: ShutdownSignal) {
    let mut signal = shutdown.clone();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = signal.received() => break,
            Some(ended) = connections.join_next() => report(ended),
            (permit, accepted) = next(&listener, &engine) => match accepted {
                Ok(raw) => {
                    let counted = engine.metrics.connection();
                    let served = listener.serve(raw, engine.clone(), shutdown.clone());
                    connections.spawn(async move {
                        served.await;
                        drop((counted, permit));
                    });
                }
                Err(error) if is_the_peers(&error) => {}
                Err(error) => {
                    error!(target: PEERS, %error, "can't accept connections");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        report(ended);
    }
}

/// The next connection, once one more may be open.
async fn next<L: Listener>(
    listener: &L,
    engine: &Engine,
) -> (ConnectionPermit, io::Result<L::Raw>) {
    let permit = engine.connections.acquire().await;
    (permit, listener.accept().await)
}

/// The next connection, and who makes it: at a socket for both families the system shows an IPv4 address as one of IPv6.
pub(super) async fn accept_tcp(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, address) = listener.accept().await?;
    let address = match address.ip().to_canonical() {
        IpAddr::V4(ip) => (ip, address.port()).into(),
        IpAddr::V6(_) => address,
    };
    Ok((stream, address))
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(failure) = ended {
        error!(%failure, "a connection's task failed");
    }
}

/// Whether accepting failed because the peer was gone already.
fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// Plain HTTP.
#[derive(Debug)]
pub(super) struct Plain {
    listener: TcpListener,
    counts: Arc<ConnectionCounts>,
}

impl Plain {
    pub(super) fn new(listener: TcpListener, counts: Arc<ConnectionCounts>) -> Self {
        Self { listener, counts }
    }
}

impl Listener for Plain {
    type Raw = (TcpStream, SocketAddr);

    async fn accept(&self) -> io::Result<Self::Raw> {
        accept_tcp(&self.listener).await
    }

    fn serve(
        &self,
        (stream, address): Self::Raw,
        engine: Arc<Engine>,
        shutdown: ShutdownSignal,
    ) -> impl Future<Output = ()> + Send + 'static {
        let admission = admit(&self.counts, &engine, &stream, address);
        async move {
            let Some(_admission) = admission else {
                return;
            };
            let mut signal = shutdown.clone();
            let is_wrong = tokio::select! {
                is_wrong = ListenerProtocol::Plain.is_wrong_for(&stream, engine.limits.header_time) => is_wrong,
                () = signal.received() => return,
            };
            match is_wrong {
                Some(false) => {
                    connection::serve(stream, Peer::Tcp(address), engine, shutdown).await;
                }
                Some(true) => {
                    engine.metrics.rejected(CloseReason::TlsToPlain.name());
                    ListenerProtocol::Plain.correct(stream, address).await;
                }
                None => {}
            }
        }
    }
}

/// Counts the connection against its address, or refuses it.
pub(super) fn admit(
    counts: &Arc<ConnectionCounts>,
    engine: &Engine,
    stream: &TcpStream,
    address: SocketAddr,
) -> Option<Admission> {
    // Answers are written at once; there is nothing to wait for. A socket that is gone already
    // fails here and again when it is read.
    let _ = stream.set_nodelay(true);
    counts
        .admit(address.ip())
        .inspect_err(|reason| engine.metrics.rejected(reason.name()))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_of_a_socket_for_both_families_is_known_by_its_ipv4_address() {
        let listener = TcpListener::bind("[::]:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let dialled = TcpStream::connect(("127.0.0.1", port));
        let (stream, accepted) = tokio::join!(dialled, accept_tcp(&listener));
        let (_, address) = accepted.unwrap();
        assert_eq!(address, stream.unwrap().local_addr().unwrap());
        assert_eq!(address.ip(), IpAddr::from([127, 0, 0, 1]));
    }
}
