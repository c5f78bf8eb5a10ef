//! How the keeper of a module is woken, and how long it is waited for.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What wakes the keeper.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<Rung>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Rung {
    work: bool,
    at_once: bool,
    closing: bool,
    ended: bool,
}

/// Why the keeper woke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// There is something to do, or time has passed.
    Work,
    /// Somebody wants everything tried now.
    AtOnce,
    /// The end.
    Closing,
}

impl Bell {
    pub(crate) fn ring(&self) {
        lock(&self.rung).work = true;
        self.changed.notify_all();
    }

    pub(crate) fn ring_at_once(&self) {
        lock(&self.rung).at_once = true;
        self.changed.notify_all();
    }

    pub(crate) fn ring_for_the_end(&self) {
        lock(&self.rung).closing = true;
        self.changed.notify_all();
    }

    /// Waits for a ring, at most until `deadline`.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Woken {
        let mut rung = lock(&self.rung);
        loop {
            if rung.closing {
                return Woken::Closing;
            }
            if std::mem::take(&mut rung.at_once) {
                rung.work = false;
                return Woken::AtOnce;
            }
            if std::mem::take(&mut rung.work) {
                return Woken::Work;
            }
            rung = match deadline {
                None => {
                    let woken = self.changed.wait(rung);
                    woken.unwrap_or_else(PoisonError::into_inner)
                }
                Some(deadline) => {
                    let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                        return Woken::Work;
                    };
                    let woken = self.changed.wait_timeout(rung, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    pub(crate) fn say_ended(&self) {
        lock(&self.rung).ended = true;
        self.changed.notify_all();
    }

    /// Waits until the keeper has gone, at most until `deadline`.
    pub(crate) fn wait_for_the_end(&self, deadline: Instant) {
        let mut rung = lock(&self.rung);
        while !rung.ended {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return;
            };
            let woken = self.changed.wait_timeout(rung, left);
            rung = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Whoever panicked with the lock left nothing half done: each holder makes one change.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
