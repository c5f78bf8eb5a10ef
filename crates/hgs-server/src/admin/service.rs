//! The service behind `[listen.admin]` and `[listen.api]`: from a request to the operation that it is for, and back.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use hgs_admin::{AdminError, Answer, Call, Caller, ErrorCode, Identity, OPERATIONS, RouteMatch};
use hgs_store::MAX_DOCUMENT_OCTETS;
use hyper::header::{ALLOW, CACHE_CONTROL, HeaderValue};
use hyper::{Method, StatusCode};
use nix::unistd::{Uid, User};
use tokio::task::spawn_blocking;
use tracing::{Span, error, info};

use super::AdminParts;
use super::handler::AdminHandler;
use crate::config;
use crate::guardian::Follower;
use crate::http::{Credentials, Peer, Request, Response, Service};
use crate::roles::Roles;

const JSON: &str = "application/json; charset=utf-8";

/// The service behind `[listen.admin]` and `[listen.api]`.
pub(crate) struct AdminService {
    parts: Arc<AdminParts>,
    roles: Arc<Roles>,
}

impl AdminService {
    pub(crate) fn new(parts: Arc<AdminParts>, settings: &config::Admin) -> Self {
        Self {
            parts,
            roles: Arc::new(Roles::new(settings)),
        }
    }
}

impl Service for AdminService {
    fn handle(&self, request: Request) -> BoxFuture<'_, Response> {
        let (parts, roles) = (Arc::clone(&self.parts), Arc::clone(&self.roles));
        Box::pin(async move {
            let span = Span::current();
            // Roles come from databases that may be on the network, and changes wait for the disk.
            let work = spawn_blocking(move || {
                let response = span.in_scope(|| answer(&parts, &roles, &request));
                hgs_admin::wipe(request.body);
                response
            });
            match work.await {
                Ok(response) => response,
                Err(failure) => std::panic::resume_unwind(failure.into_panic()),
            }
        })
    }

    fn route(&self, method: &Method, path: &str) -> &'static str {
        match hgs_admin::find(method, path) {
            RouteMatch::Operation(operation, _) => operation.name,
            RouteMatch::OtherMethods(_) | RouteMatch::Nothing => "unknown",
        }
    }

    /// Whoever goes away gives the place of its stream of events back at once.
    fn allows_half_close(&self) -> bool {
        false
    }

    /// Documents that measurements are compared with. Who may connect is few.
    fn large_body(&self, path: &str) -> Option<usize> {
        path.starts_with(OPERATIONS.policy_documents.path)
            .then_some(2 * MAX_DOCUMENT_OCTETS)
    }

    fn admits_large_body(&self, _: &str, _: &[u8]) -> bool {
        true
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

pub(super) fn answer(parts: &AdminParts, roles: &Roles, request: &Request) -> Response {
    let (operation, segment) = match hgs_admin::find(&request.method, &request.path) {
        RouteMatch::Operation(operation, segment) => (operation, segment),
        RouteMatch::OtherMethods(methods) => return other_methods(&methods),
        RouteMatch::Nothing => {
            return failed(&AdminError::new(
                ErrorCode::NotFound,
                "there is no such path",
            ));
        }
    };
    let call = Call {
        segment,
        query: request.query.as_deref().unwrap_or_default(),
        body: &request.body,
        last_event_id: request
            .headers
            .get("last-event-id")
            .map(|value| value.to_str().unwrap_or("?")),
        may_have_key: matches!(request.peer, Peer::Unix(_)),
    };
    let answer = caller(roles, &request.peer).and_then(|caller| {
        let actor = caller.identity.to_string();
        if operation.permission.changes_state() {
            info!(
                actor,
                operation = operation.name,
                item = segment,
                "administration"
            );
        }
        let follower = || follower(roles, request.peer.clone(), &caller);
        let handler = AdminHandler {
            parts,
            caller: &caller,
            actor: actor.clone(),
            request: request.id,
            follower: &follower,
        };
        operation
            .answer(&caller, &handler, &call)
            .inspect_err(|error| {
                if error.code == ErrorCode::Forbidden {
                    info!(
                        actor,
                        operation = operation.name,
                        "administration was refused"
                    );
                }
            })
    });
    match answer {
        Ok(Answer::Json(body)) => not_stored(Response::new(StatusCode::OK, JSON, body)),
        Ok(Answer::Events(events)) => {
            // A message of the server's own is no error.
            let octets = events.filter_map(async |message| Some(message.ok()?.to_octets()));
            not_stored(Response::stream("text/event-stream", octets))
        }
        Err(error) => failed(&error),
    }
}

fn not_stored(response: Response) -> Response {
    response.with_header(CACHE_CONTROL, HeaderValue::from_static("no-store"))
}

/// `caller` as one who follows events, as long as its connection lasts and its roles permit it.
fn follower(roles: &Roles, peer: Peer, caller: &Caller) -> Follower {
    let (roles, again) = (roles.clone(), peer.clone());
    Follower {
        caller: caller.clone(),
        look_again: Arc::new(move || self::caller(&roles, &again)),
        ended: Box::pin(async move { peer.ended().await }),
    }
}

/// Who asks, and what that caller may do.
fn caller(roles: &Roles, peer: &Peer) -> Result<Caller, AdminError> {
    let credentials = match peer {
        Peer::Unix(credentials) => *credentials,
        Peer::Client(client) => return client.caller(),
        Peer::Tcp(_) | Peer::Node(_) => {
            let message = "this is no listener for administrators";
            return Err(AdminError::new(ErrorCode::Forbidden, message));
        }
    };
    let roles = roles.of(credentials).map_err(|failure| {
        error!(%failure, "the roles of a caller can't be looked up");
        AdminError::new(ErrorCode::Unavailable, failure)
    })?;
    Ok(Caller {
        identity: identity(credentials),
        permissions: roles.into_iter().collect(),
    })
}

fn identity(Credentials { uid, .. }: Credentials) -> Identity {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    Identity::Process {
        uid,
        user: user.map(|user| user.name),
    }
}

fn json(error: &AdminError) -> Vec<u8> {
    serde_json::to_vec(error).expect("errors have text for keys and are written to memory")
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
