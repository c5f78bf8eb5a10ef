//! What callers may do. A role is a set of permissions, so that two roles can overlap without one containing the other.

use std::collections::BTreeSet;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Something that a caller may do. Every operation needs exactly one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Permission {
    /// Read the status and the settings.
    ViewService,
    /// Read the guardian's certificates.
    ViewCertificates,
    /// Read the signers of health certificates.
    ViewSigners,
    /// Read the hosts.
    ViewHosts,
    /// Read what hosts are judged by.
    ViewPolicies,
    /// Read the audit log.
    ViewAudit,
    /// Judge measurements as if a host had sent them.
    Simulate,
    /// Run diagnoses, which leave an audit record and change nothing.
    Diagnose,
    /// Sign in to the console, which permits what its user is permitted otherwise.
    UseConsole,
    /// Change settings that are part of the state.
    ManageService,
    /// Add, change and remove the guardian's certificates.
    ManageCertificates,
    /// Add, change and remove signers of health certificates.
    ManageSigners,
    /// Register hosts and revoke them.
    ManageHosts,
    /// Remove hosts, deny keys to hosts of other clusters, and take both back.
    RemoveHosts,
    /// Approve what hosts booted last.
    ApproveEvidence,
    /// Change what hosts are judged by: policies, documents, groups, and who vouches for TPMs.
    ManagePolicies,
    /// Act on the state as a whole: record its exports.
    ManageState,
    /// End the sessions of others in the console.
    ManageSessions,
}

impl Permission {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::ViewService,
        Self::ViewCertificates,
        Self::ViewSigners,
        Self::ViewHosts,
        Self::ViewPolicies,
        Self::ViewAudit,
        Self::Simulate,
        Self::Diagnose,
        Self::UseConsole,
        Self::ManageService,
        Self::ManageCertificates,
        Self::ManageSigners,
        Self::ManageHosts,
        Self::RemoveHosts,
        Self::ApproveEvidence,
        Self::ManagePolicies,
        Self::ManageState,
        Self::ManageSessions,
    ];

    /// Whether an operation that needs this permission can change the state.
    #[must_use]
    pub fn changes_state(self) -> bool {
        match self {
            Self::ViewService
            | Self::ViewCertificates
            | Self::ViewSigners
            | Self::ViewHosts
            | Self::ViewPolicies
            | Self::ViewAudit
            | Self::Simulate
            | Self::Diagnose
            | Self::UseConsole => false,
            Self::ManageService
            | Self::ManageCertificates
            | Self::ManageSigners
            | Self::ManageHosts
            | Self::RemoveHosts
            | Self::ApproveEvidence
            | Self::ManagePolicies
            | Self::ManageState
            | Self::ManageSessions => true,
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(formatter)
    }
}

/// A set of permissions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permissions(BTreeSet<Permission>);

impl Permissions {
    /// Whether `permission` is in the set.
    #[must_use]
    pub fn contains(&self, permission: Permission) -> bool {
        self.0.contains(&permission)
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        Self(permissions.into_iter().collect())
    }
}

/// What several roles permit together.
impl FromIterator<Role> for Permissions {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        roles
            .into_iter()
            .flat_map(|role| role.permissions().0)
            .collect()
    }
}

/// A named set of permissions, which the configuration gives to a group of users or to a client certificate.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// May do everything.
    Administrator,
    /// May read everything and run diagnoses.
    Reviewer,
    /// May register and revoke hosts and approve what they booted, and read what that needs.
    HostManager,
}

impl Role {
    /// All roles.
    pub const ALL: &[Self] = &[Self::Administrator, Self::Reviewer, Self::HostManager];

    /// What the role permits.
    #[must_use]
    pub fn permissions(self) -> Permissions {
        let all = Permission::ALL.iter().copied();
        match self {
            Self::Administrator => all.collect(),
            Self::Reviewer => all
                .filter(|permission| !permission.changes_state())
                .collect(),
            Self::HostManager => [
                Permission::ViewService,
                Permission::ViewHosts,
                Permission::ViewPolicies,
                Permission::Simulate,
                Permission::UseConsole,
                Permission::ManageHosts,
                Permission::ApproveEvidence,
            ]
            .into_iter()
            .collect(),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OPERATIONS;

    #[test]
    fn administrators_may_do_everything_and_reviewers_change_nothing() {
        for permission in Permission::ALL {
            assert!(Role::Administrator.permissions().contains(*permission));
            assert_ne!(
                Role::Reviewer.permissions().contains(*permission),
                permission.changes_state()
            );
        }
    }

    /// What undoes a revocation, and what hosts are judged by, is for administrators.
    #[test]
    fn host_managers_add_revoke_and_approve_and_change_nothing_else() {
        let permitted = Role::HostManager.permissions();
        let changes: Vec<_> = OPERATIONS
            .all()
            .into_iter()
            .filter(|operation| operation.permission.changes_state())
            .filter(|operation| permitted.contains(operation.permission))
            .map(|operation| operation.name)
            .collect();
        assert_eq!(
            changes,
            ["add_host", "add_hosts", "revoke_host", "approve_hosts"]
        );
    }

    #[test]
    fn no_permission_is_missing_from_the_list() {
        // The schema is made from the enumeration itself.
        let schema = schemars::schema_for!(Permission).to_value();
        let variants = schema["oneOf"].as_array().map(Vec::len);
        assert_eq!(variants, Some(Permission::ALL.len()), "{schema}");
    }
}
