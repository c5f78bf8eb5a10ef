//! `hgs`: the program of those who run a guardian and of those who own virtual machines.
//!
//! The grammar is `hgs NOUN VERB [NAME|FILE] [--flag]`. There are four kinds of commands:
//!
//! * *The service*: `init` makes the state of a guardian, `serve` runs it, `server check` reads its configuration,
//!   `trace` diagnoses it, `state` backs it up.
//! * *Several nodes*: `cluster` makes a cluster of a guardian, and lets others join.
//! * *Administration*: `status`, `host`, `certificate`, `signer`, `audit`, `events` and `server` ask the running service over its
//!   admin socket, by the API that `hgs-admin` declares.
//! * *Owners*: `guardian`, `protector` and `vm-image` work on files alone and need no service.
//!
//! `hgs quickstart` shows all of it on one machine. [`arguments`] has the grammar, `hgs_terminal` what a command answers
//! and how it fails. A command ends with 0 when it is done, 1 when it failed, 2 when something is invalid or refused, and
//! 64 for a wrong command line.

mod administration;
mod arguments;
mod bits;
mod certified;
mod clock;
mod cluster;
mod completion;
mod config_option;
mod documents;
mod evidence_files;
mod failures;
mod guardian;
mod init;
mod protector;
mod quickstart;
mod serve;
mod server;
mod software;
mod state;
mod trace;
mod vm_image;

use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::CompleteEnv;
use mimalloc::MiMalloc;

use crate::arguments::Arguments;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Tests have two neighbouring versions of the program by it. No release build looks at it.
const PLAYS_NEXT_VERSION: &str = "OPENHGS_TEST_PLAYS_NEXT_VERSION";

fn main() -> ExitCode {
    if cfg!(debug_assertions) && std::env::var_os(PLAYS_NEXT_VERSION).is_some() {
        hgs_fault::become_next_version();
    }
    // A shell that asks for completions gets its answer, and the process ends.
    CompleteEnv::with_factory(Arguments::command).complete();
    hgs_terminal::run::<Arguments>()
}
