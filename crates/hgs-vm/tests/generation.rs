//! The folder of a VM: what opens, what is refused and why, and what is removed.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use common::{Vm, key, protector, settings, swtpm};
use hgs_files::FileProblem;
use hgs_vm::generation::{MIGRATION_KEY, StateError, StateFolder};
use hgs_vm::memory::{self, MemoryLockError};
use hgs_vm::stop_record::{Comparison, StopRecord};
use hgs_vm::swtpm::control::Control;
use hgs_vm::swtpm::{
    Channels, Contents, PERMANENT_STATE, Settings, Swtpm, TEMPORARY_STATE, VOLATILE_STATE,
};

fn refusal(folder: &Path) -> StateError {
    StateFolder::open(folder).unwrap_err()
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_is_no_vm_s_folder_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("vm");
    assert!(matches!(refusal(&folder), StateError::NotAVm(_)));
    assert!(!folder.exists());
    fs::create_dir(&folder).unwrap();
    mode(&folder, 0o700);
    assert!(matches!(refusal(&folder), StateError::NotAVm(_)));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    symlink(&folder, root.path().join("link")).unwrap();
    let refused = refusal(&root.path().join("link"));
    assert!(refused.to_string().contains("symbolic link"), "{refused}");
}

#[test]
fn the_migration_key_of_an_swtpm_that_has_ended_is_forgotten() {
    let vm = Vm::new();
    let current = vm.current();
    assert_eq!(current.migration_key().unwrap(), None);
    fs::write(current.path().join(MIGRATION_KEY), "sealed").unwrap();
    assert_eq!(current.migration_key().unwrap().unwrap(), b"sealed");
    current.forget_migration_key().unwrap();
    assert_eq!(current.migration_key().unwrap(), None);
    current.forget_migration_key().unwrap();
}

#[test]
fn the_pointer_decides_and_says_what_is_wrong_with_it() {
    let vm = Vm::new();
    let pointer = vm.folder().join("current");
    for malformed in [
        "",
        "gen-1",
        "gen-01\n",
        "gen-1\n\n",
        "gen-+1\n",
        "../gen-1\n",
        "gen-\n",
    ] {
        fs::write(&pointer, malformed).unwrap();
        let refused = refusal(&vm.folder());
        assert!(
            matches!(refused, StateError::MalformedPointer(_)),
            "{malformed:?}: {refused}"
        );
    }
    fs::write(&pointer, "gen-7\n").unwrap();
    let refused = refusal(&vm.folder());
    assert!(
        matches!(refused, StateError::PointerToNothing { .. }),
        "{refused}"
    );
    let message = refused.to_string();
    assert!(
        message.contains("gen-7") && message.contains("gen-1"),
        "{message}"
    );

    fs::remove_file(&pointer).unwrap();
    let refused = refusal(&vm.folder());
    assert!(matches!(refused, StateError::NoPointer { .. }), "{refused}");
    assert!(
        refused.to_string().contains("write `gen-1` into current"),
        "{refused}"
    );
    fs::create_dir(vm.folder().join("gen-2")).unwrap();
    let refused = refusal(&vm.folder());
    assert!(matches!(refused, StateError::Ambiguous { .. }), "{refused}");
    assert!(refused.to_string().contains("gen-1, gen-2"), "{refused}");

    symlink("gen-1", &pointer).unwrap();
    let refused = refusal(&vm.folder());
    assert!(refused.to_string().contains("symbolic link"), "{refused}");
}

#[test]
fn folders_that_others_may_enter_and_halves_of_a_pair_are_refused() {
    let vm = Vm::new();
    let generation = vm.folder().join("gen-1");
    for open in [vm.folder(), generation.clone()] {
        mode(&open, 0o750);
        let StateError::File(error) = refusal(&vm.folder()) else {
            panic!("a file's error");
        };
        assert!(matches!(
            error.problem,
            FileProblem::Permissions { mode: 0o750 }
        ));
        assert_eq!(error.path, open);
        mode(&open, 0o700);
    }
    for part in [PERMANENT_STATE, "protector.xml"] {
        let path = generation.join(part);
        let octets = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let refused = refusal(&vm.folder());
        assert!(
            matches!(refused, StateError::Incomplete { part: missing, .. } if missing == part),
            "{refused}"
        );
        fs::write(&path, octets).unwrap();
    }
    vm.open();
}

#[test]
fn one_process_works_with_a_vm() {
    let vm = Vm::new();
    let held = vm.open();
    assert!(matches!(refusal(&vm.folder()), StateError::InUse(_)));
    let refused = StateFolder::create(&vm.folder()).unwrap_err();
    assert!(matches!(refused, StateError::InUse(_)), "{refused}");
    drop(held);
    let refused = StateFolder::create(&vm.folder()).unwrap_err();
    assert!(matches!(refused, StateError::Exists(_)), "{refused}");
}

#[test]
fn leftovers_are_removed_when_they_are_told_to_be_and_nothing_else_is() {
    let vm = Vm::new();
    for folder in [
        "gen-2",
        "gen-12",
        ".gen-3.new",
        "gen-x",
        "gen-01",
        ".gen-x.new",
    ] {
        fs::create_dir(vm.folder().join(folder)).unwrap();
        fs::write(vm.folder().join(folder).join("file"), "x").unwrap();
    }
    for file in [".current.new", "vm.toml", "disk", ".hidden.new"] {
        fs::write(vm.folder().join(file), "x").unwrap();
    }
    let mut state = vm.open();
    assert_eq!(vm.names().len(), 13, "opening removes nothing");
    let staged = state.stage().unwrap();
    assert!(
        staged.path().ends_with("gen-13"),
        "above all that are there"
    );
    drop(staged);
    state.remove_others().unwrap();
    assert_eq!(
        vm.names(),
        [
            ".gen-x.new",
            ".hidden.new",
            "current",
            "disk",
            "gen-01",
            "gen-1",
            "gen-x",
            "lock",
            "vm.toml"
        ]
    );
    assert_eq!(state.current().unwrap().number(), 1);
}

#[test]
fn a_generation_without_a_state_never_becomes_current() {
    let vm = Vm::new();
    let state = vm.open();
    let staged = state.stage().unwrap();
    let refused = state.complete(staged, &protector(2)).unwrap_err();
    assert!(
        matches!(refused, StateError::Incomplete { .. }),
        "{refused}"
    );
    assert_eq!(vm.names(), ["current", "gen-1", "lock"]);
}

#[test]
fn the_mode_of_what_is_written_is_the_owner_s_alone() {
    let vm = Vm::new();
    let generation = vm.folder().join("gen-1");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&generation), 0o700);
    for file in [PERMANENT_STATE, "protector.xml"] {
        assert_eq!(mode(&generation.join(file)), 0o600, "{file}");
    }
    assert_eq!(mode(&vm.folder().join("current")), 0o600);
}

/// PCRs of an earlier boot would open a disk that this boot must not open.
#[test]
fn a_volatile_state_that_was_left_is_not_resumed() {
    let vm = Vm::new();
    let socket = vm.beside().join("swtpm.sock");
    let (current, key) = (vm.current(), key(1));
    // As a hypervisor does: it has the control channel to itself.
    let hypervisor = Settings {
        channels: Channels::Hypervisor(&socket),
        ..settings(current.path(), Contents::Kept, &key)
    };
    let mut swtpm = Swtpm::start(&hypervisor).unwrap();
    swtpm.hand_over();
    assert_eq!(
        fs::metadata(&socket).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let mut control = Control::connect(&socket).unwrap();
    assert!(control.configuration().unwrap().state_key);
    let delete = hgs_vm::swtpm::control::StoredVolatileState::Delete;
    control.initialise(delete).unwrap();
    control.store_volatile().unwrap();
    drop(control);
    drop(swtpm);
    assert!(!socket.exists());
    assert!(current.path().join(VOLATILE_STATE).exists());
    fs::write(current.path().join(TEMPORARY_STATE), "half").unwrap();

    let mut swtpm = Swtpm::start(&settings(current.path(), Contents::Kept, &key)).unwrap();
    assert!(!current.path().join(VOLATILE_STATE).exists());
    assert!(!current.path().join(TEMPORARY_STATE).exists());
    swtpm.initialise().unwrap();
    let mut tpm = swtpm.open().unwrap();
    tpm.start_up().unwrap();
}

#[test]
fn where_a_vm_stopped_is_recorded_and_compared() {
    let vm = Vm::new();
    let stopped = StopRecord::of(&vm.current(), Some(4)).unwrap();
    // A start that changes nothing does not change the file.
    assert!(vm.opens(&key(1)));
    let now = StopRecord::of(&vm.current(), Some(4)).unwrap();
    assert_eq!(now.compare(Some(&stopped)), Comparison::Same);
    assert_eq!(now.compare(None), Comparison::NoRecord);
    let later = StopRecord {
        counter: Some(5),
        ..now
    };
    assert_eq!(
        later.compare(Some(&stopped)),
        Comparison::OldRecord {
            recorded: 4,
            counter: 5
        }
    );
    let without_tpm = StopRecord {
        counter: None,
        ..now
    };
    assert_eq!(without_tpm.compare(Some(&stopped)), Comparison::NoCounter);
    assert_eq!(without_tpm.compare(Some(&without_tpm)), Comparison::Same);

    let path = vm.current().path().join(PERMANENT_STATE);
    let mut octets = fs::read(&path).unwrap();
    octets[100] ^= 1;
    fs::write(&path, octets).unwrap();
    let altered = StopRecord::of(&vm.current(), Some(4)).unwrap();
    assert_eq!(altered.compare(Some(&stopped)), Comparison::Altered);
    let next = StopRecord {
        generation: 2,
        ..now
    };
    let other = Comparison::OtherGeneration { recorded: 1 };
    assert_eq!(next.compare(Some(&stopped)), other);
}

#[test]
fn a_path_with_a_comma_is_refused_before_swtpm_reads_another_option_in_it() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("a,mode=0666");
    fs::create_dir(&folder).unwrap();
    let key = key(1);
    let refused = Swtpm::start(&settings(&folder, Contents::New, &key)).unwrap_err();
    assert!(refused.to_string().contains("comma"), "{refused}");
    assert_eq!(swtpm().path, Path::new("swtpm"));
}

/// All of a process's memory, or an honest refusal.
#[test]
fn memory_is_locked_or_it_is_said_why_not() {
    let locked = memory::lock_all();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let locked_kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmLck:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    match locked {
        Ok(()) => assert!(locked_kilobytes > Some(0), "{status}"),
        Err(error @ (MemoryLockError::Limit { .. } | MemoryLockError::System(_))) => {
            assert!(error.to_string().contains("swap"), "{error}");
        }
        Err(error) => panic!("{error}"),
    }
}
