//! Whatever is killed during a re-key, and whenever: one pair of state and protector is current, and it opens.

mod common;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::{Vm, key, protector, settings, successor, swtpm};
use hgs_vm::generation::{StateError, StateFolder};
use hgs_vm::rekey::{Step, rekey};
use hgs_vm::swtpm::{Contents, Swtpm};
use rustix::process::{Pid, Signal, getpid, kill_process};

/// The variables with which a test starts this program again, as an agent that re-keys one VM.
const FOLDER: &str = "CRASH_TEST_FOLDER";
const STOP: &str = "CRASH_TEST_STOP";

/// All steps in order, with the processes that can be killed there.
const STEPS: usize = 14;
const STEPS_WITH_A_PROCESS: usize = 7;

/// The number that the protector of the current pair has: the key with that number opens the state.
fn number(state: &StateFolder) -> u8 {
    let read = state.current().unwrap().protector().unwrap();
    let all = 1..=20;
    let mut numbers = all.filter(|number| protector(*number) == read);
    numbers.next().expect("a protector of this test")
}

fn following(number: u8) -> u8 {
    number % 20 + 1
}

/// A process that was killed between fork and exec of a child leaves its lock with that child for a moment.
fn open(folder: &Path) -> StateFolder {
    for _ in 0..1_000_000 {
        match StateFolder::open(folder) {
            Err(StateError::InUse(_)) => thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
    panic!("the lock is never freed");
}

/// One pair is current, and opens; then nothing else stays. Returns its number.
fn check(vm: &Vm, what: &str) -> u8 {
    let mut state = open(&vm.folder());
    let current = state.current().unwrap();
    let number = number(&state);
    let key = key(number);
    let mut tpm = Swtpm::start(&settings(current.path(), Contents::Kept, &key)).unwrap();
    let opened = tpm.initialise();
    opened.unwrap_or_else(|error| panic!("{what}: {error}"));
    tpm.shut_down().unwrap();
    state.remove_others().unwrap();
    let current = format!("gen-{}", current.number());
    assert_eq!(vm.names(), ["current", &current, "lock"], "{what}");
    number
}

/// Not a test but what the tests kill: it re-keys the VM in a folder and writes each step to its output. Without the
/// variable there is nothing to do.
#[test]
fn agent() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let stop: Option<usize> = std::env::var(STOP).ok().map(|stop| stop.parse().unwrap());
    let mut state = open(Path::new(&folder));
    let old = number(&state);
    let new = following(old);
    let mut told = 0;
    rekey(
        swtpm(),
        &mut state,
        &key(old),
        &successor(&key(new), &protector(new)),
        &mut |step| {
            // Not `println`, which tests keep to themselves.
            let mut output = std::io::stdout();
            output
                .write_all(format!("\nstep {step:?}\n").as_bytes())
                .unwrap();
            output.flush().unwrap();
            if stop == Some(told) {
                kill_process(getpid(), Signal::KILL).unwrap();
            }
            told += 1;
        },
    )
    .unwrap();
}

fn start_agent(vm: &Vm, stop: Option<usize>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["agent", "--exact", "--nocapture"])
        .env(FOLDER, vm.folder())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command.envs(stop.map(|stop| (STOP, stop.to_string())));
    command.spawn().unwrap()
}

fn steps(agent: &mut Child) -> Vec<String> {
    let lines = BufReader::new(agent.stdout.take().unwrap()).lines();
    let lines = lines.map(|line| line.unwrap());
    lines.filter(|line| line.starts_with("step ")).collect()
}

#[test]
fn an_agent_that_is_killed_after_each_step_leaves_one_pair_that_opens() {
    let vm = Vm::new();
    let mut switched = 0;
    for round in 0..5 * STEPS {
        let before = check(&vm, "before");
        let stop = round % STEPS;
        let mut agent = start_agent(&vm, Some(stop));
        let steps = steps(&mut agent);
        assert!(!agent.wait().unwrap().success());
        assert_eq!(steps.len(), stop + 1, "{steps:?}");
        let after = check(&vm, &format!("killed after {steps:?}"));
        // The last two steps are told when the pointer has been switched.
        let expected = match stop {
            12.. => following(before),
            _ => before,
        };
        assert_eq!(after, expected, "killed after {steps:?}");
        switched += usize::from(after != before);
    }
    assert_eq!(switched, 10);
}

#[test]
fn an_agent_that_is_killed_at_any_time_leaves_one_pair_that_opens() {
    let vm = Vm::new();
    for round in 0..80 {
        let before = check(&vm, "before");
        let mut agent = start_agent(&vm, None);
        let mut lines = BufReader::new(agent.stdout.take().unwrap()).lines();
        let begun = lines.any(|line| line.unwrap().starts_with("step "));
        assert!(begun, "the agent has begun");
        wait(Duration::from_micros(500 * round));
        agent.kill().unwrap();
        let last = lines.map_while(Result::ok).last();
        agent.wait().unwrap();
        let after = check(&vm, &format!("killed in round {round} after {last:?}"));
        assert!([before, following(before)].contains(&after));
    }
}

fn wait(time: Duration) {
    let (_held, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(time);
}

fn process(step: Step) -> Option<Pid> {
    match step {
        Step::SourceStarted(id)
        | Step::SourceOpened(id)
        | Step::StateRead(id)
        | Step::DestinationStarted(id)
        | Step::StateSet(id)
        | Step::StateWritten(id)
        | Step::CheckStarted(id) => Pid::from_raw(id.cast_signed()),
        _ => None,
    }
}

/// Re-keys, and has the process of the `target`th step that has one killed `delay` after that step.
fn rekey_with_killed_swtpm(vm: &Vm, target: usize, delay: Duration) -> bool {
    let mut state = open(&vm.folder());
    let old = number(&state);
    let new = following(old);
    let mut seen = 0;
    let mut killer = None;
    let done = rekey(
        swtpm(),
        &mut state,
        &key(old),
        &successor(&key(new), &protector(new)),
        &mut |step| {
            let Some(process) = process(step) else { return };
            if seen == target {
                if delay.is_zero() {
                    kill_process(process, Signal::KILL).unwrap();
                } else {
                    killer = Some(thread::spawn(move || {
                        wait(delay);
                        // It may have ended.
                        let _ = kill_process(process, Signal::KILL);
                    }));
                }
            }
            seen += 1;
        },
    );
    if let Some(killer) = killer {
        killer.join().unwrap();
    }
    if let Err(error) = &done {
        assert_eq!(number(&state), old, "{error}");
        let names = vm.names();
        assert_eq!(names.len(), 3, "nothing is left behind: {names:?}, {error}");
    }
    done.is_ok()
}

#[test]
fn a_swtpm_that_is_killed_at_each_step_leaves_one_pair_that_opens() {
    let vm = Vm::new();
    for round in 0..5 * STEPS_WITH_A_PROCESS {
        let before = check(&vm, "before");
        let target = round % STEPS_WITH_A_PROCESS;
        assert!(!rekey_with_killed_swtpm(&vm, target, Duration::ZERO));
        assert_eq!(check(&vm, &format!("step {target}")), before);
    }
}

#[test]
fn a_swtpm_that_is_killed_at_any_time_leaves_one_pair_that_opens() {
    let vm = Vm::new();
    // The source while it opens and gives the state, the destination while it takes and writes it.
    for round in 0..40 {
        let before = check(&vm, "before");
        let target = [0, 3][round % 2];
        let delay = Duration::from_micros(1 + 150 * round as u64);
        let done = rekey_with_killed_swtpm(&vm, target, delay);
        let after = check(&vm, &format!("{delay:?} after step {target}"));
        let expected = if done { following(before) } else { before };
        assert_eq!(after, expected);
    }
}
