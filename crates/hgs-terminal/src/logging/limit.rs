//! A bound for the lines of log that peers can cause, whatever they send and however often.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{Event, Subscriber, warn};
use tracing_subscriber::layer::{Context, Layer};

/// The target of events of libraries that use another crate for their log, rustls for one.
const LIBRARIES: &str = "log";

/// Lines in one period.
const MOST: u64 = 60;

/// How long a period is.
const PERIOD: Duration = Duration::from_mins(1);

/// The bound of this process, which has one log.
static LIMIT: Limit = Limit(Mutex::new(Period {
    begun: None,
    logged: 0,
    left_out: 0,
}));

/// Counts lines by periods.
#[derive(Debug)]
struct Limit(Mutex<Period>);

#[derive(Debug)]
struct Period {
    begun: Option<Instant>,
    logged: u64,
    left_out: u64,
}

impl Limit {
    /// Whether a line may be logged at `now`.
    fn admit(&self, now: Instant) -> bool {
        let mut period = self.lock();
        if period.begun.is_none_or(|begun| now >= begun + PERIOD) {
            period.begun = Some(now);
            period.logged = 0;
        }
        let admitted = period.logged < MOST;
        if admitted {
            period.logged += 1;
        } else {
            period.left_out += 1;
        }
        admitted
    }

    /// How many lines were left out in a period that is over at `now`, once.
    fn take_left_out(&self, now: Instant) -> Option<u64> {
        let mut period = self.lock();
        let over = period.begun.is_some_and(|begun| now >= begun + PERIOD);
        (over && period.left_out > 0).then(|| std::mem::take(&mut period.left_out))
    }

    fn lock(&self) -> MutexGuard<'_, Period> {
        // Nothing between lock and unlock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves out events above the bound: those that any peer can cause, and those of libraries.
pub(super) struct Limited {
    /// The target of events that any peer can cause.
    pub(super) peers: Option<&'static str>,
}

impl<S: Subscriber> Layer<S> for Limited {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let target = event.metadata().target();
        let is_bounded = Some(target) == self.peers || target == LIBRARIES;
        !is_bounded || LIMIT.admit(Instant::now())
    }
}

/// Tells at the end of each period how many lines were left out, for as long as the process lives.
pub(super) fn tell_what_is_left_out() -> std::io::Result<()> {
    let teller = thread::Builder::new().name("log".to_owned());
    teller.spawn(|| {
        loop {
            thread::sleep(PERIOD);
            if let Some(left_out) = LIMIT.take_left_out(Instant::now()) {
                warn!(
                    left_out,
                    "lines that peers or libraries caused are not in this log"
                );
            }
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_lines_a_period_are_logged_and_the_others_are_counted() {
        let limit = Limit(Mutex::new(Period {
            begun: None,
            logged: 0,
            left_out: 0,
        }));
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let admitted = |seconds| (0..1000).filter(|_| limit.admit(at(seconds))).count();
        assert_eq!(admitted(0), 60);
        assert_eq!(admitted(59), 0);
        assert_eq!(limit.take_left_out(at(59)), None);
        assert_eq!(limit.take_left_out(at(60)), Some(940 + 1000));
        assert_eq!(limit.take_left_out(at(60)), None);
        assert_eq!(admitted(60), 60);
        assert_eq!(limit.take_left_out(at(200)), Some(940));
        assert!(limit.admit(at(200)));
        assert_eq!(limit.take_left_out(at(300)), None);
    }
}
