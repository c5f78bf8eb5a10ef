//! The messages: written, read, judged by xmllint, mutated.

mod common;

use std::fs;
use std::process::Command;

use common::{Member, Service, guardian, pending, protector};
use hgs_kps::fuzzing::{fuzz_error, fuzz_request, fuzz_response};
use hgs_kps::wire::{Algorithms, Error, RollTransportKeyRequest, RollTransportKeyResponse};
use hgs_kps::{Reason, Refusal, ServiceVersion};
use hgs_protector::suite::{KeyEncryption, TransportKeysEncryption, WrappingKeyEncryption};
use hgs_testkit::fixtures::Host;
use hgs_testkit::{Mutations, shared, tool};
use proptest::prelude::*;

/// A real request and its answer.
fn exchange() -> (Vec<u8>, Vec<u8>) {
    let service = Service::new(&[Member::fabric("fabric").head()]);
    let ingress = protector(guardian("owner"), &[guardian("fabric")]);
    let request = pending(&ingress, &Host::numbered(0), ServiceVersion::V2).request();
    let answer = service.answer(&request, ServiceVersion::V2).unwrap();
    (request, answer)
}

#[test]
fn xmllint_validates_request_and_response() {
    let Some(shared) = shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (request, response) = exchange();
    let judge = |schema: &str, document: &[u8]| {
        let file = folder.path().join("document.xml");
        fs::write(&file, document).unwrap();
        let output = Command::new(tool("xmllint", "libxml2-utils"))
            .args(["--noout", "--nonet", "--schema"])
            .arg(shared.join("spec/xsd").join(schema))
            .arg(file)
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    for (schema, document) in [
        ("RollTransportKeyRequest.xsd", &request),
        ("RollTransportKeyResponse.xsd", &response),
    ] {
        let (valid, said) = judge(schema, document);
        assert!(valid, "{said}");
    }
    let (valid, _) = judge("RollTransportKeyRequest.xsd", &response);
    assert!(!valid, "the judge does not judge");
}

#[test]
fn an_error_in_full() {
    let body = Refusal::from(Reason::HostRevoked).to_response().body;
    assert_eq!(
        std::str::from_utf8(&body).unwrap(),
        "<Error xmlns=\"http://schemas.microsoft.com/kps/2014/07/service\"><Code>HostRevokedException</Code>\
         <Message>the host was revoked</Message></Error>"
    );
}

#[test]
fn versions_of_the_service() {
    for (segment, version) in [
        ("v1.0", ServiceVersion::V1),
        ("V1.0", ServiceVersion::V1),
        ("v2.0", ServiceVersion::V2),
    ] {
        assert_eq!(segment.parse(), Ok(version));
    }
    for segment in ["", "v1", "v1.0 ", "v3.0", "1.0", "v1%2e0"] {
        assert!(segment.parse::<ServiceVersion>().is_err(), "{segment}");
    }
}

const TOKENS: &[&[u8]] = &[
    b"<a>",
    b"</a>",
    b"<!-- -->",
    b"<?a?>",
    b"<!DOCTYPE a>",
    b"<![CDATA[",
    b"]]>",
    b"&amp;",
    b"&#9;",
    b" xmlns=\"\"",
    b"=",
    b"==",
    b" ",
    b"\r",
    b"\xff",
    b"<IngressProtector>",
    b"</EgressProtector>",
    b"<Code/>",
    b"\"",
];

#[test]
fn mutated_messages() {
    let (request, response) = exchange();
    let error = Refusal::from(Reason::HostRevoked).to_response().body;
    for (corpus, body, count) in [
        ([request], fuzz_request as fn(&[u8]), 1_000),
        ([response], fuzz_response, 1_000),
        ([error], fuzz_error, 5_000),
    ] {
        body(&corpus[0]);
        Mutations::of(&corpus, TOKENS)
            .take(count)
            .for_each(|octets| body(&octets));
    }
}

fn octets() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 1..300)
}

fn algorithms() -> impl Strategy<Value = Algorithms> {
    (any::<bool>(), any::<bool>()).prop_map(|(old, wrap)| Algorithms {
        transfer_key: if old {
            KeyEncryption::RsaOaepMgf1p
        } else {
            KeyEncryption::RsaOaep
        },
        wrapping_key: if wrap {
            WrappingKeyEncryption::KwAes256
        } else {
            WrappingKeyEncryption::Aes256Gcm
        },
        transport_keys: TransportKeysEncryption::Aes256Gcm,
    })
}

proptest! {
    #[test]
    fn requests_come_back(ingress_protector in octets(), health_certificate in octets(), algorithms in algorithms()) {
        let request = RollTransportKeyRequest { ingress_protector, health_certificate, algorithms };
        prop_assert_eq!(RollTransportKeyRequest::from_xml(&request.to_xml()), Ok(request));
    }

    #[test]
    fn responses_come_back(parts: [[u8; 5]; 4], egress in octets()) {
        let [_, transfer, wrapping, transport] = parts.map(|part| part.to_vec());
        let response = RollTransportKeyResponse {
            egress_protector: egress,
            encrypted_transfer_key: transfer,
            encrypted_wrapping_key: wrapping,
            encrypted_transport_keys: transport,
        };
        prop_assert_eq!(RollTransportKeyResponse::from_xml(&response.to_xml()), Ok(response));
    }

    /// Whatever a message says, the document is one, and what XML can carry comes back.
    #[test]
    fn errors_come_back(code in "[A-Za-z]{1,30}", message in any::<String>()) {
        let error = Error { code, message };
        let read = Error::from_xml(&error.to_xml()).unwrap();
        prop_assert_eq!(&read.code, &error.code);
        if error.message.chars().all(|c| (' '..'\u{fffe}').contains(&c)) {
            prop_assert_eq!(read.message, error.message);
        }
    }
}
