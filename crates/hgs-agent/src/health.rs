//! Keeping the host attested, and telling VMs when it no longer is.

use std::sync::Arc;

use hgs_client::service::Sides;
use hgs_client::{GuardedHost, RequestId};
use hgs_clock::Clock;
use hgs_pki::health::HealthKind;
use hgs_pki::{Seconds, Time};
use tokio::sync::{Notify, watch};

use crate::wire::Health;

/// Until a service that gave no certificate is asked again.
const RETRY: Seconds = Seconds::from_minutes(1);

/// Keeps the health certificate of a host valid, and publishes how it stands.
pub(crate) struct Keeper {
    host: Arc<GuardedHost>,
    clock: Arc<dyn Clock>,
    /// Told when a guardian has refused this host: it need not be asked in hours only.
    refused: Arc<Notify>,
    health: watch::Sender<Health>,
}

impl Keeper {
    pub(crate) fn new(host: Arc<GuardedHost>, clock: Arc<dyn Clock>, refused: Arc<Notify>) -> Self {
        Self {
            host,
            clock,
            refused,
            health: watch::Sender::new(Health::Unknown),
        }
    }

    /// Tells how the host stands, now and after each change.
    pub(crate) fn watch(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Works until it is dropped.
    pub(crate) async fn run(&self) {
        loop {
            let again = self.attest().await.min(self.report_offline_use().await);
            tokio::select! {
                () = self.clock.wait_until(again) => {}
                () = self.refused.notified() => {}
            }
        }
    }

    /// Asks for a certificate if it is time, publishes the outcome, and says when to look again.
    async fn attest(&self) -> Time {
        let attested = (self.host)
            .keep_attested(HealthKind::Encryption, Sides::Both)
            .await;
        let now = self.clock.now();
        let retry = now.checked_add(RETRY).unwrap_or(Time::MAX);
        match attested {
            Ok(attestation) => {
                let renewal = attestation.renewed_from();
                let late = renewal <= now;
                let health = Health::Healthy {
                    until: attestation.certificate.validity().not_after.to_string(),
                    warning: if late { self.last_message() } else { None },
                };
                self.publish(health, attestation.request_id.as_ref());
                if late { retry } else { renewal }
            }
            Err(error) => {
                let since = match &*self.health.borrow() {
                    Health::Unhealthy { since, .. } => since.clone(),
                    Health::Unknown | Health::Healthy { .. } => now.to_string(),
                };
                let reason = error.to_string();
                self.publish(Health::Unhealthy { since, reason }, error.request_id());
                retry
            }
        }
    }

    /// Tells the guardian how often VMs were started without it, and says when to try again.
    async fn report_offline_use(&self) -> Time {
        let now = self.clock.now();
        match self.host.report_offline_use().await {
            Ok(0) => return Time::MAX,
            Ok(protectors) => {
                tracing::info!(protectors, "the guardian knows of the starts without it");
                return Time::MAX;
            }
            Err(error) => {
                tracing::warn!(%error, "starts without a guardian can't be reported yet");
            }
        }
        now.checked_add(RETRY).unwrap_or(Time::MAX)
    }

    /// What the last attempt came to, in the words of the host's status.
    fn last_message(&self) -> Option<String> {
        self.host.status().ok()?.last_attempt?.message
    }

    fn publish(&self, health: Health, request_id: Option<&RequestId>) {
        let request_id = request_id.map(RequestId::as_str);
        match &health {
            Health::Unknown => {}
            Health::Healthy { until, warning } => match warning {
                None => tracing::info!(%until, request_id, "host is attested"),
                Some(warning) => {
                    tracing::warn!(%until, %warning, "no new health certificate; the old one is used to its end")
                }
            },
            Health::Unhealthy { reason, .. } => {
                tracing::warn!(%reason, request_id, "host holds no valid health certificate");
            }
        }
        self.health.send_if_modified(|old| {
            let changed = *old != health;
            *old = health;
            changed
        });
    }
}
