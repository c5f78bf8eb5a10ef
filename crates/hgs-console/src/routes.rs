//! The table of screens and acts.
//!
//! A screen is a line here and a function in [`views`](crate::views); an act is a line here and two functions in
//! [`acts`]. Each names the operations that it can't do without: who is not permitted them all sees no link to it, and is
//! refused there.

pub(crate) mod certificates;
pub(crate) mod log;
pub(crate) mod machines;
pub(crate) mod overview;
pub(crate) mod policies;
pub(crate) mod tenants;

use hgs_admin::types::HostQuery;
use hgs_admin::{
    AdminError, Administration, ErrorCode, HostSelector, NameSelector, OPERATIONS, Operation,
    Permitted,
};
use hgs_pki::Time;
use hyper::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::acts::{self, Act, Entered};
use crate::assets::{self, Asset};
use crate::views::{After, hosts, sessions, settings};
use crate::{Notice, Page, Path, Viewer};

/// A screen or an act.
#[derive(Debug)]
pub struct Route {
    /// Its name in logs and metrics.
    pub name: &'static str,
    /// Its path. One segment may stand for one thing among many; it is written in braces.
    pub path: &'static str,
    /// Its name in the list of screens, if it is there.
    pub(crate) menu: Option<&'static str>,
    /// What it asks of the guardian.
    pub operations: &'static [&'static Operation],
    /// What it shows or does.
    pub serves: Serves,
}

/// What a route shows or does.
#[derive(Debug)]
pub enum Serves {
    /// A page.
    Screen(fn(&Asked<'_>) -> Result<Page, AdminError>),
    /// A file that the browser keeps.
    Download(fn(&Asked<'_>) -> Result<Download, AdminError>),
    /// A page that shows what will change, and the form in it that does it.
    Act(Act),
}

/// A request of somebody who is signed in.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Does what the user is permitted.
    pub administration: Permitted<'a>,
    /// The user.
    pub viewer: &'a Viewer,
    /// The segment of the path that stands for one thing; empty where the route has none.
    pub segment: &'a str,
    /// What follows the `?`.
    pub query: &'a str,
    /// The time.
    pub now: Time,
}

/// A file that a browser keeps.
#[derive(Debug)]
pub struct Download {
    /// The name that it gets there.
    pub name: &'static str,
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Its contents.
    pub contents: String,
}

/// What a request leads to.
#[derive(Debug)]
pub enum Shown {
    /// A page.
    Page(Page),
    /// A file.
    Download(Download),
    /// A form again, with what was entered and why it was not done.
    Refused(Page, ErrorCode),
    /// It was done, and the page at this path says so.
    Done(Path, Notice),
}

impl Asked<'_> {
    pub(crate) fn host(&self) -> Result<HostSelector, AdminError> {
        self.segment.parse()
    }

    pub(crate) fn name(&self) -> Result<NameSelector, AdminError> {
        self.segment.parse()
    }

    pub(crate) fn query<T: DeserializeOwned>(&self) -> Result<T, AdminError> {
        serde_urlencoded::from_str(self.query).map_err(AdminError::invalid)
    }
}

pub(crate) static HOSTS: Route = Route {
    name: "hosts",
    path: "/hosts",
    menu: Some("Hosts"),
    operations: &[&OPERATIONS.hosts, &OPERATIONS.status],
    serves: Serves::Screen(|asked| {
        let wanted: After = asked.query()?;
        let query = HostQuery {
            limit: Some(hosts::PAGE),
            after: wanted.after,
            ..HostQuery::default()
        };
        let found = asked.administration.hosts(&query)?;
        let status = asked.administration.status()?;
        Ok(hosts::list(
            &found,
            &query,
            &status,
            asked.viewer,
            asked.now,
        ))
    }),
};

pub(crate) static HOST: Route = Route {
    name: "host",
    path: "/hosts/{host}",
    menu: None,
    operations: &[&OPERATIONS.host],
    serves: Serves::Screen(|asked| {
        let host = asked.administration.host(&asked.host()?)?;
        Ok(hosts::one(&host, asked.viewer, asked.now))
    }),
};

pub(crate) static ADD_HOST: Route = Route {
    name: "add-host",
    path: "/add-host",
    menu: None,
    operations: &[&OPERATIONS.add_host, &OPERATIONS.status],
    serves: Serves::Act(acts::ADD_HOST),
};

pub(crate) static REVOKE_HOST: Route = Route {
    name: "revoke-host",
    path: "/hosts/{host}/revoke",
    menu: None,
    operations: &[&OPERATIONS.revoke_host, &OPERATIONS.host],
    serves: Serves::Act(acts::REVOKE_HOST),
};

pub(crate) static APPROVE_HOST: Route = Route {
    name: "approve-host",
    path: "/hosts/{host}/approve",
    menu: None,
    operations: &[
        &OPERATIONS.approve_hosts,
        &OPERATIONS.host_evidence,
        &OPERATIONS.hosts,
        &OPERATIONS.simulate_policies,
    ],
    serves: Serves::Act(acts::APPROVE_HOST),
};

pub(crate) static SETTINGS: Route = Route {
    name: "settings",
    path: "/settings",
    menu: Some("Settings"),
    operations: &[&OPERATIONS.server, &OPERATIONS.status],
    serves: Serves::Screen(|asked| {
        let settings = asked.administration.server()?;
        let status = asked.administration.status()?;
        Ok(settings::page(&settings, &status, asked.now))
    }),
};

pub(crate) static SESSIONS: Route = Route {
    name: "sessions",
    path: "/console/sessions",
    menu: Some("Sessions"),
    operations: &[&OPERATIONS.console_sessions],
    serves: Serves::Screen(|asked| {
        let found = asked.administration.console_sessions()?;
        Ok(sessions::page(&found, asked.viewer, asked.now))
    }),
};

pub(crate) static REVOKE_SESSION: Route = Route {
    name: "revoke-session",
    path: "/console/sessions/{session}/revoke",
    menu: None,
    operations: &[
        &OPERATIONS.revoke_console_session,
        &OPERATIONS.console_sessions,
    ],
    serves: Serves::Act(acts::REVOKE_SESSION),
};

/// Every screen and act. Those with a name in the list of screens stand there in this order.
pub static ROUTES: &[&Route] = &[
    &overview::OVERVIEW,
    &overview::TRY_RELEASE,
    &HOSTS,
    &HOST,
    &ADD_HOST,
    &REVOKE_HOST,
    &APPROVE_HOST,
    &policies::WAITING,
    &policies::POLICIES,
    &policies::ENABLE_POLICY,
    &policies::DISABLE_POLICY,
    &policies::RESET_POLICY,
    &policies::DOCUMENT,
    &policies::ADD_DOCUMENT,
    &policies::CHANGE_DOCUMENT,
    &policies::RETIRE_ALTERNATIVE,
    &policies::REMOVE_DOCUMENT,
    &machines::MACHINES,
    &machines::MACHINE,
    &certificates::CERTIFICATES,
    &certificates::CERTIFICATE,
    &certificates::GUARDIAN_DOCUMENT,
    &certificates::GUARDIAN_FILE,
    &certificates::ROTATE_CERTIFICATES,
    &certificates::SET_HEAD,
    &certificates::LABEL_CERTIFICATE,
    &certificates::ENABLE_CERTIFICATE,
    &certificates::DISABLE_CERTIFICATE,
    &certificates::RETIRE_CERTIFICATE,
    &certificates::COMPROMISE_CERTIFICATE,
    &certificates::REMOVE_CERTIFICATE,
    &certificates::ADD_SIGNER,
    &certificates::LIMIT_SIGNER,
    &certificates::RETIRE_SIGNER,
    &certificates::REMOVE_SIGNER,
    &tenants::TENANTS,
    &tenants::ADD_TENANT,
    &log::LOG,
    &log::RECORD,
    &log::DOWNLOAD_LOG,
    &SETTINGS,
    &SESSIONS,
    &REVOKE_SESSION,
];

const SIGN_IN: &str = "/sign-in";
const CERTIFICATE: &str = "/sign-in/certificate";
const OPENID: &str = "/sign-in/openid";
const OPENID_CALLBACK: &str = "/sign-in/openid/callback";
const LINK: &str = "/sign-in/{secret}";
const SIGN_OUT: &str = "/sign-out";
const EVENTS: &str = "/events";

pub(crate) fn sign_out() -> Path {
    Path::fixed(SIGN_OUT)
}

/// What follows the `?` where a page asks for what changes.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Since {
    /// The newest audit record that the page is sure to show.
    pub since: Option<u64>,
}

impl Since {
    /// What stands there.
    ///
    /// # Errors
    /// When it is something else.
    pub fn read(query: &str) -> Result<Self, AdminError> {
        serde_urlencoded::from_str(query).map_err(AdminError::invalid)
    }
}

pub(crate) fn events_since(record: u64) -> Path {
    let since = Some(record);
    Path::fixed(EVENTS).with_query(&Since { since })
}

/// Where somebody is led who is not signed in.
#[must_use]
pub fn sign_in() -> Path {
    Path::fixed(SIGN_IN)
}

/// Where a user signs in by the client certificate of the connection.
#[must_use]
pub fn certificate() -> Path {
    Path::fixed(CERTIFICATE)
}

/// Where a browser begins to sign in at a provider of OpenID Connect.
#[must_use]
pub fn openid() -> Path {
    Path::fixed(OPENID)
}

/// Where the provider sends it back to.
#[must_use]
pub fn openid_callback() -> Path {
    Path::fixed(OPENID_CALLBACK)
}

pub(crate) fn link(secret: &str) -> Option<Path> {
    Path::below(LINK, secret)
}

/// How every link begins that signs in; its secret follows.
#[must_use]
pub fn beginning_of_links() -> &'static str {
    "/sign-in/"
}

/// What a path leads to.
#[derive(Debug)]
pub enum Target<'p> {
    /// A file, which everybody may have.
    Asset(&'static Asset),
    /// What is shown to somebody who is not signed in.
    SignIn,
    /// Where a browser begins to sign in at a provider of OpenID Connect. It is a link, because the policy for forms covers
    /// where their answers lead, too.
    OpenId,
    /// Where the provider sends it back to.
    OpenIdCallback,
    /// Where a user signs in by the client certificate of the connection; where it has none, the way there.
    Certificate,
    /// A link that signs in, with its secret.
    Link(&'p str),
    /// The end of the session.
    SignOut,
    /// What changes while somebody looks.
    Events,
    /// A screen or an act, and the segment that stands for one thing.
    Route(&'static Route, &'p str),
    /// Nothing.
    Nothing,
}

impl Target<'_> {
    /// Its name in logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Asset(_) => "asset",
            Self::SignIn => "sign-in",
            Self::OpenId => "openid",
            Self::OpenIdCallback => "openid-callback",
            Self::Certificate => "certificate",
            Self::Link(_) => "link",
            Self::SignOut => "sign-out",
            Self::Events => "events",
            Self::Route(route, _) => route.name,
            Self::Nothing => "unknown",
        }
    }

    /// The methods that it takes, beside `HEAD`.
    #[must_use]
    pub fn methods(&self) -> &'static [Method] {
        match self {
            Self::Asset(_)
            | Self::SignIn
            | Self::OpenId
            | Self::OpenIdCallback
            | Self::Events
            | Self::Nothing => &[Method::GET],
            Self::SignOut => &[Method::POST],
            Self::Certificate | Self::Link(_) => &[Method::GET, Method::POST],
            Self::Route(route, _) => match route.serves {
                Serves::Screen(_) | Serves::Download(_) => &[Method::GET],
                Serves::Act(_) => &[Method::GET, Method::POST],
            },
        }
    }
}

/// Finds what is at a path. Paths match octet by octet; nothing is decoded.
#[must_use]
pub fn find(path: &str) -> Target<'_> {
    match path {
        SIGN_IN => return Target::SignIn,
        CERTIFICATE => return Target::Certificate,
        OPENID => return Target::OpenId,
        OPENID_CALLBACK => return Target::OpenIdCallback,
        SIGN_OUT => return Target::SignOut,
        EVENTS => return Target::Events,
        _ => {}
    }
    if let Some(asset) = assets::find(path) {
        return Target::Asset(asset);
    }
    if let Some(secret) = path.strip_prefix(beginning_of_links()) {
        return match hgs_admin::is_plain(secret) {
            true => Target::Link(secret),
            false => Target::Nothing,
        };
    }
    let mut found = ROUTES
        .iter()
        .filter_map(|route| Some((*route, route.segment_of(path)?)));
    match found.next() {
        Some((route, segment)) => Target::Route(route, segment),
        None => Target::Nothing,
    }
}

impl Route {
    /// Whether this is an act, and so may change something.
    #[must_use]
    pub fn is_act(&self) -> bool {
        matches!(self.serves, Serves::Act(_))
    }

    /// The path, which has no place for anything that varies.
    pub(crate) fn fixed_path(&self) -> Path {
        Path::fixed(self.path)
    }

    /// The path with `segment` in the place of the braces, if that can stand there.
    pub(crate) fn path_of(&self, segment: &str) -> Option<Path> {
        Path::below(self.path, segment)
    }

    /// The path for somebody who is permitted to go there.
    pub(crate) fn path_for(&self, viewer: &Viewer, segment: &str) -> Option<Path> {
        viewer
            .may(self.operations)
            .then(|| self.path_of(segment))
            .flatten()
    }

    fn segment_of<'p>(&self, path: &'p str) -> Option<&'p str> {
        let Some((before, rest)) = self.path.split_once('{') else {
            return (self.path == path).then_some("");
        };
        let (_, after) = rest.split_once('}')?;
        let segment = path.strip_prefix(before)?.strip_suffix(after)?;
        hgs_admin::is_plain(segment).then_some(segment)
    }

    /// Shows the page, or does what the form `sent` asks for.
    ///
    /// # Errors
    /// What the guardian reports, and where the user is not permitted this.
    pub fn answer(&self, asked: &Asked<'_>, sent: Option<&[u8]>) -> Result<Shown, AdminError> {
        for operation in self.operations {
            asked.administration.require(operation.permission)?;
        }
        match (&self.serves, sent) {
            (Serves::Screen(show), None) => show(asked).map(Shown::Page),
            (Serves::Download(made), None) => made(asked).map(Shown::Download),
            (Serves::Act(act), None) => {
                (act.page)(asked, &Entered::default(), None).map(Shown::Page)
            }
            (Serves::Act(act), Some(form)) => act.carry_out(asked, &Entered::read(form)?),
            (Serves::Screen(_) | Serves::Download(_), Some(_)) => Err(AdminError::new(
                ErrorCode::MethodNotAllowed,
                "this page takes no form",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use hgs_admin::Permission;

    use super::*;

    #[test]
    fn every_route_is_found_at_its_own_path_and_nothing_else_is() {
        for route in ROUTES {
            let path = route
                .path
                .replace("{host}", "node-1")
                .replace("{certificate}", "ab12")
                .replace("{signer}", "ab12")
                .replace("{policy}", "model-a")
                .replace("{document}", "model-a")
                .replace("{sequence}", "17")
                .replace("{protector}", "5f0c2a91")
                .replace("{session}", "5f0c2a91");
            match find(&path) {
                Target::Route(found, _) => assert_eq!(found.name, route.name),
                other => panic!("{path}: {other:?}"),
            }
        }
        for path in [
            "/hosts/",
            "/hosts/a/b",
            "/hosts/a%2fb",
            "/Hosts",
            "//",
            "/sign-in/",
            "/sign-in/a/b",
            "/v1/hosts",
            "",
        ] {
            assert!(matches!(find(path), Target::Nothing), "{path}");
        }
    }

    /// What only reads is never an act, and an act changes something, or leaves a record that it tried something.
    #[test]
    fn acts_change_something_and_screens_do_not() {
        for route in ROUTES {
            let changes = route
                .operations
                .iter()
                .map(|operation| operation.permission)
                .any(|needed| needed.changes_state() || needed == Permission::Diagnose);
            assert_eq!(changes, route.is_act(), "{}", route.name);
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = ROUTES.iter().map(|route| route.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ROUTES.len());
    }
}
