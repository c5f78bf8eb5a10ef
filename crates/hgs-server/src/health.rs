//! Behind `[listen.metrics]`: what monitoring asks. `/metrics` is for Prometheus, `/health/live`
//! says that the process answers, `/health/ready` whether it can do its work.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper::header::{ALLOW, CACHE_CONTROL, HeaderValue};
use hyper::{Method, StatusCode};
use metrics::Gauge;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;
use tracing::{error, warn};

use crate::http::{Request, Response, Service};
use crate::metrics::Metrics;

/// Says whether the server can do its work, and otherwise why not. It may block: it is called on a
/// thread for that.
#[derive(Clone)]
pub struct Readiness(Arc<dyn Fn() -> Result<(), String> + Send + Sync>);

impl Readiness {
    /// Asks `check` each time.
    pub fn new(check: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(check))
    }

    /// Both: this, and what `other` asks where this says nothing against it. A node of a cluster is ready when its guardian
    /// is, and when the cluster says so.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::new(move || (self.0)().and_then(|()| (other.0)()))
    }

    /// A server that can always do its work.
    #[must_use]
    pub fn always() -> Self {
        Self::new(|| Ok(()))
    }

    pub(crate) async fn check(&self) -> Result<(), String> {
        let check = self.0.clone();
        spawn_blocking(move || check())
            .await
            .unwrap_or_else(|_| Err("the check failed itself".to_owned()))
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Readiness(..)")
    }
}

/// For so long whoever reads metrics waits for whether the server is ready. Then it is not: monitoring must see that.
const PATIENCE: Duration = Duration::from_secs(2);

/// The service of the metrics listener.
#[derive(Debug)]
pub(crate) struct Monitoring {
    metrics: Metrics,
    readiness: Readiness,
    ready: Gauge,
    /// A check that hangs keeps a thread: there is one at a time.
    checking: Arc<Semaphore>,
}

impl Monitoring {
    pub(crate) fn new(metrics: Metrics, readiness: Readiness) -> Self {
        Self {
            ready: metrics.gauge(&crate::metrics::READY, []),
            metrics,
            readiness,
            checking: Arc::new(Semaphore::new(1)),
        }
    }

    /// The text of the metrics, with whether the server is ready now.
    async fn metrics(&self) -> Result<String, JoinError> {
        let is_ready = timeout(PATIENCE, self.is_ready()).await.unwrap_or(false);
        self.ready.set(f64::from(u8::from(is_ready)));
        let metrics = self.metrics.clone();
        spawn_blocking(move || metrics.render()).await
    }

    async fn is_ready(&self) -> bool {
        let Ok(permit) = Arc::clone(&self.checking).acquire_owned().await else {
            return false;
        };
        let readiness = self.readiness.clone();
        let checked = tokio::spawn(async move {
            let checked = readiness.check().await;
            drop(permit);
            checked
        });
        checked.await.is_ok_and(|checked| checked.is_ok())
    }
}

impl Service for Monitoring {
    fn handle(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            let route = self.route(&request.method, &request.path);
            if route != UNKNOWN && request.method != Method::GET && request.method != Method::HEAD {
                return Response::empty(StatusCode::METHOD_NOT_ALLOWED)
                    .with_header(ALLOW, HeaderValue::from_static("GET, HEAD"));
            }
            let response = match route {
                METRICS => match self.metrics().await {
                    Ok(text) => Response::new(
                        StatusCode::OK,
                        "text/plain; version=0.0.4; charset=utf-8",
                        text,
                    ),
                    Err(failure) => {
                        error!(%failure, "metrics can't be collected");
                        Response::empty(StatusCode::INTERNAL_SERVER_ERROR)
                    }
                },
                LIVE => Response::text(StatusCode::OK, "live"),
                READY => match self.readiness.check().await {
                    Ok(()) => Response::text(StatusCode::OK, "ready"),
                    Err(reason) => {
                        warn!(reason, "not ready");
                        Response::text(StatusCode::SERVICE_UNAVAILABLE, reason)
                    }
                },
                _ => Response::empty(StatusCode::NOT_FOUND),
            };
            response.with_header(CACHE_CONTROL, HeaderValue::from_static("no-store"))
        })
    }

    fn route(&self, _method: &Method, path: &str) -> &'static str {
        match path {
            "/metrics" => METRICS,
            "/health/live" => LIVE,
            "/health/ready" => READY,
            _ => UNKNOWN,
        }
    }
}

const METRICS: &str = "metrics";
const LIVE: &str = "live";
const READY: &str = "ready";
const UNKNOWN: &str = "unknown";
