//! URLs of a provider.

use core::net::IpAddr;
use std::fmt;
use std::str::FromStr;

use http::Uri;
use http::uri::Authority;

/// Octets of the longest URL of a provider.
const MAX_URL: usize = 1024;

/// A URL of a provider: `https`, or `http` on this machine, where nobody can listen in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderUrl {
    text: String,
    uri: Uri,
}

/// Not a URL of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProviderUrlError {
    /// Not a URL, or longer than any should be.
    #[error(
        "it is not an absolute URL of at most {MAX_URL} characters of ASCII, without a user and without `#`"
    )]
    Malformed,
    /// Neither `https` nor on this machine.
    #[error(
        "it does not begin with https:// (http:// is accepted for 127.0.0.1, [::1] and localhost)"
    )]
    NotSecure,
}

impl ProviderUrl {
    /// The URL as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is reached by TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// Name and port, as the header field `Host` has them.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.uri.authority().map_or("", Authority::as_str)
    }

    /// The name or the address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        host(&self.uri)
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        let default = if self.is_tls() { 443 } else { 80 };
        self.uri.port_u16().unwrap_or(default)
    }

    /// What is asked for.
    #[must_use]
    pub fn path_and_query(&self) -> &str {
        self.uri.path_and_query().map_or("/", |it| it.as_str())
    }

    pub(crate) fn has_query(&self) -> bool {
        self.uri.query().is_some()
    }
}

impl FromStr for ProviderUrl {
    type Err = ProviderUrlError;

    fn from_str(text: &str) -> Result<Self, ProviderUrlError> {
        let is_plain = |octet: u8| octet.is_ascii_graphic() && !b"#\\\"<>^`{|}".contains(&octet);
        if text.len() > MAX_URL || !text.bytes().all(is_plain) {
            return Err(ProviderUrlError::Malformed);
        }
        let uri: Uri = text.parse().map_err(|_| ProviderUrlError::Malformed)?;
        let authority = uri.authority().ok_or(ProviderUrlError::Malformed)?;
        let has_port = authority.port_u16().is_some_and(|port| port != 0);
        let names_port = authority
            .as_str()
            .rsplit(']')
            .next()
            .is_some_and(|it| it.contains(':'));
        if authority.as_str().contains('@') || host(&uri).is_empty() || names_port != has_port {
            return Err(ProviderUrlError::Malformed);
        }
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if is_this_machine(host(&uri)) => {}
            _ => return Err(ProviderUrlError::NotSecure),
        }
        Ok(Self {
            text: text.to_owned(),
            uri,
        })
    }
}

impl fmt::Display for ProviderUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

fn host(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_matches(['[', ']'])
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_are_reached_by_tls_or_are_on_this_machine() {
        for (text, host, port) in [
            ("https://login.example", "login.example", 443),
            (
                "https://login.example:8443/realms/a?b=c",
                "login.example",
                8443,
            ),
            ("https://[2001:db8::1]:8443/", "2001:db8::1", 8443),
            ("http://127.0.0.1:3000", "127.0.0.1", 3000),
            ("http://[::1]/", "::1", 80),
            ("http://localhost:5556/dex", "localhost", 5556),
        ] {
            let url: ProviderUrl = text.parse().unwrap();
            assert_eq!((url.host(), url.port(), url.as_str()), (host, port, text));
        }
        for text in [
            "login.example",
            "http://login.example",
            "http://127.0.0.1.example",
            "http://localhost.example",
            "http://10.0.0.1",
            "ftp://localhost",
            "javascript://localhost/%0aalert(1)",
        ] {
            assert_eq!(
                text.parse::<ProviderUrl>(),
                Err(ProviderUrlError::NotSecure),
                "{text}"
            );
        }
        let long = format!("https://login.example/{}", "a".repeat(1024));
        for text in [
            "",
            "/path",
            "https://",
            "https://user@login.example",
            "https://login.example#",
            "https://login.example/a b",
            "https://login.example/\u{e9}",
            "https://login.example:0",
            "https://login.example:",
            "https://login.example\\@other.example",
            "https://:443",
            &long,
        ] {
            assert_eq!(
                text.parse::<ProviderUrl>(),
                Err(ProviderUrlError::Malformed),
                "{text}"
            );
        }
    }
}
