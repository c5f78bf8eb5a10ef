//! The name and the URLs by which hosts know this guardian, from the configuration, the TLS certificate and the machine.

use std::net::SocketAddr;

use hgs_pki::TlsCertificate;

use crate::config::{Config, PublicUrl};
use crate::http::check_certificate;

impl Config {
    /// The beginnings of the URLs under which hosts reach listeners at these addresses, HTTPS first.
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

    /// The URL by which browsers reach a console that listens at this address.
    pub(crate) fn console_url(&self, address: SocketAddr) -> String {
        match &self.listen.console.public_url {
            Some(url) => url.to_string(),
            None => self.derived_url("https", 443, address),
        }
    }

    /// The URL by which callers reach `[listen.api]` at this address.
    pub(crate) fn api_url(&self, address: SocketAddr) -> String {
        match &self.listen.api.public_url {
            Some(url) => url.to_string(),
            None => self.derived_url("https", 443, address),
        }
    }

    /// The names and addresses by which browsers may reach the console, the usual one first: those of the machine, and those in the
    /// certificate that is named for it.
    pub(crate) fn console_names(&self) -> Vec<String> {
        let console = &self.listen.console;
        let by_certificate = &console.client_certificates;
        let by_certificate = by_certificate.enabled.then_some(by_certificate);
        let host = |url: &PublicUrl| url.host().to_owned();
        let set = console.public_url.as_ref().map(host);
        let for_certificates = by_certificate.and_then(|one| one.public_url.as_ref().map(host));
        let addresses = [
            Some(console.address.ip()),
            by_certificate.map(|one| one.address.ip()),
        ];
        let addresses = addresses.into_iter().flatten();
        let bound = addresses
            .filter(|address| !address.is_unspecified())
            .map(|address| address.to_string());
        let machine = rustix::system::uname();
        let machine = machine.nodename().to_string_lossy().into_owned();
        let loopback = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let named = console.certificate.is_some().then(|| {
            let leaf = check_certificate(self.console_files().tls_files()).ok();
            leaf.and_then(|leaf| TlsCertificate::from_der(&leaf).ok())
        });
        let in_certificate = named.flatten().map(|certificate| certificate.dns_names);
        let mut names: Vec<String> = set
            .into_iter()
            .chain([self.public_name()])
            .chain(for_certificates)
            .chain(bound)
            .chain([machine])
            .chain(loopback)
            .chain(in_certificate.into_iter().flatten())
            .map(|name| name.trim_matches(['[', ']']).to_ascii_lowercase())
            .filter(|name| !name.is_empty() && !name.contains('*'))
            .collect();
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names
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
        let leaf = check_certificate(https.tls_files()).ok();
        let read = leaf.and_then(|leaf| TlsCertificate::from_der(&leaf).ok());
        read.map_or_else(Vec::new, |certificate| certificate.dns_names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
