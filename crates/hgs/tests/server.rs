//! `hgs init`, `serve` and `server check`, as an administrator begins.

mod common;

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use common::ordinary::OrdinaryUser;
use common::served::{Served, configure};
use common::{Home, Outcome};
use rustix::process::{Pid, Signal, kill_process};

const METADATA: &str = "/KeyProtection/service/metadata/2014-07/metadata.xml";

fn home() -> Home {
    let home = Home::new();
    configure(&home);
    home
}

#[test]
fn a_guardian_is_made_once_serves_and_is_imported_by_its_thumbprint() {
    let home = home();
    home.hgs("serve --config hgs.toml")
        .ended(1)
        .saying("hgs init");
    let check = home
        .hgs("server check --config hgs.toml --json")
        .ended(2)
        .json();
    assert_eq!(check["works"], false);

    let init = "init --config hgs.toml --name guardian.example --bits 2048";
    let made = home.hgs(&format!("{init} --json")).done().json();
    assert_eq!(made["name"], "guardian.example");
    assert_eq!(
        made["signing"]["subject"],
        "CN=OpenHGS Guardian Signing (guardian.example)"
    );
    assert_eq!(
        (home.mode("guardian"), home.mode("guardian/master.key")),
        (0o700, 0o600)
    );
    home.hgs(init).ended(2).saying("there is a guardian in");
    let check = home
        .hgs("server check --config hgs.toml --json")
        .done()
        .json();
    assert_eq!(check["works"], true);

    let served = Served::start(&home);
    home.hgs("serve --config hgs.toml")
        .ended(1)
        .saying("in use by another process");
    home.write("metadata.xml", served.get(METADATA));
    let thumbprint = made["signing"]["thumbprint"].as_str().unwrap();
    let import = "guardian import fabric metadata.xml --thumbprint";
    home.hgs(&format!("{import} {thumbprint}")).done();
    let (status, log) = served.stop();
    assert_eq!(status, Some(0), "{log}");

    // The same state serves again.
    let again = Served::start(&home);
    home.write("again.xml", again.get(METADATA));
    let import = "guardian import again again.xml --thumbprint";
    home.hgs(&format!("{import} {thumbprint}")).done();
}

#[test]
fn a_guardian_is_made_from_given_certificates() {
    let home = home();
    for name in ["signing", "encryption"] {
        let subject = format!("/CN={name}");
        home.openssl(&format!(
            "req -x509 -newkey rsa:2048 -nodes -subj {subject} -keyout {name}.key -out {name}.pem"
        ));
    }
    home.openssl("pkcs12 -export -inkey signing.key -in signing.pem -passout file:passphrase -out signing.pfx");
    let init = "init --config hgs.toml --json --signing-certificate signing.pfx --signing-passphrase-from file:passphrase \
                --encryption-certificate encryption.pem --encryption-key encryption.key";
    let made = home.hgs(init).done().json();
    assert_eq!(made["signing"]["subject"], "CN=signing");
    assert_eq!(made["encryption"]["subject"], "CN=encryption");
    home.hgs("init --config hgs.toml --signing-certificate signing.pfx")
        .ended(64);
}

#[test]
fn a_configuration_that_is_none_is_refused_by_key_and_line() {
    let home = Home::new();
    home.write("bad.toml", "[server]\nnmae = \"x\"\n");
    for command in ["server check", "serve", "init"] {
        home.hgs(&format!("{command} --config bad.toml"))
            .ended(2)
            .saying("bad.toml:2:1")
            .saying("nmae");
        home.hgs(&format!("{command} --config absent.toml"))
            .ended(1);
    }
}

/// What goes into a file or a journal is plain text, without the forms that Rust shows to its programmers.
#[test]
fn the_log_of_a_service_has_no_escapes_and_no_forms_of_a_programming_language() {
    let home = home();
    home.hgs("init --config hgs.toml --name guardian.example --bits 2048")
        .done();
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("hgs"));
    let mut child = command
        .args(["serve", "--config", "hgs.toml"])
        .current_dir(home.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = String::new();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    while !log.contains("serving") {
        assert_ne!(lines.read_line(&mut log).unwrap(), 0, "{log}");
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    lines.read_to_string(&mut log).unwrap();
    child.wait().unwrap();
    for form in ["\x1b", "Some(", "None", " {"] {
        assert!(!log.contains(form), "{form:?} in {log}");
    }
    assert!(log.contains(" http=127.0.0.1:"), "{log}");
}

/// `hgs VERSION (COMMIT DATE)`, or in place of the commit why there is none; the same for every command.
#[test]
fn the_version_names_the_commit() {
    let home = Home::new();
    let version = format!("{}\n", hgs_terminal::VERSION);
    assert!(version.starts_with(concat!(env!("CARGO_PKG_VERSION"), " (")));
    home.hgs("--version")
        .done()
        .saying(format!("hgs {version}"));
    home.hgs("host add --version").done().saying(&version);
}

/// A member of the group in `[listen.admin]`, with no configuration of its own and no option.
#[test]
fn an_administrator_who_is_not_root_reaches_the_server_of_the_machine() {
    let what = "an administrator who is not root";
    let (Some(ann), Some(mut serve)) = (
        OrdinaryUser::new("daemon", "daemon", what),
        hgs_testkit::in_mount_namespace(what),
    ) else {
        return;
    };
    let nsenter = hgs_testkit::tool("nsenter", "util-linux");
    let home = Home::new();
    std::fs::create_dir_all(home.file("etc/openhgs")).unwrap();
    home.write(
        "etc/openhgs/openhgs.toml",
        "[listen.http]\naddress = \"127.0.0.1:0\"\n[listen.metrics]\nenabled = false\n\
         [listen.admin]\ngroup = \"daemon\"\nadministrators_group = \"daemon\"\n",
    );
    // The system's paths, empty but for the configuration.
    let script = "mount -t overlay overlay -o lowerdir=etc:/etc /etc && mount -t tmpfs tmpfs /run && \
                  mount -t tmpfs tmpfs /var/lib && \"$0\" init --bits 2048 >/dev/null && exec \"$0\" serve";
    serve.args(["sh", "-c", script]);
    serve.arg(assert_cmd::cargo::cargo_bin!("hgs"));
    serve.env_remove("XDG_RUNTIME_DIR");
    let served = Served::start_by(&home, serve);
    let run = |prefix: Vec<std::ffi::OsString>, words: &str| {
        let mut command = assert_cmd::Command::new(&nsenter);
        command
            .args(["--target", &served.process().to_string(), "--mount"])
            .args(prefix)
            .args(words.split(' '))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", "/nonexistent");
        Outcome::of(&mut command)
    };
    let hgs = ann.programs().join("hgs").display().to_string();
    let cannot_enter =
        "group `daemon` may connect to the admin socket and can't enter its folder /run/openhgs";

    let status = run(ann.prefix(), &format!("{hgs} status --json"));
    assert_eq!(status.done().json()["name"], "openhgs");
    let check = run(Vec::new(), &format!("{hgs} server check"));
    assert!(!check.out.contains(cannot_enter), "{check:?}");

    run(Vec::new(), "chmod 0700 /run/openhgs").done();
    run(Vec::new(), &format!("{hgs} server check"))
        .ended(2)
        .saying(cannot_enter)
        .saying("RuntimeDirectoryMode=0755");
    let refused = run(ann.prefix(), &format!("{hgs} status"));
    assert_ne!(refused.status, 0);
    refused.saying("/run/openhgs/admin.sock");
}

/// The unit opens ports that its user alone may not: that is no fault of the configuration.
#[test]
fn a_privileged_port_is_left_to_the_unit() {
    let what = "a user who may not open privileged ports";
    let start = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    let privileged = start.trim().parse::<u16>().unwrap().checked_sub(1);
    let (Some(user), Some(port)) = (OrdinaryUser::new("daemon", "daemon", what), privileged) else {
        return;
    };
    let home = home();
    home.hgs("init --config hgs.toml --name guardian.example --bits 2048")
        .done();
    let configuration = String::from_utf8(home.read("hgs.toml")).unwrap();
    let with_port = configuration.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    home.write("hgs.toml", with_port);
    user.own(home.path());
    let prefix = user.prefix();
    let mut check = assert_cmd::Command::new(&prefix[0]);
    check
        .args(&prefix[1..])
        .arg(user.programs().join("hgs"))
        .args(["server", "check", "--config", "hgs.toml"])
        .current_dir(home.path());
    Outcome::of(&mut check)
        .done()
        .saying("it grants CAP_NET_BIND_SERVICE")
        .saying("works for the service that the systemd unit starts");
}
