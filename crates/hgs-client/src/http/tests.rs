//! The client against servers that answer octet by octet what the test says.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use hgs_pki::chain::ChainError;
use hgs_testkit::tool;
use proptest::prelude::*;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{HandshakeKind, NamedGroup, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::url::Host;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

#[derive(Debug)]
struct Fixed(Vec<SocketAddr>);

impl Resolve for Fixed {
    fn resolve<'a>(&'a self, _: &'a Host, _: u16) -> Addresses<'a> {
        Box::pin(async { Ok(self.0.clone()) })
    }
}

/// A server that answers every connection with the same octets and then closes it, and counts.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self::serve(listener, address, answer.into(), None)
    }

    async fn over_tls(tls: TlsAcceptor) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self::serve(listener, address, OK.to_vec(), Some(tls))
    }

    fn serve(
        listener: TcpListener,
        address: SocketAddr,
        answer: Vec<u8>,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                match &tls {
                    None => answer_with(stream, &answer).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            answer_with(stream, &answer).await;
                        }
                    }
                }
            }
        });
        Self {
            address,
            connections,
        }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn answer_with(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &[u8]) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(octet) => head.push(octet),
            Err(_) => return,
        }
    }
    // The client may have heard enough before the end.
    let _ = stream.write_all(answer).await;
    let _ = stream.shutdown().await;
}

async fn dead_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

fn client(addresses: &[SocketAddr]) -> Client {
    Client::new(
        Timing::default(),
        Arc::new(Fixed(addresses.to_vec())),
        Err(TlsSettingsError::Absent),
    )
}

fn get(url: &str) -> Request {
    Request::Get {
        urls: url.parse().unwrap(),
    }
}

async fn ask(client: &Client) -> Result<Response, TransportError> {
    client
        .send(&get("http://hgs.example/Attestation/getinfo"))
        .await
}

#[tokio::test]
async fn a_dead_address_is_passed_over_and_the_healthy_one_remembered() {
    let dead = dead_address().await;
    let healthy = Server::answering(OK).await;
    let client = client(&[dead, healthy.address]);
    assert_eq!(&ask(&client).await.unwrap().body[..], b"hi");

    // Should the dead one come back, it is still not the first choice.
    let listener = TcpListener::bind(dead).await.unwrap();
    let back = Server::serve(listener, dead, OK.to_vec(), None);
    ask(&client).await.unwrap();
    assert_eq!(back.connections(), 0);
    assert_eq!(healthy.connections(), 2);
}

#[tokio::test]
async fn an_address_that_hangs_up_is_not_the_last_word_and_each_is_asked_once() {
    let hangs_up = Server::answering(b"").await;
    let cut_short = Server::answering(&b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi"[..]).await;
    let healthy = Server::answering(OK).await;
    let all = [hangs_up.address, cut_short.address, healthy.address];
    assert_eq!(ask(&client(&all)).await.unwrap().status, 200);

    let error = ask(&client(&all[..2])).await.unwrap_err();
    assert!(matches!(error, TransportError::Broken { address, .. } if address == all[1]));
    assert_eq!(hangs_up.connections(), 2);
    assert_eq!(cut_short.connections(), 2);
}

/// A listener that takes connections and says nothing.
async fn silent_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut taken = Vec::new();
        while let Ok(connection) = listener.accept().await {
            taken.push(connection);
        }
    });
    address
}

/// Answers with this status, and closes the connection.
async fn with_status(status: u16) -> Server {
    let answer = format!("HTTP/1.1 {status} Status\r\ncontent-length: 3\r\n\r\n{status}");
    Server::answering(answer).await
}

/// Asks the nodes at these addresses, the first of them first.
async fn ask_nodes(client: &Client, nodes: &[SocketAddr]) -> Result<Response, TransportError> {
    let url = |node: &SocketAddr| format!("http://{node}/Attestation").parse().unwrap();
    let urls = ServiceUrls::new(nodes.iter().map(url).collect()).unwrap();
    client.send(&Request::Get { urls }).await
}

/// For nodes that are named by their addresses.
fn client_of_nodes() -> Client {
    Client {
        first_choice: 0,
        ..Client::new(
            Timing::default(),
            Arc::new(SystemResolver),
            Err(TlsSettingsError::Absent),
        )
    }
}

/// What a node does that can't answer. Half a second is left for a busy machine.
const WITHIN: Duration = Duration::from_millis(1500);

#[tokio::test]
async fn the_next_node_answers_within_a_second_and_is_asked_first_from_then_on() {
    let unable = with_status(503).await;
    let hangs_up = Server::answering(b"").await;
    for failing in [
        dead_address().await,
        silent_address().await,
        unable.address,
        hangs_up.address,
    ] {
        let healthy = Server::answering(OK).await;
        let client = client_of_nodes();
        let begin = Instant::now();
        let nodes = [failing, healthy.address];
        assert_eq!(ask_nodes(&client, &nodes).await.unwrap().status, 200);
        assert!(begin.elapsed() < WITHIN, "{failing}");
        let begin = Instant::now();
        assert_eq!(ask_nodes(&client, &nodes).await.unwrap().status, 200);
        assert!(begin.elapsed() < Duration::from_millis(500), "{failing}");
        assert_eq!(healthy.connections(), 2);
    }
    assert_eq!((unable.connections(), hangs_up.connections()), (1, 1));
}

#[tokio::test]
async fn one_name_with_several_addresses_is_several_nodes() {
    let unable = with_status(503).await;
    let healthy = Server::answering(OK).await;
    let all = [silent_address().await, unable.address, healthy.address];
    let client = client(&all);
    let begin = Instant::now();
    assert_eq!(ask(&client).await.unwrap().status, 200);
    assert!(begin.elapsed() < WITHIN);
    ask(&client).await.unwrap();
    assert_eq!((unable.connections(), healthy.connections()), (1, 2));
}

#[tokio::test]
async fn what_a_node_decides_is_the_answer() {
    for status in [200, 400, 403, 404, 408, 413] {
        let (first, second) = (with_status(status).await, with_status(200).await);
        let client = client_of_nodes();
        let nodes = [first.address, second.address];
        assert_eq!(ask_nodes(&client, &nodes).await.unwrap().status, status);
        assert_eq!(second.connections(), 0);
    }
}

#[tokio::test]
async fn a_node_that_is_slow_still_answers_where_the_others_can_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let slow = listener.local_addr().unwrap();
    let unable = with_status(503).await;
    let client = Arc::new(client_of_nodes());
    let asked = Arc::clone(&client);
    let nodes = [slow, unable.address, dead_address().await];
    let asking = tokio::spawn(async move { ask_nodes(&asked, &nodes).await });
    let (stream, _) = listener.accept().await.unwrap();
    // It answers once the other one was asked.
    while unable.connections() == 0 {
        tokio::task::yield_now().await;
    }
    answer_with(stream, OK).await;
    assert_eq!(asking.await.unwrap().unwrap().status, 200);
    assert_eq!(unable.connections(), 1);
}

#[tokio::test]
async fn where_no_node_answers_each_is_named_and_a_reason_is_preferred() {
    let dead = [dead_address().await, dead_address().await];
    let error = ask_nodes(&client_of_nodes(), &dead).await.unwrap_err();
    let said = error.to_string();
    for address in dead {
        assert!(said.contains(&format!("http://{address}/Attestation: ")));
    }
    let unable = with_status(503).await;
    let nodes = [unable.address, dead[0]];
    let mut client = client_of_nodes();
    client.timing.unable = Duration::ZERO;
    let answer = ask_nodes(&client, &nodes).await.unwrap();
    assert_eq!(&answer.body[..], b"503");
}

/// As when the leader among them is lost, and they have to agree on another.
#[tokio::test]
async fn nodes_that_can_not_decide_for_a_moment_are_asked_again() {
    let unable = with_status(503).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let recovering = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for answer in [&b"HTTP/1.1 503 Status\r\ncontent-length: 0\r\n\r\n"[..], OK] {
            let (stream, _) = listener.accept().await.unwrap();
            answer_with(stream, answer).await;
        }
    });
    let client = client_of_nodes();
    let nodes = [unable.address, recovering];
    assert_eq!(ask_nodes(&client, &nodes).await.unwrap().status, 200);

    // One that stays unable is an answer in the end; a service of one node is asked once.
    let mut client = client_of_nodes();
    client.timing.unable = Duration::from_millis(300);
    let other = with_status(503).await;
    let nodes = [unable.address, other.address];
    assert_eq!(ask_nodes(&client, &nodes).await.unwrap().status, 503);
    assert_eq!(other.connections(), 2);
    ask_nodes(&client, &nodes[1..]).await.unwrap();
    assert_eq!(other.connections(), 3);
}

/// Where all are overloaded, each request would otherwise go to every node.
#[tokio::test]
async fn a_node_that_failed_lately_is_not_asked_beside_one_that_is_slow() {
    let (slow, healthy) = (silent_address().await, Server::answering(OK).await);
    let mut client = client_of_nodes();
    client.timing.patience = Duration::from_millis(10);
    client.timing.exchange = Duration::from_millis(500);
    let service = format!("http://{slow}");
    lock(&client.nodes).failed(&service, &format!("http://{}", healthy.address));
    let begin = Instant::now();
    let nodes = [slow, healthy.address];
    assert_eq!(ask_nodes(&client, &nodes).await.unwrap().status, 200);
    assert!(begin.elapsed() >= client.timing.exchange);
}

#[tokio::test]
async fn hosts_with_one_configuration_share_out_among_the_nodes() {
    let nodes = [with_status(200).await, with_status(200).await];
    let addresses = [nodes[0].address, nodes[1].address];
    for first_choice in 0..10 {
        let client = Client {
            first_choice,
            ..client_of_nodes()
        };
        ask_nodes(&client, &addresses).await.unwrap();
        ask_nodes(&client, &addresses).await.unwrap();
    }
    assert_eq!(nodes.map(|node| node.connections()), [10, 10]);
}

#[tokio::test]
async fn k3_redirects_are_not_followed() {
    let target = Server::answering(OK).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!(
            "HTTP/1.1 {status} Moved\r\nlocation: http://{}/x\r\ncontent-length: 0\r\n\r\n",
            target.address
        );
        let server = Server::answering(location).await;
        let error = ask(&client(&[server.address])).await.unwrap_err();
        assert!(matches!(error, TransportError::Redirect { status: found } if found == status));
        assert_eq!(server.connections(), 1);
    }
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn k13_answers_have_a_budget() {
    let announced = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
        u64::MAX / 2
    );
    let chunk = format!("{:x}\r\n{}\r\n", MAX_BODY / 2, "x".repeat(MAX_BODY / 2));
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunk}{chunk}1\r\nx\r\n0\r\n\r\n"
    );
    for answer in [announced, chunked] {
        let server = Server::answering(answer).await;
        let error = ask(&client(&[server.address])).await.unwrap_err();
        assert!(matches!(error, TransportError::TooLarge { .. }), "{error}");
        assert_eq!(server.connections(), 1);
    }
    let whole = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {MAX_BODY}\r\n\r\n{}",
        "x".repeat(MAX_BODY)
    );
    let server = Server::answering(whole).await;
    let response = ask(&client(&[server.address])).await.unwrap();
    assert_eq!(response.body.len(), MAX_BODY);

    let head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(64 * 1024));
    let server = Server::answering(head).await;
    let error = ask(&client(&[server.address])).await.unwrap_err();
    assert!(matches!(error, TransportError::Broken { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_never_answers_costs_the_time_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let timing = Timing {
        exchange: Duration::from_millis(50),
        ..Timing::default()
    };
    let client = Client::new(
        timing,
        Arc::new(Fixed(vec![address])),
        Err(TlsSettingsError::Absent),
    );
    let error = ask(&client).await.unwrap_err();
    assert!(matches!(error, TransportError::Timeout { .. }), "{error}");
}

#[tokio::test]
async fn a_name_without_addresses_is_named() {
    let error = ask(&client(&[])).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "hgs.example can't be resolved: the name has no address"
    );
}

#[tokio::test]
async fn tls_is_checked_against_the_configured_authorities_alone() {
    let folder = tempfile::tempdir().unwrap();
    authority(folder.path(), "ours");
    authority(folder.path(), "theirs");
    let server = Server::over_tls(certified(folder.path(), "ours", "hgs.example")).await;
    let ask = async |authority: &str, url: &str| {
        let file = folder.path().join(format!("{authority}.pem"));
        let settings = tls::settings(Some(&file)).unwrap();
        let resolver = Arc::new(Fixed(vec![server.address]));
        let client = Client::new(Timing::default(), resolver, Ok(settings));
        client.send(&get(url)).await
    };
    let response = ask("ours", "https://hgs.example/Attestation")
        .await
        .unwrap();
    assert_eq!(response.status, 200);
    for (authority, url) in [
        ("theirs", "https://hgs.example/Attestation"),
        ("ours", "https://other.example/Attestation"),
    ] {
        let error = ask(authority, url).await.unwrap_err();
        assert!(matches!(error, TransportError::Tls { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_failed_handshake_says_what_is_wrong_with_the_certificate() {
    let folder = tempfile::tempdir().unwrap();
    authority(folder.path(), "ours");
    authority(folder.path(), "theirs");
    let ask = async |acceptor: TlsAcceptor, authority: &str| {
        let server = Server::over_tls(acceptor).await;
        let file = folder.path().join(format!("{authority}.pem"));
        let resolver = Arc::new(Fixed(vec![server.address]));
        let client = Client::new(Timing::default(), resolver, tls::settings(Some(&file)));
        match client.send(&get("https://hgs.example/x")).await {
            Err(TransportError::Tls { failure, .. }) => failure,
            other => panic!("{other:?}"),
        }
    };
    let server = certified(folder.path(), "ours", "hgs.example");
    assert_eq!(ask(server, "theirs").await, TlsFailure::UnknownIssuer);
    // `openssl req -x509` without options makes a certificate that is an authority's.
    authority(folder.path(), "hgs.example");
    let server = acceptor(folder.path(), "hgs.example");
    assert_eq!(
        ask(server, "hgs.example").await,
        TlsFailure::CertificateIsAuthority
    );
}

#[tokio::test]
async fn names_that_a_root_constrains_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let ask_below = async |authority: &'static str, url: &'static str| {
        let server = Server::over_tls(certified(folder.path(), authority, "hgs.example")).await;
        let resolver = Arc::new(Fixed(vec![server.address]));
        let settings = tls::settings(Some(&folder.path().join("root.pem")));
        let client = Client::new(Timing::default(), resolver, settings);
        client.send(&get(url)).await
    };
    let ask = async |constraints: &str| {
        std::fs::write(
            folder.path().join("root.cnf"),
            format!(
                "[req]\ndistinguished_name = name\nx509_extensions = root\n[name]\n\
                 [root]\nbasicConstraints = critical,CA:true\nnameConstraints = critical,{constraints}\n\
                 [example]\nCN = hgs.example\n[other]\nO = Other\n"
            ),
        )
        .unwrap();
        let (key, certificate, name) = ("root.key", "root.pem", "/CN=root");
        let words = format!(
            "req -x509 -config root.cnf -newkey rsa:2048 -noenc -days 1 -subj {name} -keyout {key} -out {certificate}"
        );
        let words: Vec<_> = words.split(' ').collect();
        openssl(&words, folder.path());
        ask_below("root", "https://hgs.example/x").await
    };
    for permitted in [
        "permitted;dirName:example",
        "permitted;dirName:example,permitted;DNS:hgs.example",
        "excluded;dirName:other",
    ] {
        assert_eq!(ask(permitted).await.unwrap().status, 200, "{permitted}");
    }
    // Below such a root too, the server's name and the issuer count.
    let other_name = ask_below("root", "https://other.example/x")
        .await
        .unwrap_err();
    let TransportError::Tls { failure, .. } = &other_name else {
        panic!("{other_name}");
    };
    assert!(matches!(failure, TlsFailure::Other(_)), "{failure}");
    assert!(
        failure.to_string().contains("not valid for name"),
        "{failure}"
    );
    authority(folder.path(), "theirs");
    let theirs = ask_below("theirs", "https://hgs.example/x").await;
    assert!(
        matches!(
            theirs,
            Err(TransportError::Tls {
                failure: TlsFailure::UnknownIssuer,
                ..
            })
        ),
        "{theirs:?}"
    );
    for forbidden in ["permitted;dirName:other", "excluded;dirName:example"] {
        let refused = ask(forbidden).await.unwrap_err();
        assert!(
            matches!(
                &refused,
                TransportError::Tls {
                    failure: TlsFailure::Chain(ChainError::NameConstraint),
                    ..
                }
            ),
            "{forbidden}: {refused}"
        );
    }
}

#[tokio::test]
async fn the_key_exchange_is_post_quantum_where_the_server_can() {
    let folder = tempfile::tempdir().unwrap();
    authority(folder.path(), "ours");
    let acceptor = certified(folder.path(), "ours", "hgs.example");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = acceptor.accept(stream).await.unwrap();
        let connection = stream.get_ref().1;
        let group = connection.negotiated_key_exchange_group().unwrap().name();
        (group, connection.handshake_kind())
    });
    let settings = tls::settings(Some(&folder.path().join("ours.pem"))).unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let url = "https://hgs.example/x".parse().unwrap();
    tls::connect(&settings, &url, address, stream)
        .await
        .unwrap();
    // The share of a key came with the first message: no second round trip was needed.
    assert_eq!(
        server.await.unwrap(),
        (NamedGroup::X25519MLKEM768, Some(HandshakeKind::Full))
    );
}

#[tokio::test]
async fn a_server_without_tls_gets_no_request() {
    let folder = tempfile::tempdir().unwrap();
    authority(folder.path(), "ours");
    let settings = tls::settings(Some(&folder.path().join("ours.pem"))).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(OK).await.unwrap();
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard).await;
        heard
    });
    let resolver = Arc::new(Fixed(vec![address]));
    let client = Client::new(Timing::default(), resolver, Ok(settings));
    let error = client
        .send(&get("https://hgs.example/x"))
        .await
        .unwrap_err();
    assert!(matches!(error, TransportError::Tls { .. }), "{error}");
    let heard = heard.await.unwrap();
    assert!(!heard.windows(4).any(|octets| octets == b"GET "));
}

#[test]
fn a_file_without_authorities_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("empty.pem");
    std::fs::write(&path, "nothing").unwrap();
    let error = tls::settings(Some(&path)).unwrap_err();
    assert!(matches!(error, TlsSettingsError::Content { path: found, .. } if found == path));
}

fn openssl(arguments: &[&str], folder: &Path) {
    let output = Command::new(tool("openssl", "openssl"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn authority(folder: &Path, name: &str) {
    let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
    let subject = format!("/CN={name}");
    openssl(
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-noenc",
            "-days",
            "1",
            "-keyout",
            &key,
            "-out",
            &certificate,
            "-subj",
            &subject,
        ],
        folder,
    );
}

fn certified(folder: &Path, authority: &str, host: &str) -> TlsAcceptor {
    let (ca, ca_key) = (format!("{authority}.pem"), format!("{authority}.key"));
    let subject = format!("/CN={host}");
    let name = format!("subjectAltName=DNS:{host}");
    openssl(
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-noenc",
            "-days",
            "1",
            "-keyout",
            "server.key",
            "-out",
            "server.pem",
            "-subj",
            &subject,
            "-addext",
            &name,
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
        ],
        folder,
    );
    acceptor(folder, "server")
}

/// A server with `NAME.pem` and `NAME.key`.
fn acceptor(folder: &Path, name: &str) -> TlsAcceptor {
    let file = |extension| folder.join(format!("{name}.{extension}"));
    let certificate = CertificateDer::from_pem_file(file("pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(file("key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let settings = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(settings))
}

proptest! {
    /// The one `expect` on the way to a service.
    #[test]
    fn every_url_that_parses_can_be_asked_for(path in "[!-~]{1,24}", host in "[a-z0-9_.-]{1,12}") {
        if let Ok(url) = format!("http://{host}/{path}").parse::<Url>() {
            exchange::written(&Request::Get { urls: url.clone().into() }, &url);
        }
    }
}
