//! Issuing: what leaves is what was wanted.

mod common;

use common::{key, now, sign, ten_years};
use hgs_pki::issue::{IssueError, Issuer, prepare};
use hgs_pki::{Certificate, KeyUsage, NotIssued, profile};

#[test]
fn self_signed_and_issued_certificates_verify_under_their_issuers() {
    let signer_key = key("signer");
    let template = profile::attestation_signer(ten_years());
    let prepared = prepare(
        template,
        signer_key.public(),
        Issuer::SelfSigned,
        [0xff; 16],
    )
    .unwrap();
    let signature = sign(&signer_key, prepared.to_be_signed());
    let signer = prepared.assemble(&signature).unwrap();
    assert_eq!(signer.subject(), "CN=OpenHGS Attestation Signer");
    assert!(signer.is_certificate_authority());
    assert!(signer.validity().contains(now()));
    signer.verify_issued_by(&signer).unwrap();

    let host_key = key("host");
    let template = profile::host_key("node-1", ten_years());
    let issuer = Issuer::Certificate(&signer);
    let prepared = prepare(template, host_key.public(), issuer, [0; 16]).unwrap();
    let signature = sign(&signer_key, prepared.to_be_signed());
    let host = prepared.assemble(&signature).unwrap();
    assert_eq!(host.issuer(), signer.subject());
    assert_eq!(host.key_usage(), Some(KeyUsage::DIGITAL_SIGNATURE));
    assert_eq!(host.public_key(), host_key.public());
    assert_eq!(host.serial_number().len(), 16);
    host.verify_issued_by(&signer).unwrap();
    let refused = signer.verify_issued_by(&host).unwrap_err();
    assert!(matches!(refused, NotIssued::Name { .. }), "{refused}");
    assert_eq!(Certificate::from_der(host.der()), Ok(host));
}

#[test]
fn a_signature_by_another_key_issues_nothing() {
    let template = profile::guardian_signing("fabric", ten_years());
    let prepared = prepare(
        template,
        key("signer").public(),
        Issuer::SelfSigned,
        [7; 16],
    )
    .unwrap();
    let signature = sign(&key("host"), prepared.to_be_signed());
    assert_eq!(prepared.assemble(&signature), Err(IssueError::Signature));
}
