//! `guarded-host vm migrate`: running VMs go to another host.

use std::fmt;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use hgs_agent::{Client, ClientError, MIGRATION_PORT, MachineState, Migrated, Request};
use hgs_terminal::{AtFault, Exit, Failure, Terminal};
use serde::Serialize;

use crate::agent::client_failure;

/// Move a running VM to another host, which its agent has to take
///
/// The guest goes on, with its memory, its disk and its TPM. The agent of the other host runs with `--listen`, is attested, and has
/// the keys of the VM released for itself; both agents prove to each other that they have them before anything of the VM moves.
/// The VM is deleted here when it runs there. Every failure before that leaves it running here, and says why.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  guarded-host vm migrate web1 --to host2.example.org
  guarded-host vm migrate web1 --to 192.0.2.7:9000
  guarded-host vm migrate --all --to host2.example.org --at-once 2")]
pub(crate) struct Arguments {
    /// The VM
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    name: Option<String>,
    /// The host that it goes to: a name or an address, and the port if it is not 7790
    #[arg(long, value_name = "HOST[:PORT]")]
    to: String,
    /// Every VM of this host that runs, one after another
    #[arg(long)]
    all: bool,
    /// With --all: how many at the same time
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=4), requires = "all")]
    at_once: u8,
}

impl Arguments {
    pub(crate) fn run(self, client: &Client, terminal: &Terminal) -> Result<Exit, Failure> {
        let request = |name: String| Request::Migrate {
            name,
            to: self.to.clone(),
        };
        if let Some(name) = &self.name {
            let steps = |what: &str| terminal.note(format_args!("{what} ..."));
            let migrated = client.ask(&request(name.clone()), steps);
            terminal.report(&Moved(migrated.map_err(client_failure)?))?;
            return Ok(Exit::Done);
        }
        let running = client.list().map_err(client_failure)?.into_iter();
        let mut running = running.filter(|vm| vm.state == MachineState::Running);
        let queue: Mutex<Vec<String>> = Mutex::new(running.by_ref().map(|vm| vm.name).collect());
        let (told, events) = mpsc::channel();
        let mut exit = Exit::Done;
        thread::scope(|scope| {
            for _ in 0..self.at_once {
                let (told, queue) = (told.clone(), &queue);
                scope.spawn(move || {
                    while let Some(name) = next(queue) {
                        let step = |what: &str| {
                            drop(told.send((name.clone(), Event::Step(what.to_owned()))))
                        };
                        let outcome = client.ask(&request(name.clone()), step);
                        let _ = told.send((name, Event::End(outcome)));
                    }
                });
            }
            drop(told);
            for (name, event) in events {
                match event {
                    Event::Step(what) => terminal.note(format_args!("{name}: {what} ...")),
                    Event::End(Ok(migrated)) => terminal.step(&Moved(migrated))?,
                    Event::End(Err(error)) => {
                        exit = Exit::Failed;
                        terminal.step(&Stays {
                            name,
                            error: error.to_string(),
                        })?;
                    }
                }
            }
            Ok(exit)
        })
    }
}

fn next(queue: &Mutex<Vec<String>>) -> Option<String> {
    let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    match queue.is_empty() {
        true => None,
        false => Some(queue.remove(0)),
    }
}

/// What is heard of one of several migrations.
enum Event {
    Step(String),
    End(Result<Migrated, ClientError>),
}

#[derive(Serialize)]
#[serde(transparent)]
struct Moved(Migrated);

impl fmt::Display for Moved {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Migrated { name, to }) = self;
        writeln!(
            formatter,
            "The VM {name} runs on {to}, and is deleted here."
        )
    }
}

#[derive(Serialize)]
struct Stays {
    name: String,
    error: String,
}

impl fmt::Display for Stays {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "The VM {} was not migrated: {}",
            self.name, self.error
        )
    }
}

/// Where an agent listens for others.
pub(crate) fn listen_address(text: &str) -> Result<std::net::SocketAddr, String> {
    let address = text.parse().or_else(|_| {
        let address = text.trim_start_matches('[').trim_end_matches(']');
        let address = address.parse::<std::net::IpAddr>();
        address.map(|address| std::net::SocketAddr::new(address, MIGRATION_PORT))
    });
    address.map_err(|_| {
        format!("an address of this host, with a port if it is not {MIGRATION_PORT}, such as 192.0.2.7 or [::]:7790")
    })
}

/// What has to be sure before a VM is reclaimed.
pub(crate) fn reclaim(
    name: String,
    client: &Client,
    terminal: &Terminal,
) -> Result<Request, Failure> {
    let vm = client.list().map_err(client_failure)?.into_iter();
    if let Some(vm) = vm.into_iter().find(|vm| vm.name == name)
        && vm.state != MachineState::Migrating
    {
        return Err(Failure::refused(format_args!(
            "{name} is {}, and not waiting for the end of a migration",
            vm.state
        ))
        .at_fault(AtFault::Operator));
    }
    terminal.confirm(format_args!(
        "Have {name} go on here? If it runs at its destination, there will be two of it, and both will damage what they share."
    ))?;
    Ok(Request::Reclaim { name })
}
