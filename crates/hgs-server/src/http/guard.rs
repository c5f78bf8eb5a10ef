//! The stream between a socket and the HTTP parser. It knows where requests begin and end, ends
//! connections that stall, and has every head judged before its request is handled.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::head::{BodyFraming, HeadScanner, VersionReader};
use super::rejection::{CloseReason, Rejection};
use crate::config::Limits;

/// Octets read from the socket at once.
const BUFFER: usize = 8 * 1024;

/// What the stream and the handler of its requests tell each other.
#[derive(Debug, Default)]
pub(super) struct ConnectionState {
    /// Set while a request is being answered, so that waiting for the answer is not idleness.
    answering: AtomicBool,
    /// Set from a streaming answer to the next request.
    streaming: AtomicBool,
    /// What is wrong with the head that was passed on last.
    fault: Mutex<Option<Rejection>>,
    /// Why the stream ended the connection.
    close_reason: Mutex<Option<CloseReason>>,
}

impl ConnectionState {
    /// The handler begins: what was wrong with the head of this request, if anything.
    pub(super) fn begin_answer(&self) -> Option<Rejection> {
        self.answering.store(true, Ordering::Relaxed);
        self.streaming.store(false, Ordering::Relaxed);
        take(&self.fault)
    }

    /// The answer is one that streams.
    pub(super) fn begin_stream(&self) {
        self.streaming.store(true, Ordering::Relaxed);
    }

    /// Whether the last answer streams, or has streamed.
    pub(super) fn is_streaming(&self) -> bool {
        self.streaming.load(Ordering::Relaxed)
    }

    /// The handler has an answer, which will be written next.
    pub(super) fn end_answer(&self) {
        self.answering.store(false, Ordering::Relaxed);
    }

    /// Why the stream ended the connection, if it did.
    pub(super) fn close_reason(&self) -> Option<CloseReason> {
        take(&self.close_reason)
    }
}

fn take<T>(slot: &Mutex<Option<T>>) -> Option<T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn put<T>(slot: &Mutex<Option<T>>, value: T) {
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
}

/// A stream that hands over one head at a time.
#[derive(Debug)]
pub(super) struct GuardedStream<S> {
    stream: S,
    buffer: Box<[u8]>,
    /// The part of `buffer` that was read and not handed over.
    unread: std::ops::Range<usize>,
    expecting: Expecting,
    scanner: HeadScanner,
    version: VersionReader,
    header_limit: usize,
    times: Times,
    read_deadline: Pin<Box<Sleep>>,
    write_deadline: Option<Pin<Box<Sleep>>>,
    state: Arc<ConnectionState>,
}

#[derive(Debug, Clone, Copy)]
enum Expecting {
    /// A head of which nothing has come yet.
    Head,
    /// The rest of a head.
    RestOfHead,
    /// So many octets of a body.
    Body(u64),
    /// Octets whose meaning only the parser knows, until the end of the connection.
    Anything,
}

#[derive(Debug, Clone, Copy)]
struct Times {
    header: Duration,
    idle: Duration,
    write: Duration,
}

impl<S> GuardedStream<S> {
    /// Guards `stream`; the peer has the time for one header to begin.
    pub(super) fn new(stream: S, limits: &Limits, state: Arc<ConnectionState>) -> Self {
        Self {
            stream,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            unread: 0..0,
            expecting: Expecting::Head,
            scanner: HeadScanner::default(),
            version: VersionReader::default(),
            header_limit: limits.headers,
            times: Times {
                header: limits.header_time,
                idle: limits.idle_time,
                write: limits.write_time,
            },
            read_deadline: Box::pin(sleep(limits.header_time)),
            write_deadline: None,
            state,
        }
    }

    /// Hands over what may be handed over of the octets already read: never more than the rest of
    /// one head or of one body.
    fn deliver(&mut self, output: &mut ReadBuf<'_>) {
        let available = self.unread.len().min(output.remaining());
        let length = match self.expecting {
            Expecting::Head | Expecting::RestOfHead => self.scan_head(available),
            Expecting::Body(remaining) => {
                let length =
                    usize::try_from(remaining).map_or(available, |rest| rest.min(available));
                self.expect_body(remaining - length as u64);
                length
            }
            Expecting::Anything => available,
        };
        let end = self.unread.start + length;
        output.put_slice(&self.buffer[self.unread.start..end]);
        self.unread.start = end;
    }

    /// How many of the next `available` octets belong to the head; when it ends with them, what
    /// comes after it is known.
    fn scan_head(&mut self, available: usize) -> usize {
        if matches!(self.expecting, Expecting::Head) {
            self.expecting = Expecting::RestOfHead;
            self.give_time(self.times.header);
        }
        let octets = &mut self.buffer[self.unread.start..self.unread.start + available];
        self.version.pass(octets);
        let Some(length) = self.scanner.scan(octets) else {
            if self.scanner.len() > self.header_limit {
                // The parser refuses it as soon as it has these octets.
                self.expecting = Expecting::Anything;
            }
            return available;
        };
        self.version = VersionReader::default();
        match self.scanner.finish() {
            Ok(BodyFraming::Length(length)) => self.expect_body(length),
            Ok(BodyFraming::Unknown) => self.expecting = Expecting::Anything,
            Err(fault) => {
                put(&self.state.fault, fault);
                self.expecting = Expecting::Anything;
            }
        }
        self.give_time(self.times.idle);
        length
    }

    fn expect_body(&mut self, length: u64) {
        self.expecting = match length {
            0 => Expecting::Head,
            length => Expecting::Body(length),
        };
    }

    fn give_time(&mut self, time: Duration) {
        self.read_deadline.as_mut().reset(Instant::now() + time);
    }

    /// Whether the peer's time is over. Only heads and pauses between requests are timed here;
    /// [`body`](super::body) times bodies.
    fn poll_read_deadline(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        if matches!(self.expecting, Expecting::Body(_)) {
            return Poll::Pending;
        }
        ready!(self.read_deadline.as_mut().poll(context));
        if self.state.answering.load(Ordering::Relaxed) {
            self.give_time(self.times.idle);
            return self.poll_read_deadline(context);
        }
        if matches!(self.expecting, Expecting::RestOfHead) {
            put(&self.state.close_reason, CloseReason::SlowHeader);
        }
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }

    /// A response is on its way: the peer's idle time begins anew. A head that has begun keeps its
    /// deadline, or a peer could stretch it with requests sent ahead.
    fn restart_idle_time(&mut self) {
        if matches!(self.expecting, Expecting::Head) {
            self.give_time(self.times.idle);
        }
    }

    /// Turns a write that makes no progress for too long into an error.
    fn poll_write_deadline<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_deadline = None;
            return written;
        }
        let deadline = self
            .write_deadline
            .get_or_insert_with(|| Box::pin(sleep(self.times.write)));
        ready!(deadline.as_mut().poll(context));
        put(&self.state.close_reason, CloseReason::SlowReader);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for GuardedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        output: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.unread.is_empty() {
            let mut buffer = ReadBuf::new(&mut this.buffer);
            match Pin::new(&mut this.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) => this.unread = 0..buffer.filled().len(),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return this.poll_read_deadline(context).map(Err),
            }
        }
        if !this.unread.is_empty() {
            this.deliver(output);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GuardedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.restart_idle_time();
        let written = Pin::new(&mut self.stream).poll_write(context, octets);
        self.poll_write_deadline(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.restart_idle_time();
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.poll_write_deadline(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.poll_write_deadline(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.stream).poll_shutdown(context);
        self.poll_write_deadline(context, closed)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n";

    /// A guard before a peer whose pipe holds `capacity` octets, on paused time.
    fn guard(
        capacity: usize,
    ) -> (
        GuardedStream<DuplexStream>,
        DuplexStream,
        Arc<ConnectionState>,
    ) {
        let (stream, peer) = duplex(capacity);
        let state = Arc::new(ConnectionState::default());
        let limits = Limits {
            header_time: Duration::from_secs(5),
            idle_time: Duration::from_secs(60),
            write_time: Duration::from_secs(10),
            ..Limits::default()
        };
        let guarded = GuardedStream::new(stream, &limits, state.clone());
        (guarded, peer, state)
    }

    async fn read(guarded: &mut GuardedStream<DuplexStream>) -> io::Result<Vec<u8>> {
        let mut buffer = [0; 1024];
        let length = guarded.read(&mut buffer).await?;
        Ok(buffer[..length].to_vec())
    }

    #[tokio::test]
    async fn one_read_never_goes_beyond_the_end_of_a_head_or_of_a_body() {
        let (mut guarded, mut peer, _) = guard(1024);
        peer.write_all(&[HEAD, b"body", HEAD, b"last"].concat())
            .await
            .unwrap();
        for expected in [HEAD, b"body", HEAD, b"last"] {
            assert_eq!(read(&mut guarded).await.unwrap(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn octets_that_keep_coming_do_not_stretch_the_time_of_a_header() {
        let (mut guarded, mut peer, state) = guard(1024);
        let begun = Instant::now();
        let sender = tokio::spawn(async move {
            while peer.write_all(b"x").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        let error = loop {
            match read(&mut guarded).await {
                Ok(octets) => assert_eq!(octets, b"x"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), 5);
        assert_eq!(state.close_reason(), Some(CloseReason::SlowHeader));
        drop(guarded);
        sender.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn nor_do_answers_to_requests_sent_ahead() {
        let (mut guarded, mut peer, _) = guard(1024);
        let begun = Instant::now();
        peer.write_all(&[HEAD, b"body", b"GET"].concat())
            .await
            .unwrap();
        for expected in [HEAD, b"body", b"GET"] {
            assert_eq!(read(&mut guarded).await.unwrap(), expected);
        }
        sleep(Duration::from_secs(4)).await;
        guarded.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        assert!(read(&mut guarded).await.is_err());
        assert_eq!(begun.elapsed().as_secs(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_time_begins_with_the_answer() {
        let (mut guarded, mut peer, state) = guard(1024);
        let begun = Instant::now();
        peer.write_all(&[HEAD, b"body"].concat()).await.unwrap();
        assert_eq!(read(&mut guarded).await.unwrap(), HEAD);
        assert_eq!(state.begin_answer(), None);
        assert_eq!(read(&mut guarded).await.unwrap(), b"body");
        let working = async {
            sleep(Duration::from_secs(100)).await;
            state.end_answer();
        };
        tokio::select! {
            () = working => {}
            ended = read(&mut guarded) => panic!("let go while it was answered: {ended:?}"),
        }
        guarded.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        assert!(read(&mut guarded).await.is_err());
        assert_eq!(begun.elapsed().as_secs(), 160);
        assert_eq!(state.close_reason(), None, "idleness is no fault");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_a_little_is_waited_for_and_one_that_stops_is_not() {
        let (mut guarded, mut peer, state) = guard(16);
        let begun = Instant::now();
        let reader = tokio::spawn(async move {
            let mut octets = [0; 16];
            for _ in 0..3 {
                sleep(Duration::from_secs(9)).await;
                peer.read_exact(&mut octets).await.unwrap();
            }
            peer
        });
        let error = guarded.write_all(&[b'x'; 1024]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), 27 + 10);
        assert_eq!(state.close_reason(), Some(CloseReason::SlowReader));
        drop(reader.await.unwrap());
    }
}
