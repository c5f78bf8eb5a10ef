//! What hosts with TPMs are judged by.

use hgs_admin::types::{
    AddPolicyDocument, ChangePolicyDocument, EventPreimage, HostEvidence, HostGroup,
    HostMeasurements, PcrValue, Policy, PolicyDocument, PolicyDocumentDetail, UnexplainedEvent,
};
use hgs_admin::{AdminError, ErrorCode, HostSelector, NameSelector};
use hgs_attest::policy::{DecidedBy, PolicyName, PolicySelection};
use hgs_crypto::hash::sha256;
use hgs_crypto::{base64, hex};
use hgs_store::{
    DEFAULT_GROUP, DocumentKind, HostGroup as StoredGroup, PolicyDocument as StoredDocument,
    PolicySelector, ShortName, State, Transaction,
};

use super::{AdminHandler, find_host, not_found, unavailable, views};

impl AdminHandler<'_> {
    /// The default group first, the others by name.
    pub(super) fn groups_now(&self) -> Vec<HostGroup> {
        let state = self.parts.store.state();
        let default = ShortName::of_default_group();
        let others = state.host_groups().map(|group| group.name);
        let others = others.filter(|name| *name != default);
        [default]
            .into_iter()
            .chain(others)
            .map(|name| shown_group(&state, name))
            .collect()
    }

    pub(super) fn shown_group(&self, name: ShortName) -> HostGroup {
        shown_group(&self.parts.store.state(), name)
    }

    pub(super) fn documents_now(&self) -> Vec<PolicyDocument> {
        let state = self.parts.store.state();
        let documents = state.policy_documents();
        documents
            .map(|document| shown_document(&state, document))
            .collect()
    }

    pub(super) fn shown_document(
        &self,
        name: &NameSelector,
    ) -> Result<PolicyDocumentDetail, AdminError> {
        let state = self.parts.store.state();
        let document = find_document(&state, name)?;
        Ok(PolicyDocumentDetail {
            document: shown_document(&state, document),
            text: document.text.to_string(),
        })
    }

    pub(super) fn add_document(
        &self,
        document: &AddPolicyDocument,
    ) -> Result<PolicyDocument, AdminError> {
        let name: ShortName = document.name.parse().map_err(AdminError::invalid)?;
        self.transact(Transaction::AddPolicyDocument {
            name,
            kind: document
                .kind
                .to_string()
                .parse()
                .map_err(AdminError::invalid)?,
            text: document.text.as_str().into(),
            group: group(document.group.as_deref())?,
        })?;
        let state = self.parts.store.state();
        let added = state.policy_document(&name);
        added
            .map(|document| shown_document(&state, document))
            .ok_or_else(|| not_found("the document was removed meanwhile", "hgs policy list"))
    }

    pub(super) fn change_document(
        &self,
        name: &NameSelector,
        change: &ChangePolicyDocument,
    ) -> Result<PolicyDocument, AdminError> {
        let document = find_document(&self.parts.store.state(), name)?.name;
        let expected = change.expected.as_deref().map(str::parse).transpose();
        self.transact(Transaction::ChangePolicyDocument {
            name: document,
            expected: expected.map_err(AdminError::invalid)?,
            text: change.text.as_str().into(),
            note: None,
        })?;
        Ok(self.shown_document(name)?.document)
    }

    pub(super) fn forget_document(
        &self,
        name: &NameSelector,
    ) -> Result<PolicyDocument, AdminError> {
        let was = self.shown_document(name)?.document;
        let name = was.name.parse().map_err(AdminError::invalid)?;
        self.transact(Transaction::RemovePolicyDocument(name))?;
        Ok(was)
    }

    /// The policies and documents as they are set for a group.
    pub(super) fn policies_of(&self, name: Option<&str>) -> Result<Vec<Policy>, AdminError> {
        let state = self.parts.store.state();
        let group = find_group(&state, name)?;
        let policies = PolicyName::ALL.map(|policy| shown_policy(&state, &group, policy));
        let documents = state
            .policy_documents()
            .map(|document| shown_document_policy(&state, &group, document));
        Ok(policies.into_iter().chain(documents).collect())
    }

    /// Enables or disables a policy or a document for a group, or has it as it is by default.
    pub(super) fn set_policy(
        &self,
        policy: &NameSelector,
        name: Option<&str>,
        enabled: Option<bool>,
    ) -> Result<Policy, AdminError> {
        let state = self.parts.store.state();
        let group = find_group(&state, name)?;
        let selector = match PolicyName::from_name(policy.as_str()) {
            Some(policy) => PolicySelector::Policy(policy),
            None => PolicySelector::Document(find_document(&state, policy)?.name),
        };
        self.transact(Transaction::SetPolicy {
            group: Some(group),
            policy: selector.clone(),
            enabled,
        })?;
        let state = self.parts.store.state();
        match selector {
            PolicySelector::Policy(policy) => Ok(shown_policy(&state, &group, policy)),
            PolicySelector::Document(_) => {
                let document = find_document(&state, policy)?;
                Ok(shown_document_policy(&state, &group, document))
            }
        }
    }

    pub(super) fn measurements_of(
        &self,
        host: &HostSelector,
    ) -> Result<HostMeasurements, AdminError> {
        let state = self.parts.store.state();
        let host = find_host(&state, host)?;
        let measurements = state.host_measurements(&host.id);
        Ok(HostMeasurements {
            host: host.name.to_string(),
            text: measurements.map(|measurements| measurements.text.to_string()),
            digest: measurements.map(|measurements| measurements.digest().to_string()),
            changed: measurements.map(|measurements| measurements.changed.to_string()),
        })
    }

    pub(super) fn evidence_of(&self, host: &HostSelector) -> Result<HostEvidence, AdminError> {
        let state = self.parts.store.state();
        let host = find_host(&state, host)?;
        let none = || {
            let message = format!("{} has sent no evidence that was kept", host.name);
            AdminError::new(ErrorCode::NotFound, message)
                .with_remedy("hosts with TPMs send it whenever they attest: `guarded-host attest`")
        };
        let attempt = host.last_attempt.as_deref().ok_or_else(none)?;
        let kept = self.parts.store.evidence(&host.id).map_err(unavailable)?;
        let kept = kept.ok_or_else(none)?;
        let evidence = kept.evidence;
        let values = evidence.values.iter().map(|(pcr, value)| PcrValue {
            pcr,
            value: hex::encode(value.as_bytes()),
        });
        let preimages = evidence.preimages.iter().map(|preimage| EventPreimage {
            pcr: preimage.pcr,
            event: preimage.event,
            octets: base64::encode(&preimage.octets),
        });
        let unexplained = evidence.unexplained.iter().map(|event| UnexplainedEvent {
            pcr: event.pcr,
            event: event.event,
            digest: event.digest.to_string(),
        });
        Ok(HostEvidence {
            host: host.name.to_string(),
            attempt: views::last_attempt(attempt),
            pcr_values: values.collect(),
            event_log: base64::encode(&evidence.log),
            ima_log: base64::encode(&evidence.ima),
            ima_log_left_out: kept.ima_left_out,
            preimages: preimages.collect(),
            unexplained: unexplained.collect(),
        })
    }
}

/// The group that is named, for a transaction; it says whether there is one.
pub(super) fn group(name: Option<&str>) -> Result<Option<ShortName>, AdminError> {
    let name = name.map(str::parse).transpose();
    name.map_err(AdminError::invalid)
}

fn find_group(state: &State, name: Option<&str>) -> Result<ShortName, AdminError> {
    let name = group(name)?.unwrap_or_else(ShortName::of_default_group);
    match state.host_group(&name) {
        None if name.as_str() != DEFAULT_GROUP => Err(not_found(
            format_args!("there is no host group {name}"),
            "hgs host-group list",
        )),
        _ => Ok(name),
    }
}

fn find_document<'s>(
    state: &'s State,
    name: &NameSelector,
) -> Result<&'s StoredDocument, AdminError> {
    let found = name.as_str().parse().ok();
    let found = found.and_then(|name: ShortName| state.policy_document(&name));
    found.ok_or_else(|| {
        not_found(
            format_args!("there is no policy or document {name}"),
            "hgs policy list",
        )
    })
}

fn shown_group(state: &State, name: ShortName) -> HostGroup {
    let is_default = name == ShortName::of_default_group();
    let hosts = state.hosts().filter(|host| match host.group {
        Some(group) => group == name,
        None => is_default,
    });
    let group = state.host_group(&name);
    let settings = group.map(|group| group.policies.len() + group.documents.len());
    HostGroup {
        name: name.to_string(),
        hosts: hosts.count(),
        settings: settings.unwrap_or_default(),
        problem: state
            .policy_set(Some(&name))
            .err()
            .map(|error| error.to_string()),
        added: group
            .filter(|_| !is_default)
            .map(|group| group.added.to_string()),
    }
}

fn shown_document(state: &State, document: &StoredDocument) -> PolicyDocument {
    let default = ShortName::of_default_group();
    let others = state.host_groups().map(|group| group.name);
    let groups = [default]
        .into_iter()
        .chain(others.filter(|name| *name != default));
    let enabled = groups.filter(|group| {
        let effective = state.effective_policies(Some(group));
        effective.is_ok_and(|effective| effective.documents.contains(&document.name))
    });
    PolicyDocument {
        name: document.name.to_string(),
        kind: match document.kind {
            DocumentKind::Baseline => hgs_admin::types::DocumentKind::Baseline,
            DocumentKind::CiPolicy => hgs_admin::types::DocumentKind::CiPolicy,
            DocumentKind::DumpKey => hgs_admin::types::DocumentKind::DumpKey,
        },
        enabled: enabled.map(|group| group.to_string()).collect(),
        octets: document.text.len(),
        digest: hex::encode(&sha256(document.text.as_bytes())),
        added: document.added.to_string(),
        changed: document.changed.map(|time| time.to_string()),
    }
}

/// The group for which something is set: `group` itself, or the default group.
fn set_for(
    state: &State,
    group: &ShortName,
    is_set: impl Fn(&StoredGroup) -> bool,
) -> Option<String> {
    let mut groups = [*group, ShortName::of_default_group()].into_iter();
    let found = groups.find(|name| state.host_group(name).is_some_and(&is_set));
    found.map(|name| name.to_string())
}

fn shown_policy(state: &State, group: &ShortName, policy: PolicyName) -> Policy {
    let effective = state.effective_policies(Some(group)).ok();
    let mut selection = PolicySelection::default();
    for (policy, enabled) in effective.iter().flat_map(|effective| &effective.policies) {
        // What can't be set is not in the state.
        let _ = selection.set(*policy, *enabled);
    }
    let kind = match policy {
        PolicyName::CiPolicy => Some(DocumentKind::CiPolicy),
        PolicyName::DumpEncryptionKey => Some(DocumentKind::DumpKey),
        _ => None,
    };
    let enabled = effective.iter().flat_map(|effective| &effective.documents);
    let has_documents = enabled
        .filter_map(|name| state.policy_document(name))
        .any(|document| Some(document.kind) == kind);
    Policy {
        name: policy.name().to_owned(),
        kind: "policy".to_owned(),
        guid: Some(policy.guid().to_string()),
        enabled: selection.is_enabled(policy, has_documents),
        locked: policy.is_locked(),
        undecided: policy.decided_by() == DecidedBy::Nothing,
        set_for: set_for(state, group, |group| {
            group.policies.contains_key(policy.name())
        }),
    }
}

fn shown_document_policy(state: &State, group: &ShortName, document: &StoredDocument) -> Policy {
    let effective = state.effective_policies(Some(group));
    Policy {
        name: document.name.to_string(),
        kind: document.kind.to_string(),
        guid: None,
        enabled: effective.is_ok_and(|effective| effective.documents.contains(&document.name)),
        locked: false,
        undecided: false,
        set_for: set_for(state, group, |group| {
            group.documents.contains_key(&document.name)
        }),
    }
}
