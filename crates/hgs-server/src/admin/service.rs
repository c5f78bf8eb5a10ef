//! The routes of the admin socket: who asks, may they, and then the desk.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use hyper::header::{ALLOW, CACHE_CONTROL, HeaderValue};
use hyper::{Method, StatusCode};
use nix::unistd::{Uid, User};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::spawn_blocking;
use tracing::{Span, error, info};

use super::desk::Desk;
use super::routes::{Found, Operation, Route, find};
use super::{AdminError, Administration, ErrorCode, private_key, query};
use crate::config;
use crate::guardian::Guardian;
use crate::http::{Credentials, Peer, Request, Response, Service};
use crate::roles::{Role, Roles};

const JSON: &str = "application/json; charset=utf-8";

/// The service behind `[listen.admin]`.
pub(crate) struct AdminService {
    guardian: Arc<Guardian>,
    roles: Arc<Roles>,
}

impl AdminService {
    pub(crate) fn new(guardian: Arc<Guardian>, settings: &config::Admin) -> Self {
        Self {
            guardian,
            roles: Arc::new(Roles::new(settings)),
        }
    }
}

impl Service for AdminService {
    fn handle(&self, request: Request) -> BoxFuture<'_, Response> {
        let (guardian, roles) = (Arc::clone(&self.guardian), Arc::clone(&self.roles));
        Box::pin(async move {
            let span = Span::current();
            // Roles come from databases that may be on the network, and changes wait for the disk.
            let work = spawn_blocking(move || {
                let response = span.in_scope(|| answer(guardian, &roles, &request));
                private_key::wipe(request.body);
                response
            });
            match work.await {
                Ok(response) => response,
                Err(failure) => std::panic::resume_unwind(failure.into_panic()),
            }
        })
    }

    fn route(&self, method: &Method, path: &str) -> &'static str {
        match find(method, path) {
            Found::Route(route, _) => route.name,
            Found::OtherMethods(_) | Found::Nothing => "unknown",
        }
    }

    fn rejection(&self, _: &str, status: StatusCode, line: &str) -> Response {
        let code = match status {
            StatusCode::SERVICE_UNAVAILABLE => ErrorCode::Unavailable,
            StatusCode::INTERNAL_SERVER_ERROR => ErrorCode::Internal,
            _ => ErrorCode::InvalidRequest,
        };
        Response::new(status, JSON, json(&AdminError::new(code, line)))
    }
}

pub(super) fn answer(guardian: Arc<Guardian>, roles: &Roles, request: &Request) -> Response {
    let (route, item) = match find(&request.method, &request.path) {
        Found::Route(route, item) => (route, item),
        Found::OtherMethods(methods) => return other_methods(&methods),
        Found::Nothing => {
            return failed(&AdminError::new(
                ErrorCode::NotFound,
                "there is no such path",
            ));
        }
    };
    let done = caller(roles, request.peer, route).and_then(|actor| {
        if route.role == Role::Administrator {
            info!(actor, operation = route.name, item, "administration");
        }
        dispatch(&Desk { guardian, actor }, route.operation, item, request)
    });
    match done {
        Ok(body) => Response::new(StatusCode::OK, JSON, body)
            .with_header(CACHE_CONTROL, HeaderValue::from_static("no-store")),
        Err(error) => failed(&error),
    }
}

/// Who asks, if they may ask for this.
fn caller(roles: &Roles, peer: Peer, route: &Route) -> Result<String, AdminError> {
    let Peer::Unix(credentials) = peer else {
        return Err(AdminError::new(
            ErrorCode::Forbidden,
            "this is no admin socket",
        ));
    };
    let role = roles.role_of(credentials).map_err(|failure| {
        error!(%failure, "nobody can be given a role");
        AdminError::new(ErrorCode::Unavailable, failure)
    })?;
    let actor = actor(credentials);
    match role {
        Some(role) if role.includes(route.role) => Ok(actor),
        role => {
            info!(
                actor,
                operation = route.name,
                ?role,
                "administration was refused"
            );
            let needed = match route.role {
                Role::Administrator => "an administrator",
                Role::Reviewer => "an administrator or a reviewer",
            };
            let message = format!("{actor} is not {needed} of this guardian");
            Err(AdminError::new(ErrorCode::Forbidden, message)
                .with_remedy("see [listen.admin] in the server's configuration for the groups"))
        }
    }
}

/// The user as audit records name them: the id, which the kernel vouches for, and the name it has now.
fn actor(credentials: Credentials) -> String {
    let uid = credentials.uid;
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => format!("uid {uid} ({})", user.name),
        _ => format!("uid {uid}"),
    }
}

/// Calls the one method that the operation stands for.
pub(super) fn dispatch(
    desk: &impl Administration,
    operation: Operation,
    item: &str,
    request: &Request,
) -> Result<Vec<u8>, AdminError> {
    match operation {
        Operation::Status => desk.status().map(|status| json(&status)),
        Operation::Server => desk.server().map(|server| json(&server)),
        Operation::SetServer => desk.set_server(&body(request)?).map(|server| json(&server)),
        Operation::Certificates => desk.certificates().map(|all| json(&all)),
        Operation::Certificate => desk.certificate(item).map(|one| json(&one)),
        Operation::CertificateUsage => desk.certificate_usage().map(|all| json(&all)),
        Operation::GuardianDocument => desk.guardian_document(item).map(|one| json(&one)),
        Operation::AddCertificate => {
            let (description, key) = private_key::read(&request.body)?;
            let description = serde_json::from_slice(description).map_err(AdminError::invalid)?;
            let added = desk.add_certificate(&description, key.map(Arc::new));
            added.map(|added| json(&added))
        }
        Operation::NewCertificate => {
            let added = desk.new_certificate(&body(request)?);
            added.map(|added| json(&added))
        }
        Operation::SetCertificate => {
            let changed = desk.set_certificate(item, &body(request)?);
            changed.map(|changed| json(&changed))
        }
        Operation::EnableCertificate => desk.enable_certificate(item).map(|one| json(&one)),
        Operation::DisableCertificate => desk.disable_certificate(item).map(|one| json(&one)),
        Operation::RetireCertificate => desk.retire_certificate(item).map(|one| json(&one)),
        Operation::RemoveCertificate => {
            let query = request.query.as_deref().unwrap_or_default();
            let even_if_needed = query::read_flag(query, query::EVEN_IF_NEEDED)?;
            let removed = desk.remove_certificate(item, even_if_needed);
            removed.map(|removed| json(&removed))
        }
        Operation::Signers => desk.signers().map(|all| json(&all)),
        Operation::AddSigner => desk.add_signer(&body(request)?).map(|one| json(&one)),
        Operation::SetSigner => {
            let changed = desk.set_signer(item, &body(request)?);
            changed.map(|changed| json(&changed))
        }
        Operation::RemoveSigner => desk.remove_signer(item).map(|one| json(&one)),
        Operation::Hosts => desk.hosts().map(|all| json(&all)),
        Operation::Host => desk.host(item).map(|one| json(&one)),
        Operation::AddHost => desk.add_host(&body(request)?).map(|host| json(&host)),
        Operation::RevokeHost => {
            let host = desk.revoke_host(item, &body(request)?);
            host.map(|host| json(&host))
        }
        Operation::RemoveHost => desk.remove_host(item).map(|host| json(&host)),
        Operation::Audit => {
            let query = query::read(request.query.as_deref().unwrap_or_default())?;
            desk.audit(&query).map(|records| json(&records))
        }
        Operation::AuditRecord => {
            let sequence = item
                .parse()
                .map_err(|_| AdminError::invalid("an audit record is asked for by its number"))?;
            desk.audit_record(sequence).map(|record| json(&record))
        }
        Operation::Trace => desk.trace().map(|inside| json(&inside)),
        Operation::SyntheticRoll => desk.synthetic_roll().map(|roll| json(&roll)),
        Operation::RecordExport => {
            let record = desk.record_export(&body(request)?);
            record.map(|record| json(&record))
        }
    }
}

fn body<T: DeserializeOwned>(request: &Request) -> Result<T, AdminError> {
    serde_json::from_slice(&request.body).map_err(AdminError::invalid)
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("answers have names for keys and are written to memory")
}

fn failed(error: &AdminError) -> Response {
    Response::new(error.code.status(), JSON, json(error))
}

fn other_methods(methods: &[&'static Method]) -> Response {
    let error = AdminError::new(ErrorCode::MethodNotAllowed, "the path has other methods");
    let names: Vec<&str> = methods.iter().map(|method| method.as_str()).collect();
    let response = failed(&error);
    match HeaderValue::try_from(names.join(", ")) {
        Ok(names) => response.with_header(ALLOW, names),
        Err(_) => response,
    }
}
