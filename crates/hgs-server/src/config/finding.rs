//! What a check of the configuration finds.

use serde::Serialize;

/// Something about the configuration that an operator should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Names the check, for programs: mostly the key that it is about.
    pub check: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub cause: String,
    /// What to do about it.
    pub remedy: String,
    /// Whether it is about the process that looked, as its limits and privileges, and says nothing of another one.
    #[serde(skip)]
    pub about_process: bool,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The server works, and something else is at risk.
    Warning,
    /// The server does not start, or does not do its work.
    Error,
}
