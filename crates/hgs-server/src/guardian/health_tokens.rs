//! Health tokens as the server issues them: prove, decide, record, sign.

mod recent;
mod used_nonces;

use std::sync::Arc;

use bytes::Bytes;
use hgs_attest::freshness::Nonce;
use hgs_attest::health_token::{
    Appraisal, Challenge, Code, IssuedToken, Issuer, MeasuredBoot, ProvedRequest, TokenAttempt,
    TokenError, TokenNonceKey, TokenRefusal, Verifier, discovery, jwks, prove, sign,
};
use hgs_clock::Clock;
use hgs_crypto::hex;
use hgs_crypto::random::System;
use hgs_kps::{HostStandings as _, Reason};
use hgs_pki::health::{AttestationMode, HealthStatement};
use hgs_pki::{Seconds, SerialNumber, Thumbprint, Time};
use hgs_store::{Action, AuditEntry, Digest, Host, Outcome, ShortName, State, StoreError};
use serde_json::json;
use tracing::error;

use self::recent::RecentTokens;
use self::used_nonces::UsedNonces;
use super::key_work::SnapshotKeys;
use super::keys::Snapshots;
use super::observer::{Decision, Observer};
use super::open_store::OpenStore;
use super::refusals::{RefusalLog, RefusalRecord};
use super::signers::Signers;
use super::workers::{Claimant, ProcessorPermit, Workers};
use crate::config::HealthToken as Settings;
use crate::http::{Network, RequestId};

/// The program that appraises, as tokens name it.
const BUILD: &str = concat!("hgs ", env!("CARGO_PKG_VERSION"));

/// Issues health tokens.
pub(crate) struct HealthTokens {
    settings: Settings,
    /// How far the clocks of signers may be ahead.
    clock_skew: Seconds,
    nonces: TokenNonceKey,
    used: UsedNonces,
    recent: RecentTokens,
    parts: TokenParts,
}

/// What issuing tokens shares with the other parts.
pub(crate) struct TokenParts {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: Arc<OpenStore>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) observer: Arc<Observer>,
    pub(crate) refusals: Arc<RefusalLog>,
}

/// A request of a host for a token.
#[derive(Clone)]
pub(crate) struct TokenRequest {
    /// Names it in its audit record.
    pub(crate) id: RequestId,
    pub(crate) body: Bytes,
    pub(crate) network: Network,
}

/// A refusal, and the request of the host that it is of. `None` where nobody has proved to be a host.
type Refused = (TokenRefusal, Option<Box<ProvedRequest>>);

/// A token, and the signer that has signed it.
struct SignedToken {
    token: IssuedToken,
    signer: Thumbprint,
}

/// A token, the number of its audit record, and for whom it is.
type Issued = (IssuedToken, u64, Box<ProvedRequest>);

impl HealthTokens {
    pub(crate) fn new(settings: Settings, clock_skew: Seconds, parts: TokenParts) -> Self {
        Self {
            nonces: TokenNonceKey::new(parts.store.attestation_nonce_secret()),
            used: UsedNonces::default(),
            recent: RecentTokens::default(),
            settings,
            clock_skew,
            parts,
        }
    }

    /// What a host needs for a request.
    pub(crate) fn challenge(&self) -> Result<Challenge, TokenRefusal> {
        let issuer = self.issuer()?.clone();
        let nonce = self.nonce().ok_or(TokenRefusal::Internal)?;
        Ok(Challenge { issuer, nonce })
    }

    /// A nonce for the next request.
    pub(crate) fn nonce(&self) -> Option<Nonce> {
        let nonce = self.nonces.nonce(&mut System::new(), self.now());
        nonce
            .inspect_err(|_| error!("the source of randomness failed"))
            .ok()
    }

    /// The keys that verify tokens: those of all signers that are published, the next one before it signs.
    pub(crate) fn key_set(&self) -> Result<Vec<u8>, TokenRefusal> {
        self.issuer()?;
        let state = self.parts.store.state();
        Ok(jwks(&Signers::at(&state, self.now()).published()))
    }

    /// Where the keys are, for those who know the issuer.
    pub(crate) fn discovery(&self) -> Result<Vec<u8>, TokenRefusal> {
        self.issuer().map(discovery)
    }

    /// The token that a request asks for, or why there is none; either is recorded, counted and logged.
    pub(crate) async fn issue(
        self: &Arc<Self>,
        asked: TokenRequest,
    ) -> Result<IssuedToken, TokenRefusal> {
        let (id, now) = (asked.id, self.now());
        let issued = match self.issuer() {
            Ok(_) => self.issue_newest(asked, now).await,
            Err(refusal) => Err((refusal, None)),
        };
        match issued {
            Ok((token, record, request)) => {
                self.parts.observer.health_token(&Decision {
                    outcome: "issued",
                    record: Some(record),
                    ..self.decision(&request)
                });
                Ok(token)
            }
            Err((refusal, request)) => Err(self.refuse(refusal, request, id, now).await),
        }
    }

    fn now(&self) -> Time {
        self.parts.clock.now()
    }

    fn issuer(&self) -> Result<&Issuer, TokenRefusal> {
        let issuer = self.settings.issuer.as_ref();
        issuer.ok_or(TokenRefusal::NotEnabled)
    }

    /// Decides by a state that is as new as the request: another node may have registered the host a moment ago, or revoked it.
    async fn issue_newest(
        self: &Arc<Self>,
        asked: TokenRequest,
        now: Time,
    ) -> Result<Issued, Refused> {
        let decided_from = self.parts.store.state();
        let request = match self.decide(asked.clone(), now).await {
            Err(refused) if !depends_on_state(refused.0.code()) => return Err(refused),
            decided => match self.parts.store.has_changed_since(&decided_from).await {
                Ok(false) => decided?,
                Ok(true) => self.decide(asked.clone(), now).await?,
                Err(failure) => return Err((unavailable(&failure), None)),
            },
        };
        let host = request.certificate().statement().host_id;
        if let Err(refusal) = self.used.take(host, request.nonce(), now) {
            return Err((refusal, Some(request)));
        }
        let signer = self.signer(now);
        if let Some((token, record)) = self.recent.find(&request, signer, now) {
            return Ok((token, record, request));
        }
        let issued = self.record_and_sign(&request, &asked, now).await;
        match issued {
            Ok((signed, record)) => {
                self.recent.keep(&request, &signed, record, now);
                Ok((signed.token, record, request))
            }
            Err(refusal) => Err((refusal, Some(request))),
        }
    }

    /// The signer that signs now: a token of another one is not given out again.
    fn signer(&self, now: Time) -> Option<Thumbprint> {
        let state = self.parts.store.state();
        let signers = Signers::at(&state, now);
        signers.active().map(hgs_pki::Certificate::thumbprint)
    }

    /// Whose request it is, and whether that host may have the token.
    async fn decide(
        self: &Arc<Self>,
        asked: TokenRequest,
        now: Time,
    ) -> Result<Box<ProvedRequest>, Refused> {
        let tokens = Arc::clone(self);
        let TokenRequest { body, network, .. } = asked;
        let decision = move |_: &mut ProcessorPermit| {
            let state = tokens.parts.store.state();
            let signers = Signers::at(&state, now).trusted();
            let proved = prove(&TokenAttempt {
                body: &body,
                issuer: tokens.issuer().map_err(|refusal| (refusal, None))?,
                nonces: &tokens.nonces,
                signers: &signers,
                now,
                skew: tokens.clock_skew,
            });
            let request = proved.map(Box::new).map_err(|refusal| (refusal, None))?;
            match tokens.check(&state, &request) {
                Ok(()) => Ok(request),
                Err(refusal) => Err((refusal, Some(request))),
            }
        };
        let claimant = Claimant::Network(network);
        let decided = self.parts.workers.run(claimant, decision).await;
        decided.unwrap_or(Err((TokenRefusal::Unavailable, None)))
    }

    /// Whether the host of a request may have the token, by this state.
    fn check(&self, state: &State, request: &ProvedRequest) -> Result<(), TokenRefusal> {
        let statement = request.certificate().statement();
        check_standing(state, statement)?;
        if !self.settings.audiences.contains(request.audience()) {
            let audience = request.audience().clone();
            return Err(TokenRefusal::AudienceNotAllowed(audience));
        }
        let host = state.host(&statement.host_id);
        check_last_attempt(
            state,
            host.ok_or(TokenRefusal::HostNotRegistered)?,
            statement,
        )
    }

    /// Records that a token is issued and signs it, in this order. The record has its place among the commits of all nodes: when it
    /// is there, so is every revocation before it.
    async fn record_and_sign(
        self: &Arc<Self>,
        request: &ProvedRequest,
        asked: &TokenRequest,
        now: Time,
    ) -> Result<(SignedToken, u64), TokenRefusal> {
        let entry = AuditEntry {
            after: Some(json!({"health_token": {
                "audience": request.audience().as_str(),
                "id": request.token_id(),
            }})),
            ..self.entry(request, Outcome::Done, asked.id, now)
        };
        let recorded = self.parts.store.record(entry).await;
        let record = recorded.map_err(|failure| unavailable(&failure))?;
        let (tokens, request) = (Arc::clone(self), request.clone());
        let signing = move |processor: &mut ProcessorPermit| tokens.sign(&request, now, processor);
        let claimant = Claimant::Network(asked.network);
        let signed = self.parts.workers.run(claimant, signing).await;
        Ok((signed.unwrap_or(Err(TokenRefusal::Unavailable))?, record))
    }

    fn sign(
        &self,
        request: &ProvedRequest,
        now: Time,
        processor: &mut ProcessorPermit,
    ) -> Result<SignedToken, TokenRefusal> {
        let snapshot = self.parts.snapshots.current();
        let snapshot = snapshot.map_err(|_| TokenRefusal::Unavailable)?;
        let state = &snapshot.state;
        self.check(state, request)?;
        let id = request.certificate().statement().host_id;
        let host = state.host(&id).ok_or(TokenRefusal::HostNotRegistered)?;
        let Some(signer) = Signers::at(state, now).active() else {
            error!("there is no attestation signer that could sign now");
            return Err(TokenRefusal::Unavailable);
        };
        let is_measured = request.certificate().statement().mode == AttestationMode::Tpm;
        let measured = is_measured.then(|| measured_boot(state, host));
        let appraisal = Appraisal {
            host_name: host.name.as_str(),
            group: host.group.as_ref().map(ShortName::as_str),
            measured: measured.transpose()?,
        };
        let verifier = Verifier {
            issuer: self.issuer()?,
            build: BUILD,
            lifetime: Seconds::new(self.settings.lifetime.as_secs()),
        };
        let keys = &mut SnapshotKeys {
            keys: &snapshot.holdings.keys,
            processor,
        };
        let signed = sign(request, &appraisal, verifier, now, signer, keys);
        let token = signed.map_err(|error| match error {
            TokenError::Refused(refusal) => refusal,
            TokenError::Key { .. } => TokenRefusal::Unavailable,
            error @ TokenError::Signature(_) => internal(error),
        })?;
        Ok(SignedToken {
            token,
            signer: signer.thumbprint(),
        })
    }

    /// The first refusal of its kind of a host that proved its key is on record before it is answered; if that can't be, that is the
    /// answer.
    async fn refuse(
        &self,
        refusal: TokenRefusal,
        request: Option<Box<ProvedRequest>>,
        id: RequestId,
        now: Time,
    ) -> TokenRefusal {
        let code = refusal.code();
        let name = code.record_name();
        // Where the fault is ours, the host was not refused.
        let is_decision = code.status() < 500;
        let mut decision = Decision {
            outcome: code.name(),
            reason: Some(refusal.to_string()),
            ..Decision::default()
        };
        match request.filter(|_| is_decision) {
            None if is_decision => {
                decision.alike = Some(
                    self.parts
                        .refusals
                        .count_unauthenticated(Action::Attest, name),
                );
            }
            None => {}
            Some(request) => {
                let entry = AuditEntry {
                    reason: Some(format!("{name}: {refusal}")),
                    ..self.entry(&request, Outcome::Refused, id, now)
                };
                let recorded: RefusalRecord = match self.parts.refusals.record(name, entry).await {
                    Ok(recorded) => recorded,
                    Err(failure) => return unavailable(&failure),
                };
                decision = Decision {
                    outcome: decision.outcome,
                    reason: decision.reason,
                    record: recorded.sequence(),
                    alike: recorded.further(),
                    ..self.decision(&request)
                };
            }
        }
        self.parts.observer.health_token(&decision);
        refusal
    }

    fn entry(
        &self,
        request: &ProvedRequest,
        outcome: Outcome,
        id: RequestId,
        now: Time,
    ) -> AuditEntry {
        let certificate = request.certificate();
        let statement = certificate.statement();
        let host = statement.host_id;
        AuditEntry {
            host_name: self.host_name(request),
            host: Some(host.to_string()),
            serial: SerialNumber::from_bytes(certificate.certificate().serial_number()).ok(),
            policy: Some(Digest::from_bytes(statement.policy_digest)),
            request: Some(id),
            ..AuditEntry::new(now, format!("host {host}"), Action::Attest, outcome)
        }
    }

    fn decision(&self, request: &ProvedRequest) -> Decision {
        let certificate = request.certificate();
        Decision {
            host: Some(certificate.statement().host_id.to_string()),
            host_name: self.host_name(request),
            serial: Some(hex::encode(certificate.certificate().serial_number())),
            ..Decision::default()
        }
    }

    fn host_name(&self, request: &ProvedRequest) -> Option<String> {
        let state = self.parts.store.state();
        let host = state.host(&request.certificate().statement().host_id);
        host.map(|host| host.name.to_string())
    }
}

/// As for releases: a host that is revoked or removed gets nothing, whatever certificate it holds.
fn check_standing(state: &State, statement: &HealthStatement) -> Result<(), TokenRefusal> {
    let standing = state.check(Some(&statement.host_id), &statement.policy_digest);
    standing.map_err(|reason| match reason {
        Reason::HostRevoked => TokenRefusal::HostRevoked,
        _ => TokenRefusal::HostNotRegistered,
    })
}

/// A token says that the host is healthy by what is asked of it now: not if it was refused since its certificate was issued, and not
/// if what it is judged by is another today.
fn check_last_attempt(
    state: &State,
    host: &Host,
    statement: &HealthStatement,
) -> Result<(), TokenRefusal> {
    let Some(last) = host.last_attempt.as_deref() else {
        return match statement.mode {
            AttestationMode::Tpm => Err(TokenRefusal::PoliciesChanged(statement.issued_at)),
            _ => Ok(()),
        };
    };
    if last.outcome == Outcome::Refused && last.time >= statement.issued_at {
        return Err(TokenRefusal::RefusedSince(last.time));
    }
    if statement.mode != AttestationMode::Tpm {
        return Ok(());
    }
    let policies = state.policy_set_of(host).map_err(internal)?;
    match last.policies == Some(Digest::from_bytes(*policies.digest())) {
        true => Ok(()),
        false => Err(TokenRefusal::PoliciesChanged(last.time)),
    }
}

/// What a host has passed that attested by its TPM.
fn measured_boot(state: &State, host: &Host) -> Result<MeasuredBoot, TokenRefusal> {
    let last = host.last_attempt.as_deref();
    let last = last.ok_or(TokenRefusal::PoliciesChanged(host.added))?;
    let effective = state.effective_policies(host.group.as_ref());
    let documents = effective.map_err(internal)?.documents;
    Ok(MeasuredBoot {
        attested: last.time,
        policies: state.policy_set_of(host).map_err(internal)?,
        documents: documents.iter().map(ToString::to_string).collect(),
        evidence: last.evidence.map(|digest| *digest.as_bytes()),
    })
}

/// Whether another state could have it otherwise.
fn depends_on_state(code: Code) -> bool {
    matches!(
        code,
        Code::HealthCertificate
            | Code::HostRevoked
            | Code::HostNotRegistered
            | Code::AttestationOutdated
    )
}

fn unavailable(failure: &StoreError) -> TokenRefusal {
    error!(%failure, "a health token can't be recorded");
    TokenRefusal::Unavailable
}

fn internal(failure: impl std::fmt::Display) -> TokenRefusal {
    error!(%failure, "a health token can't be issued");
    TokenRefusal::Internal
}
