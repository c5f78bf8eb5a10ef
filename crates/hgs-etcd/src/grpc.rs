//! gRPC over HTTP/2, as far as etcd's clients need it (the protocol of gRPC over HTTP2): messages in frames, and the status
//! behind them.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use hyper::HeaderMap;
use hyper::header::HeaderValue;

use crate::error::{Code, Status};

/// Octets before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// A message behind its prefix.
pub(crate) fn frame(message: &impl prost::Message) -> Bytes {
    let length = message.encoded_len();
    let mut octets = BytesMut::with_capacity(PREFIX + length);
    octets.put_u8(0);
    octets.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message
        .encode(&mut octets)
        .expect("a message is written to memory");
    octets.freeze()
}

/// Why octets are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It is longer than the caller takes.
    #[error("a message of {found} octets, where at most {limit} are taken")]
    TooLong {
        /// What its prefix says.
        found: usize,
        /// What is taken.
        limit: usize,
    },
    /// It is compressed, which was not asked for.
    #[error("a compressed message, which was not asked for")]
    Compressed,
    /// It ends before its length.
    #[error("a message that ends early")]
    Short,
    /// Its fields are not those of the message.
    #[error("{0}")]
    Fields(String),
}

/// Puts messages together from the octets of a stream.
#[derive(Debug)]
pub(crate) struct Frames {
    octets: BytesMut,
    limit: usize,
}

impl Frames {
    /// Of messages of at most `limit` octets each.
    pub(crate) fn new(limit: usize) -> Self {
        let octets = BytesMut::new();
        Self { octets, limit }
    }

    /// Takes what came.
    pub(crate) fn take(&mut self, data: &[u8]) {
        self.octets.extend_from_slice(data);
    }

    /// The next message, if all of it has come.
    pub(crate) fn next<M: prost::Message + Default>(&mut self) -> Result<Option<M>, FrameError> {
        let Some((&compressed, mut rest)) = self.octets.split_first() else {
            return Ok(None);
        };
        if compressed != 0 {
            return Err(FrameError::Compressed);
        }
        if rest.remaining() < PREFIX - 1 {
            return Ok(None);
        }
        let length = usize::try_from(rest.get_u32()).unwrap_or(usize::MAX);
        if length > self.limit {
            return Err(FrameError::TooLong {
                found: length,
                limit: self.limit,
            });
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.octets.advance(PREFIX);
        let message = self.octets.split_to(length).freeze();
        M::decode(message)
            .map(Some)
            .map_err(|error| FrameError::Fields(error.to_string()))
    }

    /// Whether something is left that is no whole message.
    pub(crate) fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }
}

/// The status in the headers of a response without a body, or in the trailers of one with a body. None if there is none.
pub(crate) fn status(headers: &HeaderMap) -> Option<Status> {
    let number = headers.get("grpc-status")?.to_str().ok()?;
    let code = Code::of_number(number.parse().ok()?);
    let message = headers.get("grpc-message").map(HeaderValue::as_bytes);
    let message = percent_decoded(message.unwrap_or_default());
    Some(Status { code, message })
}

/// The text of a status, in which octets other than printable ASCII stand as `%XX`.
fn percent_decoded(text: &[u8]) -> String {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&octet, after)) = rest.split_first() {
        let escaped = after
            .get(..2)
            .filter(|_| octet == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        octets.push(escaped.unwrap_or(octet));
        rest = if escaped.is_some() {
            &after[2..]
        } else {
            after
        };
    }
    String::from_utf8_lossy(&octets).into_owned()
}

/// Reads anything as a stream of answers, and never panics: the body of a fuzz target.
#[doc(hidden)]
pub fn fuzz_answer(data: &[u8]) {
    use crate::wire;
    read_all::<wire::TxnResponse>(data, |answer| drop(crate::Committed::from(answer)));
    read_all::<wire::RangeResponse>(data, |answer| drop(crate::Found::from(answer)));
    read_all::<wire::WatchResponse>(data, |answer| {
        crate::watch::changes(answer.events).for_each(drop)
    });
    read_all::<wire::MembersResponse>(data, |answer| drop(crate::Members::from(answer)));
    read_all::<wire::StatusResponse>(data, |answer| drop(crate::MemberStatus::from(answer)));
    read_all::<wire::AlarmResponse>(data, |answer| {
        answer
            .alarms
            .into_iter()
            .map(crate::Alarm::from)
            .for_each(drop);
    });
    let _ = percent_decoded(data);
}

/// In two parts, as a connection brings them.
fn read_all<M: prost::Message + Default>(data: &[u8], mut take: impl FnMut(M)) {
    let mut frames = Frames::new(1024 * 1024);
    let (first, second) = data.split_at(data.len() / 2);
    for part in [first, second] {
        frames.take(part);
        while let Ok(Some(message)) = frames.next::<M>() {
            take(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{KeyValue, PutRequest, RangeResponse};

    #[test]
    fn a_message_is_as_the_protocol_says() {
        let put = PutRequest {
            key: Bytes::from_static(b"k"),
            value: Bytes::from_static(b"v1"),
        };
        // Field 1 and 2, both with lengths: by hand from the encoding of Protocol Buffers.
        assert_eq!(&frame(&put)[..], b"\x00\x00\x00\x00\x07\x0a\x01k\x12\x02v1");
    }

    #[test]
    fn a_message_beyond_its_limit_is_refused_by_its_prefix() {
        let mut frames = Frames::new(16);
        frames.take(&[0, 0, 0, 0, 17]);
        let refused = frames.next::<PutRequest>().unwrap_err();
        assert_eq!(
            refused,
            FrameError::TooLong {
                found: 17,
                limit: 16
            }
        );
        let mut frames = Frames::new(16);
        frames.take(&[1]);
        assert_eq!(frames.next::<PutRequest>(), Err(FrameError::Compressed));
        let mut frames = Frames::new(16);
        frames.take(&[0, 0, 0, 0, 1, 0x0a]);
        assert!(matches!(
            frames.next::<PutRequest>(),
            Err(FrameError::Fields(_))
        ));
    }

    #[test]
    fn a_status_says_what_it_says() {
        let mut headers = HeaderMap::new();
        assert_eq!(status(&headers), None);
        headers.insert("grpc-status", HeaderValue::from_static("14"));
        headers.insert(
            "grpc-message",
            HeaderValue::from_static("etcdserver%3A no leader%"),
        );
        let status = status(&headers).unwrap();
        assert_eq!(status.code, Code::Unavailable);
        assert_eq!(status.message, "etcdserver: no leader%");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_however_it_comes(
            values in proptest::collection::vec((any::<Vec<u8>>(), any::<i64>(), any::<Vec<u8>>()), 0..5),
            piece in 1usize..40,
        ) {
            let kvs = values.into_iter().map(|(key, mod_revision, value)| KeyValue {
                key: key.into(),
                mod_revision,
                value: value.into(),
                ..KeyValue::default()
            });
            let answer = RangeResponse { kvs: kvs.collect(), more: true, ..RangeResponse::default() };
            let octets = [frame(&answer), frame(&answer)].concat();
            let mut frames = Frames::new(octets.len());
            let mut read = Vec::new();
            for part in octets.chunks(piece) {
                frames.take(part);
                read.extend(frames.next::<RangeResponse>().unwrap());
            }
            read.extend(frames.next::<RangeResponse>().unwrap());
            prop_assert_eq!(read, [answer.clone(), answer]);
            prop_assert!(frames.is_empty());
        }

        #[test]
        fn octets_from_anywhere_never_panic(data in any::<Vec<u8>>()) {
            fuzz_answer(&data);
        }
    }
}
