//! Signing in to the console by OpenID Connect, at a provider that others have written: npm's `oidc-provider`, as
//! `conformance/openid` pins it. What a browser does is done here by hand.

mod guardian;
mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use guardian::{ManualClock, Site};
use hgs_admin::Administration as _;
use hgs_admin::types::{AuditQuery, NewConsoleLink};
use hgs_clock::Clock as _;
use hgs_crypto::{hash, hex};
use hgs_files::Readers;
use hgs_pki::Seconds;
use hyper::Uri;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const SETTINGS: &str = r#"
[listen.console]
enabled = true
address = "127.0.0.1:0"
[listen.console.openid]
client_id = "openhgs"
session_time = "1h"
[[listen.console.openid.group]]
name = "reviewers"
roles = ["reviewer"]
[[listen.console.openid.group]]
name = "hosters"
roles = ["host-manager"]
"#;

/// The provider, in a process of its own.
struct Provider {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    issuer: String,
}

impl Provider {
    fn start(now: i64) -> Self {
        let program = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../conformance/openid/provider.mjs"
        );
        let mut process = Command::new("node")
            .arg(program)
            .arg(hgs_testkit::npm_packages("openid"))
            .arg(now.to_string())
            // It has the time of the guardian by its argument and by command.
            .env_remove("LD_PRELOAD")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        let issuer = String::new();
        let mut provider = Self {
            process,
            commands,
            answers,
            issuer,
        };
        provider.issuer = provider.answer();
        provider
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the provider has ended");
        line.trim().to_owned()
    }

    fn order(&mut self, command: &str) {
        writeln!(self.commands, "{command}").unwrap();
        assert_eq!(self.answer(), "done", "{command}");
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A guardian whose users are known to a provider.
struct Visited {
    site: Site,
    provider: Provider,
}

impl Visited {
    async fn start() -> Self {
        let mut site = Site::initialised("").await;
        let mut provider = Provider::start(site.clock.now().unix());
        let secret = site.folder.path().join("openid.secret");
        hgs_files::create(&secret, b"hunter2 & more\n", Readers::Owner).unwrap();
        let issuer = format!(
            "issuer = \"{}\"\nclient_secret_file = \"{}\"\n[[listen.console.openid.group]]",
            provider.issuer,
            secret.display()
        );
        let text = SETTINGS.replacen("[[listen.console.openid.group]]", &issuer, 1);
        let given: toml::Table = text.parse().unwrap();
        site.config.listen.console = given["listen"]["console"].clone().try_into().unwrap();
        site.restart().await;
        let visited_port = site.running().addresses().console.unwrap().port();
        provider.order(&format!(
            "client https://127.0.0.1:{visited_port}/sign-in/openid/callback"
        ));
        Self { site, provider }
    }

    fn url(&self, path: &str) -> String {
        let address = self.site.running().addresses().console.unwrap();
        format!("https://127.0.0.1:{}{path}", address.port())
    }

    fn browser(&self) -> Browser {
        Browser {
            clock: self.site.clock.clone(),
            certificate: self.site.config.state_folder().join("console.pem"),
            jar: BTreeMap::new(),
            visited: Vec::new(),
        }
    }

    /// Moves the clocks of guardian and provider, which stand still otherwise.
    fn advance(&mut self, by: Seconds) {
        self.site.clock.advance(by);
        let now = self.site.clock.now().unix();
        self.provider.order(&format!("clock {now}"));
    }

    /// The page at the end of a whole sign-in as this user.
    async fn sign_in(&self, browser: &mut Browser, user: &str) -> Answer {
        let asked = browser.go(&self.url("/sign-in/openid")).await;
        browser.agree(asked, user).await
    }
}

/// What a browser keeps and does, without a window.
struct Browser {
    clock: Arc<ManualClock>,
    certificate: PathBuf,
    /// By name and port, as the provider and the console are at one address.
    jar: BTreeMap<(String, String), String>,
    visited: Vec<String>,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
    url: Uri,
}

impl Answer {
    fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(move |(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    fn has(&self, text: &str) -> bool {
        self.body.contains(text)
    }
}

impl Browser {
    /// Follows where it is led.
    async fn go(&mut self, url: &str) -> Answer {
        self.visited.clear();
        let answer = self.ask("GET", url, "").await;
        self.follow(answer).await
    }

    async fn follow(&mut self, mut answer: Answer) -> Answer {
        while (300..400).contains(&answer.status) {
            let place = answer.headers("location").next().unwrap();
            let place = match place.starts_with('/') {
                true => format!(
                    "{}://{}{place}",
                    answer.url.scheme_str().unwrap(),
                    answer.url.authority().unwrap()
                ),
                false => place.to_owned(),
            };
            self.visited.push(place.clone());
            assert!(self.visited.len() < 20, "{:?}", self.visited);
            answer = self.ask("GET", &place, "").await;
        }
        answer
    }

    /// Fills in the forms of the provider: who it is, then that the console may know.
    async fn agree(&mut self, mut answer: Answer, user: &str) -> Answer {
        for form in [
            format!("prompt=login&login={user}&password=x"),
            "prompt=consent".to_owned(),
        ] {
            let Some((_, action)) = answer.body.split_once("action=\"") else {
                return answer;
            };
            let action = action.split('"').next().unwrap().to_owned();
            let sent = self.ask("POST", &action, &form).await;
            answer = self.follow(sent).await;
        }
        answer
    }

    async fn ask(&mut self, method: &str, url: &str, body: &str) -> Answer {
        let url: Uri = url.parse().unwrap();
        let authority = url.authority().unwrap().to_string();
        let cookies = self.jar.iter().filter(|((at, _), _)| *at == authority);
        let cookies: Vec<_> = cookies
            .map(|((_, name), value)| format!("{name}={value}"))
            .collect();
        let target = url.path_and_query().unwrap();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\nCookie: {}\r\n\
             Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            cookies.join("; "),
            body.len()
        );
        let text = self.exchange(&url, &request).await;
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let answer = Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            body: body.to_owned(),
            url,
        };
        for set in answer.headers("set-cookie") {
            let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
            let key = (authority.clone(), name.to_owned());
            match value {
                "" => drop(self.jar.remove(&key)),
                value => drop(self.jar.insert(key, value.to_owned())),
            }
        }
        answer
    }

    async fn exchange(&self, url: &Uri, request: &str) -> String {
        let port = url.port_u16().unwrap();
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut octets = Vec::new();
        if url.scheme_str() == Some("http") {
            let mut client = support::Client(stream);
            client.send(request).await;
            client.0.read_to_end(&mut octets).await.unwrap();
        } else {
            let mut roots = RootCertStore::empty();
            roots
                .add(CertificateDer::from_pem_file(&self.certificate).unwrap())
                .unwrap();
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let settings = ClientConfig::builder_with_details(provider, self.clock.clone())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            let name = ServerName::try_from(url.host().unwrap().to_owned()).unwrap();
            let connector = TlsConnector::from(Arc::new(settings));
            let mut client = support::Client(connector.connect(name, stream).await.unwrap());
            client.send(request).await;
            client.0.read_to_end(&mut octets).await.unwrap();
        }
        String::from_utf8_lossy(&octets).into_owned()
    }
}

#[tokio::test]
async fn users_of_a_provider_sign_in_with_the_roles_of_their_groups() {
    let mut visited = Visited::start().await;
    let mut browser = visited.browser();
    let page = browser.go(&visited.url("/sign-in")).await;
    assert!(
        page.has("href=\"/sign-in/openid\"") && page.has(&visited.provider.issuer),
        "{}",
        page.body
    );
    // By another name of the console, the browser is led to the one that the provider knows.
    let port = visited.url("").rsplit(':').next().unwrap().to_owned();
    let asked = browser
        .go(&format!("https://localhost:{port}/sign-in/openid"))
        .await;
    assert_eq!(browser.visited[0], visited.url("/sign-in/openid"));
    assert!(browser.visited[1].starts_with(&format!("{}/auth?", visited.provider.issuer)));
    let set = browser
        .jar
        .keys()
        .find(|(_, name)| name.starts_with("__Host-"))
        .unwrap();
    assert!(set.1.ends_with("-openid"), "{set:?}");

    let done = browser.agree(asked, "alice.reviewers.staff").await;
    assert_eq!(done.status, 200, "{} {}", done.url, done.body);
    assert!(
        done.has("Signed in as") && done.has("alice"),
        "{}",
        done.body
    );
    assert_eq!(browser.go(&visited.url("/hosts")).await.status, 200);
    // A reviewer changes nothing.
    assert_eq!(browser.go(&visited.url("/add-host")).await.status, 403);
    let sessions = visited
        .site
        .admin(|client| client.console_sessions())
        .await
        .unwrap();
    let user = format!(
        "openid {} alice.reviewers.staff (alice)",
        visited.provider.issuer
    );
    assert_eq!((sessions.len(), &sessions[0].user), (1, &user));

    // The provider signs with new keys, of which the guardian does not know yet.
    visited.provider.order("rotate");
    visited.advance(Seconds::new(61));
    let mut other = visited.browser();
    let done = visited.sign_in(&mut other, "bob.hosters").await;
    assert!(done.has("Signed in as"), "{}", done.body);
    assert_eq!(other.go(&visited.url("/add-host")).await.status, 200);

    // The session lasts as long as the configuration says, whatever its user does.
    for _ in 0..3 {
        visited.advance(Seconds::from_minutes(19));
        other.go(&visited.url("/hosts")).await;
    }
    visited.advance(Seconds::from_minutes(4));
    let ended = other.go(&visited.url("/hosts")).await;
    assert!(ended.url.path() == "/sign-in", "{}", ended.url);
}

#[tokio::test]
async fn whoever_the_provider_does_not_vouch_for_stays_outside() {
    let mut visited = Visited::start().await;
    let mut browser = visited.browser();
    let refused = visited.sign_in(&mut browser, "mallory.strangers").await;
    assert_eq!(refused.status, 403, "{}", refused.body);
    assert!(
        refused.has("mallory") && refused.has("in no group that has a role here"),
        "{}",
        refused.body
    );

    // What a provider that lies, or somebody between, could send.
    for (lie, said) in [
        ("none", "signed with `none`"),
        ("HS256", "signed with `HS256`"),
        ("ES256", "signed with `ES256`"),
        ("other key", "signature of its ID token is not by the key"),
        ("aud", "not for this client"),
        ("azp", "given to the client `another-client`"),
        ("iss", "was issued by"),
        ("nonce", "another sign-in (`nonce`)"),
        ("exp", "expired"),
        ("iat", "the sign-in began at"),
        ("groups", "too many groups"),
    ] {
        visited.provider.order(&format!("lie {lie}"));
        let refused = visited.sign_in(&mut browser, "alice.reviewers").await;
        assert!(
            refused.status == 403 && refused.has(said),
            "{lie}: {}",
            refused.body
        );
        assert!(refused.has("What to do"), "{lie}: {}", refused.body);
    }
    visited.provider.order("lie");

    // An answer that is brought again, by another browser, or with another state.
    let mut attacker = visited.browser();
    let done = visited.sign_in(&mut attacker, "mallory.reviewers").await;
    assert_eq!(done.status, 200);
    let callback = attacker
        .visited
        .iter()
        .find(|url| url.contains("/callback?"))
        .unwrap()
        .clone();
    let again = attacker.go(&callback).await;
    assert!(
        again.status == 403 && again.has("began in another browser"),
        "{}",
        again.body
    );
    let mut victim = visited.browser();
    assert_eq!(victim.go(&callback).await.status, 403);
    victim.go(&visited.url("/sign-in/openid")).await;
    let crossed = victim.go(&callback).await;
    assert!(
        crossed.status == 403 && crossed.has("another sign-in"),
        "{}",
        crossed.body
    );
    assert_eq!(
        victim.go(&visited.url("/hosts")).await.url.path(),
        "/sign-in"
    );

    // Without the provider, links sign in.
    drop(
        std::mem::replace(
            &mut visited.provider.process,
            Command::new("true").spawn().unwrap(),
        )
        .kill(),
    );
    visited.site.clock.advance(Seconds::from_minutes(11));
    let away = browser.go(&visited.url("/sign-in/openid")).await;
    assert!(
        away.status == 502 && away.has("does not answer") && away.has("hgs console"),
        "{}",
        away.body
    );
    let secret = "abcdefghijklmnopqrstuvwxyz012345";
    let digest = hex::encode(&hash::sha256(secret.as_bytes()));
    let request = NewConsoleLink { digest };
    visited
        .site
        .admin(move |client| client.new_console_link(&request))
        .await
        .unwrap();
    assert_eq!(
        browser
            .go(&visited.url(&format!("/sign-in/{secret}")))
            .await
            .status,
        200
    );
    let records = visited.site.audit(AuditQuery::default()).await;
    assert!(
        records
            .iter()
            .all(|record| !record.actor.contains("mallory"))
    );
}
