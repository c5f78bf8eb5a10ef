//! Where the `[listen.api]` of a server is.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;
use rustls::pki_types::ServerName;

use crate::AdminError;

/// The port of `[listen.api]` where the configuration names no other.
const DEFAULT_PORT: u16 = 9443;

/// The URL of a server's `[listen.api]`: `https://` and a name or an address, and a port unless it is 9443.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    host: String,
    port: u16,
    name: ServerName<'static>,
    authority: String,
}

impl ServerAddress {
    /// What names the server in its certificate.
    pub(crate) fn name(&self) -> ServerName<'static> {
        self.name.clone()
    }

    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    pub(crate) fn to_connect_to(&self) -> (&str, u16) {
        (&self.host, self.port)
    }
}

impl FromStr for ServerAddress {
    type Err = AdminError;

    fn from_str(text: &str) -> Result<Self, AdminError> {
        let malformed = || {
            AdminError::invalid(format_args!("{text:?} is no URL of a server"))
                .with_remedy("write it like https://hgs.example or https://hgs.example:9443")
        };
        let url: Uri = text.parse().map_err(|_| malformed())?;
        let authority = url.authority().ok_or_else(malformed)?;
        let is_plain = url.scheme_str() == Some("https")
            && url.path_and_query().is_none_or(|rest| rest.as_str() == "/")
            && !authority.as_str().contains('@');
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_| malformed())?;
        if !is_plain {
            return Err(malformed());
        }
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => DEFAULT_PORT,
            rest => rest
                .and_then(|rest| rest.strip_prefix(':')?.parse().ok())
                .ok_or_else(malformed)?,
        };
        Ok(Self {
            host,
            port,
            name,
            authority: authority.to_string(),
        })
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "https://{}", self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_host_and_maybe_a_port() {
        for (text, host, port) in [
            ("https://hgs.example", "hgs.example", 9443),
            ("https://hgs.example/", "hgs.example", 9443),
            ("https://hgs.example:443", "hgs.example", 443),
            ("https://192.0.2.1:9000", "192.0.2.1", 9000),
            ("https://[2001:db8::1]", "2001:db8::1", 9443),
        ] {
            let address: ServerAddress = text.parse().unwrap();
            assert_eq!(address.to_connect_to(), (host, port), "{text}");
        }
        for text in [
            "",
            "hgs.example",
            "http://hgs.example",
            "https://",
            "https://user@hgs.example",
            "https://hgs.example/v1",
            "https://hgs.example/?a",
            "https://hgs.example:",
            "https://hgs.example:99999",
            "https://a b",
            "https://-",
        ] {
            assert!(text.parse::<ServerAddress>().is_err(), "{text}");
        }
    }
}
