//! What QEMU needs for one migration: keys of its own TLS, and sockets that lead to the other QEMU.
//!
//! All of it is in one folder below the VM's runtime folder, which belongs to the user that QEMU runs as. QEMU gets the
//! folder open, because it may not go through those above it. Between the two hosts the agents pass octets on; what they
//! see is encrypted by the two QEMUs.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hgs_client::Fault;
use hgs_files::{FileError, Readers};
use hgs_pki::Certificate;
use hgs_vm::qemu::command::RuntimeFolder;
use hgs_vm::qemu::process::User;
use tokio::io::{AsyncWriteExt as _, copy_bidirectional_with_sizes};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::authority::Authority;
use super::proof::Side;
use crate::wire::AgentFailure;

/// The credentials in QEMU.
pub(crate) const CREDENTIALS: &str = "migration-tls";
/// The sockets in the folder.
pub(crate) const MEMORY: &str = "memory.sock";
pub(crate) const DISK: &str = "disk.sock";
/// What a connection begins with that brings memory or disk; TLS begins with another octet.
pub(crate) const DATA_MAGIC: &[u8; 8] = b"OHGSdata";
/// Octets of the token behind it.
pub(crate) const TOKEN: usize = 32;
/// How long connecting may take.
pub(crate) const CONNECT: Duration = Duration::from_secs(10);
const BUFFER: usize = 256 * 1024;

/// The folder and what goes through it. Dropped, nothing goes through it any more, and it is removed.
#[derive(Debug)]
pub(crate) struct Wiring {
    path: PathBuf,
    folder: OwnedFd,
    user: Option<User>,
    relays: JoinSet<()>,
}

impl Wiring {
    /// Makes the folder, with what QEMU shows to the other end and judges it by.
    pub(crate) fn new(
        runtime: &RuntimeFolder,
        user: Option<User>,
        side: Side,
        authority: &Authority,
        peer: &Certificate,
    ) -> Result<Self, AgentFailure> {
        let path = runtime.migration_folder();
        // A killed agent leaves it.
        hgs_files::optional(
            fs::remove_dir_all(&path).map_err(|error| FileError::at(&path, error)),
        )?;
        hgs_files::private_folder(&path)?;
        let folder = fs::File::open(&path).map_err(|error| FileError::at(&path, error))?;
        let wiring = Self {
            path,
            folder: folder.into(),
            user,
            relays: JoinSet::new(),
        };
        let issued = authority.issue(side)?;
        let name = match side {
            Side::Source => "client",
            Side::Destination => "server",
        };
        // QEMU checks its own certificate by the same file; so that of this end is in it, too.
        let authorities = format!("{}{}", authority.certificate().to_pem(), peer.to_pem());
        wiring.put("ca-cert.pem", authorities.as_bytes())?;
        wiring.put(&format!("{name}-cert.pem"), issued.certificate.as_bytes())?;
        wiring.put(&format!("{name}-key.pem"), issued.key.as_bytes())?;
        wiring.hand_to_user(&wiring.path)?;
        Ok(wiring)
    }

    fn put(&self, name: &str, octets: &[u8]) -> Result<(), AgentFailure> {
        let file = self.path.join(name);
        hgs_files::create(&file, octets, Readers::Owner)?;
        self.hand_to_user(&file)
    }

    fn hand_to_user(&self, path: &Path) -> Result<(), AgentFailure> {
        if let Some(user) = self.user {
            chown(path, Some(user.uid), Some(user.gid))
                .map_err(|error| FileError::at(path, error))?;
        }
        Ok(())
    }

    /// The folder, for QEMU.
    pub(crate) fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// A socket in it, by a name that is short whatever the folder is called.
    fn here(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.folder.as_raw_fd()))
    }

    /// On a source: what QEMU sends to the socket `name` goes to the destination, behind `token`.
    pub(crate) fn send(
        &mut self,
        name: &str,
        destination: std::net::SocketAddr,
        token: Vec<u8>,
    ) -> Result<(), AgentFailure> {
        let listener =
            UnixListener::bind(self.here(name)).map_err(|error| no_socket(name, error))?;
        self.hand_to_user(&self.path.join(name))?;
        self.relays.spawn(async move {
            let Ok((mut here, _)) = listener.accept().await else {
                return;
            };
            let Ok(Ok(mut there)) = timeout(CONNECT, TcpStream::connect(destination)).await else {
                return;
            };
            let opening = [&DATA_MAGIC[..], &token].concat();
            if there.write_all(&opening).await.is_ok() {
                pass_on(&mut here, &mut there).await;
            }
        });
        Ok(())
    }

    /// On a destination: the connection that comes from `connections` goes to the socket `name`, where QEMU listens.
    pub(crate) fn receive(&mut self, name: &str, mut connections: mpsc::Receiver<TcpStream>) {
        let socket = self.here(name);
        self.relays.spawn(async move {
            if let Some(mut there) = connections.recv().await
                && let Ok(mut here) = UnixStream::connect(socket).await
            {
                pass_on(&mut here, &mut there).await;
            }
        });
    }

    /// Nothing goes through any more.
    pub(crate) fn cut(&mut self) {
        self.relays.abort_all();
    }
}

impl Drop for Wiring {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

async fn pass_on(here: &mut UnixStream, there: &mut TcpStream) {
    let _ = there.set_nodelay(true);
    // Either end may break off at any time; the two QEMUs find out.
    let _ = copy_bidirectional_with_sizes(here, there, BUFFER, BUFFER).await;
}

fn no_socket(name: &str, error: std::io::Error) -> AgentFailure {
    AgentFailure::failed(format_args!("the socket {name} of the migration: {error}"))
        .at_fault(Fault::Ourselves)
}
