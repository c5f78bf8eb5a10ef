//! Section 6 of the protocol profile, row by row.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use hgs_kps::offline_report::OfflineReportError;
use hgs_kps::signed_response::SignatureRequestError;
use hgs_kps::wire::{Error, RequestError};
use hgs_kps::{Code, RETRY_AFTER, Reason, Refusal};
use hgs_pki::Thumbprint;
use hgs_pki::health::HealthCertificateError;
use hgs_protector::{
    CannotOpen, Fault, FormError, OpenError, ProtectorError, SealError, TransportKeyProblem,
    WrappingId,
};

#[derive(Debug, PartialEq, Eq)]
struct Row {
    status: u16,
    fault: String,
    retry_after: bool,
}

/// The rows of the page, by code.
fn page() -> BTreeMap<String, Row> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol-profile.md");
    let page = fs::read_to_string(page).unwrap();
    let section = page
        .split("\n## ")
        .find(|section| section.starts_with("6. "))
        .unwrap();
    let rows = section.lines().filter(|line| line.contains("Exception"));
    rows.map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, code, status, fault, when, _] = cells[..] else {
            panic!("not a row: {line}");
        };
        let row = Row {
            status: status.parse().unwrap(),
            fault: fault.to_owned(),
            retry_after: when.contains("`Retry-After`"),
        };
        (code.trim_matches('*').to_owned(), row)
    })
    .collect()
}

fn word(fault: Fault) -> &'static str {
    match fault {
        Fault::Peer => "peer",
        Fault::Protector => "protector",
        Fault::Host => "host",
        Fault::Operator => "operator",
        Fault::KeyStore => "key store",
        Fault::Ourselves => "ourselves",
    }
}

/// Every reason, at least once for every way in which its code is chosen.
fn reasons() -> Vec<Reason> {
    let id = WrappingId::new(1);
    let xml = hgs_xml::Error::Truncated;
    let limit = hgs_xml::Error::TooManyNodes { limit: 1 };
    let thumbprint = Thumbprint::of(b"");
    let unknown = RequestError::UnknownAlgorithm {
        element: "a",
        identifier: "b".to_owned(),
    };
    vec![
        RequestError::Xml(xml.clone()).into(),
        RequestError::Xml(limit.clone()).into(),
        RequestError::Base64 { element: "a" }.into(),
        unknown.into(),
        SignatureRequestError::OtherContent.into(),
        HealthCertificateError::UntrustedIssuer.into(),
        Reason::OfflineReport(OfflineReportError::Form),
        Reason::OfflineReport(OfflineReportError::NotAuthentic),
        Reason::HostRevoked,
        Reason::HostNotRegistered,
        ProtectorError::Form(FormError::Xml(xml)).into(),
        ProtectorError::Form(FormError::Xml(limit)).into(),
        ProtectorError::GuardianSignature { id }.into(),
        ProtectorError::NoOwner.into(),
        ProtectorError::TooManyWrappings { limit: 1, found: 2 }.into(),
        OpenError::NoWrapping.into(),
        OpenError::CannotOpen(CannotOpen).into(),
        OpenError::TransportKey(TransportKeyProblem::NotRandom).into(),
        Reason::CompromisedGuardian {
            guardian: thumbprint,
        },
        Reason::ProtectorSuperseded,
        SealError::NoFreeId.into(),
        SealError::TooManyWrappings { limit: 1 }.into(),
        SealError::Signature {
            certificate: thumbprint,
        }
        .into(),
        SealError::Crypto(hgs_crypto::CryptoError).into(),
        SealError::NoSuccessor.into(),
        Reason::BodyTooLarge { limit: 1 },
        Reason::RequestTimeout,
        Reason::NotFound,
        Reason::MethodNotAllowed,
        Reason::ServerBusy,
        Reason::KeyStoreUnavailable,
        Reason::StateUnavailable,
        Reason::NoPrimaryEncryptionCertificate,
        Reason::NoPrimarySigningCertificate,
        Reason::Internal,
    ]
}

#[test]
fn codes_statuses_and_faults_are_those_of_the_page() {
    let ours: BTreeMap<String, Row> = Code::ALL
        .into_iter()
        .map(|code| {
            let row = Row {
                status: code.status(),
                fault: word(code.fault()).to_owned(),
                retry_after: code.status() == 503,
            };
            (code.name().to_owned(), row)
        })
        .collect();
    assert_eq!(ours.len(), Code::ALL.len(), "two codes have one name");
    assert_eq!(ours, page());
}

#[test]
fn every_code_has_a_reason() {
    let reached: BTreeSet<Code> = reasons().iter().map(Reason::code).collect();
    assert_eq!(reached, BTreeSet::from(Code::ALL));
}

#[test]
fn the_answer_says_what_the_row_says() {
    for reason in reasons() {
        let code = reason.code();
        let response = Refusal::from(reason.clone()).to_response();
        assert_eq!(response.status, code.status());
        let retry_after = (code.status() == 503).then_some(RETRY_AFTER);
        assert_eq!(response.retry_after, retry_after, "{reason}");
        let error = Error::from_xml(&response.body).unwrap();
        assert_eq!(error.code, code.name());
        assert!(!error.message.is_empty());
    }
}

#[test]
fn messages_of_the_specification() {
    for (reason, message) in [
        (
            Reason::NoPrimaryEncryptionCertificate,
            "Primary Encryption Certificate not found",
        ),
        (
            Reason::NoPrimarySigningCertificate,
            "Primary Signing Certificate not found",
        ),
    ] {
        let body = Refusal::from(reason).to_response().body;
        assert_eq!(Error::from_xml(&body).unwrap().message, message);
    }
}

/// attacks.md K9: what went wrong inside stays inside.
#[test]
fn k9_internal_errors_tell_strangers_nothing() {
    let certificate = Thumbprint::of(b"a key of ours");
    for reason in [
        Reason::from(SealError::Crypto(hgs_crypto::CryptoError)),
        SealError::NoSuccessor.into(),
        SealError::Signature { certificate }.into(),
    ] {
        let body = Refusal::from(reason).to_response().body;
        let message = Error::from_xml(&body).unwrap().message;
        let plain = ["internal error", "the key store is unavailable"];
        assert!(plain.contains(&message.as_str()), "{message}");
    }
}
