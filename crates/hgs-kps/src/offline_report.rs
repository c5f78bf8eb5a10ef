//! What a host reports about the keys that it has used without asking: section 13 of the protocol profile, both roles.
//!
//! A host that used cached keys of a protector says how often with its next request for that protector. The report is
//! authenticated under the transport key that was used: an attacker on the way, who does not have it, can't make one up. A
//! service that does not know the field ignores it.

use std::num::NonZeroU32;

use hgs_crypto::hash::{hkdf_sha256, hmac_sha256, sha256, verify_hmac_sha256};
use hgs_crypto::{CryptoError, SecretBytes, base64};
use hgs_pki::Certificate;
use hgs_protector::{ProtectorDigest, TransportKey};

/// The request's field with the report.
pub const OFFLINE_UNWRAPS: &str = "openhgs-offline-unwraps";

/// The `info` of the key of reports.
const KEY_INFO: &[u8] = b"OpenHGS offline unwraps";
/// Between the number and the MAC.
const MAC: &str = ";mac=:";

/// How often a host has used cached keys of a protector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfflineReport {
    count: NonZeroU32,
    mac: [u8; 32],
}

/// Why a report is refused. The peer is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfflineReportError {
    /// The field stands more than once, or has another form.
    #[error("OpenHGS-Offline-Unwraps does not have the form of section 13 of the protocol profile")]
    Form,
    /// Whoever made it did not have the keys that it is about, or it is of another host or protector.
    #[error("OpenHGS-Offline-Unwraps was not made with the key of this protector by this host")]
    NotAuthentic,
}

impl OfflineReport {
    /// The report that the holder of `health_certificate` has used the keys of the protector `ingress` so often.
    ///
    /// # Errors
    /// When a primitive fails.
    pub fn new(
        count: NonZeroU32,
        key: &TransportKey,
        ingress: &ProtectorDigest,
        health_certificate: &Certificate,
    ) -> Result<Self, CryptoError> {
        let key = report_key(key)?;
        let mac = hmac_sha256(&key, &[&reported(count, ingress, health_certificate)]);
        Ok(Self { count, mac })
    }

    /// Reads the fields of a request; `None` if nothing is reported.
    ///
    /// # Errors
    /// When there is more than one, or it has another form than [`Self::value`].
    pub fn read(fields: &[&[u8]]) -> Result<Option<Self>, OfflineReportError> {
        match fields {
            [] => Ok(None),
            [field] => read_field(field).map(Some).ok_or(OfflineReportError::Form),
            _ => Err(OfflineReportError::Form),
        }
    }

    /// The value of [`OFFLINE_UNWRAPS`].
    #[must_use]
    pub fn value(&self) -> String {
        format!("{}{MAC}{}:", self.count, base64::encode(&self.mac))
    }

    /// How often the keys were used, if this was made with the key of `ingress` for this certificate.
    pub(crate) fn verify(
        &self,
        key: &TransportKey,
        ingress: &ProtectorDigest,
        health_certificate: &Certificate,
    ) -> Result<NonZeroU32, OfflineReportError> {
        let key = report_key(key).map_err(|_| OfflineReportError::NotAuthentic)?;
        let reported = reported(self.count, ingress, health_certificate);
        verify_hmac_sha256(&key, &reported, &self.mac)
            .map_err(|_| OfflineReportError::NotAuthentic)?;
        Ok(self.count)
    }
}

fn report_key(key: &TransportKey) -> Result<SecretBytes, CryptoError> {
    hkdf_sha256(key.secret(), b"", KEY_INFO, 32)
}

/// What the MAC is over: thumbprint of the health certificate, digest of the protector, number.
fn reported(
    count: NonZeroU32,
    ingress: &ProtectorDigest,
    health_certificate: &Certificate,
) -> Vec<u8> {
    let certificate = sha256(health_certificate.der());
    [
        &certificate[..],
        ingress.as_bytes(),
        &count.get().to_be_bytes(),
    ]
    .concat()
}

fn read_field(field: &[u8]) -> Option<OfflineReport> {
    let text = std::str::from_utf8(field).ok()?;
    let (count, mac) = text.split_once(MAC)?;
    let mac = base64::decode(mac.strip_suffix(':')?).ok()?;
    let report = OfflineReport {
        count: count.parse().ok()?,
        mac: mac.try_into().ok()?,
    };
    // There is one form of each report.
    (report.value() == text).then_some(report)
}
