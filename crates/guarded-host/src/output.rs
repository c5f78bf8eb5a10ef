//! What people and programs read: tables or one JSON document, on the standard output or in a file.

use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::path::PathBuf;

use comfy_table::{ContentArrangement, Table, presets};
use hgs_client::files::{self, Readers};
use serde::Serialize;

use crate::failure::Failure;

/// Where results go, and in what form.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    out: Option<PathBuf>,
}

impl Output {
    pub(crate) fn new(json: bool, out: Option<PathBuf>) -> Self {
        Self { json, out }
    }

    /// The file of `--out`.
    pub(crate) fn file(&self) -> Option<&PathBuf> {
        self.out.as_ref()
    }

    /// A result: as JSON for programs, as `text` for people.
    pub(crate) fn result(
        &self,
        document: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let text = if self.json { json(document) } else { text() };
        match &self.out {
            None => print(&text),
            Some(path) => Ok(files::create(path, text.as_bytes(), Readers::Owner)?),
        }
    }

    /// What is said about a result that went elsewhere.
    pub(crate) fn report(
        &self,
        document: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        print(&if self.json { json(document) } else { text() })
    }
}

/// Prints on the standard output. Whoever closed it has read enough.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    match output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
    {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        _ => Ok(()),
    }
}

/// Says why a command did not do its work: for programs on the standard output, where they look for
/// the document, for people on standard error.
pub(crate) fn print_failure(failure: &Failure, as_json: bool) {
    if as_json {
        let _ = print(&json(&failure.document()));
        return;
    }
    let mut text = format!("error: {failure}\n");
    if let Some(fault) = failure.fault() {
        text.push_str(&format!("at fault: {fault}\n"));
    }
    if let Some(remedy) = failure.remedy() {
        text.push_str(&format!("what helps: {remedy}\n"));
    }
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Asks a question whose answer can do damage.
pub(crate) fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::NeedsYes);
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(Failure::Output)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::Declined),
    }
}

/// Names and values, one pair a line. Values that are not there are shown as a dash.
pub(crate) fn pairs<'a>(rows: impl IntoIterator<Item = (&'a str, Option<String>)>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for (name, value) in rows {
        table.add_row([name.to_owned(), value.unwrap_or_else(|| "-".to_owned())]);
    }
    lines(table)
}

/// A table with a head.
pub(crate) fn table<const N: usize>(
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(head);
    for row in rows {
        table.add_row(row);
    }
    lines(table)
}

fn lines(mut table: Table) -> String {
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    let text: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    text.join("\n") + "\n"
}

fn json(document: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(document);
    text.expect("documents have names for keys and are written to memory") + "\n"
}
