//! Keys and certificates of a new guardian.

use hgs_crypto::random::{self, System};
use hgs_crypto::rsa::SignatureScheme;
use hgs_custody::{PrivateKey as _, SoftwareKey};
use hgs_pki::issue::{Issuer, Template, prepare};
use hgs_pki::{Certificate, Seconds, Time, Validity, profile};
use hgs_terminal::Failure;

use crate::failures::OrFail as _;

/// How far back the validity of a certificate begins: hosts whose clocks are late are to accept it at once.
const BACK: Seconds = Seconds::from_minutes(5);

/// A private key and the certificate over it.
#[derive(Debug)]
pub(super) struct CertifiedKey {
    pub(super) certificate: Certificate,
    pub(super) key: SoftwareKey,
}

/// The two of a guardian.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) signing: CertifiedKey,
    pub(super) encryption: CertifiedKey,
}

impl Pair {
    /// Makes two keys of `bits` and self-signed certificates for ten years in the name of `name`.
    pub(super) fn generate(name: &str, bits: usize, now: Time) -> Result<Self, Failure> {
        let validity = Validity {
            not_before: now.checked_sub(BACK).unwrap_or(Time::MIN),
            not_after: now
                .checked_add(profile::GUARDIAN_VALIDITY)
                .unwrap_or(Time::MAX),
        };
        Ok(Self {
            signing: CertifiedKey::generate(profile::guardian_signing(name, validity), bits)?,
            encryption: CertifiedKey::generate(profile::guardian_encryption(name, validity), bits)?,
        })
    }
}

impl CertifiedKey {
    fn generate(template: Template, bits: usize) -> Result<Self, Failure> {
        let key = SoftwareKey::generate(bits).or_fail()?;
        let serial = random::array(&mut System::new())?;
        let prepared = prepare(template, key.public(), Issuer::SelfSigned, serial).or_fail()?;
        let signature = key
            .sign(SignatureScheme::Pkcs1Sha256, prepared.to_be_signed())
            .or_fail()?;
        Ok(Self {
            certificate: prepared.assemble(&signature).or_fail()?,
            key,
        })
    }
}
