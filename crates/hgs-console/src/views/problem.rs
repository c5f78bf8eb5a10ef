//! What is shown in the place of a page that can't be.

use hgs_admin::{AdminError, ErrorCode};
use maud::html;

use crate::elements::link;
use crate::{Page, Path};

/// Says why, and what to do about it.
#[must_use]
pub fn page(error: &AdminError) -> Page {
    let title = match error.code {
        ErrorCode::NotFound => "This is not here",
        ErrorCode::Forbidden => "You may not do this",
        ErrorCode::Unavailable | ErrorCode::TooMany => "This can't be done now",
        ErrorCode::Internal | ErrorCode::NotRunning | ErrorCode::NoAnswer => {
            "The guardian has failed here"
        }
        ErrorCode::InvalidRequest | ErrorCode::MethodNotAllowed | ErrorCode::Conflict => {
            "This can't be done"
        }
    };
    let next = match error.code {
        ErrorCode::NotFound => "It may have been removed meanwhile.",
        ErrorCode::Forbidden => "Nothing was changed. Somebody with another role can do it.",
        ErrorCode::Unavailable | ErrorCode::TooMany => {
            "Nothing was changed. Try again in a moment."
        }
        _ => "Nothing was changed. The guardian's log may say more.",
    };
    let body = html! {
        div.error role="alert" {
            p { (error.message) "." }
            @if let Some(remedy) = &error.remedy { p { "What to do: " (remedy) "." } }
        }
        p { (next) " " (link(Some(&Path::start()), "Go to the overview")) }
    };
    Page::new(title, body)
}
