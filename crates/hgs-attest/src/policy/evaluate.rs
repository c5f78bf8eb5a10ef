//! A policy set, and how evidence is judged by it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use hgs_crypto::hash::{Sha256, Sha256Digest};
use hgs_pki::Time;

use super::baseline::{Baseline, ComponentKind};
use super::code_integrity::{CiPolicy, CompiledCiPolicy, DumpKey};
use super::compile::{BaselineError, Compiled, Layer};
use super::difference::{FoundEvent, group_key};
use super::evaluation::{Evaluation, Matched, Nearest, PolicyResult};
use super::evidence::{Evidence, EvidenceError, RecordedEvidence};
use super::host_measurements::HostMeasurements;
use super::judge::{Judge, Outcome};
use super::name::{DecidedBy, PolicyName, PolicySelection};
use super::walk::{self, Reading};

/// The documents that are enabled for a host group, by name.
#[derive(Debug, Clone, Default)]
pub struct Documents {
    /// A boot has to match one of them.
    pub baselines: BTreeMap<String, Baseline>,
    /// The IMA log has to match one of them, if there are any.
    pub ci_policies: BTreeMap<String, CiPolicy>,
    /// What may write crash dumps, if something may.
    pub dump_keys: BTreeMap<String, DumpKey>,
}

/// Why a policy set can't be made. It is refused when it is saved, so that no host meets it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicySetError {
    /// No baseline is enabled.
    #[error("no baseline is enabled: nothing that a host boots would be approved")]
    NoBaseline,
    /// A policy is enabled that compares with documents, and none is.
    #[error("{policy} is enabled, and no {document} is: no host would be healthy")]
    NoDocument {
        /// The policy.
        policy: PolicyName,
        /// What is needed.
        document: &'static str,
    },
    /// A baseline can't be matched, or in two ways.
    #[error("the baseline `{name}`: {error}")]
    Baseline {
        /// Its name.
        name: String,
        /// Why.
        error: Box<BaselineError>,
    },
    /// A code integrity policy allows nothing.
    #[error("the code integrity policy `{name}` has no digest in a set that is accepted")]
    NothingAllowed {
        /// Its name.
        name: String,
    },
}

/// What one host is judged by. Without anything to match, as by default, it refuses.
#[derive(Debug, Clone, Default)]
pub struct PolicySet {
    group: Arc<Group>,
    host: Arc<Host>,
}

/// What all hosts of a group are judged by.
#[derive(Debug, Default)]
struct Group {
    selection: PolicySelection,
    baselines: Vec<Compiled>,
    ci_policies: Vec<CompiledCiPolicy>,
    dump_keys: BTreeMap<String, DumpKey>,
    digest: Sha256Digest,
}

/// What only one host is judged by.
#[derive(Debug, Default)]
struct Host {
    measurements: HostMeasurements,
    /// By baseline.
    layers: Vec<Layer>,
    digest: Sha256Digest,
}

impl PolicySet {
    /// Makes the set of a host group from the policies that are enabled and the documents that are. It refuses what is
    /// empty, ambiguous or inconsistent.
    pub fn compile(
        selection: &PolicySelection,
        documents: &Documents,
    ) -> Result<Self, PolicySetError> {
        if documents.baselines.is_empty() {
            return Err(PolicySetError::NoBaseline);
        }
        let has_ci_policies = !documents.ci_policies.is_empty();
        if selection.is_enabled(PolicyName::CiPolicy, has_ci_policies) && !has_ci_policies {
            return Err(PolicySetError::NoDocument {
                policy: PolicyName::CiPolicy,
                document: "code integrity policy",
            });
        }
        let baselines = documents.baselines.iter().map(|(name, baseline)| {
            let compiled = Compiled::new(name, baseline.clone());
            compiled.map_err(|error| PolicySetError::Baseline {
                name: name.clone(),
                error: Box::new(error),
            })
        });
        let ci_policies = documents.ci_policies.iter().map(|(name, policy)| {
            let compiled = CompiledCiPolicy::new(name, policy);
            compiled.ok_or_else(|| PolicySetError::NothingAllowed { name: name.clone() })
        });
        let group = Group {
            selection: selection.clone(),
            baselines: baselines.collect::<Result<_, _>>()?,
            ci_policies: ci_policies.collect::<Result<_, _>>()?,
            dump_keys: documents.dump_keys.clone(),
            digest: digest_of_group(selection, documents),
        };
        let nothing = HostMeasurements::default();
        Ok(Self {
            host: Arc::new(Host {
                layers: host_layers(&group, &nothing)?,
                digest: group.digest,
                measurements: nothing,
            }),
            group: Arc::new(group),
        })
    }

    /// The set of one host of the group, with what only that host has. Everything else is shared with the group's.
    pub fn for_host(&self, measurements: &HostMeasurements) -> Result<Self, PolicySetError> {
        let mut hash = Sha256::new();
        hash.update(&self.group.digest);
        hash.update(measurements.to_json().as_bytes());
        Ok(Self {
            group: Arc::clone(&self.group),
            host: Arc::new(Host {
                layers: host_layers(&self.group, measurements)?,
                measurements: measurements.clone(),
                digest: hash.finish(),
            }),
        })
    }

    pub(super) fn baselines(&self) -> impl Iterator<Item = &Baseline> + Clone {
        self.group.baselines.iter().map(|one| &one.baseline)
    }

    pub(super) fn host_measurements(&self) -> &HostMeasurements {
        &self.host.measurements
    }

    /// SHA-256 of everything that a host is judged by.
    #[must_use]
    pub fn digest(&self) -> &Sha256Digest {
        &self.host.digest
    }

    /// Whether a policy is on.
    #[must_use]
    pub fn is_enabled(&self, policy: PolicyName) -> bool {
        let has_documents = match policy {
            PolicyName::CiPolicy => !self.group.ci_policies.is_empty(),
            PolicyName::DumpEncryptionKey => !self.group.dump_keys.is_empty(),
            _ => false,
        };
        self.group.selection.is_enabled(policy, has_documents)
    }

    /// Judges what a host sent.
    pub fn evaluate_recorded(
        &self,
        evidence: &RecordedEvidence,
        now: Time,
    ) -> Result<Evaluation, EvidenceError> {
        Ok(self.evaluate(&evidence.prove()?, now))
    }

    /// Judges evidence, at a time that says which staged alternatives are accepted.
    #[must_use]
    pub fn evaluate(&self, evidence: &Evidence, now: Time) -> Evaluation {
        let matched = self.match_baselines(evidence, now);
        let judge = Judge::new(
            evidence,
            now,
            matched.as_ref(),
            &self.group.ci_policies,
            &self.group.dump_keys,
        );
        let mut used_sets = Vec::new();
        let decided = PolicyName::ALL
            .into_iter()
            .filter(|policy| policy.decided_by() == DecidedBy::Evidence);
        let results: Vec<_> = decided
            .map(|policy| {
                let (outcome, sets) = judge.outcome(policy);
                let enabled = self.is_enabled(policy);
                if enabled {
                    used_sets.extend(sets);
                }
                PolicyResult {
                    policy,
                    enabled,
                    outcome,
                }
            })
            .collect();
        let healthy = !self.group.baselines.is_empty()
            && results
                .iter()
                .all(|result| !result.enabled || result.held());
        let (baseline, any_events, mut used, nearest) = match matched {
            Ok(matched) => (
                Some(matched.baseline),
                matched.any_events,
                matched.used,
                None,
            ),
            Err(nearest) => (None, 0, nearest.used.clone(), Some(nearest)),
        };
        used.extend(used_sets);
        let group = (!healthy).then(|| self.group_of(&results, nearest.as_ref()));
        Evaluation {
            healthy,
            policies: self.host.digest,
            results,
            baseline,
            any_events,
            used,
            nearest: nearest.map(Arc::new),
            group,
        }
    }

    fn match_baselines(&self, evidence: &Evidence, now: Time) -> Result<Matched, Nearest> {
        let lanes = evidence.lanes();
        let described: RefCell<BTreeMap<u8, Arc<[FoundEvent]>>> = RefCell::default();
        let describe = |pcr: u8, place: usize| {
            let mut described = described.borrow_mut();
            let lane = described
                .entry(pcr)
                .or_insert_with(|| evidence.described(pcr));
            lane[place].clone()
        };
        let mut nearest: Option<(usize, &Compiled, Reading)> = None;
        for (number, compiled) in self.group.baselines.iter().enumerate() {
            let of_host = self.host.layers.get(number);
            let layers: Vec<_> = std::iter::once(&compiled.shared).chain(of_host).collect();
            let reading = walk::read(compiled, &layers, &lanes, now, &describe);
            if reading.differences.is_empty() {
                return Ok(Matched::new(compiled, &layers, reading, evidence, &lanes));
            }
            let fewer = |(_, _, found): &(usize, &Compiled, Reading)| {
                reading.differences.len() < found.differences.len()
            };
            if nearest.as_ref().is_none_or(fewer) {
                nearest = Some((number, compiled, reading));
            }
        }
        Err(
            nearest.map_or_else(Nearest::default, |(_, compiled, reading)| {
                Nearest::new(compiled, reading, &lanes, &describe)
            }),
        )
    }

    /// What this refusal has in common with those of other hosts.
    fn group_of(&self, results: &[PolicyResult], nearest: Option<&Nearest>) -> Sha256Digest {
        let differences = nearest.map_or(&[][..], |nearest| &nearest.differences);
        let compiled = nearest.and_then(|nearest| {
            let mut baselines = self.group.baselines.iter();
            baselines.find(|compiled| Some(&compiled.name) == nearest.baseline.as_ref())
        });
        let kind_of = |component: &str| -> Option<ComponentKind> {
            Some(compiled?.baseline.component(component)?.kind)
        };
        let key = group_key(differences, &self.host.measurements.parameters, kind_of);
        let mut hash = Sha256::new();
        hash.update(&key);
        for result in results
            .iter()
            .filter(|result| result.enabled && !result.held())
        {
            hash.update(result.policy.guid().octets());
            let Outcome::Failed(failure) = &result.outcome else {
                continue;
            };
            hash.update(&failure.group_part());
        }
        hash.finish()
    }
}

/// What a host has beside what all hosts of a group have, by baseline.
fn host_layers(
    group: &Group,
    measurements: &HostMeasurements,
) -> Result<Vec<Layer>, PolicySetError> {
    let layers = group.baselines.iter().map(|compiled| {
        let checked = measurements.check().map_err(BaselineError::from);
        let layer = checked.and_then(|()| compiled.host_layer(measurements));
        layer.map_err(|error| PolicySetError::Baseline {
            name: compiled.name.clone(),
            error: Box::new(error),
        })
    });
    layers.collect()
}

fn digest_of_group(selection: &PolicySelection, documents: &Documents) -> Sha256Digest {
    let mut hash = Sha256::new();
    let mut put = |part: &[u8]| {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    };
    put(b"OpenHGS policy set 1");
    for (policy, enabled) in selection.settings() {
        put(policy.name().as_bytes());
        put(&[u8::from(enabled)]);
    }
    for (name, baseline) in &documents.baselines {
        put(b"baseline");
        put(name.as_bytes());
        put(baseline.to_json().as_bytes());
    }
    for (name, policy) in &documents.ci_policies {
        put(b"ci-policy");
        put(name.as_bytes());
        put(policy.to_json().as_bytes());
    }
    for (name, key) in &documents.dump_keys {
        put(b"dump-key");
        put(name.as_bytes());
        put(key.to_json().as_bytes());
    }
    hash.finish()
}
