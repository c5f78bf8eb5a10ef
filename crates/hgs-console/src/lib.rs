//! The console: what administrators, reviewers and host managers see and do in a browser.
//!
//! ```text
//!  browser --HTTPS--> hgs-server: requests::check -> routes::find -> session -> Route --Administration--> hgs-admin's operations
//!                                                                              |
//!                                                                            views -> page -> HTML
//! ```
//!
//! * [`routes`] is the one table of screens and acts, each with the operations of the API that it asks. The permissions of
//!   these decide who sees it.
//! * [`views`] are functions from the answers of these operations, the time and nothing else to HTML.
//! * [`acts`] has what changes something: for each act a page that shows what will change, and the form that does it.
//! * [`requests`] says which requests may come from which page; [`sessions`] who is signed in.
//! * [`assets`] are the style sheet, the script and the icon.
//!
//! This crate opens no listener and reads no clock: `hgs-server` does both, and lends an
//! [`Administration`](hgs_admin::Administration) that does what the user is permitted.

pub mod acts;
pub mod assets;
mod effect;
mod elements;
#[doc(hidden)]
pub mod fuzzing;
pub mod headers;
mod notice;
pub mod page;
mod pairs;
mod path;
pub mod requests;
pub mod routes;
pub mod sessions;
mod viewer;
pub mod views;

pub use notice::Notice;
pub use page::Page;
pub use path::Path;
pub use viewer::Viewer;

/// What was entered or asked for, without blanks around it, if it is anything.
fn given(text: &str) -> Option<String> {
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
