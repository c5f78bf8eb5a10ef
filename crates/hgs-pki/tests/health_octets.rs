//! Health statements and certificates as octets: both ways, and whatever octets come.

mod common;

use common::{issue, key, now, ten_years};
use hgs_pki::health::{
    AttestationMode, HealthKind, HealthStatement, HealthValidity, HostId, template,
};
use hgs_pki::issue::Issuer;
use hgs_pki::{Time, fuzzing, profile};
use hgs_testkit::Mutations;
use proptest::prelude::*;

/// Tags, lengths and contents that mean something in these structures.
const TOKENS: [&[u8]; 8] = [
    &[0x30, 0x80],
    &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
    &[0x02, 0x01, 0x00],
    &[0x0a, 0x01, 0x03],
    &[0x04, 0x10],
    &[0x18, 0x0f],
    b"99991231235959Z",
    &[0x05, 0x00],
];

fn statements() -> impl Strategy<Value = HealthStatement> {
    let mode = prop_oneof![
        Just(AttestationMode::Tpm),
        Just(AttestationMode::ActiveDirectory),
        Just(AttestationMode::HostKey),
    ];
    (
        mode,
        any::<[u8; 16]>(),
        0..=Time::MAX.unix(),
        any::<[u8; 32]>(),
    )
        .prop_map(
            |(mode, host_id, issued_at, policy_digest)| HealthStatement {
                mode,
                host_id: HostId::from_bytes(host_id),
                issued_at: Time::from_unix(issued_at),
                policy_digest,
            },
        )
}

proptest! {
    #[test]
    fn every_statement_is_read_as_it_was_written(statement in statements()) {
        let der = statement.to_der().unwrap();
        prop_assert_eq!(HealthStatement::from_der(&der), Ok(statement));
        prop_assert_eq!(statement.host_id.to_string().parse(), Ok(statement.host_id));
        fuzzing::fuzz_health_statement(&der);
    }

    #[test]
    fn any_octets_are_a_statement_or_refused(octets in proptest::collection::vec(any::<u8>(), 0..120)) {
        fuzzing::fuzz_health_statement(&octets);
    }
}

fn statement() -> HealthStatement {
    HealthStatement {
        mode: AttestationMode::HostKey,
        host_id: HostId::from_bytes([7; 16]),
        issued_at: now(),
        policy_digest: [9; 32],
    }
}

/// The octets are written here by hand from the ASN.1 of the profile.
#[test]
fn a_statement_has_the_octets_of_its_asn1() {
    let expected = [
        &[0x30, 0x4b][..],
        &[0x02, 0x01, 0x01],
        &[0x0a, 0x01, 0x03],
        &[0x04, 0x10],
        &[7; 16],
        b"\x18\x0f20261121190000Z",
        &[0x04, 0x20],
        &[9; 32],
    ];
    assert_eq!(statement().to_der(), Ok(expected.concat()));
}

#[test]
fn no_mutation_of_a_statement_makes_it_panic() {
    let corpus = [statement().to_der().unwrap()];
    for octets in Mutations::of(&corpus, &TOKENS).take(20_000) {
        fuzzing::fuzz_health_statement(&octets);
    }
}

#[test]
fn no_mutation_of_a_health_certificate_makes_it_panic() {
    let signer_key = key("signer");
    let template_of_signer = profile::attestation_signer(ten_years());
    let signer = issue(
        template_of_signer,
        &signer_key,
        Issuer::SelfSigned,
        &signer_key,
    );
    let health = |kind| {
        let template = template(kind, &statement(), HealthValidity::default()).unwrap();
        let issuer = Issuer::Certificate(&signer);
        issue(template, &key("host"), issuer, &signer_key)
            .der()
            .to_vec()
    };
    let corpus = [health(HealthKind::Encryption), health(HealthKind::Signing)];
    for octets in &corpus {
        fuzzing::fuzz_health_certificate(octets);
    }
    for octets in Mutations::of(&corpus, &TOKENS).take(3_000) {
        fuzzing::fuzz_health_certificate(&octets);
    }
}
