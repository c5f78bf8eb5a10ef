//! What sessions of other roles may do. The tests that have a real connection run as an administrator.

use std::sync::Arc;

use bytes::Bytes;
use hgs_admin::{Caller, Identity, Role};
use hgs_crypto::{hash, hex};
use hyper::header::{COOKIE, HOST, ORIGIN, SET_COOKIE};
use hyper::{HeaderMap, Method, StatusCode};

use super::ConsoleService;
use crate::guardian::Console;
use crate::http::{Body, Peer, Request, RequestId, Response, Service as _};
use crate::running::tests::opened;

struct Visitor {
    service: ConsoleService,
    console: Arc<Console>,
    cookie: String,
}

impl Visitor {
    async fn send(&self, method: Method, path: &str, form: &'static str) -> Response {
        let mut headers = HeaderMap::new();
        for (name, value) in [(HOST, "localhost"), (ORIGIN, "https://localhost")] {
            headers.insert(name, value.parse().unwrap());
        }
        headers.insert("sec-fetch-site", "same-origin".parse().unwrap());
        headers.insert(COOKIE, self.cookie.parse().unwrap());
        let request = Request {
            id: RequestId {
                run: 0,
                sequence: 1,
            },
            method,
            path: path.to_owned(),
            query: None,
            headers,
            body: Bytes::from_static(form.as_bytes()),
            peer: Peer::Tcp(([192, 0, 2, 1], 1).into()),
        };
        self.service.handle(request).await
    }

    /// Signs in with what `role` permits.
    async fn sign_in(&mut self, role: Role) {
        let user = Caller {
            identity: Identity::Process {
                uid: 1000,
                user: None,
            },
            permissions: role.permissions(),
        };
        let again = user.clone();
        let digest = hex::encode(&hash::sha256(b"secret"));
        let now = self.service.now();
        let added = self
            .console
            .add_link(&digest, user, Arc::new(move || Ok(again.clone())), now);
        added.unwrap();
        let begun = self.send(Method::POST, "/sign-in/secret", "").await;
        let set = begun.headers[SET_COOKIE].to_str().unwrap();
        self.cookie = set.split(';').next().unwrap().to_owned();
    }
}

fn text(response: Response) -> String {
    match response.body {
        Body::Complete(octets) => String::from_utf8(octets.to_vec()).unwrap(),
        Body::Stream(_) => panic!("a stream"),
    }
}

#[tokio::test]
async fn a_role_does_what_it_may_and_sees_no_link_to_the_rest() {
    let (_folder, parts) = opened();
    let mut config = parts.admin().inspection.config.clone();
    config.listen.console.enabled = true;
    let console = Console::of(&config, &parts.admin().clock).unwrap().unwrap();
    let mut visitor = Visitor {
        service: ConsoleService::new(Arc::new(parts.admin()), Arc::clone(&console)),
        console,
        cookie: "none=".to_owned(),
    };
    for (role, may_add, may_end_sessions) in [
        (Role::Reviewer, false, false),
        (Role::HostManager, true, false),
        (Role::Administrator, true, true),
    ] {
        visitor.sign_in(role).await;
        let page = visitor.send(Method::GET, "/hosts", "").await;
        assert_eq!(page.status, StatusCode::OK);
        assert_eq!(text(page).contains("href=\"/add-host\""), may_add, "{role}");
        // A form that no page of this role has.
        let sent = visitor
            .send(Method::POST, "/add-host", "name=&credential=")
            .await;
        assert_eq!(sent.status == StatusCode::FORBIDDEN, !may_add, "{role}");
        let path = "/console/sessions/00000000/revoke";
        let sent = visitor.send(Method::POST, path, "").await;
        assert_eq!(
            sent.status == StatusCode::FORBIDDEN,
            !may_end_sessions,
            "{role}"
        );
    }
}
