//! The arguments of an operation in a request: read from one by the server, written to one by the client.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::key::{self, WithKey};
use crate::path::Segment;
use crate::{AdminError, query};

/// A request for an operation that was found, as it was sent.
#[derive(Debug, Clone, Copy)]
pub struct Call<'c> {
    /// The segment of the path that stands for one thing; empty where the operation has none.
    pub segment: &'c str,
    /// What follows the `?`.
    pub query: &'c str,
    /// The body.
    pub body: &'c [u8],
}

/// Arguments of an operation, read from a call. The names of these methods are the places of `operations!`.
impl Call<'_> {
    pub(crate) fn path<T: Segment>(&self) -> Result<T, AdminError> {
        self.segment.parse().map_err(AdminError::invalid)
    }

    pub(crate) fn query<T: DeserializeOwned>(&self) -> Result<T, AdminError> {
        query::read(self.query)
    }

    pub(crate) fn body<T: DeserializeOwned>(&self) -> Result<T, AdminError> {
        serde_json::from_slice(self.body).map_err(AdminError::invalid)
    }

    pub(crate) fn body_with_key<T: DeserializeOwned>(&self) -> Result<WithKey<T>, AdminError> {
        key::read(self.body)
    }
}

/// A request for an operation that a client is about to send.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pub(crate) segment: String,
    pub(crate) query: String,
    pub(crate) body: Bytes,
}

/// Arguments of an operation, written to a request. The names of these methods are the places of `operations!`.
impl Outgoing {
    /// The target of the request for an operation at `path`.
    pub(crate) fn target(&self, path: String) -> String {
        match self.query.is_empty() {
            true => path,
            false => format!("{path}?{}", self.query),
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
}

pub(crate) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("answers have text for keys and are written to memory")
}
