//! A server in TPM mode, and hosts with TPMs in software, that the tests share.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::sync::{Arc, LazyLock};

use hgs_attest::client::AttestationFailure;
use hgs_attest::client::rtpm::{AttestedByTpm, Measurements, RtpmExchange, RtpmFault, Step};
use hgs_attest::issue::{self, DrawnSerialNumber};
use hgs_attest::policy::{
    Baseline, Documents, Parameters, PolicySelection, PolicySet, RecordedEvidence,
};
use hgs_attest::rtpm::{Blob, Context, ContextKey, DeviceInfo, IdentityPcrs, TpmMode};
use hgs_attest::wire::{
    AttestationProvidedContentType, AttestationRequest, Reply, Request, SessionId,
};
use hgs_attest::{
    Attempt, Credential, CredentialId, Grant, HostIdentities, HostRegistry, Mode, Refusal,
    RegisteredHost, Verdict,
};
use hgs_crypto::SecretBytes;
use hgs_crypto::random::System;
use hgs_pki::health::{HealthKind, HealthValidity, HostId};
use hgs_pki::{Seconds, Time};
use hgs_tcg::event_log::{Bank, PcrValues};
use hgs_tcg::tpm::{
    Command, EndorsementKey, Handle, Primary, Public, created_primary, flush_context,
};
use hgs_testkit::fixtures::now;
use hgs_testkit::measured_boot::MeasuredBoot;
use hgs_testkit::swtpm::SoftwareTpm;

use super::{nonces, service_keys, signer};

/// A real boot.
pub(crate) fn boot() -> MeasuredBoot {
    MeasuredBoot::of_log(include_bytes!("../boots/secure-boot-on-eventlog.bin"))
}

/// A set in which these boots are healthy, and no other is.
pub(crate) fn policies(boots: &[MeasuredBoot]) -> Arc<PolicySet> {
    let baselines = boots.iter().enumerate().map(|(number, boot)| {
        let mut values = PcrValues::new(Bank::Sha256);
        // PCRs 17 to 22 belong to dynamic launches.
        for (pcr, value) in boot.pcrs().iter().enumerate().take(17) {
            values.insert(pcr, value).unwrap();
        }
        let evidence = RecordedEvidence {
            values,
            log: boot.log(),
            ima: Vec::new(),
            preimages: Vec::new(),
            unexplained: Vec::new(),
        };
        let evidence = evidence.prove().unwrap();
        let baseline = Baseline::of_evidence(&evidence, "a test", &Parameters::default());
        (format!("boot-{number}"), baseline.unwrap())
    });
    let documents = Documents {
        baselines: baselines.collect(),
        ..Documents::default()
    };
    Arc::new(PolicySet::compile(&PolicySelection::default(), &documents).unwrap())
}

pub(crate) const SESSION: SessionId = SessionId([5; 16]);

/// Hosts with TPMs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hosts {
    pub(crate) hosts: Vec<RegisteredHost>,
    pub(crate) policies: Arc<PolicySet>,
    pub(crate) accepts_next_boot_claims: bool,
}

impl HostRegistry for Hosts {
    fn host_with(&self, credential: &CredentialId) -> Option<RegisteredHost> {
        let mut hosts = self.hosts.iter();
        hosts
            .find(|host| host.credential.id() == *credential)
            .cloned()
    }

    fn policies_of(&self, _: &RegisteredHost) -> Arc<PolicySet> {
        Arc::clone(&self.policies)
    }

    fn accepts_next_boot_claims(&self) -> bool {
        self.accepts_next_boot_claims
    }
}

/// A server in TPM mode. It keeps nothing but what is registered and recorded.
pub(crate) struct Server {
    pub(crate) mode: TpmMode,
    pub(crate) hosts: Hosts,
    pub(crate) now: Time,
}

pub(crate) fn mode() -> TpmMode {
    let key = ContextKey::new(SecretBytes::new((7..39).collect()));
    TpmMode::new(key, IdentityPcrs::default())
}

impl Server {
    /// A server that knows these hosts, and has no policies.
    pub(crate) fn with<'h>(hosts: impl IntoIterator<Item = &'h Host>) -> Self {
        let hosts = hosts.into_iter().enumerate();
        Self {
            mode: mode(),
            hosts: Hosts {
                hosts: hosts
                    .map(|(number, host)| RegisteredHost {
                        host_id: HostId::from_bytes([0x20 + number as u8; 16]),
                        name: format!("node-{number}"),
                        credential: Credential::EndorsementKey(Box::new(
                            host.endorsement_key.clone(),
                        )),
                        revoked: false,
                        returns_nonces: false,
                        identities: HostIdentities::default(),
                    })
                    .collect(),
                policies: Arc::default(),
                accepts_next_boot_claims: false,
            },
            now: now(),
        }
    }

    pub(crate) fn pass(&mut self, seconds: u64) {
        self.now = self.now.checked_add(Seconds::new(seconds)).unwrap();
    }

    /// What a request leads to. It records nothing.
    pub(crate) fn verdict(&self, body: &[u8]) -> Verdict {
        let nonces = nonces();
        let attempt = Attempt {
            body,
            proof: None,
            nonces: &nonces,
            require_nonce: true,
            now: self.now,
        };
        self.mode
            .evaluate(&attempt, &self.hosts, &mut System::new())
    }

    #[track_caller]
    pub(crate) fn refusal(&self, body: &[u8]) -> Refusal {
        match self.verdict(body) {
            Verdict::Refused(refusal) => refusal,
            other => panic!("{}", other.outcome()),
        }
    }

    /// What the store does with a grant.
    pub(crate) fn record(&mut self, grant: &Grant) {
        let mut hosts = self.hosts.hosts.iter_mut();
        let host = hosts.find(|host| host.host_id == grant.host_id()).unwrap();
        host.identities = host.identities.after(grant.transition());
        host.returns_nonces |= grant.returned_nonce();
    }

    /// The reply with its HTTP status; a grant is recorded and certified.
    pub(crate) fn reply(&mut self, body: &[u8]) -> (u16, Vec<u8>, Verdict) {
        let verdict = self.verdict(body);
        let (status, reply) = match &verdict {
            Verdict::Continue(continuation) => (200, continuation.reply.clone()),
            Verdict::Refused(refusal) => (refusal.status(), refusal.reply()),
            Verdict::Healthy(grant) => {
                self.record(grant);
                (200, certify(grant.clone()))
            }
        };
        (status, reply.to_json(), verdict)
    }
}

pub(crate) fn certify(grant: Grant) -> Reply {
    static SIGNER: LazyLock<hgs_pki::Certificate> = LazyLock::new(signer);
    let serial = DrawnSerialNumber::draw(&mut System::new()).unwrap();
    issue::issue(
        grant.recorded(),
        &SIGNER,
        HealthValidity::default(),
        serial,
        &mut &service_keys(),
    )
    .unwrap()
    .reply()
}

/// A host with its TPM.
pub(crate) struct Host {
    pub(crate) tpm: SoftwareTpm,
    pub(crate) endorsement_key: EndorsementKey,
    pub(crate) measurements: Measurements,
    /// The identity key of an earlier exchange.
    pub(crate) presented: Option<Public>,
    /// What it says that it will boot next.
    pub(crate) next_boot: Option<Vec<u8>>,
    /// Commands that its TPM has executed.
    pub(crate) executed: Vec<Command>,
}

impl Host {
    /// A host that has booted [`boot`].
    pub(crate) fn booted() -> Self {
        Self::booted_as(&boot())
    }

    pub(crate) fn booted_as(boot: &MeasuredBoot) -> Self {
        let mut tpm = SoftwareTpm::new();
        let command = Command::CreatePrimary(Primary::EndorsementKey);
        let created = created_primary(&tpm.send(&command.octets())).unwrap();
        tpm.send(&flush_context(created.handle));
        boot.replay(&mut tpm);
        Self {
            tpm,
            endorsement_key: EndorsementKey::parse(created.public.octets()).unwrap(),
            measurements: Measurements {
                event_log: boot.log(),
                device: Some(DeviceInfo::EMULATOR),
                ..Measurements::default()
            },
            presented: None,
            next_boot: None,
            executed: Vec::new(),
        }
    }

    pub(crate) fn start(&self, kind: HealthKind) -> RtpmExchange {
        let presented = self.presented.clone();
        let exchange = RtpmExchange::start(SESSION, kind, self.endorsement_key.clone(), presented);
        match &self.next_boot {
            Some(claim) => exchange.with_next_boot(claim.clone()),
            None => exchange,
        }
    }

    /// Has the TPM execute what the exchange asks for.
    pub(crate) fn execute(&mut self, exchange: &mut RtpmExchange) -> Result<(), RtpmFault> {
        while let Some(command) = exchange.next_command().cloned() {
            let response = self.tpm.send(&command.octets());
            self.executed.push(command);
            exchange.executed(response)?;
        }
        Ok(())
    }

    pub(crate) fn flush(&mut self, exchange: &RtpmExchange) {
        for handle in exchange.handles() {
            let response = self.tpm.send(&flush_context(handle));
            assert_eq!(response[6..10], [0; 4], "{handle:?}");
        }
    }

    /// A whole exchange; the grant or refusal with it.
    pub(crate) fn attest(
        &mut self,
        server: &mut Server,
        kind: HealthKind,
    ) -> (Result<AttestedByTpm, AttestationFailure>, Verdict) {
        let mut exchange = self.start(kind);
        let mut body = exchange.body();
        let ended = loop {
            let (status, reply, verdict) = server.reply(&body);
            match exchange.receive(status, &reply) {
                Ok(Step::Execute) => {}
                Ok(Step::Attested(attested)) => break (Ok(*attested), verdict),
                Err(failure) => break (Err(failure), verdict),
            }
            if let Err(fault) = self.execute(&mut exchange) {
                break (Err(fault.into()), verdict);
            }
            body = exchange.answer(&self.measurements);
        };
        self.flush(&exchange);
        ended
    }

    /// The bodies of an exchange up to the one that is answered with a verdict: the last is not sent.
    pub(crate) fn bodies(&mut self, server: &Server, kind: HealthKind) -> Vec<Vec<u8>> {
        let mut exchange = self.start(kind);
        let mut bodies = vec![exchange.body()];
        while let Verdict::Continue(continuation) = server.verdict(bodies.last().unwrap()) {
            let reply = continuation.reply.to_json();
            assert!(matches!(exchange.receive(200, &reply), Ok(Step::Execute)));
            self.execute(&mut exchange).unwrap();
            bodies.push(exchange.answer(&self.measurements));
        }
        self.flush(&exchange);
        bodies
    }

    /// Keys and sessions that are in the TPM.
    pub(crate) fn handles(&mut self) -> usize {
        let mut count = 0;
        for kind in ["handles-transient", "handles-loaded-session"] {
            let output = self.tpm.tool("tpm2_getcap", &[kind]);
            count += String::from_utf8(output.stdout).unwrap().lines().count();
        }
        count
    }
}

/// A request that was taken apart, with its context.
pub(crate) fn parts(body: &[u8]) -> (AttestationRequest, Vec<u8>) {
    let Ok(Request::Attestation(request)) = Request::parse(body) else {
        panic!("a request");
    };
    let context = request
        .provided_content
        .iter()
        .find(|content| content.content_type == AttestationProvidedContentType::RtpmContext)
        .map(|content| content.octets.clone());
    (request, context.unwrap_or_default())
}

/// The request with another context.
pub(crate) fn with_context(body: &[u8], context: &[u8]) -> Vec<u8> {
    let (mut request, _) = parts(body);
    for content in &mut request.provided_content {
        if content.content_type == AttestationProvidedContentType::RtpmContext {
            content.octets = context.to_vec();
        }
    }
    request.to_json()
}

/// The request with other blobs.
pub(crate) fn with_blobs(body: &[u8], change: impl for<'o> FnOnce(&mut Vec<Blob<'o>>)) -> Vec<u8> {
    let (_, context) = parts(body);
    let mut context = Context::read(&context).unwrap();
    change(&mut context.blobs);
    with_context(body, &context.octets())
}

/// The octets of the command that a context asks the host to execute.
pub(crate) fn context_with(sealed_state: &[u8], command: &[u8]) -> Vec<u8> {
    let context = Context {
        sealed_state,
        blobs: vec![Blob::Command(command)],
    };
    context.octets()
}

pub(crate) fn handle(value: u32) -> Handle {
    Handle::new(value)
}
