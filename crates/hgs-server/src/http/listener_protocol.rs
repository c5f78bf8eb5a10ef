//! The protocol of a listener. Peers that speak TLS to the plain listener, or plain HTTP to the TLS listener, have made a
//! common mistake in a URL, and are told so in plain text.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::warn;

use crate::logging::PEERS;

/// The first octet of every TLS connection: a handshake record (RFC 8446, 5.1).
const HANDSHAKE: u8 = 0x16;

/// Time for a peer to read the answer, and octets that are read from it until then.
const ANSWER_TIME: Duration = Duration::from_secs(1);
const ANSWER_OCTETS: u64 = 64 * 1024;

/// The protocol that a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListenerProtocol {
    Plain,
    Tls,
}

impl ListenerProtocol {
    /// Whether the first octet of a connection, which is not consumed, belongs to the other protocol. `None` when the
    /// peer closed the connection or sent nothing within `time`.
    pub(super) async fn is_wrong_for(self, stream: &TcpStream, time: Duration) -> Option<bool> {
        let mut first = [0];
        match timeout(time, stream.peek(&mut first)).await {
            Ok(Ok(1)) => Some(match self {
                Self::Plain => first[0] == HANDSHAKE,
                // Methods of HTTP are letters.
                Self::Tls => first[0].is_ascii_alphabetic(),
            }),
            _ => None,
        }
    }

    /// Tells a peer that speaks the other protocol which one is spoken here, and logs it.
    pub(super) async fn correct(self, mut stream: TcpStream, peer: SocketAddr) {
        let line = match self {
            Self::Plain => {
                "this port speaks plain HTTP, not TLS: use a URL that begins with http://"
            }
            Self::Tls => "this port speaks TLS: use a URL that begins with https://",
        };
        warn!(target: PEERS, %peer, "a peer was told: {line}");
        let length = line.len() + 1;
        let answer = format!(
            "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{line}\n"
        );
        if let Ok(Ok(())) = timeout(ANSWER_TIME, stream.write_all(answer.as_bytes())).await {
            linger(stream).await;
        }
    }
}

/// Closes a connection whose peer has to read what was written. One that is closed with unread octets is reset, and what
/// was written is lost.
pub(super) async fn linger(mut stream: TcpStream) {
    let read = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(ANSWER_OCTETS), &mut tokio::io::sink()).await
    };
    let _ = timeout(ANSWER_TIME, read).await;
}
