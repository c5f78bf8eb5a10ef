//! Metrics in the text format of Prometheus. Each server has its own, there is no global recorder.
//!
//! What there is stands in the `catalogue`; `docs/metrics.md` is made from it. What happens is counted when it happens. What
//! is a fact of the moment, such as when a certificate expires, is collected whenever somebody asks, so
//! nothing is shown of what is there no more.

mod catalogue;
mod process;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, SharedString,
};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

pub(crate) use catalogue::*;

/// Upper bounds of the buckets of durations, in seconds: from a cached answer to the request limit.
const DURATIONS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0,
];

/// Upper bounds of the buckets of what is counted in pieces: up to all that can wait for a commit.
const PIECES: [f64; 13] = [
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0,
];

const METADATA: Metadata<'static> = Metadata::new("hgs_server", Level::INFO, None);

/// Shows what is so at the moment that it is called. It may block.
type Collector = Box<dyn Fn(&Metrics) + Send + Sync>;

/// The metrics of one server; a clone stands for the same ones.
///
/// Labels must have few values: never a host, a path or anything else that a peer chooses.
#[derive(Clone)]
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    collectors: Arc<Mutex<Vec<Collector>>>,
}

impl Metrics {
    /// Metrics of a server that has not done anything yet.
    #[must_use]
    pub fn new() -> Self {
        let metrics = Self::empty();
        let version = hgs_store::program_version();
        metrics
            .gauge(&BUILD_INFO, [("version", version.into())])
            .set(1.0);
        metrics.collect(process::collect);
        metrics
    }

    fn empty() -> Self {
        let pieces = Matcher::Full(COMMIT_JOBS.name.to_owned());
        let recorder = PrometheusBuilder::new()
            .set_buckets(&DURATIONS)
            .and_then(|builder| builder.set_buckets_for_metric(pieces, &PIECES))
            .expect("only an empty list of buckets is refused")
            .build_recorder();
        describe(&recorder);
        Self {
            handle: recorder.handle(),
            recorder: Arc::new(recorder),
            collectors: Arc::default(),
        }
    }

    /// A counter. Fetch it once and keep it where the labels are known in advance.
    pub(crate) fn counter<const N: usize>(
        &self,
        metric: &'static Metric,
        labels: [(&'static str, SharedString); N],
    ) -> Counter {
        let key = metric.key(Kind::Counter, labels);
        self.recorder.register_counter(&key, &METADATA)
    }

    /// A gauge.
    pub(crate) fn gauge<const N: usize>(
        &self,
        metric: &'static Metric,
        labels: [(&'static str, SharedString); N],
    ) -> Gauge {
        let key = metric.key(Kind::Gauge, labels);
        self.recorder.register_gauge(&key, &METADATA)
    }

    /// A histogram.
    pub(crate) fn histogram<const N: usize>(
        &self,
        metric: &'static Metric,
        labels: [(&'static str, SharedString); N],
    ) -> Histogram {
        let key = metric.key(Kind::Histogram, labels);
        self.recorder.register_histogram(&key, &METADATA)
    }

    /// Has `collector` show facts of the moment, in metrics that are empty each time, whenever somebody asks. It must not keep
    /// open what a shutdown closes.
    pub(crate) fn collect(&self, collector: impl Fn(&Self) + Send + Sync + 'static) {
        self.collectors().push(Box::new(collector));
    }

    /// Has `show` do so with `owner`, as long as that is there.
    pub(crate) fn collect_from<T: Send + Sync + 'static>(
        &self,
        owner: &Arc<T>,
        show: impl Fn(&T, &Self) + Send + Sync + 'static,
    ) {
        let owner = Arc::downgrade(owner);
        self.collect(move |now| {
            if let Some(owner) = owner.upgrade() {
                show(&owner, now);
            }
        });
    }

    /// The text that Prometheus reads. It may block.
    #[must_use]
    pub fn render(&self) -> String {
        let now = Self::empty();
        self.collectors()
            .iter()
            .for_each(|collector| collector(&now));
        self.handle.render() + &now.handle.render()
    }

    /// Moves what was measured since the last call into the buckets; without it, measurements that
    /// nobody fetches would pile up.
    pub(crate) fn settle(&self) {
        self.handle.run_upkeep();
    }

    fn collectors(&self) -> std::sync::MutexGuard<'_, Vec<Collector>> {
        // A collector that panicked has shown less; the list is whole.
        self.collectors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says of each metric what it is.
fn describe(recorder: &PrometheusRecorder) {
    for metric in ALL {
        let name = KeyName::from_const_str(metric.name);
        let help = SharedString::const_str(metric.help);
        match metric.kind {
            Kind::Counter => recorder.describe_counter(name, None, help),
            Kind::Gauge => recorder.describe_gauge(name, None, help),
            Kind::Histogram => recorder.describe_histogram(name, None, help),
        }
    }
}

impl Metric {
    fn key<const N: usize>(
        &'static self,
        kind: Kind,
        labels: [(&'static str, SharedString); N],
    ) -> Key {
        debug_assert_eq!(self.kind, kind, "{}", self.name);
        debug_assert!(
            labels.iter().map(|(name, _)| name).eq(self.labels),
            "labels of {}",
            self.name
        );
        let labels = labels.map(|(name, value)| Label::new(name, value));
        Key::from_parts(self.name, labels.to_vec())
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Metrics(..)")
    }
}

/// What one listener counts.
#[derive(Debug)]
pub(crate) struct ListenerMetrics {
    metrics: Metrics,
    listener: &'static str,
    in_flight: Gauge,
    waiting: Gauge,
    queue_seconds: Histogram,
    connections: Gauge,
    panics: Counter,
    handshake_failures: Counter,
}

impl ListenerMetrics {
    pub(crate) fn new(metrics: &Metrics, listener: &'static str) -> Self {
        let labels = || [("listener", listener.into())];
        Self {
            in_flight: metrics.gauge(&HTTP_REQUESTS_IN_FLIGHT, labels()),
            waiting: metrics.gauge(&HTTP_REQUESTS_WAITING, labels()),
            queue_seconds: metrics.histogram(&HTTP_QUEUE_SECONDS, labels()),
            connections: metrics.gauge(&HTTP_CONNECTIONS, labels()),
            panics: metrics.counter(&HTTP_PANICS, labels()),
            handshake_failures: metrics.counter(&TLS_HANDSHAKE_FAILURES, labels()),
            metrics: metrics.clone(),
            listener,
        }
    }

    pub(crate) fn answered(&self, route: &'static str, status: StatusCode, elapsed: Duration) {
        let (listener, route) = (("listener", self.listener.into()), ("route", route.into()));
        let status = ("status", status.as_str().to_owned().into());
        self.metrics
            .counter(&HTTP_REQUESTS, [listener.clone(), route.clone(), status])
            .increment(1);
        self.metrics
            .histogram(&HTTP_REQUEST_SECONDS, [listener, route])
            .record(elapsed);
    }

    /// The listener's name.
    pub(crate) fn listener(&self) -> &'static str {
        self.listener
    }

    /// Counts what the engine refused itself; `reason` is one of a few names.
    pub(crate) fn rejected(&self, reason: &'static str) {
        let labels = [
            ("listener", self.listener.into()),
            ("reason", reason.into()),
        ];
        self.metrics.counter(&HTTP_REJECTED, labels).increment(1);
    }

    pub(crate) fn panicked(&self) {
        self.panics.increment(1);
    }

    pub(crate) fn handshake_failed(&self) {
        self.handshake_failures.increment(1);
    }

    /// Counts a request as waiting for its turn until the value is dropped, and measures how long that takes.
    pub(crate) fn waiting(&self) -> Waiting<'_> {
        Waiting {
            _counted: Counted::new(&self.waiting),
            seconds: &self.queue_seconds,
            since: Instant::now(),
        }
    }

    /// Counts a request until the value is dropped.
    pub(crate) fn in_flight(&self) -> Counted {
        Counted::new(&self.in_flight)
    }

    /// Counts a connection until the value is dropped.
    pub(crate) fn connection(&self) -> Counted {
        Counted::new(&self.connections)
    }
}

/// One more on a gauge, as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.increment(1);
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

/// A request that waits for its turn.
#[derive(Debug)]
pub(crate) struct Waiting<'m> {
    _counted: Counted,
    seconds: &'m Histogram,
    since: Instant,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.seconds.record(self.since.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_histograms_appear_in_the_text() {
        let metrics = Metrics::new();
        let listener = ListenerMetrics::new(&metrics, "http");
        listener.answered("roll", StatusCode::OK, Duration::from_millis(2));
        listener.rejected("queue_full");
        let text = metrics.render();
        for line in [
            r#"hgs_http_requests_total{listener="http",route="roll",status="200"} 1"#,
            r#"hgs_http_request_duration_seconds_bucket{listener="http",route="roll",le="0.0025"} 1"#,
            r#"hgs_http_request_duration_seconds_bucket{listener="http",route="roll",le="0.001"} 0"#,
            r#"hgs_http_rejected_total{listener="http",reason="queue_full"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
    }

    #[test]
    fn two_servers_count_apart() {
        let (one, other) = (Metrics::new(), Metrics::new());
        one.counter(&RELEASES, [("outcome", "released".into())])
            .increment(1);
        assert!(
            one.render()
                .contains("hgs_releases_total{outcome=\"released\"} 1")
        );
        assert!(!other.render().contains("hgs_releases_total"));
    }

    #[test]
    fn what_is_collected_goes_when_it_is_there_no_more() {
        let metrics = Metrics::new();
        let tokens = Arc::new(Mutex::new(vec!["a", "b"]));
        let shown = Arc::clone(&tokens);
        metrics.collect(move |now| {
            for token in &*shown.lock().unwrap() {
                now.gauge(&TOKEN_AVAILABLE, [("token", (*token).into())])
                    .set(1.0);
            }
        });
        let of_b = "hgs_token_available{token=\"b\"} 1";
        assert!(metrics.render().contains(of_b));
        tokens.lock().unwrap().pop();
        let text = metrics.render();
        assert!(!text.contains(of_b) && text.contains("hgs_token_available{token=\"a\"} 1"));
    }
}
