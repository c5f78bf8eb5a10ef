//! Tenants with keys of their own.

use hgs_admin::OPERATIONS;

use super::{Asked, Route, Serves};
use crate::acts::tenants as acts;
use crate::views::tenants;

pub(crate) static TENANTS: Route = Route {
    name: "tenants",
    path: "/tenants",
    menu: Some("Tenants and guardians"),
    operations: &[&OPERATIONS.certificates, &OPERATIONS.certificate_usage],
    serves: Serves::Screen(|asked: &Asked<'_>| {
        let wanted: tenants::Wanted = asked.query()?;
        let known = asked.known()?;
        Ok(match &wanted.tenant {
            Some(tenant) => tenants::one(&known, tenant, &wanted, asked.viewer, asked.now),
            None => tenants::list(&known, &wanted, asked.viewer, asked.now),
        })
    }),
};

pub(crate) static ADD_TENANT: Route = Route {
    name: "add-tenant",
    path: "/add-tenant",
    menu: None,
    operations: &[
        &OPERATIONS.add_certificate,
        &OPERATIONS.new_certificate,
        &OPERATIONS.certificates,
        &OPERATIONS.certificate_usage,
    ],
    serves: Serves::Act(acts::ADD),
};
