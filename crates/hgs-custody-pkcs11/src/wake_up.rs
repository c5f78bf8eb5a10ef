//! Wakes the keeper of a module, and waits for its end.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Wakes the keeper.
#[derive(Debug, Default)]
pub(crate) struct WakeUp {
    pending: Mutex<Pending>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Pending {
    work: bool,
    at_once: bool,
    closing: bool,
    ended: bool,
}

/// Why the keeper woke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WakeReason {
    /// There is something to do, or time has passed.
    Work,
    /// Everything is to be tried now.
    AtOnce,
    /// The keeper is to end.
    Closing,
}

impl WakeUp {
    pub(crate) fn notify_work(&self) {
        lock(&self.pending).work = true;
        self.changed.notify_all();
    }

    pub(crate) fn notify_retry(&self) {
        lock(&self.pending).at_once = true;
        self.changed.notify_all();
    }

    pub(crate) fn notify_closing(&self) {
        lock(&self.pending).closing = true;
        self.changed.notify_all();
    }

    /// Waits for a notification, at most until `deadline`.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> WakeReason {
        let mut pending = lock(&self.pending);
        loop {
            if pending.closing {
                return WakeReason::Closing;
            }
            if std::mem::take(&mut pending.at_once) {
                pending.work = false;
                return WakeReason::AtOnce;
            }
            if std::mem::take(&mut pending.work) {
                return WakeReason::Work;
            }
            pending = match deadline {
                None => {
                    let woken = self.changed.wait(pending);
                    woken.unwrap_or_else(PoisonError::into_inner)
                }
                Some(deadline) => {
                    let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                        return WakeReason::Work;
                    };
                    let woken = self.changed.wait_timeout(pending, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    pub(crate) fn notify_ended(&self) {
        lock(&self.pending).ended = true;
        self.changed.notify_all();
    }

    /// Waits until the keeper has gone, at most until `deadline`.
    pub(crate) fn wait_until_ended(&self, deadline: Instant) {
        let mut pending = lock(&self.pending);
        while !pending.ended {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return;
            };
            let woken = self.changed.wait_timeout(pending, left);
            pending = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A thread that panicked with the lock left nothing half done: each holder makes one change.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
