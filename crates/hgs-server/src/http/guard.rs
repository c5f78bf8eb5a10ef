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

use super::head::{BodyFraming, HeadScanner};
use super::rejection::{Ending, Rejection};
use crate::config::Limits;

/// Octets read from the socket at once.
const BUFFER: usize = 8 * 1024;

/// What the stream and the handler of its requests tell each other.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Set while a request is being answered, so that waiting for the answer is not idleness.
    answering: AtomicBool,
    /// What is wrong with the head that was passed on last.
    fault: Mutex<Option<Rejection>>,
    /// Why the stream ended the connection.
    ended: Mutex<Option<Ending>>,
}

impl Watch {
    /// The handler begins: what was wrong with the head of this request, if anything.
    pub(super) fn begin_answer(&self) -> Option<Rejection> {
        self.answering.store(true, Ordering::Relaxed);
        take(&self.fault)
    }

    /// The handler has an answer, which will be written next.
    pub(super) fn end_answer(&self) {
        self.answering.store(false, Ordering::Relaxed);
    }

    /// Why the stream ended the connection, if it did.
    pub(super) fn ended(&self) -> Option<Ending> {
        take(&self.ended)
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
    header_limit: usize,
    times: Times,
    read_deadline: Pin<Box<Sleep>>,
    write_deadline: Option<Pin<Box<Sleep>>>,
    watch: Arc<Watch>,
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
    pub(super) fn new(stream: S, limits: &Limits, watch: Arc<Watch>) -> Self {
        Self {
            stream,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            unread: 0..0,
            expecting: Expecting::Head,
            scanner: HeadScanner::default(),
            header_limit: limits.headers,
            times: Times {
                header: limits.header_time,
                idle: limits.idle_time,
                write: limits.write_time,
            },
            read_deadline: Box::pin(sleep(limits.header_time)),
            write_deadline: None,
            watch,
        }
    }

    /// Hands over what may be handed over of the octets already read.
    fn deliver(&mut self, output: &mut ReadBuf<'_>) {
        let end = self.unread.end.min(self.unread.start + output.remaining());
        let mut octets = &self.buffer[self.unread.start..end];
        match self.expecting {
            Expecting::Head | Expecting::RestOfHead => {
                if matches!(self.expecting, Expecting::Head) {
                    self.expecting = Expecting::RestOfHead;
                    self.read_deadline
                        .as_mut()
                        .reset(Instant::now() + self.times.header);
                }
                if let Some(length) = self.scanner.scan(octets) {
                    octets = &octets[..length];
                    self.expecting = match self.scanner.finish() {
                        Ok(BodyFraming::Length(0)) => Expecting::Head,
                        Ok(BodyFraming::Length(length)) => Expecting::Body(length),
                        Ok(BodyFraming::Unknown) => Expecting::Anything,
                        Err(fault) => {
                            put(&self.watch.fault, fault);
                            Expecting::Anything
                        }
                    };
                    self.read_deadline
                        .as_mut()
                        .reset(Instant::now() + self.times.idle);
                } else if self.scanner.len() > self.header_limit {
                    // The parser refuses it as soon as it has these octets.
                    self.expecting = Expecting::Anything;
                }
            }
            Expecting::Body(remaining) => {
                let length =
                    usize::try_from(remaining).map_or(octets.len(), |most| octets.len().min(most));
                octets = &octets[..length];
                self.expecting = match remaining - length as u64 {
                    0 => Expecting::Head,
                    remaining => Expecting::Body(remaining),
                };
            }
            Expecting::Anything => {}
        }
        output.put_slice(octets);
        self.unread.start += octets.len();
    }

    /// Whether the peer has had its time; only heads and pauses between requests are timed here,
    /// bodies by who reads them.
    fn poll_read_deadline(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        if matches!(self.expecting, Expecting::Body(_)) {
            return Poll::Pending;
        }
        ready!(self.read_deadline.as_mut().poll(context));
        if self.watch.answering.load(Ordering::Relaxed) {
            self.read_deadline
                .as_mut()
                .reset(Instant::now() + self.times.idle);
            return self.poll_read_deadline(context);
        }
        if matches!(self.expecting, Expecting::RestOfHead) {
            put(&self.watch.ended, Ending::SlowHeader);
        }
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }

    /// A response is on its way: the peer's idle time begins anew. A head that has begun keeps its
    /// deadline, or a peer could stretch it with requests sent ahead.
    fn restart_idle_time(&mut self) {
        if matches!(self.expecting, Expecting::Head) {
            self.read_deadline
                .as_mut()
                .reset(Instant::now() + self.times.idle);
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
        put(&self.watch.ended, Ending::SlowReader);
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
