//! The Unix socket of the admin API.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use hgs_server::http::{BindError, SocketError};
use hgs_server::{Peer, Readiness};
use support::{Client, TestServer, status};
use tempfile::TempDir;
use tokio::net::UnixStream;

const HELLO: &str = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";

fn configuration(socket: &Path) -> String {
    format!(
        "listen.admin.enabled = true\nlisten.admin.socket = \"{}\"\n",
        socket.display()
    )
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("run/admin.sock");
    (folder, socket)
}

async fn connect(socket: &Path) -> std::io::Result<Client<UnixStream>> {
    Ok(Client(UnixStream::connect(socket).await?))
}

fn refusal(socket: &Path) -> SocketError {
    match TestServer::bind(&configuration(socket), Readiness::always()).err() {
        Some(BindError::Socket { error, path }) => {
            assert_eq!(path, socket);
            error
        }
        other => panic!("not refused: {other:?}"),
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn the_service_is_told_which_user_asks() {
    let (_folder, socket) = folder();
    let mut server = TestServer::start(&configuration(&socket));
    assert_eq!(server.addresses.admin.as_deref(), Some(socket.as_path()));
    let mut client = connect(&socket).await.unwrap();
    client.send(HELLO).await;
    assert_eq!(status(&client.response().await), 200);
    let Peer::Unix(credentials) = server.watcher.entered.recv().await.unwrap().peer else {
        panic!("not a Unix peer");
    };
    let own = fs::metadata("/proc/self").unwrap();
    assert_eq!((credentials.uid, credentials.gid), (own.uid(), own.gid()));
    assert_eq!(credentials.pid, Some(std::process::id().cast_signed()));
}

#[tokio::test]
async fn only_the_owner_and_its_group_reach_it() {
    let (_folder, socket) = folder();
    let server = TestServer::start(&configuration(&socket));
    assert_eq!(mode(&socket), 0o660);
    assert_eq!(mode(socket.parent().unwrap()), 0o700);
    drop(server);
}

#[tokio::test]
async fn a_group_gets_the_socket_and_its_folder() {
    let (_folder, socket) = folder();
    let gid = fs::metadata("/proc/self").unwrap().gid();
    let groups = fs::read_to_string("/etc/group").unwrap();
    let own_group = groups
        .lines()
        .find(|line| line.split(':').nth(2) == Some(&gid.to_string()))
        .and_then(|line| line.split(':').next())
        .unwrap();
    let server = TestServer::start(&format!(
        "{}listen.admin.group = \"{own_group}\"\n",
        configuration(&socket)
    ));
    assert_eq!(fs::metadata(&socket).unwrap().gid(), gid);
    assert_eq!(mode(socket.parent().unwrap()), 0o750);
    drop(server);
}

#[tokio::test]
async fn a_group_that_does_not_exist_is_refused_by_name() {
    let (_folder, socket) = folder();
    let extra = format!(
        "{}listen.admin.group = \"no-such-group\"\n",
        configuration(&socket)
    );
    let refused = TestServer::bind(&extra, Readiness::always()).err();
    assert!(matches!(refused, Some(BindError::Group { group, .. }) if group == "no-such-group"));
}

#[tokio::test]
async fn the_socket_of_a_killed_server_is_replaced_and_that_of_a_living_one_is_not() {
    let (_folder, socket) = folder();
    fs::create_dir(socket.parent().unwrap()).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(socket.exists(), "left behind");

    let server = TestServer::start(&configuration(&socket));
    assert!(matches!(refusal(&socket), SocketError::InUse));
    let mut client = connect(&socket).await.unwrap();
    client.send(HELLO).await;
    assert_eq!(status(&client.response().await), 200);
    assert!(server.stopped().await.finished);
    assert!(!socket.exists(), "removed at the end");
}

#[tokio::test]
async fn a_server_does_not_remove_a_socket_that_is_not_its_own() {
    let (_folder, socket) = folder();
    let server = TestServer::start(&configuration(&socket));
    fs::remove_file(&socket).unwrap();
    let other = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert!(server.stopped().await.finished);
    assert!(socket.exists());
    drop(other);
}

#[tokio::test]
async fn k20_a_symbolic_link_is_not_followed() {
    let (folder, socket) = folder();
    fs::create_dir(socket.parent().unwrap()).unwrap();
    let precious = folder.path().join("precious");
    fs::write(&precious, "state").unwrap();
    symlink(&precious, &socket).unwrap();
    assert!(matches!(refusal(&socket), SocketError::NotASocket));
    assert_eq!(fs::read(&precious).unwrap(), b"state");

    let linked = folder.path().join("linked");
    symlink(socket.parent().unwrap(), &linked).unwrap();
    assert!(matches!(
        refusal(&linked.join("admin.sock")),
        SocketError::UnsafeFolder { .. }
    ));
}

#[tokio::test]
async fn a_folder_that_others_can_write_to_is_refused() {
    let (_folder, socket) = folder();
    let parent = socket.parent().unwrap();
    fs::create_dir(parent).unwrap();
    fs::set_permissions(parent, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(refusal(&socket), SocketError::UnsafeFolder { .. }));
}

#[tokio::test]
async fn a_path_that_the_kernel_can_not_take_is_refused_with_its_length() {
    let (folder, _) = folder();
    let socket = folder.path().join("x".repeat(108));
    let found = socket.as_os_str().len();
    assert!(
        matches!(refusal(&socket), SocketError::PathTooLong { found: octets } if octets == found)
    );
}
