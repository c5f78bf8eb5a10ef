//! What packagers install beside a program.

use std::fmt::{self, Display};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::{fs, process};

use clap::Command;
use clap_complete::Shell;
use hgs_files::Readers;
use serde::Serialize;

use crate::{AtFault, Exit, Failure, Terminal};

/// Print the completions of a shell
///
/// They complete commands and options. To complete names of hosts, certificates and guardians as well, have the shell ask
/// the program itself: put `source <(COMPLETE=bash hgs)` into ~/.bashrc, `source <(COMPLETE=zsh hgs)` into ~/.zshrc, or
/// `COMPLETE=fish hgs | source` into ~/.config/fish/config.fish.
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

/// Show the manual page of a command
///
/// On a terminal `man` shows it. Elsewhere it is printed in the form that `man -l` reads.
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

/// What the manual pages of a program say beside its commands and options.
#[derive(Debug, Clone, Copy)]
pub struct Manual {
    /// Files, each with what it is.
    pub files: &'static [(&'static str, &'static str)],
    /// Environment variables, each with what it is for.
    pub environment: &'static [(&'static str, &'static str)],
}

impl Man {
    /// Shows the manual page of a command of `program`, or writes them all.
    ///
    /// # Errors
    /// When they can't be written, or there is no such command.
    pub fn run(
        self,
        mut program: Command,
        manual: &Manual,
        terminal: &Terminal,
    ) -> Result<Exit, Failure> {
        program.build();
        if let Some(folder) = self.folder {
            let written =
                fs::create_dir_all(&folder).and_then(|()| manual.write_all(&program, &folder));
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
        let page = manual.page(command).map_err(|error| Failure::of(&error))?;
        if terminal.out().is_none() && io::stdout().is_terminal() && shown(&page) {
            return Ok(Exit::Done);
        }
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

impl Manual {
    /// The page of one command, in roff.
    fn page(&self, command: &Command) -> io::Result<Vec<u8>> {
        let mut page = Vec::new();
        clap_mangen::Man::new(command.clone()).render(&mut page)?;
        for (heading, entries) in [
            ("FILES", self.files),
            ("ENVIRONMENT", self.environment),
            ("EXIT STATUS", EXIT_STATUS),
        ] {
            writeln!(page, ".SH \"{heading}\"")?;
            for (name, meaning) in entries {
                let (name, meaning) = (escaped(name), escaped(meaning));
                writeln!(page, ".TP\n\\fB{name}\\fR\n{meaning}")?;
            }
        }
        Ok(page)
    }

    /// The pages of a command and of all below it. clap's `help COMMAND` repeats other pages and gets none.
    fn write_all(&self, command: &Command, folder: &Path) -> io::Result<()> {
        let name = command
            .get_display_name()
            .unwrap_or_else(|| command.get_name());
        fs::write(folder.join(format!("{name}.1")), self.page(command)?)?;
        for below in command
            .get_subcommands()
            .filter(|below| !below.is_hide_set() && below.get_name() != "help")
        {
            self.write_all(below, folder)?;
        }
        Ok(())
    }
}

const EXIT_STATUS: &[(&str, &str)] = &[
    ("0", "It was done."),
    ("1", "It failed."),
    ("2", "Something is invalid, or was refused."),
    (
        "3",
        "It was done, and something is left to do, which it names.",
    ),
    ("64", "The command line is wrong."),
];

/// Text as roff takes it: a leading dot or quote would be a request, a hyphen would be typeset.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}

/// Has `man` show a page; whether it did.
fn shown(page: &[u8]) -> bool {
    let show = || -> io::Result<bool> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(page)?;
        let status = process::Command::new("man")
            .arg("-l")
            .arg(file.path())
            .status()?;
        Ok(status.success())
    };
    show().unwrap_or(false)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roff_takes_every_text_as_text() {
        assert_eq!(escaped(".config/a-b"), "\\&.config/a\\-b");
        assert_eq!(escaped("a\\b"), "a\\eb");
    }
}
