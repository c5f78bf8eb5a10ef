//! One connection: its requests, one after the other.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tracing::debug;

use super::exchange::Engine;
use super::guard::{ConnectionState, GuardedStream};
use super::rejection::CloseReason;
use super::service::Peer;
use super::shutdown::ShutdownSignal;

/// Header fields of one request.
const HEADER_FIELDS: usize = 64;

/// How long the end of a stream may take to leave, once the server stops.
const STREAM_END: Duration = Duration::from_millis(500);

/// Serves the requests that come over `stream`. After the shutdown begins, the request in
/// progress is the last one.
pub(super) async fn serve<S>(
    stream: S,
    peer: Peer,
    engine: Arc<Engine>,
    mut shutdown: ShutdownSignal,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let state = Arc::new(ConnectionState::default());
    let guarded = GuardedStream::new(stream, &engine.limits, state.clone());
    let signal = shutdown.clone();
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let answer = engine
            .clone()
            .answer(peer.clone(), state.clone(), signal.clone(), request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .header_read_timeout(None)
            .max_header_size(engine.limits.headers)
            .max_headers(HEADER_FIELDS)
            .half_close(engine.allows_half_close())
            .serve_connection(TokioIo::new(guarded), service)
    );
    let served = async {
        tokio::select! {
            result = connection.as_mut() => result,
            () = shutdown.received() => {
                connection.as_mut().graceful_shutdown();
                match state.is_streaming() {
                    false => connection.await,
                    // A stream ends with the order to stop. A peer that does not read is not waited for.
                    true => timeout(STREAM_END, connection).await.unwrap_or(Ok(())),
                }
            }
        }
    };
    let result = tokio::select! {
        result = served => result,
        () = peer.ended() => {
            debug!(%peer, "a connection ended with the access of its peer");
            return;
        }
    };
    if let Err(error) = result {
        let reason = state
            .close_reason()
            .or_else(|| error.is_parse().then_some(CloseReason::MalformedHeader));
        if let Some(reason) = reason {
            engine.metrics.rejected(reason.name());
        }
        debug!(%peer, %error, "a connection ended");
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use std::task::{Context, Poll};

    use futures_util::future::BoxFuture;
    use hyper::{Method, StatusCode};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex};

    use super::super::service::{Request, Response, Service};
    use super::super::shutdown;
    use super::*;
    use crate::config::Limits;
    use crate::metrics::{ListenerMetrics, Metrics};

    /// Counts the writes that reach the system.
    struct Counting(DuplexStream, Arc<AtomicUsize>);

    impl AsyncRead for Counting {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            output: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(context, output)
        }
    }

    impl AsyncWrite for Counting {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            octets: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.0).poll_write(context, octets)
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            slices: &[io::IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.0).poll_write_vectored(context, slices)
        }

        fn is_write_vectored(&self) -> bool {
            self.0.is_write_vectored()
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(context)
        }

        fn poll_shutdown(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(context)
        }
    }

    struct Certificates;

    impl Service for Certificates {
        fn handle(&self, _request: Request) -> BoxFuture<'_, Response> {
            let body = vec![b'7'; 20_000];
            Box::pin(async { Response::new(StatusCode::OK, "application/json", body) })
        }

        fn route(&self, _method: &Method, _path: &str) -> &'static str {
            "certificates"
        }
    }

    /// Drivers of SQL Server take what one read of theirs returns for the whole response.
    #[tokio::test]
    async fn a_response_leaves_in_one_write() {
        let (stream, mut peer) = duplex(64 * 1024);
        let writes = Arc::new(AtomicUsize::new(0));
        let metrics = ListenerMetrics::new(&Metrics::new(), "http");
        let sequence = Arc::new(AtomicU64::new(1));
        let limits = Limits::default();
        let engine = Engine::new(Arc::new(Certificates), &limits, metrics, 0, sequence);
        let (_trigger, signal) = shutdown::channel();
        peer.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let stream = Counting(stream, writes.clone());
        let address = ([192, 0, 2, 1], 1).into();
        serve(stream, Peer::Tcp(address), Arc::new(engine), signal).await;

        let mut response = String::new();
        peer.read_to_string(&mut response).await.unwrap();
        assert!(response.contains("content-length: 20000\r\n"), "{response}");
        assert!(response.ends_with("777"));
        assert_eq!(writes.load(Ordering::Relaxed), 1);
    }
}
