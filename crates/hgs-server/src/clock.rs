//! The time as an argument: the system's clock in programs, one that is set by hand in tests.

use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use hgs_pki::Time;

/// Tells the time, and waits for it.
pub trait Clock: Send + Sync + 'static {
    /// The time now, in UTC.
    fn now(&self) -> Time;

    /// Resolves when [`Self::now`] is `when` or later.
    fn wait_until(&self, when: Time) -> BoxFuture<'_, ()>;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// The longest time without a look at the clock: it may be set during a wait.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

impl Clock for SystemClock {
    fn now(&self) -> Time {
        let seconds = match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
        };
        Time::from_unix(seconds)
    }

    fn wait_until(&self, when: Time) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            while let Some(left) = when.since(self.now()).filter(|left| left.get() > 0) {
                let left = Duration::from_secs(left.get());
                tokio::time::sleep(left.min(LONGEST_WAIT)).await;
            }
        })
    }
}
