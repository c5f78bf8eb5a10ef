//! Body of a fuzz target: it takes any octets and panics only if something is wrong with this crate.

use hgs_admin::AdminError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::acts::Entered;
use crate::page::framed_for_strangers;
use crate::routes::{self, Target};
use crate::sessions::Times;
use crate::views::{certificates, document, hosts, log, machines, policies, problem, tenants};
use crate::{Notice, Path, views};

/// What a browser sends with a form, and the same as a query string, as a path and as what an error quotes.
///
/// # Panics
///
/// If what was read is not what is written again, if it can leave its place in a path or a page, or if a path leads to two
/// places.
pub fn fuzz_console_form(data: &[u8]) {
    if let Ok(entered) = Entered::read(data) {
        entered.examine();
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Some(filters) = read_again::<log::Filters>(text) {
        let _ = filters.query();
    }
    read_again::<views::After>(text);
    read_again::<hosts::Alike>(text);
    read_again::<machines::Wanted>(text);
    read_again::<certificates::OfTenant>(text);
    read_again::<policies::OfGroup>(text);
    read_again::<document::Which>(text);
    read_again::<tenants::Wanted>(text);
    examine_path(text);
    examine_shown(text);
    if let Ok(notice) = text.parse::<Notice>() {
        assert_eq!(notice.to_string(), text);
    }
}

/// Reads a query string, and what it is written as in a link.
fn read_again<Q: Serialize + DeserializeOwned>(text: &str) -> Option<Q> {
    let query: Q = serde_urlencoded::from_str(text).ok()?;
    let link = Path::start().with_query(&query);
    assert!(is_of_links(link.as_str()), "{link}");
    let written = link.as_str().strip_prefix("/?").unwrap_or_default();
    let again: Q = serde_urlencoded::from_str(written).expect("a query string");
    assert_eq!(Path::start().with_query(&again), link);
    Some(query)
}

/// Whether nothing in a link can end it, or lead to another server.
fn is_of_links(link: &str) -> bool {
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"/?&=%+*-._".contains(&octet);
    link.starts_with('/') && !link.starts_with("//") && link.bytes().all(is_plain)
}

fn examine_path(path: &str) {
    match routes::find(path) {
        Target::Route(route, segment) => {
            let written = match segment {
                "" => route.fixed_path(),
                segment => route.path_of(segment).expect("a path"),
            };
            assert_eq!(written.as_str(), path);
            assert!(is_of_links(path), "{path}");
        }
        Target::Link(secret) => {
            let written = routes::link(secret).expect("a path");
            assert_eq!(written.as_str(), path);
            assert!(is_of_links(path), "{path}");
        }
        _ => {}
    }
}

/// What is quoted makes no element and no attribute.
fn examine_shown(text: &str) {
    let quoted = |text: &str| {
        let error = AdminError::invalid(text).with_remedy(text);
        let pages = [
            problem::page(&error),
            views::sign_in::page(views::sign_in::Ways {
                provider: Some(text),
                certificate: true,
            }),
            views::sign_in::not_by_provider(text, text),
            views::sign_in::by_link("secret", Some(text), Times::default()),
        ];
        let pages = pages.map(|page| framed_for_strangers(&page, None));
        let count = |mark| pages.iter().map(|page| page.matches(mark).count()).sum();
        [count('<'), count('>'), count('"')]
    };
    let marks: [usize; 3] = quoted(text);
    assert_eq!(marks, quoted(""));
}
