//! What the administrator set: local mode, or the services that guard this host.

mod one_or_more;
mod tpm;

use std::path::{Path, PathBuf};

use hgs_custody_tpm::DeviceError;
use hgs_files::{FileError, Readers};
use serde::{Deserialize, Serialize};

use crate::http::{TlsSettingsError, tls};
use crate::url::{ServiceUrls, Url, UrlError};

use one_or_more::OneOrMore;

pub use tpm::TpmSettings;

/// Octets of the longest configuration file.
const MAX_LENGTH: usize = 64 * 1024;

/// How this host is guarded; what `Set-HgsClientConfiguration` sets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Configuration {
    /// Not at all. Shielded VMs of owners on this host can be run, none of a guarded fabric's.
    #[default]
    Local,
    /// By the services of a Host Guardian Service.
    HostGuardianService(Services),
}

/// Where to attest and where to ask for keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Services {
    /// Asked first, always.
    pub primary: Endpoints,
    /// Asked when the primary fails.
    pub fallback: Option<Endpoints>,
    /// PEM file with the only certification authorities that a service's TLS certificate may come
    /// from; without it those that the system trusts.
    pub certificate_authorities: Option<PathBuf>,
    /// Whether a release without a signature of the guardian is used. An attacker on the way who once held a key of a virtual
    /// machine can choose its next one then. For services that can't sign, such as a Windows HGS.
    pub dangerous_accept_unsigned_responses: bool,
}

/// The URLs of the two services of one Host Guardian Service. They belong together: a health certificate of one
/// attestation service is worth nothing at another's key protection service. Where it runs on several nodes, each service has
/// several URLs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// Such as `https://hgs.example/Attestation`.
    pub attestation: ServiceUrls,
    /// Such as `https://hgs.example/KeyProtection`.
    pub key_protection: ServiceUrls,
}

/// Why a configuration file is not one. The administrator is at fault.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// The certification authorities can't be used.
    #[error(transparent)]
    Authorities(#[from] TlsSettingsError),
    /// The file can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not TOML, or a key that is not known, or the wrong kind of value.
    #[error("{}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser says, with line and column.
        message: String,
    },
    /// A URL is missing its other half.
    #[error("{missing} is missing: attestation and key protection URLs come in pairs")]
    HalfAPair {
        /// The key that is missing.
        missing: &'static str,
    },
    /// A fallback without anything to fall back from.
    #[error("a fallback is set, but no attestation_url and key_protection_url")]
    FallbackAlone,
    /// Local mode has no services.
    #[error("mode is local or not set, but {found} is set")]
    LocalWithServices {
        /// A key that has no place in local mode.
        found: &'static str,
    },
    /// A value is not a URL.
    #[error("{key}: {problem}")]
    Url {
        /// The key.
        key: &'static str,
        /// What is wrong with its value.
        problem: UrlError,
    },
    /// The file would be looked for in another place each time.
    #[error("{key} is not an absolute path")]
    RelativePath {
        /// The key.
        key: &'static str,
    },
    /// A value that names no TPM.
    #[error("tpm.device: {0}")]
    Tpm(#[from] DeviceError),
}

impl Endpoints {
    /// Both services where a guardian has them, below one URL such as `https://hgs.example`.
    ///
    /// # Errors
    /// When the text is not the beginning of such URLs.
    pub fn below(base: &str) -> Result<Self, UrlError> {
        Self::below_each(&[base])
    }

    /// Both services where the nodes of a guardian have them, below one URL for each node.
    ///
    /// # Errors
    /// When there is no URL, or the same twice, or a text is not the beginning of such URLs.
    pub fn below_each<B: AsRef<str>>(bases: &[B]) -> Result<Self, UrlError> {
        let bases = bases.iter().map(|base| base.as_ref().trim_end_matches('/'));
        let (mut attestation, mut key_protection) = (Vec::new(), Vec::new());
        for base in bases {
            for service in ["/attestation", "/keyprotection"] {
                if base.to_ascii_lowercase().ends_with(service) {
                    return Err(UrlError::OneService);
                }
            }
            attestation.push(format!("{base}/Attestation").parse()?);
            key_protection.push(format!("{base}/KeyProtection").parse()?);
        }
        Ok(Self {
            attestation: ServiceUrls::new(attestation)?,
            key_protection: ServiceUrls::new(key_protection)?,
        })
    }
}

impl Configuration {
    /// Reads a configuration file. No file means local mode, as a new host is.
    pub fn load(path: &Path) -> Result<Self, ConfigurationError> {
        match File::load(path)? {
            Some(file) => file.try_into(),
            None => Ok(Self::Local),
        }
    }

    /// Whether releases without a signature are used.
    pub(crate) fn dangerous_accept_unsigned_responses(&self) -> bool {
        match self {
            Self::Local => false,
            Self::HostGuardianService(services) => services.dangerous_accept_unsigned_responses,
        }
    }

    /// Checks what the syntax does not show: that the certification authorities can be used.
    ///
    /// # Errors
    /// [`ConfigurationError::Authorities`].
    pub fn check(&self) -> Result<(), ConfigurationError> {
        if let Self::HostGuardianService(services) = self
            && let Some(file) = &services.certificate_authorities
        {
            tls::settings(Some(file))?;
        }
        Ok(())
    }

    /// Writes a configuration file, replacing all but the section `[tpm]` of the one before: a fallback that was set and is
    /// not given again is gone.
    ///
    /// # Errors
    /// When the file can't be written, or a certification authority's path is relative.
    pub fn store(&self, path: &Path) -> Result<(), ConfigurationError> {
        if let Self::HostGuardianService(services) = self
            && let Some(file) = &services.certificate_authorities
            && file.is_relative()
        {
            return Err(ConfigurationError::RelativePath { key: "ca_file" });
        }
        File::from(self).store(path, TpmSettings::load(path)?)
    }
}

impl TpmSettings {
    /// Reads the section `[tpm]` of a configuration file.
    ///
    /// # Errors
    /// When there is a file that is none, or a value that names no TPM or no absolute path.
    pub fn load(path: &Path) -> Result<Self, ConfigurationError> {
        let section = File::load(path)?.and_then(|file| file.tpm);
        section.unwrap_or_default().read()
    }

    /// Writes the section `[tpm]` of a configuration file, and leaves the rest of it.
    ///
    /// # Errors
    /// When the file can't be read or written.
    pub fn store(&self, path: &Path) -> Result<(), ConfigurationError> {
        File::from(&Configuration::load(path)?).store(path, self.clone())
    }
}

impl File {
    fn load(path: &Path) -> Result<Option<Self>, ConfigurationError> {
        let Some(octets) = hgs_files::optional(hgs_files::read(path, MAX_LENGTH))? else {
            return Ok(None);
        };
        let text = hgs_files::text(octets).map_err(|problem| FileError::at(path, problem))?;
        let file = toml::from_str(&text).map_err(|error| ConfigurationError::Syntax {
            path: path.to_owned(),
            message: error.to_string(),
        })?;
        Ok(Some(file))
    }

    fn store(mut self, path: &Path, tpm: TpmSettings) -> Result<(), ConfigurationError> {
        self.tpm = tpm::Section::of(&tpm);
        // Fails only for a path that is not UTF-8.
        let text = toml::to_string(&self).map_err(|error| ConfigurationError::Syntax {
            path: path.to_owned(),
            message: error.to_string(),
        })?;
        let text = format!("# Written by `guarded-host configure`.\n{text}");
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| FileError {
                path: folder.to_owned(),
                problem: error.into(),
            })?;
        }
        Ok(hgs_files::replace(
            path,
            text.as_bytes(),
            Readers::Everybody,
        )?)
    }
}

/// The configuration file as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Absent where only the TPM is set: a new host, as one without a file.
    #[serde(default)]
    mode: Mode,
    #[serde(skip_serializing_if = "Option::is_none")]
    attestation_url: Option<OneOrMore>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_protection_url: Option<OneOrMore>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback_attestation_url: Option<OneOrMore>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback_key_protection_url: Option<OneOrMore>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    dangerous_accept_unsigned_responses: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tpm: Option<tpm::Section>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    #[default]
    Local,
    HostGuardianService,
}

impl TryFrom<File> for Configuration {
    type Error = ConfigurationError;

    fn try_from(file: File) -> Result<Self, ConfigurationError> {
        let File {
            mode,
            attestation_url,
            key_protection_url,
            fallback_attestation_url,
            fallback_key_protection_url,
            ca_file,
            dangerous_accept_unsigned_responses,
            tpm: _,
        } = file;
        let primary = pair(
            ("attestation_url", attestation_url),
            ("key_protection_url", key_protection_url),
        )?;
        let fallback = pair(
            ("fallback_attestation_url", fallback_attestation_url),
            ("fallback_key_protection_url", fallback_key_protection_url),
        )?;
        match (mode, primary, fallback) {
            (Mode::Local, None, None)
                if ca_file.is_none() && !dangerous_accept_unsigned_responses =>
            {
                Ok(Self::Local)
            }
            (Mode::Local, primary, fallback) => Err(ConfigurationError::LocalWithServices {
                found: match (primary, fallback) {
                    (Some(_), _) => "attestation_url",
                    (None, Some(_)) => "fallback_attestation_url",
                    (None, None) if ca_file.is_some() => "ca_file",
                    (None, None) => "dangerous_accept_unsigned_responses",
                },
            }),
            (Mode::HostGuardianService, None, None) => Err(ConfigurationError::HalfAPair {
                missing: "attestation_url",
            }),
            (Mode::HostGuardianService, None, Some(_)) => Err(ConfigurationError::FallbackAlone),
            (Mode::HostGuardianService, Some(primary), fallback) => {
                if ca_file.as_ref().is_some_and(|path| path.is_relative()) {
                    return Err(ConfigurationError::RelativePath { key: "ca_file" });
                }
                Ok(Self::HostGuardianService(Services {
                    primary,
                    fallback,
                    certificate_authorities: ca_file,
                    dangerous_accept_unsigned_responses,
                }))
            }
        }
    }
}

type Setting = (&'static str, Option<OneOrMore>);

fn pair(
    (attestation_key, attestation): Setting,
    (key_protection_key, key_protection): Setting,
) -> Result<Option<Endpoints>, ConfigurationError> {
    let urls = |key, texts: OneOrMore| {
        let urls: Result<Vec<Url>, _> = texts.0.iter().map(|text| text.parse()).collect();
        urls.and_then(ServiceUrls::new)
            .map_err(|problem| ConfigurationError::Url { key, problem })
    };
    match (attestation, key_protection) {
        (None, None) => Ok(None),
        (Some(attestation), Some(key_protection)) => Ok(Some(Endpoints {
            attestation: urls(attestation_key, attestation)?,
            key_protection: urls(key_protection_key, key_protection)?,
        })),
        (Some(_), None) => Err(ConfigurationError::HalfAPair {
            missing: key_protection_key,
        }),
        (None, Some(_)) => Err(ConfigurationError::HalfAPair {
            missing: attestation_key,
        }),
    }
}

impl From<&Configuration> for File {
    fn from(configuration: &Configuration) -> Self {
        let Configuration::HostGuardianService(services) = configuration else {
            return Self {
                mode: Mode::Local,
                attestation_url: None,
                key_protection_url: None,
                fallback_attestation_url: None,
                fallback_key_protection_url: None,
                ca_file: None,
                dangerous_accept_unsigned_responses: false,
                tpm: None,
            };
        };
        let fallback = services.fallback.as_ref();
        Self {
            mode: Mode::HostGuardianService,
            attestation_url: Some((&services.primary.attestation).into()),
            key_protection_url: Some((&services.primary.key_protection).into()),
            fallback_attestation_url: fallback.map(|pair| (&pair.attestation).into()),
            fallback_key_protection_url: fallback.map(|pair| (&pair.key_protection).into()),
            ca_file: services.certificate_authorities.clone(),
            dangerous_accept_unsigned_responses: services.dangerous_accept_unsigned_responses,
            tpm: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Configuration, ConfigurationError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("guarded-host.toml");
        std::fs::write(&path, text).unwrap();
        Configuration::load(&path)
    }

    fn endpoints(name: &str) -> Endpoints {
        Endpoints {
            attestation: format!("https://{name}/Attestation").parse().unwrap(),
            key_protection: format!("https://{name}/KeyProtection").parse().unwrap(),
        }
    }

    #[test]
    fn a_new_host_is_local() {
        let folder = tempfile::tempdir().unwrap();
        let loaded = Configuration::load(&folder.path().join("none.toml")).unwrap();
        assert_eq!(loaded, Configuration::Local);
    }

    #[test]
    fn what_is_stored_loads_and_a_fallback_not_given_again_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("etc/guarded-host.toml");
        let mut services = Services {
            primary: endpoints("one.example"),
            fallback: Some(endpoints("two.example")),
            certificate_authorities: Some("/etc/openhgs/ca.pem".into()),
            dangerous_accept_unsigned_responses: true,
        };
        let configuration = Configuration::HostGuardianService(services.clone());
        configuration.store(&path).unwrap();
        assert_eq!(Configuration::load(&path).unwrap(), configuration);

        services.fallback = None;
        let configuration = Configuration::HostGuardianService(services);
        configuration.store(&path).unwrap();
        assert_eq!(Configuration::load(&path).unwrap(), configuration);

        Configuration::Local.store(&path).unwrap();
        assert_eq!(Configuration::load(&path).unwrap(), Configuration::Local);
    }

    /// With every comment that is a key made one.
    #[test]
    fn the_sample_that_is_installed_has_the_defaults() {
        let sample = include_str!("../../../packaging/guarded-host.toml");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("guarded-host.toml");
        std::fs::write(&path, sample).unwrap();
        let as_installed = Configuration::load(&path).unwrap();
        assert!(matches!(
            as_installed,
            Configuration::HostGuardianService(Services { fallback: None, .. })
        ));
        let uncommented: String = sample
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(key) if key.starts_with('[') || key.contains(" = ") => key,
                _ => line,
            })
            .flat_map(|line| [line, "\n"])
            .collect();
        std::fs::write(&path, uncommented).unwrap();
        assert_eq!(TpmSettings::load(&path).unwrap(), TpmSettings::default());
        let all = Configuration::load(&path).unwrap();
        let Configuration::HostGuardianService(services) = all else {
            panic!("{all:?}");
        };
        assert!(services.fallback.is_some());
        assert!(services.certificate_authorities.is_some());
    }

    #[test]
    fn where_the_tpm_is_stays_when_the_services_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("guarded-host.toml");
        assert_eq!(TpmSettings::load(&path).unwrap(), TpmSettings::default());
        let settings = TpmSettings {
            device: "swtpm:path=/run/tpm/socket".parse().unwrap(),
            event_log: "/var/log/boot".into(),
            ima_log: TpmSettings::default().ima_log,
        };
        settings.store(&path).unwrap();
        assert_eq!(Configuration::load(&path).unwrap(), Configuration::Local);
        let configuration = Configuration::HostGuardianService(Services {
            primary: endpoints("one.example"),
            fallback: None,
            certificate_authorities: None,
            dangerous_accept_unsigned_responses: false,
        });
        configuration.store(&path).unwrap();
        assert_eq!(TpmSettings::load(&path).unwrap(), settings);
        TpmSettings::default().store(&path).unwrap();
        assert_eq!(Configuration::load(&path).unwrap(), configuration);
        assert!(!std::fs::read_to_string(&path).unwrap().contains("tpm"));
    }

    #[test]
    fn a_section_tpm_that_is_none_is_refused_by_its_key() {
        let load = |section: &str| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("guarded-host.toml");
            std::fs::write(&path, format!("mode = \"local\"\n[tpm]\n{section}\n")).unwrap();
            TpmSettings::load(&path).unwrap_err().to_string()
        };
        assert!(load("device = \"tpm0\"").starts_with("tpm.device: `tpm0` names no TPM"));
        assert_eq!(
            load("event_log = \"log\""),
            "tpm.event_log is not an absolute path"
        );
        assert!(load("path = \"/dev/tpm0\"").contains("unknown field `path`"));
    }

    #[test]
    fn unknown_keys_are_errors_by_name() {
        let error = read("mode = \"local\"\nfall_back = 1\n").unwrap_err();
        assert!(error.to_string().contains("fall_back"), "{error}");
    }

    #[test]
    fn urls_come_in_pairs() {
        const MODE: &str = "mode = \"host-guardian-service\"\n";
        let primary = "attestation_url = \"http://a/A\"\nkey_protection_url = \"http://a/K\"\n";
        for (text, missing) in [
            ("", "attestation_url"),
            ("attestation_url = \"http://a/A\"\n", "key_protection_url"),
            ("key_protection_url = \"http://a/K\"\n", "attestation_url"),
        ] {
            let error = read(&format!("{MODE}{text}")).unwrap_err();
            assert!(
                matches!(error, ConfigurationError::HalfAPair { missing: found } if found == missing)
            );
        }
        let half = "fallback_attestation_url = \"http://b/A\"\n";
        let error = read(&format!("{MODE}{primary}{half}")).unwrap_err();
        assert!(error.to_string().starts_with("fallback_key_protection_url"));
        let both = format!("{half}fallback_key_protection_url = \"http://b/K\"\n");
        let error = read(&format!("{MODE}{both}")).unwrap_err();
        assert!(matches!(error, ConfigurationError::FallbackAlone));
        assert!(read(&format!("{MODE}{primary}{both}")).is_ok());
    }

    #[test]
    fn a_service_of_several_nodes_has_a_list_of_urls_and_of_one_a_url() {
        const MODE: &str = "mode = \"host-guardian-service\"\n";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("guarded-host.toml");
        let services = |nodes: &[&str]| {
            Configuration::HostGuardianService(Services {
                primary: Endpoints::below_each(nodes).unwrap(),
                fallback: Some(endpoints("two.example")),
                certificate_authorities: None,
                dangerous_accept_unsigned_responses: false,
            })
        };
        for nodes in [&["https://a"][..], &["https://a", "https://b", "https://c"]] {
            services(nodes).store(&path).unwrap();
            assert_eq!(Configuration::load(&path).unwrap(), services(nodes));
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"https://b/KeyProtection\""), "{text}");
        assert!(
            text.contains("fallback_attestation_url = \"https://two"),
            "{text}"
        );

        let keys = "key_protection_url = [\"http://a/K\"]\n";
        let load = |urls: &str| read(&format!("{MODE}attestation_url = {urls}\n{keys}"));
        assert!(load("[\"http://a/A\", \"http://b/A\"]").is_ok());
        for (urls, complaint) in [
            ("[]", "attestation_url: there is no URL"),
            (
                "[\"http://a/A\", \"http://A:80/A/\"]",
                "attestation_url: `http://a/A` is there twice",
            ),
            (
                "[\"http://a/A\", 1]",
                "invalid type: integer `1`, expected a string",
            ),
            (
                "1",
                "invalid type: integer `1`, expected a URL or a list of URLs",
            ),
        ] {
            let error = load(urls).unwrap_err().to_string();
            assert!(error.contains(complaint), "{error}");
        }
    }

    #[test]
    fn local_mode_has_no_services() {
        // As `guarded-host configure` finds it where the section [tpm] was written first.
        assert_eq!(read("").unwrap(), Configuration::Local);
        assert_eq!(
            read("[tpm]\ndevice = \"/dev/tpm0\"\n").unwrap(),
            Configuration::Local
        );
        let error = read("mode = \"local\"\nca_file = \"/ca.pem\"\n").unwrap_err();
        assert!(matches!(
            error,
            ConfigurationError::LocalWithServices { found: "ca_file" }
        ));
    }

    #[test]
    fn a_bad_url_is_named_by_its_key() {
        let error = read(
            "mode = \"host-guardian-service\"\nattestation_url = \"hgs\"\nkey_protection_url = \"http://a/K\"\n",
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "attestation_url: a URL starts with http:// or https://"
        );
    }
}
