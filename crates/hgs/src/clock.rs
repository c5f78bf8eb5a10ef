//! The one place where this program asks for the time.

use hgs_clock::{Clock as _, SystemClock};
use hgs_pki::Time;

pub(crate) fn now() -> Time {
    SystemClock.now()
}
