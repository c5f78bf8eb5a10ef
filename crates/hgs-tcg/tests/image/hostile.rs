//! Changed octets: nothing panics, and what is accepted holds together.

use hgs_tcg::image::fuzzing::{fuzz_image, fuzz_signature_database, fuzz_variable_data};
use hgs_tcg::image::{Guid, PeImage, SignatureData, SignatureList, VariableData};
use hgs_testkit::Mutations;
use proptest::prelude::*;

use hgs_testkit::made_image::{MadeImage, certificate_like, plain, shim_image, unified};

fn database() -> Vec<u8> {
    let entry = SignatureData {
        owner: Guid::SHIM_LOCK,
        data: &[0x77; 32],
    };
    SignatureList::encode(Guid::CERT_SHA256, &[entry, entry]).unwrap()
}

#[test]
fn changed_images() {
    let sections: &[(&str, &[u8])] = &[(".linux", b"kernel"), (".cmdline", b"quiet")];
    let corpus = [
        plain().octets(),
        MadeImage {
            pe32: true,
            trailer: vec![1, 2, 3],
            ..plain()
        }
        .octets(),
        shim_image(&certificate_like(), &database()).octets(),
        unified(&[".linux", ".cmdline"], sections).octets(),
    ];
    corpus.iter().for_each(|octets| fuzz_image(octets));
    let tokens: &[&[u8]] = &[
        b"MZ",
        b"PE\0\0",
        b"/4\0\0",
        &[0xff; 4],
        &[0, 0, 0, 0x80],
        b".linux\0",
        b"sbat,1\n",
    ];
    Mutations::of(&corpus, tokens)
        .take(20_000)
        .for_each(|octets| fuzz_image(&octets));
    // Most of such changes break a section's name or move every section, so the headers get more of them.
    for octets in &corpus {
        for place in 0..0x400 {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = octets.clone();
                changed[place] = value;
                fuzz_image(&changed);
            }
        }
    }
}

#[test]
fn changed_databases_and_variables() {
    let variable = VariableData::new(Guid::SHIM_LOCK, "MokList", &database()).unwrap();
    let corpus = [
        database(),
        [database(), database()].concat(),
        variable.octets(),
    ];
    let tokens: &[&[u8]] = &[&[0xff; 4], &[0; 8], Guid::CERT_X509.octets()];
    for octets in Mutations::of(&corpus, tokens).take(20_000) {
        fuzz_signature_database(&octets);
        fuzz_variable_data(&octets);
    }
}

proptest! {
    #[test]
    fn any_octets(octets: Vec<u8>) {
        fuzz_image(&octets);
        fuzz_signature_database(&octets);
        fuzz_variable_data(&octets);
    }

    #[test]
    fn made_images_are_read_as_they_were_made(
        pe32: bool,
        contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..1500), 0..12),
        names in prop::collection::vec("[.a-z][a-z0-9_.]{0,30}", 12),
        trailer in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let sections: Vec<_> = names.into_iter().zip(contents).collect();
        let octets = MadeImage { pe32, sections: sections.clone(), trailer }.octets();
        let image = PeImage::parse(&octets).unwrap();
        let read: Vec<_> = image.sections().iter()
            .map(|section| (section.name().to_owned(), section.contents().unwrap().to_vec()))
            .collect();
        prop_assert_eq!(read, sections);
        let digests = image.authenticode_sha256();
        prop_assert_eq!(digests.once_signed.is_none(), octets.len().is_multiple_of(8));
        prop_assert_eq!(image.file(), &octets[..]);
    }
}
