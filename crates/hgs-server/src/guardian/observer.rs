//! What monitoring sees of decisions: counts, times, and one line of log each.

use std::fmt::Display;
use std::time::Duration;

use hgs_store::Action;
use metrics::{Gauge, Histogram};
use tracing::info;

use crate::logging::PEERS;
use crate::metrics::{
    ATTESTATIONS, HEALTH_TOKENS, Metric, Metrics, RELEASE_SECONDS, RELEASES, RELEASES_BY_LINEAGE,
    STATE_GENERATION,
};
use crate::telemetry;

/// Counts decisions and logs them.
pub(crate) struct Observer {
    metrics: Metrics,
    release_seconds: Histogram,
    generation: Gauge,
}

/// One decision, in the words of its verdict or refusal. Nothing in it is secret.
#[derive(Debug, Default)]
pub(crate) struct Decision {
    /// `healthy`, `released`, or the code of the refusal.
    pub(crate) outcome: &'static str,
    /// Why it was refused.
    pub(crate) reason: Option<String>,
    /// The host's id, once it has proved itself.
    pub(crate) host: Option<String>,
    /// What administrators call it.
    pub(crate) host_name: Option<String>,
    /// The serial number of its health certificate.
    pub(crate) serial: Option<String>,
    /// The digest of the ingress protector.
    pub(crate) protector: Option<String>,
    /// The lineage of the certificate that opened, where keys were released: one that administrators made.
    pub(crate) lineage: Option<String>,
    /// The number of its audit record, where it has one of its own.
    pub(crate) record: Option<u64>,
    /// How many were refused alike since the last aggregate, if this is one of those that become one record.
    pub(crate) alike: Option<u64>,
}

impl Observer {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        for (counter, outcome) in [
            (&ATTESTATIONS, "healthy"),
            (&HEALTH_TOKENS, "issued"),
            (&RELEASES, "released"),
        ] {
            // Counted from zero, so that the first is seen as an increase.
            metrics
                .counter(counter, [("outcome", outcome.into())])
                .increment(0);
        }
        Self {
            release_seconds: metrics.histogram(&RELEASE_SECONDS, []),
            generation: metrics.gauge(&STATE_GENERATION, []),
            metrics: metrics.clone(),
        }
    }

    pub(crate) fn attestation(&self, decision: &Decision) {
        self.decided(&ATTESTATIONS, Action::Attest, decision);
    }

    pub(crate) fn health_token(&self, decision: &Decision) {
        self.decided(&HEALTH_TOKENS, Action::Attest, decision);
    }

    /// `elapsed` counts where keys were released.
    pub(crate) fn release(&self, decision: &Decision, elapsed: Option<Duration>) {
        if let Some(elapsed) = elapsed {
            self.release_seconds.record(elapsed);
        }
        if let Some(lineage) = &decision.lineage {
            let lineage = ("lineage", lineage.clone().into());
            let counter = self.metrics.counter(&RELEASES_BY_LINEAGE, [lineage]);
            counter.increment(1);
        }
        self.decided(&RELEASES, Action::Release, decision);
    }

    /// The gauge of the state's generation.
    pub(crate) fn generation_gauge(&self) -> Gauge {
        self.generation.clone()
    }

    pub(crate) fn generation(&self, generation: u64) {
        self.generation.set(generation as f64);
    }

    fn decided(&self, counter: &'static Metric, action: Action, decision: &Decision) {
        let outcome = decision.outcome;
        telemetry::decided(outcome, decision.host.as_ref(), decision.record);
        let labels = [("outcome", outcome.into())];
        self.metrics.counter(counter, labels).increment(1);
        // Two targets, one line: the target of an event is fixed where it stands.
        macro_rules! line {
            ($target:expr) => {
                info!(
                    target: $target,
                    %action,
                    outcome,
                    reason = decision.reason.as_ref().map(shown),
                    host = decision.host.as_ref().map(shown),
                    host_name = decision.host_name.as_ref().map(shown),
                    serial = decision.serial.as_ref().map(shown),
                    protector = decision.protector.as_ref().map(shown),
                    record = decision.record,
                    "decided"
                )
            };
        }
        // Refusals that become one record can be caused as often as a peer likes.
        match decision.alike {
            Some(_) => line!(PEERS),
            None => line!(module_path!()),
        }
    }
}

fn shown(value: &impl Display) -> tracing::field::DisplayValue<&dyn Display> {
    tracing::field::display(value)
}
