//! What happens by itself as time goes by: attestation signers and the own certificate of the console are renewed before they
//! are needed, and counted refusals become records.

use std::error::Error as _;
use std::sync::Arc;

use hgs_pki::{Seconds, Time};
use tokio::task::spawn_blocking;
use tracing::error;

use super::console::OwnCertificate;
use super::refusals::RefusalLog;
use super::rotation::SignerRotation;
use hgs_clock::Clock;

/// How often the clock is looked at.
const INTERVAL: Seconds = Seconds::from_minutes(1);

/// The periodic work of a guardian.
pub(crate) struct Upkeep {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) refusals: Arc<RefusalLog>,
    pub(crate) signers: Arc<SignerRotation>,
    /// The certificate of the console, where the server makes it.
    pub(crate) console_certificate: Option<Arc<OwnCertificate>>,
}

impl Upkeep {
    /// Does what is due, every minute of the clock, for ever.
    pub(crate) async fn run(self) {
        loop {
            let now = self.clock.now();
            let next = now.checked_add(INTERVAL).unwrap_or(Time::MAX);
            self.clock.wait_until(next).await;
            let now = self.clock.now();
            self.refusals.record_due(now).await;
            let (signers, clock) = (Arc::clone(&self.signers), Arc::clone(&self.clock));
            match spawn_blocking(move || signers.rotate(clock.now())).await {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => error!(%failure, "attestation signers were not renewed"),
                Err(failure) => error!(%failure, "renewing attestation signers failed"),
            }
            let certificate = self.console_certificate.clone();
            let renewal =
                move || certificate.map_or(Ok(()), |certificate| certificate.renew_if_due(now));
            if let Ok(Err(failure)) = spawn_blocking(renewal).await {
                let source = failure.source().map(tracing::field::display);
                error!(%failure, source, "the certificate of the console was not renewed");
            }
        }
    }
}
