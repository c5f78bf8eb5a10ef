//! What was computed once: everything here is a function of its input, and inputs come again in most states.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, OnceLock};

/// Values by the digests of what they are made from.
pub(super) struct Memo<K, V>(Mutex<HashMap<K, Arc<OnceLock<V>>>>);

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq, V: Clone> Memo<K, V> {
    /// The value for `key`: made by one thread, once, because what encrypts is different each time.
    pub(super) fn get(&self, key: K, make: impl FnOnce() -> V) -> V {
        let place = Arc::clone(self.0.lock().unwrap().entry(key).or_default());
        place.get_or_init(make).clone()
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}
