//! What hosts are judged by, compiled once for each group of hosts, and once for each host that measures something of its own.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hgs_attest::policy::PolicySet;
use hgs_pki::health::HostId;

use crate::model::{Host, ShortName};
use crate::policies::PolicyError;
use crate::state::{PolicyVersion, State};

type Compiled = Result<Arc<PolicySet>, PolicyError>;

/// Sets that are kept as long as nothing that they are made of changes. All generations of a state share them.
#[derive(Debug, Default)]
pub(crate) struct PolicySets(Mutex<VecDeque<Kept>>);

/// The sets of one version of documents and settings.
#[derive(Debug)]
struct Kept {
    version: PolicyVersion,
    groups: BTreeMap<ShortName, Compiled>,
    hosts: BTreeMap<HostId, HostSet>,
}

/// The set of one host that measures something of its own.
#[derive(Debug)]
struct HostSet {
    group: Option<ShortName>,
    text: Arc<str>,
    set: Compiled,
}

/// Versions that are kept: the one that hosts are judged by, and the one that a commit is being decided for.
const MOST_VERSIONS: usize = 2;

/// Sets of single hosts that are kept of a version.
const MOST_HOSTS: usize = 16_384;

impl PolicySets {
    /// What all hosts of a group are judged by.
    pub(crate) fn of_group(&self, state: &State, group: ShortName) -> Compiled {
        let version = state.policy_version();
        if let Some(set) = Self::kept(&mut self.lock(), &version).groups.get(&group) {
            return set.clone();
        }
        // Other requests go on meanwhile.
        let effective = state.effective_policies(Some(&group));
        let set = effective.and_then(|effective| state.compiled(&effective));
        let set = set.map(Arc::new);
        let mut all = self.lock();
        let kept = Self::kept(&mut all, &version);
        // Another request may have compiled it since: one of them stays.
        kept.groups.entry(group).or_insert(set).clone()
    }

    /// What `host` is judged by.
    pub(crate) fn of_host(&self, state: &State, host: &Host) -> Compiled {
        let group = host.group.unwrap_or_else(ShortName::of_default_group);
        let group = self.of_group(state, group)?;
        let Some(measurements) = state.host_measurements(&host.id) else {
            return Ok(group);
        };
        let version = state.policy_version();
        let text = &measurements.text;
        {
            let mut all = self.lock();
            let found = Self::kept(&mut all, &version).hosts.get(&host.id);
            if let Some(found) = found
                && found.group == host.group
                && Arc::ptr_eq(&found.text, text)
            {
                return found.set.clone();
            }
        }
        let set = state.policy_set_of_host_in(host, &group);
        let mut all = self.lock();
        let hosts = &mut Self::kept(&mut all, &version).hosts;
        if hosts.len() >= MOST_HOSTS {
            hosts.clear();
        }
        hosts.insert(
            host.id,
            HostSet {
                group: host.group,
                text: Arc::clone(text),
                set: set.clone(),
            },
        );
        set
    }

    /// The sets of a version, which are the last to be forgotten from now on.
    fn kept<'k>(all: &'k mut VecDeque<Kept>, version: &PolicyVersion) -> &'k mut Kept {
        let found = all.iter().position(|kept| kept.version == *version);
        let kept = found.and_then(|place| all.remove(place));
        all.truncate(MOST_VERSIONS - 1);
        all.push_front(kept.unwrap_or_else(|| Kept {
            version: version.clone(),
            groups: BTreeMap::new(),
            hosts: BTreeMap::new(),
        }));
        &mut all[0]
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        // Nothing between lock and unlock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
