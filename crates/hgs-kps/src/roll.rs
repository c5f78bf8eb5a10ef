//! RollTransportKey, the service's side ([MS-KPS] 3.1.5.1.1; section 5 of the protocol profile).

use std::num::NonZeroU32;

use hgs_crypto::{CryptoError, Random, SecretBytes, aes};
use hgs_pki::health::{AttestationMode, HealthCertificate, HealthKind, VerifiedHealthCertificate};
use hgs_pki::{KeyWork, Thumbprint};
use hgs_protector::suite::{TransportKeysEncryption, WrappingKeyEncryption};
use hgs_protector::transport_key_blob::{BlobVersion, CachingPolicy, TransportKeyBlob};
use hgs_protector::{
    Protector, ProtectorDigest, RollPlan, SealError, Successor, VerifiedProtector, WrappingId,
    open, roll,
};

use crate::offline_report::OfflineReport;
use crate::plan::{self, Plan};
use crate::wire::{Algorithms, RollTransportKeyRequest, RollTransportKeyResponse};
use crate::{Caches, KeyRing, Lineage, Reason, Refusal, RollFacts, ServiceVersion, Trust};

/// The inputs of every roll, beside its request.
#[derive(Clone, Copy)]
pub struct KeyProtection<'a> {
    /// The certificates whose private keys are held.
    pub ring: &'a KeyRing,
    /// The signers, hosts and clock skew that are trusted.
    pub trust: &'a Trust<'a>,
    /// Caches that outlive a request.
    pub caches: &'a Caches,
}

impl KeyProtection<'_> {
    /// Decides on the request in `body`, and makes its answer.
    ///
    /// First the health certificate is checked, then the protector; only then does a request cost a private-key operation.
    ///
    /// # Errors
    /// A [`Refusal`], with what was known by then.
    pub fn roll(
        &self,
        version: ServiceVersion,
        body: &[u8],
        keys: &mut dyn KeyWork,
        random: &mut dyn Random,
    ) -> Result<Release, Refusal> {
        self.release(self.identify(version, body)?, keys, random)
    }

    /// The first half: reads the request and checks its health certificate. It is cheap and identifies the host; the
    /// expensive work is in the second half.
    ///
    /// # Errors
    /// A [`Refusal`], with what was known by then.
    pub fn identify(
        &self,
        version: ServiceVersion,
        body: &[u8],
    ) -> Result<IdentifiedRequest, Refusal> {
        let mut facts = RollFacts::default();
        let identified = RollTransportKeyRequest::from_xml(body)
            .map_err(Reason::from)
            .and_then(|request| {
                let host = self.healthy_host(&request.health_certificate, &mut facts)?;
                Ok(IdentifiedRequest {
                    version,
                    request,
                    host,
                    report: None,
                })
            });
        identified.map_err(|reason| Refusal::new(reason, facts))
    }

    /// The second half: opens the protector and makes the answer.
    ///
    /// # Errors
    /// A [`Refusal`], with what was known by then.
    pub fn release(
        &self,
        identified: IdentifiedRequest,
        keys: &mut dyn KeyWork,
        random: &mut dyn Random,
    ) -> Result<Release, Refusal> {
        let mut facts = identified.facts();
        self.decide(identified, &mut facts, keys, random)
            .map_err(|reason| Refusal::new(reason, facts))
    }

    fn decide(
        &self,
        identified: IdentifiedRequest,
        facts: &mut RollFacts,
        keys: &mut dyn KeyWork,
        random: &mut dyn Random,
    ) -> Result<Release, Reason> {
        let IdentifiedRequest {
            version,
            request,
            host,
            report,
        } = identified;
        let ingress = Protector::read(&request.ingress_protector, &self.caches.certificates)?
            .verify(&self.caches.signatures)?;
        facts.ingress = Some(ingress.digest());
        facts.owner = Some(ingress.owner().signing_certificate().thumbprint());
        let superseded = self.acceptable(&ingress)?;

        let opened = open(&ingress, &self.ring.held(&ingress), keys)?;
        let offline_unwraps = report
            .map(|report| {
                report.verify(
                    opened.transport_key(),
                    &ingress.digest(),
                    host.certificate(),
                )
            })
            .transpose()?;
        let opener = opened.wrapping().clone();
        let plan = Plan::new(self.ring, &opened).ok_or(Reason::Internal)?;
        let successor = match plan.append {
            None => None,
            Some(head) => Some(Successor {
                guardian: head.certified(keys)?.clone(),
                endorsement: self.ring.endorsement(
                    head.signing_certificate(),
                    opener.signing_certificate(),
                    keys,
                )?,
            }),
        };
        let appended = successor.is_some();
        let shut_out: Vec<WrappingId> = plan.shut_out.iter().copied().collect();
        let roll_plan = RollPlan {
            successor,
            shut_out: plan.shut_out,
            signer: plan.signer,
        };
        let rolled = roll(opened, roll_plan, keys, random)?;

        let by_tpm = host.statement().mode == AttestationMode::Tpm;
        let version_of_blob = version.blob(self.trust.caching.filter(|_| by_tpm));
        let blob = TransportKeyBlob {
            ingress_key: rolled.ingress.transport_key().clone(),
            egress_key: rolled.egress_key,
            version: version_of_blob,
        };
        Ok(Release {
            response: encrypt(&blob, &rolled.egress, &host, request.algorithms, random)
                .map_err(SealError::from)?,
            facts: ReleaseFacts {
                version,
                ingress: ingress.digest(),
                egress: rolled.egress.digest(),
                owner: ingress.owner().signing_certificate().thumbprint(),
                opened_by: opener.signing_certificate().thumbprint(),
                opened_with: opener.encryption_certificate().thumbprint(),
                signed_by: rolled.egress.guardian().signing_certificate().thumbprint(),
                lineage: plan.lineage.clone(),
                appended,
                shut_out,
                superseded,
                caching: match version_of_blob {
                    BlobVersion::V1 => None,
                    BlobVersion::V2 { caching } => caching,
                },
                offline_unwraps,
                host,
            },
        })
    }

    /// The host, if its health certificate passes all checks of section 8.
    fn healthy_host(
        &self,
        der: &[u8],
        facts: &mut RollFacts,
    ) -> Result<VerifiedHealthCertificate, Reason> {
        let host = HealthCertificate::from_der_cached(der, &self.caches.certificates)
            .map_err(|error| Reason::HealthCertificate(error.into()))?
            .verify_cached(
                self.trust.signers,
                HealthKind::Encryption,
                self.trust.now,
                self.trust.skew,
                &self.caches.signatures,
            )?;
        facts.host = Some(host.clone());
        let statement = host.statement();
        let registered = host.is_from_own_signer().then_some(&statement.host_id);
        self.trust
            .hosts
            .check(registered, &statement.policy_digest)?;
        Ok(host)
    }

    /// Refuses a protector that a compromised guardian signed, and one that is superseded if the settings say so. Returns
    /// whether the protector is superseded.
    fn acceptable(&self, ingress: &VerifiedProtector) -> Result<bool, Reason> {
        let seen = self.trust.protectors.seen(&ingress.digest())?;
        if let Some(since) = plan::signed_by_compromised(self.ring, ingress) {
            let known = seen.is_some_and(|seen| seen.first_seen < since);
            if !known && !self.trust.rekey_window {
                let guardian = ingress.guardian().signing_certificate().thumbprint();
                return Err(Reason::CompromisedGuardian { guardian });
            }
        }
        let superseded = seen.is_some_and(|seen| seen.superseded);
        if superseded && self.trust.refuse_superseded {
            return Err(Reason::ProtectorSuperseded);
        }
        Ok(superseded)
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

/// A request whose host is known: its health certificate passed all checks.
#[derive(Debug)]
pub struct IdentifiedRequest {
    version: ServiceVersion,
    request: RollTransportKeyRequest,
    host: VerifiedHealthCertificate,
    report: Option<OfflineReport>,
}

impl IdentifiedRequest {
    /// The host.
    #[must_use]
    pub fn host(&self) -> &VerifiedHealthCertificate {
        &self.host
    }

    /// The request with what its field [`OFFLINE_UNWRAPS`](crate::offline_report::OFFLINE_UNWRAPS) reports.
    #[must_use]
    pub fn with_report(self, report: Option<OfflineReport>) -> Self {
        Self { report, ..self }
    }

    /// What is known of the request so far, for a refusal.
    #[must_use]
    pub fn facts(&self) -> RollFacts {
        RollFacts {
            host: Some(self.host.clone()),
            ..RollFacts::default()
        }
    }
}

/// A decided release. Its response can be had only after it was recorded.
#[derive(Debug)]
#[must_use = "a release is recorded, then answered"]
pub struct Release {
    facts: ReleaseFacts,
    response: RollTransportKeyResponse,
}

/// The facts of a release that are recorded. None is secret.
#[derive(Debug, Clone)]
pub struct ReleaseFacts {
    /// The version that was asked for.
    pub version: ServiceVersion,
    /// The host, by its health certificate.
    pub host: VerifiedHealthCertificate,
    /// The ingress protector.
    pub ingress: ProtectorDigest,
    /// The egress protector, a child of the ingress protector.
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
    /// Whether the ingress protector was superseded.
    pub superseded: bool,
    /// What the host may do with the keys without asking again.
    pub caching: Option<CachingPolicy>,
    /// How often the host has used keys of the ingress protector that it had kept, if it reported so.
    pub offline_unwraps: Option<NonZeroU32>,
}

/// The proof that a release is on record: that of the egress protector with one digest.
#[derive(Debug)]
pub struct Recorded {
    egress: ProtectorDigest,
}

impl Recorded {
    /// For the driver of the store, after the commit that holds the release of `egress` was synced. By calling this, it
    /// states that the record will outlive a crash.
    #[must_use]
    pub fn after_commit(egress: ProtectorDigest) -> Self {
        Self { egress }
    }
}

impl Release {
    /// What is to be recorded.
    #[must_use]
    pub fn facts(&self) -> &ReleaseFacts {
        &self.facts
    }

    /// The answer's document, of status 200 and [`CONTENT_TYPE`](crate::wire::CONTENT_TYPE).
    ///
    /// # Errors
    /// [`Reason::Internal`] when another release was recorded.
    pub fn into_response(self, recorded: &Recorded) -> Result<Vec<u8>, Refusal> {
        if recorded.egress != self.facts.egress {
            return Err(Reason::Internal.into());
        }
        Ok(self.response.to_xml())
    }
}
