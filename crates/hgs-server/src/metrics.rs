//! Metrics in the text format of Prometheus. Each server has its own, there is no global recorder.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, SharedString, Unit,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// Upper bounds of the histograms' buckets, in seconds: from a cached answer to the request limit.
const BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0,
];

const METADATA: Metadata<'static> = Metadata::new("hgs_server", Level::INFO, None);

/// The metrics of one server; a clone stands for the same ones.
///
/// Labels must have few values: never a host, a path or anything else that a peer chooses.
#[derive(Clone)]
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
}

impl Metrics {
    /// Metrics of a server that has not done anything yet.
    #[must_use]
    pub fn new() -> Self {
        let recorder = PrometheusBuilder::new()
            .set_buckets(&BUCKETS)
            .expect("only an empty list of buckets is refused")
            .build_recorder();
        let metrics = Self {
            handle: recorder.handle(),
            recorder: Arc::new(recorder),
        };
        metrics.describe_listeners();
        metrics
    }

    /// A counter. Fetch it once and keep it where the labels are known in advance.
    pub fn counter(&self, name: &'static str, labels: &[(&'static str, &'static str)]) -> Counter {
        self.recorder
            .register_counter(&key(name, labels), &METADATA)
    }

    /// A counter with a label whose values an administrator makes, such as tenants' names: never what a peer says, or it
    /// could fill the memory.
    pub(crate) fn counter_of(
        &self,
        name: &'static str,
        label: &'static str,
        value: String,
    ) -> Counter {
        let key = Key::from_parts(name, vec![Label::new(label, value)]);
        self.recorder.register_counter(&key, &METADATA)
    }

    /// A gauge.
    pub fn gauge(&self, name: &'static str, labels: &[(&'static str, &'static str)]) -> Gauge {
        self.recorder.register_gauge(&key(name, labels), &METADATA)
    }

    /// A gauge with labels whose values administrators make, such as names of nodes.
    pub(crate) fn gauge_of<const N: usize>(
        &self,
        name: &'static str,
        labels: [(&'static str, String); N],
    ) -> Gauge {
        let labels = labels.map(|(label, value)| Label::new(label, value));
        let key = Key::from_parts(name, labels.to_vec());
        self.recorder.register_gauge(&key, &METADATA)
    }

    /// A histogram of seconds.
    pub fn histogram(
        &self,
        name: &'static str,
        labels: &[(&'static str, &'static str)],
    ) -> Histogram {
        self.recorder
            .register_histogram(&key(name, labels), &METADATA)
    }

    /// Says in one sentence what the counter `name` counts.
    pub fn describe_counter(&self, name: &'static str, description: &'static str) {
        self.recorder.describe_counter(
            KeyName::from_const_str(name),
            None,
            SharedString::const_str(description),
        );
    }

    /// Says in one sentence what the gauge `name` shows.
    pub fn describe_gauge(&self, name: &'static str, description: &'static str) {
        self.recorder.describe_gauge(
            KeyName::from_const_str(name),
            None,
            SharedString::const_str(description),
        );
    }

    /// Says in one sentence what the histogram `name` measures, in seconds.
    pub fn describe_histogram(&self, name: &'static str, description: &'static str) {
        self.recorder.describe_histogram(
            KeyName::from_const_str(name),
            Some(Unit::Seconds),
            SharedString::const_str(description),
        );
    }

    /// The text that Prometheus reads.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Moves what was measured since the last call into the buckets; without it, measurements that
    /// nobody fetches would pile up.
    pub(crate) fn settle(&self) {
        self.handle.run_upkeep();
    }

    fn describe_listeners(&self) {
        self.describe_counter(
            REQUESTS,
            "Requests answered, by listener, route and status.",
        );
        self.describe_histogram(
            DURATION,
            "Time from the end of a request's header to its answer.",
        );
        self.describe_gauge(IN_FLIGHT, "Requests being read, waiting or worked on.");
        self.describe_gauge(CONNECTIONS, "Open connections.");
        self.describe_counter(
            REJECTED,
            "Requests and connections that the server refused itself, by reason.",
        );
        self.describe_counter(PANICS, "Requests whose handler panicked.");
        self.describe_counter(
            HANDSHAKE_FAILURES,
            "TLS handshakes that failed or took too long.",
        );
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

fn key(name: &'static str, labels: &[(&'static str, &'static str)]) -> Key {
    let labels: Vec<Label> = labels
        .iter()
        .map(|(name, value)| Label::from_static_parts(name, value))
        .collect();
    Key::from_parts(name, labels)
}

const REQUESTS: &str = "hgs_http_requests_total";
const DURATION: &str = "hgs_http_request_duration_seconds";
const IN_FLIGHT: &str = "hgs_http_requests_in_flight";
const CONNECTIONS: &str = "hgs_http_connections";
const REJECTED: &str = "hgs_http_rejected_total";
const PANICS: &str = "hgs_http_panics_total";
const HANDSHAKE_FAILURES: &str = "hgs_tls_handshake_failures_total";

/// What one listener counts.
#[derive(Debug)]
pub(crate) struct ListenerMetrics {
    metrics: Metrics,
    listener: &'static str,
    in_flight: Gauge,
    connections: Gauge,
    panics: Counter,
    handshake_failures: Counter,
}

impl ListenerMetrics {
    pub(crate) fn new(metrics: &Metrics, listener: &'static str) -> Self {
        let labels = [("listener", listener)];
        Self {
            in_flight: metrics.gauge(IN_FLIGHT, &labels),
            connections: metrics.gauge(CONNECTIONS, &labels),
            panics: metrics.counter(PANICS, &labels),
            handshake_failures: metrics.counter(HANDSHAKE_FAILURES, &labels),
            metrics: metrics.clone(),
            listener,
        }
    }

    pub(crate) fn answered(&self, route: &'static str, status: StatusCode, elapsed: Duration) {
        let labels = vec![
            Label::from_static_parts("listener", self.listener),
            Label::from_static_parts("route", route),
            Label::new("status", status.as_str().to_owned()),
        ];
        self.metrics
            .recorder
            .register_counter(&Key::from_parts(REQUESTS, labels), &METADATA)
            .increment(1);
        self.metrics
            .histogram(DURATION, &[("listener", self.listener), ("route", route)])
            .record(elapsed);
    }

    /// Counts what the engine refused itself; `reason` is one of a few names.
    pub(crate) fn rejected(&self, reason: &'static str) {
        let labels = [("listener", self.listener), ("reason", reason)];
        self.metrics.counter(REJECTED, &labels).increment(1);
    }

    pub(crate) fn panicked(&self) {
        self.panics.increment(1);
    }

    pub(crate) fn handshake_failed(&self) {
        self.handshake_failures.increment(1);
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
        one.counter("hgs_releases_total", &[]).increment(1);
        assert!(one.render().contains("hgs_releases_total 1"));
        assert!(!other.render().contains("hgs_releases_total"));
    }
}
