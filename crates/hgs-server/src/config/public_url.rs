//! The URLs under which hosts reach the listeners.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use hgs_pki::TlsCertificate;
use hyper::Uri;
use serde::{Deserialize, Serialize};

use super::Config;
use crate::http::check_certificate;

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

impl Config {
    /// The first_transactions of the URLs under which hosts reach listeners at these addresses, HTTPS first.
    ///
    /// Each is the listener's `public_url`. Without one it has the address that the listener is bound to, or where it is
    /// bound to every address of the machine, the name that [`Self::public_name`] finds.
    #[must_use]
    pub fn public_urls(&self, https: Option<SocketAddr>, http: Option<SocketAddr>) -> Vec<String> {
        let listen = &self.listen;
        let url = |set: Option<&PublicUrl>, scheme, usual_port, address: SocketAddr| match set {
            Some(url) => url.to_string(),
            None => self.derived_url(scheme, usual_port, address),
        };
        let https = https.map(|at| url(listen.https.public_url.as_ref(), "https", 443, at));
        let http = http.map(|at| url(listen.http.public_url.as_ref(), "http", 80, at));
        let mut urls: Vec<String> = https.into_iter().chain(http).collect();
        urls.dedup();
        urls
    }

    fn derived_url(&self, scheme: &str, usual_port: u16, address: SocketAddr) -> String {
        let host = match address {
            _ if address.ip().is_unspecified() => self.public_name(),
            SocketAddr::V4(address) => address.ip().to_string(),
            SocketAddr::V6(address) => format!("[{}]", address.ip()),
        };
        match address.port() {
            port if port == usual_port => format!("{scheme}://{host}"),
            port => format!("{scheme}://{host}:{port}"),
        }
    }

    /// The name by which hosts know this guardian: that in `public_url`, else the name in the TLS certificate, of several
    /// the one that begins with the machine's, else the machine's.
    #[must_use]
    pub fn public_name(&self) -> String {
        let listen = &self.listen;
        let set = [&listen.https.public_url, &listen.http.public_url];
        if let Some(url) = set.into_iter().flatten().next() {
            return url.host().to_owned();
        }
        let machine = rustix::system::uname();
        let machine = machine.nodename().to_string_lossy();
        let mut names = self.names_in_tls_certificate();
        names.retain(|name| !name.contains('*'));
        let short = machine.split('.').next().unwrap_or_default();
        let of_machine = names
            .iter()
            .find(|name| name.split('.').next() == Some(short));
        let name = of_machine.or_else(|| names.first()).cloned();
        name.unwrap_or_else(|| machine.into_owned())
    }

    /// None where there is no certificate that can be used, which a check of its own says.
    fn names_in_tls_certificate(&self) -> Vec<String> {
        let https = &self.listen.https;
        if !https.enabled {
            return Vec::new();
        }
        let leaf = check_certificate(https).ok();
        let read = leaf.and_then(|leaf| TlsCertificate::from_der(&leaf).ok());
        read.map_or_else(Vec::new, |certificate| certificate.dns_names)
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

    #[test]
    fn urls_name_the_port_where_it_is_not_the_usual_one() {
        let config = Config::default();
        let url = |text: &str| config.public_urls(None, Some(text.parse().unwrap()));
        assert_eq!(url("192.0.2.1:80"), ["http://192.0.2.1"]);
        assert_eq!(url("192.0.2.1:8080"), ["http://192.0.2.1:8080"]);
        assert_eq!(url("[2001:db8::1]:80"), ["http://[2001:db8::1]"]);
        let everywhere = url("[::]:80");
        assert!(!everywhere[0].contains("::"), "{everywhere:?}");
    }

    #[test]
    fn a_url_that_is_set_is_the_only_one_of_its_listener() {
        let mut config = Config::default();
        config.listen.http.public_url = Some("https://hgs.example".parse().unwrap());
        let (https, http) = ("[::]:443".parse().unwrap(), "[::]:80".parse().unwrap());
        // A proxy in front of the plain listener: the name of the other is the same.
        let urls = config.public_urls(Some(https), Some(http));
        assert_eq!(urls, ["https://hgs.example"]);
        assert_eq!(config.public_urls(None, None), [""; 0]);
    }
}
