//! Screens and acts about what hosts may boot and use.

use hgs_admin::types::{Host, HostQuery, PageQuery, PolicyQuery, Trial};
use hgs_admin::{AdminError, Administration as _, ErrorCode, OPERATIONS, Operation};

use super::{Asked, Route, Serves};
use crate::acts::{as_it_booted, policies as acts};
use crate::views::{document, policies, waiting};

pub(crate) static WAITING: Route = Route {
    name: "waiting",
    path: "/waiting",
    menu: Some("Waiting for a decision"),
    operations: &[
        &OPERATIONS.hosts,
        &OPERATIONS.host_evidence,
        &OPERATIONS.simulate_policies,
    ],
    serves: Serves::Screen(|asked| {
        let alike = waiting::alike(asked.administration.hosts(&HostQuery::default())?);
        let beside = alike.len().saturating_sub(waiting::MAX_GROUPS);
        let groups = alike.into_iter().take(waiting::MAX_GROUPS);
        let groups = groups.map(|hosts| judged(asked, hosts));
        let groups: Vec<_> = groups
            .filter_map(Result::transpose)
            .collect::<Result<_, _>>()?;
        Ok(waiting::page(&groups, beside, asked.viewer, asked.now))
    }),
};

/// How the last boot of the first of these hosts is judged by what is approved now. `None` if its evidence is gone.
fn judged(asked: &Asked<'_>, hosts: Vec<Host>) -> Result<Option<waiting::Group>, AdminError> {
    let Some(first) = hosts.first() else {
        return Ok(None);
    };
    let evidence = match asked.administration.host_evidence(&first.name.parse()?) {
        Err(error) if error.code == ErrorCode::NotFound => return Ok(None),
        found => found?,
    };
    let judged = asked
        .administration
        .simulate_policies(&as_it_booted(&evidence))?;
    Ok(Some(waiting::Group { hosts, judged }))
}

pub(crate) static POLICIES: Route = Route {
    name: "policies",
    path: "/policies",
    menu: Some("Baselines and policies"),
    operations: &[
        &OPERATIONS.policies,
        &OPERATIONS.policy_documents,
        &OPERATIONS.host_groups,
    ],
    serves: Serves::Screen(|asked| {
        let of_group: policies::OfGroup = asked.query()?;
        let query = PolicyQuery {
            group: of_group.group.clone(),
        };
        let found = asked.administration.policies(&query)?;
        let groups = asked.administration.host_groups()?;
        Ok(policies::page(&of_group, &groups, &found, asked.viewer))
    }),
};

/// What an act asks that sets a policy: beside the change how it is set, and which hosts that concerns.
const fn setting(change: &'static Operation) -> [&'static Operation; 5] {
    [
        change,
        &OPERATIONS.policies,
        &OPERATIONS.host_groups,
        &OPERATIONS.hosts,
        &OPERATIONS.simulate_for_hosts,
    ]
}

/// What an act asks that changes a document: beside the change what it is now, and which hosts that concerns.
const fn changing(change: &'static Operation) -> [&'static Operation; 4] {
    [
        change,
        &OPERATIONS.policy_document,
        &OPERATIONS.hosts,
        &OPERATIONS.simulate_for_hosts,
    ]
}

pub(crate) static ENABLE_POLICY: Route = Route {
    name: "enable-policy",
    path: "/policies/{policy}/enable",
    menu: None,
    operations: &setting(&OPERATIONS.enable_policy),
    serves: Serves::Act(acts::ENABLE),
};

pub(crate) static DISABLE_POLICY: Route = Route {
    name: "disable-policy",
    path: "/policies/{policy}/disable",
    menu: None,
    operations: &setting(&OPERATIONS.disable_policy),
    serves: Serves::Act(acts::DISABLE),
};

pub(crate) static RESET_POLICY: Route = Route {
    name: "reset-policy",
    path: "/policies/{policy}/reset",
    menu: None,
    operations: &setting(&OPERATIONS.reset_policy),
    serves: Serves::Act(acts::RESET),
};

pub(crate) static DOCUMENT: Route = Route {
    name: "policy-document",
    path: "/policy-documents/{document}",
    menu: None,
    operations: &[&OPERATIONS.policy_document, &OPERATIONS.simulate_for_hosts],
    serves: Serves::Screen(|asked| {
        let detail = asked.administration.policy_document(&asked.name()?)?;
        let judged = asked
            .administration
            .simulate_for_hosts(&PageQuery::default(), &Trial::default())?;
        Ok(document::page(&detail, &judged, asked.viewer, asked.now))
    }),
};

pub(crate) static ADD_DOCUMENT: Route = Route {
    name: "add-policy-document",
    path: "/add-policy-document",
    menu: None,
    operations: &[
        &OPERATIONS.add_policy_document,
        &OPERATIONS.host_groups,
        &OPERATIONS.hosts,
        &OPERATIONS.simulate_for_hosts,
    ],
    serves: Serves::Act(acts::ADD_DOCUMENT),
};

pub(crate) static CHANGE_DOCUMENT: Route = Route {
    name: "change-policy-document",
    path: "/policy-documents/{document}/set",
    menu: None,
    operations: &changing(&OPERATIONS.change_policy_document),
    serves: Serves::Act(acts::CHANGE_DOCUMENT),
};

pub(crate) static RETIRE_ALTERNATIVE: Route = Route {
    name: "retire-alternative",
    path: "/policy-documents/{document}/retire",
    menu: None,
    operations: &changing(&OPERATIONS.change_policy_document),
    serves: Serves::Act(acts::RETIRE),
};

pub(crate) static REMOVE_DOCUMENT: Route = Route {
    name: "remove-policy-document",
    path: "/policy-documents/{document}/remove",
    menu: None,
    operations: &changing(&OPERATIONS.remove_policy_document),
    serves: Serves::Act(acts::REMOVE_DOCUMENT),
};
