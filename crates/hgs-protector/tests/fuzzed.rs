//! The bodies for fuzzing over a corpus and its mutations, and what must hold of every protector.

mod common;

use common::{opened, protector, rolled, transport_key, verify};
use hgs_crypto::Random;
use hgs_protector::fuzzing::{fuzz_metadata, fuzz_protector, fuzz_transport_key_blob};
use hgs_protector::suite::KeyEncryption;
use hgs_protector::transport_key_blob::{BlobVersion, CachingPolicy, TransportKeyBlob};
use hgs_protector::{GuardianCertificates, RollPlan, create, metadata};
use hgs_testkit::Mutations;
use hgs_testkit::fixtures::{Forge, ForgedWrapping, Guardian, Keys, Repeatable, key_octets};
use proptest::prelude::*;

const NAMES: [&str; 6] = [
    "owner",
    "fabric",
    "fabric-next",
    "tenant",
    "tenant-next",
    "stranger",
];

const TOKENS: &[&[u8]] = &[
    b"<Wrapping>",
    b"</Wrapping>",
    b"<Wrappings>",
    b"<Id>1</Id>",
    b"<Parameters/>",
    b"<!-- -->",
    b"<?a?>",
    b"<!DOCTYPE a>",
    b"<![CDATA[",
    b"]]>",
    b"&amp;",
    b"&#9;",
    b" xmlns=\"\"",
    b" xmlns:a=\"urn:a\"",
    b"=",
    b" ",
    b"\r",
    b"\xff",
    b"<Signature Algorithm=\"none\">",
    b"<SignatureValue/>",
    b"\"",
    b"'",
    b"4294967296",
];

fn guardians() -> [&'static Guardian; 2] {
    ["owner", "fabric"].map(Guardian::named)
}

#[test]
fn mutated_protectors() {
    let [owner, fabric] = guardians();
    let made = protector(owner, &[fabric]);
    let corpus = [
        made.octets().to_vec(),
        rolled(&made, fabric, RollPlan::default(), &[fabric])
            .egress
            .octets()
            .to_vec(),
        Forge::new(owner, &[], key_octets(7))
            .seal(owner)
            .into_bytes(),
    ];
    corpus.iter().for_each(|good| fuzz_protector(good));
    Mutations::of(&corpus, TOKENS)
        .take(1_500)
        .for_each(|octets| fuzz_protector(&octets));
}

#[test]
fn mutated_metadata() {
    let [owner, fabric] = guardians();
    let others = std::slice::from_ref(&owner.signing);
    let keys = Keys::of(&[owner]);
    let written = metadata::write(&fabric.certificates, others, &owner.signing, &mut &keys);
    let corpus = [written.unwrap()];
    fuzz_metadata(&corpus[0]);
    Mutations::of(&corpus, TOKENS)
        .take(1_000)
        .for_each(|octets| fuzz_metadata(&octets));
}

#[test]
fn mutated_blobs() {
    let caching = Some(CachingPolicy {
        max_offline_unwraps: 1,
        expiry: 2,
    });
    let corpus = [
        BlobVersion::V1,
        BlobVersion::V2 { caching: None },
        BlobVersion::V2 { caching },
    ]
    .map(|version| {
        let blob = TransportKeyBlob {
            ingress_key: transport_key(1),
            egress_key: transport_key(2),
            version,
        };
        blob.to_secret().expose().to_vec()
    });
    let tokens: &[&[u8]] = &[&[1, 0, 0, 0], &[2, 0, 0, 0], &[12, 0, 0, 0], &[0xff; 4]];
    Mutations::of(&corpus, tokens)
        .take(5_000)
        .for_each(|octets| fuzz_transport_key_blob(&octets));
}

/// Whatever is changed within `Wrappings`: either it is refused, or the canonical form, and with it everything that is
/// read, is what it was.
#[test]
fn no_change_of_what_is_signed_goes_unnoticed() {
    let [owner, fabric] = guardians();
    let made = protector(owner, &[fabric]);
    let text = std::str::from_utf8(made.octets()).unwrap();
    let signed = text.find("<Wrappings").unwrap()..text.find("<TransportKeySignature").unwrap();
    let corpus = [text[signed.clone()].as_bytes().to_vec()];
    let (before, after) = (&text[..signed.start], &text[signed.end..]);
    let mut harmless = 0;
    for changed in Mutations::of(&corpus, TOKENS).take(1_500) {
        let document = [before.as_bytes(), &changed, after.as_bytes()].concat();
        if let Ok(read) = verify(&document) {
            assert_eq!(read.digest(), made.digest());
            harmless += 1;
        }
    }
    // Some change nothing, such as an octet replaced by itself.
    assert!(harmless < 150, "{harmless}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any owner, any guardians, any algorithms: made, read, opened by each, rolled by any, opened by each again.
    #[test]
    fn any_protector_lives(
        order in Just(NAMES.to_vec()).prop_shuffle(), guardians in 0_usize..5, old: [bool; 6], roller in 0_usize..6,
    ) {
        let members: Vec<_> = order[..=guardians].iter().map(|name| Guardian::named(name)).collect();
        let keys = Keys::of(&members);
        let certified: Vec<_> = members.iter().zip(old).map(|(guardian, old)| {
            let wanted = if old { KeyEncryption::RsaOaepMgf1p } else { KeyEncryption::RsaOaep };
            let (signing, encryption) = (guardian.signing.clone(), guardian.encryption.clone());
            GuardianCertificates::certify(signing, encryption, wanted, &mut &keys).unwrap()
        }).collect();
        let made = create(&certified[0], &certified[1..], &transport_key(7), &mut &keys).unwrap();
        let read = verify(made.octets()).unwrap();
        prop_assert_eq!(&read, &made);
        prop_assert_eq!(read.digest(), made.digest());
        for guardian in &members {
            prop_assert_eq!(opened(&read, guardian).into_transport_key(), transport_key(7));
        }

        let roller = members[roller % members.len()];
        let rolled = rolled(&read, roller, RollPlan::default(), &[roller]);
        let egress = verify(rolled.egress.octets()).unwrap();
        prop_assert_eq!(egress.owner().signing_certificate(), &members[0].signing);
        for (wrapping, certified) in egress.wrappings().iter().zip(&certified) {
            prop_assert_eq!(wrapping.transport_key().encryption, certified.key_encryption());
        }
        for guardian in &members {
            prop_assert_eq!(&opened(&egress, guardian).into_transport_key(), &rolled.egress_key);
        }
    }

    /// Any tree is a chain; any other shape is refused, however good its signatures.
    #[test]
    fn trees_hold_and_nothing_else(parents in proptest::collection::vec(1_u32..=6, 6), seed: u64) {
        let mut ids: Vec<u32> = (1..=6).collect();
        let mut random = Repeatable::seeded(seed);
        for place in (1..ids.len()).rev() {
            let mut octet = [0];
            random.fill(&mut octet).unwrap();
            ids.swap(place, usize::from(octet[0]) % (place + 1));
        }
        let guardian = |id: u32| Guardian::named(NAMES[id as usize - 1]);
        let parent = |id: u32| parents[id as usize - 1];
        let owners: Vec<u32> = (1..=6).filter(|id| parent(*id) == *id).collect();
        let mut forge = Forge::new(guardian(1), &[], key_octets(7));
        forge.wrappings = ids.iter().map(|id| {
            ForgedWrapping::new(*id, guardian(*id), parent(*id), guardian(parent(*id)), &key_octets(7))
        }).collect();
        let verified = verify(forge.seal(guardian(1)).as_bytes());
        let reaches = |id: u32| (0..6).fold(id, |at, _| parent(at)) == owners[0];
        let is_tree = owners.len() == 1 && (1..=6).all(reaches);
        prop_assert_eq!(verified.is_ok(), is_tree);
        if let Ok(protector) = verified {
            prop_assert_eq!(protector.owner().id().number(), owners[0]);
        }
    }
}
