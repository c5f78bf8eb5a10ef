//! What a program that holds keys does to itself before it reads the first one. Only a program's
//! `main` calls this: it is about the process, not about one server.

use std::io;

use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask,
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

/// Lets this process open as many files as it may: shells and init systems start programs with a low soft limit for the
/// sake of `select`, which is not used here.
///
/// # Errors
/// When the kernel refuses.
pub fn raise_file_limit() -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let current = maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current, maximum })?)
}
