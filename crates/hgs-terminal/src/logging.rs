//! The log of a program, on standard error.

mod limit;

use std::env;
use std::io::{self, IsTerminal as _};

use tracing_subscriber::filter::{LevelFilter, ParseError, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry, fmt, registry};

use crate::{AtFault, Failure};

/// The variable that says what is logged, such as `debug`.
const VARIABLE: &str = "HGS_LOG";

/// The form of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogForm {
    /// Lines of a command, for the person who called it: no times, no names of modules.
    Brief,
    /// Lines of a service, with times and names of modules.
    Text,
    /// One JSON object a line.
    Json,
}

/// Sends the events of this process to standard error, as far as `filter` lets them through. Colours are written to
/// terminals only, and not where `NO_COLOR` is set (<https://no-color.org>). The first call in a process counts.
///
/// What any peer can cause (events with the target `peers`, and all of libraries) is 60 lines a minute at most; a line of
/// its own tells how many were left out.
///
/// # Errors
/// When `filter` is no level and no list of directives.
pub fn start_logging(
    filter: &str,
    form: LogForm,
    peers: Option<&'static str>,
) -> Result<(), Failure> {
    start_logging_and_traces(filter, form, peers, None)
}

/// Spans that are for something else than the log.
pub struct Traces {
    /// Their target. No line of the log names them.
    pub target: &'static str,
    /// What is told of them.
    pub layer: Box<dyn Layer<Registry> + Send + Sync>,
}

/// As [`start_logging`], with `traces` beside the log, whatever `filter` says.
///
/// # Errors
/// As for [`start_logging`].
pub fn start_logging_and_traces(
    filter: &str,
    form: LogForm,
    peers: Option<&'static str>,
    traces: Option<Traces>,
) -> Result<(), Failure> {
    let filter: Targets = filter
        .parse()
        .map_err(|error: ParseError| Failure::of(&error).at_fault(AtFault::Operator))?;
    let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let lines = fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && !no_color);
    let (filter, traced, traces) = match traces {
        Some(Traces { target, layer }) => (
            filter.with_target(target, LevelFilter::TRACE),
            Some(target),
            Some(layer),
        ),
        None => (filter, None, None),
    };
    let is_of_log = filter_fn(move |about| Some(about.target()) != traced);
    let events = registry()
        .with(traces)
        .with(filter)
        .with(limit::Limited { peers });
    // A process that has a log already keeps it.
    let started = match form {
        LogForm::Brief => events
            .with(
                lines
                    .without_time()
                    .with_target(false)
                    .with_filter(is_of_log),
            )
            .try_init(),
        LogForm::Text => events.with(lines.with_filter(is_of_log)).try_init(),
        LogForm::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(false);
            events.with(lines.with_filter(is_of_log)).try_init()
        }
    };
    if started.is_ok() && form != LogForm::Brief {
        let telling = limit::tell_what_is_left_out();
        telling.map_err(|error| Failure::of(&error))?;
    }
    Ok(())
}

/// The log of a command: `default`, unless the variable `HGS_LOG` says otherwise.
pub(crate) fn start_command_log(default: &str) -> Result<(), Failure> {
    let wanted = match env::var(VARIABLE) {
        Ok(wanted) if !wanted.is_empty() => wanted,
        _ => default.to_owned(),
    };
    start_logging(&wanted, LogForm::Brief, None).map_err(|failure| {
        let failure = failure.with_exit(crate::Exit::Usage);
        failure.while_doing(VARIABLE)
    })
}
