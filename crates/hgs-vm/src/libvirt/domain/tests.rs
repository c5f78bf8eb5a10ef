use std::fs;

use hgs_testkit::Mutations;

use super::*;
use crate::description::Description;
use crate::libvirt::Definition;
use crate::qemu::OvmfFiles;
use crate::qemu::accelerator::Accelerator;

const SOCKET: &str = "/run/guarded-host-libvirt/6f2d1c3e-8d0a-4a53-9f1c-0b7f6a1e2d3c/tpm.sock";
const DESCRIPTION: &str = r#"
name = "web1"
id = "6f2d1c3e-8d0a-4a53-9f1c-0b7f6a1e2d3c"
memory = "2GiB"
processors = 2
network = "user"

[firmware]
variables = "firmware-vars.fd"

[disk]
file = "disk.img"
format = "raw"
"#;

/// The programs of a host, as files.
struct Programs(tempfile::TempDir);

impl Programs {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["qemu", "other", "CODE.secboot.fd", "CODE.fd"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What is printed for a VM, and read again as it stands.
    fn xml(&self, console: bool) -> String {
        let description = Description::read(DESCRIPTION).unwrap();
        let ovmf = OvmfFiles {
            secure_code: self.path("CODE.secboot.fd"),
            code: self.path("CODE.fd"),
            empty_variables: self.path("VARS.fd"),
        };
        Definition {
            description: &description,
            files: Path::new("/var/lib/libvirt/images/a & b"),
            tpm: Path::new(SOCKET),
            emulator: &self.path("qemu"),
            ovmf: &ovmf,
            accelerator: &Accelerator::Kvm,
            network: Some("default"),
            console,
        }
        .to_xml()
    }

    fn check(&self, xml: &str, policy: Policy) -> Result<(), Breach> {
        let domain = Domain::read(xml.as_bytes()).unwrap();
        let (emulator, secure_firmware) = (self.path("qemu"), self.path("CODE.secboot.fd"));
        let host = HostPrograms {
            emulator: &emulator,
            secure_firmware: &secure_firmware,
        };
        domain.check(policy, host)
    }

    fn refused(&self, xml: &str, policy: Policy) -> String {
        self.check(xml, policy).unwrap_err().to_string()
    }
}

#[test]
fn the_domain_that_is_printed_is_a_shielded_one() {
    let programs = Programs::new();
    let xml = programs.xml(false);
    let domain = Domain::read(xml.as_bytes()).unwrap();
    assert_eq!(domain.name(), "web1");
    assert_eq!(
        domain.id().to_string(),
        "6f2d1c3e-8d0a-4a53-9f1c-0b7f6a1e2d3c"
    );
    domain.check_tpm(Path::new(SOCKET)).unwrap();
    assert!(domain.has_tpm_below(Path::new("/run/guarded-host-libvirt")));
    assert!(!domain.has_tpm_below(Path::new("/run/guarded-host")));
    programs.check(&xml, Policy::Shielded).unwrap();
    programs.check(&xml, Policy::EncryptionSupported).unwrap();
    assert!(xml.contains("a &amp; b/disk.img"), "{xml}");
    let console = programs.xml(true);
    let refused = programs.refused(&console, Policy::Shielded);
    assert_eq!(
        refused,
        "the domain has devices/serial: the VM's policy is `shielded`, which forbids a console"
    );
    programs
        .check(&console, Policy::EncryptionSupported)
        .unwrap();
}

/// What libvirt adds to a definition by itself.
#[test]
fn what_libvirt_adds_is_harmless() {
    let programs = Programs::new();
    let xml = programs.xml(false);
    let live = xml
        .replacen("<domain type=\"kvm\">", "<domain type='kvm' id='3'><resource><partition>/machine</partition></resource>", 1)
        .replacen("</domain>", "<on_poweroff>destroy</on_poweroff><clock offset='utc'/><seclabel type='dynamic' model='dac' relabel='yes'><label>+64055:+108</label></seclabel><metadata><x:shown xmlns:x='urn:x'>graphics</x:shown></metadata></domain>", 1)
        .replacen("</devices>", "<controller type='pci' index='0' model='pcie-root'><alias name='pcie.0'/></controller><input type='mouse' bus='ps2'/><input type='keyboard' bus='ps2'/><audio id='1' type='none'/><watchdog model='itco' action='reset'/></devices>", 1);
    assert_ne!(live, xml);
    programs.check(&live, Policy::Shielded).unwrap();
}

#[test]
fn every_way_into_a_vm_is_refused_by_its_element() {
    let programs = Programs::new();
    let xml = programs.xml(false);
    let device = |element: &str| xml.replacen("</devices>", &format!("{element}</devices>"), 1);
    let below = |element: &str| xml.replacen("</domain>", &format!("{element}</domain>"), 1);
    let start = |element: &str| xml.replacen("</os>", &format!("{element}</os>"), 1);
    let other = |old: &str, new: &str| {
        assert!(xml.contains(old), "{old} in {xml}");
        xml.replace(old, new)
    };
    let emulator = programs.path("qemu").display().to_string();
    let firmware = programs.path("CODE.secboot.fd").display().to_string();
    let trusted = [
        (device("<serial type='pty'/>"), "devices/serial"),
        (device("<parallel type='pty'/>"), "devices/parallel"),
        (
            device("<console type='pty'><target type='virtio'/></console>"),
            "devices/console",
        ),
        (
            device("<serial type='file'><source path='/tmp/log'/></serial>"),
            "devices/serial",
        ),
        (
            device(
                "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>",
            ),
            "devices/channel",
        ),
        (device("<channel type='spicevmc'/>"), "devices/channel"),
        (
            device("<vsock model='virtio'><cid auto='yes'/></vsock>"),
            "devices/vsock",
        ),
        (device("<filesystem type='mount'/>"), "devices/filesystem"),
        (device("<graphics type='vnc'/>"), "devices/graphics"),
        (
            device("<graphics type='egl-headless'/>"),
            "devices/graphics",
        ),
        (
            device("<video><model type='virtio'/></video>"),
            "devices/video",
        ),
        (device("<sound model='ich9'/>"), "devices/sound"),
        (device("<audio id='1' type='spice'/>"), "devices/audio"),
        (
            device("<hostdev mode='subsystem' type='pci'/>"),
            "devices/hostdev",
        ),
        (device("<interface type='hostdev'/>"), "devices/interface"),
        (device("<interface type='vhostuser'/>"), "devices/interface"),
        (device("<disk type='vhostuser'/>"), "devices/disk"),
        (
            device("<redirdev bus='usb' type='tcp'/>"),
            "devices/redirdev",
        ),
        (device("<input type='evdev'/>"), "devices/input"),
        (device("<shmem name='a'/>"), "devices/shmem"),
        (device("<newest/>"), "devices/newest"),
        (
            device(&format!("<emulator>{emulator}</emulator>")),
            "devices/emulator",
        ),
        (
            other(&emulator, &programs.path("other").display().to_string()),
            "devices/emulator",
        ),
        (other(&emulator, "/no/where"), "devices/emulator"),
        (
            other(&firmware, &programs.path("CODE.fd").display().to_string()),
            "os/loader",
        ),
        (
            other("secure=\"yes\"", "secure='no'"),
            "os/loader without secure",
        ),
        (
            other("readonly=\"yes\"", "readonly='no'"),
            "os/loader without readonly",
        ),
        (
            other("type=\"pflash\"", "type='rom'"),
            "os/loader without type",
        ),
        (start("<kernel>/boot/vmlinuz</kernel>"), "os/kernel"),
        (start("<initrd>/boot/initrd</initrd>"), "os/initrd"),
        (start("<cmdline>init=/bin/sh</cmdline>"), "os/cmdline"),
        (start("<smbios mode='sysinfo'/>"), "os/smbios"),
        (
            start("<acpi><table type='slic'>/tmp/t</table></acpi>"),
            "os/acpi",
        ),
        (start("<initarg>a</initarg>"), "os/initarg"),
        (
            below(
                "<sysinfo type='smbios'><oemStrings><entry>io.systemd.credential:passwd.plaintext-password.root=x</entry></oemStrings></sysinfo>",
            ),
            "sysinfo",
        ),
        (below("<sysinfo type='fwcfg'/>"), "sysinfo"),
        (
            below("<qemu:capabilities xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'/>"),
            "capabilities",
        ),
        (below("<newest/>"), "newest"),
        (
            other("<nosharepages>", "<access mode='shared'/><nosharepages>"),
            "memoryBacking/access",
        ),
        (
            other("<nosharepages></nosharepages>", ""),
            "no memoryBacking/nosharepages",
        ),
        (
            other(
                "<suspend-to-mem enabled=\"no\">",
                "<suspend-to-mem enabled='yes'>",
            ),
            "no pm/suspend-to-mem",
        ),
    ];
    for (xml, what) in &trusted {
        let refused = programs.refused(xml, Policy::Shielded);
        assert!(refused.contains(what), "{what}: {refused}");
        programs.check(xml, Policy::EncryptionSupported).unwrap();
    }
    let qemu = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'";
    let never = [
        (other("dumpCore=\"off\"", "dumpCore='on'"), "dumpCore"),
        (
            below(&format!(
                "<q:commandline {}><q:arg value='-s'/></q:commandline>",
                qemu.replace(":qemu", ":q")
            )),
            "qemu:commandline",
        ),
        (below(&format!("<qemu:override {qemu}/>")), "qemu:override"),
        (
            other("<on_crash>destroy", "<on_crash>coredump-destroy"),
            "on_crash",
        ),
        (
            device("<watchdog model='itco' action='dump'/>"),
            "devices/watchdog",
        ),
        (
            device("<memory model='nvdimm'><source><path>/tmp/m</path></source></memory>"),
            "devices/memory",
        ),
        (
            other("<nosharepages>", "<source type='file'/><nosharepages>"),
            "memoryBacking/source",
        ),
    ];
    for (xml, what) in &never {
        for policy in [Policy::Shielded, Policy::EncryptionSupported] {
            let refused = programs.refused(xml, policy);
            assert!(
                refused.contains(what) && refused.contains(&policy.to_string()),
                "{what}: {refused}"
            );
        }
    }
}

#[test]
fn the_tpm_is_the_agents_and_the_only_one() {
    let programs = Programs::new();
    let xml = programs.xml(false);
    let good = format!("<source mode=\"connect\" path=\"{SOCKET}\" type=\"unix\">");
    assert!(xml.contains(&good), "{xml}");
    for other in [
        good.replace("tpm.sock", "other.sock"),
        good.replace("\"unix\"", "'tcp'"),
        good.replace("\"connect\"", "'bind'"),
        format!("<source type='unix' path='/tmp/a'></source>{good}"),
    ] {
        let domain = Domain::read(xml.replace(&good, &other).as_bytes()).unwrap();
        assert!(domain.check_tpm(Path::new(SOCKET)).is_err(), "{other}");
    }
    for devices in [
        "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm></devices>",
        "<tpm model='tpm-tis'><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm></devices>",
    ] {
        let two = xml.replacen("</devices>", devices, 1);
        let error = Domain::read(two.as_bytes())
            .unwrap()
            .check_tpm(Path::new(SOCKET));
        assert!(error.unwrap_err().to_string().contains(SOCKET));
    }
}

#[test]
fn xml_that_is_no_domain_is_refused() {
    let programs = Programs::new();
    let xml = programs.xml(false);
    let refused = |xml: &str| Domain::read(xml.as_bytes()).unwrap_err().to_string();
    assert!(refused("<network/>").contains("no domain"));
    assert!(refused("<domain xmlns='urn:x'/>").contains("no domain"));
    assert!(refused("<domain><name>a</name></domain>").contains("uuid"));
    assert!(refused(&xml.replacen("</domain>", "<name>b</name></domain>", 1)).contains("name"));
    let uuid = "<uuid>6f2d1c3e-8d0a-4a53-9f1c-0b7f6a1e2d3d</uuid></domain>";
    assert!(refused(&xml.replacen("</domain>", uuid, 1)).contains("uuid"));
    assert!(
        refused(&xml.replace("6f2d1c3e-8d0a-4a53-9f1c-0b7f6a1e2d3c</uuid>", "x</uuid>"))
            .contains("UUID")
    );
    assert!(refused("<domain><!-- a --></domain>").contains("can't be read"));
    assert!(refused(&format!("<domain>{}</domain>", " ".repeat(LIMIT))).contains("can't be read"));
}

#[test]
fn any_octets_are_read_or_refused() {
    let programs = Programs::new();
    let corpus = [
        programs.xml(false).into_bytes(),
        programs.xml(true).into_bytes(),
    ];
    let tokens: [&[u8]; 6] = [
        b"<tpm>",
        b"</devices>",
        b"<uuid>",
        b"xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'",
        b" type='external'",
        b"<qemu:commandline/>",
    ];
    for octets in Mutations::of(&corpus, &tokens).take(3000) {
        fuzz_libvirt_domain(&octets);
    }
}
