//! What a program that holds keys does to itself before it reads the first one. Only a program's
//! `main` calls this: it is about the process, not about one server.

use std::io;

use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask,
};

/// Keeps the memory out of core dumps and away from debuggers of the same user, and makes new
/// files and sockets the owner's alone.
///
/// # Errors
/// When the kernel refuses. A program that goes on then should say so.
pub fn harden() -> io::Result<()> {
    umask(Mode::RWXG | Mode::RWXO);
    setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    )?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}
