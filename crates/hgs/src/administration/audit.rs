//! `hgs audit`: who released which key to whom, and who changed what.

mod archives;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use hgs_admin::types::{
    Action, AuditQuery, AuditRecord, MAX_PAGE, NamedAction, Outcome, RequestId,
};
use hgs_admin::{AdminError, Administration as _, Client};
use hgs_pki::{Seconds, Time};
use hgs_store::Digest;
use hgs_terminal::{Exit, Failure, Table, Terminal};
use serde::Serialize;

use super::{ServerOption, or_dash};
use crate::failures::OrFail as _;
use crate::{clock, completion};

/// How long the server may take for one archive.
const ARCHIVE_TIME: Duration = Duration::from_secs(300);

/// The verbs of `hgs audit`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    server: ServerOption,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the newest records, newest first
    #[command(after_help = "Examples:
  hgs audit list --host host1 --since 2026-11-01T00:00:00Z
  hgs audit list --outcome refused
  hgs audit list --request 5f0c3a91-1742
  hgs audit list --before 1200")]
    List(List),
    /// Move old records from the database of the server to archives
    #[command(
        after_help = "The records leave the database and are kept in files of the folder `audit` in the state folder, \
20,000 in each. Nothing is archived unless this command is run.

Examples:
  hgs audit archive --keep 90d
  hgs audit archive --before 2026-01-01"
    )]
    Archive(ArchiveOld),
    /// Check archives, and that they are the ones that the server has made
    #[command(
        after_help = "Without --digest the server is asked for the digest of its newest archive.

Example:
  hgs audit verify /var/lib/openhgs/audit/*.jsonl"
    )]
    Verify(Verify),
    /// Show one record in full
    Show {
        /// Its number
        sequence: u64,
    },
}

/// Which records are listed.
#[derive(Debug, clap::Args)]
struct List {
    /// At most so many [default: 100]
    #[arg(long)]
    limit: Option<usize>,
    /// Only records before this number
    #[arg(long, value_name = "SEQUENCE")]
    before: Option<u64>,
    /// Only records from this time on, such as 2026-11-21T19:00:00Z
    #[arg(long, value_name = "TIME", value_parser = super::time)]
    since: Option<String>,
    /// Only records before this time
    #[arg(long, value_name = "TIME", value_parser = super::time)]
    until: Option<String>,
    /// Only records about the host with this name or id
    #[arg(long, value_name = "NAME", add = completion::hosts())]
    host: Option<String>,
    /// Only this action, such as `release`
    #[arg(long)]
    action: Option<NamedAction>,
    /// Only what was done, or only what was refused
    #[arg(long)]
    outcome: Option<Outcome>,
    /// Only records about the protector with this digest
    #[arg(long, value_name = "DIGEST")]
    protector: Option<String>,
    /// Only records about the fabric's or one tenant's keys and certificates: `fabric`, or `tenant:LABEL`
    #[arg(long)]
    lineage: Option<String>,
    /// Only what the request with this id led to: hosts show and log it, and every answer has it as X-Request-Id
    #[arg(long, value_name = "ID")]
    request: Option<RequestId>,
    /// Look into these archives and not into the database of the server
    #[arg(long, value_name = "FILE", num_args = 1..)]
    archive: Vec<PathBuf>,
}

/// Which records are archived.
#[derive(Debug, clap::Args)]
#[group(id = "which", required = true, multiple = false)]
struct ArchiveOld {
    /// Keep the records of so many days, such as 90d, and archive the older ones
    #[arg(long, value_name = "PERIOD", value_parser = super::period)]
    keep: Option<Duration>,
    /// Archive the records of the days before this one, such as 2026-01-01
    #[arg(long, value_name = "DATE", value_parser = super::time)]
    before: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Verify {
    /// The archives
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// SHA-256 of the newest of them, as `hgs audit archive` told it
    #[arg(long, value_name = "SHA-256")]
    digest: Option<Digest>,
}

impl Arguments {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        match self.verb {
            Verb::List(list) if !list.archive.is_empty() => {
                let archives = archives::read(&list.archive)?;
                let records = hgs_server::archived_records(&archives, &list.into_query());
                terminal.report(&Records(records.or_fail()?))?;
            }
            Verb::List(list) => {
                let records = follow_pages(&self.server.client()?, list.into_query()).or_fail()?;
                terminal.report(&Records(records))?;
            }
            Verb::Archive(which) => {
                let before = match (which.before, which.keep) {
                    (Some(before), _) => before,
                    (None, keep) => {
                        let kept = Seconds::new(keep.unwrap_or_default().as_secs());
                        let begin = clock::now().checked_sub(kept);
                        begin.unwrap_or(Time::MIN).to_string()
                    }
                };
                let client = self.server.client()?.within(ARCHIVE_TIME);
                terminal.report(&archives::make(&client, before)?)?;
            }
            Verb::Verify(verify) => {
                let client = || self.server.client();
                terminal.report(&archives::verify(&verify.files, verify.digest, client)?)?;
            }
            Verb::Show { sequence } => {
                let record = self.server.client()?.audit_record(&sequence);
                terminal.report(&Record(record.or_fail()?))?;
            }
        }
        Ok(Exit::Done)
    }
}

/// As many records as are wanted, page by page.
fn follow_pages(client: &Client, mut query: AuditQuery) -> Result<Vec<AuditRecord>, AdminError> {
    let Some(wanted) = query.limit.filter(|wanted| *wanted > MAX_PAGE) else {
        return client.audit(&query);
    };
    let mut records: Vec<AuditRecord> = Vec::new();
    while records.len() < wanted {
        let asked = MAX_PAGE.min(wanted - records.len());
        query.limit = Some(asked);
        let found = client.audit(&query)?;
        let is_last = found.len() < asked;
        query.before = found.last().map(|record| record.sequence);
        records.extend(found);
        if is_last {
            break;
        }
    }
    Ok(records)
}

impl List {
    fn into_query(self) -> AuditQuery {
        AuditQuery {
            limit: self.limit,
            before: self.before,
            since: self.since,
            until: self.until,
            host: self.host,
            action: self.action,
            outcome: self.outcome,
            protector: self.protector,
            lineage: self.lineage,
            request: self.request,
        }
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Records(Vec<AuditRecord>);

#[derive(Serialize)]
#[serde(transparent)]
struct Record(AuditRecord);

impl fmt::Display for Records {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new([
            "NUMBER",
            "TIME",
            "ACTION",
            "OUTCOME",
            "HOST",
            "PROTECTOR",
            "ACTOR",
            "REASON",
        ]);
        for record in &self.0 {
            table.row([
                record.sequence.to_string(),
                record.time.clone(),
                record.action.to_string(),
                record.outcome.to_string(),
                or_dash(record.host_name.as_ref().or(record.host.as_ref())),
                record.protector.as_deref().map_or_else(none, shortened),
                record.actor.clone(),
                match (&record.action, record.count) {
                    (NamedAction::Known(Action::OfflineUnwraps), Some(count)) => {
                        format!("kept keys were used {count} times")
                    }
                    _ => or_dash(record.reason.as_ref()),
                },
            ]);
        }
        table.fmt(formatter)
    }
}

fn none() -> String {
    "-".to_owned()
}

/// Enough of a digest to tell protectors apart; `hgs audit show` has all of it.
fn shortened(digest: &str) -> String {
    digest.chars().take(12).collect()
}

impl fmt::Display for Record {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(record) = self;
        let optional = [
            ("request", record.request.map(|request| request.to_string())),
            ("reason", record.reason.clone()),
            ("host", record.host.clone()),
            ("host name", record.host_name.clone()),
            ("health certificate", record.serial.clone()),
            ("policy digest", record.policy.clone()),
            ("protector", record.protector.clone()),
            ("egress protector", record.egress_protector.clone()),
            (
                "standing",
                record.standing.map(|standing| standing.to_string()),
            ),
            ("owner", record.owner.clone()),
            ("opened by", record.guardian.clone()),
            ("lineage", record.lineage.clone()),
            (
                "offline use",
                record
                    .offline_use
                    .as_ref()
                    .map(|granted| format!("{} times until {}", granted.unwraps, granted.until)),
            ),
            ("events", record.count.map(|count| count.to_string())),
            ("before", record.before.as_ref().map(ToString::to_string)),
            ("after", record.after.as_ref().map(ToString::to_string)),
        ];
        let always = [
            ("number", record.sequence.to_string()),
            ("time", record.time.clone()),
            ("node", record.node.clone()),
            ("actor", record.actor.clone()),
            ("action", record.action.to_string()),
            ("outcome", record.outcome.to_string()),
            ("generation", record.generation.to_string()),
            ("changes", record.changes.join(", ")),
        ];
        let known = optional
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        Table::of_pairs(always.into_iter().chain(known)).fmt(formatter)
    }
}
