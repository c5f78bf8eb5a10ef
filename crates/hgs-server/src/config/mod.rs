//! The configuration: one TOML file in which every key is optional and unknown keys are errors.
//!
//! `docs/configuration.md` is its reference, held true by a test. An empty file is a valid
//! configuration. `HGS_*` variables override paths, so that a unit file or a container can place
//! files without a configuration of its own.

mod dangerous;
mod finding;
mod health_token;
mod layout;
mod limits;
mod listen;
mod openid;
mod pkcs11;
mod public_url;
mod quantity;
mod sections;
mod telemetry;

use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use hgs_files::{FileError, FileProblem};
use hgs_store::high_water_mark::default_path;
use serde::{Deserialize, Serialize};

pub use finding::{Finding, Severity};
pub use health_token::HealthToken;
pub use layout::{Environment, Layout};
pub use limits::Limits;
pub use listen::{Admin, Api, ClientCertificates, Console, Http, Https, Listen, Metrics, TlsFiles};
pub use openid::{OpenId, OpenIdGroup, OpenIdIncomplete};
pub use pkcs11::{Pkcs11, Pkcs11Key, Pkcs11Module};
pub(crate) use public_url::host_of;
pub use public_url::{PublicUrl, PublicUrlError};
pub use quantity::parse_period;
pub use sections::{Ancestors, Attestation, KeyProtection, Log, LogFormat, Server};
pub use telemetry::{OtlpEndpoint, OtlpEndpointError, SamplingRatio, Telemetry};

/// In the state folder: the certificate for HTTPS that `hgs init --tls` makes.
pub const OWN_TLS_CERTIFICATE: &str = "tls.pem";
/// In the state folder: its private key.
pub const OWN_TLS_KEY: &str = "tls.key";

/// In the state folder: the certificate that the server makes for the console.
const OWN_CONSOLE_CERTIFICATE: &str = "console.pem";
/// In the state folder: its private key.
const OWN_CONSOLE_KEY: &str = "console.key";

/// The files of the console's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConsoleFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: Option<PathBuf>,
    passphrase_file: Option<PathBuf>,
    /// Whether the server makes and renews them.
    pub(crate) is_own: bool,
}

impl ConsoleFiles {
    pub(crate) fn tls_files(&self) -> TlsFiles<'_> {
        TlsFiles {
            section: "listen.console",
            certificate: Some(&self.certificate),
            key: self.key.as_deref(),
            passphrase_file: self.passphrase_file.as_deref(),
        }
    }
}

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name, state and master key.
    pub server: Server,
    /// Listeners.
    pub listen: Listen,
    /// Budgets of connections and requests.
    pub limits: Limits,
    /// Logs.
    pub log: Log,
    /// Traces.
    pub telemetry: Telemetry,
    /// Lifetimes of what attestation issues.
    pub attestation: Attestation,
    /// Tokens that tell others what hosts attested.
    pub health_token: HealthToken,
    /// What hosts may do with released keys.
    pub key_protection: KeyProtection,
    /// Keys in tokens.
    pub pkcs11: Pkcs11,
    #[serde(skip, default = "Layout::system")]
    layout: Layout,
}

impl Default for Config {
    fn default() -> Self {
        Self::with_layout(Layout::system())
    }
}

impl Config {
    /// The configuration of an empty file, with files where `layout` puts them.
    #[must_use]
    pub fn with_layout(layout: Layout) -> Self {
        Self {
            server: Server::default(),
            listen: Listen::default(),
            limits: Limits::default(),
            log: Log::default(),
            telemetry: Telemetry::default(),
            attestation: Attestation::default(),
            health_token: HealthToken::default(),
            key_protection: KeyProtection::default(),
            pkcs11: Pkcs11::default(),
            layout,
        }
    }

    /// Reads the configuration: the file `named` (`--config`), else the one that `HGS_CONFIG`
    /// names, else the one of the layout, which may be absent; then the `HGS_*` overrides.
    ///
    /// # Errors
    /// When a named file is absent, and when a file can't be read or is not a configuration.
    pub fn load(named: Option<&Path>, environment: &Environment) -> Result<Self, ConfigError> {
        Self::load_by(Layout::detect(environment), named, environment)
    }

    /// As [`Self::load`], for those who ask a running server: where this user has no configuration of their own, the
    /// server of the machine is meant.
    ///
    /// # Errors
    /// As for [`Self::load`].
    pub fn load_of_server(
        named: Option<&Path>,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let layout = Layout::detect(environment);
        let own = Self::load_by(layout.clone(), named, environment)?;
        let is_named = named.is_some()
            || environment.path("HGS_CONFIG").is_some()
            || environment.path("HGS_SOCKET").is_some();
        if is_named || layout.configuration_file().exists() || own.admin_socket().exists() {
            return Ok(own);
        }
        let of_machine = match Self::load_by(Layout::system(), None, environment) {
            Err(ConfigError::Unreadable(error)) if matches!(error.problem, FileProblem::Denied) => {
                Self::with_layout(Layout::system())
            }
            read => read?,
        };
        // The socket itself can't be seen by those who can't enter its folder, and they are told so.
        let socket = of_machine.admin_socket();
        match socket.parent().is_some_and(Path::exists) {
            true => Ok(of_machine),
            false => Ok(own),
        }
    }

    fn load_by(
        layout: Layout,
        named: Option<&Path>,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let named = named
            .map(Path::to_path_buf)
            .or_else(|| environment.path("HGS_CONFIG"));
        let (file, optional) = match named {
            Some(file) => (file, false),
            None => (layout.configuration_file(), true),
        };
        let text = match read_text(&file) {
            Err(problem) if optional && matches!(problem, FileProblem::NotFound) => String::new(),
            read => {
                read.map_err(|problem| ConfigError::Unreadable(FileError::at(&file, problem)))?
            }
        };
        let mut config = Self::parse(&text, &file, layout)?;
        config.apply(environment);
        config.use_own_certificate(&text);
        Ok(config)
    }

    /// Where the configuration names no certificate for HTTPS, the one that `hgs init --tls` made is used.
    fn use_own_certificate(&mut self, text: &str) {
        let certificate = self.made_tls_certificate();
        if self.listen.https.certificate.is_some() || !certificate.exists() {
            return;
        }
        let key = self.state_folder().join(OWN_TLS_KEY);
        let table: toml::Table = text.parse().unwrap_or_default();
        let section = table.get("listen").and_then(|listen| listen.get("https"));
        let https = &mut self.listen.https;
        https.certificate = Some(certificate);
        https.key.get_or_insert(key);
        https.enabled |= section.is_none_or(|section| section.get("enabled").is_none());
    }

    fn made_tls_certificate(&self) -> PathBuf {
        self.state_folder().join(OWN_TLS_CERTIFICATE)
    }

    /// The certificate for HTTPS, if it is the one that `hgs init --tls` made. It signs itself.
    #[must_use]
    pub fn own_tls_certificate(&self) -> Option<PathBuf> {
        let used = self.listen.https.certificate.clone();
        used.filter(|used| *used == self.made_tls_certificate())
    }

    /// The file that [`Self::load`] reads; it may be absent unless the caller named it.
    #[must_use]
    pub fn file(named: Option<&Path>, environment: &Environment) -> PathBuf {
        let named = named.map(Path::to_path_buf);
        named
            .or_else(|| environment.path("HGS_CONFIG"))
            .unwrap_or_else(|| Layout::detect(environment).configuration_file())
    }

    /// Reads the text of the configuration file `file`.
    ///
    /// # Errors
    /// When the text is not a configuration: the error names the key and where it stands.
    pub fn parse(text: &str, file: &Path, layout: Layout) -> Result<Self, ConfigError> {
        let mut config: Self = toml::from_str(text).map_err(|error| ConfigError::Invalid {
            file: file.to_path_buf(),
            position: error.span().map(|span| Position::of(span.start, text)),
            message: error.message().to_owned(),
        })?;
        config.layout = layout;
        Ok(config)
    }

    /// Applies the overrides of the environment, which are all paths.
    pub fn apply(&mut self, environment: &Environment) {
        for (variable, setting) in self.overrides() {
            if let Some(path) = environment.path(variable) {
                *setting = Some(path);
            }
        }
    }

    /// The names of the variables that [`Self::apply`] looks at.
    #[must_use]
    pub fn variables() -> [&'static str; 7] {
        Self::default().overrides().map(|(variable, _)| variable)
    }

    fn overrides(&mut self) -> [(&'static str, &mut Option<PathBuf>); 7] {
        let https = &mut self.listen.https;
        [
            ("HGS_STATE", &mut self.server.state),
            ("HGS_MASTER_KEY", &mut self.server.master_key),
            ("HGS_HIGH_WATER_MARK", &mut self.server.high_water_mark),
            ("HGS_SOCKET", &mut self.listen.admin.socket),
            ("HGS_TLS_CERTIFICATE", &mut https.certificate),
            ("HGS_TLS_KEY", &mut https.key),
            ("HGS_TLS_PASSPHRASE_FILE", &mut https.passphrase_file),
        ]
    }

    /// Whether it is that of the machine's service, and not of a user's own.
    pub(crate) fn is_of_machine(&self) -> bool {
        self.layout == Layout::system()
    }

    /// Folder of the store.
    #[must_use]
    pub fn state_folder(&self) -> PathBuf {
        self.server
            .state
            .clone()
            .unwrap_or_else(|| self.layout.state.clone())
    }

    /// File of the master key.
    #[must_use]
    pub fn master_key_file(&self) -> PathBuf {
        self.server
            .master_key
            .clone()
            .unwrap_or_else(|| self.state_folder().join("master.key"))
    }

    /// File of the high-water mark of the state.
    #[must_use]
    pub fn high_water_mark_file(&self) -> PathBuf {
        let configured = self.server.high_water_mark.clone();
        configured.unwrap_or_else(|| default_path(&self.state_folder()))
    }

    /// Path of the admin API's socket.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.listen
            .admin
            .socket
            .clone()
            .unwrap_or_else(|| self.layout.runtime.join("admin.sock"))
    }

    /// The file with the callers of `[listen.api]`.
    #[must_use]
    pub fn api_clients_file(&self) -> PathBuf {
        let configured = self.listen.api.clients.clone();
        configured.unwrap_or_else(|| self.layout.configuration.join("api-clients.toml"))
    }

    /// The file with the users who sign in to the console by a certificate.
    #[must_use]
    pub fn console_clients_file(&self) -> PathBuf {
        let configured = self.listen.console.client_certificates.clients.clone();
        configured.unwrap_or_else(|| self.layout.configuration.join("console-clients.toml"))
    }

    /// Whether `[listen.api]` needs another certificate than `[listen.https]`, which is read there.
    #[must_use]
    pub fn api_has_own_certificate(&self) -> bool {
        self.listen.api.certificate.is_some() || !self.listen.https.enabled
    }

    /// The certificate of `[listen.api]`: that of `[listen.https]`, unless it has one of its own.
    #[must_use]
    pub fn api_tls_files(&self) -> TlsFiles<'_> {
        let (api, https) = (&self.listen.api, &self.listen.https);
        match api.certificate.is_some() {
            true => api.tls_files(),
            false => TlsFiles {
                section: "listen.api",
                ..https.tls_files()
            },
        }
    }

    /// The certificate of `[listen.console]`: the one that is named, or the one that the server makes.
    pub(crate) fn console_files(&self) -> ConsoleFiles {
        let console = &self.listen.console;
        match &console.certificate {
            Some(certificate) => ConsoleFiles {
                certificate: certificate.clone(),
                key: console.key.clone(),
                passphrase_file: console.passphrase_file.clone(),
                is_own: false,
            },
            None => ConsoleFiles {
                certificate: self.state_folder().join(OWN_CONSOLE_CERTIFICATE),
                key: Some(self.state_folder().join(OWN_CONSOLE_KEY)),
                passphrase_file: None,
                is_own: true,
            },
        }
    }

    /// Address of the plain HTTP listener.
    #[must_use]
    pub fn http_address(&self) -> SocketAddr {
        self.listen
            .http
            .address
            .unwrap_or_else(|| Layout::anywhere(self.layout.http_port))
    }

    /// Address of the HTTPS listener.
    #[must_use]
    pub fn https_address(&self) -> SocketAddr {
        self.listen
            .https
            .address
            .unwrap_or_else(|| Layout::anywhere(self.layout.https_port))
    }
}

/// The operator's configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is absent, its permissions are in the way, or it is no text.
    #[error("can't read the configuration")]
    Unreadable(#[source] FileError),
    /// Not TOML, an unknown key, or a value that its key does not take.
    #[error("{}{}: {message}", file.display(), Position::suffix(position.as_ref()))]
    Invalid {
        /// The file.
        file: PathBuf,
        /// Where in the file.
        position: Option<Position>,
        /// What is wrong there.
        message: String,
    },
}

impl ConfigError {
    /// What the operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        let Self::Unreadable(error) = self else {
            return "correct the file; docs/configuration.md describes every key".to_owned();
        };
        match (&error.problem, error.remedy()) {
            (FileProblem::Denied, _) => {
                "run this as root, or as the user that the service runs as".to_owned()
            }
            (FileProblem::NotUtf8 { .. } | FileProblem::Utf16, Some(remedy)) => remedy,
            _ => "name the configuration of the service with `--config FILE`".to_owned(),
        }
    }
}

/// Octets of the largest configuration file.
const LONGEST_FILE: usize = 1 << 20;

/// The text of a file that an operator writes.
pub(crate) fn read_text(file: &Path) -> Result<String, FileProblem> {
    hgs_files::text(read_octets(file)?)
}

/// Links and pipes are followed: the administrator who names a file means what is there.
pub(crate) fn read_octets(file: &Path) -> Result<Vec<u8>, FileProblem> {
    let mut octets = Vec::new();
    let opened = File::open(file)?;
    opened
        .take(LONGEST_FILE as u64 + 1)
        .read_to_end(&mut octets)?;
    if octets.len() > LONGEST_FILE {
        return Err(FileProblem::TooLarge {
            limit: LONGEST_FILE,
        });
    }
    Ok(octets)
}

/// A place in a text file, both numbers counting from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl Position {
    fn of(offset: usize, text: &str) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    fn suffix(position: Option<&Self>) -> String {
        position.map_or_else(String::new, |position| {
            format!(":{}:{}", position.line, position.column)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("openhgs.toml"), Layout::system())
    }

    fn refusal(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_file_is_a_configuration() {
        assert_eq!(parse("").unwrap(), Config::default());
    }

    #[test]
    fn an_unknown_key_is_refused_by_name_and_line() {
        let refusal = refusal("[server]\nname = \"a\"\nstat = \"/x\"\n");
        assert!(refusal.starts_with("openhgs.toml:3:1: "), "{refusal}");
        assert!(refusal.contains("`stat`"), "{refusal}");
    }

    #[test]
    fn an_unknown_section_is_refused() {
        assert!(refusal("[lisen.http]\n").contains("`lisen`"));
        assert!(refusal("[listen.ftp]\n").contains("`ftp`"));
    }

    #[test]
    fn a_value_out_of_range_is_refused_with_its_line_and_bounds() {
        let refusal = refusal("[attestation]\nhealth_certificate_validity = \"25h\"\n");
        assert!(refusal.starts_with("openhgs.toml:2:"), "{refusal}");
        assert!(refusal.contains("least 5min, most 1d"), "{refusal}");
    }

    #[test]
    fn values_take_units() {
        let config =
            parse("[limits]\nbody = \"64KiB\"\nheaders = 2048\nheader_time = \"50ms\"\n").unwrap();
        assert_eq!(config.limits.body, 65_536);
        assert_eq!(config.limits.headers, 2048);
        assert_eq!(config.limits.header_time, Duration::from_millis(50));
    }

    #[test]
    fn modules_of_tokens_have_defaults_and_bounds() {
        let module = |more: &str| parse(&format!("[[pkcs11.module]]\npath = \"/m.so\"\n{more}"));
        let config = module("oaep = \"host\"\n").unwrap();
        let expected = Pkcs11Module {
            oaep: hgs_custody_pkcs11::Oaep::Host,
            ..Pkcs11Module::new("/m.so")
        };
        assert_eq!(config.pkcs11.modules, [expected]);
        for wrong in [
            "sessions = 0",
            "wait = \"0s\"",
            "oaep = \"none\"",
            "pin = \"1\"",
        ] {
            assert!(module(wrong).is_err(), "{wrong}");
        }
        assert!(parse("[[pkcs11.module]]\nsessions = 1\n").is_err());
        assert!(refusal("[pkcs11]\npin_source = \"1234\"\n").contains(":2:"));
    }

    #[test]
    fn keys_have_other_names_on_this_machine_where_it_says_so() {
        let (one, other) = ("ab".repeat(32), "cd".repeat(32));
        let key = |certificate: &str| {
            format!(
                "[[pkcs11.key]]\ncertificate = \"{certificate}\"\nuri = \"pkcs11:token=n2;object=a\"\n"
            )
        };
        let config = parse(&key(&one)).unwrap();
        let recorded = "pkcs11:token=n1;object=a".parse().unwrap();
        let place = |certificate: &str| {
            let certificate = certificate.parse().unwrap();
            config.pkcs11.place(&certificate, &recorded).to_string()
        };
        assert_eq!(place(&one), "pkcs11:token=n2;object=a");
        assert_eq!(place(&other), "pkcs11:token=n1;object=a");
        assert!(refusal(&(key(&one) + &key(&one))).contains("twice"));
        for wrong in ["certificate = \"12\"", "uri = \"file:/k\""] {
            let (name, _) = wrong.split_once(' ').unwrap();
            let text: Vec<_> = key(&one)
                .lines()
                .map(|line| match line.starts_with(name) {
                    true => wrong.to_owned(),
                    false => line.to_owned(),
                })
                .collect();
            assert!(parse(&text.join("\n")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_named_file_must_exist_and_the_default_one_need_not() {
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("absent.toml");
        let error = Config::load(Some(&absent), &Environment::default()).unwrap_err();
        assert!(matches!(error, ConfigError::Unreadable(error) if error.path == absent));

        let named = Environment::from_iter([("HGS_CONFIG", &absent)]);
        assert!(Config::load(None, &named).is_err());
    }

    #[test]
    fn the_certificate_in_the_state_folder_is_used_where_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let load = |text: &str| {
            let file = folder.path().join("openhgs.toml");
            let state = folder.path().display();
            fs::write(&file, format!("[server]\nstate = \"{state}\"\n{text}")).unwrap();
            let config = Config::load(Some(&file), &Environment::default()).unwrap();
            (config.listen.https.enabled, config.listen.https.certificate)
        };
        let own = Some(folder.path().join("tls.pem"));
        assert_eq!(load(""), (false, None));
        fs::write(folder.path().join("tls.pem"), "").unwrap();
        assert_eq!(load(""), (true, own.clone()));
        assert_eq!(
            load("[listen.https]\naddress = \"[::]:444\"\n"),
            (true, own.clone())
        );
        assert_eq!(load("[listen.https]\nenabled = false\n"), (false, own));
        let named = "[listen.https]\nenabled = true\ncertificate = \"/c.pem\"\n";
        assert_eq!(load(named), (true, Some("/c.pem".into())));
    }

    #[test]
    fn the_environment_overrides_paths_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("openhgs.toml");
        fs::write(&file, "[server]\nstate = \"/from/file\"\n").unwrap();
        let environment = Environment::from_iter([
            ("HGS_CONFIG", file.as_os_str()),
            ("HGS_STATE", "/from/environment".as_ref()),
        ]);
        let config = Config::load(None, &environment).unwrap();
        assert_eq!(config.state_folder(), Path::new("/from/environment"));
        assert_eq!(
            config.master_key_file(),
            Path::new("/from/environment/master.key")
        );
    }
}
