//! The Unix socket of the admin API.

use std::io;
use std::path::Path;
use std::sync::Arc;

use hgs_files::{LocalSocket, SocketError};
use tokio::net::{UnixListener, UnixStream};
use tracing::warn;

use super::connection;
use super::exchange::Engine;
use super::listener::Listener;
use super::service::{Credentials, Peer};
use super::shutdown::ShutdownSignal;
use crate::logging::PEERS;

/// A listening Unix socket; its file goes when it is dropped.
#[derive(Debug)]
pub(super) struct AdminSocket {
    listener: UnixListener,
    file: LocalSocket,
}

impl AdminSocket {
    /// Makes the socket with mode 0660, owned by `group` or else the process's own.
    pub(super) fn bind(path: &Path, group: Option<u32>) -> Result<Self, SocketError> {
        let (file, listener) = LocalSocket::bind(path, group)?;
        let listener = UnixListener::from_std(listener).map_err(|error| SocketError::System {
            step: "use the socket",
            error,
        })?;
        Ok(Self { listener, file })
    }

    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }
}

impl Listener for AdminSocket {
    type Raw = UnixStream;

    async fn accept(&self) -> io::Result<Self::Raw> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    fn serve(
        &self,
        stream: Self::Raw,
        engine: Arc<Engine>,
        shutdown: ShutdownSignal,
    ) -> impl Future<Output = ()> + Send + 'static {
        let credentials = stream.peer_cred();
        async move {
            match credentials {
                Ok(credentials) => {
                    let peer = Peer::Unix(Credentials {
                        uid: credentials.uid(),
                        gid: credentials.gid(),
                        pid: credentials.pid(),
                    });
                    connection::serve(stream, peer, engine, shutdown).await;
                }
                Err(error) => {
                    warn!(target: PEERS, %error, "the kernel does not tell who connected; closed")
                }
            }
        }
    }
}
