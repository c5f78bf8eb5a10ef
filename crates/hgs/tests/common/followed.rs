//! `hgs events`, followed.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

use super::Home;

/// `hgs events --follow --json`, as a script has it.
pub(crate) struct Followed {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Followed {
    /// With further options.
    pub(crate) fn start(home: &Home, options: &[&str]) -> Self {
        let mut child = Command::new(assert_cmd::cargo::cargo_bin!("hgs"))
            .args(["events", "--follow", "--json", "--config", "hgs.toml"])
            .args(options)
            .env_clear()
            .envs(hgs_testkit::date_variables())
            .current_dir(home.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next event of this kind, and those before it.
    pub(crate) fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let line = self.lines.next().expect("it goes on").unwrap();
            let event: Value = serde_json::from_str(&line).unwrap();
            events.push(event);
            if events.last().is_some_and(|event| event["kind"] == kind) {
                return events;
            }
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
