//! From the log of a boot to a baseline that it matches.
//!
//! Which component an event belongs to is a proposal, made from what the events say and, where that is not proved, from
//! what the log says: the administrator approves it by adding the baseline. Matching uses digests and their order only.

use hgs_tcg::event_log::{Action, Fact, Guid, Meaning, Place, Section};

use super::alternative::{
    Alternative, Encoding, ExpectedEvent, Parameters, SlotEvents, Source, SourceKind, State,
    without_parameters,
};
use super::baseline::{Baseline, Component, ComponentKind, LaneSlots, Slot, Times};
use super::difference::FoundEvent;
use super::document::{DocumentError, EventDigest};
use super::evidence::Evidence;
use super::host_measurements::HostMeasurements;

/// The component whose slots hold the kernel.
pub const KERNEL: &str = "kernel";
/// The component whose slots hold shim, its keys and its SBAT level.
pub const SHIM: &str = "shim";
/// The component whose slots hold the boot loader.
pub const LOADER: &str = "loader";
/// The component whose slots hold the variables of Secure Boot.
pub const SECURE_BOOT: &str = "secure-boot";

/// What a host will boot next, from what it has booted: each file whose path ends with one of these has that digest instead,
/// and texts have the new release in place of the former. It is what a host stages before it boots (`host` components
/// only). What does not change is left out.
pub fn claim_of_next_boot(
    evidence: &Evidence,
    files: &[(&str, EventDigest)],
    releases: Option<(&str, &str)>,
    name: &str,
) -> Result<HostMeasurements, DocumentError> {
    let baseline = Baseline::of_evidence(evidence, name, &Parameters::new())?;
    let of_host = baseline
        .components
        .iter()
        .filter(|component| component.kind == ComponentKind::Host);
    let mut claim = HostMeasurements::default();
    for component in of_host {
        for booted in &component.alternatives {
            let mut next = Alternative {
                name: name.to_owned(),
                ..booted.clone()
            };
            for event in next.events.iter_mut().flat_map(|events| &mut events.events) {
                match event {
                    ExpectedEvent::Digest {
                        digest,
                        what: Some(what),
                    } => {
                        let mut replaced = files.iter();
                        if let Some((_, new)) = replaced.find(|(path, _)| what.ends_with(path)) {
                            *digest = *new;
                        }
                        if let Some((former, new)) = releases {
                            *what = what.replace(former, new);
                        }
                    }
                    ExpectedEvent::Text { text, .. } => {
                        if let Some((former, new)) = releases {
                            *text = text.replace(former, new);
                        }
                    }
                    ExpectedEvent::Digest { what: None, .. } => {}
                }
            }
            if !next.measures_as(booted) {
                claim.add(&component.name, next);
            }
        }
    }
    claim.check()?;
    Ok(claim)
}

/// Where an event goes.
struct Owner {
    component: &'static str,
    kind: ComponentKind,
    slot: String,
    command_line: bool,
}

impl Owner {
    fn new(component: &'static str, kind: ComponentKind, slot: &str) -> Self {
        Self {
            component,
            kind,
            slot: slot.to_owned(),
            command_line: false,
        }
    }

    fn kernel(slot: &str) -> Self {
        Self::new(KERNEL, ComponentKind::Parametrised, slot)
    }

    fn command_line(slot: &str) -> Self {
        Self {
            command_line: true,
            ..Self::kernel(slot)
        }
    }
}

impl Baseline {
    /// The baseline that a boot matches. `source` says which log it is. Values of `parameters` are taken out of texts, so that
    /// other hosts match with their own.
    pub fn of_evidence(
        evidence: &Evidence,
        source: &str,
        parameters: &Parameters,
    ) -> Result<Self, DocumentError> {
        let boot = Boot::of(evidence);
        let mut lanes = Vec::new();
        let mut components: Vec<Component> = Vec::new();
        for lane in evidence
            .lanes()
            .iter()
            .filter(|lane| !lane.digests.is_empty())
        {
            let mut slots: Vec<Slot> = Vec::new();
            let described = evidence.described(lane.pcr);
            let owners = boot.owners(evidence, lane.pcr, &described);
            let mut last: Option<(&'static str, String)> = None;
            for (owner, event) in owners.into_iter().zip(described.iter()) {
                let goes_on = last.as_ref().is_some_and(|(component, slot)| {
                    *component == owner.component && *slot == owner.slot
                });
                last = Some((owner.component, owner.slot.clone()));
                if !goes_on {
                    let name = new_slot_name(&owner, &components);
                    slots.push(Slot {
                        component: owner.component.to_owned(),
                        name: name.clone(),
                        times: Times::Once,
                        command_line: owner.command_line,
                    });
                    add_slot(&mut components, &owner, name, source);
                }
                let slot = slots.last().expect("one was pushed");
                push_event(
                    &mut components,
                    slot,
                    expected(event, owner.kind, parameters),
                );
            }
            lanes.push(LaneSlots {
                pcr: lane.pcr,
                slots,
            });
        }
        let baseline = Self {
            lanes,
            components,
            final_values: Vec::new(),
        };
        // What can't be read again is not written.
        Self::from_json(baseline.to_json().as_bytes())
    }

    /// Moves the alternatives of components that are the host's own out of a baseline, into the record of a host.
    #[must_use]
    pub fn without_host_alternatives(
        mut self,
        parameters: &Parameters,
    ) -> (Self, HostMeasurements) {
        let mut host = HostMeasurements {
            parameters: parameters.clone(),
            ..HostMeasurements::default()
        };
        let of_host = self
            .components
            .iter_mut()
            .filter(|component| component.kind == ComponentKind::Host);
        for component in of_host {
            for alternative in std::mem::take(&mut component.alternatives) {
                host.add(&component.name, alternative);
            }
        }
        (self, host)
    }
}

/// Values that texts of a boot name and that are proposed as parameters: `root`, from `root=UUID=` and the like, and `boot`,
/// the file system that GRUB looks for, if it is another.
#[must_use]
pub fn proposed_parameters(evidence: &Evidence) -> Parameters {
    let mut parameters = Parameters::new();
    for pcr in [8, 9, 11, 12] {
        let described = evidence.described(pcr);
        let texts = described.iter().filter_map(|event| event.text.as_ref());
        for word in texts
            .clone()
            .flat_map(|(text, _)| text.split_ascii_whitespace())
        {
            let value = word
                .strip_prefix("root=")
                .and_then(|value| value.split_once("UUID="));
            if let Some(("" | "PART", value)) = value {
                parameters
                    .entry("root".to_owned())
                    .or_insert_with(|| value.to_owned());
            }
        }
        for (text, _) in
            texts.filter(|(text, _)| text.starts_with("search ") && text.contains("--fs-uuid"))
        {
            let value = text
                .split_ascii_whitespace()
                .next_back()
                .unwrap_or_default();
            if parameters.get("root").is_none_or(|root| root != value) {
                parameters
                    .entry("boot".to_owned())
                    .or_insert_with(|| value.to_owned());
            }
        }
    }
    // Of root and boot on one file system only the first is needed.
    if parameters.get("boot") == parameters.get("root") {
        parameters.remove("boot");
    }
    parameters.retain(|_, value| value.len() >= 8);
    match super::alternative::check_parameters(&parameters) {
        Ok(()) => parameters,
        Err(_) => Parameters::new(),
    }
}

fn new_slot_name(owner: &Owner, components: &[Component]) -> String {
    let mut of_component = components
        .iter()
        .filter(|component| component.name == owner.component);
    let taken: Vec<_> = of_component
        .next()
        .iter()
        .flat_map(|component| &component.alternatives[0].events)
        .map(|events| events.slot.as_str())
        .collect();
    let numbered = (2..).map(|number| format!("{}-{number}", owner.slot));
    let mut names = std::iter::once(owner.slot.clone()).chain(numbered);
    let free = names.find(|name| !taken.contains(&name.as_str()));
    free.expect("numbers don't end")
}

fn add_slot(components: &mut Vec<Component>, owner: &Owner, slot: String, source: &str) {
    let place = components
        .iter()
        .position(|component| component.name == owner.component);
    let place = place.unwrap_or_else(|| {
        components.push(Component {
            name: owner.component.to_owned(),
            kind: owner.kind,
            alternatives: vec![Alternative {
                name: format!("as booted by {source}"),
                source: Source {
                    kind: SourceKind::Log,
                    of: source.to_owned(),
                },
                state: State::promoted(),
                events: Vec::new(),
            }],
        });
        components.len() - 1
    });
    components[place].alternatives[0].events.push(SlotEvents {
        slot,
        events: Vec::new(),
    });
}

fn push_event(components: &mut [Component], slot: &Slot, event: ExpectedEvent) {
    let mut found = components
        .iter_mut()
        .filter(|component| component.name == slot.component);
    let component = found.next().expect("the slot was added");
    let events = component.alternatives[0].events.last_mut();
    events.expect("the slot was added").events.push(event);
}

/// An event as a baseline expects it: by its text where that is known, without the values of parameters where the
/// component may have any.
pub(super) fn expected(
    event: &FoundEvent,
    kind: ComponentKind,
    parameters: &Parameters,
) -> ExpectedEvent {
    match &event.text {
        Some((text, encoding)) => {
            let none = Parameters::new();
            let may = matches!(kind, ComponentKind::Parametrised | ComponentKind::Host);
            ExpectedEvent::Text {
                text: without_parameters(text, if may { parameters } else { &none }),
                encoding: *encoding,
            }
        }
        None => ExpectedEvent::Digest {
            digest: event.digest,
            what: event.what.clone(),
        },
    }
}

/// What is looked for in the whole boot before its events are given to components.
struct Boot {
    has_shim: bool,
    has_loader_texts: bool,
    is_unified: bool,
    kernel_path: Option<String>,
    initrd_paths: Vec<String>,
}

impl Boot {
    fn of(evidence: &Evidence) -> Self {
        let count = |pcr: usize| {
            evidence
                .log()
                .lane(pcr)
                .map_or(0, |lane| lane.events().len())
        };
        let texts = evidence.described(8);
        let texts: Vec<_> = texts
            .iter()
            .filter_map(|event| event.text.as_ref())
            .filter(|(_, encoding)| *encoding == Encoding::Utf8)
            .map(|(text, _)| text.as_str())
            .collect();
        let kernel = texts.iter().find(|text| is_command(text, &LOAD_COMMANDS));
        let initrd = texts
            .iter()
            .filter(|text| is_command(text, &INITRD_COMMANDS));
        let sections = evidence
            .log()
            .lane(11)
            .map(|lane| lane.facts())
            .unwrap_or_default();
        let arguments = |text: &str| -> Vec<String> {
            text.split_ascii_whitespace()
                .skip(1)
                .map(str::to_owned)
                .collect()
        };
        Self {
            has_shim: count(14) > 0,
            has_loader_texts: !texts.is_empty(),
            is_unified: sections
                .iter()
                .any(|fact| fact.meaning() == Meaning::SectionContents(Section::Linux)),
            kernel_path: kernel.and_then(|text| arguments(text).into_iter().next()),
            initrd_paths: initrd.flat_map(|text| arguments(text)).collect(),
        }
    }

    fn owners(&self, evidence: &Evidence, pcr: u8, described: &[FoundEvent]) -> Vec<Owner> {
        let Some(lane) = evidence.log().lane(usize::from(pcr)) else {
            return Vec::new();
        };
        let facts = lane.facts();
        let mut images = self.images(&facts).into_iter();
        let mut owners: Vec<_> = facts
            .iter()
            .zip(lane.events())
            .zip(described)
            .map(|((fact, event), described)| {
                self.owner(fact, event.unverified_data(), described, &mut images)
            })
            .collect();
        // What user space measured after the log.
        let later = described.iter().skip(owners.len());
        let later: Vec<_> = later
            .map(|event| match later_owner(pcr) {
                owner if owner.kind == ComponentKind::Host || !event.unexplained => owner,
                // Over a secret of this host: no other measures the same.
                _ => Owner::new("unexplained", ComponentKind::Host, &format!("pcr{pcr}")),
            })
            .collect();
        owners.extend(later);
        owners
    }

    fn owner(
        &self,
        fact: &Fact<'_>,
        data: &[u8],
        described: &FoundEvent,
        images: &mut impl Iterator<Item = Owner>,
    ) -> Owner {
        use ComponentKind::{Constant, Host, Shared};
        let late = |name: &str| match fact.place() {
            Place::AfterSeparator => format!("{name}-late"),
            _ => name.to_owned(),
        };
        match (fact.pcr(), fact.meaning()) {
            (pcr, Meaning::Separator | Meaning::ErrorSeparator) => {
                Owner::new("separators", Constant, &format!("pcr{pcr}"))
            }
            (0, _) => Owner::new("firmware", Shared, &late("code")),
            (1, Meaning::BootVariable(_)) => Owner::new("boot-entries", Host, &late("variables")),
            (1, _) => Owner::new("platform-configuration", Host, &late("settings")),
            (2, _) => Owner::new("option-roms", Shared, &late("code")),
            (3, _) => Owner::new("option-roms", Shared, &late("settings")),
            (4, Meaning::Action(_)) => Owner::new("boot-attempts", Constant, "texts"),
            (4, _) if fact.place() == Place::BeforeSeparator => {
                Owner::new("firmware-applications", Shared, "images")
            }
            (4, _) => images.next().unwrap_or_else(|| Owner::kernel("image")),
            (5, Meaning::PartitionTable(_)) => Owner::new("partition-table", Host, "table"),
            (5, Meaning::Action(Action::ExitBootServices | Action::ExitBootServicesSucceeded)) => {
                Owner::new("exit-boot-services", Constant, "texts")
            }
            (5, _) => Owner::new("boot-configuration", Host, &late("settings")),
            (6, _) => Owner::new("platform", Host, &late("events")),
            (7, Meaning::Authority(variable)) if variable.is(Guid::SHIM_LOCK, "SbatLevel") => {
                Owner::new(SHIM, Shared, "sbat-level")
            }
            (7, Meaning::Authority(variable)) if variable.vendor() == Guid::SHIM_LOCK => {
                Owner::new(SHIM, Shared, "authority")
            }
            (7, _) if fact.place() == Place::AfterSeparator => {
                Owner::new("image-authority", Shared, "entries")
            }
            (7, _) => Owner::new(SECURE_BOOT, Shared, "variables"),
            (8, _) => Self::loader_text(data, described),
            (9, _) => self.file(data, described),
            (11, Meaning::SectionContents(Section::CommandLine)) => {
                Owner::command_line("command-line-section")
            }
            (11, _) => Owner::kernel("sections"),
            (12, Meaning::WideText(_)) => Owner::command_line("stub-command-line"),
            (14, _) => Owner::new(SHIM, Shared, "mok-lists"),
            (pcr @ 17..=22, _) => Owner::new("dynamic-launch", Shared, &format!("pcr{pcr}")),
            (pcr, _) => later_owner(u8::try_from(pcr).unwrap_or(u8::MAX)),
        }
    }

    /// The images that were started after the separator of PCR 4, in their order: shim, a loader, and what follows. One image
    /// that is measured several times on end stays one.
    fn images(&self, facts: &[Fact<'_>]) -> Vec<Owner> {
        let images: Vec<_> = facts
            .iter()
            .filter(|fact| fact.pcr() == 4 && fact.place() == Place::AfterSeparator)
            .filter(|fact| !matches!(fact.meaning(), Meaning::Action(_)))
            .map(Fact::digest)
            .collect();
        let mut different = images.clone();
        different.dedup();
        let programs = different.len() - usize::from(self.has_shim && !different.is_empty());
        let has_loader =
            programs >= 2 || (programs == 1 && self.has_loader_texts && !self.is_unified);
        let mut number = 0;
        let mut owners = Vec::new();
        for (place, digest) in images.iter().enumerate() {
            number += usize::from(place > 0 && images[place - 1] != *digest);
            let program = number + usize::from(!self.has_shim);
            owners.push(match program {
                0 => Owner::new(SHIM, ComponentKind::Shared, "image"),
                1 if has_loader => Owner::new(LOADER, ComponentKind::Shared, "image"),
                _ => Owner::kernel("image"),
            });
        }
        owners
    }

    fn loader_text(data: &[u8], described: &FoundEvent) -> Owner {
        let text = match &described.text {
            Some((_, Encoding::Utf16Nul)) => return Owner::command_line("command-line"),
            Some((text, Encoding::Utf8 | Encoding::Utf8Nul)) => text.as_str(),
            None => "",
        };
        match text {
            _ if data.starts_with(b"kernel_cmdline: ") => Owner::command_line("command-line"),
            text if is_command(text, &LOAD_COMMANDS) => Owner::kernel("load-command"),
            text if is_command(text, &INITRD_COMMANDS) => Owner::kernel("initrd-command"),
            _ => Owner::new("loader-script", ComponentKind::Host, "commands"),
        }
    }

    fn file(&self, data: &[u8], described: &FoundEvent) -> Owner {
        let path = described.what.as_deref().unwrap_or_default();
        let is = |end: &String| !end.is_empty() && path.ends_with(end.as_str());
        let says = |word: &[u8]| data.windows(word.len()).any(|window| window == word);
        if matches!(described.text, Some((_, Encoding::Utf16Nul))) || says(b"LoadOptions") {
            return Owner::command_line("load-options");
        }
        if self.kernel_path.as_ref().is_some_and(is) {
            return Owner::kernel("file");
        }
        if self.initrd_paths.iter().any(is) || says(b"Linux initrd") {
            return Owner::new("initrd", ComponentKind::Host, "file");
        }
        match self.has_loader_texts {
            true => Owner::new("loader-script", ComponentKind::Host, "files"),
            false => Owner::new("boot-files", ComponentKind::Host, "files"),
        }
    }
}

fn later_owner(pcr: u8) -> Owner {
    match pcr {
        11 => Owner::new("system-phases", ComponentKind::Shared, "words"),
        12 | 13 => Owner::new("stub-additions", ComponentKind::Host, &format!("pcr{pcr}")),
        15 => Owner::new("system-identity", ComponentKind::Host, "events"),
        _ => Owner::new("other", ComponentKind::Shared, &format!("pcr{pcr}")),
    }
}

const LOAD_COMMANDS: [&str; 3] = ["linux", "linuxefi", "linux16"];
const INITRD_COMMANDS: [&str; 3] = ["initrd", "initrdefi", "initrd16"];

/// Whether a command of GRUB is one of these.
pub(super) fn is_command(text: &str, commands: &[&str]) -> bool {
    let mut words = text.split_ascii_whitespace();
    words.next().is_some_and(|first| commands.contains(&first))
}
