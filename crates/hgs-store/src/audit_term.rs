//! What the index of the audit log is made of.

use std::fmt::Display;

use hgs_crypto::hash::sha256;
use hgs_pki::Time;

/// What an audit record is found under: the start of a digest, so that all are of one length. Two
/// that are equal by accident cost a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FilterTerm(pub(crate) i64);

impl FilterTerm {
    pub(crate) fn of(kind: &str, value: &dyn Display) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = sha256(format!("{kind} {value}").as_bytes());
        Self(i64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }

    pub(crate) fn of_host(name: &str) -> Self {
        Self::of("host", &name.to_ascii_lowercase())
    }
}

/// The day of a time, since 1970.
pub(crate) fn day(time: Time) -> i64 {
    time.unix().div_euclid(86_400)
}
