//! What hosts are judged by, compiled once for each group of hosts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use hgs_attest::policy::PolicySet;
use hgs_pki::health::HostId;
use hgs_store::{Host, PolicyVersion, ShortName, State};
use tracing::error;

/// Sets that are kept as long as nothing that they are made of changes.
#[derive(Debug, Default)]
pub(crate) struct PolicySets(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    version: PolicyVersion,
    groups: BTreeMap<Option<ShortName>, Arc<PolicySet>>,
    hosts: BTreeMap<HostId, HostSet>,
}

/// The set of one host that measures something of its own.
#[derive(Debug)]
struct HostSet {
    group: Option<ShortName>,
    text: Arc<str>,
    set: Arc<PolicySet>,
}

/// Sets of single hosts that are kept.
const MOST_HOSTS: usize = 16_384;

impl PolicySets {
    /// What `host` is judged by. A set that can't be made refuses.
    pub(crate) fn of(&self, state: &State, host: &Host) -> Arc<PolicySet> {
        let group = self.of_group(state, host.group);
        let Some(measurements) = state.host_measurements(&host.id) else {
            return group;
        };
        let version = state.policy_version();
        let find = |kept: &Kept| {
            let found = kept.hosts.get(&host.id).filter(|found| {
                found.group == host.group && Arc::ptr_eq(&found.text, &measurements.text)
            })?;
            // Another request may have looked at an older state since.
            (kept.version == version).then(|| Arc::clone(&found.set))
        };
        if let Some(set) = find(&self.lock()) {
            return set;
        }
        let set = Arc::new(state.policy_set_of(host, &group).unwrap_or_else(|error| {
            error!(host = %host.name, %error, "a host can't be judged, and is refused");
            PolicySet::default()
        }));
        let mut kept = self.lock();
        if kept.version == version {
            if kept.hosts.len() >= MOST_HOSTS {
                kept.hosts.clear();
            }
            kept.hosts.insert(
                host.id,
                HostSet {
                    group: host.group,
                    text: Arc::clone(&measurements.text),
                    set: Arc::clone(&set),
                },
            );
        }
        set
    }

    fn of_group(&self, state: &State, group: Option<ShortName>) -> Arc<PolicySet> {
        let version = state.policy_version();
        {
            let mut kept = self.lock();
            if kept.version != version {
                *kept = Kept {
                    version: version.clone(),
                    ..Kept::default()
                };
            }
            if let Some(set) = kept.groups.get(&group) {
                return Arc::clone(set);
            }
        }
        let set = Arc::new(state.policy_set(group.as_ref()).unwrap_or_else(|error| {
            let group = group.map_or_else(|| "default".to_owned(), |group| group.to_string());
            error!(group, %error, "hosts of a group can't be judged, and are refused");
            PolicySet::default()
        }));
        let mut kept = self.lock();
        if kept.version == version {
            kept.groups.insert(group, Arc::clone(&set));
        }
        set
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        // Nothing between lock and unlock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
