//! `hgs protector seal` and `hgs protector open`: files under the transport key, as `guarded-host` opens and seals them.

use std::fmt;
use std::path::PathBuf;

use hgs_client::sealed_file::{self, MAX_LENGTH, MAX_PLAINTEXT, SealedFile};
use hgs_crypto::SecretBytes;
use hgs_crypto::random::System;
use hgs_files::Readers;
use hgs_terminal::{Exit, Failure, Terminal, read_input};
use serde::Serialize;

use super::own::PassphraseOption;
use super::read_valid;
use crate::failures::OrFail as _;
use crate::guardian::{GuardianName, Home};

/// Seal a file under a protector's transport key: the state of a virtual machine, before it goes to the fabric
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  hgs protector seal vm.xml --owner ann --in state --out vm.state")]
pub(crate) struct Seal {
    /// The protector
    file: PathBuf,
    /// Its owner, whose private keys open the protector
    #[arg(long, value_name = "NAME")]
    owner: GuardianName,
    /// The file to seal
    #[arg(long = "in", value_name = "FILE")]
    plaintext: PathBuf,
    #[command(flatten)]
    unlock: PassphraseOption,
}

/// Open a sealed file with the private keys of a guardian of one's own, without a Key Protection Service
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  hgs protector open vm.xml --guardian ann --in vm.state --out state")]
pub(crate) struct Open {
    /// The protector
    file: PathBuf,
    /// The guardian, whose private keys open the protector
    #[arg(long, value_name = "NAME")]
    guardian: GuardianName,
    /// The sealed file
    #[arg(long = "in", value_name = "FILE")]
    sealed: PathBuf,
    #[command(flatten)]
    unlock: PassphraseOption,
}

impl Seal {
    pub(super) fn run(self, home: &Home, terminal: &Terminal) -> Result<Exit, Failure> {
        let protector = read_valid(&self.file)?;
        let plaintext = read_input(&self.plaintext, MAX_PLAINTEXT)?;
        let plaintext = SecretBytes::new(plaintext.complete(&self.plaintext, "a file to seal")?);
        let own = self.unlock.unlock(home, &self.owner)?;
        let opened = own.open_as_owner(&protector)?;
        let digest = protector.digest();
        let sealed = sealed_file::seal(
            opened.transport_key(),
            &digest,
            &plaintext,
            &mut System::new(),
        )
        .or_fail()?;
        let summary = Done {
            octets: sealed.len(),
            protector: digest.to_string(),
        };
        terminal.document(&sealed, Readers::Owner, &summary)?;
        Ok(Exit::Done)
    }
}

impl Open {
    pub(super) fn run(self, home: &Home, terminal: &Terminal) -> Result<Exit, Failure> {
        let protector = read_valid(&self.file)?;
        let octets =
            read_input(&self.sealed, MAX_LENGTH)?.complete(&self.sealed, "a sealed file")?;
        let sealed = SealedFile::read(&octets)
            .or_fail()
            .map_err(|failure| failure.while_doing(self.sealed.display()))?;
        let own = self.unlock.unlock(home, &self.guardian)?;
        let opened = own.open(&protector)?;
        let plaintext = sealed.open(opened.transport_key()).or_fail()?;
        let summary = Done {
            octets: plaintext.len(),
            protector: protector.digest().to_string(),
        };
        terminal.document(plaintext.expose(), Readers::Owner, &summary)?;
        Ok(Exit::Done)
    }
}

#[derive(Serialize)]
struct Done {
    octets: usize,
    protector: String,
}

impl fmt::Display for Done {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { octets, protector } = self;
        writeln!(
            formatter,
            "{octets} octets are written, under protector {protector}."
        )
    }
}
