//! A server under the signals of an init system: SIGTERM and SIGINT stop it, SIGHUP makes it read
//! its TLS certificate again. Signals reach a whole process, so only a program's `main` runs this.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

use crate::http::{Bound, Reloader, Stopped};

/// Serves until the process is told to stop.
///
/// # Errors
/// When signals can't be received; nothing was served then.
pub async fn run(server: Bound) -> io::Result<Stopped> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let reloader = server.reloader();
    let told_to_stop = async {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM"),
            _ = interrupt.recv() => info!("SIGINT"),
            () = reload_on(&mut hangup, &reloader) => {}
        }
    };
    Ok(server.run(told_to_stop).await)
}

async fn reload_on(hangup: &mut Signal, reloader: &Reloader) {
    while hangup.recv().await.is_some() {
        let reloader = reloader.clone();
        // A failure was logged, and the certificate stays as it was.
        let _ = tokio::task::spawn_blocking(move || reloader.reload()).await;
    }
}
