//! The report of a diagnosis, for programs and for people.

use std::collections::BTreeMap;
use std::fmt;

use hgs_pki::Time;
use serde::{Deserialize, Serialize};

use crate::{Group, text};

/// The outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// All is well.
    Pass,
    /// It means nothing before something else works.
    Skipped,
    /// It works, and needs attention.
    Warning,
    /// It does not work.
    Fail,
}

/// One check of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The id of the check.
    pub id: String,
    /// Its group.
    pub group: Group,
    /// What holds when it passes.
    pub title: String,
    /// The target.
    pub target: String,
    /// The outcome.
    pub outcome: Outcome,
    /// The evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// The remedy, if it did not pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The failure because of which it was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<RootCause>,
}

/// A failure: the check, and the target that failed it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RootCause {
    /// The id of the check.
    pub id: String,
    /// The target that failed.
    pub target: String,
}

impl Finding {
    /// The failure that this is, or because of which it was skipped.
    pub(crate) fn root(&self) -> Option<RootCause> {
        match self.outcome {
            Outcome::Fail => Some(RootCause {
                id: self.id.clone(),
                target: self.target.clone(),
            }),
            _ => self.because.clone(),
        }
    }
}

/// All findings about one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// `guardian` or `guarded-host`.
    pub role: String,
    /// When the facts were collected, by the clock of the machine that did.
    #[serde(with = "text::display")]
    pub time: Time,
    /// The worst outcome.
    pub outcome: Outcome,
    /// The failures that are not the consequence of others.
    pub root_causes: Vec<RootCause>,
    /// The groups, added up.
    pub groups: Vec<Aggregate>,
    /// All of it.
    pub findings: Vec<Finding>,
}

/// A group of findings, added up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aggregate {
    /// Which.
    pub group: Group,
    /// The worst of its outcomes.
    pub outcome: Outcome,
    /// How many passed.
    pub pass: usize,
    /// How many are warnings.
    pub warning: usize,
    /// How many failed.
    pub fail: usize,
    /// How many were skipped.
    pub skipped: usize,
}

impl Report {
    /// Adds findings up.
    #[must_use]
    pub fn new(role: &str, time: Time, findings: Vec<Finding>) -> Self {
        let mut groups: BTreeMap<Group, Aggregate> = BTreeMap::new();
        for finding in &findings {
            let empty = || Aggregate::empty(finding.group);
            groups
                .entry(finding.group)
                .or_insert_with(empty)
                .add(finding.outcome);
        }
        let worst = groups.values().map(|group| group.outcome).max();
        let failed = findings
            .iter()
            .filter(|finding| finding.outcome == Outcome::Fail);
        Self {
            role: role.to_owned(),
            time,
            outcome: worst.unwrap_or(Outcome::Pass),
            root_causes: failed.filter_map(Finding::root).collect(),
            groups: groups.into_values().collect(),
            findings,
        }
    }

    /// Whether nothing failed.
    #[must_use]
    pub fn works(&self) -> bool {
        self.outcome != Outcome::Fail
    }
}

impl Aggregate {
    fn empty(group: Group) -> Self {
        Self {
            group,
            outcome: Outcome::Pass,
            pass: 0,
            warning: 0,
            fail: 0,
            skipped: 0,
        }
    }

    fn add(&mut self, outcome: Outcome) {
        self.outcome = self.outcome.max(outcome);
        *match outcome {
            Outcome::Pass => &mut self.pass,
            Outcome::Warning => &mut self.warning,
            Outcome::Fail => &mut self.fail,
            Outcome::Skipped => &mut self.skipped,
        } += 1;
    }
}

/// A report as people see it: a line for each group, and below it what did not pass; all of it when `detailed`.
#[derive(Debug, Clone, Copy)]
pub struct ReportText<'r> {
    /// What is shown.
    pub report: &'r Report,
    /// Whether what passes is shown too.
    pub detailed: bool,
}

impl Serialize for ReportText<'_> {
    /// The whole report, of which people may be shown a part.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.report.serialize(serializer)
    }
}

impl fmt::Display for ReportText<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { report, .. } = self;
        writeln!(formatter, "{}: {}", report.role, report.outcome)?;
        for group in &report.groups {
            writeln!(formatter, "  {group}")?;
            let findings = report.findings.iter();
            for finding in findings.filter(|finding| finding.group == group.group) {
                self.finding(finding, formatter)?;
            }
        }
        Ok(())
    }
}

impl ReportText<'_> {
    fn finding(&self, finding: &Finding, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = matches!(finding.outcome, Outcome::Pass | Outcome::Skipped);
        if hidden && !self.detailed {
            return Ok(());
        }
        let Finding {
            id,
            outcome,
            target,
            title,
            ..
        } = finding;
        writeln!(formatter, "    {id} {outcome}: {title} ({target})")?;
        if let Some(evidence) = &finding.evidence {
            writeln!(formatter, "      seen: {evidence}")?;
        }
        if let Some(remedy) = &finding.remedy {
            writeln!(formatter, "      remedy: {remedy}")?;
        }
        if let Some(because) = &finding.because {
            writeln!(formatter, "      because of {because}")?;
        }
        if outcome == &Outcome::Fail {
            self.consequences(finding, formatter)?;
        }
        Ok(())
    }

    /// The checks that were skipped because of a failure.
    fn consequences(&self, failure: &Finding, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = failure.root();
        let skipped = self.report.findings.iter();
        let skipped =
            skipped.filter(|finding| finding.because.is_some() && finding.because == root);
        let mut ids: Vec<_> = skipped.map(|finding| &*finding.id).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() {
            return Ok(());
        }
        writeln!(formatter, "      skipped because of it: {}", ids.join(", "))
    }
}

impl fmt::Display for Aggregate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:<13}{:<8}", self.group, self.outcome)?;
        let counts = [
            (self.pass, "passed"),
            (self.warning, "to look at"),
            (self.fail, "failed"),
            (self.skipped, "skipped"),
        ];
        let parts: Vec<_> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, outcome)| format!("{count} {outcome}"))
            .collect();
        formatter.write_str(&parts.join(", "))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Pass => "pass",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Fail => "fail",
        })
    }
}

impl fmt::Display for RootCause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.id, self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(id: &str, group: Group, outcome: Outcome, because: Option<&str>) -> Finding {
        Finding {
            id: id.to_owned(),
            group,
            title: "it works".to_owned(),
            target: "x".to_owned(),
            outcome,
            evidence: Some("it was looked at".to_owned()),
            remedy: (outcome == Outcome::Fail).then(|| "mend it".to_owned()),
            because: because.map(|id| RootCause {
                id: id.to_owned(),
                target: "x".to_owned(),
            }),
        }
    }

    fn report() -> Report {
        let findings = vec![
            finding("HGS-D001", Group::State, Outcome::Pass, None),
            finding("HGS-K001", Group::Keys, Outcome::Fail, None),
            finding("HGS-K002", Group::Keys, Outcome::Skipped, Some("HGS-K001")),
        ];
        Report::new("guardian", Time::from_unix(0), findings)
    }

    #[test]
    fn people_see_groups_and_what_did_not_pass() {
        let report = report();
        let shown = ReportText {
            report: &report,
            detailed: false,
        };
        let expected = "guardian: fail
  state        pass    1 passed
  keys         fail    1 failed, 1 skipped
    HGS-K001 fail: it works (x)
      seen: it was looked at
      remedy: mend it
      skipped because of it: HGS-K002
";
        assert_eq!(shown.to_string(), expected);
        let all = ReportText {
            report: &report,
            detailed: true,
        };
        assert!(all.to_string().contains("HGS-D001 pass"));
        assert!(all.to_string().contains("because of HGS-K001 (x)"));
    }

    #[test]
    fn programs_get_the_same_back() {
        let report = report();
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
        assert_eq!(report.root_causes[0].id, "HGS-K001");
        assert!(!report.works());
    }
}
