//! When all nodes of a cluster can read a newer level of the format.

use std::fmt;

use hgs_store::{Format, Level};
use tokio::time::Instant;

use super::LIVES;
use super::heard::Heard;
use super::report::{Report, Reported};
use crate::node::NodeName;

/// A node for which a newer level of the format waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lagging {
    /// Which.
    pub node: NodeName,
    /// The version of its program, by its last report; absent where there is none.
    pub version: Option<String>,
    /// The level that is waited for.
    pub format: Format,
}

impl Lagging {
    /// What the operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        let Self { node, format, .. } = self;
        format!("install hgs {} on {node} first", format.version)
    }
}

impl fmt::Display for Lagging {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, version, .. } = self;
        match version.as_deref() {
            Some("") => write!(formatter, "the node {node} runs an earlier version"),
            Some(version) => write!(formatter, "the node {node} runs {version}"),
            None => write!(formatter, "the node {node} has not reported its version"),
        }
    }
}

/// The nodes that can't read a level, each with its last report if there is one.
pub fn lagging<'r>(
    nodes: impl IntoIterator<Item = (&'r NodeName, Option<&'r Report>)>,
    to: &Format,
) -> Vec<Lagging> {
    let can_not =
        |report: &Option<&Report>| !report.is_some_and(|report| report.levels.contain(to.level));
    let nodes = nodes.into_iter().filter(|(_, report)| can_not(report));
    nodes
        .map(|(node, report)| Lagging {
            node: node.clone(),
            version: report.map(|report| report.version.clone()),
            format: to.clone(),
        })
        .collect()
}

/// Watches for the moment when all nodes of a cluster can read a newer level.
#[derive(Debug, Default)]
pub struct LevelWatch {
    heard: Heard,
}

impl LevelWatch {
    /// The newest level that all `members` can read, as far as this program knows it. None as long as one of them is not known to
    /// run: what it said last may be of a program that does not run any more.
    pub fn look(
        &mut self,
        members: &[NodeName],
        reports: &[Reported],
        now: Instant,
    ) -> Option<Level> {
        self.heard.hear(reports, now);
        let newest = members.iter().map(|node| {
            let lives = self.heard.lives(node, LIVES, now);
            let report = reports
                .iter()
                .find(|reported| lives && reported.node == *node);
            Some(report?.report.levels.newest)
        });
        newest.collect::<Option<Vec<_>>>()?.into_iter().min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hgs_etcd::Revision;
    use hgs_store::Levels;

    use super::*;

    fn level(number: u32) -> Level {
        (1..number).fold(Level::FIRST, |level, _| level.next())
    }

    fn reported(node: &str, at: i64, version: &str, newest: u32) -> Reported {
        Reported {
            node: node.parse().unwrap(),
            at: Revision(at),
            report: Report {
                version: version.to_owned(),
                levels: Levels {
                    oldest: Level::FIRST,
                    newest: level(newest),
                },
                ..Report::default()
            },
        }
    }

    #[test]
    fn a_level_is_common_once_every_node_runs_a_program_that_reads_it() {
        let members: Vec<NodeName> = ["a", "b", "c"].map(|name| name.parse().unwrap()).to_vec();
        let mut watch = LevelWatch::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let all = |at, c| {
            [
                reported("a", at, "0.2.0", 2),
                reported("b", at, "0.2.0", 2),
                reported("c", at, "0.2.0", c),
            ]
        };
        // A report that is there may be of a node that is away.
        assert_eq!(watch.look(&members, &all(1, 2), at(0)), None);
        assert_eq!(watch.look(&members, &all(2, 2), at(5)), Some(level(2)));
        // One that went back to an earlier program.
        assert_eq!(watch.look(&members, &all(3, 1), at(10)), Some(level(1)));
        // One that never reported.
        assert_eq!(watch.look(&members, &all(4, 2)[..2], at(15)), None);
        // A removed one is not asked.
        assert_eq!(
            watch.look(&members[..2], &all(5, 1), at(20)),
            Some(level(2))
        );
        // One that has stopped.
        let [a, b, _] = all(9, 2);
        let stopped = [a, b, reported("c", 5, "0.2.0", 2)];
        assert_eq!(watch.look(&members, &stopped, at(49)), Some(level(2)));
        assert_eq!(watch.look(&members, &stopped, at(51)), None);
    }

    #[test]
    fn nodes_that_are_waited_for_are_named_with_their_versions() {
        let old = reported("b", 1, "0.1.0", 1).report;
        let new = reported("a", 1, "0.2.0", 2).report;
        let names: Vec<NodeName> = ["a", "b", "c"].map(|name| name.parse().unwrap()).to_vec();
        let nodes = names.iter().zip([Some(&new), Some(&old), None]);
        let second = Format {
            level: level(2),
            version: "0.2.0".to_owned(),
        };
        let lagging = lagging(nodes, &second);
        let said: Vec<_> = lagging.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "the node b runs 0.1.0",
                "the node c has not reported its version"
            ]
        );
        assert!(
            lagging[0].remedy().starts_with("install hgs 0.2.0 on b"),
            "{}",
            lagging[0].remedy()
        );
    }
}
