//! Alternatives from files, before any host boots them. Each is staged: it expires unless a host boots it.
//!
//! A prediction starts from what is approved already, because a file does not say how often its image is measured, what stands
//! around it, or what the host's own SBAT level is: each promoted alternative of the component is taken, and what the
//! file determines is put in its place.

use hgs_crypto::hash::sha256;
use hgs_pki::Time;
use hgs_tcg::event_log::Guid;
use hgs_tcg::image::{
    ImageError, ORIGINAL_SBAT_LEVEL, OwnMokVariables, PeImage, PredictedEvent, Shim, SystemdStub,
    VariableData,
};

use super::alternative::{
    Alternative, Encoding, ExpectedEvent, SlotEvents, Source, State, literal,
};
use super::baseline::{Baseline, Component, FinalValue};
use super::document::EventDigest;
use super::of_evidence::{KERNEL, LOADER, SECURE_BOOT, SHIM, is_command};

/// What predicted alternatives are called, and until when they are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Their name.
    pub name: String,
    /// Which file or package they come from.
    pub source: Source,
    /// The first second at which they are not accepted any more, unless a host booted them.
    pub expires: Time,
}

/// Alternatives that are not in a baseline yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prediction {
    /// By component.
    pub alternatives: Vec<(String, Alternative)>,
}

/// Why nothing can be predicted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PredictionError {
    /// The file is not such an image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The baseline has no such component, or no promoted alternative of it to start from.
    #[error("the baseline has no promoted alternative of the component `{0}` to start from")]
    NoBase(&'static str),
    /// What is approved is of another form than the file.
    #[error("what is approved of `{component}` is of another form: {why}")]
    OtherForm {
        /// The component.
        component: &'static str,
        /// What differs.
        why: &'static str,
    },
    /// There is no such variable.
    #[error("`{0}` is none of PK, KEK, db and dbx, or the baseline has no event of it")]
    NoVariable(String),
    /// The data are too long.
    #[error("the data of the variable are too long")]
    VariableTooLong,
    /// A value of another bank.
    #[error("a final value has 64 hexadecimal digits (SHA-256); those of SHA-1 are not accepted")]
    NotSha256,
}

impl Baseline {
    /// Adds what was predicted. How many alternatives there are that were not there before.
    pub fn stage(&mut self, prediction: &Prediction) -> usize {
        let mut added = 0;
        for (name, alternative) in &prediction.alternatives {
            let Some(component) = self.component_mut(name) else {
                continue;
            };
            let before = component.alternatives.len();
            super::approve::add(&mut component.alternatives, alternative.clone());
            added += component.alternatives.len() - before;
        }
        added
    }

    /// Adds the value that a vendor publishes for a PCR, in 64 hexadecimal digits. `false` if it is there already.
    pub fn stage_final_value(
        &mut self,
        label: &Label,
        pcr: u8,
        value: &str,
    ) -> Result<bool, PredictionError> {
        let octets = hgs_crypto::hex::decode(value).and_then(|octets| octets.try_into().ok());
        let value = octets.map(EventDigest).ok_or(PredictionError::NotSha256)?;
        if self
            .final_values
            .iter()
            .any(|known| known.pcr == pcr && known.value == value)
        {
            return Ok(false);
        }
        let taken = |name: &str| self.final_values.iter().any(|known| known.name == name);
        let name = super::approve::free_name(&label.name, taken);
        self.final_values.push(FinalValue {
            name,
            source: label.source.clone(),
            state: label.state(),
            pcr,
            value,
        });
        Ok(true)
    }

    /// What a shim measures, beside its own image: its lists of keys, and one of three SBAT levels, since the level is the
    /// host's own: as it is, shim's previous one, or its latest.
    pub fn predict_shim(
        &self,
        label: &Label,
        file: &[u8],
        own: &OwnMokVariables<'_>,
    ) -> Result<Prediction, PredictionError> {
        let image = PeImage::parse(file)?;
        let shim = Shim::of_image(&image)?;
        let level = |text: &str| -> Result<ExpectedEvent, ImageError> {
            let events = shim.events(text, own)?;
            let level = events.iter().find(|event| event.pcr == 7);
            Ok(expected(level.expect("shim measures its level into PCR 7")))
        };
        let lists: Vec<_> = {
            let events = shim.events(shim.previous_sbat_level(), own)?;
            events
                .iter()
                .filter(|event| event.pcr == 14)
                .map(expected)
                .collect()
        };
        let original = level(ORIGINAL_SBAT_LEVEL)?;
        let new_levels = [
            ("previous SBAT level", level(shim.previous_sbat_level())?),
            ("latest SBAT level", level(shim.latest_sbat_level())?),
        ];
        let authorities: Vec<_> = shim.authorities().iter().map(expected).collect();
        let mut prediction = Prediction::default();
        for base in self.bases(SHIM)? {
            let of_lists = base.events_in("mok-lists");
            if of_lists.len() < 2 {
                return Err(PredictionError::OtherForm {
                    component: SHIM,
                    why: "PCR 14 has not both lists of keys",
                });
            }
            let lists = lists[..2].iter().chain(&of_lists[2..]).cloned().collect();
            let of_level = base.events_in("sbat-level");
            let mut levels = vec![("SBAT level as it is", of_level.to_vec())];
            // With Secure Boot off shim applies none of its own.
            if let [one] = of_level
                && !measures_same(one, &original)
            {
                levels.extend(
                    new_levels
                        .iter()
                        .map(|(name, event)| (*name, vec![event.clone()])),
                );
            }
            let of_authority = base.events_in("authority");
            let choices: Vec<Vec<_>> = match of_authority {
                [_] if !authorities.is_empty() => {
                    authorities.iter().map(|one| vec![one.clone()]).collect()
                }
                as_it_is => vec![as_it_is.to_vec()],
            };
            for digest in image.authenticode_sha256().alternatives() {
                for (level_name, level) in &levels {
                    for authority in &choices {
                        let changed = [
                            ("image", images(base, digest)),
                            ("mok-lists", Vec::clone(&lists)),
                            ("sbat-level", level.clone()),
                            ("authority", authority.clone()),
                        ];
                        prediction.add(SHIM, label, level_name, base, &changed);
                    }
                }
            }
        }
        Ok(prediction)
    }

    /// A boot loader, such as GRUB or systemd-boot.
    pub fn predict_loader(
        &self,
        label: &Label,
        file: &[u8],
    ) -> Result<Prediction, PredictionError> {
        let image = PeImage::parse(file)?;
        let mut prediction = Prediction::default();
        for base in self.bases(LOADER)? {
            for digest in image.authenticode_sha256().alternatives() {
                prediction.add(LOADER, label, "", base, &[("image", images(base, digest))]);
            }
        }
        Ok(prediction)
    }

    /// A kernel that a boot loader starts. With its `release`, such as `6.1.0-56-amd64`, it takes the place of the former release
    /// in the texts of GRUB. Its initrd is not determined by the file.
    pub fn predict_kernel(
        &self,
        label: &Label,
        file: &[u8],
        release: Option<&str>,
    ) -> Result<Prediction, PredictionError> {
        let image = PeImage::parse(file)?;
        let contents = ExpectedEvent::digest(EventDigest(sha256(file)), &label.name);
        let mut prediction = Prediction::default();
        for base in self.bases(KERNEL)? {
            if !base.events_in("sections").is_empty() {
                return Err(PredictionError::OtherForm {
                    component: KERNEL,
                    why: "it is in a unified kernel image",
                });
            }
            let files = vec![contents.clone(); base.events_in("file").len()];
            let releases = former_release(base).zip(release);
            let texts = with_release(base, releases);
            for digest in image.authenticode_sha256().alternatives() {
                let mut changed = vec![("image", images(base, digest)), ("file", files.clone())];
                changed.extend(texts.iter().map(|(slot, events)| (*slot, events.clone())));
                prediction.add(KERNEL, label, "", base, &changed);
            }
            self.predict_texts(&mut prediction, label, releases);
        }
        Ok(prediction)
    }

    /// What else of GRUB's texts names the release, such as the menu that `update-grub` writes. Its file, which no kernel
    /// determines, is as it was.
    fn predict_texts(
        &self,
        prediction: &mut Prediction,
        label: &Label,
        releases: Option<(&str, &str)>,
    ) {
        let others = self
            .components
            .iter()
            .filter(|component| component.name != KERNEL);
        for component in others {
            let promoted = component.alternatives.iter();
            for base in promoted.filter(|one| matches!(one.state, State::Promoted { .. })) {
                let texts = with_release(base, releases);
                let changes =
                    |(slot, events): &(&str, Vec<ExpectedEvent>)| base.events_in(slot) != events;
                if texts.iter().any(changes) {
                    prediction.add(&component.name, label, "texts", base, &texts);
                }
            }
        }
    }

    /// A unified kernel image: its image, its sections, the command line in it, and its initrd where the kernel measures it.
    pub fn predict_unified(
        &self,
        label: &Label,
        file: &[u8],
    ) -> Result<Prediction, PredictionError> {
        let image = PeImage::parse(file)?;
        let stub = SystemdStub::of_image(&image)?;
        let section = |name: &str| -> Result<Option<&[u8]>, ImageError> {
            image
                .section(name)?
                .map(|section| section.contents())
                .transpose()
        };
        let command_line = section(".cmdline")?.and_then(|octets| Encoding::Utf8.text(octets));
        let events = stub.events();
        let mut prediction = Prediction::default();
        for base in self.bases(KERNEL)? {
            if base.events_in("sections").is_empty() {
                return Err(PredictionError::OtherForm {
                    component: KERNEL,
                    why: "it is in no unified kernel image",
                });
            }
            let is_command_line = |event: &PredictedEvent| event.subject == ".cmdline";
            let place = events.iter().position(is_command_line).filter(|_| {
                let mut slots = self.slots();
                slots.any(|(_, slot)| {
                    slot.component == KERNEL && slot.name == "command-line-section"
                })
            });
            let (before, rest) = events.split_at(place.unwrap_or(events.len()));
            let (line, after) = rest.split_at(usize::from(place.is_some()));
            let all = |events: &[PredictedEvent]| events.iter().map(expected).collect::<Vec<_>>();
            let line = match &command_line {
                Some(text) if !line.is_empty() => vec![ExpectedEvent::Text {
                    text: literal(text),
                    encoding: Encoding::Utf8,
                }],
                _ => all(line),
            };
            let load_options = match (base.events_in("load-options"), &command_line) {
                ([_], Some(text)) => vec![ExpectedEvent::Text {
                    text: literal(text),
                    encoding: Encoding::Utf16Nul,
                }],
                (as_it_is, _) => as_it_is.to_vec(),
            };
            for digest in image.authenticode_sha256().alternatives() {
                let changed = [
                    ("image", images(base, digest)),
                    ("sections", all(before)),
                    ("command-line-section", line.clone()),
                    ("sections-2", all(after)),
                    ("load-options", load_options.clone()),
                ];
                prediction.add(KERNEL, label, "", base, &changed);
            }
        }
        if let Some(initrd) = section(".initrd")?
            && let Ok(bases) = self.bases("initrd")
        {
            let event = ExpectedEvent::digest(EventDigest(sha256(initrd)), ".initrd");
            for base in bases {
                prediction.add("initrd", label, "", base, &[("file", vec![event.clone()])]);
            }
        }
        Ok(prediction)
    }

    /// New data of PK, KEK, db or dbx: all of the variable, as it is after the update.
    pub fn predict_variable(
        &self,
        label: &Label,
        name: &str,
        data: &[u8],
    ) -> Result<Prediction, PredictionError> {
        let vendor = match name {
            "PK" | "KEK" => Guid::GLOBAL_VARIABLE,
            "db" | "dbx" => Guid::IMAGE_SECURITY_DATABASE,
            _ => return Err(PredictionError::NoVariable(name.to_owned())),
        };
        let variable = VariableData::new(vendor, name, data);
        let variable = variable.map_err(|_| PredictionError::VariableTooLong)?;
        let what = format!("variable {name}");
        let event = ExpectedEvent::digest(EventDigest(variable.event().digest), &what);
        let mut prediction = Prediction::default();
        for base in self.bases(SECURE_BOOT)? {
            let mut events = base.events_in("variables").to_vec();
            let place = events.iter().position(|event| event.what() == Some(&what));
            let place = place.ok_or_else(|| PredictionError::NoVariable(name.to_owned()))?;
            events[place] = event.clone();
            prediction.add(SECURE_BOOT, label, "", base, &[("variables", events)]);
        }
        Ok(prediction)
    }

    /// The alternatives that a prediction starts from.
    fn bases(&self, component: &'static str) -> Result<Vec<&Alternative>, PredictionError> {
        let alternatives = self.component(component).map(|component: &Component| {
            let promoted =
                |alternative: &&Alternative| matches!(alternative.state, State::Promoted { .. });
            component
                .alternatives
                .iter()
                .filter(promoted)
                .collect::<Vec<_>>()
        });
        let bases = alternatives.filter(|bases| !bases.is_empty());
        bases.ok_or(PredictionError::NoBase(component))
    }
}

impl Label {
    pub(super) fn state(&self) -> State {
        State::Staged {
            expires: self.expires,
        }
    }
}

impl Prediction {
    /// Adds an alternative that is `base` but for the slots in `changed`, unless there is one that measures the same.
    fn add(
        &mut self,
        component: &str,
        label: &Label,
        variant: &str,
        base: &Alternative,
        changed: &[(&str, Vec<ExpectedEvent>)],
    ) {
        let as_it_is = base
            .events
            .iter()
            .filter(|events| !changed.iter().any(|(slot, _)| *slot == events.slot));
        let changed = changed.iter().filter(|(_, events)| !events.is_empty());
        let changed = changed.map(|(slot, events)| SlotEvents {
            slot: (*slot).to_owned(),
            events: events.clone(),
        });
        let name = match variant {
            "" => label.name.clone(),
            variant => format!("{}, {variant}", label.name),
        };
        let taken = |name: &str| {
            self.alternatives
                .iter()
                .any(|(_, known)| known.name == name)
        };
        let alternative = Alternative {
            name: super::approve::free_name(&name, taken),
            source: label.source.clone(),
            state: label.state(),
            events: as_it_is.cloned().chain(changed).collect(),
        };
        let mut known = self.alternatives.iter().filter(|(of, _)| of == component);
        if !known.any(|(_, known)| known.measures_as(&alternative)) {
            self.alternatives.push((component.to_owned(), alternative));
        }
    }
}

fn expected(event: &PredictedEvent) -> ExpectedEvent {
    ExpectedEvent::digest(EventDigest(event.digest), &event.subject)
}

fn measures_same(one: &ExpectedEvent, other: &ExpectedEvent) -> bool {
    let none = super::Parameters::new();
    one.digest_with(&none).is_ok() && one.digest_with(&none) == other.digest_with(&none)
}

/// The image as often as the base measures its own.
fn images(base: &Alternative, digest: hgs_crypto::hash::Sha256Digest) -> Vec<ExpectedEvent> {
    let event = ExpectedEvent::digest(EventDigest(digest), "image");
    vec![event; base.events_in("image").len()]
}

/// The texts of an alternative with another release in place of the former.
fn with_release<'b>(
    base: &'b Alternative,
    releases: Option<(&str, &str)>,
) -> Vec<(&'b str, Vec<ExpectedEvent>)> {
    let Some((former, release)) = releases else {
        return Vec::new();
    };
    let renewed = |event: &ExpectedEvent| match event {
        ExpectedEvent::Text { text, encoding } => ExpectedEvent::Text {
            text: text.replace(former, &literal(release)),
            encoding: *encoding,
        },
        digest @ ExpectedEvent::Digest { .. } => digest.clone(),
    };
    let is_text = |event: &ExpectedEvent| matches!(event, ExpectedEvent::Text { .. });
    let with_texts = base
        .events
        .iter()
        .filter(|events| events.events.iter().any(is_text));
    let renew = |events: &'b SlotEvents| {
        (
            events.slot.as_str(),
            events.events.iter().map(renewed).collect(),
        )
    };
    with_texts.map(renew).collect()
}

/// The release of the kernel that is booted now.
fn former_release(base: &Alternative) -> Option<&str> {
    let mut events = base.events.iter().flat_map(|events| &events.events);
    events.find_map(|event| match event {
        ExpectedEvent::Text { text, .. } if is_command(text, &["linux", "linuxefi", "linux16"]) => {
            release_in(text)
        }
        _ => None,
    })
}

/// The release in the path of a kernel that a command of GRUB loads.
fn release_in(command: &str) -> Option<&str> {
    let path = command.split_ascii_whitespace().nth(1)?;
    let file = path.rsplit('/').next()?;
    let release = file.strip_prefix("vmlinuz-")?;
    (!release.is_empty() && !release.contains(['{', '}'])).then_some(release)
}
