//! The stream that tells the script that something has changed. What it was is on the page that the script asks for then.

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use hgs_admin::types::Event;
use hgs_admin::{EventMessage, EventStream};

/// Server-sent events without what happened. What stood already when the stream began is left out.
pub(super) fn changes(events: EventStream) -> impl Stream<Item = Bytes> + Send + 'static {
    let mut has_begun = false;
    events.filter_map(move |message| {
        let octets = match message {
            Ok(EventMessage::Begin) => Some(EventMessage::Begin.to_octets()),
            Ok(EventMessage::Heartbeat(_)) => Some(Bytes::from_static(b":\n\n")),
            Ok(EventMessage::Event(_, Event::CaughtUp(_))) => {
                has_begun = true;
                None
            }
            Ok(EventMessage::Event(_, event)) if has_begun => Some(Bytes::from(format!(
                "event: change\ndata: {}\n\n",
                event.name()
            ))),
            Ok(EventMessage::Event(..)) | Err(_) => None,
        };
        std::future::ready(octets)
    })
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use hgs_admin::types::{CaughtUp, Readiness};

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
        let caught_up = Event::CaughtUp(CaughtUp { sequence: 5 });
        let messages = vec![
            Ok(EventMessage::Begin),
            readiness(),
            Ok(EventMessage::Event(Some(5), caught_up)),
            readiness(),
            Ok(EventMessage::Heartbeat(5)),
        ];
        let told = changes(EventStream::new(stream::iter(messages)));
        let told: Vec<_> = told.collect().await;
        let expected = [
            "retry: 3000\n\n",
            "event: change\ndata: readiness\n\n",
            ":\n\n",
        ];
        assert_eq!(told, expected);
    }
}
