//! What `guarded-host trace` sees of the TPM. Nothing is made or kept.

use std::path::Path;

use hgs_crypto::hex;
use hgs_custody_tpm::{Tpm, TpmError};
use hgs_tcg::event_log::{self, EventLog, PcrValues};
use hgs_tcg::ima::{self, IMA_PCR, ImaLog};
use hgs_trace::host::{Log, Tpm as TpmFacts};
use hgs_trace::{Observed, Problem};

use super::{HostTpm, HostTpmError, machine};
use crate::error::Error;
use crate::host::GuardedHost;
use crate::remedy;

impl GuardedHost {
    /// Looks at the TPM and at the logs of the boot. Takes many seconds with some TPMs.
    ///
    /// # Errors
    /// When the state folder can't be looked at.
    pub fn examine_tpm(&self) -> Result<TpmFacts, Error> {
        Ok(self.tpm_as_it_is()?.examine())
    }
}

impl HostTpm {
    fn examine(&self) -> TpmFacts {
        let mut tpm = self.open().map_err(|error| problem(&error.into()));
        let mut values = None;
        let mut facts = TpmFacts {
            device: self.settings.device.to_string(),
            is_locked: match &mut tpm {
                Ok(tpm) => observed(tpm.is_locked()),
                Err(problem) => Err(problem.clone()),
            },
            endorsement_key: None,
            endorsement_certificate: None,
            pcrs: None,
            event_log: self.examine_event_log(None),
            ima_log: self.examine_ima_log(None),
        };
        if let Ok(tpm) = &mut tpm {
            let read = observed(tpm.pcr_values());
            facts.pcrs = Some(read.clone().map(drop));
            values = read.ok();
            self.examine_endorsement_key(tpm, &mut facts);
        }
        if let Some(values) = values {
            // After the PCRs: what is measured meanwhile may stand in the logs only.
            facts.event_log = self.examine_event_log(Some(&values));
            facts.ima_log = self.examine_ima_log(Some(&values));
        }
        facts
    }

    fn examine_endorsement_key(&self, tpm: &mut Tpm, facts: &mut TpmFacts) {
        let key = tpm.endorsement_key().map_err(HostTpmError::from);
        let key = key.and_then(|key| match self.kept_endorsement_key()? {
            Some(kept) if kept != key => Err(HostTpmError::OtherTpm {
                device: self.settings.device.clone(),
            }),
            _ => Ok(key),
        });
        if let Ok(key) = &key {
            let certificate = tpm.endorsement_certificate().map_err(HostTpmError::from);
            let certificate = certificate.and_then(|certificate| match certificate {
                Some(other) if other.public_key() != key.key() => {
                    Err(HostTpmError::OtherCertificate)
                }
                certificate => Ok(certificate.map(|one| one.thumbprint().to_string())),
            });
            facts.endorsement_certificate = Some(certificate.map_err(|error| problem(&error)));
        }
        let key = key.map(|key| hex::encode(&key.digest()));
        facts.endorsement_key = Some(key.map_err(|error| problem(&error)));
    }

    fn examine_event_log(&self, values: Option<&PcrValues>) -> Log {
        examine(&self.settings.event_log, machine::MAX_EVENT_LOG, |octets| {
            let log = EventLog::read(octets, &event_log::Limits::LOG);
            let log = log.map_err(|error| Problem::of(&error))?;
            let events = log.unverified().events().len();
            let replayed = values.map(|values| log.replay(values).map(drop));
            let replayed = replayed.map(|one| one.map_err(|error| Problem::of(&error)));
            Ok((events, replayed))
        })
    }

    fn examine_ima_log(&self, values: Option<&PcrValues>) -> Log {
        let value = values.and_then(|values| values.value(IMA_PCR));
        examine(&self.settings.ima_log, machine::MAX_IMA_LOG, |octets| {
            let log = ImaLog::read(octets, &ima::Limits::LOG);
            let log = log.map_err(|error| Problem::of(&error))?;
            let events = log.unverified().entries().len();
            let replayed = value.map(|value| log.replay(value).map(drop));
            let replayed = replayed.map(|one| one.map_err(|error| Problem::of(&error)));
            Ok((events, replayed))
        })
    }
}

/// Looks at a log. `read` says how many events it has, and whether it replays, where that can be known.
fn examine(
    path: &Path,
    limit: usize,
    read: impl FnOnce(Vec<u8>) -> Observed<(usize, Option<Observed<()>>)>,
) -> Log {
    let absent = Log {
        path: path.display().to_string(),
        events: Ok(None),
        replay: None,
    };
    let octets = match machine::read_log(path, limit) {
        Ok(octets) if octets.is_empty() => return absent,
        Ok(octets) => octets,
        Err(error) => {
            let events = Err(problem(&error.into()));
            return Log { events, ..absent };
        }
    };
    match read(octets) {
        Ok((events, replay)) => Log {
            events: Ok(Some(events)),
            replay,
            ..absent
        },
        Err(problem) => Log {
            events: Err(problem),
            ..absent
        },
    }
}

fn observed<T>(read: Result<T, TpmError>) -> Observed<T> {
    read.map_err(|error| problem(&error.into()))
}

fn problem(error: &HostTpmError) -> Problem {
    Problem::of(error).with_remedy(remedy::of_tpm(error))
}
