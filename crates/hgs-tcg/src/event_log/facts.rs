//! What follows from the events of a PCR: from digests and preimages, never from types or from the order among PCRs.

use std::sync::LazyLock;

use super::variable::LoggedVariable;
use super::{Bank, Digest, Event, EventType, Lane, MeasuredEvent, ReplayedLog};
use crate::guid::Guid;

const SEPARATOR: &[u8] = &[0; 4];
/// What a separator is in a boot that failed: the values of both the present and the former specification.
const ERROR_SEPARATORS: [&[u8]; 2] = [&[1, 0, 0, 0], &[0xff; 4]];

/// What GRUB writes before a text, and does not measure.
const LOADER_PREFIXES: [&[u8]; 3] = [b"grub_cmd: ", b"kernel_cmdline: ", b"module_cmdline: "];

/// Actions of firmware: texts that are measured without an octet after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// A boot entry is tried.
    CallingApplication,
    /// A boot entry gave up.
    ReturningFromApplication,
    /// An operating system takes over.
    ExitBootServices,
    /// It could not take over.
    ExitBootServicesFailed,
    /// It has taken over.
    ExitBootServicesSucceeded,
    /// A debugger is attached to the firmware.
    DebugMode,
    /// The firmware does not guard memory against devices.
    DmaProtectionDisabled,
}

impl Action {
    const ALL: [Self; 7] = [
        Self::CallingApplication,
        Self::ReturningFromApplication,
        Self::ExitBootServices,
        Self::ExitBootServicesFailed,
        Self::ExitBootServicesSucceeded,
        Self::DebugMode,
        Self::DmaProtectionDisabled,
    ];

    /// The text that is measured.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::CallingApplication => "Calling EFI Application from Boot Option",
            Self::ReturningFromApplication => "Returning from EFI Application from Boot Option",
            Self::ExitBootServices => "Exit Boot Services Invocation",
            Self::ExitBootServicesFailed => "Exit Boot Services Returned with Failure",
            Self::ExitBootServicesSucceeded => "Exit Boot Services Returned with Success",
            Self::DebugMode => "UEFI Debug Mode",
            Self::DmaProtectionDisabled => "DMA Protection Disabled",
        }
    }
}

/// A section of a unified kernel image that systemd-stub measures into PCR 11.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names of the sections")]
pub enum Section {
    Linux,
    OsRelease,
    CommandLine,
    Initrd,
    Microcode,
    Splash,
    DeviceTree,
    DeviceTreeAuto,
    HardwareIdentifiers,
    KernelRelease,
    Sbat,
    PcrPublicKey,
    Profile,
    EfiFirmware,
}

impl Section {
    const ALL: [Self; 14] = [
        Self::Linux,
        Self::OsRelease,
        Self::CommandLine,
        Self::Initrd,
        Self::Microcode,
        Self::Splash,
        Self::DeviceTree,
        Self::DeviceTreeAuto,
        Self::HardwareIdentifiers,
        Self::KernelRelease,
        Self::Sbat,
        Self::PcrPublicKey,
        Self::Profile,
        Self::EfiFirmware,
    ];

    /// Its name in the image. It is measured with a NUL after it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Linux => ".linux",
            Self::OsRelease => ".osrel",
            Self::CommandLine => ".cmdline",
            Self::Initrd => ".initrd",
            Self::Microcode => ".ucode",
            Self::Splash => ".splash",
            Self::DeviceTree => ".dtb",
            Self::DeviceTreeAuto => ".dtbauto",
            Self::HardwareIdentifiers => ".hwids",
            Self::KernelRelease => ".uname",
            Self::Sbat => ".sbat",
            Self::PcrPublicKey => ".pcrpkey",
            Self::Profile => ".profile",
            Self::EfiFirmware => ".efifw",
        }
    }
}

/// Where an event stands to the separator of its PCR. PCRs 8 and up have none: there, only the number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// Before the first separator.
    BeforeSeparator,
    /// It is the first separator.
    Separator,
    /// After it.
    AfterSeparator,
    /// The PCR has no separator.
    NoSeparator,
}

/// What the digest of an event is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Preimage {
    /// Octets that are always the same.
    Constant,
    /// The data of the event, whole.
    EventData,
    /// The data of the variable in the event; not its name.
    DataOfVariable,
    /// The text in the event after GRUB's prefix, without NUL. *The prefix itself is not proved.*
    TextAfterPrefix,
    /// It is not in the log: an image, a file, a region of memory.
    NotInLog,
}

/// What an event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning<'l> {
    /// The end of what firmware does before it tries to boot (PCRs 0 to 7).
    Separator,
    /// A separator that tells of an error.
    ErrorSeparator,
    /// An action of firmware (PCRs 1 to 7).
    Action(Action),
    /// A variable of Secure Boot (PCR 7, before the separator).
    SecureBootVariable(LoggedVariable<'l>),
    /// What allowed an image to start (PCR 7, after the separator): the entry of a variable that verified it, or
    /// shim's SBAT level.
    Authority(LoggedVariable<'l>),
    /// `BootOrder` or a boot entry (PCR 1). By [`Preimage::DataOfVariable`] only the data are proved, not the name.
    BootVariable(LoggedVariable<'l>),
    /// The partition table of the disk that was booted from (PCR 5): header, number, and entries.
    PartitionTable(&'l [u8]),
    /// An image that was started, by its Authenticode digest (PCR 4).
    Image,
    /// Firmware, and images that devices bring (PCRs 0 and 2).
    Firmware,
    /// Settings of firmware and devices (PCRs 1, 3, 5, 6 and 7).
    Configuration,
    /// A command or a command line of GRUB (PCR 8): which of them can't be told.
    LoaderText(&'l [u8]),
    /// UTF-16LE text (PCRs 8 and 12), as systemd-boot and systemd-stub measure command lines.
    WideText(&'l [u8]),
    /// A file that the boot loader or the kernel's EFI stub read, or the stub's load options (PCR 9).
    File,
    /// The name of a section, which the next event of PCR 11 is the contents of.
    SectionName(Section),
    /// The contents of a section (PCR 11).
    SectionContents(Section),
    /// `MokListTrusted` is set (PCR 14).
    MokListTrusted,
    /// Contents of one of shim's lists of keys and hashes (PCR 14).
    MokList,
    /// Nothing that is known here.
    Unknown,
}

/// What follows from one event, with where it was measured and over what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fact<'l> {
    pcr: usize,
    number: usize,
    lane_place: usize,
    place: Place,
    digest: Digest,
    preimage: Preimage,
    meaning: Meaning<'l>,
}

impl<'l> Fact<'l> {
    /// The PCR.
    #[must_use]
    pub fn pcr(&self) -> usize {
        self.pcr
    }

    /// The number of the event in the log.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// The place of the event among those of its PCR, from 0.
    #[must_use]
    pub fn lane_place(&self) -> usize {
        self.lane_place
    }

    /// Where it stands to the separator.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }

    /// The digest of the event.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What the digest is taken over.
    #[must_use]
    pub fn preimage(&self) -> Preimage {
        self.preimage
    }

    /// What it says.
    #[must_use]
    pub fn meaning(&self) -> Meaning<'l> {
        self.meaning
    }
}

/// Whether Secure Boot was on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the two states")]
pub enum SecureBoot {
    Enabled,
    Disabled,
}

impl SecureBoot {
    /// The state, from all facts of PCR 7.
    ///
    /// # Errors
    ///
    /// As of [`ReplayedLog::secure_boot`].
    pub fn of_facts(facts: &[Fact<'_>]) -> Result<Self, SecureBootError> {
        let mut states = facts.iter().filter_map(|fact| match fact.meaning {
            Meaning::SecureBootVariable(variable)
                if variable.is(Guid::GLOBAL_VARIABLE, "SecureBoot") =>
            {
                Some((fact.number, variable.data()))
            }
            _ => None,
        });
        let (event, value) = states.next().ok_or(SecureBootError::Absent)?;
        if let Some((event, _)) = states.next() {
            return Err(SecureBootError::Doubled { event });
        }
        match value {
            [1] => Ok(Self::Enabled),
            // Firmware without Secure Boot measures the variable without data.
            [0] | [] => Ok(Self::Disabled),
            _ => Err(SecureBootError::Value { event }),
        }
    }
}

/// Why the state of Secure Boot does not follow from the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecureBootError {
    /// No value of PCR 7 was given.
    #[error("PCR 7 is not proved")]
    NotProved,
    /// The variable was not measured before the separator.
    #[error("PCR 7 has no variable SecureBoot before its separator")]
    Absent,
    /// It was measured more than once.
    #[error("PCR 7 has the variable SecureBoot twice, the second time in event {event}")]
    Doubled {
        /// The number of the second event.
        event: usize,
    },
    /// Its value is neither 0 nor 1 in one octet, nor absent.
    #[error("event {event}: the variable SecureBoot is neither 0 nor 1")]
    Value {
        /// The number of the event.
        event: usize,
    },
}

/// A measurement of the kernel's command line by the kernel's EFI stub or by systemd-stub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandLineMeasurement {
    /// `LoadOptions`, UTF-16LE with a NUL: by the kernel's EFI stub in PCR 9, by systemd-stub in PCR 12.
    LoadOptions {
        /// The PCR.
        pcr: usize,
        /// The number of the event.
        event: usize,
    },
    /// The section `.cmdline` of a unified kernel image (PCR 11).
    Section {
        /// The number of the event with the contents.
        event: usize,
    },
}

impl ReplayedLog {
    /// The state of Secure Boot, from PCR 7.
    ///
    /// # Errors
    ///
    /// When it does not follow: the variable must have been measured once before the separator.
    pub fn secure_boot(&self) -> Result<SecureBoot, SecureBootError> {
        let lane = self.lane(7).ok_or(SecureBootError::NotProved)?;
        SecureBoot::of_facts(&lane.facts())
    }

    /// Where `text` was measured as the kernel's command line.
    ///
    /// GRUB's measurements in PCR 8 are none: what it calls a command line can't be told from any of its commands.
    #[must_use]
    pub fn command_line_measurements(&self, text: &str) -> Vec<CommandLineMeasurement> {
        let bank = self.bank();
        let load_options: Vec<u8> = text
            .encode_utf16()
            .chain([0])
            .flat_map(u16::to_le_bytes)
            .collect();
        let load_options = bank.hash(&[&load_options]);
        let section = bank.hash(&[text.as_bytes()]);
        let of_load_options = [9, 12]
            .into_iter()
            .filter_map(|pcr| self.lane(pcr))
            .flat_map(|lane| lane.events().map(move |event| (lane.pcr(), event)))
            .filter(|(_, event)| event.digest() == load_options)
            .map(|(pcr, event)| CommandLineMeasurement::LoadOptions {
                pcr,
                event: event.number(),
            });
        let sections = self.lane(11).map(|lane| lane.facts()).unwrap_or_default();
        let of_section = sections
            .into_iter()
            .filter(|fact| fact.meaning == Meaning::SectionContents(Section::CommandLine))
            .filter(|fact| fact.digest == section)
            .map(|fact| CommandLineMeasurement::Section { event: fact.number });
        of_load_options.chain(of_section).collect()
    }
}

pub(super) fn of_lane<'l>(lane: &Lane<'l>) -> Vec<Fact<'l>> {
    let constants = Constants::of(lane.bank());
    let mut place = match lane.pcr() {
        0..=7 => Place::BeforeSeparator,
        _ => Place::NoSeparator,
    };
    // The section whose contents come next.
    let mut section = None;
    let mut facts = Vec::with_capacity(lane.events().len());
    for event in lane.events() {
        place = match place {
            Place::BeforeSeparator if constants.separator == event.digest() => Place::Separator,
            Place::Separator => Place::AfterSeparator,
            _ => place,
        };
        let (meaning, preimage) = match section.take() {
            Some(section) => (Meaning::SectionContents(section), Preimage::NotInLog),
            None => constants.meaning(lane.pcr(), place, &event),
        };
        if let Meaning::SectionName(name) = meaning {
            section = Some(name);
        }
        facts.push(Fact {
            pcr: lane.pcr(),
            number: event.number(),
            lane_place: event.place(),
            place,
            digest: event.digest(),
            preimage,
            meaning,
        });
    }
    facts
}

/// Digests of what is always the same.
struct Constants {
    bank: Bank,
    separator: Digest,
    error_separators: [Digest; 2],
    actions: [(Digest, Action); Action::ALL.len()],
    sections: [(Digest, Section); Section::ALL.len()],
    one: Digest,
}

impl Constants {
    /// Those of a bank, which are hashed once.
    fn of(bank: Bank) -> &'static Self {
        static OF_BANKS: [LazyLock<Constants>; Bank::ALL.len()] = [
            LazyLock::new(|| Constants::new(Bank::Sha1)),
            LazyLock::new(|| Constants::new(Bank::Sha256)),
            LazyLock::new(|| Constants::new(Bank::Sha384)),
        ];
        &OF_BANKS[bank as usize]
    }

    fn new(bank: Bank) -> Self {
        Self {
            bank,
            separator: bank.hash(&[SEPARATOR]),
            error_separators: ERROR_SEPARATORS.map(|octets| bank.hash(&[octets])),
            actions: Action::ALL.map(|action| (bank.hash(&[action.text().as_bytes()]), action)),
            sections: Section::ALL
                .map(|section| (bank.hash(&[section.name().as_bytes(), &[0]]), section)),
            one: bank.hash(&[&[1]]),
        }
    }

    fn meaning<'l>(
        &self,
        pcr: usize,
        place: Place,
        event: &MeasuredEvent<'l>,
    ) -> (Meaning<'l>, Preimage) {
        let (digest, data) = (event.digest(), event.unverified_data());
        if pcr <= 7
            && let Some(constant) = self.constant_of_firmware(digest)
        {
            return (constant, Preimage::Constant);
        }
        let is_measured = |octets: &[u8]| self.bank.hash(&[octets]) == digest;
        let unknown = |meaning| (meaning, Preimage::NotInLog);
        let whole = |meaning| (meaning, Preimage::EventData);
        match pcr {
            0 | 2 if is_measured(data) => whole(Meaning::Firmware),
            0 | 2 => unknown(Meaning::Firmware),
            1 => match LoggedVariable::read(data) {
                Some(variable) if is_measured(variable.data()) => {
                    (Meaning::BootVariable(variable), Preimage::DataOfVariable)
                }
                Some(variable) if is_measured(data) => whole(Meaning::BootVariable(variable)),
                _ if is_measured(data) => whole(Meaning::Configuration),
                _ => unknown(Meaning::Configuration),
            },
            4 => unknown(Meaning::Image),
            5 if data.starts_with(b"EFI PART") && is_measured(data) => {
                whole(Meaning::PartitionTable(data))
            }
            7 => match LoggedVariable::read(data).filter(|_| is_measured(data)) {
                Some(variable) if place == Place::BeforeSeparator => {
                    whole(Meaning::SecureBootVariable(variable))
                }
                Some(variable) => whole(Meaning::Authority(variable)),
                None => unknown(Meaning::Unknown),
            },
            3 | 5 | 6 if is_measured(data) => whole(Meaning::Configuration),
            3 | 5 | 6 => unknown(Meaning::Configuration),
            8 | 12 => match text_of_loader(data).filter(|text| pcr == 8 && is_measured(text)) {
                Some(text) => (Meaning::LoaderText(text), Preimage::TextAfterPrefix),
                None if data.ends_with(&[0, 0])
                    && data.len().is_multiple_of(2)
                    && is_measured(data) =>
                {
                    whole(Meaning::WideText(data))
                }
                None => unknown(Meaning::Unknown),
            },
            9 => unknown(Meaning::File),
            11 => match self.sections.iter().find(|(name, _)| *name == digest) {
                Some((_, section)) => (Meaning::SectionName(*section), Preimage::Constant),
                None => unknown(Meaning::Unknown),
            },
            14 if digest == self.one => (Meaning::MokListTrusted, Preimage::Constant),
            14 => unknown(Meaning::MokList),
            _ => unknown(Meaning::Unknown),
        }
    }

    fn constant_of_firmware(&self, digest: Digest) -> Option<Meaning<'static>> {
        if digest == self.separator {
            return Some(Meaning::Separator);
        }
        if self.error_separators.contains(&digest) {
            return Some(Meaning::ErrorSeparator);
        }
        let action = self.actions.iter().find(|(text, _)| *text == digest);
        action.map(|(_, action)| Meaning::Action(*action))
    }
}

/// The text that GRUB measures, if the event is one of GRUB's.
fn text_of_loader(data: &[u8]) -> Option<&[u8]> {
    let prefix = LOADER_PREFIXES
        .into_iter()
        .find(|prefix| data.starts_with(prefix))?;
    let text = &data[prefix.len()..];
    Some(text.strip_suffix(&[0]).unwrap_or(text))
}

/// Whether the type that the event claims says that its digest is taken over its data, and it is not.
pub(super) fn contradicts_its_data(event: &Event<'_>, bank: Bank) -> bool {
    let data = event.data();
    let preimages = match event.event_type() {
        EventType::SEPARATOR
        | EventType::ACTION
        | EventType::EFI_ACTION
        | EventType::EFI_GPT_EVENT
        | EventType::EFI_VARIABLE_DRIVER_CONFIG
        | EventType::EFI_VARIABLE_AUTHORITY
        | EventType::EFI_VARIABLE_BOOT2 => vec![data],
        EventType::EFI_VARIABLE_BOOT => {
            let variable = LoggedVariable::read(data);
            std::iter::once(data)
                .chain(variable.map(|variable| variable.data()))
                .collect()
        }
        EventType::IPL => text_of_loader(data).into_iter().collect(),
        _ => return false,
    };
    let digest = event.digest(bank);
    !preimages.is_empty()
        && !preimages
            .iter()
            .any(|octets| digest == Some(bank.hash(&[octets])))
}
