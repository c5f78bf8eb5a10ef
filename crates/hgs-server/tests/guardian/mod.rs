//! A real guardian on loopback, its state in a folder of its own, and hosts that ask it.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hgs_admin::{AdminError, Administration, Client, types};
use hgs_attest::client::{self, Attested, SignedRequest};
use hgs_attest::wire::SessionId;
use hgs_clock::Clock;
use hgs_crypto::rsa::PrivateKey;
use hgs_crypto::{SecretBytes, base64};
use hgs_custody::SoftwareKey;
use hgs_kps::wire::Algorithms;
use hgs_kps::{Authenticity, Caches, PendingRoll, Released, ServiceVersion};
use hgs_pki::health::HealthKind;
use hgs_pki::{Certificate, CertificateCache, Seconds, SignatureCache, Time};
use hgs_protector::metadata::Metadata;
use hgs_protector::{GuardianCertificates, TransportKey, VerifiedProtector, create};
use hgs_server::config::Layout;
use hgs_server::{CertificateSource, Config, GivenCertificate, InitOptions, KeySize, Running};
use hgs_testkit::fixtures::{Guardian as Fixture, Keys, now, private_key};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// A clock that is set by hand.
#[derive(Debug)]
pub(crate) struct ManualClock(watch::Sender<Time>);

impl ManualClock {
    pub(crate) fn starting_now() -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(now())))
    }

    pub(crate) fn advance(&self, by: Seconds) {
        self.0
            .send_modify(|time| *time = time.checked_add(by).unwrap());
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Time {
        *self.0.borrow()
    }

    fn wait_until(&self, when: Time) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut time = self.0.subscribe();
            time.wait_for(|time| *time >= when).await.unwrap();
        })
    }
}

/// By which clients judge the dates of certificates that the guardian makes.
impl TimeProvider for ManualClock {
    fn current_time(&self) -> Option<UnixTime> {
        let since = u64::try_from(self.now().unix()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(since)))
    }
}

/// A guardian that was initialised with the fixtures' keys, and its folder.
pub(crate) struct Site {
    pub(crate) folder: TempDir,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) config: Config,
    running: Option<Running>,
}

impl Site {
    /// A site whose guardian runs.
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// The same with more configuration.
    pub(crate) async fn start_with(extra: &str) -> Self {
        let mut site = Self::initialised(extra).await;
        site.restart().await;
        site
    }

    /// A site whose guardian was never started.
    pub(crate) async fn initialised(extra: &str) -> Self {
        let site = Self::empty(extra);
        let config = site.config.clone();
        let options = options();
        tokio::task::spawn_blocking(move || hgs_server::initialise(&config, options, now()))
            .await
            .unwrap()
            .unwrap();
        site
    }

    /// A site without anything but its configuration.
    pub(crate) fn empty(extra: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            config: configuration(folder.path(), extra),
            folder,
            clock: ManualClock::starting_now(),
            running: None,
        }
    }

    /// Stops the guardian, if it runs, and starts it on the same state.
    pub(crate) async fn restart(&mut self) {
        self.restart_with(self.clock.clone()).await;
    }

    /// The same by another clock than the site's own.
    pub(crate) async fn restart_with(&mut self, clock: Arc<dyn Clock>) {
        self.stop().await;
        self.running = Some(hgs_server::start(&self.config, clock).await.unwrap());
    }

    pub(crate) async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            assert!(running.shutdown().await.finished);
        }
    }

    /// Lets go of the guardian without waiting for its end.
    pub(crate) fn forget(&mut self) {
        drop(self.running.take());
    }

    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().expect("the guardian runs")
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.running().addresses().http.expect("a plain listener")
    }

    /// Asks the guardian over its admin socket, which blocks a thread.
    pub(crate) async fn admin<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Client) -> Result<T, AdminError> + Send + 'static,
    ) -> Result<T, AdminError> {
        let client = Client::new(self.config.admin_socket());
        tokio::task::spawn_blocking(move || question(&client))
            .await
            .unwrap()
    }

    /// Registers a host.
    pub(crate) async fn register(&self, host: &Host, name: &str) -> types::Host {
        let host = types::AddHost {
            name: name.to_owned(),
            host_key: Some(host.public_pem()),
            ..types::AddHost::default()
        };
        self.admin(move |client| client.add_host(&host))
            .await
            .unwrap()
    }

    pub(crate) async fn revoke(&self, name: &'static str) -> types::Host {
        let reason = "stolen".to_owned();
        let revocation = types::RevokeHost { reason };
        self.admin(move |client| client.revoke_host(&name.parse().unwrap(), &revocation))
            .await
            .unwrap()
    }

    /// The newest audit records, newest first.
    pub(crate) async fn audit(&self, query: types::AuditQuery) -> Vec<types::AuditRecord> {
        self.admin(move |client| client.audit(&query))
            .await
            .unwrap()
    }

    /// The number and outcome of audit records about this action.
    pub(crate) async fn recorded(&self, action: &str) -> Vec<types::AuditRecord> {
        self.audit(types::AuditQuery {
            action: Some(action.parse().unwrap()),
            limit: Some(1000),
            ..types::AuditQuery::default()
        })
        .await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        exchange(self.http(), "GET", path, b"").await
    }

    pub(crate) async fn post(&self, path: &str, body: &[u8]) -> Answer {
        exchange(self.http(), "POST", path, body).await
    }

    /// What monitoring reads.
    pub(crate) async fn scraped(&self) -> String {
        let metrics = self.running().addresses().metrics.expect("a listener");
        let answer = exchange(metrics, "GET", "/metrics", b"").await;
        assert_eq!(answer.status, 200);
        answer.text()
    }

    /// The value of a metric; zero when it was never counted.
    pub(crate) fn metric(&self, name_and_labels: &str) -> f64 {
        let text = self.running().metrics().render();
        let values = text
            .lines()
            .filter_map(|line| line.strip_prefix(name_and_labels)?.strip_prefix(' '));
        values.map(|value| value.parse::<f64>().unwrap()).sum()
    }

    /// The guardian as others know it: from its metadata.
    pub(crate) async fn guardian(&self) -> GuardianCertificates {
        let answer = self.get(METADATA).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let certificates = CertificateCache::new(8);
        let signatures = SignatureCache::new(8);
        let metadata = Metadata::read(&answer.body, &certificates, &signatures).unwrap();
        metadata.unverified().clone()
    }

    /// A protector of a new key for this guardian, by the fixtures' owner.
    pub(crate) async fn protector(&self) -> (VerifiedProtector, TransportKey) {
        protector_for(vec![self.guardian().await])
    }
}

/// A protector of a new key, by the fixtures' owner.
pub(crate) fn protector_for(
    guardians: Vec<GuardianCertificates>,
) -> (VerifiedProtector, TransportKey) {
    let owner = Fixture::named("owner");
    let mut random = hgs_crypto::random::System::new();
    let key = TransportKey::random(&mut random).unwrap();
    let keys = Keys::of(&[owner]);
    let protector = create(&owner.certificates, &guardians, &key, &mut &keys).unwrap();
    (protector, key)
}

pub(crate) const METADATA: &str = "/KeyProtection/service/metadata/2014-07/metadata.xml";
pub(crate) const ATTEST: &str = "/Attestation/v2.0/hostkeyattest";
pub(crate) const SIGNING_CERTIFICATES: &str = "/Attestation/v2.0/signingCertificates";

pub(crate) fn roll_path(version: ServiceVersion) -> String {
    format!("/KeyProtection/service/{version}/rolltransportkey")
}

/// The fixtures' fabric pair, which takes no time to generate.
pub(crate) fn options() -> InitOptions {
    let fabric = Fixture::named("fabric");
    let given = |certificate: &Certificate, key: &PrivateKey| {
        let key = SoftwareKey::from_pkcs8_der(key.pkcs8_der()).unwrap();
        CertificateSource::Given(GivenCertificate::new(certificate.clone(), key).unwrap())
    };
    InitOptions {
        signing: given(&fabric.signing, &fabric.signing_key),
        encryption: given(&fabric.encryption, &fabric.encryption_key),
        key_size: KeySize::Rsa2048,
        ..InitOptions::default()
    }
}

fn configuration(folder: &Path, extra: &str) -> Config {
    let folder = folder.display();
    let text = format!(
        "server.state = \"{folder}/state\"\n\
         listen.http.address = \"127.0.0.1:0\"\n\
         listen.metrics.address = \"127.0.0.1:0\"\n\
         listen.admin.socket = \"{folder}/run/admin.sock\"\n\
         {extra}"
    );
    Config::parse(&text, "test.toml".as_ref(), Layout::system()).expect("a test's configuration")
}

/// A host with its keys.
pub(crate) struct Host {
    pub(crate) host_key: Arc<PrivateKey>,
    pub(crate) identity: Arc<PrivateKey>,
    pub(crate) signing_identity: Arc<PrivateKey>,
}

impl Host {
    /// The first, second or third host.
    pub(crate) fn numbered(number: usize) -> Self {
        // Keys 0 to 11 are the guardians'.
        static MORE: LazyLock<Vec<Arc<PrivateKey>>> = LazyLock::new(|| {
            (0..3)
                .map(|_| Arc::new(PrivateKey::generate(2048).unwrap()))
                .collect()
        });
        Self {
            host_key: private_key(12 + 2 * number),
            identity: private_key(13 + 2 * number),
            signing_identity: Arc::clone(&MORE[number]),
        }
    }

    pub(crate) fn request(&self, kind: HealthKind) -> SignedRequest {
        let identity = match kind {
            HealthKind::Encryption => &self.identity,
            HealthKind::Signing => &self.signing_identity,
        };
        self.request_for(kind, identity)
    }

    pub(crate) fn request_for(&self, kind: HealthKind, identity: &PrivateKey) -> SignedRequest {
        let session = SessionId([7; 16]);
        let prepared = client::prepare(session, kind, self.host_key.public(), identity.public());
        let signature = self
            .host_key
            .sign(prepared.scheme(), prepared.to_be_signed());
        prepared.assemble(signature.unwrap()).unwrap()
    }

    pub(crate) async fn attest(&self, site: &Site, kind: HealthKind) -> Attested {
        let request = self.request(kind);
        let answer = site.post(ATTEST, request.body()).await;
        let received = request.receive(answer.status, &answer.body);
        received.unwrap_or_else(|failure| panic!("{failure}: {}", answer.text()))
    }

    /// Attests for encryption.
    pub(crate) async fn healthy(&self, site: &Site) -> Certificate {
        let attested = self.attest(site, HealthKind::Encryption).await;
        attested.certificate().clone()
    }

    /// Has the keys of `ingress` released.
    pub(crate) async fn power_on(
        &self,
        site: &Site,
        ingress: &VerifiedProtector,
        certificate: &Certificate,
        version: ServiceVersion,
    ) -> Released {
        let pending = pending(ingress, certificate, version);
        let answer = site.post(&roll_path(version), &pending.request()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        self.receive(&pending, certificate, &answer.body)
    }

    pub(crate) fn receive(
        &self,
        pending: &PendingRoll,
        certificate: &Certificate,
        body: &[u8],
    ) -> Released {
        let mut keys = Keys::default();
        keys.hold(certificate, &self.identity);
        let released = pending.receive(
            body,
            Authenticity::DangerouslyUnsigned,
            &Caches::new(64),
            &mut &keys,
        );
        released.unwrap()
    }

    pub(crate) fn public_pem(&self) -> String {
        let base64 = base64::encode(self.host_key.public().spki_der());
        format!("-----BEGIN PUBLIC KEY-----\n{base64}\n-----END PUBLIC KEY-----\n")
    }
}

pub(crate) fn pending(
    ingress: &VerifiedProtector,
    certificate: &Certificate,
    version: ServiceVersion,
) -> PendingRoll {
    PendingRoll::new(
        ingress.clone(),
        certificate.clone(),
        Algorithms::default(),
        version,
    )
}

pub(crate) fn secret(octets: &[u8]) -> SecretBytes {
    SecretBytes::from(octets)
}

/// A response.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The code in an `Error` of KPS.
    pub(crate) fn key_protection_code(&self) -> String {
        hgs_kps::wire::Error::from_xml(&self.body).unwrap().code
    }

    /// The code in an error reply of attestation.
    pub(crate) fn attestation_code(&self) -> String {
        let json: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        json["OpenHgs"]["Code"].as_str().unwrap().to_owned()
    }

    pub(crate) fn parse(octets: &[u8]) -> Self {
        let end = octets
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .unwrap_or_else(|| panic!("no response: {:?}", String::from_utf8_lossy(octets)));
        let head = std::str::from_utf8(&octets[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        Self {
            status: status.parse().unwrap(),
            headers: lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect(),
            body: octets[end + 4..].to_vec(),
        }
    }
}

/// Asks for the keys of `ingress` without opening what comes.
pub(crate) async fn ask(
    site: &Site,
    ingress: &VerifiedProtector,
    certificate: &Certificate,
    version: ServiceVersion,
) -> Answer {
    let request = pending(ingress, certificate, version).request();
    site.post(&roll_path(version), &request).await
}

/// One request on a connection of its own.
pub(crate) async fn exchange(address: SocketAddr, method: &str, path: &str, body: &[u8]) -> Answer {
    exchange_with(address, method, path, &[], body).await
}

/// The same, with more header fields.
pub(crate) async fn exchange_with(
    address: SocketAddr,
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let length = body.len();
    let fields: String = fields
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: hgs\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}\r\n"
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(&[head.as_bytes(), body].concat())
        .await
        .unwrap();
    let mut octets = Vec::new();
    stream.read_to_end(&mut octets).await.unwrap();
    Answer::parse(&octets)
}
