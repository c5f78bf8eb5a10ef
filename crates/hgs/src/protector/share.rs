//! `hgs protector grant` and `hgs protector revoke`: the owner changes who can open a protector.

use std::fmt;
use std::path::PathBuf;

use hgs_files::Readers;
use hgs_protector::{GuardianCertificates, VerifiedProtector, WrappingId, grant, revoke};
use hgs_terminal::{AtFault, Exit, Failure, Terminal};
use serde::Serialize;

use super::new::ProtectOptions;
use super::own::PassphraseOption;
use super::read_valid;
use super::view::ProtectorView;
use crate::completion;
use crate::failures::OrFail as _;
use crate::guardian::{GuardianName, Home};

/// Let another guardian open a protector
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  hgs protector grant vm.xml --owner ann --guardian dr-site --out vm2.xml")]
pub(crate) struct Grant {
    /// The protector
    file: PathBuf,
    /// Its owner, whose private keys do the work
    #[arg(long, value_name = "NAME", add = completion::guardians())]
    owner: GuardianName,
    /// The guardian that is to open it from now on
    #[arg(long, value_name = "NAME", add = completion::guardians())]
    guardian: GuardianName,
    #[command(flatten)]
    protect: ProtectOptions,
    #[command(flatten)]
    unlock: PassphraseOption,
}

/// Take a guardian out of a protector, with all that it has let in
///
/// The transport key stays. Copies of the protector that were made before still open for that guardian, and if it has
/// opened one, it knows the key: have a Key Protection Service roll the protector, and destroy the old copies.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs protector revoke vm.xml --owner ann --guardian fabric --out vm2.xml
  hgs protector revoke vm.xml --owner ann --wrapping 3 --out vm2.xml")]
pub(crate) struct Revoke {
    /// The protector
    file: PathBuf,
    /// Its owner, whose private keys do the work
    #[arg(long, value_name = "NAME", add = completion::guardians())]
    owner: GuardianName,
    #[command(flatten)]
    selector: WrappingSelector,
    #[command(flatten)]
    unlock: PassphraseOption,
}

/// The wrapping that is taken out.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct WrappingSelector {
    /// The guardian, by its name on this machine
    #[arg(long, value_name = "NAME", add = completion::guardians())]
    guardian: Option<GuardianName>,
    /// The wrapping, by its number
    #[arg(long, value_name = "ID")]
    wrapping: Option<u32>,
}

const OLD_COPIES: &str = "Copies of the protector that were made before still open for whoever was taken out, and the \
                          transport key is the same. Have it rolled, and destroy the old copies.";

impl Grant {
    pub(super) fn run(self, home: &Home, terminal: &Terminal) -> Result<Exit, Failure> {
        let protector = read_valid(&self.file)?;
        let guardian = self.protect.certificates(home, &self.guardian, terminal)?;
        let own = self.unlock.unlock(home, &self.owner)?;
        let opened = own.open_as_owner(&protector)?;
        let granted = grant(&opened, &guardian, &mut &own.keys).or_fail()?;
        let view = ProtectorView::new(&granted, home)?;
        terminal.document(granted.octets(), Readers::Everybody, &view)?;
        Ok(Exit::Done)
    }
}

impl Revoke {
    pub(super) fn run(self, home: &Home, terminal: &Terminal) -> Result<Exit, Failure> {
        let protector = read_valid(&self.file)?;
        let id = self.selector.wrapping(&protector, home)?;
        let own = self.unlock.unlock(home, &self.owner)?;
        let opened = own.open_as_owner(&protector)?;
        let removed = protector.with_descendants([id]);
        let revoked = revoke(&opened, id, &mut &own.keys).or_fail()?;
        let summary = Revoked {
            removed: removed.into_iter().map(WrappingId::number).collect(),
            warning: OLD_COPIES,
            protector: ProtectorView::new(&revoked, home)?,
        };
        terminal.document(revoked.octets(), Readers::Everybody, &summary)?;
        if terminal.out().is_none() {
            terminal.note(format!("warning: {OLD_COPIES}"));
        }
        Ok(Exit::Done)
    }
}

impl WrappingSelector {
    fn wrapping(&self, protector: &VerifiedProtector, home: &Home) -> Result<WrappingId, Failure> {
        match (&self.guardian, self.wrapping) {
            (Some(name), _) => wrapping_of(protector, name, home.guardian(name)?.certificates()),
            (None, Some(number)) => Ok(WrappingId::new(number)),
            (None, None) => Err(Failure::usage("name a guardian or a wrapping")),
        }
    }
}

fn wrapping_of(
    protector: &VerifiedProtector,
    name: &GuardianName,
    certificates: &GuardianCertificates,
) -> Result<WrappingId, Failure> {
    let (signing, encryption) = (
        certificates.signing_certificate(),
        certificates.encryption_certificate(),
    );
    let mut found = protector
        .wrappings()
        .iter()
        .filter(|wrapping| wrapping.is_for(signing, encryption));
    let problem = match (found.next(), found.next()) {
        (Some(only), None) => return Ok(only.id()),
        (None, _) => format!("guardian `{name}` has no wrapping in this protector"),
        (Some(_), Some(_)) => format!("guardian `{name}` has several wrappings in this protector"),
    };
    Err(Failure::refused(problem)
        .at_fault(AtFault::Operator)
        .remedy(
            "see the wrappings with `hgs protector show FILE`, and name one with `--wrapping ID`",
        ))
}

#[derive(Serialize)]
struct Revoked {
    removed: Vec<u32>,
    warning: &'static str,
    #[serde(flatten)]
    protector: ProtectorView,
}

impl fmt::Display for Revoked {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let removed: Vec<_> = self.removed.iter().map(u32::to_string).collect();
        writeln!(formatter, "{}", self.protector)?;
        writeln!(formatter, "Taken out: wrapping {}.", removed.join(", "))?;
        writeln!(formatter, "{}", self.warning)
    }
}
