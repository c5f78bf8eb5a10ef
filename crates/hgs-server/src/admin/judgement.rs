//! Judgements as the API shows them.

use hgs_admin::types::{Difference, EventSummary, Judgement, PolicyOutcome, UsedAlternative};
use hgs_attest::policy::{self, Evaluation, FoundEvent, PolicyResult};
use hgs_crypto::hex;

/// How evidence was judged.
pub(super) fn judgement(evaluation: &Evaluation) -> Judgement {
    let group = evaluation.group();
    Judgement {
        healthy: evaluation.is_healthy(),
        baseline: evaluation.baseline().map(str::to_owned),
        nearest_baseline: evaluation.nearest_baseline().map(str::to_owned),
        policies: evaluation.results().iter().map(outcome).collect(),
        differences: differences(evaluation),
        difference_group: group.map(|group| hex::encode(group)),
        used: evaluation.used().iter().map(used).collect(),
        ..no_judgement(None)
    }
}

/// That evidence could not be judged, and why.
pub(super) fn no_judgement(problem: Option<String>) -> Judgement {
    Judgement {
        host: None,
        time: None,
        healthy: false,
        problem,
        baseline: None,
        nearest_baseline: None,
        policies: Vec::new(),
        differences: Vec::new(),
        difference_group: None,
        used: Vec::new(),
    }
}

fn used(used: &policy::UsedAlternative) -> UsedAlternative {
    UsedAlternative {
        document: used.document.clone(),
        component: used.component.clone(),
        alternative: used.alternative.clone(),
        staged: used.staged,
        of_host: used.of_host,
    }
}

/// Where a boot differs from the nearest baseline.
pub(super) fn differences(evaluation: &Evaluation) -> Vec<Difference> {
    evaluation.differences().iter().map(difference).collect()
}

fn outcome(result: &PolicyResult) -> PolicyOutcome {
    PolicyOutcome {
        policy: result.policy.to_string(),
        enabled: result.enabled,
        held: result.held(),
        reason: result.failure().map(ToString::to_string),
    }
}

fn difference(difference: &policy::Difference) -> Difference {
    let slot = difference.slot.as_ref();
    let expected = difference.expected.iter().map(|expected| EventSummary {
        digest: expected.digest.to_string(),
        what: expected.what.clone(),
    });
    Difference {
        pcr: difference.pcr,
        event: difference.event.map(|event| event as u64),
        component: slot.map(|slot| slot.component.clone()),
        slot: slot.map(|slot| slot.slot.clone()),
        expected: expected.collect(),
        expected_beside: difference.expected_beside as u64,
        found: difference.found.iter().map(found).collect(),
        text: difference.to_string(),
    }
}

fn found(found: &FoundEvent) -> EventSummary {
    let text = found.text.as_ref().map(|(text, _)| text);
    EventSummary {
        digest: found.digest.to_string(),
        what: text.or(found.what.as_ref()).cloned(),
    }
}
