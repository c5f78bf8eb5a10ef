//! What `log.level` may say. The program that serves starts the log.

use tracing_subscriber::filter::{ParseError, Targets};

use crate::config::Log;

/// The filter that `log.level` describes.
pub(crate) fn filter(log: &Log) -> Result<Targets, ParseError> {
    log.level.parse()
}

/// The target of events that any peer can cause. The log of a program bounds how many of them become lines.
pub const PEERS: &str = "hgs_server::peers";
