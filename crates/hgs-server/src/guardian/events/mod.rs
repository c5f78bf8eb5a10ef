//! What is told to callers that look on: events.
//!
//! ```text
//!  store --number of the newest record--> streams --read onward--> EventLog (shared pages) --> events of the kinds that a caller sees
//!  Standings (readiness, certificates' ends) --what differs from what was told--> streams
//! ```
//!
//! A stream keeps the number of the record up to which it has told everything, and nothing else: what its peer does not
//! take yet stays in the log. So a slow reader costs no memory, and any node can go on where another has stopped: the
//! numbers of records are the same on all.

mod log;
mod places;
mod recorded;
mod standing;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hgs_admin::types::{EventKind, EventKinds, EventQuery};
use hgs_admin::{AdminError, Caller, EventStream, HEARTBEAT, LastEventId};
use hgs_clock::Clock;
use tokio::sync::watch;

use super::inspection::Inspection;
use super::open_store::OpenStore;
use crate::health::Readiness;
use crate::metrics::{EVENT_STREAMS, Metrics};
use log::EventLog;
use places::Places;
use standing::Standings;
use stream::Telling;

/// Tells events.
pub(crate) struct Events {
    clock: Arc<dyn Clock>,
    store: Arc<OpenStore>,
    /// The number of the newest audit record.
    newest: watch::Receiver<u64>,
    log: EventLog,
    standings: Standings,
    places: Arc<Places>,
    heartbeat: Duration,
}

/// Asks who a caller is and what it may do now.
pub(crate) type LookAgain = Arc<dyn Fn() -> Result<Caller, AdminError> + Send + Sync>;

/// Who follows events, and as long as what.
pub(crate) struct Follower {
    pub(crate) caller: Caller,
    /// Who the caller is and what it may do now. It may block.
    pub(crate) look_again: LookAgain,
    /// Resolves when the caller's access ends at once.
    pub(crate) ended: BoxFuture<'static, ()>,
}

impl Events {
    pub(crate) fn new(
        store: &Arc<OpenStore>,
        inspection: &Arc<Inspection>,
        readiness: Readiness,
        node: String,
    ) -> Self {
        let newest = watch::Sender::new(store.newest_record());
        let follower = newest.subscribe();
        store.follow_records(move |sequence| {
            newest.send_replace(sequence);
        });
        let idle_time = inspection.config.limits.idle_time;
        Self {
            clock: Arc::clone(&inspection.clock),
            store: Arc::clone(store),
            newest: follower,
            log: EventLog::new(Arc::clone(store)),
            standings: Standings::new(Arc::clone(inspection), readiness, node),
            places: Arc::default(),
            // A stream that is silent for the idle time is ended.
            heartbeat: HEARTBEAT.min(idle_time / 3),
        }
    }

    /// Has `metrics` show how many streams there are.
    pub(crate) fn show_in(self: &Arc<Self>, metrics: &Metrics) {
        metrics.collect_from(self, |events, now| {
            now.gauge(&EVENT_STREAMS, [])
                .set(events.places.taken() as f64);
        });
    }

    /// The stream that `query` asks for, of a client that was told of `last` before.
    ///
    /// # Errors
    /// Where the caller is not permitted a kind that it asks for, and where there are too many streams.
    pub(crate) fn follow(
        self: &Arc<Self>,
        follower: Follower,
        query: &EventQuery,
        last: LastEventId,
    ) -> Result<EventStream, AdminError> {
        let Follower {
            caller,
            look_again,
            ended,
        } = follower;
        let kinds = visible(&caller, query.kind.as_ref())?;
        let place = self.places.take(&caller.identity.to_string())?;
        let telling = Telling::new(Arc::clone(self), caller, look_again, kinds, query, last);
        Ok(telling.stream(place, ended))
    }
}

/// The kinds that `caller` is told of.
fn visible(caller: &Caller, wanted: Option<&EventKinds>) -> Result<EventKinds, AdminError> {
    match wanted {
        Some(wanted) => {
            wanted
                .iter()
                .try_for_each(|kind| caller.require(kind.permission()))?;
            Ok(wanted.clone())
        }
        None => {
            let all = EventKind::ALL.iter().copied();
            Ok(all
                .filter(|kind| caller.permissions.contains(kind.permission()))
                .collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use hgs_admin::{ErrorCode, Identity, Permission};

    use super::*;

    fn caller(permissions: &[Permission]) -> Caller {
        Caller {
            identity: Identity::Process { uid: 7, user: None },
            permissions: permissions.iter().copied().collect(),
        }
    }

    #[test]
    fn a_caller_sees_the_kinds_that_its_permissions_allow() {
        let caller = caller(&[Permission::ViewService, Permission::ViewHosts]);
        let seen = visible(&caller, None).unwrap();
        for kind in EventKind::ALL {
            let is_permitted =
                [Permission::ViewService, Permission::ViewHosts].contains(&kind.permission());
            assert_eq!(seen.contains(*kind), is_permitted, "{kind}");
        }
        let wanted = "host,refused-release".parse().unwrap();
        let refused = visible(&caller, Some(&wanted)).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Forbidden);
        assert!(refused.message.contains("view-audit"), "{refused}");
        let wanted = "host".parse().unwrap();
        assert_eq!(visible(&caller, Some(&wanted)).unwrap(), wanted);
    }
}
