//! Hostile octets for parsers: valid documents with small changes.

use hgs_crypto::Random;

use crate::fixtures::Repeatable;

/// Changed copies of a corpus, without end and always the same.
///
/// Each has one to four changes: a bit, an octet, a run that is left out, doubled or taken from another member of the
/// corpus, one of the `tokens` put in, or the rest cut off.
#[derive(Debug)]
pub struct Mutations<'c> {
    corpus: &'c [Vec<u8>],
    tokens: &'c [&'c [u8]],
    random: Repeatable,
}

impl<'c> Mutations<'c> {
    /// The mutations of `corpus`, with what means something to the parser as `tokens`.
    ///
    /// # Panics
    ///
    /// If there is nothing in the corpus or among the tokens.
    pub fn of(corpus: &'c [Vec<u8>], tokens: &'c [&'c [u8]]) -> Self {
        assert!(!corpus.is_empty() && !tokens.is_empty());
        Self {
            corpus,
            tokens,
            random: Repeatable::seeded(corpus.len() as u64),
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        let mut octets = [0; 8];
        let filled = self.random.fill(&mut octets);
        filled.expect("a repeatable source does not fail");
        usize::from_le_bytes(octets) % bound.max(1)
    }

    /// A run of up to 16 octets.
    fn run(&mut self, octets: &[u8]) -> std::ops::Range<usize> {
        let start = self.below(octets.len() + 1);
        let end = octets.len().min(start + self.below(17));
        start..end
    }

    fn change(&mut self, octets: &mut Vec<u8>) {
        let place = self.below(octets.len() + 1);
        match self.below(7) {
            0 => {
                let bit = 1 << self.below(8);
                if let Some(octet) = octets.get_mut(place) {
                    *octet ^= bit;
                }
            }
            1 => {
                let new = self.below(256) as u8;
                if let Some(octet) = octets.get_mut(place) {
                    *octet = new;
                }
            }
            2 => drop(octets.drain(self.run(octets))),
            3 => {
                let run = octets[self.run(octets)].to_vec();
                octets.splice(place..place, run);
            }
            4 => {
                let other = &self.corpus[self.below(self.corpus.len())];
                let run = self.run(other);
                octets.splice(place..place, other[run].iter().copied());
            }
            5 => {
                let token = self.tokens[self.below(self.tokens.len())];
                octets.splice(place..place, token.iter().copied());
            }
            _ => octets.truncate(place),
        }
    }
}

impl Iterator for Mutations<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut octets = self.corpus[self.below(self.corpus.len())].clone();
        for _ in 0..=self.below(4) {
            self.change(&mut octets);
        }
        Some(octets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutations_are_many_and_always_the_same() {
        let corpus = [b"{\"a\":[1,2,3]}".to_vec(), b"[]".to_vec()];
        let make = || -> Vec<_> { Mutations::of(&corpus, &[b"{"]).take(500).collect() };
        let different: std::collections::BTreeSet<_> = make().into_iter().collect();
        assert_eq!(make(), make());
        assert!(different.len() > 300, "{}", different.len());
    }
}
