//! What packagers install beside a program.

use std::fmt::{self, Display};
use std::fs;
use std::path::PathBuf;

use clap::Command;
use clap_complete::Shell;
use hgs_files::Readers;
use serde::Serialize;

use crate::{AtFault, Exit, Failure, Terminal};

/// Print the completions of a shell
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

/// Print the manual page of a command
#[derive(Debug, clap::Args)]
pub struct Man {
    /// The command, such as `host add`; the program itself if there is none
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
    /// Write the pages of all commands into FOLDER instead
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["command", "out"])]
    folder: Option<PathBuf>,
}

impl Completions {
    /// Prints the completions of `program`.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn run(self, mut program: Command, terminal: &Terminal) -> Result<Exit, Failure> {
        let name = program.get_name().to_owned();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut program, name, &mut script);
        terminal.document(
            &script,
            Readers::Everybody,
            &Written {
                written: "completions",
            },
        )?;
        Ok(Exit::Done)
    }
}

impl Man {
    /// Prints the manual page of a command of `program`, or writes them all.
    ///
    /// # Errors
    /// When they can't be written, or there is no such command.
    pub fn run(self, mut program: Command, terminal: &Terminal) -> Result<Exit, Failure> {
        program.build();
        if let Some(folder) = self.folder {
            let written = fs::create_dir_all(&folder)
                .and_then(|()| clap_mangen::generate_to(program, &folder));
            written.map_err(|error| {
                Failure::failed(format!("{}: {error}", folder.display()))
                    .at_fault(AtFault::Operator)
            })?;
            return Ok(Exit::Done);
        }
        let mut command = &program;
        for word in &self.command {
            command = command
                .find_subcommand(word)
                .ok_or_else(|| Failure::usage(format!("there is no command `{word}`")))?;
        }
        let mut page = Vec::new();
        clap_mangen::Man::new(command.clone())
            .render(&mut page)
            .map_err(|error| Failure::of(&error))?;
        terminal.document(
            &page,
            Readers::Everybody,
            &Written {
                written: "manual page",
            },
        )?;
        Ok(Exit::Done)
    }
}

#[derive(Serialize)]
struct Written {
    written: &'static str,
}

impl Display for Written {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "The {} is written.", self.written)
    }
}
