//! A TPM's state moves to a new key, whole or not at all.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::{Vm, key, protector, settings, successor, swtpm};
use hgs_crypto::SecretBytes;
use hgs_vm::generation::{StateError, StateFolder};
use hgs_vm::program::Program;
use hgs_vm::protection::SEALED_FILE;
use hgs_vm::rekey::{RekeyError, Step, rekey};
use hgs_vm::swtpm::{Contents, PERMANENT_STATE, Swtpm, SwtpmError};

/// What tpm2-tools find in a TPM that must survive: EK, EK certificate, SRK, a counter.
fn identity(tools: &common::Tools) -> Vec<Vec<u8>> {
    vec![
        tools.run("tpm2_readpublic", "-c 0x81010001"),
        tools.run("tpm2_readpublic", "-c 0x81000001"),
        tools.run("tpm2_nvread", "0x1c00002 -C o"),
        tools.run("tpm2_nvread", "0x1500016 -C o"),
        tools.run("tpm2_getcap", "handles-persistent"),
        tools.run("tpm2_getcap", "handles-nv-index"),
    ]
}

fn unsealed(tools: &common::Tools) -> Vec<u8> {
    tools.run(
        "tpm2_load",
        "-C 0x81000001 -u sealed.pub -r sealed.priv -c sealed.ctx",
    );
    tools.run("tpm2_flushcontext", "-t");
    let secret = tools.run("tpm2_unseal", "-c sealed.ctx -p pcr:sha256:7");
    tools.run("tpm2_flushcontext", "-t");
    secret
}

/// Fills the TPM as a VM's is filled. The tools work in the folder beside that of the VM.
fn fill(vm: &Vm) {
    let tools = vm.tools(&key(1));
    fs::write(vm.beside().join("certificate"), [0x30; 900]).unwrap();
    fs::write(vm.beside().join("secret"), "opens the disk").unwrap();
    for (program, arguments) in [
        ("tpm2_createek", "-c 0x81010001 -G rsa -u ek.pub"),
        ("tpm2_createprimary", "-C o -c srk.ctx -G ecc"),
        ("tpm2_evictcontrol", "-C o -c srk.ctx 0x81000001"),
        ("tpm2_flushcontext", "-t"),
        (
            "tpm2_nvdefine",
            "0x1c00002 -C p -s 900 -a ppwrite|writedefine|ppread|ownerread|authread|no_da|platformcreate",
        ),
        ("tpm2_nvwrite", "0x1c00002 -C p -i certificate"),
        (
            "tpm2_nvdefine",
            "0x1500016 -C o -a nt=counter|ownerread|ownerwrite",
        ),
        ("tpm2_nvincrement", "0x1500016 -C o"),
        ("tpm2_nvincrement", "0x1500016 -C o"),
        ("tpm2_createpolicy", "--policy-pcr -l sha256:7 -L policy"),
        (
            "tpm2_create",
            "-C 0x81000001 -L policy -i secret -u sealed.pub -r sealed.priv",
        ),
        ("tpm2_flushcontext", "-t"),
    ] {
        tools.run(program, arguments);
    }
}

#[test]
fn a_state_survives_whole_and_opens_with_the_new_key_alone() {
    let vm = Vm::new();
    fill(&vm);
    let before = identity(&vm.tools(&key(1)));
    let mut steps = Vec::new();
    let told = &mut |step| steps.push(step);
    let generation = rekey(
        swtpm(),
        &mut vm.open(),
        &key(1),
        &successor(&key(2), &protector(2)),
        told,
    )
    .unwrap();
    assert_eq!(steps.len(), 14, "{steps:?}");
    assert_eq!(generation.number(), 2);
    let protection = fs::read(generation.path().join(SEALED_FILE)).unwrap();
    assert_eq!(protection, b"what its owner decided");
    assert_eq!(generation.protector().unwrap(), protector(2));
    // Nobody has opened the new protector yet, so the old pair is kept until somebody has.
    assert_eq!(vm.names(), ["current", "gen-1", "gen-2", "lock"]);
    assert!(vm.opens(&key(2)));
    let tools = vm.tools(&key(2));
    assert_eq!(identity(&tools), before);
    assert_eq!(unsealed(&tools), b"opens the disk");
    drop(tools);

    let old = key(1);
    let current = vm.current();
    let mut tpm = Swtpm::start(&settings(current.path(), Contents::Kept, &old)).unwrap();
    let refused = tpm.initialise().unwrap_err();
    assert!(matches!(refused, SwtpmError::WrongKey { .. }), "{refused}");
    let message = refused.to_string();
    assert!(
        message.contains("under another key, or was altered"),
        "{message}"
    );
    assert!(message.contains("Verification of HMAC failed"), "{message}");
    assert!(!message.contains("BBBB"), "no key: {message}");
}

#[test]
fn a_wrong_key_changes_nothing() {
    let vm = Vm::new();
    let state = vm.current().path().join(PERMANENT_STATE);
    let before = fs::read(&state).unwrap();
    let refused = rekey(
        swtpm(),
        &mut vm.open(),
        &key(3),
        &successor(&key(2), &protector(2)),
        &mut |_| (),
    );
    let refused = refused.unwrap_err();
    assert!(
        matches!(refused, RekeyError::Source(SwtpmError::WrongKey { .. })),
        "{refused}"
    );
    assert_eq!(fs::read(&state).unwrap(), before);
    assert_eq!(vm.names(), ["current", "gen-1", "lock"]);
    assert!(vm.opens(&key(1)));
}

#[test]
fn a_state_that_is_refused_leaves_no_empty_tpm() {
    let folder = tempfile::tempdir().unwrap();
    let (state_key, migration_key) = (key(1), key(4));
    let mut incoming = settings(folder.path(), Contents::Incoming, &state_key);
    incoming.migration_key = Some(&migration_key);
    let mut tpm = Swtpm::start(&incoming).unwrap();
    let nothing = tpm.initialise().unwrap_err();
    assert!(matches!(nothing, SwtpmError::NoState(_)), "{nothing}");
    let state = SecretBytes::new(vec![7; 6000]);
    let refused = tpm.set_permanent_state(&state).unwrap_err();
    assert!(matches!(refused, SwtpmError::Control { .. }), "{refused}");
    assert!(tpm.ended().is_some(), "the process is killed");
    let refused = tpm.initialise().unwrap_err();
    assert!(matches!(refused, SwtpmError::StateRefused), "{refused}");
    drop(tpm);
    assert!(!folder.path().join(PERMANENT_STATE).exists());

    let kept = Swtpm::start(&settings(folder.path(), Contents::Kept, &state_key)).unwrap_err();
    assert!(matches!(kept, SwtpmError::NoState(_)), "{kept}");
}

/// A program that starts swtpm with other arguments for the destination, as `change` says in the words of a shell.
fn changed_swtpm(vm: &Vm, change: &str) -> Program {
    let path = vm.beside().join("swtpm");
    let script = format!(
        "#!/bin/sh\n\
         case \"$*\" in *gen-2*) ;; *) exec swtpm \"$@\" ;; esac\n\
         for one; do shift; case \"$before$one\" in {change}\n\
         *) set -- \"$@\" \"$one\" ;; esac; before=$one; done\n\
         exec swtpm \"$@\"\n"
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    Program {
        path,
        environment: Vec::new(),
    }
}

fn refused_by(vm: &Vm, swtpm: &Program) -> RekeyError {
    let state = vm.current().path().join(PERMANENT_STATE);
    let before = fs::read(&state).unwrap();
    let mut steps = Vec::new();
    let told = &mut |step| steps.push(step);
    let refused = rekey(
        swtpm,
        &mut vm.open(),
        &key(1),
        &successor(&key(2), &protector(2)),
        told,
    );
    let set = |step: &Step| matches!(step, Step::StateSet(_));
    assert!(!steps.iter().any(set), "{steps:?}");
    assert_eq!(fs::read(&state).unwrap(), before);
    assert_eq!(vm.names(), ["current", "gen-1", "lock"]);
    assert!(vm.opens(&key(1)));
    refused.unwrap_err()
}

#[test]
fn a_destination_without_a_key_is_refused_before_it_gets_the_state() {
    let vm = Vm::new();
    for (option, named) in [
        ("--key", "the key of the state"),
        ("--migration-key", "the migration key"),
    ] {
        let change = format!("*{option}) ;; {option}fd=*) ;;");
        let refused = refused_by(&vm, &changed_swtpm(&vm, &change));
        let RekeyError::Destination(SwtpmError::KeyMissing { missing }) = refused else {
            panic!("{refused}");
        };
        assert_eq!(missing, named);
    }
}

#[test]
fn a_destination_with_another_migration_key_leaves_nothing() {
    let vm = Vm::new();
    let other = vm.beside().join("other");
    fs::write(&other, [7; 32]).unwrap();
    let change = format!(
        "--migration-keyfd=*) set -- \"$@\" file={},format=binary,mode=aes-256-cbc ;;",
        other.display()
    );
    let refused = refused_by(&vm, &changed_swtpm(&vm, &change));
    assert!(matches!(refused, RekeyError::Destination(_)), "{refused}");
    let message = refused.to_string();
    assert!(message.contains("TPM_DECRYPT_ERROR (0x21)"), "{message}");
}

#[test]
fn a_state_that_another_swtpm_uses_is_not_moved() {
    let vm = Vm::new();
    let (current, key_1) = (vm.current(), key(1));
    let mut running = Swtpm::start(&settings(current.path(), Contents::Kept, &key_1)).unwrap();
    running.initialise().unwrap();
    let refused = rekey(
        swtpm(),
        &mut vm.open(),
        &key_1,
        &successor(&key(2), &protector(2)),
        &mut |_| (),
    );
    let refused = refused.unwrap_err();
    assert!(
        matches!(refused, RekeyError::Source(SwtpmError::InUse { .. })),
        "{refused}"
    );
    assert_eq!(vm.names(), ["current", "gen-1", "lock"]);
}

#[test]
fn a_missing_swtpm_is_named_with_its_package() {
    let vm = Vm::new();
    let missing = Program::installed("swtpm-that-is-not-there");
    let refused = rekey(
        &missing,
        &mut vm.open(),
        &key(1),
        &successor(&key(2), &protector(2)),
        &mut |_| (),
    );
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("Debian package swtpm"), "{message}");
}

/// The swtpm of an agent that was killed ends a moment later, and the next agent does not stumble over it.
#[test]
fn a_state_that_another_swtpm_lets_go_of_is_waited_for() {
    let vm = Vm::new();
    let (current, key) = (vm.current(), key(1));
    let mut ending = Swtpm::start(&settings(current.path(), Contents::Kept, &key)).unwrap();
    ending.initialise().unwrap();
    let mut next = Swtpm::start(&settings(current.path(), Contents::Kept, &key)).unwrap();
    thread::scope(|scope| {
        let opened = scope.spawn(|| next.initialise());
        let (_held, never) = mpsc::channel::<()>();
        let _ = never.recv_timeout(Duration::from_millis(50));
        drop(ending);
        opened.join().unwrap().unwrap();
    });
}

#[test]
fn a_generation_is_kept_until_the_next_one_has_had_a_successor() {
    let vm = Vm::new();
    let renew = |state: &mut StateFolder, old, new: u8| {
        let (old, key, protector) = (key(old), key(new), protector(new));
        rekey(
            swtpm(),
            state,
            &old,
            &successor(&key, &protector),
            &mut |_| (),
        )
        .map(|generation| generation.number())
    };
    assert!(matches!(
        StateFolder::open_previous(&vm.folder()),
        Err(StateError::NoPrevious(_))
    ));
    assert_eq!(renew(&mut vm.open(), 1, 2).unwrap(), 2);
    assert_eq!(renew(&mut vm.open(), 2, 3).unwrap(), 3);
    assert_eq!(vm.names(), ["current", "gen-2", "gen-3", "lock"]);
    assert_eq!(vm.open().previous().unwrap().unwrap().number(), 2);

    // The protector of the third opens for nobody: the state goes on from the second, and the pointer changes when it has.
    let mut previous = StateFolder::open_previous(&vm.folder()).unwrap();
    let refused = renew(&mut previous, 3, 4).unwrap_err();
    assert!(matches!(refused, RekeyError::Source(_)), "{refused}");
    drop(previous);
    assert_eq!(vm.current().number(), 3);
    assert_eq!(vm.names(), ["current", "gen-2", "gen-3", "lock"]);
    let mut previous = StateFolder::open_previous(&vm.folder()).unwrap();
    assert_eq!(renew(&mut previous, 2, 4).unwrap(), 4);
    drop(previous);
    assert_eq!(vm.names(), ["current", "gen-2", "gen-4", "lock"]);
    assert!(vm.opens(&key(4)));
}
