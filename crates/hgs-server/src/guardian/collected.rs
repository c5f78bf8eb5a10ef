//! What monitoring sees of a guardian whenever it asks: facts of the moment, not counted before.

use std::collections::BTreeMap;
use std::sync::Arc;

use hgs_custody_pkcs11::Breaker;
use hgs_pki::Time;
use hgs_store::{Action, AuditFilter, Host, Outcome, State};

use super::expiry::{self, CertificateInUse};
use super::inspection::Inspection;
use super::workers::Workers;
use crate::metrics::{
    AUDIT_RECORDS, BACKUP_TIMESTAMP, CERTIFICATE_EXPIRATION, CERTIFICATES_WITHOUT_KEY,
    COMMIT_JOBS_WAITING, DISK_FREE, DISK_SIZE, HOSTS, Metrics, TOKEN_AVAILABLE, TOKEN_FAILURES,
    TOKEN_JOBS_WAITING, TOKENS_AWAY, WORK_JOBS_WAITING,
};

/// What a host can be.
const CONDITIONS: [&str; 4] = ["healthy", "expired", "never-healthy", "revoked"];

/// Shows when a certificate expires.
pub(crate) fn show_expiration(metrics: &Metrics, certificate: CertificateInUse) {
    let labels = [
        ("use", certificate.role.to_string().into()),
        ("certificate", certificate.name.into()),
        ("lineage", certificate.lineage.into()),
        ("current", certificate.is_current.to_string().into()),
    ];
    metrics
        .gauge(&CERTIFICATE_EXPIRATION, labels)
        .set(certificate.validity.not_after.unix() as f64);
}

impl Inspection {
    /// Has `metrics` show how this guardian is. It does not keep the guardian open.
    pub(crate) fn show_in(self: &Arc<Self>, metrics: &Metrics, workers: &Arc<Workers>) {
        metrics.collect_from(self, Self::show);
        metrics.collect_from(workers, |workers, now| {
            let waiting = workers.waiting() as f64;
            now.gauge(&WORK_JOBS_WAITING, []).set(waiting);
        });
    }

    fn show(&self, metrics: &Metrics) {
        let (state, now) = (self.store.state(), self.clock.now());
        show_hosts(metrics, &state, now);
        for certificate in expiry::of_state(&state, now) {
            show_expiration(metrics, certificate);
        }
        for certificate in self.certificates_of_peers() {
            show_expiration(metrics, certificate);
        }
        self.show_keys(metrics);
        self.show_tokens(metrics);
        self.show_store(metrics);
    }

    fn show_keys(&self, metrics: &Metrics) {
        // Without holdings no key can be used, and the guardian is not ready.
        let Ok(snapshot) = self.snapshots.current() else {
            return;
        };
        let enabled = snapshot
            .state
            .certificates()
            .filter(|record| record.enabled);
        let without = enabled.filter(|record| !snapshot.holdings.has_key_of(record));
        metrics
            .gauge(&CERTIFICATES_WITHOUT_KEY, [])
            .set(without.count() as f64);
    }

    fn show_tokens(&self, metrics: &Metrics) {
        let modules = self.tokens.status();
        let tokens = || modules.iter().flat_map(|module| &module.tokens);
        let is_away = |breaker: &Breaker| *breaker != Breaker::Closed;
        let away = tokens().filter(|token| is_away(&token.breaker)).count();
        metrics.gauge(&TOKENS_AWAY, []).set(away as f64);
        for token in tokens() {
            let label = || [("token", token.name.clone().into())];
            let available = f64::from(u8::from(!is_away(&token.breaker)));
            metrics.gauge(&TOKEN_AVAILABLE, label()).set(available);
            metrics
                .gauge(&TOKEN_JOBS_WAITING, label())
                .set(token.waiting as f64);
            metrics
                .counter(&TOKEN_FAILURES, label())
                .absolute(token.failures);
        }
    }

    fn show_store(&self, metrics: &Metrics) {
        let show = |metric, value: f64| metrics.gauge(metric, []).set(value);
        let waiting = self.store.counters().waiting;
        show(&COMMIT_JOBS_WAITING, waiting as f64);
        if let Some(disk) = self.disk() {
            show(&DISK_FREE, disk.free as f64);
            show(&DISK_SIZE, disk.total as f64);
        }
        if let Ok(extent) = self.store.audit_extent() {
            let records = (extent.last + 1).saturating_sub(extent.first);
            show(&AUDIT_RECORDS, records as f64);
        }
        let exports = AuditFilter {
            action: Some(Action::ExportState),
            outcome: Some(Outcome::Done),
            ..AuditFilter::default()
        };
        if let Ok(newest) = self.store.audit(&exports, 1) {
            let when = newest.first().map_or(0, |record| record.entry.time.unix());
            show(&BACKUP_TIMESTAMP, when as f64);
        }
    }
}

fn show_hosts(metrics: &Metrics, state: &State, now: Time) {
    let mut hosts: BTreeMap<_, u64> = CONDITIONS.into_iter().map(|name| (name, 0)).collect();
    for host in state.hosts() {
        *hosts.entry(condition(host, now)).or_default() += 1;
    }
    for (condition, count) in hosts {
        let labels = [("condition", condition.into())];
        metrics.gauge(&HOSTS, labels).set(count as f64);
    }
}

fn condition(host: &Host, now: Time) -> &'static str {
    let [healthy, expired, never_healthy, revoked] = CONDITIONS;
    match (&host.revoked, host.certificate_expires) {
        (Some(_), _) => revoked,
        (None, Some(expires)) if now <= expires => healthy,
        (None, Some(_)) => expired,
        (None, None) => never_healthy,
    }
}
