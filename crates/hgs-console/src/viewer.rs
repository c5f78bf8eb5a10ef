use hgs_admin::{Operation, Permissions};

/// Who looks at a page.
#[derive(Debug, Clone)]
pub struct Viewer {
    /// The user, as audit records name it.
    pub user: String,
    /// The name of the session.
    pub session: String,
    /// What the user is permitted.
    pub permissions: Permissions,
}

impl Viewer {
    /// Whether the user is permitted all of `operations`.
    #[must_use]
    pub fn may(&self, operations: &[&Operation]) -> bool {
        let is_permitted = |operation: &&Operation| self.permissions.contains(operation.permission);
        operations.iter().all(is_permitted)
    }
}
