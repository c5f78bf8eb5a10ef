//! What holds for the whole API at the server: permissions for every operation, and paths.

use bytes::Bytes;
use futures_util::StreamExt as _;
use hgs_admin::{
    HostSelector, NameSelector, NodeSelector, OPERATIONS, PolicyDigest, Role, openapi,
};
use hgs_cluster::node::NodeName;
use hgs_crypto::base64;
use hgs_crypto::text::is_invisible;
use hgs_custody::KeyReference;
use hgs_kps::{Label, Lineage};
use hgs_pki::health::{AttestationMode, HostId};
use hgs_pki::{SerialNumber, Thumbprint};
use hgs_store::{Digest, HostName, KeyCaching, ShortName};
use hyper::{HeaderMap, Method, StatusCode};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::string::string_regex;
use proptest::test_runner::TestRunner;
use serde_json::Value;

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

#[test]
fn a_change_of_nothing_changes_nothing() {
    let (_folder, parts) = opened();
    let parts = parts.admin();
    let generation = parts.store.state().generation();
    for (path, status) in [
        ("/v1/server", StatusCode::OK),
        ("/v1/signers/all", StatusCode::OK),
        (
            &*format!("/v1/signers/{}", "0".repeat(64)),
            StatusCode::NOT_FOUND,
        ),
        (
            &*format!("/v1/certificates/{}", "0".repeat(64)),
            StatusCode::NOT_FOUND,
        ),
    ] {
        let request = request(Method::PATCH, path, "{}", process(0, 0));
        let answered = answer(&parts, &roles(), &request);
        assert_eq!(answered.status, status, "{path}");
    }
    assert_eq!(parts.store.state().generation(), generation);
}

/// The API could not show a host that has a word of its paths for a name.
#[test]
fn no_host_is_called_as_a_path() {
    let (_folder, parts) = opened();
    let parts = parts.admin();
    for (name, status) in [
        ("bulk", StatusCode::CONFLICT),
        ("bulk1", StatusCode::BAD_REQUEST),
    ] {
        let body = format!(r#"{{"name":"{name}","host_key":"none"}}"#);
        let request = Request {
            body: body.into(),
            ..request(Method::POST, "/v1/hosts", "", process(0, 0))
        };
        let refused = answer(&parts, &roles(), &request);
        assert_eq!(refused.status, status, "{name}");
    }
}

#[test]
fn a_time_may_have_an_offset_and_a_fraction() {
    let (_folder, parts) = opened();
    let parts = parts.admin();
    for (time, status) in [
        ("2026-01-01T00:00:00.123456Z", StatusCode::OK),
        ("2026-01-01T02:00:00+02:00", StatusCode::OK),
        ("2026-01-01T02:00:00", StatusCode::BAD_REQUEST),
    ] {
        let request = Request {
            query: Some(format!("since={time}")),
            ..request(Method::GET, "/v1/audit", "", process(0, 0))
        };
        assert_eq!(answer(&parts, &roles(), &request).status, status, "{time}");
    }
}

/// What reads a text.
type Reader = fn(&str) -> bool;

/// What the document calls valid is not refused as malformed.
#[test]
fn texts_that_the_document_calls_valid_are_understood() {
    let document = openapi::document();
    let field = |schema: &str, property: &str| {
        document["components"]["schemas"][schema]["properties"][property].clone()
    };
    let segment = |path: &str| {
        let methods = document["paths"][path].as_object().unwrap();
        methods.values().next().unwrap()["parameters"][0]["schema"].clone()
    };
    let filter = |name: &str| {
        let filters = document["paths"]["/v1/audit"]["get"]["parameters"]
            .as_array()
            .unwrap();
        let found = filters.iter().find(|filter| filter["name"] == name);
        found.unwrap()["schema"].clone()
    };
    let label: Reader = |text| text.is_empty() || Label::given(text).is_ok();
    let read: [(Value, Reader); _] = [
        (field("AddHost", "name"), |text| {
            text.parse::<HostName>().is_ok()
        }),
        (field("Host", "id"), |text| text.parse::<HostId>().is_ok()),
        (field("NewHostGroup", "name"), |text| {
            text.parse::<ShortName>().is_ok()
        }),
        (field("RecordExport", "file"), |text| {
            text.parse::<Digest>().is_ok()
        }),
        (field("SetServer", "communications_certificate"), |text| {
            text.parse::<Thumbprint>().is_ok()
        }),
        (field("SetServer", "key_caching"), |text| {
            KeyCaching::read_setting(text).is_ok()
        }),
        (field("SetServer", "attestation_mode"), |text| {
            text.parse::<AttestationMode>().is_ok()
        }),
        (field("SetSigner", "deny")["items"].clone(), |text| {
            text.parse::<SerialNumber>().is_ok()
        }),
        (field("SetCertificate", "label"), label),
        (field("NewCertificate", "tenant"), |text| {
            Label::given(text).is_ok()
        }),
        (field("NewCertificate", "key"), |text| {
            text.starts_with("pkcs11:") || text.parse::<KeyReference>().is_ok()
        }),
        (field("SimulatePolicies", "log"), |text| {
            base64::decode(text).is_ok()
        }),
        (filter("lineage"), |text| text.parse::<Lineage>().is_ok()),
        (segment("/v1/hosts/{host}"), |text| {
            text.parse::<HostSelector>().is_ok() && text.parse::<HostName>().is_ok()
        }),
        (segment("/v1/host-groups/{group}"), |text| {
            text.parse::<NameSelector>().is_ok() && text.parse::<ShortName>().is_ok()
        }),
        (segment("/v1/cluster/nodes/{node}"), |text| {
            text.parse::<NodeSelector>().is_ok() && text.parse::<NodeName>().is_ok()
        }),
        (segment("/v1/denied-hosts/{policy}"), |text| {
            text.parse::<PolicyDigest>().is_ok() && text.parse::<Digest>().is_ok()
        }),
    ];
    let mut runner = TestRunner::deterministic();
    for (schema, reads) in read {
        for text in texts(&schema, &mut runner) {
            assert!(reads(&text), "{text:?} is valid by {schema}");
        }
    }
}

/// Some of the texts that a schema calls valid.
fn texts(schema: &Value, runner: &mut TestRunner) -> Vec<String> {
    if let Some(values) = schema["enum"].as_array() {
        let texts = values.iter().filter_map(Value::as_str);
        return texts.map(str::to_owned).collect();
    }
    let pattern = schema["pattern"].as_str().expect("a pattern");
    let form = pattern
        .strip_prefix('^')
        .and_then(|rest| rest.strip_suffix('$'));
    let texts = string_regex(form.expect("of the whole text")).unwrap();
    // A pattern has no class for invisible characters above U+FFFF.
    let texts = texts.prop_filter("seen", |text| {
        !text.chars().any(|c| c > '\u{ffff}' && is_invisible(c))
    });
    let some = (0..64).map(|_| texts.new_tree(runner).unwrap().current());
    some.collect()
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
