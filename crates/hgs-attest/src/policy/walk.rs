//! Matching a boot with a baseline.
//!
//! Each PCR is walked once from its first event to its last. In each slot the next events are looked up in the slot's tree,
//! one look-up an event; so what no component owns has no way to be passed over. Then the choices of each component
//! must agree among its slots. Only the digests of one PCR in their order are used: neither types of events, nor their
//! order among PCRs, nor data.

use std::collections::BTreeSet;

use hgs_pki::Time;
use hgs_tcg::event_log::PCR_COUNT;

use super::alternative::State;
use super::baseline::{ComponentKind, FINAL_VALUES, Times};
use super::compile::{
    Compiled, CompiledAlternative, Layer, MAX_REPEATS, is_error_separator, is_firmware_pcr,
};
use super::difference::{Cause, Difference, Expected, FoundEvent, MAX_EXPECTED, SlotName};
use super::document::EventDigest;
use super::evidence::JUDGED_PCRS;

/// Events that a difference tells of, at most.
const MAX_FOUND: usize = 64;
/// How far on the events that follow are looked at, to find where a difference ends.
const LOOK_AHEAD: usize = 64;
/// Alternatives that a disagreement names of each slot.
const NAMED_CHOICES: usize = 3;

/// What was measured into one PCR.
#[derive(Debug)]
pub(super) struct LaneEvents {
    pub(super) pcr: u8,
    /// The value of the PCR at the end.
    pub(super) value: Option<EventDigest>,
    pub(super) digests: Vec<EventDigest>,
    /// The number in the log of each event.
    pub(super) numbers: Vec<usize>,
    /// The places of events of which nothing but the digest is known.
    pub(super) unexplained: BTreeSet<usize>,
}

/// An alternative that a boot used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedAlternative {
    /// The baseline, or the code integrity policy.
    pub document: String,
    /// The component, or [`FINAL_VALUES`]; of a code integrity policy, [`FILES`](super::FILES).
    pub component: String,
    /// The alternative, or the set of files.
    pub alternative: String,
    /// Whether it is staged, so that it is to be promoted.
    pub staged: bool,
    /// Whether it is from the host's own record.
    pub of_host: bool,
}

/// How a boot was read by a baseline.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) differences: Vec<Difference>,
    pub(super) used: Vec<UsedAlternative>,
    /// How many events were accepted without being looked at.
    pub(super) any_events: usize,
    /// By slot; `None` if the whole PCR was not read by slots.
    pub(super) slots: Vec<Option<SlotReading>>,
    /// What no component owns, with the slot before which it stands, or the end of the PCR.
    pub(super) insertions: Vec<Insertion>,
    /// By component, the alternative that was chosen: layer and number.
    pub(super) chosen: Vec<Option<(usize, u32)>>,
}

#[derive(Debug)]
pub(super) struct SlotReading {
    /// Which events of the PCR.
    pub(super) start: usize,
    pub(super) count: usize,
    pub(super) choice: Choice,
}

/// What follows from one slot for the choice of an alternative.
#[derive(Debug)]
pub(super) enum Choice {
    /// Nothing: an optional slot that is empty, a repeated one, or one that takes any events.
    Free,
    /// One that ends at these nodes of the layers' trees.
    Ends(Nodes),
    /// Its events are no alternative.
    Differs,
}

/// In the tree of each layer, the node that was reached: of the alternatives of the baseline, and of the host's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Nodes([Option<u32>; Self::LAYERS]);

impl Nodes {
    const LAYERS: usize = 2;

    fn roots(layers: &[&Layer]) -> Self {
        debug_assert!(layers.len() <= Self::LAYERS);
        Self(std::array::from_fn(|layer| {
            (layer < layers.len()).then_some(0)
        }))
    }

    /// Layers and nodes.
    fn iter(self) -> impl Iterator<Item = (usize, u32)> + Clone {
        let nodes = self.0.into_iter().enumerate();
        nodes.filter_map(|(layer, node)| Some((layer, node?)))
    }
}

#[derive(Debug)]
pub(super) struct Insertion {
    pub(super) pcr: u8,
    /// The slot; `None` at the end.
    pub(super) before: Option<usize>,
    pub(super) start: usize,
    pub(super) count: usize,
}

/// Where the events of a slot stop being those of an alternative.
struct Mismatch {
    /// How many events were.
    depth: usize,
    /// The nodes reached.
    nodes: Nodes,
}

struct Walk<'w> {
    compiled: &'w Compiled,
    layers: &'w [&'w Layer],
    now: Time,
    describe: &'w dyn Fn(u8, usize) -> FoundEvent,
    reading: Reading,
    /// The alternatives in [`Reading::used`].
    used: Vec<(usize, u32)>,
}

/// Reads a boot by a baseline. `describe` tells of an event of a PCR what is known of it; it is asked about differences
/// only.
pub(super) fn read(
    compiled: &Compiled,
    layers: &[&Layer],
    lanes: &[LaneEvents],
    now: Time,
    describe: &dyn Fn(u8, usize) -> FoundEvent,
) -> Reading {
    let mut walk = Walk {
        compiled,
        layers,
        now,
        describe,
        reading: Reading {
            differences: Vec::new(),
            used: Vec::new(),
            any_events: 0,
            slots: std::iter::repeat_with(|| None)
                .take(compiled.slots.len())
                .collect(),
            insertions: Vec::new(),
            chosen: vec![None; compiled.slots_of.len()],
        },
        used: Vec::new(),
    };
    for lane in lanes {
        walk.read_lane(lane);
    }
    for pcr in 0..PCR_COUNT as u8 {
        let is_needed =
            JUDGED_PCRS.contains(&pcr) || compiled.lanes.iter().any(|(of, _)| *of == pcr);
        if is_needed && !lanes.iter().any(|lane| lane.pcr == pcr) {
            walk.differ(pcr, None, None, Vec::new(), Cause::NotProved);
        }
    }
    for component in 0..compiled.slots_of.len() {
        walk.choose(component);
    }
    walk.reading
}

impl Walk<'_> {
    fn read_lane(&mut self, lane: &LaneEvents) {
        if is_firmware_pcr(lane.pcr)
            && let Some(place) = lane.digests.iter().position(is_error_separator)
        {
            let found = (self.describe)(lane.pcr, place);
            self.differ(
                lane.pcr,
                Some(found.number),
                None,
                vec![found],
                Cause::ErrorSeparator,
            );
            return;
        }
        if self.is_final_value(lane) {
            return;
        }
        let range = self.compiled.lanes.iter().find(|(pcr, _)| *pcr == lane.pcr);
        let range = range.map_or(0..0, |(_, range)| range.clone());
        let mut place = 0;
        for slot in range.clone() {
            place = self.read_slot(slot, range.end, lane, place);
        }
        let left = lane.digests.len() - place;
        if left > 0 {
            self.not_owned(None, lane, place, left);
        }
    }

    /// Whether the whole PCR has a value that was published.
    fn is_final_value(&mut self, lane: &LaneEvents) -> bool {
        let mut values = self.compiled.baseline.final_values.iter();
        let found = values.find(|value| {
            value.pcr == lane.pcr
                && Some(value.value) == lane.value
                && value.state.is_accepted(self.now)
        });
        if let Some(value) = found {
            self.reading.used.push(UsedAlternative {
                document: self.compiled.name.clone(),
                component: FINAL_VALUES.to_owned(),
                alternative: value.name.clone(),
                staged: value.state.is_staged(),
                of_host: false,
            });
        }
        found.is_some()
    }

    /// Reads what stands in a slot, from a place in the PCR on. The place after it.
    fn read_slot(&mut self, slot: usize, end: usize, lane: &LaneEvents, start: usize) -> usize {
        let compiled = &self.compiled.slots[slot];
        if compiled.any {
            let place = (start..lane.digests.len())
                .find(|place| self.may_follow(slot, end, lane, *place))
                .unwrap_or(lane.digests.len());
            let count = place - start;
            if count > MAX_REPEATS {
                self.too_many(lane, slot, start);
            }
            self.reading.any_events += count;
            self.set(slot, start, count, Choice::Free);
            return place;
        }
        let begins = |place: usize| self.begins(slot, lane, place);
        let empty_is_right = self.compiled.may_be_empty(slot, self.layers);
        if !begins(start) && empty_is_right {
            if let Some(place) = self.read_retired(slot, end, lane, start) {
                return place;
            }
            let choice = match compiled.times {
                Times::Once => Choice::Ends(Nodes::roots(self.layers)),
                Times::Optional | Times::Repeated => Choice::Free,
            };
            self.set(slot, start, 0, choice);
            return start;
        }
        if compiled.times == Times::Repeated {
            return self.read_repeated(slot, end, lane, start);
        }
        match self.find(slot, lane, start) {
            Ok((count, ends)) => {
                self.set(slot, start, count, Choice::Ends(ends));
                start + count
            }
            Err(mismatch) => self.recover(slot, end, lane, start, &mismatch),
        }
    }

    /// There are more events than the slot takes, from this place on.
    fn too_many(&mut self, lane: &LaneEvents, slot: usize, place: usize) {
        let found = (self.describe)(lane.pcr, place);
        let (event, cause) = (Some(found.number), Cause::TooMany);
        self.differ(lane.pcr, event, Some(slot), vec![found], cause);
    }

    fn read_repeated(&mut self, slot: usize, end: usize, lane: &LaneEvents, start: usize) -> usize {
        let mut place = start;
        let mut repeats = 0;
        while self.begins(slot, lane, place) {
            repeats += 1;
            if repeats > MAX_REPEATS {
                self.too_many(lane, slot, place);
                break;
            }
            match self.find(slot, lane, place) {
                Ok((count, ends)) => {
                    self.accept_repeat(slot, lane, place, count, ends);
                    place += count;
                }
                Err(mismatch) => return self.recover(slot, end, lane, place, &mismatch),
            }
        }
        if let Some(place) = self.read_retired(slot, end, lane, place) {
            return place;
        }
        self.set(slot, start, place - start, Choice::Free);
        place
    }

    /// Says it where a retired alternative of the slot stands, and nothing that may follow the slot takes the first of its
    /// events. The place after them.
    fn read_retired(
        &mut self,
        slot: usize,
        end: usize,
        lane: &LaneEvents,
        start: usize,
    ) -> Option<usize> {
        if self.may_follow(slot, end, lane, start) {
            return None;
        }
        let left = &lane.digests[start..];
        let count = (1..=left.len().min(LOOK_AHEAD)).find(|count| {
            let retired = (slot, left[..*count].to_vec());
            let mut layers = self.layers.iter();
            layers.any(|layer| layer.retired.contains_key(&retired))
        })?;
        let mismatch = Mismatch {
            depth: 0,
            nodes: Nodes::roots(self.layers),
        };
        Some(self.differs(slot, lane, start, count, &mismatch))
    }

    fn accept_repeat(
        &mut self,
        slot: usize,
        lane: &LaneEvents,
        place: usize,
        count: usize,
        ends: Nodes,
    ) {
        match self.accepted(self.ending(slot, ends)) {
            Ok(number) => self.use_alternative(number),
            Err(cause) => {
                let found = self.describe(lane, place, count);
                let event = found.first().map(|found| found.number);
                self.differ(lane.pcr, event, Some(slot), found, cause);
            }
        }
    }

    /// Follows the events through the slot's trees, until an alternative ends.
    fn find(
        &self,
        slot: usize,
        lane: &LaneEvents,
        start: usize,
    ) -> Result<(usize, Nodes), Mismatch> {
        let mut nodes = Nodes::roots(self.layers);
        for depth in 0.. {
            let digest = self.digest(slot, lane, start + depth);
            let mut next = Nodes::default();
            for (layer, node) in nodes.iter() {
                let tree = &self.layers[layer].trees[slot];
                next.0[layer] = digest.and_then(|digest| tree.next(node, digest));
            }
            if next == Nodes::default() {
                return Err(Mismatch { depth, nodes });
            }
            let ends = |(layer, node): (usize, u32)| {
                !self.layers[layer].trees[slot].node(node).ends.is_empty()
            };
            // No alternative is the beginning of another, so those that end here are all that there are.
            if next.iter().any(ends) {
                return Ok((depth + 1, next));
            }
            nodes = next;
        }
        unreachable!("the events end, and the trees before them")
    }

    /// What was measured at a place of a PCR, as alternatives of a slot are compared with it. An event of which only the digest is known can
    /// be the host's own, and nothing that hosts share.
    fn digest<'l>(
        &self,
        slot: usize,
        lane: &'l LaneEvents,
        place: usize,
    ) -> Option<&'l EventDigest> {
        let component = self.compiled.slots[slot].component;
        let is_of_host = self.compiled.baseline.components[component].kind == ComponentKind::Host;
        let digest = lane.digests.get(place);
        digest.filter(|_| is_of_host || !lane.unexplained.contains(&place))
    }

    fn begins(&self, slot: usize, lane: &LaneEvents, place: usize) -> bool {
        let Some(digest) = self.digest(slot, lane, place) else {
            return false;
        };
        let mut layers = self.layers.iter();
        layers.any(|layer| layer.trees[slot].next(0, digest).is_some())
    }

    /// Whether the event at a place may be the first that follows a slot, or the PCR may end there.
    fn may_follow(&self, slot: usize, end: usize, lane: &LaneEvents, place: usize) -> bool {
        let is_event = place < lane.digests.len();
        for next in slot + 1..end {
            if is_event && (self.compiled.slots[next].any || self.begins(next, lane, place)) {
                return true;
            }
            if !self.compiled.may_be_empty(next, self.layers) {
                return false;
            }
        }
        !is_event
    }

    /// Says what differs in a slot, and finds where reading can go on.
    fn recover(
        &mut self,
        slot: usize,
        end: usize,
        lane: &LaneEvents,
        start: usize,
        mismatch: &Mismatch,
    ) -> usize {
        let left = lane.digests.len() - start;
        let trees = self
            .layers
            .iter()
            .map(|layer| layer.trees[slot].usual_length);
        let usual = trees.max().unwrap_or(0).max(1);
        let next_is_any = (slot + 1..end)
            .next()
            .is_some_and(|next| self.compiled.slots[next].any);
        let fewest = if next_is_any { usual.min(left) } else { 0 };
        for count in 0..=left.min(LOOK_AHEAD) {
            let place = start + count;
            let begins = || self.begins(slot, lane, place);
            if count > 0 && mismatch.depth == 0 && begins() && self.find(slot, lane, place).is_ok()
            {
                self.not_owned(Some(slot), lane, start, count);
                return self.read_slot(slot, end, lane, place);
            }
            if count >= fewest && self.may_follow(slot, end, lane, place) {
                return self.differs(slot, lane, start, count, mismatch);
            }
        }
        self.differs(slot, lane, start, usual.min(left), mismatch)
    }

    /// Records that `count` events in a slot are no alternative. The place after them.
    fn differs(
        &mut self,
        slot: usize,
        lane: &LaneEvents,
        start: usize,
        count: usize,
        mismatch: &Mismatch,
    ) -> usize {
        let place = start + mismatch.depth;
        let place_counts = mismatch.depth < count;
        let found = self.describe(lane, start, count);
        let event = place_counts.then(|| lane.numbers[place]);
        let digests = lane.digests[start..start + count].to_vec();
        let component = self.compiled.slots[slot].component;
        let mut layers = self.layers.iter();
        let retired = layers.find_map(|layer| layer.retired.get(&(slot, digests.clone())));
        let mut without = self.layers.iter().flat_map(|layer| &layer.without_value);
        let cause = match (retired, without.find(|(found, _)| *found == component)) {
            (Some(alternative), _) => Cause::Retired {
                alternative: alternative.clone(),
            },
            (None, Some((_, parameter))) => Cause::NoParameter {
                parameter: parameter.clone(),
            },
            (None, None) if event.is_none() => Cause::Missing,
            (None, None) => Cause::NotApproved,
        };
        let mut expected: Vec<_> = mismatch
            .nodes
            .iter()
            .flat_map(|(layer, node)| {
                let tree = &self.layers[layer].trees[slot];
                tree.node(node).next.iter().map(|(digest, next)| Expected {
                    digest: *digest,
                    what: tree.node(*next).what.clone(),
                })
            })
            .collect();
        expected.sort_by_key(|expected| expected.digest);
        let beside = expected.len().saturating_sub(MAX_EXPECTED);
        expected.truncate(MAX_EXPECTED);
        self.differ(lane.pcr, event, Some(slot), found, cause);
        let difference = self.reading.differences.last_mut();
        let difference = difference.expect("one was pushed");
        (difference.expected, difference.expected_beside) = (expected, beside);
        self.set(slot, start, count, Choice::Differs);
        start + count
    }

    fn not_owned(&mut self, before: Option<usize>, lane: &LaneEvents, start: usize, count: usize) {
        let found = self.describe(lane, start, count);
        let cause = Cause::NotOwned {
            before: before.map(|slot| self.slot_name(slot)),
        };
        self.differ(lane.pcr, Some(lane.numbers[start]), None, found, cause);
        self.reading.insertions.push(Insertion {
            pcr: lane.pcr,
            before,
            start,
            count,
        });
    }

    fn describe(&self, lane: &LaneEvents, start: usize, count: usize) -> Vec<FoundEvent> {
        let places = start..start + count.min(MAX_FOUND);
        places
            .map(|place| (self.describe)(lane.pcr, place))
            .collect()
    }

    fn set(&mut self, slot: usize, start: usize, count: usize, choice: Choice) {
        self.reading.slots[slot] = Some(SlotReading {
            start,
            count,
            choice,
        });
    }

    fn slot_name(&self, slot: usize) -> SlotName {
        let slot = &self.compiled.slots[slot];
        SlotName {
            component: self.compiled.baseline.components[slot.component]
                .name
                .clone(),
            slot: slot.name.clone(),
        }
    }

    fn differ(
        &mut self,
        pcr: u8,
        event: Option<usize>,
        slot: Option<usize>,
        found: Vec<FoundEvent>,
        cause: Cause,
    ) {
        let difference = Difference {
            baseline: self.compiled.name.clone(),
            pcr,
            event,
            slot: slot.map(|slot| self.slot_name(slot)),
            expected: Vec::new(),
            expected_beside: 0,
            found,
            cause,
        };
        self.reading.differences.push(difference);
    }

    /// The alternatives that end at these nodes of a slot's trees.
    fn ending<'e>(
        &'e self,
        slot: usize,
        ends: Nodes,
    ) -> impl Iterator<Item = (usize, u32)> + Clone + use<'e> {
        ends.iter().flat_map(move |(layer, node)| {
            let alternatives = &self.layers[layer].trees[slot].node(node).ends;
            alternatives
                .iter()
                .map(move |alternative| (layer, *alternative))
        })
    }

    fn count_ending(&self, slot: usize, ends: Nodes) -> usize {
        let at = |(layer, node): (usize, u32)| self.layers[layer].trees[slot].node(node).ends.len();
        ends.iter().map(at).sum()
    }

    fn alternative(&self, number: (usize, u32)) -> &CompiledAlternative {
        &self.layers[number.0].alternatives[number.1 as usize]
    }

    /// The alternative that counts of those that a boot may have used: one that was promoted, before one that is staged.
    fn accepted(
        &self,
        mut alternatives: impl Iterator<Item = (usize, u32)> + Clone,
    ) -> Result<(usize, u32), Cause> {
        let accepted = alternatives
            .clone()
            .filter(|number| self.alternative(*number).state.is_accepted(self.now))
            .min_by_key(|number| self.alternative(*number).state.is_staged());
        if let Some(number) = accepted {
            return Ok(number);
        }
        let expired = alternatives.find_map(|number| {
            let alternative = self.alternative(number);
            match alternative.state {
                State::Staged { expires } => Some(Cause::Expired {
                    alternative: alternative.name.clone(),
                    at: expires,
                }),
                _ => None,
            }
        });
        Err(expired.unwrap_or(Cause::NotApproved))
    }

    fn use_alternative(&mut self, number: (usize, u32)) {
        if self.used.contains(&number) {
            return;
        }
        self.used.push(number);
        let alternative = self.alternative(number);
        let used = UsedAlternative {
            document: self.compiled.name.clone(),
            component: self.compiled.baseline.components[alternative.component]
                .name
                .clone(),
            alternative: alternative.name.clone(),
            staged: alternative.state.is_staged(),
            of_host: alternative.of_host,
        };
        if !self.reading.used.contains(&used) {
            self.reading.used.push(used);
        }
    }

    /// Finds the alternative of a component that all its slots are of.
    fn choose(&mut self, component: usize) {
        if self.compiled.baseline.components[component].kind == ComponentKind::Any {
            return;
        }
        let mut chosen_by = Vec::new();
        let mut differs = false;
        for slot in &self.compiled.slots_of[component] {
            match self.reading.slots[*slot]
                .as_ref()
                .map(|reading| &reading.choice)
            {
                Some(Choice::Ends(ends)) => chosen_by.push((*slot, *ends)),
                Some(Choice::Differs) => differs = true,
                Some(Choice::Free) | None => {}
            }
        }
        let fewest = chosen_by
            .iter()
            .min_by_key(|(slot, ends)| self.count_ending(*slot, *ends));
        let Some(&(slot, ends)) = fewest else { return };
        let agree = |number: &(usize, u32)| {
            let alternative = self.alternative(*number);
            chosen_by
                .iter()
                .all(|(slot, ends)| ends.0[number.0] == Some(alternative.end_in(*slot)))
        };
        let accepted = {
            let candidates = self.ending(slot, ends).filter(agree);
            let is_any = candidates.clone().next().is_some();
            is_any.then(|| self.accepted(candidates))
        };
        let pcr = self.compiled.slots[slot].pcr;
        let Some(accepted) = accepted else {
            // What differs in one slot is said already.
            if !differs {
                let choices = self.choices(&chosen_by);
                self.differ(
                    pcr,
                    None,
                    Some(slot),
                    Vec::new(),
                    Cause::NoAgreement { choices },
                );
            }
            return;
        };
        match accepted {
            Ok(number) => {
                self.reading.chosen[component] = Some(number);
                if !differs {
                    self.use_alternative(number);
                }
            }
            Err(cause) => self.differ(pcr, None, Some(slot), Vec::new(), cause),
        }
    }

    fn choices(&self, chosen_by: &[(usize, Nodes)]) -> Vec<(u8, String, Vec<String>)> {
        chosen_by
            .iter()
            .map(|(slot, ends)| {
                let names = self.ending(*slot, *ends).take(NAMED_CHOICES);
                let names = names
                    .map(|number| self.alternative(number).name.clone())
                    .collect();
                let slot = &self.compiled.slots[*slot];
                (slot.pcr, slot.name.clone(), names)
            })
            .collect()
    }
}
