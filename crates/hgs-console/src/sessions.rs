//! Who is signed in: links that sign in once, and sessions. They live in the memory of one server, so its restart ends them.

use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;

use hgs_admin::types::{ConsoleSession, SignInWay};
use hgs_admin::{AdminError, Caller, ErrorCode, Identity, Permission, Permissions, Role};
use hgs_crypto::hash::sha256;
use hgs_crypto::random::{self, Random};
use hgs_crypto::{CryptoError, base64, hex};
use hgs_pki::{Seconds, Thumbprint, Time};
use tokio::sync::watch;

/// How long a link can be used.
pub const LINK_TIME: Seconds = Seconds::new(60);

/// Links that wait to be used.
const MAX_LINKS: usize = 64;
/// Sessions of one user: one more ends that which was idle for longest.
const MAX_OF_USER: usize = 8;
/// Sessions of all users together.
const MAX_SESSIONS: usize = 64;

/// Octets of the secret in a cookie.
const SECRET_OCTETS: usize = 32;
/// Octets of a session's name.
const NAME_OCTETS: usize = 4;

/// When sessions end by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// After how long without a click.
    pub idle: Seconds,
    /// After how long at most.
    pub whole: Seconds,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            idle: Seconds::from_minutes(30),
            whole: Seconds::from_hours(8),
        }
    }
}

type Digest = [u8; 32];

/// Asks who a user is and what the user may do now. It may block.
pub type LookAgain = Arc<dyn Fn() -> Result<Caller, AdminError> + Send + Sync>;

/// Who signs in, and how.
pub struct NewSession {
    /// The user.
    pub user: Caller,
    /// Asks again what the user may do.
    pub look_again: LookAgain,
    /// How it was found out who the user is.
    pub way: Way,
    /// From where.
    pub address: String,
    /// How long the session lasts at most.
    pub at_most: Seconds,
}

/// How a user signs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By a link.
    Link,
    /// At a provider of OpenID Connect.
    OpenId,
    /// By this client certificate, which every connection of the session has to show.
    Certificate(Thumbprint),
}

impl Way {
    fn certificate(self) -> Option<Thumbprint> {
        match self {
            Self::Link | Self::OpenId => None,
            Self::Certificate(thumbprint) => Some(thumbprint),
        }
    }

    fn shown(self) -> SignInWay {
        match self {
            Self::Link => SignInWay::Link,
            Self::OpenId => SignInWay::OpenId,
            Self::Certificate(_) => SignInWay::Certificate,
        }
    }
}

/// A cookie, and the request that brings it.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'r> {
    /// The value of the cookie.
    pub cookie: &'r str,
    /// The client certificate of the connection.
    pub certificate: Option<Thumbprint>,
    /// From where it comes.
    pub address: &'r str,
    /// Whether it is a click, and nothing that the script does by itself: only clicks keep a session from being idle.
    pub by_user: bool,
}

/// The links and the sessions of one server.
#[derive(Debug, Default)]
pub struct Sessions {
    times: Times,
    links: Vec<Link>,
    sessions: Vec<Session>,
}

struct Link {
    digest: Digest,
    user: Caller,
    look_again: LookAgain,
    expires: Time,
}

struct Session {
    digest: Digest,
    name: String,
    user: Caller,
    look_again: LookAgain,
    way: Way,
    address: String,
    signed_in: Time,
    /// When it ends, whatever its user does.
    ends: Time,
    last_used: Time,
    /// After how long without a click it ends.
    idle: Seconds,
    /// Dropped with the session, for those who wait for its end.
    ended: watch::Sender<()>,
}

/// A session that was found by its cookie.
#[derive(Clone)]
pub struct SignedIn {
    /// The name of the session.
    pub session: String,
    /// Who signed in, with what the user was permitted then.
    pub user: Caller,
    look_again: LookAgain,
    ended: watch::Receiver<()>,
}

impl SignedIn {
    /// The user of the session, with what was permitted when the session began and is permitted still. It may block.
    ///
    /// # Errors
    /// When the user has no access any more, or when that can't be found out.
    pub fn caller(&self) -> Result<Caller, AdminError> {
        let now = (self.look_again)()?.permissions;
        let then = &self.user.permissions;
        let both = Permission::ALL.iter().copied();
        let both = both.filter(|one| now.contains(*one) && then.contains(*one));
        let permissions: Permissions = both.collect();
        if !permissions.contains(Permission::UseConsole) {
            let message = format!("{} has no role any more", self.user.identity);
            return Err(AdminError::new(ErrorCode::Forbidden, message));
        }
        Ok(Caller {
            identity: Identity::Console {
                session: self.session.clone(),
                user: Box::new(self.user.identity.clone()),
            },
            permissions,
        })
    }

    /// Resolves when the session has ended.
    pub async fn ended(mut self) {
        while self.ended.changed().await.is_ok() {}
    }
}

/// The secret of a new session, which its cookie holds.
pub struct Cookie(String);

impl Cookie {
    /// The value of the cookie.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Cookie(..)")
    }
}

impl Sessions {
    /// None, which will end at these times.
    #[must_use]
    pub fn new(times: Times) -> Self {
        Self {
            times,
            ..Self::default()
        }
    }

    /// When they end by themselves.
    #[must_use]
    pub fn times(&self) -> Times {
        self.times
    }

    /// Adds a link whose secret has this digest.
    ///
    /// # Errors
    /// When the digest is none, or is that of a link already; when too many links wait.
    pub fn add_link(
        &mut self,
        secret_digest: &str,
        user: Caller,
        look_again: LookAgain,
        now: Time,
    ) -> Result<Time, AdminError> {
        let digest = hex::decode(secret_digest).and_then(|octets| Digest::try_from(octets).ok());
        let digest =
            digest.ok_or_else(|| AdminError::invalid("the digest is not 64 hexadecimal digits"))?;
        self.forget_old(now);
        if self.links.iter().any(|link| link.digest == digest) {
            return Err(AdminError::new(
                ErrorCode::Conflict,
                "another link has this secret",
            ));
        }
        if self.links.len() >= MAX_LINKS {
            let message = format!("{MAX_LINKS} links wait to be used");
            return Err(AdminError::new(ErrorCode::TooMany, message)
                .with_remedy("use one of them, or wait for a minute"));
        }
        let expires = now.checked_add(LINK_TIME).unwrap_or(Time::MAX);
        self.links.push(Link {
            digest,
            user,
            look_again,
            expires,
        });
        Ok(expires)
    }

    /// Whom a link with this secret signs in, if it can be used.
    pub fn user_of_link(&mut self, secret: &str, now: Time) -> Option<String> {
        self.forget_old(now);
        let digest = sha256(secret.as_bytes());
        let link = self.links.iter().find(|link| link.digest == digest);
        link.map(|link| link.user.identity.to_string())
    }

    /// Uses up the link with this secret and begins a session; `None` if there is no such link.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn sign_in(
        &mut self,
        secret: &str,
        address: String,
        now: Time,
        random: &mut dyn Random,
    ) -> Result<Option<(Cookie, SignedIn)>, CryptoError> {
        self.forget_old(now);
        let digest = sha256(secret.as_bytes());
        let Some(found) = self.links.iter().position(|link| link.digest == digest) else {
            return Ok(None);
        };
        let link = self.links.swap_remove(found);
        let new = NewSession {
            user: link.user,
            look_again: link.look_again,
            way: Way::Link,
            address,
            at_most: self.times.whole,
        };
        self.begin(new, now, random).map(Some)
    }

    /// Begins a session of a user who was found to be there.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn begin(
        &mut self,
        new: NewSession,
        now: Time,
        random: &mut dyn Random,
    ) -> Result<(Cookie, SignedIn), CryptoError> {
        self.forget_old(now);
        let secret: [u8; SECRET_OCTETS] = random::array(random)?;
        let cookie = Cookie(base64::encode_url(&secret));
        let name = self.new_name(random)?;
        self.make_room(&new.user.identity);
        let (ended, _) = watch::channel(());
        let session = Session {
            digest: sha256(cookie.0.as_bytes()),
            name,
            user: new.user,
            look_again: new.look_again,
            way: new.way,
            address: new.address,
            signed_in: now,
            ends: now.checked_add(new.at_most).unwrap_or(Time::MAX),
            idle: self.times.idle,
            last_used: now,
            ended,
        };
        let signed_in = session.signed_in();
        self.sessions.push(session);
        Ok((cookie, signed_in))
    }

    /// The session of this cookie, if it comes over a connection that may use it: one that shows the certificate of the
    /// session, or none where the session has none.
    pub fn find(&mut self, presented: &Presented<'_>, now: Time) -> Option<SignedIn> {
        self.forget_old(now);
        let digest = sha256(presented.cookie.as_bytes());
        let mut sessions = self.sessions.iter_mut();
        let session = sessions.find(|session| session.digest == digest)?;
        if session.way.certificate() != presented.certificate {
            return None;
        }
        if presented.by_user {
            session.last_used = now.max(session.last_used);
            presented.address.clone_into(&mut session.address);
        }
        Some(session.signed_in())
    }

    /// Whether the session with this name goes on.
    pub fn goes_on(&mut self, name: &str, now: Time) -> bool {
        self.forget_old(now);
        self.sessions.iter().any(|session| session.name == name)
    }

    /// Ends the session with this name, and all that waits for its end.
    pub fn end(&mut self, name: &str, now: Time) -> Option<ConsoleSession> {
        self.forget_old(now);
        let found = self
            .sessions
            .iter()
            .position(|session| session.name == name)?;
        Some(self.sessions.swap_remove(found).shown())
    }

    /// Who is signed in, the newest first.
    pub fn list(&mut self, now: Time) -> Vec<ConsoleSession> {
        self.forget_old(now);
        let mut sessions: Vec<&Session> = self.sessions.iter().collect();
        sessions.sort_by_key(|session| (Reverse(session.signed_in), session.name.clone()));
        sessions.into_iter().map(Session::shown).collect()
    }

    fn forget_old(&mut self, now: Time) {
        self.links.retain(|link| now < link.expires);
        self.sessions.retain(|session| now < session.end());
    }

    /// Ends the session that was idle for longest: of this user, if the user has many, or of all.
    fn make_room(&mut self, user: &Identity) {
        let of_user = self
            .sessions
            .iter()
            .filter(|session| session.user.identity == *user);
        let of_user = of_user.count() >= MAX_OF_USER;
        if !of_user && self.sessions.len() < MAX_SESSIONS {
            return;
        }
        let candidates = self.sessions.iter().enumerate();
        let oldest = candidates
            .filter(|(_, session)| !of_user || session.user.identity == *user)
            .min_by_key(|(_, session)| session.last_used);
        if let Some((oldest, _)) = oldest {
            self.sessions.swap_remove(oldest);
        }
    }

    fn new_name(&self, random: &mut dyn Random) -> Result<String, CryptoError> {
        loop {
            let name = hex::encode(&random::array::<NAME_OCTETS>(random)?);
            if !self.sessions.iter().any(|session| session.name == name) {
                return Ok(name);
            }
        }
    }
}

impl Session {
    fn end(&self) -> Time {
        let idle = self.last_used.checked_add(self.idle);
        idle.unwrap_or(Time::MAX).min(self.ends)
    }

    fn signed_in(&self) -> SignedIn {
        SignedIn {
            session: self.name.clone(),
            user: self.user.clone(),
            look_again: Arc::clone(&self.look_again),
            ended: self.ended.subscribe(),
        }
    }

    fn shown(&self) -> ConsoleSession {
        ConsoleSession {
            session: self.name.clone(),
            user: self.user.identity.to_string(),
            way: self.way.shown(),
            roles: roles_of(&self.user.permissions),
            address: self.address.clone(),
            signed_in: self.signed_in.to_string(),
            last_used: self.last_used.to_string(),
            ends: self.end().to_string(),
        }
    }
}

/// The roles that are contained in `permissions` and in no other of them.
pub(crate) fn roles_of(permissions: &Permissions) -> Vec<Role> {
    let is_in = |role: Role, permissions: &Permissions| {
        let all = Permission::ALL.iter();
        let mut of_role = all.filter(|one| role.permissions().contains(**one));
        of_role.all(|one| permissions.contains(*one))
    };
    let held = Role::ALL
        .iter()
        .copied()
        .filter(|role| is_in(*role, permissions));
    let held: Vec<Role> = held.collect();
    let is_in_other = |role: Role| {
        let mut others = held.iter().filter(|other| **other != role);
        others.any(|other| is_in(role, &other.permissions()))
    };
    held.iter()
        .copied()
        .filter(|role| !is_in_other(*role))
        .collect()
}

impl fmt::Debug for NewSession {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "NewSession({}, {:?})",
            self.user.identity, self.way
        )
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "Link({}, until {})",
            self.user.identity, self.expires
        )
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Session({}, {})", self.name, self.user.identity)
    }
}

impl fmt::Debug for SignedIn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "SignedIn({}, {})",
            self.session, self.user.identity
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use hgs_crypto::random::System;

    use super::*;

    const START: Time = Time::from_unix(1_800_000_000);

    fn after(seconds: u64) -> Time {
        START.checked_add(Seconds::new(seconds)).unwrap()
    }

    fn user(uid: u32, role: Role) -> Caller {
        Caller {
            identity: Identity::Process { uid, user: None },
            permissions: role.permissions(),
        }
    }

    fn presented(cookie: &Cookie, by_user: bool) -> Presented<'_> {
        Presented {
            cookie: cookie.expose(),
            certificate: None,
            address: "192.0.2.2",
            by_user,
        }
    }

    fn digest_of(secret: &str) -> String {
        hex::encode(&sha256(secret.as_bytes()))
    }

    /// Makes and uses a link.
    fn signed_in(
        sessions: &mut Sessions,
        secret: &str,
        user: &Caller,
        now: Time,
    ) -> (Cookie, SignedIn) {
        let again = user.clone();
        let look_again: LookAgain = Arc::new(move || Ok(again.clone()));
        sessions
            .add_link(&digest_of(secret), user.clone(), look_again, now)
            .unwrap();
        let found = sessions.sign_in(secret, "192.0.2.1".to_owned(), now, &mut System::new());
        found.unwrap().expect("the link is there")
    }

    #[test]
    fn a_link_signs_in_once_and_within_a_minute() {
        let mut sessions = Sessions::default();
        let reviewer = user(7, Role::Reviewer);
        let look_again: LookAgain = Arc::new(|| Ok(user(7, Role::Reviewer)));
        let add = |sessions: &mut Sessions, secret| {
            sessions.add_link(
                &digest_of(secret),
                reviewer.clone(),
                Arc::clone(&look_again),
                START,
            )
        };
        let random = &mut System::new();
        assert_eq!(add(&mut sessions, "one").unwrap(), after(60));
        assert_eq!(
            add(&mut sessions, "one").unwrap_err().code,
            ErrorCode::Conflict
        );
        let user = sessions.user_of_link("one", after(59));
        assert_eq!(user.as_deref(), Some("uid 7"), "looking does not use it");
        assert!(
            sessions
                .sign_in("other", String::new(), after(1), random)
                .unwrap()
                .is_none()
        );
        assert!(
            sessions
                .sign_in("one", String::new(), after(59), random)
                .unwrap()
                .is_some()
        );
        assert!(
            sessions
                .sign_in("one", String::new(), after(59), random)
                .unwrap()
                .is_none()
        );
        add(&mut sessions, "two").unwrap();
        assert_eq!(sessions.user_of_link("two", after(60)), None);
        assert!(
            sessions
                .sign_in("two", String::new(), after(60), random)
                .unwrap()
                .is_none()
        );
        let malformed = sessions
            .add_link("00", reviewer, look_again, START)
            .unwrap_err();
        assert_eq!(malformed.code, ErrorCode::InvalidRequest);
    }

    #[test]
    fn a_session_ends_when_it_is_idle_and_at_its_time() {
        let mut sessions = Sessions::default();
        let (cookie, _) = signed_in(&mut sessions, "one", &user(7, Role::Reviewer), START);
        let mut find = |by_user, now| {
            let found = sessions.find(&presented(&cookie, by_user), now);
            found.is_some()
        };
        assert!(find(true, after(1000)));
        // What the script asks for by itself keeps nobody signed in.
        assert!(find(false, after(2700)));
        assert!(!find(false, after(2800)));
        let (cookie, _) = signed_in(&mut sessions, "two", &user(7, Role::Reviewer), START);
        let mut find = |now| sessions.find(&presented(&cookie, true), now).is_some();
        assert!((1..29).all(|step| find(after(1000 * step))));
        assert!(!find(after(8 * 3600)));
        let mut sessions = Sessions::new(Times {
            idle: Seconds::new(60),
            whole: Seconds::new(100),
        });
        for (secret, clicks, end) in [("idle", &[][..], 60), ("whole", &[50], 100)] {
            let (cookie, _) = signed_in(&mut sessions, secret, &user(7, Role::Reviewer), START);
            let mut find = |by_user, second| {
                let found = sessions.find(&presented(&cookie, by_user), after(second));
                found.is_some()
            };
            assert!(clicks.iter().all(|second| find(true, *second)));
            assert_eq!((find(false, end - 1), find(false, end)), (true, false));
        }
    }

    #[test]
    fn a_session_may_do_what_its_user_may_then_and_now() {
        let mut sessions = Sessions::default();
        let now_is = Arc::new(Mutex::new(Role::Administrator));
        let look_again: LookAgain = {
            let now_is = Arc::clone(&now_is);
            Arc::new(move || Ok(user(7, *now_is.lock().unwrap())))
        };
        let host_manager = user(7, Role::HostManager);
        sessions
            .add_link(&digest_of("one"), host_manager, look_again, START)
            .unwrap();
        let begun = sessions.sign_in("one", String::new(), START, &mut System::new());
        let (_, signed_in) = begun.unwrap().unwrap();
        let caller = signed_in.caller().unwrap();
        assert_eq!(caller.permissions, Role::HostManager.permissions());
        assert_eq!(
            caller.identity.to_string(),
            format!("console {}, uid 7", signed_in.session)
        );
        *now_is.lock().unwrap() = Role::Reviewer;
        let permissions = signed_in.caller().unwrap().permissions;
        assert!(!permissions.contains(Permission::ManageHosts));
        assert!(permissions.contains(Permission::ViewHosts));
        assert!(!permissions.contains(Permission::ViewAudit));
    }

    #[test]
    fn who_waits_for_the_end_of_a_session_is_told() {
        let mut sessions = Sessions::default();
        let (cookie, signed_in) = signed_in(&mut sessions, "one", &user(7, Role::Reviewer), START);
        assert_eq!(sessions.list(START)[0].roles, [Role::Reviewer]);
        let ended = sessions.end(&signed_in.session, START).unwrap();
        assert_eq!(ended.user, "uid 7");
        assert!(sessions.find(&presented(&cookie, true), START).is_none());
        assert!(!sessions.goes_on(&signed_in.session, START));
        assert!(sessions.end(&signed_in.session, START).is_none());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(signed_in.ended());
    }

    #[test]
    fn a_session_by_a_certificate_is_of_connections_that_show_it() {
        let mut sessions = Sessions::default();
        let [own, other] = [b"own", b"the"].map(|der| Thumbprint::of(der));
        let reviewer = user(7, Role::Reviewer);
        let begin = |sessions: &mut Sessions, way| {
            let again = reviewer.clone();
            let new = NewSession {
                user: reviewer.clone(),
                look_again: Arc::new(move || Ok(again.clone())),
                way,
                address: "192.0.2.1".to_owned(),
                at_most: Times::default().whole,
            };
            let (cookie, _) = sessions.begin(new, START, &mut System::new()).unwrap();
            cookie
        };
        let by_certificate = begin(&mut sessions, Way::Certificate(own));
        let by_link = begin(&mut sessions, Way::Link);
        for (cookie, certificate, is_found) in [
            (&by_certificate, Some(own), true),
            (&by_certificate, Some(other), false),
            (&by_certificate, None, false),
            (&by_link, None, true),
            (&by_link, Some(own), false),
        ] {
            let presented = Presented {
                certificate,
                ..presented(cookie, true)
            };
            let found = sessions.find(&presented, START);
            assert_eq!(found.is_some(), is_found, "{certificate:?}");
        }
    }

    #[test]
    fn the_number_of_sessions_is_limited() {
        let mut sessions = Sessions::default();
        let first = signed_in(&mut sessions, "first", &user(7, Role::Reviewer), START);
        for number in 1..MAX_OF_USER as u64 + 1 {
            let secret = number.to_string();
            signed_in(
                &mut sessions,
                &secret,
                &user(7, Role::Reviewer),
                after(number),
            );
        }
        assert_eq!(sessions.list(after(10)).len(), MAX_OF_USER);
        assert!(
            sessions
                .find(&presented(&first.0, true), after(10))
                .is_none()
        );
        for uid in 100..200 {
            signed_in(
                &mut sessions,
                &uid.to_string(),
                &user(uid, Role::Reviewer),
                after(20),
            );
        }
        assert_eq!(sessions.list(after(20)).len(), MAX_SESSIONS);
    }

    #[test]
    fn an_administrator_has_that_role_only() {
        assert_eq!(
            roles_of(&Role::Administrator.permissions()),
            [Role::Administrator]
        );
        assert_eq!(
            roles_of(&Role::HostManager.permissions()),
            [Role::HostManager]
        );
        let both: Permissions = [Role::Reviewer, Role::HostManager].into_iter().collect();
        assert_eq!(roles_of(&both), [Role::Reviewer, Role::HostManager]);
    }
}
