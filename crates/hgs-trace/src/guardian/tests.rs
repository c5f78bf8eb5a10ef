//! One breakage, one root cause.

use hgs_pki::Time;

use super::*;
use crate::{
    Clocks, Group, Outcome, PathFacts, PathKind, PresentedCertificate, Problem, Reachability,
    Validity,
};

const URL: &str = "https://hgs.example";
const API_URL: &str = "https://hgs.example:9443";

fn now() -> Time {
    Time::from_unix(1_800_000_000)
}

fn days(days: i64) -> Time {
    Time::from_unix(now().unix() + days * 86_400)
}

fn private(path: &str, kind: PathKind) -> PathFacts {
    PathFacts {
        path: path.to_owned(),
        kind,
        mode: Some(if kind == PathKind::Folder {
            0o700
        } else {
            0o600
        }),
        owner: Some(998),
        problem: None,
    }
}

fn works(decrypts: bool) -> Option<KeyTest> {
    Some(KeyTest {
        held: Ok(()),
        belongs: Some(true),
        decrypts: decrypts.then_some(Ok(())),
        signs: (!decrypts).then_some(Ok(())),
        tokens: vec![],
    })
}

fn valid() -> Validity {
    Validity {
        not_before: days(-10),
        not_after: days(300),
    }
}

fn certificate(kind: &str) -> Certificate {
    Certificate {
        thumbprint: format!("{kind}-thumbprint"),
        kind: kind.to_owned(),
        subject: format!("CN={kind}"),
        label: None,
        lineage: "fabric".to_owned(),
        enabled: true,
        primary: true,
        key: "sealed".to_owned(),
        key_bits: 3072,
        lacking_key_usage: None,
        validity: valid(),
        added: days(-10),
        work: works(kind == "encryption"),
    }
}

fn state() -> State {
    State {
        name: "guardian.example".to_owned(),
        generation: 7,
        sound: Ok(()),
        writable: Ok(()),
        last_record: Some(days(-1)),
        certificates: ["signing", "encryption", "communications"]
            .map(certificate)
            .into(),
        signers: vec![Signer {
            thumbprint: "signer-thumbprint".to_owned(),
            own: true,
            validity: valid(),
            work: works(false),
        }],
        new_signer_due: false,
        active_signer: Some("signer-thumbprint".to_owned()),
        health_certificate: Some(Ok(())),
        host_warnings: Vec::new(),
        tpm_mode: Some(TpmMode {
            ek_roots: 3,
            group_problems: Vec::new(),
            hosts: 2,
            refused_hosts: Vec::new(),
        }),
        audit_records: Some(1_000),
    }
}

fn public() -> PublicFacts {
    PublicFacts {
        reach: Reachability {
            url: URL.to_owned(),
            addresses: Ok(vec!["192.0.2.1:443".to_owned()]),
            connected: Some(Ok("192.0.2.1:443".to_owned())),
            tls: Some(Ok(PresentedCertificate {
                thumbprint: "tls-thumbprint".to_owned(),
                validity: Some(valid()),
            })),
            answered: Some(Ok(())),
            clocks: Some(Clocks {
                there: now(),
                here: now(),
            }),
        },
        attestation_mode: Some(Ok("HostKey".to_owned())),
        signing_certificates: Some(Ok(vec!["signer-thumbprint".to_owned()])),
        metadata: Some(Ok(Metadata {
            signing: "signing-thumbprint".to_owned(),
            encryption: "encryption-thumbprint".to_owned(),
            signer: "communications-thumbprint".to_owned(),
        })),
        refusal: Some(Ok("HealthCertificateException".to_owned())),
    }
}

fn cluster() -> Cluster {
    let node = |name: &str| ClusterNode {
        name: name.to_owned(),
        there: true,
        votes: true,
        error: None,
        version: Some("1".to_owned()),
        lag: Some(0),
        clock_apart: Some(0),
        missing_keys: Some(vec![]),
        etcd_version: Some("3.4.23".to_owned()),
        etcd_octets: Some(1 << 20),
        etcd_quota: Some(1 << 31),
        alarms: vec![],
    };
    Cluster {
        node: "n1".to_owned(),
        usable: Ok(()),
        certificates: vec![ClusterCertificate {
            name: "node.pem".to_owned(),
            validity: valid(),
        }],
        standing: Some(ClusterStanding {
            quorum: true,
            leader: Some("n1".to_owned()),
            survives: Some(1),
            divergence: None,
            trouble: None,
            put_back: None,
            nodes: ["n1", "n2", "n3"].map(node).into(),
            lagging: vec![],
        }),
        put_back: None,
    }
}

fn sound() -> Facts {
    Facts {
        time: now(),
        version: "1".to_owned(),
        configuration: Some(Ok(vec![])),
        service: Some(Service::Answers),
        local: Some(LocalFacts {
            time: now(),
            user: 998,
            process: Some(Process {
                core_limit: Some(0),
                dumpable: false,
                open_files: Some(40),
                file_limit: Some(65_536),
            }),
            state_folder: private("/state", PathKind::Folder),
            disk: Some(Disk {
                free: 1 << 32,
                total: 1 << 34,
                free_files: Some(1 << 20),
            }),
            master_key_file: private("/state/master.key", PathKind::File),
            master_key: Ok(()),
            https: Some(shown("/tls.pem", URL)),
            api: Some(shown("/api.pem", API_URL)),
            urls: vec![URL.to_owned()],
            high_water_mark: Some(Ok(())),
            settings: Some(vec![]),
            listeners: vec![],
            state: Some(Ok(state())),
            cluster: Some(cluster()),
        }),
        synthetic_roll: Some(SyntheticRoll {
            released: Ok(()),
            tampered: Ok("InvalidProtectorException".to_owned()),
        }),
        public: vec![public()],
    }
}

/// The certificate that a listener shows at `url`.
fn shown(certificate: &str, url: &str) -> ListenerCertificate {
    ListenerCertificate {
        certificate: certificate.to_owned(),
        usable: Ok(()),
        key: Some(private("/tls.key", PathKind::File)),
        validity: Some(valid()),
        authority: false,
        names: vec![NameMatch {
            url: url.to_owned(),
            matches: Ok(()),
        }],
    }
}

fn broken(change: impl FnOnce(&mut Facts)) -> Report {
    let mut facts = sound();
    change(&mut facts);
    facts.diagnose(&Selection::All)
}

fn local(facts: &mut Facts) -> &mut LocalFacts {
    facts.local.as_mut().unwrap()
}

fn in_state(facts: &mut Facts) -> &mut State {
    local(facts).state.as_mut().unwrap().as_mut().unwrap()
}

fn at_url(facts: &mut Facts) -> &mut PublicFacts {
    &mut facts.public[0]
}

/// What the service says of the synthetic roll when something keeps it from being released.
fn refuse_roll(facts: &mut Facts) {
    facts.synthetic_roll = Some(SyntheticRoll {
        released: problem(),
        tampered: problem(),
    });
}

fn problem<T>() -> crate::Observed<T> {
    Err(Problem::new("it is broken").with_remedy(Some("mend it")))
}

/// That `id` alone failed, and that `skipped` were, because of it.
#[track_caller]
fn assert_root(report: &Report, id: &str, skipped: &[&str]) {
    let roots: Vec<_> = report.root_causes.iter().map(|root| &*root.id).collect();
    assert_eq!(roots, [id], "{report:#?}");
    for skipped in skipped {
        let mut findings = report.findings.iter();
        let found = findings.any(|finding| {
            finding.id == *skipped
                && finding.outcome == Outcome::Skipped
                && finding.because.as_ref().is_some_and(|root| root.id == id)
        });
        assert!(found, "{skipped} was not skipped: {report:#?}");
    }
}

#[test]
fn a_sound_guardian_passes_every_check() {
    let report = sound().diagnose(&Selection::All);
    let other = report
        .findings
        .iter()
        .find(|finding| finding.outcome != Outcome::Pass);
    assert_eq!(other, None);
    for check in checks() {
        // There is no token, nobody else's signer, and nothing that keeps it from starting.
        let absent = ["HGS-A004", "HGS-S005"].contains(&check.id) || check.group == Group::Tokens;
        let found = report.findings.iter().any(|finding| finding.id == check.id);
        assert_eq!(found, !absent, "{}", check.id);
    }
}

#[test]
fn dependencies_come_first_and_exist() {
    let checks = checks();
    for (place, check) in checks.iter().enumerate() {
        for id in check.after {
            let known = checks[..place].iter().any(|earlier| earlier.id == *id);
            assert!(known, "{} comes after {id}", check.id);
        }
    }
}

#[test]
fn an_unknown_key_in_the_configuration() {
    let report = broken(|facts| {
        *facts = Facts {
            configuration: Some(problem()),
            service: None,
            local: None,
            synthetic_roll: None,
            public: vec![],
            ..sound()
        };
    });
    assert_root(
        &report,
        "HGS-S001",
        &["HGS-S003", "HGS-D001", "HGS-K003", "HGS-P004"],
    );
}

#[test]
fn a_service_that_does_not_run_leaves_the_state_to_be_looked_at() {
    let report = broken(|facts| {
        facts.service = Some(Service::NotRunning(Problem::new("nobody listens")));
        local(facts).process = None;
        facts.synthetic_roll = None;
        facts.public.clear();
    });
    assert_root(&report, "HGS-S003", &["HGS-M002", "HGS-N005", "HGS-P004"]);
    let passed = |id| {
        let mut findings = report.findings.iter();
        findings.any(|finding| finding.id == id && finding.outcome == Outcome::Pass)
    };
    assert!(passed("HGS-D004") && passed("HGS-K003"));
}

#[test]
fn a_user_whom_the_service_does_not_answer() {
    let report = broken(|facts| {
        facts.service = Some(Service::Forbidden(Problem::new("no")));
        local(facts).process = None;
        local(facts).state = None;
        facts.synthetic_roll = None;
        facts.public.clear();
    });
    assert_root(
        &report,
        "HGS-S004",
        &["HGS-D004", "HGS-K001", "HGS-M002", "HGS-P001"],
    );
}

#[test]
fn a_master_key_that_others_can_read() {
    let report = broken(|facts| {
        local(facts).master_key_file.mode = Some(0o644);
        local(facts).master_key = problem();
        local(facts).state = None;
        facts.service = Some(Service::NotRunning(Problem::new("it does not start")));
        facts.synthetic_roll = None;
        facts.public.clear();
    });
    assert_root(&report, "HGS-D002", &["HGS-S003", "HGS-D004"]);
    let finding = report
        .findings
        .iter()
        .find(|one| one.id == "HGS-D002")
        .unwrap();
    let remedy = finding.remedy.as_deref();
    assert_eq!(remedy, Some("run `chmod go= /state/master.key`"));
}

#[test]
fn a_state_that_was_tampered_with() {
    let report = broken(|facts| local(facts).state = Some(problem()));
    assert_root(
        &report,
        "HGS-D004",
        &["HGS-C001", "HGS-K001", "HGS-A001", "HGS-D006"],
    );
}

#[test]
fn a_full_disk() {
    let report = broken(|facts| {
        local(facts).disk = Some(Disk {
            free: 4096,
            total: 1 << 23,
            free_files: None,
        });
        in_state(facts).sound = problem();
        in_state(facts).writable = problem();
        refuse_roll(facts);
    });
    assert_root(
        &report,
        "HGS-D005",
        &["HGS-D004", "HGS-D006", "HGS-P004", "HGS-P005"],
    );
}

#[test]
fn a_clock_that_is_behind() {
    let report = broken(|facts| {
        local(facts).time = days(-20);
        in_state(facts).active_signer = None;
        in_state(facts).health_certificate = None;
        refuse_roll(facts);
    });
    assert_root(&report, "HGS-M001", &["HGS-C003", "HGS-A001", "HGS-N004"]);
}

/// The newest record agrees with the clock; an older one, and what was made then, lie in the future.
#[test]
fn a_clock_that_was_ahead_once() {
    let report = broken(|facts| {
        in_state(facts).signers[0].validity.not_before = days(30);
    });
    let warned = report
        .findings
        .iter()
        .find(|one| one.outcome == Outcome::Warning)
        .unwrap();
    assert_eq!((&*warned.id, report.works()), ("HGS-M001", true));
    assert!(
        warned.evidence.as_ref().unwrap().contains("ahead once"),
        "{warned:?}"
    );
    let report = broken(|facts| {
        in_state(facts).certificates[1].validity.not_before = days(30);
        in_state(facts).certificates[1].added = days(30);
    });
    assert_root(&report, "HGS-C003", &[]);
}

#[test]
fn files_of_which_hardly_any_more_can_be_opened() {
    let open =
        |files| broken(|facts| local(facts).process.as_mut().unwrap().open_files = Some(files));
    assert_eq!(open(50_000).outcome, Outcome::Warning);
    assert_root(&open(65_000), "HGS-M003", &[]);
}

#[test]
fn a_disk_without_room_for_another_file() {
    let report = broken(|facts| {
        local(facts).disk.as_mut().unwrap().free_files = Some(0);
        in_state(facts).writable = problem();
    });
    assert_root(&report, "HGS-D005", &["HGS-D006"]);
}

/// What keeps a service from starting is the cause, and not that it does not run.
#[test]
fn what_keeps_a_service_from_starting() {
    fn stopped(facts: &mut Facts) {
        facts.service = Some(Service::NotRunning(Problem::new("nobody listens")));
        let seen = local(facts);
        seen.process = None;
        seen.settings = None;
        facts.synthetic_roll = None;
        facts.public.clear();
    }
    type Change = fn(&mut Facts);
    let causes: [(&str, Change); 5] = [
        ("HGS-S002", |facts| {
            facts.configuration = Some(Ok(vec![Setting {
                name: "listen.admin.group".to_owned(),
                prevents: true,
                problem: Problem::new("there is no such group"),
            }]));
        }),
        ("HGS-S005", |facts| {
            local(facts).listeners = vec![Listener {
                name: "[listen.http] 0.0.0.0:80".to_owned(),
                free: problem(),
            }];
        }),
        ("HGS-D003", |facts| {
            local(facts).master_key = problem();
            local(facts).state = Some(problem());
        }),
        ("HGS-D004", |facts| local(facts).state = Some(problem())),
        ("HGS-N001", |facts| {
            local(facts).https.as_mut().unwrap().usable = problem();
        }),
    ];
    for (id, cause) in causes {
        let report = broken(|facts| {
            stopped(facts);
            cause(facts);
        });
        assert_root(&report, id, &["HGS-S003", "HGS-M002", "HGS-N006"]);
    }
    // A setting that the service itself does not mind is no cause.
    let report = broken(|facts| {
        facts.configuration = Some(Ok(vec![Setting {
            name: "limits.connections".to_owned(),
            prevents: false,
            problem: Problem::new("few files"),
        }]));
    });
    assert_eq!(report.outcome, Outcome::Pass);
}

#[test]
fn a_service_that_hangs() {
    let report = broken(|facts| {
        facts.service = Some(Service::NoAnswer(Problem::new("no answer within 5 s")));
        facts.local = None;
        facts.synthetic_roll = None;
        facts.public.clear();
    });
    assert_root(
        &report,
        "HGS-S004",
        &["HGS-D004", "HGS-M002", "HGS-N006", "HGS-P004"],
    );
    let report = broken(|facts| {
        let public = at_url(facts);
        public.reach.answered = Some(problem());
        public.attestation_mode = None;
        public.signing_certificates = None;
        public.metadata = None;
        public.refusal = None;
    });
    assert_root(&report, "HGS-N009", &["HGS-P001", "HGS-P003", "HGS-P006"]);
}

#[test]
fn a_tls_certificate_of_an_authority() {
    let report = broken(|facts| {
        local(facts).https.as_mut().unwrap().authority = true;
        at_url(facts).reach.tls = Some(problem());
        at_url(facts).reach.answered = None;
    });
    assert_root(&report, "HGS-N008", &["HGS-N007", "HGS-P001"]);
}

/// What is wrong with the certificate of `[listen.api]` hides nothing of what hosts see.
#[test]
fn a_certificate_of_the_api() {
    type Break = fn(&mut ListenerCertificate);
    let cases: [(&str, Break); 3] = [
        ("HGS-N010", |api| api.names[0].matches = problem()),
        ("HGS-N011", |api| {
            api.validity.as_mut().unwrap().not_after = days(-1);
        }),
        ("HGS-N012", |api| api.authority = true),
    ];
    for (id, break_it) in cases {
        let report = broken(|facts| break_it(local(facts).api.as_mut().unwrap()));
        assert_root(&report, id, &[]);
    }
    let report = broken(|facts| {
        let api = local(facts).api.as_mut().unwrap();
        api.usable = problem();
        api.validity = None;
        api.names.clear();
    });
    assert_root(&report, "HGS-N001", &["HGS-N010", "HGS-N011", "HGS-N012"]);
}

/// Where both listeners show one certificate, it is judged once; the name in the URL of `[listen.api]` is its own matter.
#[test]
fn a_certificate_of_both_listeners() {
    let of_https = || shown("/tls.pem", API_URL);
    let report = broken(|facts| {
        local(facts).https.as_mut().unwrap().authority = true;
        local(facts).api = Some(ListenerCertificate {
            authority: true,
            ..of_https()
        });
        at_url(facts).reach.tls = Some(problem());
        at_url(facts).reach.answered = None;
    });
    assert_root(&report, "HGS-N008", &["HGS-N007", "HGS-P001"]);
    let report = broken(|facts| {
        let mut api = of_https();
        api.names[0].matches = problem();
        local(facts).api = Some(api);
    });
    assert_root(&report, "HGS-N010", &[]);
}

#[test]
fn memory_that_can_be_dumped() {
    let report = broken(|facts| {
        local(facts).process.as_mut().unwrap().dumpable = true;
    });
    assert_root(&report, "HGS-M002", &[]);
}

#[test]
fn a_key_that_does_not_decrypt() {
    let report = broken(|facts| {
        let encryption = &mut in_state(facts).certificates[1];
        encryption.work.as_mut().unwrap().decrypts = Some(problem());
        refuse_roll(facts);
    });
    assert_root(&report, "HGS-K003", &["HGS-P004", "HGS-P005"]);
    assert_eq!(
        report.root_causes[0].target,
        "encryption encryption-thumbprint"
    );
}

#[test]
fn a_key_of_another_certificate() {
    let report = broken(|facts| {
        let work = in_state(facts).certificates[0].work.as_mut().unwrap();
        work.belongs = Some(false);
        work.signs = Some(problem());
        at_url(facts).metadata = Some(problem());
        refuse_roll(facts);
    });
    assert_root(&report, "HGS-K002", &["HGS-K004", "HGS-P003", "HGS-P004"]);
}

const TOKEN: &str = "pkcs11:token=hgs";

fn token() -> Token {
    Token {
        name: TOKEN.to_owned(),
        configured: Ok(()),
        module: Some(Ok("/module.so".to_owned())),
        token: Some(Ok("hgs, serial number 1".to_owned())),
        pin_file: Some(private("/pin", PathKind::File)),
        pin: Some(Ok("file:/pin".to_owned())),
        login: Some(Ok(())),
        sessions: Some(Ok(Sessions {
            open: 8,
            maximum: Some(100),
            in_use: Some(9),
        })),
        key: Some(Ok(Attributes {
            belongs: true,
            signs: false,
            decrypts: true,
            sensitive: true,
            extractable: false,
        })),
        mechanisms: Some(Ok("OAEP in the token".to_owned())),
    }
}

/// A guardian whose encryption key is in a token that fails as `change` says, and with it the key.
fn broken_token(change: impl FnOnce(&mut Token)) -> Report {
    broken(|facts| {
        let mut token = token();
        change(&mut token);
        let work = in_state(facts).certificates[1].work.as_mut().unwrap();
        work.tokens = vec![token];
        work.decrypts = Some(problem());
        refuse_roll(facts);
    })
}

type Breakage = fn(&mut Token);

#[test]
fn each_stage_on_the_way_to_a_token_is_a_cause_of_its_own() {
    fn end_before_login(token: &mut Token) {
        token.login = None;
        token.sessions = None;
        token.key = None;
        token.mechanisms = None;
    }
    let stages: [(&str, Breakage); 9] = [
        ("HGS-T001", |token| {
            token.configured = problem();
            token.module = None;
            token.token = None;
            token.pin = None;
            end_before_login(token);
        }),
        ("HGS-T002", |token| {
            token.module = Some(problem());
            token.token = None;
            token.pin = None;
            end_before_login(token);
        }),
        ("HGS-T003", |token| {
            token.token = Some(problem());
            token.pin = None;
            end_before_login(token);
        }),
        ("HGS-T004", |token| {
            token.pin_file.as_mut().unwrap().mode = Some(0o644);
            token.pin = Some(problem());
            end_before_login(token);
        }),
        ("HGS-T005", |token| {
            token.pin = Some(problem());
            end_before_login(token);
        }),
        ("HGS-T006", |token| {
            end_before_login(token);
            token.login = Some(problem());
        }),
        ("HGS-T007", |token| {
            token.sessions = Some(problem());
            token.key = None;
            token.mechanisms = None;
        }),
        ("HGS-T008", |token| {
            token.key = Some(problem());
            token.mechanisms = None;
        }),
        ("HGS-T009", |token| {
            token.key.as_mut().unwrap().as_mut().unwrap().decrypts = false;
        }),
    ];
    for (id, stage) in stages {
        assert_root(&broken_token(stage), id, &["HGS-K003", "HGS-P004"]);
    }
    let other_key = broken_token(|token| {
        token.key.as_mut().unwrap().as_mut().unwrap().belongs = false;
    });
    assert_root(&other_key, "HGS-T008", &["HGS-K003"]);
    let no_mechanism = broken_token(|token| token.mechanisms = Some(problem()));
    assert_root(&no_mechanism, "HGS-T011", &["HGS-K003"]);
}

#[test]
fn a_key_that_can_be_taken_out_of_its_token_warns() {
    let report = broken(|facts| {
        let mut token = token();
        token.key.as_mut().unwrap().as_mut().unwrap().extractable = true;
        let work = in_state(facts).certificates[1].work.as_mut().unwrap();
        work.tokens = vec![token];
    });
    assert_eq!(report.outcome, Outcome::Warning, "{report:#?}");
}

/// The first token is gone, and the spare does the work: somebody should know, and nothing is skipped.
#[test]
fn a_spare_that_does_the_work() {
    let report = broken(|facts| {
        let mut gone = token();
        gone.token = Some(problem());
        gone.key = None;
        let mut spare = token();
        spare.name = "pkcs11:token=spare".to_owned();
        let work = in_state(facts).certificates[1].work.as_mut().unwrap();
        work.tokens = vec![gone, spare];
    });
    let passed = |id: &str| {
        let mut findings = report.findings.iter();
        findings.any(|finding| finding.id == id && finding.outcome == Outcome::Pass)
    };
    assert_root(&report, "HGS-T003", &[]);
    assert!(passed("HGS-K003") && passed("HGS-P004"), "{report:#?}");
}

#[test]
fn a_certificate_that_has_expired_warns_and_one_that_is_not_valid_yet_fails() {
    let report = broken(|facts| {
        in_state(facts).certificates[1].validity.not_after = days(-1);
        in_state(facts).certificates[2].validity.not_after = days(9);
    });
    assert_eq!(report.outcome, Outcome::Warning);
    let report = broken(|facts| in_state(facts).certificates[1].validity.not_before = days(1));
    assert_root(&report, "HGS-C003", &[]);
}

#[test]
fn no_primary_certificate() {
    let report = broken(|facts| {
        in_state(facts).certificates.remove(2);
        at_url(facts).metadata = Some(problem());
    });
    assert_root(&report, "HGS-C001", &["HGS-P003"]);
}

#[test]
fn a_signer_that_was_not_renewed() {
    let report = broken(|facts| {
        in_state(facts).signers[0].validity.not_after = days(5);
        in_state(facts).new_signer_due = true;
    });
    assert_root(&report, "HGS-A003", &[]);
}

#[test]
fn a_signer_that_key_protection_does_not_believe() {
    let report = broken(|facts| {
        in_state(facts).health_certificate = Some(problem());
        refuse_roll(facts);
    });
    assert_root(&report, "HGS-A002", &["HGS-P004"]);
}

#[test]
fn a_signer_of_another_cluster_that_has_expired_warns() {
    let report = broken(|facts| {
        in_state(facts).signers.push(Signer {
            thumbprint: "theirs".to_owned(),
            own: false,
            validity: Validity {
                not_before: days(-9),
                not_after: days(-1),
            },
            work: None,
        });
    });
    assert_eq!(report.outcome, Outcome::Warning);
    let warned = report
        .findings
        .iter()
        .find(|finding| finding.outcome == Outcome::Warning);
    assert_eq!(warned.unwrap().id, "HGS-A004");
}

#[test]
fn a_host_key_that_two_machines_use_warns() {
    let report = broken(|facts| {
        let warning = Problem::new("two machines use the host key of node-1")
            .with_remedy(Some("make a host key for each"));
        in_state(facts).host_warnings.push(warning);
    });
    assert_eq!(report.outcome, Outcome::Warning);
    let mut findings = report.findings.iter();
    let warned = findings
        .find(|finding| finding.outcome == Outcome::Warning)
        .unwrap();
    assert_eq!(warned.id, "HGS-A005");
    let evidence = warned.evidence.as_deref().unwrap();
    assert!(evidence.contains("node-1"), "{evidence}");
    assert_eq!(warned.remedy.as_deref(), Some("make a host key for each"));
}

#[test]
fn what_hosts_with_tpms_lack_is_told_and_a_group_that_refuses_all_is_the_cause() {
    let tpm_mode = |facts: &mut Facts| {
        let mode = in_state(facts).tpm_mode.as_mut().unwrap();
        mode.ek_roots = 0;
        mode.refused_hosts = vec![Problem::new("node-7: PCR 4, event 30")];
    };
    let outcomes = |report: &Report| {
        let findings = report.findings.iter();
        findings
            .filter(|finding| ["HGS-A006", "HGS-A007", "HGS-A008"].contains(&finding.id.as_str()))
            .map(|finding| finding.outcome)
            .collect::<Vec<_>>()
    };
    let report = broken(tpm_mode);
    assert_eq!(
        outcomes(&report),
        [Outcome::Pass, Outcome::Warning, Outcome::Warning]
    );
    let report = broken(|facts| {
        tpm_mode(facts);
        let mode = in_state(facts).tpm_mode.as_mut().unwrap();
        mode.group_problems = vec![Problem::new("hosts of the group default are refused")];
    });
    assert_eq!(
        outcomes(&report),
        [Outcome::Fail, Outcome::Warning, Outcome::Skipped]
    );
}

#[test]
fn an_audit_log_that_makes_the_start_slow_warns() {
    let report = broken(|facts| in_state(facts).audit_records = Some(1_000_001));
    assert_eq!(report.outcome, Outcome::Warning);
    let mut findings = report.findings.iter();
    let warned = findings
        .find(|finding| finding.outcome == Outcome::Warning)
        .unwrap();
    assert_eq!(warned.id, "HGS-D008");
    assert!(warned.evidence.as_deref().unwrap().contains("1000001"));
    assert!(
        warned
            .remedy
            .as_deref()
            .unwrap()
            .contains("hgs audit archive")
    );
}

#[test]
fn a_tls_certificate_for_another_name() {
    let report = broken(|facts| {
        local(facts).https.as_mut().unwrap().names[0].matches = problem();
        at_url(facts).reach.tls = Some(problem());
        let public = at_url(facts);
        public.attestation_mode = None;
        public.signing_certificates = None;
        public.metadata = None;
        public.refusal = None;
    });
    assert_root(&report, "HGS-N003", &["HGS-N007", "HGS-P001", "HGS-P006"]);
}

#[test]
fn a_tls_key_that_is_not_the_certificates() {
    let report = broken(|facts| {
        let https = local(facts).https.as_mut().unwrap();
        https.usable = problem();
        https.validity = None;
        https.names.clear();
        at_url(facts).reach.tls = Some(problem());
    });
    assert_root(&report, "HGS-N001", &["HGS-N003", "HGS-N004", "HGS-N007"]);
}

#[test]
fn a_listener_that_does_not_answer() {
    let report = broken(|facts| {
        *at_url(facts) = PublicFacts {
            reach: Reachability {
                connected: Some(problem()),
                tls: None,
                answered: None,
                clocks: None,
                ..public().reach
            },
            attestation_mode: None,
            signing_certificates: None,
            metadata: None,
            refusal: None,
        };
    });
    assert_root(&report, "HGS-N006", &["HGS-N007", "HGS-P001", "HGS-P006"]);
    assert_eq!(report.root_causes[0].target, URL);
}

#[test]
fn metadata_of_somebody_else() {
    let report = broken(|facts| {
        at_url(facts).metadata = Some(Ok(Metadata {
            signer: "somebody".to_owned(),
            ..public().metadata.unwrap().unwrap()
        }));
    });
    assert_root(&report, "HGS-P003", &[]);
    let finding = report
        .findings
        .iter()
        .find(|one| one.outcome == Outcome::Fail);
    let seen = finding.unwrap().evidence.as_deref().unwrap();
    assert_eq!(
        seen,
        "it is signed by somebody; the primary is communications-thumbprint"
    );
}

#[test]
fn a_tampered_protector_that_is_not_refused_as_one() {
    let tampered = |code| broken(|facts| facts.synthetic_roll.as_mut().unwrap().tampered = code);
    assert_root(&tampered(problem()), "HGS-P005", &[]);
    let other = tampered(Ok("HostRevokedException".to_owned()));
    assert_root(&other, "HGS-P005", &[]);
}

#[test]
fn a_url_at_which_key_protection_does_not_refuse_as_it_must() {
    let at = |refusal| broken(|facts| at_url(facts).refusal = Some(refusal));
    assert_root(&at(problem()), "HGS-P006", &[]);
    let busy = at(Ok("LimitExceededException".to_owned()));
    assert_root(&busy, "HGS-P006", &[]);
}

#[test]
fn a_synthetic_host_that_is_refused() {
    assert_root(&broken(refuse_roll), "HGS-P004", &["HGS-P005"]);
}

/// From elsewhere there is nothing but what everybody sees, and that is judged.
#[test]
fn a_guardian_of_which_only_a_url_is_known() {
    let facts = Facts {
        configuration: None,
        service: None,
        local: None,
        synthetic_roll: None,
        ..sound()
    };
    let report = facts.diagnose(&Selection::All);
    assert!(report.works(), "{report:#?}");
    let ids: Vec<_> = report.findings.iter().map(|finding| &*finding.id).collect();
    let expected = [
        "HGS-N005", "HGS-N006", "HGS-N007", "HGS-N009", "HGS-P001", "HGS-P002", "HGS-P003",
        "HGS-P006",
    ];
    assert_eq!(ids, expected);
}

/// What was collected elsewhere may be anything.
#[test]
fn facts_of_strangers_are_diagnosed_or_refused() {
    let mut facts = sound();
    let work = in_state(&mut facts).certificates[1].work.as_mut().unwrap();
    work.tokens = vec![token()];
    let corpus = vec![serde_json::to_vec(&facts).unwrap()];
    let tokens: [&[u8]; 6] = [
        b"null",
        b"18446744073709551615",
        b"-1",
        b"{\"Err\":{\"message\":\"\"}}",
        b"\"\\u001b\"",
        b"\"9999-12-31T23:59:59Z\"",
    ];
    for mutation in hgs_testkit::Mutations::of(&corpus, &tokens).take(5_000) {
        crate::fuzzing::fuzz_guardian_facts(&mutation);
    }
    crate::fuzzing::fuzz_guardian_facts(&corpus[0]);
}

#[test]
fn facts_survive_being_written() {
    let facts = sound();
    let text = serde_json::to_string(&facts).unwrap();
    assert_eq!(serde_json::from_str::<Facts>(&text).unwrap(), facts);
}

fn in_cluster(facts: &mut Facts) -> &mut ClusterStanding {
    let cluster = local(facts).cluster.as_mut().unwrap();
    cluster.standing.as_mut().unwrap()
}

#[test]
fn a_cluster_without_a_quorum() {
    let report = broken(|facts| {
        let standing = in_cluster(facts);
        (standing.quorum, standing.leader, standing.survives) = (false, None, None);
        in_state(facts).writable = problem();
        refuse_roll(facts);
        at_url(facts).refusal = Some(Ok("StateUnavailableException".to_owned()));
    });
    let skipped = ["HGS-Q005", "HGS-D006", "HGS-P004", "HGS-P006"];
    assert_root(&report, "HGS-Q003", &skipped);
}

#[test]
fn an_etcd_that_was_put_back() {
    let report = broken(|facts| {
        in_cluster(facts).put_back = Some("node n2 has seen commits".to_owned());
        in_state(facts).writable = problem();
        refuse_roll(facts);
        at_url(facts).refusal = Some(Ok("StateUnavailableException".to_owned()));
    });
    let skipped = ["HGS-Q005", "HGS-D006", "HGS-P004", "HGS-P006"];
    assert_root(&report, "HGS-Q003", &skipped);
}

#[test]
fn an_etcd_that_was_put_back_is_why_a_node_does_not_run() {
    let stopped = |facts: &mut Facts| {
        facts.service = Some(Service::NotRunning(Problem::new("nothing listens")));
        let cluster = local(facts).cluster.as_mut().unwrap();
        cluster.standing = None;
        cluster.put_back = Some("the cluster was put back".to_owned());
    };
    let skipped = ["HGS-S003", "HGS-Q004", "HGS-Q005", "HGS-Q012"];
    assert_root(&broken(stopped), "HGS-Q013", &skipped);
    // What was noted before it ran is no news.
    let report = broken(|facts| {
        local(facts).cluster.as_mut().unwrap().put_back = Some("put back".to_owned());
    });
    let mut findings = report.findings.iter();
    assert!(findings.all(|found| found.id != "HGS-Q013" || found.outcome == Outcome::Pass));
}

#[test]
fn a_guardian_of_one_node_is_not_told_of_clusters() {
    let report = broken(|facts| {
        facts.service = Some(Service::NotRunning(Problem::new("nothing listens")));
        local(facts).cluster = None;
    });
    let told = |group| report.groups.iter().any(|of| of.group == group);
    assert!(told(Group::State) && !told(Group::Cluster), "{report:#?}");
}

#[test]
fn a_node_that_does_not_run_is_judged_by_what_it_has() {
    let report = broken(|facts| {
        facts.service = Some(Service::NotRunning(Problem::new("nothing listens")));
        local(facts).cluster.as_mut().unwrap().standing = None;
    });
    assert_root(&report, "HGS-S003", &["HGS-Q004", "HGS-Q005", "HGS-Q012"]);
    for id in ["HGS-Q001", "HGS-Q002", "HGS-Q013"] {
        let mut findings = report.findings.iter();
        assert!(findings.any(|found| found.id == id && found.outcome == Outcome::Pass));
    }
}

#[test]
fn what_fails_of_a_cluster() {
    type Change = fn(&mut Facts);
    let cases: [(&str, Change); 5] = [
        ("HGS-Q001", |facts| {
            local(facts).cluster.as_mut().unwrap().usable = problem();
        }),
        ("HGS-Q002", |facts| {
            let cluster = local(facts).cluster.as_mut().unwrap();
            cluster.certificates[0].validity.not_after = Time::from_unix(now().unix() - 1);
        }),
        ("HGS-Q006", |facts| {
            in_cluster(facts).nodes[1].alarms = vec!["memberID:7 alarm:NOSPACE ".to_owned()];
        }),
        ("HGS-Q007", |facts| {
            in_cluster(facts).divergence = Some("n1 and n2".to_owned());
        }),
        ("HGS-Q009", |facts| {
            in_cluster(facts).nodes[2].clock_apart = Some(301)
        }),
    ];
    for (id, change) in cases {
        assert_root(&broken(change), id, &[]);
    }
}

#[test]
fn what_is_to_be_looked_at_in_a_cluster() {
    type Change = fn(&mut Facts);
    let cases: [(&str, Change); 11] = [
        ("HGS-Q002", |facts| {
            let cluster = local(facts).cluster.as_mut().unwrap();
            let soon = now().unix() + 89 * 86_400;
            cluster.certificates[0].validity.not_after = Time::from_unix(soon);
        }),
        ("HGS-Q004", |facts| in_cluster(facts).nodes[1].there = false),
        ("HGS-Q005", |facts| in_cluster(facts).survives = Some(0)),
        ("HGS-Q005", |facts| drop(in_cluster(facts).nodes.pop())),
        ("HGS-Q006", |facts| {
            in_cluster(facts).nodes[1].etcd_octets = Some((1 << 30) + 1)
        }),
        ("HGS-Q008", |facts| {
            in_cluster(facts).nodes[1].lag = Some(10_001)
        }),
        ("HGS-Q009", |facts| {
            in_cluster(facts).nodes[2].clock_apart = Some(31)
        }),
        ("HGS-Q010", |facts| {
            in_cluster(facts).nodes[2].missing_keys = Some(vec!["ab".to_owned()]);
        }),
        ("HGS-Q011", |facts| {
            in_cluster(facts).nodes[0].version = Some("2".to_owned())
        }),
        ("HGS-Q011", |facts| {
            in_cluster(facts).nodes[0].etcd_version = Some("3.5.1".to_owned());
        }),
        ("HGS-Q012", |facts| {
            in_cluster(facts).lagging = vec![LaggingNode {
                name: "n2".to_owned(),
                problem: Problem::new("the node n2 runs 1"),
            }];
        }),
    ];
    for (id, change) in cases {
        let report = broken(change);
        let warned: Vec<_> = report
            .findings
            .iter()
            .filter(|finding| finding.outcome != Outcome::Pass)
            .map(|finding| (&*finding.id, finding.outcome))
            .collect();
        assert_eq!(warned, [(id, Outcome::Warning)]);
    }
}
