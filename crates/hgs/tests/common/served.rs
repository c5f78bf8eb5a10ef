//! A guardian that was made and serves, as its administrator has it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, kill_process};

use super::Home;

/// A server on loopback ports of the system's choosing; it is killed when dropped.
pub(crate) struct Served {
    child: Child,
    http: SocketAddr,
    metrics: Option<SocketAddr>,
    log: Option<JoinHandle<String>>,
}

/// The configuration of a server whose files are all at home.
pub(crate) fn configure(home: &Home) {
    let folder = home.path().display();
    let configuration = format!(
        "[server]\nname = \"node-1\"\nstate = \"{folder}/guardian\"\n\
         [listen.http]\naddress = \"127.0.0.1:0\"\n\
         [listen.metrics]\nenabled = false\n\
         [listen.admin]\nsocket = \"{folder}/run/admin.sock\"\n"
    );
    home.write("hgs.toml", configuration);
}

impl Served {
    /// Starts `hgs serve`, and returns when it serves.
    pub(crate) fn start(home: &Home) -> Self {
        Self::start_with(home, "hgs.toml")
    }

    /// As [`Self::start`], with another configuration.
    pub(crate) fn start_with(home: &Home, configuration: &str) -> Self {
        Self::launch(home, configuration, &[])
    }

    /// As [`Self::start_with`], with `variables` in its environment.
    pub(crate) fn launch(home: &Home, configuration: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("hgs"));
        command.args(["serve", "--config", configuration]);
        command
            .env_clear()
            .envs(hgs_testkit::date_variables())
            .envs(variables.iter().copied());
        Self::start_by(home, command)
    }

    /// The same by a command that ends in serving.
    pub(crate) fn start_by(home: &Home, mut command: Command) -> Self {
        let mut child = command
            .current_dir(home.path())
            .env("HOME", home.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let (mut line, mut said) = (String::new(), String::new());
        let (http, metrics) = loop {
            line.clear();
            let read = log.read_line(&mut line).unwrap();
            assert_ne!(read, 0, "the server ended: {said}");
            said.push_str(&line);
            if let Some((_, addresses)) = line.split_once("serving http=") {
                let addresses: Vec<_> = addresses.split_whitespace().collect();
                let metrics = addresses
                    .iter()
                    .find_map(|one| one.strip_prefix("metrics="))
                    .map(|address| address.parse().unwrap());
                break (addresses[0].parse().unwrap(), metrics);
            }
        };
        let log = thread::spawn(move || {
            let mut rest = String::new();
            let _ = log.read_to_string(&mut rest);
            rest
        });
        Self {
            child,
            http,
            metrics,
            log: Some(log),
        }
    }

    /// The number of its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// What hosts put before the paths of both services.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// The body of an answer to a GET.
    pub(crate) fn get(&self, path: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.http).unwrap();
        let request = format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.http);
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(
            answer.starts_with(b"HTTP/1.0 200") || answer.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        answer.split_off(end.unwrap() + 4)
    }

    /// What the readiness probe answers.
    pub(crate) fn readiness(&self) -> String {
        self.asked("/health/ready")
    }

    /// What monitoring reads.
    pub(crate) fn metrics(&self) -> String {
        self.asked("/metrics")
    }

    fn asked(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.metrics.unwrap()).unwrap();
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Has it stop as an init system does. Its exit status, and what it logged.
    pub(crate) fn stop(mut self) -> (Option<i32>, String) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        let log = self.log.take().unwrap().join().unwrap();
        (status.code(), log)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
