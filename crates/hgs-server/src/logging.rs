//! Logs on standard error, as text or as one JSON object a line.

use std::io::IsTerminal;

use tracing::warn;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::{Log, LogFormat};

/// Sends the events of this process to standard error. Only a program's `main` calls this.
///
/// # Errors
/// When `log.level` is no level and no list of directives.
pub fn install(log: &Log) -> Result<(), ParseError> {
    let filter = filter(log)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let installed = match log.format {
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal())
            .try_init(),
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init(),
    };
    if installed.is_err() {
        warn!("logs were installed before; the first installation stays");
    }
    Ok(())
}

/// The filter that `log.level` describes.
pub(crate) fn filter(log: &Log) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(&log.level)
}
