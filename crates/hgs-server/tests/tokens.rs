//! A guardian whose keys are in a token: the main job, and what becomes of it when the token goes away and comes back.

mod guardian;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use guardian::{Answer, Host, Site, ask, exchange_with, options, pending, roll_path};
use hgs_admin::Administration as _;
use hgs_admin::types::{Outcome, RotateCertificates};
use hgs_crypto::random::System;
use hgs_kps::ServiceVersion::{V1, V2};
use hgs_kps::signed_response::{Nonce, ResponseFields, SignatureRequest};
use hgs_kps::{Authenticity, Caches};
use hgs_pki::Certificate;
use hgs_protector::VerifiedProtector;
use hgs_protector::suite::KeyEncryption;
use hgs_server::{CertificateSource, InitOptions, InitialiseError, KeyProofError};
use hgs_testkit::fixtures::{Guardian as Fixture, Keys, now};
use hgs_testkit::softhsm::{SoftHsm, isolated};
use tokio::runtime::Runtime;

const SIGNING: &str = "guardian-signing";
const ENCRYPTION: &str = "guardian-encryption";

/// A guardian over keys that pkcs11-tool has made, each for its one use.
async fn site(hsm: &SoftHsm) -> Site {
    site_with(hsm, "auto").await
}

/// The same where `oaep` says who removes the padding.
async fn site_with(hsm: &SoftHsm, oaep: &str) -> Site {
    hsm.generate(SIGNING, "--usage-sign");
    hsm.generate(ENCRYPTION, "--usage-decrypt");
    let module = SoftHsm::module();
    let mut site = Site::empty(&format!(
        "[[pkcs11.module]]\npath = \"{}\"\nsessions = 2\nwait = \"30s\"\noaep = \"{oaep}\"\n",
        module.display()
    ));
    let options = InitOptions {
        new_keys: true,
        signing: in_token(hsm, SIGNING, None),
        encryption: in_token(hsm, ENCRYPTION, None),
        ..options()
    };
    initialise(&site, options).await.unwrap();
    site.restart().await;
    site
}

fn in_token(hsm: &SoftHsm, object: &str, certificate: Option<Certificate>) -> CertificateSource {
    CertificateSource::InToken {
        key: Box::new(hsm.uri(object).parse().unwrap()),
        certificate,
    }
}

async fn initialise(site: &Site, options: InitOptions) -> Result<(), InitialiseError> {
    let config = site.config.clone();
    let made = tokio::task::spawn_blocking(move || {
        hgs_server::initialise(&config, options, now()).map(drop)
    });
    made.await.unwrap()
}

/// The site, a host that is healthy, and a protector for the guardian.
async fn ready(hsm: &SoftHsm) -> (Site, Host, Certificate, VerifiedProtector) {
    let site = site(hsm).await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let certificate = host.healthy(&site).await;
    let (ingress, _) = site.protector().await;
    (site, host, certificate, ingress)
}

#[test]
fn the_main_job_with_keys_in_a_token() {
    isolated(|hsm| {
        Runtime::new().unwrap().block_on(async {
            let (site, host, certificate, ingress) = ready(hsm).await;
            let first = host.power_on(&site, &ingress, &certificate, V2).await;
            let second = host.power_on(&site, &first.egress, &certificate, V1).await;
            assert!(second.ingress_key == first.egress_key);

            let listed = site
                .admin(|client| client.certificates(&hgs_admin::types::DigestPageQuery::default()))
                .await
                .unwrap();
            for kind in ["signing", "encryption"] {
                let mut of_kind = listed.iter().filter(|one| one.kind.to_string() == kind);
                let primary = of_kind.find(|one| one.primary).unwrap();
                assert!(primary.usable, "{primary:?}");
                assert!(primary.key.starts_with("pkcs11:token=hgs;"), "{primary:?}");
            }
        });
    });
}

/// A token that knows no OAEP but that with SHA-1, where raw RSA is forbidden: owners are asked for SHA-1, and rolls keep to it.
#[test]
fn a_token_without_sha_256_is_asked_for_in_the_metadata() {
    isolated(|hsm| {
        Runtime::new().unwrap().block_on(async {
            let site = site_with(hsm, "sha1").await;
            let host = Host::numbered(0);
            site.register(&host, "node-1").await;
            let certificate = host.healthy(&site).await;
            let (ingress, _) = site.protector().await;
            let of = |protector: &VerifiedProtector| {
                let wrappings = protector.wrappings().iter();
                let algorithms = wrappings.map(|wrapping| wrapping.transport_key().encryption);
                algorithms.collect::<Vec<_>>()
            };
            let expected = [KeyEncryption::RsaOaep, KeyEncryption::RsaOaepMgf1p];
            assert_eq!(of(&ingress), expected);
            let released = host.power_on(&site, &ingress, &certificate, V2).await;
            assert_eq!(of(&released.egress), expected);

            // The guardian's own diagnosis asks for the same.
            let inside = site.admin(|client| client.trace()).await.unwrap().0;
            for certificate in &inside.state.unwrap().unwrap().certificates {
                let Some(work) = &certificate.work else {
                    continue;
                };
                let mut works = [&work.decrypts, &work.signs].into_iter().flatten();
                assert!(works.all(Result::is_ok), "{certificate:?}");
            }
            let roll = site
                .admin(|client| client.synthetic_roll())
                .await
                .unwrap()
                .0;
            assert_eq!(roll.released, Ok(()));
        });
    });
}

#[test]
fn a_key_that_is_not_the_certificates_is_refused_and_nothing_is_made() {
    isolated(|hsm| {
        Runtime::new().unwrap().block_on(async {
            let site = site(hsm).await;
            let foreign = Fixture::named("stranger").signing.clone();
            let other = Site::empty(&format!(
                "[[pkcs11.module]]\npath = \"{}\"\n",
                SoftHsm::module().display()
            ));
            let options = InitOptions {
                signing: in_token(hsm, SIGNING, Some(foreign.clone())),
                ..options()
            };
            drop(site);
            let refused = initialise(&other, options).await.unwrap_err();
            let expected = KeyProofError::OtherKey(foreign.thumbprint());
            assert!(
                matches!(&refused, InitialiseError::Key(error) if *error == expected),
                "{refused:?}"
            );
            assert!(!hgs_store::Store::is_in(&other.config.state_folder()));
        });
    });
}

/// A rotation with keys in a token makes none outside of it unasked, looks for all before it makes any, and reaches
/// machines at their next power-on.
#[test]
fn a_rotation_stays_in_the_token_and_is_whole_or_nothing() {
    isolated(|hsm| {
        Runtime::new().unwrap().block_on(async {
            let (site, host, certificate, ingress) = ready(hsm).await;
            let before = site
                .admin(|client| client.certificates(&hgs_admin::types::DigestPageQuery::default()))
                .await
                .unwrap();
            let named = |signing: &str, encryption: &str| RotateCertificates {
                signing_key: Some(hsm.uri(signing)),
                encryption_key: Some(hsm.uri(encryption)),
                bits: Some(2048),
                ..RotateCertificates::default()
            };
            let making = |given: RotateCertificates| RotateCertificates {
                new_keys: true,
                ..given
            };
            let one_alone = RotateCertificates {
                encryption_key: None,
                ..making(named("signing-2", "encryption-2"))
            };
            for (refused, why) in [
                (RotateCertificates::default(), "not made unasked"),
                (one_alone, "not made unasked"),
                (named("signing-2", "encryption-2"), "is not there"),
                (making(named("one", "one")), "the same"),
                (
                    making(named("signing-2", ENCRYPTION)),
                    "is that of certificate",
                ),
                (
                    making(named("signing-2", SIGNING)),
                    "is that of certificate",
                ),
            ] {
                let error = site
                    .admin(move |client| client.rotate_certificates(&refused))
                    .await
                    .unwrap_err();
                assert!(error.message.contains(why), "{error:?}");
                assert!(error.remedy.is_some() || why == "the same", "{error:?}");
            }
            let keys = hsm.pkcs11_tool(&["--list-objects", "--type", "privkey"]);
            let keys = String::from_utf8(keys.stdout).unwrap();
            assert_eq!(keys.matches("Private Key Object").count(), 2, "{keys}");
            let unchanged = site
                .admin(|client| client.certificates(&hgs_admin::types::DigestPageQuery::default()))
                .await
                .unwrap();
            assert_eq!(unchanged, before);

            let given = making(named("signing-2", "encryption-2"));
            let rotated = site
                .admin(move |client| client.rotate_certificates(&given))
                .await
                .unwrap();
            for added in [&rotated.signing, &rotated.encryption] {
                assert!(added.certificate.primary && added.certificate.usable);
                assert!(added.certificate.key.starts_with("pkcs11:token=hgs;"));
                assert!(added.findings.iter().any(|one| one.code == "key-made"));
            }
            let records = site.recorded("set-head").await;
            assert_eq!(records.len(), 2, "{records:?}");

            let first = host.power_on(&site, &ingress, &certificate, V2).await;
            let second = host.power_on(&site, &first.egress, &certificate, V2).await;
            let encryption = &rotated.encryption.certificate.thumbprint;
            let last = second.egress.wrappings().last().unwrap();
            let appended = last.encryption_certificate().thumbprint().to_string();
            assert_eq!(appended, *encryption);
            for former in [rotated.previous_signing, rotated.previous_encryption] {
                let former = former.unwrap().parse().unwrap();
                site.admin(move |client| client.disable_certificate(&former))
                    .await
                    .unwrap();
            }
            let third = host.power_on(&site, &second.egress, &certificate, V2).await;
            assert!(third.ingress_key == second.egress_key);
        });
    });
}

/// Section 10 of the protocol profile: the delegation is the signing key's, wherever that is. The key in the token is asked
/// for one a day; while it is away nothing is released, delegated or put on record.
#[test]
fn responses_are_signed_under_a_delegation_by_the_key_in_the_token() {
    isolated(|hsm| {
        Runtime::new().unwrap().block_on(async {
            let (site, host, certificate, ingress) = ready(hsm).await;
            let first = power_on_signed(&host, &site, &ingress, &certificate).await;
            let again = power_on_signed(&host, &site, &ingress, &certificate).await;
            assert_eq!(first, again, "one delegation a day");

            site.clock.advance(hgs_pki::Seconds::from_hours(25));
            let certificate = host.healthy(&site).await;
            let released = site.recorded("release").await.len();
            hsm.hide();
            let refused = ask_signed(&site, &ingress, &certificate).await.1;
            assert_away(&refused);
            assert_eq!(refused.header("openhgs-response-key"), None);
            assert_eq!(site.recorded("release").await.len(), released);
            hsm.show();
            while ask(&site, &ingress, &certificate, V2).await.status != 200 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let next = power_on_signed(&host, &site, &ingress, &certificate).await;
            assert_ne!(next, first, "a new delegation");
        });
    });
}

/// The PIN is changed by somebody else while the guardian is logged in. It works on with the login that it has; when it has
/// to log in again it says what is wrong, does not use up the token's attempts, and goes on when the source has the new PIN.
#[test]
fn a_pin_that_was_changed_meanwhile_is_named_until_its_source_has_the_new_one() {
    isolated(|hsm| {
        Runtime::new().unwrap().block_on(async {
            let (site, host, certificate, ingress) = ready(hsm).await;
            hsm.pkcs11_tool(&["--change-pin", "--new-pin", "87654321"]);
            host.power_on(&site, &ingress, &certificate, V2).await;

            hsm.hide();
            assert_away(&ask(&site, &ingress, &certificate, V2).await);
            hsm.show();
            let refused = loop {
                let status = site.admin(|client| client.status()).await.unwrap();
                let warnings = status.warnings.into_iter();
                let mut away = warnings.filter(|warning| warning.code == "token-away");
                match away.find(|warning| warning.message.contains("PIN")) {
                    Some(warning) => break warning,
                    None => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            };
            for words in ["CKR_PIN_INCORRECT", "file:", "was changed meanwhile"] {
                assert!(refused.message.contains(words), "{refused:?}");
            }
            assert!(refused.remedy.contains("correct the PIN"), "{refused:?}");
            assert!(!format!("{refused:?}").contains("87654321"));
            let monitoring = site.running().addresses().metrics.unwrap();
            let ready = exchange_with(monitoring, "GET", "/health/ready", &[], b"").await;
            assert_eq!(ready.status, 503, "{}", ready.text());
            assert!(ready.text().contains("PIN"), "{}", ready.text());
            assert_away(&ask(&site, &ingress, &certificate, V2).await);

            // The attempts of the token are not used up: it takes the right PIN at once.
            std::fs::write(hsm.pin_file(), "87654321").unwrap();
            while ask(&site, &ingress, &certificate, V2).await.status != 200 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let ready = exchange_with(monitoring, "GET", "/health/ready", &[], b"").await;
            assert_eq!(ready.status, 200, "{}", ready.text());
            let status = site.admin(|client| client.status()).await.unwrap();
            assert!(
                status
                    .warnings
                    .iter()
                    .all(|warning| warning.code != "token-away")
            );
        });
    });
}

/// attacks.md K6: whatever holds for software keys holds for keys in a token. While it is away, whoever is refused is refused
/// as always, so nobody asked it.
#[test]
fn k6_every_check_comes_before_the_token() {
    isolated(|hsm| {
        Runtime::new().unwrap().block_on(async {
            let (site, _, certificate, ingress) = ready(hsm).await;
            hsm.hide();
            assert_away(&ask(&site, &ingress, &certificate, V2).await);

            let stranger = Fixture::named("stranger").certificates.clone();
            let (foreign, _) = guardian::protector_for(vec![stranger]);
            let refused = ask(&site, &foreign, &certificate, V2).await;
            assert_eq!(refused.key_protection_code(), "WrappingNotFoundException");
            site.revoke("node-1").await;
            let refused = ask(&site, &ingress, &certificate, V2).await;
            assert_eq!(refused.key_protection_code(), "HostRevokedException");
        });
    });
}

/// A token that is away keeps nobody from starting, and attestation does not need it.
#[test]
fn a_guardian_starts_without_its_token_and_has_it_when_it_comes() {
    isolated(|hsm| {
        Runtime::new().unwrap().block_on(async {
            let (mut site, host, certificate, ingress) = ready(hsm).await;
            site.stop().await;
            hsm.hide();
            site.restart().await;
            let refused = ask(&site, &ingress, &certificate, V2).await;
            assert_away(&refused);
            host.healthy(&site).await;
            let listed = site
                .admin(|client| client.certificates(&hgs_admin::types::DigestPageQuery::default()))
                .await
                .unwrap();
            let away = listed.iter().filter(|one| one.key != "sealed");
            assert!(away.map(|one| one.usable).eq([false, false]));
            while site.metric("hgs_tokens_away") != 1.0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let (metrics, unavailable) = (site.scraped().await, "hgs_token_available{token=");
            let mut tokens = metrics.lines().filter(|line| line.starts_with(unavailable));
            assert!(tokens.next().is_some_and(|line| line.ends_with("} 0")));
            assert!(
                metrics.contains("\nhgs_ready 0\n")
                    && metrics.contains("\nhgs_certificates_without_key 2\n")
            );

            hsm.show();
            while ask(&site, &ingress, &certificate, V2).await.status != 200 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
    });
}

/// The token is taken away and brought back while hosts ask: each answer gives keys that open, or says honestly that
/// the key store is away. What was given is on record, once.
#[test]
fn a_token_that_goes_and_comes_back_under_load_costs_no_answer() {
    isolated(|hsm| {
        Runtime::new().unwrap().block_on(async {
            let (site, host, certificate, ingress) = ready(hsm).await;
            let load = Load::default();
            let asking = (0..4).map(|_| load.keep_asking(&site, &host, &certificate, &ingress));
            let asking = futures_util::future::join_all(asking);
            let faults = async {
                load.until(&load.given, 8).await;
                for _ in 0..2 {
                    hsm.hide();
                    load.until(&load.refused, 8).await;
                    hsm.show();
                    load.until(&load.given, 8).await;
                }
                load.stop.store(true, Ordering::SeqCst);
            };
            futures_util::future::join(asking, faults).await;

            let given = load.given.load(Ordering::SeqCst);
            let records = site.recorded("release").await;
            let done = records
                .iter()
                .filter(|record| record.outcome == Outcome::Done);
            assert_eq!(done.count(), given);
        });
    });
}

#[derive(Default)]
struct Load {
    stop: AtomicBool,
    given: AtomicUsize,
    refused: AtomicUsize,
}

impl Load {
    async fn keep_asking(
        &self,
        site: &Site,
        host: &Host,
        certificate: &Certificate,
        ingress: &VerifiedProtector,
    ) {
        while !self.stop.load(Ordering::SeqCst) {
            let answer = ask(site, ingress, certificate, V2).await;
            if answer.status == 200 {
                let pending = pending(ingress, certificate, V2);
                let released = host.receive(&pending, certificate, &answer.body);
                assert!(released.egress != *ingress);
                self.given.fetch_add(1, Ordering::SeqCst);
            } else {
                assert_away(&answer);
                self.refused.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// Waits until there are `more` of them.
    async fn until(&self, count: &AtomicUsize, more: usize) {
        let wanted = count.load(Ordering::SeqCst) + more;
        while count.load(Ordering::SeqCst) < wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[track_caller]
fn assert_away(answer: &Answer) {
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.key_protection_code(), "KeyStoreUnavailableException");
    assert!(answer.header("retry-after").is_some());
}

/// Asks for a release whose response is signed.
async fn ask_signed(
    site: &Site,
    ingress: &VerifiedProtector,
    certificate: &Certificate,
) -> (SignatureRequest, Answer) {
    let body = pending(ingress, certificate, V2).request();
    let asked = SignatureRequest::new(Nonce::random(&mut System::new()).unwrap(), &body);
    let fields = [
        ("Content-Digest", asked.content_digest()),
        ("Accept-Signature", asked.accept_signature()),
    ];
    let fields = [
        (fields[0].0, fields[0].1.as_str()),
        (fields[1].0, fields[1].1.as_str()),
    ];
    let answer = exchange_with(site.http(), "POST", &roll_path(V2), &fields, &body).await;
    (asked, answer)
}

/// Has a release answered and checks its signature as hosts do. The delegation of the response key.
async fn power_on_signed(
    host: &Host,
    site: &Site,
    ingress: &VerifiedProtector,
    certificate: &Certificate,
) -> String {
    let (request, answer) = ask_signed(site, ingress, certificate).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let fields = ResponseFields::read(|name| {
        let value = answer.header(&name.to_ascii_lowercase());
        value.map(str::as_bytes).into_iter().collect()
    });
    let mut keys = Keys::default();
    keys.hold(certificate, &host.identity);
    let authenticity = Authenticity::Signed {
        request: &request,
        fields: &fields.unwrap(),
        now: hgs_clock::Clock::now(&*site.clock),
    };
    pending(ingress, certificate, V2)
        .receive(&answer.body, authenticity, &Caches::new(64), &mut &keys)
        .unwrap();
    answer.header("openhgs-response-key").unwrap().to_owned()
}
