//! What programs ask an agent with.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::wire::{AgentFailure, AgentStatus, Finding, Line, MAX_ANSWER, MachineStatus, Request};

/// Asks the agent that listens at a socket. Each question is a connection of its own; its answer is waited for as long as the
/// agent works on it.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

/// Why an agent gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It answered that it could not, or did not want to.
    #[error(transparent)]
    Agent(#[from] AgentFailure),
    /// Nothing listens at the socket.
    #[error("no agent listens at {}", socket.display())]
    NotRunning {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket can't be used.
    #[error("the agent's socket {}: {error}", socket.display())]
    Socket {
        /// The socket.
        socket: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The agent said something else, or ended.
    #[error("the agent's answer is cut short or not understood: {0}")]
    Answer(String),
}

impl Client {
    /// Of the agent at `socket`.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// How the host and its VMs stand.
    pub fn status(&self) -> Result<AgentStatus, ClientError> {
        self.ask(&Request::Status {}, |_| ())
    }

    /// Every VM.
    pub fn list(&self) -> Result<Vec<MachineStatus>, ClientError> {
        self.ask(&Request::List {}, |_| ())
    }

    /// What a VM needs before it starts, as it was found.
    pub fn trace(&self, name: &str) -> Result<Vec<Finding>, ClientError> {
        let name = name.to_owned();
        self.ask(&Request::Trace { name }, |_| ())
    }

    /// Asks, and tells `progress` what the agent is doing until the answer comes.
    pub fn ask<T: DeserializeOwned>(
        &self,
        request: &Request,
        progress: impl FnMut(&str),
    ) -> Result<T, ClientError> {
        self.exchange(request, progress).map(|(answer, _)| answer)
    }

    /// Connects to the serial port of a VM. What was read ahead of the port stands in the reader's buffer.
    pub fn console(&self, name: &str) -> Result<BufReader<UnixStream>, ClientError> {
        let request = Request::Console {
            name: name.to_owned(),
        };
        let ((), stream) = self.exchange(&request, |_| ())?;
        Ok(stream)
    }

    fn exchange<T: DeserializeOwned>(
        &self,
        request: &Request,
        mut progress: impl FnMut(&str),
    ) -> Result<(T, BufReader<UnixStream>), ClientError> {
        let broken = |error| ClientError::Socket {
            socket: self.socket.clone(),
            error,
        };
        let mut stream = UnixStream::connect(&self.socket).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning {
                socket: self.socket.clone(),
            },
            _ => broken(error),
        })?;
        let mut line = serde_json::to_vec(request).expect("a request is written to memory");
        line.push(b'\n');
        stream.write_all(&line).map_err(broken)?;
        let mut reader = BufReader::new(stream);
        loop {
            line.clear();
            let limit = MAX_ANSWER as u64;
            (reader.by_ref().take(limit).read_until(b'\n', &mut line)).map_err(broken)?;
            if line.last() != Some(&b'\n') {
                let answer = "the connection ended, or a line is too long".to_owned();
                return Err(ClientError::Answer(answer));
            }
            match serde_json::from_slice(&line) {
                Ok(Line::Progress(what)) => progress(&what),
                Ok(Line::Done(answer)) => return Ok((answer, reader)),
                Ok(Line::Failed(failure)) => return Err(failure.into()),
                Err(error) => return Err(ClientError::Answer(error.to_string())),
            }
        }
    }
}
