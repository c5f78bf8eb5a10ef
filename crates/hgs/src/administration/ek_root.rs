//! `hgs ek-root`: who is trusted to vouch for TPMs.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use hgs_admin::types::{AddEkRoots, EkRoot, MAX_AT_ONCE};
use hgs_admin::{Administration as _, Client};
use hgs_pki::endorsement::EndorsementAuthority;
use hgs_pki::{Thumbprint, pem};
use hgs_terminal::{Exit, Failure, Table, Terminal, printable, read_input};
use serde::Serialize;

use super::{ServerOption, all_ek_roots};
use crate::completion;
use crate::failures::OrFail as _;

/// The verbs of `hgs ek-root`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    server: ServerOption,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Add(Add),
    /// List the authorities that vouch for TPMs
    List,
    /// Trust an authority no longer; hosts that were registered stay registered
    Remove {
        /// The thumbprint of its certificate
        #[arg(add = completion::ek_roots())]
        thumbprint: Thumbprint,
    },
}

/// Trust makers of TPMs to vouch for them
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs ek-root add swtpm-localca-rootca-cert.pem
  hgs ek-root add TrustedTpm/Infineon TrustedTpm/Intel
  hgs ek-root add --as root intermediate.crt     (where the root above it can't be had)

A certificate that names itself as its issuer becomes a root, another one an intermediate certificate, which only helps to find the \
way to a root.")]
struct Add {
    /// Files with certificates in PEM or DER, and folders of such files
    #[arg(required = true, value_name = "FILE|FOLDER")]
    paths: Vec<PathBuf>,
    /// What all of them become
    #[arg(long = "as", value_enum, value_name = "KIND")]
    kind: Option<Kind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Trusted by itself
    Root,
    /// Only helps to find the way to a root
    Intermediate,
}

/// Octets of the largest file: all makers together have less than 2 MiB in PEM.
const LONGEST_BUNDLE: usize = 8 * 1024 * 1024;
/// Files of one folder, with the folders in it.
const MOST_FILES: usize = 10_000;

impl Arguments {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let client = self.server.client()?;
        match self.verb {
            Verb::Add(add) => return add.run(&client, terminal),
            Verb::List => terminal.report(&Roots(all_ek_roots(&client).or_fail()?))?,
            Verb::Remove { thumbprint } => {
                terminal.confirm(format!(
                    "Trust {thumbprint} no longer? TPMs that it vouches for can't be registered then."
                ))?;
                let root = client.remove_ek_root(&thumbprint).or_fail()?;
                terminal.report(&Removed(root))?;
            }
        }
        Ok(Exit::Done)
    }
}

impl Add {
    fn run(self, client: &Client, terminal: &Terminal) -> Result<Exit, Failure> {
        let mut found = Found::default();
        for path in &self.paths {
            found.take(path, false)?;
        }
        if found.certificates.is_empty() {
            let refused = found.refused.into_iter().next();
            return Err(match refused {
                Some(refused) => Failure::refused(&refused.reason).while_doing(&refused.file),
                None => Failure::refused("no certificates were found"),
            }
            .remedy("give certificates of TPM makers, in PEM or DER"));
        }
        let mut added = Vec::new();
        let certificates: Vec<_> = found.certificates.iter().collect();
        for batch in certificates.chunks(MAX_AT_ONCE) {
            let pem = batch.iter().map(|der| pem::encode("CERTIFICATE", der));
            let request = AddEkRoots {
                certificates: pem.collect(),
                root: self.kind.map(|kind| kind == Kind::Root),
            };
            added.extend(client.add_ek_roots(&request).or_fail()?);
        }
        // What came later may be what an intermediate certificate leads to.
        let thumbprints: BTreeSet<_> = added.iter().map(|root| root.thumbprint.clone()).collect();
        let mut now = all_ek_roots(client).or_fail()?;
        now.retain(|root| thumbprints.contains(&root.thumbprint));
        terminal.report(&Added {
            known: found.certificates.len() - thumbprints.len(),
            roots: now,
            refused: found.refused,
        })?;
        Ok(Exit::Done)
    }
}

/// What files and folders hold.
#[derive(Default)]
struct Found {
    /// The DER of certificates, each once.
    certificates: BTreeSet<Vec<u8>>,
    refused: Vec<Refused>,
    files: usize,
}

/// A file of a folder that is left out.
#[derive(Serialize)]
struct Refused {
    file: String,
    reason: String,
}

impl Found {
    fn take(&mut self, path: &Path, is_in_folder: bool) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::of(&error).while_doing(path.display());
        if path.is_dir() {
            let mut entries = Vec::new();
            for entry in path.read_dir().map_err(failed)? {
                entries.push(entry.map_err(failed)?.path());
            }
            entries.sort();
            // A symbolic link in a folder may lead to the folder itself.
            let mut within = entries.iter().filter(|entry| !entry.is_symlink());
            return within.try_for_each(|entry| self.take(entry, true));
        }
        self.files += 1;
        if self.files > MOST_FILES {
            return Err(Failure::refused(format!(
                "there are more than {MOST_FILES} files"
            )));
        }
        let octets = read_input(path, LONGEST_BUNDLE)?.complete(path, "a file with certificates");
        let read = octets.and_then(|octets| {
            let read = EndorsementAuthority::list_from_octets(&octets);
            read.map_err(|error| Failure::of(&error).with_exit(Exit::Refused))
        });
        match read {
            Ok(read) => {
                let octets = read.iter().map(|one| one.der().to_vec());
                self.certificates.extend(octets);
            }
            // Folders of makers hold read-me files, and certificates of other kinds.
            Err(failure) if is_in_folder => self.refused.push(Refused {
                file: path.display().to_string(),
                reason: failure.message().to_owned(),
            }),
            Err(failure) => return Err(failure.while_doing(path.display())),
        }
        Ok(())
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Roots(Vec<EkRoot>);

#[derive(Serialize)]
#[serde(transparent)]
struct Removed(EkRoot);

#[derive(Serialize)]
struct Added {
    roots: Vec<EkRoot>,
    /// Certificates that were known already.
    known: usize,
    refused: Vec<Refused>,
}

impl fmt::Display for Roots {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["KIND", "SUBJECT", "UNTIL", "THUMBPRINT", "NOTE"]);
        for root in &self.0 {
            let kind = if root.root { "root" } else { "intermediate" };
            table.row([
                kind.to_owned(),
                root.subject.clone(),
                root.not_after.clone(),
                root.thumbprint.clone(),
                root.unused.clone().unwrap_or_default(),
            ]);
        }
        table.fmt(formatter)
    }
}

impl fmt::Display for Removed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = printable(&self.0.subject);
        writeln!(formatter, "{subject} is trusted no longer.")
    }
}

impl fmt::Display for Added {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (roots, intermediates): (Vec<_>, Vec<_>) =
            self.roots.iter().partition(|root| root.root);
        writeln!(
            formatter,
            "{} roots and {} intermediate certificates are added; {} were known already.",
            roots.len(),
            intermediates.len(),
            self.known
        )?;
        for root in &self.roots {
            if let Some(unused) = &root.unused {
                let subject = printable(&root.subject);
                writeln!(
                    formatter,
                    "warning: {subject} is of no use so far: {}",
                    printable(unused)
                )?;
            }
        }
        for Refused { file, reason } in &self.refused {
            writeln!(
                formatter,
                "left out: {}: {}",
                printable(file),
                printable(reason)
            )?;
        }
        Ok(())
    }
}
