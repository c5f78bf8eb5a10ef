//! The selection of checks.

use std::collections::BTreeSet;

use crate::Check;

/// The selection of checks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Selection {
    /// All.
    #[default]
    All,
    /// These ids.
    Only(BTreeSet<String>),
}

/// There is no check of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no check {0}")]
pub struct UnknownCheck(pub String);

impl Selection {
    /// The checks called `ids`, in either case, and all that they depend on; all checks when none is named.
    ///
    /// # Errors
    /// [`UnknownCheck`] names the first that is not in `checks`.
    pub fn of<F>(checks: &[Check<F>], ids: &[String]) -> Result<Self, UnknownCheck> {
        if ids.is_empty() {
            return Ok(Self::All);
        }
        let mut wanted = BTreeSet::new();
        for id in ids {
            let id = id.trim().to_ascii_uppercase();
            if !checks.iter().any(|check| check.id == id) {
                return Err(UnknownCheck(id));
            }
            wanted.insert(id);
        }
        // What a check depends on stands before it.
        for check in checks.iter().rev() {
            if wanted.contains(check.id) {
                wanted.extend(check.after.iter().map(|&id| id.to_owned()));
            }
        }
        Ok(Self::Only(wanted))
    }

    /// Whether the check `id` is wanted.
    #[must_use]
    pub fn includes(&self, id: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(ids) => ids.contains(id),
        }
    }

    /// Whether any check of these is wanted, so that facts for it are worth their price.
    #[must_use]
    pub fn includes_any(&self, ids: &[&str]) -> bool {
        ids.iter().any(|id| self.includes(id))
    }
}
