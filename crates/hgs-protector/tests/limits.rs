//! What is written keeps to the limits of its readers.

mod common;

use std::path::Path;
use std::process::Command;

use common::{opened, random, transport_key, verify};
use hgs_crypto::Random as _;
use hgs_crypto::rsa::{PublicKey, SignatureScheme};
use hgs_pki::issue::Issuer;
use hgs_pki::{Certificate, CertificateCache, SignatureCache, profile};
use hgs_protector::metadata::{self, MAX_OTHER_CERTIFICATES, Metadata};
use hgs_protector::suite::KeyEncryption;
use hgs_protector::{
    GuardianCertificates, MAX_KEY_BITS, MAX_PROTECTOR_OCTETS, MAX_WRAPPINGS, Protector,
    ProtectorError, RollPlan, SealError, Successor, VerifiedProtector, create, endorse, grant,
    roll,
};
use hgs_testkit::fixtures::{
    Forge, ForgedWrapping, Guardian, Keys, key_octets, private_key, self_signed, ten_years,
};

const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Guardians with certificates of their own, over two keys.
fn guardians(count: usize) -> Vec<GuardianCertificates> {
    (0..count)
        .map(|number| {
            let name = format!("guardian {number:04}");
            let signing = profile::guardian_signing(&name, ten_years());
            let signing = self_signed(signing, &private_key(0));
            let encryption = profile::guardian_encryption(&name, ten_years());
            let encryption = self_signed(encryption, &private_key(1));
            let mut keys = Keys::default();
            keys.hold(&signing, &private_key(0));
            let wanted = KeyEncryption::RsaOaep;
            GuardianCertificates::certify(signing, encryption, wanted, &mut &keys).unwrap()
        })
        .collect()
}

fn protector(guardians: &[GuardianCertificates]) -> Result<VerifiedProtector, SealError> {
    let owner = Guardian::named("owner");
    let keys = Keys::of(&[owner]);
    create(
        &owner.certificates,
        guardians,
        &transport_key(7),
        &mut &keys,
    )
}

/// The Python judge reads and verifies it.
fn assert_judge_reads(program: &str, octets: &[u8]) {
    hgs_testkit::tool("python3", "python3");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("document.xml"), octets).unwrap();
    let program = format!(
        "from pathlib import Path\n\
         from openhgs_judge import metadata, protector\n\
         document = Path('document.xml').read_bytes()\n\
         {program}"
    );
    let output = Command::new("/usr/bin/python3")
        .args(["-c", &program])
        .current_dir(folder.path())
        .env("PYTHONPATH", Path::new(WORKSPACE).join("conformance"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}

#[test]
fn the_longest_protector_that_is_written_is_read_and_one_wrapping_more_is_refused() {
    let [owner, fabric] = ["owner", "fabric"].map(Guardian::named);
    let few = protector(&guardians(2)).unwrap().octets().len();
    let each = protector(&guardians(3)).unwrap().octets().len() - few;
    let most = 2 + (MAX_PROTECTOR_OCTETS - few) / each;
    assert!(
        most < MAX_WRAPPINGS,
        "the octets are the tighter limit here"
    );

    let longest = protector(&guardians(most)).unwrap();
    assert!(longest.octets().len() + each > MAX_PROTECTOR_OCTETS);
    assert_eq!(verify(longest.octets()).unwrap(), longest);
    let program = "protector.verify(protector.read(document))";
    assert_judge_reads(program, longest.octets());

    let is_too_long = |refused: SealError| {
        matches!(refused, SealError::TooLong { limit, found }
            if limit == MAX_PROTECTOR_OCTETS && found > limit)
    };
    assert!(is_too_long(protector(&guardians(most + 1)).unwrap_err()));
    let keys = Keys::of(&[owner]);
    let keys = &mut &keys;
    let opened = opened(&longest, owner);
    let refused = grant(&opened, &fabric.certificates, keys);
    assert!(is_too_long(refused.unwrap_err()));
    // After a rotation a roll appends a wrapping for the new pair.
    let plan = RollPlan {
        successor: Some(Successor {
            guardian: fabric.certificates.clone(),
            endorsement: endorse(&fabric.signing, &owner.signing, keys).unwrap(),
        }),
        ..RollPlan::default()
    };
    let refused = roll(opened, plan, keys, &mut random());
    assert!(is_too_long(refused.unwrap_err()));
}

/// What one request costs grows with the size of its keys.
#[test]
fn the_keys_of_a_protector_have_a_budget_in_bits() {
    let owner = Guardian::named("owner");
    let signing = private_key(0);
    let authority = self_signed(profile::attestation_signer(ten_years()), &signing);
    let mut keys = Keys::of(&[owner]);
    let guardians: Vec<GuardianCertificates> = (0..39)
        .map(|number| {
            let name = format!("guardian {number}");
            let certificate = self_signed(profile::guardian_signing(&name, ten_years()), &signing);
            keys.hold(&certificate, &signing);
            let prepared = hgs_pki::issue::prepare(
                profile::guardian_encryption(&name, ten_years()),
                &key_of_8192_bits(),
                Issuer::Certificate(&authority),
                [1; 16],
            );
            let prepared = prepared.unwrap();
            let signature = signing.sign(SignatureScheme::Pkcs1Sha256, prepared.to_be_signed());
            let encryption = prepared.assemble(&signature.unwrap()).unwrap();
            let wanted = KeyEncryption::RsaOaep;
            GuardianCertificates::certify(certificate, encryption, wanted, &mut &keys).unwrap()
        })
        .collect();
    let make = |count: usize| {
        let guardians = &guardians[..count];
        create(
            &owner.certificates,
            guardians,
            &transport_key(7),
            &mut &keys,
        )
    };
    let (limit, found) = (MAX_KEY_BITS, MAX_KEY_BITS + 10_240);
    let refused = make(39).unwrap_err();
    assert_eq!(refused, SealError::TooManyKeyBits { limit, found });

    let most = make(38).unwrap();
    assert_eq!(verify(most.octets()).unwrap(), most);
    let program = "protector.verify(protector.read(document))";
    assert_judge_reads(program, most.octets());
    let text = std::str::from_utf8(most.octets()).unwrap();
    let last = text.rfind("<Wrapping>").unwrap();
    let end = text.find("</Wrappings>").unwrap();
    let one_more = [&text[..end], &text[last..end], &text[end..]].concat();
    let refused = Protector::read(one_more.as_bytes(), &CertificateCache::new(0));
    assert_eq!(
        refused.unwrap_err(),
        ProtectorError::TooManyKeyBits { limit }
    );
}

/// Some odd number of 8192 bits without a known weakness. Nobody has the private key, and nobody needs it.
fn key_of_8192_bits() -> PublicKey {
    let mut random = random();
    loop {
        let mut modulus = [0; 1024];
        random.fill(&mut modulus).unwrap();
        modulus[0] |= 0x80;
        modulus[1023] |= 1;
        if let Ok(key) = PublicKey::from_numbers(&modulus, &[1, 0, 1]) {
            return key;
        }
    }
}

/// The search for weak keys is most of the cost of a certificate, and a cache that strangers fill is theirs.
#[test]
fn certificates_of_a_protector_that_does_not_hold_are_neither_examined_nor_remembered() {
    let made = protector(&guardians(3)).unwrap();
    let text = std::str::from_utf8(made.octets()).unwrap();
    let begin = text.rfind("<SignatureValue>").unwrap() + "<SignatureValue>".len();
    let other = if &text[begin..=begin] == "A" {
        "B"
    } else {
        "A"
    };
    let tampered = [&text[..begin], other, &text[begin + 1..]].concat();

    let (certificates, signatures) = (CertificateCache::new(64), SignatureCache::new(64));
    let misses_of = |octets: &[u8]| {
        let before = certificates.misses();
        let verified = Protector::read(octets, &certificates)
            .unwrap()
            .verify(&signatures);
        (verified.is_ok(), certificates.misses() - before)
    };
    for _ in 0..2 {
        assert_eq!(misses_of(tampered.as_bytes()), (false, 8));
    }
    assert_eq!(misses_of(made.octets()), (true, 8));
    assert_eq!(misses_of(made.octets()), (true, 0));
    assert_eq!(misses_of(tampered.as_bytes()), (false, 0));
}

#[test]
fn as_many_wrappings_as_may_be_are_read() {
    let owner = Guardian::named("owner");
    let mut forge = Forge::new(owner, &[], key_octets(7));
    let another = ForgedWrapping::new(0, owner, 1, owner, &key_octets(7));
    let more = (2..=MAX_WRAPPINGS).map(|id| ForgedWrapping {
        id: id.to_string(),
        ..another.clone()
    });
    forge.wrappings.extend(more);
    let read = verify(forge.seal(owner).as_bytes()).unwrap();
    assert_eq!(read.wrappings().len(), MAX_WRAPPINGS);
    let fabric = Guardian::named("fabric");
    let keys = Keys::of(&[owner]);
    let refused = grant(&opened(&read, owner), &fabric.certificates, &mut &keys);
    let limit = MAX_WRAPPINGS;
    assert_eq!(refused.unwrap_err(), SealError::TooManyWrappings { limit });
}

#[test]
fn metadata_with_as_many_certificates_as_are_read_and_with_more() {
    let fabric = Guardian::named("fabric");
    let keys = Keys::of(&[fabric]);
    let keys = &mut &keys;
    let others: Vec<Certificate> = guardians(MAX_OTHER_CERTIFICATES + 1)
        .iter()
        .map(|guardian| guardian.signing_certificate().clone())
        .collect();
    let refused = metadata::write(&fabric.certificates, &others, &fabric.signing, keys);
    assert_eq!(
        refused.unwrap_err(),
        SealError::TooManyCertificates {
            limit: MAX_OTHER_CERTIFICATES,
            found: others.len()
        }
    );

    assert!(!metadata::has_room_for(&others));
    assert!(metadata::has_room_for(&others[1..]));
    let newest = metadata::newest_that_fit(&fabric.certificates, &others, &fabric.signing);
    assert_eq!(newest, &others[1..]);
    let written = metadata::write(&fabric.certificates, newest, &fabric.signing, keys).unwrap();
    let (certificates, signatures) = (CertificateCache::new(0), SignatureCache::new(0));
    let read = Metadata::read(&written, &certificates, &signatures).unwrap();
    assert_eq!(read.other_signing_certificates(), newest);
    assert_judge_reads("metadata.check(document)", &written);
}

/// Certificates may have 16 KiB each, so fewer than 64 may fill the document.
#[test]
fn metadata_with_certificates_that_are_long() {
    let fabric = Guardian::named("fabric");
    let keys = Keys::of(&[fabric]);
    let keys = &mut &keys;
    let with_names = |number: usize, names: usize| {
        let names: Vec<String> = (0..names)
            .map(|name| format!("{}-{number}-{name}.example", "n".repeat(40)))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let template = profile::communications(&names, ten_years()).unwrap();
        self_signed(template, &private_key(0))
    };
    let long: Vec<Certificate> = (0..40).map(|number| with_names(number, 100)).collect();
    let newest = metadata::newest_that_fit(&fabric.certificates, &long, &fabric.signing);
    assert!(newest.len() < long.len() && !newest.is_empty());
    // What has room fits into every document.
    let roomy = (0..long.len()).rfind(|count| metadata::has_room_for(&long[..*count]));
    assert!((1..=newest.len()).contains(&roomy.unwrap()));
    let written = metadata::write(&fabric.certificates, newest, &fabric.signing, keys).unwrap();
    assert!(written.len() <= metadata::MAX_OCTETS);
    let (certificates, signatures) = (CertificateCache::new(0), SignatureCache::new(0));
    assert!(Metadata::read(&written, &certificates, &signatures).is_ok());

    let one_more = &long[long.len() - newest.len() - 1..];
    let refused = metadata::write(&fabric.certificates, one_more, &fabric.signing, keys);
    assert!(matches!(refused, Err(SealError::TooLong { .. })));
}
