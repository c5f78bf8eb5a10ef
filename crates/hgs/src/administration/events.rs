//! `hgs events`: what happens, as it happens.

use std::fmt;
use std::thread;
use std::time::Duration;

use hgs_admin::types::{Event, EventKinds, EventQuery, ExpiryStage, GapReason, RecordedEvent};
use hgs_admin::{AdminError, Administration as _, Client, ErrorCode, EventMessage, LastEventId};
use hgs_terminal::{Exit, Failure, Terminal};
use serde::Serialize;

use super::ServerOption;
use crate::failures::OrFail as _;

/// Audit records that are looked through where no number is given.
const RECENT: u64 = 1000;

/// After how long a server that is away is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Show what happens: refusals, revocations, changes, certificates that end, readiness
#[derive(Debug, clap::Args)]
#[command(
    after_help = "First comes how things stand, then the events among the newest 1000 audit records, or all after --since. With --follow the \
command goes on with what follows. It comes back by itself when the server was away, and misses nothing. With --json each event is \
a line; docs/admin-api.md describes them, and says which permission each kind needs.

Examples:
  hgs events
  hgs events --follow
  hgs events --follow --kind revocation,refused-attestation,readiness
  hgs events --since 1200 --json"
)]
pub(crate) struct Arguments {
    /// Go on with what follows
    #[arg(long)]
    follow: bool,
    /// Begin after the audit record with this number
    #[arg(long, value_name = "NUMBER")]
    since: Option<u64>,
    /// Only these kinds, with commas between
    #[arg(long, value_name = "KINDS")]
    kind: Option<EventKinds>,
    #[command(flatten)]
    server: ServerOption,
}

impl Arguments {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let query = EventQuery {
            since: self.since,
            recent: self.since.is_none().then_some(RECENT),
            kind: self.kind,
            follow: Some(self.follow),
        };
        let mut reading = Reading {
            client: self.server.client()?,
            query,
            last: LastEventId::default(),
            is_heard: false,
            terminal,
        };
        if !self.follow {
            return reading.read()?.or_fail().map(|()| Exit::Done);
        }
        let mut is_told = false;
        loop {
            reading.is_heard = false;
            let ended = reading.read()?;
            // What was there once may be there again; what never was is told at once.
            let was_there = reading.last != LastEventId::default();
            let reason = match ended {
                Ok(()) => String::new(),
                Err(error) if was_there && may_pass(&error) => format!(": {error}"),
                Err(error) => return Err(error).or_fail(),
            };
            if reading.is_heard || !is_told {
                terminal.note(format_args!(
                    "the stream has ended{reason}; waiting until the server is back"
                ));
            }
            is_told = true;
            thread::sleep(RETRY);
        }
    }
}

/// Whether the same question may be answered later.
fn may_pass(error: &AdminError) -> bool {
    matches!(
        error.code,
        ErrorCode::NotRunning
            | ErrorCode::NoAnswer
            | ErrorCode::Unavailable
            | ErrorCode::TooMany
            | ErrorCode::Internal
    )
}

/// What is read, and how far.
struct Reading<'t> {
    client: Client,
    query: EventQuery,
    last: LastEventId,
    /// Whether the server has said anything in this stream.
    is_heard: bool,
    terminal: &'t Terminal,
}

impl Reading<'_> {
    /// Shows what comes until the stream ends. The outer error is of the terminal.
    fn read(&mut self) -> Result<Result<(), AdminError>, Failure> {
        let mut stream = match self.client.events(&self.query, &self.last) {
            Ok(stream) => stream,
            Err(error) => return Ok(Err(error)),
        };
        while let Some(message) = stream.wait_next() {
            self.is_heard |= message.is_ok();
            match message {
                Ok(EventMessage::Begin) => {}
                Ok(EventMessage::Heartbeat(sequence)) => self.last = LastEventId(Some(sequence)),
                Ok(EventMessage::Event(sequence, event)) => {
                    // How far it has come is for programs.
                    if self.terminal.json() || !matches!(event, Event::CaughtUp(_)) {
                        self.terminal.step(&Line(event))?;
                    }
                    if sequence.is_some() {
                        self.last = LastEventId(sequence);
                    }
                }
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(()))
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Line(Event);

impl fmt::Display for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(event) = self;
        if let Some(record) = event.record() {
            write!(formatter, "{}  {}  ", record.time, event.name())?;
            return recorded(record, formatter);
        }
        match event {
            Event::Readiness(readiness) => {
                write!(
                    formatter,
                    "{}  readiness  {} is ",
                    readiness.time, readiness.node
                )?;
                match &readiness.reason {
                    None => formatter.write_str("ready"),
                    Some(reason) => write!(formatter, "not ready: {reason}"),
                }
            }
            Event::Expiry(expiry) => {
                let ends = match expiry.stage {
                    ExpiryStage::ExpiresSoon => "expires",
                    ExpiryStage::Expired => "expired",
                    ExpiryStage::Over => "needs no attention any more; it would expire",
                };
                let (usage, name, end) = (expiry.usage, &expiry.name, &expiry.not_after);
                write!(
                    formatter,
                    "expiry  certificate ({usage}) {name} {ends} at {end}"
                )
            }
            Event::Gap(gap) => {
                let after = gap.after;
                match gap.reason {
                    GapReason::Archived => write!(
                        formatter,
                        "gap  the records {} to {} are in archives: `hgs audit list --archive` reads them",
                        after + 1,
                        gap.sequence
                    ),
                    GapReason::Unknown => write!(
                        formatter,
                        "gap  this guardian has no record {after}: it is another one, or its state was put back; it goes on after {}",
                        gap.sequence
                    ),
                }
            }
            other => match serde_json::to_string(other) {
                Ok(json) => write!(formatter, "{}  {json}", other.name()),
                Err(_) => formatter.write_str(other.name()),
            },
        }
    }
}

fn recorded(record: &RecordedEvent, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(formatter, "{}", record.action)?;
    let host = record.host_name.as_ref().or(record.host.as_ref());
    if let Some(host) = host {
        write!(formatter, " {host}")?;
    } else if let Some(change) = record.changes.first() {
        write!(formatter, " {change}")?;
        if record.changes.len() > 1 {
            write!(formatter, " and {} more", record.changes.len() - 1)?;
        }
    }
    write!(formatter, ", by {}", record.actor)?;
    if let Some(count) = record.count {
        write!(formatter, ", {count} times")?;
    }
    if let Some(reason) = &record.reason {
        write!(formatter, ": {reason}")?;
    }
    write!(formatter, " (record {})", record.sequence)
}

#[cfg(test)]
mod tests {
    use hgs_admin::types::{CertificateRole, Expiry, Gap, Readiness};

    use super::*;

    #[test]
    fn an_event_is_a_line_that_people_understand() {
        let time = "2026-11-29T12:00:00Z";
        let record = |json: &str| serde_json::from_str::<Event>(json).unwrap();
        let revoked = r#"{"kind":"revocation","sequence":42,"time":"2026-11-29T12:00:00Z","node":"node-1",
            "actor":"uid 0 (root)","action":"revoke-host","outcome":"done","host":"ab","host_name":"host1"}"#;
        let refused = r#"{"kind":"refused-release","sequence":43,"time":"2026-11-29T12:00:00Z","node":"node-1",
            "actor":"host ab","action":"release","outcome":"refused","host":"ab","count":7,"reason":"host-revoked"}"#;
        let changed = r#"{"kind":"certificate","sequence":44,"time":"2026-11-29T12:00:00Z","node":"node-1",
            "actor":"uid 0","action":"add-certificate","outcome":"done","changes":["certificate/12","certificate/34"]}"#;
        let readiness = |reason: Option<&str>| {
            Event::Readiness(Readiness {
                node: "node-1".to_owned(),
                time: time.to_owned(),
                ready: reason.is_none(),
                reason: reason.map(str::to_owned),
            })
        };
        let expiry = Event::Expiry(Expiry {
            usage: CertificateRole::Tls,
            name: "/etc/tls.pem".to_owned(),
            not_after: time.to_owned(),
            stage: ExpiryStage::ExpiresSoon,
        });
        let gap = |reason| {
            Event::Gap(Gap {
                after: 3,
                sequence: 19,
                reason,
            })
        };
        for (event, line) in [
            (
                record(revoked),
                "2026-11-29T12:00:00Z  revocation  revoke-host host1, by uid 0 (root) (record 42)",
            ),
            (
                record(refused),
                "2026-11-29T12:00:00Z  refused-release  release ab, by host ab, 7 times: host-revoked (record 43)",
            ),
            (
                record(changed),
                "2026-11-29T12:00:00Z  certificate  add-certificate certificate/12 and 1 more, by uid 0 (record 44)",
            ),
            (
                readiness(None),
                "2026-11-29T12:00:00Z  readiness  node-1 is ready",
            ),
            (
                readiness(Some("the disk is full")),
                "2026-11-29T12:00:00Z  readiness  node-1 is not ready: the disk is full",
            ),
            (
                expiry,
                "expiry  certificate (tls) /etc/tls.pem expires at 2026-11-29T12:00:00Z",
            ),
            (
                gap(GapReason::Archived),
                "gap  the records 4 to 19 are in archives: `hgs audit list --archive` reads them",
            ),
            (
                gap(GapReason::Unknown),
                "gap  this guardian has no record 3: it is another one, or its state was put back; it goes on after 19",
            ),
            (
                record(r#"{"kind":"eclipse"}"#),
                r#"eclipse  {"kind":"eclipse"}"#,
            ),
        ] {
            assert_eq!(Line(event).to_string(), line);
        }
    }
}
