//! Host-key mode, the server's part ([MS-HGSA] 3.1.5.3): a host proves that it holds a registered key, and names the
//! identity key that is to be certified.

mod request;

use hgs_crypto::hash::{Sha256Digest, sha256, sha256_of};
use hgs_crypto::random::Random;
use hgs_crypto::rsa::{PublicKey, SignatureScheme};
use hgs_pki::health::{AttestationMode, HealthStatement};

pub(crate) use request::{requested_kind, signed_octets};

use self::request::HostKeyRequest;
use crate::facts::{AttestationFacts, KnownHost};
use crate::freshness::{FreshnessError, FreshnessProof};
use crate::mode::{Attempt, Mode};
use crate::refusal::{Reason, Refusal};
use crate::registry::{Credential, CredentialId, HostRegistry, RegisteredHost};
use crate::verdict::{Finding, Grant, Verdict};
use crate::wire::AttestationOperationMode;

/// Host-key mode.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostKeyMode;

impl Mode for HostKeyMode {
    fn operation_mode(&self) -> AttestationOperationMode {
        AttestationOperationMode::HostKey
    }

    fn evaluate(
        &self,
        attempt: &Attempt<'_>,
        hosts: &dyn HostRegistry,
        _random: &mut dyn Random,
    ) -> Verdict {
        evaluate(attempt, hosts)
    }
}

/// Decides what a host gets whose request came to `/hostkeyattest` of a server in host-key mode.
///
/// The checks have the order of section 7 of the protocol profile. Before the host key's signature has verified,
/// nothing is told but whether the key is registered, and nothing expensive is done but that one verification.
pub fn evaluate(attempt: &Attempt<'_>, hosts: &dyn HostRegistry) -> Verdict {
    let mut facts = AttestationFacts::default();
    match decide(attempt, hosts, &mut facts) {
        Ok(finding) => Verdict::Healthy(Grant::new(finding, facts)),
        Err(reason) => Verdict::Refused(Refusal::with_facts(reason, facts)),
    }
}

fn decide(
    attempt: &Attempt<'_>,
    hosts: &dyn HostRegistry,
    facts: &mut AttestationFacts,
) -> Result<Finding, Reason> {
    let request = HostKeyRequest::read(attempt.body, facts)?;
    facts.kind = Some(request.kind);
    facts.identity_key = Some(sha256(&request.identity_key));
    let (host, host_key) = proved_host(&request, hosts, facts)?;
    let returned_nonce = check_freshness(attempt, &host, &host_key)?;
    facts.proved = true;
    if host.revoked {
        return Err(Reason::HostRevoked);
    }
    let identity_key =
        PublicKey::from_spki_der(&request.identity_key).map_err(Reason::IdentityKey)?;
    if identity_key == host_key {
        return Err(Reason::IdentityKeyIsHostKey);
    }
    let transition = host.identities.present(
        request.kind,
        identity_key.digest(),
        returned_nonce,
        attempt.now,
    )?;
    Ok(Finding {
        kind: request.kind,
        identity_digest: *identity_key.digest(),
        identity_key,
        statement: HealthStatement {
            mode: AttestationMode::HostKey,
            host_id: host.host_id,
            issued_at: attempt.now,
            policy_digest: policy_digest(host_key.digest()),
        },
        transition,
        next_boot: None,
        returned_nonce,
    })
}

/// The host that holds the key it claims, and that key.
fn proved_host(
    request: &HostKeyRequest,
    hosts: &dyn HostRegistry,
    facts: &mut AttestationFacts,
) -> Result<(RegisteredHost, PublicKey), Reason> {
    // A host key is known by its octets, so nothing of what a stranger sends is parsed as a key.
    let digest = sha256(&request.host_key);
    facts.host_key = Some(digest);
    let host = hosts
        .host_with(&CredentialId::HostKey(digest))
        .ok_or(Reason::HostNotRegistered)?;
    let Credential::HostKey(host_key) = host.credential.clone() else {
        return Err(Reason::HostNotRegistered);
    };
    facts.host = Some(KnownHost {
        host_id: host.host_id,
        name: host.name.clone(),
    });
    let message = signed_octets(&request.host_key, &request.identity_key);
    let scheme = SignatureScheme::Pkcs1Sha256;
    host_key
        .verify(scheme, &message, &request.signature)
        .map_err(|_| Reason::HostKeySignature)?;
    Ok((host, host_key))
}

/// Whether the request returned a nonce. One that is returned must hold; none may be missing where one is required.
fn check_freshness(
    attempt: &Attempt<'_>,
    host: &RegisteredHost,
    host_key: &PublicKey,
) -> Result<bool, FreshnessError> {
    let Some(header) = attempt.proof else {
        return match attempt.require_nonce || host.returns_nonces {
            true => Err(FreshnessError::Missing),
            false => Ok(false),
        };
    };
    let proof = FreshnessProof::from_header(header)?;
    proof.verify(attempt.body, host_key, attempt.nonces, attempt.now)?;
    Ok(true)
}

/// What a host in host-key mode is measured against: that it holds the key whose SubjectPublicKeyInfo has this SHA-256.
#[must_use]
pub fn policy_digest(host_key: &Sha256Digest) -> Sha256Digest {
    sha256_of(&[b"OpenHGS HostKey 1", host_key])
}
