//! How many sets this thread has compiled, for tests.

use std::cell::Cell;

thread_local! {
    static GROUPS: Cell<u64> = const { Cell::new(0) };
    static HOSTS: Cell<u64> = const { Cell::new(0) };
}

pub(crate) fn group() {
    GROUPS.set(GROUPS.get() + 1);
}

pub(crate) fn host() {
    HOSTS.set(HOSTS.get() + 1);
}

/// Sets of groups and of hosts that were compiled since the last call.
pub(crate) fn taken() -> (u64, u64) {
    (GROUPS.take(), HOSTS.take())
}
