//! Shielded VMs that libvirt runs: a real libvirtd and virsh, from packages in the cache, in namespaces of their own.
//!
//! The test program starts itself again with mounts and processes of its own. There, libvirt, QEMU and what they need appear to
//! be installed, and `/etc`, `/var` and `/run` are copies that go with the namespace. Only root can do that.

mod common;

use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::ordinary::folder_of_programs;
use common::served::{Served, configure};
use common::{Home, Outcome};
use hgs_vm::parts::Parts;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Set where the test runs in its namespaces.
const INSIDE: &str = "OPENHGS_TEST_INSIDE";
/// How long something may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(300);
/// Where the namespace has space for files.
const SPACE: &str = "/mnt";
const FILES: &str = "/mnt/images/web1";
const SERIAL: &str = "/mnt/images/serial.log";
/// The user that libvirt's QEMU runs as, as the package makes it.
const USER: &str = "libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin\n";
const GROUP: &str = "libvirt-qemu:x:64055:\n";

const LIBVIRTD_CONF: &str = r#"
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_group = "root"
unix_sock_rw_perms = "0700"
"#;
/// As on a real host, QEMU is a user of its own, to whom libvirt gives the files. What needs an init system is off.
const QEMU_CONF: &str = r#"
user = "libvirt-qemu"
group = "libvirt-qemu"
dynamic_ownership = 1
remember_owner = 0
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "file"
"#;
/// A domain that has nothing to do with any agent.
const PLAIN: &str = r"<domain type='qemu'><name>plain</name><memory unit='MiB'>64</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os></domain>";

#[test]
fn libvirt_starts_a_shielded_vm_with_its_agents_leave_only() {
    if std::env::var_os(INSIDE).is_some() {
        return scenario();
    }
    if !hgs_testkit::is_privileged("shielded VMs that libvirt runs") {
        return;
    }
    let cache = Parts::cache_folder(|name| std::env::var_os(name)).unwrap();
    Parts::fetch(&cache, &mut |_| ()).unwrap();
    Parts::fetch_libvirt(&cache, &mut |_| ()).unwrap();
    // A shell as the first process: it waits for those whose parent has ended.
    let status = Command::new(hgs_testkit::tool("unshare", "util-linux"))
        .args(["--mount", "--propagation", "private"])
        .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["sh", "-c", "\"$@\"; exit $?", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "libvirt_starts_a_shielded_vm_with_its_agents_leave_only",
            "--exact",
            "--nocapture",
        ])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "see above");
}

fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Makes packages of the cache appear to be installed, and the system's folders a copy.
fn mount_packages(roots: &[&Path]) {
    run("mount", &["-t", "tmpfs", "tmpfs", SPACE]);
    run("mount", &["-t", "tmpfs", "tmpfs", "/run"]);
    if Path::new("/dev/kvm").exists() {
        // Guests are translated. Where the device is there and runs no guest, libvirt would examine QEMU again at each step.
        let nothing = format!("{SPACE}/no-kvm");
        fs::write(&nothing, "").unwrap();
        fs::set_permissions(&nothing, Permissions::from_mode(0)).unwrap();
        run("mount", &["--bind", &nothing, "/dev/kvm"]);
    }
    for (number, folder) in ["/etc", "/var"].iter().enumerate() {
        let [upper, work] = ["upper", "work"].map(|kind| format!("{SPACE}/{kind}-{number}"));
        for one in [&upper, &work] {
            fs::create_dir(one).unwrap();
        }
        let options = format!("lowerdir={folder},upperdir={upper},workdir={work}");
        run(
            "mount",
            &["-t", "overlay", "overlay", "-o", &options, folder],
        );
    }
    for folder in ["bin", "sbin", "lib", "share"] {
        let place = format!("/usr/{folder}");
        let mut layers = vec![PathBuf::from(&place)];
        for root in roots {
            // Some packages still have their programs and libraries outside /usr.
            layers.extend([root.join("usr").join(folder), root.join(folder)]);
        }
        layers.retain(|layer| layer.is_dir());
        let layers: Vec<_> = layers
            .iter()
            .map(|layer| layer.display().to_string())
            .collect();
        let options = format!("lowerdir={}", layers.join(":"));
        run(
            "mount",
            &["-t", "overlay", "overlay", "-o", &options, &place],
        );
    }
}

/// libvirt's daemon; it ends with the namespace.
fn start_libvirtd() -> Child {
    for folder in [
        "/etc/libvirt",
        "/var/lib/libvirt",
        "/var/log/libvirt/qemu",
        "/var/cache/libvirt",
    ] {
        fs::create_dir_all(folder).unwrap();
    }
    for (file, line) in [("/etc/passwd", USER), ("/etc/group", GROUP)] {
        let text = fs::read_to_string(file).unwrap();
        if !text.contains("\nlibvirt-qemu:") {
            fs::write(file, text + line).unwrap();
        }
    }
    fs::write("/etc/libvirt/libvirtd.conf", LIBVIRTD_CONF).unwrap();
    fs::write("/etc/libvirt/qemu.conf", QEMU_CONF).unwrap();
    let log = File::create("/mnt/libvirtd.log").unwrap();
    let mut daemon = Command::new("/usr/sbin/libvirtd")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !virsh("uri").status.success() {
        let said = || fs::read_to_string("/mnt/libvirtd.log").unwrap();
        assert!(daemon.try_wait().unwrap().is_none(), "{}", said());
        assert!(begun.elapsed() < PATIENCE, "{}", said());
    }
    daemon
}

fn virsh(words: &str) -> Output {
    Command::new("virsh")
        .args(["--connect", "qemu:///system", "--quiet"])
        .args(words.split(' '))
        .output()
        .unwrap()
}

#[track_caller]
fn virsh_done(words: &str) -> String {
    let output = virsh(words);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "virsh {words}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What virsh shows when libvirt refuses.
#[track_caller]
fn virsh_refused(words: &str) -> String {
    let output = virsh(words);
    assert!(!output.status.success(), "virsh {words} is not refused");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn define(xml: &str) {
    let file = format!("{SPACE}/domain.xml");
    fs::write(&file, xml).unwrap();
    virsh_done(&format!("define {file}"));
}

/// A fabric with one guardian and one host, who share a home.
struct Fabric {
    home: Home,
    cache: PathBuf,
    served: Served,
}

/// An agent; it is killed when dropped.
struct Agent(Child);

impl Fabric {
    fn new(cache: PathBuf) -> Self {
        let home = Home::new();
        configure(&home);
        home.write_private("passphrase", "a passphrase of ann's\n");
        home.hgs("init --config hgs.toml --name guardian.example")
            .done();
        let served = Served::start(&home);
        let fabric = Self {
            home,
            cache,
            served,
        };
        let url = fabric.served.url();
        let metadata = (fabric.served).get("/KeyProtection/service/metadata/2014-07/metadata.xml");
        fabric.home.write("fabric.xml", metadata);
        fabric.host(&format!("configure --attestation-url {url}/Attestation --key-protection-url {url}/KeyProtection")).done();
        fabric.host("host-key new --bits 2048").done();
        fabric.host("host-key export --out host1.pem").done();
        fabric.admin("host add host1 --host-key host1.pem").done();
        fabric.admin("guardian new ann --bits 2048").done();
        fabric
            .admin("guardian import fabric fabric.xml --dangerously-trust-unverified")
            .done();
        fabric
    }

    #[track_caller]
    fn admin(&self, words: &str) -> Outcome {
        let mut command = self.home.command();
        command
            .env("HGS_CONFIG", "hgs.toml")
            .env("HGS_PASSPHRASE_FROM", "file:passphrase")
            .env("XDG_CACHE_HOME", &self.cache)
            .args(words.split(' '));
        Outcome::of(&mut command)
    }

    fn host_command(&self, words: &str) -> Command {
        let mut command = Command::new(folder_of_programs().join("guarded-host"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .env("HGS_HOST_CONFIG", self.home.file("guarded-host.toml"))
            .env("HGS_HOST_STATE", self.home.file("host"))
            .env("HGS_HOST_RUNTIME", "/run/agent")
            .current_dir(self.home.path())
            .args(words.split(' '));
        command
    }

    #[track_caller]
    fn host(&self, words: &str) -> Outcome {
        Outcome::of(&mut assert_cmd::Command::from_std(self.host_command(words)))
    }

    /// Starts the agent, and returns when it answers.
    fn agent(&self) -> Agent {
        let mut agent = self
            .host_command("agent")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(agent.stderr.take().unwrap());
        let (told, listens) = mpsc::channel();
        thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let _ = told.send(line);
            }
        });
        while !listens
            .recv_timeout(PATIENCE)
            .unwrap()
            .contains("agent listens")
        {}
        Agent(agent)
    }

    /// What the owner makes, as it is imported; its files are where libvirt's QEMU may open them.
    fn bring(&self, name: &str, options: &str) -> String {
        let made = self.admin(&format!(
            "vm-image prepare {name} --owner ann --guardian fabric --demo {options} \
             --recovery-key-file {name}.recovery --json"
        ));
        let made = made.done().json();
        self.host(&format!("vm import {name}")).done();
        made["demo_line"].as_str().unwrap().to_owned()
    }

    fn move_files(&self, name: &str, to: &str) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(self.home.file("host/vms").join(name)).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_str().unwrap();
            if path.is_file() && !["vm.toml", "current", "lock"].contains(&file) {
                run("mv", &[path.to_str().unwrap(), to]);
            }
        }
    }

    fn vm(&self, name: &str) -> Value {
        self.host(&format!("vm show {name} --json")).done().json()
    }

    fn generation(&self, name: &str) -> String {
        let pointer = self.home.file("host/vms").join(name).join("current");
        fs::read_to_string(pointer).unwrap().trim().to_owned()
    }

    /// Waits until the agent has cleaned up behind a VM.
    fn until_stopped(&self, name: &str) -> Value {
        let begun = Instant::now();
        loop {
            let vm = self.vm(name);
            if vm["state"] == "stopped" {
                return vm;
            }
            assert!(begun.elapsed() < PATIENCE, "{vm}");
        }
    }
}

impl Agent {
    fn end(mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until the guest has written a text to its serial port.
fn until_said(text: &str) {
    let begun = Instant::now();
    loop {
        let said = fs::read(SERIAL).unwrap_or_default();
        let said = String::from_utf8_lossy(&said).into_owned();
        if said.contains(text) {
            return;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "the guest did not say {text:?}: {said}"
        );
        thread::park_timeout(Duration::from_millis(50));
    }
}

fn scenario() {
    let cache = Parts::cache_folder(|name| std::env::var_os(name)).unwrap();
    let vms = Parts::fetch(&cache, &mut |_| ()).unwrap();
    let libvirt = Parts::fetch_libvirt(&cache, &mut |_| ()).unwrap();
    mount_packages(&[vms.root(), libvirt.root()]);
    let fabric = Fabric::new(cache.ancestors().nth(2).unwrap().to_owned());
    let agent = fabric.agent();

    // A hook of somebody else's stays, and ours stands beside it.
    let folder = Path::new("/etc/libvirt/hooks/qemu.d");
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("guarded-host"), "#!/bin/sh\nexit 0\n").unwrap();
    fabric
        .host("libvirt install --user nobody")
        .ended(2)
        .saying("is not replaced");
    fabric.host("libvirt uninstall").ended(2);
    fs::remove_file(folder.join("guarded-host")).unwrap();
    fabric
        .host("libvirt status")
        .ended(1)
        .saying("not installed");
    fabric
        .host("libvirt install --user libvirt-qemu")
        .done()
        .saying("restart");
    let _libvirtd = start_libvirtd();
    // Now there is the user that libvirt's package makes.
    fabric.host("libvirt install").done().saying("libvirt-qemu");
    fabric.host("libvirt status").done().saying("libvirt-qemu");

    let line = fabric.bring("web1", "--direct-kernel --policy encryption-supported");
    fabric.move_files("web1", FILES);
    // QEMU writes what the guest says there.
    fs::set_permissions("/mnt/images", Permissions::from_mode(0o777)).unwrap();
    let printed = fabric
        .host(&format!("libvirt domain web1 --files {FILES} --console"))
        .done()
        .out;
    let log = format!("<serial type='file'><source path='{SERIAL}'/>");
    let xml = printed.replace("<serial type=\"pty\">", &log);
    assert_ne!(xml, printed);

    // Without an agent, a shielded VM does not start, and every other one does.
    agent.end(Signal::TERM);
    define(&xml);
    define(PLAIN);
    let refused = virsh_refused("start web1");
    assert!(refused.contains("no agent listens"), "{refused}");
    virsh_done("start plain");
    virsh_done("destroy plain");
    let agent = fabric.agent();

    // What breaks the policy is named, and nothing has changed.
    define(&xml.replace("dumpCore=\"off\"", "dumpCore='on'"));
    let refused = virsh_refused("start web1");
    assert!(
        refused.contains("dumpCore='on'") && refused.contains("encryption-supported"),
        "{refused}"
    );
    define(&xml.replace("tpm.sock", "other.sock"));
    let refused = virsh_refused("start web1");
    assert!(refused.contains("TPM is not the agent's"), "{refused}");
    assert_eq!(fabric.generation("web1"), "gen-1");

    // The disk opens with the VM's own TPM, and only what is on it says the owner's line.
    define(&xml);
    virsh_done("start web1");
    until_said(&line);
    until_said("heartbeat 2");
    assert_eq!(fabric.generation("web1"), "gen-2");
    let vm = fabric.vm("web1");
    assert_eq!(
        (&vm["state"], &vm["libvirt"]),
        (&"running".into(), &true.into()),
        "{vm}"
    );
    fabric
        .host("vm start web1")
        .ended(2)
        .saying("libvirt runs web1");
    fabric
        .host("vm stop web1")
        .ended(2)
        .saying("virsh shutdown");
    fabric
        .host("vm remove web1 --yes")
        .ended(2)
        .saying("libvirt runs web1");

    // The next agent takes the TPM over, and gives its state another key after the end.
    agent.end(Signal::KILL);
    let agent = fabric.agent();
    let vm = fabric.vm("web1");
    assert_eq!(
        (&vm["state"], &vm["libvirt"]),
        (&"running".into(), &true.into()),
        "{vm}"
    );
    virsh_done("destroy web1");
    let vm = fabric.until_stopped("web1");
    assert_eq!(vm.get("warnings"), None, "{vm}");
    assert_eq!(fabric.generation("web1"), "gen-3");

    // libvirt prepares, and QEMU does not start: nothing of the VM is left running.
    define(&xml.replace("disk.img", "no-such-disk.img"));
    let refused = virsh_refused("start web1");
    assert!(refused.contains("no-such-disk.img"), "{refused}");
    fabric.until_stopped("web1");

    // A shielded VM: a console is refused, and what is printed starts on the real libvirt.
    fabric.bring("web2", "--policy shielded");
    fabric.move_files("web2", "/mnt/images/web2");
    let domain = "libvirt domain web2 --files /mnt/images/web2";
    define(&fabric.host(&format!("{domain} --console")).done().out);
    let refused = virsh_refused("start web2");
    assert!(
        refused.contains("devices/serial") && refused.contains("`shielded`"),
        "{refused}"
    );
    define(&fabric.host(domain).done().out);
    virsh_done("start web2");
    assert_eq!(fabric.vm("web2")["policy"], "shielded");
    virsh_done("destroy web2");
    fabric.until_stopped("web2");

    // A guardian's refusal reaches whoever starts the VM.
    define(&xml);
    fabric.admin("host revoke host1 --yes").done();
    let generation = fabric.generation("web1");
    let refused = virsh_refused("start web1");
    assert!(refused.contains("revoked"), "{refused}");
    assert_eq!(fabric.generation("web1"), generation);
    agent.end(Signal::TERM);
    fabric.host("libvirt uninstall").done();
    fabric.host("libvirt uninstall").done();
}
