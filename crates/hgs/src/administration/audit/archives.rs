//! Archives of the audit log: made by the server, checked without it.

use std::fmt;
use std::path::PathBuf;

use hgs_admin::types::{ArchiveAudit, AuditArchive};
use hgs_admin::{Administration as _, Client};
use hgs_store::{Archive, Digest, MAX_ARCHIVE_LENGTH};
use hgs_terminal::{Failure, Table};
use serde::Serialize;

use crate::failures::OrFail as _;

/// What was archived.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct WrittenArchives(Vec<AuditArchive>);

impl fmt::Display for WrittenArchives {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(newest) = self.0.last() else {
            return writeln!(formatter, "nothing to archive: no record is that old");
        };
        let mut table = Table::new(["FIRST", "LAST", "FILE"]);
        for archive in &self.0 {
            let (first, last) = (archive.first.to_string(), archive.last.to_string());
            table.row([first, last, archive.file.clone()]);
        }
        table.fmt(formatter)?;
        writeln!(
            formatter,
            "\nSHA-256 of the newest: {}\nIt vouches for all archives before it: keep it in another place.",
            newest.digest
        )
    }
}

/// Has the server archive what was on record when this began, one archive after the other.
pub(super) fn make(client: &Client, before: String) -> Result<WrittenArchives, Failure> {
    let records = ArchiveAudit { before };
    // Each archive is on record too: without this end, one would follow the other for ever.
    let end = client.audit_log().or_fail()?.last;
    let mut made: Vec<AuditArchive> = Vec::new();
    while made.last().is_none_or(|archive| archive.last + 1 < end) {
        match client.archive_records(&records).or_fail()?.pop() {
            Some(archive) => made.push(archive),
            None => break,
        }
    }
    Ok(WrittenArchives(made))
}

/// Reads archives, which must follow each other, whatever the order in which they are named.
pub(super) fn read(files: &[PathBuf]) -> Result<Vec<Archive>, Failure> {
    let mut archives = Vec::new();
    for file in files {
        let octets = hgs_files::read(file, MAX_ARCHIVE_LENGTH)?;
        let archive = Archive::read(&octets);
        archives.push(archive.map_err(|error| damaged(&error).while_doing(file.display()))?);
    }
    archives.sort_by_key(Archive::first);
    for pair in archives.windows(2) {
        if let [archive, next] = pair {
            archive.precedes(next).map_err(|error| damaged(&error))?;
        }
    }
    Ok(archives)
}

fn damaged(error: &hgs_store::ArchiveError) -> Failure {
    Failure::refused(error).remedy(
        "name all archives of the range, each once; for one that was changed, fetch a copy from where they are kept besides",
    )
}

/// What was found about archives.
#[derive(Serialize)]
pub(super) struct Verified {
    first: u64,
    last: u64,
    archives: usize,
    digest: String,
    /// Whether records before the first one are in archives that were not named.
    begins_later: bool,
}

impl fmt::Display for Verified {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last, archives) = (self.first, self.last, self.archives);
        writeln!(
            formatter,
            "{archives} archives are whole and unchanged: records {first} to {last}"
        )?;
        if self.begins_later {
            writeln!(
                formatter,
                "archives of records before {first} were not named"
            )?;
        }
        writeln!(formatter, "SHA-256 of the newest: {}", self.digest)
    }
}

/// Checks archives against the digest of the newest, which the server tells where it is not named.
pub(super) fn verify(
    files: &[PathBuf],
    digest: Option<Digest>,
    client: impl FnOnce() -> Result<Client, Failure>,
) -> Result<Verified, Failure> {
    let archives = read(files)?;
    let (Some(oldest), Some(newest)) = (archives.first(), archives.last()) else {
        return Err(Failure::usage("name at least one archive"));
    };
    let digest = match digest {
        Some(digest) => digest.to_string(),
        None => {
            let log = client()?.audit_log().or_fail()?;
            log.digest.ok_or_else(|| {
                Failure::refused("the server has archived nothing")
                    .remedy("name the digest of the newest archive with --digest")
            })?
        }
    };
    let found = newest.digest().to_string();
    if found != digest {
        return Err(Failure::refused(format_args!(
            "the newest of these archives, up to record {}, has the digest {found}, and not {digest}",
            newest.last()
        ))
        .remedy(
            "name all archives up to the newest; if this is the newest, it was changed, or the server has lost archives",
        ));
    }
    Ok(Verified {
        first: oldest.first(),
        last: newest.last(),
        archives: archives.len(),
        digest,
        begins_later: oldest.previous().is_some(),
    })
}
