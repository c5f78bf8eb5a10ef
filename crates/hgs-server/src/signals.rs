//! A server under an init system: SIGTERM and SIGINT stop it, SIGHUP makes it read its TLS
//! certificate again, and systemd, where it is there, is told when it serves. All this is about a
//! whole process, so only a program's `main` runs it.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

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
    notify("READY=1");
    let told_to_stop = async {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM"),
            _ = interrupt.recv() => info!("SIGINT"),
            () = reload_on(&mut hangup, &reloader) => {}
        }
        notify("STOPPING=1");
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

/// Tells the service manager, when the process was started by one that wants to know (`Type=notify`
/// in sd_notify(3)).
fn notify(state: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = send(&socket, state) {
        warn!(?socket, %error, "the service manager could not be told {state}");
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
