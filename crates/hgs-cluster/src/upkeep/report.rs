//! What nodes say of themselves, in etcd.

use std::collections::BTreeMap;
use std::fmt;

use hgs_crypto::hex;
use hgs_etcd::{Client, Operation, Range, Repeat, Revision, Txn};
use hgs_store::order::OrderError;
use hgs_store::{Level, Levels, Progress};
use serde::{Deserialize, Serialize};

use crate::node::NodeName;
use crate::order::{Keyspace, not_answered};

/// Octets of the longest report that is read.
const MAX_REPORT: usize = 256 * 1024;

/// What a node says of itself. Nobody has to believe it: who deletes by it, deletes what whoever holds etcd could delete
/// anyway, and who compares what is in it, finds faults and proves nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its own disk holds all entries up to this revision, also after a loss of power.
    pub revision: u64,
    /// The number of the last one of each node there.
    pub entries: BTreeMap<NodeName, u64>,
    /// The end of its audit log there.
    #[serde(default)]
    pub audit: AuditHead,
    /// Its clock, in milliseconds since 1970.
    #[serde(default)]
    pub clock: i64,
    /// Of its program.
    #[serde(default)]
    pub version: String,
    /// The levels of the format that its program reads. One from before there were levels says nothing, and reads the first.
    #[serde(default)]
    pub levels: Levels,
    /// The level of its state.
    #[serde(default)]
    pub level: Level,
    /// Thumbprints of the certificates whose keys it can use.
    #[serde(default)]
    pub usable_keys: Vec<String>,
}

impl Report {
    /// How far a node is. What its program is, its clock and its keys are still to be said.
    #[must_use]
    pub fn of(progress: &Progress) -> Self {
        let entries = progress.position.nodes.iter();
        let entries = entries.filter_map(|(node, last)| Some((node.parse().ok()?, last.number)));
        Self {
            revision: progress.position.revision,
            entries: entries.collect(),
            audit: AuditHead {
                count: progress.audit_sequence,
                root: hex::encode(&progress.audit_tag),
            },
            ..Self::default()
        }
    }
}

/// The end of an audit log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// How many records it has.
    pub count: u64,
    /// A digest over all of them, in hexadecimal.
    pub root: String,
}

/// A report as etcd has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// Whose it is.
    pub node: NodeName,
    /// The revision at which it was written.
    pub at: Revision,
    /// What it says.
    pub report: Report,
}

/// Two nodes whose audit logs have the same length and other contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divergence {
    /// The two.
    pub nodes: [NodeName; 2],
    /// How many records both have.
    pub count: u64,
}

impl fmt::Display for Divergence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            nodes: [one, other],
            count,
        } = self;
        write!(
            formatter,
            "the audit logs of the nodes {one} and {other} are not the same, though both have {count} records"
        )
    }
}

/// Publishes what a node says of itself.
///
/// # Errors
/// Why it could not be written.
pub async fn publish(
    client: &Client,
    keys: &Keyspace,
    node: &NodeName,
    report: &Report,
) -> Result<(), OrderError> {
    let value = serde_json::to_vec(report).map_err(|error| OrderError::Unusable {
        reason: format!("a report can't be written: {error}"),
    })?;
    let txn = Txn {
        then: vec![Operation::Put(keys.report(node.as_str()), value.into())],
        ..Txn::default()
    };
    let published = client.commit(&txn, Repeat::Safe).await;
    published.map_err(|error| not_answered(&error, false))?;
    Ok(())
}

/// What all nodes have published. What can't be read is left out.
///
/// # Errors
/// Why they could not be read.
pub async fn reports(client: &Client, keys: &Keyspace) -> Result<Vec<Reported>, OrderError> {
    let found = client.range(&Range::of(keys.reports())).await;
    let found = found.map_err(|error| not_answered(&error, false))?;
    let mut reports = Vec::new();
    for record in &found.records {
        let fits = record.value.len() <= MAX_REPORT;
        let report = fits.then(|| serde_json::from_slice(&record.value).ok());
        match keys.name_in(&record.key).zip(report.flatten()) {
            Some((node, report)) => reports.push(Reported {
                node,
                at: record.revision,
                report,
            }),
            None => tracing::warn!(
                key = %String::from_utf8_lossy(&record.key).escape_debug(),
                "a report that can't be read: a newer program may have written it"
            ),
        }
    }
    Ok(reports)
}

/// The first two that have the same number of records, and not the same.
#[must_use]
pub fn divergence(reports: &[Reported]) -> Option<Divergence> {
    let mut roots: BTreeMap<u64, &Reported> = BTreeMap::new();
    reports.iter().find_map(|reported| {
        let AuditHead { count, root } = &reported.report.audit;
        let known = *roots.entry(*count).or_insert(reported);
        (known.report.audit.root != *root).then(|| Divergence {
            nodes: [known.node.clone(), reported.node.clone()],
            count: *count,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(node: &str, count: u64, root: &str) -> Reported {
        let root = root.to_owned();
        Reported {
            node: node.parse().unwrap(),
            at: Revision(1),
            report: Report {
                audit: AuditHead { count, root },
                ..Report::default()
            },
        }
    }

    #[test]
    fn logs_of_one_length_are_one_log() {
        let same = [
            reported("a", 3, "x"),
            reported("b", 4, "y"),
            reported("c", 3, "x"),
        ];
        assert_eq!(divergence(&same), None);
        let other = [same[0].clone(), same[1].clone(), reported("c", 4, "z")];
        let found = divergence(&other).unwrap();
        assert!(found.to_string().contains("b and c"), "{found}");
    }

    #[test]
    fn a_report_of_a_newer_program_is_read() {
        let text = r#"{"revision":7,"entries":{"a":2},"something":{"new":1}}"#;
        let report: Report = serde_json::from_str(text).unwrap();
        assert_eq!((report.revision, report.entries.len()), (7, 1));
        // Nor does one of an earlier program say anything of levels.
        assert_eq!(
            (report.levels, report.level),
            (Levels::default(), Level::FIRST)
        );
        assert!(serde_json::from_str::<Report>(r#"{"entries":{}}"#).is_err());
        assert!(serde_json::from_str::<Report>(r#"{"revision":1,"entries":{"a/b":1}}"#).is_err());
    }
}
