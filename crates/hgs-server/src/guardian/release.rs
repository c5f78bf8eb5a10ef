//! RollTransportKey and GetMetaData as the server does them: decide, record, answer.

use std::sync::Arc;

use bytes::Bytes;
use hgs_crypto::hex;
use hgs_crypto::random::System;
use hgs_kps::offline_report::OfflineReport;
use hgs_kps::signed_response::{
    ResponseFields, ResponseSigner, ResponseSignerError, SignatureRequest,
};
use hgs_kps::{
    Caches, HostStandings, IdentifiedRequest, KeyProtection, Reason, Refusal, Release,
    ReleaseFacts, SeenProtector, SeenProtectors, ServiceVersion, StateUnavailable, Trust,
};
use hgs_pki::SerialNumber;
use hgs_pki::health::{TrustedSigners, VerifiedHealthCertificate};
use hgs_pki::{Seconds, Time};
use hgs_protector::{Fault, ProtectorDigest};
use hgs_store::{
    Action, AuditEntry, Digest, Failure, OfflineUse, Outcome, Recipient, RecordedRelease,
    ReleaseRecord, ReleaseRefusal, Store, StoreError,
};
use hyper::StatusCode;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{Span, error};

use super::key_work::SnapshotKeys;
use super::keys::{Snapshot, Snapshots};
use super::observer::{Decision, Observer};
use super::open_store::OpenStore;
use super::refusals::{RefusalLog, RefusalRecord};
use super::response_keys::ResponseKeys;
use super::signers::Signers;
use super::workers::{Claimant, HostIsFull, ProcessorPermit, Workers};
use crate::http::{Network, RequestId};
use crate::telemetry::CommitSpan;
use hgs_clock::Clock;

/// Certificates that are kept parsed: those of guardians, and the health certificates of a large site. Each takes a few
/// kilobytes.
const CACHED_CERTIFICATES: usize = 16_384;

/// A refusal, and the number of the record that it has of its own.
type RecordedRefusal = (Refusal, RefusalRecord);

/// A request of a host for keys.
#[derive(Clone)]
pub(crate) struct ReleaseRequest {
    /// Names it in its audit record.
    pub(crate) id: RequestId,
    pub(crate) version: ServiceVersion,
    pub(crate) body: Bytes,
    pub(crate) network: Network,
}

/// What a release is decided from, beside the state.
#[derive(Clone)]
struct Asked {
    request: ReleaseRequest,
    report: Option<OfflineReport>,
    signature: Option<SignatureRequest>,
    now: Time,
}

/// The answer to a request, and what is said of it.
type Released = ((Vec<u8>, Option<ResponseFields>), Decision);

/// Why nothing is released.
enum NotReleased {
    /// It was decided so, and nothing is on record.
    Decided(Refusal),
    /// It could not be recorded, or that it was refused is on record.
    Recorded(Refusal, RefusalRecord),
}

/// Releases keys to hosts.
pub(crate) struct Releases {
    pub(crate) policy: ReleasePolicy,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: Arc<OpenStore>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) caches: ReleaseCaches,
    pub(crate) workers: Arc<Workers>,
    pub(crate) observer: Arc<Observer>,
    pub(crate) refusals: Arc<RefusalLog>,
}

/// What releases keep from one to the next, in memory only.
pub(crate) struct ReleaseCaches {
    certificates: Caches,
    response_keys: ResponseKeys,
}

impl Default for ReleaseCaches {
    fn default() -> Self {
        Self {
            certificates: Caches::new(CACHED_CERTIFICATES),
            response_keys: ResponseKeys::default(),
        }
    }
}

impl Releases {
    /// Releases the keys that a request asks for, or refuses; either is recorded, counted and logged. The
    /// document is that of status 200; the fields are its signature, if the request asks for one.
    pub(crate) async fn roll(
        self: &Arc<Self>,
        request: ReleaseRequest,
        fields: Result<RequestFields, Refusal>,
    ) -> Result<(Vec<u8>, Option<ResponseFields>), Refusal> {
        let begun = Instant::now();
        let RequestFields { signature, report } = fields.inspect_err(|refusal| {
            self.observer
                .release(&self.release_refused(refusal, RefusalRecord::None), None);
        })?;
        let (id, now) = (request.id, self.clock.now());
        let asked = Asked {
            request,
            report,
            signature,
            now,
        };
        let decided_from = self.store.state();
        let mut done = self.roll_once(asked.clone()).await;
        if let Err(NotReleased::Decided(refusal)) = &done
            && refusal.code().status() == StatusCode::FORBIDDEN.as_u16()
        {
            done = match self.store.has_changed_since(&decided_from).await {
                Err(failure) => Err(NotReleased::Recorded(
                    unavailable(&failure),
                    RefusalRecord::None,
                )),
                Ok(false) => done,
                Ok(true) => self.roll_once(asked).await,
            };
        }
        let done = match done {
            Ok(done) => Ok(done),
            Err(NotReleased::Decided(refusal)) => {
                Err(self.record_release_refusal(refusal, id, now).await)
            }
            Err(NotReleased::Recorded(refusal, record)) => Err((refusal, record)),
        };
        match done {
            Ok((answer, decision)) => {
                self.observer.release(&decision, Some(begun.elapsed()));
                Ok(answer)
            }
            Err((refusal, recorded)) => {
                self.observer
                    .release(&self.release_refused(&refusal, recorded), None);
                Err(refusal)
            }
        }
    }

    /// Decides by the state of now, and records and answers what is released.
    async fn roll_once(self: &Arc<Self>, asked: Asked) -> Result<Released, NotReleased> {
        let Asked {
            request,
            report,
            signature,
            now,
        } = asked;
        let ReleaseRequest {
            id,
            version,
            body,
            network,
        } = request;
        let signed = signature.is_some();
        let decided_from = self.store.state().generation();
        let announced = self.store.announce();
        let identify = {
            let releases = Arc::clone(self);
            move || {
                let (claimant, identified) = releases.identify(version, &body, now)?;
                let request = identified.request.with_report(report);
                Ok((
                    claimant,
                    Identified {
                        request,
                        ..identified
                    },
                ))
            }
        };
        let (answer, answered) = oneshot::channel();
        let (releases, span) = (Arc::clone(self), Span::current());
        let decide = move |identified: Identified, processor: &mut ProcessorPermit| {
            let (release, signer) = releases.decide(identified, signed, now, processor)?;
            let entry = entry_of(release.facts(), id, decided_from, now)?;
            // Its commit waits no longer for this one.
            drop(announced);
            // The store gives the answer, so that this request changes threads once and not twice.
            let commit = CommitSpan::within(&span);
            let recorded = move |recorded| {
                commit.end();
                drop(answer.send((release, signer, recorded)));
            };
            let submitted = releases.store.release(entry, recorded);
            submitted.map_err(|failure| unavailable(&failure))
        };
        let claimant = Claimant::Network(network);
        let decided = self.workers.run_identified(claimant, identify, decide);
        let done: Result<_, RecordedRefusal> = match answered.await {
            Ok((release, signer, recorded)) => {
                let recorded = self.recorded(release, recorded);
                recorded.and_then(|(document, decision)| {
                    let fields = sign_response(signature.as_ref(), signer, &document, now)
                        .map_err(|refusal| (refusal, RefusalRecord::None))?;
                    Ok(((document, fields), decision))
                })
            }
            // Nothing was to be recorded, or the store has closed.
            Err(_) => match decided.await {
                Err(refusal) => return Err(NotReleased::Decided(refusal)),
                Ok(()) => Err((unavailable(&StoreError::Closed), RefusalRecord::None)),
            },
        };
        done.map_err(|(refusal, record)| NotReleased::Recorded(refusal, record))
    }

    /// The metadata document, which is made once for each generation of the keys.
    pub(crate) async fn metadata(self: &Arc<Self>, network: Network) -> Result<Arc<[u8]>, Refusal> {
        let releases = Arc::clone(self);
        let writing = move |processor: &mut ProcessorPermit| {
            let snapshot = releases.snapshots.current();
            let Snapshot { holdings, .. } = snapshot.map_err(|_| Reason::StateUnavailable)?;
            let Some(metadata) = &holdings.metadata else {
                error!("there is no communications certificate that could sign the metadata");
                return Err(Refusal::from(Reason::Internal));
            };
            let keys = &holdings.keys;
            metadata.document(&mut SnapshotKeys { keys, processor })
        };
        self.workers
            .run(Claimant::Network(network), writing)
            .await?
    }

    /// Whose request it is. The work for it is done on that host's account.
    fn identify(
        &self,
        version: ServiceVersion,
        body: &[u8],
        now: Time,
    ) -> Result<(Claimant, Identified), Refusal> {
        let snapshot = self
            .snapshots
            .current()
            .map_err(|_| Reason::StateUnavailable)?;
        let signers = Signers::at(&snapshot.state, now).trusted();
        let request = self.with_key_protection(&snapshot, &signers, None, now, |it| {
            it.identify(version, body)
        })?;
        let host = request.host().statement().host_id;
        let identified = Identified {
            snapshot,
            signers,
            request,
        };
        Ok((Claimant::Host(host), identified))
    }

    /// The answer to a request whose host is known, and the key that signs it if it is to be signed.
    fn decide(
        &self,
        identified: Identified,
        signed: bool,
        now: Time,
        processor: &mut ProcessorPermit,
    ) -> Result<(Release, Option<Arc<ResponseSigner>>), Refusal> {
        let Identified {
            snapshot,
            signers,
            request,
        } = identified;
        let release = self.with_key_protection(&snapshot, &signers, None, now, |it| {
            let keys = &snapshot.holdings.keys;
            let keys = &mut SnapshotKeys { keys, processor };
            it.release(request, keys, &mut System::new())
        })?;
        // Before the release is on record: an answer that its host would refuse is not recorded.
        let signer = signed
            .then(|| self.response_signer(release.facts(), &snapshot, now, processor))
            .transpose()?;
        Ok((release, signer))
    }

    /// Does `work` by all that is in `snapshot`, but for the hosts if there are others.
    pub(crate) fn with_key_protection<T>(
        &self,
        snapshot: &Snapshot,
        signers: &TrustedSigners,
        hosts: Option<&dyn HostStandings>,
        now: Time,
        work: impl FnOnce(&KeyProtection<'_>) -> T,
    ) -> T {
        let Snapshot { state, holdings } = snapshot;
        let trust = Trust {
            signers,
            now,
            skew: self.policy.clock_skew,
            hosts: hosts.unwrap_or(&**state),
            protectors: &Protectors {
                store: &self.store,
                matters: holdings.any_compromised,
            },
            // The store decides that, in the commit that holds the release.
            refuse_superseded: false,
            rekey_window: state.settings().is_rekey_window_open(now),
            caching: (state.settings().key_caching).map(|caching| caching.policy(now)),
        };
        work(&KeyProtection {
            ring: &holdings.ring,
            trust: &trust,
            caches: &self.caches.certificates,
        })
    }

    /// The key that signs the response to a release.
    fn response_signer(
        &self,
        facts: &ReleaseFacts,
        snapshot: &Snapshot,
        now: Time,
        processor: &mut ProcessorPermit,
    ) -> Result<Arc<ResponseSigner>, Refusal> {
        let Snapshot { state, holdings } = snapshot;
        let guardian = state
            .certificates()
            .find(|record| record.thumbprint() == facts.signed_by)
            .ok_or(Reason::Internal)?;
        self.caches
            .response_keys
            .signer(&guardian.certificate, now, &holdings.keys, processor)
            .map_err(|failure| {
                error!(%failure, "a response can't be signed");
                let reason = match failure {
                    ResponseSignerError::Crypto(_) => Reason::Internal,
                    _ => Reason::KeyStoreUnavailable,
                };
                Refusal::new(reason, known(facts))
            })
    }

    /// What follows from the outcome of a commit: only after it can a release be answered.
    fn recorded(
        &self,
        release: Release,
        recorded: Result<RecordedRelease, Failure<ReleaseRefusal>>,
    ) -> Result<(Vec<u8>, Decision), RecordedRefusal> {
        let facts = release.facts();
        let recorded = match recorded {
            Ok(recorded) => recorded,
            // That it was refused is on record already.
            Err(Failure::Refused(refused)) => {
                return Err((refused_since(refused, facts), RefusalRecord::None));
            }
            Err(Failure::Store(failure)) => {
                return Err((unavailable(&failure), RefusalRecord::None));
            }
        };
        let decision = self.release_done(facts, &recorded);
        let document = release.into_response(&recorded.proof());
        Ok((
            document.map_err(|refusal| (refusal, RefusalRecord::None))?,
            decision,
        ))
    }

    /// A refusal of a host with a verified certificate is on record before it is answered; if it can't be, that is the
    /// answer.
    async fn record_release_refusal(
        &self,
        refusal: Refusal,
        request: RequestId,
        now: Time,
    ) -> RecordedRefusal {
        let host = refusal.facts().host.as_ref();
        // A key store that can't be reached is no refusal of the host.
        let Some(host) = host.filter(|_| refusal.code().fault() != Fault::KeyStore) else {
            return (refusal, RefusalRecord::None);
        };
        let entry = AuditEntry {
            request: Some(request),
            ..self.refusal_entry(&refusal, host, now)
        };
        let code = refusal.code().name();
        match self.refusals.record(code, entry).await {
            Ok(recorded) => (refusal, recorded),
            Err(failure) => (unavailable(&failure), RefusalRecord::None),
        }
    }

    fn refusal_entry(
        &self,
        refusal: &Refusal,
        certificate: &VerifiedHealthCertificate,
        now: Time,
    ) -> AuditEntry {
        let facts = refusal.facts();
        let statement = certificate.statement();
        let host = statement.host_id;
        AuditEntry {
            reason: Some(refusal.to_string()),
            host_name: self.host_name(certificate),
            host: Some(host.to_string()),
            serial: SerialNumber::from_bytes(certificate.certificate().serial_number()).ok(),
            policy: Some(Digest::from_bytes(statement.policy_digest)),
            protector: facts.ingress.as_ref().map(digest),
            owner: facts.owner,
            ..AuditEntry::new(
                now,
                format!("host {host}"),
                Action::Release,
                Outcome::Refused,
            )
        }
    }

    fn release_done(&self, facts: &ReleaseFacts, recorded: &RecordedRelease) -> Decision {
        Decision {
            outcome: "released",
            protector: Some(facts.ingress.to_string()),
            lineage: Some(facts.lineage.to_string()),
            record: Some(recorded.sequence()),
            ..self.host_decision(&facts.host)
        }
    }

    fn release_refused(&self, refusal: &Refusal, recorded: RefusalRecord) -> Decision {
        let facts = refusal.facts();
        let outcome = refusal.code().name();
        let (decision, alike) = match &facts.host {
            Some(host) => (self.host_decision(host), recorded.further()),
            // Where the fault is ours, the host was not refused.
            None if refusal.code().status() >= 500 => (Decision::default(), None),
            None => {
                let count = self
                    .refusals
                    .count_unauthenticated(Action::Release, outcome);
                (Decision::default(), Some(count))
            }
        };
        Decision {
            outcome,
            reason: Some(refusal.reason().to_string()),
            protector: facts.ingress.as_ref().map(ToString::to_string),
            record: recorded.sequence(),
            alike,
            ..decision
        }
    }

    fn host_decision(&self, certificate: &VerifiedHealthCertificate) -> Decision {
        Decision {
            host: Some(certificate.statement().host_id.to_string()),
            host_name: self.host_name(certificate),
            serial: Some(hex::encode(certificate.certificate().serial_number())),
            ..Decision::default()
        }
    }

    fn host_name(&self, certificate: &VerifiedHealthCertificate) -> Option<String> {
        let id = certificate.statement().host_id;
        let state = self.store.state();
        let host = state.host(&id).filter(|_| certificate.is_from_own_signer());
        host.map(|host| host.name.to_string())
    }
}

/// What the header fields of a request ask for and report.
#[derive(Debug, Default)]
pub(crate) struct RequestFields {
    /// That the response be signed.
    pub(crate) signature: Option<SignatureRequest>,
    /// How often the host has used keys that it had kept.
    pub(crate) report: Option<OfflineReport>,
}

/// A request whose host is known, and what it is decided by.
struct Identified {
    snapshot: Snapshot,
    signers: TrustedSigners,
    request: IdentifiedRequest,
}

impl From<HostIsFull> for Reason {
    fn from(_: HostIsFull) -> Self {
        Self::ServerBusy
    }
}

/// The tree of protectors, asked only where that can change a decision.
struct Protectors<'a> {
    store: &'a Store,
    matters: bool,
}

impl SeenProtectors for Protectors<'_> {
    fn seen(&self, protector: &ProtectorDigest) -> Result<Option<SeenProtector>, StateUnavailable> {
        if !self.matters {
            return Ok(None);
        }
        let seen = self.store.seen(&digest(protector)).map_err(|failure| {
            error!(%failure, "the tree of protectors can't be read");
            StateUnavailable
        })?;
        Ok(seen.map(|seen| SeenProtector {
            first_seen: seen.first,
            superseded: false,
        }))
    }
}

/// What the store records of a release.
fn entry_of(
    facts: &ReleaseFacts,
    request: RequestId,
    decided_from: u64,
    now: Time,
) -> Result<ReleaseRecord, Refusal> {
    let (certificate, statement) = (facts.host.certificate(), facts.host.statement());
    let host = statement.host_id;
    Ok(ReleaseRecord {
        time: now,
        recipient: if facts.host.is_from_own_signer() {
            Recipient::Registered(host)
        } else {
            Recipient::Foreign(host.to_string())
        },
        signer: facts.host.signer(),
        serial: SerialNumber::from_bytes(certificate.serial_number()).map_err(|error| {
            error!(%error, "the serial number of a health certificate can't be recorded");
            Reason::Internal
        })?,
        issued: statement.issued_at,
        policy: Digest::from_bytes(statement.policy_digest),
        ingress: digest(&facts.ingress),
        egress: digest(&facts.egress),
        owner: facts.owner,
        guardian: facts.opened_with,
        guardian_signing: facts.opened_by,
        decided_from,
        offline_use: facts.caching.map(OfflineUse::of),
        offline_unwraps: facts.offline_unwraps,
        request: Some(request),
    })
}

/// What a change of the state since the decision means to the host.
fn refused_since(refused: ReleaseRefusal, facts: &ReleaseFacts) -> Refusal {
    let reason = match refused {
        ReleaseRefusal::Refused(reason) => reason,
        // Asked again, it is decided from the newest state.
        ReleaseRefusal::CompromisedMeanwhile | ReleaseRefusal::KeyCachingMeanwhile => {
            Reason::StateUnavailable
        }
        ReleaseRefusal::EgressKnown => Reason::Internal,
    };
    Refusal::new(reason, known(facts))
}

/// What a refusal of a release that could have been made knows.
fn known(facts: &ReleaseFacts) -> hgs_kps::RollFacts {
    hgs_kps::RollFacts {
        ingress: Some(facts.ingress),
        owner: Some(facts.owner),
        host: Some(facts.host.clone()),
    }
}

/// The signature of a response, where one was asked for.
fn sign_response(
    request: Option<&SignatureRequest>,
    signer: Option<Arc<ResponseSigner>>,
    document: &[u8],
    now: Time,
) -> Result<Option<ResponseFields>, Refusal> {
    let (Some(request), Some(signer)) = (request, signer) else {
        return Ok(None);
    };
    let fields = signer.sign(request, 200, document, now);
    fields.map(Some).map_err(|failure| {
        error!(%failure, "a response can't be signed");
        Refusal::from(Reason::Internal)
    })
}

pub(super) fn unavailable(failure: &StoreError) -> Refusal {
    error!(%failure, "a release can't be recorded");
    Refusal::from(Reason::StateUnavailable)
}

pub(super) fn digest(protector: &ProtectorDigest) -> Digest {
    Digest::from_bytes(*protector.as_bytes())
}

/// What the configuration says of releases that is not part of the state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReleasePolicy {
    /// How far the clocks of signers may be ahead.
    pub(crate) clock_skew: Seconds,
}
