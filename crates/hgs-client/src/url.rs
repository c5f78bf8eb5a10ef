//! The URL of a service, as an administrator writes it.

mod service;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

pub use service::ServiceUrls;

/// Octets of the longest URL that is accepted.
const MAX_LENGTH: usize = 2048;

/// An absolute `http` or `https` URL with a path, such as `https://hgs.example/Attestation`.
///
/// It has no user, query, fragment or percent escapes: nothing that two programs could read in two
/// ways. A trailing slash is dropped, so that [`Url::join`] never makes an empty segment.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Url {
    scheme: Scheme,
    host: Host,
    port: u16,
    path: String,
}

/// How the octets travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// In clear, port 80 unless the URL says otherwise.
    Http,
    /// Over TLS, port 443 unless the URL says otherwise.
    Https,
}

/// Where a service lives.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A name, in lower case, to be resolved.
    Name(String),
    /// An address, used as it is.
    Address(IpAddr),
}

/// Why text is not the URL of a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Longer than 2048 octets.
    #[error("a URL has at most {MAX_LENGTH} octets")]
    TooLong,
    /// Neither `http://` nor `https://`.
    #[error("a URL starts with http:// or https://")]
    Scheme,
    /// The host is neither a name nor an address, or names a user.
    #[error("`{0}` is not the name or address of a host")]
    Host(String),
    /// The port is not a number from 1 to 65535.
    #[error("`{0}` is not a port")]
    Port(String),
    /// The URL of one service, where that of both is meant.
    #[error(
        "give what the URLs of both services begin with, without /Attestation or /KeyProtection"
    )]
    OneService,
    /// No URL where there has to be one.
    #[error("there is no URL")]
    None,
    /// More URLs of one service than are tried.
    #[error("a service has at most {0} URLs")]
    TooMany(usize),
    /// The same URL twice: it would be asked twice.
    #[error("`{0}` is there twice")]
    Twice(String),
    /// There is no path.
    #[error("the URL has no path; services live under one, such as /Attestation or /KeyProtection")]
    NoPath,
    /// The path has a query, a fragment, an escape, an empty segment, or one that climbs.
    #[error("`{0}` is not a plain path")]
    Path(String),
}

impl Url {
    /// Whether octets travel in clear or over TLS.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port, explicit or the scheme's own.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path, with a leading and without a trailing slash.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The URL of something below this one; `below` starts with a slash and is a plain path.
    #[must_use]
    pub fn join(&self, below: &'static str) -> Self {
        Self {
            path: format!("{}{below}", self.path),
            ..self.clone()
        }
    }

    /// Scheme, host and port: what answers there is one listener.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.authority())
    }

    /// Host and port as the `Host` header has them: the scheme's own port is left out.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl Scheme {
    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        if text.len() > MAX_LENGTH {
            return Err(UrlError::TooLong);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(UrlError::Scheme),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(UrlError::Host(authority.to_owned()));
        }
        let (host, port) = split_port(authority)?;
        Ok(Self {
            scheme,
            host: parse_host(host)?,
            port: port.unwrap_or_else(|| scheme.default_port()),
            path: parse_path(path)?,
        })
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), UrlError> {
    // The colons inside the brackets of an IPv6 address are not the one before a port.
    let colon = authority
        .rfind(':')
        .filter(|colon| authority.rfind(']').is_none_or(|bracket| bracket < *colon));
    let Some(colon) = colon else {
        return Ok((authority, None));
    };
    let text = &authority[colon + 1..];
    let digits = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(port) if digits && port != 0 => Ok((&authority[..colon], Some(port))),
        _ => Err(UrlError::Port(text.to_owned())),
    }
}

fn parse_host(text: &str) -> Result<Host, UrlError> {
    let refused = || UrlError::Host(text.to_owned());
    if let Some(inner) = text.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or_else(refused)?;
        let address = inner.parse().map_err(|_| refused())?;
        return Ok(Host::Address(IpAddr::V6(address)));
    }
    if let Ok(address) = text.parse() {
        return Ok(Host::Address(IpAddr::V4(address)));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|octet| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_')
    };
    // A last label of digits would be an address in one of the forms that resolvers guess at.
    let numeric = text
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|octet| octet.is_ascii_digit()));
    if text.len() > 253 || numeric || !text.split('.').all(label) {
        return Err(refused());
    }
    Ok(Host::Name(text.to_ascii_lowercase()))
}

fn parse_path(text: &str) -> Result<String, UrlError> {
    let trimmed = text.strip_suffix('/').unwrap_or(text);
    if trimmed.is_empty() {
        return Err(UrlError::NoPath);
    }
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&octet);
    let segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(plain);
    match trimmed.strip_prefix('/') {
        Some(segments) if segments.split('/').all(segment) => Ok(trimmed.to_owned()),
        _ => Err(UrlError::Path(text.to_owned())),
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => formatter.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(formatter, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(formatter, "[{address}]"),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", self.origin(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Url, UrlError> {
        text.parse()
    }

    #[test]
    fn reads_what_administrators_write() {
        for (text, shown) in [
            (
                "http://hgs.example/Attestation",
                "http://hgs.example/Attestation",
            ),
            (
                "HTTPS://HGS.example:443/KeyProtection/",
                "https://hgs.example/KeyProtection",
            ),
            (
                "https://hgs:8443/prefix/Attestation",
                "https://hgs:8443/prefix/Attestation",
            ),
            (
                "http://192.0.2.1:8080/Attestation",
                "http://192.0.2.1:8080/Attestation",
            ),
            (
                "http://[2001:DB8::1]/Attestation",
                "http://[2001:db8::1]/Attestation",
            ),
            ("http://[::1]:80/Attestation", "http://[::1]/Attestation"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn says_what_is_missing() {
        assert_eq!(parse("hgs.example/Attestation"), Err(UrlError::Scheme));
        assert_eq!(
            parse("ftp://hgs.example/Attestation"),
            Err(UrlError::Scheme)
        );
        assert_eq!(parse("http://hgs.example"), Err(UrlError::NoPath));
        assert_eq!(parse("http://hgs.example/"), Err(UrlError::NoPath));
    }

    #[test]
    fn refuses_what_could_be_read_in_two_ways() {
        for text in [
            "http://user@hgs.example/Attestation",
            "http://user:pass@hgs.example/Attestation",
            "http://2130706433/Attestation",
            "http://0x7f.1/Attestation",
            "http://127.1/Attestation",
            "http://[::1/Attestation",
            "http:///Attestation",
            "http://hgs..example/Attestation",
            "http://hgs example/Attestation",
            "http://hgs.example\\@evil/Attestation",
        ] {
            assert!(matches!(parse(text), Err(UrlError::Host(_))), "{text}");
        }
        for text in [
            "http://hgs.example:0/Attestation",
            "http://hgs.example:+80/Attestation",
            "http://hgs.example:65536/Attestation",
            "http://hgs.example:/Attestation",
        ] {
            assert!(matches!(parse(text), Err(UrlError::Port(_))), "{text}");
        }
        for text in [
            "http://hgs.example/Attestation?x=1",
            "http://hgs.example/Attestation#x",
            "http://hgs.example/a/../Attestation",
            "http://hgs.example//Attestation",
            "http://hgs.example/%41ttestation",
            "http://hgs.example/Attestation\r\nX: y",
        ] {
            assert!(matches!(parse(text), Err(UrlError::Path(_))), "{text}");
        }
    }

    #[test]
    fn joins_below() {
        let url = parse("https://hgs/Attestation/").unwrap();
        let joined = url.join("/v2.0/hostkeyattest");
        assert_eq!(joined.path(), "/Attestation/v2.0/hostkeyattest");
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_the_same(text in "https?://[a-z0-9.\\[\\]:@-]{1,20}/[a-zA-Z0-9/._%-]{0,12}") {
            if let Ok(url) = parse(&text) {
                prop_assert_eq!(parse(&url.to_string()), Ok(url));
            }
        }

        #[test]
        fn never_panics(text in ".{0,64}") {
            let _ = parse(&text);
            let _ = parse(&format!("http://{text}"));
        }
    }
}
