//! Old audit records leave the database for archives.
//!
//! ```text
//!  1. the archive is written to a file, which is synchronised with its folder
//!  2. one commit: the boundary names the archive, and an audit record says so
//!  3. commits of a few hundred records each: they leave, and the boundary follows them
//! ```
//!
//! A crash before 2 leaves a file that is not on record, which the next archive replaces: its records are all in the
//! database still. A crash after 2 leaves records in both places; the next call takes them out of the database, once it
//! has found the file as it was written.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::sync::mpsc::sync_channel;

use hgs_crypto::hash::sha256;
use hgs_files::{FileError, Readers};
use hgs_pki::Time;

use super::Store;
use crate::audit::archive::{
    MAX_ARCHIVE_LENGTH, MAX_ARCHIVED, Written, file_name, numbers_of, write,
};
use crate::audit::{self, Action, AuditEntry, Boundary, Outcome, read, terms};
use crate::audit_term::day;
use crate::engine::{ArchiveChange, PAGE};
use crate::outcome::Failure;
use crate::planner::BatchPlanner;
use crate::transaction::Act;
use crate::writer::{Numbered, job};
use crate::{Digest, StoreError};

/// Records that leave in one commit: few, so that releases are not kept waiting.
const STEP: usize = 256;

/// An archive that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// The number of its first record.
    pub first: u64,
    /// The number of its last record.
    pub last: u64,
    /// Its file.
    pub file: PathBuf,
    /// SHA-256 of the file.
    pub digest: Digest,
}

/// How much of the audit log is in the database, and what is in archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditExtent {
    /// The oldest record in the database.
    pub first: u64,
    /// The newest record.
    pub last: u64,
    /// The last record in archives; zero where there are none.
    pub archived: u64,
    /// The digest of the newest archive.
    pub digest: Option<Digest>,
}

/// Records were not archived. None was lost.
#[derive(Debug, thiserror::Error)]
pub enum ArchivingError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file of the archive, or its folder.
    #[error(transparent)]
    File(#[from] FileError),
    /// The newest archive is not where it was written, or was changed, and not all of its records have left the database.
    #[error(
        "the newest archive, {}, is missing or changed, and the database still has some of its records: put it back first",
        file.display()
    )]
    Lost {
        /// Where it should be.
        file: PathBuf,
    },
}

impl From<serde_json::Error> for ArchivingError {
    fn from(error: serde_json::Error) -> Self {
        let reason = error.to_string();
        StoreError::Unavailable { reason }.into()
    }
}

impl Store {
    /// Archives the oldest records of days before `before` to a file in `folder`, at most 20,000 of them. The newest record
    /// stays. `None` where nothing is left to archive. It blocks, for seconds.
    pub fn archive_audit(
        &self,
        folder: &Path,
        before: Time,
        act: Act,
    ) -> Result<Option<Archived>, ArchivingError> {
        let _one_at_a_time = self
            .archiving
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        hgs_files::private_folder(folder)?;
        self.finish_archive(folder)?;
        let Some(written) = self.write_archive(folder, before)? else {
            return Ok(None);
        };
        let archived = Archived {
            first: written.first,
            last: written.last,
            file: folder.join(file_name(written.first, written.last)),
            digest: written.digest,
        };
        hgs_files::replace(&archived.file, &written.octets, Readers::Owner)?;
        self.record_archive(&archived, act)?;
        self.finish_archive(folder)?;
        Ok(Some(archived))
    }

    /// How much of the audit log there is, and where.
    ///
    /// # Errors
    /// When the database can't be read, or was changed by another program.
    pub fn audit_extent(&self) -> Result<AuditExtent, StoreError> {
        let view = self.readers.snapshot()?;
        let boundary = Boundary::of(&*view, &self.keys.audit)?;
        Ok(AuditExtent {
            first: boundary.left.sequence + 1,
            last: view.row()?.map_or(0, |row| row.audit_sequence),
            archived: boundary.archived,
            digest: boundary.newest(),
        })
    }

    /// The next archive. Its records were verified.
    fn write_archive(
        &self,
        folder: &Path,
        before: Time,
    ) -> Result<Option<Written>, ArchivingError> {
        let view = self.readers.snapshot()?;
        let boundary = Boundary::of(&*view, &self.keys.audit)?;
        let newest = view.row()?.map_or(0, |row| row.audit_sequence);
        let until = view.audit_within_days(None, Some(day(before) - 1))?.end;
        let last = (until.saturating_sub(1))
            .min(newest.saturating_sub(1))
            .min(boundary.left.sequence + MAX_ARCHIVED);
        let (mut head, mut records) = (boundary.left, Vec::new());
        while head.sequence < last {
            let rows = view.audit_after(head.sequence, PAGE)?;
            for row in rows.iter().filter(|row| row.sequence <= last) {
                head = head
                    .verified_next(&self.keys.audit, row)
                    .map_err(StoreError::from)?;
                records.push(read(row).map_err(StoreError::from)?);
            }
            if rows.is_empty() {
                let missing = audit::tampered(head.sequence + 1, crate::Finding::Missing);
                return Err(StoreError::from(missing).into());
            }
        }
        // Files of attempts that were not put on record.
        for (file, first, _) in archives_in(folder)? {
            if first > boundary.archived {
                hgs_files::remove(&file)?;
            }
        }
        Ok(write(&records, boundary.newest())?)
    }

    /// Puts an archive on record, whose file is on the disk.
    fn record_archive(&self, archived: &Archived, act: Act) -> Result<(), StoreError> {
        let (first, last, digest) = (archived.first, archived.last, archived.digest);
        self.carry_out(true, move |planner| {
            let authenticator = &planner.basis.keys.audit;
            let boundary = Boundary::of(planner.basis.view, authenticator)?;
            if boundary.left.sequence + 1 != first {
                return Ok(Err(StoreError::Busy.into()));
            }
            let boundary = Boundary {
                archived: last,
                digest,
                ..boundary
            };
            planner.archive(ArchiveChange {
                boundary: boundary.row(authenticator),
                removed: Vec::new(),
            });
            let entry = AuditEntry {
                count: Some(last - first + 1),
                after: Some(serde_json::json!({"first": first, "last": last, "digest": digest})),
                ..act.entry(Action::ArchiveAudit, Outcome::Done)
            };
            planner.note(entry, Vec::new())?;
            Ok(Ok(()))
        })
    }

    /// Takes the records out of the database that are in the newest archive.
    fn finish_archive(&self, folder: &Path) -> Result<(), ArchivingError> {
        let boundary = Boundary::of(&*self.readers.snapshot()?, &self.keys.audit)?;
        if boundary.left.sequence >= boundary.archived {
            return Ok(());
        }
        // A part of it may have left already, so its first record is not known here.
        let mut archives = archives_in(folder)?.into_iter();
        let newest = archives.find(|(_, _, last)| *last == boundary.archived);
        let file = newest.map_or_else(
            || folder.join(file_name(1, boundary.archived)),
            |(file, ..)| file,
        );
        let octets = hgs_files::optional(hgs_files::read(&file, MAX_ARCHIVE_LENGTH))?;
        if octets.is_none_or(|octets| sha256(&octets) != *boundary.digest.as_bytes()) {
            return Err(ArchivingError::Lost { file });
        }
        while self.carry_out(false, take_out)? == Progress::More {}
        Ok(())
    }

    /// Has a commit decided by `decide`, and waits for it.
    fn carry_out<T: Numbered + Send + 'static>(
        &self,
        is_administrative: bool,
        decide: impl FnMut(&mut BatchPlanner<'_>) -> Result<Result<T, Failure<Infallible>>, StoreError>
        + Send
        + 'static,
    ) -> Result<T, StoreError> {
        let (sender, receiver) = sync_channel(1);
        let reply = move |result| drop(sender.send(result));
        self.queue
            .submit_waiting(job(is_administrative, decide, Box::new(reply)))?;
        let done: Result<T, Failure<Infallible>> =
            receiver.recv().map_err(|_| StoreError::Closed)?;
        Ok(done?)
    }
}

/// The files of archives in a folder, each with the numbers of its first and last record.
fn archives_in(folder: &Path) -> Result<Vec<(PathBuf, u64, u64)>, FileError> {
    let entries = std::fs::read_dir(folder).map_err(|error| FileError {
        path: folder.to_owned(),
        problem: error.into(),
    })?;
    let archives = entries.filter_map(|entry| {
        let name = entry.ok()?.file_name();
        let (first, last) = numbers_of(name.to_str()?)?;
        Some((folder.join(name), first, last))
    });
    Ok(archives.collect())
}

/// Whether records of the newest archive are left in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    More,
    Done,
}

impl Numbered for Progress {
    fn numbered_from(self, _: u64) -> Self {
        self
    }
}

/// Takes out the next few records.
fn take_out(
    planner: &mut BatchPlanner<'_>,
) -> Result<Result<Progress, Failure<Infallible>>, StoreError> {
    let (view, authenticator) = (planner.basis.view, &planner.basis.keys.audit);
    let boundary = Boundary::of(view, authenticator)?;
    let (mut left, mut removed) = (boundary.left, Vec::new());
    for row in view.audit_after(left.sequence, STEP)? {
        if row.sequence > boundary.archived {
            break;
        }
        left = left.verified_next(authenticator, &row)?;
        removed.push((row.sequence, terms(&read(&row)?.entry)));
    }
    if removed.is_empty() {
        return Ok(Ok(Progress::Done));
    }
    let more = left.sequence < boundary.archived;
    let boundary = Boundary { left, ..boundary };
    planner.archive(ArchiveChange {
        boundary: boundary.row(authenticator),
        removed,
    });
    Ok(Ok(if more { Progress::More } else { Progress::Done }))
}

#[cfg(test)]
mod tests;
