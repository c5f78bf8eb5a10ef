//! The HTTPS listener. Certificates are made by openssl, which is also one of the clients.

mod guardian;
mod support;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::{fs, io};

use guardian::{SIGNING_CERTIFICATES, Site};
use hgs_attest::signer::NoRoomForSigner;
use hgs_attest::signing_certificates;
use hgs_custody::pem::PemError;
use hgs_custody::pfx::PfxError;
use hgs_custody::{BundleError, KeyReference, SoftwareKey};
use hgs_pki::Time;
use hgs_server::http::{BindError, TlsError};
use hgs_server::{Config, Readiness};
use hgs_store::{Act, AttestationSigner, Committed, Failure, Opening, Refusal, Store, Transaction};
use hgs_testkit::fixtures::{now, private_key, self_signed};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, NamedGroup, RootCertStore, SupportedProtocolVersion};
use support::{Client, TestServer, eventually, status};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const HELLO: &str = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";

/// A folder with `tls.pem` and `tls.key`.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.renew();
        files
    }

    fn certificate(&self) -> PathBuf {
        self.0.path().join("tls.pem")
    }

    fn key(&self) -> PathBuf {
        self.0.path().join("tls.key")
    }

    /// A new self-signed certificate with a new key for `localhost`.
    fn renew(&self) {
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            path(&self.key()),
            "-out",
            path(&self.certificate()),
        ]);
    }

    fn configuration(&self) -> String {
        format!(
            "listen.https.enabled = true\n\
             listen.https.address = \"127.0.0.1:0\"\n\
             listen.https.certificate = \"{}\"\n\
             listen.https.key = \"{}\"\n",
            path(&self.certificate()),
            path(&self.key())
        )
    }

    fn connector(&self, alpn: &[&str]) -> TlsConnector {
        self.connector_with(rustls::crypto::aws_lc_rs::default_provider(), alpn)
    }

    /// A client that speaks these versions only.
    fn connector_of(&self, versions: &[&'static SupportedProtocolVersion]) -> TlsConnector {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_file(self.certificate()).unwrap();
        roots.add(certificate).unwrap();
        roots
    }

    fn connector_with(&self, provider: CryptoProvider, alpn: &[&str]) -> TlsConnector {
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    /// Connects as a client that trusts the certificate as it is now.
    async fn connect(&self, address: SocketAddr) -> io::Result<Client<TlsStream<TcpStream>>> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        Ok(Client(
            self.connector(&["http/1.1"]).connect(name, stream).await?,
        ))
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn openssl(arguments: &[&str]) {
    let output = Command::new(hgs_testkit::tool("openssl", "openssl"))
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn requests_are_answered_under_tls() {
    let files = Files::new();
    let server = TestServer::start(&files.configuration());
    let mut client = files.connect(server.https()).await.unwrap();
    for _ in 0..2 {
        client.send(HELLO).await;
        assert!(client.response().await.ends_with("hello"));
    }
}

#[tokio::test]
async fn openssl_agrees_on_versions_and_protocol() {
    let files = Files::new();
    let server = TestServer::start(&files.configuration());
    let address = server.https().to_string();
    let handshake = |version: &'static str| {
        let address = address.clone();
        let openssl = hgs_testkit::tool("openssl", "openssl");
        tokio::task::spawn_blocking(move || {
            Command::new(openssl)
                .args([
                    "s_client",
                    "-connect",
                    &address,
                    version,
                    "-alpn",
                    "h2,http/1.1",
                ])
                .stdin(Stdio::null())
                .output()
                .unwrap()
        })
    };
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let output = handshake(version).await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}");
        assert!(text.contains(name), "{text}");
        assert!(text.contains("ALPN protocol: http/1.1"), "{text}");
    }
    assert!(!handshake("-tls1_1").await.unwrap().status.success());
}

#[tokio::test]
async fn the_key_exchange_is_post_quantum_with_clients_that_can_and_classical_with_others() {
    let files = Files::new();
    let server = TestServer::start(&files.configuration());
    let aws_lc = rustls::crypto::aws_lc_rs::default_provider();
    let classical = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    for (groups, negotiated) in [
        (aws_lc.kx_groups.clone(), NamedGroup::X25519MLKEM768),
        (classical, NamedGroup::X25519),
    ] {
        let provider = CryptoProvider {
            kx_groups: groups,
            ..aws_lc.clone()
        };
        let stream = TcpStream::connect(server.https()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = files.connector_with(provider, &["http/1.1"]);
        let stream = connector.connect(name, stream).await.unwrap();
        let group = stream.get_ref().1.negotiated_key_exchange_group();
        assert_eq!(group.unwrap().name(), negotiated);
    }
}

#[tokio::test]
async fn a_peer_that_only_speaks_http_2_is_refused() {
    let files = Files::new();
    let server = TestServer::start(&files.configuration());
    let stream = TcpStream::connect(server.https()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    assert!(
        files
            .connector(&["h2"])
            .connect(name, stream)
            .await
            .is_err()
    );
    eventually(|| handshake_failures(&server) == 1).await;
}

#[tokio::test]
async fn plain_http_on_the_tls_port_is_answered_in_plain_text() {
    let files = Files::new();
    let server = TestServer::start(&files.configuration());
    let answer = support::send(server.https(), HELLO).await;
    assert_eq!(status(&answer), 400);
    assert!(answer.contains("https://"), "{answer}");
    assert_eq!(handshake_failures(&server), 1);
    assert_eq!(server.rejected_by("https", "plain_to_tls"), 1);
}

fn handshake_failures(server: &TestServer) -> u64 {
    server.metric("hgs_tls_handshake_failures_total{listener=\"https\"}")
}

#[tokio::test]
async fn a7_half_open_tls_handshake_does_not_block_others() {
    let files = Files::new();
    let server = TestServer::start(&files.configuration());
    let mut half_open = Vec::new();
    for _ in 0..50 {
        let mut client = Client::connect(server.https()).await;
        // The first octets of a handshake record, and no more.
        client.send([0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await;
        half_open.push(client);
    }
    let mut client = files.connect(server.https()).await.unwrap();
    client.send(HELLO).await;
    assert!(client.response().await.ends_with("hello"));
}

#[tokio::test]
async fn a7_half_open_tls_handshake_ends_in_bounded_time() {
    let files = Files::new();
    let server = TestServer::start(&format!(
        "{}listen.https.handshake_time = \"50ms\"\n",
        files.configuration()
    ));
    let mut client = Client::connect(server.https()).await;
    client.send([0x16, 0x03, 0x01]).await;
    assert_eq!(client.rest().await, "");
    assert_eq!(handshake_failures(&server), 1);
}

#[tokio::test]
async fn a7_half_open_tls_handshake_does_not_hold_up_stopping() {
    let files = Files::new();
    let server = TestServer::start(&files.configuration());
    let mut half_open = Client::connect(server.https()).await;
    half_open.send([0x16, 0x03, 0x01]).await;
    eventually(|| server.metric("hgs_http_connections{listener=\"https\"}") == 1).await;
    assert!(server.stopped().await.finished);
}

#[tokio::test]
async fn a_renewed_certificate_is_used_from_the_next_connection_on() {
    let files = Files::new();
    let server = TestServer::start(&files.configuration());
    let mut before = files.connect(server.https()).await.unwrap();
    files.renew();
    assert!(
        files.connect(server.https()).await.is_err(),
        "the new one is not trusted yet"
    );
    server.reloader.reload().unwrap();
    let mut after = files.connect(server.https()).await.unwrap();
    for client in [&mut before, &mut after] {
        client.send(HELLO).await;
        assert!(client.response().await.ends_with("hello"));
    }
}

#[tokio::test]
async fn a_changed_file_is_noticed() {
    let files = Files::new();
    let server = TestServer::start(&format!(
        "{}listen.https.check_interval = \"5ms\"\n",
        files.configuration()
    ));
    files.renew();
    while files.connect(server.https()).await.is_err() {}
}

#[tokio::test]
async fn an_invalid_certificate_does_not_replace_a_valid_one() {
    let files = Files::new();
    let server = TestServer::start(&files.configuration());
    let trusted = files.connector(&[]);
    let (certificate, key) = (
        fs::read(files.certificate()).unwrap(),
        fs::read(files.key()).unwrap(),
    );

    files.renew();
    fs::write(files.key(), key).unwrap();
    assert!(matches!(
        server.reloader.reload(),
        Err(TlsError::Refused { .. })
    ));
    fs::write(files.key(), "no key").unwrap();
    assert!(matches!(
        server.reloader.reload(),
        Err(TlsError::Content { .. })
    ));
    fs::write(files.certificate(), &certificate[..certificate.len() / 2]).unwrap();
    assert!(matches!(
        server.reloader.reload(),
        Err(TlsError::Content { .. })
    ));
    fs::remove_file(files.certificate()).unwrap();
    assert!(matches!(
        server.reloader.reload(),
        Err(TlsError::Unreadable { .. })
    ));

    let stream = TcpStream::connect(server.https()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    trusted.connect(name, stream).await.unwrap();
}

#[tokio::test]
async fn a_server_without_a_usable_certificate_does_not_start() {
    let files = Files::new();
    fs::write(files.certificate(), "").unwrap();
    let refused = TestServer::bind(&files.configuration(), Readiness::always()).err();
    assert!(matches!(
        refused,
        Some(BindError::Tls {
            error: TlsError::Content { .. },
            ..
        })
    ));
    let unnamed = TestServer::bind("listen.https.enabled = true", Readiness::always()).err();
    assert!(matches!(
        unnamed,
        Some(BindError::Tls {
            error: TlsError::NotConfigured(_),
            ..
        })
    ));
}

#[tokio::test]
async fn a_key_under_a_passphrase_is_opened_with_the_one_in_the_file() {
    let files = Files::new();
    let passphrase = files.0.path().join("passphrase");
    fs::write(&passphrase, "correct horse\n").unwrap();
    let pass = "pass:correct horse";
    openssl(&[
        "genpkey",
        "-algorithm",
        "RSA",
        "-aes256",
        "-pass",
        pass,
        "-out",
        path(&files.key()),
    ]);
    openssl(&[
        "req",
        "-x509",
        "-key",
        path(&files.key()),
        "-passin",
        pass,
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-out",
        path(&files.certificate()),
    ]);
    let configuration = format!(
        "{}listen.https.passphrase_file = \"{}\"\n",
        files.configuration(),
        path(&passphrase)
    );
    let server = TestServer::start(&configuration);
    let mut client = files.connect(server.https()).await.unwrap();
    client.send(HELLO).await;
    assert_eq!(status(&client.response().await), 200);

    fs::write(&passphrase, "wrong horse").unwrap();
    let error = server.reloader.reload().unwrap_err();
    assert!(matches!(
        error,
        TlsError::Content {
            error: BundleError::Key(PemError::WrongPassphrase),
            ..
        }
    ));
}

#[tokio::test]
async fn a_pfx_file_holds_certificate_and_key() {
    let files = Files::new();
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-keyout",
        path(&files.key()),
        "-out",
        path(&files.certificate()),
    ]);
    let pfx = files.0.path().join("tls.pfx");
    let passphrase = files.0.path().join("passphrase");
    fs::write(&passphrase, "correct horse\r\n").unwrap();
    openssl(&[
        "pkcs12",
        "-export",
        "-inkey",
        path(&files.key()),
        "-in",
        path(&files.certificate()),
        "-passout",
        "pass:correct horse",
        "-out",
        path(&pfx),
    ]);
    let server = TestServer::start(&format!(
        "listen.https.enabled = true\n\
         listen.https.address = \"127.0.0.1:0\"\n\
         listen.https.certificate = \"{}\"\n\
         listen.https.passphrase_file = \"{}\"\n",
        path(&pfx),
        path(&passphrase)
    ));
    let mut client = files.connect(server.https()).await.unwrap();
    client.send(HELLO).await;
    assert_eq!(status(&client.response().await), 200);

    fs::write(&passphrase, "").unwrap();
    assert!(matches!(
        server.reloader.reload(),
        Err(TlsError::Content {
            error: BundleError::Pfx(PfxError::WrongPassphrase),
            ..
        })
    ));
}

#[tokio::test]
async fn plain_http_can_be_left_out() {
    let files = Files::new();
    let server = TestServer::start(&format!(
        "listen.http.enabled = false\n{}",
        files.configuration()
    ));
    assert_eq!(server.addresses.http, None);
    let mut client = files.connect(server.https()).await.unwrap();
    client.send(HELLO).await;
    assert_eq!(status(&client.response().await), 200);
}

/// Some database drivers read `signingCertificates` no further than one TLS record goes. So many signers over keys of 2048
/// bits are documented to fit, and one more is refused.
#[tokio::test]
async fn the_documented_number_of_signers_is_sent_in_one_tls_record() {
    const DOCUMENTED: i64 = 5;
    let files = Files::new();
    let mut site = Site::initialised(&files.configuration()).await;
    let config = site.config.clone();
    let refused = tokio::task::spawn_blocking(move || add_signers(&config, DOCUMENTED - 1)).await;
    let full = NoRoomForSigner { published: 5 };
    assert_eq!(refused.unwrap(), Err(Failure::Refused(full.into())));
    site.restart().await;

    let https = site.running().addresses().https.unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let stream = Recording(TcpStream::connect(https).await.unwrap(), Vec::new());
        let name = ServerName::try_from("localhost").unwrap();
        let connector = files.connector_of(&[version]);
        let mut stream = connector.connect(name, stream).await.unwrap();
        let request = format!(
            "GET {SIGNING_CERTIFICATES} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let body = answer
            .windows(4)
            .position(|end| end == b"\r\n\r\n")
            .unwrap()
            + 4;
        let published = signing_certificates::read(&answer[body..]).unwrap();
        assert_eq!(published.len() as i64, DOCUMENTED);
        let longest = records(&stream.get_ref().0.1).max().unwrap();
        assert!(
            longest >= answer.len(),
            "{longest} of {} octets",
            answer.len()
        );
        assert!(answer.len() <= 16_384);
    }
}

/// Adds so many signers of the site's own, and then one more.
fn add_signers(config: &Config, count: i64) -> Result<Committed, Failure<Refusal>> {
    let master_key = hgs_store::master_key_file::read(&config.master_key_file()).unwrap();
    let store = Store::open(Opening {
        directory: &config.state_folder(),
        master_key: &master_key,
        node: "test",
        high_water_mark: config.high_water_mark_file(),
        random: Box::new(hgs_crypto::random::System::new()),
        order: None,
    })
    .unwrap();
    let key = private_key(0);
    let add = |seconds: i64| {
        let made = Time::from_unix(now().unix() - seconds);
        let signer = AttestationSigner {
            certificate: self_signed(hgs_attest::signer::template(made), &key),
            key: Some(KeyReference::Sealed),
            retired: false,
            deny_before: None,
            maximum_validity_seconds: None,
            label: None,
            deny_list: Arc::default(),
            added: now(),
        };
        let key = Some(Arc::new(
            SoftwareKey::from_pkcs8_der(key.pkcs8_der()).unwrap(),
        ));
        let act = Act::new(now(), "test");
        store.transact(vec![Transaction::AddAttestationSigner { signer, key }], act)
    };
    for seconds in 1..=count {
        add(seconds).unwrap();
    }
    add(0)
}

/// The lengths of the TLS records in these octets.
fn records(mut octets: &[u8]) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let [_, _, _, high, low, rest @ ..] = octets else {
            return None;
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        octets = &rest[length.min(rest.len())..];
        Some(length)
    })
}

/// A stream that keeps what it has received.
struct Recording(TcpStream, Vec<u8>);

impl AsyncRead for Recording {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let done = Pin::new(&mut self.0).poll_read(context, buffer);
        self.1.extend_from_slice(&buffer.filled()[before..]);
        done
    }
}

impl AsyncWrite for Recording {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
