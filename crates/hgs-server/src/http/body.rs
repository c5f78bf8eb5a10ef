//! Reading a body within its limits of size, time and memory.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::overload::BodyMemory;
use super::rejection::Rejection;
use crate::config::Limits;

/// A body, and the memory reserved for it.
#[derive(Debug)]
pub(super) struct HeldBody {
    pub(super) octets: Bytes,
    pub(super) reserved: Option<OwnedSemaphorePermit>,
}

/// Reads the whole body.
pub(super) async fn read(
    mut body: Incoming,
    limits: &Limits,
    memory: &BodyMemory,
    expects_continue: bool,
) -> Result<HeldBody, Rejection> {
    let deadline = Instant::now() + limits.body_time;
    let collected = timeout_at(deadline, collect(&mut body, limits.body, memory))
        .await
        .map_err(|_| Rejection::SlowBody)
        .flatten();
    if matches!(collected, Err(Rejection::BodyTooLarge { .. })) && !expects_continue {
        // Many peers read an answer only when they have sent everything. What is a little too
        // large is taken in and forgotten for their sake; the rest finds the connection closed.
        let _ = timeout_at(deadline, discard(&mut body, limits.body)).await;
    }
    collected
}

async fn collect(
    body: &mut Incoming,
    limit: usize,
    memory: &BodyMemory,
) -> Result<HeldBody, Rejection> {
    let declared = body.size_hint().lower();
    if declared > limit as u64 {
        return Err(Rejection::BodyTooLarge { limit });
    }
    let mut octets = BytesMut::new();
    let mut reserved = None;
    while let Some(chunk) = next(body).await? {
        if octets.len() + chunk.len() > limit {
            return Err(Rejection::BodyTooLarge { limit });
        }
        memory.reserve(chunk.len(), &mut reserved)?;
        if octets.is_empty() && chunk.len() as u64 == declared {
            return Ok(HeldBody {
                octets: chunk,
                reserved,
            });
        }
        octets.extend_from_slice(&chunk);
    }
    Ok(HeldBody {
        octets: octets.freeze(),
        reserved,
    })
}

async fn discard(body: &mut Incoming, most: usize) {
    let mut taken = 0;
    while taken <= most
        && let Ok(Some(chunk)) = next(body).await
    {
        taken += chunk.len();
    }
}

/// The next octets; trailers are passed over.
async fn next(body: &mut Incoming) -> Result<Option<Bytes>, Rejection> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Rejection::MalformedBody)?;
        if let Ok(octets) = frame.into_data() {
            return Ok(Some(octets));
        }
    }
    Ok(None)
}
