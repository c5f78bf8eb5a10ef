//! How this host stands: what `Get-HgsClientConfiguration` shows, and when it was last tried.

use std::collections::BTreeMap;
use std::path::Path;

use hgs_attest::client::AttestationFailure;
use hgs_attest::wire::AttestationOperationMode;
use hgs_attest::{
    AttestationState, AttestationStatus, AttestationSubstatus, MANY_IDENTITY_KEYS,
    MAX_IDENTITY_KEYS, MAX_NEW_IDENTITY_KEYS, NEW_IDENTITY_KEYS_PERIOD, SHARED_KEY_PERIOD,
};
use hgs_crypto::hex;
use hgs_files::{FileError, Readers};
use hgs_pki::health::HealthKind;
use hgs_pki::{Certificate, Seconds, Time};
use serde::{Deserialize, Serialize};

use crate::configuration::{Configuration, Endpoints};
use crate::identity;
use crate::remedy;
use crate::request_id::RequestId;
use crate::service::{Cause, Side};
use crate::tpm::HostTpmError;
use crate::url::ServiceUrls;

/// Octets of the longest status file.
const MAX_LENGTH: usize = 64 * 1024;
/// Seconds by which two clocks may differ before a person should look. From five minutes on, certificates may not be valid here.
const NOTICEABLE_CLOCK_DIFFERENCE: u64 = 30;

/// How this host stands. Every field is for people and programs to read; nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Whether the host holds a valid health certificate of a configured service.
    pub is_host_guarded: bool,
    /// `Local` or `HostGuardianService`.
    pub mode: &'static str,
    /// The first URL of the primary attestation service.
    pub attestation_url: Option<String>,
    /// All URLs of it: one for each node.
    pub attestation_urls: Vec<String>,
    /// The first URL of the primary key protection service.
    pub key_protection_url: Option<String>,
    /// All URLs of it.
    pub key_protection_urls: Vec<String>,
    /// How the attestation service attests, as far as is known: `HostKey`, `Tpm`.
    pub attestation_operation_mode: Option<String>,
    /// How the last attempt to attest ended, or what became of it since.
    pub attestation_status: NamedNumber,
    /// Which policies failed; none is what the incumbent calls `NoInformation`.
    pub attestation_substatus: Vec<NamedNumber>,
    /// The first URL of the fallback's attestation service.
    pub fallback_attestation_url: Option<String>,
    /// All URLs of it.
    pub fallback_attestation_urls: Vec<String>,
    /// The first URL of the fallback's key protection service.
    pub fallback_key_protection_url: Option<String>,
    /// All URLs of it.
    pub fallback_key_protection_urls: Vec<String>,
    /// Whether the last answer came from the fallback.
    pub is_fallback_in_use: bool,
    /// The last attempt to attest.
    pub last_attempt: Option<Attempt>,
    /// The health certificates that are valid.
    pub health_certificates: Vec<HealthCertificateSummary>,
    /// What a person should look at.
    pub warnings: Vec<Warning>,
}

/// A name and the number that the incumbent's management interface has for it, where that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedNumber {
    /// The name.
    pub name: &'static str,
    /// The number.
    pub number: Option<u64>,
}

/// An attempt to attest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// When.
    pub time: String,
    /// Which of the two services it was made at.
    pub side: Side,
    /// The URL of its attestation service.
    pub url: String,
    /// The id that it gave the request, for its administrator to find it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// What it said, if it was not a certificate.
    pub message: Option<String>,
    /// What helps.
    pub remedy: Option<String>,
}

/// A health certificate that this host holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthCertificateSummary {
    /// `encryption` or `signing`.
    pub kind: String,
    /// The attestation service that issued it.
    pub attestation_url: String,
    /// Its serial number in hexadecimal.
    pub serial_number: String,
    /// The last second in which it is valid.
    pub expires: String,
    /// From when on a new one is asked for.
    pub renewed_from: String,
}

/// Something that is not wrong yet, or that only a person can judge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// What kind of warning it is, for programs.
    pub code: &'static str,
    /// What is seen.
    pub message: String,
    /// What helps.
    pub remedy: &'static str,
}

/// What is kept of the attempts to attest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Record {
    status: Option<String>,
    substatus: Vec<String>,
    operation_mode: Option<String>,
    attempt: Option<Attempt>,
    fallback_in_use: bool,
    /// By how many seconds this host's clock was ahead of the service's.
    clock_ahead: Option<i64>,
    identity_keys: BTreeMap<String, IdentityKeys>,
    superseded: Option<Superseded>,
}

/// The identity keys of one kind that this host has made for its host key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct IdentityKeys {
    made: u64,
    /// When the last of them were made, the newest last.
    lately: Vec<String>,
}

/// That a service said that an identity key was superseded by one that this host did not send it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Superseded {
    time: String,
    message: String,
}

impl Record {
    /// Reads what was kept. What can't be read is forgotten: it decides nothing.
    pub(crate) fn load(path: &Path) -> Result<Self, FileError> {
        let octets = hgs_files::optional(hgs_files::read(path, MAX_LENGTH))?;
        let read = octets.and_then(|octets| serde_json::from_slice(&octets).ok());
        Ok(read.unwrap_or_default())
    }

    pub(crate) fn store(&self, path: &Path) -> Result<(), FileError> {
        let json = serde_json::to_vec_pretty(self).expect("strings are written to memory");
        hgs_files::replace(path, &json, Readers::Owner)
    }

    /// Takes up a health certificate.
    pub(crate) fn passed(&mut self, mode: AttestationOperationMode, attempt: Attempt) {
        self.status = Some(AttestationStatus::Passed.name().to_owned());
        self.substatus = Vec::new();
        self.operation_mode = Some(mode.to_string());
        self.fallback_in_use = attempt.side == Side::Fallback;
        self.attempt = Some(attempt);
    }

    /// Takes up what came instead of one.
    pub(crate) fn failed(&mut self, attempt: Attempt, cause: &Cause) {
        let before = AttestationState::unknown();
        let state = match cause {
            Cause::Attestation(failure) => before.after(&Err(failure.clone())),
            Cause::KeyProtection(failure) if failure.is_decision() => AttestationState {
                last: AttestationStatus::UnauthorizedHost,
                ..before
            },
            Cause::HealthToken(failure) if failure.is_about_host() => AttestationState {
                last: AttestationStatus::UnauthorizedHost,
                ..before
            },
            other => before.unreachable(other.to_string()),
        };
        self.status = Some(state.last.name().to_owned());
        self.substatus = state.substatus.iter().map(ToString::to_string).collect();
        self.attempt = Some(Attempt {
            message: Some(cause.to_string()),
            remedy: cause.remedy().map(str::to_owned),
            ..attempt
        });
        if let Cause::Attestation(AttestationFailure::OtherMode { expected, .. }) = cause {
            self.operation_mode = Some(expected.to_string());
        }
    }

    /// Takes up that the TPM of this host did not do what the service asked of it.
    pub(crate) fn tpm_failed(&mut self, attempt: Attempt, error: &HostTpmError) {
        self.status = Some(AttestationStatus::TpmError.name().to_owned());
        self.substatus = Vec::new();
        self.operation_mode = Some(AttestationOperationMode::Tpm.to_string());
        self.attempt = Some(Attempt {
            message: Some(error.to_string()),
            remedy: remedy::of_tpm(error).map(str::to_owned),
            ..attempt
        });
    }

    /// Notes what time a service says it is.
    pub(crate) fn saw_clock(&mut self, there: Time, here: Time) {
        self.clock_ahead = Some(here.unix().saturating_sub(there.unix()));
    }

    /// Notes that an identity key was made.
    pub(crate) fn made_identity_key(&mut self, kind: HealthKind, now: Time) {
        let keys = self.identity_keys.entry(kind.to_string()).or_default();
        keys.made += 1;
        keys.lately.push(now.to_string());
        if keys.lately.len() > MAX_NEW_IDENTITY_KEYS {
            keys.lately.remove(0);
        }
    }

    /// Notes that a service says of an identity key of this host that another has taken its place.
    pub(crate) fn was_superseded(&mut self, failure: &AttestationFailure, now: Time) {
        self.superseded = Some(Superseded {
            time: now.to_string(),
            message: failure.to_string(),
        });
    }

    /// Forgets what is about the host key, and not about the host.
    pub(crate) fn forget_host_key(&mut self) {
        self.identity_keys.clear();
        self.superseded = None;
    }

    fn warnings(&self, now: Time) -> Vec<Warning> {
        let mut warnings = Vec::new();
        warnings.extend(self.clock_warning());
        warnings.extend(self.superseded_warning(now));
        for (kind, keys) in &self.identity_keys {
            warnings.extend(keys.warning(kind, now));
        }
        warnings
    }

    fn clock_warning(&self) -> Option<Warning> {
        let ahead = self.clock_ahead?;
        let word = if ahead < 0 { "behind" } else { "ahead of" };
        let seconds = ahead.unsigned_abs();
        (seconds > NOTICEABLE_CLOCK_DIFFERENCE).then(|| Warning {
            code: "clock-difference",
            message: format!("at the last attempt this host's clock was {seconds} s {word} the guardian's"),
            remedy: "set the clocks of this host and of the guardian right and keep them so with NTP: `timedatectl`",
        })
    }

    fn superseded_warning(&self, now: Time) -> Option<Warning> {
        let superseded = self.superseded.as_ref()?;
        let time: Time = superseded.time.parse().ok()?;
        // The guardian looks as far back to tell whether two machines use one host key.
        is_within(time, SHARED_KEY_PERIOD, now).then(|| Warning {
            code: "identity-key-superseded",
            message: format!("{time}: {}", superseded.message),
            remedy: "if no older copy of this host's state was put back, another machine has its host key, a clone perhaps: make a host key of its own there with `guarded-host host-key remove` and `guarded-host host-key new`, and register it",
        })
    }
}

impl IdentityKeys {
    fn warning(&self, kind: &str, now: Time) -> Option<Warning> {
        let times = self.lately.iter().filter_map(|time| time.parse().ok());
        let lately = times
            .filter(|time| is_within(*time, NEW_IDENTITY_KEYS_PERIOD, now))
            .count();
        let message = if lately >= MAX_NEW_IDENTITY_KEYS / 4 {
            format!(
                "{lately} new identity keys for {kind} within an hour; a guardian accepts {MAX_NEW_IDENTITY_KEYS}"
            )
        } else if self.made >= MANY_IDENTITY_KEYS as u64 {
            format!(
                "{} identity keys for {kind} with one host key; a guardian that hands out no nonces accepts {MAX_IDENTITY_KEYS}",
                self.made
            )
        } else {
            return None;
        };
        Some(Warning {
            code: "many-identity-keys",
            message,
            remedy: "find out why this host makes so many, when one in 20 days is usual: its state is put back from a copy, or another machine has its host key",
        })
    }
}

/// Whether `time` is at most `period` before `now`.
fn is_within(time: Time, period: Seconds, now: Time) -> bool {
    now.since(time).is_some_and(|age| age < period)
}

impl Record {
    /// Notes whose keys were released, and says whether that is news.
    pub(crate) fn served_by(&mut self, side: Side) -> bool {
        let fallback = side == Side::Fallback;
        std::mem::replace(&mut self.fallback_in_use, fallback) != fallback
    }
}

/// Certificates by the URL of their service, for each kind of identity key.
pub(crate) type Held = Vec<(HealthKind, BTreeMap<String, Certificate>)>;

impl Status {
    pub(crate) fn new(
        configuration: &Configuration,
        record: Record,
        held: &Held,
        now: Time,
    ) -> Self {
        let (primary, fallback) = match configuration {
            Configuration::Local => (None, None),
            Configuration::HostGuardianService(services) => {
                (Some(&services.primary), services.fallback.as_ref())
            }
        };
        let services = [primary, fallback];
        let health_certificates = summaries(held, services, now);
        let encryption = HealthKind::Encryption.to_string();
        let is_host_guarded = health_certificates
            .iter()
            .any(|certificate| certificate.kind == encryption);
        let warnings = record.warnings(now);
        let status = if primary.is_none() {
            AttestationStatus::NotConfigured
        } else {
            status_now(&record, is_host_guarded)
        };
        let urls = |endpoints: Option<&Endpoints>, which: fn(&Endpoints) -> &ServiceUrls| {
            let urls = endpoints.into_iter().flat_map(|pair| which(pair).iter());
            urls.map(ToString::to_string).collect::<Vec<_>>()
        };
        let attestation_urls = urls(primary, |pair| &pair.attestation);
        let key_protection_urls = urls(primary, |pair| &pair.key_protection);
        let fallback_attestation_urls = urls(fallback, |pair| &pair.attestation);
        let fallback_key_protection_urls = urls(fallback, |pair| &pair.key_protection);
        Self {
            is_host_guarded,
            mode: if primary.is_some() {
                "HostGuardianService"
            } else {
                "Local"
            },
            attestation_url: attestation_urls.first().cloned(),
            attestation_urls,
            key_protection_url: key_protection_urls.first().cloned(),
            key_protection_urls,
            attestation_operation_mode: record.operation_mode.filter(|_| primary.is_some()),
            attestation_status: NamedNumber {
                name: status.name(),
                number: Some(status.number().into()),
            },
            attestation_substatus: substatus(&record.substatus),
            fallback_attestation_url: fallback_attestation_urls.first().cloned(),
            fallback_attestation_urls,
            fallback_key_protection_url: fallback_key_protection_urls.first().cloned(),
            fallback_key_protection_urls,
            is_fallback_in_use: record.fallback_in_use && fallback.is_some(),
            last_attempt: record.attempt,
            health_certificates,
            warnings,
        }
    }
}

/// A host that passed needs a certificate that is still valid.
fn status_now(record: &Record, is_host_guarded: bool) -> AttestationStatus {
    let kept = record
        .status
        .as_deref()
        .and_then(AttestationStatus::from_name);
    match kept {
        Some(AttestationStatus::Passed) if !is_host_guarded => AttestationStatus::Expired,
        Some(status) => status,
        None => AttestationStatus::Unknown,
    }
}

fn substatus(names: &[String]) -> Vec<NamedNumber> {
    names
        .iter()
        .filter_map(|name| AttestationSubstatus::from_name(name))
        .map(|which| NamedNumber {
            name: which.name(),
            number: which.bit(),
        })
        .collect()
}

fn summaries(
    held: &Held,
    services: [Option<&Endpoints>; 2],
    now: Time,
) -> Vec<HealthCertificateSummary> {
    let mut summaries = Vec::new();
    for (kind, certificates) in held {
        for endpoints in services.into_iter().flatten() {
            let Some(certificate) = identity::of_service(certificates, &endpoints.attestation)
            else {
                continue;
            };
            if identity::is_valid(certificate, now) {
                summaries.push(HealthCertificateSummary {
                    kind: kind.to_string(),
                    attestation_url: endpoints.attestation.first().to_string(),
                    serial_number: hex::encode(certificate.serial_number()),
                    expires: certificate.validity().not_after.to_string(),
                    renewed_from: identity::renewal_of(certificate).to_string(),
                });
            }
        }
    }
    summaries
}
