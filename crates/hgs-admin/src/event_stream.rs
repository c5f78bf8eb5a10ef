//! The stream of events, as server-sent events (WHATWG HTML, 9.2): written by the server, read by the client.
//!
//! ```text
//!  retry: 3000                          once, at the beginning
//!
//!  id: 42                               of events that are audit records, of `gap` and `caught-up`: their number
//!  event: revocation                    the kind
//!  data: {"kind":"revocation", ...}     an Event
//!
//!  :                                    a heartbeat; an id says how far the stream has come
//!  id: 57
//! ```

use std::fmt;
use std::fmt::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};

use crate::types::Event;
use crate::{AdminError, ErrorCode};

/// How often a server sends something, at least: a client that hears nothing for three times as long may give up.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// After how many milliseconds a client that was cut off comes back.
const RETRY_MILLISECONDS: u32 = 3000;

/// Octets of the longest line that a client reads.
const MAX_LINE: usize = 256 * 1024;

/// One message of a stream of events.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly all are events")]
pub enum EventMessage {
    /// The first one.
    Begin,
    /// An event. Some have the number of an audit record, after which a client can come back.
    Event(Option<u64>, Event),
    /// Nothing has happened that this client sees. All records up to this number were told.
    Heartbeat(u64),
}

/// Messages as they come, until the server or the caller ends it.
pub struct EventStream(BoxStream<'static, Result<EventMessage, AdminError>>);

impl EventStream {
    /// A stream of these messages.
    pub fn new(
        messages: impl Stream<Item = Result<EventMessage, AdminError>> + Send + 'static,
    ) -> Self {
        Self(Box::pin(messages))
    }

    /// Waits for the next message; `None` at the end. It blocks, as all calls of a client do.
    pub fn wait_next(&mut self) -> Option<Result<EventMessage, AdminError>> {
        // What a client's stream waits for comes from its own thread, so this needs no driver of a runtime.
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        match runtime {
            Ok(runtime) => runtime.block_on(self.0.next()),
            Err(failure) => Some(Err(AdminError::new(ErrorCode::NoAnswer, failure))),
        }
    }
}

impl Stream for EventStream {
    type Item = Result<EventMessage, AdminError>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<EventMessage, AdminError>>> {
        self.0.poll_next_unpin(context)
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("EventStream(..)")
    }
}

impl EventMessage {
    /// The message as it is sent.
    #[must_use]
    pub fn to_octets(&self) -> Bytes {
        let mut text = String::new();
        let _ = match self {
            Self::Begin => writeln!(text, "retry: {RETRY_MILLISECONDS}"),
            Self::Heartbeat(sequence) => writeln!(text, ":\nid: {sequence}"),
            Self::Event(sequence, event) => {
                if let Some(sequence) = sequence {
                    let _ = writeln!(text, "id: {sequence}");
                }
                // JSON on one line: it has no line feeds but escaped ones.
                let json = serde_json::to_string(event).unwrap_or_default();
                writeln!(text, "event: {}\ndata: {json}", event.name())
            }
        };
        text.push('\n');
        text.into()
    }
}

/// Reads messages out of octets that come in any parts.
#[derive(Debug, Default)]
pub(crate) struct MessageReader {
    line: Vec<u8>,
    id: Option<u64>,
    data: Option<String>,
    is_beginning: bool,
    is_heartbeat: bool,
}

impl MessageReader {
    /// Takes in `octets` and hands on the messages that end in them.
    pub(crate) fn read(&mut self, octets: &[u8]) -> Result<Vec<EventMessage>, AdminError> {
        let mut messages = Vec::new();
        for octet in octets {
            if *octet != b'\n' {
                if self.line.len() >= MAX_LINE {
                    return Err(unreadable("a line is too long"));
                }
                self.line.push(*octet);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = str::from_utf8(&line).map_err(|_| unreadable("it is no UTF-8"))?;
            match line.trim_end_matches('\r') {
                "" => messages.extend(self.message()?),
                line => self.field(line)?,
            }
        }
        Ok(messages)
    }

    fn field(&mut self, line: &str) -> Result<(), AdminError> {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "" => self.is_heartbeat = true,
            "retry" => self.is_beginning = true,
            "id" => {
                let number = value.parse();
                self.id = Some(number.map_err(|_| unreadable("an id is no number"))?);
            }
            "data" => self.data = Some(value.to_owned()),
            // The kind stands in the data, too.
            _ => {}
        }
        Ok(())
    }

    fn message(&mut self) -> Result<Option<EventMessage>, AdminError> {
        let ended = std::mem::take(self);
        if let Some(data) = ended.data {
            let event = serde_json::from_str(&data).map_err(unreadable)?;
            return Ok(Some(EventMessage::Event(ended.id, event)));
        }
        Ok(match ended.id {
            Some(id) if ended.is_heartbeat => Some(EventMessage::Heartbeat(id)),
            _ => ended.is_beginning.then_some(EventMessage::Begin),
        })
    }
}

fn unreadable(failure: impl fmt::Display) -> AdminError {
    let message = format!("the server's events can't be read: {failure}");
    AdminError::new(ErrorCode::NoAnswer, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{CaughtUp, Gap, GapReason, Readiness};

    fn messages() -> Vec<EventMessage> {
        let readiness = Readiness {
            node: "node-1".to_owned(),
            time: "2026-11-29T12:00:00Z".to_owned(),
            ready: false,
            reason: Some("two\nlines: \u{2028} and \"quotes\"".to_owned()),
        };
        let gap = Gap {
            after: 3,
            sequence: 19,
            reason: GapReason::Archived,
        };
        vec![
            EventMessage::Begin,
            EventMessage::Event(None, Event::Readiness(readiness)),
            EventMessage::Event(Some(19), Event::Gap(gap)),
            EventMessage::Event(Some(19), Event::CaughtUp(CaughtUp { sequence: 19 })),
            EventMessage::Heartbeat(57),
        ]
    }

    #[test]
    fn what_is_written_is_read_in_whatever_parts_it_comes() {
        let octets: Vec<u8> = messages()
            .iter()
            .flat_map(|message| message.to_octets())
            .collect();
        for length in [1, 2, 7, octets.len()] {
            let mut reader = MessageReader::default();
            let mut read = Vec::new();
            for part in octets.chunks(length) {
                read.extend(reader.read(part).unwrap());
            }
            assert_eq!(read, messages(), "in parts of {length}");
        }
    }

    /// As browsers and scripts see it.
    #[test]
    fn a_message_is_as_the_standard_writes_it() {
        let text = |message: &EventMessage| String::from_utf8(message.to_octets().to_vec());
        let messages = messages();
        assert_eq!(text(&messages[0]).unwrap(), "retry: 3000\n\n");
        assert_eq!(
            text(&messages[3]).unwrap(),
            "id: 19\nevent: caught-up\ndata: {\"kind\":\"caught-up\",\"sequence\":19}\n\n"
        );
        assert_eq!(text(&messages[4]).unwrap(), ":\nid: 57\n\n");
    }

    #[test]
    fn what_no_server_sends_is_refused() {
        let long = vec![b'x'; MAX_LINE + 1];
        for octets in [&b"id: x\n"[..], b"data: {\n\n", b"data: {}\xff\n", &long] {
            let refused = MessageReader::default().read(octets).unwrap_err();
            assert_eq!(refused.code, ErrorCode::NoAnswer);
        }
        // Fields and comments of later versions mean nothing here.
        let read = MessageReader::default().read(b": comment\nnew: 1\n\n");
        assert_eq!(read.unwrap(), []);
    }
}
