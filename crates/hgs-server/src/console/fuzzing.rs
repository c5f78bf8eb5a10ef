//! Body of a fuzz target: what browsers send to the console that nobody is signed in with.

use std::sync::Arc;

use hgs_admin::{AdminError, Caller, Identity, Role};
use hgs_console::requests::{self, OwnNames, Provenance};
use hgs_console::routes::{self, Target};
use hgs_console::sessions::{Cookie, LookAgain, NewSession, Presented, Sessions, Way};
use hgs_openid::Callback;
use hgs_openid::fuzzing::Counting;
use hgs_pki::{Seconds, Time};
use hyper::http::uri::Authority;

use super::browser;
use crate::http::Request;
use crate::http::fuzzing::requests_in;

const NAME: &str = "hgs.example";
const COOKIE: &str = "__Host-openhgs";
const NOW: Time = Time::from_unix(1_800_000_000);

/// A connection of a browser that nobody is signed in with, to the console of `hgs.example`.
///
/// # Panics
///
/// If a request is taken that goes to another server or may come from another page, or if somebody is signed in by it.
pub fn fuzz_console_request(octets: &[u8]) {
    let names = OwnNames::new([NAME.to_owned()]);
    let (requests, _) = requests_in(octets);
    let (mut sessions, begun) = somebody_is_signed_in();
    for request in requests {
        let said = browser::provenance(&request);
        if requests::check(&said, &names).is_ok() {
            examine_taken(&said);
        }
        let is_own = said.site == Some("same-origin");
        assert!(browser::notice(&request).is_none() || is_own);
        assert!(!routes::find(&request.path).methods().is_empty());
        examine_strangers(&request, &mut sessions, &begun);
        let _ = request.query.as_deref().map(Callback::read);
    }
}

/// The same rules in other words: by the reader of authorities of another library, and without a table of cases.
fn examine_taken(said: &Provenance<'_>) {
    let host = said.host.expect("a host");
    let authority: Authority = host.parse().expect("an authority");
    assert!(authority.host().eq_ignore_ascii_case(NAME), "{host}");
    assert!(!host.contains('@'), "{host}");
    if said.only_reads {
        let is_elsewhere = matches!(said.site, Some("cross-site" | "same-site"));
        assert!(!is_elsewhere || said.mode == Some("navigate"));
        return;
    }
    assert_eq!(said.site, Some("same-origin"));
    let origin = said.origin.expect("an origin").strip_prefix("https://");
    let origin: Authority = origin.expect("of HTTPS").parse().expect("an authority");
    let port = |authority: &Authority| authority.port_u16().unwrap_or(443);
    assert!(origin.host().eq_ignore_ascii_case(authority.host()));
    assert_eq!(port(&origin), port(&authority));
}

fn examine_strangers(request: &Request, sessions: &mut Sessions, begun: &Cookie) {
    let by_user = requests::is_by_user(&browser::provenance(request));
    if let Some(value) = browser::cookie(request, COOKIE) {
        let is_known = value == begun.expose();
        let presented = Presented {
            cookie: value,
            certificate: None,
            address: "192.0.2.1",
            by_user,
        };
        let found = sessions.find(&presented, NOW);
        assert_eq!(found.is_some(), is_known, "nobody else has the cookie");
    }
    if let Target::Link(secret) = routes::find(&request.path) {
        assert!(request.path.ends_with(secret) && hgs_admin::is_plain(secret));
        assert!(sessions.user_of_link(secret, NOW).is_none());
        let address = "192.0.2.1".to_owned();
        let begun = sessions.sign_in(secret, address, NOW, &mut Counting(0));
        assert!(begun.expect("it counts").is_none(), "there is no link");
    }
}

fn somebody_is_signed_in() -> (Sessions, Cookie) {
    let user = Caller {
        identity: Identity::Process { uid: 7, user: None },
        permissions: Role::Reviewer.permissions(),
    };
    let again = user.clone();
    let look_again: LookAgain = Arc::new(move || Ok::<_, AdminError>(again.clone()));
    let mut sessions = Sessions::default();
    let new = NewSession {
        user,
        look_again,
        way: Way::Link,
        address: "192.0.2.2".to_owned(),
        at_most: Seconds::from_hours(8),
    };
    let begun = sessions.begin(new, NOW, &mut Counting(7));
    let (cookie, _) = begun.expect("it counts");
    (sessions, cookie)
}
