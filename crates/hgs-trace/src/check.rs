//! The type of a check.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

/// A check of facts of one kind.
pub struct Check<F: 'static> {
    /// Its name for ever, such as `HGS-K003`.
    pub id: &'static str,
    /// The group in which it is counted.
    pub group: Group,
    /// What holds when it passes.
    pub title: &'static str,
    /// When it fails.
    pub fails_when: &'static str,
    /// The remedy, unless the judgement has a better one.
    pub remedy: &'static str,
    /// The checks that it depends on. They come before it in the table.
    pub after: &'static [&'static str],
    /// Judges the facts, once for each thing that the check is about. Nothing means that there is no such thing, or
    /// that it could not be examined.
    pub judge: fn(&F) -> Vec<Judgement>,
}

/// The groups that findings are added up in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// The configuration, and the program that runs by it.
    Service,
    /// Processes, clocks, disks.
    Machine,
    /// The state folder, the master key, the database.
    State,
    /// Certificates of the guardian.
    Certificates,
    /// PKCS#11 modules, tokens and PINs.
    Tokens,
    /// Private keys at work.
    Keys,
    /// Signers of health certificates; on a host its health.
    Attestation,
    /// Other nodes of the guardian.
    Cluster,
    /// Addresses, names, TLS.
    Network,
    /// The two published protocols, end to end.
    Protocols,
}

/// How one thing was judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What was judged: a URL, a certificate, a file.
    pub target: String,
    /// How.
    pub verdict: Verdict,
    /// The evidence.
    pub evidence: String,
    /// A better remedy than the check's own.
    pub remedy: Option<String>,
}

/// The ways to judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// All is well.
    Pass,
    /// It works, and needs attention.
    Warning,
    /// It does not work.
    Fail,
}

impl Judgement {
    /// All is well.
    pub fn pass(target: impl Display, evidence: impl Display) -> Self {
        Self::new(Verdict::Pass, target, evidence)
    }

    /// It works, and needs attention.
    pub fn warning(target: impl Display, evidence: impl Display) -> Self {
        Self::new(Verdict::Warning, target, evidence)
    }

    /// It does not work.
    pub fn fail(target: impl Display, evidence: impl Display) -> Self {
        Self::new(Verdict::Fail, target, evidence)
    }

    pub(crate) fn new(verdict: Verdict, target: impl Display, evidence: impl Display) -> Self {
        Self {
            target: target.to_string(),
            verdict,
            evidence: evidence.to_string(),
            remedy: None,
        }
    }

    /// Sets the remedy.
    #[must_use]
    pub fn remedy(self, remedy: impl Into<Option<String>>) -> Self {
        Self {
            remedy: remedy.into().or(self.remedy),
            ..self
        }
    }
}

/// A row of the table of checks, without its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The id.
    pub id: &'static str,
    /// The group.
    pub group: Group,
    /// What holds when it passes.
    pub title: &'static str,
    /// When it fails.
    pub fails_when: &'static str,
    /// The remedy.
    pub remedy: &'static str,
    /// The checks before it.
    pub after: &'static [&'static str],
}

/// The rows of a table.
pub fn rows<F>(checks: &[Check<F>]) -> impl Iterator<Item = Row> {
    checks.iter().map(|check| Row {
        id: check.id,
        group: check.group,
        title: check.title,
        fails_when: check.fails_when,
        remedy: check.remedy,
        after: check.after,
    })
}

impl Display for Group {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Service => "service",
            Self::Machine => "machine",
            Self::State => "state",
            Self::Certificates => "certificates",
            Self::Tokens => "tokens",
            Self::Keys => "keys",
            Self::Attestation => "attestation",
            Self::Cluster => "cluster",
            Self::Network => "network",
            Self::Protocols => "protocols",
        })
    }
}
