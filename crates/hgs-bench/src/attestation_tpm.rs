//! An attestation in TPM mode: all requests of one exchange, from the octets of each to its reply.

use std::sync::Arc;

use hgs_attest::client::rtpm::{Measurements, RtpmExchange, Step};
use hgs_attest::freshness::NonceKey;
use hgs_attest::issue::{self, DrawnSerialNumber};
use hgs_attest::policy::{
    Baseline, Documents, Parameters, PolicySelection, PolicySet, RecordedEvidence,
};
use hgs_attest::rtpm::{ContextKey, IdentityPcrs, TpmMode};
use hgs_attest::wire::SessionId;
use hgs_attest::{
    Attempt, Credential, CredentialId, HostIdentities, HostRegistry, Mode as _, RegisteredHost,
    Verdict,
};
use hgs_crypto::SecretBytes;
use hgs_crypto::hash::{hmac_sha256, kdfa_sha256};
use hgs_crypto::random::System;
use hgs_crypto::rsa::{OaepHash, PublicKey, SignatureScheme};
use hgs_pki::health::{HealthKind, HealthValidity};
use hgs_tcg::event_log::{self, Bank, EventLog, PcrValues};
use hgs_tcg::tpm::{Command, EndorsementKey, Primary, created_primary, flush_context};
use hgs_testkit::fixtures::{AttestationSigner, Host, Keys, now};
use hgs_testkit::measured_boot::{BootEvent, MeasuredBoot};
use hgs_testkit::swtpm::SoftwareTpm;

use crate::measure::{Effort, Table, compare};

/// Events of the logs: a small boot, a usual one, and two of machines that measure all they can.
const EVENTS: [usize; 4] = [30, 100, 1000, 5000];

/// What real boots end with.
const LOG: &[u8] = include_bytes!("../../hgs-attest/tests/boots/secure-boot-on-eventlog.bin");

/// PCRs into which more events go, evenly: what measures into them is one component each.
const MORE: [u32; 11] = [0, 1, 2, 3, 5, 6, 8, 9, 12, 13, 14];
const EV_IPL: u32 = 0x0d;

/// The floor: a salt for each of three sessions encrypted, their keys derived; a MAC for each of seven commands and one for each
/// of their responses; the log parsed and replayed when the PCRs are proved, and again at the verdict; the new
/// identity key checked, which is a stranger's; the certificate signed.
pub(crate) fn by_size_of_the_log(effort: Effort, table: &mut Table) {
    for events in EVENTS {
        let boot = boot(events);
        let signer = AttestationSigner::ours();
        let mut keys = Keys::default();
        keys.hold(&signer.certificate, &signer.key);
        let exchange = Exchange::of(&boot);
        let (log, values) = (boot.log(), values(&boot));
        let secret = SecretBytes::new(vec![7; 32]);
        let identity = exchange.identity.clone();
        let floor = || {
            for _ in 0..3 {
                let salt = exchange.endorsement_key.key().encrypt_oaep_with_label(
                    OaepHash::Sha256,
                    b"SECRET\0",
                    &secret,
                );
                assert!(salt.is_ok());
                assert!(kdfa_sha256(&secret, "ATH", [&[1; 32], &[2; 32]], 32).is_ok());
            }
            for _ in 0..2 * 7 {
                std::hint::black_box(hmac_sha256(&secret, &[&[3; 97]]));
            }
            for _ in 0..2 {
                let log = EventLog::read(log.clone(), &event_log::Limits::LOG);
                assert!(log.expect("a log").replay(&values).is_ok());
            }
            assert!(PublicKey::from_spki_der(identity.spki_der()).is_ok());
            let scheme = SignatureScheme::Pkcs1Sha256;
            assert!(signer.key.sign(scheme, &[9; 600]).is_ok());
        };
        let attest = || {
            let mut last = None;
            for body in &exchange.bodies {
                last = Some(exchange.verdict(body));
            }
            let Some(Verdict::Healthy(grant)) = last else {
                panic!("the host is healthy");
            };
            let serial =
                DrawnSerialNumber::draw(&mut System::new()).expect("the system has randomness");
            let validity = HealthValidity::default();
            let (grant, keys) = (grant.recorded(), &mut &keys);
            let issued = issue::issue(grant, &signer.certificate, validity, serial, keys)
                .expect("the signer's key signs");
            std::hint::black_box(issued.reply().to_json());
        };
        table.add(
            format!("attestation in process, TPM mode, log of {events} events"),
            compare(effort, floor, attest),
        );
    }
}

/// A real boot with fewer or more events.
fn boot(events: usize) -> MeasuredBoot {
    let mut boot = MeasuredBoot::of_log(LOG);
    // The header is an event too.
    let mut number = 0;
    while boot.events.len() + 1 > events {
        // Without the events that say least: PCRs 0 to 3, and the variables of the boot order.
        let least = boot.events.iter().rposition(|event| event.pcr < 4);
        let least = least.or_else(|| boot.events.iter().rposition(|event| event.pcr == 14));
        let last = boot.events.iter().rposition(|event| event.pcr == 8);
        let Some(place) = least.or(last) else { break };
        boot.events.remove(place);
    }
    while boot.events.len() + 1 < events {
        let pcr = MORE[number % MORE.len()];
        let data = format!("event {number}");
        boot.events
            .push(BootEvent::new(pcr, EV_IPL, data.as_bytes()));
        number += 1;
    }
    boot
}

fn values(boot: &MeasuredBoot) -> PcrValues {
    let mut values = PcrValues::new(Bank::Sha256);
    for (pcr, value) in boot.pcrs().iter().enumerate().take(15) {
        values.insert(pcr, value).expect("there are as many PCRs");
    }
    values
}

/// An exchange that a TPM in software has had with this server. Each request can be judged again and again.
struct Exchange {
    mode: TpmMode,
    nonces: NonceKey,
    registry: OneHost,
    endorsement_key: EndorsementKey,
    identity: PublicKey,
    bodies: Vec<Vec<u8>>,
}

impl Exchange {
    fn of(boot: &MeasuredBoot) -> Self {
        let mut tpm = SoftwareTpm::new();
        let command = Command::CreatePrimary(Primary::EndorsementKey).octets();
        let created = created_primary(&tpm.send(&command)).expect("the TPM makes it");
        tpm.send(&flush_context(created.handle));
        boot.replay(&mut tpm);
        let endorsement_key =
            EndorsementKey::parse(created.public.octets()).expect("made from the template");
        let evidence = RecordedEvidence {
            values: values(boot),
            log: boot.log(),
            ima: Vec::new(),
            preimages: Vec::new(),
            unexplained: Vec::new(),
        };
        let evidence = evidence.prove().expect("the log gives the values");
        let baseline = Baseline::of_evidence(&evidence, "hgs-bench", &Parameters::default());
        let documents = Documents {
            baselines: [("bench".to_owned(), baseline.expect("a baseline"))].into(),
            ..Documents::default()
        };
        let policies = PolicySet::compile(&PolicySelection::default(), &documents);
        let contexts = ContextKey::new(SecretBytes::new((7..39).collect()));
        let mut made = Self {
            mode: TpmMode::new(contexts, IdentityPcrs::default()),
            nonces: NonceKey::new(&SecretBytes::new((0..32).collect())),
            registry: OneHost {
                credential: Credential::EndorsementKey(Box::new(endorsement_key.clone())),
                policies: Arc::new(policies.expect("one baseline")),
            },
            identity: endorsement_key.key().clone(),
            endorsement_key: endorsement_key.clone(),
            bodies: Vec::new(),
        };
        let session = SessionId([1; 16]);
        let mut exchange =
            RtpmExchange::start(session, HealthKind::Encryption, endorsement_key, None);
        let measurements = Measurements {
            event_log: boot.log(),
            ..Measurements::default()
        };
        let mut body = exchange.body();
        loop {
            let verdict = made.verdict(&body);
            made.bodies.push(body);
            match verdict {
                Verdict::Continue(continuation) => {
                    let reply = continuation.reply.to_json();
                    let step = exchange.receive(200, &reply).expect("commands");
                    assert!(matches!(step, Step::Execute));
                }
                Verdict::Healthy(grant) => {
                    made.identity = grant.identity_key().clone();
                    return made;
                }
                Verdict::Refused(refusal) => panic!("{}", refusal.reason()),
            }
            while let Some(command) = exchange.next_command() {
                let response = tpm.send(&command.octets());
                exchange.executed(response).expect("the TPM executes it");
            }
            body = exchange.answer(&measurements);
        }
    }

    fn verdict(&self, body: &[u8]) -> Verdict {
        let attempt = Attempt {
            body,
            proof: None,
            nonces: &self.nonces,
            require_nonce: false,
            now: now(),
        };
        self.mode
            .evaluate(&attempt, &self.registry, &mut System::new())
    }
}

/// A registry with one host in it.
struct OneHost {
    credential: Credential,
    policies: Arc<PolicySet>,
}

impl HostRegistry for OneHost {
    fn host_with(&self, credential: &CredentialId) -> Option<RegisteredHost> {
        (*credential == self.credential.id()).then(|| RegisteredHost {
            host_id: Host::numbered(0).id,
            name: "bench".to_owned(),
            credential: self.credential.clone(),
            revoked: false,
            returns_nonces: true,
            identities: HostIdentities::default(),
        })
    }

    fn policies_of(&self, _: &RegisteredHost) -> Arc<PolicySet> {
        Arc::clone(&self.policies)
    }
}
