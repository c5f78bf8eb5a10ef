//! `hgs vm-image re-enrol`.

use std::fmt;
use std::path::PathBuf;

use hgs_crypto::hex;
use hgs_files::text;
use hgs_tcg::event_log::Limits;
use hgs_terminal::{AtFault, Exit, Failure, PassphraseSource, Terminal, passphrase, read_input};
use hgs_vm::description::{Description, Firmware};
use hgs_vm::generation::{PROTECTOR, StateFolder};
use hgs_vm::image::measured::MeasuredBoot;
use hgs_vm::image::{RecoveryKey, re_enrol, variables};
use hgs_vm::swtpm::StateKey;
use serde::Serialize;

use super::{image_failure, parts, tools};
use crate::guardian::{GuardianName, Home};
use crate::protector::{PassphraseOption, read_valid};

/// Seal the key of a VM's disk to its virtual TPM anew, after an update has changed what is measured
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  hgs vm-image re-enrol web1 --owner ann --recovery-key-from file:web1.recovery")]
pub(crate) struct Arguments {
    /// The folder of the VM, which must not run
    folder: PathBuf,
    /// The guardian of one's own that owns the VM
    #[arg(long, value_name = "NAME")]
    owner: GuardianName,
    #[command(flatten)]
    unlock: PassphraseOption,
    /// Where the recovery key comes from: file:PATH, credential:NAME or env:NAME; otherwise it is asked for
    #[arg(long, value_name = "SOURCE")]
    recovery_key_from: Option<PassphraseSource>,
    /// The log of a boot in the new state (binary_bios_measurements), instead of what the firmware's variables say
    #[arg(long, value_name = "FILE")]
    event_log: Option<PathBuf>,
}

impl Arguments {
    pub(super) fn run(self, home: &Home, terminal: &Terminal) -> Result<Exit, Failure> {
        let operator =
            |error: &dyn std::error::Error| Failure::of(error).at_fault(AtFault::Operator);
        let protector = {
            let state = StateFolder::open(&self.folder).map_err(|error| operator(&error))?;
            let current = state
                .current()
                .ok_or_else(|| Failure::failed("the VM has no vTPM"))?;
            read_valid(&current.path().join(PROTECTOR))?
        };
        let boot = self.measured()?;
        let own = self.unlock.unlock(home, &self.owner)?;
        let opened = own.open(&protector)?;
        let state_key = StateKey::of_transport_key(opened.transport_key().secret())?;
        let typed = passphrase(
            self.recovery_key_from.as_ref(),
            "the recovery key of the disk",
        )?;
        let typed = text(typed.expose().to_vec()).map(zeroize::Zeroizing::new);
        let typed = typed.map_err(|_| Failure::refused("the recovery key is no text"))?;
        let recovery_key = RecoveryKey::read(&typed);
        let recovery_key =
            recovery_key.map_err(|error| Failure::refused(error).at_fault(AtFault::Operator))?;
        let tools = tools(&parts(terminal)?)?;
        re_enrol(&self.folder, &state_key, &recovery_key, &boot, &tools).map_err(image_failure)?;
        terminal.report(&Done {
            folder: self.folder.display().to_string(),
            pcr_7: hex::encode(&boot.pcr_7()),
        })?;
        Ok(Exit::Done)
    }

    /// What the next boot will measure.
    fn measured(&self) -> Result<MeasuredBoot, Failure> {
        let operator =
            |error: &dyn std::error::Error| Failure::of(error).at_fault(AtFault::Operator);
        if let Some(path) = &self.event_log {
            let log = read_input(path, Limits::LOG.octets)?.complete(path, "the log of a boot")?;
            return MeasuredBoot::of_log(&log)
                .map_err(|error| operator(&error).while_doing(path.display()));
        }
        let description = Description::load(&self.folder).map_err(|error| operator(&error))?;
        match description.firmware {
            Firmware::SecureBoot { variables } => {
                let path = variables.within(&self.folder)?;
                let store = hgs_files::read(&path, variables::LIMIT)?;
                MeasuredBoot::of_variables(&store)
                    .map_err(|error| operator(&error).while_doing(path.display()))
            }
            Firmware::DirectKernel(direct) => match direct.variables {
                None => Ok(MeasuredBoot::bios()),
                Some(_) => MeasuredBoot::without_secure_boot().map_err(|error| operator(&error)),
            },
        }
    }
}

#[derive(Serialize)]
struct Done {
    folder: String,
    pcr_7: String,
}

impl fmt::Display for Done {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { folder, pcr_7 } = self;
        writeln!(
            formatter,
            "The disk of {folder} opens with its virtual TPM when PCR 7 is {pcr_7}."
        )
    }
}
