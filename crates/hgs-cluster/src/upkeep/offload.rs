//! Entries leave etcd when enough nodes hold them on their own disks.

use hgs_etcd::{Compare, Keys, Operation, Range, Repeat, Revision, Txn};
use hgs_store::order::OrderError;

use super::{Report, Reported, Upkeep};
use crate::node::NodeName;
use crate::order::{Floor, Keyspace, halted_by, not_answered, unreadable};
use crate::process::MAX_TXN_OPERATIONS;

/// Entries that one request deletes, so that none takes long.
const ENTRIES: usize = 500;
/// Dependency keys that one request deletes, of members that nodes start, and of an etcd that runs already: that takes 128 operations
/// unless it was told otherwise.
const DEPENDENCIES: usize = MAX_TXN_OPERATIONS / 2;
const DEPENDENCIES_IN_EXISTING: usize = 100;
/// How often dependency keys are looked for that were written again meanwhile.
const LOOKS: usize = 3;

/// What has left etcd.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offloaded {
    /// Entries up to this revision may be gone.
    pub floor: u64,
    /// How many entries were found and deleted.
    pub entries: usize,
    /// How many dependency keys were found and deleted.
    pub dependencies: usize,
}

/// The report that says up to where entries may go: the newest that most of the members have reached, and at least two of
/// them where there are two, and every one that is waited for.
pub(super) fn floor<'r>(
    members: &[NodeName],
    reports: &'r [Reported],
    is_waited_for: impl Fn(&NodeName) -> bool,
) -> Option<&'r Report> {
    let enough = (members.len() / 2 + 1).max(members.len().min(2));
    let of_members = || {
        let reports = reports.iter();
        reports.filter(|reported| members.contains(&reported.node))
    };
    let is_reached = |floor: &Report| {
        let has = |reported: &&Reported| reported.report.revision >= floor.revision;
        of_members().filter(has).count() >= enough
            && of_members()
                .filter(|reported| is_waited_for(&reported.node))
                .all(|reported| has(&reported))
    };
    of_members()
        .map(|reported| &reported.report)
        .filter(|report| is_reached(report))
        .max_by_key(|report| report.revision)
}

impl Upkeep {
    /// Raises the floor and deletes what is below it: what was done, and the revision behind it. Without room in etcd the floor can't be raised: then only entries leave,
    /// which a node that lacks them notices by itself.
    pub(super) async fn offload(
        &self,
        members: &[NodeName],
        reports: &[Reported],
        reached: Option<&Report>,
        is_full: bool,
    ) -> Result<(Offloaded, Revision), OrderError> {
        let (floor, before) = self.current_floor().await?;
        let mut offloaded = Offloaded {
            floor,
            ..Offloaded::default()
        };
        self.forget_reports(members, reports).await?;
        let Some(reached) = reached else {
            return Ok((offloaded, before));
        };
        if !is_full && reached.revision > floor {
            if !self.raise(floor, reached.revision).await? {
                // Another node was first.
                return Ok((offloaded, before));
            }
            offloaded.floor = reached.revision;
        }
        for (node, number) in &reached.entries {
            offloaded.entries += self.delete_entries(node, *number).await?;
        }
        if !is_full {
            let until = reached.revision.min(offloaded.floor);
            offloaded.dependencies = self.delete_dependencies(until).await?;
        }
        let (_, behind) = self.current_floor().await?;
        Ok((offloaded, behind))
    }

    /// The floor, and the revision at which it was read.
    async fn current_floor(&self) -> Result<(u64, Revision), OrderError> {
        let found = self.range(Range::of(Keys::One(self.keys.floor()))).await?;
        let record = found.records.first();
        match record.and_then(|record| Floor::read(&record.value)) {
            Some(Floor::At(floor)) => Ok((floor, found.revision)),
            // Nothing is deleted any more: what there is may show what is gone.
            Some(Floor::Halted(node)) => Err(halted_by(&node)),
            None => Err(unreadable("no floor")),
        }
    }

    async fn raise(&self, from: u64, to: u64) -> Result<bool, OrderError> {
        let key = self.keys.floor();
        let txn = Txn {
            compare: vec![Compare::Value(key.clone(), Floor::At(from).value())],
            then: vec![Operation::Put(key.clone(), Floor::At(to).value())],
            otherwise: vec![Operation::Get(key)],
        };
        self.commit(&txn).await
    }

    /// Deletes what removed nodes have reported.
    async fn forget_reports(
        &self,
        members: &[NodeName],
        reports: &[Reported],
    ) -> Result<(), OrderError> {
        for Reported { node, at, .. } in reports {
            if members.contains(node) {
                continue;
            }
            let key = self.keys.report(node.as_str());
            self.commit(&Txn {
                compare: vec![Compare::Revision(key.clone(), *at)],
                then: vec![Operation::Delete(Keys::One(key))],
                ..Txn::default()
            })
            .await?;
        }
        Ok(())
    }

    async fn delete_entries(&self, node: &NodeName, until: u64) -> Result<usize, OrderError> {
        let node = node.as_str();
        let mut deleted = 0;
        loop {
            let mut range = Range::of(self.keys.entries_to(node, until));
            range.limit = ENTRIES;
            range.names_only = true;
            let found = self.range(range).await?;
            let last = found.records.last();
            let Some(last) = last.and_then(|record| Keyspace::number_in(&record.key)) else {
                return Ok(deleted);
            };
            let txn = Txn {
                then: vec![
                    Operation::Delete(self.keys.entries_to(node, last)),
                    Operation::Delete(self.keys.parts_to(node, last)),
                ],
                ..Txn::default()
            };
            self.commit(&txn).await?;
            deleted += found.records.len();
        }
    }

    /// Deletes dependency keys that were written last at the floor or before: who has not seen that far can't commit any more.
    /// After a storm there are millions. etcd 3.4 walks over all that a request names, whatever its limit is: so each names
    /// a part of them.
    async fn delete_dependencies(&self, floor: u64) -> Result<usize, OrderError> {
        let until = Revision(i64::try_from(floor).unwrap_or(i64::MAX - 1));
        let mut deleted = 0;
        for keys in self.keys.dependencies_in_parts() {
            deleted += self.delete_part(keys, until).await?;
        }
        Ok(deleted)
    }

    async fn delete_part(&self, keys: Keys, until: Revision) -> Result<usize, OrderError> {
        let mut deleted = 0;
        let at_once = match self.quota {
            Some(_) => DEPENDENCIES,
            None => DEPENDENCIES_IN_EXISTING,
        };
        for _ in 0..LOOKS {
            let mut range = Range::of(keys.clone());
            range.until = Some(until);
            range.names_only = true;
            let found = self.range(range).await?;
            let mut was_written = false;
            for records in found.records.chunks(at_once) {
                let keys = || records.iter().map(|record| Keys::One(record.key.clone()));
                let after = Revision(until.0 + 1);
                let txn = Txn {
                    compare: keys().map(|key| Compare::Before(key, after)).collect(),
                    then: keys().map(Operation::Delete).collect(),
                    ..Txn::default()
                };
                match self.commit(&txn).await? {
                    true => deleted += records.len(),
                    false => was_written = true,
                }
            }
            if !was_written {
                break;
            }
        }
        Ok(deleted)
    }

    async fn range(&self, range: Range) -> Result<hgs_etcd::Found, OrderError> {
        let found = self.client.range(&range).await;
        found.map_err(|error| not_answered(&error, false))
    }

    /// Whether what is compared holds.
    async fn commit(&self, txn: &Txn) -> Result<bool, OrderError> {
        let committed = self.client.commit(txn, Repeat::Safe).await;
        let committed = committed.map_err(|error| not_answered(&error, false))?;
        Ok(committed.succeeded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floor_of(members: &[&str], reports: &[(&str, u64)], waited_for: &[&str]) -> Option<u64> {
        let members: Vec<NodeName> = members.iter().map(|name| name.parse().unwrap()).collect();
        let reports: Vec<Reported> = reports
            .iter()
            .map(|(node, revision)| Reported {
                node: node.parse().unwrap(),
                at: Revision(1),
                report: Report {
                    revision: *revision,
                    ..Report::default()
                },
            })
            .collect();
        let is_waited_for = |node: &NodeName| waited_for.contains(&node.as_str());
        floor(&members, &reports, is_waited_for).map(|report| report.revision)
    }

    #[test]
    fn entries_leave_when_most_members_hold_them_and_all_who_are_waited_for() {
        let three = &["a", "b", "c"];
        let reports = &[("a", 9), ("b", 7), ("c", 3)];
        assert_eq!(floor_of(three, reports, three), Some(3));
        // One has been away for long: the two others are most of three.
        assert_eq!(floor_of(three, reports, &["a", "b"]), Some(7));
        assert_eq!(floor_of(three, reports, &[]), Some(7));
        // It has reported nothing, or is removed.
        assert_eq!(floor_of(three, &reports[..2], three), Some(7));
        assert_eq!(floor_of(&["a", "b"], reports, three), Some(7));
        assert_eq!(floor_of(three, &reports[..1], three), None);
        assert_eq!(floor_of(three, &[], three), None);
        // Two are most of two, however long one is away.
        assert_eq!(
            floor_of(&["a", "b"], &[("a", 9), ("b", 2)], &["a"]),
            Some(2)
        );
        assert_eq!(floor_of(&["a"], &[("a", 9)], &["a"]), Some(9));
        // Three of four, three of five.
        let four = &["a", "b", "c", "d"];
        let reports = &[("a", 9), ("b", 8), ("c", 7), ("d", 6)];
        assert_eq!(floor_of(four, reports, &[]), Some(7));
        assert_eq!(floor_of(&["a", "b", "c", "d", "e"], reports, &[]), Some(7));
    }
}
