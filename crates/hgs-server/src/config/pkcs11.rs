//! `[pkcs11]`: the modules that may be loaded, and where the PINs of their tokens are.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use hgs_custody::{KeyReference, PinSource, Pkcs11Uris};
use hgs_custody_pkcs11::{ModuleSettings, Oaep, Settings};
use hgs_pki::Thumbprint;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::quantity::{MINUTE, SECOND, count_between, period};

/// `[pkcs11]`: keys in tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pkcs11 {
    /// Where the PIN is for keys whose URI has no `pin-source`.
    #[serde(with = "text::optional")]
    pub pin_source: Option<PinSource>,
    /// The modules that may be loaded. No other ever is, whatever a key's URI says: a module is code that runs with all
    /// keys in reach.
    #[serde(rename = "module")]
    pub modules: Vec<Pkcs11Module>,
    /// Where this machine has keys under other names than the state says.
    #[serde(rename = "key", deserialize_with = "each_once")]
    pub keys: Vec<Pkcs11Key>,
}

/// `[[pkcs11.key]]`: where one key is on this machine. The state, which nodes share, has the name under which the first one
/// found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pkcs11Key {
    /// The thumbprint of the certificate over it.
    #[serde(with = "text")]
    pub certificate: Thumbprint,
    /// Where it is: one URI, or two with a space between them.
    #[serde(with = "text")]
    pub uri: Pkcs11Uris,
}

/// `[[pkcs11.module]]`: one module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pkcs11Module {
    /// The shared object.
    pub path: PathBuf,
    /// Sessions, and so threads, for each token.
    #[serde(
        default = "sessions",
        deserialize_with = "count_between::<_, 1, 1_024>"
    )]
    pub sessions: usize,
    /// How long a request waits for the token before it is told that it is unavailable.
    #[serde(
        default = "wait",
        serialize_with = "period::serialize",
        deserialize_with = "period::between::<_, SECOND, { 5 * MINUTE }>"
    )]
    pub wait: Duration,
    /// Who removes the OAEP padding.
    #[serde(default, with = "text")]
    pub oaep: Oaep,
}

impl Pkcs11Module {
    /// A module with the defaults of everything but its path.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let settings = ModuleSettings::new(path);
        Self {
            path: settings.path,
            sessions: settings.sessions,
            wait: settings.wait,
            oaep: settings.oaep,
        }
    }
}

impl Pkcs11 {
    /// The same for those who load the modules.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let modules = self.modules.iter().cloned();
        Settings {
            modules: modules
                .map(|module| ModuleSettings {
                    path: module.path,
                    sessions: module.sessions,
                    oaep: module.oaep,
                    wait: module.wait,
                })
                .collect(),
            pin_source: self.pin_source.clone(),
        }
    }

    /// Where the private key of a certificate is on this machine, of which the state says that it is at `recorded`.
    #[must_use]
    pub fn place(&self, certificate: &Thumbprint, recorded: &KeyReference) -> KeyReference {
        let mut named = self.keys.iter();
        named
            .find(|key| key.certificate == *certificate)
            .map_or_else(|| recorded.clone(), |key| key.uri.clone().into())
    }
}

fn each_once<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Pkcs11Key>, D::Error> {
    let keys = Vec::<Pkcs11Key>::deserialize(deserializer)?;
    let mut seen = BTreeSet::new();
    match keys.iter().find(|key| !seen.insert(key.certificate)) {
        Some(Pkcs11Key { certificate, .. }) => Err(de::Error::custom(format_args!(
            "the key of certificate {certificate} is named twice"
        ))),
        None => Ok(keys),
    }
}

fn sessions() -> usize {
    Pkcs11Module::new("").sessions
}

fn wait() -> Duration {
    Pkcs11Module::new("").wait
}

/// Values by their names.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(
        value: &impl Display,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D, T>(deserializer: D) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: FromStr<Err: Display>,
    {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }

    pub(super) mod optional {
        use super::*;

        pub(in super::super) fn serialize<S: Serializer>(
            value: &Option<impl Display>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match value {
                Some(value) => serializer.collect_str(value),
                None => serializer.serialize_none(),
            }
        }

        pub(in super::super) fn deserialize<'de, D, T>(
            deserializer: D,
        ) -> Result<Option<T>, D::Error>
        where
            D: Deserializer<'de>,
            T: FromStr<Err: Display>,
        {
            super::deserialize(deserializer).map(Some)
        }
    }
}
