//! Disks, files and ports.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use hgs_pki::TlsCertificate;
use hgs_trace::guardian::{Disk, Listener, ListenerCertificate, NameMatch};
use hgs_trace::{Observed, PathFacts, Problem};
use rustix::fs::statvfs;
use rustix::io::Errno;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;

use crate::config::{TlsFiles, host_of};
use crate::{Config, http};

/// The room for files in `folder`.
pub(in crate::guardian) fn disk(folder: &Path) -> Option<Disk> {
    let found = statvfs(folder).ok()?;
    Some(Disk {
        free: found.f_bavail.saturating_mul(found.f_frsize),
        total: found.f_blocks.saturating_mul(found.f_frsize),
        free_files: (found.f_files > 0).then_some(found.f_favail),
    })
}

/// The certificate of the HTTPS listener, and whether it is for the names in `urls`.
pub(super) fn https(config: &Config, urls: &[String]) -> Option<ListenerCertificate> {
    let https = &config.listen.https;
    https.enabled.then(|| shown(https.tls_files(), urls))
}

/// The same of `[listen.api]`.
pub(super) fn api(config: &Config, urls: &[String]) -> Option<ListenerCertificate> {
    let enabled = config.listen.api.enabled;
    enabled.then(|| shown(config.api_tls_files(), urls))
}

fn shown(files: TlsFiles<'_>, urls: &[String]) -> ListenerCertificate {
    let mut facts = ListenerCertificate {
        certificate: files.certificate.map_or_else(
            || format!("{}.certificate", files.section),
            |path| path.display().to_string(),
        ),
        usable: Ok(()),
        key: files.key.or(files.certificate).map(PathFacts::at),
        validity: None,
        authority: false,
        names: Vec::new(),
    };
    match http::check_certificate(files) {
        Ok(leaf) => {
            if let Ok(read) = TlsCertificate::from_der(&leaf) {
                facts.validity = Some(read.validity.into());
                facts.authority = read.is_certificate_authority;
            }
            let urls = urls.iter().filter_map(|url| names(&leaf, url));
            facts.names = urls.collect();
        }
        Err(error) => facts.usable = Err(Problem::of(&error)),
    }
    facts
}

fn names(leaf: &CertificateDer<'_>, url: &str) -> Option<NameMatch> {
    let host = url.starts_with("https://").then(|| host_of(url))?;
    Some(NameMatch {
        url: url.to_owned(),
        matches: is_for(leaf, host.trim_matches(['[', ']'])),
    })
}

/// Whether each TCP listener of a service that does not run could be opened by this user. A port is opened and closed
/// again.
pub(super) fn listeners(config: &Config) -> Vec<Listener> {
    let listen = &config.listen;
    let by_certificate = &listen.console.client_certificates;
    let addresses = [
        ("https", listen.https.enabled, config.https_address()),
        ("http", listen.http.enabled, config.http_address()),
        ("metrics", listen.metrics.enabled, listen.metrics.address),
        ("api", listen.api.enabled, listen.api.address),
        ("console", listen.console.enabled, listen.console.address),
        (
            "console.client_certificates",
            listen.console.enabled && by_certificate.enabled,
            by_certificate.address,
        ),
    ];
    let enabled = addresses.into_iter().filter(|(_, enabled, _)| *enabled);
    enabled
        .map(|(name, _, address)| Listener {
            name: format!("[listen.{name}] {address}"),
            free: free(address),
        })
        .collect()
}

fn free(address: SocketAddr) -> Observed<()> {
    let port = address.port();
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        // IPv6 is switched off: the service listens on IPv4 then.
        Err(error) if error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error()) => Ok(()),
        Err(error) => {
            let remedy = match error.kind() {
                ErrorKind::AddrInUse => format!(
                    "see which program has it with `ss -ltnp 'sport = :{port}'`, and end that, or choose another port"
                ),
                ErrorKind::PermissionDenied => "start the service by its systemd unit, which may open privileged ports, or choose a port from 1024 on".to_owned(),
                ErrorKind::AddrNotAvailable => {
                    "name an address that this machine has: `ip address`".to_owned()
                }
                _ => return Err(Problem::of(&error)),
            };
            Err(Problem::of(&error).with_remedy(Some(remedy)))
        }
    }
}

fn is_for(leaf: &CertificateDer<'_>, host: &str) -> Observed<()> {
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
    fn a_disk_has_room_and_what_is_no_folder_has_no_disk() {
        let disk = disk(Path::new("/")).unwrap();
        assert!(disk.free <= disk.total && disk.total > 0, "{disk:?}");
        assert_eq!(super::disk(Path::new("/no/such/folder")), None);
    }
}
