//! The certificates' whole life over the real sockets: rotation that reaches the VMs, compromise, and tenants' own keys.

mod guardian;

use std::sync::Arc;

use guardian::{Host, Site, ask, protector_for};
use hgs_admin::types::{
    Action, AddCertificate, AddedCertificate, AuditQuery, CertificateKind, CertificateUsage,
    NamedAction, NewCertificate, Outcome, RemoveCertificate, SetCertificate, SetServer, Signer,
    SignerStage,
};
use hgs_admin::{AdminError, Administration as _, Client, ErrorCode, SignerSelector, WithKey};
use hgs_clock::Clock as _;
use hgs_custody::SoftwareKey;
use hgs_kps::ServiceVersion::V2;
use hgs_pki::health::HealthKind;
use hgs_pki::{Certificate, CertificateCache, Seconds, SignatureCache, Validity, profile};
use hgs_protector::metadata::{MAX_OTHER_CERTIFICATES, Metadata};
use hgs_protector::{Protector, VerifiedProtector, open};
use hgs_testkit::fixtures::{
    Forge, Guardian as Fixture, Keys, key_octets, private_key, self_signed, ten_years,
};
use hgs_testkit::softhsm::{SoftHsm, isolated};

/// Both certificates of a guardian of the fixtures, as an administrator adds them.
struct Pair {
    fixture: &'static Fixture,
    tenant: Option<&'static str>,
    primary: bool,
}

fn with_key(request: AddCertificate, key: Option<Arc<SoftwareKey>>) -> WithKey<AddCertificate> {
    WithKey { request, key }
}

fn fabric(name: &str) -> Pair {
    Pair {
        fixture: Fixture::named(name),
        tenant: None,
        primary: true,
    }
}

fn tenant(label: &'static str, name: &str) -> Pair {
    Pair {
        fixture: Fixture::named(name),
        tenant: Some(label),
        primary: false,
    }
}

impl Pair {
    fn halves(&self) -> [(AddCertificate, Arc<SoftwareKey>); 2] {
        let half = |kind: &str, certificate: &Certificate, key: &hgs_crypto::rsa::PrivateKey| {
            let added = AddCertificate {
                kind: kind.parse().unwrap(),
                certificate: certificate.to_pem(),
                key: None,
                tenant: self.tenant.map(str::to_owned),
                label: Some(self.fixture.name.to_owned()),
                primary: self.primary,
            };
            let key = SoftwareKey::from_pkcs8_der(key.pkcs8_der()).unwrap();
            (added, Arc::new(key))
        };
        let fixture = self.fixture;
        [
            half("signing", &fixture.signing, &fixture.signing_key),
            half("encryption", &fixture.encryption, &fixture.encryption_key),
        ]
    }

    async fn add(&self, site: &Site) -> Result<Vec<AddedCertificate>, AdminError> {
        let mut added = Vec::new();
        for (half, key) in self.halves() {
            added.push(
                site.admin(move |client| client.add_certificate(&with_key(half, Some(key))))
                    .await?,
            );
        }
        Ok(added)
    }
}

/// Whether the keys of a guardian give the transport key of a protector.
fn opens(protector: &VerifiedProtector, name: &str) -> bool {
    let fixture = Fixture::named(name);
    let keys = Keys::of(&[fixture]);
    open(protector, &[fixture.held()], &mut &keys).is_ok()
}

/// For both certificates of a pair.
async fn for_both<T: Send + 'static>(
    site: &Site,
    name: &str,
    ask: fn(&Client, &str) -> Result<T, AdminError>,
) -> Vec<Result<T, AdminError>> {
    let fixture = Fixture::named(name);
    let mut answers = Vec::new();
    for certificate in [&fixture.signing, &fixture.encryption] {
        let thumbprint = certificate.thumbprint().to_string();
        answers.push(site.admin(move |client| ask(client, &thumbprint)).await);
    }
    answers
}

async fn all_done<T: Send + 'static>(
    site: &Site,
    name: &str,
    ask: fn(&Client, &str) -> Result<T, AdminError>,
) {
    for answer in for_both(site, name, ask).await {
        answer.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

fn compromise(client: &Client, thumbprint: &str) -> Result<(), AdminError> {
    compromise_since(client, thumbprint, "now")
}

fn compromise_since(client: &Client, thumbprint: &str, time: &str) -> Result<(), AdminError> {
    let change = SetCertificate {
        compromised_since: Some(time.to_owned()),
        ..SetCertificate::default()
    };
    client
        .set_certificate(&thumbprint.parse().unwrap(), &change)
        .map(drop)
}

fn make_head(client: &Client, thumbprint: &str) -> Result<(), AdminError> {
    let change = SetCertificate {
        head: true,
        ..SetCertificate::default()
    };
    client
        .set_certificate(&thumbprint.parse().unwrap(), &change)
        .map(drop)
}

fn make_primary(client: &Client, thumbprint: &str) -> Result<(), AdminError> {
    let change = SetCertificate {
        primary: true,
        ..SetCertificate::default()
    };
    client
        .set_certificate(&thumbprint.parse().unwrap(), &change)
        .map(drop)
}

/// How many protectors need each half of a pair.
async fn usage(site: &Site, name: &str) -> [u64; 2] {
    let usage: Vec<CertificateUsage> = site
        .admin(|client| client.certificate_usage())
        .await
        .unwrap();
    let fixture = Fixture::named(name);
    [&fixture.signing, &fixture.encryption].map(|certificate| {
        let thumbprint = certificate.thumbprint().to_string();
        let of_one = usage.iter().find(|one| one.thumbprint == thumbprint);
        of_one.expect("it is listed").protectors
    })
}

async fn signer(site: &Site) -> Signer {
    let signers = site
        .admin(|client| client.signers(&hgs_admin::types::DigestPageQuery::default()))
        .await
        .unwrap();
    signers.into_iter().next().expect("a signer")
}

#[tokio::test]
async fn a_rotation_reaches_the_machines_and_the_old_pair_can_go() {
    let site = Site::start().await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let certificate = host.healthy(&site).await;
    let (ingress, key) = site.protector().await;
    let first = host.power_on(&site, &ingress, &certificate, V2).await;
    assert_eq!(usage(&site, "fabric").await, [1, 1]);

    for added in fabric("fabric-next").add(&site).await.unwrap() {
        assert!(added.certificate.primary && added.certificate.usable);
    }
    let next = Fixture::named("fabric-next");
    assert_eq!(site.guardian().await, next.certificates);
    let metadata = site.get(guardian::METADATA).await.body;
    let (certificates, signatures) = (CertificateCache::new(8), SignatureCache::new(8));
    let metadata = Metadata::read(&metadata, &certificates, &signatures).unwrap();
    let others = metadata.other_signing_certificates();
    assert_eq!(others, [Fixture::named("fabric").signing.clone()]);

    // The machine starts with what it has; the new pair is in what it gets.
    let second = host.power_on(&site, &first.egress, &certificate, V2).await;
    assert!(opens(&second.egress, "fabric-next"));
    assert_eq!(usage(&site, "fabric").await, [1, 1]);
    for refused in for_both(&site, "fabric", |client, one| {
        client.remove_certificate(&one.parse().unwrap(), &RemoveCertificate::default())
    })
    .await
    {
        let error = refused.unwrap_err();
        assert_eq!(error.code, ErrorCode::Conflict);
        assert!(
            error.message.contains("last to open 1 protectors"),
            "{error}"
        );
        assert!(error.remedy.unwrap().contains("hgs certificate usage"));
    }

    let third = host.power_on(&site, &second.egress, &certificate, V2).await;
    assert_eq!(usage(&site, "fabric").await, [0, 0]);
    assert_eq!(usage(&site, "fabric-next").await, [1, 1]);
    all_done(&site, "fabric", |client, one| {
        client.retire_certificate(&one.parse().unwrap())
    })
    .await;
    for refused in for_both(&site, "fabric", make_primary).await {
        assert_eq!(refused.unwrap_err().code, ErrorCode::Conflict);
    }
    all_done(&site, "fabric", |client, one| {
        client.remove_certificate(&one.parse().unwrap(), &RemoveCertificate::default())
    })
    .await;
    let fourth = host.power_on(&site, &third.egress, &certificate, V2).await;
    assert_eq!(fourth.ingress_key, third.egress_key);
    assert_ne!(fourth.ingress_key, key);
    // The owner's copy of the beginning is lost with the old pair.
    let refused = ask(&site, &ingress, &certificate, V2).await;
    assert_eq!(refused.key_protection_code(), "WrappingNotFoundException");
}

#[tokio::test]
async fn a_disabled_pair_opens_nothing_until_it_is_enabled() {
    let site = Site::start().await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let certificate = host.healthy(&site).await;
    let (ingress, _) = site.protector().await;
    for refused in for_both(&site, "fabric", |client, one| {
        client.disable_certificate(&one.parse().unwrap())
    })
    .await
    {
        assert!(refused.unwrap_err().message.contains("primary"));
    }
    fabric("fabric-next").add(&site).await.unwrap();
    let halves = for_both(&site, "fabric", |client, one| {
        client.disable_certificate(&one.parse().unwrap())
    });
    assert!(halves.await.into_iter().all(|half| !half.unwrap().enabled));
    let refused = ask(&site, &ingress, &certificate, V2).await;
    assert_eq!(refused.key_protection_code(), "WrappingNotFoundException");
    for refused in for_both(&site, "fabric", make_primary).await {
        assert_eq!(refused.unwrap_err().code, ErrorCode::Conflict);
    }
    all_done(&site, "fabric", |client, one| {
        client.enable_certificate(&one.parse().unwrap())
    })
    .await;
    let released = host.power_on(&site, &ingress, &certificate, V2).await;
    assert!(opens(&released.egress, "fabric-next"));
}

/// A protector that the old guardian has signed and nobody has seen.
fn signed_by_old(salt: u8) -> VerifiedProtector {
    let (owner, old) = (Fixture::named("owner"), Fixture::named("fabric"));
    let mut forge = Forge::new(owner, &[old], key_octets(salt));
    forge.guardian = "2".to_owned();
    let document = forge.seal(old);
    Protector::read(document.as_bytes(), &CertificateCache::new(8))
        .unwrap()
        .verify(&SignatureCache::new(8))
        .unwrap()
}

#[tokio::test]
async fn a_compromised_pair_is_shut_out_but_for_an_open_rekey_window() {
    let mut site = Site::start().await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let certificate = host.healthy(&site).await;
    let seen = host
        .power_on(&site, &signed_by_old(1), &certificate, V2)
        .await
        .egress;
    for refused in for_both(&site, "fabric", compromise).await {
        let error = refused.unwrap_err();
        assert_eq!(error.code, ErrorCode::Conflict);
        assert!(error.remedy.is_some(), "{error}");
    }
    fabric("fabric-next").add(&site).await.unwrap();
    site.clock.advance(Seconds::new(60));
    for refused in for_both(&site, "fabric", |client, one| {
        compromise_since(client, one, "9999-01-01T00:00:00Z")
    })
    .await
    {
        let error = refused.unwrap_err();
        // It is well formed: only the present time forbids it.
        assert_eq!(error.code, ErrorCode::Conflict);
        assert!(error.message.contains("is to come"), "{error}");
    }
    all_done(&site, "fabric", compromise).await;

    // Seen before the marking: handed on to the new pair, and the old one gets nothing.
    let released = host.power_on(&site, &seen, &certificate, V2).await;
    assert!(opens(&released.egress, "fabric-next") && opens(&released.egress, "owner"));
    assert!(!opens(&released.egress, "fabric"));
    // Unseen: it may have been made by whoever has the key.
    let refused = ask(&site, &signed_by_old(2), &certificate, V2).await;
    assert_eq!(
        refused.key_protection_code(),
        "CompromisedGuardianException"
    );

    let window = |seconds| SetServer {
        rekey_window_seconds: Some(seconds),
        ..SetServer::default()
    };
    let too_long = window(31 * 86_400);
    let refused = site.admin(move |client| client.set_server(&too_long)).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::InvalidRequest);
    let open = window(3600);
    let settings = site.admin(move |client| client.set_server(&open)).await;
    assert!(settings.unwrap().rekey_window_until.is_some());
    let status = site.admin(|client| client.status()).await.unwrap();
    assert!(
        status
            .warnings
            .iter()
            .any(|warning| warning.code == "rekey-window-open")
    );
    // It stays open over a restart.
    site.restart().await;
    let released = host
        .power_on(&site, &signed_by_old(2), &certificate, V2)
        .await;
    assert!(!opens(&released.egress, "fabric"));

    site.clock.advance(Seconds::new(3600));
    let refused = ask(&site, &signed_by_old(3), &certificate, V2).await;
    assert_eq!(
        refused.key_protection_code(),
        "CompromisedGuardianException"
    );
    let settings = site.admin(|client| client.server()).await.unwrap();
    assert_eq!(settings.rekey_window_until, None);
    let records = site.recorded("set-rekey-window").await;
    let outcomes: Vec<_> = records.iter().map(|one| one.outcome).collect();
    assert_eq!(outcomes, [Outcome::Done, Outcome::Refused]);
    // What shuts the pair out is its record.
    for refused in for_both(&site, "fabric", |client, one| {
        client.remove_certificate(&one.parse().unwrap(), &RemoveCertificate::default())
    })
    .await
    {
        assert!(refused.unwrap_err().message.contains("compromised"));
    }
}

/// Whatever is done to the fabric's certificates and to other tenants', a tenant's protector is the tenant's.
#[tokio::test]
async fn invariant_no_roll_makes_a_tenants_protector_readable_by_anybody_else() {
    let site = Site::start().await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let certificate = host.healthy(&site).await;
    for added in tenant("Contoso", "tenant").add(&site).await.unwrap() {
        let first = added.certificate.kind == CertificateKind::Signing;
        let named_new = added.findings.iter().any(|one| one.code == "new-lineage");
        assert_eq!(named_new, first, "a tenant is new once");
        let added = added.certificate;
        assert!(added.head && !added.primary);
        assert_eq!(added.lineage, "tenant:Contoso");
    }
    tenant("Fabrikam", "stranger").add(&site).await.unwrap();
    let (mut protector, _) = protector_for(vec![Fixture::named("tenant").certificates.clone()]);

    for round in 0..6 {
        match round {
            1 => drop(fabric("fabric-next").add(&site).await.unwrap()),
            2 => {
                let next = tenant("Contoso", "tenant-next").add(&site).await.unwrap();
                assert!(next.iter().all(|added| !added.certificate.head));
                all_done(&site, "tenant-next", make_head).await;
            }
            3 => all_done(&site, "fabric", compromise).await,
            4 => {
                site.clock.advance(Seconds::new(1));
                all_done(&site, "tenant", compromise).await;
            }
            _ => {}
        }
        let released = host.power_on(&site, &protector, &certificate, V2).await;
        protector = released.egress;
        for stranger in ["fabric", "fabric-next", "stranger"] {
            assert!(!opens(&protector, stranger), "{stranger} in round {round}");
            let fixture = Fixture::named(stranger);
            let mut wrappings = protector.wrappings().iter();
            assert!(
                !wrappings.any(|one| one.is_for(&fixture.signing, &fixture.encryption)),
                "{stranger} has a wrapping in round {round}"
            );
        }
        assert!(opens(&protector, "owner"));
        assert_eq!(opens(&protector, "tenant"), round < 4, "round {round}");
        assert_eq!(
            opens(&protector, "tenant-next"),
            round >= 2,
            "round {round}"
        );
    }

    let of_tenant = site
        .audit(AuditQuery {
            lineage: Some("tenant:Contoso".to_owned()),
            limit: Some(1000),
            ..AuditQuery::default()
        })
        .await;
    let releases = of_tenant
        .iter()
        .filter(|record| record.action == NamedAction::Known(Action::Release));
    assert_eq!(releases.count(), 6);
    let released = &site.recorded("release").await[0];
    assert_eq!(released.lineage.as_deref(), Some("tenant:Contoso"));
    let by_lineage = "hgs_releases_by_lineage_total{lineage=\"tenant:Contoso\"}";
    assert_eq!(site.metric(by_lineage), 6.0);
}

#[tokio::test]
async fn a_tenants_certificate_is_never_primary_and_an_attempt_says_why() {
    let site = Site::start().await;
    let pair = Pair {
        primary: true,
        ..tenant("Contoso", "tenant")
    };
    let refused = pair.add(&site).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert!(refused.message.contains("never primary"), "{refused}");
    let certificates = site
        .admin(|client| client.certificates(&hgs_admin::types::DigestPageQuery::default()))
        .await
        .unwrap();
    assert_eq!(certificates.len(), 3, "nothing of it was added");

    tenant("Contoso", "tenant").add(&site).await.unwrap();
    for refused in for_both(&site, "tenant", make_primary).await {
        let error = refused.unwrap_err();
        assert!(
            error.message.contains("can be read by the fabric"),
            "{error}"
        );
    }
    let refused = site.recorded("set-head").await;
    assert!(refused.iter().all(|one| one.outcome == Outcome::Refused));
    // Nor can the same key come in as the fabric's.
    let mut renewed = fabric("tenant").halves();
    let (half, key) = renewed[0].clone();
    let other = site
        .admin(move |client| client.add_certificate(&with_key(half, Some(key))))
        .await;
    assert_eq!(other.unwrap_err().code, ErrorCode::Conflict);
    renewed[1].0.tenant = Some("Fabrikam".to_owned());
    let (half, key) = renewed[1].clone();
    let other = site
        .admin(move |client| client.add_certificate(&with_key(half, Some(key))))
        .await;
    assert_eq!(other.unwrap_err().code, ErrorCode::Conflict);
    assert_eq!(site.guardian().await, Fixture::named("fabric").certificates);
}

#[tokio::test]
async fn a_lineages_head_is_exported_as_a_guardian() {
    let site = Site::start().await;
    tenant("Contoso", "tenant").add(&site).await.unwrap();
    let fixture = Fixture::named("tenant");
    let thumbprint = fixture.encryption.thumbprint().to_string();
    let exported = site
        .admin(move |client| client.guardian_document(&thumbprint.parse().unwrap()))
        .await
        .unwrap();
    assert_eq!(exported.lineage, "tenant:Contoso");
    assert_eq!(exported.signing, fixture.signing.thumbprint().to_string());
    let (certificates, signatures) = (CertificateCache::new(8), SignatureCache::new(8));
    let document = exported.document.as_bytes();
    let metadata = Metadata::read(document, &certificates, &signatures).unwrap();
    assert_eq!(*metadata.unverified(), fixture.certificates);
    let communications = site
        .admin(|client| client.certificates(&hgs_admin::types::DigestPageQuery::default()))
        .await
        .unwrap()
        .last()
        .unwrap()
        .thumbprint
        .clone();
    let fabric = site
        .admin(move |client| client.guardian_document(&communications.parse().unwrap()))
        .await
        .unwrap();
    assert_eq!(fabric.lineage, "fabric");
}

/// The metadata lists all enabled signing certificates of the fabric. One for which there is no room is refused when it is
/// added or enabled; none is left out.
#[tokio::test]
async fn a_signing_certificate_that_the_metadata_could_not_list_is_refused() {
    let site = Site::start().await;
    let key = private_key(0);
    let software = Arc::new(SoftwareKey::from_pkcs8_der(key.pkcs8_der()).unwrap());
    let numbered = |number: usize| {
        let template = profile::guardian_signing(&format!("signing-{number}"), ten_years());
        AddCertificate {
            kind: CertificateKind::Signing,
            certificate: self_signed(template, &key).to_pem(),
            key: None,
            tenant: None,
            label: None,
            primary: false,
        }
    };
    let add = async |number: usize| {
        let request = with_key(numbered(number), Some(Arc::clone(&software)));
        let added = site
            .admin(move |client| client.add_certificate(&request))
            .await;
        added.map(|added| added.certificate.thumbprint)
    };
    let mut added = Vec::new();
    for number in 0..MAX_OTHER_CERTIFICATES {
        added.push(add(number).await.unwrap());
    }
    let listed = async || {
        let document = site.get(guardian::METADATA).await.body;
        let (certificates, signatures) = (CertificateCache::new(8), SignatureCache::new(8));
        let metadata = Metadata::read(&document, &certificates, &signatures).unwrap();
        metadata.other_signing_certificates().len()
    };
    let all = listed().await;
    assert_eq!(all, MAX_OTHER_CERTIFICATES);
    let refused = add(MAX_OTHER_CERTIFICATES).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert!(refused.message.contains("no room"), "{refused:?}");
    assert!(refused.remedy.unwrap().contains("hgs certificate disable"));

    let first: hgs_pki::Thumbprint = added[0].parse().unwrap();
    site.admin(move |client| client.disable_certificate(&first))
        .await
        .unwrap();
    add(MAX_OTHER_CERTIFICATES).await.unwrap();
    assert_eq!(listed().await, all);
    let refused = site
        .admin(move |client| client.enable_certificate(&first))
        .await;
    assert!(refused.unwrap_err().message.contains("no room"));
}

#[tokio::test]
async fn certificates_are_made_here_and_what_is_wrong_with_given_ones_is_said() {
    let site = Site::start().await;
    let new = |kind: &str| NewCertificate {
        kind: kind.parse().unwrap(),
        subject: None,
        bits: Some(2048),
        key: None,
        new_key: false,
        tenant: None,
        label: Some("made".to_owned()),
        primary: false,
    };
    for kind in ["signing", "encryption", "communications"] {
        let wanted = new(kind);
        let made = site
            .admin(move |client| client.new_certificate(&wanted))
            .await
            .unwrap();
        let certificate = made.certificate;
        assert_eq!(certificate.kind.to_string(), kind);
        assert!(certificate.usable && !certificate.primary);
        assert_eq!(made.findings.len(), 1);
        assert_eq!(made.findings[0].code, "self-signed");
        if kind == "communications" {
            let change = SetServer {
                communications_certificate: Some(certificate.thumbprint.clone()),
                ..SetServer::default()
            };
            let settings = site.admin(move |client| client.set_server(&change)).await;
            let signs = settings.unwrap().communications_certificate.unwrap();
            assert_eq!(signs.thumbprint, certificate.thumbprint);
            assert_eq!(site.get(guardian::METADATA).await.status, 200);
        }
    }
    let named = NewCertificate {
        subject: Some("Contoso keys".to_owned()),
        ..new("signing")
    };
    let made = site
        .admin(move |client| client.new_certificate(&named))
        .await
        .unwrap();
    assert!(made.certificate.subject.contains("CN=Contoso keys"));
    for unfit in [
        NewCertificate {
            bits: Some(1024),
            ..new("signing")
        },
        NewCertificate {
            subject: Some("x".repeat(65)),
            ..new("signing")
        },
    ] {
        let refused = site
            .admin(move |client| client.new_certificate(&unfit))
            .await;
        assert_eq!(refused.unwrap_err().code, ErrorCode::InvalidRequest);
    }

    // A signing certificate for encryption.
    let [(signing, key), (_, other_key)] = fabric("fabric-next").halves();
    let misused = AddCertificate {
        kind: CertificateKind::Encryption,
        primary: false,
        ..signing
    };
    let wrong_key = misused.clone();
    let refused = site
        .admin(move |client| client.add_certificate(&with_key(wrong_key, Some(other_key))))
        .await;
    assert!(refused.unwrap_err().message.contains("does not belong"));
    let no_key = misused.clone();
    let refused = site
        .admin(move |client| client.add_certificate(&with_key(no_key, None)))
        .await;
    assert!(refused.unwrap_err().remedy.is_some());
    let added = site
        .admin(move |client| client.add_certificate(&with_key(misused, Some(key))))
        .await
        .unwrap();
    let codes: Vec<_> = added.findings.iter().map(|one| one.code.as_str()).collect();
    assert_eq!(codes, ["key-usage", "self-signed"]);
}

#[tokio::test]
async fn what_signers_have_signed_is_denied_by_time() {
    use hgs_admin::types::SetSigner;
    let site = Site::start().await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let before = host.healthy(&site).await;
    let (ingress, _) = site.protector().await;
    site.clock.advance(Seconds::new(600));
    let now = hgs_clock::Clock::now(&*site.clock).to_string();
    let deny = SetSigner {
        deny_before: Some(now.clone()),
        ..SetSigner::default()
    };
    // What is not issued yet can't be denied: no host would get keys until then.
    let ahead = SetSigner {
        deny_before: Some("2999-01-01T00:00:00Z".to_owned()),
        ..SetSigner::default()
    };
    let refused = site
        .admin(move |client| client.set_signer(&SignerSelector::All, &ahead))
        .await
        .unwrap_err();
    assert!(
        refused.message.contains("lies in the future"),
        "{refused:?}"
    );
    assert_eq!(signer(&site).await.deny_before, None);
    let changed = site
        .admin(move |client| client.set_signer(&SignerSelector::All, &deny))
        .await
        .unwrap();
    assert_eq!(changed.len(), 1);
    assert_eq!(signer(&site).await.deny_before, Some(now));
    let refused = ask(&site, &ingress, &before, V2).await;
    assert_eq!(refused.key_protection_code(), "HealthCertificateException");
    site.clock.advance(Seconds::new(600));
    let after = host.healthy(&site).await;
    host.power_on(&site, &ingress, &after, V2).await;

    // Where it is only retired, another signs at once and what it signed is still accepted.
    let retired = signer(&site).await.thumbprint;
    let retire = |thumbprint: String| {
        move |client: &Client| client.retire_signer(&thumbprint.parse().unwrap())
    };
    let shown = site.admin(retire(retired.clone())).await.unwrap();
    assert_eq!(shown.stage, SignerStage::Retired);
    let signers = site
        .admin(|client| client.signers(&hgs_admin::types::DigestPageQuery::default()))
        .await
        .unwrap();
    let stages: Vec<_> = signers.iter().map(|one| one.stage).collect();
    assert_eq!(stages, [SignerStage::Retired, SignerStage::Active]);
    host.power_on(&site, &ingress, &after, V2).await;
    let again = site.admin(retire(retired.clone())).await.unwrap_err();
    assert!(again.message.contains("retired already"), "{again:?}");
    assert_eq!(site.recorded("retire-attestation-signer").await.len(), 2);
    let after = host.healthy(&site).await;
    host.power_on(&site, &ingress, &after, V2).await;
    site.admin(move |client| client.remove_signer(&retired.parse().unwrap()))
        .await
        .unwrap();

    // Our own is replaced as soon as it is removed, and what it signed is worth nothing.
    let thumbprint = signer(&site).await.thumbprint;
    let gone = thumbprint.clone();
    site.admin(move |client| client.remove_signer(&gone.parse().unwrap()))
        .await
        .unwrap();
    assert_ne!(signer(&site).await.thumbprint, thumbprint);
    let refused = ask(&site, &ingress, &after, V2).await;
    assert_eq!(refused.key_protection_code(), "HealthCertificateException");
    assert_eq!(site.recorded("set-attestation-signer").await.len(), 1);
}

/// A tenant's pair in a token: made there by the guardian, and found there where pkcs11-tool has made it.
#[test]
fn a_tenants_pair_lives_in_a_token() {
    isolated(|hsm| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(tenant_in_token(hsm));
    });
}

async fn tenant_in_token(hsm: &SoftHsm) {
    let module = SoftHsm::module();
    let site = Site::start_with(&format!("[[pkcs11.module]]\npath = {module:?}\n")).await;
    let new = |kind: &str, object: &str| NewCertificate {
        kind: kind.parse().unwrap(),
        subject: None,
        bits: Some(2048),
        key: Some(hsm.uri(object)),
        new_key: true,
        tenant: Some("Contoso".to_owned()),
        label: None,
        primary: false,
    };
    hsm.generate("encryption", "--usage-decrypt");
    for (kind, object) in [("signing", "signing"), ("encryption", "encryption")] {
        let wanted = new(kind, object);
        let made = site
            .admin(move |client| client.new_certificate(&wanted))
            .await;
        let certificate = made.unwrap().certificate;
        assert!(certificate.usable && certificate.head);
        assert!(
            certificate.key.starts_with("pkcs11:"),
            "{}",
            certificate.key
        );
    }
    let objects = hsm.pkcs11_tool(&["--list-objects", "--type", "privkey"]);
    let objects = String::from_utf8(objects.stdout).unwrap();
    assert_eq!(
        objects.matches("Private Key Object").count(),
        2,
        "{objects}"
    );

    // One that the guardian makes may only decrypt, so that it can't sign its own certificate.
    let next = new("encryption", "encryption-2");
    let made = site
        .admin(move |client| client.new_certificate(&next))
        .await
        .unwrap();
    assert!(made.certificate.usable && !made.certificate.head);
    assert!(made.findings.iter().all(|one| one.code != "self-signed"));

    // The same once more, as after an answer that was lost: what is there is named, and no certificate is added.
    let again = new("signing", "signing");
    let refused = site
        .admin(move |client| client.new_certificate(&again))
        .await
        .unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
    let remedy = refused.remedy.unwrap();
    assert!(
        remedy.contains("hgs certificate show") && remedy.contains("--new-key"),
        "{remedy}"
    );
    // Another certificate over the key, where that is said.
    let renewed = NewCertificate {
        new_key: false,
        ..new("signing", "signing")
    };
    let made = site
        .admin(move |client| client.new_certificate(&renewed))
        .await;
    made.unwrap();

    // A key that is for another use.
    let other_use = NewCertificate {
        new_key: false,
        ..new("encryption", "signing")
    };
    let refused = site
        .admin(move |client| client.new_certificate(&other_use))
        .await;
    let remedy = refused.unwrap_err().remedy.unwrap();
    assert!(remedy.contains("CKA_DECRYPT"), "{remedy}");

    // A key that is no key of the certificate, and one that is not there.
    let [(stranger, _), _] = tenant("Contoso", "tenant").halves();
    for object in ["signing", "absent"] {
        let given = AddCertificate {
            key: Some(hsm.uri(object)),
            ..stranger.clone()
        };
        let refused = site
            .admin(move |client| client.add_certificate(&with_key(given, None)))
            .await;
        assert_eq!(refused.unwrap_err().code, ErrorCode::Conflict, "{object}");
    }

    let certificates = site
        .admin(|client| client.certificates(&hgs_admin::types::DigestPageQuery::default()))
        .await
        .unwrap();
    let of_tenant = certificates.iter().find(|one| one.lineage != "fabric");
    let thumbprint = of_tenant.unwrap().thumbprint.clone();
    let exported = site
        .admin(move |client| client.guardian_document(&thumbprint.parse().unwrap()))
        .await
        .unwrap();
    let (certificates, signatures) = (CertificateCache::new(8), SignatureCache::new(8));
    let document = exported.document.as_bytes();
    let metadata = Metadata::read(document, &certificates, &signatures).unwrap();
    let (ingress, key) = protector_for(vec![metadata.unverified().clone()]);
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let certificate = host.healthy(&site).await;
    let released = host.power_on(&site, &ingress, &certificate, V2).await;
    assert_eq!(released.ingress_key, key);
    assert_eq!(
        released.egress.wrappings().len(),
        2,
        "Contoso and the owner"
    );
    assert!(!opens(&released.egress, "fabric"));
}

/// A host that another cluster attests gets keys here for as long as, and as far as, that cluster's signer is believed.
#[tokio::test]
async fn another_clusters_signer_is_believed_within_its_bounds() {
    use hgs_admin::types::{AddSigner, DenyHost, SetSigner};
    let (here, there) = (Site::start().await, Site::start().await);
    let host = Host::numbered(0);
    there.register(&host, "node-1").await;
    let certificate = host.healthy(&there).await;
    let (ingress, _) = here.protector().await;
    let refused = async |why: &str| {
        let answer = ask(&here, &ingress, &certificate, V2).await;
        assert_eq!(
            answer.key_protection_code(),
            "HealthCertificateException",
            "{why}"
        );
    };
    refused("nobody believes the signer").await;

    let add = AddSigner {
        certificate: signer(&there).await.pem,
        label: Some("second site".to_owned()),
        maximum_validity_seconds: None,
    };
    let twice = add.clone();
    let added = here
        .admin(move |client| client.add_signer(&add))
        .await
        .unwrap();
    assert_eq!((added.stage, added.own), (SignerStage::Trusted, false));
    let known = here.admin(move |client| client.add_signer(&twice)).await;
    assert_eq!(known.unwrap_err().code, ErrorCode::Conflict);
    host.power_on(&here, &ingress, &certificate, V2).await;
    let record = &here.recorded("release").await[0];
    assert_eq!(record.host_name, None, "it is no host of this registry");

    let set = async |change: SetSigner| {
        let thumbprint = added.thumbprint.clone();
        here.admin(move |client| client.set_signer(&thumbprint.parse().unwrap(), &change))
            .await
            .unwrap();
    };
    let serial = || vec![hgs_crypto::hex::encode(certificate.serial_number())];
    set(SetSigner {
        deny: serial(),
        ..SetSigner::default()
    })
    .await;
    refused("this one certificate is denied").await;
    set(SetSigner {
        allow: serial(),
        ..SetSigner::default()
    })
    .await;
    host.power_on(&here, &ingress, &certificate, V2).await;
    set(SetSigner {
        maximum_validity_seconds: Some(60),
        ..SetSigner::default()
    })
    .await;
    refused("it is valid for too long").await;
    set(SetSigner {
        maximum_validity_seconds: Some(86_400),
        ..SetSigner::default()
    })
    .await;
    host.power_on(&here, &ingress, &certificate, V2).await;

    // Denied here by its key, whoever attests it; and revoked here, where it was registered under another id.
    let barred = async |why: &str| {
        let answer = ask(&here, &ingress, &certificate, V2).await;
        assert_eq!(
            answer.key_protection_code(),
            "HostRevokedException",
            "{why}"
        );
    };
    let denial = DenyHost {
        host_key: Some(host.public_pem()),
        reason: "stolen".to_owned(),
        ..DenyHost::default()
    };
    let denied = here
        .admin(move |client| client.deny_host(&denial))
        .await
        .unwrap();
    barred("it is denied").await;
    let policy = denied.policy_digest.parse().unwrap();
    here.admin(move |client| client.allow_host(&policy))
        .await
        .unwrap();
    host.power_on(&here, &ingress, &certificate, V2).await;
    here.register(&host, "node-9").await;
    host.power_on(&here, &ingress, &certificate, V2).await;
    here.revoke("node-9").await;
    barred("it is revoked").await;
    here.admin(|client| client.remove_host(&"node-9".parse().unwrap()))
        .await
        .unwrap();
    barred("it was revoked before it was removed").await;
    here.admin(|client| client.readmit_host(&"node-9".parse().unwrap()))
        .await
        .unwrap();
    host.power_on(&here, &ingress, &certificate, V2).await;

    let thumbprint = added.thumbprint.clone();
    here.admin(move |client| client.remove_signer(&thumbprint.parse().unwrap()))
        .await
        .unwrap();
    refused("the signer was removed").await;
}

/// A signer of another cluster ends with its certificate, also for a health certificate that outlives it.
#[tokio::test]
async fn another_clusters_signer_ends_with_its_certificate() {
    use hgs_admin::types::AddSigner;
    use hgs_testkit::fixtures::{AttestationSigner, private_key, self_signed};

    let site = Site::start().await;
    let now = site.clock.now();
    let (day, hours) = (Seconds::from_days(1), Seconds::new(4 * 60 * 60));
    let validity = Validity {
        not_before: now.checked_sub(day).unwrap(),
        not_after: now.checked_add(hours).unwrap(),
    };
    let key = private_key(13);
    let signer = AttestationSigner {
        certificate: self_signed(profile::attestation_signer(validity), &key),
        key,
    };
    let add = AddSigner {
        certificate: signer.certificate.to_pem(),
        label: None,
        maximum_validity_seconds: None,
    };
    site.admin(move |client| client.add_signer(&add))
        .await
        .unwrap();
    let (ingress, _) = site.protector().await;
    let host = hgs_testkit::fixtures::Host::numbered(0);
    let certificate = signer.health_certificate(&host, HealthKind::Encryption, now);
    assert!(certificate.validity().not_after > validity.not_after);

    site.clock.advance(hours);
    let last_second = ask(&site, &ingress, &certificate, V2).await;
    assert_eq!(last_second.status, 200, "{}", last_second.text());
    let warnings = site.admin(|client| client.status()).await.unwrap().warnings;
    assert!(
        warnings.iter().any(|one| one.code == "signer-expiry"),
        "{warnings:?}"
    );
    let releases = site.recorded("release").await.len();
    site.clock.advance(Seconds::new(1));
    let after = ask(&site, &ingress, &certificate, V2).await;
    assert_eq!(after.key_protection_code(), "HealthCertificateException");
    assert_eq!(site.recorded("release").await.len(), releases);
}
