//! What a change would do to hosts, by the last evidence of each.

use std::collections::{BTreeMap, BTreeSet};

use hgs_admin::types::Judgement;

/// What a change would do to hosts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Effect {
    /// Hosts that the change concerns and whose last boot is known.
    pub(crate) hosts: usize,
    /// Hosts that it concerns, of which it is not known what they booted.
    pub(crate) unknown: usize,
    /// How many would be refused after it.
    pub(crate) refused: usize,
    /// Those that would be refused, and are healthy as it is.
    pub(crate) newly_refused: Vec<String>,
    /// Those that would be healthy, and are refused as it is.
    pub(crate) newly_healthy: Vec<String>,
}

impl Effect {
    /// Compares how hosts are judged before and after; only those with these names count.
    pub(crate) fn of(before: &[Judgement], after: &[Judgement], names: &BTreeSet<&str>) -> Self {
        let before: BTreeMap<_, _> = before.iter().filter_map(named).collect();
        let mut effect = Self::default();
        let concerned = after.iter().filter_map(named);
        for (host, after) in concerned.filter(|(host, _)| names.contains(host)) {
            let before = before.get(host);
            let was_judged = before.is_some_and(|before| before.problem.is_none());
            // What was judged and can't be any more is refused: its group has no baseline left.
            if after.problem.is_some() && !was_judged {
                effect.unknown += 1;
                continue;
            }
            effect.hosts += 1;
            effect.refused += usize::from(!after.healthy);
            let was_healthy = before.is_some_and(|before| before.healthy);
            match (was_healthy, after.healthy) {
                (true, false) => effect.newly_refused.push(host.to_owned()),
                (false, true) => effect.newly_healthy.push(host.to_owned()),
                _ => {}
            }
        }
        effect
    }
}

fn named(judged: &Judgement) -> Option<(&str, &Judgement)> {
    Some((judged.host.as_deref()?, judged))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(host: &str, healthy: bool, problem: Option<&str>) -> Judgement {
        let judged = serde_json::json!({
            "host": host, "healthy": healthy, "problem": problem, "policies": [], "differences": [],
        });
        serde_json::from_value(judged).unwrap()
    }

    #[test]
    fn only_hosts_that_it_concerns_count_and_only_what_changes_is_named() {
        let before = [
            judged("a", true, None),
            judged("b", true, None),
            judged("c", false, None),
            judged("d", false, None),
            judged("elsewhere", true, None),
            judged("new", false, Some("it has not attested")),
            judged("left without", true, None),
        ];
        let after = [
            judged("a", true, None),
            judged("b", false, None),
            judged("c", true, None),
            judged("d", false, None),
            judged("elsewhere", false, None),
            judged("new", false, Some("it has not attested")),
            judged("left without", false, Some("no baseline is enabled")),
        ];
        let names = BTreeSet::from(["a", "b", "c", "d", "new", "left without"]);
        let expected = Effect {
            hosts: 5,
            unknown: 1,
            refused: 3,
            newly_refused: vec!["b".to_owned(), "left without".to_owned()],
            newly_healthy: vec!["c".to_owned()],
        };
        assert_eq!(Effect::of(&before, &after, &names), expected);
    }
}
