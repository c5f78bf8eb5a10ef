//! A guardian on a loopback port, and hosts in folders of their own.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use hgs_attest::freshness::{NONCE_HEADER, NonceKey, PROOF_HEADER};
use hgs_attest::host_key::evaluate;
use hgs_attest::policy::PolicySet;
use hgs_attest::rtpm::{Blob, Context, ContextKey, IdentityPcrs, TpmMode};
use hgs_attest::wire::{
    AttestationOperationMode, HealthCertificateReply, Reply, ResultContent, TpmReplyContinue,
};
use hgs_attest::{
    Attempt, Credential, CredentialId, Endpoint, Grant, HostIdentities, HostRegistry, Mode as _,
    Refusal, RegisteredHost, Verdict, issue, service_info, signing_certificates,
};
use hgs_client::configuration::{Configuration, Endpoints, Services, TpmSettings};
use hgs_client::host_key::HostKeySize;
use hgs_client::http::Timing;
use hgs_client::url::ServiceUrls;
use hgs_client::{Environment, Folders, GuardedHost};
use hgs_clock::Clock;
use hgs_crypto::SecretBytes;
use hgs_crypto::hash::Sha256Digest;
use hgs_crypto::random::System;
use hgs_crypto::rsa::{PrivateKey, PublicKey};
use hgs_kps::offline_report::{OFFLINE_UNWRAPS, OfflineReport};
use hgs_kps::signed_response::{
    ACCEPT_SIGNATURE, CONTENT_DIGEST, ResponseSigner, SignatureRequest,
};
use hgs_kps::wire::{RollTransportKeyRequest, RollTransportKeyResponse};
use hgs_kps::{
    Caches, CertificateKind, HeldCertificate, HostStanding, KeyProtection, KeyRing, Lineage,
    MetadataService, Recorded, SKEW, SeenProtector, SeenProtectors, ServiceVersion,
    StateUnavailable, Trust,
};
use hgs_pki::health::{self, HealthKind, HealthValidity, HostId, TrustedSigner, TrustedSigners};
use hgs_pki::issue::Issuer;
use hgs_pki::{Certificate, CertificateCache, Seconds, SignatureCache, Time, Validity, profile};
use hgs_protector::suite::KeyEncryption;
use hgs_protector::transport_key_blob::CachingPolicy;
use hgs_protector::{Protector, ProtectorDigest, VerifiedProtector};
use hgs_testkit::fixtures::{
    Guardian, Keys, Repeatable, certificate, now, private_key, self_signed,
};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

/// A clock that tests set; all hosts and guardians of a test share it.
#[derive(Debug, Clone)]
pub(crate) struct TestClock(Arc<Mutex<Time>>);

impl TestClock {
    pub(crate) fn new() -> Self {
        Self::at(now())
    }

    /// A clock that shows `time`.
    pub(crate) fn at(time: Time) -> Self {
        Self(Arc::new(Mutex::new(time)))
    }

    pub(crate) fn advance(&self, by: Seconds) {
        let mut time = self.0.lock().unwrap();
        *time = time.checked_add(by).unwrap();
    }
}

impl Clock for TestClock {
    fn now(&self) -> Time {
        *self.0.lock().unwrap()
    }
}

/// What a guardian does instead of what it should.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Manner {
    Proper,
    /// Answers everything with this status and a page that is no part of the protocol.
    Page(u16),
    /// Is in another mode.
    Mode(AttestationOperationMode),
    /// Certifies a key that is not the host's.
    CertifiesOtherKey,
    /// Certifies with a key that it does not list.
    HidesItsSigner,
    /// Fails at this path.
    Mute(&'static str),
    /// Attests, but its key protection service answers with this status and a page.
    NoKeys(u16),
    /// Puts another protector in the place of the one it made.
    Swaps(fn(&VerifiedProtector) -> Vec<u8>),
}

/// What a guardian hands out for hosts to return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nonces {
    /// A nonce of this second, as a guardian of this project does.
    Fresh,
    /// None, as a guardian of another make.
    None,
    /// One that was made so long ago in `getinfo`, as from a cache in between; refusals have fresh ones.
    LateInGetinfo(Seconds),
    /// None in `getinfo`; refusals have fresh ones.
    InRefusals,
    /// Something else than a nonce.
    Garbled,
}

/// What no machine understands.
const PAGE: &[u8] = b"<html>nothing for machines</html>";

/// A guardian, until it is dropped.
pub(crate) struct TestGuardian {
    address: SocketAddr,
    world: Arc<Mutex<World>>,
    task: tokio::task::JoinHandle<()>,
}

/// Status, header fields and body of an answer.
pub(crate) type Answer = (u16, Vec<(String, String)>, Vec<u8>);
/// Makes answers to requests, of which he sees header fields and body.
pub(crate) type Attacker = Box<dyn FnMut(&HeaderMap, &[u8]) -> Answer + Send>;

pub(crate) struct World {
    pub(crate) manner: Manner,
    pub(crate) validity: HealthValidity,
    /// Paths that were asked for, in order.
    pub(crate) requests: Vec<String>,
    answered: usize,
    /// Health certificates from before this are not believed.
    pub(crate) deny_before: Option<Time>,
    /// An attacker on the way, who answers requests for keys in the guardian's place if he has an answer.
    pub(crate) attacker: Option<Attacker>,
    /// The last answer to a request for keys, as it went over the wire.
    pub(crate) recorded: Option<Answer>,
    /// Which nonces hosts are handed.
    pub(crate) nonces: Nonces,
    /// Whether every host has to return one.
    pub(crate) requires_nonce: bool,
    /// How often `getinfo` is answered by a cache that says that the guardian attests by host keys.
    pub(crate) stale_info: usize,
    /// A command for the TPM of a host, in place of what TPM mode asks.
    pub(crate) foreign_command: Option<Vec<u8>>,
    /// What hosts with a TPM are judged by.
    pub(crate) policies: Arc<PolicySet>,
    /// What hosts sent to attest: the header that returns a nonce, and the body.
    pub(crate) attestations: Vec<(Option<String>, Vec<u8>)>,
    /// What hosts with TPMs may keep.
    pub(crate) caching: Option<CachingPolicy>,
    /// Offline uses that hosts reported with a release.
    pub(crate) reports: Vec<u32>,
    /// That of the request that is answered.
    report: Option<OfflineReport>,
    clock: TestClock,
    ring: Arc<KeyRing>,
    keys: Keys,
    hosts: BTreeMap<Sha256Digest, RegisteredHost>,
    signer: Certificate,
    signer_key: Arc<PrivateKey>,
    random: Repeatable,
}

/// A registered host and its guardian.
pub(crate) async fn pair() -> (TestClock, TestGuardian, TestHost) {
    let clock = TestClock::new();
    let guardian = TestGuardian::start(&clock, 12).await;
    let host = TestHost::new(&clock, guardian.endpoints(), None);
    guardian.register(&host);
    (clock, guardian, host)
}

/// A certificate for an attestation signer, valid from now on: programs that are tested against this guardian read the
/// clock of the day.
fn signer(now: Time, key: &PrivateKey) -> Certificate {
    let validity = Validity {
        not_before: now,
        not_after: now.checked_add(profile::GUARDIAN_VALIDITY).unwrap(),
    };
    self_signed(profile::attestation_signer(validity), key)
}

impl TestGuardian {
    /// Starts one whose signer has the key with this number, and that holds the keys of `fabric`.
    pub(crate) async fn start(clock: &TestClock, signer_key: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // Each guardian draws keys of its own: a roll to the key of before is refused.
        let random = Repeatable::seeded(signer_key.try_into().unwrap());
        let signer_key = private_key(signer_key);
        let world = Arc::new(Mutex::new(World {
            manner: Manner::Proper,
            answered: 0,
            validity: HealthValidity::default(),
            requests: Vec::new(),
            deny_before: None,
            attacker: None,
            recorded: None,
            nonces: Nonces::Fresh,
            requires_nonce: false,
            stale_info: 0,
            foreign_command: None,
            policies: Arc::default(),
            attestations: Vec::new(),
            caching: None,
            reports: Vec::new(),
            report: None,
            clock: clock.clone(),
            ring: key_ring(Guardian::named("fabric")),
            keys: Keys::of(&[Guardian::named("fabric")]),
            hosts: BTreeMap::new(),
            signer: signer(clock.now(), &signer_key),
            signer_key,
            random,
        }));
        let task = tokio::spawn(accept(listener, Arc::clone(&world)));
        Self {
            address,
            world,
            task,
        }
    }

    pub(crate) fn endpoints(&self) -> Endpoints {
        endpoints(self.address)
    }

    /// Answers at another port, too, in the network of the thread that runs this.
    #[allow(dead_code, reason = "tests of hgs-agent have networks of their own")]
    pub(crate) async fn listen_here_too(&self) -> Endpoints {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(accept(listener, Arc::clone(&self.world)));
        endpoints(address)
    }

    /// A node of it that answers so many requests and is gone then.
    #[allow(dead_code, reason = "tests of hgs-agent have guardians of one node")]
    pub(crate) async fn node_for(&self, requests: usize) -> Node {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoints = endpoints(listener.local_addr().unwrap());
        let world = Arc::clone(&self.world);
        let left = Arc::new(AtomicUsize::new(requests));
        let remaining = Arc::clone(&left);
        tokio::spawn(async move {
            while remaining.load(Ordering::SeqCst) > 0 {
                let (stream, _) = listener.accept().await.unwrap();
                remaining.fetch_sub(1, Ordering::SeqCst);
                serve(stream, &world).await;
            }
        });
        Node { endpoints, left }
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// What was asked for since the last call.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.world().requests)
    }

    pub(crate) fn register(&self, host: &TestHost) {
        self.register_key(host.public_key());
    }

    pub(crate) fn register_key(&self, host_key: PublicKey) {
        self.register_as(Credential::HostKey(host_key));
    }

    /// Registers a host by its host key or by its TPM.
    pub(crate) fn register_as(&self, credential: Credential) {
        let digest = *credential.id().digest();
        let mut host_id = [0; 16];
        host_id.copy_from_slice(&digest[..16]);
        let registered = RegisteredHost {
            host_id: HostId::from_bytes(host_id),
            name: "host".to_owned(),
            credential,
            returns_nonces: false,
            revoked: false,
            identities: HostIdentities::default(),
        };
        self.world().hosts.insert(digest, registered);
    }

    pub(crate) fn revoke(&self, host: &TestHost) {
        let digest = *host.public_key().digest();
        self.world().hosts.get_mut(&digest).unwrap().revoked = true;
    }

    /// Has the guardian hold no key that opens a protector.
    pub(crate) fn forget_keys(&self) {
        self.world().ring = key_ring(Guardian::named("tenant"));
    }

    /// Revokes every host.
    pub(crate) fn revoke_all(&self) {
        for host in self.world().hosts.values_mut() {
            host.revoked = true;
        }
    }

    /// Has the guardian go away; its port refuses connections from now on.
    pub(crate) async fn stop(self) -> Endpoints {
        let endpoints = self.endpoints();
        let task = self.task;
        task.abort();
        let _ = task.await;
        endpoints
    }
}

/// A node that is gone some time.
#[allow(dead_code, reason = "tests of hgs-agent have guardians of one node")]
pub(crate) struct Node {
    pub(crate) endpoints: Endpoints,
    left: Arc<AtomicUsize>,
}

#[allow(dead_code, reason = "tests of hgs-agent have guardians of one node")]
impl Node {
    pub(crate) fn is_gone(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }
}

/// The services of several nodes.
#[allow(dead_code, reason = "tests of hgs-agent have guardians of one node")]
pub(crate) fn nodes(nodes: &[&Endpoints]) -> Endpoints {
    let urls = |service: fn(&Endpoints) -> &ServiceUrls| {
        let urls = nodes.iter().map(|node| service(node).first().clone());
        ServiceUrls::new(urls.collect()).unwrap()
    };
    Endpoints {
        attestation: urls(|node| &node.attestation),
        key_protection: urls(|node| &node.key_protection),
    }
}

fn endpoints(address: SocketAddr) -> Endpoints {
    let url = |path| format!("http://{address}/{path}").parse().unwrap();
    Endpoints {
        attestation: url("Attestation"),
        key_protection: url("KeyProtection"),
    }
}

fn key_ring(guardian: &Guardian) -> Arc<KeyRing> {
    let held = |certificate: &Certificate, kind| HeldCertificate {
        certificate: certificate.clone(),
        kind,
        key_encryption: KeyEncryption::RsaOaep,
        lineage: Lineage::Fabric,
        enabled: true,
        head: true,
        compromised: None,
    };
    let encryption = CertificateKind::Encryption;
    let certificates = vec![
        held(&guardian.signing, CertificateKind::Signing),
        held(&guardian.encryption, encryption),
    ];
    Arc::new(KeyRing::new(certificates).unwrap())
}

impl HostRegistry for World {
    fn host_with(&self, credential: &CredentialId) -> Option<RegisteredHost> {
        let host = self.hosts.get(credential.digest()).cloned();
        host.filter(|host| host.credential.id() == *credential)
    }

    fn policies_of(&self, _: &RegisteredHost) -> Arc<PolicySet> {
        Arc::clone(&self.policies)
    }
}

impl World {
    /// Answers, and names the request `request-1` and so on.
    fn answer(&mut self, path: &str, fields: &HeaderMap, body: &[u8]) -> Answer {
        self.requests.push(path.to_owned());
        self.answered += 1;
        let (status, mut of_answer, body) = self.answer_of(path, fields, body);
        let id = format!("request-{}", self.answered);
        of_answer.push(("x-request-id".to_owned(), id));
        (status, of_answer, body)
    }

    fn answer_of(&mut self, path: &str, fields: &HeaderMap, body: &[u8]) -> Answer {
        if path.starts_with("/Attestation/") {
            let (status, body) = self.attestation_answer(path, fields, body);
            let nonce = self.nonce(path.ends_with("/getinfo"), status);
            let field = nonce.map(|nonce| (NONCE_HEADER.to_owned(), nonce));
            return (status, field.into_iter().collect(), body);
        }
        if !path.ends_with("/rolltransportkey") {
            let (status, body) = self.plain_answer(path, body);
            return (status, Vec::new(), body);
        }
        if let Some(attacker) = &mut self.attacker {
            return attacker(fields, body);
        }
        let values = |name| fields.get_all(name).iter().map(HeaderValue::as_bytes);
        let report: Vec<_> = values(OFFLINE_UNWRAPS).collect();
        self.report = OfflineReport::read(&report).unwrap();
        let (status, response) = self.plain_answer(path, body);
        let mut signed = Vec::new();
        if status == 200 {
            let accepted: Vec<_> = values(ACCEPT_SIGNATURE).collect();
            let digest: Vec<_> = values(CONTENT_DIGEST).collect();
            let asked = SignatureRequest::read(&accepted, &digest, body).unwrap();
            let fabric = Guardian::named("fabric");
            let (now, random) = (self.clock.now(), &mut self.random);
            let signer =
                ResponseSigner::delegated_by(&fabric.signing, now, &mut &self.keys, random);
            let fields = signer
                .unwrap()
                .sign(&asked.unwrap(), status, &response, now);
            let fields = fields.unwrap();
            let fields = fields.values().into_iter();
            signed.extend(fields.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        let answer = (status, signed, response);
        self.recorded = Some(answer.clone());
        answer
    }

    fn nonce(&self, is_getinfo: bool, status: u16) -> Option<String> {
        let made = |time| self.nonce_key().nonce(time).to_header();
        let now = self.clock.now();
        match self.nonces {
            Nonces::None => None,
            _ if !is_getinfo && status == 200 => None,
            Nonces::InRefusals if is_getinfo => None,
            Nonces::LateInGetinfo(age) if is_getinfo => Some(made(now.checked_sub(age).unwrap())),
            Nonces::Garbled => Some("no Base64".to_owned()),
            Nonces::Fresh | Nonces::LateInGetinfo(_) | Nonces::InRefusals => Some(made(now)),
        }
    }

    fn nonce_key(&self) -> NonceKey {
        NonceKey::new(&SecretBytes::new((0..32).collect()))
    }

    fn page(&self, path: &str) -> Option<(u16, Vec<u8>)> {
        match self.manner {
            Manner::Page(status) => Some((status, PAGE.to_vec())),
            Manner::Mute(mute) if path == mute => Some((500, PAGE.to_vec())),
            _ => None,
        }
    }

    fn attestation_answer(
        &mut self,
        path: &str,
        fields: &HeaderMap,
        body: &[u8],
    ) -> (u16, Vec<u8>) {
        if let Some(page) = self.page(path) {
            return page;
        }
        match path {
            "/Attestation/getinfo" if self.stale_info > 0 => {
                self.stale_info -= 1;
                let stale = service_info(AttestationOperationMode::HostKey);
                (200, stale.to_json())
            }
            "/Attestation/getinfo" => (200, service_info(self.mode()).to_json()),
            "/Attestation/v2.0/hostkeyattest" => {
                let proof = fields.get(PROOF_HEADER);
                let proof = proof.map(|proof| proof.to_str().unwrap().to_owned());
                self.attestations.push((proof.clone(), body.to_vec()));
                self.attest(proof.as_deref(), body)
            }
            "/Attestation/v2.0/attest" => self.attest_by_tpm(body),
            "/Attestation/v2.0/signingCertificates" => {
                (200, signing_certificates::write(&[self.listed_signer()]))
            }
            other => panic!("no host asks for {other}"),
        }
    }

    fn plain_answer(&mut self, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        if let Some(page) = self.page(path) {
            return page;
        }
        match path {
            "/KeyProtection/service/v1.0/rolltransportkey" => self.roll(body, ServiceVersion::V1),
            "/KeyProtection/service/v2.0/rolltransportkey" => self.roll(body, ServiceVersion::V2),
            "/KeyProtection/service/metadata/2014-07/metadata.xml" => (200, self.metadata()),
            other => panic!("no host asks for {other}"),
        }
    }

    fn mode(&self) -> AttestationOperationMode {
        match self.manner {
            Manner::Mode(mode) => mode,
            _ => AttestationOperationMode::HostKey,
        }
    }

    fn listed_signer(&self) -> Certificate {
        match self.manner {
            Manner::HidesItsSigner => signer(self.clock.now(), &private_key(16)),
            _ => self.signer.clone(),
        }
    }

    /// Attests as a server does.
    pub(crate) fn attest(&mut self, proof: Option<&str>, body: &[u8]) -> (u16, Vec<u8>) {
        let now = self.clock.now();
        if let Err(reason) = Endpoint::HostKeyAttest.check_mode(self.mode()) {
            let refusal = Refusal::from(reason);
            return (refusal.status(), refusal.reply().to_json());
        }
        let attempt = Attempt {
            body,
            proof,
            nonces: &self.nonce_key(),
            require_nonce: self.requires_nonce,
            now,
        };
        let grant = match evaluate(&attempt, self) {
            Verdict::Healthy(grant) => grant,
            Verdict::Continue(continuation) => panic!("{continuation:?}"),
            Verdict::Refused(refusal) => {
                self.record_return(&refusal, now);
                return (refusal.status(), refusal.reply().to_json());
            }
        };
        self.issue(grant)
    }

    /// Attests by TPM, as a server does.
    fn attest_by_tpm(&mut self, body: &[u8]) -> (u16, Vec<u8>) {
        if let Err(reason) = Endpoint::Attest.check_mode(self.mode()) {
            let refusal = Refusal::from(reason);
            return (refusal.status(), refusal.reply().to_json());
        }
        let attempt = Attempt {
            body,
            proof: None,
            nonces: &self.nonce_key(),
            require_nonce: false,
            now: self.clock.now(),
        };
        if let Some(command) = &self.foreign_command {
            let context = Context {
                sealed_state: &[0; 36],
                blobs: vec![Blob::Command(command)],
            };
            let reply = TpmReplyContinue {
                rtpm_active_context: context.octets(),
            };
            return (200, Reply::TpmContinue(reply).to_json());
        }
        let key = ContextKey::new(SecretBytes::new((32..64).collect()));
        let mode = TpmMode::new(key, IdentityPcrs::default());
        match mode.evaluate(&attempt, self, &mut System::new()) {
            Verdict::Healthy(grant) => self.issue(grant),
            Verdict::Continue(continuation) => (200, continuation.reply.to_json()),
            Verdict::Refused(refusal) => (refusal.status(), refusal.reply().to_json()),
        }
    }

    fn issue(&mut self, grant: Grant) -> (u16, Vec<u8>) {
        let host = self
            .hosts
            .values_mut()
            .find(|host| host.host_id == grant.host_id());
        let host = host.unwrap();
        host.identities = host.identities.after(grant.transition());
        host.returns_nonces |= grant.returned_nonce();
        let (kind, statement) = (grant.kind(), *grant.statement());
        let recorded = grant.recorded();
        let serial = issue::DrawnSerialNumber::draw(&mut self.random).unwrap();
        let mut keys = Keys::default();
        keys.hold(&self.signer, &self.signer_key);
        let keys = &mut &keys;
        let issued = issue::issue(recorded, &self.signer, self.validity, serial, keys).unwrap();
        if matches!(self.manner, Manner::CertifiesOtherKey) {
            let template = health::template(kind, &statement, self.validity).unwrap();
            let issuer = Issuer::Certificate(&self.signer);
            let other = certificate(template, &private_key(17), issuer, &self.signer_key);
            let content = vec![ResultContent {
                result_type: issue::result_type(kind),
                octets: other.der().to_vec(),
            }];
            let reply = Reply::HealthCertificate(HealthCertificateReply { content });
            return (200, reply.to_json());
        }
        (200, issued.reply().to_json())
    }
}

impl World {
    /// Records that a superseded key was presented, by which a shared host key is found.
    fn record_return(&mut self, refusal: &Refusal, now: Time) {
        let facts = refusal.facts();
        let (Some(host_key), Some(key), true) = (facts.host_key, facts.identity_key, facts.proved)
        else {
            return;
        };
        if let Some(host) = self.hosts.get_mut(&host_key)
            && let Some(returned) = host.identities.returned(&key, now)
        {
            let records = host.identities.records().copied();
            let others = records.filter(|record| record.key != returned.key);
            host.identities = HostIdentities::new(others.chain([returned]).collect::<Vec<_>>());
        }
    }

    /// How many identity keys of a kind are recorded for the one host.
    pub(crate) fn identity_keys(&self, kind: HealthKind) -> usize {
        let host = self.hosts.values().next().unwrap();
        host.identities.count(kind)
    }

    fn roll(&mut self, body: &[u8], version: ServiceVersion) -> (u16, Vec<u8>) {
        if let Manner::NoKeys(status) = self.manner {
            return (status, PAGE.to_vec());
        }
        let signer = TrustedSigner::own(self.signer.clone()).denying_before(self.deny_before);
        let trust = Trust {
            signers: &TrustedSigners::new(vec![signer]),
            now: self.clock.now(),
            skew: SKEW,
            hosts: &Standings(&self.hosts),
            protectors: &NothingSeen,
            refuse_superseded: false,
            rekey_window: false,
            caching: self.caching,
        };
        let key_protection = KeyProtection {
            ring: &self.ring,
            trust: &trust,
            caches: &Caches::new(16),
        };
        let mut random = self.random.clone();
        let identified = key_protection.identify(version, body);
        let rolled = identified.and_then(|request| {
            let request = request.with_report(self.report.take());
            key_protection.release(request, &mut &self.keys, &mut random)
        });
        self.random = random;
        match rolled {
            Ok(release) => {
                let reported = release.facts().offline_unwraps;
                self.reports.extend(reported.map(|count| count.get()));
                let recorded = Recorded::after_commit(release.facts().egress);
                let response = release.into_response(&recorded).unwrap();
                (200, self.swapped(body, response))
            }
            Err(refusal) => {
                let response = refusal.to_response();
                (response.status, response.body)
            }
        }
    }

    /// Signed by the guardian itself, as a guardian's file is.
    fn metadata(&self) -> Vec<u8> {
        let communications = Guardian::named("fabric").signing.clone();
        let service = Arc::new(MetadataService::new(Arc::clone(&self.ring), communications));
        service.document(&mut &self.keys).unwrap().to_vec()
    }

    fn swapped(&self, request: &[u8], response: Vec<u8>) -> Vec<u8> {
        let Manner::Swaps(other) = self.manner else {
            return response;
        };
        let request = RollTransportKeyRequest::from_xml(request).unwrap();
        let ingress = verified(&request.ingress_protector);
        let mut response = RollTransportKeyResponse::from_xml(&response).unwrap();
        response.egress_protector = other(&ingress);
        response.to_xml()
    }
}

struct Standings<'w>(&'w BTreeMap<Sha256Digest, RegisteredHost>);

impl hgs_kps::HostStandings for Standings<'_> {
    fn standing(&self, host: &HostId) -> HostStanding {
        match self.0.values().find(|known| known.host_id == *host) {
            None => HostStanding::Unknown,
            Some(known) if known.revoked => HostStanding::Revoked,
            Some(_) => HostStanding::Registered,
        }
    }

    fn is_barred(&self, _: &Sha256Digest) -> bool {
        false
    }
}

struct NothingSeen;

impl SeenProtectors for NothingSeen {
    fn seen(&self, _: &ProtectorDigest) -> Result<Option<SeenProtector>, StateUnavailable> {
        Ok(None)
    }
}

/// A protector that holds.
pub(crate) fn verified(octets: &[u8]) -> VerifiedProtector {
    let protector = Protector::read(octets, &CertificateCache::new(0)).unwrap();
    protector.verify(&SignatureCache::new(0)).unwrap()
}

/// A host in a folder of its own, with a host key.
pub(crate) struct TestHost {
    pub(crate) host: GuardedHost,
    folder: tempfile::TempDir,
    clock: TestClock,
}

impl TestHost {
    pub(crate) fn new(clock: &TestClock, primary: Endpoints, fallback: Option<Endpoints>) -> Self {
        Self::of(
            clock,
            Services {
                primary,
                fallback,
                certificate_authorities: None,
                dangerous_accept_unsigned_responses: false,
            },
        )
    }

    /// A host that trusts the certification authorities in `file`.
    pub(crate) fn with_authorities(clock: &TestClock, primary: Endpoints, file: &str) -> Self {
        Self::of(
            clock,
            Services {
                primary,
                fallback: None,
                certificate_authorities: Some(file.into()),
                dangerous_accept_unsigned_responses: false,
            },
        )
    }

    /// A host that uses releases without a signature.
    pub(crate) fn accepting_unsigned(clock: &TestClock, primary: Endpoints) -> Self {
        Self::of(
            clock,
            Services {
                primary,
                fallback: None,
                certificate_authorities: None,
                dangerous_accept_unsigned_responses: true,
            },
        )
    }

    fn of(clock: &TestClock, services: Services) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let folders = Folders::inside(folder.path());
        let configuration = Configuration::HostGuardianService(services);
        configuration.store(&folders.configuration).unwrap();
        // Whatever TPM the machine of the test has.
        let no_tpm = TpmSettings {
            device: (folder.path().join("no-tpm").display().to_string())
                .parse()
                .unwrap(),
            ..TpmSettings::default()
        };
        no_tpm.store(&folders.configuration).unwrap();
        let host = open(folders, clock);
        host.create_host_key(HostKeySize::Rsa2048).unwrap();
        Self {
            host,
            folder,
            clock: clock.clone(),
        }
    }

    /// The same host with a TPM, and with logs of its boot in files.
    pub(crate) fn with_tpm(self, settings: &TpmSettings) -> Self {
        let folders = Folders::inside(self.folder.path());
        settings.store(&folders.configuration).unwrap();
        self.restarted()
    }

    /// The same host in a process that starts now.
    pub(crate) fn restarted(self) -> Self {
        Self {
            host: open(Folders::inside(self.folder.path()), &self.clock),
            ..self
        }
    }

    /// The same host with another guardian, or the same at other URLs.
    #[allow(dead_code, reason = "tests of hgs-agent have guardians of one node")]
    pub(crate) fn configured(self, primary: Endpoints) -> Self {
        let folders = Folders::inside(self.folder.path());
        let configuration = Configuration::HostGuardianService(Services {
            primary,
            fallback: None,
            certificate_authorities: None,
            dangerous_accept_unsigned_responses: false,
        });
        configuration.store(&folders.configuration).unwrap();
        self.restarted()
    }

    /// The same host with other limits of time.
    pub(crate) fn with_timing(self, timing: Timing) -> Self {
        let environment = Environment {
            clock: Arc::new(self.clock.clone()),
            timing,
            ..Environment::default()
        };
        let folders = Folders::inside(self.folder.path());
        Self {
            host: GuardedHost::open_in(folders, environment).unwrap(),
            ..self
        }
    }

    /// Another machine with a copy of this one's state, but for the files of its identity keys.
    pub(crate) fn cloned(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (
            Folders::inside(self.folder.path()),
            Folders::inside(folder.path()),
        );
        std::fs::copy(&from.configuration, &to.configuration).unwrap();
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&to.state)
            .unwrap();
        std::fs::copy(from.host_key(), to.host_key()).unwrap();
        Self {
            host: open(to, &self.clock),
            folder,
            clock: self.clock.clone(),
        }
    }

    /// The same host with another clock.
    pub(crate) fn with_clock(self, clock: &TestClock) -> Self {
        Self {
            host: open(Folders::inside(self.folder.path()), clock),
            clock: clock.clone(),
            ..self
        }
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        self.host.host_key().unwrap().public().clone()
    }

    pub(crate) fn clock(&self) -> &TestClock {
        &self.clock
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folders().state
    }

    pub(crate) fn folders(&self) -> Folders {
        Folders::inside(self.folder.path())
    }
}

fn open(folders: Folders, clock: &TestClock) -> GuardedHost {
    let environment = Environment {
        clock: Arc::new(clock.clone()),
        ..Environment::default()
    };
    GuardedHost::open_in(folders, environment).unwrap()
}

async fn accept(listener: TcpListener, world: Arc<Mutex<World>>) {
    while let Ok((stream, _)) = listener.accept().await {
        serve(stream, &world).await;
    }
}

async fn serve(stream: TcpStream, world: &Arc<Mutex<World>>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let world = Arc::clone(world);
        async move {
            let path = request.uri().path().to_owned();
            let fields = request.headers().clone();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let mut world = world.lock().unwrap();
            let (status, fields, body) = world.answer(&path, &fields, &body);
            let seconds = world.clock.now().unix().try_into().unwrap();
            let date = UNIX_EPOCH + Duration::from_secs(seconds);
            let mut response = Response::builder()
                .status(status)
                .header("date", httpdate::fmt_http_date(date));
            for (name, value) in fields {
                response = response.header(name, value);
            }
            Ok::<_, Infallible>(response.body(Full::new(Bytes::from(body))).unwrap())
        }
    });
    let connection = hyper::server::conn::http1::Builder::new();
    // A host that has heard enough hangs up.
    let _ = connection
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
