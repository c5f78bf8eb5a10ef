//! `hgs quickstart`: the main job, once, on this machine.
//!
//! A guardian on loopback ports of the system's choosing, two guarded hosts, an owner and a key protector: all real, all
//! in a folder of their own. Nothing is installed, nothing is left behind unless `--keep` says where, and no one needs
//! to be root.

mod folder;
mod nodes;
mod participants;
mod progress;
mod scenario;
mod token;
mod tpm;
mod vm;

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::ValueEnum;
use hgs_terminal::{AtFault, Exit, Failure, Terminal};

use folder::Folder;
use progress::Progress;
use token::TokenOptions;

/// Run the main job once: a host attests, and a virtual machine's keys are released, rolled, and refused
///
/// Starts a real guardian on loopback ports, in a folder of its own and without root. Prints what happens and how long it
/// takes, and ends with status 0 only if every step did what it says; a refusal is a step that must be refused.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs quickstart --json --keep ./kept
  hgs quickstart --attestation tpm
  hgs quickstart --nodes 3
  hgs quickstart --vm
  HGS_PKCS11_PIN=1234 hgs quickstart --pkcs11-module /usr/lib/softhsm/libsofthsm2.so --token hgs")]
pub(crate) struct Arguments {
    /// How the host proves its health: by a host key, or by a TPM in software, for which swtpm is needed
    #[arg(long, value_enum, value_name = "MODE", default_value_t)]
    attestation: Attestation,
    /// Start real VMs: QEMU and what else is missing is fetched into the cache of this user, and nothing is installed
    #[arg(long, conflicts_with_all = ["attestation", "keep"])]
    vm: bool,
    /// On so many nodes, each a process of its own with its etcd; one is killed in the middle
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(3..=i64::from(nodes::MOST)), conflicts_with_all = ["attestation", "vm", "pkcs11_module"])]
    nodes: Option<u8>,
    /// Leave the documents in this folder, which must be new or empty
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    #[command(flatten)]
    token: TokenOptions,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Attestation {
    /// By a host key, which the administrator registers
    #[default]
    HostKey,
    /// By a TPM: a real boot is measured and approved, and another one is refused
    Tpm,
}

impl Arguments {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        if let Attestation::Tpm = self.attestation {
            tpm::check_installed()?;
        }
        if self.nodes.is_some() {
            nodes::check_installed()?;
        }
        let parts = self.vm.then(|| vm::parts(terminal)).transpose()?;
        let folder = Folder::prepare(self.keep.as_deref())?;
        let runtime = tokio::runtime::Runtime::new().map_err(failed)?;
        let progress = Progress::new(terminal);
        if let Some(count) = self.nodes {
            runtime.block_on(nodes::tell(&progress, &folder, count))?;
            folder.say_what_is_kept(terminal);
            return Ok(Exit::Done);
        }
        let token = self.token.given();
        runtime.block_on(scenario::tell(
            &progress,
            &folder,
            token.as_ref(),
            self.attestation,
            parts.as_ref(),
        ))?;
        folder.say_what_is_kept(terminal);
        if self.vm {
            terminal.note("The packages that were fetched stay in the cache for the next time.");
        }
        match &token {
            Some(token) => terminal.note(format_args!(
                "The guardian's keys stay in the token {:?}; the next quickstart uses them again.",
                token.label
            )),
            None => terminal.note(
                "With a token: `HGS_PKCS11_PIN=... hgs quickstart --pkcs11-module FILE --token LABEL`.",
            ),
        }
        Ok(Exit::Done)
    }
}

/// Refuses to begin without these programs, each with the package that has it.
fn refuse_without(missing: &[(&str, &str)]) -> Result<(), Failure> {
    if missing.is_empty() {
        return Ok(());
    }
    let (programs, packages): (Vec<_>, BTreeSet<_>) = missing.iter().copied().unzip();
    let packages = Vec::from_iter(packages).join(" ");
    Err(Failure::failed(format_args!(
        "these programs are not installed: {}",
        programs.join(", ")
    ))
    .at_fault(AtFault::Operator)
    .remedy(format!("install their packages: `apt install {packages}`")))
}

/// Every failure here is our own fault: all participants are this program's.
fn failed(error: impl std::error::Error) -> Failure {
    Failure::of(&error).at_fault(AtFault::Ourselves)
}
