//! The space of etcd's members: history that nobody reads any more, files with holes, and the alarm of a full one.

use std::time::Duration;

use hgs_etcd::{Alarm, AlarmKind, Client, MemberStatus};
use hgs_store::order::OrderError;
use tokio::time::Instant;

use super::Upkeep;
use crate::order::{is_compacted, not_answered, number_of};

/// How long what was deleted stays in the history: for those who are reading it.
const HISTORY: Duration = Duration::from_mins(10);
/// Entries of etcd's log by which members may differ that have the same.
const CLOSE: u64 = 1000;

/// What became of the space of etcd.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tidied {
    /// History before this revision was let go of.
    pub compacted: Option<u64>,
    /// This member, by its place in the client's list, gave back what it does not use.
    pub defragmented: Vec<usize>,
    /// The leader was handed on, so that the next round can have it defragmented.
    pub handed_on: bool,
    /// etcd took no writes, as it had no room, and takes some again.
    pub has_room_again: bool,
}

/// Whether etcd takes no writes because it has no room.
pub(super) async fn is_full(client: &Client) -> Result<bool, OrderError> {
    Ok(alarms(client, AlarmKind::NoSpace).await?.next().is_some())
}

async fn alarms(
    client: &Client,
    kind: AlarmKind,
) -> Result<impl Iterator<Item = Alarm>, OrderError> {
    let alarms = client.alarms().await;
    let alarms = alarms.map_err(|error| not_answered(&error, false))?;
    Ok(alarms.into_iter().filter(move |alarm| alarm.kind == kind))
}

/// Whether it holds more room than this that it does not use.
fn wastes(status: &MemberStatus, more_than: u64) -> bool {
    let (size, used) = status.octets;
    size.saturating_sub(used) > more_than
}

/// Whether a quarter of what a member may have is used: then history goes at once, and nobody is waited for who does not live.
pub(super) fn is_tight(members: &[Option<MemberStatus>], quota: u64) -> bool {
    let used = members.iter().flatten().map(|status| status.octets.1);
    used.max().unwrap_or(0) > quota / 4
}

impl Upkeep {
    pub(super) async fn tidy(
        &mut self,
        now: Instant,
        is_full: bool,
        quota: u64,
    ) -> Result<Tidied, OrderError> {
        let mut tidied = Tidied::default();
        let mut members = self.members().await;
        let is_tight = is_full || is_tight(&members, quota);
        tidied.compacted = self.compact(now, is_tight, is_full).await?;
        if !is_full {
            self.defragment_one(&members, quota, &mut tidied).await;
            return Ok(tidied);
        }
        // Nothing is written anyway: all that may have much to give back, one after the other.
        for (place, status) in members.iter().enumerate() {
            let is_large = |status: &MemberStatus| {
                wastes(status, quota / 8)
                    || (tidied.compacted.is_some() && status.octets.0 > quota / 2)
            };
            if status.as_ref().is_some_and(is_large) && self.defragment(place).await {
                tidied.defragmented.push(place);
            }
        }
        members = self.members().await;
        let fits = |status: &MemberStatus| status.octets.0 < quota / 4 * 3;
        if members
            .iter()
            .all(|status| status.as_ref().is_some_and(fits))
        {
            for alarm in alarms(&self.client, AlarmKind::NoSpace).await? {
                let disarmed = self.client.disarm(alarm).await;
                disarmed.map_err(|error| not_answered(&error, false))?;
                tidied.has_room_again = true;
            }
        }
        Ok(tidied)
    }

    /// How each member stands, by its place; none where it does not answer.
    pub(super) async fn members(&self) -> Vec<Option<MemberStatus>> {
        let mut members = Vec::new();
        for place in 0..self.client.count() {
            members.push(self.client.status(place).await.ok());
        }
        members
    }

    /// Has one member give back what it does not use, if that is more than half of what it may have: it answers nothing
    /// meanwhile. So only where all others do, followers first.
    async fn defragment_one(
        &self,
        members: &[Option<MemberStatus>],
        quota: u64,
        tidied: &mut Tidied,
    ) {
        let Some(members) = members.iter().cloned().collect::<Option<Vec<_>>>() else {
            return;
        };
        let newest = members.iter().map(|status| status.log.0).max().unwrap_or(0);
        let is_well = |status: &MemberStatus| {
            let is_close = status.log.1 + CLOSE >= newest;
            status.leader.is_some() && status.errors.is_empty() && !status.learner && is_close
        };
        if !members.iter().all(is_well) {
            return;
        }
        let is_leader = |status: &MemberStatus| status.leader == Some(status.id);
        let wasting = |status: &&MemberStatus| wastes(status, quota / 2);
        let wasting: Vec<&MemberStatus> = members.iter().filter(wasting).collect();
        let Some(next) = wasting
            .iter()
            .find(|status| !is_leader(status))
            .or_else(|| wasting.first())
        else {
            return;
        };
        let Some(place) = members.iter().position(|status| status.id == next.id) else {
            return;
        };
        let follower = members.iter().find(|status| !is_leader(status));
        match follower {
            Some(follower) if is_leader(next) => {
                match self.client.move_leader(place, follower.id).await {
                    Ok(()) => tidied.handed_on = true,
                    Err(error) => tracing::warn!(%error, "the leader of etcd was not handed on"),
                }
            }
            _ => {
                if self.defragment(place).await {
                    tidied.defragmented.push(place);
                }
            }
        }
    }

    async fn defragment(&self, place: usize) -> bool {
        match self.client.defragment(place).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "a member of etcd was not defragmented");
                false
            }
        }
    }

    /// Lets go of history: of what was deleted long enough ago, or of all of it where room is scarce.
    async fn compact(
        &mut self,
        now: Instant,
        is_tight: bool,
        is_full: bool,
    ) -> Result<Option<u64>, OrderError> {
        let is_old =
            |deleted: Instant| is_tight || now.saturating_duration_since(deleted) >= HISTORY;
        let Some(place) = self.deleted.iter().rposition(|(when, _)| is_old(*when)) else {
            return Ok(None);
        };
        let (_, before) = self.deleted[place];
        let compacted = match is_full {
            true => self.client.compact_at_once(before).await,
            false => self.client.compact(before).await,
        };
        match compacted {
            Ok(()) => {}
            // Another node has done it.
            Err(error) if is_compacted(&error) => {}
            Err(error) => return Err(not_answered(&error, false)),
        }
        self.deleted.drain(..=place);
        Ok(Some(number_of(before)))
    }
}
