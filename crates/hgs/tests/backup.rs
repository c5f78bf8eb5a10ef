//! The restore drill, with the real programs: a guardian is lost, another is made of its backup, and everybody goes on.

mod common;

use std::path::{Path, PathBuf};

use common::served::{Served, configure};
use common::{Home, Outcome};
use hgs_testkit::softhsm::SoftHsm;

/// A site in one folder: guardian A at `guardian`, hosts, an owner.
struct Site {
    home: Home,
}

fn guarded_host() -> Option<PathBuf> {
    let hgs = assert_cmd::cargo::cargo_bin!("hgs");
    let program = Path::new(hgs).with_file_name("guarded-host");
    if program.is_file() {
        return Some(program);
    }
    hgs_testkit::left_out(
        "the host's half of the restore drill (build the program guarded-host, or test the workspace)",
    );
    None
}

/// The key of the backups.
fn make_identity(home: &Home) {
    let status = std::process::Command::new(hgs_testkit::tool("age-keygen", "age"))
        .args(["-o", "safe.key"])
        .current_dir(home.path())
        .output()
        .unwrap()
        .status;
    assert!(status.success());
}

impl Site {
    fn new() -> Self {
        let home = Home::new();
        configure(&home);
        home.hgs("init --config hgs.toml --name a.example --bits 2048")
            .done();
        make_identity(&home);
        Self { home }
    }

    fn recipient(&self) -> String {
        let file = String::from_utf8(self.home.read("safe.key")).unwrap();
        let (_, rest) = file.split_once("# public key: ").unwrap();
        rest.lines().next().unwrap().to_owned()
    }

    #[track_caller]
    fn ask(&self, words: &str) -> Outcome {
        self.home.hgs(&format!("{words} --config hgs.toml"))
    }

    /// With the state in another folder: the machine to which everything moves.
    #[track_caller]
    fn ask_b(&self, words: &str) -> Outcome {
        self.home.hgs(&format!("{words} --config b.toml"))
    }

    fn export(&self, out: &str) -> String {
        let words = format!(
            "state export --recipient {} --out {out} --json",
            self.recipient()
        );
        let exported = self.ask(&words).done().json();
        exported["sha256"].as_str().unwrap().to_owned()
    }

    fn configure_b(&self) {
        let configuration = String::from_utf8(self.home.read("hgs.toml")).unwrap();
        let configuration = configuration
            .replace("/guardian\"", "/b\"")
            .replace("node-1", "node-2")
            .replace("/run/", "/run-b/");
        self.home.write("b.toml", configuration);
    }

    #[track_caller]
    fn host(&self, program: &Path, name: &str, words: &str) -> Outcome {
        let mut command = assert_cmd::Command::new(program);
        command
            .args(words.split(' '))
            .env_clear()
            .envs(hgs_testkit::date_variables())
            .env("HOME", self.home.path())
            .env("HGS_HOST_CONFIG", self.home.file(&format!("{name}.toml")))
            .env("HGS_HOST_STATE", self.home.file(name))
            .current_dir(self.home.path());
        Outcome::of(&mut command)
    }

    #[track_caller]
    fn point_host(&self, program: &Path, name: &str, served: &Served) {
        let url = served.url();
        self.host(
            program,
            name,
            &format!("configure --attestation-url {url}/Attestation --key-protection-url {url}/KeyProtection --yes"),
        )
        .done();
    }
}

#[test]
fn a_guardian_is_restored_elsewhere_and_everybody_goes_on() {
    let site = Site::new();
    let home = &site.home;
    let host = guarded_host();
    let served = Served::start(home);
    if let Some(program) = &host {
        for name in ["host1", "host2"] {
            site.point_host(program, name, &served);
            site.host(program, name, "host-key new").done();
            site.host(program, name, &format!("host-key export --out {name}.pem"))
                .done();
            site.ask(&format!("host add {name} --host-key {name}.pem"))
                .done();
        }
        site.ask("host revoke host2 --reason stolen --yes").done();
        home.write(
            "fabric.xml",
            served.get("/KeyProtection/service/metadata/2014-07/metadata.xml"),
        );
        let status = site.ask("status --json").done().json();
        let thumbprint = status["primary_signing"]["thumbprint"].as_str().unwrap();
        home.unlocked("guardian new ann --bits 2048").done();
        home.hgs(&format!(
            "guardian import fabric fabric.xml --thumbprint {thumbprint}"
        ))
        .done();
        home.unlocked("protector new --owner ann --guardian fabric --out vm.xml")
            .done();
        home.write("plain", "the state of the machine");
        home.unlocked("protector seal vm.xml --owner ann --in plain --out vm.state")
            .done();
        // A tenant's own pair, which nobody but this guardian has.
        let made = |kind: &str| {
            let words =
                format!("certificate new --type {kind} --tenant Contoso --bits 2048 --json");
            let made = site.ask(&words).done().json();
            made["thumbprint"].as_str().unwrap().to_owned()
        };
        let (signing, _) = (made("signing"), made("encryption"));
        site.ask(&format!(
            "certificate export {signing} --guardian --out contoso.xml"
        ))
        .done();
        home.hgs(&format!(
            "guardian import contoso contoso.xml --thumbprint {signing}"
        ))
        .done();
        home.unlocked("protector new --owner ann --guardian contoso --out tenant.xml")
            .done();
        // Two rolls: `vm.xml` is the newest, `older.xml` the one before.
        for older in ["oldest", "older"] {
            std::fs::copy(home.file("vm.xml"), home.file(&format!("{older}.xml"))).unwrap();
            site.host(
                program,
                "host1",
                "protector unwrap vm.xml vm.state --reseal",
            )
            .done();
        }
    }

    // The backup is made while the server serves, and it says so in its log.
    let digest = site.export("backup.age");
    assert_eq!(home.mode("backup.age"), 0o600);
    let audit = site
        .ask("audit list --action export-state --json")
        .done()
        .json();
    assert_eq!(audit[0]["after"]["file"], digest.as_str());
    assert_eq!(served.stop().0, Some(0));
    std::fs::remove_dir_all(home.file("guardian")).unwrap();

    // Another machine, another name.
    site.configure_b();
    let import = "state import backup.age --initialise --name b.example --identity safe.key";
    // Saying yes to everything is no word for who wrote it.
    for import in [import.to_owned(), format!("{import} --yes")] {
        let refused = site.ask_b(&import).ended(2);
        refused
            .saying("nothing says who wrote this backup")
            .saying("`--digest`");
    }
    site.ask_b(&format!("{import} --digest {}", "0".repeat(64)))
        .ended(2);
    site.ask_b(&format!("{import} --digest {digest} --dry-run"))
        .done()
        .saying("Nothing was changed");
    assert!(!home.file("b/state.db").exists());
    site.ask_b(&format!("{import} --digest {digest}"))
        .done()
        .saying("Guardian `b.example` is made");
    site.ask_b(&format!("{import} --digest {digest}"))
        .ended(2)
        .saying("already");

    let served = Served::start_with(home, "b.toml");
    let status = site.ask_b("status --json").done().json();
    assert_eq!(status["name"], "b.example");
    let imported = site
        .ask_b("audit list --action import-state --json")
        .done()
        .json();
    assert_eq!(imported[0]["after"]["file"], digest.as_str());
    if let Some(program) = &host {
        assert_eq!(
            (&status["registered_hosts"], &status["revoked_hosts"]),
            (&1.into(), &1.into())
        );
        for name in ["host1", "host2"] {
            site.point_host(program, name, &served);
        }
        site.host(program, "host2", "attest")
            .ended(2)
            .saying("revoked");
        site.host(program, "host1", "attest").done();
        // The latest opens, and is the head of its line.
        site.host(
            program,
            "host1",
            "protector unwrap vm.xml vm.state --reseal --out opened",
        )
        .done();
        assert_eq!(home.read("opened"), b"the state of the machine");
        site.host(program, "host1", "protector unwrap oldest.xml")
            .done();
        site.host(program, "host1", "protector unwrap tenant.xml")
            .done();
        let releases = site
            .ask_b("audit list --action release --json")
            .done()
            .json();
        let standings: Vec<_> = releases
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["standing"].as_str().unwrap())
            .collect();
        assert_eq!(standings, ["new", "ancestor", "head"], "newest first");
        assert_eq!(releases[0]["lineage"], "tenant:Contoso");
    }
    assert_eq!(served.stop().0, Some(0));
}

#[test]
fn a_backup_under_a_passphrase_is_shown_and_merged() {
    let site = Site::new();
    site.home
        .write_private("passphrase-of-backup", "correct horse\n");
    let from = "--passphrase-from file:passphrase-of-backup";
    // The server is stopped: the state is opened here.
    site.ask(&format!("state export {from} --out one.age"))
        .done()
        .saying("a.example");
    site.ask("state show one.age --identity safe.key")
        .ended(2)
        .saying("passphrase");
    site.home.write_private("wrong", "wrong");
    site.ask("state show one.age --passphrase-from file:wrong")
        .ended(2)
        .saying("wrong passphrase");
    site.ask(&format!("state show one.age {from}"))
        .done()
        .saying("a.example")
        .saying("node-1");
    let configuration = site
        .ask(&format!("state show one.age {from} --configuration"))
        .done();
    assert_eq!(configuration.out.as_bytes(), site.home.read("hgs.toml"));

    site.configure_b();
    site.ask_b("init --name b.example --bits 2048").done();
    let refused = site
        .ask_b(&format!("state import one.age {from} --yes"))
        .ended(2);
    let refused = refused
        .saying("--take-theirs")
        .saying("settings service: name is b.example here and a.example");
    for kind in ["signing", "encryption", "communications"] {
        assert!(
            refused
                .err
                .contains(&format!("certificate fabric {kind}: head is ")),
            "{}",
            refused.err
        );
    }
    let dry = site
        .ask_b(&format!("state import one.age {from} --dry-run --json"))
        .ended(2)
        .json();
    assert_eq!(
        (
            dry["conflicts"].as_array().unwrap().len(),
            &dry["undecided"]
        ),
        (4, &true.into())
    );
    site.ask_b(&format!("state import one.age {from} --keep-ours"))
        .ended(2)
        .saying("--yes");
    site.ask_b(&format!("state import one.age {from} --keep-ours --yes"))
        .done();
    let served = Served::start_with(&site.home, "b.toml");
    site.ask_b("status").done().saying("b.example");
    let certificates = site.ask_b("certificate list --json").done().json();
    let certificates = certificates.as_array().unwrap();
    assert_eq!(certificates.len(), 6);
    assert!(certificates.iter().all(|one| one["usable"] == true));
    // A server holds the state.
    site.ask_b(&format!("state import one.age {from} --keep-ours --yes"))
        .ended(1)
        .saying("stop the server");
    drop(served);
    site.ask_b("state export --recipient nonsense --out two.age")
        .ended(2)
        .saying("age-keygen");
    site.home.write("not-a-backup", "x");
    site.ask_b("state show not-a-backup")
        .ended(2)
        .saying("not an age file");
}

/// Killed at every system call that makes something last: whatever is left, the state opens, under one key.
#[test]
fn a_rotation_of_the_master_key_may_be_interrupted_anywhere() {
    let strace = hgs_testkit::tool("strace", "strace");
    let site = Site::new();
    let home = &site.home;
    let hgs = assert_cmd::cargo::cargo_bin!("hgs");
    let key = || home.read("guardian/master.key");
    let is_whole = || {
        // Whatever opens the state settles it first.
        site.ask(&format!(
            "state export --recipient {} --out x.age --yes",
            site.recipient()
        ))
        .done();
        assert!(!home.file("guardian/.master.key.new").exists(), "settled");
    };
    let (mut kept, mut replaced, mut finished) = (0, 0, false);
    for calls in [
        "fsync,fdatasync",
        "rename,renameat,renameat2",
        "unlink,unlinkat",
    ] {
        for number in 1..40 {
            let old = key();
            let status = std::process::Command::new(&strace)
                .args(["-f", "-o", "trace", "-e"])
                .arg(format!("inject={calls}:signal=KILL:when={number}"))
                .arg(hgs)
                .args([
                    "state",
                    "rotate-master-key",
                    "--yes",
                    "--config",
                    "hgs.toml",
                ])
                .current_dir(home.path())
                .env_clear()
                .envs(hgs_testkit::date_variables())
                .env("HOME", home.path())
                .output()
                .unwrap()
                .status;
            is_whole();
            match key() == old {
                true => kept += 1,
                false => replaced += 1,
            }
            if status.success() {
                finished = true;
                break;
            }
        }
    }
    assert!(
        finished && kept > 1 && replaced > 1,
        "{kept} kept, {replaced} replaced"
    );
    let served = Served::start(home);
    let rotated = site
        .ask("audit list --action rotate-master-key --json")
        .done()
        .json();
    assert!(!rotated.as_array().unwrap().is_empty());
    site.ask("state rotate-master-key --yes")
        .ended(1)
        .saying("stop the server");
    assert_eq!(served.stop().0, Some(0));
}

#[test]
fn a_master_key_that_is_a_credential_is_rotated_beside_it() {
    let site = Site::new();
    let old = site.home.read("guardian/master.key");
    site.ask("state rotate-master-key").ended(2).saying("--yes");
    site.ask("state rotate-master-key --yes --new-master-key new.key")
        .done()
        .saying("new.key");
    assert_eq!(site.home.read("guardian/master.key"), old);
    assert_eq!(site.home.mode("new.key"), 0o600);
    site.ask("serve").ended(1).saying("another master key");
    std::fs::rename(
        site.home.file("new.key"),
        site.home.file("guardian/master.key"),
    )
    .unwrap();
    let served = Served::start(&site.home);
    assert_eq!(served.stop().0, Some(0));
}

/// Killed at every system call that makes something last: there is a guardian, or none, and it can be tried again.
#[test]
fn a_restore_may_be_interrupted_anywhere() {
    let strace = hgs_testkit::tool("strace", "strace");
    let site = Site::new();
    let digest = site.export("backup.age");
    site.configure_b();
    let words = format!(
        "state import backup.age --initialise --identity safe.key --digest {digest} --config b.toml"
    );
    let mut interrupted = 0;
    for number in 1.. {
        let status = std::process::Command::new(&strace)
            .args(["-f", "-o", "trace", "-e"])
            .arg(format!("inject=fsync,fdatasync:signal=KILL:when={number}"))
            .arg(assert_cmd::cargo::cargo_bin!("hgs"))
            .args(words.split(' '))
            .current_dir(site.home.path())
            .env_clear()
            .envs(hgs_testkit::date_variables())
            .env("HOME", site.home.path())
            .output()
            .unwrap()
            .status;
        if status.success() {
            break;
        }
        interrupted += 1;
        let again = site.home.hgs(&words);
        assert!(
            again.status == 0 || again.err.contains("already"),
            "{number}: {}",
            again.err
        );
        let words = format!(
            "state export --recipient {} --out b.age --yes",
            site.recipient()
        );
        site.ask_b(&words).done().saying("a.example");
        std::fs::remove_dir_all(site.home.file("b")).unwrap();
    }
    assert!(interrupted > 3, "{interrupted}");
}

#[test]
fn keys_in_a_token_are_named_and_found_again() {
    let hsm = SoftHsm::new();
    let site = Site { home: Home::new() };
    let home = &site.home;
    configure(home);
    let module = format!(
        "[[pkcs11.module]]\npath = \"{}\"\n",
        SoftHsm::module().display()
    );
    let configuration = String::from_utf8(home.read("hgs.toml")).unwrap();
    home.write("hgs.toml", configuration + &module);
    make_identity(home);
    hsm.generate("signing", "--usage-sign");
    hsm.generate("encryption", "--usage-decrypt");
    let (name, value) = hsm.environ();
    let mut init = home.command();
    init.env(name, &value)
        .args(["init", "--config", "hgs.toml"]);
    init.args(["--signing-key", &hsm.uri("signing")]);
    init.args(["--encryption-key", &hsm.uri("encryption")]);
    Outcome::of(&mut init).done();

    // No token is needed to write a backup, nor to take it in.
    let digest = site.export("backup.age");
    let clear = std::process::Command::new(hgs_testkit::tool("age", "age"))
        .args(["-d", "-i", "safe.key", "backup.age"])
        .current_dir(home.path())
        .output()
        .unwrap();
    let clear = String::from_utf8(clear.stdout).unwrap();
    let kinds = |kind: &str| clear.lines().filter(|line| line.starts_with(kind)).count();
    assert_eq!(kinds("{\"certificate\""), 3);
    // The communications certificate's and the attestation signer's.
    assert_eq!(kinds("{\"private-key\""), 2);
    let mut certificates = clear
        .lines()
        .filter(|line| line.starts_with("{\"certificate\""));
    assert!(certificates.any(|line| line.contains(&hsm.uri("encryption"))));
    site.configure_b();
    site.ask_b(&format!(
        "state import backup.age --initialise --identity safe.key --digest {digest}"
    ))
    .done();
    let token = value.display().to_string();
    let served = Served::launch(home, "b.toml", &[(name, &token)]);
    let certificates = site.ask_b("certificate list --json").done().json();
    let certificates = certificates.as_array().unwrap();
    assert_eq!(certificates.len(), 3);
    assert!(
        certificates.iter().all(|one| one["usable"] == true),
        "{certificates:?}"
    );
    assert_eq!(served.stop().0, Some(0));
}
