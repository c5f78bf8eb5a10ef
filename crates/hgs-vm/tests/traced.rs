//! What strace and /proc see of a re-key: where the key goes, and what is on the disk before the pointer is switched.

mod common;

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{Vm, key, protector, settings, successor, swtpm};
use hgs_testkit::{tool, traced_calls};
use hgs_vm::generation::StateFolder;
use hgs_vm::rekey::{Step, rekey};
use hgs_vm::swtpm::{Contents, Swtpm};
use hgs_vm::synchroniser::Synchroniser;

const FOLDER: &str = "TRACED_TEST_FOLDER";
/// With it, the TPM only runs, and writes.
const RUN: &str = "TRACED_TEST_RUN";

/// Not a test but what strace watches: it re-keys the VM in a folder. Without the variable there is nothing to do.
#[test]
fn agent() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let mut state = StateFolder::open(folder.as_ref()).unwrap();
    if std::env::var_os(RUN).is_some() {
        return run(&state);
    }
    let protector = protector(2);
    rekey(
        swtpm(),
        &mut state,
        &key(1),
        &successor(&key(2), &protector),
        &mut |_| (),
    )
    .unwrap();
}

fn run(state: &StateFolder) {
    let (current, key) = (state.current().unwrap(), key(1));
    let mut swtpm = Swtpm::start(&settings(current.path(), Contents::Kept, &key)).unwrap();
    let synchroniser = Synchroniser::watch(current.path()).unwrap();
    swtpm.initialise().unwrap();
    let mut tpm = swtpm.open().unwrap();
    tpm.start_up().unwrap();
    tpm.shut_down().unwrap();
    drop(tpm);
    swtpm.shut_down().unwrap();
    drop(synchroniser);
}

fn traced(vm: &Vm, calls: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let trace = vm.beside().join("trace");
    let status = Command::new(tool("strace", "strace"))
        .args([
            "-f",
            "-y",
            "-s",
            "65536",
            "-e",
            &format!("trace={calls}"),
            "-o",
        ])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["agent", "--exact", "--nocapture"])
        .env(FOLDER, vm.folder())
        .envs(variables.iter().copied())
        .status()
        .unwrap();
    assert!(status.success());
    traced_calls(&fs::read_to_string(trace).unwrap())
}

#[test]
fn a_key_is_written_to_a_pipe_and_nowhere_else() {
    let vm = Vm::new();
    let lines = traced(
        &vm,
        "write,writev,pwrite64,pwritev,sendto,sendmsg,execve,openat,memfd_create,read",
        &[],
    );
    // The source's key once; the destination's for it and for the check.
    for (key, times) in [(key(1), 1), (key(2), 2)] {
        let text = String::from_utf8(key.secret().expose().to_vec()).unwrap();
        let part = &text[16..];
        let hexadecimal = hgs_crypto::hex::encode(&text.as_bytes()[..16]);
        let shown: Vec<_> = lines
            .iter()
            .filter(|line| line.contains(part) || line.to_lowercase().contains(&hexadecimal))
            .collect();
        let read = shown.iter().filter(|line| line.contains(" read(")).count();
        assert_eq!((shown.len() - read, read), (times, times), "{shown:?}");
        for line in shown {
            assert!(line.contains("<pipe:["), "{line}");
        }
    }
    // The trace shows what swtpm writes, and keys where they are.
    assert!(lines.iter().any(|line| line.contains("TMP2-00.permall")));
}

#[test]
fn all_is_on_the_disk_before_the_pointer_is_switched_and_before_the_old_is_removed() {
    let vm = Vm::new();
    // The generation before the one that is current is kept; the one before that is removed.
    let (key, protector) = (key(1), protector(1));
    rekey(
        swtpm(),
        &mut vm.open(),
        &key,
        &successor(&key, &protector),
        &mut |_| (),
    )
    .unwrap();
    let calls = "fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir";
    let lines = traced(&vm, calls, &[]);
    let after = |from: usize, what: &str, parts: &[&str]| {
        let found = lines[from..]
            .iter()
            .position(|line| parts.iter().all(|part| line.contains(part)));
        from + found.unwrap_or_else(|| panic!("{what} after line {from}: {lines:#?}"))
    };
    let folder = vm.folder().canonicalize().unwrap();
    let named = |path: &str| format!("<{}{path}>", folder.display());
    let written = after(0, "swtpm's file", &["rename(", "gen-3/tpm2-00.permall"]);
    let switched = after(written, "the switch", &["rename", "/current\""]);
    let before_the_switch = [
        named("/gen-3/.protector.xml.new"),
        named("/gen-3/tpm2-00.permall"),
        named("/gen-3"),
        named(""),
        named("/.current.new"),
    ];
    let mut last = written;
    for place in &before_the_switch {
        let synchronised = after(last, place, &["fsync(", place]);
        assert!(synchronised < switched, "{place}: {lines:#?}");
        last = synchronised;
    }
    let lasting = after(switched, "the switch lasts", &["fsync(", &named("")]);
    let removed = after(switched, "the removal", &["rename", "/gen-1\""]);
    assert!(lasting < removed, "{lines:#?}");
}

#[test]
fn what_swtpm_writes_while_a_vm_runs_is_synchronised() {
    let vm = Vm::new();
    let lines = traced(&vm, "rename,fsync,execve", &[(RUN, "")]);
    let last = |parts: &[&str]| {
        let all = |line: &&String| parts.iter().all(|part| line.contains(part));
        lines.iter().rposition(|line| all(&line))
    };
    let renamed = last(&["rename(", "gen-1/tpm2-00.permall"]).expect("swtpm wrote");
    for place in ["gen-1/tpm2-00.permall>", "gen-1>"] {
        assert!(last(&["fsync(", place]) > Some(renamed), "{lines:#?}");
    }
}

#[test]
fn neither_arguments_nor_environment_nor_another_child_have_the_key() {
    let vm = Vm::new();
    let before = descriptors_of_a_child();
    let mut seen = 0;
    let texts = [1, 2].map(|number| key(number).secret().expose().to_vec());
    let hexadecimal = texts
        .each_ref()
        .map(|text| hgs_crypto::hex::encode(text).into_bytes());
    let told = &mut |step: Step| {
        let (Step::SourceStarted(id) | Step::DestinationStarted(id) | Step::CheckStarted(id)) =
            step
        else {
            return;
        };
        seen += 1;
        for file in ["cmdline", "environ"] {
            let octets = fs::read(format!("/proc/{id}/{file}")).unwrap();
            assert!(file == "environ" || !octets.is_empty());
            for key in texts.iter().chain(&hexadecimal) {
                assert!(!octets.windows(key.len()).any(|part| part == key), "{file}");
            }
        }
        assert_eq!(
            descriptors_of_a_child(),
            before,
            "the pipes are swtpm's alone"
        );
    };
    rekey(
        swtpm(),
        &mut vm.open(),
        &key(1),
        &successor(&key(2), &protector(2)),
        told,
    )
    .unwrap();
    assert_eq!(seen, 3);
}

/// A process that another thread starts at the wrong moment would keep a pipe open, or could read it.
#[test]
fn no_child_of_another_thread_inherits_a_pipe() {
    let vm = Vm::new();
    let before = descriptors_of_a_child();
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let children = scope.spawn(|| {
            let mut counts = Vec::new();
            while !ended.load(Ordering::Relaxed) {
                counts.push(descriptors_of_a_child());
            }
            counts
        });
        let mut state = vm.open();
        for round in 1..=15 {
            let (old, new) = (key(round), key(round + 1));
            let protector = protector(round + 1);
            let new = successor(&new, &protector);
            rekey(swtpm(), &mut state, &old, &new, &mut |_| ()).unwrap();
        }
        ended.store(true, Ordering::Relaxed);
        let counts = children.join().unwrap();
        assert!(counts.len() > 15, "{}", counts.len());
        assert!(counts.iter().all(|count| *count == before), "{counts:?}");
    });
}

/// How many file descriptors a child has that is started now.
fn descriptors_of_a_child() -> usize {
    let output = Command::new("ls").args(["/proc/self/fd"]).output().unwrap();
    assert!(output.status.success());
    output.stdout.split(|octet| *octet == b'\n').count()
}
