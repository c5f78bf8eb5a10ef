//! `hgs`: the guardian's and the owner's program.
//!
//! `hgs NOUN VERB [NAME|FILE] [--flag]`. The owner's commands (`guardian`, `protector`) work on files and need nobody;
//! those of the administrator talk to a running service over its socket. Statuses: 0 done, 1 failed, 2 invalid or
//! refused, 64 usage.

mod administration;
mod arguments;
mod bits;
mod certified;
mod clock;
mod failures;
mod guardian;
mod init;
mod protector;
mod quickstart;
mod serve;
mod server;
mod state;
mod trace;

use std::process::ExitCode;

fn main() -> ExitCode {
    hgs_terminal::run::<arguments::Arguments>()
}
