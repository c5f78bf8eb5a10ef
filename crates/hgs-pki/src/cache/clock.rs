//! The clock algorithm: like "least recently used", with one flag per entry instead of a list.

use std::collections::BTreeMap;
use std::fmt;

use hgs_crypto::hash::Sha256Digest;

/// A map of bounded weight. A tree finds the entries, since its cost does not depend on how well the
/// digests are chosen, and it needs no random seed.
pub(super) struct Clock<V> {
    capacity: usize,
    weight: usize,
    places: BTreeMap<Sha256Digest, usize>,
    entries: Vec<Entry<V>>,
    hand: usize,
}

struct Entry<V> {
    key: Sha256Digest,
    value: V,
    weight: usize,
    used: bool,
}

impl<V> Clock<V> {
    pub(super) const fn new(capacity: usize) -> Self {
        Self {
            capacity,
            weight: 0,
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

    pub(super) fn insert(&mut self, key: Sha256Digest, value: V, weight: usize) {
        if weight > self.capacity || self.places.contains_key(&key) {
            return;
        }
        while self.weight + weight > self.capacity {
            self.remove_one();
        }
        self.weight += weight;
        self.places.insert(key, self.entries.len());
        self.entries.push(Entry {
            key,
            value,
            weight,
            used: false,
        });
    }

    /// Removes the first entry that was not used since the hand last passed it. There is one at least.
    fn remove_one(&mut self) {
        loop {
            if self.hand >= self.entries.len() {
                self.hand = 0;
            }
            if !std::mem::take(&mut self.entries[self.hand].used) {
                break;
            }
            self.hand += 1;
        }
        let removed = self.entries.swap_remove(self.hand);
        self.weight -= removed.weight;
        self.places.remove(&removed.key);
        if let Some(moved) = self.entries.get(self.hand) {
            self.places.insert(moved.key, self.hand);
        }
        // What took its place is the newest, and has its time.
        self.hand += 1;
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
            clock.insert(key(number), number, 1);
        }
        assert_eq!(clock.get(&key(0)), Some(&0));
        clock.insert(key(3), 3, 1);
        assert_eq!(clock.get(&key(1)), None);
        for number in [0, 2, 3] {
            assert_eq!(clock.get(&key(number)), Some(&number));
        }
    }

    #[test]
    fn size_is_bounded_and_zero_keeps_nothing() {
        let mut clock = Clock::new(5);
        for number in 0..100 {
            clock.insert(key(number), number, 1);
            clock.insert(key(number), number, 1);
            assert!(clock.entries.len() <= 5 && clock.places.len() == clock.entries.len());
        }
        assert_eq!(clock.get(&key(99)), Some(&99));
        let mut none = Clock::new(0);
        none.insert(key(1), 1, 1);
        assert_eq!(none.get(&key(1)), None);
    }

    #[test]
    fn weight_is_bounded() {
        let mut clock = Clock::new(10);
        for number in 0..100 {
            let weight = 1 + usize::from(number % 4);
            clock.insert(key(number), number, weight);
            assert_eq!(clock.get(&key(number)), Some(&number));
            let weights = clock.entries.iter().map(|entry| entry.weight);
            assert_eq!(weights.sum::<usize>(), clock.weight);
            assert!(clock.weight <= 10);
        }
        clock.insert(key(100), 100, 11);
        assert_eq!(clock.get(&key(100)), None);
    }
}
