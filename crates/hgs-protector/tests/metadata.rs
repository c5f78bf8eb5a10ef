//! Metadata and guardians' files: what we write, others verify; what others sign, we read.

mod common;

use common::random;
use hgs_pki::{Certificate, CertificateCache, SignatureCache};
use hgs_protector::GuardianCertificates;
use hgs_protector::metadata::{self, Metadata, MetadataError};
use hgs_protector::suite::KeyEncryption;
use hgs_testkit::fixtures::{Guardian, Keys};

fn read(octets: &[u8]) -> Result<Metadata, MetadataError> {
    Metadata::read(octets, &CertificateCache::new(16), &SignatureCache::new(16))
}

fn written(guardian: &GuardianCertificates, others: &[Certificate], signer: &Guardian) -> Vec<u8> {
    let step = metadata::write(guardian, others, &signer.signing);
    Keys::of(&[signer]).drive(step, &mut random()).unwrap()
}

#[test]
fn what_was_written_is_read_again() {
    let [fabric, next, communications] = ["fabric", "fabric-next", "stranger"].map(Guardian::named);
    let others = [next.signing.clone(), communications.signing.clone()];
    for others in [&others[..], &[]] {
        let octets = written(&fabric.certificates, others, communications);
        let metadata = read(&octets).unwrap();
        assert_eq!(metadata.unverified(), &fabric.certificates);
        assert_eq!(metadata.other_signing_certificates(), others);
        assert_eq!(metadata.signer(), &communications.signing);
    }
}

#[test]
fn a_guardian_may_ask_for_the_old_algorithm() {
    let owner = Guardian::named("owner");
    let asking = GuardianCertificates::certify(
        owner.signing.clone(),
        owner.encryption.clone(),
        KeyEncryption::RsaOaepMgf1p,
    );
    let asking = Keys::of(&[owner]).drive(asking, &mut random()).unwrap();
    let octets = written(&asking, &[], owner);
    assert_eq!(read(&octets).unwrap().unverified(), &asking);

    // The wish is under the signature.
    let text = String::from_utf8(octets).unwrap();
    let start = text.find("<TransportKeyEncryption").unwrap();
    let end = text.find("</Metadata>").unwrap();
    let without = format!("{}{}", &text[..start], &text[end..]);
    assert!(matches!(
        read(without.as_bytes()),
        Err(MetadataError::Signature(_))
    ));
}
