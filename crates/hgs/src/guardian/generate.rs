//! Keys and certificates of a new guardian.

use hgs_pki::issue::Template;
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
    let (certificate, key) = hgs_custody::self_signed(template, bits.number()).or_fail()?;
    Ok(CertifiedKey { certificate, key })
}
