//! TPM mode: what a host gets whose request came to `/attest`.

use std::sync::Arc;

use hgs_crypto::hash::{Sha256Digest, sha256, sha256_of};
use hgs_crypto::random::Random;
use hgs_crypto::rsa::PublicKey;
use hgs_pki::Time;
use hgs_pki::health::{AttestationMode, HealthKind, HealthStatement};
use hgs_tcg::event_log::PcrValues;
use hgs_tcg::tpm::{Command, CreatedKey, KeyPurpose, KeyTemplate, Public};

use super::context::{Blob, Context};
use super::exchange::{Binding, Exchange, Next, ProvedBoot, Stage};
use super::identity_pcrs::IdentityPcrs;
use super::request::TpmRequest;
use super::sealed::{ContextKey, SealedStateError};
use crate::facts::{AttestationFacts, KnownHost};
use crate::mode::{Attempt, Mode};
use crate::policy::{
    Measured, NextBootClaim, Preimage, RecordedEvidence, UnexplainedEvent, next_boot_confirmation,
};
use crate::refusal::{Reason, Refusal};
use crate::registry::{Credential, CredentialId, HostRegistry, RegisteredHost};
use crate::verdict::{Continuation, Finding, Grant, Verdict};
use crate::wire::{
    AttestationOperationMode, Json, MessageError, Reply, TPM_REQUEST, TpmReplyContinue,
};

/// TPM mode. Nothing is kept between requests: what the server has to remember travels with the host.
#[derive(Debug)]
pub struct TpmMode {
    contexts: ContextKey,
    identity_pcrs: IdentityPcrs,
}

impl TpmMode {
    /// TPM mode with contexts under this key, and with identity keys that are bound to these PCRs.
    #[must_use]
    pub fn new(contexts: ContextKey, identity_pcrs: IdentityPcrs) -> Self {
        Self {
            contexts,
            identity_pcrs,
        }
    }
}

/// What a host in TPM mode is certified as: the one with the TPM whose endorsement key has a TPMT_PUBLIC with this SHA-256.
#[must_use]
pub fn policy_digest(endorsement_key: &Sha256Digest) -> Sha256Digest {
    sha256_of(&[b"OpenHGS TPM 1", endorsement_key])
}

impl Mode for TpmMode {
    fn operation_mode(&self) -> AttestationOperationMode {
        AttestationOperationMode::Tpm
    }

    /// The checks have the order of section 11 of the protocol profile. Before a response of the TPM has verified, nothing
    /// is told but whether the endorsement key is registered.
    fn evaluate(
        &self,
        attempt: &Attempt<'_>,
        hosts: &dyn HostRegistry,
        random: &mut dyn Random,
    ) -> Verdict {
        let mut facts = AttestationFacts::default();
        match self.decide(attempt, hosts, random, &mut facts) {
            Ok(Decision::Healthy(finding)) => Verdict::Healthy(Grant::new(*finding, facts)),
            Ok(Decision::Continue(reply)) => Verdict::Continue(Continuation { reply, facts }),
            Err(reason) => Verdict::Refused(Refusal::with_facts(reason, facts)),
        }
    }
}

enum Decision {
    Continue(Reply),
    Healthy(Box<Finding>),
}

/// Whose request it is, and when it came.
struct Caller<'a> {
    host: &'a RegisteredHost,
    hosts: &'a dyn HostRegistry,
    digest: Sha256Digest,
    now: Time,
}

impl TpmMode {
    fn decide(
        &self,
        attempt: &Attempt<'_>,
        hosts: &dyn HostRegistry,
        random: &mut dyn Random,
        facts: &mut AttestationFacts,
    ) -> Result<Decision, Reason> {
        let document = Json::read(attempt.body, &TPM_REQUEST).map_err(MessageError::from)?;
        let request = TpmRequest::read(&document, facts)?;
        // An endorsement key is known by its octets, so nothing of what a stranger sends is parsed as a key.
        let digest = sha256(&request.endorsement_key);
        facts.endorsement_key = Some(digest);
        let host = hosts
            .host_with(&CredentialId::EndorsementKey(digest))
            .ok_or(Reason::EndorsementKeyNotRegistered)?;
        let Credential::EndorsementKey(endorsement_key) = &host.credential else {
            return Err(Reason::EndorsementKeyNotRegistered);
        };
        facts.host = Some(KnownHost {
            host_id: host.host_id,
            name: host.name.clone(),
        });
        let caller = Caller {
            host: &host,
            hosts,
            digest,
            now: attempt.now,
        };
        let binding = Binding {
            endorsement_key: digest,
            session: request.session_id,
        };
        let Some(context) = request.context()? else {
            let (exchange, commands) = Exchange::begin(binding, request.kind, attempt.now);
            return self.ask(&exchange, &commands, attempt.now, random);
        };
        let context = Context::read(&context)?;
        let exchange = self
            .contexts
            .open(context.sealed_state, binding, attempt.now)?;
        if exchange.kind != request.kind {
            return Err(SealedStateError::OtherKind.into());
        }
        let (started, kind) = (exchange.started, exchange.kind);
        facts.proved = exchange.is_proved();
        let measurements = exchange.awaits_measurements();
        let answer = Answer::of(context, measurements)?;
        let next = exchange.stage.advance(
            &answer.responses,
            endorsement_key,
            random,
            &mut facts.proved,
        )?;
        if facts.proved && host.revoked {
            return Err(Reason::HostRevoked);
        }
        let (stage, commands) = match next {
            Next::Ask(stage, commands) => (stage, commands),
            Next::Created(proved) => {
                let claim = answer.next_boot;
                caller.judge(proved.values, answer, facts)?;
                if claim.map(next_boot_confirmation) != proved.outside_info {
                    return Err(Reason::NextBootClaimAltered);
                }
                let next_boot = claim.map(|claim| caller.next_boot(claim)).transpose()?;
                let finding = caller.created(kind, started, &proved.created, facts)?;
                return Ok(Decision::Healthy(Box::new(Finding {
                    next_boot: next_boot.flatten(),
                    ..finding
                })));
            }
            Next::Proved(boot) => {
                let claim = answer.next_boot;
                caller.judge(boot.values.clone(), answer, facts)?;
                let template = self.template(kind, &boot.values)?;
                match claim {
                    // What is wrong with it is told before the TPM makes a key, which takes long.
                    Some(claim) => drop(caller.next_boot(claim)?),
                    None => {
                        let presented = request.identity_key()?;
                        if let Some(finding) = presented
                            .and_then(|key| caller.reused(kind, started, template, &key, facts))
                        {
                            return Ok(Decision::Healthy(Box::new(finding)));
                        }
                    }
                }
                let outside_info = claim.map(next_boot_confirmation);
                let (stage, command) =
                    caller.create(*boot, template, outside_info, kind, random)?;
                (stage, vec![command])
            }
        };
        let exchange = Exchange {
            binding,
            started,
            kind,
            stage,
        };
        self.ask(&exchange, &commands, attempt.now, random)
    }

    fn ask(
        &self,
        exchange: &Exchange,
        commands: &[Command],
        now: Time,
        random: &mut dyn Random,
    ) -> Result<Decision, Reason> {
        let sealed = self.contexts.seal(exchange, now, random);
        let sealed_state = sealed.map_err(|_| Reason::Internal)?;
        let commands: Vec<Vec<u8>> = commands.iter().map(Command::octets).collect();
        let context = Context {
            sealed_state: &sealed_state,
            blobs: commands.iter().map(|one| Blob::Command(one)).collect(),
        };
        Ok(Decision::Continue(Reply::TpmContinue(TpmReplyContinue {
            rtpm_active_context: context.octets(),
        })))
    }

    /// From what an identity key of that kind is made, now.
    fn template(&self, kind: HealthKind, values: &PcrValues) -> Result<KeyTemplate, Reason> {
        Ok(KeyTemplate {
            purpose: match kind {
                HealthKind::Encryption => KeyPurpose::Encryption,
                HealthKind::Signing => KeyPurpose::Signing,
            },
            // All PCRs were read.
            policy: self.identity_pcrs.policy(values).ok_or(Reason::Internal)?,
        })
    }
}

/// What a host answers.
struct Answer<'o> {
    responses: Vec<&'o [u8]>,
    event_log: &'o [u8],
    ima_log: &'o [u8],
    preimages: Vec<Preimage>,
    next_boot: Option<&'o [u8]>,
    unexplained: Vec<UnexplainedEvent>,
}

impl<'o> Answer<'o> {
    /// What stands in a context, of which `measurements` are awaited or not.
    fn of(context: Context<'o>, measurements: bool) -> Result<Self, Reason> {
        let mut answer = Self {
            responses: Vec::new(),
            event_log: &[],
            ima_log: &[],
            preimages: Vec::new(),
            next_boot: None,
            unexplained: Vec::new(),
        };
        for blob in context.blobs {
            match blob {
                Blob::Response(response) => answer.responses.push(response),
                Blob::Command(_) => return Err(Reason::CommandFromHost),
                Blob::DeviceInfo(_) => {}
                Blob::EventLog(_)
                | Blob::ImaLog(_)
                | Blob::Preimage(_)
                | Blob::UnexplainedEvent(_)
                | Blob::NextBoot(_)
                    if !measurements => {}
                Blob::EventLog(log) => answer.event_log = log,
                Blob::ImaLog(log) => answer.ima_log = log,
                Blob::Preimage(preimage) => answer.preimages.push(preimage),
                Blob::NextBoot(claim) => answer.next_boot = Some(claim),
                Blob::UnexplainedEvent(event) => answer.unexplained.push(event),
            }
        }
        Ok(answer)
    }
}

impl Caller<'_> {
    /// Judges how the host was booted, by the policies that it has now.
    fn judge(
        &self,
        values: PcrValues,
        answer: Answer<'_>,
        facts: &mut AttestationFacts,
    ) -> Result<(), Reason> {
        let evidence = RecordedEvidence {
            values,
            log: answer.event_log.to_vec(),
            ima: answer.ima_log.to_vec(),
            preimages: answer.preimages,
            unexplained: answer.unexplained,
        };
        let evaluation = evidence.prove().map(|evidence| {
            self.hosts
                .policies_of(self.host)
                .evaluate(&evidence, self.now)
        });
        let judged = match &evaluation {
            Err(error) => Err(Reason::Evidence(error.clone())),
            Ok(evaluation) if evaluation.is_healthy() => Ok(()),
            Ok(evaluation) => Err(Reason::Unhealthy(Box::new(evaluation.clone()))),
        };
        facts.measured = Some(Arc::new(Measured {
            evidence,
            evaluation,
        }));
        judged
    }

    /// What the host says that it will boot next, if it may say so; `None` if all of it is known.
    fn next_boot(&self, claim: &[u8]) -> Result<Option<Box<NextBootClaim>>, Reason> {
        if !self.hosts.accepts_next_boot_claims() {
            return Err(Reason::NextBootClaimsRefused);
        }
        let claim = NextBootClaim::read(claim)?;
        let policies = self.hosts.policies_of(self.host);
        let accepted = policies.accept_next_boot(&claim, &self.host.name, self.now)?;
        Ok(accepted.map(|_| Box::new(claim)))
    }

    /// Asks for a key, unless the host has had so many made that a new one would be refused.
    fn create(
        &self,
        boot: ProvedBoot,
        template: KeyTemplate,
        outside_info: Option<Sha256Digest>,
        kind: HealthKind,
        random: &mut dyn Random,
    ) -> Result<(Stage, Command), Reason> {
        self.host.identities.check_new(kind, self.now)?;
        boot.create(template, outside_info, random)
            .map_err(|_| Reason::Internal)
    }

    /// The host gets a certificate over the key that its TPM has just made.
    fn created(
        &self,
        kind: HealthKind,
        started: Time,
        created: &CreatedKey,
        facts: &mut AttestationFacts,
    ) -> Result<Finding, Reason> {
        let identity_key = created.public().rsa_key().map_err(Reason::IdentityKey)?;
        self.certified(kind, started, created.public(), identity_key, facts)
    }

    /// The host gets a certificate over a key that its TPM made earlier, if the server recorded that, the key may still be
    /// used, and it is bound to the PCRs as they are now.
    fn reused(
        &self,
        kind: HealthKind,
        started: Time,
        template: KeyTemplate,
        presented: &[u8],
        facts: &mut AttestationFacts,
    ) -> Option<Finding> {
        let digest = sha256(presented);
        let mut records = self.host.identities.records();
        // Only what was proved by TPM2_Create is recorded.
        records.find(|record| record.key == digest)?;
        let public = Public::parse(presented).ok()?;
        template.check(&public).ok()?;
        let identity_key = public.rsa_key().ok()?;
        self.certified(kind, started, &public, identity_key, facts)
            .ok()
    }

    fn certified(
        &self,
        kind: HealthKind,
        started: Time,
        public: &Public,
        identity_key: PublicKey,
        facts: &mut AttestationFacts,
    ) -> Result<Finding, Reason> {
        // The digest in the key's Name.
        let identity_digest = sha256(public.octets());
        let transition = self
            .host
            .identities
            .present(kind, &identity_digest, true, self.now)?;
        facts.identity_key = Some(identity_digest);
        Ok(Finding {
            kind,
            identity_key,
            identity_digest,
            statement: HealthStatement {
                mode: AttestationMode::Tpm,
                host_id: self.host.host_id,
                issued_at: started,
                policy_digest: policy_digest(&self.digest),
            },
            transition,
            next_boot: None,
            // The session of the TPM is the nonce.
            returned_nonce: true,
        })
    }
}
