//! The clock algorithm: like "least recently used", with one flag per entry instead of a list.

use std::collections::BTreeMap;
use std::fmt;

use hgs_crypto::hash::Sha256Digest;

/// A map of bounded weight. A tree finds the entries, since its cost does not depend on how well the
/// digests are chosen, and it needs no random seed.
pub(super) struct ClockCache<V> {
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

impl<V> ClockCache<V> {
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

impl<V> fmt::Debug for ClockCache<V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "ClockCache({} of {})",
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
        let mut cache = ClockCache::new(3);
        for number in 0..3 {
            cache.insert(key(number), number, 1);
        }
        assert_eq!(cache.get(&key(0)), Some(&0));
        cache.insert(key(3), 3, 1);
        assert_eq!(cache.get(&key(1)), None);
        for number in [0, 2, 3] {
            assert_eq!(cache.get(&key(number)), Some(&number));
        }
    }

    #[test]
    fn size_is_bounded_and_zero_keeps_nothing() {
        let mut cache = ClockCache::new(5);
        for number in 0..100 {
            cache.insert(key(number), number, 1);
            cache.insert(key(number), number, 1);
            assert!(cache.entries.len() <= 5 && cache.places.len() == cache.entries.len());
        }
        assert_eq!(cache.get(&key(99)), Some(&99));
        let mut none = ClockCache::new(0);
        none.insert(key(1), 1, 1);
        assert_eq!(none.get(&key(1)), None);
    }

    #[test]
    fn weight_is_bounded() {
        let mut cache = ClockCache::new(10);
        for number in 0..100 {
            let weight = 1 + usize::from(number % 4);
            cache.insert(key(number), number, weight);
            assert_eq!(cache.get(&key(number)), Some(&number));
            let weights = cache.entries.iter().map(|entry| entry.weight);
            assert_eq!(weights.sum::<usize>(), cache.weight);
            assert!(cache.weight <= 10);
        }
        cache.insert(key(100), 100, 11);
        assert_eq!(cache.get(&key(100)), None);
    }
}
