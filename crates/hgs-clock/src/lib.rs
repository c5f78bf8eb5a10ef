//! The time as an argument: the system's clock in programs, one that is set by hand in tests.
//!
//! Guardians and hosts take a [`Clock`] where they start and pass on the time that it tells; protocols and formats take
//! times only, and no clock.

use std::fmt::Debug;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hgs_pki::Time;

/// Tells the time, and waits for it.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The time now, in UTC.
    fn now(&self) -> Time;

    /// Resolves when [`Self::now`] is `when` or later, also if the clock is set meanwhile.
    fn wait_until(&self, when: Time) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            while let Some(left) = when.since(self.now()).filter(|left| left.get() > 0) {
                let left = Duration::from_secs(left.get());
                tokio::time::sleep(left.min(LONGEST_WAIT)).await;
            }
        })
    }
}

/// The longest time without a look at the clock: it may be set during a wait.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Time {
        time_of(SystemTime::now())
    }
}

/// The same time in whole seconds. A time before 1970 counts as 1970: everything is not yet valid then, and says so.
#[must_use]
pub fn time_of(time: SystemTime) -> Time {
    let since = time.duration_since(UNIX_EPOCH);
    let seconds = since.map_or(0, |since| since.as_secs());
    Time::from_unix(i64::try_from(seconds).unwrap_or(i64::MAX))
}
