use std::fs;

use proptest::prelude::*;

use super::super::{OvmfFiles, Version};
use super::*;
use crate::protection::Policy;

const DESCRIPTION: &str = r#"
name = "payroll"
id = "6f2d1c3e-8d0a-4a53-9f1c-0b7f6a1e2d3c"
memory = "512MiB"
processors = 2
network = "user"
[firmware]
variables = "firmware-vars.fd"
[disk]
file = "disk.img"
format = "qcow2"
"#;

const DIRECT: &str = r#"
name = "trial"
id = "6f2d1c3e-8d0a-4a53-9f1c-0b7f6a1e2d3c"
memory = "1GiB"
processors = 1
processor_model = "Haswell-noTSX"
[firmware]
profile = "direct-kernel"
kernel = "vmlinuz"
initrd = "initrd,img"
command_line = "console=ttyS0 a,b"
"#;

fn emulator(data: &[&str]) -> Emulator {
    Emulator {
        program: Program {
            path: "/usr/bin/qemu-system-x86_64".into(),
            environment: Vec::new(),
        },
        version: Version {
            major: 7,
            minor: 2,
            micro: 22,
        },
        data: data.iter().map(PathBuf::from).collect(),
        ovmf: OvmfFiles {
            secure_code: "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd".into(),
            code: "/usr/share/OVMF/OVMF_CODE_4M.fd".into(),
            empty_variables: "/usr/share/OVMF/OVMF_VARS_4M.fd".into(),
        },
    }
}

/// The arguments of a machine, and the names of the files that are handed over. `/VM` stands for its folder.
fn arguments(
    text: &str,
    policy: Policy,
    change: impl FnOnce(&mut Machine<'_>),
) -> Result<(Vec<String>, Vec<Handed>), CommandError> {
    let folder = tempfile::tempdir().unwrap();
    for file in ["disk.img", "firmware-vars.fd", "vmlinuz", "initrd,img"] {
        fs::write(folder.path().join(file), b"").unwrap();
    }
    let description = Description::read(text).unwrap();
    let protection = Protection {
        vm: description.id,
        policy,
    };
    let runtime = RuntimeFolder::at(Path::new("/run/vms/pay,roll")).unwrap();
    let emulator = emulator(&["/cache/qemu"]);
    let mut machine = Machine {
        description: &description,
        protection: &protection,
        folder: folder.path(),
        runtime: &runtime,
        emulator: &emulator,
        accelerator: &Accelerator::Kvm,
        serial: Serial::None,
        direct_io: true,
        begin: Begin::Running,
    };
    change(&mut machine);
    let line = CommandLine::new(&machine)?;
    let place = folder.path().to_str().unwrap();
    let texts = line.arguments.iter().map(|argument| {
        let text = argument.to_str().unwrap();
        text.replace(place, "/VM")
    });
    let mut handed = line.handed;
    for one in &mut handed {
        if let Handed::File(path) | Handed::Readable(path) | Handed::Disk { path, .. } = one {
            *path = Path::new("/VM").join(path.file_name().unwrap());
        }
    }
    Ok((texts.collect(), handed))
}

#[test]
fn a_shielded_machine_is_run_by_exactly_these_arguments() {
    let (arguments, handed) = arguments(DESCRIPTION, Policy::Shielded, |_| {}).unwrap();
    let expected = r#"
-name guest=payroll
-uuid 6f2d1c3e-8d0a-4a53-9f1c-0b7f6a1e2d3c
-no-user-config
-nodefaults
-display none
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
-L /cache/qemu
-machine type=pc-q35-7.2,smm=on,vmport=off,mem-merge=off,dump-guest-core=off,pflash0=firmware,pflash1=variables
-accel kvm
-cpu max
-m size=512M
-smp 2
-blockdev driver=file,node-name=firmware,filename=/usr/share/OVMF/OVMF_CODE_4M.secboot.fd,read-only=on
-add-fd fd=3,set=3
-blockdev driver=file,node-name=variables,filename=/dev/fdset/3
-global driver=cfi.pflash01,property=secure,value=on
-global ICH9-LPC.disable_s3=1
-chardev socket,id=monitor,fd=4,server=on,wait=off
-mon chardev=monitor,mode=control
-add-fd fd=5,set=5
-blockdev driver=file,node-name=disk-file,filename=/dev/fdset/5,cache.direct=on,aio=threads,locking=on
-blockdev {"driver":"qcow2","node-name":"disk","file":"disk-file","cache":{"direct":true},"backing":null}
-device virtio-blk-pci,drive=disk,bootindex=0
-chardev socket,id=tpm-control,fd=6
-tpmdev emulator,id=tpm,chardev=tpm-control
-device tpm-crb,tpmdev=tpm
-object rng-builtin,id=entropy
-device virtio-rng-pci,rng=entropy
-netdev user,id=network
-device virtio-net-pci,netdev=network,romfile=
"#;
    assert_eq!(arguments, expected.split_whitespace().collect::<Vec<_>>());
    let runtime = Path::new("/run/vms/pay,roll");
    assert_eq!(
        handed,
        [
            Handed::File("/VM/firmware-vars.fd".into()),
            Handed::Listener(runtime.join("qmp.sock")),
            Handed::Disk {
                path: "/VM/disk.img".into(),
                format: DiskFormat::Qcow2,
                direct: true,
            },
            Handed::Connection(runtime.join("swtpm.sock")),
        ]
    );
}

#[test]
fn a_kernel_that_is_booted_directly_is_run_by_exactly_these_arguments() {
    static TCG: Accelerator = Accelerator::Tcg {
        reason: String::new(),
    };
    let incoming = Begin::Incoming("pc-q35-6.1".parse().unwrap());
    let (arguments, handed) = arguments(DIRECT, Policy::EncryptionSupported, |machine| {
        machine.accelerator = &TCG;
        machine.serial = Serial::LoggedConsole;
        machine.begin = incoming;
    })
    .unwrap();
    let expected = [
        "-name guest=trial",
        "-uuid 6f2d1c3e-8d0a-4a53-9f1c-0b7f6a1e2d3c",
        "-no-user-config",
        "-nodefaults",
        "-display none",
        "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-L /cache/qemu",
        "-machine type=pc-q35-6.1,smm=off,vmport=off,mem-merge=off,dump-guest-core=off",
        "-accel tcg,thread=multi",
        "-cpu Haswell-noTSX",
        "-m size=1024M",
        "-smp 1",
        "-kernel /proc/self/fd/3",
        "-initrd /proc/self/fd/4",
        "-append console=ttyS0 a,b",
        "-chardev socket,id=monitor,fd=5,server=on,wait=off",
        "-mon chardev=monitor,mode=control",
        "-add-fd fd=7,set=7",
        "-chardev socket,id=serial,fd=6,server=on,wait=off,logfile=/dev/fdset/7,logappend=on",
        "-serial chardev:serial",
        "-chardev socket,id=tpm-control,fd=8",
        "-tpmdev emulator,id=tpm,chardev=tpm-control",
        "-device tpm-crb,tpmdev=tpm",
        "-object rng-builtin,id=entropy",
        "-device virtio-rng-pci,rng=entropy",
        "-S",
        "-incoming defer",
    ];
    let expected: Vec<_> = expected
        .iter()
        .flat_map(|line| line.splitn(2, ' '))
        .collect();
    assert_eq!(arguments, expected);
    let runtime = Path::new("/run/vms/pay,roll");
    assert_eq!(
        handed,
        [
            Handed::Readable("/VM/vmlinuz".into()),
            Handed::Readable("/VM/initrd,img".into()),
            Handed::Listener(runtime.join("qmp.sock")),
            Handed::Listener(runtime.join("serial.sock")),
            Handed::Log(runtime.join("serial.log")),
            Handed::Connection(runtime.join("swtpm.sock")),
        ]
    );
}

#[test]
fn a_policy_forbids_on_the_side_of_qemu_too() {
    let refused = |text: &str, serial| {
        let outcome = arguments(text, Policy::Shielded, |machine| machine.serial = serial);
        match outcome.unwrap_err() {
            CommandError::Forbidden(forbidden) => forbidden.exposure,
            other => panic!("{other}"),
        }
    };
    assert_eq!(refused(DESCRIPTION, Serial::Console), Exposure::Console);
    assert_eq!(
        refused(DESCRIPTION, Serial::LoggedConsole),
        Exposure::Console
    );
    assert_eq!(refused(DIRECT, Serial::None), Exposure::DirectKernel);
    let other = Protection {
        vm: "00000000-0000-4000-8000-000000000001".parse().unwrap(),
        policy: Policy::EncryptionSupported,
    };
    let outcome = arguments(DESCRIPTION, Policy::Shielded, |machine| {
        machine.protection = Box::leak(Box::new(other));
    });
    assert!(matches!(outcome, Err(CommandError::Protection(_))));
}

#[test]
fn the_paths_of_sockets_fit_into_an_address() {
    let path = |length: usize| PathBuf::from(format!("/{}", "r".repeat(length - 1)));
    RuntimeFolder::at(&path(96)).unwrap();
    let error = RuntimeFolder::at(&path(97)).unwrap_err();
    assert!(matches!(error, CommandError::LongPath(_)), "{error}");
}

proptest! {
    /// As QEMU splits it: at each comma that is not followed by another.
    #[test]
    fn a_value_stays_one_value(value in "[,=a:/{}\"]{1,20}|\\PC{1,20}") {
        let written = OsString::from(Options::new("socket", "").with("path", &value).with("server", "on"));
        let text = written.to_str().unwrap().replace(",,", "\0");
        let parts: Vec<_> = text.split(',').map(|part| part.replace('\0', ",")).collect();
        prop_assert_eq!(parts, ["socket".to_owned(), format!("path={value}"), "server=on".to_owned()]);
    }
}
