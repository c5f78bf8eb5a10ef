//! `docs/guide.md` and `docs/certificates.md` as their readers follow them: every command, in order, by parties who share
//! a folder here.

mod common;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::process::Command;

use common::Home;
use common::ordinary::{OrdinaryUser, folder_of_programs};
use common::served::{Served, configure};

const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide.md");

const INSTALLATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/installation.md");

const CERTIFICATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/certificates.md");

/// The commands of a page, one a line.
fn commands(page: &str) -> Vec<String> {
    let page = fs::read_to_string(page).unwrap();
    let blocks = page.split("```sh\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap_or_default().lines());
    lines.map(str::to_owned).collect()
}

/// The reader of the page, with everything in one home.
struct Reader {
    home: Home,
    /// Who follows the page, if not the user that runs the test.
    user: Option<OrdinaryUser>,
    served: Option<Served>,
    thumbprint: String,
    /// Words of the page that stand for thumbprints and digests.
    words: BTreeMap<&'static str, String>,
}

impl Reader {
    fn new() -> Self {
        Self::for_user(None)
    }

    fn for_user(user: Option<OrdinaryUser>) -> Self {
        let home = Home::new();
        configure(&home);
        if let Some(user) = &user {
            user.own(home.path());
        }
        Self {
            home,
            user,
            served: None,
            thumbprint: String::new(),
            words: BTreeMap::new(),
        }
    }

    #[track_caller]
    fn follow(&mut self, line: &str) {
        let (line, comment) = line.split_once(" # ").unwrap_or((line, ""));
        let line = line.trim_end();
        if let Some(variables) = line.strip_suffix("hgs serve") {
            let variables = variables
                .split_whitespace()
                .filter_map(|one| one.split_once('='));
            let mut serve = self.command("hgs");
            serve
                .args(["serve", "--config", "hgs.toml"])
                .env_clear()
                .envs(hgs_testkit::date_variables())
                .env("PATH", self.path())
                .envs(variables);
            self.served = Some(Served::start_by(&self.home, serve));
            return;
        }
        if line == "systemctl stop openhgs" {
            let (status, log) = self.served.take().expect("it serves").stop();
            assert_eq!(status, Some(0), "{log}");
            return;
        }
        let output = self.run(line);
        let out = String::from_utf8_lossy(&output.stdout);
        let err = String::from_utf8_lossy(&output.stderr);
        let expected = match comment.trim_start().strip_prefix("status ") {
            Some(status) => status[..1].parse().unwrap(),
            None => 0,
        };
        assert_eq!(output.status.code(), Some(expected), "{line}: {out}{err}");
        let stands_alone = |line: &&str| line.len() == 64;
        let mut lines = out.lines().map(str::trim);
        if line.starts_with("hgs init") {
            self.thumbprint = lines.find(stands_alone).expect("a thumbprint").to_owned();
        } else if line.starts_with("hgs state export") {
            let digest = lines.find(stands_alone).expect("a digest");
            self.words.insert("DIGEST", digest.to_owned());
        }
        for (word, kind) in [
            ("SIGNING-THUMBPRINT", "The signing certificate "),
            ("ENCRYPTION-THUMBPRINT", "The encryption certificate "),
        ] {
            if let Some(rest) = out.strip_prefix(kind)
                && line.contains("--type")
            {
                self.words.insert(word, rest[..64].to_owned());
            }
        }
    }

    fn run(&self, line: &str) -> std::process::Output {
        let mut line = line.to_owned();
        // The longer words first: one ends with another.
        let mut words: Vec<_> = self.words.iter().collect();
        words.sort_by_key(|(word, _)| std::cmp::Reverse(word.len()));
        for (word, thumbprint) in words {
            line = line.replace(word, thumbprint);
        }
        let mut line = line.replace("THUMBPRINT", &self.thumbprint);
        if let Some(served) = &self.served {
            line = line.replace("http://guardian.example", &served.url());
        }
        let home = self.home.path();
        self.command("sh")
            .args(["-c", &line])
            .current_dir(home)
            .env_clear()
            .envs(hgs_testkit::date_variables())
            .env("PATH", self.path())
            .env("HOME", home)
            .env("HGS_CONFIG", home.join("hgs.toml"))
            .env(
                "HGS_PASSPHRASE_FROM",
                format!("file:{}/passphrase", home.display()),
            )
            .env("HGS_HOST_CONFIG", home.join("guarded-host.toml"))
            .env("HGS_HOST_STATE", home.join("host"))
            .output()
            .unwrap()
    }

    /// A command of the user who follows the page.
    fn command(&self, program: &str) -> Command {
        let prefix = self.user.as_ref().map(OrdinaryUser::prefix);
        let mut words = prefix
            .unwrap_or_default()
            .into_iter()
            .chain([OsString::from(program)]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        command
    }

    /// The programs of this build, before those of the machine.
    fn path(&self) -> OsString {
        let mut folders = vec![match &self.user {
            Some(user) => user.programs().to_owned(),
            None => folder_of_programs(),
        }];
        folders.extend(std::env::split_paths(
            &std::env::var_os("PATH").unwrap_or_default(),
        ));
        std::env::join_paths(folders).unwrap()
    }
}

/// As root and as an ordinary user, where root runs the tests; else as the user who runs them.
#[test]
fn every_command_of_the_guide_works_as_it_is_written() {
    follow_the_guide(None);
}

#[test]
fn every_command_of_the_guide_works_for_an_ordinary_user_beside_root() {
    let what = "docs/guide.md as root and as another user";
    if let Some(user) = OrdinaryUser::new("nobody", "nogroup", what) {
        follow_the_guide(Some(user));
    }
}

fn follow_the_guide(user: Option<OrdinaryUser>) {
    hgs_testkit::tool("curl", "curl");
    hgs_testkit::tool("age-keygen", "age");
    let has_host = folder_of_programs().join("guarded-host").is_file();
    if !has_host {
        hgs_testkit::left_out(
            "the host's commands of docs/guide.md (build the program guarded-host, or test the workspace)",
        );
    }
    let commands = commands(GUIDE);
    assert!(commands.len() > 35, "{} commands", commands.len());
    let mut reader = Reader::for_user(user);
    if let Some(user) = &reader.user {
        let id = String::from_utf8(reader.run("id -un").stdout).unwrap();
        assert_eq!(id.trim_end(), user.name());
    }
    // What is on the host's disk without the host's commands.
    let host_made = ["host1.pem", "opened"];
    for line in &commands {
        let needs_host =
            line.starts_with("guarded-host") || host_made.iter().any(|file| line.contains(file));
        if has_host || !(needs_host || line.contains("host1")) {
            reader.follow(line);
        }
    }
    let (status, log) = reader.served.take().unwrap().stop();
    assert_eq!(status, Some(0), "{log}");
}

#[test]
fn every_command_about_certificates_works_as_it_is_written() {
    hgs_testkit::tool("openssl", "openssl");
    let commands = commands(CERTIFICATES);
    assert!(commands.len() > 30, "{} commands", commands.len());
    let mut reader = Reader::new();
    reader.follow("hgs init --name guardian.example");
    reader.follow("hgs serve");
    let status = reader.run("hgs status --json");
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    for (word, kind) in [
        ("OLD-SIGNING-THUMBPRINT", "primary_signing"),
        ("OLD-ENCRYPTION-THUMBPRINT", "primary_encryption"),
    ] {
        let thumbprint = status[kind]["thumbprint"].as_str().unwrap();
        reader.words.insert(word, thumbprint.to_owned());
    }
    for line in &commands {
        reader.follow(line);
    }
    let (status, log) = reader.served.take().unwrap().stop();
    assert_eq!(status, Some(0), "{log}");
}

/// `docs/installation.md` promises a first key over HTTPS in seven commands from installed programs.
#[test]
fn the_first_key_is_released_over_https_in_seven_commands() {
    if !folder_of_programs().join("guarded-host").is_file() {
        hgs_testkit::left_out(
            "the first key over HTTPS (build the program guarded-host, or test the workspace)",
        );
        return;
    }
    let page = fs::read_to_string(INSTALLATION).unwrap();
    let (_, section) = page
        .split_once("\n## The first key, in seven commands\n")
        .unwrap();
    let block = section.split("```").nth(1).unwrap();
    let commands: Vec<&str> = block.strip_prefix("sh\n").unwrap().lines().collect();
    assert_eq!(commands.len(), 7, "{commands:?}");
    let mut reader = Reader::new();
    let port = hgs_testkit::free_ports(1);
    let configuration = fs::read_to_string(reader.home.file("hgs.toml")).unwrap();
    let https = format!("[listen.https]\naddress = \"127.0.0.1:{port}\"\n");
    reader.home.write("hgs.toml", configuration + &https);
    for command in commands {
        let command = command
            .replace(
                "https://guardian.example",
                &format!("https://127.0.0.1:{port}"),
            )
            .replace("guardian.example", "127.0.0.1");
        reader.follow(&command);
        if command.starts_with("hgs init") {
            fs::copy(
                reader.home.file("guardian/tls.pem"),
                reader.home.file("tls.pem"),
            )
            .unwrap();
        }
    }
    reader.follow("hgs audit list --action release --host host1");
    let (status, log) = reader.served.take().unwrap().stop();
    assert_eq!(status, Some(0), "{log}");
}
