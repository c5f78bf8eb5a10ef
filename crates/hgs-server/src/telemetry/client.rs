//! How traces reach the collector: HTTP/1.1, each time over a new connection, with TLS where the URL says so.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tracing::warn;

use crate::config;
use crate::outgoing::{AuthoritiesError, Outgoing, send_plain};

/// Octets of the longest answer that is read.
const MAX_ANSWER: usize = 64 * 1024;
/// How often it is told that traces can't be sent.
const TELL_AGAIN: Duration = Duration::from_mins(1);

/// Sends batches of spans.
#[derive(Clone)]
pub(super) struct Client {
    /// Where the collector is reached by TLS.
    tls: Option<Outgoing>,
    runtime: Handle,
    patience: Duration,
    failures: Arc<Mutex<Failures>>,
}

/// What could not be sent since it was last told.
#[derive(Default)]
struct Failures {
    told: Option<Instant>,
    count: u64,
}

impl Client {
    pub(super) fn new(
        settings: &config::Telemetry,
        runtime: Handle,
        patience: Duration,
    ) -> Result<Self, AuthoritiesError> {
        let endpoint = settings.otlp_endpoint.as_ref();
        let is_tls = endpoint.is_some_and(|it| it.traces().starts_with("https:"));
        let tls = || Outgoing::new(settings.authorities.as_deref());
        Ok(Self {
            tls: is_tls.then(tls).transpose()?,
            runtime,
            patience,
            failures: Arc::default(),
        })
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        match &self.tls {
            None => send_plain(request, MAX_ANSWER).await,
            Some(tls) => tls.send(request, MAX_ANSWER).await,
        }
    }

    /// Tells of a failure, once a minute.
    fn tell(&self, failure: &dyn fmt::Display) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.count += 1;
        if failures
            .told
            .is_none_or(|told| told.elapsed() >= TELL_AGAIN)
        {
            let times = std::mem::take(&mut failures.count);
            failures.told = Some(Instant::now());
            warn!(%failure, times, "traces can't be sent to the collector; nothing else depends on it");
        }
    }
}

/// The thread that waits for it is none of the runtime's, so the runtime does the work.
#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.clone();
        let sending = self.runtime.spawn(async move {
            let sent = timeout(client.patience, client.send(request)).await;
            let sent = sent.unwrap_or_else(|_| Err("it takes too long".into()));
            match &sent {
                Ok(answer) if answer.status().is_success() => {}
                Ok(answer) => client.tell(&format_args!("it answers {}", answer.status())),
                Err(failure) => client.tell(failure),
            }
            sent
        });
        sending.await?
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Client(..)")
    }
}
