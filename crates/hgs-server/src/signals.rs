//! A server under an init system: SIGTERM and SIGINT stop it, SIGHUP makes it read its TLS
//! certificate again and try tokens that are away at once, and systemd, where it is there, is told when it serves, reads
//! its certificate, stops, and that it still works (`Type=notify` and `WatchdogSec=`). All this is about a whole process, so
//! only a program's `main` runs it.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::{info, warn};

use crate::http::{Bound, Reloader, Stopped};
use crate::running::Running;

/// A service manager that hears nothing for the time that it has set kills the process: within this part of it it hears
/// something, so that a late answer is not the last.
const PARTS_OF_WATCHDOG: u32 = 3;

/// Serves until the process is told to stop.
///
/// # Errors
/// When signals can't be received; nothing was served then.
pub async fn run(server: Bound) -> io::Result<Stopped> {
    let signals = Signals::new()?;
    let reloader = server.reloader();
    let stop = signals.told_to_stop(&reloader, || (), async || ());
    Ok(server.run(stop).await)
}

/// Lets a guardian serve until the process is told to stop.
///
/// # Errors
/// When signals can't be received; the guardian is shut down then.
pub async fn serve(guardian: Running) -> io::Result<Stopped> {
    let signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            let _ = guardian.shutdown().await;
            return Err(error);
        }
    };
    let reloader = guardian.reloader().clone();
    let tokens = guardian.tokens().clone();
    let liveness = guardian.liveness();
    let stop = signals.told_to_stop(
        &reloader,
        move || tokens.retry(),
        async || liveness.proved().await,
    );
    Ok(guardian.run(stop).await)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Resolves when the process is told to stop. `works` resolves as long as the service works.
    async fn told_to_stop(
        mut self,
        reloader: &Reloader,
        on_hangup: impl Fn(),
        works: impl AsyncFn(),
    ) {
        notify(&[NotifyState::Ready]);
        let reload = async {
            while self.hangup.recv().await.is_some() {
                on_hangup();
                reload(reloader.clone()).await;
            }
        };
        let watchdog = async {
            match sd_notify::watchdog_enabled() {
                Some(period) => feed_watchdog(period, works).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => info!("SIGTERM"),
            _ = self.interrupt.recv() => info!("SIGINT"),
            () = reload => {}
            () = watchdog => {}
        }
        notify(&[NotifyState::Stopping]);
    }
}

async fn reload(reloader: Reloader) {
    match NotifyState::monotonic_usec_now() {
        // The time orders this before the answer, for a manager that waits for it (`Type=notify-reload`).
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "the service manager was not told of the reload"),
    }
    // A failure was logged, and the certificate stays as it was.
    let _ = tokio::task::spawn_blocking(move || reloader.reload()).await;
    notify(&[NotifyState::Ready]);
}

/// Tells the service manager again and again that the service works, as long as it does.
async fn feed_watchdog(period: Duration, works: impl AsyncFn()) {
    let period = period
        .div_f64(PARTS_OF_WATCHDOG.into())
        .max(Duration::from_millis(1));
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        works().await;
        notify(&[NotifyState::Watchdog]);
    }
}

/// Tells the service manager, when the process was started by one that wants to know.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        let states = states.iter().map(NotifyState::to_string);
        let states: Vec<_> = states.collect();
        warn!(%error, "the service manager could not be told {}", states.join(", "));
    }
}
