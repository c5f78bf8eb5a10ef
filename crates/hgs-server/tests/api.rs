//! `[listen.api]`: administration under mutual TLS. The server's certificate is made by openssl.

mod guardian;
mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use guardian::{Host, Site};
use hgs_admin::types::{
    AddCertificate, AddHost, AuditQuery, CertificateKind, CertificateRole, Event, EventQuery,
    RevokeHost,
};
use hgs_admin::{
    AdminError, Administration as _, Client, ErrorCode, EventMessage, LastEventId, WithKey,
};
use hgs_custody::SoftwareKey;
use hgs_pki::{Certificate, Seconds, TlsCertificate};
use hgs_testkit::fixtures::{Guardian as Fixture, now};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A guardian that listens for administrators, and the folder of its files.
struct Listening {
    site: Site,
    files: TempDir,
}

impl Listening {
    async fn start(clients: &str, extra: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        let file = |name: &str| files.path().join(name).display().to_string();
        let made = Command::new(hgs_testkit::tool("openssl", "openssl"))
            .args(["req", "-x509", "-newkey", "ec", "-nodes"])
            .args([
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-subj",
                "/CN=localhost",
            ])
            .args(["-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout", &file("tls.key"), "-out", &file("tls.pem")])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        fs::write(file("owner.pem"), Fixture::named("owner").signing.to_pem()).unwrap();
        fs::write(file("clients.toml"), clients).unwrap();
        let configuration = format!(
            "listen.api.enabled = true\n\
             listen.api.address = \"127.0.0.1:0\"\n\
             listen.api.certificate = \"{}\"\n\
             listen.api.key = \"{}\"\n\
             listen.api.clients = \"{}\"\n\
             {extra}",
            file("tls.pem"),
            file("tls.key"),
            file("clients.toml"),
        );
        Self {
            site: Site::start_with(&configuration).await,
            files,
        }
    }

    fn clients(&self) -> PathBuf {
        self.files.path().join("clients.toml")
    }

    fn settings(&self, of: Option<&Fixture>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let server = CertificateDer::from_pem_file(self.files.path().join("tls.pem"));
        roots.add(server.unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match of {
            Some(fixture) => {
                let certificate = fixture.signing.der().to_vec().into();
                let key =
                    PrivatePkcs8KeyDer::from(fixture.signing_key.pkcs8_der().expose().to_vec());
                let builder = builder.with_client_auth_cert(vec![certificate], key.into());
                builder.unwrap()
            }
            None => builder.with_no_client_auth(),
        })
    }

    /// Asks over the network with the certificate of a fixture.
    async fn ask<T: Send + 'static>(
        &self,
        of: Option<&Fixture>,
        question: impl FnOnce(&Client) -> Result<T, AdminError> + Send + 'static,
    ) -> Result<T, AdminError> {
        let port = self.site.running().addresses().api.unwrap().port();
        let address = format!("https://localhost:{port}").parse().unwrap();
        let client = Client::over_network(address, self.settings(of));
        tokio::task::spawn_blocking(move || question(&client))
            .await
            .unwrap()
    }

    /// A connection that stays open, over which one request was answered.
    async fn connection(&self, of: &Fixture) -> support::Client<TlsStream<TcpStream>> {
        let address = self.site.running().addresses().api.unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let connector = TlsConnector::from(self.settings(Some(of)));
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = support::Client(connector.connect(name, stream).await.unwrap());
        client.send(STATUS).await;
        assert_eq!(support::status(&client.response().await), 200);
        client
    }
}

const STATUS: &str = "GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n";

const OWNER: &str = "[[client]]\nname = \"ansible\"\ncertificate = \"owner.pem\"\nroles = [\"host-manager\", \"reviewer\"]\n";

fn by_thumbprint(name: &str, certificate: &Certificate, role: &str) -> String {
    let thumbprint = certificate.thumbprint();
    format!("[[client]]\nname = \"{name}\"\nthumbprint = \"{thumbprint}\"\nroles = [\"{role}\"]\n")
}

#[tokio::test]
async fn a_caller_has_the_roles_of_its_certificate_and_the_audit_log_names_it() {
    let (owner, tenant) = (Fixture::named("owner"), Fixture::named("tenant"));
    let clients = OWNER.to_owned() + &by_thumbprint("operator", &tenant.signing, "administrator");
    let listening = Listening::start(&clients, "").await;
    let host = AddHost {
        name: "node-1".to_owned(),
        host_key: Some(Host::numbered(0).public_pem()),
        ..AddHost::default()
    };
    let added = listening.ask(Some(owner), move |client| client.add_host(&host));
    added.await.unwrap();
    let records = listening.site.audit(AuditQuery::default()).await;
    let thumbprint = owner.signing.thumbprint();
    assert_eq!(
        records[0].actor,
        format!("certificate {thumbprint} (ansible)")
    );

    let removal = |client: &Client| client.remove_host(&"node-1".parse().unwrap());
    let refused = listening.ask(Some(owner), removal).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Forbidden);
    assert!(refused.message.contains("(ansible)"), "{refused}");
    listening.ask(Some(tenant), removal).await.unwrap();

    let pair = WithKey {
        request: AddCertificate {
            kind: CertificateKind::Signing,
            certificate: tenant.signing.to_pem(),
            key: None,
            tenant: None,
            label: None,
            primary: false,
        },
        key: Some(Arc::new(
            SoftwareKey::from_pkcs8_der(tenant.signing_key.pkcs8_der()).unwrap(),
        )),
    };
    let adding = listening.ask(Some(tenant), move |client| client.add_certificate(&pair));
    let refused = adding.await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Forbidden);
    assert!(refused.message.contains("admin socket only"), "{refused}");
}

#[tokio::test]
async fn others_are_told_one_reason() {
    let (owner, stranger) = (Fixture::named("owner"), Fixture::named("stranger"));
    let listening = Listening::start(OWNER, "").await;
    let status = |client: &Client| client.status();
    let refused = listening.ask(Some(stranger), status).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Forbidden);
    assert!(refused.message.contains("does not know"), "{refused}");
    let refused = listening.ask(None, status).await.unwrap_err();
    assert!(
        refused.message.contains("asks for a client certificate"),
        "{refused}"
    );
    let known = listening.ask(Some(owner), status).await.unwrap();
    assert!(known.warnings.is_empty(), "{:?}", known.warnings);
    // Ten years later.
    listening.site.clock.advance(Seconds::from_days(3652 - 5));
    let known = listening.ask(Some(owner), status).await.unwrap();
    let codes = known.warnings.iter().map(|warning| warning.code.as_str());
    assert!(
        codes
            .clone()
            .any(|code| code == "client-certificate-expiry")
    );
    listening.site.clock.advance(Seconds::from_days(10));
    let refused = listening.ask(Some(owner), status).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Forbidden);
    assert!(refused.message.contains("not valid now"), "{refused}");
}

#[tokio::test]
async fn access_ends_at_once_with_its_entry() {
    let (owner, tenant) = (Fixture::named("owner"), Fixture::named("tenant"));
    let tenants = by_thumbprint("operator", &tenant.signing, "reviewer");
    let listening = Listening::start(&(OWNER.to_owned() + &tenants), "").await;
    let mut ended = listening.connection(owner).await;
    let mut stays = listening.connection(tenant).await;

    // What is no file of clients changes nothing.
    fs::write(listening.clients(), "[[client]]\nname = 1\n").unwrap();
    listening.site.running().reloader().reload().unwrap();
    for client in [&mut ended, &mut stays] {
        client.send(STATUS).await;
        assert_eq!(support::status(&client.response().await), 200);
    }

    fs::write(listening.clients(), &tenants).unwrap();
    listening.site.running().reloader().reload().unwrap();
    assert_eq!(ended.rest().await, "");
    stays.send(STATUS).await;
    assert_eq!(support::status(&stays.response().await), 200);
    let again = listening.ask(Some(owner), |client| client.status());
    assert_eq!(again.await.unwrap_err().code, ErrorCode::Forbidden);

    // So it does with the certificate, and with the roles.
    let roles = by_thumbprint("operator", &tenant.signing, "host-manager");
    fs::write(listening.clients(), roles).unwrap();
    listening.site.running().reloader().reload().unwrap();
    assert_eq!(stays.rest().await, "");
    let mut expires = listening.connection(tenant).await;
    listening.site.clock.advance(Seconds::from_days(4000));
    assert_eq!(expires.rest().await, "");
}

#[tokio::test]
async fn a_file_that_is_gone_or_changed_is_noticed() {
    let owner = Fixture::named("owner");
    let listening = Listening::start(OWNER, "listen.api.check_interval = \"5ms\"\n").await;
    let mut ended = listening.connection(owner).await;
    fs::remove_file(listening.files.path().join("owner.pem")).unwrap();
    assert_eq!(ended.rest().await, "");
    let revocation = RevokeHost {
        reason: "stolen".to_owned(),
    };
    let revoked = listening.ask(Some(owner), move |client| {
        client.revoke_host(&"node-1".parse().unwrap(), &revocation)
    });
    assert_eq!(revoked.await.unwrap_err().code, ErrorCode::Forbidden);
    fs::write(
        listening.files.path().join("owner.pem"),
        owner.signing.to_pem(),
    )
    .unwrap();
    while listening
        .ask(Some(owner), |client| client.status())
        .await
        .is_err()
    {}
}

/// Events and metrics have one name for it: that of the listener.
#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_of_the_listener_is_among_those_that_expire() {
    let clients =
        "[[client]]\nname = \"ops\"\ncertificate = \"owner.pem\"\nroles = [\"administrator\"]\n";
    let listening = Listening::start(clients, "").await;
    let certificate = CertificateDer::from_pem_file(listening.files.path().join("tls.pem"));
    let ends = TlsCertificate::from_der(&certificate.unwrap()).unwrap();
    let ends = ends.validity.not_after.since(now()).unwrap();
    listening.site.clock.advance(ends);
    // Over the socket: the caller's certificate may end sooner.
    let told = listening.site.admin(|client| {
        let query = EventQuery {
            kind: Some("expiry".parse()?),
            follow: Some(false),
            ..EventQuery::default()
        };
        let mut events = client.events(&query, &LastEventId::default())?;
        let mut of_tls = Vec::new();
        while let Some(message) = events.wait_next() {
            if let EventMessage::Event(_, Event::Expiry(expiry)) = message?
                && expiry.usage == CertificateRole::Tls
            {
                of_tls.push(expiry.name);
            }
        }
        Ok(of_tls)
    });
    assert_eq!(told.await.unwrap(), ["api"]);
    let metrics = listening.site.running().metrics().render();
    let series = "hgs_certificate_expiration_timestamp_seconds{use=\"tls\",certificate=";
    let shown: Vec<_> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix(series))
        .collect();
    assert!(
        shown.len() == 1 && shown[0].starts_with("\"api\","),
        "{shown:?}"
    );
}
