//! A guardian whose keys are in a token: the main job, and what becomes of it when the token goes away and comes back.

mod guardian;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use guardian::{Answer, Host, Site, ask, options, pending};
use hgs_admin::Administration as _;
use hgs_admin::types::Outcome;
use hgs_kps::ServiceVersion::{V1, V2};
use hgs_pki::Certificate;
use hgs_protector::VerifiedProtector;
use hgs_protector::suite::KeyEncryption;
use hgs_server::{CertificateSource, InitOptions, InitialiseError, KeyProofError};
use hgs_testkit::fixtures::{Guardian as Fixture, now};
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

            let listed = site.admin(|client| client.certificates()).await.unwrap();
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
            let listed = site.admin(|client| client.certificates()).await.unwrap();
            let away = listed.iter().filter(|one| one.key != "sealed");
            assert!(away.map(|one| one.usable).eq([false, false]));
            site.clock.advance(hgs_pki::Seconds::from_minutes(1));
            while site.metric("hgs_tokens_away") != 1.0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }

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
