use std::io;
use std::path::{Path, PathBuf};

/// What went wrong with which file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct FileError {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: FileProblem,
}

/// What can be wrong with a file or folder.
#[derive(Debug, thiserror::Error)]
pub enum FileProblem {
    /// It exists, and nothing is overwritten.
    #[error("exists already")]
    AlreadyExists,
    /// The permissions of the file, or of a folder on the way, are in the way.
    #[error("may not be opened by this user")]
    Denied,
    /// Another process is working with it.
    #[error("is in use by another process")]
    InUse,
    /// The operating system says no.
    #[error("{0}")]
    Io(io::Error),
    /// A folder, device or pipe where a file is meant, or a file where a folder is.
    #[error("is not a {expected}")]
    NotA {
        /// `file` or `folder`.
        expected: &'static str,
    },
    /// Text in another encoding, or no text.
    #[error("is not UTF-8 text (line {line})")]
    NotUtf8 {
        /// The line of the first octet that is not UTF-8, counted from one.
        line: usize,
    },
    /// It does not exist.
    #[error("does not exist")]
    NotFound,
    /// It belongs to another user, who is not root.
    #[error("belongs to user {owner}, not to this user")]
    Owner {
        /// Number of the user it belongs to.
        owner: u32,
    },
    /// Others may open it.
    #[error("has mode {mode:04o}, but is meant for its owner alone")]
    Permissions {
        /// The permission bits.
        mode: u32,
    },
    /// A symbolic link; it is not followed.
    #[error("is a symbolic link, which is not followed")]
    SymbolicLink,
    /// Longer than anything it could rightly hold.
    #[error("has more than {limit} octets")]
    TooLarge {
        /// The limit in octets.
        limit: usize,
    },
    /// Text as some editors of Windows save it.
    #[error("is UTF-16, not UTF-8")]
    Utf16,
}

impl FileError {
    /// What went wrong with the file at `path`.
    pub fn at(path: &Path, problem: impl Into<FileProblem>) -> Self {
        Self {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    /// What the operator can do about it, where that is plain.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        let path = self.path.display();
        match self.problem {
            FileProblem::Permissions { .. } => Some(format!("run `chmod go= {path}`")),
            // A chown alone would take the files of a service away from it.
            FileProblem::Owner { owner } => Some(format!(
                "run this as that user: `runuser -u \"$(id -nu {owner})\" -- ...`; only if the file is meant for this user, \
                 run `chown $(id -u) {path}`"
            )),
            FileProblem::Denied => Some(format!(
                "see with `namei -l {path}` who may, and run this as that user or change the permissions"
            )),
            FileProblem::NotFound => Some(format!("check the path, or put the file at {path}")),
            FileProblem::SymbolicLink => Some(
                "name the file itself, or have every folder and link on the way belong to root or to this user, and not \
                 writable by others"
                    .to_owned(),
            ),
            FileProblem::NotA { expected } => Some(format!(
                "name a {expected}, or move away what is at {path}"
            )),
            FileProblem::NotUtf8 { .. } => Some("save it in the encoding UTF-8".to_owned()),
            FileProblem::Utf16 => Some(format!(
                "save it in the encoding UTF-8, for instance with `iconv -f UTF-16 -t UTF-8 {path}`"
            )),
            _ => None,
        }
    }
}

impl From<io::Error> for FileProblem {
    fn from(error: io::Error) -> Self {
        // What O_NOFOLLOW answers when it meets a link.
        let link = rustix::io::Errno::LOOP.raw_os_error();
        match error.kind() {
            io::ErrorKind::AlreadyExists => Self::AlreadyExists,
            io::ErrorKind::IsADirectory => Self::NotA { expected: "file" },
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::PermissionDenied => Self::Denied,
            _ if error.raw_os_error() == Some(link) => Self::SymbolicLink,
            _ => Self::Io(error),
        }
    }
}
