//! What belongs to a whole process: signals, logs and hardening. Each is tried in a process of its
//! own, which is this test binary started again.

mod support;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use hgs_server::{Readiness, Server, process, signals};
use hgs_terminal::{LogForm, start_logging};
use rustix::process::{DumpableBehavior, Pid, Resource, Signal, dumpable_behavior, getrlimit};
use rustix::process::{kill_process, umask};
use serde_json::Value;
use support::{configuration, services};

/// Set in the child; its value is the name of what the child does.
const ROLE: &str = "HGS_TEST_ROLE";

/// Where a child finds its files.
const FOLDER: &str = "HGS_TEST_FOLDER";

/// The child's side: nothing when it is run as a test.
#[test]
fn child() {
    match env::var(ROLE).as_deref() {
        Ok("serve") => serve(),
        Ok("harden") => harden(),
        _ => {}
    }
}

fn serve() {
    start_logging("hgs_server=debug", LogForm::Json, Some(hgs_server::PEERS)).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let (services, _watcher) = services(Readiness::always());
        let bound = Server::bind(&configuration(""), services).unwrap();
        println!("address {}", bound.addresses().http.unwrap());
        let stopped = signals::run(bound).await.unwrap();
        println!("finished {}", stopped.finished);
    });
}

fn harden() {
    // As loose as it gets, so that only the hardening can make a difference.
    umask(rustix::fs::Mode::empty());
    process::harden().unwrap();
    let limit = getrlimit(Resource::Core);
    assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    let file = format!("{}/secret", env::var(FOLDER).unwrap());
    fs::write(&file, "").unwrap();
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    println!("hardened");
}

fn start(role: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "child", "--nocapture"])
        .env(ROLE, role)
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A server in a process of its own.
struct Program {
    child: Child,
    output: BufReader<ChildStdout>,
    log: ChildStderr,
}

impl Program {
    fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        Self {
            output: BufReader::new(child.stdout.take().unwrap()),
            log: child.stderr.take().unwrap(),
            child,
        }
    }

    /// The rest of the first line that has `key` in it. The test harness writes lines too.
    fn line(&mut self, key: &str) -> String {
        let mut line = String::new();
        while self.output.read_line(&mut line).unwrap() > 0 {
            if let Some((_, rest)) = line.split_once(key) {
                return rest.trim().to_owned();
            }
            line.clear();
        }
        panic!("the program ended without saying{key}");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end; the log it leaves.
    fn end(mut self) -> String {
        assert_eq!(self.line("finished "), "true");
        let mut log = String::new();
        self.log.read_to_string(&mut log).unwrap();
        assert!(self.child.wait().unwrap().success(), "{log}");
        log
    }
}

#[tokio::test]
async fn a_program_serves_until_it_is_told_to_stop_and_outlives_a_hangup() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut program = Program::spawn(&mut start("serve"));
        let address = program.line("address ").parse().unwrap();
        let hello = "GET /hello HTTP/1.0\r\n\r\n";
        assert!(support::send(address, hello).await.ends_with("hello"));
        program.signal(Signal::HUP);
        assert!(support::send(address, hello).await.ends_with("hello"));
        program.signal(signal);
        program.end();
    }
}

#[tokio::test]
async fn the_service_manager_is_told_when_the_program_serves_and_when_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    let mut program = Program::spawn(start("serve").env("NOTIFY_SOCKET", &socket));
    let mut message = [0; 64];
    let length = manager.recv(&mut message).unwrap();
    assert_eq!(&message[..length], b"READY=1\n");
    let address = program.line("address ").parse().unwrap();
    assert!(
        support::send(address, "GET /hello HTTP/1.0\r\n\r\n")
            .await
            .ends_with("hello")
    );
    program.signal(Signal::TERM);
    let length = manager.recv(&mut message).unwrap();
    assert_eq!(&message[..length], b"STOPPING=1\n");
    program.end();
}

#[tokio::test]
async fn a_log_line_is_one_object_and_names_the_request_as_its_response_does() {
    let mut program = Program::spawn(&mut start("serve"));
    let address = program.line("address ").parse().unwrap();
    let response = support::send(address, "GET /hello?secret=s3cr3t HTTP/1.1\r\n\r\n").await;
    let id = response
        .lines()
        .find_map(|line| line.strip_prefix("x-request-id: "))
        .unwrap();
    program.signal(Signal::TERM);
    let log = program.end();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect();
    let line = lines.iter().find(|line| line["reason"] == "host").unwrap();
    assert_eq!(line["level"], "DEBUG");
    assert_eq!(line["spans"][0]["id"], id);
    assert_eq!(line["spans"][0]["route"], "hello");
    assert!(!log.contains("s3cr3t"), "{log}");
}

/// Peers that take one listener for another are told, each of them; the log has so many lines of it a minute.
#[test]
fn peers_can_not_fill_the_log() {
    let mut program = Program::spawn(&mut start("serve"));
    let address = program.line("address ");
    for _ in 0..100 {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        stream.write_all(b"\x16\x03\x01").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("speaks plain HTTP"), "{answer}");
    }
    program.signal(Signal::TERM);
    let log = program.end();
    let lines = log.lines().filter(|line| line.contains("a peer was told"));
    assert_eq!(lines.count(), 60, "{log}");
}

#[test]
fn a_hardened_process_leaves_no_core_and_no_open_files() {
    let folder = tempfile::tempdir().unwrap();
    let output = start("harden").env(FOLDER, folder.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("hardened"), "{text}");
}
