//! A baseline made ready for matching: for each slot a tree of digests, in which a boot finds its alternative event by
//! event, however many alternatives there are. What could be read in two ways is refused here.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use hgs_crypto::hash::sha256;
use hgs_tcg::event_log::PCR_COUNT;

use super::alternative::{Alternative, Parameters, State, TemplateError};
use super::baseline::{Baseline, ComponentKind, Times};
use super::document::{DocumentError, EventDigest};
use super::evidence::IGNORED_PCRS;

/// How often a repeated slot, or one that takes any events, is filled at most.
pub const MAX_REPEATS: usize = 256;

/// PCRs that hold what runs: no component accepts any events there.
const PCRS_OF_CODE: [u8; 8] = [4, 7, 8, 9, 11, 12, 13, 14];
/// What every boot measures something into: the images that were started, and the state of Secure Boot.
const PCRS_NEEDED: [u8; 2] = [4, 7];

/// Why a baseline can't be matched with anything, or could be in two ways.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BaselineError {
    /// The document of it, or of the host's own measurements.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A boot that measured nothing into this PCR would match.
    #[error(
        "nothing has to be measured into PCR {pcr}: a baseline says which images are started (PCR 4) and how Secure Boot is set (PCR 7)"
    )]
    Vacuous {
        /// The PCR.
        pcr: u8,
    },
    /// There is no such PCR, or no rule may look at it.
    #[error(
        "a baseline has no rule for PCR {pcr}: it does not exist, has a log of its own, or can be reset"
    )]
    Pcr {
        /// Its number.
        pcr: u8,
    },
    /// Two parts have one name.
    #[error("{what} `{name}` stands there twice")]
    Doubled {
        /// Of what.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A slot's component, or an alternative's slot, does not exist.
    #[error("{user} names {what} `{name}`, which does not exist")]
    Unknown {
        /// Who names it.
        user: String,
        /// What it names.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A component without a slot.
    #[error("the component `{component}` has no slot")]
    NoSlot {
        /// The component.
        component: String,
    },
    /// A component without an alternative, so that nothing matches.
    #[error("the component `{component}` has no alternative that is accepted")]
    NoAlternative {
        /// The component.
        component: String,
    },
    /// A constant component has one alternative.
    #[error("the component `{component}` is constant: it has one alternative, which is promoted")]
    Constant {
        /// The component.
        component: String,
    },
    /// Any events in a PCR that holds what runs.
    #[error(
        "the component `{component}` can't accept any events in PCR {pcr}, which holds what runs"
    )]
    AnyOfCode {
        /// The component.
        component: String,
        /// The PCR.
        pcr: u8,
    },
    /// A component that accepts any events has an alternative, or a slot that is not filled once.
    #[error(
        "the component `{component}` accepts any events: it has no alternatives, and its slots are plain"
    )]
    Any {
        /// The component.
        component: String,
    },
    /// A repeated slot of a component that has another slot, or an alternative without events in it.
    #[error(
        "the component `{component}` has a repeated slot: then it has no other slot, and each alternative has events in it"
    )]
    Repeated {
        /// The component.
        component: String,
    },
    /// A text names a parameter, and the component is not of a kind that has any.
    #[error(
        "the alternative `{alternative}` of `{component}` names a parameter: only components of the kinds `parametrised` and `host` may"
    )]
    Parameters {
        /// The component.
        component: String,
        /// The alternative.
        alternative: String,
    },
    /// A separator that tells of an error.
    #[error(
        "the alternative `{alternative}` of `{component}` has the separator of a boot that failed"
    )]
    ErrorSeparator {
        /// The component.
        component: String,
        /// The alternative.
        alternative: String,
    },
    /// One alternative is the beginning of another.
    #[error(
        "in PCR {pcr}, slot `{slot}` of `{component}`: what `{shorter}` measures is the beginning of what `{longer}` measures"
    )]
    Beginning {
        /// The PCR.
        pcr: u8,
        /// The component.
        component: String,
        /// The slot.
        slot: String,
        /// The alternative that ends first.
        shorter: String,
        /// The alternative that goes on.
        longer: String,
    },
    /// A slot that may be empty, or filled again, begins as one that may follow it.
    #[error(
        "in PCR {pcr}, slot `{slot}` of `{component}` may be left out or repeated, and begins as slot `{next}` of `{next_component}` may, which can follow it"
    )]
    Ambiguous {
        /// The PCR.
        pcr: u8,
        /// The component.
        component: String,
        /// The slot.
        slot: String,
        /// The component of the slot that may follow.
        next_component: String,
        /// The slot that may follow.
        next: String,
    },
    /// A host's own alternative of a component that is not the host's own.
    #[error(
        "the host has an alternative of its own of `{component}`, which is not of the kind `host`"
    )]
    NotOfHost {
        /// The component.
        component: String,
    },
}

/// A baseline that can be matched.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) name: String,
    pub(super) baseline: Baseline,
    pub(super) lanes: Vec<(u8, Range<usize>)>,
    pub(super) slots: Vec<CompiledSlot>,
    /// The slots of each component of the baseline.
    pub(super) slots_of: Vec<Vec<usize>>,
    /// The alternatives of the baseline that are the same on every host.
    pub(super) shared: Layer,
}

#[derive(Debug)]
pub(super) struct CompiledSlot {
    pub(super) pcr: u8,
    /// The place of the component in the baseline.
    pub(super) component: usize,
    pub(super) name: String,
    pub(super) times: Times,
    pub(super) any: bool,
    pub(super) command_line: bool,
}

/// Alternatives, and for each slot the tree in which they are found.
#[derive(Debug, Default)]
pub(super) struct Layer {
    pub(super) alternatives: Vec<CompiledAlternative>,
    pub(super) trees: Vec<Tree>,
    /// What was withdrawn, by slot and all digests in it.
    pub(super) retired: HashMap<(usize, Vec<EventDigest>), String>,
    /// Parameters that the host has no value for, with alternatives that name them.
    pub(super) without_value: Vec<(usize, String)>,
}

#[derive(Debug)]
pub(super) struct CompiledAlternative {
    pub(super) component: usize,
    pub(super) name: String,
    pub(super) state: State,
    /// Whether it is from the host's own record.
    pub(super) of_host: bool,
    /// Where it ends in the trees of the slots in which it has events.
    ends: Vec<(usize, u32)>,
    /// Texts of its events in slots of the command line.
    pub(super) texts: Vec<(usize, Vec<Option<String>>)>,
}

impl CompiledAlternative {
    /// Where it ends in the tree of a slot: at the root, if it has no event there.
    pub(super) fn end_in(&self, slot: usize) -> u32 {
        let end = self.ends.iter().find(|(found, _)| *found == slot);
        end.map_or(0, |(_, node)| *node)
    }
}

#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// How many events most alternatives have, for a guess where a changed one ends.
    pub(super) usual_length: usize,
}

#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) next: BTreeMap<EventDigest, u32>,
    /// The alternatives that end here.
    pub(super) ends: Vec<u32>,
    /// What the event is that leads here.
    pub(super) what: Option<String>,
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            nodes: vec![Node::default()],
            usual_length: 0,
        }
    }
}

impl Tree {
    pub(super) fn node(&self, node: u32) -> &Node {
        &self.nodes[node as usize]
    }

    pub(super) fn next(&self, node: u32, digest: &EventDigest) -> Option<u32> {
        self.node(node).next.get(digest).copied()
    }

    /// The alternatives that another one, which has these digests, is a beginning of, or which are a beginning of it: one of
    /// them, and whether it is the shorter.
    fn conflict(&self, digests: &[EventDigest]) -> Option<(u32, bool)> {
        let mut node = 0;
        for (place, digest) in digests.iter().enumerate() {
            if place > 0
                && let Some(shorter) = self.node(node).ends.first()
            {
                return Some((*shorter, true));
            }
            node = self.next(node, digest)?;
        }
        let goes_on = node != 0 && !self.node(node).next.is_empty();
        goes_on.then(|| (self.any_end_below(node), false))
    }

    fn any_end_below(&self, node: u32) -> u32 {
        let mut node = node;
        loop {
            let first = self.node(node).next.first_key_value();
            match (first, self.node(node).ends.first()) {
                (_, Some(alternative)) => return *alternative,
                (Some((_, next)), None) => node = *next,
                (None, None) => unreachable!("a branch ends with an alternative"),
            }
        }
    }

    fn insert(&mut self, digests: &[(EventDigest, Option<&str>)], alternative: u32) -> u32 {
        let mut node = 0;
        for (digest, what) in digests {
            node = match self.next(node, digest) {
                Some(next) => next,
                None => {
                    let next = self.nodes.len() as u32;
                    self.nodes[node as usize].next.insert(*digest, next);
                    self.nodes.push(Node {
                        what: what.map(str::to_owned),
                        ..Node::default()
                    });
                    next
                }
            };
        }
        self.nodes[node as usize].ends.push(alternative);
        self.usual_length = digests.len();
        node
    }
}

/// What an alternative measures in one slot: digests, and what they are of.
type SlotDigests<'a> = Vec<(EventDigest, Option<&'a str>)>;

/// Where the alternatives of a layer come from.
enum Origin<'h> {
    /// The baseline, for all hosts.
    Shared,
    /// The baseline's texts with this host's parameters, and this host's own alternatives.
    Host(&'h super::HostMeasurements),
}

impl Compiled {
    pub(super) fn new(name: &str, baseline: Baseline) -> Result<Self, BaselineError> {
        let mut compiled = Self {
            name: name.to_owned(),
            lanes: Vec::new(),
            slots: Vec::new(),
            slots_of: vec![Vec::new(); baseline.components.len()],
            shared: Layer::default(),
            baseline,
        };
        compiled.place_slots()?;
        compiled.check_components()?;
        compiled.check_final_values()?;
        compiled.shared = compiled.layer(&Origin::Shared)?;
        compiled.check_order(&[&compiled.shared])?;
        compiled.check_not_vacuous()?;
        // What names parameters is checked with a value for each, so that it is refused before any host has some.
        compiled.host_layer(&compiled.placeholders())?;
        Ok(compiled)
    }

    /// The alternatives that only this host has.
    pub(super) fn host_layer(
        &self,
        host: &super::HostMeasurements,
    ) -> Result<Layer, BaselineError> {
        let layer = self.layer(&Origin::Host(host))?;
        if !layer.alternatives.is_empty() {
            self.check_order(&[&self.shared, &layer])?;
        }
        Ok(layer)
    }

    fn component_name(&self, slot: &CompiledSlot) -> String {
        self.baseline.components[slot.component].name.clone()
    }

    fn place_slots(&mut self) -> Result<(), BaselineError> {
        let mut components = HashMap::new();
        for (place, component) in self.baseline.components.iter().enumerate() {
            if components.insert(component.name.as_str(), place).is_some() {
                return Err(BaselineError::Doubled {
                    what: "the component",
                    name: component.name.clone(),
                });
            }
        }
        for lane in &self.baseline.lanes {
            check_pcr(lane.pcr)?;
            if self.lanes.iter().any(|(pcr, _)| *pcr == lane.pcr) {
                return Err(BaselineError::Doubled {
                    what: "PCR",
                    name: lane.pcr.to_string(),
                });
            }
            let start = self.slots.len();
            for slot in &lane.slots {
                let component = components.get(slot.component.as_str());
                let component = *component.ok_or_else(|| BaselineError::Unknown {
                    user: format!("the slot `{}` of PCR {}", slot.name, lane.pcr),
                    what: "the component",
                    name: slot.component.clone(),
                })?;
                let mut before = self.slots_of[component].iter();
                if before.any(|before| self.slots[*before].name == slot.name) {
                    return Err(BaselineError::Doubled {
                        what: "the slot",
                        name: format!("{}/{}", slot.component, slot.name),
                    });
                }
                self.slots_of[component].push(self.slots.len());
                let kind = self.baseline.components[component].kind;
                self.slots.push(CompiledSlot {
                    pcr: lane.pcr,
                    component,
                    name: slot.name.clone(),
                    times: slot.times,
                    any: kind == ComponentKind::Any,
                    command_line: slot.command_line,
                });
            }
            self.lanes.push((lane.pcr, start..self.slots.len()));
        }
        Ok(())
    }

    fn check_components(&self) -> Result<(), BaselineError> {
        for (place, component) in self.baseline.components.iter().enumerate() {
            let name = || component.name.clone();
            let slots: Vec<_> = self.slots_of[place]
                .iter()
                .map(|slot| &self.slots[*slot])
                .collect();
            if slots.is_empty() {
                return Err(BaselineError::NoSlot { component: name() });
            }
            let accepted = component
                .alternatives
                .iter()
                .any(|one| !one.state.is_retired());
            match component.kind {
                ComponentKind::Any => {
                    if let Some(slot) = slots.iter().find(|slot| PCRS_OF_CODE.contains(&slot.pcr)) {
                        let pcr = slot.pcr;
                        return Err(BaselineError::AnyOfCode {
                            component: name(),
                            pcr,
                        });
                    }
                    let plain =
                        |slot: &&CompiledSlot| slot.times == Times::Once && !slot.command_line;
                    if !component.alternatives.is_empty() || !slots.iter().all(plain) {
                        return Err(BaselineError::Any { component: name() });
                    }
                }
                ComponentKind::Constant => {
                    let promoted = |one: &Alternative| matches!(one.state, State::Promoted { .. });
                    if component.alternatives.len() != 1
                        || !component.alternatives.iter().all(promoted)
                    {
                        return Err(BaselineError::Constant { component: name() });
                    }
                }
                ComponentKind::Shared | ComponentKind::Parametrised if !accepted => {
                    return Err(BaselineError::NoAlternative { component: name() });
                }
                ComponentKind::Shared | ComponentKind::Parametrised | ComponentKind::Host => {}
            }
            let repeated = slots.iter().any(|slot| slot.times == Times::Repeated);
            if repeated && slots.len() > 1 {
                return Err(BaselineError::Repeated { component: name() });
            }
        }
        Ok(())
    }

    fn check_final_values(&self) -> Result<(), BaselineError> {
        let values = &self.baseline.final_values;
        for (place, value) in values.iter().enumerate() {
            check_pcr(value.pcr)?;
            if values[..place]
                .iter()
                .any(|before| before.name == value.name)
            {
                return Err(BaselineError::Doubled {
                    what: "the final value",
                    name: value.name.clone(),
                });
            }
        }
        Ok(())
    }

    fn layer(&self, origin: &Origin<'_>) -> Result<Layer, BaselineError> {
        let mut layer = Layer {
            trees: std::iter::repeat_with(Tree::default)
                .take(self.slots.len())
                .collect(),
            ..Layer::default()
        };
        let nothing = Parameters::new();
        for (place, component) in self.baseline.components.iter().enumerate() {
            for alternative in &component.alternatives {
                let parametrised = alternative.has_parameters();
                let may = matches!(
                    component.kind,
                    ComponentKind::Parametrised | ComponentKind::Host
                );
                if parametrised && !may {
                    return Err(BaselineError::Parameters {
                        component: component.name.clone(),
                        alternative: alternative.name.clone(),
                    });
                }
                match origin {
                    Origin::Shared if !parametrised => {
                        self.insert(&mut layer, place, alternative, &nothing, false)?;
                    }
                    Origin::Host(host) if parametrised => {
                        self.insert(&mut layer, place, alternative, &host.parameters, false)?;
                    }
                    Origin::Shared | Origin::Host(_) => {}
                }
            }
            let Origin::Host(host) = origin else { continue };
            let own = host.alternatives_of(&component.name);
            if !own.is_empty() && component.kind != ComponentKind::Host {
                let component = component.name.clone();
                return Err(BaselineError::NotOfHost { component });
            }
            for alternative in own {
                self.insert(&mut layer, place, alternative, &host.parameters, true)?;
            }
        }
        Ok(layer)
    }

    /// Puts an alternative into the trees of its slots.
    fn insert(
        &self,
        layer: &mut Layer,
        component: usize,
        alternative: &Alternative,
        parameters: &Parameters,
        of_host: bool,
    ) -> Result<(), BaselineError> {
        if let Some(slot) = self.unknown_slot(component, alternative) {
            // A host's record outlives the baseline that it was made for; then this alternative fills nothing.
            return match of_host {
                true => Ok(()),
                false => Err(BaselineError::Unknown {
                    user: format!("the alternative `{}`", alternative.name),
                    what: "the slot",
                    name: slot.to_owned(),
                }),
            };
        }
        let mut of_slots = Vec::new();
        for slot in &self.slots_of[component] {
            match self.resolve(*slot, alternative, parameters)? {
                Ok(digests) => of_slots.push((*slot, digests)),
                Err(parameter) => {
                    layer.without_value.push((component, parameter));
                    return Ok(());
                }
            }
        }
        if alternative.state.is_retired() {
            for (slot, digests) in of_slots {
                let digests = digests.into_iter().map(|(digest, _)| digest).collect();
                layer
                    .retired
                    .insert((slot, digests), alternative.name.clone());
            }
            return Ok(());
        }
        let number = layer.alternatives.len() as u32;
        let mut ends = Vec::new();
        for (slot, digests) in of_slots {
            self.check_beginnings(layer, slot, &digests, &alternative.name)?;
            let end = layer.trees[slot].insert(&digests, number);
            if end != 0 {
                ends.push((slot, end));
            }
        }
        let of_command_line = self.slots_of[component]
            .iter()
            .filter(|slot| self.slots[**slot].command_line);
        let texts = of_command_line.map(|slot| {
            let events = alternative.events_in(&self.slots[*slot].name).iter();
            (
                *slot,
                events
                    .map(|event| event.text_with(parameters).ok().flatten())
                    .collect(),
            )
        });
        layer.alternatives.push(CompiledAlternative {
            component,
            name: alternative.name.clone(),
            state: alternative.state.clone(),
            of_host,
            ends,
            texts: texts.collect(),
        });
        Ok(())
    }

    /// The first slot that an alternative names and its component does not have.
    fn unknown_slot<'a>(&self, component: usize, alternative: &'a Alternative) -> Option<&'a str> {
        let has = |name: &str| {
            let mut slots = self.slots_of[component].iter();
            slots.any(|slot| self.slots[*slot].name == name)
        };
        let mut named = alternative.events.iter().map(|events| events.slot.as_str());
        named.find(|name| !has(name))
    }

    /// What an alternative measures in a slot, with what each event is; or the parameter that has no value.
    fn resolve<'a>(
        &self,
        slot: usize,
        alternative: &'a Alternative,
        parameters: &Parameters,
    ) -> Result<Result<SlotDigests<'a>, String>, BaselineError> {
        let compiled = &self.slots[slot];
        let mut digests = Vec::new();
        for event in alternative.events_in(&compiled.name) {
            match event.digest_with(parameters) {
                Ok(digest) => digests.push((digest, event.what())),
                Err(TemplateError::NoValue(parameter)) => return Ok(Err(parameter)),
                Err(error) => return Err(DocumentError::Inconsistent(error.to_string()).into()),
            }
        }
        let component = || self.component_name(compiled);
        let mut each = digests.iter().map(|(digest, _)| digest);
        if is_firmware_pcr(compiled.pcr) && each.any(is_error_separator) {
            return Err(BaselineError::ErrorSeparator {
                component: component(),
                alternative: alternative.name.clone(),
            });
        }
        if digests.is_empty() && compiled.times == Times::Repeated {
            let component = component();
            return Err(BaselineError::Repeated { component });
        }
        Ok(Ok(digests))
    }

    /// Refuses events of which others in the slot are the beginning, or that are the beginning of others.
    fn check_beginnings(
        &self,
        layer: &Layer,
        slot: usize,
        digests: &[(EventDigest, Option<&str>)],
        name: &str,
    ) -> Result<(), BaselineError> {
        let digests: Vec<_> = digests.iter().map(|(digest, _)| *digest).collect();
        for found in [&self.shared, layer] {
            // While the shared layer itself is made, it has no trees yet.
            let tree = found.trees.get(slot);
            let Some((other, is_shorter)) = tree.and_then(|tree| tree.conflict(&digests)) else {
                continue;
            };
            let other = found.alternatives[other as usize].name.clone();
            let (shorter, longer) = match is_shorter {
                true => (other, name.to_owned()),
                false => (name.to_owned(), other),
            };
            return Err(BaselineError::Beginning {
                pcr: self.slots[slot].pcr,
                component: self.component_name(&self.slots[slot]),
                slot: self.slots[slot].name.clone(),
                shorter,
                longer,
            });
        }
        Ok(())
    }

    /// Whether a boot may measure nothing in a slot.
    pub(super) fn may_be_empty(&self, slot: usize, layers: &[&Layer]) -> bool {
        let compiled = &self.slots[slot];
        let has_empty = |layer: &&Layer| !layer.trees[slot].node(0).ends.is_empty();
        compiled.any
            || matches!(compiled.times, Times::Optional | Times::Repeated)
            || layers.iter().any(has_empty)
    }

    /// Refuses slots of which an event could be read as one or as the other.
    fn check_order(&self, layers: &[&Layer]) -> Result<(), BaselineError> {
        for (_, range) in &self.lanes {
            for slot in range.clone() {
                let repeats = self.slots[slot].times == Times::Repeated;
                if !repeats && !self.may_be_empty(slot, layers) {
                    continue;
                }
                for next in slot + 1..range.end {
                    let both_begin = match (self.slots[slot].any, self.slots[next].any) {
                        (_, true) => true,
                        // It ends where a slot begins that may follow.
                        (true, false) => false,
                        (false, false) => self.begin_alike(slot, next, layers),
                    };
                    if both_begin {
                        let (slot, next) = (&self.slots[slot], &self.slots[next]);
                        return Err(BaselineError::Ambiguous {
                            pcr: slot.pcr,
                            component: self.component_name(slot),
                            slot: slot.name.clone(),
                            next_component: self.component_name(next),
                            next: next.name.clone(),
                        });
                    }
                    if !self.may_be_empty(next, layers) {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn begin_alike(&self, one: usize, other: usize, layers: &[&Layer]) -> bool {
        let firsts = |slot: usize| {
            layers
                .iter()
                .map(move |layer| &layer.trees[slot].node(0).next)
        };
        let count = |slot| firsts(slot).map(BTreeMap::len).sum::<usize>();
        let (few, many) = if count(one) <= count(other) {
            (one, other)
        } else {
            (other, one)
        };
        let mut of_few = firsts(few).flat_map(BTreeMap::keys);
        of_few.any(|digest| firsts(many).any(|first| first.contains_key(digest)))
    }

    fn check_not_vacuous(&self) -> Result<(), BaselineError> {
        for needed in PCRS_NEEDED {
            let has_final = self
                .baseline
                .final_values
                .iter()
                .any(|value| value.pcr == needed);
            let mut lanes = self.lanes.iter().filter(|(pcr, _)| *pcr == needed);
            let has_slot = lanes.any(|(_, range)| {
                range
                    .clone()
                    .any(|slot| !self.may_be_empty(slot, &[&self.shared]))
            });
            if !has_final && !has_slot {
                return Err(BaselineError::Vacuous { pcr: needed });
            }
        }
        Ok(())
    }

    /// A host that has a value for each parameter that some text names.
    fn placeholders(&self) -> super::HostMeasurements {
        let mut host = super::HostMeasurements::default();
        loop {
            let layer = self.layer(&Origin::Host(&host));
            let missing = layer.map(|layer| layer.without_value).unwrap_or_default();
            if missing.is_empty() {
                return host;
            }
            for (_, parameter) in missing {
                let value = format!("value-of-{parameter}");
                host.parameters.insert(parameter, value);
            }
        }
    }
}

fn check_pcr(pcr: u8) -> Result<(), BaselineError> {
    match usize::from(pcr) < PCR_COUNT && !IGNORED_PCRS.contains(&usize::from(pcr)) {
        true => Ok(()),
        false => Err(BaselineError::Pcr { pcr }),
    }
}

/// Whether firmware ends its part of the PCR with a separator.
pub(super) fn is_firmware_pcr(pcr: u8) -> bool {
    pcr <= 7
}

/// Whether an event of a PCR of the firmware says that the boot failed.
pub(super) fn is_error_separator(digest: &EventDigest) -> bool {
    static ERRORS: std::sync::LazyLock<[EventDigest; 2]> = std::sync::LazyLock::new(|| {
        [[1, 0, 0, 0], [0xff; 4]].map(|octets| EventDigest(sha256(&octets)))
    });
    ERRORS.contains(digest)
}
