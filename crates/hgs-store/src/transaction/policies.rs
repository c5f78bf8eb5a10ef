//! What hosts with TPMs are judged by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hgs_attest::policy::{
    self, Alternative, Baseline, CiPolicy, HostMeasurements, NextBootClaim, PolicyName,
    PolicySelection, PolicySet, UsedAlternative,
};
use hgs_crypto::hash::sha256;
use hgs_pki::Time;
use hgs_pki::health::HostId;
use serde_json::{Value, json};

use super::{ExpectedMeasurements, Plan, Planner, PolicySelector, Refusal, shown};
use crate::State;
use crate::change::{Change, Record, RecordKey};
use crate::model::{
    DEFAULT_GROUP, Digest, DocumentKind, Host, HostGroup, HostMeasurementsRecord,
    MAX_DOCUMENT_OCTETS, PolicyDocument, ShortName,
};
use crate::policies::PolicyError;
use crate::refusal::{MAX_HOST_GROUPS, MAX_POLICY_DOCUMENTS};

/// Octets of the events of one alternative that the audit record of a claim shows, at most.
const MAX_SHOWN_CLAIM: usize = 8 * 1024;

impl Planner<'_> {
    pub(super) fn set_host_group(
        &self,
        id: &HostId,
        group: Option<ShortName>,
    ) -> Result<Plan, Refusal> {
        let host = self.state.host(id).ok_or(Refusal::NoSuchHost(*id))?;
        if let Some(group) = &group {
            self.check_group(group)?;
        }
        let changed = Host {
            group,
            ..host.clone()
        };
        Ok(Plan {
            before: Some(shown(host)),
            after: Some(shown(&changed)),
            changes: vec![Change::Put(Record::Host(changed))],
        })
    }

    pub(super) fn set_host_measurements(
        &self,
        id: &HostId,
        expected: &ExpectedMeasurements,
        text: Option<&Arc<str>>,
        note: Option<&Value>,
    ) -> Result<Plan, Refusal> {
        let host = self.state.host(id).ok_or(Refusal::NoSuchHost(*id))?;
        let known = self.state.host_measurements(id);
        if *expected != ExpectedMeasurements::Any && *expected != ExpectedMeasurements::still(known)
        {
            return Err(Refusal::MeasurementsChanged(host.name.clone()));
        }
        let change = match text {
            Some(text) => {
                check_length(text)?;
                Change::Put(Record::HostMeasurements(HostMeasurementsRecord {
                    host: *id,
                    text: Arc::clone(text),
                    changed: self.act.time,
                }))
            }
            None => Change::Remove(RecordKey::HostMeasurements(*id)),
        };
        Ok(Plan {
            before: known.map(|known| noted(&known.text, None)),
            after: text.map(|text| noted(text, note)),
            changes: match (known, text) {
                (None, None) => Vec::new(),
                _ => vec![change],
            },
        })
    }

    /// Decided from this state: what was approved of the host may have changed since the host was judged.
    pub(super) fn accept_next_boot(
        &self,
        id: &HostId,
        claim: &NextBootClaim,
    ) -> Result<Plan, Refusal> {
        let host = self.host_in_good_standing(id)?;
        if !self.state.settings().accept_next_boot_claims {
            return Err(Refusal::NextBootClaimsRefused);
        }
        let group = host.group.unwrap_or_else(ShortName::of_default_group);
        let policies = self.state.policy_set_of(host);
        let policies = policies.map_err(|error| refused(group, error))?;
        let accepted = policies
            .accept_next_boot(claim, host.name.as_str(), self.act.time)
            .map_err(|error| Refusal::NextBoot {
                host: host.name.clone(),
                error: Box::new(error),
            })?;
        let Some(accepted) = accepted else {
            return Ok(Plan {
                before: None,
                after: None,
                changes: Vec::new(),
            });
        };
        let text: Arc<str> = accepted.measurements.to_json().into();
        let note = json!({
            "claim": Digest::from_bytes(*claim.digest()),
            "added": accepted.added.iter().map(shown_claim).collect::<Vec<_>>(),
        });
        self.set_host_measurements(id, &ExpectedMeasurements::Any, Some(&text), Some(&note))
    }

    /// Whether hosts can be put into this group.
    pub(super) fn check_group(&self, name: &ShortName) -> Result<(), Refusal> {
        match self.state.host_group(name) {
            None if name.as_str() != DEFAULT_GROUP => Err(Refusal::NoSuchHostGroup(*name)),
            _ => Ok(()),
        }
    }

    /// A group, or the default group where none is named.
    fn group(&self, name: Option<ShortName>) -> Result<HostGroup, Refusal> {
        let name = name.unwrap_or_else(ShortName::of_default_group);
        self.check_group(&name)?;
        let known = self.state.host_group(&name).cloned();
        Ok(known.unwrap_or_else(|| HostGroup::new(name, self.act.time)))
    }

    pub(super) fn new_host_group(&self, name: &ShortName) -> Result<Plan, Refusal> {
        if self.check_group(name).is_ok() {
            return Err(Refusal::HostGroupKnown(*name));
        }
        if self.state.host_groups().count() >= MAX_HOST_GROUPS {
            return Err(Refusal::TooManyHostGroups);
        }
        let group = HostGroup::new(*name, self.act.time);
        Ok(Plan {
            before: None,
            after: Some(shown(&group)),
            changes: vec![Change::Put(Record::HostGroup(group))],
        })
    }

    pub(super) fn remove_host_group(&self, name: &ShortName) -> Result<Plan, Refusal> {
        if name.as_str() == DEFAULT_GROUP {
            return Err(Refusal::DefaultGroup);
        }
        let group = self.state.host_group(name);
        let group = group.ok_or(Refusal::NoSuchHostGroup(*name))?;
        let all = self.state.hosts();
        let hosts = all.filter(|host| host.group == Some(*name)).count();
        if hosts > 0 {
            let group = *name;
            return Err(Refusal::HostGroupInUse { group, hosts });
        }
        Ok(Plan {
            before: Some(shown(group)),
            after: None,
            changes: vec![Change::Remove(RecordKey::HostGroup(*name))],
        })
    }

    pub(super) fn add_policy_document(
        &self,
        name: &ShortName,
        kind: DocumentKind,
        text: &Arc<str>,
        group: Option<ShortName>,
    ) -> Result<Plan, Refusal> {
        check_length(text)?;
        if PolicyName::from_name(name.as_str()).is_some() {
            let kind = "policy";
            return Err(Refusal::DocumentKnown { kind, name: *name });
        }
        if let Some(known) = self.state.policy_document(name) {
            let kind = known.kind.name();
            return Err(Refusal::DocumentKnown { kind, name: *name });
        }
        if self.state.policy_documents().count() >= MAX_POLICY_DOCUMENTS {
            return Err(Refusal::TooManyDocuments);
        }
        let mut group = self.group(group)?;
        group.documents.insert(*name, true);
        let document = PolicyDocument {
            name: *name,
            kind,
            text: Arc::clone(text),
            added: self.act.time,
            changed: None,
        };
        Ok(Plan {
            before: None,
            after: Some(json!({
                "name": name,
                "kind": kind,
                "group": group.name,
                "document": noted(text, None),
            })),
            changes: vec![
                Change::Put(Record::PolicyDocument(document)),
                Change::Put(Record::HostGroup(group)),
            ],
        })
    }

    pub(super) fn change_policy_document(
        &self,
        name: &ShortName,
        expected: Option<&Digest>,
        text: &Arc<str>,
        note: Option<&Value>,
    ) -> Result<Plan, Refusal> {
        check_length(text)?;
        let known = self.document(name)?;
        if expected.is_some_and(|expected| *expected != known.digest()) {
            return Err(Refusal::DocumentChanged(*name));
        }
        let changed = PolicyDocument {
            text: Arc::clone(text),
            changed: Some(self.act.time),
            ..known.clone()
        };
        let about =
            |text, note| json!({"name": name, "kind": known.kind, "document": noted(text, note)});
        Ok(Plan {
            before: Some(about(&known.text, None)),
            after: Some(about(text, note)),
            changes: vec![Change::Put(Record::PolicyDocument(changed))],
        })
    }

    /// What is there no more, or is not staged any more, is passed over.
    pub(super) fn promote_alternatives(
        &self,
        id: &HostId,
        used: &[UsedAlternative],
    ) -> Result<Plan, Refusal> {
        let host = self.host_in_good_standing(id)?;
        let (name, now) = (host.name.as_str(), self.act.time);
        let staged = |of_host: bool| {
            let all = used.iter();
            all.filter(move |used| used.staged && used.of_host == of_host)
        };
        let mut changes = Vec::new();
        let mut promoted = Vec::new();
        let documents: BTreeSet<_> = staged(false).map(|used| &used.document).collect();
        for document in documents {
            let known = document.parse().ok();
            let known = known.and_then(|known| self.state.policy_document(&known));
            let of_document = staged(false).filter(|used| used.document == *document);
            let text =
                known.and_then(|known| promoted_text(known, of_document, name, now, &mut promoted));
            if let (Some(known), Some(text)) = (known, text) {
                check_length(&text)?;
                changes.push(Change::Put(Record::PolicyDocument(PolicyDocument {
                    text: text.into(),
                    changed: Some(now),
                    ..known.clone()
                })));
            }
        }
        if let Some(known) = self.state.host_measurements(id)
            && let Some(text) = promoted_measurements(known, staged(true), name, now, &mut promoted)
        {
            check_length(&text)?;
            changes.push(Change::Put(Record::HostMeasurements(
                HostMeasurementsRecord {
                    text: text.into(),
                    changed: now,
                    ..known.clone()
                },
            )));
        }
        Ok(Plan {
            before: None,
            after: Some(json!({"promoted": promoted})),
            changes,
        })
    }

    pub(super) fn remove_policy_document(&self, name: &ShortName) -> Result<Plan, Refusal> {
        let known = self.document(name)?;
        let about = json!({"name": name, "kind": known.kind, "document": noted(&known.text, None)});
        let groups = self.state.host_groups();
        let settings = groups
            .filter(|group| group.documents.contains_key(name))
            .map(|group| {
                let mut group = group.clone();
                group.documents.remove(name);
                Change::Put(Record::HostGroup(group))
            });
        Ok(Plan {
            before: Some(about),
            after: None,
            changes: settings
                .chain([Change::Remove(RecordKey::PolicyDocument(*name))])
                .collect(),
        })
    }

    pub(super) fn set_policy(
        &self,
        group: Option<ShortName>,
        policy: &PolicySelector,
        enabled: Option<bool>,
    ) -> Result<Plan, Refusal> {
        let before = self.group(group)?;
        let mut after = before.clone();
        match (policy, enabled) {
            (PolicySelector::Policy(policy), Some(enabled)) => {
                PolicySelection::default().set(*policy, enabled)?;
                after.policies.insert(policy.name().to_owned(), enabled);
            }
            (PolicySelector::Policy(policy), None) => drop(after.policies.remove(policy.name())),
            (PolicySelector::Document(name), enabled) => {
                self.document(name)?;
                match enabled {
                    Some(enabled) => after.documents.insert(*name, enabled),
                    None => after.documents.remove(name),
                };
            }
        }
        Ok(Plan {
            before: Some(shown(&before)),
            after: Some(shown(&after)),
            changes: vec![Change::Put(Record::HostGroup(after))],
        })
    }

    /// Refuses changes that would leave a group with nothing that could match, or with documents that are wrong. A group that has nothing
    /// yet may stay so: what belongs to it comes one by one. Only what the changes can break is looked at.
    pub(super) fn check_policies(&self, changes: &[Change]) -> Result<(), Refusal> {
        let mut after = self.state.clone();
        for change in changes {
            match change {
                Change::Put(record) => after.put(record.clone(), self.generation, [0; 32]),
                Change::Remove(key) => after.remove(key),
            }
        }
        self.check_documents(changes)?;
        let changed = self.check_changed_groups(&after, changes)?;
        let default = ShortName::of_default_group();
        let of_changed_group = |host: &&Host| {
            let group = host.group.unwrap_or(default);
            changed.contains_key(&group) && after.host_measurements(&host.id).is_some()
        };
        let hosts = match changed.is_empty() {
            true => Vec::new(),
            false => after.hosts().filter(of_changed_group).collect(),
        };
        let changed_hosts = changes.iter().filter_map(|change| match change {
            Change::Put(Record::HostMeasurements(measurements)) => after.host(&measurements.host),
            Change::Put(Record::Host(host)) => {
                let known = self.state.host(&host.id)?;
                (known.group != host.group).then_some(host)
            }
            _ => None,
        });
        for host in hosts.into_iter().chain(changed_hosts) {
            let Some(measurements) = after.host_measurements(&host.id) else {
                continue;
            };
            let group = host.group.unwrap_or(default);
            let set = match changed.get(&group) {
                Some(set) => set.clone(),
                // Nothing of the group changes, so it is compiled already.
                None => self.state.policy_set(Some(&group)),
            };
            let checked = match set {
                Ok(set) => after.policy_set_of_host_in(host, &set).map(drop),
                // Nothing is there yet that it could fit.
                Err(_) => measurements.check(&host.name),
            };
            checked.map_err(|error| refused(group, error))?;
        }
        Ok(())
    }

    /// Refuses documents that are none of their kind.
    pub(super) fn check_documents(&self, changes: &[Change]) -> Result<(), Refusal> {
        let default = ShortName::of_default_group();
        changes.iter().try_for_each(|change| match change {
            Change::Put(Record::PolicyDocument(document)) => {
                let checked = document.check();
                checked.map_err(|error| refused(default, error))
            }
            Change::Put(Record::HostMeasurements(measurements)) => {
                let Some(host) = self.state.host(&measurements.host) else {
                    return Ok(());
                };
                let checked = measurements.check(&host.name);
                checked.map_err(|error| refused(host.group.unwrap_or(default), error))
            }
            _ => Ok(()),
        })
    }

    /// Compiles the sets of the groups that the changes give other settings, or documents that are written. Groups that are judged alike
    /// have theirs compiled once.
    fn check_changed_groups(
        &self,
        after: &State,
        changes: &[Change],
    ) -> Result<BTreeMap<ShortName, Result<Arc<PolicySet>, PolicyError>>, Refusal> {
        let keys: BTreeSet<_> = changes.iter().map(Change::key).collect();
        let is_written = |name: &ShortName| keys.contains(&RecordKey::PolicyDocument(*name));
        let default = ShortName::of_default_group();
        // What is set for the default group is set for all that say nothing else.
        let default_is_written = keys.contains(&RecordKey::HostGroup(default));
        let is_document = |key: &RecordKey| matches!(key, RecordKey::PolicyDocument(_));
        let document_is_written = keys.iter().any(is_document);
        let mut compiled = BTreeMap::new();
        let mut changed = BTreeMap::new();
        let named = after.host_groups().map(|group| group.name);
        let names: BTreeSet<_> = named.chain([default]).collect();
        let may_have_changed = |group: &ShortName| {
            default_is_written
                || document_is_written
                || keys.contains(&RecordKey::HostGroup(*group))
        };
        for group in names.into_iter().filter(may_have_changed) {
            let effective = after.effective_policies(Some(&group));
            let effective = effective.map_err(|error| refused(group, error))?;
            let is_same = self.state.effective_policies(Some(&group)).as_ref() == Ok(&effective);
            if is_same && !effective.documents.iter().any(is_written) {
                continue;
            }
            let set = compiled
                .entry(effective)
                .or_insert_with_key(|effective| after.compiled(effective).map(Arc::new));
            if let Err(error) = set
                && !(error.is_incomplete() && self.state.policy_set(Some(&group)).is_err())
            {
                return Err(refused(group, error.clone()));
            }
            changed.insert(group, set.clone());
        }
        Ok(changed)
    }

    fn document(&self, name: &ShortName) -> Result<&PolicyDocument, Refusal> {
        let found = self.state.policy_document(name);
        found.ok_or(Refusal::NoSuchDocument(*name))
    }
}

/// A document with what was staged of it promoted; `None` if nothing was.
fn promoted_text<'u>(
    document: &PolicyDocument,
    used: impl Iterator<Item = &'u UsedAlternative>,
    host: &str,
    now: Time,
    promoted: &mut Vec<Value>,
) -> Option<String> {
    let octets = document.text.as_bytes();
    let before = promoted.len();
    let mut note = |used: &UsedAlternative, is_promoted: bool| {
        promoted.extend(is_promoted.then(|| shown_alternative(used)));
    };
    let text = match document.kind {
        DocumentKind::Baseline => {
            let mut baseline = Baseline::from_json(octets).ok()?;
            for used in used {
                let (component, alternative) = (&used.component, &used.alternative);
                note(used, baseline.promote(component, alternative, host, now));
            }
            baseline.to_json()
        }
        DocumentKind::CiPolicy => {
            let mut policy = CiPolicy::from_json(octets).ok()?;
            for used in used {
                note(used, policy.promote(&used.alternative, host, now));
            }
            policy.to_json()
        }
        DocumentKind::DumpKey => return None,
    };
    (promoted.len() > before).then_some(text)
}

/// The same of what only one host measures.
fn promoted_measurements<'u>(
    known: &HostMeasurementsRecord,
    used: impl Iterator<Item = &'u UsedAlternative>,
    host: &str,
    now: Time,
    promoted: &mut Vec<Value>,
) -> Option<String> {
    let before = promoted.len();
    let mut measurements = HostMeasurements::from_json(known.text.as_bytes()).ok()?;
    for used in used {
        let component = measurements
            .components
            .iter_mut()
            .find(|component| component.name == used.component);
        let alternatives = component.into_iter().flat_map(|one| &mut one.alternatives);
        for alternative in alternatives.filter(|one| one.name == used.alternative) {
            if alternative.state.is_staged() {
                alternative.state = policy::State::Promoted {
                    at: Some(now),
                    by: Some(host.to_owned()),
                };
                promoted.push(shown_alternative(used));
            }
        }
    }
    (promoted.len() > before).then(|| measurements.to_json())
}

fn shown_alternative(used: &UsedAlternative) -> Value {
    json!({
        "document": used.document,
        "component": used.component,
        "alternative": used.alternative,
    })
}

/// What a host claimed of a component, as far as an audit record has room for it.
fn shown_claim((component, alternative): &(String, Alternative)) -> Value {
    let mut room = MAX_SHOWN_CLAIM;
    let (mut events, mut further) = (Vec::new(), 0);
    for slot in &alternative.events {
        for event in &slot.events {
            let shown = json!({"slot": slot.slot, "event": event});
            let octets = shown.to_string().len();
            match room.checked_sub(octets) {
                Some(left) if further == 0 => {
                    room = left;
                    events.push(shown);
                }
                _ => further += 1,
            }
        }
    }
    json!({
        "component": component,
        "alternative": alternative.name,
        "state": alternative.state,
        "events": events,
        "further_events": further,
    })
}

fn refused(group: ShortName, error: PolicyError) -> Refusal {
    let error = Box::new(error);
    Refusal::Policies { group, error }
}

fn check_length(text: &str) -> Result<(), Refusal> {
    match text.len() {
        length if length > MAX_DOCUMENT_OCTETS => Err(Refusal::DocumentTooLong(length)),
        _ => Ok(()),
    }
}

/// A document as an audit record shows it: what it was can be proved by its digest.
fn noted(text: &str, note: Option<&Value>) -> Value {
    let digest = Digest::from_bytes(sha256(text.as_bytes()));
    let mut shown = json!({"sha256": digest, "octets": text.len()});
    if let Some(note) = note {
        shown["note"] = note.clone();
    }
    shown
}
