//! From a browser's request to the answer.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use hgs_admin::types::EventQuery;
use hgs_admin::{AdminError, Administration as _, Caller, ErrorCode, LastEventId};
use hgs_console::requests::{self, Provenance, Refusal};
use hgs_console::routes::{self, Asked, Route, Shown, Since, Target};
use hgs_console::sessions::{Cookie, Presented, SignedIn};
use hgs_console::views::sign_in::Ways;
use hgs_console::{Notice, Path, Viewer, headers, page, views};
use hgs_crypto::CryptoError;
use hgs_crypto::random::System;
use hgs_pki::Time;
use hyper::header::HOST;
use hyper::{Method, StatusCode};
use tokio::task::spawn_blocking;
use tracing::{Span, error, info};

use super::{browser, events, reply};
use crate::admin::{AdminParts, perform_for};
use crate::guardian::{Console, Follower, OpenId};
use crate::http::{Peer, PinnedClient, Request, Response, Service};

/// The service behind `[listen.console]`.
pub(crate) struct ConsoleService {
    parts: Arc<AdminParts>,
    console: Arc<Console>,
}

impl ConsoleService {
    pub(crate) fn new(parts: Arc<AdminParts>, console: Arc<Console>) -> Self {
        Self { parts, console }
    }

    pub(super) fn now(&self) -> Time {
        self.parts.clock.now()
    }
}

impl Service for ConsoleService {
    fn handle(&self, request: Request) -> BoxFuture<'_, Response> {
        let visit = Visit {
            parts: Arc::clone(&self.parts),
            console: Arc::clone(&self.console),
            now: self.now(),
            request,
        };
        Box::pin(async move {
            // The provider is asked over the network, for which no thread waits.
            if let Some(response) = visit.by_provider().await {
                return response;
            }
            let span = Span::current();
            // Roles come from databases that may be on the network, and changes wait for the disk.
            match spawn_blocking(move || span.in_scope(|| visit.answer())).await {
                Ok(response) => response,
                Err(failure) => std::panic::resume_unwind(failure.into_panic()),
            }
        })
    }

    /// The path itself is not logged: one of a link is a secret.
    fn route(&self, _: &Method, path: &str) -> &'static str {
        routes::find(path).name()
    }

    /// Whoever goes away gives the place of its stream back at once.
    fn allows_half_close(&self) -> bool {
        false
    }

    fn rejection(&self, _: &str, status: StatusCode, line: &str) -> Response {
        reply::line(status, line)
    }
}

/// One request.
pub(super) struct Visit {
    pub(super) parts: Arc<AdminParts>,
    pub(super) console: Arc<Console>,
    pub(super) now: Time,
    pub(super) request: Request,
}

impl Visit {
    /// The answer to a request for `target` that does not come from where it may, or has another method.
    pub(super) fn refused(&self, target: &Target<'_>) -> Option<Response> {
        if let Err(refusal) = requests::check(&self.provenance(), self.console.names()) {
            return Some(refuse(refusal));
        }
        let methods = target.methods();
        (!methods.contains(&self.request.method)).then(|| reply::other_methods(methods))
    }

    fn answer(&self) -> Response {
        let target = routes::find(&self.request.path);
        if let Some(refused) = self.refused(&target) {
            return refused;
        }
        match target {
            Target::Asset(asset) => reply::asset(asset),
            Target::SignIn => {
                if let Some(client) = self.client() {
                    return self.offer_sign_in(client);
                }
                let host = browser::header(&self.request, HOST).unwrap_or_default();
                let shown = views::sign_in::page(Ways {
                    provider: self.console.openid().map(OpenId::issuer),
                    certificate: self.console.certificate_sign_in(host).is_some(),
                });
                let document = page::framed_for_strangers(&shown, browser::notice(&self.request));
                reply::html(StatusCode::OK, document)
            }
            Target::Certificate => self.by_certificate(),
            Target::Link(_) | Target::OpenId | Target::OpenIdCallback
                if self.client().is_some() =>
            {
                reply::refused(StatusCode::NOT_FOUND, &views::sign_in::other_way())
            }
            Target::Link(secret) => self.link(secret),
            Target::OpenId | Target::OpenIdCallback => {
                let message = "nobody signs in here by OpenID Connect";
                let error = AdminError::new(ErrorCode::NotFound, message)
                    .with_remedy("set `issuer` and `client_id` in [listen.console.openid]");
                reply::refused(StatusCode::NOT_FOUND, &error)
            }
            other => self.of_session(&other),
        }
    }

    fn provenance(&self) -> Provenance<'_> {
        browser::provenance(&self.request)
    }

    pub(super) fn address(&self) -> String {
        match &self.request.peer {
            Peer::Tcp(address) | Peer::Node(address) => address.ip().to_string(),
            Peer::Client(client) => client.address.ip().to_string(),
            Peer::Unix(_) => self.request.peer.to_string(),
        }
    }

    /// Who has shown a certificate: everybody at the port for certificates, and nobody at the other one.
    pub(super) fn client(&self) -> Option<&PinnedClient> {
        match &self.request.peer {
            Peer::Client(client) => Some(client),
            Peer::Tcp(_) | Peer::Node(_) | Peer::Unix(_) => None,
        }
    }

    /// The name of the session's cookie at this port.
    fn cookie_name(&self) -> &str {
        match self.client() {
            Some(_) => self.console.certificate_cookie(),
            None => self.console.cookie(),
        }
    }

    /// The value of the session's cookie.
    fn cookie(&self) -> Option<&str> {
        browser::cookie(&self.request, self.cookie_name())
    }

    fn session(&self) -> Option<SignedIn> {
        let address = self.address();
        let presented = Presented {
            cookie: self.cookie()?,
            certificate: self.client().map(PinnedClient::thumbprint),
            address: &address,
            by_user: requests::is_by_user(&self.provenance()),
        };
        self.console.sessions().find(&presented, self.now)
    }

    fn link(&self, secret: &str) -> Response {
        let times = self.console.sessions().times();
        if self.request.method == Method::GET {
            let user = self.console.sessions().user_of_link(secret, self.now);
            let shown = views::sign_in::by_link(secret, user.as_deref(), times);
            return reply::to_stranger(StatusCode::OK, &shown);
        }
        let begun = {
            let (address, random) = (self.address(), &mut System::new());
            let mut sessions = self.console.sessions();
            sessions.sign_in(secret, address, self.now, random)
        };
        match begun {
            Ok(Some(begun)) => {
                let place = Path::start().with_notice(Notice::SignedIn);
                self.signed_in(begun, &place)
            }
            Ok(None) => {
                let shown = views::sign_in::by_link(secret, None, times);
                info!(peer = %self.request.peer, "a link of the console that is not valid was used");
                reply::to_stranger(StatusCode::FORBIDDEN, &shown)
            }
            Err(failure) => no_randomness(failure),
        }
    }

    /// A session has begun, in the place of the one that the browser had.
    pub(super) fn signed_in(
        &self,
        (cookie, signed_in): (Cookie, SignedIn),
        place: &Path,
    ) -> Response {
        if let Some(former) = self.session() {
            self.console.sessions().end(&former.session, self.now);
        }
        info!(
            actor = %signed_in.user.identity,
            session = signed_in.session,
            peer = %self.request.peer,
            "signed in to the console"
        );
        reply::with_session(reply::see(place), self.cookie_name(), &cookie)
    }

    fn of_session(&self, target: &Target<'_>) -> Response {
        let Some(signed_in) = self.session() else {
            return self.not_signed_in(target);
        };
        let caller = match signed_in.caller() {
            Ok(caller) => caller,
            Err(failure) if failure.code == ErrorCode::Forbidden => {
                info!(session = signed_in.session, %failure, "a session of the console has ended");
                self.console.sessions().end(&signed_in.session, self.now);
                return self.not_signed_in(target);
            }
            Err(failure) => return reply::refused(failure.code.status(), &failure),
        };
        match target {
            Target::SignOut => {
                self.console.sessions().end(&signed_in.session, self.now);
                info!(actor = %caller.identity, "signed out of the console");
                let response = reply::see(&routes::sign_in().with_notice(Notice::SignedOut));
                reply::without_session(response, self.cookie_name())
            }
            Target::Events => self.events(&signed_in, &caller),
            Target::Route(route, segment) => self.route(route, segment, &signed_in, &caller),
            Target::Asset(_)
            | Target::SignIn
            | Target::OpenId
            | Target::OpenIdCallback
            | Target::Certificate
            | Target::Link(_)
            | Target::Nothing => {
                let error = AdminError::new(ErrorCode::NotFound, "the console has no such page");
                self.framed_problem(&error, &viewer(&signed_in, &caller), None)
            }
        }
    }

    /// Browsers are led to the page that says how to sign in, the script is refused.
    fn not_signed_in(&self, target: &Target<'_>) -> Response {
        if matches!(target, Target::Events) {
            return reply::line(StatusCode::FORBIDDEN, "you are not signed in");
        }
        let had_session = self.cookie().is_some();
        let place = match had_session && !matches!(target, Target::SignOut) {
            true => routes::sign_in().with_notice(Notice::SessionEnded),
            false => routes::sign_in(),
        };
        let response = reply::see(&place);
        match had_session {
            true => reply::without_session(response, self.cookie_name()),
            false => response,
        }
    }

    fn events(&self, signed_in: &SignedIn, caller: &Caller) -> Response {
        let query = self.request.query.as_deref().unwrap_or_default();
        let Ok(Since { since }) = Since::read(query) else {
            return reply::line(
                StatusCode::BAD_REQUEST,
                "write `since` and the number of a record",
            );
        };
        let follower = || self.follower(signed_in, caller);
        let found = perform_for(
            &self.parts,
            caller,
            self.request.id,
            &follower,
            |administration| administration.events(&EventQuery::default(), &LastEventId::default()),
        );
        match found {
            Ok(stream) => reply::guarded(
                Response::stream("text/event-stream", events::changes(stream, since)),
                headers::NOT_STORED,
            ),
            Err(error) => reply::line(error.code.status(), &error.message),
        }
    }

    /// The user as one who follows events, until the session ends or permits less.
    fn follower(&self, signed_in: &SignedIn, caller: &Caller) -> Follower {
        let console = Arc::clone(&self.console);
        let clock = Arc::clone(&self.parts.clock);
        let again = signed_in.clone();
        Follower {
            caller: caller.clone(),
            look_again: Arc::new(move || {
                if console.sessions().goes_on(&again.session, clock.now()) {
                    return again.caller();
                }
                let message = "the session has ended";
                Err(AdminError::new(ErrorCode::Forbidden, message))
            }),
            ended: Box::pin(signed_in.clone().ended()),
        }
    }

    fn route(
        &self,
        route: &'static Route,
        segment: &str,
        signed_in: &SignedIn,
        caller: &Caller,
    ) -> Response {
        let viewer = viewer(signed_in, caller);
        let sent = (self.request.method == Method::POST).then_some(&self.request.body[..]);
        if sent.is_some() {
            info!(actor = %caller.identity, act = route.name, item = segment, "administration");
        }
        // What is recorded from now on may be missing on the page, and its stream tells of it.
        let record = self.parts.store.newest_record();
        let follower = || self.follower(signed_in, caller);
        let shown = perform_for(
            &self.parts,
            caller,
            self.request.id,
            &follower,
            |administration| {
                let asked = Asked {
                    administration,
                    viewer: &viewer,
                    segment,
                    query: self.request.query.as_deref().unwrap_or_default(),
                    now: self.now,
                };
                route.answer(&asked, sent)
            },
        );
        match shown {
            Ok(Shown::Page(shown)) => {
                let notice = browser::notice(&self.request);
                let document = page::framed(&shown, &viewer, Some(route), notice, record);
                reply::html(StatusCode::OK, document)
            }
            Ok(Shown::Download(file)) => reply::download(file),
            Ok(Shown::Refused(shown, code)) => {
                let document = page::framed(&shown, &viewer, Some(route), None, record);
                reply::html(code.status(), document)
            }
            Ok(Shown::Done(path, notice)) => reply::see(&path.with_notice(notice)),
            Err(error) => self.framed_problem(&error, &viewer, Some(route)),
        }
    }

    fn framed_problem(
        &self,
        error: &AdminError,
        viewer: &Viewer,
        route: Option<&Route>,
    ) -> Response {
        if error.code == ErrorCode::Forbidden {
            info!(user = viewer.user, path = %self.request.path, "the console has refused something");
        }
        let shown = views::problem::page(error);
        let record = self.parts.store.newest_record();
        reply::html(
            error.code.status(),
            page::framed(&shown, viewer, route, None, record),
        )
    }
}

fn viewer(signed_in: &SignedIn, caller: &Caller) -> Viewer {
    Viewer {
        user: signed_in.user.identity.to_string(),
        session: signed_in.session.clone(),
        permissions: caller.permissions.clone(),
    }
}

pub(super) fn no_randomness(failure: CryptoError) -> Response {
    error!(%failure, "nobody can sign in to the console");
    let error = AdminError::new(ErrorCode::Internal, failure);
    reply::refused(StatusCode::INTERNAL_SERVER_ERROR, &error)
}

fn refuse(refusal: Refusal) -> Response {
    let (status, message, remedy) = match refusal {
        Refusal::Misdirected => (
            StatusCode::MISDIRECTED_REQUEST,
            "this is no name of this console",
            "open the URL that `hgs console` prints; `public_url` under [listen.console] sets another name",
        ),
        Refusal::OtherPage => (
            StatusCode::FORBIDDEN,
            "this request does not come from a page of the console",
            "open the page of the console and send its own form, with a browser of today",
        ),
    };
    let error = AdminError::new(ErrorCode::Forbidden, message).with_remedy(remedy);
    reply::refused(status, &error)
}
