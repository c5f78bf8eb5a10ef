//! What a command says, and asks.

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use dialoguer::Confirm;
use hgs_files::Readers;
use serde::Serialize;

use crate::{AtFault, Exit, Failure, printable};

/// Options of every command.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub struct CommonOptions {
    /// Answer with one JSON document, or one on each line for steps
    #[arg(long, global = true)]
    pub json: bool,
    /// Write the result to FILE, whole or not at all, instead of to standard output
    #[arg(long, global = true, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Do not ask before what can't be undone
    #[arg(long, global = true)]
    pub yes: bool,
}

/// Where a command's answer goes, and in which form.
#[derive(Debug, Clone)]
pub struct Terminal {
    json: bool,
    yes: bool,
    out: Option<PathBuf>,
}

impl Terminal {
    /// As the options of every command say. `--out -` is standard output.
    #[must_use]
    pub fn new(common: &CommonOptions) -> Self {
        Self {
            json: common.json,
            yes: common.yes,
            out: common.out.clone().filter(|out| out != Path::new("-")),
        }
    }

    /// Whether programs read this.
    #[must_use]
    pub fn json(&self) -> bool {
        self.json
    }

    /// The file that the result goes to, if not to standard output.
    #[must_use]
    pub fn out(&self) -> Option<&Path> {
        self.out.as_deref()
    }

    /// Gives the one answer of a command: a document for programs, `Display` (whole lines) for people.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn report<T: Serialize + Display>(&self, report: &T) -> Result<(), Failure> {
        let text = self.text_of(report)?;
        match &self.out {
            Some(path) => self.write_file(path, text.as_bytes(), Readers::Everybody),
            None => to_standard_output(text.as_bytes()),
        }
    }

    /// Gives a document as the result, octet for octet. If it goes to a file, `summary` says what it is.
    ///
    /// # Errors
    /// When it can't be written, or would stand where `--json` promises something else.
    pub fn document<T: Serialize + Display>(
        &self,
        octets: &[u8],
        readers: Readers,
        summary: &T,
    ) -> Result<(), Failure> {
        match &self.out {
            Some(path) => {
                self.write_file(path, octets, readers)?;
                to_standard_output(self.text_of(summary)?.as_bytes())
            }
            None if self.json => Err(Failure::usage(
                "the document and `--json` can't share standard output",
            )
            .remedy("name a file for the document with `--out FILE`")),
            None => to_standard_output(octets),
        }
    }

    /// Tells of one step of long work, on a line of its own.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn step<T: Serialize + Display>(&self, step: &T) -> Result<(), Failure> {
        let mut line = match self.json {
            true => serde_json::to_string(step).map_err(|error| unwritable(&error))?,
            false => printable(&step.to_string()).into_owned(),
        };
        if !line.ends_with('\n') {
            line.push('\n');
        }
        to_standard_output(line.as_bytes())
    }

    /// Tells people something beside the answer; programs don't get to see it.
    pub fn note(&self, note: impl Display) {
        if !self.json {
            to_standard_error(&format!("{note}\n"));
        }
    }

    /// Asks before something that can't be undone.
    ///
    /// # Errors
    /// When the answer is no, and when there is no terminal to ask on and no `--yes`.
    pub fn confirm(&self, question: impl Display) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        let question = printable(&question.to_string()).into_owned();
        if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
            return Err(Failure::refused(format!("not confirmed: {question}"))
                .at_fault(AtFault::Operator)
                .remedy("say `--yes` if that is what you want"));
        }
        let answer = Confirm::new().with_prompt(question).default(false);
        match answer.interact() {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::refused("not confirmed; nothing was changed")),
            Err(error) => Err(Failure::of(&error)),
        }
    }

    /// Says why a command failed, and gives the status to end with.
    pub fn fail(&self, failure: &Failure) -> Exit {
        if self.json {
            match document_of(failure).and_then(|text| to_standard_output(text.as_bytes())) {
                Ok(()) => {}
                Err(second) => to_standard_error(&format!("{failure}{second}")),
            }
        } else {
            to_standard_error(&failure.to_string());
        }
        failure.exit()
    }

    fn text_of<T: Serialize + Display>(&self, report: &T) -> Result<String, Failure> {
        match self.json {
            true => document_of(report),
            false => Ok(printable(&report.to_string()).into_owned()),
        }
    }

    /// Writes a file, after a question if it is there already.
    ///
    /// # Errors
    /// When it can't be written, or is not to be replaced.
    pub fn write_file(&self, path: &Path, octets: &[u8], readers: Readers) -> Result<(), Failure> {
        if hgs_files::exists(path)? {
            self.confirm(format!("Replace {}?", path.display()))?;
            Ok(hgs_files::replace(path, octets, readers)?)
        } else {
            Ok(hgs_files::create(path, octets, readers)?)
        }
    }
}

fn document_of<T: Serialize>(report: &T) -> Result<String, Failure> {
    let mut text = serde_json::to_string_pretty(report).map_err(|error| unwritable(&error))?;
    text.push('\n');
    Ok(text)
}

fn to_standard_output(octets: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(octets).and_then(|()| out.flush()) {
        // The reader has enough, as `head` has.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.map_err(|error| unwritable(&error)),
    }
}

fn to_standard_error(text: &str) {
    // If this fails, there is no other place to report it.
    let _ = io::stderr().lock().write_all(printable(text).as_bytes());
}

fn unwritable(error: &dyn std::error::Error) -> Failure {
    Failure::of(error)
        .while_doing("the result can't be written")
        .at_fault(AtFault::Operator)
}
