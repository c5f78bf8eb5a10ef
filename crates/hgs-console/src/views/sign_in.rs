//! What is shown to somebody who is not signed in.

use maud::html;

use crate::Page;
use crate::elements::{Button, button_link, commands, form};
use crate::routes;

/// How to sign in. `provider` is the one that users sign in at, if there is one.
#[must_use]
pub fn page(provider: Option<&str>) -> Page {
    let body = html! {
        @if let Some(provider) = provider {
            p { "You are not signed in. Sign in where you are known: at " (provider) "." }
            p.buttons { (button_link(&routes::openid(), "Sign in")) }
            h2 { "By a link" }
        }
        p { @if provider.is_none() { "You are not signed in. " } "On the guardian's machine, run" }
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

/// What a link shows. Opening it changes nothing, because programs for mail and chat open links by themselves.
#[must_use]
pub fn by_link(secret: &str, user: Option<&str>) -> Page {
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
        p { "The link works once. Your session ends when you sign out, after half an hour without a click, and after eight hours." }
        (form(&path, button, &html! {}))
    };
    Page::new("Sign in", body)
}
