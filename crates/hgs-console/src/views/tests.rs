//! Pages from answers that somebody else has named.

use hgs_admin::types::{
    AttestationMode, AuditRecord, Certificate, ConsoleSession, DocumentKind, Host, HostDetail,
    HostEvidence, HostGroup, HostQuery, Judgement, LastAttempt, Policy, PolicyDocument,
    PolicyDocumentDetail, Protector, ProtectorLineage, ProtectorStage, Revocation, SignInWay,
    Standing, Status, Warning,
};
use hgs_admin::{AdminError, Caller, ErrorCode, Identity, Permissions, Role};
use hgs_pki::{Thumbprint, Time};

use super::document::{self, Which};
use super::last_hour::{Bars, LastHour};
use super::log::Filters;
use super::machines::{self, Wanted};
use super::overview::Beside;
use super::policies::{self, OfGroup};
use super::waiting::{self, Group};
use super::{certificates, tenants};
use super::{hosts, last_hour, log, overview, problem, sessions, sign_in};
use crate::acts::Entered;
use crate::acts::policies::Change;
use crate::effect::Effect;
use crate::page::{framed, framed_for_strangers};
use crate::sessions::Times;
use crate::{Page, Viewer};

pub(super) const HOSTILE: &str = "</code><script>alert(1)</script>\" onfocus=\"alert(1)&amp;";
pub(super) const NOW: Time = Time::from_unix(1_800_000_000);

pub(super) fn viewer(role: Role) -> Viewer {
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
        way: SignInWay::Certificate,
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

fn refusal() -> Group {
    let host = Host {
        revoked: None,
        ..host()
    };
    Group {
        hosts: vec![
            host.clone(),
            Host {
                name: "node-2".to_owned(),
                ..host
            },
        ],
        judged: judged(),
    }
}

fn of_group() -> OfGroup {
    OfGroup {
        group: Some(HOSTILE.to_owned()),
    }
}

fn groups() -> Vec<HostGroup> {
    let group = |name: &str| HostGroup {
        name: name.to_owned(),
        hosts: 1,
        settings: 0,
        problem: Some(HOSTILE.to_owned()),
        added: None,
    };
    vec![group("default"), group(HOSTILE)]
}

fn settings() -> Vec<Policy> {
    let policy = |name: &str, kind: &str| Policy {
        name: name.to_owned(),
        kind: kind.to_owned(),
        guid: None,
        enabled: true,
        locked: false,
        undecided: false,
        set_for: Some(HOSTILE.to_owned()),
    };
    vec![
        policy("Hgs_IommuEnabled", "policy"),
        policy(HOSTILE, HOSTILE),
        policy("model-a", "baseline"),
    ]
}

fn effect() -> Effect {
    Effect {
        hosts: 64,
        unknown: 1,
        refused: 3,
        newly_refused: vec![HOSTILE.to_owned()],
        newly_healthy: vec![HOSTILE.to_owned()],
    }
}

fn which() -> Which {
    Which {
        component: HOSTILE.to_owned(),
        alternative: HOSTILE.to_owned(),
    }
}

/// A baseline of whose one component an alternative is staged.
fn baseline() -> PolicyDocumentDetail {
    let text = serde_json::json!({
        "kind": "openhgs-baseline", "version": 1,
        "lanes": [{"pcr": 4, "slots": [{"component": "kernel", "name": "image"}]}],
        "components": [{"name": "kernel", "kind": "shared", "alternatives": [{
            "name": HOSTILE, "source": {"kind": "file", "of": HOSTILE},
            "state": {"staged": {"expires": "2030-01-01T00:00:00Z"}},
            "events": [{"slot": "image", "events": [{"digest": "00".repeat(32)}]}],
        }]}],
    });
    PolicyDocumentDetail {
        document: PolicyDocument {
            name: HOSTILE.to_owned(),
            kind: DocumentKind::Baseline,
            enabled: vec![HOSTILE.to_owned()],
            octets: 1,
            digest: HOSTILE.to_owned(),
            added: HOSTILE.to_owned(),
            changed: None,
        },
        text: text.to_string(),
    }
}

/// A record of a release, with every field that a name of others may be in.
fn record() -> AuditRecord {
    let record = serde_json::json!({
        "sequence": 17, "request": "5f0c3a91-1742", "time": NOW.to_string(), "node": HOSTILE, "actor": HOSTILE, "action": HOSTILE,
        "outcome": "refused", "reason": HOSTILE, "host": HOSTILE, "host_name": HOSTILE, "serial": HOSTILE,
        "policy": HOSTILE, "protector": HOSTILE, "egress_protector": HOSTILE, "standing": "ancestor",
        "owner": HOSTILE, "guardian": HOSTILE, "lineage": HOSTILE,
        "offline_use": {"unwraps": 1, "until": HOSTILE}, "count": 2, "generation": 1,
        "before": {"name": HOSTILE}, "after": HOSTILE, "changes": [HOSTILE],
    });
    serde_json::from_value(record).unwrap()
}

fn protector(stage: ProtectorStage) -> Protector {
    Protector {
        protector: HOSTILE.to_owned(),
        parent: Some(HOSTILE.to_owned()),
        stage,
        owner: HOSTILE.to_owned(),
        guardian: Some(HOSTILE.to_owned()),
        lineage: Some(HOSTILE.to_owned()),
        host: HOSTILE.to_owned(),
        host_name: Some(HOSTILE.to_owned()),
        first: NOW.to_string(),
        last: HOSTILE.to_owned(),
    }
}

fn line() -> ProtectorLineage {
    ProtectorLineage {
        protector: protector(ProtectorStage::Head),
        ancestors: vec![protector(ProtectorStage::Ancestor)],
        issued: vec![protector(ProtectorStage::Issued)],
    }
}

/// A tenant's certificate whose key is compromised and away.
fn certificate() -> Certificate {
    let certificate = serde_json::json!({
        "thumbprint": HOSTILE, "kind": "signing", "subject": HOSTILE, "label": HOSTILE,
        "lineage": format!("tenant:{HOSTILE}"), "enabled": true, "primary": false, "head": true,
        "compromised": NOW.to_string(), "key": HOSTILE, "key_bits": 2048, "usable": false,
        "not_before": NOW.to_string(), "not_after": HOSTILE, "added": NOW.to_string(),
    });
    serde_json::from_value(certificate).unwrap()
}

fn beside() -> Beside {
    let bars = |is_cut| Bars::of(&[record()], is_cut, NOW);
    Beside {
        cluster: None,
        last_hour: Some(LastHour {
            released: bars(true),
            refused: bars(false),
        }),
        backup: Some(Some(HOSTILE.to_owned())),
        certificates: Some(vec![certificate()]),
        rekey_window_until: Some(HOSTILE.to_owned()),
    }
}

/// A search in which every field is hostile.
fn filters() -> Filters {
    let fields = [
        "host",
        "action",
        "outcome",
        "since",
        "until",
        "protector",
        "lineage",
        "request",
        "before",
    ];
    let fields = fields.map(|name| (name, HOSTILE));
    let query = serde_urlencoded::to_string(fields).unwrap();
    serde_urlencoded::from_str(&query).unwrap()
}

/// Every page, with whatever may be hostile in it being so.
fn pages() -> Vec<Page> {
    let administrator = viewer(Role::Administrator);
    let entered =
        Entered::read(b"name=%22%3E%3Cscript%3E&credential=%3C/textarea%3E%3Cscript%3E").unwrap();
    let error = AdminError::new(ErrorCode::Conflict, HOSTILE).with_remedy(HOSTILE);
    let mut pages = certificates::tests::pages();
    pages.extend(tenants::tests::pages());
    pages.extend([
        overview::page(&status(), &beside(), &administrator, NOW),
        overview::try_release(Some(&error)),
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
        hosts::approve(&evidence(), &refusal(), (&entered, true), Some(&error), NOW),
        waiting::page(&[refusal()], 2, &administrator, NOW),
        policies::page(&OfGroup::default(), &groups(), &settings(), &administrator),
        policies::set(
            &settings()[0],
            Change::Enable,
            &of_group(),
            &effect(),
            Some(&error),
        ),
        document::page(&baseline(), &[judged()], &administrator, NOW),
        document::add(&entered, Some(&effect()), Some(&error)),
        document::change(&baseline(), &entered, Some(&effect()), Some(&error)),
        document::retire(&baseline(), &which(), Some(&effect()), Some(&error)),
        document::remove(&baseline(), &effect(), Some(&error)),
        machines::list(
            &[protector(ProtectorStage::Head)],
            &Wanted {
                host: HOSTILE.to_owned(),
                ..Wanted::default()
            },
            &[record()],
            &administrator,
            NOW,
        ),
        machines::one(&line(), &[record()], &administrator, NOW),
        log::list(&[record()], &filters(), None, &administrator, NOW),
        log::list(&[], &filters(), Some(&error), &administrator, NOW),
        log::one(&record(), &administrator, NOW),
        sessions::page(&[session()], &administrator, NOW),
        sessions::revoke(&session(), &administrator, Some(&error), NOW),
        problem::page(&error),
        sign_in::by_link("secret", Some(HOSTILE), Times::default()),
        sign_in::by_link(HOSTILE, None, Times::default()),
        sign_in::page(sign_in::Ways {
            provider: Some(HOSTILE),
            certificate: true,
        }),
        sign_in::by_certificate(
            &Caller {
                identity: Identity::Certificate {
                    thumbprint: Thumbprint::of(b"certificate"),
                    name: HOSTILE.to_owned(),
                },
                permissions: Role::Reviewer.permissions(),
            },
            Times::default(),
        ),
    ]);
    pages
}

#[test]
fn names_of_others_stay_text() {
    for page in pages() {
        let document = framed(&page, &viewer(Role::Administrator), None, None, 7);
        let scripts = document.matches("<script").count();
        assert_eq!(scripts, 1, "{}", page.title);
        assert!(!document.contains("\" onfocus"), "{}", page.title);
        assert!(!document.contains("<script>"), "{}", page.title);
    }
    let stranger = framed_for_strangers(&sign_in::page(sign_in::Ways::default()), None);
    assert_eq!(stranger.matches("<script").count(), 1);
}

/// A page that is shown anew says up to which record it is sure to be right.
#[test]
fn a_live_page_names_the_record_that_it_was_made_at() {
    let pages = pages();
    let (live, still): (Vec<_>, Vec<_>) = pages.iter().partition(|page| page.is_live);
    let administrator = viewer(Role::Administrator);
    let document = |page: &Page| framed(page, &administrator, None, None, 7);
    assert!(document(live[0]).contains("data-events=\"/events?since=7\""));
    assert!(!document(still[0]).contains("data-events"));
}

/// A page has one heading of the first level, and each id once.
#[test]
fn pages_have_one_title_and_unique_ids() {
    for page in pages() {
        let document = framed(&page, &viewer(Role::Administrator), None, None, 7);
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
        framed(&page, &viewer, None, None, 7)
    };
    assert!(shown(Role::HostManager).contains("/hosts/node-1/revoke"));
    assert!(!shown(Role::Reviewer).contains("/hosts/node-1/revoke"));
    let nobody = Viewer {
        permissions: Permissions::default(),
        ..viewer(Role::Reviewer)
    };
    let document = framed(
        &sign_in::page(sign_in::Ways::default()),
        &nobody,
        None,
        None,
        7,
    );
    assert!(!document.contains("href=\"/hosts\""));
    let menu = |role| {
        framed(
            &sign_in::page(sign_in::Ways::default()),
            &viewer(role),
            None,
            None,
            7,
        )
    };
    assert!(menu(Role::Reviewer).contains("href=\"/audit\""));
    assert!(!menu(Role::HostManager).contains("href=\"/audit\""));
}

/// The first page says whether a VM can start, and what the first step is.
#[test]
fn the_overview_answers_the_question_and_teaches_the_first_step() {
    let page = overview::page(
        &status(),
        &Beside::default(),
        &viewer(Role::HostManager),
        NOW,
    );
    let text = page.body.into_string();
    assert!(text.contains("No VM can start now"), "{text}");
    assert!(
        text.contains("there is no primary signing certificate"),
        "{text}"
    );
    assert!(text.contains("Add the first host"), "{text}");
    let reviewer = overview::page(&status(), &Beside::default(), &viewer(Role::Reviewer), NOW);
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

/// Hosts that differ in the same way are one decision, and what nobody can decide on is none.
#[test]
fn refusals_are_grouped_by_their_difference() {
    let refused = |name: &str, difference: Option<&str>| Host {
        name: name.to_owned(),
        id: format!("id of {name}"),
        revoked: None,
        last_attempt: Some(LastAttempt {
            evidence_digest: Some("00".to_owned()),
            difference_digest: difference.map(str::to_owned),
            ..attempt()
        }),
        ..host()
    };
    let revoked = Host {
        revoked: host().revoked,
        ..refused("revoked", Some("kernel"))
    };
    let without_evidence = Host {
        last_attempt: Some(attempt()),
        ..refused("by its key", None)
    };
    let hosts = vec![
        refused("a", Some("firmware")),
        refused("b", Some("kernel")),
        refused("c", None),
        refused("d", Some("kernel")),
        revoked,
        without_evidence,
    ];
    let names = waiting::alike(hosts);
    let names: Vec<Vec<_>> = names
        .iter()
        .map(|hosts| hosts.iter().map(|host| &*host.name).collect())
        .collect();
    assert_eq!(names, [vec!["b", "d"], vec!["a"], vec!["c"]]);
}

#[test]
fn who_may_not_approve_or_change_sees_no_way_to() {
    let seen = |role| {
        let viewer = viewer(role);
        let waiting = waiting::page(&[named(refusal())], 0, &viewer, NOW);
        let policies = policies::page(&OfGroup::default(), &groups(), &settings(), &viewer);
        let document = document::page(&named_baseline(), &[], &viewer, NOW);
        [waiting, policies, document].map(|page| page.body.into_string())
    };
    let [waiting, policies, document] = seen(Role::Administrator);
    assert!(
        waiting.contains("href=\"/hosts/node-1/approve?alike=true\""),
        "{waiting}"
    );
    assert!(
        policies.contains("href=\"/policies/Hgs_IommuEnabled/disable\""),
        "{policies}"
    );
    assert!(
        document
            .contains("/policy-documents/model-a/retire?component=kernel&amp;alternative=second"),
        "{document}"
    );
    let [waiting, policies, document] = seen(Role::HostManager);
    assert!(waiting.contains("/hosts/node-1/approve"), "{waiting}");
    assert!(!policies.contains("/disable\""), "{policies}");
    assert!(!document.contains("/retire"), "{document}");
    let [waiting, ..] = seen(Role::Reviewer);
    assert!(!waiting.contains("/approve"), "{waiting}");
}

fn named(mut refusal: Group) -> Group {
    refusal.hosts[0].name = "node-1".to_owned();
    refusal
}

/// A baseline with two kernels.
fn named_baseline() -> PolicyDocumentDetail {
    let mut baseline = baseline();
    baseline.document.name = "model-a".to_owned();
    let mut text: serde_json::Value = serde_json::from_str(&baseline.text).unwrap();
    let kernels = text["components"][0]["alternatives"]
        .as_array_mut()
        .unwrap();
    let mut second = kernels[0].clone();
    second["name"] = "second".into();
    second["events"][0]["events"][0]["digest"] = "11".repeat(32).into();
    kernels.push(second);
    baseline.text = text.to_string();
    baseline
}

/// Of what a document can't do without, nothing is offered that would be refused.
#[test]
fn the_only_alternative_of_a_component_is_not_offered_for_retiring() {
    let administrator = viewer(Role::Administrator);
    let seen = |kind: &str, count: usize| {
        let mut detail = named_baseline();
        let mut text: serde_json::Value = serde_json::from_str(&detail.text).unwrap();
        let component = &mut text["components"][0];
        component["kind"] = kind.into();
        component["alternatives"]
            .as_array_mut()
            .unwrap()
            .truncate(count);
        detail.text = text.to_string();
        let page = document::page(&detail, &[], &administrator, NOW);
        page.body.into_string().matches("/retire?").count()
    };
    assert_eq!(seen("shared", 2), 2);
    assert_eq!(seen("shared", 1), 0);
    assert_eq!(seen("host", 1), 1);
}

/// What is done first is what is said first: how many hosts would be refused.
#[test]
fn a_change_says_what_it_would_do() {
    let page = policies::set(
        &settings()[0],
        Change::Enable,
        &OfGroup::default(),
        &effect(),
        None,
    );
    let text = page.body.into_string();
    assert!(text.contains("3 of 64 hosts would be refused"), "{text}");
    assert!(
        text.contains("1 host that is healthy now would be refused"),
        "{text}"
    );
    assert!(
        text.contains("What 1 more host booted last is not known"),
        "{text}"
    );
}

#[test]
fn a_search_asks_for_what_was_entered() {
    let entered =
        "host=node-1&action=release&outcome=&since=2030-01-31&until=2030-02-01T09:30:00Z&notice=x";
    let filters: Filters = serde_urlencoded::from_str(entered).unwrap();
    let query = filters.query().unwrap();
    assert_eq!(query.host.as_deref(), Some("node-1"));
    assert_eq!(query.action.unwrap().to_string(), "release");
    assert_eq!((query.outcome, query.protector), (None, None));
    assert_eq!(query.since.as_deref(), Some("2030-01-31T00:00:00Z"));
    assert_eq!(query.until.as_deref(), Some("2030-02-01T09:30:00Z"));
    for entered in ["outcome=maybe", "request=17"] {
        let refused: Filters = serde_urlencoded::from_str(entered).unwrap();
        assert_eq!(refused.query().unwrap_err().code, ErrorCode::InvalidRequest);
    }
    // A record leads to what else its request has led to.
    let page = log::one(&record(), &viewer(Role::Reviewer), NOW);
    let link = "href=\"/audit?request=5f0c3a91-1742\"";
    assert!(page.body.into_string().contains(link));
    let filters: Filters = serde_urlencoded::from_str("request=5f0c3a91-1742").unwrap();
    assert_eq!(filters.query().unwrap().request, record().request);
}

/// The next page, and the download, are of the same search.
#[test]
fn pages_of_the_log_keep_the_search() {
    let filters: Filters = serde_urlencoded::from_str("host=a%26b").unwrap();
    let records = vec![record(); log::PAGE];
    let viewer = viewer(Role::Reviewer);
    let page = log::list(&records, &filters, None, &viewer, NOW)
        .body
        .into_string();
    assert!(
        page.contains("href=\"/audit?host=a%26b&amp;before=17\""),
        "{page}"
    );
    assert!(
        page.contains("href=\"/audit-records?host=a%26b\""),
        "{page}"
    );
    let last = log::list(&records[1..], &filters, None, &viewer, NOW);
    assert!(!last.body.into_string().contains("before="));
}

/// Who looks at a machine sees whether an older protector of it came back, and what to do then.
#[test]
fn a_rollback_is_said_first() {
    let viewer = viewer(Role::Reviewer);
    let shown = |records: &[AuditRecord]| {
        let page = machines::one(&line(), records, &viewer, NOW);
        page.body.into_string()
    };
    let ordinary = AuditRecord {
        standing: Some(Standing::Head),
        ..record()
    };
    assert!(shown(&[ordinary]).contains("No older protector came back"));
    let text = shown(&[record()]);
    assert!(text.contains("came back: 1 time."), "{text}");
    assert!(text.contains("revoke the host"), "{text}");
    let list = machines::list(&[], &Wanted::default(), &[], &viewer, NOW);
    let list = list.body.into_string();
    assert!(list.contains("No keys were released yet"), "{list}");
    assert!(!list.contains("Rolled back"), "{list}");
}

/// What is drawn is said in words too, and what lies further back than an hour is not in it.
#[test]
fn the_last_hour_is_counted_in_bars_and_in_words() {
    let at = |seconds_ago: i64, count| AuditRecord {
        time: Time::from_unix(1_800_000_000 - seconds_ago).to_string(),
        count,
        ..record()
    };
    let refusals = [
        at(0, None),
        at(299, Some(4)),
        at(3599, None),
        at(3601, None),
    ];
    let hour = LastHour {
        released: Bars::of(&[at(10, None)], true, NOW),
        refused: Bars::of(&refusals, false, NOW),
    };
    let text = last_hour::section(&hour).into_string();
    assert!(text.contains("6 refusals. Every five minutes, from an hour ago until now: 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5"), "{text}");
    assert!(text.contains("more than 1 release"), "{text}");
    assert!(
        text.contains("<rect x=\"220\" y=\"0\" width=\"18\" height=\"60\">"),
        "{text}"
    );
    assert!(
        text.contains("<rect x=\"0\" y=\"48\" width=\"18\" height=\"12\">"),
        "{text}"
    );
}

/// What can stop a VM, or lets one start that should not, is on the first page.
#[test]
fn the_overview_says_what_is_compromised_and_how_old_the_backup_is() {
    let reviewer = viewer(Role::Reviewer);
    let text = |beside: &Beside, viewer| {
        let page = overview::page(&status(), beside, viewer, NOW);
        page.body.into_string()
    };
    let shown = text(&beside(), &reviewer);
    for said in [
        "marked as compromised",
        "Tenants with keys",
        "Re-key window",
        "The last hour",
    ] {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    assert!(shown.contains("href=\"/trace/roll\""), "{shown}");
    let without_backup = Beside {
        backup: Some(None),
        ..Beside::default()
    };
    assert!(text(&without_backup, &reviewer).contains("hgs state export"));
    let manager = text(&Beside::default(), &viewer(Role::HostManager));
    assert!(
        !manager.contains("/trace/roll") && !manager.contains("The last hour"),
        "{manager}"
    );
}
