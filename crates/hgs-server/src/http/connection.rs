//! One connection: its requests one after the other, until either side has enough.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use super::exchange::Engine;
use super::guard::{GuardedStream, Watch};
use super::rejection::Ending;
use super::service::Peer;
use super::stopping::Stopping;

/// Header fields of one request.
const HEADER_FIELDS: usize = 64;

/// Serves the requests that come over `stream`. After the order to stop, the request in
/// progress is the last one.
pub(super) async fn serve<S>(stream: S, peer: Peer, engine: Arc<Engine>, mut stopping: Stopping)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let watch = Arc::new(Watch::default());
    let guarded = GuardedStream::new(stream, &engine.limits, watch.clone());
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let answer = engine.clone().answer(peer, watch.clone(), request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .header_read_timeout(None)
            .max_header_size(engine.limits.headers)
            .max_headers(HEADER_FIELDS)
            .half_close(true)
            .serve_connection(TokioIo::new(guarded), service)
    );
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stopping.ordered() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        let ending = watch
            .ended()
            .or_else(|| error.is_parse().then_some(Ending::MalformedHeader));
        if let Some(ending) = ending {
            engine.metrics.rejected(ending.name());
        }
        debug!(%peer, %error, "a connection ended");
    }
}
