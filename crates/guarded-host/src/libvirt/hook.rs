//! What libvirt runs when something happens to a domain.
//!
//! A status other than 0 refuses the operation, and what is on standard error is what `virsh` shows. A hook must not call
//! libvirt, which waits for it.

use std::io::Read as _;

use hgs_agent::{AgentFolders, Client, HeldTpm, Request, concerns_shielded_vm};
use hgs_terminal::{AtFault, Exit, Failure, Terminal};
use hgs_vm::libvirt::LIMIT;

use crate::agent::client_failure;

/// What libvirt gives its hooks.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The user that libvirt's QEMU runs as
    #[arg(long, value_name = "NAME", default_value = "root")]
    user: String,
    /// The name of the domain
    domain: String,
    /// What happens to it
    operation: String,
    /// Which part of that
    sub_operation: String,
    /// Something that belongs to the operation, or `-`
    extra: String,
}

/// What the agent has to do with it.
enum Event {
    /// The domain is about to start, or to come from another host.
    Begins,
    /// Its QEMU has ended, or did not start.
    HasEnded,
    Nothing,
}

impl Event {
    fn of(operation: &str, sub_operation: &str) -> Self {
        match (operation, sub_operation) {
            ("prepare", "begin") => Self::Begins,
            ("release", "end") => Self::HasEnded,
            _ => Self::Nothing,
        }
    }
}

impl Arguments {
    pub(super) fn run(self, folders: &AgentFolders, terminal: &Terminal) -> Result<Exit, Failure> {
        let event = Event::of(&self.operation, &self.sub_operation);
        if let Event::Nothing = event {
            return Ok(Exit::Done);
        }
        let mut domain = Vec::new();
        let read = std::io::stdin()
            .lock()
            .take(LIMIT as u64 + 1)
            .read_to_end(&mut domain);
        read.map_err(|error| {
            Failure::of(&error)
                .at_fault(AtFault::Ourselves)
                .while_doing("reading the domain's XML")
        })?;
        // What can't be read is refused where it is read, if it is a shielded VM's.
        let domain = String::from_utf8_lossy(&domain).into_owned();
        if !concerns_shielded_vm(folders, &domain) {
            return Ok(Exit::Done);
        }
        let request = match event {
            Event::HasEnded => Request::LetTpmGo { domain },
            _ => Request::HoldTpm {
                domain,
                user: number_of(&self.user)?,
            },
        };
        let client = Client::new(&folders.socket());
        let held: HeldTpm = client.ask(&request, |_| ()).map_err(client_failure)?;
        if let (Some(vm), Event::Begins) = (held.vm, event) {
            terminal.note(format_args!("The TPM of {vm} runs."));
        }
        Ok(Exit::Done)
    }
}

/// The number of a user.
fn number_of(user: &str) -> Result<u32, Failure> {
    let found = match user.parse() {
        Ok(number) => Some(number),
        Err(_) => nix::unistd::User::from_name(user)
            .ok()
            .flatten()
            .map(|user| user.uid.as_raw()),
    };
    found.ok_or_else(|| {
        Failure::failed(format_args!("there is no user {user}"))
            .at_fault(AtFault::Operator)
            .remedy("run `guarded-host libvirt install --user NAME` with the user that libvirt's QEMU runs as")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_works_before_the_start_and_after_the_end_only() {
        let named = |operation, sub_operation| match Event::of(operation, sub_operation) {
            Event::Begins => "begins",
            Event::HasEnded => "has ended",
            Event::Nothing => "nothing",
        };
        assert_eq!(named("prepare", "begin"), "begins");
        assert_eq!(named("release", "end"), "has ended");
        for operation in [
            "start",
            "started",
            "stopped",
            "migrate",
            "reconnect",
            "attach",
            "restore",
            "new",
        ] {
            for sub_operation in ["begin", "end", "-"] {
                assert_eq!(named(operation, sub_operation), "nothing");
            }
        }
        assert_eq!(named("prepare", "end"), "nothing");
        assert_eq!(named("release", "begin"), "nothing");
    }

    #[test]
    fn users_have_numbers() {
        assert_eq!(number_of("root").unwrap(), 0);
        assert_eq!(number_of("64055").unwrap(), 64055);
        let error = number_of("no such user here").unwrap_err();
        assert!(error.message().contains("no such user here"));
    }
}
