//! What systemd gives to `hgs serve` and hears from it: sockets, readiness, reloads, the watchdog.

mod common;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use common::served::{Served, configure};
use common::{Home, Outcome};
use rustix::process::{Pid, Signal, kill_process};

const METADATA: &str = "/KeyProtection/service/metadata/2014-07/metadata.xml";

fn made() -> Home {
    let home = Home::new();
    configure(&home);
    home.hgs("init --config hgs.toml --name guardian.example --bits 2048")
        .done();
    home
}

/// `hgs serve` with sockets as a service manager passes them: `redirections` of a shell lay them out from 3 on. The process
/// that they are meant for is the one of the shell.
fn passed(redirections: &str, names: &str, run: &str, socket: &TcpListener) -> Command {
    let count = names.split(':').count();
    let script = format!(
        "exec {redirections} 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES={names}; {run}"
    );
    let mut command = Command::new("sh");
    command
        .args(["-c", &script])
        .arg(assert_cmd::cargo::cargo_bin!("hgs"))
        .stdin(Stdio::from(OwnedFd::from(socket.try_clone().unwrap())));
    command
}

const IN_PLACE_OF_THE_SHELL: &str = "exec \"$0\" serve --config hgs.toml";
const CHILD_OF_THE_SHELL: &str = "\"$0\" serve --config hgs.toml; exit $?";

#[test]
fn a_passed_socket_takes_the_place_of_an_address_and_one_that_nobody_expects_is_refused() {
    let home = made();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());

    let served = Served::start_by(
        &home,
        passed("3<&0", "http", IN_PLACE_OF_THE_SHELL, &socket),
    );
    assert_eq!(served.url(), url);
    assert!(!served.get(METADATA).is_empty());
    let status = home.hgs("status --config hgs.toml --json").done();
    status.saying(&url["http://".len()..]);
    assert_eq!(served.stop().0, Some(0));

    let refused = |redirections: &str, names: &str| {
        let mut command = passed(redirections, names, IN_PLACE_OF_THE_SHELL, &socket);
        let output = command.current_dir(home.path()).output().unwrap();
        let refused = Outcome {
            status: output.status.code().unwrap(),
            out: String::new(),
            err: String::from_utf8(output.stderr).unwrap(),
        };
        let refused = refused.ended(1);
        refused.saying("at fault: the operator")
    };
    refused("3<&0", "hppt")
        .saying("named `hppt`")
        .saying("FileDescriptorName=");
    refused("3<&0 4<&0", "http:http").saying("two sockets for [listen.http]");
    refused("3<&0 4<&0", "http:https")
        .saying("[listen.https], which is switched off")
        .saying("systemctl disable");
    refused("3</dev/null", "http").saying("[listen.http] that does not listen");
    refused("3<&0", &["http"; 17].join(":")).saying("17 names, at most 16");

    // What was meant for a parent is not ours.
    let of_parent = passed("3<&0", "hppt", CHILD_OF_THE_SHELL, &socket);
    drop(Served::start_by(&home, of_parent));
}

/// What the service says to its manager until one of the messages is `last`.
fn heard(manager: &UnixDatagram, last: &str) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    let mut message = [0; 256];
    while !lines.contains(last) {
        let length = manager.recv(&mut message).unwrap();
        let text = std::str::from_utf8(&message[..length]).unwrap();
        lines.extend(text.lines().map(str::to_owned));
    }
    lines
}

#[test]
fn systemd_starts_the_service_at_the_first_connection_and_hears_that_it_works() {
    let activate = hgs_testkit::tool("systemd-socket-activate", "systemd");
    let home = made();
    let manager = UnixDatagram::bind(home.file("notify")).unwrap();
    let address = format!("127.0.0.1:{}", hgs_testkit::free_ports(1));
    let mut command = Command::new(activate);
    command
        .args(["--listen", &address, "--fdname", "http"])
        .args(["--setenv", "WATCHDOG_USEC=300000"])
        .arg(format!(
            "--setenv=NOTIFY_SOCKET={}",
            home.file("notify").display()
        ))
        .arg(assert_cmd::cargo::cargo_bin!("hgs"))
        .args(["serve", "--config", "hgs.toml"])
        .current_dir(home.path())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();

    // The connection is made before there is a service, and waits for it.
    let mut stream = loop {
        match TcpStream::connect(&address) {
            Ok(stream) => break stream,
            Err(_) => assert!(child.try_wait().unwrap().is_none(), "nothing listens"),
        }
    };
    write!(stream, "GET {METADATA} HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(" 200 "), "{answer}");

    let process = Pid::from_child(&child);
    let begun = heard(&manager, "WATCHDOG=1");
    assert!(begun.contains("READY=1"), "{begun:?}");
    kill_process(process, Signal::HUP).unwrap();
    let reload = heard(&manager, "READY=1");
    assert!(reload.contains("RELOADING=1"), "{reload:?}");
    assert!(
        (reload.iter()).any(|line| line.starts_with("MONOTONIC_USEC=")),
        "{reload:?}"
    );
    heard(&manager, "WATCHDOG=1");
    kill_process(process, Signal::TERM).unwrap();
    heard(&manager, "STOPPING=1");
    assert!(child.wait().unwrap().success());
}
