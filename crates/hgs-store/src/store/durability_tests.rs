//! What was acknowledged is on the disk: killed at any moment, and watched by strace.

use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::{env, fs, thread};

use super::*;
use crate::fixture::*;
use crate::high_water_mark::default_path;
use crate::{Standing, Transaction};
use hgs_pki::health::HealthKind;

const DIRECTORY: &str = "OPENHGS_TEST_DIRECTORY";
const RUN: &str = "OPENHGS_TEST_RUN";
const COUNT: &str = "OPENHGS_TEST_COUNT";
const THREADS: &str = "OPENHGS_TEST_THREADS";
const DURABILITY: &str = "OPENHGS_TEST_DURABILITY";

/// Not a test of its own, but the process that the tests below kill or watch: it records releases
/// and says so on its standard output, one line each.
#[test]
fn child_process() {
    let Some(directory) = env::var_os(DIRECTORY) else {
        return;
    };
    let durability = match env::var(DURABILITY).as_deref() {
        Ok("off") => Durability::DangerouslyOff,
        _ => Durability::Full,
    };
    let master_key = master_key();
    let opening = opening(directory.as_ref(), &master_key);
    let store = Store::open_with(opening, durability, &Program::this()).unwrap();
    let (run, count, threads) = (number(RUN), number(COUNT), number(THREADS));
    thread::scope(|scope| {
        for one in 0..threads {
            let store = &store;
            scope.spawn(move || acknowledge(store, (run * 100 + one) * 1_000_000, count));
        }
    });
}

fn number(name: &str) -> u64 {
    env::var(name).unwrap().parse().unwrap()
}

/// One VM is started again and again, and its host attests now and then.
fn acknowledge(store: &Store, first: u64, count: u64) {
    let state = store.state();
    let signer = state.attestation_signers().next().unwrap().thumbprint();
    let guardian = state.certificates().next().unwrap().thumbprint();
    for number in first..first + count {
        // All on one day, so that nothing is forgotten meanwhile.
        let second = number.cast_signed() % 86_400;
        let release = release(signer, guardian, second, number, number + 1);
        let recorded = record(store, release).unwrap();
        let line = format!("ack {} {}\n", recorded.sequence(), number);
        io::stdout().write_all(line.as_bytes()).unwrap();
        if number % 5 == 0 {
            let identity = attestation(number, HealthKind::Encryption);
            let attested = Transaction::RecordAttestation(identity);
            // New identity keys come slowly enough to be accepted.
            let slowly = act(40 * number.cast_signed());
            let committed = store.transact(vec![attested], slowly).unwrap();
            let line = format!("attested {} {number}\n", committed.sequence);
            io::stdout().write_all(line.as_bytes()).unwrap();
        }
    }
}

fn child(program: Command, directory: &Path, run: u64, count: u64, threads: u64) -> Command {
    let mut command = program;
    command
        .args(["--exact", "store::durability_tests::child_process"])
        .args(["--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .env(RUN, run.to_string())
        .env(COUNT, count.to_string())
        .env(THREADS, threads.to_string())
        .stdout(Stdio::piped());
    command
}

#[test]
fn no_acknowledged_record_is_lost_when_the_process_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    drop(Fixture::new().create(&directory));
    let mut acknowledged = HashMap::new();
    for run in 0..15 {
        let program = Command::new(env::current_exe().unwrap());
        let mut child = child(program, &directory, run, u64::MAX >> 32, 3)
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut lines = output.lines().map(|line| line.unwrap());
        // Killed after more acknowledgements each time, in the midst of the next commits.
        let wanted = 1 + 11 * usize::try_from(run).unwrap();
        let mut read: Vec<String> = lines.by_ref().take(wanted + 4).collect();
        child.kill().unwrap();
        // What it wrote before it died was acknowledged as well.
        read.extend(lines);
        child.wait().unwrap();
        acknowledged.extend(read.iter().filter_map(|line| parse(line)));

        is_refused_without_its_log(&directory);
        // A crash is no rollback.
        let store = open(&directory).unwrap();
        for (sequence, acknowledged) in &acknowledged {
            let record = store.audit_record(*sequence).unwrap();
            let entry = record.expect("an acknowledged record is there").entry;
            match acknowledged {
                Acknowledged::Release(number) => {
                    assert_eq!(entry.egress_protector, Some(digest(number + 1)));
                    assert!(store.seen(&digest(number + 1)).unwrap().is_some());
                }
                Acknowledged::Attestation(number) => {
                    let state = store.state();
                    assert!(state.host_identity(&HOST, &digest(*number)).is_some());
                }
            }
        }
    }
    assert!(acknowledged.len() > 15 * 11 * 7, "{}", acknowledged.len());
}

/// Of a process that was killed, the log of the database is a part of the state.
fn is_refused_without_its_log(directory: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("state");
    fs::create_dir(&copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o700)).unwrap();
    fs::copy(directory.join("state.db"), copy.join("state.db")).unwrap();
    let mark = folder.path().join("high-water-mark");
    fs::copy(default_path(directory), &mark).unwrap();
    let key = master_key();
    let opening = Opening {
        high_water_mark: mark,
        ..opening(&copy, &key)
    };
    let error = Store::open(opening).err().expect("its log is missed");
    assert!(matches!(error, OpenError::RolledBack(_)), "{error}");
}

enum Acknowledged {
    Release(u64),
    Attestation(u64),
}

fn parse(line: &str) -> Option<(u64, Acknowledged)> {
    let mut words = line.split(' ');
    let kind: fn(u64) -> Acknowledged = match words.next()? {
        "ack" => Acknowledged::Release,
        "attested" => Acknowledged::Attestation,
        _ => return None,
    };
    let sequence = words.next()?.parse().ok()?;
    // The last line may have been cut off by the kill.
    Some((sequence, kind(words.next()?.parse().ok()?)))
}

#[test]
fn the_log_is_synced_before_anything_is_acknowledged() {
    let watched = watch("full");
    assert_eq!(watched.acknowledgements, 40);
    assert!(watched.log_writes >= 40, "{}", watched.log_writes);
    assert_eq!(watched.premature, 0);
}

/// The test above would see a store that does not wait for the disk.
#[test]
fn a_store_that_does_not_sync_is_caught() {
    let watched = watch("off");
    assert_eq!(watched.acknowledgements, 40);
    assert!(watched.log_writes >= 40, "{}", watched.log_writes);
    assert_eq!(watched.premature, 40);
}

#[derive(Default)]
struct Watched {
    acknowledgements: usize,
    log_writes: usize,
    /// Acknowledgements that were written while the log was not yet synced.
    premature: usize,
}

/// Lets a child record 40 releases under strace, and reads what it did in which order.
fn watch(durability: &str) -> Watched {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    drop(Fixture::new().create(&directory));
    let trace = folder.path().join("trace");
    let mut strace = Command::new(hgs_testkit::tool("strace", "strace"));
    strace
        .args([
            "-f",
            "-y",
            "-e",
            "trace=write,pwrite64,fsync,fdatasync",
            "-o",
        ])
        .arg(&trace)
        .arg(env::current_exe().unwrap());
    let mut child = child(strace, &directory, 1, 40, 1);
    let output = child.env(DURABILITY, durability).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "strace failed: {errors}");
    read_trace(&fs::read_to_string(&trace).unwrap())
}

fn read_trace(trace: &str) -> Watched {
    let mut watched = Watched::default();
    let mut unsynced = false;
    // By thread: a sync that another thread's call interrupted in the listing.
    let mut interrupted = HashMap::new();
    for line in trace.lines() {
        let (thread, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        let on_log = call.contains("/state.db-wal>");
        let sync = call.starts_with("fdatasync(") || call.starts_with("fsync(");
        if call.starts_with("pwrite64(") && on_log {
            watched.log_writes += 1;
            unsynced = true;
        } else if sync && call.ends_with("<unfinished ...>") {
            interrupted.insert(thread, on_log);
        } else if call.contains("sync resumed>") && call.ends_with("= 0") {
            unsynced &= interrupted.remove(thread) != Some(true);
        } else if sync && on_log && call.ends_with("= 0") {
            unsynced = false;
        } else if call.starts_with("write(1<") && call.contains("\"ack ") {
            watched.acknowledgements += 1;
            watched.premature += usize::from(unsynced);
        }
    }
    watched
}

/// A crash between two releases of the same protector leaves a tree that still tells them apart.
#[test]
fn a_protector_that_was_released_before_a_crash_is_a_head_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    drop(Fixture::new().create(&directory));
    let program = Command::new(env::current_exe().unwrap());
    let output = child(program, &directory, 0, 3, 1).output().unwrap();
    assert!(output.status.success());
    let store = open(&directory).unwrap();
    let state = store.state();
    let signer = state.attestation_signers().next().unwrap().thumbprint();
    let guardian = state.certificates().next().unwrap().thumbprint();
    let standing = |ingress, egress| {
        let release = release(signer, guardian, 100, ingress, egress);
        record(&store, release).unwrap().standing()
    };
    assert_eq!(standing(3, 1_000), Standing::Head);
    assert_eq!(standing(3, 1_001), Standing::Head);
    assert_eq!(standing(1, 1_002), Standing::Ancestor);
}
