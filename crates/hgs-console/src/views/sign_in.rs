//! What is shown to somebody who is not signed in.

use hgs_admin::{AdminError, Caller, ErrorCode, Role};
use hgs_pki::Seconds;
use maud::html;

use super::counted;
use crate::Page;
use crate::elements::{Button, button_link, commands, facts, form, text};
use crate::routes;
use crate::sessions::{Times, roles_of};

/// How users may sign in, besides by a link.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ways<'w> {
    /// The provider of OpenID Connect that they sign in at.
    pub provider: Option<&'w str>,
    /// Whether there is a port where they show a certificate.
    pub certificate: bool,
}

/// How to sign in.
#[must_use]
pub fn page(ways: Ways<'_>) -> Page {
    let has_button = ways.provider.is_some() || ways.certificate;
    let body = html! {
        @if has_button { p { "You are not signed in." } }
        @if let Some(provider) = ways.provider {
            p { "Sign in where you are known: at " (provider) "." }
            p.buttons { (button_link(&routes::openid(), "Sign in")) }
        }
        @if ways.certificate {
            h2 { "By a certificate" }
            p { "If your browser has a certificate that this guardian knows, it asks which one you mean." }
            p.buttons { (button_link(&routes::certificate(), "Sign in with a certificate")) }
        }
        @if has_button { h2 { "By a link" } }
        p { @if !has_button { "You are not signed in. " } "On the guardian's machine, run" }
        (commands("command", "hgs console"))
        p { "and open the link that it prints. The link works once, within a minute, and gives you the role that you have on that machine." }
        p { "Before you open it, compare the certificate of this page with the fingerprint that the command prints." }
    };
    Page::new("Sign in", body)
}

/// Why the provider has signed nobody in, or why the guardian does not take its word.
#[must_use]
pub fn not_by_provider(reason: &str, remedy: &str) -> Page {
    let body = html! {
        div.error role="alert" {
            p { strong { "You are not signed in: " } (reason) "." }
            p { "What to do: " (remedy) "." }
        }
        p.buttons { (button_link(&routes::openid(), "Try again")) }
        p { "Without the provider, run" }
        (commands("command", "hgs console"))
        p { "on the guardian's machine, and open the link that it prints." }
    };
    Page::new("You are not signed in", body)
}

/// Whom the certificate of the connection signs in. Nobody is signed in by looking at it.
#[must_use]
pub fn by_certificate(user: &Caller, times: Times) -> Page {
    let button = Button {
        text: "Sign in",
        is_dangerous: false,
        back: None,
    };
    let roles: Vec<_> = roles_of(&user.permissions)
        .iter()
        .map(Role::to_string)
        .collect();
    let body = html! {
        p { "You are not signed in. Your browser has shown a certificate that this guardian knows." }
        (facts([
            ("User", text(&user.identity)),
            ("Roles", text(roles.join(", "))),
        ]))
        p { "The session works with this certificate only. " (ends(times)) }
        (form(&routes::certificate(), button, &html! {}))
    };
    Page::new("Sign in by a certificate", body)
}

/// Why nobody is signed in by a link or at a provider where browsers show a certificate.
#[must_use]
pub fn other_way() -> AdminError {
    let message = "on this port, users sign in by their certificate";
    AdminError::new(ErrorCode::NotFound, message).with_remedy(
        "open the link as `hgs console` prints it, or the page of the provider at that port",
    )
}

/// What a link shows. Opening it changes nothing, because programs for mail and chat open links by themselves.
#[must_use]
pub fn by_link(secret: &str, user: Option<&str>, times: Times) -> Page {
    let (Some(path), Some(user)) = (routes::link(secret), user) else {
        let body = html! {
            p { "This link was used already, or is older than a minute." }
            p { "On the guardian's machine, run" }
            (commands("command", "hgs console"))
            p { "for a new one. If you have not used this link yourself, tell the administrators: somebody else may have." }
        };
        return Page::new("This link can't be used", body);
    };
    let button = Button {
        text: "Sign in",
        is_dangerous: false,
        back: None,
    };
    let body = html! {
        p { "This link signs in " strong { (user) } ". If that is not you, close this page: somebody else wants you to act as them." }
        p { "The link works once. " (ends(times)) }
        (form(&path, button, &html! {}))
    };
    Page::new("Sign in", body)
}

fn ends(times: Times) -> String {
    format!(
        "Your session ends when you sign out, after {} without a click, and after {}.",
        period(times.idle),
        period(times.whole)
    )
}

/// A period as people say it.
fn period(period: Seconds) -> String {
    let seconds = period.get();
    match (seconds % 3600, seconds % 60) {
        (0, _) => counted(seconds / 3600, "hour"),
        (_, 0) => counted(seconds / 60, "minute"),
        _ => counted(seconds, "second"),
    }
}
