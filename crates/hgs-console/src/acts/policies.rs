//! What changes what hosts may boot and use. Each page says first what that would do to the hosts, by their last evidence.

use std::collections::{BTreeMap, BTreeSet};

use hgs_admin::types::{
    AddPolicyDocument, ChangePolicyDocument, DocumentKind, Host, HostQuery, PageQuery, Policy,
    PolicyDocumentDetail, PolicyQuery, SetPolicy, Trial,
};
use hgs_admin::{AdminError, Administration as _, ErrorCode};
use hgs_attest::policy::{Baseline, CiPolicy};
use hgs_pki::Time;

use super::{Act, Done, Entered};
use crate::effect::Effect;
use crate::routes::Asked;
use crate::routes::policies::{DOCUMENT, POLICIES};
use crate::views::document::{self, Which};
use crate::views::policies::{self, OfGroup};
use crate::{Notice, Page, Path};

/// The group that hosts are in which are in no other.
const DEFAULT_GROUP: &str = "default";

/// What becomes of the setting of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Enable,
    Disable,
    /// The group follows the default group again.
    Reset,
}

pub(crate) const ENABLE: Act = Act {
    page: |asked, _, error| setting(asked, Change::Enable, error),
    perform: |asked, _| set(asked, Change::Enable),
};

pub(crate) const DISABLE: Act = Act {
    page: |asked, _, error| setting(asked, Change::Disable, error),
    perform: |asked, _| set(asked, Change::Disable),
};

pub(crate) const RESET: Act = Act {
    page: |asked, _, error| setting(asked, Change::Reset, error),
    perform: |asked, _| set(asked, Change::Reset),
};

fn setting(
    asked: &Asked<'_>,
    change: Change,
    error: Option<&AdminError>,
) -> Result<Page, AdminError> {
    let of_group: OfGroup = asked.query()?;
    let policy = policy_of(asked, of_group.group.clone())?;
    let name = policy.name.clone();
    let becomes_enabled = match change {
        Change::Enable => true,
        Change::Disable => false,
        Change::Reset => policy_of(asked, None)?.enabled,
    };
    let trial = match becomes_enabled {
        true => Trial {
            enable: vec![name],
            ..Trial::default()
        },
        false => Trial {
            disable: vec![name],
            ..Trial::default()
        },
    };
    let effect = tried(asked, &trial, &groups_that_follow(asked, of_group.name())?)?;
    Ok(policies::set(&policy, change, &of_group, &effect, error))
}

fn set(asked: &Asked<'_>, change: Change) -> Done {
    let of_group: OfGroup = asked.query()?;
    let group = SetPolicy {
        group: of_group.group.clone(),
    };
    let policy = &asked.name()?;
    let notice = match change {
        Change::Enable => asked
            .administration
            .enable_policy(policy, &group)
            .map(|_| Notice::PolicyEnabled),
        Change::Disable => asked
            .administration
            .disable_policy(policy, &group)
            .map(|_| Notice::PolicyDisabled),
        Change::Reset => asked
            .administration
            .reset_policy(policy, &group)
            .map(|_| Notice::PolicyReset),
    };
    Ok((POLICIES.fixed_path().with_query(&of_group), notice?))
}

/// How the policy that the path names is set for a group.
fn policy_of(asked: &Asked<'_>, group: Option<String>) -> Result<Policy, AdminError> {
    let found = asked.administration.policies(&PolicyQuery { group })?;
    let mut found = found.into_iter();
    let policy = found.find(|policy| policy.name == asked.segment);
    policy.ok_or_else(|| {
        AdminError::new(
            ErrorCode::NotFound,
            "there is no such policy and no such document",
        )
    })
}

/// The groups for which a setting of `group` counts: it, and for the default group those that follow it in this policy.
fn groups_that_follow(asked: &Asked<'_>, group: &str) -> Result<BTreeSet<String>, AdminError> {
    let mut groups = BTreeSet::from([group.to_owned()]);
    if group == DEFAULT_GROUP {
        for other in asked.administration.host_groups()? {
            let policy = policy_of(asked, Some(other.name.clone()))?;
            if policy.set_for.as_ref() != Some(&other.name) {
                groups.insert(other.name);
            }
        }
    }
    Ok(groups)
}

/// What a change would do to the hosts of some groups.
fn tried(
    asked: &Asked<'_>,
    trial: &Trial,
    groups: &BTreeSet<String>,
) -> Result<Effect, AdminError> {
    let hosts = asked.administration.hosts(&HostQuery::default())?;
    let is_in = |host: &&Host| groups.contains(host.group.as_deref().unwrap_or(DEFAULT_GROUP));
    let names = hosts
        .iter()
        .filter(is_in)
        .map(|host| host.name.as_str())
        .collect();
    let before = asked
        .administration
        .simulate_for_hosts(&PageQuery::default(), &Trial::default())?;
    let after = asked
        .administration
        .simulate_for_hosts(&PageQuery::default(), trial)?;
    Ok(Effect::of(&before, &after, &names))
}

/// The trial of a document in the place of the one with its name. `None` for what may write crash dumps, which can't be tried.
fn trial_of(kind: DocumentKind, name: &str, text: &str) -> Option<Trial> {
    let named = BTreeMap::from([(name.to_owned(), text.to_owned())]);
    match kind {
        DocumentKind::Baseline => Some(Trial {
            baselines: named,
            ..Trial::default()
        }),
        DocumentKind::CiPolicy => Some(Trial {
            ci_policies: named,
            ..Trial::default()
        }),
        DocumentKind::DumpKey => None,
    }
}

pub(crate) const ADD_DOCUMENT: Act = Act {
    page: |asked, entered, error| {
        let effect = effect_of_new(asked, entered).ok().flatten();
        Ok(document::add(entered, effect.as_ref(), error))
    },
    perform: |asked, entered| {
        entered.check_confirmed(|| effect_of_new(asked, entered))?;
        let document = AddPolicyDocument {
            name: entered.field("name").to_owned(),
            kind: entered.kind()?,
            text: entered.field("text").to_owned(),
            group: entered.optional("group"),
        };
        let added = asked.administration.add_policy_document(&document)?;
        let path = Path::or_start(DOCUMENT.path_of(&added.name));
        Ok((path, Notice::DocumentAdded))
    },
};

/// What the document that was entered would do; `None` if it can't be tried.
fn effect_of_new(asked: &Asked<'_>, entered: &Entered) -> Result<Option<Effect>, AdminError> {
    let trial = trial_of(
        entered.kind()?,
        entered.field("name"),
        entered.field("text"),
    );
    let groups = groups_of_new(asked, entered.optional("group").as_deref())?;
    trial.map(|trial| tried(asked, &trial, &groups)).transpose()
}

/// The groups that a new document is for.
fn groups_of_new(asked: &Asked<'_>, group: Option<&str>) -> Result<BTreeSet<String>, AdminError> {
    match group {
        None | Some(DEFAULT_GROUP) => {
            let groups = asked.administration.host_groups()?;
            Ok(groups.into_iter().map(|group| group.name).collect())
        }
        Some(group) => Ok(BTreeSet::from([group.to_owned()])),
    }
}

pub(crate) const CHANGE_DOCUMENT: Act = Act {
    page: |asked, entered, error| {
        let detail = asked.administration.policy_document(&asked.name()?)?;
        let text = entered.optional("text");
        let effect = text.and_then(|text| effect_on(asked, &detail, &text).ok().flatten());
        Ok(document::change(&detail, entered, effect.as_ref(), error))
    },
    perform: |asked, entered| {
        let detail = asked.administration.policy_document(&asked.name()?)?;
        let text = entered.field("text");
        entered.check_confirmed(|| effect_on(asked, &detail, text))?;
        replace(asked, entered, text.to_owned(), Notice::DocumentChanged)
    },
};

pub(crate) const RETIRE: Act = Act {
    page: |asked, _, error| {
        let detail = asked.administration.policy_document(&asked.name()?)?;
        let which: Which = asked.query()?;
        let effect = effect_on(asked, &detail, &without(&detail, &which, asked.now)?)?;
        Ok(document::retire(&detail, &which, effect.as_ref(), error))
    },
    perform: |asked, entered| {
        let detail = asked.administration.policy_document(&asked.name()?)?;
        let text = without(&detail, &asked.query()?, asked.now)?;
        replace(asked, entered, text, Notice::AlternativeRetired)
    },
};

pub(crate) const REMOVE_DOCUMENT: Act = Act {
    page: |asked, _, error| {
        let detail = asked.administration.policy_document(&asked.name()?)?;
        let trial = Trial {
            disable: vec![detail.document.name.clone()],
            ..Trial::default()
        };
        let effect = tried(
            asked,
            &trial,
            &detail.document.enabled.iter().cloned().collect(),
        )?;
        Ok(document::remove(&detail, &effect, error))
    },
    perform: |asked, _| {
        asked
            .administration
            .remove_policy_document(&asked.name()?)?;
        Ok((POLICIES.fixed_path(), Notice::DocumentRemoved))
    },
};

/// What another text of a document would do; `None` if it can't be tried.
fn effect_on(
    asked: &Asked<'_>,
    detail: &PolicyDocumentDetail,
    text: &str,
) -> Result<Option<Effect>, AdminError> {
    let document = &detail.document;
    let groups = document.enabled.iter().cloned().collect();
    let trial = trial_of(document.kind, &document.name, text);
    trial.map(|trial| tried(asked, &trial, &groups)).transpose()
}

/// Puts `text` in the place of the document, if it still is the one that the page has shown.
fn replace(asked: &Asked<'_>, entered: &Entered, text: String, notice: Notice) -> Done {
    let change = ChangePolicyDocument {
        text,
        expected: entered.optional("digest"),
    };
    let document = asked
        .administration
        .change_policy_document(&asked.name()?, &change)?;
    Ok((Path::or_start(DOCUMENT.path_of(&document.name)), notice))
}

/// The document with an alternative, or a set of files, accepted no longer.
fn without(detail: &PolicyDocumentDetail, which: &Which, now: Time) -> Result<String, AdminError> {
    let text = detail.text.as_bytes();
    let retired = match detail.document.kind {
        DocumentKind::Baseline => {
            let mut baseline = Baseline::from_json(text).map_err(AdminError::invalid)?;
            let is_retired = baseline.retire(&which.component, &which.alternative, now);
            is_retired.then(|| baseline.to_json())
        }
        DocumentKind::CiPolicy => {
            let mut policy = CiPolicy::from_json(text).map_err(AdminError::invalid)?;
            let is_retired = policy.retire(&which.alternative, now);
            is_retired.then(|| policy.to_json())
        }
        DocumentKind::DumpKey => None,
    };
    retired.ok_or_else(|| {
        AdminError::new(
            ErrorCode::NotFound,
            "there is no such alternative that is accepted",
        )
    })
}

impl Entered {
    fn kind(&self) -> Result<DocumentKind, AdminError> {
        self.field("kind")
            .parse()
            .map_err(|_| AdminError::invalid("choose what kind of document it is"))
    }

    /// A form with a document is sent twice: first its effect is shown, then it is done. What has no effect that can be tried is
    /// done at once.
    fn check_confirmed(
        &self,
        effect: impl FnOnce() -> Result<Option<Effect>, AdminError>,
    ) -> Result<(), AdminError> {
        if self.field("confirmed") == "yes" || effect()?.is_none() {
            return Ok(());
        }
        let error = AdminError::new(ErrorCode::Conflict, "look at what it would do to the hosts");
        Err(error.with_remedy("if that is meant, say so below and send the form again"))
    }
}
