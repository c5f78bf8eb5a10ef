//! What a new key for the state of a VM's TPM costs, beside what swtpm needs to start and end three times, which no
//! re-key does without; and what the start of a TPM costs.

use std::path::Path;
use std::time::{Duration, Instant};

use hgs_crypto::random::System;
use hgs_vm::generation::StateFolder;
use hgs_vm::program::Program;
use hgs_vm::rekey::{Successor, rekey};
use hgs_vm::swtpm::{Channels, Contents, Settings, StateKey, Swtpm, SwtpmError};

use crate::measure::{Effort, Outcome, median};

/// Prints both in milliseconds of a clock: what takes the time is other processes and the disk.
pub(crate) fn rekeys(effort: Effort) -> Outcome<()> {
    let root = tempfile::tempdir()?;
    let swtpm = Program::installed("swtpm");
    let mut key = StateKey::random(&mut System::new())?;
    let mut state = StateFolder::create(&root.path().join("vm"))?;
    let staged = state.stage()?;
    match run(&swtpm, staged.path(), Contents::New, &key) {
        Err(SwtpmError::NotInstalled) => {
            println!("\nleft out: the TPMs of VMs (install swtpm)");
            return Ok(());
        }
        made => made?,
    };
    let complete = state.complete(staged, b"<protector/>")?;
    let mut current = state.switch(complete)?;
    let mut rounds = Vec::new();
    for _ in 0..effort.loads() * 10 {
        let mut starts = Duration::ZERO;
        for _ in 0..3 {
            starts += run(&swtpm, current.path(), Contents::Kept, &key)?;
        }
        let next = StateKey::random(&mut System::new())?;
        let begun = Instant::now();
        let successor = Successor {
            key: &next,
            protector: b"<protector/>",
            protection: b"protection",
        };
        current = rekey(&swtpm, &mut state, &key, &successor, &mut |_| ())?;
        rounds.push((
            starts.as_secs_f64() * 1e3,
            begun.elapsed().as_secs_f64() * 1e3,
        ));
        key = next;
    }
    println!("\n| TPM of a VM | ms | swtpm alone, ms | share |\n|---|---|---|---|");
    let (starts, rekeys) = (
        rounds.iter().map(|one| one.0),
        rounds.iter().map(|one| one.1),
    );
    let shares = rounds.iter().map(|(starts, rekey)| starts / rekey);
    println!(
        "| new key for the state | {:.1} | {:.1} | {:.2} |",
        median(rekeys),
        median(starts),
        median(shares)
    );
    Ok(())
}

/// How long one swtpm takes to start, open the state and end.
pub(crate) fn run(
    program: &Program,
    folder: &Path,
    contents: Contents,
    key: &StateKey,
) -> Result<Duration, SwtpmError> {
    let begun = Instant::now();
    let mut tpm = Swtpm::start(&Settings {
        program,
        folder,
        contents,
        key,
        migration_key: None,
        channels: Channels::Private,
    })?;
    tpm.initialise()?;
    tpm.shut_down()?;
    Ok(begun.elapsed())
}
