//! A guardian on a loopback port, and hosts in folders of their own.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use hgs_attest::Endpoint;
use hgs_attest::host_key::{HostIdentities, HostRegistry, RegisteredHost, Verdict, evaluate};
use hgs_attest::wire::{AttestationOperationMode, HealthCertificateReply, Reply, ResultContent};
use hgs_attest::{issue, service_info, signing_certificates};
use hgs_client::clock::Clock;
use hgs_client::configuration::{Configuration, Endpoints, Services};
use hgs_client::host_key::HostKeySize;
use hgs_client::{Folders, GuardedHost, Surroundings};
use hgs_crypto::hash::Sha256Digest;
use hgs_crypto::rsa::{PrivateKey, PublicKey};
use hgs_pki::health::{self, HealthValidity, HostId};
use hgs_pki::issue::Issuer;
use hgs_pki::{Certificate, Seconds, Time, profile};
use hgs_testkit::fixtures::{Repeatable, certificate, now, private_key, self_signed, ten_years};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// A clock that tests set; all hosts and guardians of a test share it.
#[derive(Debug, Clone)]
pub(crate) struct TestClock(Arc<Mutex<Time>>);

impl TestClock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(now())))
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

/// A guardian, until it is dropped.
pub(crate) struct TestGuardian {
    address: SocketAddr,
    world: Arc<Mutex<World>>,
    task: tokio::task::JoinHandle<()>,
}

pub(crate) struct World {
    pub(crate) manner: Manner,
    pub(crate) validity: HealthValidity,
    /// Paths that were asked for, in order.
    pub(crate) requests: Vec<String>,
    clock: TestClock,
    hosts: BTreeMap<Sha256Digest, RegisteredHost>,
    signer: Certificate,
    signer_key: Arc<PrivateKey>,
    random: Repeatable,
}

impl TestGuardian {
    /// Starts one whose signer has the key with this number.
    pub(crate) async fn start(clock: &TestClock, signer_key: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let signer_key = private_key(signer_key);
        let world = Arc::new(Mutex::new(World {
            manner: Manner::Proper,
            validity: HealthValidity::default(),
            requests: Vec::new(),
            clock: clock.clone(),
            hosts: BTreeMap::new(),
            signer: self_signed(profile::attestation_signer(ten_years()), &signer_key),
            signer_key,
            random: Repeatable::seeded(1),
        }));
        let task = tokio::spawn(accept(listener, Arc::clone(&world)));
        Self {
            address,
            world,
            task,
        }
    }

    pub(crate) fn endpoints(&self) -> Endpoints {
        let url = |path| format!("http://{}/{path}", self.address).parse().unwrap();
        Endpoints {
            attestation: url("Attestation"),
            key_protection: url("KeyProtection"),
        }
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// What was asked for since the last call.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.world().requests)
    }

    pub(crate) fn register(&self, host: &TestHost) {
        let host_key = host.public_key();
        let registered = RegisteredHost {
            host_id: HostId::from_bytes([7; 16]),
            name: "host".to_owned(),
            host_key: host_key.clone(),
            revoked: false,
            identities: HostIdentities::default(),
        };
        self.world().hosts.insert(*host_key.digest(), registered);
    }

    pub(crate) fn revoke(&self, host: &TestHost) {
        let digest = *host.public_key().digest();
        self.world().hosts.get_mut(&digest).unwrap().revoked = true;
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

impl HostRegistry for World {
    fn host_with_key(&self, digest: &Sha256Digest) -> Option<RegisteredHost> {
        self.hosts.get(digest).cloned()
    }
}

impl World {
    fn answer(&mut self, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        self.requests.push(path.to_owned());
        if let Manner::Page(status) = self.manner {
            return (status, b"<html>nothing for machines</html>".to_vec());
        }
        match path {
            "/Attestation/getinfo" => (200, service_info(self.mode()).to_json()),
            "/Attestation/v2.0/hostkeyattest" => self.attest(body),
            "/Attestation/v2.0/signingCertificates" => {
                (200, signing_certificates::write(&[self.listed_signer()]))
            }
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
            Manner::HidesItsSigner => {
                self_signed(profile::attestation_signer(ten_years()), &private_key(16))
            }
            _ => self.signer.clone(),
        }
    }

    fn attest(&mut self, body: &[u8]) -> (u16, Vec<u8>) {
        let now = self.clock.now();
        if let Err(reason) = Endpoint::HostKeyAttest.check_mode(self.mode()) {
            let refusal = hgs_attest::Refusal::from(reason);
            return (refusal.status(), refusal.reply().to_json());
        }
        let grant = match evaluate(body, self, now) {
            Verdict::Healthy(grant) => grant,
            Verdict::Refused(refusal) => return (refusal.status(), refusal.reply().to_json()),
        };
        let host = self
            .hosts
            .values_mut()
            .find(|host| host.host_id == grant.host_id());
        let host = host.unwrap();
        host.identities = host.identities.after(grant.transition());
        let (kind, statement) = (grant.kind(), *grant.statement());
        let recorded = grant.recorded();
        let serial = issue::SerialNumber::draw(&mut self.random).unwrap();
        let prepared = issue::prepare(recorded, &self.signer, self.validity, serial).unwrap();
        let signature = self
            .signer_key
            .sign(prepared.scheme(), prepared.to_be_signed());
        let issued = prepared.assemble(&signature.unwrap()).unwrap();
        if self.manner == Manner::CertifiesOtherKey {
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

/// A host in a folder of its own, with a host key.
pub(crate) struct TestHost {
    pub(crate) host: GuardedHost,
    folder: tempfile::TempDir,
    clock: TestClock,
}

impl TestHost {
    pub(crate) fn new(clock: &TestClock, primary: Endpoints, fallback: Option<Endpoints>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let folders = Folders::inside(folder.path());
        let services = Services {
            primary,
            fallback,
            certificate_authorities: None,
        };
        let configuration = Configuration::HostGuardianService(services);
        configuration.store(&folders.configuration).unwrap();
        let host = open(folders, clock);
        host.create_host_key(HostKeySize::Rsa2048).unwrap();
        Self {
            host,
            folder,
            clock: clock.clone(),
        }
    }

    /// The same host in a process that starts now.
    pub(crate) fn restarted(self) -> Self {
        Self {
            host: open(Folders::inside(self.folder.path()), &self.clock),
            ..self
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

    pub(crate) fn state(&self) -> PathBuf {
        Folders::inside(self.folder.path()).state
    }
}

fn open(folders: Folders, clock: &TestClock) -> GuardedHost {
    let surroundings = Surroundings {
        clock: Arc::new(clock.clone()),
        ..Surroundings::default()
    };
    GuardedHost::open_in(folders, surroundings).unwrap()
}

async fn accept(listener: TcpListener, world: Arc<Mutex<World>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let world = Arc::clone(&world);
        let service = service_fn(move |request: Request<Incoming>| {
            let world = Arc::clone(&world);
            async move {
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let (status, body) = world.lock().unwrap().answer(&path, &body);
                let response = Response::builder().status(status);
                Ok::<_, Infallible>(response.body(Full::new(Bytes::from(body))).unwrap())
            }
        });
        let connection = hyper::server::conn::http1::Builder::new();
        // A host that has heard enough hangs up.
        let _ = connection
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }
}
