//! From the arguments to the exit status.

use std::env;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::logging::start_command_log;
use crate::{CommonOptions, Exit, Failure, Terminal};

/// A program with its arguments.
pub trait Program: Parser {
    /// The options of every command.
    fn common(&self) -> &CommonOptions;

    /// What is logged unless the variable `HGS_LOG` says otherwise; `None` for a service, which starts its log as its
    /// configuration says.
    fn default_log(&self) -> Option<&'static str> {
        Some("off")
    }

    /// Does what the arguments say.
    ///
    /// # Errors
    /// Whatever keeps it from doing so.
    fn run(self, terminal: &Terminal) -> Result<Exit, Failure>;
}

/// Runs a program: arguments, work, and what is left to say.
pub fn run<P: Program>() -> ExitCode {
    let exit = match P::try_parse() {
        Ok(program) => {
            let terminal = Terminal::new(program.common());
            let log = program.default_log().map_or(Ok(()), start_command_log);
            match log.and_then(|()| program.run(&terminal)) {
                Ok(exit) => exit,
                Err(failure) => terminal.fail(&failure),
            }
        }
        Err(error) => wrong_arguments(&error),
    };
    exit.into()
}

fn wrong_arguments(error: &clap::Error) -> Exit {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        // What `--help | head` does not read need not be written.
        let _ = error.print();
        return Exit::Done;
    }
    if env::args_os().any(|argument| argument == "--json") {
        let terminal = Terminal::new(&CommonOptions {
            json: true,
            ..CommonOptions::default()
        });
        let text = error.render().to_string();
        let message = text.trim_start_matches("error: ").trim_end();
        return terminal.fail(&Failure::usage(message));
    }
    let _ = error.print();
    Exit::Usage
}
