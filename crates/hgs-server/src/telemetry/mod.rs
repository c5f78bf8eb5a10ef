//! Traces of requests, sent to a collector of OpenTelemetry by OTLP over HTTP. Off unless an endpoint is configured.
//!
//! ```text
//!  request                      its id is the X-Request-Id of the answer and stands in the log
//!   '- release | attestation    outcome, host
//!       |- wait                 for a processor
//!       |- identify             whose request it is
//!       |- work                 the decision
//!       |   '- key              work with a private key: where it lives, which certificate
//!       '- commit               until the record is on the disk; how many share it
//!           '- order            among the commits of the other nodes of a cluster
//! ```
//!
//! Only these spans leave the process, with the attributes that they name: no event of the log, and nothing that a library
//! traces. No attribute holds a secret. The service never waits for the collector: what finds the queue full is dropped.
//!
//! A `traceparent` of a peer becomes a link. Peers are strangers: none of them decides what is traced, or to which trace it
//! belongs.

mod client;
mod commit;
mod headers;
mod lost;
mod spans;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider,
};
use tokio::runtime::Handle;
use tracing::warn;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::{Layer, Registry};

use crate::config::Config;
use crate::metrics::{Metrics, SPANS_LOST};
use crate::outgoing::AuthoritiesError;
use client::Client;
use lost::{Bounded, Counted, LOST, Queue};

pub(crate) use commit::{CommitSpan, note_commit, note_order};
pub use headers::HeadersError;
pub(crate) use spans::{answered, decided, identify, key, request, service, wait, work};

/// The target of the spans that are sent. They are of the lowest level, so that no log has them.
pub const TRACED: &str = "openhgs::traced";

/// Spans that wait to be sent. What comes when so many wait is dropped.
const QUEUE: usize = 4096;
/// How long spans wait for others to be sent with.
const DELAY: Duration = Duration::from_secs(2);
/// How long one attempt to send may take, and the last one when the server stops.
const PATIENCE: Duration = Duration::from_secs(5);
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// What makes spans of which the times are known afterwards. A process has one log, and so one of these.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Traces can't be sent as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The header fields for the collector.
    #[error("telemetry.headers_file: {0}")]
    Headers(#[from] HeadersError),
    /// The way to the collector.
    #[error("telemetry: {0}")]
    Client(#[from] AuthoritiesError),
    /// The library refuses it.
    #[error("telemetry: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Sends traces, until it is stopped.
#[derive(Debug)]
pub struct Telemetry {
    provider: SdkTracerProvider,
}

impl Telemetry {
    /// Begins, if `config` says where to. `runtime` sends.
    ///
    /// # Errors
    /// See [`TelemetryError`]. That the collector does not answer is none: it may come later.
    pub fn start(config: &Config, runtime: &Handle) -> Result<Option<Self>, TelemetryError> {
        let settings = &config.telemetry;
        let Some(endpoint) = &settings.otlp_endpoint else {
            return Ok(None);
        };
        let headers = settings.headers_file.as_deref().map(headers::read);
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client::new(settings, runtime.clone(), PATIENCE)?)
            .with_endpoint(endpoint.traces())
            .with_headers(headers.transpose()?.unwrap_or_default())
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(PATIENCE)
            .build()?;
        let queue = Queue::new(QUEUE, &LOST);
        let exporter = Counted {
            queue: Arc::clone(&queue),
            exporter,
        };
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_scheduled_delay(DELAY)
            .build();
        let processor = BatchSpanProcessor::builder(exporter)
            .with_batch_config(batches)
            .build();
        let sampler = Sampler::TraceIdRatioBased(settings.sampling_ratio.get());
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(sampler)))
            .with_resource(resource(config))
            .with_span_processor(Bounded { queue, processor })
            .build();
        // A process has one log; what began first goes on.
        let _ = TRACER.set(provider.tracer("openhgs"));
        Ok(Some(Self { provider }))
    }

    /// What turns the spans of this crate into traces, as a part of the log of a program.
    #[must_use]
    pub fn layer(&self) -> Box<dyn Layer<Registry> + Send + Sync> {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("openhgs"))
            .with_context_activation(false)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(|about| {
                about.is_span() && about.target() == TRACED
            }))
            .boxed()
    }

    /// Sends what waits, for two seconds at most. It blocks.
    pub fn stop(self) {
        if let Err(failure) = self.provider.shutdown_with_timeout(LAST_PATIENCE) {
            warn!(%failure, "the last traces could not be sent");
        }
    }
}

/// Has `metrics` show how many spans no collector got.
pub(crate) fn show_in(metrics: &Metrics) {
    metrics.collect(|now| {
        for (reason, spans) in LOST.by_reason() {
            now.counter(&SPANS_LOST, [("reason", reason.into())])
                .absolute(spans);
        }
    });
}

/// Which program speaks. `service.instance.id` tells the nodes of a guardian apart.
fn resource(config: &Config) -> Resource {
    Resource::builder()
        .with_service_name("openhgs")
        .with_attribute(KeyValue::new(
            "service.version",
            hgs_store::program_version(),
        ))
        .with_attribute(KeyValue::new(
            "service.instance.id",
            config.server.name.clone(),
        ))
        .build()
}
