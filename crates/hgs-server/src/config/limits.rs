//! `[limits]`: what one peer, and all of them together, may cost. They hold on every listener.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::quantity::{GIBIBYTE, HOUR, KIBIBYTE, MEBIBYTE, MINUTE, count_between, period, size};

/// `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Octets of a request's body; more is answered with 413.
    ///
    /// A key protector of the largest size the profile allows is 256 KiB, in base64.
    #[serde(
        serialize_with = "size::serialize",
        deserialize_with = "size::between::<_, KIBIBYTE, { 16 * MEBIBYTE }>"
    )]
    pub body: usize,
    /// Octets of all bodies held at once; more is answered with 503.
    #[serde(
        serialize_with = "size::serialize",
        deserialize_with = "size::between::<_, KIBIBYTE, { 64 * GIBIBYTE }>"
    )]
    pub body_memory: usize,
    /// Octets of all bodies from one address held at once; more is answered with 503.
    #[serde(
        serialize_with = "size::serialize",
        deserialize_with = "size::between::<_, KIBIBYTE, { 64 * GIBIBYTE }>"
    )]
    pub body_memory_per_address: usize,
    /// Octets a second that a body must come with; slower is answered with 408.
    #[serde(
        serialize_with = "size::serialize",
        deserialize_with = "size::between::<_, 1, { 16 * MEBIBYTE }>"
    )]
    pub body_rate: usize,
    /// Octets of request line and header fields; more is answered with 431.
    #[serde(
        serialize_with = "size::serialize",
        deserialize_with = "size::between::<_, KIBIBYTE, MEBIBYTE>"
    )]
    pub headers: usize,
    /// Time from the first octet of a request to the end of its header.
    #[serde(
        serialize_with = "period::serialize",
        deserialize_with = "period::between::<_, 1, MINUTE>"
    )]
    pub header_time: Duration,
    /// Time from the end of the header to the end of the body; longer is answered with 408.
    #[serde(
        serialize_with = "period::serialize",
        deserialize_with = "period::between::<_, 1, { 10 * MINUTE }>"
    )]
    pub body_time: Duration,
    /// Time that a request may wait for its turn and be worked on; longer is answered with 503.
    #[serde(
        serialize_with = "period::serialize",
        deserialize_with = "period::between::<_, 1, HOUR>"
    )]
    pub request_time: Duration,
    /// Time that a connection may stand idle between requests.
    #[serde(
        serialize_with = "period::serialize",
        deserialize_with = "period::between::<_, 1, HOUR>"
    )]
    pub idle_time: Duration,
    /// Time without progress while a peer does not read its response.
    #[serde(
        serialize_with = "period::serialize",
        deserialize_with = "period::between::<_, 1, { 10 * MINUTE }>"
    )]
    pub write_time: Duration,
    /// Connections of one listener; the next ones wait in the system's backlog.
    #[serde(deserialize_with = "count_between::<_, 1, 1_000_000>")]
    pub connections: usize,
    /// Connections of one listener from one address; the next one is closed.
    #[serde(deserialize_with = "count_between::<_, 1, 1_000_000>")]
    pub connections_per_address: usize,
    /// Requests worked on at once, by one listener.
    #[serde(deserialize_with = "count_between::<_, 1, 100_000>")]
    pub concurrent_requests: usize,
    /// Requests waiting for their turn, by one listener; the next one is answered with 503.
    #[serde(deserialize_with = "count_between::<_, 0, 1_000_000>")]
    pub queue: usize,
    /// Time that requests in progress get when the server stops.
    #[serde(
        serialize_with = "period::serialize",
        deserialize_with = "period::between::<_, 1, HOUR>"
    )]
    pub drain_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 512 * 1024,
            body_memory: 256 * 1024 * 1024,
            body_memory_per_address: 32 * 1024 * 1024,
            body_rate: 16 * 1024,
            headers: 16 * 1024,
            header_time: Duration::from_secs(5),
            body_time: Duration::from_secs(10),
            request_time: Duration::from_secs(30),
            idle_time: Duration::from_mins(1),
            write_time: Duration::from_secs(10),
            // A site that powers on sends all its hosts at once, and none should fail: they wait.
            connections: 8192,
            connections_per_address: 1024,
            concurrent_requests: 256,
            queue: 8192,
            drain_time: Duration::from_secs(30),
        }
    }
}
