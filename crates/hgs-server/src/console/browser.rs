//! What a browser says in a request, before anybody knows whose it is.

use hgs_console::Notice;
use hgs_console::requests::{self, Provenance};
use hyper::Method;
use hyper::header::{COOKIE, HOST, HeaderName, ORIGIN};

use crate::http::Request;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const FETCH_DESTINATION: HeaderName = HeaderName::from_static("sec-fetch-dest");

pub(super) fn header(request: &Request, name: HeaderName) -> Option<&str> {
    let mut values = request.headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        // Of two values the browser has sent neither.
        _ => None,
    }
}

pub(super) fn provenance(request: &Request) -> Provenance<'_> {
    Provenance {
        only_reads: request.method == Method::GET,
        host: header(request, HOST),
        origin: header(request, ORIGIN),
        site: header(request, FETCH_SITE),
        mode: header(request, FETCH_MODE),
        destination: header(request, FETCH_DESTINATION),
    }
}

/// What was done just before, if a page of the console itself has led here.
pub(super) fn notice(request: &Request) -> Option<Notice> {
    if !requests::is_from_own_page(&provenance(request)) {
        return None;
    }
    let query = request.query.as_deref()?;
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find_map(|(name, word)| (name == "notice").then(|| word.parse().ok())?)
}

/// The value of the cookie with this name.
pub(super) fn cookie<'r>(request: &'r Request, wanted: &str) -> Option<&'r str> {
    let lines = request.headers.get_all(COOKIE).iter();
    let pairs = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter(|(name, _)| *name == wanted);
    values.next().map(|(_, value)| value)
}
