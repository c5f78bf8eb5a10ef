//! Peers that speak TLS to the plain listener, or plain HTTP to the TLS listener: a common slip in a URL. They are told
//! in plain text.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::warn;

use crate::logging::PEERS;

/// The first octet of every TLS connection: a handshake record (RFC 8446, 5.1).
const HANDSHAKE: u8 = 0x16;

/// Time for a peer to take the answer, and octets of its own that are read meanwhile.
const FAREWELL: (Duration, u64) = (Duration::from_secs(1), 64 * 1024);

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoken {
    Plain,
    Tls,
}

impl Spoken {
    /// Whether a peer whose first octet is `first` has taken this listener for the other.
    fn is_mistaken(self, first: u8) -> bool {
        match self {
            Self::Plain => first == HANDSHAKE,
            // Methods of HTTP are letters.
            Self::Tls => first.is_ascii_alphabetic(),
        }
    }

    fn answer(self) -> &'static str {
        match self {
            Self::Plain => {
                "this port speaks plain HTTP, not TLS: use a URL that begins with http://"
            }
            Self::Tls => "this port speaks TLS: use a URL that begins with https://",
        }
    }
}

/// Finds such peers on one listener.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mismatch {
    pub(super) spoken: Spoken,
}

impl Mismatch {
    /// Looks at the first octet of a connection, which is not taken. Answers whether the peer has mistaken the listener;
    /// `None` when it went away or sent nothing within `time`.
    pub(super) async fn is_mistaken(self, stream: &TcpStream, time: Duration) -> Option<bool> {
        let mut first = [0];
        match timeout(time, stream.peek(&mut first)).await {
            Ok(Ok(1)) => Some(self.spoken.is_mistaken(first[0])),
            _ => None,
        }
    }

    /// Tells the peer, and the log.
    pub(super) async fn answer(self, mut stream: TcpStream, peer: SocketAddr) {
        let line = self.spoken.answer();
        warn!(target: PEERS, %peer, "a peer was told: {line}");
        let length = line.len() + 1;
        let answer = format!(
            "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{line}\n"
        );
        let (time, octets) = FAREWELL;
        let farewell = async {
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await?;
            // A connection that is closed with unread octets is reset, and the answer is lost.
            tokio::io::copy(&mut stream.take(octets), &mut tokio::io::sink()).await
        };
        let _ = timeout(time, farewell).await;
    }
}
