//! The name that a guardian gives a request: in its answer, in its log, and in its traces.

use std::fmt;

use hyper::HeaderMap;
use serde::{Deserialize, Serialize};

/// The header field of an answer that names the request.
const HEADER: &str = "x-request-id";
/// Characters of the longest name that is kept. OpenHGS gives less than 30, UUIDs have 36.
const MAX_LENGTH: usize = 64;

/// The name of a request by the guardian that answered it, or by a proxy before it. Whoever answers chooses it: it is printable
/// and short, and proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestId(String);

/// The text names no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the id of a request has 1 to {MAX_LENGTH} printable ASCII characters without spaces")]
pub struct RequestIdError;

impl RequestId {
    /// The id in the header of an answer, if there is exactly one and it can be shown as it is.
    pub(crate) fn of_answer(fields: &HeaderMap) -> Option<Self> {
        let mut values = fields.get_all(HEADER).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => Self::try_from(value.to_str().ok()?.to_owned()).ok(),
            _ => None,
        }
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RequestId {
    type Error = RequestIdError;

    fn try_from(text: String) -> Result<Self, RequestIdError> {
        let is_usable = (1..=MAX_LENGTH).contains(&text.len())
            && text.bytes().all(|octet| octet.is_ascii_graphic());
        is_usable.then_some(Self(text)).ok_or(RequestIdError)
    }
}

impl From<RequestId> for String {
    fn from(id: RequestId) -> Self {
        id.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&[u8]]) -> Option<String> {
        let mut fields = HeaderMap::new();
        for value in values {
            fields.append(HEADER, value.to_vec().try_into().unwrap());
        }
        RequestId::of_answer(&fields).map(String::from)
    }

    #[test]
    fn an_id_that_can_not_be_shown_as_it_is_is_dropped() {
        assert_eq!(of(&[b"0a1b2c3d-17"]).as_deref(), Some("0a1b2c3d-17"));
        let longest = "a".repeat(MAX_LENGTH);
        assert_eq!(of(&[longest.as_bytes()]), Some(longest.clone()));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[b""]), None);
        assert_eq!(of(&[b"a b"]), None);
        assert_eq!(of(&[b"a\tb"]), None);
        assert_eq!(of(&["a\u{202e}b".as_bytes()]), None);
        assert_eq!(of(&[format!("{longest}a").as_bytes()]), None);
        // A proxy has added its own: neither is known to be the guardian's.
        assert_eq!(of(&[b"a", b"b"]), None);
    }

    #[test]
    fn an_id_from_a_file_or_a_socket_is_held_to_the_same_rule() {
        assert!(serde_json::from_str::<RequestId>("\"0a1b2c3d-17\"").is_ok());
        assert!(serde_json::from_str::<RequestId>("\"a\\u001bb\"").is_err());
    }
}
