//! Who is signed in.

use hgs_admin::AdminError;
use hgs_admin::types::{ConsoleSession, SignInWay};
use hgs_pki::Time;
use maud::{Markup, html};

use crate::elements::{self, Button, act_link, facts, form, table, text, time, word};
use crate::routes::{REVOKE_SESSION, SESSIONS};
use crate::{Page, Path, Viewer};

pub(crate) fn page(sessions: &[ConsoleSession], viewer: &Viewer, now: Time) -> Page {
    let rows: Vec<_> = sessions
        .iter()
        .map(|session| row(session, viewer, now))
        .collect();
    let headings = [
        "Session",
        "User",
        "Roles",
        "From",
        "Signed in",
        "Ends without a click",
        "Change",
    ];
    let body = html! {
        p { "These are the sessions of this node. They end when it is started anew." }
        (table("Who is signed in", &headings, &rows))
        p.help { "The first word of a user in the log is " code { "console" } ", and the name of the session follows." }
    };
    Page::new("Sessions", body)
}

fn row(session: &ConsoleSession, viewer: &Viewer, now: Time) -> Vec<Markup> {
    let path = REVOKE_SESSION.path_for(viewer, &session.session);
    vec![
        html! { code { (session.session) } @if session.session == viewer.session { " (this one)" } },
        text(&session.user),
        roles(session),
        text(&session.address),
        html! { (time(&session.signed_in, now)) ", by " (way(session.way)) },
        time(&session.ends, now),
        act_link(path.as_ref(), "End"),
    ]
}

fn way(way: SignInWay) -> &'static str {
    match way {
        SignInWay::Link => "a link",
        SignInWay::OpenId => "OpenID Connect",
        SignInWay::Certificate => "a certificate",
    }
}

fn roles(session: &ConsoleSession) -> Markup {
    html! { @for (index, role) in session.roles.iter().enumerate() { @if index > 0 { ", " } (word(role)) } }
}

pub(crate) fn revoke(
    session: &ConsoleSession,
    viewer: &Viewer,
    error: Option<&AdminError>,
    now: Time,
) -> Page {
    let back = SESSIONS.fixed_path();
    let path = Path::or_start(REVOKE_SESSION.path_of(&session.session));
    let button = Button {
        text: "End the session",
        is_dangerous: true,
        back: Some(&back),
    };
    let body = html! {
        @if let Some(error) = error { (elements::error(error)) }
        p { "Its user is signed out at once. The user can sign in again with a new link." }
        @if session.session == viewer.session { p { strong { "This is your own session." } } }
        (facts([
            ("User", text(&session.user)),
            ("Roles", roles(session)),
            ("From", text(&session.address)),
            ("Signed in", html! { (time(&session.signed_in, now)) ", by " (way(session.way)) }),
            ("Last click", time(&session.last_used, now)),
        ]))
        (form(&path, button, &html! {}))
    };
    Page::new(format!("End session {}", session.session), body)
}
