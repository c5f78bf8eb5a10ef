//! `guarded-host`: what an administrator of a host does by hand.
//!
//! Everything is in the library `hgs-client`; here are the words on the command line and what they
//! answer. Statuses: 0 done, 1 failed, 2 invalid or refused, 64 usage.

mod arguments;
mod attest;
mod configure;
mod failure;
mod host_key;
mod place;
mod protector;
mod status;
mod trace;

use std::process::ExitCode;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // Released keys are no business of a core dump. Where the system can't, it can't.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    log();
    hgs_terminal::run::<arguments::Arguments>()
}

/// Warnings go to standard error; `HGS_LOG` asks for more.
fn log() {
    let filter = EnvFilter::try_from_env("HGS_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .init();
}
