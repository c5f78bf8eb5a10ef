//! The one place where this program asks for the time.

use hgs_pki::Time;
use hgs_server::{Clock as _, SystemClock};

pub(crate) fn now() -> Time {
    SystemClock.now()
}
