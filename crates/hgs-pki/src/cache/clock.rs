//! The clock algorithm: like "least recently used", with one flag per entry instead of a list.

use std::collections::BTreeMap;
use std::fmt;

use hgs_crypto::hash::Sha256Digest;

/// A map of bounded size. A tree finds the entries, since its cost does not depend on how well the
/// digests are chosen, and it needs no random seed.
pub(super) struct Clock<V> {
    capacity: usize,
    places: BTreeMap<Sha256Digest, usize>,
    entries: Vec<Entry<V>>,
    hand: usize,
}

struct Entry<V> {
    key: Sha256Digest,
    value: V,
    used: bool,
}

impl<V> Clock<V> {
    pub(super) const fn new(capacity: usize) -> Self {
        Self {
            capacity,
            places: BTreeMap::new(),
            entries: Vec::new(),
            hand: 0,
        }
    }

    pub(super) fn get(&mut self, key: &Sha256Digest) -> Option<&V> {
        let entry = self.entries.get_mut(*self.places.get(key)?)?;
        entry.used = true;
        Some(&entry.value)
    }

    pub(super) fn insert(&mut self, key: Sha256Digest, value: V) {
        if self.capacity == 0 || self.places.contains_key(&key) {
            return;
        }
        let entry = Entry {
            key,
            value,
            used: false,
        };
        if self.entries.len() < self.capacity {
            self.places.insert(key, self.entries.len());
            self.entries.push(entry);
        } else {
            self.replace(entry);
        }
    }

    /// Puts `entry` in the place of the first that was not used since the hand last passed it.
    fn replace(&mut self, entry: Entry<V>) {
        loop {
            let place = self.hand;
            self.hand = (self.hand + 1) % self.capacity;
            // There are `capacity` entries, so the hand always points at one.
            let Some(old) = self.entries.get_mut(place) else {
                return;
            };
            if !std::mem::take(&mut old.used) {
                self.places.remove(&old.key);
                self.places.insert(entry.key, place);
                *old = entry;
                return;
            }
        }
    }
}

impl<V> fmt::Debug for Clock<V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "Clock({} of {})",
            self.entries.len(),
            self.capacity
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> Sha256Digest {
        [number; 32]
    }

    #[test]
    fn what_is_used_stays_and_what_is_not_goes() {
        let mut clock = Clock::new(3);
        for number in 0..3 {
            clock.insert(key(number), number);
        }
        assert_eq!(clock.get(&key(0)), Some(&0));
        clock.insert(key(3), 3);
        assert_eq!(clock.get(&key(1)), None);
        for number in [0, 2, 3] {
            assert_eq!(clock.get(&key(number)), Some(&number));
        }
    }

    #[test]
    fn size_is_bounded_and_zero_keeps_nothing() {
        let mut clock = Clock::new(5);
        for number in 0..100 {
            clock.insert(key(number), number);
            clock.insert(key(number), number);
            assert!(clock.entries.len() <= 5 && clock.places.len() == clock.entries.len());
        }
        assert_eq!(clock.get(&key(99)), Some(&99));
        let mut none = Clock::new(0);
        none.insert(key(1), 1);
        assert_eq!(none.get(&key(1)), None);
    }
}
