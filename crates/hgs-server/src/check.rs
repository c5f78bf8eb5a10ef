//! What `hgs server check` finds: settings that are well formed and still can't work, or are not
//! wise, each with its cause and its remedy.

mod unit_folders;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::Path;

use hgs_custody::BundleError;
use hgs_pki::TlsCertificate;
use hgs_trace::Problem;
use rustix::fs::{Access, access};
use rustix::process::{Resource, getrlimit};

use crate::config::{Config, Finding, PublicUrl, Severity, TlsFiles};
use crate::guardian::{OpenId, OpenIdError};
use crate::http::{self, TlsError};
use crate::{logging, roles};

impl Config {
    /// Looks for what is wrong with this configuration on this machine, for this user. Files are
    /// read; nothing is changed and no port is opened.
    #[must_use]
    pub fn check(&self) -> Vec<Finding> {
        let mut findings = Findings::default();
        self.check_listeners(&mut findings);
        self.check_https(&mut findings);
        self.check_api(&mut findings);
        self.check_console(&mut findings);
        self.check_admin(&mut findings);
        self.check_files(&mut findings);
        self.check_limits(&mut findings);
        self.check_values(&mut findings);
        self.check_health_tokens(&mut findings);
        if self.is_of_machine() {
            unit_folders::check(self, Path::new("/"), &mut findings);
        }
        findings.0
    }

    fn check_health_tokens(&self, findings: &mut Findings) {
        let tokens = &self.health_token;
        match (&tokens.issuer, tokens.audiences.is_empty()) {
            (Some(_), true) => findings.warning(
                "health_token.audiences",
                "health tokens are on, and there is no audience that they are issued for",
                "list the audiences, as those that verify the tokens call themselves",
            ),
            (None, false) => findings.warning(
                "health_token.issuer",
                "audiences of health tokens are listed, and without an issuer there are no tokens",
                "set health_token.issuer to the https URL under which verifiers reach this guardian",
            ),
            _ => {}
        }
    }

    fn check_listeners(&self, findings: &mut Findings) {
        let listen = &self.listen;
        if !listen.http.enabled && !listen.https.enabled {
            findings.error(
                "listen",
                "both [listen.http] and [listen.https] are off, so no host can reach the server",
                "enable one of them",
            );
        }
        let by_certificate = &listen.console.client_certificates;
        let mut taken: Vec<(&str, SocketAddr)> = Vec::new();
        for (check, enabled, address) in [
            (
                "listen.http.address",
                listen.http.enabled,
                self.http_address(),
            ),
            (
                "listen.https.address",
                listen.https.enabled,
                self.https_address(),
            ),
            (
                "listen.metrics.address",
                listen.metrics.enabled,
                listen.metrics.address,
            ),
            ("listen.api.address", listen.api.enabled, listen.api.address),
            (
                "listen.console.address",
                listen.console.enabled,
                listen.console.address,
            ),
            (
                "listen.console.client_certificates.address",
                listen.console.enabled && by_certificate.enabled,
                by_certificate.address,
            ),
        ] {
            if !enabled || address.port() == 0 {
                continue;
            }
            if let Some((other, _)) = taken.iter().find(|(_, other)| overlap(address, *other)) {
                findings.error(
                    check,
                    format!("{other} has port {} too", address.port()),
                    "give each listener a port of its own",
                );
            }
            taken.push((check, address));
            check_privilege(check, address, findings);
        }
        if listen.metrics.enabled && !listen.metrics.address.ip().is_loopback() {
            findings.warning(
                "listen.metrics.address",
                format!(
                    "others can read the metrics at {}, which tell how busy the fabric is",
                    listen.metrics.address
                ),
                "listen on 127.0.0.1, or let a firewall admit the monitoring system only",
            );
        }
    }

    fn check_https(&self, findings: &mut Findings) {
        let https = &self.listen.https;
        if https.enabled {
            let settings = ("listen.https.certificate", "listen.https.key");
            check_certificate(settings, https.tls_files(), findings);
        }
    }

    fn check_api(&self, findings: &mut Findings) {
        let api = &self.listen.api;
        if !api.enabled {
            return;
        }
        if self.api_has_own_certificate() {
            let settings = ("listen.api.certificate", "listen.api.key");
            check_certificate(settings, self.api_tls_files(), findings);
        }
        let manual = "docs/admin-api.md";
        check_clients(
            "listen.api.clients",
            &self.api_clients_file(),
            manual,
            findings,
        );
    }

    fn check_console(&self, findings: &mut Findings) {
        let console = &self.listen.console;
        if !console.enabled {
            if console.client_certificates.enabled {
                findings.warning(
                    "listen.console.client_certificates.enabled",
                    "nobody signs in to the console by a certificate, as [listen.console] is off",
                    "set `enabled = true` under [listen.console], too",
                );
            }
            return;
        }
        let files = self.console_files();
        if !files.is_own {
            let settings = ("listen.console.certificate", "listen.console.key");
            check_certificate(settings, files.tls_files(), findings);
        }
        check_console_url(
            "listen.console.public_url",
            console.public_url.as_ref(),
            findings,
        );
        let by_certificate = &console.client_certificates;
        if by_certificate.enabled {
            let url = by_certificate.public_url.as_ref();
            check_console_url(
                "listen.console.client_certificates.public_url",
                url,
                findings,
            );
            check_clients(
                "listen.console.client_certificates.clients",
                &self.console_clients_file(),
                "docs/console.md",
                findings,
            );
        }
        if let Err(error) = OpenId::check(&console.openid) {
            let (check, remedy) = match &error {
                OpenIdError::Incomplete(_) => (
                    "listen.console.openid",
                    "write `issuer`, `client_id` and at least one [[listen.console.openid.group]]",
                ),
                OpenIdError::Secret(_) | OpenIdError::UnfitSecret(_) => (
                    "listen.console.openid.client_secret_file",
                    "write the secret of the client into that file, readable by the server alone",
                ),
                OpenIdError::Authorities(_) => (
                    "listen.console.openid.authorities",
                    "install the package ca-certificates, or name a PEM file with the authority of the provider",
                ),
            };
            findings.error(check, Problem::of(&error).message, remedy);
        }
        let has_other_way = console.openid.issuer.is_some() || by_certificate.enabled;
        if !self.listen.admin.enabled && !has_other_way {
            findings.warning(
                "listen.console",
                "nobody can sign in to the console: [listen.admin] is off, over which `hgs console` asks",
                "enable [listen.admin]",
            );
        }
    }

    fn check_admin(&self, findings: &mut Findings) {
        let admin = &self.listen.admin;
        if !admin.enabled {
            return;
        }
        let octets = self.admin_socket().as_os_str().len();
        if octets > hgs_files::SOCKET_PATH_LIMIT {
            findings.error(
                "listen.admin.socket",
                format!(
                    "the path of the admin socket has {octets} octets, the kernel takes {}",
                    hgs_files::SOCKET_PATH_LIMIT
                ),
                "set listen.admin.socket to a shorter path",
            );
        }
        self.check_way_to_the_socket(findings);
        for (check, group) in [
            ("listen.admin.group", &admin.group),
            (
                "listen.admin.administrators_group",
                &admin.administrators_group,
            ),
            ("listen.admin.reviewers_group", &admin.reviewers_group),
            (
                "listen.admin.host_managers_group",
                &admin.host_managers_group,
            ),
        ] {
            let Some(group) = group else { continue };
            match roles::group_id(group) {
                Ok(Some(_)) => {}
                Ok(None) => findings.error(
                    check,
                    format!("there is no group `{group}`"),
                    format!("groupadd --system {group}"),
                ),
                Err(error) => findings.error(
                    check,
                    Problem::of(&error).message,
                    "see that the user database of this machine answers: getent group",
                ),
            }
        }
    }

    /// Members of the socket's group must be able to enter its folder.
    fn check_way_to_the_socket(&self, findings: &mut Findings) {
        let socket = self.admin_socket();
        let (Some(group), Some(folder)) = (&self.listen.admin.group, socket.parent()) else {
            return;
        };
        let (Ok(Some(group_id)), Ok(meta)) = (roles::group_id(group), fs::metadata(folder)) else {
            return;
        };
        let is_open = match meta.gid() == group_id {
            true => meta.mode() & 0o010 != 0,
            false => meta.mode() & 0o001 != 0,
        };
        if !is_open {
            let folder = folder.display();
            findings.error(
                "listen.admin.socket",
                format!("group `{group}` may connect to the admin socket and can't enter its folder {folder}"),
                "set RuntimeDirectoryMode=0755 in the systemd unit, or name a socket in a folder that the group can enter: \
                 listen.admin.socket",
            );
        }
    }

    fn check_files(&self, findings: &mut Findings) {
        let state = self.state_folder();
        if !state.is_dir() {
            findings.error(
                "server.state",
                format!("there is no state folder {}", state.display()),
                "run `hgs init`, or set server.state to the folder that it made",
            );
        } else if access(&state, Access::WRITE_OK).is_err() {
            findings.error(
                "server.state",
                format!(
                    "this user can't write to the state folder {}",
                    state.display()
                ),
                "run as the user that owns it",
            );
            findings.about_process();
        } else if is_open_to_others(&state) {
            findings.warning(
                "server.state",
                format!("every user of this machine can enter {}", state.display()),
                format!("chmod 0700 {}", state.display()),
            );
        }
        let mark = self.high_water_mark_file();
        if mark.starts_with(&state) {
            findings.warning(
                "server.high_water_mark",
                format!(
                    "the high-water mark {} lies in the state folder, so a copy of the folder that is put back takes \
                     it along and is not found to be old",
                    mark.display()
                ),
                "set server.high_water_mark to a file in another folder, best on another disk",
            );
        }
        let master_key = self.master_key_file();
        if master_key.exists() && is_open_to_others(&master_key) {
            findings.error(
                "server.master_key",
                format!(
                    "every user of this machine can read the master key {}",
                    master_key.display()
                ),
                format!("chmod 0600 {}, and consider it known", master_key.display()),
            );
        }
    }

    fn check_limits(&self, findings: &mut Findings) {
        let limits = &self.limits;
        if limits.body_memory < limits.body {
            findings.error(
                "limits.body_memory",
                "a request of the largest size allowed does not fit into the memory for bodies",
                "set limits.body_memory to many times limits.body",
            );
        }
        // Three listeners, or up to six, take as many connections each; the store and the logs take a few more. `hgs serve` raises the
        // soft limit itself.
        let console = &self.listen.console;
        let further = [
            self.listen.api.enabled,
            console.enabled,
            console.enabled && console.client_certificates.enabled,
        ];
        let listeners = 3 + further.into_iter().map(u64::from).sum::<u64>();
        let wanted = limits.connections as u64 * listeners + 100;
        if let Some(descriptors) = getrlimit(Resource::Nofile).maximum
            && descriptors < wanted
        {
            findings.warning(
                "limits.connections",
                format!("a process may open {descriptors} files here, {wanted} could be needed"),
                format!(
                    "start the server with LimitNOFILE={wanted} (systemd) or ulimit -n {wanted}, \
                     or lower limits.connections"
                ),
            );
            findings.about_process();
        }
    }

    fn check_values(&self, findings: &mut Findings) {
        if let Err(error) = logging::filter(&self.log) {
            findings.error(
                "log.level",
                format!("`{}` is no level: {error}", self.log.level),
                "use error, warn, info, debug or trace, or directives such as info,hgs_server=debug",
            );
        }
        for setting in self.dangerous_settings() {
            findings.warning(
                "dangerous",
                format!("{setting} weakens verification"),
                "set it back as soon as what made it necessary is over",
            );
        }
    }
}

/// What helps against a TLS certificate of an authority.
pub(crate) const TLS_AUTHORITY_REMEDY: &str = "have a certificate issued that is none of an authority; with `openssl req -x509`, add \
     `-addext basicConstraints=critical,CA:FALSE`; for a trial, `hgs init --tls` makes one";

#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn error(&mut self, check: &'static str, cause: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Error, check, cause.into(), remedy.into());
    }

    fn warning(
        &mut self,
        check: &'static str,
        cause: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(Severity::Warning, check, cause.into(), remedy.into());
    }

    /// The last finding is about the process that looks.
    fn about_process(&mut self) {
        if let Some(last) = self.0.last_mut() {
            last.about_process = true;
        }
    }

    fn add(&mut self, severity: Severity, check: &'static str, cause: String, remedy: String) {
        self.0.push(Finding {
            check,
            severity,
            cause,
            remedy,
            about_process: false,
        });
    }
}

/// Judges the URL of a console, which the setting `check` names.
fn check_console_url(check: &'static str, url: Option<&PublicUrl>, findings: &mut Findings) {
    let is_of_console = |url: &PublicUrl| {
        let rest = url.as_str().strip_prefix("https://");
        rest.is_some_and(|rest| !rest.contains('/'))
    };
    if let Some(url) = url.filter(|url| !is_of_console(url)) {
        findings.error(
            check,
            format!("browsers don't reach the console by {url}"),
            "write https://, a name, and a port if it is not 443; paths are the console's own",
        );
    }
}

/// Judges the file with the clients of a listener, which the setting `check` names.
fn check_clients(check: &'static str, file: &Path, manual: &str, findings: &mut Findings) {
    if is_writable_by_others(file) {
        findings.error(
            check,
            format!(
                "every user of this machine can write {}, and so become an administrator",
                file.display()
            ),
            format!("chmod o-w {}", file.display()),
        );
    }
    match http::check_clients(file) {
        Ok(left_out) => {
            for error in left_out {
                findings.error(
                    check,
                    format!("{}, so it has no access", Problem::of(&error).message),
                    "put the client's certificate there, name another file, or remove the entry",
                );
            }
        }
        Err(error) => findings.error(
            check,
            Problem::of(&error).message,
            format!("write the file as {manual} shows, or switch the listener off"),
        ),
    }
}

/// The certificate of a listener and its key, by the names of their settings.
fn check_certificate(
    (setting, key_setting): (&'static str, &'static str),
    files: TlsFiles<'_>,
    findings: &mut Findings,
) {
    let leaf = http::check_certificate(files);
    if let Ok(leaf) = &leaf
        && TlsCertificate::from_der(leaf).is_ok_and(|read| read.is_certificate_authority)
    {
        findings.error(
            setting,
            "the TLS certificate is that of a certification authority, which clients accept from no server",
            TLS_AUTHORITY_REMEDY,
        );
    }
    if let Err(error) = leaf {
        findings.error(
            setting,
            Problem::of(&error).message,
            remedy_of(&error, files.section),
        );
    }
    if let Some(key) = files.key.or(files.certificate)
        && is_open_to_others(key)
    {
        findings.warning(
            key_setting,
            format!(
                "every user of this machine can read the TLS key {}",
                key.display()
            ),
            format!("chmod o-rwx {}", key.display()),
        );
    }
}

fn remedy_of(error: &TlsError, section: &str) -> String {
    match error {
        TlsError::NotConfigured(_) => {
            format!("set {section}.certificate, or switch the listener off")
        }
        TlsError::Unreadable { .. } => {
            "correct the path, or let the server's user read the file".to_owned()
        }
        TlsError::TooLarge { .. } => {
            "name a file with the server's certificate and its chain".to_owned()
        }
        TlsError::Content { error, .. } if error.needs_passphrase() => {
            format!("set {section}.passphrase_file to a file with the passphrase")
        }
        TlsError::Content {
            error: BundleError::NoPrivateKey(_),
            ..
        } => format!("set {section}.key to the file with the private key"),
        TlsError::Content { .. } => {
            "name files with the server's certificate, its chain and the one private key: PEM, DER, PKCS#7 or PFX"
                .to_owned()
        }
        TlsError::Refused { .. } => {
            "name the key that belongs to the certificate, RSA or ECDSA".to_owned()
        }
    }
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port()
        && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}

fn check_privilege(check: &'static str, address: SocketAddr, findings: &mut Findings) {
    if address.port() < unprivileged_port_start() && !may_bind_privileged_ports() {
        findings.error(
            check,
            format!(
                "port {} is privileged and this user may not open it",
                address.port()
            ),
            "nothing, where the systemd unit starts the service: it grants CAP_NET_BIND_SERVICE; \
             otherwise choose a port from 1024 on",
        );
        findings.about_process();
    }
}

/// `ip_unprivileged_port_start` of ip-sysctl; IPv6 follows it.
fn unprivileged_port_start() -> u16 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1024)
}

/// Whether `CAP_NET_BIND_SERVICE` (10 in capabilities(7)) is effective here.
fn may_bind_privileged_ports() -> bool {
    fs::read_to_string("/proc/self/status")
        .ok()
        .as_deref()
        .and_then(|status| status.lines().find_map(|line| line.strip_prefix("CapEff:")))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & (1 << 10) != 0)
}

fn is_open_to_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0)
}

fn is_writable_by_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o002 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use tempfile::TempDir;

    use super::*;
    use crate::config::Layout;

    /// A configuration with nothing to find: high ports, and a state folder as `hgs init` makes it.
    fn sound() -> (TempDir, Config) {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        let layout = Layout {
            configuration: folder.path().to_path_buf(),
            state: folder.path().to_path_buf(),
            runtime: folder.path().to_path_buf(),
            http_port: 18_080,
            https_port: 18_443,
        };
        let mut config = Config::with_layout(layout);
        config.limits.connections = 10;
        (folder, config)
    }

    fn found(config: &Config) -> Vec<(&'static str, Severity)> {
        config
            .check()
            .iter()
            .map(|finding| (finding.check, finding.severity))
            .collect()
    }

    /// What is found after one change to a sound configuration.
    fn found_after(change: impl FnOnce(&mut Config)) -> Vec<(&'static str, Severity)> {
        let (_folder, mut config) = sound();
        change(&mut config);
        found(&config)
    }

    #[test]
    fn a_sound_configuration_has_no_findings() {
        assert_eq!(found_after(|_| {}), []);
    }

    #[test]
    fn a_server_that_no_host_can_reach_is_found() {
        let findings = found_after(|config| config.listen.http.enabled = false);
        assert_eq!(findings, [("listen", Severity::Error)]);
    }

    #[test]
    fn health_tokens_for_nobody_or_by_nobody_are_found() {
        let issuer = || "https://hgs.example".parse().unwrap();
        let audience = || "kubernetes".parse().unwrap();
        let findings = found_after(|config| config.health_token.issuer = Some(issuer()));
        assert_eq!(findings, [("health_token.audiences", Severity::Warning)]);
        let findings = found_after(|config| config.health_token.audiences.push(audience()));
        assert_eq!(findings, [("health_token.issuer", Severity::Warning)]);
        let findings = found_after(|config| {
            config.health_token.issuer = Some(issuer());
            config.health_token.audiences.push(audience());
        });
        assert_eq!(findings, []);
    }

    #[test]
    fn one_port_for_two_listeners_is_found() {
        let findings = found_after(|config| {
            config.listen.metrics.address = "127.0.0.1:18080".parse().unwrap();
        });
        assert_eq!(findings, [("listen.metrics.address", Severity::Error)]);
    }

    #[test]
    fn one_port_at_two_addresses_is_not() {
        let findings = found_after(|config| {
            config.listen.http.address = Some("127.0.0.2:18080".parse().unwrap());
            config.listen.metrics.address = "127.0.0.1:18080".parse().unwrap();
        });
        assert_eq!(findings, []);
    }

    #[test]
    fn metrics_for_everybody_are_found() {
        let findings = found_after(|config| {
            config.listen.metrics.address = "0.0.0.0:18081".parse().unwrap();
        });
        assert_eq!(findings, [("listen.metrics.address", Severity::Warning)]);
    }

    #[test]
    fn an_absent_certificate_is_found() {
        let findings = found_after(|config| config.listen.https.enabled = true);
        assert_eq!(findings, [("listen.https.certificate", Severity::Error)]);
    }

    #[test]
    fn an_unreadable_certificate_is_found_with_its_path_and_the_reason() {
        let (_folder, mut config) = sound();
        config.listen.https.enabled = true;
        config.listen.https.certificate = Some("/nonexistent/tls.pem".into());
        let findings = config.check();
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(
            findings[0]
                .cause
                .contains("/nonexistent/tls.pem: No such file")
        );
    }

    #[test]
    fn a_socket_path_that_is_too_long_is_found() {
        let findings = found_after(|config| {
            config.listen.admin.socket = Some(format!("/run/{}", "x".repeat(103)).into());
        });
        assert_eq!(findings, [("listen.admin.socket", Severity::Error)]);
    }

    #[test]
    fn groups_that_do_not_exist_are_found() {
        let findings = found_after(|config| {
            config.listen.admin.reviewers_group = Some("no-such-group".to_owned());
        });
        assert_eq!(
            findings,
            [("listen.admin.reviewers_group", Severity::Error)]
        );
    }

    #[test]
    fn an_absent_state_folder_is_found() {
        let findings = found_after(|config| config.server.state = Some("/nonexistent".into()));
        assert_eq!(findings, [("server.state", Severity::Error)]);
    }

    #[test]
    fn secrets_that_others_can_read_are_found() {
        let (folder, config) = sound();
        fs::write(config.master_key_file(), [0; 32]).unwrap();
        fs::set_permissions(config.master_key_file(), Permissions::from_mode(0o604)).unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        assert_eq!(
            found(&config),
            [
                ("server.state", Severity::Warning),
                ("server.master_key", Severity::Error)
            ]
        );
    }

    #[test]
    fn limits_that_contradict_each_other_are_found() {
        let findings = found_after(|config| config.limits.body_memory = 1024);
        assert_eq!(findings, [("limits.body_memory", Severity::Error)]);
    }

    #[test]
    fn more_connections_than_descriptors_are_found() {
        let findings = found_after(|config| config.limits.connections = 1_000_000_000);
        assert_eq!(findings, [("limits.connections", Severity::Warning)]);
    }

    #[test]
    fn a_level_that_is_none_is_found() {
        let findings = found_after(|config| config.log.level = "hgs=loud".to_owned());
        assert_eq!(findings, [("log.level", Severity::Error)]);
    }
}
