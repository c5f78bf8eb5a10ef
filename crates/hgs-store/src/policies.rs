//! What groups of hosts are judged by: the settings and documents of the state, compiled.

use std::collections::{BTreeMap, BTreeSet};

use hgs_attest::policy::{
    Baseline, CiPolicy, DocumentError, Documents, DumpKey, HostMeasurements, PolicyName,
    PolicySelection, PolicySet, PolicySetError, PolicySettingError,
};

use std::sync::Arc;

use crate::State;
use crate::model::{
    DocumentKind, Host, HostMeasurementsRecord, HostName, PolicyDocument, ShortName,
};

#[cfg(test)]
pub(crate) mod count;

/// Why hosts can't be judged by what the state says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A document is none of its kind.
    #[error("{name}: {error}")]
    Document {
        /// Which document.
        name: ShortName,
        /// What is wrong with it.
        error: DocumentError,
    },
    /// There is no such policy.
    #[error("there is no policy {0}")]
    NoSuchPolicy(String),
    /// A policy can't be set so.
    #[error(transparent)]
    Setting(#[from] PolicySettingError),
    /// What is enabled does not make a set.
    #[error(transparent)]
    Set(#[from] PolicySetError),
    /// What only one host measures does not fit.
    #[error("the measurements of host {host}: {error}")]
    Measurements {
        /// Which host.
        host: HostName,
        /// What is wrong with them.
        error: PolicySetError,
    },
    /// What only one host measures can't be read.
    #[error("the measurements of host {host}: {error}")]
    MeasurementsDocument {
        /// Which host.
        host: HostName,
        /// What is wrong with the document.
        error: DocumentError,
    },
}

impl PolicyError {
    /// Whether something is yet to be added or enabled, and nothing that is there is wrong.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        matches!(
            self,
            Self::Set(PolicySetError::NoBaseline | PolicySetError::NoDocument { .. })
        )
    }
}

/// What is set and enabled for a group of hosts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EffectivePolicies {
    /// Policies that were enabled or disabled; the others are as they are by themselves.
    pub policies: BTreeMap<PolicyName, bool>,
    /// The documents that are enabled.
    pub documents: BTreeSet<ShortName>,
}

/// Changes that are tried and not made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyTrial {
    /// Policies and documents, by name, that count as enabled or disabled.
    pub settings: BTreeMap<String, bool>,
    /// Documents that count as enabled, in the place of those with the same names.
    pub documents: Vec<PolicyDocument>,
    /// Documents in the place of those with the same names, where these are enabled.
    pub changed: BTreeMap<ShortName, PolicyDocument>,
}

impl State {
    /// What is set and enabled for a group, or for the default group.
    pub fn effective_policies(
        &self,
        group: Option<&ShortName>,
    ) -> Result<EffectivePolicies, PolicyError> {
        let default = self.host_group(&ShortName::of_default_group());
        let own = group.and_then(|group| self.host_group(group));
        let mut policies = BTreeMap::new();
        let mut documents = BTreeMap::new();
        // What the group says comes later, and prevails.
        for group in [default, own].into_iter().flatten() {
            for (name, enabled) in &group.policies {
                let policy = PolicyName::from_name(name);
                let policy = policy.ok_or_else(|| PolicyError::NoSuchPolicy(name.clone()))?;
                policies.insert(policy, *enabled);
            }
            documents.extend(
                group
                    .documents
                    .iter()
                    .map(|(name, enabled)| (*name, *enabled)),
            );
        }
        let enabled = documents.into_iter().filter(|(_, enabled)| *enabled);
        Ok(EffectivePolicies {
            policies,
            documents: enabled.map(|(name, _)| name).collect(),
        })
    }

    /// What all hosts of a group, or of the default group, are judged by. It is compiled once.
    pub fn policy_set(&self, group: Option<&ShortName>) -> Result<Arc<PolicySet>, PolicyError> {
        let group = group.copied().unwrap_or_else(ShortName::of_default_group);
        self.policy_sets().of_group(self, group)
    }

    /// What one host is judged by. It is compiled once.
    pub fn policy_set_of(&self, host: &Host) -> Result<Arc<PolicySet>, PolicyError> {
        self.policy_sets().of_host(self, host)
    }

    pub(crate) fn compiled(&self, effective: &EffectivePolicies) -> Result<PolicySet, PolicyError> {
        self.compiled_with(effective, &PolicyTrial::default())
    }

    fn compiled_with(
        &self,
        effective: &EffectivePolicies,
        trial: &PolicyTrial,
    ) -> Result<PolicySet, PolicyError> {
        #[cfg(test)]
        count::group();
        let mut selection = PolicySelection::default();
        for (policy, enabled) in &effective.policies {
            selection.set(*policy, *enabled)?;
        }
        let mut documents = Documents::default();
        let enabled = effective.documents.iter();
        let enabled = enabled.filter_map(|name| {
            let changed = trial.changed.get(name);
            changed.or_else(|| self.policy_document(name))
        });
        for document in enabled.chain(&trial.documents) {
            document.read_into(&mut documents)?;
        }
        Ok(PolicySet::compile(&selection, &documents)?)
    }

    /// What all hosts of a group, or of the default group, would be judged by after the changes of `trial`.
    pub fn tried_policy_set(
        &self,
        group: Option<&ShortName>,
        trial: &PolicyTrial,
    ) -> Result<Arc<PolicySet>, PolicyError> {
        if *trial == PolicyTrial::default() {
            return self.policy_set(group);
        }
        let mut effective = self.effective_policies(group)?;
        for (name, enabled) in &trial.settings {
            if let Some(policy) = PolicyName::from_name(name) {
                effective.policies.insert(policy, *enabled);
                continue;
            }
            let document = name.parse().ok();
            let document = document.filter(|name| self.policy_document(name).is_some());
            let document = document.ok_or_else(|| PolicyError::NoSuchPolicy(name.clone()))?;
            match enabled {
                true => effective.documents.insert(document),
                false => effective.documents.remove(&document),
            };
        }
        for document in &trial.documents {
            effective.documents.remove(&document.name);
        }
        self.compiled_with(&effective, trial).map(Arc::new)
    }

    /// What one host would be judged by if this were the set of its group.
    pub fn policy_set_of_host_in(
        &self,
        host: &Host,
        group: &Arc<PolicySet>,
    ) -> Result<Arc<PolicySet>, PolicyError> {
        let Some(record) = self.host_measurements(&host.id) else {
            return Ok(Arc::clone(group));
        };
        #[cfg(test)]
        count::host();
        let set = group.for_host(&record.read(&host.name)?);
        let set = set.map_err(|error| PolicyError::Measurements {
            host: host.name.clone(),
            error,
        });
        set.map(Arc::new)
    }
}

impl HostMeasurementsRecord {
    /// Reads the document.
    pub fn read(&self, host: &HostName) -> Result<HostMeasurements, PolicyError> {
        let read = HostMeasurements::from_json(self.text.as_bytes());
        read.map_err(|error| PolicyError::MeasurementsDocument {
            host: host.clone(),
            error,
        })
    }

    /// Checks that the text is a document of what a host measures.
    pub(crate) fn check(&self, host: &HostName) -> Result<(), PolicyError> {
        self.read(host).map(drop)
    }
}

impl PolicyDocument {
    fn read_into(&self, documents: &mut Documents) -> Result<(), PolicyError> {
        let (name, text) = (self.name.to_string(), self.text.as_bytes());
        let read =
            match self.kind {
                DocumentKind::Baseline => Baseline::from_json(text)
                    .map(|read| drop(documents.baselines.insert(name, read))),
                DocumentKind::CiPolicy => CiPolicy::from_json(text)
                    .map(|read| drop(documents.ci_policies.insert(name, read))),
                DocumentKind::DumpKey => DumpKey::from_json(text)
                    .map(|read| drop(documents.dump_keys.insert(name, read))),
            };
        read.map_err(|error| PolicyError::Document {
            name: self.name,
            error,
        })
    }

    /// Checks that the text is a document of its kind.
    pub fn check(&self) -> Result<(), PolicyError> {
        self.read_into(&mut Documents::default())
    }
}
