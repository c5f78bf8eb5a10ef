//! What holds for the whole API: one route for each method and the reverse, roles, no room for secrets.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hgs_custody::SoftwareKey;
use hgs_trace::guardian::{Inside, SyntheticRoll};
use hyper::{HeaderMap, Method, StatusCode};
use tokio::sync::oneshot;

use super::changes::{
    AddCertificate, AddSigner, NewCertificate, SetCertificate, SetServer, SetSigner,
};
use super::routes::{Found, ROUTES, find};
use super::service::{answer, dispatch};
use super::types::{
    AddHost, AddedCertificate, AuditQuery, AuditRecord, Certificate, CertificateDetail,
    CertificateUsage, GuardianDocument, Host, HostDetail, RecordExport, RevokeHost, ServerSettings,
    Signer, Status,
};
use super::{AdminError, Administration, Client, ErrorCode};
use crate::config::{Admin, Layout};
use crate::guardian::tests::opened;
use crate::http::{Credentials, Peer, Request, RequestId, Response, Service};
use crate::roles::{Role, Roles};
use crate::{Config, Metrics, Readiness, Server, Services};

/// The source of the trait.
const TRAIT: &str = include_str!("mod.rs");
/// The source of the types.
const TYPES: &str = concat!(include_str!("types.rs"), include_str!("changes.rs"));

const A_CERTIFICATE: &str = r#"{"kind":"signing","certificate":""}"#;
const A_NEW_CERTIFICATE: &str = r#"{"kind":"signing"}"#;
const A_SIGNER: &str = r#"{"certificate":""}"#;

/// Remembers which method was called, and answers nothing.
#[derive(Default)]
struct Recorder(RefCell<Vec<&'static str>>);

impl Recorder {
    fn note<T>(&self, method: &'static str) -> Result<T, AdminError> {
        self.0.borrow_mut().push(method);
        Err(AdminError::new(ErrorCode::Conflict, method))
    }
}

impl Administration for Recorder {
    fn status(&self) -> Result<Status, AdminError> {
        self.note("status")
    }
    fn server(&self) -> Result<ServerSettings, AdminError> {
        self.note("server")
    }
    fn set_server(&self, _: &SetServer) -> Result<ServerSettings, AdminError> {
        self.note("set_server")
    }
    fn certificates(&self) -> Result<Vec<Certificate>, AdminError> {
        self.note("certificates")
    }
    fn certificate(&self, _: &str) -> Result<CertificateDetail, AdminError> {
        self.note("certificate")
    }
    fn certificate_usage(&self) -> Result<Vec<CertificateUsage>, AdminError> {
        self.note("certificate_usage")
    }
    fn guardian_document(&self, _: &str) -> Result<GuardianDocument, AdminError> {
        self.note("guardian_document")
    }
    fn add_certificate(
        &self,
        _: &AddCertificate,
        _: Option<Arc<SoftwareKey>>,
    ) -> Result<AddedCertificate, AdminError> {
        self.note("add_certificate")
    }
    fn new_certificate(&self, _: &NewCertificate) -> Result<AddedCertificate, AdminError> {
        self.note("new_certificate")
    }
    fn set_certificate(&self, _: &str, _: &SetCertificate) -> Result<Certificate, AdminError> {
        self.note("set_certificate")
    }
    fn enable_certificate(&self, _: &str) -> Result<Certificate, AdminError> {
        self.note("enable_certificate")
    }
    fn disable_certificate(&self, _: &str) -> Result<Certificate, AdminError> {
        self.note("disable_certificate")
    }
    fn retire_certificate(&self, _: &str) -> Result<Certificate, AdminError> {
        self.note("retire_certificate")
    }
    fn remove_certificate(&self, _: &str, _: bool) -> Result<Certificate, AdminError> {
        self.note("remove_certificate")
    }
    fn signers(&self) -> Result<Vec<Signer>, AdminError> {
        self.note("signers")
    }
    fn add_signer(&self, _: &AddSigner) -> Result<Signer, AdminError> {
        self.note("add_signer")
    }
    fn set_signer(&self, _: &str, _: &SetSigner) -> Result<Vec<Signer>, AdminError> {
        self.note("set_signer")
    }
    fn remove_signer(&self, _: &str) -> Result<Signer, AdminError> {
        self.note("remove_signer")
    }
    fn hosts(&self) -> Result<Vec<Host>, AdminError> {
        self.note("hosts")
    }
    fn host(&self, _: &str) -> Result<HostDetail, AdminError> {
        self.note("host")
    }
    fn add_host(&self, _: &AddHost) -> Result<Host, AdminError> {
        self.note("add_host")
    }
    fn revoke_host(&self, _: &str, _: &RevokeHost) -> Result<Host, AdminError> {
        self.note("revoke_host")
    }
    fn remove_host(&self, _: &str) -> Result<Host, AdminError> {
        self.note("remove_host")
    }
    fn audit(&self, _: &AuditQuery) -> Result<Vec<AuditRecord>, AdminError> {
        self.note("audit")
    }
    fn audit_record(&self, _: u64) -> Result<AuditRecord, AdminError> {
        self.note("audit_record")
    }
    fn trace(&self) -> Result<Inside, AdminError> {
        self.note("trace")
    }
    fn synthetic_roll(&self) -> Result<SyntheticRoll, AdminError> {
        self.note("synthetic_roll")
    }
    fn record_export(&self, _: &RecordExport) -> Result<AuditRecord, AdminError> {
        self.note("record_export")
    }
}

/// Asks for everything; returns what each answer says.
fn ask_for_everything(administration: &impl Administration) -> Vec<String> {
    fn message<T>(answer: Result<T, AdminError>) -> String {
        answer.map(drop).unwrap_err().message
    }
    let host = AddHost {
        name: "node-1".to_owned(),
        host_key: String::new(),
    };
    let revocation = RevokeHost {
        reason: String::new(),
    };
    let export = RecordExport {
        file: String::new(),
        octets: 0,
        generation: 0,
        recipients: Vec::new(),
    };
    let one = &"0".repeat(64);
    let added: AddCertificate = serde_json::from_str(A_CERTIFICATE).unwrap();
    let made: NewCertificate = serde_json::from_str(A_NEW_CERTIFICATE).unwrap();
    let signer: AddSigner = serde_json::from_str(A_SIGNER).unwrap();
    vec![
        message(administration.status()),
        message(administration.server()),
        message(administration.set_server(&SetServer::default())),
        message(administration.certificates()),
        message(administration.certificate(one)),
        message(administration.certificate_usage()),
        message(administration.guardian_document(one)),
        message(administration.add_certificate(&added, None)),
        message(administration.new_certificate(&made)),
        message(administration.set_certificate(one, &SetCertificate::default())),
        message(administration.enable_certificate(one)),
        message(administration.disable_certificate(one)),
        message(administration.retire_certificate(one)),
        message(administration.remove_certificate(one, true)),
        message(administration.signers()),
        message(administration.add_signer(&signer)),
        message(administration.set_signer("all", &SetSigner::default())),
        message(administration.remove_signer(one)),
        message(administration.hosts()),
        message(administration.host("node-1")),
        message(administration.add_host(&host)),
        message(administration.revoke_host("node-1", &revocation)),
        message(administration.remove_host("node-1")),
        message(administration.audit(&AuditQuery::default())),
        message(administration.audit_record(1)),
        message(administration.trace()),
        message(administration.synthetic_roll()),
        message(administration.record_export(&export)),
    ]
}

/// The names of the trait's methods, as they stand in its source.
fn methods() -> Vec<&'static str> {
    let (_, body) = TRAIT.split_once("pub trait Administration {").unwrap();
    let lines = body.lines().filter_map(|line| line.strip_prefix("    fn "));
    lines.map(|line| line.split('(').next().unwrap()).collect()
}

fn request(method: Method, path: &str, body: &'static str, peer: Peer) -> Request {
    Request {
        id: RequestId {
            run: 0,
            sequence: 1,
        },
        method,
        path: path.to_owned(),
        query: None,
        headers: HeaderMap::new(),
        body: Bytes::from_static(body.as_bytes()),
        peer,
    }
}

fn process(uid: u32, gid: u32) -> Peer {
    Peer::Unix(Credentials {
        uid,
        gid,
        pid: None,
    })
}

#[test]
fn routes_and_methods_are_one_to_one_at_the_server() {
    let names: Vec<_> = ROUTES.iter().map(|route| route.name).collect();
    assert_eq!(names, methods(), "each method has its route, in this order");
    for route in ROUTES {
        let recorder = Recorder::default();
        let body = match route.name {
            "add_host" => r#"{"name":"a","host_key":"b"}"#,
            "revoke_host" => r#"{"reason":"a"}"#,
            "record_export" => r#"{"file":"a","octets":1,"generation":1,"recipients":[]}"#,
            "add_certificate" => A_CERTIFICATE,
            "new_certificate" => A_NEW_CERTIFICATE,
            "add_signer" => A_SIGNER,
            "set_certificate" | "set_server" | "set_signer" => "{}",
            _ => "",
        };
        let item = "1";
        let request = request(
            route.method.clone(),
            &route.path_for(item),
            body,
            process(0, 0),
        );
        dispatch(&recorder, route.operation, item, &request).unwrap_err();
        assert_eq!(recorder.0.into_inner(), [route.name]);
    }
}

/// `docs/admin-api.md` is true: it has every route with its role, and every code with its status.
#[test]
fn the_page_lists_every_route_and_every_error() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/admin-api.md");
    let page = std::fs::read_to_string(page).unwrap();
    for route in ROUTES {
        let role = match route.role {
            Role::Administrator => "administrator",
            Role::Reviewer => "reviewer",
        };
        let row = format!("| `{} {}` | {role} |", route.method, route.path);
        assert!(page.contains(&row), "{row}");
    }
    assert_eq!(page.matches(" /v1/").count(), ROUTES.len());
    for code in [
        ErrorCode::InvalidRequest,
        ErrorCode::Forbidden,
        ErrorCode::NotFound,
        ErrorCode::MethodNotAllowed,
        ErrorCode::Conflict,
        ErrorCode::Internal,
        ErrorCode::Unavailable,
    ] {
        let name = serde_json::to_value(code).unwrap();
        let row = format!(
            "| {} | `{}` |",
            code.status().as_u16(),
            name.as_str().unwrap()
        );
        assert!(page.contains(&row), "{row}");
    }
}

/// Answers every request with the name of the route that it was for.
struct NameOfRoute;

impl Service for NameOfRoute {
    fn handle(&self, request: Request) -> BoxFuture<'_, Response> {
        let name = match find(&request.method, &request.path) {
            Found::Route(route, _) => route.name,
            _ => "none",
        };
        let error = serde_json::to_vec(&AdminError::new(ErrorCode::Conflict, name)).unwrap();
        Box::pin(async { Response::new(StatusCode::CONFLICT, "application/json", error) })
    }

    fn route(&self, _: &Method, _: &str) -> &'static str {
        "any"
    }
}

#[tokio::test]
async fn routes_and_methods_are_one_to_one_at_the_client() {
    let recorder = Recorder::default();
    assert_eq!(ask_for_everything(&recorder), methods());

    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("run/admin.sock");
    let text = format!(
        "listen.http.enabled = false\nlisten.metrics.enabled = false\nlisten.admin.socket = \"{}\"",
        socket.display()
    );
    let config = Config::parse(&text, "test.toml".as_ref(), Layout::system()).unwrap();
    let services = Services {
        protocol: Arc::new(NameOfRoute),
        admin: Arc::new(NameOfRoute),
        readiness: Readiness::always(),
        metrics: Metrics::new(),
    };
    let server = Server::bind(&config, services).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async { drop(stopped.await) }));
    let client = Client::new(socket);
    let asked = tokio::task::spawn_blocking(move || ask_for_everything(&client)).await;
    assert_eq!(asked.unwrap(), methods());
    drop(stop);
    let _ = running.await.unwrap();
}

/// Debian's static groups: 1 is `daemon`, 2 is `bin`.
fn roles() -> Roles {
    Roles::new(&Admin {
        administrators_group: Some("daemon".to_owned()),
        reviewers_group: Some("bin".to_owned()),
        ..Admin::default()
    })
}

/// A uid that no user has, so that only the process's own group counts.
const NOBODY_KNOWN: u32 = 3_000_000_000;

/// attacks.md A6: every route asks who is there, and what they may.
#[test]
fn a6_every_route_asks_for_its_role() {
    let (_folder, guardian) = opened();
    // Operations are dispatched on threads of a runtime.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _entered = runtime.enter();
    let (administrator, reviewer) = (process(NOBODY_KNOWN, 1), process(NOBODY_KNOWN, 2));
    let (stranger, network) = (
        process(NOBODY_KNOWN, 54_321),
        Peer::Tcp("127.0.0.1:1".parse().unwrap()),
    );
    for route in ROUTES {
        let status = |peer| {
            let path = route.path_for("0");
            let request = request(route.method.clone(), &path, "", peer);
            answer(Arc::clone(&guardian), &roles(), &request).status
        };
        let name = route.name;
        assert_ne!(status(administrator), StatusCode::FORBIDDEN, "{name}");
        let reviewed = status(reviewer) != StatusCode::FORBIDDEN;
        assert_eq!(reviewed, route.role == Role::Reviewer, "{name}");
        assert_eq!(status(stranger), StatusCode::FORBIDDEN, "{name}");
        assert_eq!(status(network), StatusCode::FORBIDDEN, "{name}");
    }
}

/// attacks.md K12: what is refused to somebody has not happened.
#[test]
fn k12_a_reviewer_changes_nothing() {
    let (_folder, guardian) = opened();
    let generation = guardian.state().generation();
    let body = r#"{"name":"node-1","host_key":"AAAA"}"#;
    let request = request(Method::POST, "/v1/hosts", body, process(NOBODY_KNOWN, 2));
    let refused = answer(Arc::clone(&guardian), &roles(), &request);
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert_eq!(guardian.state().generation(), generation);
}

/// attacks.md K10: where the audit log goes is not the API's business; it is in the store, and only read from here.
#[test]
fn k10_the_audit_log_is_only_read() {
    let of_audit: Vec<_> = ROUTES
        .iter()
        .filter(|route| route.path.contains("audit") || route.name.contains("audit"))
        .collect();
    assert_eq!(of_audit.len(), 2);
    assert!(of_audit.iter().all(|route| route.method == Method::GET));
}

#[test]
fn a_path_with_other_methods_names_them_and_one_that_is_none_is_not_found() {
    let (_folder, guardian) = opened();
    let ask = |method, path| {
        let request = request(method, path, "", process(0, 0));
        answer(Arc::clone(&guardian), &roles(), &request)
    };
    let refused = ask(Method::PUT, "/v1/hosts");
    assert_eq!(refused.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(refused.headers["allow"], "GET, POST");
    assert_eq!(ask(Method::GET, "/v1/keys").status, StatusCode::NOT_FOUND);
    assert_eq!(ask(Method::GET, "/v2/status").status, StatusCode::NOT_FOUND);
}

/// The types of every field of every answer. None of them can hold a secret: those have a type of their own, which does
/// not serialise. (`Value` holds records of the state as the audit log shows them; `tests/secrets.rs` looks at those.)
#[test]
fn no_type_of_the_api_has_room_for_a_secret() {
    let plain = ["String", "bool", "u32", "u64", "usize", "serde_json::Value"];
    let ours: BTreeSet<&str> = TYPES
        .lines()
        .filter_map(|line| line.strip_prefix("pub struct ")?.split(' ').next())
        .collect();
    let mut fields = 0;
    for line in TYPES.lines() {
        let Some((name, kind)) = line
            .strip_prefix("    pub ")
            .and_then(|line| line.split_once(": "))
        else {
            continue;
        };
        let kind = kind.trim_end_matches(',');
        let inner = |kind: &str, outer: &str| {
            Some(
                kind.strip_prefix(outer)?
                    .strip_prefix('<')?
                    .strip_suffix('>')?
                    .to_owned(),
            )
        };
        let kind = inner(kind, "Option")
            .or_else(|| inner(kind, "Vec"))
            .unwrap_or_else(|| kind.to_owned());
        assert!(
            plain.contains(&&*kind) || ours.contains(&*kind),
            "{name}: {kind}"
        );
        for word in [
            "secret",
            "private",
            "passphrase",
            "password",
            "pin",
            "sealed",
            "pkcs8",
        ] {
            assert!(!name.split('_').any(|part| part == word), "{name}");
        }
        fields += 1;
    }
    assert!(fields > 80, "the source was read: {fields}");
}

/// If a type of secrets could be serialised, both implementations would apply and this would not compile.
#[test]
fn types_of_secrets_do_not_serialise() {
    trait AmbiguousIfSerialisable<Marker> {
        fn holds() {}
    }
    impl<T: ?Sized> AmbiguousIfSerialisable<()> for T {}
    impl<T: ?Sized + serde::Serialize> AmbiguousIfSerialisable<u8> for T {}

    <hgs_crypto::SecretBytes as AmbiguousIfSerialisable<_>>::holds();
    <SoftwareKey as AmbiguousIfSerialisable<_>>::holds();
    <hgs_custody::seal::MasterKey as AmbiguousIfSerialisable<_>>::holds();
    <hgs_protector::TransportKey as AmbiguousIfSerialisable<_>>::holds();
}
