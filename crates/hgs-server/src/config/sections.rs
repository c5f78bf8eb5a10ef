//! The smaller sections: `[server]`, `[log]`, `[attestation]`, `[key_protection]`.

use std::path::PathBuf;
use std::time::Duration;

use hgs_attest::rtpm::IdentityPcrs;
use serde::{Deserialize, Serialize};

use super::quantity::{HOUR, MINUTE, period};

/// `[server]`: what this server is called and where it keeps its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Name in audit records, and of a new guardian that is given no other.
    pub name: String,
    /// Folder of the store; by layout when absent.
    pub state: Option<PathBuf>,
    /// File of the master key, 32 octets; `master.key` in the state folder when absent.
    pub master_key: Option<PathBuf>,
    /// File of the high-water mark of the state; in a folder beside the state folder when absent.
    pub high_water_mark: Option<PathBuf>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            name: "openhgs".to_owned(),
            state: None,
            master_key: None,
            high_water_mark: None,
        }
    }
}

/// `[log]`: what is logged, and in which form. Logs go to standard error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The form of a line.
    pub format: LogFormat,
    /// Level, or directives such as `info,hgs_server=debug`.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".to_owned(),
        }
    }
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[attestation]`: how long what attestation issues is good for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Attestation {
    /// Validity of a health certificate.
    #[serde(
        serialize_with = "period::serialize",
        deserialize_with = "period::between::<_, { 5 * MINUTE }, { 24 * HOUR }>"
    )]
    pub health_certificate_validity: Duration,
    /// How far the clock of an attestation signer may be ahead of this server's.
    #[serde(
        serialize_with = "period::serialize",
        deserialize_with = "period::between::<_, 0, HOUR>"
    )]
    pub clock_skew: Duration,
    /// Whether a host that has never returned a nonce has to return one.
    pub require_nonce: bool,
    /// The PCRs that identity keys of hosts with TPMs are bound to.
    #[serde(with = "identity_pcrs")]
    pub identity_pcrs: IdentityPcrs,
}

/// Numbers of PCRs, as the configuration writes them.
mod identity_pcrs {
    use hgs_attest::rtpm::IdentityPcrs;
    use hgs_tcg::tpm::PcrSelection;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    pub(super) fn serialize<S: Serializer>(
        pcrs: &IdentityPcrs,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let pcrs: Vec<u8> = pcrs.selection().pcrs().collect();
        pcrs.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<IdentityPcrs, D::Error> {
        let pcrs = Vec::<u8>::deserialize(deserializer)?;
        let pcrs = PcrSelection::new(pcrs).map_err(de::Error::custom)?;
        IdentityPcrs::new(pcrs).map_err(de::Error::custom)
    }
}

impl Default for Attestation {
    fn default() -> Self {
        Self {
            health_certificate_validity: Duration::from_hours(8),
            clock_skew: Duration::from_mins(1),
            require_nonce: false,
            identity_pcrs: IdentityPcrs::default(),
        }
    }
}

/// `[key_protection]`: which protectors are served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyProtection {
    /// What becomes of a protector that was rolled, and its successor used, long ago.
    pub ancestors: Ancestors,
}

impl Default for KeyProtection {
    fn default() -> Self {
        Self {
            ancestors: Ancestors::Report,
        }
    }
}

/// What becomes of an ingress protector whose egress protector came back as ingress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ancestors {
    /// It is served and the audit record says so: a restored backup needs it.
    Report,
    /// It is refused.
    Refuse,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_keys_are_bound_to_the_firmware_at_least() {
        let read = |text: &str| toml::from_str::<Attestation>(text);
        let firmware = read("identity_pcrs = [7, 6, 5, 4, 3, 2, 1, 0]").unwrap();
        let pcrs: Vec<u8> = firmware.identity_pcrs.selection().pcrs().collect();
        assert_eq!(pcrs, [0, 1, 2, 3, 4, 5, 6, 7]);
        for wrong in ["[]", "[0, 1]", "[0,1,2,3,4,5,6,7,10]", "[24]", "[256]"] {
            assert!(
                read(&format!("identity_pcrs = {wrong}")).is_err(),
                "{wrong}"
            );
        }
    }
}
