//! Administration over the real socket: what a change does, what it leaves in the audit log, and what errors say.

mod guardian;

use guardian::{Host, Site};
use hgs_admin::types::{
    Action, AddHost, AttestationMode, AuditQuery, CertificateKind, HostQuery, ListenerName,
    NamedAction, Outcome, RevokeHost, SignerStage,
};
use hgs_admin::{Administration as _, Client, ErrorCode};
use hgs_clock::Clock as _;
use hgs_crypto::base64;
use hgs_pki::{Seconds, profile};
use hgs_testkit::fixtures::{Guardian as Fixture, self_signed, ten_years};

/// Who the tests are, as audit records name them.
fn ourselves() -> String {
    let uid = rustix::process::getuid();
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid.as_raw()));
    match user {
        Ok(Some(user)) => format!("uid {uid} ({})", user.name),
        _ => format!("uid {uid}"),
    }
}

#[tokio::test]
async fn the_status_is_what_administrators_look_at_first() {
    let site = Site::start().await;
    site.register(&Host::numbered(0), "node-1").await;
    site.register(&Host::numbered(1), "node-2").await;
    site.revoke("node-2").await;
    let status = site.admin(|client| client.status()).await.unwrap();
    let base = format!("http://{}", site.http());
    assert_eq!(status.name, "openhgs");
    assert_eq!(status.attestation_mode, AttestationMode::HostKey);
    assert_eq!(status.attestation_urls, [format!("{base}/Attestation")]);
    assert_eq!(
        status.key_protection_urls,
        [format!("{base}/KeyProtection")]
    );
    assert_eq!((status.registered_hosts, status.revoked_hosts), (1, 1));
    let fabric = Fixture::named("fabric");
    let signing = status.primary_signing.unwrap();
    assert_eq!(signing.thumbprint, fabric.signing.thumbprint().to_string());
    assert!(signing.primary && signing.enabled && signing.usable);
    let encryption = status.primary_encryption.unwrap();
    assert_eq!(
        encryption.thumbprint,
        fabric.encryption.thumbprint().to_string()
    );
    assert_eq!(
        status.attestation_signer.unwrap().stage,
        SignerStage::Active
    );
    assert_eq!(status.warnings, []);
}

#[tokio::test]
async fn the_status_warns_before_a_certificate_expires() {
    let site = Site::start().await;
    site.clock.advance(Seconds::from_days(3652 - 20));
    let status = site.admin(|client| client.status()).await.unwrap();
    let codes: Vec<_> = status
        .warnings
        .iter()
        .map(|warning| warning.code.as_str())
        .collect();
    assert!(codes.contains(&"certificate-expiry"), "{codes:?}");
}

#[tokio::test]
async fn listings_show_certificates_signers_and_settings() {
    let site = Site::start_with("attestation.health_certificate_validity = \"1h\"").await;
    let certificates = site
        .admin(|client| client.certificates(&hgs_admin::types::DigestPageQuery::default()))
        .await
        .unwrap();
    let kinds: Vec<_> = certificates.iter().map(|one| one.kind).collect();
    assert_eq!(
        kinds,
        [
            CertificateKind::Signing,
            CertificateKind::Encryption,
            CertificateKind::Communications
        ]
    );
    assert!(
        certificates
            .iter()
            .all(|one| one.lineage == "fabric" && one.key == "sealed")
    );

    let signing = &Fixture::named("fabric").signing;
    // As Windows shows thumbprints, in upper case with colons.
    let thumbprint = signing.thumbprint().to_string().to_uppercase();
    let pairs: Vec<_> = thumbprint
        .as_bytes()
        .chunks(2)
        .map(|pair| String::from_utf8_lossy(pair))
        .collect();
    let thumbprint = pairs.join(":");
    let detail = site
        .admin(move |client| client.certificate(&thumbprint.parse().unwrap()))
        .await
        .unwrap();
    assert_eq!(detail.pem, signing.to_pem());
    assert_eq!(detail.sha1_thumbprint, signing.sha1_thumbprint());
    let unknown = site
        .admin(|client| client.certificate(&"0".repeat(64).parse().unwrap()))
        .await
        .unwrap_err();
    assert_eq!(unknown.code, ErrorCode::NotFound);
    assert!(unknown.remedy.unwrap().contains("hgs certificate list"));

    let signers = site
        .admin(|client| client.signers(&hgs_admin::types::DigestPageQuery::default()))
        .await
        .unwrap();
    assert_eq!(signers.len(), 1);
    assert!(signers[0].own && signers[0].pem.starts_with("-----BEGIN CERTIFICATE-----"));

    let server = site.admin(|client| client.server()).await.unwrap();
    assert_eq!(server.health_certificate_seconds, 3600);
    assert_eq!(server.clock_skew_seconds, 60);
    let names: Vec<_> = server
        .listeners
        .iter()
        .map(|listener| listener.name)
        .collect();
    assert_eq!(
        names,
        [
            ListenerName::Http,
            ListenerName::Metrics,
            ListenerName::Admin
        ]
    );
    assert_eq!(server.listeners[0].address, site.http().to_string());
    let communications = server.communications_certificate.unwrap();
    assert_eq!(communications.kind, CertificateKind::Communications);
}

#[tokio::test]
async fn a_host_key_is_taken_in_every_form_that_people_have() {
    let site = Site::start().await;
    let host = Host::numbered(0);
    let spki = host.host_key.public().spki_der();
    let certificate = self_signed(profile::host_key("node-1", ten_years()), &host.host_key);
    for form in [
        host.public_pem(),
        certificate.to_pem(),
        base64::encode(spki),
        base64::encode(certificate.der()),
        format!("{}\n", base64::encode(spki).replace('A', "A\n ")),
    ] {
        let add = AddHost {
            name: "node-1".to_owned(),
            host_key: Some(form),
            ..AddHost::default()
        };
        let added = site
            .admin(move |client| client.add_host(&add))
            .await
            .unwrap();
        let digest = hgs_crypto::hex::encode(host.host_key.public().digest());
        assert_eq!(added.host_key_digest, Some(digest));
        let detail = site
            .admin(|client| client.host(&"node-1".parse()?))
            .await
            .unwrap();
        let host_key = detail.host_key.unwrap();
        assert!(host_key.starts_with("-----BEGIN PUBLIC KEY-----\n"));
        site.admin(|client| client.remove_host(&"node-1".parse()?))
            .await
            .unwrap();
        site.admin(|client| client.readmit_host(&"node-1".parse()?))
            .await
            .unwrap();
    }
    for form in [
        "",
        "not a key",
        "AAAA",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    ] {
        let add = AddHost {
            name: "node-1".to_owned(),
            host_key: Some(form.to_owned()),
            ..AddHost::default()
        };
        let refused = site
            .admin(move |client| client.add_host(&add))
            .await
            .unwrap_err();
        assert_eq!(
            refused.code,
            ErrorCode::InvalidRequest,
            "{form:?}: {refused}"
        );
    }
}

#[tokio::test]
async fn every_change_is_recorded_with_who_before_and_after() {
    let site = Site::start().await;
    let added = site.register(&Host::numbered(0), "node-1").await;
    site.revoke("node-1").await;
    site.admin(|client| client.remove_host(&"node-1".parse()?))
        .await
        .unwrap();
    let records = site
        .audit(AuditQuery {
            host: Some("node-1".to_owned()),
            ..AuditQuery::default()
        })
        .await;
    let actions: Vec<_> = records.iter().map(|record| record.action.clone()).collect();
    assert_eq!(
        actions,
        [Action::RemoveHost, Action::RevokeHost, Action::AddHost].map(NamedAction::Known)
    );
    for record in &records {
        assert_eq!(record.actor, ourselves());
        assert_eq!(record.outcome, Outcome::Done);
        assert_eq!(record.time, site.clock.now().to_string());
        assert_eq!(record.host.as_deref(), Some(&*added.id));
    }
    for record in &records {
        let request = record.request;
        assert!(request.is_some());
        let by_it = AuditQuery {
            request,
            ..AuditQuery::default()
        };
        assert_eq!(site.audit(by_it).await, std::slice::from_ref(record));
    }
    let [removed, revoked, added] = &records[..] else {
        panic!("three records");
    };
    assert_eq!(added.before, None);
    assert_eq!(added.after.as_ref().unwrap()["name"], "node-1");
    assert!(revoked.before.as_ref().unwrap()["revoked"].is_null());
    assert_eq!(
        revoked.after.as_ref().unwrap()["revoked"]["reason"],
        "stolen"
    );
    let after = removed.after.as_ref().unwrap();
    assert_eq!(after["revoked"]["reason"], "stolen", "it stays barred");
    let shown = removed.sequence;
    let one = site
        .admin(move |client| client.audit_record(&shown))
        .await
        .unwrap();
    assert_eq!(one, *removed);
}

#[tokio::test]
async fn a_refused_change_is_recorded_and_says_what_to_do() {
    let site = Site::start().await;
    site.register(&Host::numbered(0), "node-1").await;
    let add = |name: &str, host: &Host| AddHost {
        name: name.to_owned(),
        host_key: Some(host.public_pem()),
        ..AddHost::default()
    };
    let same_name = add("NODE-1", &Host::numbered(1));
    let refused = site
        .admin(move |client| client.add_host(&same_name))
        .await
        .unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert!(refused.remedy.is_some());
    let same_key = add("node-2", &Host::numbered(0));
    let refused = site
        .admin(move |client| client.add_host(&same_key))
        .await
        .unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert!(refused.message.contains("node-1"), "{refused}");
    site.revoke("node-1").await;
    let again = RevokeHost {
        reason: String::new(),
    };
    let refused = site
        .admin(move |client| client.revoke_host(&"node-1".parse()?, &again))
        .await
        .unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert!(refused.remedy.unwrap().contains("remove node-1"));
    let refused = site
        .admin(|client| client.remove_host(&"node-9".parse()?))
        .await
        .unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotFound);
    let too_long = RevokeHost {
        reason: "x".repeat(1025),
    };
    site.register(&Host::numbered(1), "node-2").await;
    let refused = site
        .admin(move |client| client.revoke_host(&"node-2".parse()?, &too_long))
        .await
        .unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidRequest);

    let refusals = site
        .audit(AuditQuery {
            outcome: Some(Outcome::Refused),
            ..AuditQuery::default()
        })
        .await;
    assert_eq!(refusals.len(), 4);
    assert!(
        refusals
            .iter()
            .all(|record| record.actor == ourselves() && record.reason.is_some())
    );
}

/// attacks.md K11: a name is one host's in every spelling, and what is no name is no host.
#[tokio::test]
async fn k11_a_name_is_one_hosts_whatever_its_case_and_nothing_else_is_a_name() {
    let site = Site::start().await;
    let added = site.register(&Host::numbered(0), "Node-1.Relecloud").await;
    for name in ["node-1.relecloud", "NODE-1.RELECLOUD"] {
        let found = site
            .admin(move |client| client.host(&name.parse()?))
            .await
            .unwrap();
        assert_eq!(found.host, added);
    }
    let id = added.id.clone();
    let by_id = site
        .admin(move |client| client.host(&id.parse()?))
        .await
        .unwrap();
    assert_eq!(by_id.host, added);
    for name in [
        "",
        " ",
        "node-1.relecloud ",
        "*",
        "node-1%2Erelecloud",
        "a/b",
        "..",
        "-a",
        "n\u{f6}de",
        "a\nb",
    ] {
        let found = site
            .admin(move |client| client.host(&name.parse()?))
            .await
            .unwrap_err();
        assert_eq!(found.code, ErrorCode::InvalidRequest, "{name:?}");
        let add = AddHost {
            name: name.to_owned(),
            host_key: Some(Host::numbered(1).public_pem()),
            ..AddHost::default()
        };
        let refused = site
            .admin(move |client| client.add_host(&add))
            .await
            .unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidRequest, "{name:?}");
    }
    assert_eq!(
        site.admin(|client| client.hosts(&HostQuery::default()))
            .await
            .unwrap(),
        [added]
    );
}

#[tokio::test]
async fn the_audit_log_is_paged_and_filtered() {
    let site = Site::start().await;
    for number in 0..3 {
        site.register(&Host::numbered(number), &format!("node-{number}"))
            .await;
        site.clock.advance(Seconds::new(10));
    }
    let newest = site
        .audit(AuditQuery {
            action: Some(NamedAction::Known(Action::AddHost)),
            limit: Some(2),
            ..AuditQuery::default()
        })
        .await;
    let names: Vec<_> = newest
        .iter()
        .map(|record| record.host_name.clone().unwrap())
        .collect();
    assert_eq!(names, ["node-2", "node-1"]);
    let before = Some(newest[1].sequence);
    let older = site
        .audit(AuditQuery {
            action: Some(NamedAction::Known(Action::AddHost)),
            before,
            ..AuditQuery::default()
        })
        .await;
    assert_eq!(older.len(), 1);
    let since = site
        .audit(AuditQuery {
            since: Some(newest[1].time.clone()),
            until: Some(newest[0].time.clone()),
            ..AuditQuery::default()
        })
        .await;
    assert_eq!(since, [newest[1].clone()]);
    for query in [
        AuditQuery {
            action: Some(NamedAction::Other("steal-host".to_owned())),
            ..AuditQuery::default()
        },
        AuditQuery {
            since: Some("yesterday".to_owned()),
            ..AuditQuery::default()
        },
        AuditQuery {
            limit: Some(0),
            ..AuditQuery::default()
        },
        AuditQuery {
            limit: Some(1001),
            ..AuditQuery::default()
        },
    ] {
        let refused = site
            .admin(move |client| client.audit(&query))
            .await
            .unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidRequest, "{refused}");
    }
    let refused = site
        .admin(|client| client.audit_record(&10_000))
        .await
        .unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotFound);
}

#[test]
fn a_client_without_a_server_says_how_to_start_one() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let client = Client::new(&socket);
    let error = client.status().unwrap_err();
    assert_eq!(error.code, ErrorCode::NotRunning);
    assert!(error.remedy.unwrap().contains("hgs serve"));
    // Nobody answers behind a socket that a dead server has left.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert_eq!(client.status().unwrap_err().code, ErrorCode::NotRunning);
}

#[test]
fn an_answer_that_is_none_is_told_apart() {
    use std::io::{Read as _, Write as _};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let client = Client::new(&path);
    for answer in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops",
        "SSH-2.0-OpenSSH_9.2\r\n",
    ] {
        let asked = std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(answer.as_bytes());
            });
            client.status()
        });
        assert_eq!(asked.unwrap_err().code, ErrorCode::NoAnswer, "{answer:?}");
    }
}
