//! Keys and certificates of a new guardian.

use hgs_crypto::random::{self, System};
use hgs_crypto::rsa::SignatureScheme;
use hgs_custody::{PrivateKey as _, SoftwareKey};
use hgs_pki::issue::{Issuer, Template, prepare};
use hgs_pki::{Seconds, Time, Validity, profile};
use hgs_terminal::Failure;

use crate::bits::Bits;
use crate::certified::{CertifiedKey, Pair};
use crate::failures::OrFail as _;

/// How far back the validity of a certificate begins, so that machines whose clocks are late accept it at once.
const BACK: Seconds = Seconds::from_minutes(5);

/// Makes two keys, and self-signed certificates for ten years in the name of `name`.
pub(crate) fn generate(name: &str, bits: Bits, now: Time) -> Result<Pair, Failure> {
    let validity = Validity {
        not_before: now.checked_sub(BACK).unwrap_or(Time::MIN),
        not_after: now
            .checked_add(profile::GUARDIAN_VALIDITY)
            .unwrap_or(Time::MAX),
    };
    Ok(Pair {
        signing: self_signed(profile::guardian_signing(name, validity), bits)?,
        encryption: self_signed(profile::guardian_encryption(name, validity), bits)?,
    })
}

/// A new key, and a certificate over it that it signs itself.
pub(crate) fn self_signed(template: Template, bits: Bits) -> Result<CertifiedKey, Failure> {
    let key = SoftwareKey::generate(bits.number()).or_fail()?;
    let serial = random::array(&mut System::new())?;
    let prepared = prepare(template, key.public(), Issuer::SelfSigned, serial).or_fail()?;
    let signature = key
        .sign(SignatureScheme::Pkcs1Sha256, prepared.to_be_signed())
        .or_fail()?;
    Ok(CertifiedKey {
        certificate: prepared.assemble(&signature).or_fail()?,
        key,
    })
}
