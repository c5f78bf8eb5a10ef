//! The time, as an argument.

use std::fmt::Debug;
use std::time::{SystemTime, UNIX_EPOCH};

use hgs_pki::Time;

/// Tells the time. Tests bring a clock of their own.
pub trait Clock: Debug + Send + Sync {
    /// The time now.
    fn now(&self) -> Time;
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Time {
        time_of(SystemTime::now())
    }
}

/// A time before 1970 counts as 1970: everything is not yet valid then, and says so.
pub(crate) fn time_of(time: SystemTime) -> Time {
    let since = time.duration_since(UNIX_EPOCH);
    let seconds = since.map_or(0, |since| since.as_secs());
    Time::from_unix(i64::try_from(seconds).unwrap_or(i64::MAX))
}
