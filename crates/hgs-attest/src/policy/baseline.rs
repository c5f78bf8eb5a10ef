//! Baselines: what may be measured when a host boots (`docs/baseline.md`).
//!
//! A baseline is not one log. For each PCR it has the slots that follow each other, and for each component the
//! alternatives that were approved. A component may have slots in several PCRs; one alternative fills them all.

use std::collections::BTreeSet;

use hgs_pki::Time;
use serde::{Deserialize, Serialize};

use super::alternative::{Alternative, Source, State, check_alternatives};
use super::document::{self, DocumentError, EventDigest, check_count, check_name};
use super::walk::UsedAlternative;

/// `kind` of the document.
pub const BASELINE_KIND: &str = "openhgs-baseline";
/// Octets of the longest document.
pub const MAX_BASELINE_OCTETS: usize = 8 * 1024 * 1024;
/// Components, and slots of one PCR, at most.
pub const MAX_COMPONENTS: usize = 128;
/// Final values of PCRs, at most.
pub(super) const MAX_FINAL_VALUES: usize = 1024;

/// What may be measured when a host boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Baseline {
    /// What follows what in each PCR.
    pub lanes: Vec<LaneSlots>,
    /// What fills the slots.
    pub components: Vec<Component>,
    /// Values of whole PCRs that were published; each stands for all events of its PCR.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub final_values: Vec<FinalValue>,
}

/// What follows what in one PCR.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaneSlots {
    /// The PCR.
    pub pcr: u8,
    /// The slots, first to last.
    pub slots: Vec<Slot>,
}

/// A place in a PCR that a component fills.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// The component.
    pub component: String,
    /// The name of the slot; no other slot of the component has the same name.
    pub name: String,
    /// How often the component fills it.
    #[serde(default, skip_serializing_if = "Times::is_once")]
    pub times: Times,
    /// Whether what is measured here is the kernel's command line.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub command_line: bool,
}

/// How often a slot is filled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Times {
    /// Once.
    #[default]
    Once,
    /// Once or not at all, whatever the alternative.
    Optional,
    /// Any number of times, up to [`MAX_REPEATS`](super::MAX_REPEATS); the component has no other slot.
    Repeated,
}

impl Times {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature that serde calls"
    )]
    fn is_once(&self) -> bool {
        *self == Self::Once
    }
}

/// A part of what boots, that changes as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// Its name.
    pub name: String,
    /// Who its alternatives belong to.
    pub kind: ComponentKind,
    /// What was approved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<Alternative>,
}

/// Who the alternatives of a component belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComponentKind {
    /// One alternative, which never changes: separators, texts of the firmware.
    Constant,
    /// The same on all hosts of the baseline: firmware, shim, kernels.
    Shared,
    /// As shared, and texts may name parameters, whose values each host has in its own record.
    Parametrised,
    /// The host's own: beside the alternatives of the baseline, those in the host's own record count.
    Host,
    /// Any events in that place are accepted, and counted.
    Any,
}

/// The value that a PCR has at the end of a boot, as a vendor publishes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinalValue {
    /// What people call it.
    pub name: String,
    /// Where it came from.
    pub source: Source,
    /// Whether it is accepted.
    pub state: State,
    /// The PCR.
    pub pcr: u8,
    /// The value in the SHA-256 bank.
    pub value: EventDigest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "version")]
    _version: u32,
    lanes: Vec<LaneSlots>,
    components: Vec<Component>,
    #[serde(default)]
    final_values: Vec<FinalValue>,
}

impl Baseline {
    /// Reads a document, strictly: each member is known and stands there once.
    pub fn from_json(octets: &[u8]) -> Result<Self, DocumentError> {
        let document: Document = document::read(BASELINE_KIND, octets, MAX_BASELINE_OCTETS)?;
        let baseline = Self {
            lanes: document.lanes,
            components: document.components,
            final_values: document.final_values,
        };
        baseline.check()?;
        Ok(baseline)
    }

    /// Writes the document.
    #[must_use]
    pub fn to_json(&self) -> String {
        document::write(BASELINE_KIND, self)
    }

    /// Its component of that name.
    #[must_use]
    pub fn component(&self, name: &str) -> Option<&Component> {
        self.components
            .iter()
            .find(|component| component.name == name)
    }

    pub(super) fn component_mut(&mut self, name: &str) -> Option<&mut Component> {
        self.components
            .iter_mut()
            .find(|component| component.name == name)
    }

    /// Every slot with its PCR, by PCR and place.
    pub fn slots(&self) -> impl Iterator<Item = (u8, &Slot)> {
        let lanes = self.lanes.iter();
        lanes.flat_map(|lane| lane.slots.iter().map(move |slot| (lane.pcr, slot)))
    }

    /// The alternatives that were approved, with the names of their components.
    pub fn alternatives(&self) -> impl Iterator<Item = (&str, &Alternative)> {
        let components = self.components.iter();
        components.flat_map(|component| {
            let alternatives = component.alternatives.iter();
            alternatives.map(|alternative| (component.name.as_str(), alternative))
        })
    }

    fn state_mut(&mut self, component: &str, alternative: &str) -> Option<&mut State> {
        if component == FINAL_VALUES {
            let mut values = self.final_values.iter_mut();
            return values
                .find(|value| value.name == alternative)
                .map(|value| &mut value.state);
        }
        let mut alternatives = self.component_mut(component)?.alternatives.iter_mut();
        alternatives
            .find(|found| found.name == alternative)
            .map(|alternative| &mut alternative.state)
    }

    /// Records that a host booted a staged alternative. `false` if there is none of that name that is staged.
    pub fn promote(&mut self, component: &str, alternative: &str, host: &str, now: Time) -> bool {
        let state = self.state_mut(component, alternative);
        state.is_some_and(|state| state.promote(host, now))
    }

    /// Withdraws an alternative. `false` if there is none of that name that is accepted.
    pub fn retire(&mut self, component: &str, alternative: &str, now: Time) -> bool {
        let state = self.state_mut(component, alternative);
        state.is_some_and(|state| state.retire(now))
    }

    /// Alternatives that are promoted and that no boot of these used: they can be retired. Each is the component and the
    /// alternative. Constant components keep theirs.
    pub fn unused<'u>(
        &self,
        name: &str,
        used: impl IntoIterator<Item = &'u UsedAlternative>,
    ) -> Vec<(String, String)> {
        let used = used
            .into_iter()
            .filter(|used| used.document == name && !used.of_host);
        let used: BTreeSet<_> = used
            .map(|used| (used.component.as_str(), used.alternative.as_str()))
            .collect();
        let promoted = |state: &State| matches!(state, State::Promoted { .. });
        let of_components = self
            .components
            .iter()
            .filter(|component| component.kind != ComponentKind::Constant)
            .flat_map(|component| {
                let alternatives = component.alternatives.iter();
                let promoted = alternatives.filter(|alternative| promoted(&alternative.state));
                promoted.map(|alternative| (component.name.as_str(), alternative.name.as_str()))
            });
        let values = self
            .final_values
            .iter()
            .filter(|value| promoted(&value.state));
        of_components
            .chain(values.map(|value| (FINAL_VALUES, value.name.as_str())))
            .filter(|pair| !used.contains(pair))
            .map(|(component, alternative)| (component.to_owned(), alternative.to_owned()))
            .collect()
    }

    /// Takes out staged alternatives that expired. How many there were.
    pub fn remove_expired(&mut self, now: Time) -> usize {
        let lasts = |state: &State| !state.is_expired(now);
        let mut removed = self.final_values.len();
        self.final_values.retain(|value| lasts(&value.state));
        removed -= self.final_values.len();
        for component in &mut self.components {
            removed += component.alternatives.len();
            component
                .alternatives
                .retain(|alternative| lasts(&alternative.state));
            removed -= component.alternatives.len();
        }
        removed
    }

    /// Checks what can be said of a document without compiling it.
    fn check(&self) -> Result<(), DocumentError> {
        check_count("components", self.components.len(), MAX_COMPONENTS)?;
        check_count("PCRs", self.lanes.len(), hgs_tcg::event_log::PCR_COUNT)?;
        check_count("final values", self.final_values.len(), MAX_FINAL_VALUES)?;
        for lane in &self.lanes {
            check_count("slots of a PCR", lane.slots.len(), MAX_COMPONENTS)?;
        }
        for (_, slot) in self.slots() {
            check_name("the component", &slot.component)?;
            check_name("the slot", &slot.name)?;
        }
        for component in &self.components {
            check_name("the component", &component.name)?;
            check_alternatives(&component.name, &component.alternatives)?;
        }
        for value in &self.final_values {
            check_name("the final value", &value.name)?;
            check_name("the source", &value.source.of)?;
        }
        Ok(())
    }
}

/// What takes the place of a component's name for final values.
pub const FINAL_VALUES: &str = "final values";
