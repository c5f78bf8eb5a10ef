//! Facts that guardians and hosts have in common. None of these types has room for a secret.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use hgs_pki::Time;
use serde::{Deserialize, Serialize};

use crate::text;

/// What was found, or why it was not.
pub type Observed<T> = Result<T, Problem>;

/// Why something is not as it should be, in the words of the part that noticed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What is wrong.
    pub message: String,
    /// The remedy, if one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Problem {
    /// An error with all that caused it.
    pub fn of(error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Some errors show their cause themselves.
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            cause = error.source();
        }
        Self::new(message)
    }

    /// Something that was noticed.
    pub fn new(message: impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            remedy: None,
        }
    }

    /// The remedy.
    #[must_use]
    pub fn with_remedy(self, remedy: Option<impl Into<String>>) -> Self {
        Self {
            remedy: remedy.map(Into::into),
            ..self
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

/// A file or folder, as the file system shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathFacts {
    /// Where.
    pub path: String,
    /// What is there.
    pub kind: PathKind,
    /// Its permission bits.
    pub mode: Option<u32>,
    /// The number of the user that it belongs to.
    pub owner: Option<u32>,
    /// Why nothing can be said of it.
    pub problem: Option<Problem>,
}

/// The kinds of things at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathKind {
    /// Nothing.
    Absent,
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A device, a socket, or something that can't be looked at.
    Other,
}

impl PathFacts {
    /// Looks at `path`, without following a link.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        let absent = Self {
            path: path.display().to_string(),
            kind: PathKind::Absent,
            mode: None,
            owner: None,
            problem: None,
        };
        match fs::symlink_metadata(path) {
            Ok(meta) => Self {
                kind: match meta.file_type() {
                    kind if kind.is_symlink() => PathKind::Link,
                    kind if kind.is_dir() => PathKind::Folder,
                    kind if kind.is_file() => PathKind::File,
                    _ => PathKind::Other,
                },
                mode: Some(meta.mode() & 0o7777),
                owner: Some(meta.uid()),
                ..absent
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => absent,
            Err(error) => Self {
                kind: PathKind::Other,
                problem: Some(Problem::new(error)),
                ..absent
            },
        }
    }

    /// Why it is not private to `user`; `None` if it is.
    pub(crate) fn not_private(&self, expected: PathKind, user: u32) -> Option<Problem> {
        let path = &self.path;
        if let Some(problem) = &self.problem {
            return Some(problem.clone());
        }
        if self.kind != expected {
            let found = match self.kind {
                PathKind::Absent => "is not there",
                PathKind::File => "is a file",
                PathKind::Folder => "is a folder",
                PathKind::Link => "is a symbolic link, which is not followed",
                PathKind::Other => "is neither a file nor a folder",
            };
            return Some(Problem::new(format_args!("{path} {found}")));
        }
        let mode = self.mode.unwrap_or_default();
        if mode & 0o077 != 0 {
            let problem = Problem::new(format_args!("{path} has mode {mode:04o}"));
            return Some(problem.with_remedy(Some(format!("run `chmod go= {path}`"))));
        }
        let owner = self.owner.unwrap_or_default();
        if owner != user && owner != 0 {
            let problem = Problem::new(format_args!("{path} belongs to user {owner}, not {user}"));
            return Some(problem.with_remedy(Some(format!("run `chown {user} {path}`"))));
        }
        None
    }

    /// A short description.
    pub(crate) fn shown(&self) -> String {
        let mode = self.mode.unwrap_or_default();
        let owner = self.owner.unwrap_or_default();
        format!(
            "{} has mode {mode:04o} and belongs to user {owner}",
            self.path
        )
    }
}

/// The period for which a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validity {
    /// Its first second.
    #[serde(with = "text::display")]
    pub not_before: Time,
    /// Its last second.
    #[serde(with = "text::display")]
    pub not_after: Time,
}

impl From<hgs_pki::Validity> for Validity {
    fn from(validity: hgs_pki::Validity) -> Self {
        Self {
            not_before: validity.not_before,
            not_after: validity.not_after,
        }
    }
}

impl From<Validity> for hgs_pki::Validity {
    fn from(validity: Validity) -> Self {
        Self {
            not_before: validity.not_before,
            not_after: validity.not_after,
        }
    }
}

/// How far towards a URL one gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reachability {
    /// The URL.
    pub url: String,
    /// The addresses of its host.
    pub addresses: Observed<Vec<String>>,
    /// The address that accepted a connection; absent where there was none to try.
    pub connected: Option<Observed<String>>,
    /// The result of the TLS handshake; absent for plain HTTP, and without a connection.
    pub tls: Option<Observed<PresentedCertificate>>,
    /// Whether something answered over HTTP, with any status; absent where nothing was asked.
    #[serde(default)]
    pub answered: Option<Observed<()>>,
    /// The time that the service says it is, in the header `Date` of an answer, and the time here then.
    pub clocks: Option<Clocks>,
}

impl Reachability {
    /// Whether something could be asked at the URL.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.connected, Some(Ok(_)))
            && !matches!(self.tls, Some(Err(_)))
            && !matches!(self.answered, Some(Err(_)))
    }

    /// Scheme, host and port of the URL, which the URLs of one listener share.
    #[must_use]
    pub fn origin(&self) -> &str {
        let origin = || {
            let host = self.url.find("://")? + 3;
            let path = host + self.url.get(host..)?.find('/')?;
            self.url.get(..path)
        };
        origin().unwrap_or(&self.url)
    }
}

/// Two clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    /// The service's.
    #[serde(with = "text::display")]
    pub there: Time,
    /// That of the machine that asked.
    #[serde(with = "text::display")]
    pub here: Time,
}

/// What a TLS server presented, after it was verified for the name in the URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresentedCertificate {
    /// SHA-256 of the certificate.
    pub thumbprint: String,
    /// For how long it is valid; absent if it can't be read.
    pub validity: Option<Validity>,
}
