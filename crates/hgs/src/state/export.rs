//! `hgs state export`.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use hgs_admin::types::RecordExport;
use hgs_admin::{Administration as _, Client};
use hgs_crypto::hash::Sha256;
use hgs_crypto::random::System;
use hgs_custody::age::{self, AgeError, Recipient, SealedTo};
use hgs_custody::seal::MasterKey;
use hgs_files::{Readers, Staged};
use hgs_server::Config;
use hgs_store::backup::{About, Configuration, ExportError, Header, Snapshot};
use hgs_store::{Action, AuditEntry, Digest, Host, OpenError, Outcome, Store, master_key_file};
use hgs_terminal::{AtFault, Exit, Failure, PassphraseSource, Terminal, new_passphrase};
use serde::Serialize;

use super::{act, opening};
use crate::administration::ServerOption;
use crate::failures::{IntoFailure as _, OrFail as _};

/// Write everything that makes this guardian, its private keys too, into one encrypted file
///
/// It works while the server runs, without a pause. Run it as the user of the service: it reads the state and the master
/// key. Keys in tokens are named in the file, not held; TLS certificates are files of yours and not in it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs state export --recipient age1... --out /backup/hgs.age --yes
  hgs state export --passphrase-from file:/root/passphrase --out hgs.age")]
pub(super) struct Arguments {
    /// Encrypt to this age recipient; say it again for more. Without one, a passphrase is asked for
    #[arg(long, value_name = "AGE1...", conflicts_with = "passphrase_from")]
    recipient: Vec<String>,
    /// Where the passphrase is: file:PATH, env:NAME or credential:NAME
    #[arg(long, value_name = "SOURCE")]
    passphrase_from: Option<PassphraseSource>,
}

impl Arguments {
    pub(super) fn run(self, server: ServerOption, terminal: &Terminal) -> Result<Exit, Failure> {
        let out = terminal.out().ok_or_else(|| {
            Failure::usage("a backup goes to a file").remedy("name it with `--out FILE`")
        })?;
        let config = server.config.load()?;
        let file = server.config.file();
        let readers = self.readers()?;
        let directory = config.state_folder();
        let key = master_key_file::read_settled(&config.master_key_file(), &directory);
        let key = match key {
            Err(OpenError::InUse { .. }) => {
                master_key_file::read(&config.master_key_file()).or_fail()?
            }
            other => other.or_fail()?,
        };
        let holder = StateHolder::of(&config, &key, server)?;
        let exists = hgs_files::exists(out)?;
        if exists {
            terminal.confirm(format!("Replace {}?", out.display()))?;
        }
        let snapshot = Snapshot::open(&directory, &key).or_fail()?;
        let about = About {
            time: act().time,
            program: env!("CARGO_PKG_VERSION"),
            node: &config.server.name,
            configuration: configuration(&file),
        };
        let staged = Staged::filled(out, Readers::Owner, |file| {
            write(file, &snapshot, about, &readers)
        });
        let (staged, written) =
            staged.map_err(|(path, failure)| failure.while_doing(path.display()))?;
        let exported = Exported::new(out, written, &readers, &snapshot);
        if let Err(failure) = holder.record(&exported) {
            staged.discard()?;
            return Err(failure.while_doing("the export is not in the audit log, so there is none"));
        }
        match exists {
            true => staged.replace()?,
            false => staged.create()?,
        }
        tell(&exported, terminal)?;
        Ok(Exit::Done)
    }

    fn readers(&self) -> Result<SealedTo, Failure> {
        if self.recipient.is_empty() {
            let source = self.passphrase_from.as_ref();
            return Ok(SealedTo::Passphrase(new_passphrase(source, "the backup")?));
        }
        let recipients = self
            .recipient
            .iter()
            .map(|one| one.parse::<Recipient>())
            .collect::<Result<Vec<_>, AgeError>>()
            .or_fail()?;
        Ok(SealedTo::Recipients(recipients))
    }
}

/// `--out` names the backup, so the answer goes to standard output.
fn tell(exported: &Exported, terminal: &Terminal) -> Result<(), Failure> {
    let common = hgs_terminal::CommonOptions {
        json: terminal.json(),
        ..hgs_terminal::CommonOptions::default()
    };
    Terminal::new(&common).report(exported)
}

/// The configuration as it stands in its file, if it is there.
fn configuration(path: &Path) -> Option<Configuration> {
    let text = fs::read_to_string(path).ok()?;
    Some(Configuration {
        file: path.display().to_string(),
        text,
    })
}

/// The process that has the state open, and so writes its audit log.
enum StateHolder {
    /// This program, as long as it runs.
    Ourselves(Box<Store>),
    /// A server.
    Server(Client),
}

impl StateHolder {
    fn of(config: &Config, key: &MasterKey, server: ServerOption) -> Result<Self, Failure> {
        match Store::open(opening(&config.state_folder(), key, config)) {
            Ok(store) => Ok(Self::Ourselves(Box::new(store))),
            Err(OpenError::InUse { .. }) => Ok(Self::Server(server.client()?)),
            Err(error) => Err(error.into_failure()),
        }
    }

    fn record(&self, exported: &Exported) -> Result<(), Failure> {
        let record = RecordExport {
            file: exported.sha256.clone(),
            octets: exported.octets,
            generation: exported.generation,
            recipients: exported.recipients.clone(),
        };
        match self {
            Self::Server(client) => client.record_export(&record).map(drop).or_fail(),
            Self::Ourselves(store) => {
                let act = act();
                let entry = AuditEntry {
                    after: serde_json::to_value(&record).ok(),
                    ..act.entry(Action::ExportState, Outcome::Done)
                };
                store.note_waiting(entry).map(drop).or_fail()
            }
        }
    }
}

struct Written {
    header: Header,
    digest: [u8; 32],
    octets: u64,
}

fn write(
    file: &mut File,
    snapshot: &Snapshot,
    about: About<'_>,
    readers: &SealedTo,
) -> Result<Written, WriteFailure> {
    let digested = Digested {
        file,
        digest: Sha256::new(),
        octets: 0,
    };
    let mut encrypted = age::encrypt(digested, readers, &mut System::new())?;
    let header = snapshot.write(about, &mut encrypted)?;
    let digested = encrypted.finish()?;
    Ok(Written {
        header,
        digest: digested.digest.finish(),
        octets: digested.octets,
    })
}

/// A file, and what has been written to it.
struct Digested<'f> {
    file: &'f mut File,
    digest: Sha256,
    octets: u64,
}

impl Write for Digested<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let count = self.file.write(octets)?;
        self.digest.update(octets.get(..count).unwrap_or_default());
        self.octets += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Why the file was not written.
struct WriteFailure(Failure);

impl WriteFailure {
    fn while_doing(self, what: impl fmt::Display) -> Failure {
        self.0.while_doing(what)
    }
}

impl From<io::Error> for WriteFailure {
    fn from(error: io::Error) -> Self {
        Self(Failure::of(&error).at_fault(AtFault::Operator))
    }
}

impl From<AgeError> for WriteFailure {
    fn from(error: AgeError) -> Self {
        Self(error.into_failure())
    }
}

impl From<ExportError> for WriteFailure {
    fn from(error: ExportError) -> Self {
        Self(error.into_failure())
    }
}

/// What was written.
#[derive(Serialize)]
struct Exported {
    file: String,
    sha256: String,
    octets: u64,
    name: String,
    generation: u64,
    records: u64,
    protectors: u64,
    audit_records: u64,
    recipients: Vec<String>,
    /// Hosts whose last evidence is here, and in no backup.
    hosts_with_evidence: usize,
}

impl Exported {
    fn new(out: &Path, written: Written, readers: &SealedTo, snapshot: &Snapshot) -> Self {
        let header = written.header;
        Self {
            file: out.display().to_string(),
            sha256: Digest::from_bytes(written.digest).to_string(),
            octets: written.octets,
            name: header.name.to_string(),
            generation: header.generation,
            records: header.records,
            protectors: header.protectors,
            audit_records: header.audit_records,
            recipients: match readers {
                SealedTo::Recipients(all) => all.iter().map(ToString::to_string).collect(),
                SealedTo::Passphrase(_) => Vec::new(),
            },
            hosts_with_evidence: snapshot.state().hosts().filter(has_evidence).count(),
        }
    }
}

fn has_evidence(host: &&Host) -> bool {
    let attempt = host.last_attempt.as_ref();
    attempt.is_some_and(|attempt| attempt.evidence.is_some())
}

impl fmt::Display for Exported {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file, sha256, name, ..
        } = self;
        writeln!(formatter, "The state of `{name}` is in {file}:")?;
        writeln!(
            formatter,
            "{} records, {} protectors, {} audit records.",
            self.records, self.protectors, self.audit_records
        )?;
        if self.hosts_with_evidence > 0 {
            writeln!(
                formatter,
                "The last evidence of {} hosts is not in it: after an import `hgs policy simulate --against-evidence` knows nothing\n\
                 of a host until that has attested again.",
                self.hosts_with_evidence
            )?;
        }
        writeln!(
            formatter,
            "Its SHA-256, which an import asks for where recipients open it:\n  {sha256}"
        )
    }
}
