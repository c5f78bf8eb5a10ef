//! The body of an answer that is sent in parts as they come.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use hyper::body::{Body, Frame};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep};

use super::shutdown::ShutdownSignal;

/// A body whose parts come one by one. It ends with its stream, with the shutdown, or when no part came for the idle
/// time: then its peer may be gone, and would hold the connection for ever.
pub(super) struct StreamedBody {
    parts: BoxStream<'static, Bytes>,
    stopped: BoxFuture<'static, ()>,
    idle_time: Duration,
    idle: Pin<Box<Sleep>>,
    _counted: OwnedSemaphorePermit,
}

impl StreamedBody {
    pub(super) fn new(
        parts: BoxStream<'static, Bytes>,
        mut shutdown: ShutdownSignal,
        idle_time: Duration,
        counted: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            parts,
            stopped: Box::pin(async move { shutdown.received().await }),
            idle_time,
            idle: Box::pin(sleep(idle_time)),
            _counted: counted,
        }
    }
}

impl Body for StreamedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        if this.stopped.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        match this.parts.as_mut().poll_next(context) {
            Poll::Ready(part) => {
                this.idle.as_mut().reset(Instant::now() + this.idle_time);
                Poll::Ready(part.map(|part| Ok(Frame::data(part))))
            }
            Poll::Pending => {
                ready!(this.idle.as_mut().poll(context));
                Poll::Ready(None)
            }
        }
    }
}
