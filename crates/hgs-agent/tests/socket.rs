//! An agent and its callers.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use hgs_agent::{Agent, AgentFolders, Client, ClientError, Health, Request, Settings};
use hgs_client::Folders;
use serde_json::Value;
use tempfile::TempDir;

/// A host in local mode, which attests to no service.
struct Host {
    root: TempDir,
}

impl Host {
    fn new() -> Self {
        Self {
            // A short path: those of sockets are limited.
            root: tempfile::tempdir_in("/tmp").unwrap(),
        }
    }

    fn folders(&self) -> AgentFolders {
        AgentFolders {
            host: Folders::inside(self.root.path()),
            runtime: self.root.path().join("run"),
        }
    }

    async fn agent(&self) -> Agent {
        Agent::start(self.folders(), Settings::default())
            .await
            .unwrap()
    }

    /// Asks what blocks, beside the agent.
    async fn ask<T: Send + 'static>(&self, ask: impl FnOnce(Client) -> T + Send + 'static) -> T {
        let client = Client::new(&self.folders().socket());
        tokio::task::spawn_blocking(move || ask(client))
            .await
            .unwrap()
    }

    /// Sends these octets, and reads the one line of the answer.
    async fn say(&self, octets: Vec<u8>) -> Value {
        let socket = self.folders().socket();
        let said = tokio::task::spawn_blocking(move || {
            let mut stream = UnixStream::connect(socket).unwrap();
            // The agent may close before it has read all of it.
            let _ = stream.write_all(&octets);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line).unwrap();
            line
        });
        serde_json::from_str(&said.await.unwrap()).unwrap()
    }
}

fn refused(answer: Result<Value, ClientError>) -> String {
    match answer.unwrap_err() {
        ClientError::Agent(failure) => {
            assert!(failure.refused, "{failure}");
            failure.message
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_says_how_its_host_stands_and_has_no_vm_that_it_was_not_given() {
    let host = Host::new();
    let agent = host.agent().await;
    let status = loop {
        let status = host.ask(|client| client.status()).await.unwrap();
        if status.health != Health::Unknown {
            break status;
        }
    };
    let Health::Unhealthy { reason, .. } = status.health else {
        panic!("{:?}", status.health);
    };
    assert!(reason.contains("local mode"), "{reason}");
    assert_eq!(status.process, std::process::id());
    assert!(status.machines.is_empty());
    for name in ["web1", "../host-key.pem", ".web1.import", ""] {
        let request = Request::Start {
            name: name.to_owned(),
            accept_other_state: false,
            previous_generation: false,
        };
        let answer = host.ask(move |client| client.ask(&request, |_| ())).await;
        let message = refused(answer);
        assert_eq!(message, format!("this host has no VM named {name}"));
    }
    let nothing = Request::Import {
        folder: host.root.path().join("nothing"),
        name: None,
    };
    let answer = host
        .ask(move |client| client.ask::<Value>(&nothing, |_| ()))
        .await;
    assert!(answer.unwrap_err().to_string().contains("vm.toml"));
    let kept = std::fs::read_dir(host.folders().host.state.join("vms")).unwrap();
    assert_eq!(kept.count(), 0);
    agent.stop().await;
    let answer = host.ask(|client| client.status()).await;
    assert!(matches!(answer, Err(ClientError::NotRunning { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_has_one_agent() {
    let host = Host::new();
    let agent = host.agent().await;
    let second = Agent::start(host.folders(), Settings::default()).await;
    assert!(second.unwrap_err().to_string().contains("agent.lock"));
    // Another one with the same socket and other state is no better.
    let elsewhere = tempfile::tempdir_in("/tmp").unwrap();
    let folders = AgentFolders {
        host: Folders::inside(elsewhere.path()),
        ..host.folders()
    };
    let second = Agent::start(folders, Settings::default()).await;
    assert!(second.unwrap_err().to_string().contains("listens there"));
    agent.stop().await;
    host.agent().await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_gets_one_clear_answer() {
    let host = Host::new();
    let _agent = host.agent().await;
    for (octets, reason) in [
        (b"\n".to_vec(), "EOF"),
        (b"{}\n".to_vec(), "missing field `request`"),
        (b"{\"request\":\"status\"".to_vec(), "cut short"),
        (
            b"{\"request\":\"dump\",\"name\":\"web1\"}\n".to_vec(),
            "unknown variant",
        ),
        (
            b"{\"request\":\"stop\",\"name\":\"web1\",\"now\":1}\n".to_vec(),
            "unknown field",
        ),
        (vec![b' '; 1 << 20], "too long"),
        (vec![0xff, b'\n'], "expected value"),
    ] {
        let answer = host.say(octets).await;
        let failed = &answer["failed"];
        let message = failed["message"].as_str().unwrap_or_default();
        assert!(message.contains(reason), "{reason}: {answer}");
        assert_eq!(failed["refused"], true, "{answer}");
        assert_eq!(failed["at_fault"], "operator", "{answer}");
    }
    // It is there for the next one.
    host.ask(|client| client.status()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_reaches_the_socket() {
    let host = Host::new();
    let _agent = host.agent().await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folders = host.folders();
    assert_eq!(mode(&folders.runtime), 0o700);
    assert_eq!(mode(&folders.host.state), 0o700);
    assert_eq!(mode(&folders.host.state.join("vms")), 0o700);
}
