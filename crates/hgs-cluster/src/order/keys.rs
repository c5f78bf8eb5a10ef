//! What stands where in etcd.
//!
//! ```text
//!  m                    which cluster it is: 16 octets, and the version of this layout (u32)
//!  n/NODE               of a node: the number of its last entry (u64) and the chain tag there; one octet more if it was removed
//!  b/NODE/NUMBER        an entry, or how many parts it has
//!  p/NODE/NUMBER/TAG/I  a part
//!  v/KEY                written last by whom does not matter, but when
//!  v/*                  the same of everything
//!  o                    the floor (u64): entries up to this revision, and what was written under `v/` until then, may be gone;
//!                       or eight octets of 255 and the name of the node that has found etcd put back: nobody writes any more
//!  d/NODE               what a node reports of itself
//!  a/NODE               where it is reached, in an etcd whose members are not the nodes
//! ```
//!
//! Numbers are big-endian, in keys 16 digits of hexadecimal: their order is that of their octets.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use bytes::{BufMut as _, Bytes, BytesMut};
use hgs_etcd::Keys;
use hgs_store::order::{DependencyKey, Last};
use serde::{Deserialize, Serialize};

use super::gather::octets_of;
use crate::node::{NodeName, text};

/// The longest prefix.
const MAX_PREFIX: usize = 128;
/// As many as an etcd of 2 GiB can hold, some 14 million, are 220,000 in a part, and so in one answer of 16 MiB.
const PARTS_OF_DEPENDENCIES: usize = 64;

/// Where the keys of one cluster begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Keyspace {
    prefix: String,
}

impl Default for Keyspace {
    fn default() -> Self {
        Self {
            prefix: "openhgs/".to_owned(),
        }
    }
}

/// A text that keys can't begin with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "keys can't begin with {0:?}: it takes names such as `openhgs` or `openhgs/site-1`, of two or more small letters, digits, `-` and `.`"
)]
pub struct PrefixError(pub String);

impl Keyspace {
    /// Below a prefix, for an etcd that others use, too. A part of one letter is none: the keys of a cluster go on so, and
    /// one cluster could be inside another one.
    ///
    /// # Errors
    /// If keys can't begin so.
    pub fn below(prefix: &str) -> Result<Self, PrefixError> {
        let name = prefix.strip_suffix('/').unwrap_or(prefix);
        let is_name = |part: &str| part.len() > 1 && NodeName::from_str(part).is_ok();
        match name.len() <= MAX_PREFIX && name.split('/').all(is_name) {
            true => Ok(Self {
                prefix: format!("{name}/"),
            }),
            false => Err(PrefixError(prefix.to_owned())),
        }
    }

    /// All keys of the cluster.
    pub(crate) fn all(&self) -> Keys {
        Keys::Prefix(self.key(""))
    }

    /// A key that is never written.
    pub(crate) fn unused(&self) -> Bytes {
        self.key("t")
    }

    fn key(&self, rest: &str) -> Bytes {
        format!("{}{rest}", self.prefix).into()
    }

    pub(crate) fn cluster(&self) -> Bytes {
        self.key("m")
    }

    pub(crate) fn floor(&self) -> Bytes {
        self.key("o")
    }

    pub(crate) fn node(&self, node: &str) -> Bytes {
        self.key(&format!("n/{node}"))
    }

    pub(crate) fn nodes(&self) -> Keys {
        Keys::Prefix(self.key("n/"))
    }

    /// The name in a key of [`Self::nodes`], [`Self::reports`] or [`Self::addresses`].
    pub(crate) fn name_in(&self, key: &[u8]) -> Option<NodeName> {
        let name = key.get(self.prefix.len() + 2..)?;
        std::str::from_utf8(name).ok()?.parse().ok()
    }

    pub(crate) fn entry(&self, node: &str, number: u64) -> Bytes {
        self.key(&format!("b/{node}/{number:016x}"))
    }

    /// Entries of a node from a number on.
    pub(crate) fn entries_from(&self, node: &str, number: u64) -> Keys {
        // `0` is the octet after `/`.
        Keys::Between(self.entry(node, number), self.key(&format!("b/{node}0")))
    }

    /// Entries of a node up to a number.
    pub(crate) fn entries_to(&self, node: &str, number: u64) -> Keys {
        let end = self.entry(node, number.saturating_add(1));
        Keys::Between(self.key(&format!("b/{node}/")), end)
    }

    /// The number in the key of an entry.
    pub(crate) fn number_in(key: &[u8]) -> Option<u64> {
        let (_, digits) = key.split_at_checked(key.len().checked_sub(16)?)?;
        u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    }

    pub(crate) fn part(&self, node: &str, number: u64, tag: &PartsTag, place: u32) -> Bytes {
        self.key(&format!("{}{place:08x}", parts(node, number, tag)))
    }

    /// The parts of an entry from one on.
    pub(crate) fn parts_from(&self, node: &str, number: u64, tag: &PartsTag, place: u32) -> Keys {
        let end = format!("{}g", parts(node, number, tag));
        Keys::Between(self.part(node, number, tag, place), self.key(&end))
    }

    /// Parts of entries of a node up to a number, also of those that were never ordered.
    pub(crate) fn parts_to(&self, node: &str, number: u64) -> Keys {
        let end = format!("p/{node}/{:016x}", number.saturating_add(1));
        Keys::Between(self.key(&format!("p/{node}/")), self.key(&end))
    }

    pub(crate) fn dependency(&self, key: &DependencyKey) -> Bytes {
        self.key(&format!("v/{}", hexadecimal(key)))
    }

    pub(crate) fn everything(&self) -> Bytes {
        self.key("v/*")
    }

    /// All dependency keys, in parts of about the same size: they are digests.
    pub(crate) fn dependencies_in_parts(&self) -> impl Iterator<Item = Keys> {
        let step = 256 / PARTS_OF_DEPENDENCIES;
        (0..PARTS_OF_DEPENDENCIES).map(move |part| {
            let begin = match part {
                // `*` stands before the digits.
                0 => self.key("v/"),
                _ => self.key(&format!("v/{:02x}", part * step)),
            };
            let end = match part + 1 {
                // `0` is the octet after `/`.
                PARTS_OF_DEPENDENCIES => self.key("v0"),
                next => self.key(&format!("v/{:02x}", next * step)),
            };
            Keys::Between(begin, end)
        })
    }

    pub(crate) fn report(&self, node: &str) -> Bytes {
        self.key(&format!("d/{node}"))
    }

    pub(crate) fn reports(&self) -> Keys {
        Keys::Prefix(self.key("d/"))
    }

    pub(crate) fn address(&self, node: &str) -> Bytes {
        self.key(&format!("a/{node}"))
    }

    pub(crate) fn addresses(&self) -> Keys {
        Keys::Prefix(self.key("a/"))
    }
}

impl FromStr for Keyspace {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        Self::below(text)
    }
}

text!(Keyspace: PrefixError);

impl fmt::Display for Keyspace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.prefix.trim_end_matches('/'))
    }
}

/// Tells the parts of one proposal from those of another one with the same number, which may be on its way still.
pub(crate) type PartsTag = [u8; 16];

fn parts(node: &str, number: u64, tag: &PartsTag) -> String {
    format!("p/{node}/{number:016x}/{}/", hexadecimal(tag))
}

fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

/// What stands under the name of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) last: Last,
    /// It writes nothing any more.
    pub(crate) removed: bool,
}

impl Mark {
    pub(crate) const fn of(last: Last) -> Self {
        Self {
            last,
            removed: false,
        }
    }

    pub(crate) fn value(&self) -> Bytes {
        let Last { number, chain } = &self.last;
        let mut value = BytesMut::new();
        value.put_u64(*number);
        value.put_slice(chain);
        if self.removed {
            value.put_u8(1);
        }
        value.freeze()
    }

    pub(crate) fn read(value: &[u8]) -> Option<Self> {
        let (number, rest) = value.split_first_chunk()?;
        let (chain, rest) = rest.split_first_chunk()?;
        let removed = match rest {
            [] => false,
            [1] => true,
            _ => return None,
        };
        Some(Self {
            last: Last {
                number: u64::from_be_bytes(*number),
                chain: *chain,
            },
            removed,
        })
    }
}

/// What stands under the key of the floor. Every proposal compares that it is not above what was seen: so nothing is ordered
/// once it is halted, also by programs that know no halt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Floor {
    /// Entries up to this revision may be gone.
    At(u64),
    /// This node has seen commits that are gone without having left by the floor.
    Halted(NodeName),
}

impl Floor {
    /// Above every revision, and below every name that follows it.
    pub(crate) const NEVER: u64 = u64::MAX;

    pub(crate) fn value(&self) -> Bytes {
        match self {
            Self::At(revision) => octets_of(*revision),
            Self::Halted(node) => [&octets_of(Self::NEVER), node.as_str().as_bytes()]
                .concat()
                .into(),
        }
    }

    pub(crate) fn read(value: &[u8]) -> Option<Self> {
        let (number, name) = value.split_first_chunk()?;
        match (u64::from_be_bytes(*number), name) {
            (Self::NEVER, name) => {
                let name = std::str::from_utf8(name).ok()?;
                Some(Self::Halted(name.parse().ok()?))
            }
            (revision, []) => Some(Self::At(revision)),
            _ => None,
        }
    }
}

/// What stands under the key of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Packed {
    /// The entry.
    Whole(Bytes),
    /// It has so many parts, with so many octets in all.
    Parts {
        tag: PartsTag,
        count: u32,
        octets: u64,
    },
}

impl Packed {
    pub(crate) fn value(&self) -> Bytes {
        let mut value = BytesMut::new();
        match self {
            Self::Whole(octets) => {
                value.put_u8(0);
                value.put_slice(octets);
            }
            Self::Parts { tag, count, octets } => {
                value.put_u8(1);
                value.put_slice(tag);
                value.put_u32(*count);
                value.put_u64(*octets);
            }
        }
        value.freeze()
    }

    pub(crate) fn read(value: &Bytes) -> Option<Self> {
        match value.first()? {
            0 => Some(Self::Whole(value.slice(1..))),
            1 => {
                let (tag, rest) = value[1..].split_first_chunk()?;
                let (count, rest) = rest.split_first_chunk()?;
                let octets = rest.try_into().ok()?;
                Some(Self::Parts {
                    tag: *tag,
                    count: u32::from_be_bytes(*count),
                    octets: u64::from_be_bytes(octets),
                })
            }
            _ => None,
        }
    }

    pub(crate) fn octets(&self) -> u64 {
        match self {
            Self::Whole(octets) => octets.len() as u64,
            Self::Parts { octets, .. } => *octets,
        }
    }
}

/// Reads anything as values of etcd, and never panics: the body of a fuzz target.
#[doc(hidden)]
pub fn fuzz_values(data: &[u8]) {
    let keys = Keyspace::default();
    let _ = (keys.name_in(data), Keyspace::number_in(data));
    if let Some(mark) = Mark::read(data) {
        assert_eq!(mark.value(), data);
    }
    if let Some(floor) = Floor::read(data) {
        assert_eq!(floor.value(), data);
    }
    if let Some(packed) = Packed::read(&Bytes::copy_from_slice(data)) {
        assert_eq!(packed.value(), data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_their_numbers() {
        let keys = Keyspace::below("hgs-1").unwrap();
        assert_eq!(keys.entry("a", 0x1f), &b"hgs-1/b/a/000000000000001f"[..]);
        let number = Keyspace::number_in(&keys.entry("a", 0x1f));
        assert_eq!(number, Some(0x1f));
        let Keys::Between(first, end) = keys.entries_from("a", 3) else {
            panic!()
        };
        let other = keys.entry("a.b", 3);
        assert!(first <= keys.entry("a", u64::MAX) && keys.entry("a", u64::MAX) < end);
        assert!(other < first || end <= other);
        let Keys::Between(first, end) = keys.entries_to("a", 3) else {
            panic!()
        };
        assert!(first <= keys.entry("a", 3) && keys.entry("a", 3) < end);
        assert!(end <= keys.entry("a", 4));
        let part = |number, place| keys.part("a", number, &[0xab; 16], place);
        let Keys::Between(first, end) = keys.parts_from("a", 7, &[0xab; 16], 2) else {
            panic!()
        };
        assert!(part(7, 1) < first && first == part(7, 2) && part(7, u32::MAX) < end);
        let Keys::Between(first, end) = keys.parts_to("a", 7) else {
            panic!()
        };
        assert!(first < part(0, 0) && part(7, u32::MAX) < end && end < part(8, 0));
    }

    #[test]
    fn every_dependency_key_is_in_one_part() {
        let keys = Keyspace::default();
        let digests = (0..=255u8).map(|first| keys.dependency(&[first; 16]));
        for key in digests.chain([keys.everything()]) {
            let is_in = |part: &Keys| match part {
                Keys::Between(begin, end) => *begin <= key && key < *end,
                _ => false,
            };
            let parts = keys.dependencies_in_parts().filter(is_in).count();
            assert_eq!(parts, 1, "{key:?}");
        }
        for key in [keys.floor(), keys.report("n1"), keys.node("n1")] {
            let Keys::Between(begin, _) = keys.dependencies_in_parts().next().unwrap() else {
                panic!()
            };
            assert!(key < begin);
        }
    }

    proptest::proptest! {
        #[test]
        fn octets_from_anywhere_never_panic(data: Vec<u8>) {
            fuzz_values(&data);
        }
    }

    #[test]
    fn names_say_where_they_end() {
        let keys = Keyspace::default();
        let name = keys.name_in(&keys.node("node-1.example"));
        assert_eq!(name.unwrap().as_str(), "node-1.example");
        for name in ["", "a/b", "-a", "*", &"a".repeat(64)] {
            assert_eq!(keys.name_in(format!("openhgs/n/{name}").as_bytes()), None);
        }
        for (prefix, shown) in [("hgs", "hgs"), ("openhgs/site-1/", "openhgs/site-1")] {
            assert_eq!(Keyspace::below(prefix).unwrap().to_string(), shown);
        }
        // The last one would stand inside the keys of the cluster below `openhgs`.
        for prefix in ["", "/", "/a1", "a1//b1", "A1", "a b", "a1\0", "openhgs/n"] {
            assert!(Keyspace::below(prefix).is_err(), "{prefix}");
        }
    }

    #[test]
    fn values_are_read_as_they_were_written_and_in_order() {
        let last = Last {
            number: 7,
            chain: [9; 32],
        };
        let mark = Mark::of(last);
        assert_eq!(Mark::read(&mark.value()), Some(mark));
        let removed = Mark {
            removed: true,
            ..mark
        };
        assert_eq!(Mark::read(&removed.value()), Some(removed));
        assert_eq!(Mark::read(&mark.value()[1..]), None);
        assert_eq!(Mark::read(&[&mark.value()[..], &[2]].concat()), None);
        // As what is compared needs it: a value with its number stands after the number alone, and before the next one.
        assert!(mark.value() > 7u64.to_be_bytes()[..] && mark.value() < 8u64.to_be_bytes()[..]);
        let halted = Floor::Halted("node-1".parse().unwrap());
        for floor in [Floor::At(0), Floor::At(7), halted.clone()] {
            assert_eq!(Floor::read(&floor.value()), Some(floor));
        }
        // What a proposal compares: nobody has seen so much.
        let most = u64::try_from(i64::MAX).unwrap() + 1;
        assert!(halted.value() > octets_of(most) && halted.value() > octets_of(Floor::NEVER));
        for value in [
            &b""[..],
            b"short",
            b"\0\0\0\0\0\0\0\x07more",
            &[255; 8],
            b"\xff\xff\xff\xff\xff\xff\xff\xffa/b",
        ] {
            assert_eq!(Floor::read(value), None);
        }
        for packed in [
            Packed::Whole(Bytes::from_static(b"entry")),
            Packed::Parts {
                tag: [3; 16],
                count: 2,
                octets: 1 << 40,
            },
        ] {
            assert_eq!(Packed::read(&packed.value()), Some(packed));
        }
        assert_eq!(Packed::read(&Bytes::from_static(b"\x01short")), None);
        assert_eq!(Packed::read(&Bytes::from_static(b"\x02")), None);
        assert_eq!(Packed::read(&Bytes::new()), None);
    }
}
