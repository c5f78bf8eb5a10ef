//! Requests that belong together.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Client, Request, Response, TransportError};
use crate::request_id::RequestId;

/// Requests to one service for one purpose, and the id of the last one that was answered.
pub(crate) struct Conversation<'c> {
    client: &'c Client,
    last: Mutex<Option<RequestId>>,
}

impl Client {
    /// Begins to ask a service.
    pub(crate) fn conversation(&self) -> Conversation<'_> {
        Conversation {
            client: self,
            last: Mutex::default(),
        }
    }
}

impl Conversation<'_> {
    /// Sends `request` to the nodes of the service until one answers.
    pub(crate) async fn send(&self, request: &Request) -> Result<Response, TransportError> {
        // Without an answer, the id of the request before would lead to the wrong one.
        self.return_to(None);
        let response = self.client.send(request).await?;
        self.return_to(RequestId::of_answer(&response.fields));
        Ok(response)
    }

    /// The id of the last request, if its answer had one.
    pub(crate) fn request_id(&self) -> Option<RequestId> {
        self.last().clone()
    }

    /// Takes an earlier request for the last: from now on it is about what that one was answered.
    pub(crate) fn return_to(&self, request_id: Option<RequestId>) {
        *self.last() = request_id;
    }

    fn last(&self) -> MutexGuard<'_, Option<RequestId>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
