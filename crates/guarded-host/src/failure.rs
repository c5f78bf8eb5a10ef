//! Why a command did not do its work, and the exit status that says so to programs.

use std::fmt;
use std::io;
use std::process::ExitCode;

use hgs_client::{Error, Fault};
use serde::Serialize;

/// Exit status of a command line that is not understood, `EX_USAGE` of sysexits.h.
pub(crate) const USAGE: u8 = 64;

/// Why a command did not do its work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The host could not do what it was asked for.
    Client(Error),
    /// The answer to a question was no.
    Declined,
    /// A question could not be asked.
    NeedsYes,
    /// Neither the system's folders nor a home folder.
    NoFolders,
    /// A rehearsal found that the host can't attest.
    NotReady,
    /// The result could not be shown.
    Output(io::Error),
    /// The command line makes no sense together.
    Usage(String),
}

/// A failure for programs.
#[derive(Debug, Serialize)]
pub(crate) struct Document {
    error: String,
    fault: Option<String>,
    remedy: Option<&'static str>,
}

impl Failure {
    /// 1 failed, 2 invalid or refused, 64 usage.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage(_) | Self::NeedsYes => USAGE,
            Self::Client(error) if error.is_refusal() => 2,
            Self::Declined => 2,
            Self::Client(_) | Self::NoFolders | Self::NotReady | Self::Output(_) => 1,
        })
    }

    pub(crate) fn fault(&self) -> Option<Fault> {
        match self {
            Self::Client(error) => Some(error.fault()),
            _ => None,
        }
    }

    pub(crate) fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Client(error) => error.remedy(),
            Self::NeedsYes => Some("give --yes"),
            Self::NoFolders => Some("set HOME, or give --config and --state"),
            _ => None,
        }
    }

    pub(crate) fn document(&self) -> Document {
        Document {
            error: self.to_string(),
            fault: self.fault().map(|fault| fault.to_string()),
            remedy: self.remedy(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(error) => error.fmt(formatter),
            Self::Declined => formatter.write_str("nothing was done"),
            Self::NeedsYes => formatter.write_str("this asks a question, and there is no terminal"),
            Self::NoFolders => formatter.write_str("there is no home folder"),
            Self::NotReady => formatter.write_str("this host can't attest as things are"),
            Self::Output(error) => write!(formatter, "the result can't be written: {error}"),
            Self::Usage(message) => formatter.write_str(message),
        }
    }
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Client(error.into())
    }
}
