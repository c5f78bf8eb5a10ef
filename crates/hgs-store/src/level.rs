//! The format of what nodes share, by levels: so that two neighbouring versions of the program work side by side.
//!
//! *Shared* is what all nodes compute alike or hand to each other: entries, records and their tags, audit records. *Local* are the
//! tables and indexes of one node's database, which change no tag.
//!
//! ```text
//!  local    schema of the database   each node brings its own up to date when it opens it
//!  shared   level of the format      a record of the state; raised for all nodes at one place of the order
//! ```
//!
//! A program reads some levels and writes the one that the state is at. What a level-2 program can write and a level-1
//! program can't read has [`Record::level`](crate::change::Record::level) 2, and is refused as long as the state is at level 1.
//! [`Transaction::RaiseLevel`](crate::Transaction::RaiseLevel) raises the level. It depends on everything, so that nothing which
//! was decided before it is ordered after it; and what an earlier level has written otherwise is written anew in the same commit.
//!
//! To add a level: append it to [`INTRODUCED`], give what is new its level in `Record::level`, and let the transaction write anew what
//! changes its form.

use std::fmt;

use hgs_fault::is_next_version;
use serde::{Deserialize, Serialize};

use crate::engine::View;
use crate::record::{Keys, RecordKind};
use crate::{Finding, StoreError, Tampered};

/// The versions of the program that introduced the levels, from 1 on.
const INTRODUCED: &[&str] = &["0.1.0"];

/// What the next version of this program is called, where a test plays it.
const NEXT_VERSION: &str = "0.2.0";

/// The name of the record that has the level.
pub(crate) const NAME: &str = "service";

/// A level of the format of what nodes share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Level(u32);

/// The levels that a program reads. One that says nothing of levels reads the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Levels {
    /// The first that it reads.
    pub oldest: Level,
    /// The last.
    pub newest: Level,
}

/// The version of this program.
#[must_use]
pub fn program_version() -> &'static str {
    match is_next_version() {
        true => NEXT_VERSION,
        false => env!("CARGO_PKG_VERSION"),
    }
}

impl Level {
    /// The first one; a state without a record of its level is at it.
    pub const FIRST: Self = Self(1);

    /// As a number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// From its number.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// The version of the program that introduced it, as far as this program knows.
    #[must_use]
    pub fn introduced_in(self) -> Option<&'static str> {
        let place = usize::try_from(self.0.checked_sub(1)?).ok()?;
        let next = Some(NEXT_VERSION).filter(|_| is_next_version() && place == INTRODUCED.len());
        INTRODUCED.get(place).copied().or(next)
    }

    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Default for Level {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Levels {
    /// Those that this program reads.
    #[must_use]
    pub fn of_this_program() -> Self {
        let newest = u32::try_from(INTRODUCED.len()).unwrap_or(u32::MAX);
        Self {
            oldest: Level::FIRST,
            newest: Level(newest + u32::from(is_next_version())),
        }
    }

    /// Whether a level is among them.
    #[must_use]
    pub fn contain(&self, level: Level) -> bool {
        (self.oldest..=self.newest).contains(&level)
    }

    /// Whether what is at a level can be read.
    ///
    /// # Errors
    /// Which version of the program can.
    pub fn check(&self, format: &Format) -> Result<(), UnreadableLevel> {
        match self.contain(format.level) {
            true => Ok(()),
            false => Err(UnreadableLevel {
                format: format.clone(),
                program: program_version().to_owned(),
                levels: *self,
            }),
        }
    }
}

impl Default for Levels {
    fn default() -> Self {
        Self {
            oldest: Level::FIRST,
            newest: Level::FIRST,
        }
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.oldest == self.newest {
            true => write!(formatter, "level {}", self.newest),
            false => write!(formatter, "levels {} to {}", self.oldest, self.newest),
        }
    }
}

/// Which level something is at. Later versions may add to it, and earlier ones still read the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    /// The level.
    pub level: Level,
    /// The version of the program that introduced it.
    pub version: String,
}

impl Format {
    /// A level that this program knows.
    #[must_use]
    pub fn of(level: Level) -> Self {
        Self {
            level,
            version: level.introduced_in().unwrap_or_default().to_owned(),
        }
    }
}

impl Default for Format {
    fn default() -> Self {
        Self::of(Level::FIRST)
    }
}

/// The operator's turn: something is at a level that a program can't read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableLevel {
    /// What there is.
    pub format: Format,
    /// The version of the program that can't read it.
    pub program: String,
    /// What that reads.
    pub levels: Levels,
}

impl UnreadableLevel {
    /// What the operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        let Self { format, levels, .. } = self;
        match format.level > levels.newest {
            true => format!(
                "install hgs {} here, or a later version that reads level {}: docs/upgrade.md",
                printable(&format.version),
                format.level
            ),
            false => format!(
                "install an earlier version that reads level {} here, and upgrade by one version at a time: docs/upgrade.md",
                format.level
            ),
        }
    }
}

impl fmt::Display for UnreadableLevel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            format,
            program,
            levels,
        } = self;
        write!(
            formatter,
            "it is at format level {}, which hgs {} introduced; hgs {} reads {levels}",
            format.level,
            printable(&format.version),
            printable(program)
        )
    }
}

impl std::error::Error for UnreadableLevel {}

/// A version as others have written it, for a terminal.
fn printable(version: &str) -> String {
    let sound = version.chars().filter(char::is_ascii_graphic).take(32);
    let sound: String = sound.collect();
    match sound.is_empty() {
        true => "(of a version that is not said)".to_owned(),
        false => sound,
    }
}

/// Refuses a state that is at a level which is not among `levels`, before anything else of it is read.
pub(crate) fn check_kept(view: &dyn View, keys: &Keys, levels: &Levels) -> Result<(), StoreError> {
    let format = match view.record(RecordKind::Format.as_str(), NAME)? {
        None => Format::default(),
        Some(row) => {
            row.verified(keys)?;
            read(&row.value)?
        }
    };
    Ok(levels.check(&format)?)
}

/// Reads the record of a level.
pub(crate) fn read(text: &str) -> Result<Format, Tampered> {
    serde_json::from_str(text)
        .map_err(|_| Tampered::new(RecordKind::Format, NAME, Finding::Changed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(oldest: u32, newest: u32) -> Levels {
        Levels {
            oldest: Level(oldest),
            newest: Level(newest),
        }
    }

    #[test]
    fn an_unreadable_level_names_the_version_that_is_needed() {
        let newer: Format = read(r#"{"level":3,"version":"0.4.0","more":{"new":1}}"#).unwrap();
        assert_eq!(levels(1, 3).check(&newer), Ok(()));
        let error = levels(1, 2).check(&newer).unwrap_err();
        let said = format!("{error}. {}", error.remedy());
        assert!(
            said.contains("level 3, which hgs 0.4.0 introduced"),
            "{said}"
        );
        assert!(said.contains("reads levels 1 to 2"), "{said}");
        assert!(said.contains("install hgs 0.4.0 here"), "{said}");
        let older = levels(2, 3).check(&Format::default()).unwrap_err();
        assert!(
            older
                .remedy()
                .contains("earlier version that reads level 1")
        );
        // What others have written goes to terminals.
        let strange = read(r#"{"level":9,"version":"\u001b[2J"}"#).unwrap();
        let error = levels(1, 1).check(&strange).unwrap_err();
        assert!(!error.to_string().contains('\u{1b}'), "{error}");
    }

    #[test]
    fn what_says_nothing_of_levels_is_at_the_first() {
        let first = Levels::default();
        assert!(first.contain(Format::default().level));
        assert!(Levels::of_this_program().contain(Level::FIRST));
        assert_eq!(
            Levels::of_this_program().newest.next().introduced_in(),
            None
        );
        assert_eq!(Level(0).introduced_in(), None);
    }
}
