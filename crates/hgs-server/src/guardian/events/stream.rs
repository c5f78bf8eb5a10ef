//! One stream: what it has told, and what it waits for.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::poll_fn;
use hgs_admin::types::{CaughtUp, Event, EventKind, EventKinds, EventQuery, Gap, GapReason};
use hgs_admin::{Caller, EventMessage, EventStream, LastEventId};
use hgs_pki::Time;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};
use tracing::error;

use super::log::Onward;
use super::places::Place;
use super::standing::{LOOK, Standing};
use super::{Events, LookAgain};

/// For how long further records gather before they are read: under load one look serves many.
const GATHERING: Duration = Duration::from_millis(100);

/// The state of one stream.
pub(super) struct Telling {
    events: Arc<Events>,
    caller: Caller,
    look_again: LookAgain,
    kinds: EventKinds,
    since: Option<u64>,
    recent: u64,
    follow: bool,
    /// All records up to this one were told.
    position: u64,
    standing: Option<Arc<Standing>>,
}

/// Why a stream ends.
enum End {
    /// Nobody takes it any more.
    Gone,
    /// All that was asked for was told.
    Complete,
    /// The caller may see it no longer.
    NotPermitted,
    /// The log can't be read; that is in the server's log.
    Failed,
}

type Told = Result<(), End>;

/// What a stream has waited for.
enum Woken {
    Records,
    Look,
    Heartbeat,
}

impl Telling {
    pub(super) fn new(
        events: Arc<Events>,
        caller: Caller,
        look_again: LookAgain,
        kinds: EventKinds,
        query: &EventQuery,
        LastEventId(last): LastEventId,
    ) -> Self {
        Self {
            events,
            caller,
            look_again,
            kinds,
            since: last.or(query.since),
            recent: query.recent.unwrap_or(0),
            follow: query.follow.unwrap_or(true),
            position: 0,
            standing: None,
        }
    }

    /// The stream. It does nothing but when its next message is asked for, and everything of it ends when it is dropped, or
    /// with `ended`.
    pub(super) fn stream(mut self, place: Place, ended: BoxFuture<'static, ()>) -> EventStream {
        let (messages, mut told) = mpsc::channel(1);
        let mut ended = Some(ended);
        let mut telling: Option<Pin<Box<dyn Future<Output = ()> + Send>>> =
            Some(Box::pin(async move {
                let _place = place;
                // How it ended is nothing that a peer has to be told: it comes back, or is refused then.
                let _ = self.tell(&messages).await;
            }));
        EventStream::new(poll_fn(move |context| {
            let is_over = ended
                .as_mut()
                .is_some_and(|ended| ended.as_mut().poll(context).is_ready());
            if is_over {
                (ended, telling) = (None, None);
                told.close();
                return Poll::Ready(None);
            }
            if telling
                .as_mut()
                .is_some_and(|telling| telling.as_mut().poll(context).is_ready())
            {
                telling = None;
            }
            told.poll_recv(context).map(|message| message.map(Ok))
        }))
    }

    async fn tell(&mut self, messages: &mpsc::Sender<EventMessage>) -> Told {
        let mut newest = self.events.newest.clone();
        let mut heartbeat = interval(self.events.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeat.reset();
        send(messages, EventMessage::Begin).await?;
        self.tell_standing(messages, false).await?;
        self.begin(messages).await?;
        self.tell_records(messages).await?;
        let sequence = self.position;
        let caught_up = Event::CaughtUp(CaughtUp { sequence });
        send(messages, EventMessage::Event(Some(sequence), caught_up)).await?;
        if !self.follow {
            return Err(End::Complete);
        }
        loop {
            match self.wait(&mut newest, &mut heartbeat).await? {
                Woken::Records => {
                    if self.tell_records(messages).await? {
                        self.tell_standing(messages, true).await?;
                    }
                }
                Woken::Look => self.tell_standing(messages, false).await?,
                Woken::Heartbeat => {
                    self.check_right().await?;
                    send(messages, EventMessage::Heartbeat(self.position)).await?;
                }
            }
        }
    }

    async fn wait(
        &self,
        newest: &mut watch::Receiver<u64>,
        heartbeat: &mut Interval,
    ) -> Result<Woken, End> {
        let next_look = self.events.clock.now().checked_add(LOOK);
        let position = self.position;
        let written = async { newest.wait_for(|newest| *newest > position).await.map(drop) };
        tokio::select! {
            written = written => {
                // The store is closed when it tells nobody any more.
                written.map_err(|_| End::Gone)?;
                sleep(GATHERING).await;
                Ok(Woken::Records)
            }
            () = self.events.clock.wait_until(next_look.unwrap_or(Time::MAX)) => Ok(Woken::Look),
            _ = heartbeat.tick() => Ok(Woken::Heartbeat),
        }
    }

    /// Finds where to begin, and says so if that is not where it was to begin.
    async fn begin(&mut self, messages: &mpsc::Sender<EventMessage>) -> Told {
        let newest = self.events.store.newest_record();
        let Some(since) = self.since else {
            self.position = newest.saturating_sub(self.recent);
            return Ok(());
        };
        self.position = since;
        if since <= newest {
            return Ok(());
        }
        // Another node may have told of records that this one has not taken in yet.
        let caught_up = self.events.store.catch_up().await;
        caught_up.map_err(|failure| failed(&failure))?;
        let newest = self.events.store.newest_record();
        match since <= newest {
            true => Ok(()),
            false => self.tell_gap(messages, newest, GapReason::Unknown).await,
        }
    }

    /// Tells everything up to the newest record; whether there was anything that an administrator has changed.
    async fn tell_records(&mut self, messages: &mpsc::Sender<EventMessage>) -> Result<bool, End> {
        let mut is_changed = false;
        while self.position < self.events.store.newest_record() {
            let onward = self.events.log.after(self.position).await;
            match onward.map_err(|failure| failed(&failure))? {
                Onward::Archived { first } => {
                    // What was asked for by a number only is told as far as it is there.
                    match self.since {
                        Some(_) => {
                            self.tell_gap(messages, first - 1, GapReason::Archived)
                                .await?;
                        }
                        None => self.position = first - 1,
                    }
                }
                Onward::Events { to, .. } if to == self.position => break,
                Onward::Events { events, to } => {
                    for recorded in events {
                        is_changed |= recorded.changes_standing();
                        if self.kinds.contains(recorded.kind) {
                            let event = recorded.event.clone();
                            let message = EventMessage::Event(Some(recorded.sequence), event);
                            send(messages, message).await?;
                        }
                    }
                    self.position = to;
                }
            }
        }
        Ok(is_changed)
    }

    async fn tell_gap(
        &mut self,
        messages: &mpsc::Sender<EventMessage>,
        sequence: u64,
        reason: GapReason,
    ) -> Told {
        let gap = Gap {
            after: self.position,
            sequence,
            reason,
        };
        self.position = sequence;
        send(
            messages,
            EventMessage::Event(Some(sequence), Event::Gap(gap)),
        )
        .await
    }

    async fn tell_standing(
        &mut self,
        messages: &mpsc::Sender<EventMessage>,
        after_change: bool,
    ) -> Told {
        let of_standing = [EventKind::Readiness, EventKind::Expiry];
        if !of_standing.iter().any(|kind| self.kinds.contains(*kind)) {
            return Ok(());
        }
        let now = self.events.standings.now(after_change).await;
        for event in now.events_since(self.standing.as_deref()) {
            let kind = match &event {
                Event::Readiness(_) => EventKind::Readiness,
                _ => EventKind::Expiry,
            };
            if self.kinds.contains(kind) {
                send(messages, EventMessage::Event(None, event)).await?;
            }
        }
        self.standing = Some(now);
        Ok(())
    }

    /// Whether the caller may still see all that this stream tells: it may have left a group meanwhile.
    async fn check_right(&self) -> Told {
        let look_again = Arc::clone(&self.look_again);
        let caller = spawn_blocking(move || look_again()).await;
        let is_permitted = caller.is_ok_and(|caller| {
            caller.is_ok_and(|caller| {
                let mut kinds = self.kinds.iter();
                caller.identity == self.caller.identity
                    && kinds.all(|kind| caller.permissions.contains(kind.permission()))
            })
        });
        is_permitted.then_some(()).ok_or(End::NotPermitted)
    }
}

async fn send(messages: &mpsc::Sender<EventMessage>, message: EventMessage) -> Told {
    messages.send(message).await.map_err(|_| End::Gone)
}

fn failed(failure: &hgs_store::StoreError) -> End {
    error!(%failure, "a stream of events ends: the log can't be read");
    End::Failed
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use hgs_admin::{AdminError, ErrorCode, Identity, Role};
    use tokio::sync::oneshot;

    use super::*;
    use crate::guardian::Follower;
    use crate::running::tests::opened;

    fn caller(role: Role) -> Caller {
        Caller {
            identity: Identity::Process { uid: 7, user: None },
            permissions: role.permissions(),
        }
    }

    async fn rest(mut stream: EventStream) -> Vec<EventMessage> {
        let mut messages = Vec::new();
        while let Some(message) = stream.next().await {
            messages.push(message.unwrap());
            assert!(messages.len() < 8, "it does not end: {messages:?}");
        }
        messages
    }

    /// A stream that has told everything; `look_again` says what becomes of the caller.
    async fn caught_up(
        events: &Arc<Events>,
        look_again: fn() -> Result<Caller, AdminError>,
        ended: BoxFuture<'static, ()>,
    ) -> EventStream {
        let follower = Follower {
            caller: caller(Role::Reviewer),
            look_again: Arc::new(look_again),
            ended,
        };
        let query = EventQuery::default();
        let mut stream = events
            .follow(follower, &query, LastEventId::default())
            .unwrap();
        loop {
            let message = stream.next().await.unwrap().unwrap();
            if matches!(message, EventMessage::Event(_, Event::CaughtUp(_))) {
                return stream;
            }
        }
    }

    #[test]
    fn a_stream_ends_with_the_right_of_its_caller() {
        let (_folder, parts) = opened();
        let events = parts.admin().events;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            // At once, where the caller's entry is removed.
            let (end, ended) = oneshot::channel::<()>();
            let ended = Box::pin(async { drop(ended.await) });
            let stream = caught_up(&events, || Ok(caller(Role::Reviewer)), ended).await;
            end.send(()).unwrap();
            assert_eq!(rest(stream).await, []);
            // With the next heartbeat, where it has left its group.
            let looks: [fn() -> Result<Caller, AdminError>; 2] = [
                || Ok(caller(Role::HostManager)),
                || Err(AdminError::new(ErrorCode::Unavailable, "no database")),
            ];
            for look_again in looks {
                let pending = Box::pin(std::future::pending());
                let stream = caught_up(&events, look_again, pending).await;
                assert_eq!(rest(stream).await, []);
            }
            // As long as it may, it hears heartbeats.
            let pending = Box::pin(std::future::pending());
            let look_again = || Ok(caller(Role::Reviewer));
            let mut stream = caught_up(&events, look_again, pending).await;
            let newest = events.store.newest_record();
            for _ in 0..3 {
                let heartbeat = stream.next().await.unwrap().unwrap();
                assert_eq!(heartbeat, EventMessage::Heartbeat(newest));
            }
        });
    }
}
