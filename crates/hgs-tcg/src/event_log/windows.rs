//! What Windows measures about how it was started: the events of its boot loader, as far as they are public (`wbcl.h` of
//! the Windows SDK).
//!
//! PCRs 12 and 13 are extended with sequences of *parameters*: type and length, both u32 and little-endian, and a value.
//! A type with both bits of [`CONTAINER`] has parameters for a value. The digest is over the whole sequence, so each
//! parameter follows from the digest. The loader ends its part with a separator over the text `WBCL`; Windows itself
//! extends the PCRs after that, and what it says there is not believed.

use super::{MeasuredEvent, ReplayedLog};
use crate::little_endian::Reader;

/// The PCRs with parameters.
const PCRS: [usize; 2] = [12, 13];
const SEPARATOR: &[u8] = b"WBCL";
/// `SIPAEVENTTYPE_AGGREGATION` and `SIPAEVENTTYPE_CONTAINER`.
const CONTAINER: u32 = 0x4001_0000;
/// A real log has three levels.
const MOST_LEVELS: usize = 8;

/// A parameter of the start of Windows, by the name it has in `wbcl.h` without its prefix `SIPAEVENT_`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowsParameter(u32);

impl WindowsParameter {
    /// `BITLOCKER_UNLOCK`: a volume was unlocked, u32 of flags.
    pub const BITLOCKER_UNLOCK: Self = Self(0x0002_0005);
    /// `BOOTDEBUGGING`: a debugger of the boot loader, one octet.
    pub const BOOT_DEBUGGING: Self = Self(0x0004_0001);
    /// `OSKERNELDEBUG`: a debugger of the kernel, one octet.
    pub const KERNEL_DEBUG: Self = Self(0x0005_0001);
    /// `CODEINTEGRITY`: code is checked, one octet.
    pub const CODE_INTEGRITY: Self = Self(0x0005_0002);
    /// `TESTSIGNING`: code with test signatures is accepted, one octet.
    pub const TEST_SIGNING: Self = Self(0x0005_0003);
    /// `SAFEMODE`: one octet.
    pub const SAFE_MODE: Self = Self(0x0005_0005);
    /// `WINPE`: one octet.
    pub const WINDOWS_PE: Self = Self(0x0005_0006);
    /// `HYPERVISOR_LAUNCH_TYPE`: u64, 0 for none.
    pub const HYPERVISOR_LAUNCH_TYPE: Self = Self(0x0005_000a);
    /// `HYPERVISOR_IOMMU_POLICY`: u64, 0 for none.
    pub const HYPERVISOR_IOMMU_POLICY: Self = Self(0x0005_000c);
    /// `HYPERVISOR_DEBUG`: a debugger of the hypervisor, one octet.
    pub const HYPERVISOR_DEBUG: Self = Self(0x0005_000d);
    /// `SI_POLICY`: the digest of a policy for code integrity.
    pub const CODE_INTEGRITY_POLICY: Self = Self(0x0005_000f);
    /// `VSM_LAUNCH_TYPE`: u64, 0 for none.
    pub const VIRTUAL_SECURE_MODE_LAUNCH_TYPE: Self = Self(0x0005_0012);
    /// `VSM_IDK_INFO`: the identity key for encryption.
    pub const VIRTUAL_SECURE_MODE_IDENTITY_KEY: Self = Self(0x0005_0020);
    /// `FLIGHTSIGNING`: code with signatures of previews is accepted, one octet.
    pub const FLIGHT_SIGNING: Self = Self(0x0005_0021);
    /// `PAGEFILE_ENCRYPTION_ENABLED`: one octet.
    pub const PAGE_FILE_ENCRYPTION: Self = Self(0x0005_0022);
    /// `HIBERNATION_DISABLED`: one octet.
    pub const HIBERNATION_DISABLED: Self = Self(0x0005_0024);
    /// `DUMPS_DISABLED`: one octet.
    pub const DUMPS_DISABLED: Self = Self(0x0005_0025);
    /// `DUMP_ENCRYPTION_ENABLED`: one octet.
    pub const DUMP_ENCRYPTION: Self = Self(0x0005_0026);
    /// `DUMP_ENCRYPTION_KEY_DIGEST`: SHA-256.
    pub const DUMP_ENCRYPTION_KEY_DIGEST: Self = Self(0x0005_0027);
    /// `VBS_HVCI_POLICY`: the hypervisor checks code, u64, 0 for off.
    pub const HYPERVISOR_CODE_INTEGRITY: Self = Self(0x000a_0007);

    /// The number in the log.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }
}

/// A parameter that a PCR proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowsFact<'l> {
    /// The PCR.
    pub pcr: usize,
    /// The number of the event in the log.
    pub event: usize,
    /// Which parameter.
    pub parameter: WindowsParameter,
    /// Its value.
    pub value: &'l [u8],
}

impl WindowsFact<'_> {
    /// Whether a parameter that is a number is another than 0; `None` if its value has not 1, 4 or 8 octets.
    #[must_use]
    pub fn is_set(&self) -> Option<bool> {
        let is_number = matches!(self.value.len(), 1 | 4 | 8);
        is_number.then(|| self.value.iter().any(|octet| *octet != 0))
    }
}

/// Why a log does not tell how Windows was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WindowsFactsError {
    /// A PCR was not proved.
    #[error("PCR {pcr} was not read")]
    NotProved {
        /// The PCR.
        pcr: usize,
    },
    /// The loader's part has no end, so that Windows itself could have said anything.
    #[error("PCR {pcr} has no separator WBCL, which ends what the boot loader of Windows measures")]
    NoSeparator {
        /// The PCR.
        pcr: usize,
    },
    /// A debugger could be hidden there.
    #[error(
        "event {event} (PCR {pcr}): its digest is not that of its data, so what was measured can't be told"
    )]
    NotInLog {
        /// The PCR.
        pcr: usize,
        /// The number of the event.
        event: usize,
    },
    /// The data of an event are no sequence of parameters.
    #[error("event {event} (PCR {pcr}): its data are no parameters of Windows")]
    Malformed {
        /// The PCR.
        pcr: usize,
        /// The number of the event.
        event: usize,
    },
}

impl ReplayedLog {
    /// What the boot loader of Windows measured, in the order of the log.
    ///
    /// # Errors
    ///
    /// When it does not follow from the PCRs: what can't be read might be what matters.
    pub fn windows_facts(&self) -> Result<Vec<WindowsFact<'_>>, WindowsFactsError> {
        let mut facts = Vec::new();
        for pcr in PCRS {
            let lane = self.lane(pcr).ok_or(WindowsFactsError::NotProved { pcr })?;
            let separator = lane.bank().hash(&[SEPARATOR]);
            let mut events = lane.events();
            loop {
                let event = events
                    .next()
                    .ok_or(WindowsFactsError::NoSeparator { pcr })?;
                if event.digest() == separator {
                    break;
                }
                read_event(pcr, &event, &mut facts)?;
            }
        }
        Ok(facts)
    }
}

fn read_event<'l>(
    pcr: usize,
    measured: &MeasuredEvent<'l>,
    facts: &mut Vec<WindowsFact<'l>>,
) -> Result<(), WindowsFactsError> {
    let (event, data) = (measured.number(), measured.unverified_data());
    if measured.digest().bank().hash(&[data]) != measured.digest() {
        return Err(WindowsFactsError::NotInLog { pcr, event });
    }
    let found = |parameter, value| WindowsFact {
        pcr,
        event,
        parameter,
        value,
    };
    read_sequence(data, MOST_LEVELS, &mut |parameter, value| {
        facts.push(found(parameter, value));
    })
    .ok_or(WindowsFactsError::Malformed { pcr, event })
}

fn read_sequence<'l>(
    octets: &'l [u8],
    levels: usize,
    found: &mut dyn FnMut(WindowsParameter, &'l [u8]),
) -> Option<()> {
    let levels = levels.checked_sub(1)?;
    let mut reader = Reader::new(octets);
    while !reader.rest().is_empty() {
        let number = reader.u32()?;
        let length = reader.u32()?;
        let value = reader.take(usize::try_from(length).ok()?)?;
        if number & CONTAINER == CONTAINER {
            read_sequence(value, levels, found)?;
        } else {
            found(WindowsParameter(number), value);
        }
    }
    Some(())
}
