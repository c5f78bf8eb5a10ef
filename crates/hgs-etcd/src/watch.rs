//! News of keys, in the order of their revisions.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::client::MAX_ANSWER;
use crate::connection::{Member, Method, chain};
use crate::error::MemberError;
use crate::grpc::{Frames, frame, status};
use crate::txn::{Keys, Range, Record, Revision, revision};
use crate::wire;

/// A member says nothing for so long only if there is nothing to say: then it is asked whether that is so.
const QUIET: Duration = Duration::from_secs(1);
/// So many times. A member that is frozen, or cut off, is silent.
const ASKED: u32 = 2;
/// Requests that wait: the first, and one question.
const WAITING: usize = 4;

/// A stream of changes of keys. It is no proof of anything: who decides, compares.
#[derive(Debug)]
pub struct Watch {
    requests: mpsc::Sender<Bytes>,
    body: Incoming,
    frames: Frames,
    /// Events of a response that comes in parts.
    parts: Vec<Change>,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A key was written.
    Put(Record),
    /// A key was deleted, at this revision.
    Delete(Bytes, Revision),
}

/// What a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// All changes up to this revision have been told.
    pub revision: Revision,
    /// The changes since the last news; none, if only the revision has gone on.
    pub changes: Vec<Change>,
}

/// Why a watch tells no more. Another one is begun behind the last revision that was told.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The member is silent.
    #[error("the member has said nothing for {} s, asked or not", (QUIET * (ASKED + 1)).as_secs())]
    Silent,
    /// What was asked for is gone: all has to be read again.
    #[error("changes before revision {} are gone", .0.0)]
    Compacted(Revision),
    /// The member ended it.
    #[error("the member ended the watch: {0}")]
    Ended(String),
    /// It can't be asked, or its answer is none.
    #[error(transparent)]
    Member(#[from] MemberError),
}

impl Watch {
    /// Asks a member for the changes of keys from a revision on.
    pub(crate) async fn begin(
        member: &Member,
        keys: Keys,
        from: Revision,
        patience: Duration,
    ) -> Result<Self, WatchError> {
        let (requests, waiting) = mpsc::channel(WAITING);
        let range = wire::RangeRequest::from(&Range::of(keys));
        let create = wire::WatchCreateRequest {
            key: range.key,
            range_end: range.range_end,
            start_revision: from.0,
            fragment: true,
        };
        let create = frame(&wire::WatchRequest {
            act: Some(wire::WatchAct::Create(create)),
        });
        // There is room for it, as nothing has been sent.
        let _ = requests.send(create).await;
        let body = stream::unfold(waiting, |mut waiting| async {
            let next = waiting.recv().await?;
            Some((Ok::<_, Infallible>(Frame::data(next)), waiting))
        });
        let body = StreamBody::new(body).boxed_unsync();
        let method = Method {
            path: "/etcdserverpb.Watch/Watch",
            without_leader: false,
        };
        let answer = member
            .send_body(method, body, Instant::now() + patience)
            .await?;
        Ok(Self {
            requests,
            body: answer.into_body(),
            frames: Frames::new(MAX_ANSWER),
            parts: Vec::new(),
        })
    }

    /// The next news. They come at least about every second.
    ///
    /// # Errors
    /// [`WatchError`], after which this watch tells nothing more.
    pub async fn next(&mut self) -> Result<News, WatchError> {
        let mut asked = 0;
        loop {
            match timeout(QUIET, self.response()).await {
                Ok(response) => {
                    if let Some(news) = self.news(response?)? {
                        return Ok(news);
                    }
                }
                Err(_) if asked < ASKED => {
                    asked += 1;
                    let progress = wire::WatchRequest {
                        act: Some(wire::WatchAct::Progress(wire::Nothing {})),
                    };
                    // If there is no room for it, the member takes nothing, and is silent.
                    let _ = self.requests.try_send(frame(&progress));
                }
                Err(_) => return Err(WatchError::Silent),
            }
        }
    }

    fn news(&mut self, response: wire::WatchResponse) -> Result<Option<News>, WatchError> {
        if response.compact_revision > 0 {
            return Err(WatchError::Compacted(Revision(response.compact_revision)));
        }
        if response.canceled {
            return Err(WatchError::Ended(response.cancel_reason));
        }
        let revision = revision(response.header.as_ref());
        self.parts.extend(changes(response.events));
        // The answer to the first request says nothing, and a part is not all.
        if response.created || response.fragment {
            return Ok(None);
        }
        let changes = std::mem::take(&mut self.parts);
        Ok(Some(News { revision, changes }))
    }

    async fn response(&mut self) -> Result<wire::WatchResponse, WatchError> {
        loop {
            if let Some(response) = self.frames.next().map_err(MemberError::from)? {
                return Ok(response);
            }
            let Some(part) = self.body.frame().await else {
                return Err(MemberError::Broken("the stream has ended".to_owned()).into());
            };
            let part = part.map_err(|error| MemberError::Broken(chain(&error)))?;
            match part.into_data() {
                Ok(data) => self.frames.take(&data),
                Err(part) => {
                    let ended = part.trailers_ref().and_then(status);
                    return Err(match ended {
                        Some(status) => MemberError::of(status).into(),
                        None => WatchError::Ended("without a reason".to_owned()),
                    });
                }
            }
        }
    }
}

/// Changes as the wire has them.
pub(crate) fn changes(events: Vec<wire::Event>) -> impl Iterator<Item = Change> {
    events.into_iter().filter_map(|event| {
        let deleted = event.r#type == i32::from(wire::EventType::Delete);
        let record = Record::from(event.kv?);
        Some(match deleted {
            true => Change::Delete(record.key, record.revision),
            false => Change::Put(record),
        })
    })
}
