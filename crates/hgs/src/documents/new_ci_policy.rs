//! `hgs ci-policy new`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use hgs_attest::policy::{
    CiPolicy, EventDigest, FileSet, MAX_CI_POLICY_OCTETS, Source, SourceKind,
};
use hgs_files::Readers;
use hgs_terminal::{Exit, Failure, Terminal, read_input};
use serde::Serialize;

use crate::software::Software;

/// Write a code-integrity policy: the files that hosts may run, by their digests
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs ci-policy new linux-image-6.1.0-56-amd64.deb systemd.deb --out ci.json
  hgs ci-policy new /srv/images/host-7 --set host-7 --ima-policy tcb --out ci.json
  hgs ci-policy new agent_2.0.deb --add-to ci.json --out ci.json

A host's IMA log may have no file whose digest is not in a set of the policy. Links and device files have no digest.")]
pub(crate) struct NewCiPolicy {
    /// Debian packages (.deb), folders that stand for the root of a host, and files
    #[arg(required = true, value_name = "FILE|FOLDER")]
    sources: Vec<PathBuf>,
    /// What the set of files is called [default: the first source]
    #[arg(long, value_name = "NAME")]
    set: Option<String>,
    /// Where hosts may open these files: what the path begins with
    #[arg(long, value_name = "PATH", default_value = "/")]
    under: String,
    /// A word of `ima_policy=` that the host's command line must have
    #[arg(long = "ima-policy", value_name = "WORD")]
    ima_policy: Vec<String>,
    /// A policy that the set is added to
    #[arg(long, value_name = "FILE")]
    add_to: Option<PathBuf>,
}

impl NewCiPolicy {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let mut policy = match &self.add_to {
            Some(file) => read_policy(file)?,
            None => CiPolicy {
                ima_policy: Vec::new(),
                sets: Vec::new(),
            },
        };
        let mut labels = Vec::new();
        let mut files = BTreeMap::new();
        let mut kind = SourceKind::File;
        for path in &self.sources {
            let software = Software::at(path)?;
            let label = software.label()?;
            terminal.note(format_args!("reading {label}"));
            if matches!(software, Software::Package(_)) {
                kind = SourceKind::Package;
            }
            labels.push(label);
            files.extend(software.digests()?);
        }
        let name = self.set.unwrap_or_else(|| labels[0].clone());
        let source = Source {
            kind,
            of: labels.join(", "),
        };
        let count = files.len();
        let digests = files.into_values();
        let digests = digests.map(|digest| (self.under.clone(), EventDigest(digest)));
        let set = CiPolicy::of_files(&name, source, digests).sets.remove(0);
        let summary = Written {
            digests: digests_of(&set),
            set: name,
            files: count,
        };
        policy.ima_policy.extend(self.ima_policy);
        policy.sets.push(set);
        let document = policy.to_json();
        CiPolicy::from_json(document.as_bytes()).map_err(Failure::refused)?;
        terminal.document(document.as_bytes(), Readers::Everybody, &summary)?;
        Ok(Exit::Done)
    }
}

fn read_policy(file: &Path) -> Result<CiPolicy, Failure> {
    let octets = read_input(file, MAX_CI_POLICY_OCTETS)?;
    let octets = octets.complete(file, "a code-integrity policy")?;
    CiPolicy::from_json(&octets)
        .map_err(|error| Failure::refused(error).while_doing(file.display()))
}

fn digests_of(set: &FileSet) -> usize {
    set.files.iter().map(|files| files.digests.len()).sum()
}

#[derive(Serialize)]
struct Written {
    set: String,
    files: usize,
    digests: usize,
}

impl fmt::Display for Written {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            set,
            files,
            digests,
        } = self;
        writeln!(formatter, "Set `{set}`: {files} files, {digests} digests")
    }
}
