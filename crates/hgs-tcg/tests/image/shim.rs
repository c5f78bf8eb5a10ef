//! shim's sections and what follows from them.

use hgs_crypto::hash::sha256;
use hgs_tcg::image::{
    Guid, ImageError, ORIGINAL_SBAT_LEVEL, OwnMokVariables, PeImage, SbatEntry, Shim,
    SignatureData, SignatureList, VariableData, VendorAuthorized,
};

use hgs_testkit::made_image::{
    LATEST, MadeImage, PREVIOUS, certificate_like, plain, put, sbat_level_section, shim_image,
    vendor_cert_section,
};

const OWN_NONE: OwnMokVariables<'_> = OwnMokVariables {
    mok_list: &[],
    mok_list_x: &[],
};

/// EFI_CERT_X509_GUID, the sizes and the owner as octets, by hand.
fn x509_list(certificate: &[u8]) -> Vec<u8> {
    let length = certificate.len() as u32;
    [
        &[
            0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b,
            0xf0, 0x72,
        ],
        &(44 + length).to_le_bytes()[..],
        &[0; 4],
        &(16 + length).to_le_bytes(),
        &SHIM_LOCK,
        certificate,
    ]
    .concat()
}

const SHIM_LOCK: [u8; 16] = [
    0x50, 0xab, 0x5d, 0x60, 0x46, 0xe0, 0x00, 0x43, 0xab, 0xb6, 0x3d, 0xd8, 0x10, 0xdd, 0x8b, 0x23,
];

fn sha256_list() -> Vec<u8> {
    let entry = SignatureData {
        owner: Guid::SHIM_LOCK,
        data: &[0x77; 32],
    };
    SignatureList::encode(Guid::CERT_SHA256, &[entry, entry]).unwrap()
}

fn refused(image: &MadeImage) -> ImageError {
    let octets = image.octets();
    let image = PeImage::parse(&octets).unwrap();
    Shim::of_image(&image).expect_err("it is refused")
}

#[test]
fn the_events_of_a_shim_with_a_certificate() {
    let (certificate, revoked) = (certificate_like(), sha256_list());
    let octets = shim_image(&certificate, &revoked).octets();
    let image = PeImage::parse(&octets).unwrap();
    let shim = Shim::of_image(&image).unwrap();
    assert_eq!(shim.previous_sbat_level(), PREVIOUS);
    assert_eq!(shim.latest_sbat_level(), LATEST);
    assert_eq!(
        shim.vendor_authorized(),
        &VendorAuthorized::Certificate(&certificate)
    );
    assert_eq!(shim.vendor_deauthorized(), revoked);

    let events = shim.events(LATEST, &OWN_NONE).unwrap();
    let places: Vec<_> = events
        .iter()
        .map(|event| (event.pcr, event.subject.as_str()))
        .collect();
    assert_eq!(
        places,
        [
            (14, "MokList"),
            (14, "MokListX"),
            (7, "SbatLevel"),
            (14, "MokListTrusted")
        ]
    );
    assert_eq!(events[0].digest, sha256(&x509_list(&certificate)));
    assert_eq!(events[1].digest, sha256(&revoked));
    let level = VariableData::new(Guid::SHIM_LOCK, "SbatLevel", LATEST.as_bytes()).unwrap();
    assert_eq!(events[2].digest, sha256(&level.octets()));
    assert_eq!(events[3].digest, sha256(&[1]));

    let [authority] = &shim.authorities()[..] else {
        panic!("one certificate has one event");
    };
    let name: Vec<_> = "MokListRT".bytes().flat_map(|letter| [letter, 0]).collect();
    let preimage = [
        &SHIM_LOCK[..],
        &9_u64.to_le_bytes(),
        &(16 + certificate.len() as u64).to_le_bytes(),
        &name,
        &SHIM_LOCK,
        &certificate,
    ]
    .concat();
    assert_eq!((authority.pcr, authority.digest), (7, sha256(&preimage)));
}

#[test]
fn a_hosts_own_keys_come_last() {
    let (certificate, own_key) = (certificate_like(), x509_list(b"0 own"));
    let octets = shim_image(&certificate, &sha256_list()).octets();
    let image = PeImage::parse(&octets).unwrap();
    let shim = Shim::of_image(&image).unwrap();
    let own = OwnMokVariables {
        mok_list: &own_key,
        mok_list_x: &own_key,
    };
    assert_eq!(
        shim.mok_list(&own),
        [x509_list(&certificate), own_key.clone()].concat()
    );
    assert_eq!(
        shim.mok_list_x(&own),
        [sha256_list(), own_key.clone()].concat()
    );
    let events = shim.events(ORIGINAL_SBAT_LEVEL, &own).unwrap();
    assert_eq!(events[0].digest, sha256(&shim.mok_list(&own)));
}

#[test]
fn a_shim_without_keys_has_a_digest_that_nothing_has() {
    let octets = shim_image(&[], &[]).octets();
    let image = PeImage::parse(&octets).unwrap();
    let shim = Shim::of_image(&image).unwrap();
    assert_eq!(shim.vendor_authorized(), &VendorAuthorized::None);
    let list = shim.mok_list(&OWN_NONE);
    let lists = SignatureList::parse_database(&list).unwrap();
    assert_eq!(lists[0].signature_type, Guid::CERT_SHA256);
    let none = SignatureData {
        owner: Guid::SHIM_LOCK,
        data: &[0; 32],
    };
    assert_eq!(lists[0].signatures().collect::<Vec<_>>(), [none]);
    assert_eq!(shim.mok_list_x(&OWN_NONE), list);
    let own = OwnMokVariables {
        mok_list: &sha256_list(),
        mok_list_x: &[],
    };
    assert_eq!(shim.mok_list(&own), sha256_list());
    assert_eq!(shim.authorities(), []);
}

#[test]
fn a_shim_with_a_database_of_keys() {
    let database = [x509_list(b"0 first"), sha256_list(), x509_list(b"0 second")].concat();
    let octets = shim_image(&database, &[]).octets();
    let image = PeImage::parse(&octets).unwrap();
    let shim = Shim::of_image(&image).unwrap();
    assert_eq!(
        shim.vendor_authorized(),
        &VendorAuthorized::Database(&database)
    );
    assert_eq!(shim.mok_list(&OWN_NONE), database);
    // Digests verify images without such an event.
    assert_eq!(shim.authorities().len(), 2);
}

#[test]
fn malformed_sections_are_refused_by_name() {
    let level = |section: &[u8]| {
        let cert = vendor_cert_section(&[], &[]);
        refused(
            &plain()
                .with(".sbatlevel", section)
                .with(".vendor_cert", &cert),
        )
    };
    let because = |reason| ImageError::MalformedSection(".sbatlevel", reason);
    let good = sbat_level_section(PREVIOUS, LATEST);
    let changed = |place, number| {
        let mut section = good.clone();
        put(&mut section, place, number);
        level(&section)
    };
    assert_eq!(changed(0, 1), because("its version is not 0"));
    assert_eq!(changed(4, 10_000), because("a text is past its end"));
    assert_eq!(
        changed(8, u32::MAX as usize),
        because("a text is past its end")
    );
    assert_eq!(level(&good[..7]), because("a text is past its end"));
    assert_eq!(level(&good[..good.len() - 1]), because("a text has no end"));
    let bad = |text: &str| level(&sbat_level_section(PREVIOUS, text));
    assert_eq!(
        bad("shim,4\n"),
        because("a text does not begin with the component sbat")
    );
    assert_eq!(
        bad(""),
        because("a text does not begin with the component sbat")
    );
    for text in [
        "sbat\n",
        "sbat,\n",
        "sbat,0\n",
        "sbat,+1\n",
        ",1\n",
        "sbat,1\nx,99999999999\n",
    ] {
        assert_eq!(
            bad(text),
            because("a line does not begin with a component and its generation")
        );
    }
    assert_eq!(
        bad(&"sbat,1\n".repeat(257)),
        because("it has too many lines")
    );
    assert_eq!(
        bad(&format!("sbat,1,{}\n", "x".repeat(1 << 16))),
        because("its text is too long")
    );

    let cert = |section: &[u8]| {
        refused(
            &plain()
                .with(".sbatlevel", &good)
                .with(".vendor_cert", section),
        )
    };
    let because = |reason| ImageError::MalformedSection(".vendor_cert", reason);
    let section = vendor_cert_section(&certificate_like(), &sha256_list());
    for (place, number) in [
        (0, 10_000),
        (4, 10_000),
        (8, 10_000),
        (12, u32::MAX as usize),
    ] {
        let mut section = section.clone();
        put(&mut section, place, number);
        assert_eq!(
            cert(&section),
            because("its lengths and places reach past its end")
        );
    }
    assert_eq!(
        cert(&section[..15]),
        because("its lengths and places reach past its end")
    );
    let mut shorter = section.clone();
    put(&mut shorter, 0, certificate_like().len() - 1);
    assert_eq!(
        cert(&shorter),
        because("its certificate has another length than the section says")
    );
    let bad_database = because("it has a malformed signature database");
    assert_eq!(cert(&vendor_cert_section(b"neither", &[])), bad_database);
    assert_eq!(
        cert(&vendor_cert_section(&[], b"no database")),
        bad_database
    );
    let long = vendor_cert_section(&[], &vec![0; (1 << 20) + 1]);
    assert_eq!(cert(&long), because("its signature database is too long"));

    assert_eq!(refused(&plain()), ImageError::NoSection(".sbatlevel"));
    let only_level = plain().with(".sbatlevel", &good);
    assert_eq!(refused(&only_level), ImageError::NoSection(".vendor_cert"));
    let twice = shim_image(&[], &[]).with(".vendor_cert", &section);
    assert_eq!(
        refused(&twice),
        ImageError::DuplicateSection(".vendor_cert".to_owned())
    );
}

#[test]
fn a_level_that_is_none_is_not_predicted() {
    let octets = shim_image(&[], &[]).octets();
    let image = PeImage::parse(&octets).unwrap();
    let shim = Shim::of_image(&image).unwrap();
    for level in ["", "grub,2\n", "sbat\n"] {
        assert!(shim.events(level, &OWN_NONE).is_err(), "{level}");
    }
    assert!(shim.events(ORIGINAL_SBAT_LEVEL, &OWN_NONE).is_ok());
}

#[test]
fn the_generations_of_an_image() {
    let octets = shim_image(&[], &[]).octets();
    let image = PeImage::parse(&octets).unwrap();
    let entry = |component: &str, generation| SbatEntry {
        component: component.to_owned(),
        generation,
    };
    let entries = SbatEntry::of_image(&image).unwrap().unwrap();
    assert_eq!(entries, [entry("sbat", 1), entry("shim", 4)]);
    let octets = plain().octets();
    assert_eq!(
        SbatEntry::of_image(&PeImage::parse(&octets).unwrap()),
        Ok(None)
    );
}
