//! `hgs vm-image clone`.

use std::fmt;
use std::path::PathBuf;

use hgs_client::sealed_file::{self, SealedAnew, SealedFile};
use hgs_crypto::SecretBytes;
use hgs_crypto::random::System;
use hgs_terminal::{AtFault, Exit, Failure, Terminal};
use hgs_vm::description::{Description, VmId};
use hgs_vm::image::{Clone, CloneStep, StrictClone, clone};
use hgs_vm::protection::Protection;
use hgs_vm::swtpm::StateKey;
use serde::Serialize;

use super::prepare::{refuse_existing, vm_keys, vm_name, vtpm_maker, vtpm_replacer};
use super::recovery::{NewRecoveryKeyOption, RecoveryKeyOption, ToldRecoveryKey};
use super::{Shown, current_generation, image_failure, parts, tools};
use crate::failures::OrFail as _;
use crate::guardian::{GuardianName, Home};
use crate::protector::{PassphraseOption, ProtectOptions};

/// Make a second VM from the folder of one: with an identifier, a virtual TPM's identity and a key protector of its own
///
/// The disk of the clone opens with its virtual TPM, and with the recovery key of the original. Both TPMs can open what was sealed
/// for either before. `--strict` makes a new TPM, encrypts the disk under a new key and gives it a new recovery key; then the two
/// share nothing, and what the guest itself kept in its TPM is not in the clone's.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs vm-image clone web1 web2 --owner ann --guardian fabric
  hgs vm-image clone web1 web2 --owner ann --guardian fabric --strict --recovery-key-from file:web1.recovery --recovery-key-file web2.recovery")]
pub(crate) struct Arguments {
    /// The folder of the original, which must not run; it stays as it is
    folder: PathBuf,
    /// The folder to make; its name is the clone's
    clone: PathBuf,
    /// The guardian of one's own that owns the original, and will own the clone
    #[arg(long, value_name = "NAME")]
    owner: GuardianName,
    /// A guardian that may release the clone's keys to its hosts; may be given several times
    #[arg(long, value_name = "NAME", required = true)]
    guardian: Vec<GuardianName>,
    #[command(flatten)]
    protect: ProtectOptions,
    #[command(flatten)]
    unlock: PassphraseOption,
    /// Share no key with the original: a new TPM, and a disk that is encrypted anew
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    recovery_key: RecoveryKeyOption,
    #[command(flatten)]
    new_recovery_key: NewRecoveryKeyOption,
}

impl Arguments {
    pub(super) fn run(self, home: &Home, terminal: &Terminal) -> Result<Exit, Failure> {
        let operator =
            |error: &dyn std::error::Error| Failure::of(error).at_fault(AtFault::Operator);
        if !self.strict
            && (self.recovery_key.recovery_key_from.is_some()
                || self.new_recovery_key.recovery_key_file.is_some())
        {
            return Err(Failure::usage(
                "recovery keys are for clones with `--strict`",
            ));
        }
        let name = vm_name(&self.clone)?;
        refuse_existing(&self.clone, &self.new_recovery_key)?;
        let described = Description::load(&self.folder).map_err(|error| operator(&error))?;
        let (current, protector) = current_generation(&self.folder)?;
        let sealed = current.protection()?;
        let guardians = self.protect.all(home, &self.guardian, terminal)?;
        let owner = self.protect.certificates(home, &self.owner, terminal)?;
        let (own, passphrase) = self.unlock.unlock_with_passphrase(home, &self.owner)?;
        let opened = own.open_as_owner(&protector)?;
        let document = SealedFile::read(&sealed).or_fail()?;
        let document = document.open(opened.transport_key()).or_fail()?;
        let protection = Protection::read(document.expose()).map_err(|error| operator(&error))?;
        (protection.check_vm(described.id)).map_err(|error| operator(&error))?;
        let vm_keys = vm_keys(home, &self.owner, &passphrase, terminal)?;

        let mut random = System::new();
        let id = VmId::new(&mut random)?;
        let protection = Protection {
            vm: id,
            ..protection
        };
        let document = SecretBytes::new(protection.to_json());
        let keys = &mut &own.keys;
        let sealed = sealed_file::seal_anew(&document, &owner, &guardians, keys, &mut random);
        let SealedAnew {
            key,
            protector,
            file,
        } = sealed.or_fail()?;
        let recovery_key = match self.strict {
            true => Some(self.recovery_key.read()?),
            false => None,
        };
        let tools = tools(&parts(terminal)?)?;
        let vm = name.to_string();
        let (mut make, mut replace) = (
            vtpm_maker(&tools, &vm_keys, &vm),
            vtpm_replacer(&tools, &vm_keys, &vm),
        );
        let request = Clone {
            original: &self.folder,
            original_key: &StateKey::of_transport_key(opened.transport_key().secret())?,
            target: &self.clone,
            name,
            id,
            state_key: &StateKey::of_transport_key(key.secret())?,
            protector: protector.octets(),
            protection: &file,
            make_vtpm: match self.strict {
                true => &mut make,
                false => &mut replace,
            },
            strict: recovery_key
                .as_ref()
                .map(|recovery_key| StrictClone { recovery_key }),
        };
        let mut shown = Shown::default();
        let new_key = clone(request, &tools, &mut |step| {
            show(step, &mut shown, terminal)
        });
        let new_key = new_key.map_err(image_failure)?;
        let told = new_key.map(|key| self.new_recovery_key.tell(&key));
        terminal.report(&Done {
            folder: self.clone.display().to_string(),
            id: id.to_string(),
            policy: protection.policy.to_string(),
            protector: protector.digest().to_string(),
            recovery_key: told.transpose()?,
        })?;
        Ok(Exit::Done)
    }
}

fn show(step: CloneStep, shown: &mut Shown, terminal: &Terminal) {
    match step {
        CloneStep::Vtpm => shown.step("making the clone's virtual TPM", terminal),
        CloneStep::Copying(done, all) => shown.share("copying", done, all, terminal),
        CloneStep::Encrypting(done, all) => {
            shown.share("encrypting the disk anew", done, all, terminal);
        }
        CloneStep::Enrolling => shown.step("sealing the disk's key to the virtual TPM", terminal),
        _ => {}
    }
}

#[derive(Serialize)]
struct Done {
    folder: String,
    id: String,
    policy: String,
    protector: String,
    #[serde(flatten)]
    recovery_key: Option<ToldRecoveryKey>,
}

impl fmt::Display for Done {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { folder, policy, .. } = self;
        writeln!(formatter, "The clone is in {folder} (policy {policy}).")?;
        match &self.recovery_key {
            Some(told) => told.fmt(formatter)?,
            None => writeln!(
                formatter,
                "The recovery key of the original opens its disk."
            )?,
        }
        writeln!(
            formatter,
            "Give the whole folder to the fabric: `guarded-host vm import`."
        )
    }
}
