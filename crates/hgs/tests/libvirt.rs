//! Shielded VMs that libvirt runs: a real libvirtd and virsh, from packages in the cache, in namespaces of their own.
//!
//! The test program starts itself again with mounts and processes of its own. There, libvirt, QEMU and what they need appear to
//! be installed, and `/etc`, `/var` and `/run` are copies that go with the namespace. Only root can do that.

mod common;
#[path = "common/fabric.rs"]
mod fabric;

use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::Outcome;
use common::ordinary::folder_of_programs;
use fabric::{Agent, Fabric, PATIENCE};
use hgs_vm::parts::Parts;
use rustix::process::Signal;
use serde_json::Value;

/// Set where the test runs in its namespaces.
const INSIDE: &str = "OPENHGS_TEST_INSIDE";
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
    in_namespaces("libvirt_starts_a_shielded_vm_with_its_agents_leave_only");
}

#[test]
fn libvirt_moves_a_shielded_vm_to_a_host_with_a_release_of_its_own() {
    if std::env::var_os(INSIDE).is_some() {
        return migration();
    }
    in_namespaces("libvirt_moves_a_shielded_vm_to_a_host_with_a_release_of_its_own");
}

/// Runs a test of this program again, in namespaces of its own.
fn in_namespaces(test: &str) {
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
        .args([test, "--exact", "--nocapture"])
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
        fs::set_permissions(&nothing, Permissions::from_mode(0o000)).unwrap();
        run("mount", &["--bind", &nothing, "/dev/kvm"]);
    }
    for folder in ["/etc", "/var"] {
        let options = copy_of(folder, "a");
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

/// The options of an overlay that is a copy of a system's folder, for one of the hosts.
fn copy_of(folder: &str, host: &str) -> String {
    let [upper, work] = ["upper", "work"].map(|kind| format!("{SPACE}/{host}/{kind}{folder}"));
    for one in [&upper, &work] {
        fs::create_dir_all(one).unwrap();
    }
    format!("lowerdir={folder},upperdir={upper},workdir={work}")
}

/// libvirt's daemon; it is killed when dropped.
struct Libvirtd(Child);

impl Drop for Libvirtd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_libvirtd(qemu: &str) -> Libvirtd {
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
    fs::write("/etc/libvirt/qemu.conf", qemu).unwrap();
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
    Libvirtd(daemon)
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

/// A fabric on a system on which the packages of the cache appear to be installed.
fn new_fabric() -> Fabric {
    let cache = Parts::cache_folder(|name| std::env::var_os(name)).unwrap();
    let vms = Parts::fetch(&cache, &mut |_| ()).unwrap();
    let libvirt = Parts::fetch_libvirt(&cache, &mut |_| ()).unwrap();
    mount_packages(&[vms.root(), libvirt.root()]);
    Fabric::at("", "/run/agent")
}

/// What the owner makes, as it is imported; its files are where libvirt's QEMU may open them.
fn bring(fabric: &Fabric, name: &str, options: &str) -> String {
    let line = fabric.prepare_with(name, options);
    fabric.host(&format!("vm import {name}")).done();
    line
}

fn move_files(fabric: &Fabric, name: &str, to: &str) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(fabric.home.file("host/vms").join(name)).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap();
        if path.is_file() && !["vm.toml", "current", "lock"].contains(&file) {
            run("mv", &[path.to_str().unwrap(), to]);
        }
    }
}

/// Waits until the agent has cleaned up behind a VM.
fn until_stopped(fabric: &Fabric, name: &str) -> Value {
    let begun = Instant::now();
    loop {
        let vm = fabric.vm(name);
        if vm["state"] == "stopped" {
            return vm;
        }
        assert!(begun.elapsed() < PATIENCE, "{vm}");
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
    let fabric = new_fabric();
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
    let _libvirtd = start_libvirtd(QEMU_CONF);
    // Now there is the user that libvirt's package makes.
    fabric.host("libvirt install").done().saying("libvirt-qemu");
    fabric.host("libvirt status").done().saying("libvirt-qemu");

    let line = bring(
        &fabric,
        "web1",
        "--direct-kernel --policy encryption-supported",
    );
    move_files(&fabric, "web1", FILES);
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
    assert!(fabric.generation("web1").ends_with("gen-1"));

    // The disk opens with the VM's own TPM, and only what is on it says the owner's line.
    define(&xml);
    virsh_done("start web1");
    until_said(&line);
    until_said("heartbeat 2");
    assert!(fabric.generation("web1").ends_with("gen-2"));
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
    let vm = until_stopped(&fabric, "web1");
    assert_eq!(vm.get("warnings"), None, "{vm}");
    assert!(fabric.generation("web1").ends_with("gen-3"));

    // libvirt prepares, and QEMU does not start: nothing of the VM is left running.
    define(&xml.replace("disk.img", "no-such-disk.img"));
    let refused = virsh_refused("start web1");
    assert!(refused.contains("no-such-disk.img"), "{refused}");
    until_stopped(&fabric, "web1");

    // A shielded VM: a console is refused, and what is printed starts on the real libvirt.
    bring(&fabric, "web2", "--policy shielded");
    move_files(&fabric, "web2", "/mnt/images/web2");
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
    until_stopped(&fabric, "web2");

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

/// A second host, in a mount namespace of its own below this one: with its own `/etc`, `/var` and `/run`.
struct Other<'f> {
    fabric: &'f Fabric,
    /// It holds the namespace, and ends with the first one.
    anchor: Child,
}

impl<'f> Other<'f> {
    fn new(fabric: &'f Fabric) -> Self {
        let mounts = ["/etc", "/var"].map(|folder| {
            let options = copy_of(folder, "b");
            format!("mount -t overlay overlay -o {options} {folder}")
        });
        let script = format!(
            "mount -t tmpfs tmpfs /run && {} && echo mounted && exec cat",
            mounts.join(" && ")
        );
        let mut anchor = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(anchor.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "mounted\n");
        Self { fabric, anchor }
    }

    /// A command there.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--mount=/proc/{}/ns/mnt", self.anchor.id()))
            .arg(program)
            .env("HGS_HOST_CONFIG", self.fabric.home.file("other.toml"))
            .env("HGS_HOST_STATE", self.fabric.home.file("other"))
            .env("HGS_HOST_RUNTIME", "/run/agent")
            .current_dir(self.fabric.home.path());
        command
    }

    #[track_caller]
    fn host(&self, words: &str) -> Outcome {
        let mut command = self.command(&folder_of_programs().join("guarded-host"));
        command.args(words.split(' '));
        Outcome::of(&mut assert_cmd::Command::from_std(command))
    }

    #[track_caller]
    fn virsh_done(&self, words: &str) {
        let mut command = self.command(Path::new("virsh"));
        command
            .args(["--connect", OTHER_LIBVIRT])
            .args(words.split(' '));
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "virsh {words} there: {errors}");
    }

    fn start_libvirtd(&self) -> Libvirtd {
        let conf = format!(
            "{LIBVIRTD_CONF}unix_sock_dir = \"/mnt/b/libvirt\"\n\
             host_uuid = \"0b7f6a1e-8d0a-4a53-9f1c-6f2d1c3e2d3c\"\n"
        );
        for folder in [
            "etc/libvirt",
            "var/lib/libvirt",
            "var/log/libvirt/qemu",
            "var/cache/libvirt",
        ] {
            let folder = format!("/{folder}");
            let made = self
                .command(Path::new("mkdir"))
                .args(["-p", &folder])
                .status();
            assert!(made.unwrap().success());
        }
        fs::create_dir_all("/mnt/b/libvirt").unwrap();
        for (name, text) in [
            ("libvirtd.conf", conf.as_str()),
            ("qemu.conf", &qemu_conf_of_moves()),
        ] {
            let staged = format!("/mnt/b/{name}");
            fs::write(&staged, text).unwrap();
            let target = format!("/etc/libvirt/{name}");
            let copied = self
                .command(Path::new("cp"))
                .args([&staged, &target])
                .status();
            assert!(copied.unwrap().success());
        }
        for file in ["/etc/passwd", "/etc/group"] {
            let copied = format!("/mnt/b{}", file.replace('/', "-"));
            fs::copy(file, &copied).unwrap();
            let copied = self
                .command(Path::new("cp"))
                .args([copied.as_str(), file])
                .status();
            assert!(copied.unwrap().success());
        }
        let log = File::create("/mnt/b/libvirtd.log").unwrap();
        let daemon = self
            .command(Path::new("/usr/sbin/libvirtd"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let begun = Instant::now();
        // The socket is there a moment before somebody listens.
        while UnixStream::connect("/mnt/b/libvirt/libvirt-sock").is_err() {
            assert!(
                begun.elapsed() < PATIENCE,
                "{:?}",
                fs::read_to_string("/mnt/b/libvirtd.log")
            );
        }
        Libvirtd(daemon)
    }
}

const OTHER_LIBVIRT: &str = "qemu+unix:///system?socket=/mnt/b/libvirt/libvirt-sock";

/// Both hosts have one disk, whose owner must not change when the VM leaves the one.
fn qemu_conf_of_moves() -> String {
    QEMU_CONF.replace("dynamic_ownership = 1", "dynamic_ownership = 0")
}

/// The number of the last heartbeat.
fn heartbeat() -> u32 {
    let said = fs::read(SERIAL).unwrap_or_default();
    let said = String::from_utf8_lossy(&said).into_owned();
    let beats = said.rsplit("heartbeat ").next().unwrap_or_default();
    beats.split(' ').next().unwrap_or_default().parse().unwrap()
}

fn migrate() -> String {
    format!(
        "migrate --live --p2p --unsafe --persistent --undefinesource web1 {OTHER_LIBVIRT} \
         --migrateuri unix:///mnt/images/migration.sock"
    )
}

fn migration() {
    let fabric = new_fabric();
    let free_port = || format!("127.0.0.1:{}", hgs_testkit::free_ports(1));
    let home_port = free_port();
    let _agent = Agent::start(fabric.host_command(&format!("agent --listen {home_port}")));
    let install = "libvirt install --user libvirt-qemu";
    fabric.host(install).done();
    let _libvirtd = start_libvirtd(&qemu_conf_of_moves());
    let line = bring(
        &fabric,
        "web1",
        "--direct-kernel --policy encryption-supported",
    );
    move_files(&fabric, "web1", FILES);
    run("chown", &["-R", "libvirt-qemu", "/mnt/images"]);
    let domain = format!("libvirt domain web1 --files {FILES} --console");
    let xml = fabric.host(&domain).done().out;
    let log = format!("<serial type='file'><source path='{SERIAL}' append='on'/>");
    define(&xml.replace("<serial type=\"pty\">", &log));
    virsh_done("start web1");
    until_said("heartbeat 1");

    let other = Other::new(&fabric);
    other.host(install).done();
    let _other_libvirtd = other.start_libvirtd();
    let url = fabric.served.url();
    other
        .host(&format!(
            "configure --attestation-url {url}/Attestation --key-protection-url {url}/KeyProtection"
        ))
        .done();
    other.host("host-key new --bits 2048").done();
    // A command in another namespace begins in `/`.
    let key = fabric.home.file("host2.pem").display().to_string();
    other.host(&format!("host-key export --out {key}")).done();
    let port = free_port();
    let mut command = other.command(&folder_of_programs().join("guarded-host"));
    command.args(["agent", "--listen", &port]);
    let _other_agent = Agent::start(command);

    // The other host's libvirt asks its agent, which knows of no such VM; and no release, no offer. The VM goes on here.
    let refused = virsh_refused(&migrate());
    assert!(refused.contains("this host has no VM with id"), "{refused}");
    let offer = format!("libvirt offer web1 --to {port}");
    fabric.host(&offer).ended(2).saying("host-not-registered");
    let beat = heartbeat();
    until_said(&format!("heartbeat {} ", beat + 2));
    assert_eq!(fabric.vm("web1")["state"], "running");

    fabric.admin("host add host2 --host-key host2.pem").done();
    fabric.host(&offer).done().saying("virsh migrate");
    // libvirt can't connect the two QEMUs: nothing of the VM stays there, and it goes on here.
    virsh_refused(&migrate().replace("/mnt/images/", "/mnt/nowhere/"));
    let begun = Instant::now();
    while other.host("vm list --json").done().json() != Value::Array(Vec::new()) {
        assert!(begun.elapsed() < PATIENCE, "{}", other.host("vm list").out);
    }
    let beat = heartbeat();
    until_said(&format!("heartbeat {} ", beat + 2));

    fabric.host(&offer).done();
    virsh_done(&migrate());
    // It goes on there, with its TPM, and nothing of it stays here.
    let beat = heartbeat();
    until_said(&format!("heartbeat {} ", beat + 2));
    let show = "vm show web1 --json";
    while other.host(show).done().json()["state"] != "running" {
        assert!(begun.elapsed() < PATIENCE, "{}", other.host(show).out);
    }
    while fabric.home.file("host/vms/web1").exists() {
        assert!(
            begun.elapsed() < PATIENCE,
            "the source has deleted what it had"
        );
    }
    fabric.host("vm show web1").ended(2);

    // It starts there anew: the state that came opens the disk.
    other.virsh_done("destroy web1");
    while other.host(show).done().json()["state"] != "stopped" {
        assert!(begun.elapsed() < PATIENCE, "{}", other.host(show).out);
    }
    fs::write(SERIAL, "").unwrap();
    other.virsh_done("start web1");
    until_said(&line);

    // It is offered back, and ends before libvirt brings it: it stays where it is, and its state gets another key.
    other
        .host(&format!("libvirt offer web1 --to {home_port}"))
        .done();
    assert_eq!(fabric.vm("web1")["state"], "migrating");
    other.virsh_done("destroy web1");
    while other.host(show).done().json()["state"] != "stopped" {
        assert!(begun.elapsed() < PATIENCE, "{}", other.host(show).out);
    }
    assert_eq!(other.host(show).done().json().get("warnings"), None);
    fabric.host("vm show web1").ended(2);
    assert!(!fabric.home.file("host/vms/web1").exists());
}
