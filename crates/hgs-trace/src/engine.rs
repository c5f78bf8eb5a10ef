//! From facts to findings: each check in order, without those that would only repeat an earlier failure.

use crate::report::{Finding, Outcome, RootCause};
use crate::{Check, Judgement, Selection, Verdict};

/// Judges `facts` by the checks that are wanted, in the order of their table.
///
/// A check is skipped for a target when one that it comes after has failed for that same target. Where the earlier check
/// is about other things, a failure of any of them skips all that does not pass. The finding names the root,
/// not what lies between.
pub fn diagnose<F>(checks: &[Check<F>], facts: &F, wanted: &Selection) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for check in checks.iter().filter(|check| wanted.includes(check.id)) {
        let judged = (check.judge)(facts);
        let more: Vec<Finding> = if judged.is_empty() {
            // It could not be examined: said where that has a cause. Otherwise there is nothing of that kind.
            let root = check.after.iter().find_map(|id| any_root(id, &findings));
            root.map(|root| skipped(check, root.target.clone(), root))
                .into_iter()
                .collect()
        } else {
            let finding = |judgement: Judgement| finding(check, judgement, &findings);
            judged.into_iter().map(finding).collect()
        };
        findings.extend(more);
    }
    findings
}

fn finding<F>(check: &Check<F>, judgement: Judgement, earlier: &[Finding]) -> Finding {
    if let Some(root) = root_cause(check, &judgement, earlier) {
        return skipped(check, judgement.target, root);
    }
    let outcome = match judgement.verdict {
        Verdict::Pass => Outcome::Pass,
        Verdict::Warning => Outcome::Warning,
        Verdict::Fail => Outcome::Fail,
    };
    let remedy = judgement.remedy.unwrap_or_else(|| check.remedy.to_owned());
    Finding {
        remedy: (outcome != Outcome::Pass).then_some(remedy),
        evidence: Some(judgement.evidence),
        outcome,
        ..unjudged(check, judgement.target)
    }
}

fn skipped<F>(check: &Check<F>, target: String, because: RootCause) -> Finding {
    Finding {
        outcome: Outcome::Skipped,
        because: Some(because),
        ..unjudged(check, target)
    }
}

fn unjudged<F>(check: &Check<F>, target: String) -> Finding {
    Finding {
        id: check.id.to_owned(),
        group: check.group,
        title: check.title.to_owned(),
        target,
        outcome: Outcome::Pass,
        evidence: None,
        remedy: None,
        because: None,
    }
}

/// The first failure that makes this judgement meaningless.
fn root_cause<F>(
    check: &Check<F>,
    judgement: &Judgement,
    earlier: &[Finding],
) -> Option<RootCause> {
    check.after.iter().find_map(|id| {
        let mut same_target = earlier
            .iter()
            .filter(|finding| finding.id == *id && finding.target == judgement.target)
            .peekable();
        if same_target.peek().is_some() {
            same_target.find_map(Finding::root)
        } else if judgement.verdict == Verdict::Pass {
            None
        } else {
            any_root(id, earlier)
        }
    })
}

/// The first failure of a check, of any target.
fn any_root(id: &str, earlier: &[Finding]) -> Option<RootCause> {
    let of_check = earlier.iter().filter(|finding| finding.id == id);
    of_check.into_iter().find_map(Finding::root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Group;

    type Facts = Vec<(&'static str, &'static str, Verdict)>;

    macro_rules! check {
        ($id:literal, $after:expr) => {
            Check {
                id: $id,
                group: Group::Keys,
                title: "",
                fails_when: "",
                remedy: "general",
                after: $after,
                judge: |facts: &Facts| {
                    let mine = facts.iter().filter(|(id, ..)| *id == $id);
                    mine.map(|(_, target, verdict)| Judgement::new(*verdict, target, "seen"))
                        .collect()
                },
            }
        };
    }

    const CHECKS: &[Check<Facts>] = &[
        check!("A", &[]),
        check!("B", &["A"]),
        check!("C", &["B"]),
        check!("D", &["C", "A"]),
    ];

    fn outcomes(facts: Facts) -> Vec<String> {
        let findings = diagnose(CHECKS, &facts, &Selection::All);
        findings
            .iter()
            .map(|finding| {
                let because = finding.because.as_ref();
                let because = because.map_or_else(String::new, |root| {
                    format!(" because of {} {}", root.id, root.target)
                });
                format!(
                    "{} {} {}{because}",
                    finding.id, finding.target, finding.outcome
                )
            })
            .collect()
    }

    #[test]
    fn the_root_cause_fails_and_what_depends_on_it_is_skipped_and_names_it() {
        let facts = vec![
            ("A", "a", Verdict::Fail),
            ("B", "b", Verdict::Fail),
            ("D", "d", Verdict::Warning),
        ];
        let expected = [
            "A a fail",
            "B b skipped because of A a",
            "C a skipped because of A a",
            "D d skipped because of A a",
        ];
        assert_eq!(outcomes(facts), expected);
    }

    #[test]
    fn a_failure_of_one_target_leaves_the_others_alone() {
        let facts = vec![
            ("A", "one", Verdict::Fail),
            ("A", "two", Verdict::Warning),
            ("B", "one", Verdict::Pass),
            ("B", "two", Verdict::Fail),
            ("C", "one", Verdict::Pass),
        ];
        let expected = [
            "A one fail",
            "A two warning",
            "B one skipped because of A one",
            "B two fail",
            "C one skipped because of A one",
            "D one skipped because of A one",
        ];
        assert_eq!(outcomes(facts), expected);
    }

    #[test]
    fn what_works_all_the_same_is_said_to() {
        let facts = vec![
            ("A", "a", Verdict::Fail),
            ("C", "c", Verdict::Pass),
            ("D", "a", Verdict::Pass),
        ];
        let expected = [
            "A a fail",
            "B a skipped because of A a",
            "C c pass",
            "D a skipped because of A a",
        ];
        assert_eq!(outcomes(facts), expected);
    }

    #[test]
    fn what_is_not_there_is_not_reported() {
        assert_eq!(outcomes(vec![("C", "c", Verdict::Pass)]), ["C c pass"]);
    }

    #[test]
    fn a_selection_brings_what_it_depends_on() {
        let wanted = Selection::of(CHECKS, &["c".to_owned()]).unwrap();
        let facts = vec![("A", "a", Verdict::Fail), ("D", "d", Verdict::Fail)];
        let findings = diagnose(CHECKS, &facts, &wanted);
        let ids: Vec<_> = findings.iter().map(|finding| &*finding.id).collect();
        assert_eq!(ids, ["A", "B", "C"]);
        let unknown = Selection::of(CHECKS, &["X".to_owned()]).unwrap_err();
        assert_eq!(unknown.to_string(), "there is no check X");
    }

    #[test]
    fn only_what_does_not_pass_has_a_remedy() {
        let facts = vec![("A", "a", Verdict::Pass), ("B", "b", Verdict::Fail)];
        let findings = diagnose(CHECKS, &facts, &Selection::All);
        assert_eq!(findings[0].remedy, None);
        assert_eq!(findings[1].remedy.as_deref(), Some("general"));
    }
}
