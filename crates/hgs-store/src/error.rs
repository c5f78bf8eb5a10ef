//! Errors, by the party at fault.

use std::fmt;
use std::path::PathBuf;

use hgs_crypto::CryptoError;
use hgs_custody::seal::MasterKeyLength;
use hgs_files::FileError;

/// Why the store can't be opened or created.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operator's turn: a file or folder is not as it must be.
    #[error(transparent)]
    Place(#[from] FileError),
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
    /// The database file is damaged.
    #[error("the database is damaged: {detail}")]
    Damaged {
        /// What the engine found first.
        detail: String,
    },
    /// Somebody else wrote to the database.
    #[error(transparent)]
    Tampered(#[from] Tampered),
    /// The first transaction of a new state was refused.
    #[error(transparent)]
    Refused(#[from] crate::Refusal),
    /// The database engine failed.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Tampered(tampered) => Self::Tampered(tampered),
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
        problem: MasterKeyLength,
    },
    /// No randomness to draw one.
    #[error("no randomness for a master key")]
    Random(#[from] CryptoError),
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
    /// The database can't be read or written, for instance because the disk is full.
    #[error("the state can't be read or written: {reason}")]
    Unavailable {
        /// What the engine says.
        reason: String,
    },
    /// Somebody else wrote to the database while it was open.
    #[error(transparent)]
    Tampered(#[from] Tampered),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Unavailable {
            reason: error.to_string(),
        }
    }
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}
