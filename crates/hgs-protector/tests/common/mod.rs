//! Short ways that the tests share.
#![allow(dead_code, reason = "each test program uses its own part")]

use hgs_crypto::SecretBytes;
use hgs_pki::{CertificateCache, SignatureCache};
use hgs_protector::{
    Opened, Protector, ProtectorError, RollPlan, Rolled, TransportKey, VerifiedProtector, create,
    open, roll,
};
use hgs_testkit::fixtures::{Guardian, Keys, Repeatable};

pub(crate) fn random() -> Repeatable {
    Repeatable::seeded(1)
}

pub(crate) fn transport_key(octet: u8) -> TransportKey {
    TransportKey::from_secret(SecretBytes::new(vec![octet; 32])).unwrap()
}

pub(crate) fn verify(octets: &[u8]) -> Result<VerifiedProtector, ProtectorError> {
    Protector::read(octets, &CertificateCache::new(64))?.verify(&SignatureCache::new(64))
}

/// A protector of the owner `owner` for `guardians`, sealed with [`transport_key`] of 7.
pub(crate) fn protector(owner: &Guardian, guardians: &[&Guardian]) -> VerifiedProtector {
    let certificates = guardians
        .iter()
        .map(|guardian| guardian.certificates.clone())
        .collect();
    let step = create(&owner.certificates, certificates, transport_key(7)).unwrap();
    Keys::of(&[owner]).drive(step, &mut random()).unwrap()
}

pub(crate) fn opened(protector: &VerifiedProtector, guardian: &Guardian) -> Opened {
    let step = open(protector, &[guardian.held()]).unwrap();
    Keys::of(&[guardian]).drive(step, &mut random()).unwrap()
}

pub(crate) fn rolled(
    protector: &VerifiedProtector,
    guardian: &Guardian,
    plan: RollPlan,
    signers: &[&Guardian],
) -> Rolled {
    let mut random = random();
    let step = roll(opened(protector, guardian), plan, &mut random).unwrap();
    Keys::of(signers).drive(step, &mut random).unwrap()
}
