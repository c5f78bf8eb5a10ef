//! The hook of libvirt, as libvirt runs it: with an empty environment, and a domain on standard input.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use super::Folder;

const ID: &str = "6f2d1c3e-8d0a-4a53-9f1c-0b7f6a1e2d3c";
const FOREIGN: &str = "<domain type='kvm'><name>other</name>\
    <uuid>0b7f6a1e-8d0a-4a53-9f1c-6f2d1c3e2d3c</uuid></domain>";

fn hook(folder: &Folder) -> PathBuf {
    folder.path("root/etc/libvirt/hooks/qemu.d/guarded-host")
}

fn install(folder: &Folder) {
    let runtime = folder.path("run").display().to_string();
    folder.done(&format!(
        "libvirt --runtime {runtime} install --root root --user 64055"
    ));
}

/// Runs the hook that was installed.
fn run(folder: &Folder, words: &str, domain: &str) -> Output {
    let mut hook = Command::new(hook(folder))
        .env_clear()
        .args(words.split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended before it has read all of it.
    let _ = (hook.stdin.take().unwrap()).write_all(domain.as_bytes());
    hook.wait_with_output().unwrap()
}

#[track_caller]
fn passes(output: &Output) {
    assert!(output.status.success(), "{output:?}");
    // What is on standard output would take the place of the domain.
    assert!(output.stdout.is_empty(), "{output:?}");
}

#[track_caller]
fn refused(output: &Output, why: &str) {
    assert!(!output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(why), "{said}");
}

#[test]
fn a_hook_is_installed_beside_others_and_replaces_none() {
    let folder = Folder::new();
    let place = hook(&folder);
    assert_eq!(
        folder.run("libvirt status --root root").status.code(),
        Some(1)
    );
    install(&folder);
    let mode = fs::metadata(&place).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    // Again, for another user.
    let installed = folder.json("libvirt install --root root --user root");
    assert_eq!(installed["user"], "root");
    folder.error("libvirt install --root root --user o'hara", 64);
    let script = fs::read_to_string(&place).unwrap();
    assert!(script.contains("--user 'root' "), "{script}");
    folder.done("libvirt uninstall --root root");
    assert!(!place.exists());
    folder.done("libvirt uninstall --root root");

    fs::write(&place, "#!/bin/sh\nexit 0\n").unwrap();
    for words in ["install --root root --user root", "uninstall --root root"] {
        let error = folder.error(&format!("libvirt {words}"), 2);
        assert!(error["message"].as_str().unwrap().contains("guarded-host"));
    }
    assert_eq!(fs::read_to_string(&place).unwrap(), "#!/bin/sh\nexit 0\n");
}

#[test]
fn domains_that_are_no_shielded_vms_pass_without_an_agent_and_others_do_not() {
    let folder = Folder::new();
    install(&folder);
    for words in ["other prepare begin -", "other release end -"] {
        passes(&run(&folder, words, FOREIGN));
    }
    // Whatever is on standard input, other events need nothing.
    let with_tpm = FOREIGN.replace(
        "</domain>",
        &format!(
            "<a path='{}-libvirt/x/tpm.sock'/></domain>",
            folder.path("run").display()
        ),
    );
    for words in [
        "a start begin -",
        "a started begin -",
        "a stopped end -",
        "a migrate begin -",
    ] {
        passes(&run(&folder, words, &with_tpm));
    }
    refused(
        &run(&folder, "a prepare begin -", &with_tpm),
        "no agent listens",
    );

    // A VM of the agent is one by its UUID alone, too.
    let with_id = FOREIGN.replace("0b7f6a1e-8d0a-4a53-9f1c-6f2d1c3e2d3c", ID);
    passes(&run(&folder, "a prepare begin -", &with_id));
    let vm = folder.path("state-folder/vms/web1");
    fs::create_dir_all(&vm).unwrap();
    let description = format!(
        "name = 'web1'\nid = '{ID}'\nmemory = '1GiB'\nprocessors = 1\n\
         [firmware]\nvariables = 'v'\n[disk]\nfile = 'd'\nformat = 'raw'\n"
    );
    fs::write(vm.join("vm.toml"), description).unwrap();
    fs::set_permissions(vm.join("vm.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    refused(
        &run(&folder, "a prepare begin -", &with_id),
        "no agent listens",
    );
    passes(&run(&folder, "other prepare begin -", FOREIGN));
    // No octets of any kind make it fail for a VM that is none.
    passes(&run(&folder, "other prepare begin -", "\u{0}<!-- no XML"));
}
