//! The service's settings that are state: the same on every node, changed while it runs.

use hgs_kps::Label;
use hgs_pki::health::AttestationMode;
use hgs_pki::{Seconds, Time};
use hgs_protector::transport_key_blob::CachingPolicy;
use serde::{Deserialize, Serialize};

use super::text;

/// The settings of the service. What differs between nodes (listeners, paths, logs) stands in
/// each node's configuration file instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What the service is called in its certificates and listings.
    #[serde(with = "text::display")]
    pub name: Label,
    /// The base URL under which hosts attest, if it is published.
    pub attestation_url: Option<String>,
    /// The base URL under which hosts fetch keys, if it is published.
    pub key_protection_url: Option<String>,
    /// What hosts that attest by TPM may do with released keys while the service is away ([MS-KPS] 2.2.3.10).
    #[serde(rename = "allow_key_material_caching", with = "key_caching_or_false")]
    pub key_caching: Option<KeyCaching>,
    /// For how long health certificates are valid: 300 to 86,400 seconds.
    pub health_certificate_seconds: u32,
    /// Whether a protector is refused when one that was made from it has been used; otherwise it
    /// is only reported.
    pub refuse_superseded_protectors: bool,
    /// How hosts attest.
    #[serde(
        default = "host_key",
        skip_serializing_if = "is_host_key",
        with = "text::display"
    )]
    pub attestation_mode: AttestationMode,
    /// Whether healthy hosts may add to their own records what they will boot next.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accept_next_boot_claims: bool,
    /// Until when protectors that a compromised guardian signed are accepted though they were never
    /// seen: the re-key window.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "text::optional"
    )]
    pub rekey_window_until: Option<Time>,
}

/// How often, and for how long, a host may use keys that it has kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyCaching {
    /// How often it may start a VM with the keys of one release.
    pub unwraps: u32,
    /// Hours from the release until they expire. A revocation reaches a host that is offline no sooner.
    pub hours: u32,
}

impl KeyCaching {
    /// The most that can be set: a year.
    pub const MAX_HOURS: u32 = 365 * 24;
    /// The most that can be set.
    pub const MAX_UNWRAPS: u32 = 1_000_000;

    /// Reads a setting in the form of `hgs server set --key-caching`: `off`, or `COUNT,HOURS`.
    ///
    /// # Errors
    /// When it has another form, or a number is out of its range.
    pub fn read_setting(text: &str) -> Result<Option<Self>, KeyCachingError> {
        if text == "off" {
            return Ok(None);
        }
        let numbers = text.split_once(',').and_then(|(unwraps, hours)| {
            let caching = Self {
                unwraps: unwraps.parse().ok()?,
                hours: hours.parse().ok()?,
            };
            Some(caching).filter(|caching| caching.is_in_range())
        });
        numbers.map(Some).ok_or(KeyCachingError)
    }

    fn is_in_range(self) -> bool {
        (1..=Self::MAX_UNWRAPS).contains(&self.unwraps)
            && (1..=Self::MAX_HOURS).contains(&self.hours)
    }

    /// What a release at `now` grants.
    #[must_use]
    pub fn policy(self, now: Time) -> CachingPolicy {
        let expiry = now.checked_add(Seconds::from_hours(self.hours));
        CachingPolicy {
            max_offline_unwraps: self.unwraps,
            expiry: u64::try_from(expiry.unwrap_or(Time::MAX).unix()).unwrap_or(0),
        }
    }
}

/// Not a setting of key caching.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "key caching is `off`, or COUNT,HOURS: how often a host may use kept keys, 1 to {}, and for how many hours, 1 to {}",
    KeyCaching::MAX_UNWRAPS,
    KeyCaching::MAX_HOURS
)]
pub struct KeyCachingError;

/// `false` stands for no caching. States of earlier programs have `true` where caching was allowed, and its limits in a file of
/// each node: as the state does not have them, nothing is granted until an administrator sets them.
mod key_caching_or_false {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::KeyCaching;

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Allowed(bool),
        Limits(KeyCaching),
    }

    pub(super) fn serialize<S: Serializer>(
        caching: &Option<KeyCaching>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let stored = caching.map_or(Stored::Allowed(false), Stored::Limits);
        stored.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<KeyCaching>, D::Error> {
        Ok(match Stored::deserialize(deserializer)? {
            Stored::Allowed(_) => None,
            Stored::Limits(caching) => Some(caching),
        })
    }
}

/// The longest re-key window: long enough to power on every VM of a site once.
pub const MAX_REKEY_WINDOW: Seconds = Seconds::from_days(30);

/// A setting is out of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Health certificates would be valid for too short or too long.
    #[error("health certificates are valid for 300 to 86400 seconds, not {0}")]
    HealthCertificateSeconds(u32),
    /// The re-key window would stay open for too long.
    #[error("a re-key window is open for at most {} days", MAX_REKEY_WINDOW.get() / 86_400)]
    RekeyWindow,
    /// Key caching is out of its range.
    #[error(transparent)]
    KeyCaching(#[from] KeyCachingError),
    /// Hosts can't attest in that mode here.
    #[error("hosts attest here by `tpm` or `host-key`, not by {0}")]
    AttestationMode(AttestationMode),
    /// Not a base URL.
    #[error("not an http or https URL of at most 2048 printable ASCII characters: {0:?}")]
    Url(String),
}

impl Settings {
    /// The settings of a new service called `name`: nothing is cached, certificates last 8 hours,
    /// superseded protectors are reported, hosts say nothing of their next boot.
    #[must_use]
    pub fn new(name: Label) -> Self {
        Self {
            name,
            attestation_url: None,
            key_protection_url: None,
            key_caching: None,
            health_certificate_seconds: 8 * 60 * 60,
            refuse_superseded_protectors: false,
            attestation_mode: AttestationMode::HostKey,
            accept_next_boot_claims: false,
            rekey_window_until: None,
        }
    }

    /// Whether the re-key window is open.
    #[must_use]
    pub fn is_rekey_window_open(&self, now: Time) -> bool {
        self.rekey_window_until.is_some_and(|until| now < until)
    }

    /// Checks what the types leave open.
    ///
    /// # Errors
    /// Names the setting that is out of range.
    pub fn check(&self) -> Result<(), SettingsError> {
        let seconds = self.health_certificate_seconds;
        if !(300..=86_400).contains(&seconds) {
            return Err(SettingsError::HealthCertificateSeconds(seconds));
        }
        if self.attestation_mode == AttestationMode::ActiveDirectory {
            return Err(SettingsError::AttestationMode(self.attestation_mode));
        }
        if self
            .key_caching
            .is_some_and(|caching| !caching.is_in_range())
        {
            return Err(KeyCachingError.into());
        }
        let urls = [&self.attestation_url, &self.key_protection_url];
        match urls.into_iter().flatten().find(|url| !is_base_url(url)) {
            Some(url) => Err(SettingsError::Url(url.chars().take(80).collect())),
            None => Ok(()),
        }
    }
}

fn host_key() -> AttestationMode {
    AttestationMode::HostKey
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_host_key(mode: &AttestationMode) -> bool {
    *mode == AttestationMode::HostKey
}

fn is_base_url(url: &str) -> bool {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    url.len() <= 2048
        && rest.is_some_and(|rest| {
            !rest.is_empty() && rest.bytes().all(|octet| octet.is_ascii_graphic())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked() {
        let sound = Settings::new("hgs".parse().unwrap());
        assert_eq!(sound.check(), Ok(()));
        for seconds in [0, 299, 86_401] {
            let settings = Settings {
                health_certificate_seconds: seconds,
                ..sound.clone()
            };
            let error = SettingsError::HealthCertificateSeconds(seconds);
            assert_eq!(settings.check(), Err(error));
        }
        let settings = Settings {
            attestation_mode: AttestationMode::Tpm,
            ..sound.clone()
        };
        assert_eq!(settings.check(), Ok(()));
        let settings = Settings {
            attestation_mode: AttestationMode::ActiveDirectory,
            ..sound.clone()
        };
        assert!(settings.check().is_err());
        for url in [
            "",
            "hgs.example",
            "ftp://hgs.example",
            "https://",
            "https://a b",
        ] {
            let settings = Settings {
                key_protection_url: Some(url.to_owned()),
                ..sound.clone()
            };
            assert_eq!(settings.check(), Err(SettingsError::Url(url.to_owned())));
        }
    }

    /// States of earlier programs have a truth value in the place of the limits.
    #[test]
    fn what_hosts_may_keep_is_read_in_both_forms() {
        let off = Settings::new("hgs".parse().unwrap());
        let json = serde_json::to_string(&off).unwrap();
        let stored = "\"allow_key_material_caching\":false";
        assert!(json.contains(stored), "earlier programs read it");
        let read = |json: &str| serde_json::from_str::<Settings>(json);
        assert_eq!(read(&json).unwrap(), off);
        let allowed = json.replace(stored, "\"allow_key_material_caching\":true");
        assert_eq!(read(&allowed).unwrap(), off, "without limits, nothing");

        let key_caching = KeyCaching::read_setting("5,72").unwrap();
        let on = Settings { key_caching, ..off };
        let json = serde_json::to_string(&on).unwrap();
        assert_eq!(read(&json).unwrap(), on);
        assert!(read(&json.replace("72", "-1")).is_err());
        on.check().unwrap();
        let no_hours = read(&json.replace("72", "0")).unwrap();
        assert_eq!(
            no_hours.check(),
            Err(SettingsError::KeyCaching(KeyCachingError))
        );
    }
}
