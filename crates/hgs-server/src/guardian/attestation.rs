//! Attestation as the server does it: decide, record, issue, reply.

use std::sync::Arc;

use bytes::Bytes;
use hgs_attest::freshness::{Nonce, NonceKey};
use hgs_attest::issue::{self, DrawnSerialNumber, IssueError, IssuedHealthCertificate};
use hgs_attest::policy::Evaluation;
use hgs_attest::rtpm::credential_of_beginning;
use hgs_attest::wire::{AttestationOperationMode, Reply};
use hgs_attest::{
    Attempt, AttestationFacts, Continuation, Endpoint, Grant, HostRegistry as _, Mode, Reason,
    RecordedGrant, Refusal, Verdict, service_info, signing_certificates,
};
use hgs_crypto::hex;
use hgs_crypto::random::System;
use hgs_pki::health::HealthValidity;
use hgs_pki::{Seconds, Time};
use hgs_store::{
    Act, Action, Attempted, Attestation, AuditEntry, Digest, EvidenceToKeep, Failure, LastAttempt,
    Outcome, State, StoreError, Transaction,
};
use hyper::StatusCode;
use tracing::{error, warn};

use super::hosts::{Credentials, Registry};
use super::key_work::SnapshotKeys;
use super::keys::Snapshots;
use super::modes::Modes;
use super::observer::{Decision, Observer};
use super::open_store::OpenStore;
use super::recent::{IssuingParameters, RecentCertificates};
use super::refusals::{RefusalLog, RefusalRecord};
use super::signers::Signers;
use super::workers::{Claimant, HostIsFull, ProcessorPermit, Workers};
use crate::http::{Network, RequestId};
use hgs_clock::Clock;

/// One request of a host.
#[derive(Debug, Clone)]
pub(crate) struct AttestationRequest {
    /// Names it in its audit record.
    pub(crate) id: RequestId,
    pub(crate) body: Bytes,
    /// The value of the header with the nonce that the host returns.
    pub(crate) proof: Option<String>,
    /// Where it comes from. The work for it is done on that account, as its host is known only when it is done.
    pub(crate) network: Network,
}

/// What a host gets.
#[must_use = "the host waits for its reply"]
pub(crate) enum Attested {
    /// A health certificate; the attestation is on record.
    Issued(IssuedHealthCertificate),
    /// A reply that asks for more.
    Continue(Reply),
    /// None.
    Refused(Refusal),
}

/// What was decided, before it is counted and logged.
enum Decided {
    Issued(Box<IssuedHealthCertificate>, u64),
    Continue(Box<Continuation>),
}

/// A certificate of the last minute, and the number of its record.
type LatelyIssued = (IssuedHealthCertificate, u64);

/// A verdict, and what it was decided from.
struct Evaluated {
    verdict: Verdict,
    /// The certificate of the last minute that answers it too.
    issued_lately: Option<LatelyIssued>,
    /// When an administrator had changed something last.
    administered: u64,
}

impl Evaluated {
    /// Whether it does not matter what other nodes have committed since: what is recorded is compared with it, what asks for more is
    /// nothing yet, and a fault of ours is no decision.
    fn needs_no_newer_state(&self) -> bool {
        match &self.verdict {
            Verdict::Healthy(_) => self.issued_lately.is_none(),
            Verdict::Continue(_) => true,
            Verdict::Refused(refusal) => refusal.status() != StatusCode::FORBIDDEN.as_u16(),
        }
    }
}

/// A refusal, and the number of the record that it has of its own.
type RecordedRefusal = (Refusal, RefusalRecord);

/// Attests hosts.
pub(crate) struct Attestations {
    /// Whether hosts have to return a nonce that never have.
    pub(crate) require_nonce: bool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: Arc<OpenStore>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) credentials: Credentials,
    pub(crate) modes: Modes,
    /// The key of the nonces that hosts return, the same on every node.
    pub(crate) nonces: NonceKey,
    pub(crate) recent: RecentCertificates,
    pub(crate) workers: Arc<Workers>,
    pub(crate) observer: Arc<Observer>,
    pub(crate) refusals: Arc<RefusalLog>,
}

impl Attestations {
    /// How hosts attest here.
    pub(crate) fn mode(&self) -> &dyn Mode {
        let mode = self.store.state().settings().attestation_mode;
        self.modes.of(mode)
    }

    /// What the service says of itself.
    pub(crate) fn service_info(&self) -> Reply {
        service_info(self.mode().operation_mode())
    }

    /// What a host is to return with its next request.
    pub(crate) fn nonce(&self) -> Nonce {
        self.nonces.nonce(self.clock.now())
    }

    /// The body of `signingCertificates`.
    pub(crate) fn signing_certificates(&self) -> Vec<u8> {
        let state = self.store.state();
        signing_certificates::write(&Signers::at(&state, self.clock.now()).published())
    }

    /// Whether a long request with this beginning is read on: a host with a TPM sends its logs, if it is registered.
    pub(crate) fn admits_large_body(&self, beginning: &[u8]) -> bool {
        if self.mode().operation_mode() != AttestationOperationMode::Tpm {
            return false;
        }
        let registry = Registry {
            state: &self.store.state(),
            credentials: &self.credentials,
        };
        credential_of_beginning(beginning)
            .is_some_and(|credential| registry.host_with(&credential).is_some())
    }

    /// Decides what a host gets that sent `request` to `endpoint`, and sees to it that this is recorded, counted and
    /// logged.
    pub(crate) async fn attest(
        self: &Arc<Self>,
        endpoint: Endpoint,
        request: AttestationRequest,
    ) -> Attested {
        let now = self.clock.now();
        let decided = match endpoint.check_mode(self.mode().operation_mode()) {
            Ok(()) => self.decide_attestation(request, now).await,
            Err(reason) => Err(unrecorded(reason)),
        };
        let (attested, decision) = match decided {
            Ok(Decided::Issued(issued, sequence)) => {
                let decision = issued_decision(&issued, sequence);
                (Attested::Issued(*issued), decision)
            }
            Ok(Decided::Continue(continuation)) => {
                let decision = Decision {
                    outcome: "continue",
                    ..Decision::default()
                };
                (Attested::Continue(continuation.reply), decision)
            }
            Err((refusal, record)) => {
                let decision = self.refused_decision(&refusal, record);
                (Attested::Refused(refusal), decision)
            }
        };
        self.observer.attestation(&decision);
        attested
    }

    async fn decide_attestation(
        self: &Arc<Self>,
        request: AttestationRequest,
        now: Time,
    ) -> Result<Decided, RecordedRefusal> {
        let id = request.id;
        let evaluated = self.evaluate_newest(request.clone(), now).await;
        let evaluated = evaluated.map_err(unrecorded)?;
        match evaluated.verdict {
            Verdict::Healthy(grant) => {
                let (issued, sequence) = match evaluated.issued_lately {
                    Some(issued) => issued,
                    None => {
                        let administered = evaluated.administered;
                        self.admit(grant, administered, request, now).await?
                    }
                };
                Ok(Decided::Issued(Box::new(issued), sequence))
            }
            Verdict::Continue(continuation) => Ok(Decided::Continue(Box::new(continuation))),
            Verdict::Refused(refusal) => {
                Err(self.record_attestation_refusal(refusal, id, now).await)
            }
        }
    }

    /// Decides by a state that is as new as the request, where nothing is committed that is compared with what other nodes have
    /// committed: another node may have revoked the host a moment ago, or registered it, or approved what it booted.
    async fn evaluate_newest(
        self: &Arc<Self>,
        request: AttestationRequest,
        now: Time,
    ) -> Result<Evaluated, Reason> {
        let decided_from = self.store.state();
        let evaluated = self.evaluate_once(request.clone(), now).await;
        if evaluated.needs_no_newer_state() {
            return Ok(evaluated);
        }
        let has_changed = self.store.has_changed_since(&decided_from).await;
        match has_changed.map_err(|failure| unavailable(&failure))? {
            true => Ok(self.evaluate_once(request, now).await),
            false => Ok(evaluated),
        }
    }

    async fn evaluate_once(self: &Arc<Self>, request: AttestationRequest, now: Time) -> Evaluated {
        let administered = self.store.state().administered();
        let verdict = self.evaluate(request, now).await;
        Evaluated {
            issued_lately: self.issued_lately(&verdict, now),
            verdict,
            administered,
        }
    }

    /// The certificate of the last minute that answers this attestation too. That a host returns nonces for the first
    /// time, what it will boot next, and that it has passed again or by other policies, have to be recorded all the same.
    fn issued_lately(&self, verdict: &Verdict, now: Time) -> Option<LatelyIssued> {
        let Verdict::Healthy(grant) = verdict else {
            return None;
        };
        let state = self.store.state();
        let host = state.host(&grant.host_id())?;
        let is_new = grant.returned_nonce() && !host.returns_nonces;
        let policies = policies_of(grant.facts());
        let last = host.last_attempt.as_deref();
        let is_recorded =
            last.is_some_and(|last| last.outcome == Outcome::Done && last.policies == policies);
        if is_new || grant.next_boot().is_some() || !is_recorded {
            return None;
        }
        self.recent
            .find(grant, issuing_parameters(&state, now)?, now)
    }

    async fn evaluate(self: &Arc<Self>, request: AttestationRequest, now: Time) -> Verdict {
        let attestations = Arc::clone(self);
        let claimant = Claimant::Network(request.network);
        let evaluation = move |_: &mut ProcessorPermit| {
            let registry = Registry {
                state: &attestations.store.state(),
                credentials: &attestations.credentials,
            };
            let attempt = Attempt {
                body: &request.body,
                proof: request.proof.as_deref(),
                nonces: &attestations.nonces,
                require_nonce: attestations.require_nonce,
                now,
            };
            let mode = attestations.mode();
            mode.evaluate(&attempt, &registry, &mut System::new())
        };
        let verdict = self.workers.run(claimant, evaluation).await;
        verdict.unwrap_or_else(|full| Verdict::Refused(Reason::from(full).into()))
    }

    /// Records a grant and issues what it grants, in this order. It was decided from a state that `administered` tells of.
    async fn admit(
        self: &Arc<Self>,
        grant: Grant,
        administered: u64,
        request: AttestationRequest,
        now: Time,
    ) -> Result<(IssuedHealthCertificate, u64), RecordedRefusal> {
        let seconds = self.store.state().settings().health_certificate_seconds;
        let expires = now.checked_add(Seconds::new(seconds.into()));
        let id = request.id;
        let (attestation, serial) = attestation(&grant, now, expires).map_err(unrecorded)?;
        let host = attestation.host;
        let claimant = Claimant::Network(request.network);
        let act = Act::new(now, format!("host {host}")).by_request(id);
        let next_boot = grant.next_boot().map(|claim| Transaction::AcceptNextBoot {
            id: host,
            claim: Box::new(claim.clone()),
        });
        // The record of the attestation is the last: its number is that of the certificate.
        let attested = Transaction::RecordAttestation(attestation);
        let transactions = next_boot.into_iter().chain([attested]).collect();
        let committed = match self.store.commit(transactions, act).await {
            Ok(committed) => committed,
            Err(Failure::Refused(_)) => {
                let refusal = self.refused_since(request, now).await;
                return Err((refusal, RefusalRecord::None));
            }
            Err(Failure::Store(failure)) => return Err(unrecorded(unavailable(&failure))),
        };
        // The commit has taken in what was ordered before it: hosts may be judged by something else than this one was.
        if self.store.state().administered() != administered {
            self.judge_again(request, now).await?;
        }
        self.promote(&grant, id, now).await;
        let attestations = Arc::clone(self);
        let recorded = grant.recorded();
        let issued = self
            .workers
            .run(claimant, move |processor| {
                attestations.issue(recorded, serial, now, processor)
            })
            .await
            .unwrap_or_else(|full| Err(full.into()));
        let (issued, parameters) = issued.map_err(unrecorded)?;
        self.recent
            .keep(&issued, committed.sequence, parameters, now);
        Ok((issued, committed.sequence))
    }

    /// Refuses a host that is recorded as healthy, if it is not by what it is judged by now.
    async fn judge_again(
        self: &Arc<Self>,
        request: AttestationRequest,
        now: Time,
    ) -> Result<(), RecordedRefusal> {
        let id = request.id;
        match self.evaluate(request, now).await {
            Verdict::Healthy(_) => Ok(()),
            Verdict::Continue(_) => Err(unrecorded(Reason::Unavailable)),
            Verdict::Refused(refusal) => {
                Err(self.record_attestation_refusal(refusal, id, now).await)
            }
        }
    }

    /// What was predicted and is booted now does not expire any more. If this can't be recorded, the next attestation does it.
    async fn promote(&self, grant: &Grant, request: RequestId, now: Time) {
        let measured = grant.facts().measured.as_deref();
        let evaluation = measured.and_then(|measured| measured.evaluation.as_ref().ok());
        let used = evaluation.map_or(&[][..], Evaluation::used).iter();
        let used: Vec<_> = used.filter(|used| used.staged).cloned().collect();
        if used.is_empty() {
            return;
        }
        let id = grant.host_id();
        let act = Act::new(now, format!("host {id}")).by_request(request);
        let transaction = Transaction::PromoteAlternatives { id, used };
        if let Err(failure) = self.store.commit(vec![transaction], act).await {
            warn!(host = %id, ?failure, "what a host booted first was not promoted");
        }
    }

    /// The state has changed between decision and record, and the store has recorded that it refused. What the new
    /// state says is what the host is told.
    async fn refused_since(self: &Arc<Self>, request: AttestationRequest, now: Time) -> Refusal {
        match self.evaluate(request, now).await {
            Verdict::Refused(refusal) => refusal,
            Verdict::Healthy(_) | Verdict::Continue(_) => Refusal::from(Reason::Unavailable),
        }
    }

    fn issue(
        &self,
        grant: RecordedGrant,
        serial: DrawnSerialNumber,
        now: Time,
        processor: &mut ProcessorPermit,
    ) -> Result<(IssuedHealthCertificate, IssuingParameters), Reason> {
        let snapshot = self.snapshots.current().map_err(|_| Reason::Unavailable)?;
        let signers = Signers::at(&snapshot.state, now);
        let Some(signer) = signers.active() else {
            error!("there is no attestation signer that could sign now");
            return Err(Reason::Unavailable);
        };
        let seconds = snapshot.state.settings().health_certificate_seconds;
        let parameters = IssuingParameters {
            signer: signer.thumbprint(),
            validity: seconds,
        };
        let validity = Seconds::new(seconds.into());
        let validity = HealthValidity::try_from(validity).unwrap_or_default();
        let mut keys = SnapshotKeys {
            keys: &snapshot.holdings.keys,
            processor,
        };
        let issued = issue::issue(grant, signer, validity, serial, &mut keys);
        let issued = issued.map_err(|error| match error {
            IssueError::Key { .. } => Reason::Unavailable,
            error => internal(error),
        })?;
        Ok((issued, parameters))
    }

    /// The first refusal of its kind of a host that proved its key is on record before it is answered, and so is an
    /// identity key that comes back; if that can't be, that is the answer.
    async fn record_attestation_refusal(
        &self,
        refusal: Refusal,
        request: RequestId,
        now: Time,
    ) -> RecordedRefusal {
        if !is_of_a_proved_host(&refusal) {
            return (refusal, RefusalRecord::None);
        }
        if let Err(failure) = self.record_returned_identity(&refusal, request, now).await {
            return unrecorded(unavailable(&failure));
        }
        // A host whose claim is refused was found healthy: that is no news about its boot.
        let is_of_boot = !refusal.code().is_of_next_boot();
        if is_of_boot
            && let Some(attempted) = attempted(refusal.facts(), Some(reason_of(&refusal)), now)
            && let Err(failure) = self.store.keep_attempt(attempted).await
        {
            return unrecorded(unavailable(&failure));
        }
        let code = refusal.code().name();
        let entry = AuditEntry {
            request: Some(request),
            ..refusal_entry(&refusal, now)
        };
        match self.refusals.record(code, entry).await {
            Ok(recorded) => (refusal, recorded),
            Err(failure) => unrecorded(unavailable(&failure)),
        }
    }

    /// That a superseded identity key was presented is recorded once for each key.
    async fn record_returned_identity(
        &self,
        refusal: &Refusal,
        request: RequestId,
        now: Time,
    ) -> Result<(), StoreError> {
        let facts = refusal.facts();
        let (Some(host), Some(key)) = (&facts.host, facts.identity_key) else {
            return Ok(());
        };
        let host = host.host_id;
        let identities = self.store.state().identities(&host);
        if identities.returned(&key, now).is_none() {
            return Ok(());
        }
        let transaction = Transaction::RecordReturnedIdentity {
            host,
            identity_key: Digest::from_bytes(key),
        };
        let act = Act::new(now, format!("host {host}")).by_request(request);
        match self.store.commit(vec![transaction], act).await {
            // Refused: the host was removed or revoked meanwhile.
            Ok(_) | Err(Failure::Refused(_)) => Ok(()),
            Err(Failure::Store(failure)) => Err(failure),
        }
    }

    fn refused_decision(&self, refusal: &Refusal, recorded: RefusalRecord) -> Decision {
        let (facts, outcome) = (refusal.facts(), refusal.code().name());
        let proved = is_of_a_proved_host(refusal);
        let host = facts.host.as_ref().filter(|_| proved);
        // Where the fault is ours, the host was not refused.
        let is_stranger = !proved && refusal.status() < 500;
        Decision {
            outcome,
            reason: Some(refusal.reason().to_string()),
            host: host.map(|host| host.host_id.to_string()),
            host_name: host.map(|host| host.name.clone()),
            record: recorded.sequence(),
            alike: recorded.further().or_else(|| {
                is_stranger.then(|| self.refusals.count_unauthenticated(Action::Attest, outcome))
            }),
            ..Decision::default()
        }
    }
}

/// What a certificate that is issued now depends on beside the host; `None` if none can be issued.
fn issuing_parameters(state: &State, now: Time) -> Option<IssuingParameters> {
    Some(IssuingParameters {
        signer: Signers::at(state, now).active()?.thumbprint(),
        validity: state.settings().health_certificate_seconds,
    })
}

fn issued_decision(issued: &IssuedHealthCertificate, sequence: u64) -> Decision {
    let grant = issued.grant();
    let host = grant.facts().host.as_ref();
    Decision {
        outcome: "healthy",
        host: Some(grant.host_id().to_string()),
        host_name: host.map(|host| host.name.clone()),
        serial: Some(hex::encode(issued.certificate().serial_number())),
        record: Some(sequence),
        ..Decision::default()
    }
}

fn is_of_a_proved_host(refusal: &Refusal) -> bool {
    refusal.facts().proved
}

/// What is recorded of a grant, and the serial number that the record names.
fn attestation(
    grant: &Grant,
    now: Time,
    expires: Option<Time>,
) -> Result<(Attestation, DrawnSerialNumber), Reason> {
    let serial = DrawnSerialNumber::draw(&mut System::new()).map_err(internal)?;
    let attestation = Attestation {
        host: grant.host_id(),
        kind: grant.kind(),
        identity_key: Digest::from_bytes(*grant.identity_digest()),
        returned_nonce: grant.returned_nonce(),
        serial: serial.number(),
        policy: Digest::from_bytes(grant.statement().policy_digest),
        expires,
        attempted: attempted(grant.facts(), None, now).map(Box::new),
    };
    Ok((attestation, serial))
}

/// What is kept of an attempt of a known host that proved who it is: how it went, and what its TPM proved. `refused` says why it
/// got no health certificate.
fn attempted(facts: &AttestationFacts, refused: Option<String>, now: Time) -> Option<Attempted> {
    let host = facts.host.as_ref()?.host_id;
    let measured = facts.measured.as_deref();
    let evaluation = measured.and_then(|measured| measured.evaluation.as_ref().ok());
    let evidence = measured.and_then(|measured| EvidenceToKeep::of(&measured.evidence));
    let attempt = LastAttempt {
        time: now,
        outcome: match refused {
            None => Outcome::Done,
            Some(_) => Outcome::Refused,
        },
        reason: refused,
        failed: evaluation.map(failed_policies).unwrap_or_default(),
        policies: policies_of(facts),
        difference: evaluation
            .and_then(Evaluation::group)
            .map(|group| Digest::from_bytes(*group)),
        evidence: evidence.as_ref().map(EvidenceToKeep::digest),
    };
    Some(Attempted {
        host,
        attempt,
        evidence,
    })
}

/// The digest of what the host was judged by.
fn policies_of(facts: &AttestationFacts) -> Option<Digest> {
    let evaluation = facts.measured.as_deref()?.evaluation.as_ref().ok()?;
    Some(Digest::from_bytes(*evaluation.policies()))
}

fn failed_policies(evaluation: &Evaluation) -> Vec<String> {
    let failed = evaluation.failed();
    failed
        .map(|result| result.policy.name().to_owned())
        .collect()
}

/// Why a host was refused, in one line.
fn reason_of(refusal: &Refusal) -> String {
    format!("{}: {}", refusal.code().name(), refusal.reason())
}

fn refusal_entry(refusal: &Refusal, now: Time) -> AuditEntry {
    let known = refusal.facts().host.as_ref();
    let host = known.map(|host| host.host_id.to_string());
    let actor = format!("host {}", host.as_deref().unwrap_or("unknown"));
    AuditEntry {
        reason: Some(reason_of(refusal)),
        host_name: known.map(|host| host.name.clone()),
        host,
        ..AuditEntry::new(now, actor, Action::Attest, Outcome::Refused)
    }
}

impl From<HostIsFull> for Reason {
    fn from(_: HostIsFull) -> Self {
        Self::Unavailable
    }
}

fn unrecorded(reason: Reason) -> RecordedRefusal {
    (Refusal::from(reason), RefusalRecord::None)
}

fn unavailable(failure: &StoreError) -> Reason {
    error!(%failure, "an attestation can't be recorded");
    Reason::Unavailable
}

fn internal(failure: impl std::fmt::Display) -> Reason {
    error!(%failure, "a health certificate can't be issued");
    Reason::Internal
}
