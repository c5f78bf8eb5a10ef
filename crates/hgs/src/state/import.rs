//! `hgs state import`.

use std::fmt;
use std::path::{Path, PathBuf};

use hgs_crypto::random::System;
use hgs_custody::seal::MasterKey;
use hgs_kps::Label;
use hgs_server::{Config, MAX_NAME};
use hgs_store::backup::{Conflict, Resolution};
use hgs_store::{Digest, Import, Imported, OpenError, Opening, Store, master_key_file};
use hgs_terminal::{AtFault, Exit, Failure, Terminal};
use serde::Serialize;

use super::sealed::{Backup, Opened, Opener};
use super::{act, opening};
use crate::config_option::ConfigOption;
use crate::failures::OrFail as _;

/// Take a backup in: as a new guardian, or into the one that is here
///
/// The server must not run. All of it is taken in, in one commit, or nothing. A host that is revoked here or there stays
/// revoked, and a key that is compromised stays so, whichever side prevails otherwise.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs state import hgs.age --initialise --identity safe.key --digest SHA256
  hgs state import hgs.age --passphrase-from file:passphrase --dry-run")]
pub(super) struct Arguments {
    /// The backup
    file: PathBuf,
    #[command(flatten)]
    opener: Opener,
    /// SHA-256 of the backup, as the export told it
    #[arg(long, value_name = "SHA256")]
    digest: Option<Digest>,
    /// Make a new guardian of it: a master key and a state where there is none
    #[arg(long)]
    initialise: bool,
    /// What the new guardian is called [default: as before]
    #[arg(long, requires = "initialise")]
    name: Option<String>,
    /// Where both say different things, what is here stays
    #[arg(long, conflicts_with_all = ["take_theirs", "initialise"])]
    keep_ours: bool,
    /// Where both say different things, the backup prevails
    #[arg(long, conflicts_with = "initialise")]
    take_theirs: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

impl Arguments {
    pub(super) fn run(self, config: &ConfigOption, terminal: &Terminal) -> Result<Exit, Failure> {
        let config = config.load()?;
        let backup = Backup::open(&self.file)?;
        let digest = backup.digest;
        self.check_digest(&backup)?;
        let document = backup.unlock(&self.opener)?;
        if !self.dry_run {
            self.confirm(&document, &config, terminal)?;
        }
        let import = Import {
            name: self.name.as_deref().map(name).transpose()?,
            resolution: self.resolution(),
            dry_run: self.dry_run,
            file: digest,
            act: act(),
        };
        let imported = self.take_in(document, &import, &config)?;
        let undecided = self.is_undecided() && !imported.conflicts.is_empty();
        terminal.report(&Report::new(imported, &self, &config))?;
        Ok(if undecided { Exit::Refused } else { Exit::Done })
    }

    /// Checks that the author of the backup is known: a person who knows the passphrase, or the export that told the
    /// digest. A backup that only says what would be done may come from anybody.
    fn check_digest(&self, backup: &Backup) -> Result<(), Failure> {
        match &self.digest {
            Some(digest) if *digest != backup.digest => Err(Failure::refused(format!(
                "the backup has SHA-256 {}, not {digest}",
                backup.digest
            ))
            .at_fault(AtFault::Peer)
            .remedy("find out who changed it, and take another backup")),
            None if !backup.is_authenticated() && !self.dry_run => Err(Failure::refused(
                "nothing says who wrote this backup: everybody who knows the recipient can have",
            )
            .at_fault(AtFault::Operator)
            .remedy(
                "give the SHA-256 that the export printed with `--digest`; the audit log of the guardian that wrote it \
                 has it too: `hgs audit list --action export-state`",
            )),
            Some(_) | None => Ok(()),
        }
    }

    fn confirm(
        &self,
        document: &Opened,
        config: &Config,
        terminal: &Terminal,
    ) -> Result<(), Failure> {
        let header = document.header();
        if self.initialise {
            return Ok(());
        }
        terminal.confirm(format!(
            "Take the state of `{}` of {} into the one in {}?",
            header.name,
            header.exported,
            config.state_folder().display()
        ))
    }

    fn resolution(&self) -> Resolution {
        match (self.take_theirs, self.keep_ours || self.is_undecided()) {
            (true, _) => Resolution::TakeTheirs,
            (false, true) => Resolution::KeepOurs,
            (false, false) => Resolution::Refuse,
        }
    }

    /// A dry run shows all conflicts, as if what is here stayed.
    fn is_undecided(&self) -> bool {
        self.dry_run && !self.take_theirs && !self.keep_ours
    }

    fn take_in(
        &self,
        document: Opened,
        import: &Import,
        config: &Config,
    ) -> Result<Imported, Failure> {
        let directory = config.state_folder();
        if !self.initialise {
            let key =
                master_key_file::read_settled(&config.master_key_file(), &directory).or_fail()?;
            return Store::merge(opening(&directory, &key, config), document, import).or_fail();
        }
        if self.dry_run {
            // Into a state that is made for it, under a master key that is not kept.
            let folder = tempfile::tempdir().map_err(|error| Failure::of(&error))?;
            let key =
                MasterKey::generate(&mut System::new()).map_err(|error| Failure::of(&error))?;
            let opening = Opening {
                high_water_mark: folder.path().join("high-water-mark"),
                ..opening(folder.path(), &key, config)
            };
            return Store::restore(opening, document, import).or_fail();
        }
        let key = new_master_key(&config.master_key_file(), &directory)?;
        Store::restore(opening(&directory, &key, config), document, import).or_fail()
    }
}

/// A new master key, or the one that an earlier attempt has left.
fn new_master_key(file: &Path, directory: &Path) -> Result<MasterKey, Failure> {
    hgs_files::private_folder(directory)?;
    if hgs_files::exists(file)? {
        return master_key_file::read(file).or_fail();
    }
    if Store::is_in(directory) {
        // A second master key could not open it.
        return Err(OpenError::AlreadyInitialised {
            directory: directory.to_owned(),
        })
        .or_fail();
    }
    master_key_file::create(file, &mut System::new()).or_fail()
}

fn name(text: &str) -> Result<Label, Failure> {
    let fits = text.chars().count() <= MAX_NAME;
    let name = text.parse().ok().filter(|_| fits);
    name.ok_or_else(|| {
        Failure::refused(format!(
            "a guardian's name has 1 to {MAX_NAME} printable characters"
        ))
        .at_fault(AtFault::Operator)
    })
}

/// What was done, or would be.
#[derive(Serialize)]
struct Report {
    dry_run: bool,
    initialised: bool,
    name: String,
    exported: String,
    exported_by: String,
    state_folder: String,
    master_key_file: String,
    records_written: usize,
    records_removed: usize,
    new_protectors: u64,
    generation: u64,
    undecided: bool,
    conflicts: Vec<Conflict>,
    configuration_file: Option<String>,
}

impl Report {
    fn new(imported: Imported, arguments: &Arguments, config: &Config) -> Self {
        let header = imported.header;
        Self {
            dry_run: arguments.dry_run,
            initialised: arguments.initialise,
            name: arguments
                .name
                .clone()
                .unwrap_or_else(|| header.name.to_string()),
            exported: header.exported.to_string(),
            exported_by: header.node,
            state_folder: config.state_folder().display().to_string(),
            master_key_file: config.master_key_file().display().to_string(),
            records_written: imported.written,
            records_removed: imported.removed,
            new_protectors: imported.protectors,
            generation: imported.generation,
            undecided: arguments.is_undecided(),
            conflicts: imported.conflicts,
            configuration_file: imported.configuration.map(|found| found.file),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let folder = &self.state_folder;
        for conflict in &self.conflicts {
            writeln!(formatter, "{conflict}")?;
        }
        let done = match (self.dry_run, self.initialised) {
            (true, _) => format!("Nothing was changed. It would go into {folder}:"),
            (false, true) => format!(
                "Guardian `{}` is made of the backup, with its state in {folder}:",
                self.name
            ),
            (false, false) => format!("The backup is taken into the state in {folder}:"),
        };
        writeln!(formatter, "{done}")?;
        writeln!(
            formatter,
            "{} records written, {} removed, {} protectors that were not known.",
            self.records_written, self.records_removed, self.new_protectors
        )?;
        if self.initialised && !self.dry_run {
            writeln!(
                formatter,
                "\nKeep a copy of {} apart from backups of the folder.",
                self.master_key_file
            )?;
        }
        if let Some(file) = &self.configuration_file {
            writeln!(
                formatter,
                "\nThe backup holds the configuration {file}, which is not taken over: see `hgs state show --configuration`."
            )?;
        }
        Ok(())
    }
}
