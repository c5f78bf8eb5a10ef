//! Archives: files of old audit records that leave the database.
//!
//! An archive is a text of JSON lines. The first tells which records follow, one a line, and names the SHA-256 of the
//! archive before it:
//!
//! ```text
//!  {"openhgs-audit-archive":1,"first":1,"last":20000,"previous":null}
//!  {"sequence":1,"node":"node-1", ...}
//! ```
//!
//! So the digest of one archive vouches for all before it, and anybody can check that with `sha256sum`. The digest of the
//! newest archive is in the database, under a seal of the master key, and in the audit record that says that it was made.
//!
//! The database keeps a [`Boundary`]: after which record its log begins, with the tag that the next record is chained to.
//! Its seal can't be made without the master key, and an older boundary misses records, so cutting off the beginning of
//! the log is found like any other gap.

use hgs_crypto::hash::sha256;
use hgs_custody::seal::{Authenticator, Tag};
use serde::{Deserialize, Serialize};

use super::{AuditRecord, Head, tampered};
use crate::engine::{BoundaryRow, View};
use crate::model::Digest;
use crate::{Finding, StoreError};

/// Records in one archive at most.
pub(crate) const MAX_ARCHIVED: u64 = 20_000;

/// Octets of one archive at most, when it is read.
pub const MAX_ARCHIVE_LENGTH: usize = 1024 * 1024 * 1024;

/// The name of the format, and its version.
const FORMAT: u32 = 1;

/// Where the log in the database begins, and the newest archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Boundary {
    /// The newest record that has left the database.
    pub(crate) left: Head,
    /// The newest archive: records up to this one are in archives, whether or not they have left the database.
    pub(crate) archived: u64,
    /// Its digest.
    pub(crate) digest: Digest,
}

impl Boundary {
    /// Of a log of which nothing was archived.
    pub(crate) const NONE: Self = Self {
        left: Head::EMPTY,
        archived: 0,
        digest: Digest::from_bytes([0; 32]),
    };

    /// The digest of the newest archive, if there is one.
    pub(crate) fn newest(&self) -> Option<Digest> {
        (self.archived > 0).then_some(self.digest)
    }

    /// The boundary that a view shows.
    pub(crate) fn of(view: &dyn View, authenticator: &Authenticator) -> Result<Self, StoreError> {
        let Some(row) = view.boundary()? else {
            return Ok(Self::NONE);
        };
        let changed = || tampered(row.left, Finding::Changed);
        let boundary = Self {
            left: Head {
                sequence: row.left,
                tag: row.tag[..].try_into().map_err(|_| changed())?,
            },
            archived: row.archived,
            digest: row.digest[..]
                .try_into()
                .map(Digest::from_bytes)
                .map_err(|_| changed())?,
        };
        let numbers = boundary.numbers();
        authenticator
            .verify(boundary.sealed(&numbers), &row.seal)
            .map_err(|_| changed())?;
        Ok(boundary)
    }

    /// The row that an engine keeps.
    pub(crate) fn row(&self, authenticator: &Authenticator) -> BoundaryRow {
        let numbers = self.numbers();
        let seal: Tag = authenticator.tag(self.sealed(&numbers));
        BoundaryRow {
            left: self.left.sequence,
            tag: self.left.tag.to_vec(),
            archived: self.archived,
            digest: self.digest.as_bytes().to_vec(),
            seal: seal.to_vec(),
        }
    }

    fn numbers(&self) -> [[u8; 8]; 2] {
        [
            self.left.sequence.to_be_bytes(),
            self.archived.to_be_bytes(),
        ]
    }

    /// What the seal is over. No audit record's tag is over five parts.
    fn sealed<'a>(&'a self, numbers: &'a [[u8; 8]; 2]) -> [&'a [u8]; 5] {
        [
            b"audit boundary",
            &numbers[0],
            &self.left.tag,
            &numbers[1],
            self.digest.as_bytes(),
        ]
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    #[serde(rename = "openhgs-audit-archive")]
    format: u32,
    first: u64,
    last: u64,
    previous: Option<Digest>,
}

/// An archive as it is written, and what is on record of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) octets: Vec<u8>,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) digest: Digest,
}

/// Writes the archive of `records`, which follow each other.
pub(crate) fn write(
    records: &[AuditRecord],
    previous: Option<Digest>,
) -> Result<Option<Written>, serde_json::Error> {
    let (Some(first), Some(last)) = (records.first(), records.last()) else {
        return Ok(None);
    };
    let (first, last) = (first.sequence, last.sequence);
    let mut octets = serde_json::to_vec(&Header {
        format: FORMAT,
        first,
        last,
        previous,
    })?;
    octets.push(b'\n');
    for record in records {
        serde_json::to_writer(&mut octets, record)?;
        octets.push(b'\n');
    }
    let digest = Digest::from_bytes(sha256(&octets));
    Ok(Some(Written {
        octets,
        first,
        last,
        digest,
    }))
}

/// The name of the file of an archive. In the order of their names, archives are in their order.
pub(crate) fn file_name(first: u64, last: u64) -> String {
    format!("audit-{first:012}-{last:012}.jsonl")
}

/// The numbers in the name of an archive's file: of its first record, and of its last.
pub(crate) fn numbers_of(file_name: &str) -> Option<(u64, u64)> {
    let rest = file_name.strip_prefix("audit-")?.strip_suffix(".jsonl")?;
    let (first, last) = rest.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// An archive that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Archive {
    previous: Option<Digest>,
    digest: Digest,
    records: Vec<AuditRecord>,
}

/// Why octets are no archive, or archives do not follow each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// The first line is not that of an archive.
    #[error("the file does not begin as an archive of an audit log does")]
    Header,
    /// A newer program has written it.
    #[error("the archive has format {found}; this program reads format {FORMAT}")]
    Format {
        /// Its format.
        found: u32,
    },
    /// A record can't be read, or is not the one that should stand there.
    #[error("record {expected} of the archive is missing or changed")]
    Record {
        /// The number of the record.
        expected: u64,
    },
    /// Something follows the last record.
    #[error("something follows the last record of the archive")]
    TooLong,
    /// Between two archives records are missing, or are in both.
    #[error("the archive begins with record {first}, and not after record {before}")]
    Gap {
        /// Where it begins.
        first: u64,
        /// Where the one before it ends.
        before: u64,
    },
    /// An archive names another archive before it than the one that is there.
    #[error(
        "the archive that ends with record {last} was changed: the next one was made after another"
    )]
    Changed {
        /// Where the archive that was changed ends.
        last: u64,
    },
}

impl Archive {
    /// Reads an archive. Only its digest shows that it is unchanged.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn read(octets: &[u8]) -> Result<Self, ArchiveError> {
        let mut lines = octets.split(|octet| *octet == b'\n');
        let header = lines.next().ok_or(ArchiveError::Header)?;
        let format = serde_json::from_slice::<serde_json::Value>(header)
            .ok()
            .and_then(|header| header.get("openhgs-audit-archive")?.as_u64());
        match format.ok_or(ArchiveError::Header)?.try_into() {
            Ok(FORMAT) => {}
            found => {
                let found = found.unwrap_or(u32::MAX);
                return Err(ArchiveError::Format { found });
            }
        }
        let header: Header = serde_json::from_slice(header).map_err(|_| ArchiveError::Header)?;
        if header.first == 0 || header.last < header.first {
            return Err(ArchiveError::Header);
        }
        let mut records = Vec::new();
        for expected in header.first..=header.last {
            let record = lines
                .next()
                .and_then(|line| serde_json::from_slice(line).ok());
            let record = record.filter(|record: &AuditRecord| record.sequence == expected);
            records.push(record.ok_or(ArchiveError::Record { expected })?);
        }
        if lines.next() != Some(b"") || lines.next().is_some() {
            return Err(ArchiveError::TooLong);
        }
        Ok(Self {
            previous: header.previous,
            digest: Digest::from_bytes(sha256(octets)),
            records,
        })
    }

    /// Checks that `next` is the archive after this one.
    ///
    /// # Errors
    /// [`ArchiveError::Gap`] and [`ArchiveError::Changed`].
    pub fn precedes(&self, next: &Self) -> Result<(), ArchiveError> {
        let (before, first) = (self.last(), next.first());
        // A file that anybody has written may end with the last number that there is.
        if before.checked_add(1) != Some(first) {
            return Err(ArchiveError::Gap { first, before });
        }
        match next.previous == Some(self.digest) {
            true => Ok(()),
            false => Err(ArchiveError::Changed { last: before }),
        }
    }

    /// The number of its first record.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.records.first().map_or(0, |record| record.sequence)
    }

    /// The number of its last record.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.records.last().map_or(0, |record| record.sequence)
    }

    /// SHA-256 of the file.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The digest of the archive before it.
    #[must_use]
    pub fn previous(&self) -> Option<Digest> {
        self.previous
    }

    /// The records, the oldest first.
    #[must_use]
    pub fn records(&self) -> &[AuditRecord] {
        &self.records
    }
}

/// Body for fuzzing: any octets may be in the file of an archive.
///
/// # Panics
///
/// If an archive follows itself.
#[doc(hidden)]
pub fn fuzz_audit_archive(data: &[u8]) {
    if let Ok(archive) = Archive::read(data) {
        assert_eq!(
            archive.records().len() as u64,
            archive.last() - archive.first() + 1
        );
        assert!(archive.precedes(&archive).is_err());
    }
}
