//! `guarded-host`: what an administrator of a host does by hand.
//!
//! Everything is in the library `hgs-client`; here are the words on the command line and what they
//! answer. Statuses: 0 done, 1 failed, 2 invalid or refused, 64 usage.

mod agent;
mod arguments;
mod attest;
mod baseline;
mod configure;
mod failure;
mod first_page;
mod host_key;
mod host_options;
mod identity;
mod libvirt;
mod protector;
mod status;
mod token;
mod trace;
mod vm;

use std::process::ExitCode;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

fn main() -> ExitCode {
    // Released keys are no business of a core dump. Where the system can't, it can't.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    hgs_terminal::run::<arguments::Arguments>()
}
