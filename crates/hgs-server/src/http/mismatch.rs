//! Peers that speak TLS to the plain listener, or plain HTTP to the TLS listener: a common slip in a URL. They are told
//! in plain text, and the log says so once a minute.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tracing::warn;

/// The first octet of every TLS connection: a handshake record (RFC 8446, 5.1).
const HANDSHAKE: u8 = 0x16;

/// Time between two warnings in the log.
const PAUSE: Duration = Duration::from_mins(1);

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
#[derive(Debug)]
pub(super) struct Mismatch {
    spoken: Spoken,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    last: Option<Instant>,
    since: u64,
}

impl Mismatch {
    pub(super) fn new(spoken: Spoken) -> Self {
        Self {
            spoken,
            log: Mutex::default(),
        }
    }

    /// Looks at the first octet of a connection, which is not taken. Answers whether the peer has mistaken the listener;
    /// `None` when it went away or sent nothing within `time`.
    pub(super) async fn is_mistaken(&self, stream: &TcpStream, time: Duration) -> Option<bool> {
        let mut first = [0];
        match timeout(time, stream.peek(&mut first)).await {
            Ok(Ok(1)) => Some(self.spoken.is_mistaken(first[0])),
            _ => None,
        }
    }

    /// Tells the peer, and the log.
    pub(super) async fn answer(&self, mut stream: TcpStream, peer: SocketAddr) {
        if let Some(others) = self.log() {
            let answer = self.spoken.answer();
            warn!(%peer, others, "a peer was told: {answer}");
        }
        let line = self.spoken.answer();
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

    /// Whether this one is logged, and how many were not since the last that was.
    fn log(&self) -> Option<u64> {
        let now = Instant::now();
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.last.is_some_and(|last| now < last + PAUSE) {
            log.since += 1;
            return None;
        }
        log.last = Some(now);
        Some(std::mem::take(&mut log.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_log_speaks_once_a_minute() {
        let mismatch = Mismatch::new(Spoken::Plain);
        assert_eq!(mismatch.log(), Some(0));
        assert_eq!(mismatch.log(), None);
        assert_eq!(mismatch.log(), None);
        tokio::time::advance(PAUSE).await;
        assert_eq!(mismatch.log(), Some(2));
        assert_eq!(mismatch.log(), None);
    }
}
