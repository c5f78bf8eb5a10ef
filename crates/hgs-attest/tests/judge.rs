//! The second implementation in `conformance/` judges ours, and ours judges it.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{Registry, attempt, host_key, identity_key, nonces, request, service_keys, signer};
use hgs_attest::freshness::{FreshnessProof, NonceKey};
use hgs_attest::host_key::evaluate;
use hgs_attest::issue::{self, DrawnSerialNumber};
use hgs_attest::wire::AttestationOperationMode;
use hgs_attest::{Reason, Refusal, Verdict, signing_certificates};
use hgs_crypto::rsa::PublicKey;
use hgs_crypto::{SecretBytes, base64};
use hgs_pki::health::{
    HealthCertificate, HealthCertificateError as Error, HealthKind, HealthValidity, TrustedSigner,
    TrustedSigners,
};
use hgs_pki::{Certificate, CertificateError, Seconds, Time};
use hgs_testkit::fixtures::{Repeatable, now};

const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Standard output of the judge's interpreter, run in `folder`.
#[track_caller]
fn python(folder: &Path, arguments: &[&str]) -> String {
    hgs_testkit::tool("python3", "python3");
    let output = Command::new("/usr/bin/python3")
        .args(arguments)
        .current_dir(folder)
        .env("PYTHONPATH", Path::new(WORKSPACE).join("conformance"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        !errors.contains("No module named"),
        "this test needs the Debian packages python3-lxml and python3-cryptography: {errors}"
    );
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The word of the judge for what we found.
fn word(error: &Error) -> &'static str {
    match error {
        Error::Certificate(CertificateError::TooLarge(_)) => "limit-certificate",
        Error::Certificate(CertificateError::Key(_)) => "key",
        // The page has the version under check 3; here a certificate of version 2 can't even be read.
        Error::Certificate(CertificateError::UnsupportedVersion(_)) => "constraints",
        Error::Certificate(_) => "certificate",
        Error::UntrustedIssuer => "issuer",
        Error::SignerExpired { .. } => "signer-expired",
        Error::IsSigner => "is-signer",
        Error::Version
        | Error::NoBasicConstraints
        | Error::CertificateAuthority
        | Error::CriticalExtension(_) => "constraints",
        Error::Purpose { .. } | Error::KeyUsage { .. } => "purpose",
        Error::NoStatement | Error::Statement(_) => "statement",
        Error::Expired { .. } => "expired",
        Error::NotYetValid { .. } | Error::IssuedInTheFuture { .. } => "not-yet-valid",
        Error::ValidityTooLong { .. } => "validity",
        other => panic!("no specimen should meet {other}"),
    }
}

const WRITE_SPECIMENS: &str = "
from pathlib import Path
from openhgs_judge import attacks_health, rsa
for specimen in attacks_health.specimens(rsa.generate()):
    Path(specimen.name).write_bytes(specimen.octets)
    print(specimen.name, specimen.outcome, specimen.reason or '-')
print('now', attacks_health.NOW.strftime('%Y-%m-%dT%H:%M:%SZ'), '-')
";

#[test]
fn every_health_certificate_of_the_judge_is_judged_as_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let index = python(folder.path(), &["-c", WRITE_SPECIMENS]);
    let entries: Vec<[&str; 3]> = index
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>().try_into().unwrap())
        .collect();
    let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
    let signer = Certificate::from_der(&read("signer")).unwrap();
    let trusted = TrustedSigners::new(vec![TrustedSigner::own(signer)]);
    let (last, entries) = entries.split_last().unwrap();
    let when: Time = last[1].parse().unwrap();
    assert!(entries.len() > 50, "{index}");
    for [name, outcome, reason] in entries.iter().filter(|[name, ..]| *name != "signer") {
        let verified = HealthCertificate::from_der(&read(name))
            .map_err(Error::from)
            .and_then(|certificate| {
                certificate.verify(&trusted, HealthKind::Encryption, when, Seconds::new(60))
            });
        let (found, why) = match &verified {
            Ok(_) => ("valid", "-"),
            Err(error) => ("invalid", word(error)),
        };
        let reason = if reason.starts_with("key-") {
            "key"
        } else {
            reason
        };
        assert_eq!((found, why), (*outcome, reason), "{name}: {verified:?}");
    }
}

/// The judge as a host: it asks, and reads what it gets.
#[test]
fn the_judge_attests_as_a_host_and_accepts_what_it_gets() {
    let folder = tempfile::tempdir().unwrap();
    let key =
        |number| format!("{WORKSPACE}/crates/hgs-testkit/src/fixtures/keys/rsa-2048-{number}.pem");
    let ask = "
import sys
from openhgs_judge import attestation, certificate, guardian
host, identity = (guardian.read_private(path) for path in sys.argv[1:])
contents = attestation.signed_contents(host, certificate.spki_of(identity))
print(attestation.dumps(attestation.request(contents, [1])).decode())
";
    let body = python(folder.path(), &["-c", ask, &key(0), &key(3)]);
    let mut registry = Registry::with_host();
    let nonces = nonces();
    let attempt = attempt(body.trim_end().as_bytes(), &nonces, now());
    let Verdict::Healthy(grant) = evaluate(&attempt, &registry) else {
        panic!("refused: {body}");
    };
    registry.record(&grant);
    let serial = DrawnSerialNumber::draw(&mut Repeatable::seeded(4)).unwrap();
    let validity = HealthValidity::default();
    let (grant, keys) = (grant.recorded(), service_keys());
    let issued = issue::issue(grant, &signer(), validity, serial, &mut &keys).unwrap();

    let write = |name: &str, octets: &[u8]| fs::write(folder.path().join(name), octets).unwrap();
    write("reply.json", &issued.reply().to_json());
    write("signer.der", signer().der());
    let accept = "
from pathlib import Path
from openhgs_judge import attestation
Path('health.der').write_bytes(attestation.read_health_certificate(Path('reply.json').read_bytes(), 1))
";
    python(folder.path(), &["-c", accept]);
    let check = [
        "-m",
        "openhgs_judge",
        "check-health-certificate",
        "health.der",
    ];
    let with = ["--signer", "signer.der", "--now", "20261121190000Z"];
    let said = python(folder.path(), &[&check[..], &with].concat());
    let host = "11".repeat(16);
    assert_eq!(
        said.trim_end(),
        format!("issued 2026-11-21T19:00:00Z to host {host}")
    );
}

#[test]
fn the_judge_reads_our_signing_certificates_and_refusals() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, octets: &[u8]| fs::write(folder.path().join(name), octets).unwrap();
    write(
        "certificates.json",
        &signing_certificates::write(&[signer()]),
    );
    let expected = AttestationOperationMode::HostKey;
    let mode = Refusal::from(Reason::OperationMode { expected });
    write("mode.json", &mode.reply().to_json());
    let revoked = {
        let mut registry = Registry::with_host();
        registry.host().revoked = true;
        registry.refusal(&request(&host_key(), &identity_key(0)), now())
    };
    write("revoked.json", &revoked.reply().to_json());
    let read = "
from pathlib import Path
from openhgs_judge import attestation
[signer] = attestation.read_signing_certificates(Path('certificates.json').read_bytes())
print(signer.der.hex())
for name in 'mode.json', 'revoked.json':
    kind, code, retryable, members = attestation.read_error(Path(name).read_bytes())
    print(kind, code, retryable, members.get('ExpectedOperationMode'))
";
    let said = python(folder.path(), &["-c", read]);
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(
        lines,
        [
            hgs_crypto::hex::encode(signer().der()).as_str(),
            "OperationModeErrorReply operation-mode True 3",
            "UnauthorizedErrorReply host-revoked False None",
        ]
    );
}

/// Nonces as a host returns them, good and hostile: what the judge made of them, and what we do.
#[test]
fn every_returned_nonce_of_the_judge_is_judged_as_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let time = now().unix().to_string();
    python(
        folder.path(),
        &[
            "-m",
            "openhgs_judge",
            "nonce-specimens",
            "proofs",
            "--now",
            &time,
        ],
    );
    let specimens = fs::read_to_string(folder.path().join("proofs")).unwrap();
    let octets = |text: &str| base64::decode(text).unwrap();
    let mut good = 0;
    for line in specimens.lines() {
        let cells: Vec<_> = line.split('\t').collect();
        let [name, code, time, secret, spki, body, proof] = cells[..] else {
            panic!("{line}");
        };
        let nonces = NonceKey::new(&SecretBytes::new(octets(secret)));
        let host_key = PublicKey::from_spki_der(&octets(spki)).unwrap();
        let time = Time::from_unix(time.parse().unwrap());
        let verified = FreshnessProof::from_header(proof)
            .and_then(|proof| proof.verify(&octets(body), &host_key, &nonces, time));
        let found = verified
            .err()
            .map(|error| Reason::from(error).code().name());
        assert_eq!(found.unwrap_or_default(), code, "{name}");
        good += usize::from(code.is_empty());
    }
    assert!(good >= 3 && specimens.lines().count() >= 25);
}
