//! The refusal of a state that is not the newest one.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// How far a state has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Position {
    /// The generation of the state.
    pub generation: u64,
    /// The number of its newest audit record.
    pub sequence: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            generation,
            sequence,
        } = self;
        write!(
            formatter,
            "generation {generation}, audit record {sequence}"
        )
    }
}

/// The state is not the newest one, or can't be shown to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RolledBack {
    /// The state has not come as far as the mark.
    #[error(
        "the state in {} is older than it was before: it is at {state}, and its high-water mark ({}) is at {mark}",
        directory.display(), file.display()
    )]
    Older {
        /// The state folder.
        directory: PathBuf,
        /// The file of the mark.
        file: PathBuf,
        /// How far the state is.
        state: Position,
        /// How far it was.
        mark: Position,
    },
    /// The state has another audit record where the mark was made.
    #[error(
        "the state in {} has another history than it had before: its audit record {} is not the one that its \
         high-water mark ({}) was made at", directory.display(), mark.sequence, file.display()
    )]
    OtherHistory {
        /// The state folder.
        directory: PathBuf,
        /// The file of the mark.
        file: PathBuf,
        /// How far the state is.
        state: Position,
        /// Where the histories differ.
        mark: Position,
    },
    /// The state had a mark, and there is none that its master key has made.
    #[error(
        "nothing shows that the state in {} is the newest: its high-water mark ({}) is missing or damaged, or \
         belongs to another state", directory.display(), file.display()
    )]
    NoMark {
        /// The state folder.
        directory: PathBuf,
        /// The file of the mark.
        file: PathBuf,
        /// How far the state is.
        state: Position,
    },
    /// There was a state, and there is none.
    #[error(
        "the state in {} is gone: its high-water mark ({}) is at {mark}", directory.display(), file.display()
    )]
    Gone {
        /// The state folder.
        directory: PathBuf,
        /// The file of the mark.
        file: PathBuf,
        /// How far the state was.
        mark: Position,
    },
}

impl RolledBack {
    /// Where the mark was made, if there is one.
    #[must_use]
    pub fn mark(&self) -> Option<Position> {
        match self {
            Self::Older { mark, .. }
            | Self::OtherHistory { mark, .. }
            | Self::Gone { mark, .. } => Some(*mark),
            Self::NoMark { .. } => None,
        }
    }

    /// How far the state is that was found.
    #[must_use]
    pub fn state(&self) -> Option<Position> {
        match self {
            Self::Older { state, .. }
            | Self::OtherHistory { state, .. }
            | Self::NoMark { state, .. } => Some(*state),
            Self::Gone { .. } => None,
        }
    }
}
