//! Unix sockets, made so that only whom they are meant for can ever connect.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, lchown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, chmod, fchmod};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

/// Octets of a socket's path: `sun_path` of `struct sockaddr_un`, less the final zero.
pub const SOCKET_PATH_LIMIT: usize = 107;

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 64;

/// Why a socket can't be made at its path.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The kernel takes 107 octets.
    #[error("the path of the socket has {found} octets, at most {SOCKET_PATH_LIMIT} are possible")]
    PathTooLong {
        /// Octets of the path.
        found: usize,
    },
    /// The path has no parent folder.
    #[error("the path of the socket names no folder")]
    NoFolder,
    /// The folder is a symbolic link or no folder, or belongs to another user, or others can
    /// write to it: they could put another socket in this one's place.
    #[error("the folder {} must be a folder that only its owner can write to", folder.display())]
    UnsafeFolder {
        /// The folder.
        folder: PathBuf,
    },
    /// Something that is no socket, such as a symbolic link, is where the socket should be.
    #[error("there is something at the path that is no socket")]
    NotASocket,
    /// A process answers at the socket.
    #[error("another process listens there")]
    InUse,
    /// The system refused a step.
    #[error("can't {step}")]
    System {
        /// What was tried.
        step: &'static str,
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

/// The file of a listening Unix socket; it goes when this is dropped.
#[derive(Debug)]
pub struct LocalSocket {
    path: PathBuf,
    /// Device and inode, so that no socket of another process is removed.
    identity: (u64, u64),
}

impl LocalSocket {
    /// Makes the socket with mode 0660, owned by `group` or else the process's own, and its listener, which does not block.
    pub fn bind(path: &Path, group: Option<u32>) -> Result<(Self, UnixListener), SocketError> {
        let found = path.as_os_str().len();
        if found > SOCKET_PATH_LIMIT {
            return Err(SocketError::PathTooLong { found });
        }
        prepare_folder(path.parent().ok_or(SocketError::NoFolder)?, group)?;
        remove_stale(path)?;

        // No peer can connect before `listen`, so the permissions are right in time.
        let socket = step(
            "make a socket",
            socket_with(
                AddressFamily::UNIX,
                SocketType::STREAM,
                SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
                None,
            ),
        )?;
        step(
            "set the socket's mode",
            fchmod(&socket, Mode::RUSR | Mode::WUSR),
        )?;
        let address = step("use the path", SocketAddrUnix::new(path))?;
        step("bind the socket", bind(&socket, &address))?;
        if group.is_some() {
            lchown(path, None, group).map_err(system("give the socket to its group"))?;
        }
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP;
        step("set the socket's mode", chmod(path, mode))?;
        step("listen on the socket", listen(&socket, BACKLOG))?;

        let metadata = fs::symlink_metadata(path).map_err(system("look at the socket"))?;
        let file = Self {
            path: path.to_path_buf(),
            identity: identity(&metadata),
        };
        Ok((file, socket.into()))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| identity(&metadata) == self.identity);
        if ours {
            // A socket that stays is removed by the next process that listens here.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn system(step: &'static str) -> impl Fn(io::Error) -> SocketError {
    move |error| SocketError::System { step, error }
}

fn step<T>(step: &'static str, result: rustix::io::Result<T>) -> Result<T, SocketError> {
    result.map_err(|errno| system(step)(errno.into()))
}

/// Makes the folder, or checks that no other user can write to the one that is there.
fn prepare_folder(folder: &Path, group: Option<u32>) -> Result<(), SocketError> {
    match fs::symlink_metadata(folder) {
        Ok(metadata) => {
            let own = rustix::process::geteuid().as_raw();
            let safe = metadata.is_dir()
                && (metadata.uid() == own || metadata.uid() == 0)
                && metadata.mode() & 0o022 == 0;
            if safe {
                return Ok(());
            }
            return Err(SocketError::UnsafeFolder {
                folder: folder.to_path_buf(),
            });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(system("look at the socket's folder")(error)),
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(system("make the socket's folder"))?;
    if group.is_some() {
        lchown(folder, None, group).map_err(system("give the folder to its group"))?;
        step(
            "set the folder's mode",
            chmod(folder, Mode::RWXU | Mode::RGRP | Mode::XGRP),
        )?;
    }
    Ok(())
}

/// Removes the socket that a server left behind when it was killed.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(system("look at the socket")(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(SocketError::NotASocket);
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::InUse),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(system("remove the old socket"))
        }
        Err(error) => Err(system("ask who listens on the old socket")(error)),
    }
}
