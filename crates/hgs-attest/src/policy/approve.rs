//! From a refusal to what would have to be approved.

use hgs_pki::Time;

use super::alternative::{
    Alternative, MAX_EVENTS, Parameters, SlotEvents, Source, SourceKind, State,
};
use super::baseline::{Baseline, Component, ComponentKind, LaneSlots, Slot, Times};
use super::difference::{Cause, FoundEvent};
use super::evaluation::{Evaluation, FoundInsertion};
use super::host_measurements::HostMeasurements;
use super::of_evidence::expected;

/// What an approval changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// The name of the baseline that the boot was compared with.
    pub name: String,
    /// The baseline with the new alternatives, if it changes.
    pub baseline: Option<Baseline>,
    /// The host's own record with the new alternatives, if it changes.
    pub host: Option<HostMeasurements>,
    /// The components that have a new alternative.
    pub components: Vec<String>,
}

/// Why a difference can't be approved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApprovalError {
    /// The boot matches a baseline; what failed is another policy.
    #[error("the boot differs from no baseline")]
    NoDifference,
    /// The nearest baseline is another.
    #[error("the nearest baseline is `{0}`")]
    OtherBaseline(String),
    /// It is never an alternative.
    #[error("this can't be approved: {0}")]
    NotApprovable(String),
    /// The component never changes.
    #[error(
        "`{component}` is constant: change its kind in the baseline first, or make a new baseline"
    )]
    Constant {
        /// The component.
        component: String,
    },
    /// It holds what hosts share, and of an event only the digest is known.
    #[error(
        "`{component}` is no component of the kind `host`, and the host can't say what an event in it was made from: give the event a component of that kind in the baseline"
    )]
    Unexplained {
        /// The component.
        component: String,
    },
    /// More events than a document holds.
    #[error("more than {MAX_EVENTS} events differ in one place")]
    TooMany,
}

/// The documents with what a refused boot has as new alternatives. What is the host's own goes into the host's record.
/// `label` names the new alternatives, `by` says who approves.
///
/// What comes out is to be compiled like any other: it may be ambiguous.
pub fn approve(
    (name, baseline): (&str, &Baseline),
    host: &HostMeasurements,
    evaluation: &Evaluation,
    label: &str,
    by: &str,
    now: Time,
) -> Result<Approval, ApprovalError> {
    let nearest = evaluation.nearest().ok_or(ApprovalError::NoDifference)?;
    let compared = nearest
        .baseline
        .as_deref()
        .ok_or(ApprovalError::NoDifference)?;
    if compared != name {
        return Err(ApprovalError::OtherBaseline(compared.to_owned()));
    }
    for difference in &nearest.differences {
        let never = matches!(
            difference.cause,
            Cause::ErrorSeparator | Cause::NotProved | Cause::TooMany | Cause::NoParameter { .. }
        );
        if never {
            return Err(ApprovalError::NotApprovable(difference.to_string()));
        }
    }
    let approved = |events| Alternative {
        name: label.to_owned(),
        source: Source {
            kind: SourceKind::Administrator,
            of: by.to_owned(),
        },
        state: State::Promoted {
            at: Some(now),
            by: None,
        },
        events,
    };
    let (mut new_baseline, mut new_host) = (baseline.clone(), host.clone());
    let mut components: Vec<String> = Vec::new();
    for component in &baseline.components {
        let found = nearest.components.iter();
        let found: Vec<_> = found
            .filter(|found| found.slot.component == component.name)
            .collect();
        if found.is_empty() {
            continue;
        }
        if component.kind == ComponentKind::Constant {
            let component = component.name.clone();
            return Err(ApprovalError::Constant { component });
        }
        let parameters = match component.kind {
            ComponentKind::Parametrised => host.parameters.clone(),
            _ => Parameters::new(),
        };
        let mut events = Vec::new();
        for found in found.iter().filter(|found| !found.events.is_empty()) {
            let kind = component.kind;
            events.push(slot_events(
                &found.slot.slot,
                &found.events,
                kind,
                &parameters,
            )?);
        }
        let mut all = found.iter().flat_map(|found| &found.events);
        if component.kind != ComponentKind::Host && all.any(|event| event.unexplained) {
            return Err(ApprovalError::Unexplained {
                component: component.name.clone(),
            });
        }
        let alternative = approved(events);
        match component.kind {
            ComponentKind::Host => new_host.add(&component.name, alternative),
            _ => {
                let component = new_baseline.component_mut(&component.name);
                let component = component.expect("it is of this baseline");
                add(&mut component.alternatives, alternative);
            }
        }
        components.push(component.name.clone());
    }
    for insertion in &nearest.insertions {
        let none = Parameters::new();
        let events = slot_events("events", &insertion.events, ComponentKind::Shared, &none)?;
        let alternative = approved(vec![events]);
        let name = match insertion.events.iter().any(|event| event.unexplained) {
            true => {
                let name = insert(
                    &mut new_baseline,
                    insertion,
                    ComponentKind::Host,
                    Vec::new(),
                )?;
                new_host.add(&name, alternative);
                name
            }
            false => {
                let alternatives = vec![alternative];
                insert(
                    &mut new_baseline,
                    insertion,
                    ComponentKind::Shared,
                    alternatives,
                )?
            }
        };
        components.push(name);
    }
    Ok(Approval {
        name: name.to_owned(),
        baseline: (new_baseline != *baseline).then_some(new_baseline),
        host: (new_host != *host).then_some(new_host),
        components,
    })
}

fn slot_events(
    slot: &str,
    found: &[FoundEvent],
    kind: ComponentKind,
    parameters: &Parameters,
) -> Result<SlotEvents, ApprovalError> {
    if found.len() > MAX_EVENTS {
        return Err(ApprovalError::TooMany);
    }
    let events = found.iter().map(|event| expected(event, kind, parameters));
    Ok(SlotEvents {
        slot: slot.to_owned(),
        events: events.collect(),
    })
}

/// Makes an optional slot, and a component of its own, for events that no component owns. The name of the component.
fn insert(
    baseline: &mut Baseline,
    insertion: &FoundInsertion,
    kind: ComponentKind,
    alternatives: Vec<Alternative>,
) -> Result<String, ApprovalError> {
    let first = insertion
        .events
        .first()
        .ok_or(ApprovalError::NoDifference)?;
    let base = format!(
        "approved-pcr{}-{}",
        insertion.pcr,
        &first.digest.to_string()[..8]
    );
    let name = free_name(&base, |name| baseline.component(name).is_some());
    let place = baseline
        .lanes
        .iter()
        .position(|lane| lane.pcr == insertion.pcr);
    let place = place.unwrap_or_else(|| {
        baseline.lanes.push(LaneSlots {
            pcr: insertion.pcr,
            slots: Vec::new(),
        });
        baseline.lanes.len() - 1
    });
    let slots = &mut baseline.lanes[place].slots;
    let before = insertion.before.as_ref().and_then(|name| {
        let is = |slot: &Slot| slot.component == name.component && slot.name == name.slot;
        slots.iter().position(is)
    });
    slots.insert(
        before.unwrap_or(slots.len()),
        Slot {
            component: name.clone(),
            name: "events".to_owned(),
            times: Times::Optional,
            command_line: false,
        },
    );
    baseline.components.push(Component {
        name: name.clone(),
        kind,
        alternatives,
    });
    Ok(name)
}

pub(super) fn free_name(base: &str, taken: impl Fn(&str) -> bool) -> String {
    let numbered = (2..).map(|number| format!("{base} ({number})"));
    let mut names = std::iter::once(base.to_owned()).chain(numbered);
    names.find(|name| !taken(name)).expect("numbers don't end")
}

/// Adds an alternative. One that measures the same, and is staged or retired, becomes what the new one is; one that is
/// promoted stays. A name that is taken gets a number.
pub(super) fn add(alternatives: &mut Vec<Alternative>, new: Alternative) {
    if let Some(same) = alternatives
        .iter_mut()
        .find(|known| known.measures_as(&new))
    {
        if !matches!(same.state, State::Promoted { .. }) {
            same.state = new.state;
        }
        return;
    }
    let name = free_name(&new.name, |name| {
        alternatives.iter().any(|known| known.name == name)
    });
    alternatives.push(Alternative { name, ..new });
}
