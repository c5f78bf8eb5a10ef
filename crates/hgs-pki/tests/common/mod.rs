//! Keys, times and short ways to certificates that the tests share.
#![allow(dead_code, reason = "each test program uses its own part")]

pub(crate) mod openssl;

use hgs_crypto::rsa::{PrivateKey, SignatureScheme};
use hgs_pki::issue::{Issuer, Template, prepare};
use hgs_pki::{Certificate, Seconds, Time, Validity};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};

/// The same key for the same name: generating one takes long.
pub(crate) fn key(name: &'static str) -> Arc<PrivateKey> {
    static KEYS: LazyLock<Mutex<BTreeMap<&'static str, Arc<PrivateKey>>>> =
        LazyLock::new(Mutex::default);
    let mut keys = KEYS.lock().unwrap();
    let key = keys.entry(name);
    key.or_insert_with(|| Arc::new(PrivateKey::generate(2048).unwrap()))
        .clone()
}

pub(crate) fn sign(key: &PrivateKey, message: &[u8]) -> Vec<u8> {
    key.sign(SignatureScheme::Pkcs1Sha256, message).unwrap()
}

/// A fixed time; no test asks the clock.
pub(crate) fn now() -> Time {
    "2026-11-21T19:00:00Z".parse().unwrap()
}

pub(crate) fn ten_years() -> Validity {
    Validity {
        not_before: now(),
        not_after: now().checked_add(Seconds::from_days(3_652)).unwrap(),
    }
}

pub(crate) fn issue(
    template: Template,
    subject: &PrivateKey,
    issuer: Issuer<'_>,
    issuer_key: &PrivateKey,
) -> Certificate {
    let prepared = prepare(template, subject.public(), issuer, [0x5a; 16]).unwrap();
    let signature = sign(issuer_key, prepared.to_be_signed());
    prepared.assemble(&signature).unwrap()
}
