use std::process::ExitCode;

/// How a command ended; the number is the program's exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It did what it says.
    Done = 0,
    /// It could not: a file, a service or the machine is at fault.
    Failed = 1,
    /// What it was given is invalid, or was refused.
    Refused = 2,
    /// It did what it says, and something is left to do, which it names.
    Unfinished = 3,
    /// It was called wrongly: `EX_USAGE` of sysexits.h.
    Usage = 64,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
