//! Pages from answers that somebody else has named.

use hgs_admin::types::{
    AttestationMode, ConsoleSession, Host, HostDetail, HostEvidence, HostQuery, Judgement,
    LastAttempt, Revocation, Status, Warning,
};
use hgs_admin::{AdminError, ErrorCode, Permissions, Role};
use hgs_pki::Time;

use super::{hosts, overview, problem, sessions, sign_in};
use crate::acts::Entered;
use crate::page::{framed, framed_for_strangers};
use crate::{Page, Viewer};

const HOSTILE: &str = "</code><script>alert(1)</script>\" onfocus=\"alert(1)&amp;";
const NOW: Time = Time::from_unix(1_800_000_000);

fn viewer(role: Role) -> Viewer {
    Viewer {
        user: HOSTILE.to_owned(),
        session: "5f0c2a91".to_owned(),
        permissions: role.permissions(),
    }
}

fn host() -> Host {
    Host {
        name: HOSTILE.to_owned(),
        id: HOSTILE.to_owned(),
        attestation_mode: AttestationMode::HostKey,
        host_key_digest: Some(HOSTILE.to_owned()),
        endorsement_key_digest: None,
        group: Some(HOSTILE.to_owned()),
        added: HOSTILE.to_owned(),
        last_attested: None,
        certificate_expires: None,
        last_attempt: Some(attempt()),
        revoked: Some(Revocation {
            time: NOW.to_string(),
            reason: HOSTILE.to_owned(),
            by: HOSTILE.to_owned(),
        }),
    }
}

fn attempt() -> LastAttempt {
    LastAttempt {
        time: NOW.to_string(),
        healthy: false,
        reason: Some(HOSTILE.to_owned()),
        failed_policies: vec![HOSTILE.to_owned()],
        policies_digest: None,
        difference_digest: None,
        evidence_digest: None,
    }
}

fn detail() -> HostDetail {
    HostDetail {
        host: host(),
        host_key: None,
        tpm: None,
        policy_digest: HOSTILE.to_owned(),
        returns_nonces: true,
        host_key_shared: Some(HOSTILE.to_owned()),
        identity_keys: Vec::new(),
    }
}

fn status() -> Status {
    Status {
        name: HOSTILE.to_owned(),
        version: "1".to_owned(),
        time: NOW.to_string(),
        attestation_mode: AttestationMode::Tpm,
        attestation_urls: vec!["https://hgs.example/Attestation".to_owned()],
        key_protection_urls: vec!["https://hgs.example/KeyProtection".to_owned()],
        registered_hosts: 0,
        revoked_hosts: 1,
        primary_signing: None,
        primary_encryption: None,
        attestation_signer: None,
        generation: 1,
        warnings: vec![Warning {
            code: "x".to_owned(),
            message: HOSTILE.to_owned(),
            remedy: HOSTILE.to_owned(),
        }],
    }
}

fn session() -> ConsoleSession {
    ConsoleSession {
        session: HOSTILE.to_owned(),
        user: HOSTILE.to_owned(),
        roles: vec![Role::Reviewer],
        address: HOSTILE.to_owned(),
        signed_in: NOW.to_string(),
        last_used: NOW.to_string(),
        ends: HOSTILE.to_owned(),
    }
}

fn evidence() -> HostEvidence {
    HostEvidence {
        host: HOSTILE.to_owned(),
        attempt: attempt(),
        pcr_values: Vec::new(),
        event_log: String::new(),
        ima_log: String::new(),
        ima_log_left_out: None,
        preimages: Vec::new(),
        unexplained: Vec::new(),
    }
}

fn judged() -> Judgement {
    let judged = serde_json::json!({
        "healthy": false, "problem": HOSTILE, "nearest_baseline": HOSTILE,
        "policies": [{"policy": HOSTILE, "enabled": true, "held": false, "reason": HOSTILE}],
        "differences": [{"pcr": 7, "expected": [], "expected_beside": 0, "found": [], "text": HOSTILE}],
    });
    serde_json::from_value(judged).unwrap()
}

/// Every page, with whatever may be hostile in it being so.
fn pages() -> Vec<Page> {
    let administrator = viewer(Role::Administrator);
    let entered =
        Entered::read(b"name=%22%3E%3Cscript%3E&credential=%3C/textarea%3E%3Cscript%3E").unwrap();
    let error = AdminError::new(ErrorCode::Conflict, HOSTILE).with_remedy(HOSTILE);
    vec![
        overview::page(&status(), None, &administrator, NOW),
        hosts::list(
            &[host()],
            &HostQuery::default(),
            &status(),
            &administrator,
            NOW,
        ),
        hosts::one(&detail(), &administrator, NOW),
        hosts::add(&status(), &entered, Some(&error)),
        hosts::revoke(&detail(), &entered, Some(&error), NOW),
        hosts::approve(&evidence(), &judged(), &entered, Some(&error), NOW),
        sessions::page(&[session()], &administrator, NOW),
        sessions::revoke(&session(), &administrator, Some(&error), NOW),
        problem::page(&error),
        sign_in::by_link("secret", Some(HOSTILE)),
        sign_in::by_link(HOSTILE, None),
    ]
}

#[test]
fn names_of_others_stay_text() {
    for page in pages() {
        let document = framed(&page, &viewer(Role::Administrator), None, None);
        let scripts = document.matches("<script").count();
        assert_eq!(scripts, 1, "{}", page.title);
        assert!(!document.contains("\" onfocus"), "{}", page.title);
        assert!(!document.contains("<script>"), "{}", page.title);
    }
    let stranger = framed_for_strangers(&sign_in::page(None), None);
    assert_eq!(stranger.matches("<script").count(), 1);
}

/// A page has one heading of the first level, and each id once.
#[test]
fn pages_have_one_title_and_unique_ids() {
    for page in pages() {
        let document = framed(&page, &viewer(Role::Administrator), None, None);
        assert_eq!(document.matches("<h1>").count(), 1, "{}", page.title);
        let mut ids: Vec<_> = document
            .split(" id=\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap())
            .collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count, "{}: {ids:?}", page.title);
    }
}

#[test]
fn a_role_sees_what_it_may_do() {
    let mut known = detail();
    known.host.name = "node-1".to_owned();
    known.host.revoked = None;
    let shown = |role| {
        let viewer = viewer(role);
        let page = hosts::one(&known, &viewer, NOW);
        framed(&page, &viewer, None, None)
    };
    assert!(shown(Role::HostManager).contains("/hosts/node-1/revoke"));
    assert!(!shown(Role::Reviewer).contains("/hosts/node-1/revoke"));
    let nobody = Viewer {
        permissions: Permissions::default(),
        ..viewer(Role::Reviewer)
    };
    let document = framed(&sign_in::page(None), &nobody, None, None);
    assert!(!document.contains("href=\"/hosts\""));
}

/// The first page says whether a VM can start, and what the first step is.
#[test]
fn the_overview_answers_the_question_and_teaches_the_first_step() {
    let page = overview::page(&status(), None, &viewer(Role::HostManager), NOW);
    let text = page.body.into_string();
    assert!(text.contains("No VM can start now"), "{text}");
    assert!(
        text.contains("there is no primary signing certificate"),
        "{text}"
    );
    assert!(text.contains("Add the first host"), "{text}");
    let reviewer = overview::page(&status(), None, &viewer(Role::Reviewer), NOW);
    assert!(!reviewer.body.into_string().contains("/add-host"));
}

#[test]
fn commands_for_a_new_host_are_what_is_typed_there() {
    let page = hosts::list(
        &[],
        &HostQuery::default(),
        &status(),
        &viewer(Role::Reviewer),
        NOW,
    );
    let text = page.body.into_string();
    assert!(
        text.contains(">guarded-host configure https://hgs.example</code>"),
        "{text}"
    );
    assert!(text.contains("guarded-host identity export"), "{text}");
    assert!(text.contains("There are no hosts yet."), "{text}");
}
