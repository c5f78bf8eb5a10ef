//! Signing in by a client certificate, at the listener that asks browsers for one. A session of it is of no use without the key:
//! each of its connections has shown the certificate.

use std::sync::Arc;

use hgs_admin::{AdminError, ErrorCode};
use hgs_console::sessions::{NewSession, SignedIn, Way};
use hgs_console::{Notice, Path, page, views};
use hgs_crypto::random::System;
use hyper::header::HOST;
use hyper::{Method, StatusCode};
use tracing::info;

use super::service::{Visit, no_randomness};
use super::{browser, reply};
use crate::http::{PinnedClient, Response};

impl Visit {
    /// Offers to sign in, or does so where the button there was pressed. At the other listener it leads here.
    pub(super) fn by_certificate(&self) -> Response {
        let has_pressed = self.request.method == Method::POST;
        match self.client() {
            Some(client) if has_pressed => self.sign_in_by(client),
            Some(client) => self.offer_sign_in(client),
            None if has_pressed => {
                let message = "no certificate was asked for on this port";
                let error = AdminError::new(ErrorCode::Forbidden, message)
                    .with_remedy("begin at the page that says how to sign in");
                reply::refused(StatusCode::FORBIDDEN, &error)
            }
            None => self.lead_to_certificates(),
        }
    }

    /// Looking at it signs nobody in: other pages may have a browser look.
    pub(super) fn offer_sign_in(&self, client: &PinnedClient) -> Response {
        match client.caller() {
            Ok(user) => {
                let times = self.console.sessions().times();
                let shown = views::sign_in::by_certificate(&user, times);
                let document = page::framed_for_strangers(&shown, browser::notice(&self.request));
                reply::html(StatusCode::OK, document)
            }
            Err(ended) => reply::refused(ended.code.status(), &ended),
        }
    }

    fn sign_in_by(&self, client: &PinnedClient) -> Response {
        let user = match client.caller() {
            Ok(user) => user,
            Err(ended) => return reply::refused(ended.code.status(), &ended),
        };
        let again = client.clone();
        let new = NewSession {
            user,
            look_again: Arc::new(move || again.caller()),
            way: Way::Certificate(client.thumbprint()),
            address: self.address(),
            at_most: self.console.sessions().times().whole,
        };
        let begun = {
            let (mut sessions, random) = (self.console.sessions(), &mut System::new());
            sessions.begin(new, self.now, random)
        };
        match begun {
            Ok((cookie, signed_in)) => {
                self.end_with_access(&signed_in, client.clone());
                let place = Path::start().with_notice(Notice::SignedIn);
                self.signed_in((cookie, signed_in), &place)
            }
            Err(failure) => no_randomness(failure),
        }
    }

    /// Has the session end with the entry of its client, so that it does not go on with another one of the same certificate.
    fn end_with_access(&self, signed_in: &SignedIn, client: PinnedClient) {
        let (console, clock) = (Arc::downgrade(&self.console), Arc::clone(&self.parts.clock));
        let (session, ended) = (signed_in.session.clone(), signed_in.clone().ended());
        tokio::spawn(async move {
            tokio::select! {
                () = ended => return,
                () = client.ended() => {}
            }
            if let Some(console) = console.upgrade() {
                console.sessions().end(&session, clock.now());
                info!(
                    session,
                    client = client.name(),
                    "a session of the console ended with the access of its client"
                );
            }
        });
    }

    fn lead_to_certificates(&self) -> Response {
        let host = browser::header(&self.request, HOST).unwrap_or_default();
        match self.console.certificate_sign_in(host) {
            Some(place) => reply::leave(&place),
            None => {
                let message = "nobody signs in here by a certificate";
                let error = AdminError::new(ErrorCode::NotFound, message)
                    .with_remedy("set `enabled` in [listen.console.client_certificates]");
                reply::refused(StatusCode::NOT_FOUND, &error)
            }
        }
    }
}
