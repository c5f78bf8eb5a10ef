//! The PCRs that an identity key is bound to.

use hgs_crypto::hash::Sha256Digest;
use hgs_tcg::event_log::PcrValues;
use hgs_tcg::tpm::{PcrSelection, policy_pcr};

/// PCRs that every identity key is bound to: those of the firmware.
const ALWAYS: std::ops::RangeInclusive<u8> = 0..=7;
/// PCRs that it can be bound to besides. Not 10, which IMA extends for ever, nor 16 and 23, which programs reset.
const OPTIONAL: [u8; 6] = [8, 9, 11, 12, 13, 14];

/// The PCRs that an identity key is bound to: 0 to 7, and of 8, 9, 11 to 14 those that do not change while a host runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdentityPcrs(PcrSelection);

/// PCRs that no identity key is bound to, or too few.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an identity key is bound to PCRs 0 to 7, and beside them to any of 8, 9, 11, 12, 13 and 14 only"
)]
pub struct IdentityPcrsError;

impl IdentityPcrs {
    /// These PCRs.
    ///
    /// # Errors
    ///
    /// When one of 0 to 7 is not among them, or one of 10, 15 to 23 is.
    pub fn new(pcrs: PcrSelection) -> Result<Self, IdentityPcrsError> {
        let pcrs_of = |selection: PcrSelection| selection.pcrs();
        let has_all = ALWAYS
            .into_iter()
            .all(|pcr| pcrs_of(pcrs).any(|one| one == pcr));
        let has_others =
            pcrs_of(pcrs).any(|pcr| !ALWAYS.contains(&pcr) && !OPTIONAL.contains(&pcr));
        match has_all && !has_others {
            true => Ok(Self(pcrs)),
            false => Err(IdentityPcrsError),
        }
    }

    /// The PCRs.
    #[must_use]
    pub fn selection(self) -> PcrSelection {
        self.0
    }

    /// The digest of the policy that demands these values; `None` if one of the PCRs has no value of SHA-256.
    #[must_use]
    pub fn policy(self, values: &PcrValues) -> Option<Sha256Digest> {
        policy_pcr(self.0, &values_of(self.0, values)?)
    }

    /// The PCRs whose values give a policy with this digest, as far as they are ones that an identity key can be bound
    /// to. It is how a host finds out what a server has bound its key to.
    #[must_use]
    pub fn of_policy(policy: &Sha256Digest, values: &PcrValues) -> Option<Self> {
        (0..1u8 << OPTIONAL.len()).find_map(|bits| {
            let chosen = OPTIONAL.iter().enumerate();
            let chosen = chosen.filter(|(place, _)| bits & (1 << place) != 0);
            let pcrs = ALWAYS.chain(chosen.map(|(_, pcr)| *pcr));
            let pcrs = Self(PcrSelection::new(pcrs).ok()?);
            (pcrs.policy(values)? == *policy).then_some(pcrs)
        })
    }
}

impl Default for IdentityPcrs {
    /// All but 11, which systemd extends until a boot is complete.
    fn default() -> Self {
        let pcrs = ALWAYS.chain([8, 9, 12, 13, 14]);
        Self(PcrSelection::new(pcrs).expect("there are these PCRs"))
    }
}

fn values_of(pcrs: PcrSelection, values: &PcrValues) -> Option<Vec<Sha256Digest>> {
    let values = pcrs.pcrs().map(|pcr| values.value(pcr.into()));
    values
        .map(|value| value?.as_bytes().try_into().ok())
        .collect()
}
