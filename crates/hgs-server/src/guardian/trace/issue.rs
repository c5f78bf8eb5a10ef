//! Health certificates of a host that does not exist.

use hgs_crypto::rsa::PublicKey;
use hgs_kps::{Lineage, SKEW};
use hgs_pki::health::{
    self, AttestationMode, HealthCertificate, HealthKind, HealthStatement, HealthValidity, HostId,
};
use hgs_pki::issue::Issuer;
use hgs_pki::{Certificate, Time};
use hgs_trace::{Observed, Problem};

use super::super::keys::{KeyTable, Snapshot};
use super::super::signers::Signers;
use hgs_custody::certify;

/// The id of the synthetic host. The ids of registered hosts are 128 random bits.
pub(super) const SYNTHETIC_HOST: HostId = HostId::from_bytes(*b"OpenHGS trace id");

/// Has `signer` issue the synthetic host a health certificate over `identity_key`, for the shortest time there is.
pub(super) fn health_certificate(
    keys: &KeyTable,
    signer: &Certificate,
    identity_key: &PublicKey,
    now: Time,
) -> Observed<Certificate> {
    let failed = |error: &dyn std::error::Error| Problem::of(error);
    let statement = HealthStatement {
        mode: AttestationMode::HostKey,
        host_id: SYNTHETIC_HOST,
        issued_at: now,
        policy_digest: [0; 32],
    };
    let kind = HealthKind::Encryption;
    let template = health::template(kind, &statement, HealthValidity::SHORTEST)
        .map_err(|error| failed(&error))?;
    let key = keys
        .find(&signer.thumbprint())
        .map_err(|error| failed(&error))?;
    certify(template, identity_key, Issuer::Certificate(signer), key)
        .map_err(|error| failed(&error))
}

/// Whether a health certificate by `signer` is believed here. It is made over a key that no host has, and goes nowhere.
/// `None` if there is no key to make it over, or none to sign it with, which other checks say.
pub(super) fn believed(
    snapshot: &Snapshot,
    signer: &Certificate,
    now: Time,
) -> Option<Observed<()>> {
    let Snapshot { state, holdings } = snapshot;
    let head = holdings.ring.head(&Lineage::Fabric)?;
    let identity_key = head.encryption_certificate().public_key();
    let issued = health_certificate(&holdings.keys, signer, identity_key, now).ok()?;
    let certificate = HealthCertificate::from_der(issued.der());
    Some(match certificate {
        Err(error) => Err(Problem::of(&error)),
        Ok(certificate) => certificate
            .verify(
                &Signers::at(state, now).trusted(),
                HealthKind::Encryption,
                now,
                SKEW,
            )
            .map(drop)
            .map_err(|error| Problem::of(&error)),
    })
}
