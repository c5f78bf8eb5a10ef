//! A TPM's state moves to a new key, whole or not at all.

mod common;

use std::fs;

use common::{Vm, key, protector, settings, swtpm};
use hgs_crypto::SecretBytes;
use hgs_vm::rekey::{RekeyError, rekey};
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
        &key(2),
        &protector(2),
        told,
    )
    .unwrap();
    assert_eq!(steps.len(), 14, "{steps:?}");
    assert_eq!(generation.number(), 2);
    assert_eq!(generation.protector().unwrap(), protector(2));
    assert_eq!(vm.names(), ["current", "gen-2", "lock"]);
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
        &key(2),
        &protector(2),
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
