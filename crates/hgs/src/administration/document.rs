//! Documents that the measurements of hosts are compared with: what `hgs baseline`, `hgs ci-policy` and `hgs dump-key` share.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use hgs_admin::types::{
    AddPolicyDocument, ChangePolicyDocument, DocumentKind, PolicyDocument, PolicyDocumentDetail,
};
use hgs_admin::{Administration as _, Client, NameSelector};
use hgs_files::Readers;
use hgs_store::MAX_DOCUMENT_OCTETS;
use hgs_terminal::{Exit, Failure, Table, Terminal, read_input};
use serde::Serialize;

use super::{ServerOption, or_dash};
use crate::completion;
use crate::failures::OrFail as _;

/// The verbs of a kind of documents.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    server: ServerOption,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Add a document, and enable it
    Add {
        /// What it is called, in letters, digits, `.`, `-` and `_`; it is kept in lower case
        name: String,
        /// The document, as JSON
        file: PathBuf,
        /// Enable it for this group only [default: for `default`, which all groups follow]
        #[arg(long, value_name = "GROUP", add = completion::host_groups())]
        group: Option<String>,
    },
    /// List the documents, with the groups that have them enabled
    List,
    /// Show a document, or write it to a file with `--out`
    Show {
        /// Its name
        #[arg(add = completion::documents())]
        name: NameSelector,
    },
    /// Replace a document
    Set {
        /// Its name
        #[arg(add = completion::documents())]
        name: NameSelector,
        /// The document from now on, as JSON
        file: PathBuf,
    },
    /// Remove a document
    Remove {
        /// Its name
        #[arg(add = completion::documents())]
        name: NameSelector,
    },
}

impl Arguments {
    pub(crate) fn run(self, kind: DocumentKind, terminal: &Terminal) -> Result<Exit, Failure> {
        self.verb.run(kind, self.server, terminal)
    }
}

impl Verb {
    pub(super) fn run(
        self,
        kind: DocumentKind,
        server: ServerOption,
        terminal: &Terminal,
    ) -> Result<Exit, Failure> {
        let client = server.client()?;
        match self {
            Self::Add { name, file, group } => {
                let document = AddPolicyDocument {
                    name,
                    kind,
                    text: read(&file)?,
                    group,
                };
                let added = client.add_policy_document(&document).or_fail();
                let added = added.map_err(|failure| failure.while_doing(file.display()))?;
                terminal.report(&Documents(vec![added]))?;
            }
            Self::List => {
                let mut all = super::all_documents(&client).or_fail()?;
                all.retain(|document| document.kind == kind);
                terminal.report(&Documents(all))?;
            }
            Self::Show { name } => {
                let detail = find(&client, &name, kind)?;
                if terminal.json() && terminal.out().is_none() {
                    terminal.report(&Detail(detail))?;
                    return Ok(Exit::Done);
                }
                let PolicyDocumentDetail { document, text } = detail;
                terminal.document(
                    text.as_bytes(),
                    Readers::Everybody,
                    &Documents(vec![document]),
                )?;
            }
            Self::Set { name, file } => {
                find(&client, &name, kind)?;
                let text = read(&file)?;
                let expected = None;
                let change = ChangePolicyDocument { text, expected };
                let changed = client.change_policy_document(&name, &change).or_fail();
                let changed = changed.map_err(|failure| failure.while_doing(file.display()))?;
                terminal.report(&Documents(vec![changed]))?;
            }
            Self::Remove { name } => {
                find(&client, &name, kind)?;
                terminal.confirm(format!(
                    "Remove {name}? What only it approves is refused from then on."
                ))?;
                let removed = client.remove_policy_document(&name).or_fail()?;
                terminal.report(&Documents(vec![removed]))?;
            }
        }
        Ok(Exit::Done)
    }
}

/// The text of a document in a file.
pub(super) fn read(file: &Path) -> Result<String, Failure> {
    let octets = read_input(file, MAX_DOCUMENT_OCTETS)?.complete(file, "a document")?;
    String::from_utf8(octets).map_err(|error| {
        Failure::of(&error)
            .with_exit(Exit::Refused)
            .while_doing(file.display())
    })
}

/// The document with this name, if it is of the kind that the command is about.
pub(super) fn find(
    client: &Client,
    name: &NameSelector,
    kind: DocumentKind,
) -> Result<PolicyDocumentDetail, Failure> {
    let found = client.policy_document(name).or_fail()?;
    match found.document.kind {
        other if other != kind => Err(Failure::failed(format!(
            "{name} is no {kind} but a {other}"
        ))
        .remedy(format!("`hgs {kind} list` shows what there is"))),
        _ => Ok(found),
    }
}

/// Puts `text` in the place of a document that was read, if it is still that one.
pub(super) fn change(
    client: &Client,
    name: &NameSelector,
    read: &PolicyDocumentDetail,
    text: String,
) -> Result<(), Failure> {
    let change = ChangePolicyDocument {
        text,
        expected: Some(read.document.digest.clone()),
    };
    client
        .change_policy_document(name, &change)
        .map(drop)
        .or_fail()
}

/// A document with its text, which is text itself.
#[derive(Serialize)]
#[serde(transparent)]
struct Detail(PolicyDocumentDetail);

impl fmt::Display for Detail {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.text)
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Documents(Vec<PolicyDocument>);

impl fmt::Display for Documents {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new([
            "NAME",
            "ENABLED FOR",
            "OCTETS",
            "ADDED",
            "CHANGED",
            "SHA-256",
        ]);
        for document in &self.0 {
            let enabled = document.enabled.join(", ");
            table.row([
                document.name.clone(),
                or_dash((!enabled.is_empty()).then_some(&enabled)),
                document.octets.to_string(),
                document.added.clone(),
                or_dash(document.changed.as_ref()),
                document.digest.clone(),
            ]);
        }
        table.fmt(formatter)
    }
}
