//! `hgs vm-image re-enrol`.

use std::fmt;
use std::path::PathBuf;

use hgs_crypto::hex;
use hgs_tcg::event_log::Limits;
use hgs_terminal::{AtFault, Exit, Failure, Terminal, read_input};
use hgs_vm::description::Description;
use hgs_vm::image::measured::MeasuredBoot;
use hgs_vm::image::re_enrol;
use hgs_vm::swtpm::StateKey;
use serde::Serialize;

use super::recovery::RecoveryKeyOption;
use super::{current_generation, image_failure, parts, tools};
use crate::guardian::{GuardianName, Home};
use crate::protector::PassphraseOption;

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
    #[command(flatten)]
    recovery_key: RecoveryKeyOption,
    /// The log of a boot in the new state (binary_bios_measurements), instead of what the firmware's variables say
    #[arg(long, value_name = "FILE")]
    event_log: Option<PathBuf>,
}

impl Arguments {
    pub(super) fn run(self, home: &Home, terminal: &Terminal) -> Result<Exit, Failure> {
        let (_, protector) = current_generation(&self.folder)?;
        let boot = self.measured()?;
        let own = self.unlock.unlock(home, &self.owner)?;
        let opened = own.open(&protector)?;
        let state_key = StateKey::of_transport_key(opened.transport_key().secret())?;
        let recovery_key = self.recovery_key.read()?;
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
        MeasuredBoot::of_vm(&self.folder, &description).map_err(image_failure)
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
