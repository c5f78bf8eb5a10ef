//! What the agent says to systemd (`Type=notify` and `WatchdogSec=`): that it listens, that it works, and that it stops.

use std::time::Duration;

use hgs_agent::Liveness;
use sd_notify::NotifyState;

/// A service manager that hears nothing for the time that it has set kills the process: within this part of it it hears
/// something, so that a late answer is not the last.
const PARTS_OF_WATCHDOG: u32 = 3;

/// Tells the service manager again and again that the agent works, as long as it does.
pub(super) async fn feed_watchdog(liveness: &Liveness) {
    let Some(period) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    let pause = (period / PARTS_OF_WATCHDOG).max(Duration::from_millis(1));
    loop {
        tokio::time::sleep(pause).await;
        liveness.proved().await;
        notify(NotifyState::Watchdog);
    }
}

/// Tells the service manager, when the process was started by one that wants to know.
pub(super) fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(std::slice::from_ref(&state)) {
        tracing::warn!(%error, "the service manager could not be told {state}");
    }
}
