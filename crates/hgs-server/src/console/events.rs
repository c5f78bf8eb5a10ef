//! The stream that tells the script that something has changed. What it was is on the page that the script asks for then.

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use hgs_admin::types::{CaughtUp, Event};
use hgs_admin::{EventMessage, EventStream};

/// Server-sent events without what happened. What stood already when the stream began is left out; where more has been recorded
/// by then than `since`, which the page shows, that is told as one change.
pub(super) fn changes(
    events: EventStream,
    since: Option<u64>,
) -> impl Stream<Item = Bytes> + Send + 'static {
    let mut has_begun = false;
    events.filter_map(move |message| {
        let octets = match message {
            Ok(EventMessage::Begin) => Some(EventMessage::Begin.to_octets()),
            Ok(EventMessage::Heartbeat(_)) => Some(Bytes::from_static(b":\n\n")),
            Ok(EventMessage::Event(_, Event::CaughtUp(CaughtUp { sequence }))) => {
                has_begun = true;
                let has_missed = since.is_some_and(|since| since < sequence);
                has_missed.then(|| change("earlier"))
            }
            Ok(EventMessage::Event(_, event)) if has_begun => Some(change(event.name())),
            Ok(EventMessage::Event(..)) | Err(_) => None,
        };
        std::future::ready(octets)
    })
}

fn change(name: &str) -> Bytes {
    Bytes::from(format!("event: change\ndata: {name}\n\n"))
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use hgs_admin::types::Readiness;

    use super::*;

    #[tokio::test]
    async fn changes_are_told_without_what_they_are() {
        let readiness = || {
            let ready = Readiness {
                time: String::new(),
                ready: true,
                reason: None,
                node: "<node>".to_owned(),
            };
            Ok(EventMessage::Event(None, Event::Readiness(ready)))
        };
        let change = "event: change\ndata: readiness\n\n";
        let earlier = "event: change\ndata: earlier\n\n";
        for (since, is_missed) in [(None, false), (Some(4), true), (Some(5), false)] {
            let caught_up = Event::CaughtUp(CaughtUp { sequence: 5 });
            let messages = vec![
                Ok(EventMessage::Begin),
                readiness(),
                Ok(EventMessage::Event(Some(5), caught_up)),
                readiness(),
                Ok(EventMessage::Heartbeat(5)),
            ];
            let told = changes(EventStream::new(stream::iter(messages)), since);
            let told: Vec<_> = told.collect().await;
            let mut expected = vec!["retry: 3000\n\n", change, ":\n\n"];
            if is_missed {
                expected.insert(1, earlier);
            }
            assert_eq!(told, expected, "{since:?}");
        }
    }
}
