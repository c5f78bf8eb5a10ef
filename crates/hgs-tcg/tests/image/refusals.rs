//! Images whose parts do not lie side by side, each refused by name.

use hgs_tcg::image::{ImageError, PeImage};

use hgs_testkit::made_image::{HEADERS, MadeImage, OPTIONAL, SECTION_TABLE, plain, put};

const CERTIFICATE_ENTRY: usize = OPTIONAL + 112 + 32;

#[track_caller]
fn refused(octets: &[u8]) -> ImageError {
    PeImage::parse(octets).expect_err("it is refused")
}

fn two_sections() -> Vec<u8> {
    plain().with(".data", &[7; 700]).octets()
}

/// Signed as far as the headers say, with one entry of this many octets.
fn with_table(length: usize) -> Vec<u8> {
    let mut octets = two_sections();
    let place = octets.len();
    put(&mut octets, CERTIFICATE_ENTRY, place);
    put(&mut octets, CERTIFICATE_ENTRY + 4, length);
    octets.resize(place + length, 0xaa);
    put(&mut octets, place, length);
    put(&mut octets, place + 4, 0x0002_0200);
    octets
}

#[test]
fn what_is_not_an_image() {
    let not = |reason| ImageError::NotAnImage(reason);
    assert_eq!(refused(b""), not("it does not begin with MZ"));
    assert_eq!(refused(b"\x7fELF"), not("it does not begin with MZ"));
    assert_eq!(refused(b"MZ"), ImageError::Truncated("DOS header"));
    let mut octets = two_sections();
    octets[0x3c] = 0x41;
    let no_header = not("there is no PE header where e_lfanew points");
    assert_eq!(refused(&octets), no_header);
    put(&mut octets, 0x3c, u32::MAX as usize);
    assert_eq!(refused(&octets), no_header);
    // A PE header inside the DOS header.
    let mut octets = two_sections();
    octets[0x20..0x24].copy_from_slice(b"PE\0\0");
    octets[0x3c] = 0x20;
    assert_eq!(refused(&octets), no_header);
    let mut octets = two_sections();
    octets[OPTIONAL] = 0x07;
    assert_eq!(refused(&octets), not("it is neither PE32 nor PE32+"));
}

#[test]
fn sections_that_overlap() {
    let overlapping = |name: &str| ImageError::OverlappingSections(name.to_owned());
    let mut octets = two_sections();
    // The second begins within the first.
    put(&mut octets, SECTION_TABLE + 40 + 20, HEADERS + 0x100);
    assert_eq!(refused(&octets), overlapping(".data"));
    // Both at one place.
    put(&mut octets, SECTION_TABLE + 40 + 20, HEADERS);
    assert_eq!(refused(&octets), overlapping(".data"));
    // Within the headers.
    let mut octets = two_sections();
    put(&mut octets, SECTION_TABLE + 20, HEADERS - 0x200);
    assert_eq!(refused(&octets), overlapping(".text"));
}

#[test]
fn octets_between_sections() {
    let mut octets = two_sections();
    put(&mut octets, SECTION_TABLE + 16, 0x100);
    assert_eq!(
        refused(&octets),
        ImageError::GapBeforeSection(".data".to_owned())
    );
    let mut octets = two_sections();
    put(&mut octets, OPTIONAL + 60, HEADERS - 8);
    assert_eq!(
        refused(&octets),
        ImageError::GapBeforeSection(".text".to_owned())
    );
}

#[test]
fn sections_past_the_end() {
    let past = ImageError::SectionPastTheEnd(".data".to_owned());
    let mut octets = two_sections();
    octets.pop();
    assert_eq!(refused(&octets), past);
    for (field, number) in [(16, 0x401), (20, HEADERS + 0x201), (16, u32::MAX as usize)] {
        let mut octets = two_sections();
        put(&mut octets, SECTION_TABLE + 40 + field, number);
        assert_eq!(refused(&octets), past);
    }
}

#[test]
fn headers_that_end_too_early() {
    let too_short = ImageError::HeadersTooShort;
    let mut octets = two_sections();
    put(&mut octets, OPTIONAL + 60, CERTIFICATE_ENTRY + 7);
    assert_eq!(
        refused(&octets),
        too_short("data directory entry for certificates")
    );
    put(&mut octets, OPTIONAL + 60, SECTION_TABLE + 2 * 40 - 1);
    assert_eq!(refused(&octets), too_short("section table"));
    let length = octets.len();
    put(&mut octets, OPTIONAL + 60, length + 1);
    assert_eq!(refused(&octets), ImageError::Truncated("headers"));
    let mut octets = two_sections();
    octets[OPTIONAL + 108] = 4;
    assert_eq!(refused(&octets), ImageError::NoCertificateEntry);
    let mut octets = two_sections();
    octets[0x54..0x56].copy_from_slice(&((112 + 32 + 7) as u16).to_le_bytes());
    assert_eq!(refused(&octets), ImageError::NoCertificateEntry);
}

#[test]
fn certificate_tables_that_are_not_at_the_end() {
    let table = |reason| ImageError::CertificateTable(reason);
    assert!(PeImage::parse(&with_table(64)).is_ok());
    let mut octets = with_table(64);
    octets.push(0);
    assert_eq!(
        refused(&octets),
        table("does not end at the end of the image")
    );
    let mut octets = with_table(64);
    put(&mut octets, CERTIFICATE_ENTRY + 4, u32::MAX as usize);
    assert_eq!(
        refused(&octets),
        table("does not end at the end of the image")
    );
    // Over the last section.
    let mut octets = with_table(64);
    let place = octets.len() - 72;
    put(&mut octets, CERTIFICATE_ENTRY, place);
    put(&mut octets, CERTIFICATE_ENTRY + 4, 72);
    assert_eq!(refused(&octets), table("overlaps a section"));
    for field in [0, 4] {
        let mut octets = with_table(64);
        put(&mut octets, CERTIFICATE_ENTRY + field, 0);
        assert_eq!(refused(&octets), table("has only one of place and length"));
    }
    let mut octets = with_table(64);
    let place = octets.len() - 63;
    put(&mut octets, CERTIFICATE_ENTRY, place);
    put(&mut octets, CERTIFICATE_ENTRY + 4, 63);
    assert_eq!(
        refused(&octets),
        table("does not begin at a multiple of 8 octets")
    );
}

#[test]
fn entries_of_certificate_tables() {
    let table = |reason| ImageError::CertificateTable(reason);
    let octets = with_table(64);
    let image = PeImage::parse(&octets).unwrap();
    let [entry] = image.certificates() else {
        panic!("there is one entry");
    };
    assert_eq!((entry.revision, entry.certificate_type), (0x200, 2));
    assert_eq!(entry.certificate, [0xaa; 56]);
    let place = octets.len() - 64;
    for length in [0, 8, 65, u32::MAX as usize] {
        let mut octets = octets.clone();
        put(&mut octets, place, length);
        assert_eq!(refused(&octets), table("has an entry of a wrong length"));
    }
    let mut many = with_table(33 * 16);
    let place = many.len() - 33 * 16;
    (0..33).for_each(|number| put(&mut many, place + 16 * number, 16));
    assert_eq!(refused(&many), table("has too many entries"));
    let mut fewer = with_table(32 * 16);
    (0..32).for_each(|number| put(&mut fewer, place + 16 * number, 16));
    assert_eq!(PeImage::parse(&fewer).unwrap().certificates().len(), 32);
}

#[test]
fn more_sections_than_any_image_has() {
    let mut octets = two_sections();
    octets[0x46..0x48].copy_from_slice(&257_u16.to_le_bytes());
    assert_eq!(refused(&octets), ImageError::TooManySections(257));
}

#[test]
fn section_names() {
    let long = "a.name.of.more.than.eight";
    let octets = MadeImage::default()
        .with(".text", b"code")
        .with(long, b"long")
        .octets();
    let image = PeImage::parse(&octets).unwrap();
    assert_eq!(
        image.section(long).unwrap().unwrap().contents(),
        Ok(&b"long"[..])
    );
    assert_eq!(image.section("a.name.o"), Ok(None));

    let name = SECTION_TABLE + 40;
    let named = |field: &[u8]| {
        let mut octets = octets.clone();
        octets[name..name + 8].fill(0);
        octets[name..name + field.len()].copy_from_slice(field);
        refused(&octets)
    };
    let refused_because = |reason| ImageError::SectionName(1, reason);
    assert_eq!(
        named(b"/x"),
        refused_because("its place is not a decimal number")
    );
    assert_eq!(
        named(b"//AAAAAA"),
        refused_because("its place is not a decimal number")
    );
    for place in ["/0", "/3", "/99", "/9999999"] {
        let reason = refused_because("it is not in the string table");
        assert_eq!(named(place.as_bytes()), reason);
    }
    assert_eq!(named(b"\xff"), refused_because("it is not printable"));
    assert_eq!(named(b"a b"), refused_because("it is not printable"));
    // The table ends with the name, before its NUL.
    let mut unended = octets.clone();
    let table = unended.len() - 4 - long.len() - 1;
    put(&mut unended, table, 4 + long.len());
    assert_eq!(
        refused(&unended),
        refused_because("it has no end in the string table")
    );
    // A string table past the end is none.
    put(&mut unended, table, 1000);
    assert_eq!(
        refused(&unended),
        refused_because("it is not in the string table")
    );

    let twice = MadeImage::default()
        .with(".sbat", b"1")
        .with(".sbat", b"2")
        .octets();
    let image = PeImage::parse(&twice).unwrap();
    let asked = image.section(".sbat");
    assert_eq!(asked, Err(ImageError::DuplicateSection(".sbat".to_owned())));
}

#[test]
fn a_section_that_is_larger_in_memory() {
    let mut octets = two_sections();
    put(&mut octets, SECTION_TABLE + 8, 0x201);
    let image = PeImage::parse(&octets).unwrap();
    let contents = image.sections()[0].contents();
    assert_eq!(
        contents,
        Err(ImageError::SectionNotInFile(".text".to_owned()))
    );
}

#[test]
fn every_truncation_is_refused_or_reads_the_same_sections() {
    let octets = MadeImage {
        trailer: vec![9; 5],
        ..plain()
    }
    .with(".data", &[7; 700])
    .octets();
    let whole = PeImage::parse(&octets).unwrap();
    let end = octets.len() - 5;
    for length in 0..octets.len() {
        match PeImage::parse(&octets[..length]) {
            Ok(image) => {
                assert!(length >= end, "{length}");
                assert_eq!(image.sections(), whole.sections());
                assert_ne!(image.authenticode_sha256(), whole.authenticode_sha256());
            }
            Err(_) => assert!(length < end, "{length}"),
        }
    }
}
