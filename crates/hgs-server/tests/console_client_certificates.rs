//! `[listen.console.client_certificates]` over a running guardian: who signs in there, and what a session of it is good for.

mod browsing;
mod guardian;
mod support;

use std::fs;

use browsing::{Answer, Browser};
use guardian::Site;
use hgs_admin::types::{AuditQuery, ConsoleSession, ListenerName, NewConsoleLink, SignInWay};
use hgs_admin::{Administration as _, Role};
use hgs_crypto::{hash, hex};
use hgs_pki::Seconds;
use hgs_testkit::fixtures::Guardian as Fixture;
use tempfile::TempDir;

/// A guardian whose console takes certificates.
struct Visited {
    site: Site,
    files: TempDir,
}

/// The entry of a fixture in the file of clients.
fn entry(name: &str, fixture: &Fixture, role: &str) -> String {
    let thumbprint = fixture.signing.thumbprint();
    format!("[[client]]\nname = \"{name}\"\nthumbprint = \"{thumbprint}\"\nroles = [\"{role}\"]\n")
}

impl Visited {
    async fn start(clients: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        let file = files.path().join("clients.toml");
        fs::write(&file, clients).unwrap();
        let configuration = format!(
            "[listen.console]\n\
             enabled = true\n\
             address = \"127.0.0.1:0\"\n\
             [listen.console.client_certificates]\n\
             enabled = true\n\
             address = \"127.0.0.1:0\"\n\
             clients = \"{}\"\n",
            file.display()
        );
        let mut site = Site::initialised("").await;
        let given: toml::Table = configuration.parse().unwrap();
        site.config.listen.console = given["listen"]["console"].clone().try_into().unwrap();
        site.restart().await;
        Self { site, files }
    }

    /// At the port that asks for certificates.
    fn with(&self, certificate: Option<&Fixture>) -> Browser {
        let addresses = self.site.running().addresses();
        let address = addresses.console_client_certificates.unwrap();
        Browser::new(&self.site, address, certificate)
    }

    /// At the other port.
    fn without(&self) -> Browser {
        let address = self.site.running().addresses().console.unwrap();
        Browser::new(&self.site, address, None)
    }

    async fn signed_in(&self, fixture: &Fixture) -> String {
        let begun = self.with(Some(fixture));
        let begun = begun.post("/sign-in/certificate", "", "").await;
        assert_eq!(begun.status, 303, "{}", begun.body);
        begun.cookie()
    }

    async fn sessions(&self) -> Vec<ConsoleSession> {
        let listed = self.site.admin(|client| client.console_sessions());
        listed.await.unwrap()
    }

    fn set_clients(&self, clients: &str) {
        fs::write(self.files.path().join("clients.toml"), clients).unwrap();
        self.site.running().reloader().reload().unwrap();
    }
}

fn is_sent_to_sign_in(answer: &Answer) -> bool {
    answer.status == 303 && answer.header("location").unwrap().starts_with("/sign-in")
}

#[tokio::test]
async fn a_certificate_signs_in_by_a_click_with_its_roles() {
    let (owner, tenant) = (Fixture::named("owner"), Fixture::named("tenant"));
    let clients = entry("ann", owner, "administrator") + &entry("rose", tenant, "reviewer");
    let visited = Visited::start(&clients).await;
    let none = visited.with(None).refusal().await.to_string();
    assert!(none.contains("CertificateRequired"), "{none}");
    let stranger = visited.with(Some(Fixture::named("stranger")));
    let stranger = stranger.refusal().await.to_string();
    assert!(stranger.contains("AccessDenied"), "{stranger}");

    // The other port leads to this one, and signs nobody in so.
    let other = visited.without();
    let page = other.get("/sign-in", "").await.body;
    assert!(page.contains("href=\"/sign-in/certificate\""), "{page}");
    let browser = visited.with(Some(owner));
    let led = other.get("/sign-in/certificate", "").await;
    let place = format!("https://{}/sign-in/certificate", browser.host());
    assert_eq!(
        (led.status, led.header("location")),
        (303, Some(&place[..]))
    );
    assert_eq!(other.post("/sign-in/certificate", "", "").await.status, 403);

    // Looking signs nobody in, nor does the form of another page, such as one at the other port.
    assert!(is_sent_to_sign_in(&browser.get("/hosts", "").await));
    for path in ["/sign-in", "/sign-in/certificate"] {
        let page = browser.get(path, "").await;
        assert_eq!((page.status, page.header("set-cookie")), (200, None));
        assert!(page.body.contains("(ann)") && page.body.contains("administrator"));
    }
    let (host, elsewhere) = (browser.host(), format!("https://{}", other.host()));
    let fields = [
        ("Host", &host[..]),
        ("Origin", &elsewhere[..]),
        ("Sec-Fetch-Site", "same-site"),
    ];
    let forged = browser
        .send("POST", "/sign-in/certificate", &fields, "")
        .await;
    assert_eq!((forged.status, forged.header("set-cookie")), (403, None));
    let misdirected = [("Host", "evil.example")];
    let misdirected = browser.send("GET", "/sign-in", &misdirected, "").await;
    assert_eq!(misdirected.status, 421);
    assert!(visited.sessions().await.is_empty());

    let begun = browser.post("/sign-in/certificate", "", "").await;
    assert_eq!(begun.header("location"), Some("/?notice=signed-in"));
    let set = begun.header("set-cookie").unwrap();
    assert!(
        set.starts_with("__Host-openhgs-")
            && set.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax"),
        "{set}"
    );
    let cookie = begun.cookie();
    assert_eq!(browser.get("/", &cookie).await.status, 200);
    let session = visited.sessions().await.remove(0);
    let user = format!("certificate {} (ann)", owner.signing.thumbprint());
    assert_eq!(
        (&session.user, session.way),
        (&user, SignInWay::Certificate)
    );
    assert_eq!(session.roles, [Role::Administrator]);
    assert_eq!(session.address, "127.0.0.1");
    let rotated = browser.post("/rotate-certificates", &cookie, "").await;
    assert_eq!(rotated.status, 303, "{}", rotated.body);
    let actor = format!("console {}, {user}", session.session);
    let records = visited.site.audit(AuditQuery::default()).await;
    assert_eq!(records[0].actor, actor);

    let reviewer = visited.with(Some(tenant));
    let cookie = visited.signed_in(tenant).await;
    assert_eq!(reviewer.get("/hosts", &cookie).await.status, 200);
    let refused = reviewer
        .post("/add-host", &cookie, "name=&credential=")
        .await;
    assert_eq!(refused.status, 403);
    let out = reviewer.post("/sign-out", &cookie, "").await;
    assert_eq!(out.header("location"), Some("/sign-in?notice=signed-out"));
    let page = reviewer.get("/sign-in?notice=signed-out", "").await.body;
    assert!(
        page.contains("You have signed out") || page.contains("signed out"),
        "{page}"
    );
    assert_eq!(visited.sessions().await.len(), 1);
}

/// The key of the certificate is what makes the cookie worth anything, and the ways of one port are not those of the other.
#[tokio::test]
async fn a_session_is_of_no_use_without_its_certificate() {
    let (owner, tenant) = (Fixture::named("owner"), Fixture::named("tenant"));
    let clients = entry("ann", owner, "administrator") + &entry("rose", tenant, "administrator");
    let visited = Visited::start(&clients).await;
    let (browser, other) = (visited.with(Some(owner)), visited.without());
    let cookie = visited.signed_in(owner).await;
    let colleague = visited.with(Some(tenant));
    assert!(is_sent_to_sign_in(&colleague.get("/hosts", &cookie).await));
    let stream = colleague.get("/events", &cookie).await;
    assert_eq!(stream.status, 403);
    let act = colleague.post("/rotate-certificates", &cookie, "").await;
    assert!(is_sent_to_sign_in(&act));

    let link = NewConsoleLink {
        digest: hex::encode(&hash::sha256(b"secret")),
    };
    let made = visited
        .site
        .admin(move |client| client.new_console_link(&link));
    made.await.unwrap();
    // A link is for the other port, and stays unused.
    assert_eq!(browser.post("/sign-in/secret", "", "").await.status, 404);
    assert_eq!(browser.get("/sign-in/openid", "").await.status, 404);
    let by_link = other.post("/sign-in/secret", "", "").await.cookie();
    assert_eq!(other.get("/hosts", &by_link).await.status, 200);
    let value = |cookie: &str| cookie.split_once('=').unwrap().1.to_owned();
    let name = |cookie: &str| cookie.split_once('=').unwrap().0.to_owned();
    assert_ne!(name(&cookie), name(&by_link));
    for (browser, cookie) in [
        (&other, format!("{}={}", name(&by_link), value(&cookie))),
        (&browser, format!("{}={}", name(&cookie), value(&by_link))),
        (&other, cookie.clone()),
        (&browser, by_link.clone()),
    ] {
        assert!(is_sent_to_sign_in(&browser.get("/hosts", &cookie).await));
    }
    assert_eq!(browser.get("/hosts", &cookie).await.status, 200);
    assert_eq!(visited.sessions().await.len(), 2);
}

#[tokio::test]
async fn a_session_ends_with_the_entry_of_its_certificate_and_with_the_certificate() {
    let (owner, tenant) = (Fixture::named("owner"), Fixture::named("tenant"));
    let tenants = entry("rose", tenant, "reviewer");
    let visited = Visited::start(&(entry("ann", owner, "administrator") + &tenants)).await;
    let browser = visited.with(Some(owner));
    let (cookie, stays) = (
        visited.signed_in(owner).await,
        visited.signed_in(tenant).await,
    );
    let host = browser.host();
    let events = async |browser: &Browser, cookie: &str| {
        let mut stream = browser.connect().await;
        let request = format!("GET /events HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n");
        stream.send(&request).await;
        stream.until("retry: 3000").await;
        stream
    };
    let mut stream = events(&browser, &cookie).await;
    visited.set_clients(&tenants);
    stream.rest().await;
    let refused = browser.refusal().await.to_string();
    assert!(refused.contains("AccessDenied"), "{refused}");
    let only = async |name: &str| {
        let name = format!("({name})");
        loop {
            let sessions = visited.sessions().await;
            if sessions.len() == 1 && sessions[0].user.ends_with(&name) {
                return;
            }
        }
    };
    only("rose").await;

    // Another entry for the same certificate does not bring the session back.
    visited.set_clients(&(entry("ann", owner, "reviewer") + &tenants));
    assert!(is_sent_to_sign_in(&browser.get("/hosts", &cookie).await));
    let colleague = visited.with(Some(tenant));
    assert_eq!(colleague.get("/hosts", &stays).await.status, 200);

    let mut stream = events(&colleague, &stays).await;
    // Ten years later.
    visited.site.clock.advance(Seconds::from_days(4000));
    stream.rest().await;
    assert!(visited.sessions().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_and_its_clients_are_known_where_the_guardian_tells_of_itself() {
    let owner = Fixture::named("owner");
    let clients = "[[client]]\nname = \"ann\"\ncertificate = \"ann.pem\"\nroles = [\"reviewer\"]\n";
    let visited = Visited::start(&entry("ann", owner, "reviewer")).await;
    fs::write(visited.files.path().join("ann.pem"), owner.signing.to_pem()).unwrap();
    visited.set_clients(clients);
    let server = visited.site.admin(|client| client.server()).await.unwrap();
    let listener = ListenerName::ConsoleClientCertificates;
    assert!(server.listeners.iter().any(|one| one.name == listener));
    let assert_shown = |series: &str| {
        let metrics = visited.site.running().metrics().render();
        let shown = metrics.lines().filter(|line| line.starts_with(series));
        assert_eq!(shown.count(), 1, "{series}: {metrics}");
    };
    let expiration = "hgs_certificate_expiration_timestamp_seconds";
    assert_shown(&format!("{expiration}{{use=\"client\",certificate=\"ann\""));
    visited.with(Some(owner)).get("/sign-in", "").await;
    assert_shown(
        "hgs_http_requests_total{listener=\"console-client-certificates\",route=\"sign-in\"",
    );
    let warnings = async || {
        let status = visited.site.admin(|client| client.status()).await.unwrap();
        let warnings = status.warnings.into_iter();
        warnings.map(|warning| warning.code).collect::<Vec<_>>()
    };
    let expiry = "client-certificate-expiry".to_owned();
    assert!(!warnings().await.contains(&expiry));
    visited.site.clock.advance(Seconds::from_days(3652 - 5));
    assert!(warnings().await.contains(&expiry));
}
