//! The arguments of an operation in a request: read from one by the server, written to one by the client.

use bytes::Bytes;
use hyper::Method;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::describe::Description;
use crate::event_stream::EventStream;
use crate::key::{self, WithKey};
use crate::path::Segment;
use crate::read::Object;
use crate::types::Event;
use crate::{AdminError, Client, ErrorCode, query, text};

/// A request for an operation that was found, as it was sent.
#[derive(Debug, Clone, Copy)]
pub struct Call<'c> {
    /// The segment of the path that stands for one thing; empty where the operation has none.
    pub segment: &'c str,
    /// What follows the `?`.
    pub query: &'c str,
    /// The body.
    pub body: &'c [u8],
    /// The header `Last-Event-ID`.
    pub last_event_id: Option<&'c str>,
    /// Whether it came over a way that private keys may take: the socket, which stays on the machine.
    pub may_have_key: bool,
}

/// What a client of events that comes back was told last: the number of an audit record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, JsonSchema)]
pub struct LastEventId(#[schemars(with = "text::Number")] pub Option<u64>);

/// The answer of an operation that was carried out.
#[derive(Debug)]
pub enum Answer {
    /// JSON.
    Json(Vec<u8>),
    /// Server-sent events.
    Events(EventStream),
}

/// What operations answer with: how the server sends it, how the client gets it, and how the document describes it.
pub(crate) trait Answered: Sized {
    fn into_answer(self) -> Answer;
    fn of(client: &Client, method: &Method, request: Outgoing) -> Result<Self, AdminError>;
    fn describe(description: Description<'_>) -> Description<'_>;
}

impl<T: Serialize + DeserializeOwned + JsonSchema> Answered for T {
    fn into_answer(self) -> Answer {
        let json = serde_json::to_vec(&self);
        Answer::Json(json.expect("answers have text for keys and are written to memory"))
    }

    fn of(client: &Client, method: &Method, request: Outgoing) -> Result<Self, AdminError> {
        client.ask(method, request)
    }

    fn describe(description: Description<'_>) -> Description<'_> {
        description.answer::<T>()
    }
}

impl Answered for EventStream {
    fn into_answer(self) -> Answer {
        Answer::Events(self)
    }

    fn of(client: &Client, method: &Method, request: Outgoing) -> Result<Self, AdminError> {
        client.events_of(method, request)
    }

    fn describe(description: Description<'_>) -> Description<'_> {
        description.events::<Event>()
    }
}

const KEY_OVER_NETWORK: &str = "a private key is taken over the admin socket only";

/// Arguments of an operation, read from a call. The names of these methods are the places of `operations!`.
impl Call<'_> {
    pub(crate) fn path<T: Segment>(&self) -> Result<T, AdminError> {
        self.segment.parse().map_err(AdminError::invalid)
    }

    pub(crate) fn query<T: DeserializeOwned>(&self) -> Result<T, AdminError> {
        query::read(self.query)
    }

    pub(crate) fn body<T: DeserializeOwned>(&self) -> Result<T, AdminError> {
        let read = serde_json::from_slice(self.body).map_err(AdminError::invalid);
        read.map(|Object(body)| body)
    }

    pub(crate) fn body_with_key<T: DeserializeOwned>(&self) -> Result<WithKey<T>, AdminError> {
        let with_key = key::read(self.body)?;
        match with_key.key.is_some() && !self.may_have_key {
            true => Err(AdminError::new(ErrorCode::Forbidden, KEY_OVER_NETWORK)
                .with_remedy("run the command on the guardian's machine, have the key made there, or name a key in a token")),
            false => Ok(with_key),
        }
    }

    pub(crate) fn last_event_id(&self) -> Result<LastEventId, AdminError> {
        let number = self.last_event_id.map(|text| {
            let number = text.parse();
            number.map_err(|_| {
                AdminError::invalid(format_args!(
                    "Last-Event-ID: {text:?} is no number of an audit record"
                ))
            })
        });
        Ok(LastEventId(number.transpose()?))
    }
}

/// A request for an operation that a client is about to send.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    /// The path of the operation, once the segment is known.
    pub(crate) path: String,
    pub(crate) segment: String,
    pub(crate) query: String,
    pub(crate) body: Bytes,
    pub(crate) last_event_id: LastEventId,
}

/// Arguments of an operation, written to a request. The names of these methods are the places of `operations!`.
impl Outgoing {
    /// The target of the request.
    pub(crate) fn target(&self) -> String {
        match self.query.is_empty() {
            true => self.path.clone(),
            false => format!("{}?{}", self.path, self.query),
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "as its siblings")]
    pub(crate) fn path(self, argument: &impl Segment) -> Result<Self, AdminError> {
        let segment = argument.to_string();
        Ok(Self { segment, ..self })
    }

    pub(crate) fn query(self, argument: &impl Serialize) -> Result<Self, AdminError> {
        let query = query::write(argument)?;
        Ok(Self { query, ..self })
    }

    pub(crate) fn body(self, argument: &impl Serialize) -> Result<Self, AdminError> {
        let json = serde_json::to_vec(argument).map_err(AdminError::invalid)?;
        Ok(Self {
            body: json.into(),
            ..self
        })
    }

    pub(crate) fn body_with_key<T: Serialize>(
        self,
        argument: &WithKey<T>,
    ) -> Result<Self, AdminError> {
        let body = key::write(argument)?;
        Ok(Self { body, ..self })
    }

    #[expect(clippy::unnecessary_wraps, reason = "as its siblings")]
    pub(crate) fn last_event_id(self, argument: &LastEventId) -> Result<Self, AdminError> {
        let last_event_id = *argument;
        Ok(Self {
            last_event_id,
            ..self
        })
    }
}
