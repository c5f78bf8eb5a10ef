//! `[listen.console]` over a running guardian, asked as a browser asks: signing in, acts, and what other pages can't have a
//! browser do.

mod browsing;
mod guardian;
mod support;

use browsing::{Answer, Browser};
use guardian::{Host, Site};
use hgs_admin::types::{
    AuditQuery, AuditRecord, CertificateKind, DigestPageQuery, NewConsoleLink, ProtectorQuery,
    ProtectorStage, SetServer,
};
use hgs_admin::{AdminError, Administration as _, ErrorCode};
use hgs_crypto::{hash, hex};
use hgs_kps::ServiceVersion::V2;
use hgs_pki::Seconds;

const ON: &str = "listen.console.enabled = true\nlisten.console.address = \"127.0.0.1:0\"\n";

/// A guardian with a console.
struct Visited {
    site: Site,
}

impl Visited {
    async fn start() -> Self {
        Self {
            site: Site::start_with(ON).await,
        }
    }

    fn port(&self) -> u16 {
        self.site.running().addresses().console.unwrap().port()
    }

    fn browser(&self) -> Browser {
        let address = self.site.running().addresses().console.unwrap();
        Browser::new(&self.site, address, None)
    }

    async fn get(&self, path: &str, cookie: &str) -> Answer {
        self.browser().get(path, cookie).await
    }

    async fn post(&self, path: &str, cookie: &str, form: &str) -> Answer {
        self.browser().post(path, cookie, form).await
    }

    /// A form that is sent with these fields.
    async fn submit(&self, path: &str, cookie: &str, fields: &[(&str, &str)]) -> Answer {
        let form = serde_urlencoded::to_string(fields).unwrap();
        self.post(path, cookie, &form).await
    }

    /// A link as `hgs console` makes it: its path.
    async fn link(&self, secret: &'static str) -> String {
        let request = NewConsoleLink {
            digest: hex::encode(&hash::sha256(secret.as_bytes())),
        };
        let made = self
            .site
            .admin(move |client| client.new_console_link(&request))
            .await
            .unwrap();
        let beginning = format!("https://127.0.0.1:{}/sign-in/", self.port());
        assert_eq!(made.url, beginning);
        format!("/sign-in/{secret}")
    }

    /// The cookie of a new session.
    async fn signed_in(&self, secret: &'static str) -> String {
        let link = self.link(secret).await;
        self.post(&link, "", "").await.cookie()
    }

    async fn sessions(&self) -> Vec<hgs_admin::types::ConsoleSession> {
        self.site
            .admin(|client| client.console_sessions())
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn a_link_signs_in_once_and_acts_are_recorded_with_the_session() {
    let visited = Visited::start().await;
    let stranger = visited.get("/hosts", "").await;
    assert_eq!(
        (stranger.status, stranger.header("location")),
        (303, Some("/sign-in"))
    );
    assert_eq!(visited.get("/sign-in", "").await.status, 200);

    // Who opens a link only looks.
    let link = visited.link("abcdefghijklmnopqrstuvwxyz012345").await;
    for _ in 0..2 {
        let shown = visited.get(&link, "").await;
        assert!(
            shown.status == 200 && shown.body.contains("<form"),
            "{}",
            shown.body
        );
        assert_eq!(shown.header("set-cookie"), None);
    }
    let begun = visited.post(&link, "", "").await;
    assert_eq!(begun.status, 303);
    let set = begun.header("set-cookie").unwrap();
    assert!(set.starts_with("__Host-openhgs-"), "{set}");
    assert!(
        set.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax"),
        "{set}"
    );
    let cookie = begun.cookie();
    let again = visited.post(&link, "", "").await;
    assert_eq!((again.status, again.header("set-cookie")), (403, None));
    assert!(again.body.contains("used already"));

    let overview = visited.get("/?notice=signed-in", &cookie).await;
    assert!(
        overview.body.contains("You are signed in."),
        "{}",
        overview.body
    );
    assert!(
        overview.body.contains("The first step"),
        "{}",
        overview.body
    );
    for path in ["/hosts", "/settings", "/console/sessions", "/add-host"] {
        let page = visited.get(path, &cookie).await;
        assert_eq!(page.status, 200, "{path}: {}", page.body);
    }

    // A form that is refused comes back with what was entered.
    let refused = visited
        .post("/add-host", &cookie, "name=a%22%3E%3Cb&credential=none")
        .await;
    assert_eq!(refused.status, 400);
    assert!(refused.body.contains("Nothing was changed"));
    assert!(
        refused.body.contains("value=\"a&quot;&gt;&lt;b\""),
        "{}",
        refused.body
    );
    let key = Host::numbered(0)
        .public_pem()
        .replace('+', "%2B")
        .replace('\n', "%0D%0A");
    let added = visited
        .post(
            "/add-host",
            &cookie,
            &format!("name=node-1&credential={key}"),
        )
        .await;
    assert_eq!(
        added.header("location"),
        Some("/hosts/node-1?notice=host-added"),
        "{}",
        added.body
    );
    let revoked = visited
        .post("/hosts/node-1/revoke", &cookie, "reason=stolen")
        .await;
    assert_eq!(revoked.status, 303);
    let page = visited
        .get("/hosts/node-1?notice=host-revoked", &cookie)
        .await;
    assert!(page.body.contains("The host was revoked.") && page.body.contains("stolen"));
    let session = &visited.sessions().await[0];
    let records = visited.site.audit(AuditQuery::default()).await;
    assert_eq!(
        records[0].actor,
        format!("console {}, {}", session.session, session.user)
    );

    // The log has it, and so has what is downloaded of the log.
    let path = format!("/audit/{}", records[0].sequence);
    let search = "host=node-1&action=revoke-host&outcome=done&since=2000-01-01&until=&lineage=";
    let list = visited.get(&format!("/audit?{search}"), &cookie).await;
    assert!(
        list.body.contains(&format!("href=\"{path}\"")),
        "{}",
        list.body
    );
    let record = visited.get(&path, &cookie).await;
    assert!(record.body.contains("stolen"), "{}", record.body);
    let file = visited
        .get(&format!("/audit-records?{search}"), &cookie)
        .await;
    assert_eq!(
        file.header("content-disposition"),
        Some("attachment; filename=\"audit-records.jsonl\"")
    );
    let line: AuditRecord = serde_json::from_str(&file.body).unwrap();
    assert_eq!(line, records[0]);
    let mistyped = visited.get("/audit?action=steal-host", &cookie).await;
    assert!(
        mistyped.status == 200 && mistyped.body.contains("there is no action steal-host"),
        "{}",
        mistyped.body
    );
    assert_eq!(visited.get("/audit/999999", &cookie).await.status, 404);
}

#[tokio::test]
async fn sessions_end_and_nothing_stays_behind() {
    let visited = Visited::start().await;
    let (first, second) = (
        visited.signed_in("first-secret").await,
        visited.signed_in("second-secret").await,
    );
    assert_ne!(first, second);
    let out = visited.post("/sign-out", &first, "").await;
    assert_eq!(out.header("location"), Some("/sign-in?notice=signed-out"));
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    for path in ["/", "/hosts"] {
        let after = visited.get(path, &first).await;
        assert_eq!(
            (after.status, after.header("location")),
            (303, Some("/sign-in?notice=session-ended"))
        );
    }
    // A stream ends with its session.
    assert_eq!(visited.get("/events", &first).await.status, 403);
    assert_eq!(visited.get("/events", "").await.status, 403);
    let browser = visited.browser();
    let mut stream = browser.connect().await;
    let host = browser.host();
    let request = format!("GET /events HTTP/1.1\r\nHost: {host}\r\nCookie: {second}\r\n\r\n");
    stream.send(&request).await;
    stream.until("retry: 3000").await;
    let session = visited.sessions().await.remove(0).session.parse().unwrap();
    visited
        .site
        .admin(move |client| client.revoke_console_session(&session))
        .await
        .unwrap();
    stream.until("\r\n0\r\n\r\n").await;
    assert_eq!(visited.get("/", &second).await.status, 303);
    assert!(visited.sessions().await.is_empty());

    let third = visited.signed_in("third-secret").await;
    visited.site.clock.advance(Seconds::from_minutes(31));
    assert_eq!(visited.get("/", &third).await.status, 303);
    let link = visited.link("late-secret").await;
    visited.site.clock.advance(Seconds::new(60));
    assert_eq!(visited.post(&link, "", "").await.status, 403);
}

/// What happens while a page is on its way to the browser is told by the stream that the page opens.
#[tokio::test]
async fn a_stream_tells_of_what_its_page_has_missed() {
    let visited = Visited::start().await;
    let cookie = visited.signed_in("secret").await;
    let page = visited.get("/", &cookie).await.body;
    let events = page.split("data-events=\"").nth(1).unwrap();
    let events = events.split('"').next().unwrap();
    let browser = visited.browser();
    let opened = async || {
        let mut stream = browser.connect().await;
        let host = browser.host();
        let request = format!("GET {events} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n");
        stream.send(&request).await;
        stream
    };
    let mut before = opened().await;
    before.until("retry: 3000").await;
    visited.site.register(&Host::numbered(0), "node-1").await;
    before.until("event: change").await;
    opened().await.until("data: earlier").await;
    let other = visited.get("/events?since=x", &cookie).await;
    assert_eq!(other.status, 400);
}

#[tokio::test]
async fn other_pages_and_other_names_are_refused() {
    let visited = Visited::start().await;
    let cookie = visited.signed_in("secret").await;
    let browser = visited.browser();
    let (host, own) = (browser.host(), format!("https://{}", browser.host()));
    let add = async |origin: Option<&str>, site: Option<&str>| {
        let mut fields = vec![("Host", &host[..]), ("Cookie", &cookie[..])];
        fields.extend(origin.map(|origin| ("Origin", origin)));
        fields.extend(site.map(|site| ("Sec-Fetch-Site", site)));
        browser.send("POST", "/sign-out", &fields, "").await.status
    };
    assert_eq!(add(None, Some("same-origin")).await, 403);
    assert_eq!(
        add(Some("https://evil.example"), Some("cross-site")).await,
        403
    );
    assert_eq!(add(Some("null"), Some("same-origin")).await, 403);
    assert_eq!(add(Some(&own), Some("same-site")).await, 403);
    assert_eq!(add(Some(&own), None).await, 403);
    let misdirected = [("Host", "evil.example"), ("Cookie", &cookie[..])];
    assert_eq!(browser.send("GET", "/", &misdirected, "").await.status, 421);
    assert_eq!(
        visited.get("/", &cookie).await.status,
        200,
        "the session goes on"
    );

    // The console's cookie opens nothing else, and hosts' listeners have no console.
    let api = visited.site.get("/hosts").await;
    assert_eq!(api.status, 404);
    assert_eq!(visited.get("/v1/hosts", &cookie).await.status, 404);
    let asset = visited.get("/sign-in", "").await.body;
    let style = asset
        .split("href=\"")
        .find_map(|part| part.strip_prefix("/assets/style"))
        .unwrap();
    let style = format!("/assets/style{}", style.split('"').next().unwrap());
    let style = visited.get(&style, "").await;
    assert_eq!(
        style.header("content-type"),
        Some("text/css; charset=utf-8")
    );
    let other = visited.post("/hosts", &cookie, "").await;
    assert_eq!(
        (other.status, other.header("allow")),
        (405, Some("GET, HEAD"))
    );
}

/// A baseline whose loader may be another one, too, so that one can be retired.
fn with_a_second_loader(baseline: &str) -> String {
    let mut baseline: serde_json::Value = serde_json::from_str(baseline).unwrap();
    let components = baseline["components"].as_array_mut().unwrap();
    let loader = components.iter_mut().find(|one| one["name"] == "loader");
    let alternatives = loader.unwrap()["alternatives"].as_array_mut().unwrap();
    let mut second = alternatives[0].clone();
    second["name"] = "another".into();
    second["events"][0]["events"][0]["digest"] = "00".repeat(32).into();
    alternatives.push(second);
    baseline.to_string()
}

/// What is pasted is tried first, and done once that is confirmed; each act says what it did.
#[tokio::test]
async fn documents_and_policies_are_changed_with_their_effect_in_sight() {
    let visited = Visited::start().await;
    let mode = SetServer {
        attestation_mode: Some("tpm".to_owned()),
        ..SetServer::default()
    };
    let server = visited.site.admin(move |client| client.set_server(&mode));
    server.await.unwrap();
    let cookie = visited.signed_in("secret").await;
    let post = async |path: &str, form: &[(&str, &str)]| visited.submit(path, &cookie, form).await;
    let empty = visited.get("/policies", &cookie).await.body;
    assert!(empty.contains("There is no baseline yet"), "{empty}");
    let waiting = visited.get("/waiting", &cookie).await.body;
    assert!(
        waiting.contains("Nothing waits for a decision"),
        "{waiting}"
    );

    let text = with_a_second_loader(&hgs_testkit::block_of_page("baseline.md", "json"));
    let form = [
        ("name", "model-a"),
        ("kind", "baseline"),
        ("text", &text[..]),
    ];
    let wrong = post("/add-policy-document", &[("text", "{}"), form[0], form[1]]).await;
    assert!(
        wrong
            .body
            .contains("Nothing was changed: </strong>model-a: the document is not one of kind"),
        "{}",
        wrong.body
    );
    let tried = post("/add-policy-document", &form).await;
    assert_eq!(tried.status, 409);
    assert!(
        tried.body.contains("look at what it would do"),
        "{}",
        tried.body
    );
    assert_eq!(
        visited
            .get("/policy-documents/model-a", &cookie)
            .await
            .status,
        404
    );
    let confirmed = [&form[..], &[("confirmed", "yes")]].concat();
    let added = post("/add-policy-document", &confirmed).await;
    let place = Some("/policy-documents/model-a?notice=document-added");
    assert_eq!(added.header("location"), place, "{}", added.body);

    // What a page has shown is what is changed, or nothing is.
    let retire = "/policy-documents/model-a/retire?component=loader&alternative=grub-efi-amd64-signed+1%2B2.06%2B13%2Bdeb12u2";
    let asked = visited.get(retire, &cookie).await.body;
    assert!(asked.contains("name=\"digest\""), "{asked}");
    let stale = post(retire, &[("digest", &"00".repeat(32))]).await;
    assert_eq!(stale.status, 409, "{}", stale.body);
    let digest = asked.split("name=\"digest\" value=\"").nth(1).unwrap();
    let digest = digest.split('"').next().unwrap();
    let retired = post(retire, &[("digest", digest)]).await;
    assert_eq!(retired.status, 303, "{}", retired.body);
    let page = visited.get("/policy-documents/model-a", &cookie).await.body;
    assert!(page.contains(">retired</span>"), "{page}");
    assert_eq!(visited.get(retire, &cookie).await.status, 404);

    // The only baseline is not taken away from hosts.
    let refused = post("/policies/model-a/disable", &[]).await;
    assert!(
        refused.body.contains("no baseline is enabled"),
        "{}",
        refused.body
    );
    let second = [
        ("name", "model-b"),
        confirmed[1],
        confirmed[2],
        confirmed[3],
    ];
    let added = post("/add-policy-document", &second).await;
    assert_eq!(added.status, 303, "{}", added.body);
    let disable = "/policies/model-a/disable";
    let asked = visited.get(disable, &cookie).await.body;
    assert!(
        asked.contains("No host that it concerns has attested yet"),
        "{asked}"
    );
    let disabled = post(disable, &[]).await;
    let place = Some("/policies?notice=policy-disabled");
    assert_eq!(disabled.header("location"), place, "{}", disabled.body);
    let page = visited.get("/policies", &cookie).await.body;
    assert!(page.contains("/policies/model-a/enable"), "{page}");
    let removed = post("/policy-documents/model-a/remove", &[]).await;
    assert_eq!(removed.status, 303, "{}", removed.body);
    let records = visited.site.audit(AuditQuery::default()).await;
    assert!(
        records[..4]
            .iter()
            .all(|record| record.actor.starts_with("console ")),
        "{records:?}"
    );
}

/// The tests' own user administers; what others may do is decided by the same permissions.
#[tokio::test]
async fn without_a_console_there_is_no_link() {
    let site = Site::start().await;
    let request = NewConsoleLink {
        digest: "00".repeat(32),
    };
    let refused: AdminError = site
        .admin(move |client| client.new_console_link(&request))
        .await
        .unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert!(refused.remedy.unwrap().contains("[listen.console]"));
}

/// A VM is one machine through its starts. One that is started from an older protector was rolled back or copied, which its
/// page says.
#[tokio::test]
async fn machines_are_shown_with_their_lineage_and_rollbacks() {
    let visited = Visited::start().await;
    let site = &visited.site;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let certificate = host.healthy(site).await;
    let (first, _) = site.protector().await;
    let cookie = visited.signed_in("secret").await;
    let empty = visited.get("/protectors", &cookie).await;
    assert!(
        empty.body.contains("No keys were released yet"),
        "{}",
        empty.body
    );

    let second = host.power_on(site, &first, &certificate, V2).await.egress;
    host.power_on(site, &second, &certificate, V2).await;
    let found = site
        .admin(|client| client.protectors(&ProtectorQuery::default()))
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    let newest = found[0].clone();
    assert_eq!(newest.protector, second.digest().to_string());
    assert_eq!(
        (newest.stage, newest.host_name.as_deref()),
        (ProtectorStage::Head, Some("node-1"))
    );
    assert_eq!(newest.lineage.as_deref(), Some("fabric"));
    let page = format!("/protectors/{}", newest.protector);
    let list = visited.get("/protectors", &cookie).await;
    assert!(
        list.body.contains(&format!("href=\"{page}\"")),
        "{}",
        list.body
    );
    let machine = visited.get(&page, &cookie).await;
    assert!(
        machine.body.contains("No older protector came back"),
        "{}",
        machine.body
    );
    assert!(
        machine.body.contains(&first.digest().to_string()[..16]),
        "{}",
        machine.body
    );

    host.power_on(site, &first, &certificate, V2).await;
    let machine = visited.get(&page, &cookie).await;
    assert!(
        machine.body.contains("came back: 1 time."),
        "{}",
        machine.body
    );
    let list = visited.get("/protectors", &cookie).await;
    assert!(
        list.body.contains("Rolled back or copied of late"),
        "{}",
        list.body
    );
    let line = {
        let digest = newest.protector.parse().unwrap();
        site.admin(move |client| client.protector(&digest))
            .await
            .unwrap()
    };
    assert_eq!(line.ancestors.len(), 1);
    assert_eq!(line.issued.len(), 1);

    let of = async |host: &str, until: Option<String>| {
        let query = ProtectorQuery {
            host: Some(host.to_owned()),
            until,
            after: Some(newest.protector.clone()),
            ..ProtectorQuery::default()
        };
        site.admin(move |client| client.protectors(&query)).await
    };
    assert_eq!(of("node-1", Some(newest.last.clone())).await.unwrap(), []);
    assert_eq!(of("node-1", None).await.unwrap().len(), 1);
    assert_eq!(
        of("node-9", None).await.unwrap_err().code,
        ErrorCode::NotFound
    );
    assert_eq!(
        visited
            .get(&format!("/protectors/{}", "00".repeat(32)), &cookie)
            .await
            .status,
        404
    );

    let overview = visited.get("/", &cookie).await;
    assert!(overview.body.contains("3 releases"), "{}", overview.body);
    assert!(
        overview.body.contains("hgs state export"),
        "{}",
        overview.body
    );
    let tried = visited.post("/trace/roll", &cookie, "").await;
    assert_eq!(
        tried.header("location"),
        Some("/?notice=release-tried"),
        "{}",
        tried.body
    );
}

/// Both halves are rotated at once; the former pair is then retired, disabled, marked and removed. Each act says what it did.
#[tokio::test]
async fn pairs_are_rotated_and_former_ones_are_put_away() {
    let visited = Visited::start().await;
    let cookie = visited.signed_in("secret").await;
    let post = async |path: &str, form: &[(&str, &str)]| visited.submit(path, &cookie, form).await;
    let listed = async || {
        let all = visited
            .site
            .admin(|client| client.certificates(&DigestPageQuery::default()));
        all.await.unwrap()
    };
    let before = listed().await;
    let old = before
        .iter()
        .find(|one| one.primary && one.kind == CertificateKind::Encryption)
        .unwrap();
    let asked = visited.get("/rotate-certificates", &cookie).await.body;
    assert!(asked.contains(&old.thumbprint), "{asked}");
    let secret = [("signing_key", "pkcs11:token=x?pin-value=1234")];
    let refused = post("/rotate-certificates", &secret).await;
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(!refused.body.contains("1234"), "{}", refused.body);
    let rotated = post("/rotate-certificates", &[("label", "2027 <b>")]).await;
    let place = rotated.header("location").unwrap().to_owned();
    assert!(place.ends_with("?notice=certificates-rotated"), "{place}");
    let page = visited.get(&place, &cookie).await.body;
    assert!(
        page.contains("2027 &lt;b&gt;") && page.contains(">primary<"),
        "{page}"
    );

    let at = |act: &str| format!("/certificates/{}/{act}", old.thumbprint);
    for (act, notice) in [
        ("label", "certificate-labelled"),
        ("disable", "certificate-disabled"),
        ("enable", "certificate-enabled"),
        ("retire", "certificate-retired"),
        ("compromised", "certificate-compromised"),
    ] {
        assert_eq!(visited.get(&at(act), &cookie).await.status, 200, "{act}");
        let done = post(&at(act), &[("label", "old")]).await;
        let place = format!("/certificates/{}?notice={notice}", old.thumbprint);
        assert_eq!(done.header("location"), Some(&place[..]), "{}", done.body);
        assert_eq!(visited.get(&place, &cookie).await.status, 200, "{act}");
    }
    // Its record shuts the key out, and it can't take over again.
    let again = post(&at("head"), &[]).await;
    assert_eq!(again.status, 409, "{}", again.body);
    let needed = post(&at("remove"), &[]).await;
    assert!(
        needed.body.contains("Remove it although it is needed"),
        "{}",
        needed.body
    );
    let removed = post(&at("remove"), &[("even_if_needed", "yes")]).await;
    assert_eq!(
        removed.header("location"),
        Some("/certificates?notice=certificate-removed")
    );
    assert_eq!(listed().await.len(), before.len() + 1);
}

#[tokio::test]
async fn signers_are_believed_limited_retired_and_removed() {
    let visited = Visited::start().await;
    let cookie = visited.signed_in("secret").await;
    let post = async |path: &str, form: &[(&str, &str)]| visited.submit(path, &cookie, form).await;
    let listed = async || {
        let all = visited
            .site
            .admin(|client| client.signers(&DigestPageQuery::default()));
        all.await.unwrap()
    };
    let own = listed().await.remove(0);
    let at = |act: &str| format!("/signers/{}/{act}", own.thumbprint);
    let refused = post(&at("limits"), &[("deny_before", "2099-01-01T00:00:00Z")]).await;
    assert_eq!(refused.status, 409, "{}", refused.body);
    assert!(refused.body.contains("value=\"2099-01-01T00:00:00Z\""));
    let nothing = post(&at("limits"), &[]).await;
    assert_eq!(nothing.status, 400, "{}", nothing.body);
    let other = post("/add-signer", &[("certificate", "none"), ("hours", "0")]).await;
    assert!(
        other.body.contains("hours are a whole number"),
        "{}",
        other.body
    );
    for (act, form, notice) in [
        ("limits", &[("deny", "0102 03")][..], "signer-limited"),
        ("retire", &[], "signer-retired"),
        ("remove", &[], "signer-removed"),
    ] {
        assert_eq!(visited.get(&at(act), &cookie).await.status, 200, "{act}");
        let done = post(&at(act), form).await;
        let place = format!("/certificates?notice={notice}");
        assert_eq!(done.header("location"), Some(&place[..]), "{}", done.body);
        assert_eq!(visited.get(&place, &cookie).await.status, 200, "{act}");
    }
    assert!(
        !listed()
            .await
            .iter()
            .any(|one| one.thumbprint == own.thumbprint)
    );
    let foreign = post("/add-signer", &[("certificate", &own.pem), ("hours", "8")]).await;
    assert_eq!(foreign.status, 303, "{}", foreign.body);
    let page = visited.get("/certificates", &cookie).await.body;
    assert!(page.contains("valid for more than 8 hours"), "{page}");
}

/// A tenant's pair is brought in by halves or at once, and is never primary. What is pasted by mistake is not kept.
#[tokio::test]
async fn a_tenants_pair_is_brought_in_and_what_is_missing_is_named() {
    let visited = Visited::start().await;
    let cookie = visited.signed_in("secret").await;
    let post = async |path: &str, form: &[(&str, &str)]| visited.submit(path, &cookie, form).await;
    let empty = visited.get("/tenants", &cookie).await.body;
    assert!(empty.contains("The first step"), "{empty}");
    let pasted = [
        ("tenant", "Contoso & Co"),
        ("signing_certificate", "-----BEGIN PRIVATE KEY-----MIIE"),
    ];
    let refused = post("/add-tenant", &pasted).await;
    assert_eq!(refused.status, 400);
    assert!(!refused.body.contains("MIIE"), "{}", refused.body);
    // The second half is refused: the first one stays, and is not made twice.
    let token = ("encryption_key", "pkcs11:token=nowhere;object=x");
    let half = post("/add-tenant", &[pasted[0], token]).await;
    assert_eq!(half.status, 409, "{}", half.body);
    assert!(
        half.body
            .contains("the signing certificate was added before that"),
        "{}",
        half.body
    );
    let page = visited
        .get("/tenants?tenant=Contoso+%26+Co", &cookie)
        .await
        .body;
    assert!(page.contains("Add what is missing"), "{page}");
    let added = post("/add-tenant", &pasted[..1]).await;
    let place = Some("/tenants?tenant=Contoso+%26+Co&notice=tenant-added");
    assert_eq!(added.header("location"), place, "{}", added.body);
    let again = post("/add-tenant", &pasted[..1]).await;
    assert_eq!(again.status, 409, "{}", again.body);

    let all = visited
        .site
        .admin(|client| client.certificates(&DigestPageQuery::default()));
    let all = all.await.unwrap();
    let pair: Vec<_> = all
        .iter()
        .filter(|one| one.lineage == "tenant:Contoso & Co")
        .collect();
    assert_eq!(pair.len(), 2);
    assert!(pair.iter().all(|one| one.head && !one.primary));
    let page = format!("/certificates/{}/guardian", pair[0].thumbprint);
    let document = visited.get(&page, &cookie).await.body;
    assert!(
        document.contains("hgs guardian import NAME guardian.xml --thumbprint"),
        "{document}"
    );
    let file = format!("{page}.xml");
    assert!(document.contains(&format!("href=\"{file}\"")), "{document}");
    let file = visited.get(&file, &cookie).await;
    assert_eq!(
        file.header("content-disposition"),
        Some("attachment; filename=\"guardian.xml\"")
    );
    let thumbprint = pair[0].thumbprint.parse().unwrap();
    let document = visited
        .site
        .admin(move |client| client.guardian_document(&thumbprint));
    assert_eq!(file.body, document.await.unwrap().document);
    let rotated = post("/rotate-certificates?tenant=Contoso+%26+Co", &[]).await;
    assert_eq!(rotated.status, 303, "{}", rotated.body);
}
