//! What the programs `hgs` and `guarded-host` have in common at the command line.
//!
//! ```
//! use std::fmt;
//!
//! use hgs_terminal::{CommonOptions, Exit, Failure, Program, Terminal};
//!
//! #[derive(clap::Parser)]
//! struct Arguments {
//!     #[command(flatten)]
//!     common: CommonOptions,
//! }
//!
//! #[derive(serde::Serialize)]
//! struct Answer {
//!     answer: u8,
//! }
//!
//! impl fmt::Display for Answer {
//!     fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
//!         writeln!(formatter, "The answer is {}.", self.answer)
//!     }
//! }
//!
//! impl Program for Arguments {
//!     fn common(&self) -> &CommonOptions {
//!         &self.common
//!     }
//!     fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
//!         terminal.report(&Answer { answer: 42 })?;
//!         Ok(Exit::Done)
//!     }
//! }
//! // In `main`: hgs_terminal::run::<Arguments>()
//! ```
//!
//! * Every command ends with one of four statuses ([`Exit`]), and a [`Failure`] says what can be done about it.
//! * What a command answers is text for people and, with `--json`, one document for programs ([`Terminal`]).
//! * Secrets come from files, credentials, variables or a prompt ([`PassphraseSource`]), never from the command line.
//! * Both programs log in one way ([`start_logging`]) and say what they were built from ([`VERSION`]).
//! * Other people's text can't control the terminal ([`printable`]).
//!
//! It does NOT know what any command does.

/// The version of the programs, and the commit that they were built from with its date, where that is known.
pub const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("OPENHGS_BUILT_FROM"),
    ")"
);

mod exit;
mod failure;
mod generate;
mod input;
mod logging;
mod passphrase;
mod printable;
mod program;
mod table;
mod terminal;

pub use exit::Exit;
pub use failure::{AtFault, Failure};
pub use generate::{Completions, Man, Manual};
pub use input::{InputFile, read_input};
pub use logging::{LogForm, Traces, start_logging, start_logging_and_traces};
pub use passphrase::{PassphraseSource, PassphraseSourceParser, new_passphrase, passphrase};
pub use printable::printable;
pub use program::{Program, run};
pub use table::Table;
pub use terminal::{CommonOptions, Terminal};
