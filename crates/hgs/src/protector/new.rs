//! `hgs protector new`.

use hgs_crypto::random::System;
use hgs_files::Readers;
use hgs_protector::metadata::Expired;
use hgs_protector::{GuardianCertificates, TransportKey, create};
use hgs_terminal::{Exit, Failure, Terminal};

use super::own::PassphraseOption;
use super::view::ProtectorView;
use crate::clock::now;
use crate::completion;
use crate::failures::OrFail as _;
use crate::guardian::{self, GuardianName, Home, TrustedBy};

/// Make a key protector: a fresh transport key, wrapped for the owner and for guardians
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  hgs protector new --owner ann --guardian fabric --out vm.xml")]
pub(crate) struct Arguments {
    /// The guardian of one's own that owns the protector; that never changes
    #[arg(long, value_name = "NAME", add = completion::guardians())]
    owner: GuardianName,
    /// Make the owner as well, as `hgs guardian new` does
    #[arg(long)]
    new_owner: bool,
    /// A guardian that can open it beside the owner; may be given several times
    #[arg(long, value_name = "NAME", add = completion::guardians())]
    guardian: Vec<GuardianName>,
    #[command(flatten)]
    protect: ProtectOptions,
    #[command(flatten)]
    unlock: PassphraseOption,
}

/// For which guardians a protector may be made.
#[derive(Debug, clap::Args)]
pub(crate) struct ProtectOptions {
    /// Take guardians whose certificates have expired
    #[arg(long)]
    allow_expired: bool,
}

impl Arguments {
    pub(super) fn run(self, home: &Home, terminal: &Terminal) -> Result<Exit, Failure> {
        let guardians = self.protect.all(home, &self.guardian, terminal)?;
        if self.new_owner {
            let passphrase = self.unlock.new_passphrase(&self.owner)?;
            guardian::make(home, &self.owner, &passphrase)?;
        }
        let owner = self.protect.certificates(home, &self.owner, terminal)?;
        let own = self.unlock.unlock(home, &self.owner)?;
        let key = TransportKey::random(&mut System::new())?;
        let protector = create(&owner, &guardians, &key, &mut &own.keys).or_fail()?;
        let view = ProtectorView::new(&protector, home)?;
        terminal.document(protector.octets(), Readers::Everybody, &view)?;
        Ok(Exit::Done)
    }
}

impl ProtectOptions {
    /// The certificates of all these guardians.
    pub(crate) fn all(
        &self,
        home: &Home,
        names: &[GuardianName],
        terminal: &Terminal,
    ) -> Result<Vec<GuardianCertificates>, Failure> {
        let certificates = |name| self.certificates(home, name, terminal);
        names.iter().map(certificates).collect()
    }

    /// The certificates of the guardian `name`, for whom something is to be protected now.
    pub(crate) fn certificates(
        &self,
        home: &Home,
        name: &GuardianName,
        terminal: &Terminal,
    ) -> Result<GuardianCertificates, Failure> {
        let guardian = home.guardian(name)?;
        if guardian.trust.trusted_by == TrustedBy::Nobody {
            terminal.note(format!(
                "warning: `{name}` was imported on nobody's word; whoever made its document will be able to open this"
            ));
        }
        let expired = match self.allow_expired {
            true => Expired::Allow,
            false => Expired::Refuse,
        };
        guardian.trusted(expired, now())
    }
}
