//! What holds for the whole API at the server: permissions for every operation, and paths.

use bytes::Bytes;
use futures_util::StreamExt as _;
use hgs_admin::{OPERATIONS, Role};
use hyper::{HeaderMap, Method, StatusCode};

use super::AdminParts;
use super::service::answer;
use crate::config::Admin;
use crate::http::{Body, Credentials, Peer, Request, RequestId};
use crate::roles::Roles;
use crate::running::tests::opened;

/// Debian's static groups: 1 is `daemon`, 2 is `bin`, 3 is `sys`.
fn roles() -> Roles {
    Roles::new(&Admin {
        administrators_group: Some("daemon".to_owned()),
        reviewers_group: Some("bin".to_owned()),
        host_managers_group: Some("sys".to_owned()),
        ..Admin::default()
    })
}

/// A uid that no user has, so that only the process's own group counts.
const UNKNOWN_UID: u32 = 3_000_000_000;

/// attacks.md A6: every operation asks who the caller is and what that caller may do.
#[test]
fn a6_every_operation_asks_for_its_permission() {
    let (_folder, parts) = opened();
    let parts = parts.admin();
    // Operations are dispatched on threads of a runtime.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _entered = runtime.enter();
    let (administrator, reviewer) = (process(UNKNOWN_UID, 1), process(UNKNOWN_UID, 2));
    let host_manager = process(UNKNOWN_UID, 3);
    let (stranger, network) = (
        process(UNKNOWN_UID, 54_321),
        Peer::Tcp("127.0.0.1:1".parse().unwrap()),
    );
    for operation in OPERATIONS.all() {
        let status = |peer: &Peer| {
            let path = operation.path_for("0");
            let request = request(operation.method.clone(), &path, "", peer.clone());
            answer(&parts, &roles(), &request).status
        };
        let name = operation.name;
        assert_ne!(status(&administrator), StatusCode::FORBIDDEN, "{name}");
        let reviewed = status(&reviewer) != StatusCode::FORBIDDEN;
        assert_ne!(reviewed, operation.permission.changes_state(), "{name}");
        let managed = status(&host_manager) != StatusCode::FORBIDDEN;
        let permitted = Role::HostManager.permissions();
        assert_eq!(managed, permitted.contains(operation.permission), "{name}");
        assert_eq!(status(&stranger), StatusCode::FORBIDDEN, "{name}");
        assert_eq!(status(&network), StatusCode::FORBIDDEN, "{name}");
    }
}

/// attacks.md K12: what is refused has not happened.
#[test]
fn k12_a_reviewer_changes_nothing() {
    let (_folder, parts) = opened();
    let parts = parts.admin();
    let generation = parts.store.state().generation();
    let body = r#"{"name":"node-1","host_key":"AAAA"}"#;
    let request = request(Method::POST, "/v1/hosts", body, process(UNKNOWN_UID, 2));
    let refused = answer(&parts, &roles(), &request);
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert_eq!(parts.store.state().generation(), generation);
}

/// A host manager adds hosts to the default group, with what vouches for their TPMs.
#[test]
fn a_host_manager_does_not_choose_what_a_host_is_judged_by() {
    let (_folder, parts) = opened();
    let parts = parts.admin();
    let status = |gid, body| {
        let request = request(Method::POST, "/v1/hosts", body, process(UNKNOWN_UID, gid));
        answer(&parts, &roles(), &request).status
    };
    for body in [
        r#"{"name":"node-1","identity":"AAAA","group":"lab"}"#,
        r#"{"name":"node-1","identity":"AAAA","without_ek_certificate":true}"#,
    ] {
        assert_eq!(status(3, body), StatusCode::FORBIDDEN, "{body}");
        assert_eq!(status(1, body), StatusCode::BAD_REQUEST, "{body}");
    }
    let plain = r#"{"name":"node-1","identity":"AAAA"}"#;
    assert_eq!(status(3, plain), StatusCode::BAD_REQUEST);
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
fn a_path_with_other_methods_names_them_and_one_that_is_none_is_not_found() {
    let (_folder, parts) = opened();
    let parts = parts.admin();
    let ask = |method, path| {
        let request = request(method, path, "", process(0, 0));
        answer(&parts, &roles(), &request)
    };
    let refused = ask(Method::PUT, "/v1/hosts");
    assert_eq!(refused.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(refused.headers["allow"], "GET, POST");
    assert_eq!(ask(Method::GET, "/v1/keys").status, StatusCode::NOT_FOUND);
    assert_eq!(ask(Method::GET, "/v2/status").status, StatusCode::NOT_FOUND);
}

/// The kinds that a caller is told of what was there before.
async fn kinds_told(
    parts: &AdminParts,
    query: &str,
    peer: Peer,
) -> Result<Vec<String>, StatusCode> {
    let request = Request {
        query: Some(format!("follow=false&since=0{query}")),
        ..request(Method::GET, "/v1/events", "", peer)
    };
    let response = answer(parts, &roles(), &request);
    let Body::Stream(octets) = response.body else {
        return Err(response.status);
    };
    let octets: Vec<Bytes> = octets.collect().await;
    let text = String::from_utf8(octets.concat()).unwrap();
    let kinds = text.lines().filter_map(|line| line.strip_prefix("event: "));
    Ok(kinds.map(str::to_owned).collect())
}

#[test]
fn a_role_is_told_of_the_events_that_it_may_see() {
    let (_folder, parts) = opened();
    let parts = parts.admin();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _entered = runtime.enter();
    let [administrator, reviewer, host_manager] = [1, 2, 3].map(|gid| process(UNKNOWN_UID, gid));
    let denial = r#"{"policy_digest":"0000000000000000000000000000000000000000000000000000000000000000","reason":"x"}"#;
    let denial = request(
        Method::POST,
        "/v1/denied-hosts",
        denial,
        administrator.clone(),
    );
    assert_eq!(answer(&parts, &roles(), &denial).status, StatusCode::OK);
    let told = |query: &str, peer| runtime.block_on(kinds_told(&parts, query, peer));
    let all = told("", administrator).unwrap();
    assert_eq!(told("", reviewer), Ok(all.clone()));
    for kind in [
        "readiness",
        "settings",
        "certificate",
        "revocation",
        "caught-up",
    ] {
        assert!(all.iter().any(|told| told == kind), "{kind}: {all:?}");
    }
    let of_service = [
        "readiness",
        "settings",
        "cluster",
        "revocation",
        "caught-up",
    ];
    let expected: Vec<_> = all
        .into_iter()
        .filter(|kind| of_service.contains(&kind.as_str()))
        .collect();
    assert_eq!(told("", host_manager.clone()), Ok(expected));
    let refused = told("&kind=certificate", host_manager);
    assert_eq!(refused, Err(StatusCode::FORBIDDEN));
    assert_eq!(
        told("", process(UNKNOWN_UID, 54_321)),
        Err(StatusCode::FORBIDDEN)
    );
}
