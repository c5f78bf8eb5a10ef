//! Errors, by the party at fault.

use std::fmt;
use std::path::PathBuf;

use hgs_crypto::CryptoError;
use hgs_custody::seal::MasterKeyProblem;
use hgs_files::{FileError, FileProblem};

use crate::level::UnreadableLevel;
use crate::order::OrderError;
use crate::rolled_back::RolledBack;

/// Why the store can't be opened or created.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operator's turn: a file or folder is not as it must be.
    #[error(transparent)]
    Folder(#[from] FileError),
    /// The operator's turn: the state was not made by joining this cluster, which has ordered something already.
    #[error(
        "this state is none of this cluster's: a node that has none joins with `hgs cluster join`"
    )]
    NotOfThisCluster,
    /// The operator's turn: what is to be done would have to be done on every node.
    #[error("this state is one of a cluster's, and is changed by its running server only")]
    InCluster,
    /// The operator's turn: nothing has been initialised there yet.
    #[error("there is no state in {}", directory.display())]
    NotInitialised {
        /// The state folder.
        directory: PathBuf,
    },
    /// The operator's turn: there is a state already, and it is not overwritten.
    #[error("there is a state in {} already", directory.display())]
    AlreadyInitialised {
        /// The state folder.
        directory: PathBuf,
    },
    /// The operator's turn: another process holds the state.
    #[error("the state in {} is in use by another process", directory.display())]
    InUse {
        /// The state folder.
        directory: PathBuf,
    },
    /// The operator's turn: the file of the master key.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// The operator's turn: the state was written under another master key.
    #[error("the state was written under another master key")]
    WrongMasterKey,
    /// The operator's turn: a newer program wrote the state.
    #[error("the state has schema version {found}; this program knows up to {known}")]
    NewerSchema {
        /// The version found.
        found: u32,
        /// The newest version this program knows.
        known: u32,
    },
    /// The operator's turn: an older program wrote the state, and none that knows this version has
    /// served it since.
    #[error("the state has schema version {found}; this program reads {known} beside a server")]
    OlderSchema {
        /// The version found.
        found: u32,
        /// The version that is read.
        known: u32,
    },
    /// The operator's turn: the state is at a level of the format that this program can't read.
    #[error("the state can't be read: {0}")]
    Level(UnreadableLevel),
    /// The database file is damaged: cut off, overwritten, or no database.
    #[error("the database is damaged: {detail}")]
    Damaged {
        /// What the engine found first.
        detail: String,
    },
    /// Another program wrote to the database.
    #[error(transparent)]
    Tampered(#[from] Tampered),
    /// The operator's turn: the state is not the newest one, or can't be shown to be.
    #[error(transparent)]
    RolledBack(#[from] RolledBack),
    /// The operator's turn: the folder of the high-water mark can't be made.
    #[error("the folder of the high-water mark, {}, can't be made: {reason}", folder.display())]
    MarkFolder {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The first transaction of a new state was refused.
    #[error(transparent)]
    Refused(#[from] crate::Refusal),
    /// The database engine failed.
    #[error(transparent)]
    Store(StoreError),
}

impl OpenError {
    /// What the operator can do about it, where that is plain.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        let remedy = match self {
            Self::NotOfThisCluster => {
                "a machine that is to join has an empty state folder; a state that `hgs cluster dissolve` took out of a cluster \
                 is served without it: `hgs cluster dissolve` again"
            }
            Self::InCluster => {
                "do it while `hgs serve` runs where the command can; otherwise stop all nodes and make this one a guardian of \
                 one node with `hgs cluster dissolve` (docs/cluster.md, \"Back to one node\" and \"Another master key\")"
            }
            Self::Folder(error) if matches!(error.problem, FileProblem::InUse) => {
                "give each guardian a high-water mark of its own: `server.high_water_mark`"
            }
            Self::Folder(error) => return error.remedy(),
            Self::NotInitialised { .. } => {
                "make a guardian with `hgs init`, or of a backup with `hgs state import --initialise`"
            }
            Self::AlreadyInitialised { .. } => {
                "start it with `hgs serve`, or name another folder: `server.state`"
            }
            Self::InUse { .. } => {
                "stop the server, or whatever else uses it, first: one process at a time holds a state"
            }
            Self::MasterKey(error) => return error.remedy(),
            Self::WrongMasterKey => {
                "name the master key of this state with `server.master_key` or HGS_MASTER_KEY; the state itself is \
                 not damaged"
            }
            Self::Level(error) => return Some(error.remedy()),
            Self::NewerSchema { .. } => "use the newer version of hgs that wrote it",
            Self::OlderSchema { .. } => "restart the server with this version of hgs",
            Self::Damaged { .. } => {
                "look at the disk first. Then move the state folder away and make the guardian of its newest backup \
                 with `hgs state import --initialise`"
            }
            Self::Tampered(_) => {
                "find out who can write to the state folder first. Then move the folder away and make the guardian of \
                 its newest backup with `hgs state import --initialise`"
            }
            Self::RolledBack(RolledBack::Gone { .. }) => {
                "put the newest copy of the state folder back, or make the guardian of its newest backup with \
                 `hgs state import --initialise`"
            }
            Self::RolledBack(_) => {
                "put the newest copy of the whole state folder back, `state.db-wal` included. If there is none, \
                 `hgs state accept` goes on with this one: revocations and all else that was done since are forgotten"
            }
            Self::MarkFolder { .. } => {
                "make the folder for the service's user, with mode 0700 (in the systemd unit: `StateDirectory=openhgs \
                 openhgs-mark`), or name another file: `server.high_water_mark`"
            }
            Self::Store(error) => return error.remedy(),
            Self::Refused(_) => return None,
        };
        Some(remedy.to_owned())
    }
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Tampered(tampered) => Self::Tampered(tampered),
            StoreError::Damaged { detail } => Self::Damaged { detail },
            StoreError::Level(error) => Self::Level(error),
            other => Self::Store(other),
        }
    }
}

/// Why the master key can't be had. It's the operator's turn.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The file can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file does not hold a master key.
    #[error("{}: {problem}", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: MasterKeyProblem,
    },
    /// No randomness to draw one.
    #[error("no randomness for a master key")]
    Random(#[from] CryptoError),
}

impl MasterKeyError {
    /// What the operator can do about it, where that is plain.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::File(error) if matches!(error.problem, FileProblem::NotFound) => Some(
                "name the file of the master key with `server.master_key`, or put it back from its copy".to_owned(),
            ),
            Self::File(error) => error.remedy(),
            Self::Length {
                problem: MasterKeyProblem::Length { .. },
                ..
            } => Some("put the master key of this state back from its copy".to_owned()),
            Self::Length {
                problem: MasterKeyProblem::NotRandom,
                ..
            } => Some(
                "put the master key of this state back from its copy; if the state was made under this very key, stop the \
                 server and run `hgs state rotate-master-key`: docs/guide.md, section 8, says what else to do then"
                    .to_owned(),
            ),
            Self::Random(_) => None,
        }
    }
}

/// A record that is not as this service left it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the state was changed by somebody else: {table} {name:?} {finding}")]
pub struct Tampered {
    /// The kind of record, or `audit`, `lineage`, `store` or `schema`.
    pub table: String,
    /// The record's name.
    pub name: String,
    /// What is wrong with it.
    pub finding: Finding,
}

impl Tampered {
    pub(crate) fn new(table: impl fmt::Display, name: impl fmt::Display, finding: Finding) -> Self {
        Self {
            table: table.to_string(),
            name: name.to_string(),
            finding,
        }
    }
}

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Its tag does not belong to it: its value, name or place was changed.
    Changed,
    /// It was deleted.
    Missing,
    /// An older version of it was put back.
    Stale,
    /// It should not be there: it was removed earlier.
    Unexpected,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Changed => "was changed",
            Self::Missing => "is missing",
            Self::Stale => "is an older version of itself",
            Self::Unexpected => "should not be there",
        })
    }
}

/// Why an open store did not do what was asked; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Too much work waits already; try again.
    #[error("the store has too much work waiting")]
    Busy,
    /// The store is being closed.
    #[error("the store is closed")]
    Closed,
    /// The operator's turn: there is no room for what is to be written.
    #[error("the disk of the state folder is full")]
    DiskFull,
    /// The database file is damaged: cut off, overwritten, or no database.
    #[error("the database is damaged: {detail}")]
    Damaged {
        /// What the engine says.
        detail: String,
    },
    /// The database can't be read or written.
    #[error("the state can't be read or written: {reason}")]
    Unavailable {
        /// What the engine says.
        reason: String,
    },
    /// Another program wrote to the database while it was open.
    #[error(transparent)]
    Tampered(#[from] Tampered),
    /// The operator's turn: other nodes write at a level of the format that this program can't read.
    #[error("what other nodes write can't be read: {0}")]
    Level(#[from] UnreadableLevel),
    /// The cluster has not ordered it.
    #[error(transparent)]
    Cluster(OrderError),
}

impl StoreError {
    /// What the operator can do about it, where that is plain.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        let remedy = match self {
            Self::DiskFull => {
                "make room on the disk of the state folder; nothing is released that can't be recorded"
            }
            Self::Unavailable { .. } => {
                "see the disk and the mount options of the state folder, and who owns its files"
            }
            Self::Damaged { .. } | Self::Tampered(_) => {
                "stop the server and start it again: it says what is wrong and what to do"
            }
            Self::Level(error) => return Some(error.remedy()),
            Self::Cluster(error) => error.remedy(),
            Self::Busy | Self::Closed => return None,
        };
        Some(remedy.to_owned())
    }
}
