//! Transactions, and what they are made of.

use bytes::Bytes;

use crate::wire;

/// The number of a state of the whole store: each transaction that writes makes the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub i64);

/// A transaction: if all comparisons hold, one list of operations is done, otherwise the other one.
///
/// etcd 3.4 takes 128 operations in each list unless `--max-txn-ops` says more, each key put once, and a request of 1.5 MiB.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Txn {
    /// What has to hold.
    pub compare: Vec<Compare>,
    /// What is done then.
    pub then: Vec<Operation>,
    /// What is done otherwise: reads, as a rule, of what did not hold.
    pub otherwise: Vec<Operation>,
}

/// What is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// The key was written last at this revision.
    Revision(Bytes, Revision),
    /// All of these keys were written last before this revision. Keys that are absent were.
    Before(Keys, Revision),
    /// There is no such key.
    Absent(Bytes),
    /// The key has this value.
    Value(Bytes, Bytes),
    /// The key is there, and its value stands before this one, octet by octet.
    Below(Bytes, Bytes),
    /// The key is there, and its value stands after this one, octet by octet: a longer one after its own beginning.
    Above(Bytes, Bytes),
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Writes a key.
    Put(Bytes, Bytes),
    /// Deletes keys.
    Delete(Keys),
    /// Reads one key.
    Get(Bytes),
    /// Reads keys.
    Range(Range),
}

/// Which keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    /// One.
    One(Bytes),
    /// From the first on, up to the second and without it.
    Between(Bytes, Bytes),
    /// All that begin so.
    Prefix(Bytes),
}

/// A read of keys in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Which.
    pub keys: Keys,
    /// At most so many; 0 for all.
    pub limit: usize,
    /// As they were at this revision; the latest unless given.
    pub at: Option<Revision>,
    /// Only those that were written last at this revision or before. The member looks at all the others, too.
    pub until: Option<Revision>,
    /// Without values.
    pub names_only: bool,
    /// What the member holds, which may be old, and is there without a quorum.
    pub stale: bool,
}

impl Range {
    /// All of these keys, as they are.
    #[must_use]
    pub const fn of(keys: Keys) -> Self {
        Self {
            keys,
            limit: 0,
            at: None,
            until: None,
            names_only: false,
            stale: false,
        }
    }
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// Where it was written last.
    pub revision: Revision,
    /// Where it was made.
    pub made: Revision,
}

/// What a read found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// The state of the store that was read.
    pub revision: Revision,
    /// The records, in the order of their keys.
    pub records: Vec<Record>,
    /// Whether there are more.
    pub more: bool,
}

/// How a transaction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Whether all comparisons held.
    pub succeeded: bool,
    /// The state of the store after it.
    pub revision: Revision,
    /// What each operation that was done found: nothing, for those that write.
    pub found: Vec<Found>,
}

impl Keys {
    fn ends(&self) -> (Bytes, Bytes) {
        match self {
            Self::One(key) => (key.clone(), Bytes::new()),
            Self::Between(from, to) => (from.clone(), to.clone()),
            // Every key: one without octets is none.
            Self::Prefix(prefix) if prefix.is_empty() => {
                (Bytes::from_static(&[0]), after_prefix(prefix))
            }
            Self::Prefix(prefix) => (prefix.clone(), after_prefix(prefix)),
        }
    }
}

/// The first key that does not begin with a prefix, in etcd's form: one octet of zero stands for no end.
fn after_prefix(prefix: &[u8]) -> Bytes {
    let kept = prefix.iter().rposition(|octet| *octet != u8::MAX);
    match kept {
        None => Bytes::from_static(&[0]),
        Some(last) => {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            end.into()
        }
    }
}

impl From<&Range> for wire::RangeRequest {
    fn from(range: &Range) -> Self {
        let (key, range_end) = range.keys.ends();
        Self {
            key,
            range_end,
            limit: i64::try_from(range.limit).unwrap_or(i64::MAX),
            revision: range.at.unwrap_or_default().0,
            max_mod_revision: range.until.unwrap_or_default().0,
            keys_only: range.names_only,
            serializable: range.stale,
            ..Self::default()
        }
    }
}

impl From<&Compare> for wire::Compare {
    fn from(compare: &Compare) -> Self {
        use wire::{CompareResult, CompareTarget, Compared};
        let written = |revision: &Revision| (CompareTarget::Mod, Compared::ModRevision(revision.0));
        let valued = |value: &Bytes| (CompareTarget::Value, Compared::Value(value.clone()));
        let one = |key: &Bytes| (key.clone(), Bytes::new());
        let ((key, range_end), result, (target, compared)) = match compare {
            Compare::Revision(key, revision) => (one(key), CompareResult::Equal, written(revision)),
            Compare::Before(keys, revision) => {
                (keys.ends(), CompareResult::Less, written(revision))
            }
            Compare::Absent(key) => (one(key), CompareResult::Equal, written(&Revision(0))),
            Compare::Value(key, value) => (one(key), CompareResult::Equal, valued(value)),
            Compare::Below(key, value) => (one(key), CompareResult::Less, valued(value)),
            Compare::Above(key, value) => (one(key), CompareResult::Greater, valued(value)),
        };
        Self {
            result: result.into(),
            target: target.into(),
            key,
            compared: Some(compared),
            range_end,
        }
    }
}

impl From<&Operation> for wire::RequestOp {
    fn from(operation: &Operation) -> Self {
        let request = match operation {
            Operation::Put(key, value) => wire::Request::Put(wire::PutRequest {
                key: key.clone(),
                value: value.clone(),
            }),
            Operation::Delete(keys) => {
                let (key, range_end) = keys.ends();
                wire::Request::DeleteRange(wire::DeleteRangeRequest { key, range_end })
            }
            Operation::Get(key) => {
                wire::Request::Range((&Range::of(Keys::One(key.clone()))).into())
            }
            Operation::Range(range) => wire::Request::Range(range.into()),
        };
        Self {
            request: Some(request),
        }
    }
}

impl From<&Txn> for wire::TxnRequest {
    fn from(txn: &Txn) -> Self {
        Self {
            compare: txn.compare.iter().map(Into::into).collect(),
            success: txn.then.iter().map(Into::into).collect(),
            failure: txn.otherwise.iter().map(Into::into).collect(),
        }
    }
}

impl From<wire::KeyValue> for Record {
    fn from(record: wire::KeyValue) -> Self {
        Self {
            key: record.key,
            value: record.value,
            revision: Revision(record.mod_revision),
            made: Revision(record.create_revision),
        }
    }
}

pub(crate) fn revision(header: Option<&wire::ResponseHeader>) -> Revision {
    Revision(header.map_or(0, |header| header.revision))
}

impl From<wire::RangeResponse> for Found {
    fn from(response: wire::RangeResponse) -> Self {
        Self {
            revision: revision(response.header.as_ref()),
            records: response.kvs.into_iter().map(Into::into).collect(),
            more: response.more,
        }
    }
}

impl From<wire::TxnResponse> for Committed {
    fn from(response: wire::TxnResponse) -> Self {
        let found = response
            .responses
            .into_iter()
            .map(|one| match one.response {
                Some(wire::Response::Range(found)) => found.into(),
                _ => Found::default(),
            });
        Self {
            succeeded: response.succeeded,
            revision: revision(response.header.as_ref()),
            found: found.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_the_first_key_beyond_it() {
        assert_eq!(after_prefix(b"r/host/"), &b"r/host0"[..]);
        assert_eq!(after_prefix(b"a\xff\xff"), &b"b"[..]);
        assert_eq!(after_prefix(b"\xff"), &b"\0"[..]);
        assert_eq!(after_prefix(b""), &b"\0"[..]);
    }
}
