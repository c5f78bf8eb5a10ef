//! A browser at a listener of the console: what it sends, and the answers in parts.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hgs_console::headers;
use hgs_testkit::fixtures::Guardian as Fixture;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::guardian::Site;
use crate::support;

/// An answer, in parts.
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The cookie that it sets, as a browser sends it back.
    pub(crate) fn cookie(&self) -> String {
        let set = self.header("set-cookie").expect("a cookie");
        set.split(';').next().unwrap().to_owned()
    }
}

/// What reaches one listener of a console, by the name `localhost`.
pub(crate) struct Browser {
    address: SocketAddr,
    settings: Arc<ClientConfig>,
}

impl Browser {
    /// One that trusts the certificate that `site` made for its console, and shows that of a fixture.
    pub(crate) fn new(site: &Site, address: SocketAddr, shows: Option<&Fixture>) -> Self {
        let mut roots = RootCertStore::empty();
        let file = site.config.state_folder().join("console.pem");
        roots
            .add(CertificateDer::from_pem_file(file).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let settings = ClientConfig::builder_with_details(provider, site.clock.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let settings = match shows {
            Some(fixture) => {
                let certificate = fixture.signing.der().to_vec().into();
                let key = fixture.signing_key.pkcs8_der().expose().to_vec();
                let key = PrivatePkcs8KeyDer::from(key).into();
                settings.with_client_auth_cert(vec![certificate], key)
            }
            None => Ok(settings.with_no_client_auth()),
        };
        Self {
            address,
            settings: Arc::new(settings.unwrap()),
        }
    }

    pub(crate) fn host(&self) -> String {
        format!("localhost:{}", self.address.port())
    }

    pub(crate) async fn connect(&self) -> support::Client<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::clone(&self.settings));
        support::Client(connector.connect(name, stream).await.unwrap())
    }

    /// Why it gets no answer.
    pub(crate) async fn refusal(&self) -> io::Error {
        let mut client = self.connect().await;
        client.send("GET / HTTP/1.1\r\n\r\n").await;
        let read = client.0.read_to_end(&mut Vec::new()).await;
        read.expect_err("it is refused")
    }

    /// Sends a request whose header fields are exactly these.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut client = self.connect().await;
        let mut text = format!(
            "{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n",
            body.len()
        );
        for (name, value) in fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        client.send(&format!("{text}\r\n{body}")).await;
        let mut octets = Vec::new();
        client.0.read_to_end(&mut octets).await.unwrap();
        let text = String::from_utf8(octets).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        for (name, value) in headers::OF_ALL {
            assert!(head.contains(&format!("{name}: {value}")), "{path}: {head}");
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let answer = Answer {
            status,
            head: head.to_owned(),
            body: body.to_owned(),
        };
        let cached = answer.header("cache-control").unwrap();
        assert_eq!(
            cached == "no-store",
            !path.starts_with("/assets/"),
            "{path}"
        );
        answer
    }

    /// What a page of the console has it ask for.
    pub(crate) async fn get(&self, path: &str, cookie: &str) -> Answer {
        let host = self.host();
        let fields = [
            ("Host", &host[..]),
            ("Cookie", cookie),
            ("Sec-Fetch-Site", "same-origin"),
        ];
        self.send("GET", path, &fields, "").await
    }

    /// What a page of the console has it send.
    pub(crate) async fn post(&self, path: &str, cookie: &str, form: &str) -> Answer {
        let (host, origin) = (self.host(), format!("https://{}", self.host()));
        let fields = [
            ("Host", &host[..]),
            ("Origin", &origin[..]),
            ("Cookie", cookie),
            ("Sec-Fetch-Site", "same-origin"),
            ("Sec-Fetch-Mode", "navigate"),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ];
        self.send("POST", path, &fields, form).await
    }
}
