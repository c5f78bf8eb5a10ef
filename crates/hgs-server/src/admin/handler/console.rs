//! The console: links that sign in, and who is signed in.

use hgs_admin::types::{ConsoleLink, ConsoleSession, NewConsoleLink};
use hgs_admin::{AdminError, ErrorCode, HostSelector};

use super::{AdminHandler, not_found};

impl AdminHandler<'_> {
    pub(super) fn make_console_link(
        &self,
        link: &NewConsoleLink,
    ) -> Result<ConsoleLink, AdminError> {
        let Some(console) = &self.parts.console else {
            return Err(AdminError::new(
                ErrorCode::Conflict,
                "this guardian has no console",
            )
            .with_remedy(
                "set `enabled = true` under [listen.console] in the configuration, and start the service anew",
            ));
        };
        let user = self.caller.clone();
        let look_again = (self.follower)().look_again;
        let now = self.parts.clock.now();
        let expires = console.add_link(&link.digest, user, look_again, now)?;
        let place = console.place()?;
        Ok(ConsoleLink {
            url: place.beginning_of_links(),
            fingerprint: place.fingerprint,
            expires: expires.to_string(),
        })
    }

    pub(super) fn sessions_of_console(&self) -> Vec<ConsoleSession> {
        let console = self.parts.console.as_ref();
        let now = self.parts.clock.now();
        console.map_or_else(Vec::new, |console| console.sessions().list(now))
    }

    pub(super) fn end_console_session(
        &self,
        session: &HostSelector,
    ) -> Result<ConsoleSession, AdminError> {
        let now = self.parts.clock.now();
        let console = self.parts.console.as_ref();
        let ended = console.and_then(|console| console.sessions().end(session.as_str(), now));
        let ended = ended.ok_or_else(|| {
            let message = format_args!("nobody is signed in by the session {session}");
            not_found(message, "hgs console sessions")
        })?;
        tracing::info!(
            actor = self.actor,
            session = ended.session,
            user = ended.user,
            "a session of the console was ended"
        );
        Ok(ended)
    }
}
