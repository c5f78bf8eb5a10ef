//! The one frame around every page.

use maud::{DOCTYPE, Markup, html};

use crate::Viewer;
use crate::assets::{ICON, SCRIPT, STYLE};
use crate::elements::{self, Button, menu_link};
use crate::notice::Notice;
use crate::routes::{self, ROUTES, Route};

/// A page without its frame.
#[derive(Debug)]
pub struct Page {
    pub(crate) title: String,
    pub(crate) body: Markup,
    /// Whether it is shown anew when something has changed.
    pub(crate) is_live: bool,
}

impl Page {
    pub(crate) fn new(title: impl Into<String>, body: Markup) -> Self {
        Self {
            title: title.into(),
            body,
            is_live: false,
        }
    }

    pub(crate) fn live(self) -> Self {
        Self {
            is_live: true,
            ..self
        }
    }
}

/// A page for somebody who is signed in. `route` is where it is. `record` is the newest audit record from before the guardian was
/// asked for what it shows: what has happened since then may be missing on it.
#[must_use]
pub fn framed(
    page: &Page,
    viewer: &Viewer,
    route: Option<&Route>,
    notice: Option<Notice>,
    record: u64,
) -> String {
    let menu = html! {
        (signed_in_as(viewer))
        nav aria-label="Screens" {
            ul {
                @for one in ROUTES.iter().filter(|one| viewer.may(one.operations)) {
                    @if let Some(name) = one.menu {
                        li { (menu_link(&one.fixed_path(), name, is_below(route, one))) }
                    }
                }
            }
        }
    };
    document(page, &menu, notice, Some(record))
}

/// A page for somebody who is not signed in.
#[must_use]
pub fn framed_for_strangers(page: &Page, notice: Option<Notice>) -> String {
    document(page, &html! {}, notice, None)
}

/// Whether the page at `here` belongs to `screen` in the list of screens.
fn is_below(here: Option<&Route>, screen: &Route) -> bool {
    here.is_some_and(|here| {
        let rest = here.path.strip_prefix(screen.path);
        here.path == screen.path
            || (screen.path != "/" && rest.is_some_and(|rest| rest.starts_with('/')))
    })
}

fn signed_in_as(viewer: &Viewer) -> Markup {
    let sign_out = Button {
        text: "Sign out",
        is_dangerous: false,
        back: None,
    };
    html! {
        div.user {
            span { "Signed in as " strong { (viewer.user) } }
            (elements::form(&routes::sign_out(), sign_out, &html! {}))
        }
    }
}

fn document(page: &Page, menu: &Markup, notice: Option<Notice>, record: Option<u64>) -> String {
    let live = record.filter(|_| page.is_live).map(routes::events_since);
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (page.title) " - OpenHGS" }
                link rel="icon" type="image/svg+xml" href=(ICON.path());
                link rel="stylesheet" href=(STYLE.path());
                script src=(SCRIPT.path()) defer {}
            }
            body data-events=[live] {
                a.skip href="#content" { "Skip to the content" }
                header {
                    p.product { "OpenHGS" }
                    (menu)
                }
                main id="content" tabindex="-1" {
                    h1 { (page.title) }
                    @if let Some(notice) = notice {
                        div.notice role="status" {
                            p { strong { (notice.done()) } }
                            p { (notice.next()) }
                        }
                    }
                    (page.body)
                }
            }
        }
    };
    markup.into_string()
}
