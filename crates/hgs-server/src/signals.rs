//! A server under an init system: SIGTERM and SIGINT stop it, SIGHUP makes it read its TLS
//! certificate again and try tokens that are away at once, and systemd, where it is there, is told when it serves. All this is about a
//! whole process, so only a program's `main` runs it.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::http::{Bound, Reloader, Stopped};
use crate::running::Running;

/// Serves until the process is told to stop.
///
/// # Errors
/// When signals can't be received; nothing was served then.
pub async fn run(server: Bound) -> io::Result<Stopped> {
    let signals = Signals::new()?;
    let reloader = server.reloader();
    Ok(server.run(signals.told_to_stop(&reloader, || ())).await)
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
    let stop = signals.told_to_stop(&reloader, move || tokens.retry());
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

    /// Resolves when the process is told to stop.
    async fn told_to_stop(mut self, reloader: &Reloader, on_hangup: impl Fn()) {
        notify("READY=1");
        let reload = async {
            while self.hangup.recv().await.is_some() {
                on_hangup();
                let reloader = reloader.clone();
                // A failure was logged, and the certificate stays as it was.
                let _ = tokio::task::spawn_blocking(move || reloader.reload()).await;
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => info!("SIGTERM"),
            _ = self.interrupt.recv() => info!("SIGINT"),
            () = reload => {}
        }
        notify("STOPPING=1");
    }
}

/// Tells the service manager, when the process was started by one that wants to know (`Type=notify`
/// in sd_notify(3)).
fn notify(state: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = send(&socket, state) {
        warn!(socket = %socket.display(), %error, "the service manager could not be told {state}");
    }
}

fn send(socket: &OsString, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}
