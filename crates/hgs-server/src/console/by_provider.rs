//! Signing in at a provider of OpenID Connect: the browser is sent there, and comes back.

use std::sync::Arc;

use hgs_admin::{AdminError, Caller};
use hgs_console::routes::{self, Target};
use hgs_console::sessions::{LookAgain, NewSession, Way};
use hgs_console::{Path, views};
use hgs_crypto::random::System;
use hgs_openid::SIGN_IN_TIME;
use hyper::StatusCode;
use hyper::header::HOST;
use tracing::{info, warn};

use super::service::{Visit, no_randomness};
use super::{browser, reply};
use crate::guardian::{NotSignedIn, OpenId};
use crate::http::Response;

impl Visit {
    /// The answer to a request that is for signing in so.
    pub(super) async fn by_provider(&self) -> Option<Response> {
        let openid = self.console.openid()?;
        let target = routes::find(&self.request.path);
        let is_for_it = matches!(target, Target::OpenId | Target::OpenIdCallback);
        if !is_for_it || self.client().is_some() {
            return None;
        }
        if let Some(refused) = self.refused(&target) {
            return Some(refused);
        }
        Some(match target {
            Target::OpenId => self.begin(openid).await,
            _ => self.finish(openid).await,
        })
    }

    async fn begin(&self, openid: &OpenId) -> Response {
        let host = browser::header(&self.request, HOST).unwrap_or_default();
        if let Some(place) = self.console.beginning_at_own_name(host) {
            return reply::leave(&place);
        }
        let redirect_uri = self.console.redirect_uri().unwrap_or_default();
        match openid.begin(&redirect_uri, &self.address()).await {
            Ok((secret, place)) => {
                let response = reply::leave(&place);
                reply::with_sign_in(response, &self.sign_in_cookie(), &secret, SIGN_IN_TIME)
            }
            Err(error) => self.not_signed_in_by(openid, &error),
        }
    }

    async fn finish(&self, openid: &OpenId) -> Response {
        let name = self.sign_in_cookie();
        let query = self.request.query.as_deref().unwrap_or_default();
        let response = match openid
            .finish(browser::cookie(&self.request, &name), query)
            .await
        {
            Ok(user) => self.begin_session(openid, user),
            Err(error) => self.not_signed_in_by(openid, &error),
        };
        reply::without_session(response, &name)
    }

    fn begin_session(&self, openid: &OpenId, user: Caller) -> Response {
        // What the provider says holds for the session: it is not asked again.
        let again = user.clone();
        let look_again: LookAgain = Arc::new(move || Ok::<_, AdminError>(again.clone()));
        let new = NewSession {
            user,
            look_again,
            way: Way::OpenId,
            address: self.address(),
            at_most: openid.session_time(),
        };
        let begun = {
            let (mut sessions, random) = (self.console.sessions(), &mut System::new());
            sessions.begin(new, self.now, random)
        };
        match begun {
            Ok(begun) => self.signed_in(begun, &Path::start()),
            Err(failure) => no_randomness(failure),
        }
    }

    fn not_signed_in_by(&self, openid: &OpenId, error: &NotSignedIn) -> Response {
        let (peer, issuer) = (&self.request.peer, openid.issuer());
        if error.is_for_operators() {
            let remedy = error.remedy();
            warn!(%peer, issuer, %error, remedy, "nobody was signed in to the console by OpenID Connect");
        } else {
            info!(%peer, issuer, %error, "a user was not signed in to the console by OpenID Connect");
        }
        let status = match error.is_of_provider() {
            true => StatusCode::BAD_GATEWAY,
            false => StatusCode::FORBIDDEN,
        };
        let shown = views::sign_in::not_by_provider(&error.to_string(), error.remedy());
        reply::to_stranger(status, &shown)
    }

    /// The name of the cookie that a browser keeps while its user is at the provider.
    fn sign_in_cookie(&self) -> String {
        format!("{}-openid", self.console.cookie())
    }
}
