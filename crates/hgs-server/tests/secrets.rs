//! attacks.md K9: what is secret stays so. A whole life of a guardian, with everything logged that can be, and then
//! every octet that has left it is searched for every secret there was, in every form in which octets are written.

mod guardian;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::sync::{Arc, Mutex};

use guardian::{ATTEST, Host, METADATA, SIGNING_CERTIFICATES, Site, ask, roll_path};
use hgs_admin::types::{AddCertificate, AuditQuery};
use hgs_admin::{Administration as _, WithKey};
use hgs_crypto::{base64, hex};
use hgs_custody::SoftwareKey;
use hgs_kps::ServiceVersion::{V1, V2};
use hgs_pki::health::HealthKind;
use hgs_testkit::fixtures::Guardian as Fixture;
use tracing_subscriber::fmt::MakeWriter;

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// What is searched for: any run of 16 octets of the secret, in one of its forms.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for window in secret.windows(16).step_by(8) {
        forms.push(window.to_vec());
        forms.push(hex::encode(window).into_bytes());
        forms.push(hex::encode(window).to_uppercase().into_bytes());
        let decimal: Vec<_> = window.iter().map(u8::to_string).collect();
        forms.push(decimal.join(", ").into_bytes());
        forms.push(decimal.join(",").into_bytes());
        // As `bytes` and byte strings show themselves, and that within JSON.
        let escaped = window.escape_ascii().to_string();
        forms.push(escaped.replace('\\', "\\\\").into_bytes());
        forms.push(escaped.into_bytes());
        // Base64 of three octets is four characters, so the run may begin at any of three places in a group.
        for skipped in 0..3 {
            let whole = &window[skipped..skipped + 12];
            let text = base64::encode(whole);
            forms.push(text.replace('+', "-").replace('/', "_").into_bytes());
            forms.push(text.into_bytes());
        }
    }
    forms
}

/// Everything that is searched for, by its first three octets: what is searched has megabytes.
struct Search<'s>(HashMap<[u8; 3], Vec<(&'s str, Vec<u8>)>>);

impl<'s> Search<'s> {
    fn of(secrets: &[(&'s str, &[u8])]) -> Self {
        let mut by_start: HashMap<_, Vec<_>> = HashMap::new();
        for (name, secret) in secrets {
            for form in forms(secret) {
                let start = *form.first_chunk().unwrap();
                by_start.entry(start).or_default().push((*name, form));
            }
        }
        Self(by_start)
    }

    /// The name of the first secret that is in `octets`.
    fn find(&self, octets: &[u8]) -> Option<&'s str> {
        octets.windows(3).enumerate().find_map(|(place, start)| {
            let candidates = self.0.get(start)?;
            let found = candidates
                .iter()
                .find(|(_, form)| octets[place..].starts_with(form));
            found.map(|(name, _)| *name)
        })
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

#[test]
fn the_search_finds_what_is_there() {
    let secret: Vec<u8> = (0..32)
        .map(|octet: u8| octet.wrapping_mul(37).wrapping_add(200))
        .collect();
    for shown in [
        secret.clone(),
        hex::encode(&secret).into_bytes(),
        format!("{secret:?}").into_bytes(),
        serde_json::to_vec(&secret).unwrap(),
        format!("{:?}", bytes::Bytes::from(secret.clone())).into_bytes(),
        serde_json::to_vec(&format!("{:?}", bytes::Bytes::from(secret.clone()))).unwrap(),
        base64::encode(&secret).into_bytes(),
        base64::encode(&[b"x", &secret[..]].concat()).into_bytes(),
        base64::encode(&[b"xy", &secret[..]].concat()).into_bytes(),
    ] {
        let text = [b"log: ", &shown[..], b" end"].concat();
        let search = Search::of(&[("it", &secret)]);
        assert_eq!(search.find(&text), Some("it"), "{text:?}");
        assert_eq!(search.find(&text[..8]), None);
    }
}

#[tokio::test]
async fn k9_no_secret_is_in_logs_metrics_answers_audit_records_or_the_database() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .finish();
    // For all threads of this process, which is this test's own.
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let mut site = Site::start().await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let mut seen: Vec<u8> = Vec::new();
    let certificate = host.healthy(&site).await;
    let (ingress, key) = site.protector().await;
    let first = host.power_on(&site, &ingress, &certificate, V1).await;
    let second = host.power_on(&site, &first.egress, &certificate, V2).await;
    // What was released is in the answers, encrypted.
    for answer in [
        ask(&site, &ingress, &certificate, V2).await,
        ask(&site, &second.egress, &certificate, V1).await,
        site.get(METADATA).await,
        site.get(SIGNING_CERTIFICATES).await,
        site.post(ATTEST, host.request(HealthKind::Signing).body())
            .await,
    ] {
        assert_eq!(answer.status, 200);
        seen.extend(answer.body);
    }
    // Errors of all kinds, with secrets in what they are about.
    let octets = key.secret().expose();
    for (path, body) in [
        (roll_path(V2), octets.to_vec()),
        (roll_path(V2), hex::encode(octets).into_bytes()),
        (ATTEST.to_owned(), octets.to_vec()),
        (METADATA.to_owned(), octets.to_vec()),
    ] {
        seen.extend(site.post(&path, &body).await.body);
    }
    // Private keys that administrators bring, with their certificates and with others.
    let next = Fixture::named("fabric-next");
    for (kind, certificate, key) in [
        ("signing", &next.signing, &next.encryption_key),
        ("signing", &next.signing, &next.signing_key),
        ("encryption", &next.encryption, &next.encryption_key),
    ] {
        let key = SoftwareKey::from_pkcs8_der(key.pkcs8_der()).unwrap();
        let certificate = AddCertificate {
            kind: kind.parse().unwrap(),
            certificate: certificate.to_pem(),
            key: None,
            tenant: None,
            label: None,
            primary: false,
        };
        let added = site
            .admin(move |client| {
                client.add_certificate(&WithKey {
                    request: certificate,
                    key: Some(Arc::new(key)),
                })
            })
            .await;
        seen.extend(format!("{added:?}").into_bytes());
    }
    site.revoke("node-1").await;
    seen.extend(ask(&site, &ingress, &certificate, V2).await.body);
    let everything = AuditQuery {
        limit: Some(1000),
        ..AuditQuery::default()
    };
    let records = site
        .admin(move |client| client.audit(&everything))
        .await
        .unwrap();
    let administered = serde_json::to_vec(&(
        &records,
        site.admin(|client| client.status()).await.unwrap(),
        site.admin(|client| client.server()).await.unwrap(),
        site.admin(|client| client.certificates(&hgs_admin::types::DigestPageQuery::default()))
            .await
            .unwrap(),
        site.admin(|client| client.signers(&hgs_admin::types::DigestPageQuery::default()))
            .await
            .unwrap(),
        site.admin(|client| client.host(&"node-1".parse().unwrap()))
            .await
            .unwrap(),
    ))
    .unwrap();
    let metrics = site.running().metrics().render().into_bytes();
    site.stop().await;
    let state = site.folder.path().join("state");
    let mut database = Vec::new();
    for entry in fs::read_dir(&state).unwrap() {
        let path = entry.unwrap().path();
        if !path.ends_with("master.key") {
            database.extend(fs::read(path).unwrap());
        }
    }

    let fabric = Fixture::named("fabric");
    let master_key = fs::read(state.join("master.key")).unwrap();
    let secrets: [(&str, &[u8]); 10] = [
        ("the first transport key", octets),
        (
            "the second transport key",
            first.egress_key.secret().expose(),
        ),
        (
            "the third transport key",
            second.egress_key.secret().expose(),
        ),
        ("the master key", &master_key),
        // Of RSA keys, what follows the public half: the private exponent and the primes.
        (
            "the signing key",
            private_part(fabric.signing_key.pkcs8_der().expose()),
        ),
        (
            "the encryption key",
            private_part(fabric.encryption_key.pkcs8_der().expose()),
        ),
        (
            "a signing key that was brought",
            private_part(next.signing_key.pkcs8_der().expose()),
        ),
        (
            "an encryption key that was brought",
            private_part(next.encryption_key.pkcs8_der().expose()),
        ),
        (
            "the host key",
            private_part(host.host_key.pkcs8_der().expose()),
        ),
        (
            "the identity key",
            private_part(host.identity.pkcs8_der().expose()),
        ),
    ];
    let log = log.0.lock().unwrap().clone();
    assert!(log.len() > 10_000, "the log was captured");
    assert!(
        contains(&log, b"\"outcome\":\"released\""),
        "decisions are logged"
    );
    let search = Search::of(&secrets);
    for (place, octets) in [
        ("the log", &log),
        ("the metrics", &metrics),
        ("answers", &seen),
        ("the admin API", &administered),
        ("the database", &database),
    ] {
        assert_eq!(search.find(octets), None, "in {place}");
    }
}

/// The octets of a PKCS#8 key of 2048 bits after the modulus: nothing of them is public but a few octets of structure.
fn private_part(pkcs8: &[u8]) -> &[u8] {
    &pkcs8[pkcs8.len() - 880..pkcs8.len() - 16]
}
