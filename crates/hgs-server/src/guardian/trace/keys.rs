//! Private keys, asked to do what the service asks of them.

use hgs_custody::PrivateKey;
use hgs_custody_pkcs11::Usage;
use hgs_pki::Certificate;
use hgs_trace::guardian::KeyTest;
use hgs_trace::{Observed, Problem};

use super::super::keys::KeyTable;
use super::super::proof::works;

/// Has the key of `certificate` work.
pub(super) fn work(keys: &KeyTable, certificate: &Certificate, usage: Usage) -> KeyTest {
    let key = match keys.find(&certificate.thumbprint()) {
        Ok(key) => key,
        Err(error) => {
            return KeyTest {
                held: Err(Problem::of(&error)),
                belongs: None,
                decrypts: None,
                signs: None,
                tokens: Vec::new(),
            };
        }
    };
    let tried_for = |wanted| (usage == wanted).then(|| tried(key, certificate, usage));
    KeyTest {
        held: Ok(()),
        belongs: Some(key.public() == certificate.public_key()),
        decrypts: tried_for(Usage::Decrypt),
        signs: tried_for(Usage::Sign),
        tokens: Vec::new(),
    }
}

fn tried(key: &dyn PrivateKey, certificate: &Certificate, usage: Usage) -> Observed<()> {
    match (works(key, certificate, usage), usage) {
        (Ok(true), _) => Ok(()),
        (Ok(false), Usage::Decrypt) => Err(Problem::new("something else came back")),
        (Ok(false), Usage::Sign) => Err(Problem::new(
            "the certificate does not verify the signature",
        )),
        (Err(untried), _) => Err(Problem::of(&untried)),
    }
}
