//! Disks and files.

use std::path::Path;

use hgs_pki::Validity;
use hgs_trace::guardian::{Disk, Https, NameMatch};
use hgs_trace::{Found, Place, Problem};
use rustix::fs::statvfs;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;

use crate::{Config, http};

/// The room for files in `folder`.
pub(super) fn disk(folder: &Path) -> Option<Disk> {
    let found = statvfs(folder).ok()?;
    Some(Disk {
        free: found.f_bavail.saturating_mul(found.f_frsize),
        total: found.f_blocks.saturating_mul(found.f_frsize),
    })
}

/// The certificate of the HTTPS listener, and whether it is for the names in `urls`.
pub(super) fn https(config: &Config, urls: &[String]) -> Option<Https> {
    let settings = &config.listen.https;
    if !settings.enabled {
        return None;
    }
    let certificate = settings.certificate.as_deref();
    let shown = certificate.map_or_else(
        || "listen.https.certificate".to_owned(),
        |path| path.display().to_string(),
    );
    let key = settings.key.as_deref().or(certificate);
    let mut facts = Https {
        certificate: shown,
        usable: Ok(()),
        key: key.map(Place::at),
        validity: None,
        names: Vec::new(),
    };
    match http::check_certificate(settings) {
        Ok(leaf) => {
            facts.validity = Validity::of_any_certificate(&leaf).ok().map(Into::into);
            let urls = urls.iter().filter_map(|url| names(&leaf, url));
            facts.names = urls.collect();
        }
        Err(error) => facts.usable = Err(Problem::of(&error)),
    }
    Some(facts)
}

fn names(leaf: &CertificateDer<'_>, url: &str) -> Option<NameMatch> {
    let authority = url.strip_prefix("https://")?;
    Some(NameMatch {
        url: url.to_owned(),
        matches: is_for(leaf, host_of(authority)),
    })
}

/// The host in an authority that this server has written: a name or an address, and a port.
fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or(address),
        None => authority.split(':').next().unwrap_or(authority),
    }
}

fn is_for(leaf: &CertificateDer<'_>, host: &str) -> Found<()> {
    let refused = |error: &dyn std::error::Error| Err(Problem::of(error));
    let parsed = match ParsedCertificate::try_from(leaf) {
        Ok(parsed) => parsed,
        Err(error) => return refused(&error),
    };
    let name = match ServerName::try_from(host) {
        Ok(name) => name,
        Err(error) => return refused(&error),
    };
    verify_server_name(&parsed, &name).or_else(|error| refused(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_published_url() {
        for (authority, host) in [
            ("hgs.example", "hgs.example"),
            ("hgs.example:8443", "hgs.example"),
            ("192.0.2.1:8443", "192.0.2.1"),
            ("[2001:db8::1]:8443", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
        ] {
            assert_eq!(host_of(authority), host);
        }
    }

    #[test]
    fn a_disk_has_room_and_what_is_no_folder_has_no_disk() {
        let disk = disk(Path::new("/")).unwrap();
        assert!(disk.free <= disk.total && disk.total > 0, "{disk:?}");
        assert_eq!(super::disk(Path::new("/no/such/folder")), None);
    }
}
