//! What monitoring sees of decisions: counts, times, and one line of log each.

use std::fmt::Display;
use std::time::Duration;

use hgs_custody_pkcs11::{Breaker, ModuleStatus};
use hgs_pki::Time;
use hgs_store::Action;
use metrics::{Gauge, Histogram};
use tracing::info;

use crate::logging::PEERS;
use crate::metrics::Metrics;

const ATTESTATIONS: &str = "hgs_attestations_total";
const RELEASES: &str = "hgs_releases_total";
const RELEASES_BY_LINEAGE: &str = "hgs_releases_by_lineage_total";
const RELEASE_SECONDS: &str = "hgs_release_duration_seconds";
const SIGNER_EXPIRY: &str = "hgs_attestation_signer_expiry_seconds";
const GENERATION: &str = "hgs_state_generation";
const TOKENS_AWAY: &str = "hgs_tokens_away";

/// Counts decisions and logs them.
pub(crate) struct Observer {
    metrics: Metrics,
    release_seconds: Histogram,
    signer_expiry: Gauge,
    generation: Gauge,
    tokens_away: Gauge,
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
        metrics.describe_counter(ATTESTATIONS, "Attestations decided, by outcome.");
        metrics.describe_counter(RELEASES, "Requests for keys decided, by outcome.");
        metrics.describe_counter(
            RELEASES_BY_LINEAGE,
            "Keys released, by the lineage of the certificate that opened: the fabric's, or a tenant's.",
        );
        metrics.describe_histogram(
            RELEASE_SECONDS,
            "Time from a request for keys to their release, the record on disk included.",
        );
        metrics.describe_gauge(
            SIGNER_EXPIRY,
            "When the newest attestation signer expires, in Unix seconds.",
        );
        metrics.describe_gauge(GENERATION, "How many transactions have changed the state.");
        metrics.describe_gauge(
            TOKENS_AWAY,
            "Tokens whose keys are unavailable, as of the last minute.",
        );
        Self {
            release_seconds: metrics.histogram(RELEASE_SECONDS, &[]),
            signer_expiry: metrics.gauge(SIGNER_EXPIRY, &[]),
            generation: metrics.gauge(GENERATION, &[]),
            tokens_away: metrics.gauge(TOKENS_AWAY, &[]),
            metrics: metrics.clone(),
        }
    }

    pub(crate) fn attestation(&self, decision: &Decision) {
        self.decided(ATTESTATIONS, Action::Attest, decision);
    }

    /// `elapsed` counts where keys were released.
    pub(crate) fn release(&self, decision: &Decision, elapsed: Option<Duration>) {
        if let Some(elapsed) = elapsed {
            self.release_seconds.record(elapsed);
        }
        if let Some(lineage) = &decision.lineage {
            let counter = self
                .metrics
                .counter_of(RELEASES_BY_LINEAGE, "lineage", lineage.clone());
            counter.increment(1);
        }
        self.decided(RELEASES, Action::Release, decision);
    }

    pub(crate) fn signer_expires(&self, when: Time) {
        self.signer_expiry.set(when.unix() as f64);
    }

    /// The gauge of the state's generation.
    pub(crate) fn generation_gauge(&self) -> Gauge {
        self.generation.clone()
    }

    pub(crate) fn generation(&self, generation: u64) {
        self.generation.set(generation as f64);
    }

    pub(crate) fn tokens(&self, modules: &[ModuleStatus]) {
        let tokens = modules.iter().flat_map(|module| &module.tokens);
        let away = tokens.filter(|token| token.breaker != Breaker::Closed);
        self.tokens_away.set(away.count() as f64);
    }

    fn decided(&self, counter: &'static str, action: Action, decision: &Decision) {
        let outcome = decision.outcome;
        let labels = [("outcome", outcome)];
        self.metrics.counter(counter, &labels).increment(1);
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
