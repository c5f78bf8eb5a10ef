//! How evidence was judged: what replies, audit records and administrators are told.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use hgs_crypto::hash::Sha256Digest;

use super::compile::{Compiled, Layer};
use super::difference::{Difference, FoundEvent, SlotName};
use super::evidence::Evidence;
use super::judge::{Outcome, PolicyFailure};
use super::name::PolicyName;
use super::walk::{Choice, LaneEvents, Reading, UsedAlternative};
use crate::status::AttestationSubstatus;
use crate::wire::EvaluationLog;

/// How evidence was judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluation {
    pub(super) healthy: bool,
    pub(super) policies: Sha256Digest,
    pub(super) results: Vec<PolicyResult>,
    pub(super) baseline: Option<String>,
    pub(super) any_events: usize,
    pub(super) used: Vec<UsedAlternative>,
    pub(super) nearest: Option<Arc<Nearest>>,
    pub(super) group: Option<Sha256Digest>,
}

/// How one policy was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyResult {
    /// The policy.
    pub policy: PolicyName,
    /// Whether it is on. If not, its outcome decides nothing.
    pub enabled: bool,
    /// Whether it held.
    pub outcome: Outcome,
}

impl PolicyResult {
    /// Whether it held.
    #[must_use]
    pub fn held(&self) -> bool {
        self.outcome == Outcome::Held
    }

    /// Why it failed.
    #[must_use]
    pub fn failure(&self) -> Option<&PolicyFailure> {
        match &self.outcome {
            Outcome::Held => None,
            Outcome::Failed(failure) => Some(failure),
        }
    }
}

impl Evaluation {
    /// Whether every policy that is on held.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.healthy
    }

    /// SHA-256 of the set that the evidence was judged by.
    #[must_use]
    pub fn policies(&self) -> &Sha256Digest {
        &self.policies
    }

    /// Each policy that evidence decides.
    #[must_use]
    pub fn results(&self) -> &[PolicyResult] {
        &self.results
    }

    /// The policies that are on and failed.
    pub fn failed(&self) -> impl Iterator<Item = &PolicyResult> {
        let results = self.results.iter();
        results.filter(|result| result.enabled && !result.held())
    }

    /// What [MS-HGSA] 2.2.2.13 says of each policy that is on.
    #[must_use]
    pub fn log(&self) -> Vec<EvaluationLog> {
        let enabled = self.results.iter().filter(|result| result.enabled);
        enabled
            .map(|result| EvaluationLog {
                result: result.held(),
                reason: result.policy.guid().octets().to_vec(),
            })
            .collect()
    }

    /// What a host shows of the policies that failed.
    #[must_use]
    pub fn substatus(&self) -> BTreeSet<AttestationSubstatus> {
        self.failed()
            .map(|result| result.policy.substatus())
            .collect()
    }

    /// The baseline that the boot matches.
    #[must_use]
    pub fn baseline(&self) -> Option<&str> {
        self.baseline.as_deref()
    }

    /// The baseline that the boot matches best, if it matches none.
    #[must_use]
    pub fn nearest_baseline(&self) -> Option<&str> {
        self.nearest.as_ref()?.baseline.as_deref()
    }

    /// Where the boot differs from that baseline.
    #[must_use]
    pub fn differences(&self) -> &[Difference] {
        self.nearest
            .as_ref()
            .map_or(&[], |nearest| &nearest.differences)
    }

    /// The alternatives that the boot used; of a boot that matches no baseline, those of the nearest one in the components
    /// in which it does not differ. They are not to be retired.
    #[must_use]
    pub fn used(&self) -> &[UsedAlternative] {
        &self.used
    }

    /// The staged alternatives that a healthy host booted, which are to be promoted; none of a refused one.
    pub fn to_promote(&self) -> impl Iterator<Item = &UsedAlternative> {
        let used = self.used.iter().filter(|_| self.healthy);
        used.filter(|used| used.staged)
    }

    /// How many events were accepted because any are in their place.
    #[must_use]
    pub fn any_events(&self) -> usize {
        self.any_events
    }

    /// What refusals for the same reason have in common; `None` for a healthy host. What is the host's own is left away, so
    /// that hosts that booted the same change are one group.
    #[must_use]
    pub fn group(&self) -> Option<&Sha256Digest> {
        self.group.as_ref()
    }

    pub(super) fn nearest(&self) -> Option<&Nearest> {
        self.nearest.as_deref()
    }
}

/// Differences that a message tells of, at most; [`Evaluation::differences`] has all.
const TOLD: usize = 5;

/// Why a host is refused: each policy that failed, and where its boot differs from the nearest baseline.
impl fmt::Display for Evaluation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.healthy {
            return formatter.write_str("every policy held");
        }
        let mut separator = "";
        for result in self.failed() {
            let Some(failure) = result.failure() else {
                continue;
            };
            write!(formatter, "{separator}{}: {failure}", result.policy)?;
            separator = "; ";
        }
        // The first is told by the policy.
        for difference in self.differences().iter().take(TOLD).skip(1) {
            write!(formatter, "; {difference}")?;
        }
        match self.differences().len().saturating_sub(TOLD) {
            0 => Ok(()),
            more => write!(formatter, "; and {more} more"),
        }
    }
}

/// A baseline that a boot matches.
#[derive(Debug)]
pub(super) struct Matched {
    pub(super) baseline: String,
    pub(super) used: Vec<UsedAlternative>,
    pub(super) any_events: usize,
    pub(super) command_lines: CommandLines,
}

/// What was measured where the baseline has the kernel's command line.
#[derive(Debug, Default)]
pub(super) struct CommandLines {
    /// Texts whose digests are approved, or match a preimage of the host's.
    pub(super) texts: Vec<String>,
    /// Where the digest is approved, and nothing says what it is of: PCR and number of the event.
    pub(super) unknown: Vec<(u8, usize)>,
}

impl Matched {
    pub(super) fn new(
        compiled: &Compiled,
        layers: &[&Layer],
        reading: Reading,
        evidence: &Evidence,
        lanes: &[LaneEvents],
    ) -> Self {
        let mut command_lines = CommandLines::default();
        for (number, slot) in compiled
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.command_line)
        {
            let Some(found) = &reading.slots[number] else {
                continue;
            };
            let lane = lanes.iter().find(|lane| lane.pcr == slot.pcr);
            let Some(lane) = lane else { continue };
            let chosen = reading.chosen[slot.component]
                .map(|(layer, alternative)| &layers[layer].alternatives[alternative as usize]);
            let texts = chosen.and_then(|alternative| {
                let mut texts = alternative.texts.iter();
                texts.find(|(slot, _)| *slot == number)
            });
            for place in 0..found.count {
                let of_baseline = texts.and_then(|(_, texts)| texts.get(place).cloned().flatten());
                let digest = lane.digests[found.start + place];
                let text = of_baseline.or_else(|| {
                    evidence
                        .text_by_preimage(slot.pcr, &digest)
                        .map(|(text, _)| text)
                });
                match text {
                    Some(text) => command_lines.texts.push(text),
                    None => {
                        let event = lane.numbers[found.start + place];
                        command_lines.unknown.push((slot.pcr, event));
                    }
                }
            }
        }
        Self {
            baseline: compiled.name.clone(),
            used: reading.used,
            any_events: reading.any_events,
            command_lines,
        }
    }
}

/// The baseline that a boot matches best, and what an administrator would have to approve.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Nearest {
    pub(super) baseline: Option<String>,
    pub(super) differences: Vec<Difference>,
    /// What stands in each slot of the components that differ.
    pub(super) components: Vec<FoundSlot>,
    /// What no component owns.
    pub(super) insertions: Vec<FoundInsertion>,
    /// The alternatives of the components that do not differ.
    pub(super) used: Vec<UsedAlternative>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FoundSlot {
    pub(super) slot: SlotName,
    pub(super) events: Vec<FoundEvent>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FoundInsertion {
    pub(super) pcr: u8,
    pub(super) before: Option<SlotName>,
    pub(super) events: Vec<FoundEvent>,
}

impl Nearest {
    pub(super) fn new(
        compiled: &Compiled,
        reading: Reading,
        lanes: &[LaneEvents],
        describe: &dyn Fn(u8, usize) -> FoundEvent,
    ) -> Self {
        let slot_name = |number: usize| SlotName {
            component: compiled.baseline.components[compiled.slots[number].component]
                .name
                .clone(),
            slot: compiled.slots[number].name.clone(),
        };
        let events = |pcr: u8, start: usize, count: usize| {
            // More than a document can hold is never approved.
            let count = count.min(super::alternative::MAX_EVENTS + 1);
            (start..start + count)
                .map(|place| describe(pcr, place))
                .collect()
        };
        let mut differ: Vec<_> = (0..compiled.slots.len())
            .filter(|slot| matches!(&reading.slots[*slot], Some(found) if matches!(found.choice, Choice::Differs)))
            .map(|slot| compiled.slots[slot].component)
            .collect();
        differ.extend(reading.differences.iter().filter_map(|difference| {
            let slot = difference.slot.as_ref()?;
            let mut components = compiled.baseline.components.iter();
            components.position(|component| component.name == slot.component)
        }));
        let mut components = Vec::new();
        for (number, slot) in compiled.slots.iter().enumerate() {
            let found = reading.slots[number].as_ref();
            let Some(found) = found.filter(|_| differ.contains(&slot.component)) else {
                continue;
            };
            if lanes.iter().any(|lane| lane.pcr == slot.pcr) {
                components.push(FoundSlot {
                    slot: slot_name(number),
                    events: events(slot.pcr, found.start, found.count),
                });
            }
        }
        let insertions = reading.insertions.iter().map(|insertion| FoundInsertion {
            pcr: insertion.pcr,
            before: insertion.before.map(slot_name),
            events: events(insertion.pcr, insertion.start, insertion.count),
        });
        Self {
            baseline: Some(compiled.name.clone()),
            components,
            insertions: insertions.collect(),
            differences: reading.differences,
            used: reading.used,
        }
    }
}

/// The words of a kernel command line, as the kernel splits it: quotes hold spaces together, `-` and `_` are one in a
/// name, and what follows `--` is not the kernel's.
pub(super) fn words(command_line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for character in command_line.chars() {
        match character {
            '"' => quoted = !quoted,
            ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}' if !quoted => {
                words.push(std::mem::take(&mut word));
            }
            _ => word.push(character),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words.truncate(
        words
            .iter()
            .position(|word| word == "--")
            .unwrap_or(words.len()),
    );
    words
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some((name, value)) => format!("{}={value}", name.replace('-', "_")),
            None => word.replace('-', "_"),
        })
        .collect()
}
