//! What a host says that it will boot next, sent by the host itself: what it may add to its own record, and for how long.

use hgs_crypto::hash::{Sha256Digest, sha256, sha256_of};
use hgs_pki::{Seconds, Time};

use super::alternative::{Alternative, SourceKind, State};
use super::baseline::{Baseline, ComponentKind};
use super::document::DocumentError;
use super::evaluate::{PolicySet, PolicySetError};
use super::host_measurements::HostMeasurements;

/// Octets of the longest claim.
pub const MAX_NEXT_BOOT_OCTETS: usize = 128 * 1024;
/// For how long what a host claims is accepted, unless the host boots it.
pub const NEXT_BOOT_PERIOD: Seconds = Seconds::from_days(30);
/// Alternatives of one component that hosts have claimed and not booted, at most.
const MAX_STAGED: usize = 16;
/// A claim that is repeated gains less than this of time is not recorded again.
const LEAST_EXTENSION: Seconds = Seconds::from_hours(1);

/// PCRs with what only a host knows: boot order, partition table, what GRUB reads and executes, additions to the stub, the
/// identity of the system. Firmware, images that are started, Secure Boot and the keys of shim are in others.
const PCRS_OF_HOSTS: [u8; 7] = [1, 5, 8, 9, 12, 13, 15];

/// What the digest that the TPM confirms is made for.
const LABEL: &[u8] = b"OpenHGS next boot 1";

/// What the TPM of a host confirms of a claim: the outside information of TPM2_Create.
#[must_use]
pub fn next_boot_confirmation(claim: &[u8]) -> Sha256Digest {
    sha256_of(&[LABEL, claim])
}

/// What a host says that it will boot next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextBootClaim {
    digest: Sha256Digest,
    measurements: HostMeasurements,
}

/// What a claim comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedNextBoot {
    /// The host's own record with what was claimed.
    pub measurements: HostMeasurements,
    /// What is new in it: the components and their alternatives.
    pub added: Vec<(String, Alternative)>,
}

/// Why a claim is not accepted. The host is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NextBootError {
    /// It is no document, or a wrong one; or with it the host's record would be.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// It says nothing.
    #[error("the claim has no alternative")]
    Empty,
    /// It names parameters.
    #[error("the claim has parameters, which a host does not choose")]
    Parameters,
    /// It is about a component that no baseline of the host has.
    #[error("the claim is about `{component}`, which no baseline of this host has")]
    UnknownComponent {
        /// The component.
        component: String,
    },
    /// It is about something that is the same on all hosts.
    #[error("the claim is about `{component}`, which is not of the kind `host`")]
    NotOfHost {
        /// The component.
        component: String,
    },
    /// It has events where the component has no slot.
    #[error("the claim names the slot `{slot}`, which `{component}` does not have")]
    UnknownSlot {
        /// The component.
        component: String,
        /// The slot.
        slot: String,
    },
    /// It is about what no host may say of itself.
    #[error(
        "the claim is about `{component}` in PCR {pcr}: a host says what it measures into PCRs 1, 5, 8, 9, 12, 13 and 15, and no more"
    )]
    Pcr {
        /// The component.
        component: String,
        /// The PCR.
        pcr: u8,
    },
    /// It brings back what was withdrawn.
    #[error("the claim has what `{alternative}` of `{component}` measures, which was retired")]
    Retired {
        /// The component.
        component: String,
        /// The alternative.
        alternative: String,
    },
    /// Too much was claimed and not booted.
    #[error("{MAX_STAGED} alternatives of `{component}` wait for a boot already")]
    TooManyStaged {
        /// The component.
        component: String,
    },
    /// With it nothing could be matched.
    #[error(transparent)]
    Policies(Box<PolicySetError>),
}

impl NextBootClaim {
    /// Reads a claim, strictly: a document of what a host measures.
    pub fn read(octets: &[u8]) -> Result<Self, NextBootError> {
        let found = octets.len();
        if found > MAX_NEXT_BOOT_OCTETS {
            let limit = MAX_NEXT_BOOT_OCTETS;
            return Err(DocumentError::TooLarge { found, limit }.into());
        }
        let measurements = HostMeasurements::from_json(octets)?;
        if !measurements.parameters.is_empty() {
            return Err(NextBootError::Parameters);
        }
        let components = &measurements.components;
        if components.iter().all(|one| one.alternatives.is_empty()) {
            return Err(NextBootError::Empty);
        }
        Ok(Self {
            digest: sha256(octets),
            measurements,
        })
    }

    /// SHA-256 of its octets.
    #[must_use]
    pub fn digest(&self) -> &Sha256Digest {
        &self.digest
    }

    /// The host's record with what it claims, staged for [`NEXT_BOOT_PERIOD`]. `None` if nothing of it is new. `baselines` are
    /// those that the host is compared with; whether the record fits them as a whole is for their compilation.
    fn added_to<'b>(
        &self,
        known: &HostMeasurements,
        baselines: impl Iterator<Item = &'b Baseline> + Clone,
        host: &str,
        now: Time,
    ) -> Result<Option<AcceptedNextBoot>, NextBootError> {
        let expires = now.checked_add(NEXT_BOOT_PERIOD).unwrap_or(Time::MAX);
        let mut measurements = known.clone();
        measurements.remove_expired(now);
        let mut added = Vec::new();
        for claimed in &self.measurements.components {
            let component = &claimed.name;
            for alternative in &claimed.alternatives {
                check_place(component, alternative, baselines.clone())?;
                let alternative = alternative.staged_by(host, expires);
                if is_known(&measurements, component, &alternative, now)? {
                    continue;
                }
                measurements.add(component, alternative.clone());
                added.push((component.clone(), alternative));
            }
            let staged = measurements.alternatives_of(component).iter();
            let staged =
                staged.filter(|one| one.state.is_staged() && one.source.kind == SourceKind::Host);
            if staged.count() > MAX_STAGED {
                let component = component.clone();
                return Err(NextBootError::TooManyStaged { component });
            }
        }
        measurements.check()?;
        Ok((!added.is_empty()).then_some(AcceptedNextBoot {
            measurements,
            added,
        }))
    }
}

impl PolicySet {
    /// What becomes of the record of the host whose set this is, by what it claims. `None` if nothing of it is new.
    pub fn accept_next_boot(
        &self,
        claim: &NextBootClaim,
        host: &str,
        now: Time,
    ) -> Result<Option<AcceptedNextBoot>, NextBootError> {
        let accepted = claim.added_to(self.host_measurements(), self.baselines(), host, now)?;
        if let Some(accepted) = &accepted {
            self.for_host(&accepted.measurements)
                .map_err(|error| NextBootError::Policies(Box::new(error)))?;
        }
        Ok(accepted)
    }
}

/// Whether every baseline that has the component leaves to the host what is measured in these slots, and one does.
fn check_place<'b>(
    component: &str,
    alternative: &Alternative,
    baselines: impl Iterator<Item = &'b Baseline>,
) -> Result<(), NextBootError> {
    let mut is_known = false;
    for baseline in baselines {
        let Some(found) = baseline.component(component) else {
            continue;
        };
        is_known = true;
        let component = component.to_owned();
        if found.kind != ComponentKind::Host {
            return Err(NextBootError::NotOfHost { component });
        }
        for events in &alternative.events {
            let mut slots = baseline.lanes.iter().flat_map(|lane| {
                let of_lane = lane.slots.iter();
                of_lane.map(move |slot| (lane.pcr, slot))
            });
            let slot =
                slots.find(|(_, slot)| slot.component == component && slot.name == events.slot);
            match slot {
                Some((pcr, _)) if PCRS_OF_HOSTS.contains(&pcr) => {}
                Some((pcr, _)) => return Err(NextBootError::Pcr { component, pcr }),
                None => {
                    let slot = events.slot.clone();
                    return Err(NextBootError::UnknownSlot { component, slot });
                }
            }
        }
    }
    match is_known {
        true => Ok(()),
        false => Err(NextBootError::UnknownComponent {
            component: component.to_owned(),
        }),
    }
}

/// Whether the record has the alternative, for long enough.
fn is_known(
    measurements: &HostMeasurements,
    component: &str,
    claimed: &Alternative,
    now: Time,
) -> Result<bool, NextBootError> {
    let mut known = measurements.alternatives_of(component).iter();
    let Some(known) = known.find(|known| known.measures_as(claimed)) else {
        return Ok(false);
    };
    match &known.state {
        State::Promoted { .. } => Ok(true),
        State::Retired { .. } => Err(NextBootError::Retired {
            component: component.to_owned(),
            alternative: known.name.clone(),
        }),
        State::Staged { expires } => {
            let least = now.checked_add(NEXT_BOOT_PERIOD);
            let least = least.and_then(|most| most.checked_sub(LEAST_EXTENSION));
            Ok(least.is_none_or(|least| *expires > least))
        }
    }
}
