//! Answers to browsers. Each has the header fields of the console.

use hgs_admin::{AdminError, ErrorCode};
use hgs_console::assets::Asset;
use hgs_console::routes::Download;
use hgs_console::sessions::Cookie;
use hgs_console::{Page, Path, headers, page, views};
use hgs_openid::BrowserSecret;
use hgs_pki::Seconds;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_DISPOSITION, HeaderName, HeaderValue, LOCATION, SET_COOKIE,
};
use hyper::{Method, StatusCode};

use crate::http::Response;

const HTML: &str = "text/html; charset=utf-8";

/// The answer with the header fields that every answer has.
pub(super) fn guarded(response: Response, cache_control: &'static str) -> Response {
    let cache = HeaderValue::from_static(cache_control);
    let fields = headers::OF_ALL.iter().map(|(name, value)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    });
    fields.fold(
        response.with_header(CACHE_CONTROL, cache),
        |response, (name, value)| response.with_header(name, value),
    )
}

pub(super) fn html(status: StatusCode, document: String) -> Response {
    guarded(Response::new(status, HTML, document), headers::NOT_STORED)
}

/// A page for somebody who is not signed in.
pub(super) fn to_stranger(status: StatusCode, shown: &Page) -> Response {
    html(status, page::framed_for_strangers(shown, None))
}

/// Why a request is not answered, for somebody who is not signed in.
pub(super) fn refused(status: StatusCode, error: &AdminError) -> Response {
    to_stranger(status, &views::problem::page(error))
}

pub(super) fn other_methods(methods: &[Method]) -> Response {
    let error = AdminError::new(ErrorCode::MethodNotAllowed, "the path has other methods");
    let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    let response = refused(StatusCode::METHOD_NOT_ALLOWED, &error);
    match HeaderValue::try_from(names.join(", ")) {
        Ok(names) => response.with_header(ALLOW, names),
        Err(_) => response,
    }
}

pub(super) fn asset(asset: &'static Asset) -> Response {
    let response = Response::new(StatusCode::OK, asset.content_type, asset.contents);
    guarded(response, headers::IMMUTABLE)
}

/// A file for the browser to keep.
pub(super) fn download(file: Download) -> Response {
    let response = Response::new(StatusCode::OK, file.content_type, file.contents);
    let response = match HeaderValue::try_from(format!("attachment; filename=\"{}\"", file.name)) {
        Ok(name) => response.with_header(CONTENT_DISPOSITION, name),
        Err(_) => response,
    };
    guarded(response, headers::NOT_STORED)
}

/// Leads on to another page.
pub(super) fn see(path: &Path) -> Response {
    let response = Response::empty(StatusCode::SEE_OTHER);
    let response = match HeaderValue::try_from(path.as_str()) {
        Ok(place) => response.with_header(LOCATION, place),
        Err(_) => response,
    };
    guarded(response, headers::NOT_STORED)
}

/// Leads on to another server, or to this one by another name.
pub(super) fn leave(url: &str) -> Response {
    let response = Response::empty(StatusCode::SEE_OTHER);
    match HeaderValue::try_from(url) {
        Ok(place) => guarded(response.with_header(LOCATION, place), headers::NOT_STORED),
        Err(_) => line(
            StatusCode::BAD_GATEWAY,
            "the provider names no place to go to",
        ),
    }
}

/// One line, for the script.
pub(super) fn line(status: StatusCode, line: &str) -> Response {
    guarded(Response::text(status, line), headers::NOT_STORED)
}

/// The answer with a cookie that holds a session until the browser is closed.
pub(super) fn with_session(response: Response, name: &str, cookie: &Cookie) -> Response {
    set_cookie(response, &format!("{name}={}", cookie.expose()), "")
}

/// The answer with a cookie that the browser brings back from the provider.
pub(super) fn with_sign_in(
    response: Response,
    name: &str,
    secret: &BrowserSecret,
    holds: Seconds,
) -> Response {
    let more = format!("; Max-Age={}", holds.get());
    set_cookie(response, &format!("{name}={}", secret.expose()), &more)
}

/// The answer that has the browser forget the cookie.
pub(super) fn without_session(response: Response, name: &str) -> Response {
    set_cookie(response, &format!("{name}="), "; Max-Age=0")
}

/// `Lax`, as links elsewhere lead here too. Who sends forms is told by their origin.
fn set_cookie(response: Response, pair: &str, more: &str) -> Response {
    let text = format!("{pair}; Path=/; Secure; HttpOnly; SameSite=Lax{more}");
    match HeaderValue::try_from(text) {
        Ok(mut value) => {
            value.set_sensitive(true);
            response.with_header(SET_COOKIE, value)
        }
        Err(_) => response,
    }
}
