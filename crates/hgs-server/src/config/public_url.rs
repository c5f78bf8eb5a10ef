//! The URLs under which hosts reach the listeners.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;
use serde::{Deserialize, Serialize};

/// What the URLs of both services at a listener begin with, such as `https://hgs.example`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicUrl(String);

/// Not the beginning of URLs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "write the beginning of the URLs of both services, such as https://hgs.example or http://192.0.2.1:8080"
)]
pub struct PublicUrlError;

impl PublicUrl {
    /// The URL, without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name or address in it; an address of IPv6 in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        host_of(&self.0)
    }
}

impl FromStr for PublicUrl {
    type Err = PublicUrlError;

    fn from_str(text: &str) -> Result<Self, PublicUrlError> {
        let text = text.trim_end_matches('/');
        let uri: Uri = text.parse().map_err(|_| PublicUrlError)?;
        let authority = uri.authority().ok_or(PublicUrlError)?;
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        let is_beginning = uri.query().is_none() && !text.contains(['#', '@']);
        let port = authority.as_str().rsplit_once(':').map(|(_, port)| port);
        // `Uri` takes a port of any number.
        let has_port = authority.as_str().ends_with(']')
            || port.is_none_or(|port| port.parse().is_ok_and(|port: u16| port > 0));
        if is_http && is_beginning && has_port && !authority.host().is_empty() {
            Ok(Self(text.to_owned()))
        } else {
            Err(PublicUrlError)
        }
    }
}

impl TryFrom<String> for PublicUrl {
    type Error = PublicUrlError;

    fn try_from(text: String) -> Result<Self, PublicUrlError> {
        text.parse()
    }
}

impl From<PublicUrl> for String {
    fn from(url: PublicUrl) -> Self {
        url.0
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The name or address in a URL with an authority; an address of IPv6 in brackets.
pub(crate) fn host_of(url: &str) -> &str {
    let (_, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split('/').next().unwrap_or(rest);
    match authority.find(']') {
        Some(end) => authority.get(..=end).unwrap_or(authority),
        None => authority.split(':').next().unwrap_or(authority),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_urls_and_nothing_else() {
        for (text, host) in [
            ("https://hgs.example", "hgs.example"),
            ("https://hgs.example/", "hgs.example"),
            ("http://192.0.2.1:8080", "192.0.2.1"),
            ("https://[2001:db8::1]:8443", "[2001:db8::1]"),
            ("https://[2001:db8::1]", "[2001:db8::1]"),
            ("https://proxy.example/hgs", "proxy.example"),
        ] {
            let url: PublicUrl = text.parse().unwrap();
            assert_eq!(url.host(), host);
            assert_eq!(url.as_str(), text.trim_end_matches('/'));
        }
        for text in [
            "",
            "hgs.example",
            "//hgs.example",
            "ftp://hgs.example",
            "https://",
            "https:///Attestation",
            "https://a b",
            "https://user@hgs.example",
            "https://hgs.example?a=b",
            "https://hgs.example#a",
            "https://hgs.example:0",
            "https://hgs.example:99999",
            "https://hgs.example:",
        ] {
            assert!(text.parse::<PublicUrl>().is_err(), "{text}");
        }
    }
}
