//! Sockets that a service manager opened for this process, as sd_listen_fds(3) describes: with them, a service that may not open
//! ports below 1024 listens on them, and connections wait while it is started anew.

use std::env;
use std::io;
use std::net::TcpListener;
use std::process;

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;

use super::bind::ListenerName;

/// Sockets that are taken from a service manager at most.
const MOST: usize = 16;

/// The listeners whose sockets may be passed, by the names that they have in configuration, logs and metrics.
const PASSABLE: [ListenerName; 6] = [
    ListenerName::Http,
    ListenerName::Https,
    ListenerName::Metrics,
    ListenerName::Api,
    ListenerName::Console,
    ListenerName::ConsoleClientCertificates,
];

/// Listening sockets that were passed to this process, by listener.
#[derive(Debug, Default)]
pub struct PassedSockets(Vec<(ListenerName, TcpListener)>);

/// What the service manager passed can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PassedSocketError {
    /// There are as many names as sockets.
    #[error("the service manager passed {sockets} sockets with {names} names, at most {MOST}")]
    Count {
        /// By `LISTEN_FDS`.
        sockets: String,
        /// In `LISTEN_FDNAMES`.
        names: usize,
    },
    /// No listener has this name.
    #[error("the service manager passed a socket named `{0}`, and no listener has that name")]
    Name(String),
    /// One listener has one socket.
    #[error("the service manager passed two sockets for {0}")]
    Twice(ListenerName),
    /// It is of another kind, or nobody can connect to it.
    #[error("the service manager passed a socket for {listener} that does not listen for TCP")]
    Kind {
        /// Which listener.
        listener: ListenerName,
        /// What the system said.
        #[source]
        error: Option<io::Error>,
    },
}

impl PassedSockets {
    /// Takes what was passed to this process, which is nothing in most cases. It is about the whole process and changes its
    /// environment, so only a program's `main` calls it, once and before it has threads.
    ///
    /// # Errors
    /// When what was passed is not meant for these listeners.
    pub fn of_process() -> Result<Self, PassedSocketError> {
        let variable = |name| env::var(name).unwrap_or_default();
        // Those that were meant for a parent are not ours.
        if variable("LISTEN_PID") != process::id().to_string() {
            return Ok(Self::default());
        }
        let sockets = variable("LISTEN_FDS");
        let names = variable("LISTEN_FDNAMES");
        let names: Vec<&str> = names.split(':').collect();
        if names.len() > MOST || sockets != names.len().to_string() {
            let names = names.len();
            return Err(PassedSocketError::Count { sockets, names });
        }
        let mut passed = ListenFd::from_env();
        let mut taken = Self::default();
        for (index, name) in names.into_iter().enumerate() {
            let listener = (PASSABLE
                .into_iter()
                .find(|listener| listener.label() == name))
            .ok_or_else(|| PassedSocketError::Name(name.to_owned()))?;
            if taken.0.iter().any(|(other, _)| *other == listener) {
                return Err(PassedSocketError::Twice(listener));
            }
            let socket = listening(&mut passed, index);
            let socket = socket.map_err(|error| PassedSocketError::Kind { listener, error })?;
            taken.0.push((listener, socket));
        }
        Ok(taken)
    }

    /// The socket of `listener`, if there is one that was not taken yet.
    pub(super) fn take(&mut self, listener: ListenerName) -> Option<TcpListener> {
        let index = self.0.iter().position(|(name, _)| *name == listener)?;
        Some(self.0.swap_remove(index).1)
    }

    /// A listener that has a socket and does not exist.
    pub(super) fn left_over(&self) -> Option<ListenerName> {
        self.0.first().map(|(listener, _)| *listener)
    }
}

fn listening(passed: &mut ListenFd, index: usize) -> Result<TcpListener, Option<io::Error>> {
    let socket = passed.take_tcp_listener(index)?.ok_or(None)?;
    match socket_acceptconn(&socket).map_err(io::Error::from)? {
        true => {
            socket.set_nonblocking(true)?;
            Ok(socket)
        }
        false => Err(None),
    }
}
