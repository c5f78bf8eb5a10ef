//! RollTransportKey, the service's side ([MS-KPS] 3.1.5.1.1; section 5 of the protocol profile).

use std::sync::Arc;

use hgs_crypto::{CryptoError, Random, SecretBytes, aes};
use hgs_pki::health::{HealthCertificate, HealthKind, VerifiedHealthCertificate};
use hgs_pki::{Thumbprint, Time};
use hgs_protector::suite::{TransportKeysEncryption, WrappingKeyEncryption};
use hgs_protector::transport_key_blob::{BlobVersion, TransportKeyBlob};
use hgs_protector::{
    GuardianCertificates, Opened, Protector, ProtectorDigest, RollPlan, Rolled, SealError, Step,
    Successor, VerifiedProtector, WrappingId, open, roll,
};

use crate::plan::{self, Plan};
use crate::wire::{Algorithms, RollTransportKeyRequest, RollTransportKeyResponse};
use crate::{
    Caches, Facts, HostStanding, KeyRing, Lineage, Reason, Refusal, ServiceVersion, Trust,
};

/// Answers a request, up to the first use of a private key.
///
/// First the health certificate is checked, then the protector; only then does a request cost a private-key operation.
///
/// # Errors
/// A [`Refusal`], with what was known by then.
pub fn begin(
    body: &[u8],
    version: ServiceVersion,
    ring: &Arc<KeyRing>,
    trust: &Trust<'_>,
    caches: &Caches,
    now: Time,
    random: &mut dyn Random,
) -> Result<Step<Release, Refusal>, Refusal> {
    let request = RollTransportKeyRequest::from_xml(body)?;
    let mut facts = Facts::default();
    let host = healthy_host(&request.health_certificate, trust, caches, now, &mut facts)?;
    let ingress = verified_protector(&request.ingress_protector, caches, &mut facts)?;
    let superseded = acceptable(&ingress, ring, trust, &facts)?;

    let held = ring.held(&ingress);
    let opening = open(&ingress, &held).map_err(|error| Refusal::new(error, facts.clone()))?;
    let answer = Answer {
        ring: Arc::clone(ring),
        host,
        version,
        algorithms: request.algorithms,
        blob: version.blob(trust.caching),
        superseded,
    };
    let refused = facts.clone();
    opening
        .map_err(move |error| Refusal::new(error, refused))
        .and_then(random, move |opened, random| {
            answer.roll(opened, facts, random)
        })
}

/// The host, if its health certificate passes all checks of section 8.
fn healthy_host(
    der: &[u8],
    trust: &Trust<'_>,
    caches: &Caches,
    now: Time,
    facts: &mut Facts,
) -> Result<VerifiedHealthCertificate, Refusal> {
    let certificate = HealthCertificate::from_der_cached(der, &caches.certificates)
        .map_err(|error| Reason::HealthCertificate(error.into()))?;
    let host = certificate
        .verify_cached(
            trust.signers,
            HealthKind::Encryption,
            now,
            trust.skew,
            &caches.signatures,
        )
        .map_err(Reason::HealthCertificate)?;
    facts.host = Some(host.clone());
    if host.is_from_own_signer() {
        match trust.hosts.standing(&host.statement().host_id) {
            HostStanding::Registered => {}
            HostStanding::Revoked => return Err(Refusal::new(Reason::HostRevoked, facts.clone())),
            HostStanding::Unknown => {
                return Err(Refusal::new(Reason::HostNotRegistered, facts.clone()));
            }
        }
    }
    Ok(host)
}

fn verified_protector(
    octets: &[u8],
    caches: &Caches,
    facts: &mut Facts,
) -> Result<VerifiedProtector, Refusal> {
    let protector = Protector::read(octets, &caches.certificates)
        .and_then(|protector| protector.verify(&caches.signatures))
        .map_err(|error| Refusal::new(error, facts.clone()))?;
    facts.ingress = Some(protector.digest());
    facts.owner = Some(protector.owner().signing_certificate().thumbprint());
    Ok(protector)
}

/// Refuses what was signed by a compromised guardian, and what is out of use where that is refused. Returns whether
/// the protector is out of use.
fn acceptable(
    ingress: &VerifiedProtector,
    ring: &KeyRing,
    trust: &Trust<'_>,
    facts: &Facts,
) -> Result<bool, Refusal> {
    let seen = trust.protectors.seen(&ingress.digest());
    if let Some(since) = plan::signed_by_compromised(ring, ingress) {
        let known = seen.is_some_and(|seen| seen.first_seen < since);
        if !known && !trust.rekey_window {
            let guardian = ingress.guardian().signing_certificate().thumbprint();
            let reason = Reason::CompromisedGuardian { guardian };
            return Err(Refusal::new(reason, facts.clone()));
        }
    }
    let superseded = seen.is_some_and(|seen| seen.superseded);
    if superseded && trust.refuse_superseded {
        return Err(Refusal::new(Reason::ProtectorSuperseded, facts.clone()));
    }
    Ok(superseded)
}

/// What is needed to answer once the protector is open.
struct Answer {
    ring: Arc<KeyRing>,
    host: VerifiedHealthCertificate,
    version: ServiceVersion,
    algorithms: Algorithms,
    blob: BlobVersion,
    superseded: bool,
}

impl Answer {
    fn roll(
        self,
        opened: Opened,
        facts: Facts,
        random: &mut dyn Random,
    ) -> Result<Step<Release, Refusal>, Refusal> {
        let refused = facts.clone();
        let words = move |error: SealError| Refusal::new(error, refused);
        let Some(plan) = Plan::new(&self.ring, &opened) else {
            return Err(Refusal::new(Reason::Internal, facts));
        };
        let lineage = plan.lineage.clone();
        let shut_out: Vec<WrappingId> = plan.shut_out.iter().copied().collect();
        let rolling = carry_out(&self.ring, plan, opened, random).map_err(words.clone())?;
        rolling
            .map_err(words)
            .and_then(random, move |rolled, random| {
                self.release(&rolled, lineage, shut_out, random)
                    .map(Step::Done)
                    .map_err(|error| Refusal::new(SealError::from(error), facts))
            })
    }

    fn release(
        self,
        rolled: &Rolled,
        lineage: Lineage,
        shut_out: Vec<WrappingId>,
        random: &mut dyn Random,
    ) -> Result<Release, CryptoError> {
        let ingress = rolled.ingress.protector();
        let blob = TransportKeyBlob {
            ingress_key: rolled.ingress.transport_key().clone(),
            egress_key: rolled.egress_key.clone(),
            version: self.blob,
        };
        let appended = rolled.egress.wrappings().len() > ingress.wrappings().len();
        Ok(Release {
            response: encrypt(&blob, &rolled.egress, &self.host, self.algorithms, random)?,
            facts: ReleaseFacts {
                version: self.version,
                ingress: ingress.digest(),
                egress: rolled.egress.digest(),
                owner: ingress.owner().signing_certificate().thumbprint(),
                opened_by: rolled.ingress.wrapping().signing_certificate().thumbprint(),
                opened_with: rolled
                    .ingress
                    .wrapping()
                    .encryption_certificate()
                    .thumbprint(),
                signed_by: rolled.egress.guardian().signing_certificate().thumbprint(),
                lineage,
                appended,
                shut_out,
                superseded: self.superseded,
                host: self.host,
            },
        })
    }
}

/// Has the head made a guardian, if it is to be appended; then rolls.
fn carry_out(
    ring: &Arc<KeyRing>,
    plan: Plan<'_>,
    opened: Opened,
    random: &mut dyn Random,
) -> Result<Step<Rolled, SealError>, SealError> {
    let roll_plan = RollPlan {
        successor: None,
        shut_out: plan.shut_out,
        signer: plan.signer,
    };
    let Some(head) = plan.append else {
        return roll(opened, roll_plan, random);
    };
    let (ring, lineage) = (Arc::clone(ring), plan.lineage.clone());
    head.certify().and_then(random, move |guardian, random| {
        if let Some(head) = ring.head(&lineage) {
            head.remember(&guardian);
        }
        let opener = opened.wrapping().signing_certificate();
        let plan = RollPlan {
            successor: Some(Successor {
                endorsement: ring.endorsement(opener, guardian.signing_certificate()),
                guardian: guardian.clone(),
            }),
            ..roll_plan
        };
        roll(opened, plan, random)?.and_then(random, move |rolled, _| {
            remember_endorsement(&ring, &rolled, &guardian);
            Ok(Step::Done(rolled))
        })
    })
}

fn remember_endorsement(ring: &KeyRing, rolled: &Rolled, guardian: &GuardianCertificates) {
    let (signing, encryption) = (
        guardian.signing_certificate(),
        guardian.encryption_certificate(),
    );
    let mut wrappings = rolled.egress.wrappings().iter();
    if let Some(appended) = wrappings.find(|wrapping| wrapping.is_for(signing, encryption)) {
        let opener = rolled.ingress.wrapping().signing_certificate();
        ring.remember_endorsement(opener, signing, appended.signing_certificate_signature());
    }
}

/// The answer in its three layers: transport keys under a wrapping key, that under a transfer key, and that to the
/// key of the health certificate.
fn encrypt(
    blob: &TransportKeyBlob,
    egress: &VerifiedProtector,
    host: &VerifiedHealthCertificate,
    algorithms: Algorithms,
    random: &mut dyn Random,
) -> Result<RollTransportKeyResponse, CryptoError> {
    let transfer_key = SecretBytes::random(aes::KEY_LENGTH, random)?;
    let wrapping_key = SecretBytes::random(aes::KEY_LENGTH, random)?;
    let host = host.certificate().public_key();
    Ok(RollTransportKeyResponse {
        egress_protector: egress.octets().to_vec(),
        encrypted_transfer_key: host.encrypt_oaep(algorithms.transfer_key.hash(), &transfer_key)?,
        encrypted_wrapping_key: match algorithms.wrapping_key {
            WrappingKeyEncryption::Aes256Gcm => {
                aes::gcm_seal(&transfer_key, b"", wrapping_key.expose(), random)?
            }
            WrappingKeyEncryption::KwAes256 => aes::key_wrap(&transfer_key, &wrapping_key)?,
        },
        encrypted_transport_keys: match algorithms.transport_keys {
            TransportKeysEncryption::Aes256Gcm => {
                aes::gcm_seal(&wrapping_key, b"", blob.to_secret().expose(), random)?
            }
        },
    })
}

/// Keys that are to be released, and can't be before that is on record.
#[derive(Debug)]
#[must_use = "a release is recorded, then answered"]
pub struct Release {
    facts: ReleaseFacts,
    response: RollTransportKeyResponse,
}

/// What is recorded of a release; no secret among it.
#[derive(Debug, Clone)]
pub struct ReleaseFacts {
    /// The version that was asked for.
    pub version: ServiceVersion,
    /// The host, by its health certificate.
    pub host: VerifiedHealthCertificate,
    /// The protector that came in.
    pub ingress: ProtectorDigest,
    /// The protector that goes out, a child of the one that came in.
    pub egress: ProtectorDigest,
    /// The thumbprint of the owner's signing certificate.
    pub owner: Thumbprint,
    /// The thumbprint of the signing certificate of the pair that opened.
    pub opened_by: Thumbprint,
    /// The thumbprint of the encryption certificate of that pair.
    pub opened_with: Thumbprint,
    /// The thumbprint of the signing certificate that signed as guardian.
    pub signed_by: Thumbprint,
    /// The lineage of the pair that opened.
    pub lineage: Lineage,
    /// Whether a wrapping was appended for the head of the lineage.
    pub appended: bool,
    /// The wrappings that got random octets in place of the key.
    pub shut_out: Vec<WrappingId>,
    /// Whether the protector that came in was out of use already.
    pub superseded: bool,
}

/// The proof that a release is on record. Whoever makes one says that the record will outlive a crash.
#[derive(Debug)]
pub struct Recorded(());

impl Recorded {
    /// For the driver of the store, after the commit that holds the release was synced.
    #[must_use]
    pub fn after_commit() -> Self {
        Self(())
    }
}

impl Release {
    /// What is to be recorded.
    #[must_use]
    pub fn facts(&self) -> &ReleaseFacts {
        &self.facts
    }

    /// The answer's document, of status 200 and [`CONTENT_TYPE`](crate::wire::CONTENT_TYPE).
    #[must_use]
    pub fn into_response(self, _recorded: Recorded) -> Vec<u8> {
        self.response.to_xml()
    }
}
