//! How many streams there may be.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hgs_admin::{AdminError, ErrorCode};

/// Streams of one caller, and of all callers together.
const PER_CALLER: usize = 2;
const IN_ALL: usize = 64;

/// The streams that are open, by caller.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<BTreeMap<String, usize>>);

/// The place of one stream, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    caller: String,
}

impl Places {
    /// A place for a stream of `caller`.
    pub(super) fn take(self: &Arc<Self>, caller: &str) -> Result<Place, AdminError> {
        let mut taken = self.lock();
        let in_all: usize = taken.values().sum();
        let of_caller = taken.get(caller).copied().unwrap_or(0);
        if of_caller >= PER_CALLER {
            let message =
                format!("{caller} has {PER_CALLER} event streams, and may have no more at once");
            let error = AdminError::new(ErrorCode::TooMany, message);
            return Err(error.with_remedy("end one of them"));
        }
        if in_all >= IN_ALL {
            let message = format!("all {IN_ALL} event streams of this server are in use");
            return Err(AdminError::new(ErrorCode::Unavailable, message)
                .with_remedy("come back later, or end streams that nobody reads"));
        }
        taken.insert(caller.to_owned(), of_caller + 1);
        Ok(Place {
            places: Arc::clone(self),
            caller: caller.to_owned(),
        })
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.lock().values().sum()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        // Nothing between lock and unlock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        match taken.get_mut(&self.caller) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&self.caller)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_has_two_streams_and_all_together_have_sixty_four() {
        let places = Arc::new(Places::default());
        let mut held = Vec::new();
        for caller in 0..32 {
            let caller = format!("uid {caller}");
            held.push(places.take(&caller).unwrap());
            held.push(places.take(&caller).unwrap());
            assert_eq!(places.take(&caller).unwrap_err().code, ErrorCode::TooMany);
        }
        let newcomer = places.take("uid 99").unwrap_err();
        assert_eq!(newcomer.code, ErrorCode::Unavailable);
        assert_eq!(places.taken(), IN_ALL);
        held.remove(0);
        let newcomer = places.take("uid 99").unwrap();
        assert!(places.take("uid 0").is_err(), "it took the last place");
        drop(newcomer);
        held.push(places.take("uid 0").unwrap());
        held.clear();
        assert_eq!(places.taken(), 0);
        assert!(places.lock().is_empty());
    }
}
