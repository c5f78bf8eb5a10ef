//! Short ways that the tests share.
#![allow(dead_code, reason = "each test program uses its own part")]

use hgs_crypto::SecretBytes;
use hgs_pki::{CertificateCache, SignatureCache};
use hgs_protector::{
    Opened, Protector, ProtectorError, RollPlan, Rolled, Successor, TransportKey,
    VerifiedProtector, create, endorse, open, roll,
};
use hgs_testkit::fixtures::{Guardian, Keys, Repeatable, key_octets};

pub(crate) fn random() -> Repeatable {
    Repeatable::seeded(1)
}

pub(crate) fn transport_key(octet: u8) -> TransportKey {
    TransportKey::from_secret(SecretBytes::from(&key_octets(octet)[..])).unwrap()
}

pub(crate) fn verify(octets: &[u8]) -> Result<VerifiedProtector, ProtectorError> {
    Protector::read(octets, &CertificateCache::new(64))?.verify(&SignatureCache::new(64))
}

/// A protector of the owner `owner` for `guardians`, sealed with [`transport_key`] of 7.
pub(crate) fn protector(owner: &Guardian, guardians: &[&Guardian]) -> VerifiedProtector {
    let certificates: Vec<_> = guardians
        .iter()
        .map(|guardian| guardian.certificates.clone())
        .collect();
    let keys = Keys::of(&[owner]);
    create(
        &owner.certificates,
        &certificates,
        &transport_key(7),
        &mut &keys,
    )
    .unwrap()
}

pub(crate) fn opened(protector: &VerifiedProtector, guardian: &Guardian) -> Opened {
    let keys = Keys::of(&[guardian]);
    open(protector, &[guardian.held()], &mut &keys).unwrap()
}

pub(crate) fn rolled(
    protector: &VerifiedProtector,
    guardian: &Guardian,
    plan: RollPlan,
    signers: &[&Guardian],
) -> Rolled {
    let keys = Keys::of(signers);
    roll(opened(protector, guardian), plan, &mut &keys, &mut random()).unwrap()
}

/// The guardian as the successor of `opener` in a roll.
pub(crate) fn successor(guardian: &Guardian, opener: &Guardian) -> Successor {
    let keys = Keys::of(&[opener]);
    Successor {
        guardian: guardian.certificates.clone(),
        endorsement: endorse(&guardian.signing, &opener.signing, &mut &keys).unwrap(),
    }
}

/// Each element of a canonical document with one attribute more, then with one child more at its end.
pub(crate) fn with_one_more(document: &str) -> Vec<String> {
    let mut changed = Vec::new();
    for (place, _) in document.match_indices('<') {
        let (before, tag) = document.split_at(place);
        let (tag, after) = tag.split_once('>').unwrap();
        changed.push(match (tag.starts_with("</"), tag.strip_suffix('/')) {
            (true, _) => format!("{before}<Extra></Extra>{tag}>{after}"),
            // Attributes stand in the order of their names.
            (false, None) => format!("{before}{tag} x=\"1\">{after}"),
            (false, Some(tag)) => format!("{before}{tag} x=\"1\"/>{after}"),
        });
    }
    changed
}
