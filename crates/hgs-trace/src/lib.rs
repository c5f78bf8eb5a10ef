//! Diagnostics: facts, checks with stable ids, findings, reports. What `hgs trace` and `guarded-host trace` say.
//!
//! ```text
//!  a program on the machine ---> facts (guardian::Facts, host::Facts) ---> diagnose ---> Report
//!                                   |                                         ^
//!                                   +---> collection::write ... read ---------+   the same elsewhere, later
//! ```
//!
//! * Facts are plain values: collecting them asks files, keys and networks, judging them asks nothing. So what was
//!   collected on one machine can be diagnosed on another, and every check is tested without a broken machine.
//! * A [`Check`] has an id that stays, says when it fails and what helps, and names the checks that must pass before it
//!   means anything. Where one of those fails, it is *skipped* and names the root cause: one breakage, one failure.
//! * `docs/trace.md` is the table of all checks; a test holds the two together.
//!
//! It does NOT collect anything (`hgs-server`, `hgs` and `guarded-host` do), repair anything, or hold a secret: the
//! types of facts have no room for one.
//!
//! ```
//! use hgs_trace::{Check, Group, Judgement, Selection, diagnose};
//!
//! const CHECKS: &[Check<u8>] = &[Check {
//!     id: "HGS-X001",
//!     group: Group::Machine,
//!     title: "the number is even",
//!     fails_when: "it is odd",
//!     remedy: "add one",
//!     after: &[],
//!     judge: |number| match number % 2 {
//!         0 => vec![Judgement::pass("number", number)],
//!         _ => vec![Judgement::fail("number", number)],
//!     },
//! }];
//! let findings = diagnose(CHECKS, &7, &Selection::All);
//! assert_eq!(findings[0].id, "HGS-X001");
//! assert_eq!(findings[0].remedy.as_deref(), Some("add one"));
//! ```

mod check;
pub mod collection;
mod engine;
mod facts;
#[doc(hidden)]
pub mod fuzzing;
pub mod guardian;
pub mod host;
mod report;
mod selection;
#[doc(hidden)]
pub mod text;

pub use check::{Check, Group, Judgement, Row, Verdict, rows};
pub use engine::diagnose;
pub use facts::{
    Clocks, Observed, PathFacts, PathKind, PresentedCertificate, Problem, Reachability, Validity,
};
pub use report::{Aggregate, Finding, Outcome, Report, ReportText, RootCause};
pub use selection::{Selection, UnknownCheck};
