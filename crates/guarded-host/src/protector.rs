//! `guarded-host protector`: what the start of a virtual machine does, by hand and with any file.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use hgs_client::service::Side;
use hgs_client::{Error, MAX_PROTECTOR, RequestId, SealedPair, Unwrapped, sealed_file};
use hgs_crypto::SecretBytes;
use hgs_files::Readers;
use hgs_kps::ServiceVersion;
use hgs_terminal::{Exit, Failure, Table, Terminal, read_input};
use serde::Serialize;

use crate::failure::failure;
use crate::host_options::{HostOptions, wait_for};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Unwrap(Unwrap),
    Seal(Seal),
}

/// Have the keys of a protector released, and open or re-seal a file with them
///
/// The keys themselves are never printed or written. With --reseal the file is sealed anew under the rolled protector,
/// and both replace the old ones together: whatever happens in between, the next `protector unwrap` finds a pair that
/// opens. Without --reseal nothing changes but the file of --out.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  guarded-host protector unwrap vm.xml                                  (are its keys released?)
  guarded-host protector unwrap vm.xml vm.state --out state             (open)
  guarded-host protector unwrap vm.xml vm.state --reseal                (roll)
  guarded-host protector unwrap vm.xml vm.state --reseal --out state    (power on)")]
pub(crate) struct Unwrap {
    /// The key protector
    protector: PathBuf,
    /// A file that is sealed under it; its content goes to --out
    file: Option<PathBuf>,
    /// Seal the file under the rolled protector, and replace both
    #[arg(long, requires = "file")]
    reseal: bool,
    #[command(flatten)]
    version: Version,
}

/// Seal a file under the transport key of a protector
///
/// The protector stays as it is; the sealed file, which goes to --out, opens with it until it is re-sealed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  guarded-host protector seal vm.xml state --out vm.state")]
pub(crate) struct Seal {
    /// The key protector
    protector: PathBuf,
    /// The file to seal, at most 64 MiB; `-` is standard input
    file: PathBuf,
    #[command(flatten)]
    version: Version,
}

#[derive(Debug, clap::Args)]
struct Version {
    /// Version of the key protection service
    #[arg(long, value_enum, default_value_t)]
    service_version: Named,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Named {
    #[value(name = "v1.0")]
    V1,
    #[default]
    #[value(name = "v2.0")]
    V2,
}

impl Verb {
    pub(crate) fn run(self, options: &HostOptions, terminal: &Terminal) -> Result<Exit, Failure> {
        match self {
            Self::Unwrap(Unwrap {
                protector,
                file: Some(file),
                reseal,
                version,
            }) => open(options, terminal, (&protector, &file), reseal, &version)?,
            Self::Unwrap(arguments) => {
                let octets = hgs_files::read(&arguments.protector, MAX_PROTECTOR)?;
                let unwrapped =
                    (arguments.version).unwrap(options, &arguments.protector, &octets, terminal)?;
                terminal.report(&Report::new(&unwrapped))?;
            }
            Self::Seal(arguments) => arguments.run(options, terminal)?,
        }
        Ok(Exit::Done)
    }
}

fn open(
    options: &HostOptions,
    terminal: &Terminal,
    (protector, file): (&Path, &Path),
    reseal: bool,
    version: &Version,
) -> Result<(), Failure> {
    if terminal.out().is_none() && !reseal {
        return Err(Failure::usage("there is nothing to do with the file")
            .remedy("give --out FILE to open it, --reseal to seal it anew, or both"));
    }
    let pair = SealedPair::open(protector, file).map_err(failure)?;
    let unwrapped = version.unwrap(options, protector, pair.protector(), terminal)?;
    let plaintext = unwrapped.open(pair.file()).map_err(failure)?;
    let mut report = Report::new(&unwrapped);
    report.recovered = pair.was_recovered();
    if reseal {
        let sealed = unwrapped.reseal(&plaintext).map_err(failure)?;
        pair.replace(unwrapped.egress(), &sealed).map_err(failure)?;
        report.resealed = true;
    }
    if terminal.out().is_none() {
        return terminal.report(&report);
    }
    report.opened = true;
    terminal.document(plaintext.expose(), Readers::Owner, &report)
}

impl Seal {
    fn run(self, options: &HostOptions, terminal: &Terminal) -> Result<(), Failure> {
        if terminal.out().is_none() {
            return Err(
                Failure::usage("the sealed file has nowhere to go").remedy("give --out FILE")
            );
        }
        let protector = hgs_files::read(&self.protector, MAX_PROTECTOR)?;
        let given = read_input(&self.file, sealed_file::MAX_PLAINTEXT)?;
        let plaintext = SecretBytes::new(given.complete(&self.file, "a file to be sealed")?);
        let unwrapped = (self.version).unwrap(options, &self.protector, &protector, terminal)?;
        let sealed = unwrapped.seal(&plaintext).map_err(failure)?;
        terminal.document(&sealed, Readers::Owner, &Report::new(&unwrapped))
    }
}

impl Version {
    /// Has the keys of the `protector` released, which was in the file `path`.
    fn unwrap(
        &self,
        options: &HostOptions,
        path: &Path,
        protector: &[u8],
        terminal: &Terminal,
    ) -> Result<Unwrapped, Failure> {
        let version = match self.service_version {
            Named::V1 => ServiceVersion::V1,
            Named::V2 => ServiceVersion::V2,
        };
        let host = options.open(terminal)?;
        match wait_for(async { Ok(host.unwrap(protector, version).await) })? {
            Err(error @ Error::Protector(_)) => Err(failure(error).while_doing(path.display())),
            unwrapped => unwrapped.map_err(failure),
        }
    }
}

/// A release, without its keys.
#[derive(Serialize)]
struct Report {
    ingress: String,
    egress: String,
    side: Side,
    key_protection_url: String,
    /// The id that the guardian gave the request.
    request_id: Option<RequestId>,
    /// How often the keys may be used without asking again, where that is allowed.
    max_offline_unwraps: Option<u32>,
    /// Whether an interrupted replacement was finished first.
    recovered: bool,
    opened: bool,
    resealed: bool,
}

impl Report {
    fn new(unwrapped: &Unwrapped) -> Self {
        let caching = unwrapped.caching();
        Self {
            ingress: unwrapped.ingress().digest().to_string(),
            egress: unwrapped.egress().digest().to_string(),
            side: unwrapped.side(),
            key_protection_url: unwrapped.key_protection().to_string(),
            request_id: unwrapped.request_id().cloned(),
            max_offline_unwraps: caching.map(|policy| policy.max_offline_unwraps),
            recovered: false,
            opened: false,
            resealed: false,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.recovered {
            writeln!(formatter, "An interrupted replacement was finished first.")?;
        }
        let service = format!("{}, {}", self.side, self.key_protection_url);
        Table::of_pairs([
            ("ingress protector", self.ingress.clone()),
            ("egress protector", self.egress.clone()),
            ("released by", service),
        ])
        .fmt(formatter)?;
        match (self.opened, self.resealed) {
            (true, true) => writeln!(formatter, "The file was opened, and sealed anew."),
            (true, false) => writeln!(formatter, "The file was opened."),
            (false, true) => writeln!(formatter, "The file was sealed anew."),
            (false, false) => Ok(()),
        }
    }
}
