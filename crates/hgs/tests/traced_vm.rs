//! What strace sees of an agent, of swtpm and of QEMU from the start of a VM to its end: where the released keys go.

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::ordinary::folder_of_programs;
use common::served::{Served, configure};
use common::{Home, Outcome};
use hgs_agent::{AgentStatus, Client, Request};
use hgs_client::sealed_file::{self, SealedAnew};
use hgs_crypto::{SecretBytes, hex};
use hgs_pki::{CertificateCache, SignatureCache};
use hgs_protector::metadata::{Expired, Metadata, Trust};
use hgs_protector::{HeldPair, Protector, TransportKey, open};
use hgs_testkit::fixtures::{Guardian, Keys, Repeatable};
use hgs_testkit::{tool, traced_calls};
use hgs_vm::description::Description;
use hgs_vm::generation::StateFolder;
use hgs_vm::parts::Parts;
use hgs_vm::program::Program;
use hgs_vm::protection::{self, Policy, Protection};
use hgs_vm::swtpm::{Channels, Contents, Settings, StateKey, Swtpm};
use rustix::process::{Pid, Signal, kill_process};

/// The calls by which octets leave a process or enter another one.
const CALLS: &str = "trace=write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,sendmmsg,execve,execveat,memfd_create,\
                     read,readv,pread64,recvfrom,recvmsg,add_key,setxattr";
const DESCRIPTION: &str = r#"
name = "web1"
id = "6f2d1c3e-8d0a-4a53-9f1c-0b7f6a1e2d3c"
memory = "256MiB"
processors = 1
[firmware]
profile = "secure-boot"
variables = "firmware-vars.fd"
[disk]
file = "disk.img"
format = "raw"
"#;

/// A fabric, a host whose agent is traced, and an owner whose keys are known here.
struct Traced {
    home: Home,
    cache: PathBuf,
    served: Served,
}

impl Traced {
    fn new() -> Self {
        let cache = Parts::cache_folder(|name| std::env::var_os(name)).unwrap();
        Parts::fetch(&cache, &mut |_| ()).unwrap();
        let home = Home::new();
        configure(&home);
        home.hgs("init --config hgs.toml --name guardian.example")
            .done();
        let served = Served::start(&home);
        let traced = Self {
            home,
            cache,
            served,
        };
        let url = traced.served.url();
        traced.host(&format!(
            "configure --attestation-url {url}/Attestation --key-protection-url {url}/KeyProtection"
        ));
        traced.host("host-key new --bits 2048");
        traced.host("host-key export --out host1.pem");
        let mut add = traced.home.command();
        add.env("HGS_CONFIG", "hgs.toml");
        Outcome::of(add.args("host add host1 --host-key host1.pem".split(' '))).done();
        traced
    }

    fn environment(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            // `parts` is two folders below the one that XDG_CACHE_HOME names.
            .env("XDG_CACHE_HOME", self.cache.ancestors().nth(2).unwrap())
            .env("HGS_HOST_CONFIG", self.home.file("guarded-host.toml"))
            .env("HGS_HOST_STATE", self.home.file("host"))
            .env("HGS_HOST_RUNTIME", self.home.file("run-host"))
            .current_dir(self.home.path());
    }

    #[track_caller]
    fn host(&self, words: &str) {
        let mut command = Command::new(folder_of_programs().join("guarded-host"));
        self.environment(&mut command);
        command.args(words.split(' '));
        Outcome::of(&mut assert_cmd::Command::from_std(command)).done();
    }

    /// A VM as its owner delivers it, in the folder `web1`; its transport key.
    fn deliver(&self) -> TransportKey {
        let random = &mut Repeatable::seeded(1);
        let octets = self
            .served
            .get("/KeyProtection/service/metadata/2014-07/metadata.xml");
        let (certificates, signatures) = (CertificateCache::new(8), SignatureCache::new(8));
        let metadata = Metadata::read(&octets, &certificates, &signatures).unwrap();
        let now = hgs_clock::Clock::now(&hgs_clock::SystemClock);
        let fabric = metadata
            .import(&Trust::DangerousNone, Expired::Refuse, now)
            .unwrap();
        let owner = Guardian::named("owner");
        let protection = Protection {
            vm: Description::read(DESCRIPTION).unwrap().id,
            policy: Policy::Shielded,
        };
        let protection = SecretBytes::new(protection.to_json());
        let (certificates, keys) = (&owner.certificates, &mut &Keys::of(&[owner]));
        let sealed = sealed_file::seal_anew(&protection, certificates, &[fabric], keys, random);
        let SealedAnew {
            key,
            protector,
            file,
        } = sealed.unwrap();

        let folder = self.home.file("web1");
        let mut state = StateFolder::create(&folder).unwrap();
        let emulator = Parts::open(&self.cache)
            .unwrap()
            .unwrap()
            .emulator()
            .unwrap();
        fs::write(folder.join("vm.toml"), DESCRIPTION).unwrap();
        fs::write(folder.join("disk.img"), vec![0; 1 << 20]).unwrap();
        let variables = folder.join("firmware-vars.fd");
        fs::copy(&emulator.ovmf.empty_variables, variables).unwrap();
        let staged = state.stage().unwrap();
        let mut tpm = Swtpm::start(&Settings {
            program: &Program::installed("swtpm"),
            folder: staged.path(),
            contents: Contents::New,
            key: &StateKey::of_transport_key(key.secret()).unwrap(),
            migration_key: None,
            channels: Channels::Private,
        })
        .unwrap();
        tpm.initialise().unwrap();
        tpm.shut_down().unwrap();
        fs::write(staged.path().join(protection::SEALED_FILE), file).unwrap();
        state.settle(staged, protector.octets()).unwrap();
        key
    }

    /// The transport key of the VM's protector of now, which the owner can always open.
    fn transport_key(&self) -> TransportKey {
        let folder = self.home.file("host/vms/web1");
        let current = fs::read_to_string(folder.join("current")).unwrap();
        let octets = fs::read(folder.join(current.trim()).join("protector.xml")).unwrap();
        let protector = Protector::read(&octets, &CertificateCache::new(8)).unwrap();
        let protector = protector.verify(&SignatureCache::new(8)).unwrap();
        let owner = Guardian::named("owner");
        let pair = HeldPair {
            signing: owner.signing.thumbprint(),
            encryption: owner.encryption.thumbprint(),
            head: true,
        };
        let opened = open(&protector, &[pair], &mut &Keys::of(&[owner])).unwrap();
        opened.into_transport_key()
    }

    /// Runs the agent under strace for as long as `work` takes; the lines of the trace.
    fn trace(&self, work: impl FnOnce()) -> Vec<String> {
        let trace = self.home.file("trace");
        let mut command = Command::new(tool("strace", "strace"));
        self.environment(&mut command);
        // All octets in hexadecimal, all of the environment, and what each descriptor is.
        command
            .args(["-f", "-y", "-v", "-xx", "-s", "1000000", "-e", CALLS, "-o"])
            .arg(&trace)
            .arg(folder_of_programs().join("guarded-host"))
            .arg("agent")
            .stderr(Stdio::piped());
        let mut agent = command.spawn().unwrap();
        let mut log = BufReader::new(agent.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("agent listens") {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "the agent ended");
        }
        let client = Client::new(&self.home.file("run-host/agent.sock"));
        let status: AgentStatus = client.ask(&Request::Status {}, |_| ()).unwrap();
        let agent = Agent {
            strace: agent,
            agent: Pid::from_raw(status.process.try_into().unwrap()).unwrap(),
        };
        work();
        drop(agent);
        traced_calls(&fs::read_to_string(trace).unwrap())
    }
}

/// An agent under strace. Both end when this is dropped.
struct Agent {
    strace: Child,
    agent: Pid,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = kill_process(self.agent, Signal::TERM);
        // It ends with the last process that it traces.
        let _ = self.strace.wait();
    }
}

/// Octets as strace shows them.
fn shown(octets: &[u8]) -> String {
    octets
        .iter()
        .map(|octet| format!("\\x{octet:02x}"))
        .collect()
}

/// The forms in which a secret might be written.
fn forms(secret: &[u8]) -> [String; 4] {
    let text = hex::encode(secret);
    let base64 = hgs_crypto::base64::encode(secret);
    // The last letters of Base64 depend on what follows.
    let base64 = &base64[..base64.len() - 4];
    [
        shown(secret),
        shown(text.as_bytes()),
        shown(text.to_uppercase().as_bytes()),
        shown(base64.as_bytes()),
    ]
}

/// Lines that show a secret.
fn lines_with<'l>(lines: &'l [String], secret: &SecretBytes) -> Vec<&'l str> {
    let forms = forms(secret.expose());
    let with = lines
        .iter()
        .filter(|line| forms.iter().any(|form| line.contains(form)));
    with.map(String::as_str).collect()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.symlink_metadata().unwrap() {
            meta if meta.is_dir() => found.extend(files_below(&path)),
            meta if meta.is_file() => found.push(path),
            _ => {}
        }
    }
    found
}

#[test]
fn released_keys_are_in_no_argument_environment_file_or_socket() {
    let traced = Traced::new();
    let mut keys = vec![traced.deliver()];
    let lines = traced.trace(|| {
        traced.host("vm import web1");
        traced.host("vm start web1");
        keys.push(traced.transport_key());
        traced.host("vm stop web1 --force");
        keys.push(traced.transport_key());
    });
    for (number, key) in keys.iter().enumerate() {
        // Not even between the processes of the host.
        assert_eq!(lines_with(&lines, key.secret()), [""; 0], "key {number}");
        // swtpm gets what is derived from it: through pipes, each of which is written once and read once.
        let state_key = StateKey::of_transport_key(key.secret()).unwrap();
        let handed = lines_with(&lines, state_key.secret());
        assert!(handed.len() >= 2, "key {number}: {handed:?}");
        for line in &handed {
            assert!(
                line.contains(&format!("<{}", shown(b"pipe:["))),
                "key {number}: {line}"
            );
        }
        let read = handed.iter().filter(|line| line.contains(" read(")).count();
        assert_eq!(handed.len(), 2 * read, "key {number}: {handed:?}");
        for file in files_below(traced.home.path()) {
            if file.ends_with("trace") {
                continue;
            }
            let octets = fs::read(&file).unwrap();
            for secret in [key.secret(), state_key.secret()] {
                let found = octets.windows(32).any(|window| window == secret.expose());
                assert!(!found, "key {number} is in {}", file.display());
            }
        }
    }
    // The trace shows programs with their arguments and their environment, and what the guardian is asked.
    let has = |text: &str| {
        lines
            .iter()
            .any(|line| line.contains(&shown(text.as_bytes())))
    };
    assert!(has("qemu-system-x86_64") && has("HGS_HOST_STATE") && has("rolltransportkey"));
}
