//! The roles of the processes that connect to the admin socket.

use std::ffi::CString;

use hgs_admin::Role;
use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

use crate::config;
use crate::http::Credentials;

/// The groups that roles come from, by name.
#[derive(Debug, Clone)]
pub struct Roles {
    administrators: Option<String>,
    reviewers: Option<String>,
    host_managers: Option<String>,
    own_uid: u32,
}

/// The system's user or group database did not answer. Then no caller has a role.
#[derive(Debug, thiserror::Error)]
#[error("the user database can't be asked")]
pub struct RolesError(#[from] Errno);

impl Roles {
    /// The roles that `[listen.admin]` gives.
    #[must_use]
    pub fn new(admin: &config::Admin) -> Self {
        Self {
            administrators: admin.administrators_group.clone(),
            reviewers: admin.reviewers_group.clone(),
            host_managers: admin.host_managers_group.clone(),
            own_uid: rustix::process::geteuid().as_raw(),
        }
    }

    /// The roles of a process.
    ///
    /// Root and the server's own user are administrators. Otherwise the groups decide: the
    /// process's own, and those that its user is in now. The databases are asked each time, so
    /// that leaving a group takes effect; that may block, as they may be on the network.
    ///
    /// # Errors
    /// When the user or group database can't be asked.
    pub fn of(&self, credentials: Credentials) -> Result<Vec<Role>, RolesError> {
        if credentials.uid == 0 || credentials.uid == self.own_uid {
            return Ok(vec![Role::Administrator]);
        }
        let groups = groups_of(credentials)?;
        let mut roles = Vec::new();
        for (group, role) in [
            (&self.administrators, Role::Administrator),
            (&self.reviewers, Role::Reviewer),
            (&self.host_managers, Role::HostManager),
        ] {
            if let Some(group) = group
                && let Some(group) = group_id(group)?
                && groups.contains(&group)
            {
                roles.push(role);
            }
        }
        Ok(roles)
    }
}

/// The id of the group `name`, if there is one.
///
/// # Errors
/// When the group database can't be asked.
pub(crate) fn group_id(name: &str) -> Result<Option<u32>, RolesError> {
    Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
}

fn groups_of(credentials: Credentials) -> Result<Vec<u32>, RolesError> {
    let mut groups = vec![credentials.gid];
    if let Some(user) = User::from_uid(Uid::from_raw(credentials.uid))?
        && let Ok(name) = CString::new(user.name)
    {
        groups.extend(getgrouplist(&name, user.gid)?.into_iter().map(Gid::as_raw));
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A uid that no user has, so that only the process's own group counts.
    const UNKNOWN_UID: u32 = 3_000_000_000;

    fn roles(administrators: &str, reviewers: &str) -> Roles {
        Roles {
            administrators: Some(administrators.to_owned()),
            reviewers: Some(reviewers.to_owned()),
            host_managers: Some("sys".to_owned()),
            own_uid: 12_345,
        }
    }

    fn process(uid: u32, gid: u32) -> Credentials {
        Credentials {
            uid,
            gid,
            pid: None,
        }
    }

    #[test]
    fn root_and_the_server_itself_administer() {
        let roles = roles("no-such-group", "no-such-group");
        for uid in [0, 12_345] {
            let found = roles.of(process(uid, 54_321)).unwrap();
            assert_eq!(found, [Role::Administrator]);
        }
    }

    #[test]
    fn a_process_has_the_role_of_its_group() {
        // Debian's static groups: 1 is `daemon`, 2 is `bin`, 3 is `sys`.
        let roles = roles("daemon", "bin");
        let found = |gid| roles.of(process(UNKNOWN_UID, gid)).unwrap();
        assert_eq!(found(1), [Role::Administrator]);
        assert_eq!(found(2), [Role::Reviewer]);
        assert_eq!(found(3), [Role::HostManager]);
        assert_eq!(found(54_321), []);
    }

    #[test]
    fn a_user_has_the_role_of_the_groups_that_the_database_lists() {
        // User 1, `daemon`, is in group `daemon` whatever group its process runs with.
        let found = roles("no-such-group", "daemon")
            .of(process(1, 54_321))
            .unwrap();
        assert_eq!(found, [Role::Reviewer]);
    }

    #[test]
    fn a_user_in_several_groups_has_all_their_roles() {
        let found = roles("bin", "daemon").of(process(1, 2)).unwrap();
        assert_eq!(found, [Role::Administrator, Role::Reviewer]);
    }

    #[test]
    fn without_groups_no_other_user_has_a_role() {
        let roles = Roles {
            administrators: None,
            reviewers: None,
            host_managers: None,
            own_uid: 12_345,
        };
        assert_eq!(roles.of(process(1, 1)).unwrap(), []);
    }
}
