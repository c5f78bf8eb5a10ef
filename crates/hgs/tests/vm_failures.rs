//! What fails around a shielded VM costs it nothing: guardians that lie or go away, an agent that is killed, a TPM that ends.

mod common;
#[path = "common/fabric.rs"]
mod fabric;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use fabric::{Fabric, PATIENCE};
use rustix::process::{Pid, Signal, kill_process};

/// What stands between a host and its guardian, and what it does to the answers to requests for keys.
struct Way {
    address: SocketAddr,
    rule: Arc<Mutex<Rule>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    /// Nothing.
    Honest,
    /// One octet of the egress protector is another one.
    AlteredProtector,
    /// The connection ends before the answer.
    Cut,
    /// What was answered the first time, again.
    Replay,
    /// The guardian is away, for everything.
    Away,
    /// It answers for keys once more, and is away from then on.
    AwayAfterTheNextRelease,
}

impl Way {
    fn to(guardian: &str) -> Self {
        let guardian: SocketAddr = guardian.strip_prefix("http://").unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let rule = Arc::new(Mutex::new(Rule::Honest));
        let (shared, first) = (Arc::clone(&rule), Arc::new(Mutex::new(None)));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (rule, first) = (Arc::clone(&shared), Arc::clone(&first));
                // What fails on one connection is for its host to see.
                thread::spawn(move || drop(carry(stream, guardian, &rule, &first)));
            }
        });
        Self { address, rule }
    }

    fn is(&self, rule: Rule) {
        *self.rule.lock().unwrap() = rule;
    }
}

/// Carries one request and its answer.
fn carry(
    mut host: TcpStream,
    guardian: SocketAddr,
    rule: &Mutex<Rule>,
    first: &Mutex<Option<Vec<u8>>>,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut reader = BufReader::new(host.try_clone()?);
    let mut length = 0;
    let mut path = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let lower = line.to_ascii_lowercase();
        if path.is_empty() {
            path = line.clone();
        }
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if lower.starts_with("connection:") {
            continue;
        }
        if line == "\r\n" {
            request.extend_from_slice(b"Connection: close\r\n\r\n");
            break;
        }
        request.extend_from_slice(line.as_bytes());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    request.extend_from_slice(&body);
    let mut rule = rule.lock().unwrap();
    if *rule == Rule::Away {
        return Ok(());
    }
    let mut connection = TcpStream::connect(guardian)?;
    connection.write_all(&request)?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    if path.starts_with("POST /KeyProtection") {
        match &*rule {
            Rule::Honest | Rule::Away => {}
            Rule::AlteredProtector => alter(&mut answer),
            Rule::Cut => return Ok(()),
            Rule::Replay => answer.clone_from(first.lock().unwrap().as_ref().unwrap()),
            Rule::AwayAfterTheNextRelease => *rule = Rule::Away,
        }
        first.lock().unwrap().get_or_insert_with(|| answer.clone());
    }
    drop(rule);
    host.write_all(&answer)
}

/// Makes one letter within the egress protector another one.
fn alter(answer: &mut [u8]) {
    const NAME: &[u8] = b"EgressProtector>";
    let place = answer.windows(NAME.len()).position(|octets| octets == NAME);
    let letter = &mut answer[place.unwrap() + NAME.len() + 2000];
    *letter = if *letter == b'A' { b'B' } else { b'A' };
}

impl Fabric {
    /// Has the host reach its guardian by this way only.
    fn by_way(&self) -> Way {
        let way = Way::to(&self.served.url());
        let url = format!("http://{}", way.address);
        self.host(&format!(
            "configure --attestation-url {url}/Attestation --key-protection-url {url}/KeyProtection"
        ))
        .done();
        way
    }

    /// Octets of the files of the current generation, and its name.
    fn pair(&self, name: &str) -> (String, Vec<Vec<u8>>) {
        let generation = self.generation(name);
        let files = ["tpm2-00.permall", "protector.xml", "protection.sealed"];
        let octets = files.map(|file| fs::read(generation.join(file)).unwrap());
        (generation.display().to_string(), octets.to_vec())
    }

    /// Processes of this fabric that have `program` in their command.
    fn processes(&self, program: &str) -> Vec<Pid> {
        let home = self.home.path().to_str().unwrap().to_owned();
        let found = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let path = entry.unwrap().path();
            let number = path.file_name()?.to_str()?.parse().ok()?;
            let command = fs::read(path.join("cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).into_owned();
            let first = command.split('\0').next()?.to_owned();
            (first.contains(program) && command.contains(&home)).then_some(number)
        });
        found.filter_map(Pid::from_raw).collect()
    }
}

#[test]
fn a_guardian_whose_answers_are_altered_or_lost_costs_no_vm() {
    let fabric = Fabric::new();
    fabric.prepare("web1");
    let way = fabric.by_way();
    let agent = fabric.agent();
    fabric.host("vm import web1").done();
    fabric.host("vm start web1").done();
    fabric.host("vm stop web1 --force").done();
    for (rule, said) in [
        (Rule::AlteredProtector, "signature"),
        (Rule::Replay, "signature"),
        (Rule::Cut, "KeyProtection"),
        (Rule::Away, "Attestation"),
    ] {
        let before = fabric.pair("web1");
        way.is(rule.clone());
        let refused = fabric.host("vm start web1");
        assert_ne!(refused.status, 0, "{rule:?}");
        assert!(
            refused.err.contains(said) || refused.err.contains("KeyProtection"),
            "{rule:?}: {}",
            refused.err
        );
        assert!(fabric.pair("web1") == before, "{rule:?}");
        assert_eq!(fabric.vm("web1")["state"], "stopped");
        way.is(Rule::Honest);
        fabric.host("vm start web1").done();
        fabric.host("vm stop web1 --force").done();
    }

    // Gone right after the release: the start needs it no more. The state keeps its key at the end, and that is said.
    way.is(Rule::AwayAfterTheNextRelease);
    fabric.host("vm start web1").done();
    assert_eq!(fabric.vm("web1")["state"], "running");
    let before = fabric.generation("web1");
    let ended = fabric.host("vm stop web1 --force --json").done().json();
    let warning = ended["warnings"][0].as_str().unwrap();
    assert!(warning.contains("keeps its key"), "{warning}");
    assert_eq!(fabric.generation("web1"), before);
    way.is(Rule::Honest);
    fabric.host("vm start web1").done();
    fabric.host("vm stop web1 --force").done();
    agent.end(Signal::TERM);
}

/// What no host can notice: a guardian that wraps something else than the key that it gives, and signs that. It shows at the next
/// release; the state before is kept until then.
#[test]
fn o3_a_protector_that_opens_for_nobody_costs_one_run_and_no_vm() {
    let fabric = Fabric::with("[key_protection]\nancestors = \"refuse\"\n");
    let line = fabric.prepare("web1");
    let agent = fabric.agent();
    fabric.host("vm import web1").done();
    fabric
        .host("vm start web1 --previous-generation")
        .ended(1)
        .saying("no generation before the current one");
    fabric.host("vm start web1").done();
    fabric.host("vm stop web1 --force").done();
    assert!(fabric.generation("web1").ends_with("gen-3"));
    fabric.owner("guardian new bob --bits 2048").done();
    fabric
        .owner("protector new --owner bob --guardian ann --out other.xml")
        .done();
    let protector = fabric.generation("web1").join("protector.xml");
    fs::write(&protector, fabric.home.read("other.xml")).unwrap();

    let before = fabric.pair("web1");
    fabric
        .host("vm start web1")
        .ended(2)
        .saying("WrappingNotFoundException")
        .saying("kept, as generation 2")
        .saying("--previous-generation");
    assert!(fabric.pair("web1") == before);
    fabric
        .host("vm trace web1")
        .ended(1)
        .saying("the last attempt to start it");
    fabric.host("vm start web1 --previous-generation").done();
    let said = fabric.until_said("web1", "heartbeat 0");
    assert!(said.contains(&line), "{said}");
    assert!(fabric.generation("web1").ends_with("gen-4"));
    fabric.host("vm stop web1 --force").done();
    fabric.host("vm start web1").done();
    agent.end(Signal::TERM);
}

#[test]
fn o2_an_agent_that_is_killed_at_each_step_of_a_start_costs_no_vm() {
    let fabric = Fabric::new();
    fabric.prepare("web1");
    let agent = fabric.agent();
    fabric.host("vm import web1").done();
    agent.end(Signal::TERM);
    let steps = [
        "asking the guardian for the keys",
        "giving the TPM's state its new key",
        "starting swtpm and QEMU",
    ];
    let delays = |step: usize| if step == 2 { 0..12 } else { 0..3 };
    let (mut running, mut stopped) = (0, 0);
    for (step, delay) in (0..3).flat_map(|step| delays(step).map(move |delay| (step, delay))) {
        let agent = fabric.agent();
        let mut start = fabric
            .host_command("vm start web1")
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut told = BufReader::new(start.stderr.take().unwrap()).lines();
        assert!(told.any(|line| line.unwrap().starts_with(steps[step])));
        wait(Duration::from_millis(10 * delay));
        agent.end(Signal::KILL);
        start.wait().unwrap();

        let agent = fabric.agent();
        let what = format!("killed {delay} after {:?}", steps[step]);
        match fabric.vm("web1")["state"].as_str().unwrap() {
            "running" => {
                running += 1;
                fabric.host("vm stop web1 --force").done();
            }
            state => {
                stopped += 1;
                assert_eq!(state, "stopped", "{what}");
            }
        }
        let started = fabric.host("vm start web1");
        assert_eq!(started.status, 0, "{what}: {}", started.err);
        fabric.host("vm stop web1 --force").done();
        let begun = Instant::now();
        while !fabric.processes("swtpm").is_empty() || !fabric.processes("qemu").is_empty() {
            assert!(begun.elapsed() < PATIENCE, "{what}: processes are left");
        }
        agent.end(Signal::TERM);
    }
    // How far each start came depends on the machine; one that was killed at once did not come far.
    assert!(
        stopped > 0,
        "{stopped} starts were killed before the VM ran, {running} afterwards"
    );
}

fn wait(time: Duration) {
    let (_held, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(time);
}

#[test]
fn a_tpm_that_ends_is_told_and_the_vm_starts_again() {
    let fabric = Fabric::new();
    let line = fabric.prepare("web1");
    let agent = fabric.agent();
    fabric.host("vm import web1").done();
    fabric.host("vm start web1").done();
    fabric.until_said("web1", "heartbeat 1");
    let [swtpm] = fabric.processes("swtpm")[..] else {
        panic!("one process of swtpm");
    };
    kill_process(swtpm, Signal::KILL).unwrap();
    let begun = Instant::now();
    let told = || {
        let vm = fabric.vm("web1");
        let event = vm["last_event"].as_str().unwrap_or_default().to_owned();
        event.contains("TPM").then_some(event)
    };
    while told().is_none() {
        assert!(begun.elapsed() < PATIENCE, "{}", fabric.vm("web1"));
    }
    let shown = fabric.vm("web1");
    assert!(shown.to_string().contains("has ended"), "{shown}");
    assert_eq!(shown["state"], "running");
    fabric.host("vm stop web1 --force").done();
    fabric.host("vm start web1").done();
    let said = fabric.until_said("web1", "heartbeat 0");
    assert!(said.contains(&line), "{said}");
    agent.end(Signal::TERM);
}
