//! Reading a body within its limits of size, time and memory.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::{Instant, timeout_at};

use super::overload::{BodyMemory, BodyReservation, Network};
use super::rejection::Rejection;
use super::service::Service;
use crate::config::Limits;

/// How far a body may fall behind its rate: the time of a few packets that were lost.
const PAUSE: Duration = Duration::from_secs(2);

/// How much more time a large body has than others: as many times `limits.body_time`.
const LARGE_BODY_TIMES: u32 = 5;

/// A body, and the memory reservation for it.
#[derive(Debug)]
pub(super) struct HeldBody {
    pub(super) octets: Bytes,
    pub(super) reservation: BodyReservation,
}

/// What a service takes at one path beyond `limits.body`.
pub(super) struct LargeBodies<'s> {
    pub(super) service: &'s dyn Service,
    pub(super) path: &'s str,
}

/// Reads the whole body.
pub(super) async fn read(
    mut body: Incoming,
    network: Network,
    limits: &Limits,
    memory: &BodyMemory,
    large: LargeBodies<'_>,
    expects_continue: bool,
) -> Result<HeldBody, Rejection> {
    let mut deadline = Instant::now() + limits.body_time;
    let reservation = memory.reserve(network);
    let collected = collect(&mut body, &mut deadline, limits, reservation, large).await;
    if matches!(collected, Err(Rejection::BodyTooLarge { .. })) && !expects_continue {
        // The answer goes out at once. Many peers read it only after they have sent everything. So a body that is a
        // little too large is read and discarded; for a larger one the connection is closed.
        let most = limits.body;
        tokio::spawn(async move { timeout_at(deadline, discard(body, most)).await });
    }
    collected
}

async fn collect(
    body: &mut Incoming,
    deadline: &mut Instant,
    limits: &Limits,
    mut reservation: BodyReservation,
    large: LargeBodies<'_>,
) -> Result<HeldBody, Rejection> {
    let mut limit = limits.body;
    let most = large.service.large_body(large.path).unwrap_or(limit);
    let declared = body.size_hint().lower();
    if declared > limit.max(most) as u64 {
        return Err(Rejection::BodyTooLarge { limit });
    }
    let begun = Instant::now();
    let mut octets = BytesMut::new();
    loop {
        let chunk = timeout_at(
            (*deadline).min(next_due(begun, octets.len(), limits)),
            next(body),
        );
        let Some(chunk) = chunk.await.map_err(|_| Rejection::SlowBody)?? else {
            break;
        };
        let needed = octets.len() + chunk.len();
        if needed > limit && most > limit && needed <= most {
            // The beginning says whether the rest is worth its memory.
            let rest = limit - octets.len();
            octets.extend_from_slice(&chunk[..rest]);
            reservation.grow(rest)?;
            if !large.service.admits_large_body(large.path, &octets) {
                return Err(Rejection::BodyTooLarge { limit });
            }
            limit = most;
            *deadline += limits.body_time * LARGE_BODY_TIMES;
            reservation.become_large();
            reservation.grow(chunk.len() - rest)?;
            octets.reserve((declared as usize).min(most).saturating_sub(octets.len()));
            octets.extend_from_slice(&chunk[rest..]);
            continue;
        }
        if needed > limit {
            return Err(Rejection::BodyTooLarge { limit });
        }
        reservation.grow(chunk.len())?;
        if octets.is_empty() && chunk.len() as u64 == declared {
            return Ok(HeldBody {
                octets: chunk,
                reservation,
            });
        }
        octets.extend_from_slice(&chunk);
    }
    Ok(HeldBody {
        octets: octets.freeze(),
        reservation,
    })
}

/// When the next octets must be there, of a body that began at `begun` and of which `octets` are there. It neither falls
/// behind its rate by more than a pause, nor makes a longer one because it was fast before.
fn next_due(begun: Instant, octets: usize, limits: &Limits) -> Instant {
    let by_rate = Duration::from_millis(octets as u64 * 1000 / limits.body_rate as u64);
    (begun + by_rate).min(Instant::now()) + PAUSE
}

async fn discard(mut body: Incoming, most: usize) {
    let mut taken = 0;
    while taken <= most
        && let Ok(Some(chunk)) = next(&mut body).await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_keeps_its_rate_and_saves_no_time_by_having_been_fast() {
        let limits = Limits {
            body_rate: 1000,
            ..Limits::default()
        };
        let begun = Instant::now();
        let due = |octets| next_due(begun, octets, &limits) - begun;
        assert_eq!(due(0), PAUSE);
        assert_eq!(due(500_000), PAUSE);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(due(0), PAUSE);
        assert_eq!(due(5_000), Duration::from_secs(5) + PAUSE);
        assert_eq!(due(500_000), Duration::from_secs(10) + PAUSE);
    }
}
