//! Signature databases and variables, against those that real firmware measured.

use hgs_crypto::hash::sha256;
use hgs_crypto::hex;
use hgs_tcg::image::{
    Guid, SignatureData, SignatureList, SignatureListError, VariableData, VariableDataError, grub,
    kernel,
};
use hgs_testkit::shared;
use proptest::prelude::*;

/// A dbx and its digest in PCR 7, from a boot of OVMF in a virtual machine.
const DBX: &str = "2616c4c14c509240aca941f9369343284c0000000000000030000000a3a8baa01d04a848bc87c36d121b5e3d\
    e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const DBX_DIGEST: &str = "1963d580fcc0cede165e23837b55335eebe18750c0b795883386026ea071e3c6";

#[test]
fn a_real_dbx() {
    let octets = hex::decode(DBX).unwrap();
    let [list] = SignatureList::parse_database(&octets).unwrap()[..] else {
        panic!("there is one list");
    };
    assert_eq!(list.signature_type, Guid::CERT_SHA256);
    let [entry] = list.signatures().collect::<Vec<_>>()[..] else {
        panic!("there is one entry");
    };
    assert_eq!(
        entry.owner.to_string(),
        "a0baa8a3-041d-48a8-bc87-c36d121b5e3d"
    );
    assert_eq!(entry.data, sha256(b""));
    assert_eq!(list.octets(), octets);
    assert_eq!(
        SignatureList::encode(Guid::CERT_SHA256, &[entry]),
        Ok(octets.clone())
    );
    let variable = VariableData::new(Guid::IMAGE_SECURITY_DATABASE, "dbx", &octets).unwrap();
    let event = variable.event();
    assert_eq!(
        (event.pcr, hex::encode(&event.digest)),
        (7, DBX_DIGEST.to_owned())
    );
}

/// The fields of an event in the text that tpm2_eventlog prints.
struct LoggedVariable<'t> {
    vendor: &'t str,
    name: &'t str,
    data: Vec<u8>,
    digest: &'t str,
}

fn field<'t>(event: &'t str, name: &str) -> Option<&'t str> {
    let line = event
        .lines()
        .find_map(|line| line.trim().strip_prefix(name));
    Some(line?.trim().trim_matches(['"', '\'']))
}

fn logged_variables(log: &str) -> Vec<LoggedVariable<'_>> {
    log.split("- EventNum:")
        .filter(|event| field(event, "PCRIndex:") == Some("7"))
        .filter_map(|event| {
            let sha256 = event.split("AlgorithmId: sha256").nth(1)?;
            // tpm2_eventlog prints some data in other forms, too: those are left out.
            let data = hex::decode(field(event, "VariableData:").unwrap_or_default())?;
            let length: usize = field(event, "VariableDataLength:")?.parse().ok()?;
            (data.len() == length).then_some(LoggedVariable {
                vendor: field(event, "VariableName:")?,
                name: field(event, "UnicodeName:")?,
                data,
                digest: field(sha256, "Digest:")?,
            })
        })
        .collect()
}

#[test]
fn variables_of_real_boots_have_the_digests_in_their_logs() {
    let Some(shared) = shared() else { return };
    for (boot, least) in [("on", 8), ("off", 6)] {
        let file = shared.join(format!(
            "vectors/boots/uefi-shim-grub-secureboot-{boot}/eventlog.yaml"
        ));
        let log = std::fs::read_to_string(file).unwrap();
        let variables = logged_variables(&log);
        assert!(variables.len() >= least, "{boot}: {}", variables.len());
        for logged in variables {
            let global = Guid::new(
                0x8be4_df61,
                0x93ca,
                0x11d2,
                [0xaa, 0x0d, 0, 0xe0, 0x98, 3, 0x2b, 0x8c],
            );
            let vendor = [global, Guid::IMAGE_SECURITY_DATABASE, Guid::SHIM_LOCK]
                .into_iter()
                .find(|vendor| vendor.to_string() == logged.vendor)
                .expect("a vendor that this test knows");
            let variable = VariableData::new(vendor, logged.name, &logged.data).unwrap();
            assert_eq!(
                hex::encode(&variable.event().digest),
                logged.digest,
                "{}",
                logged.name
            );
            assert_eq!(VariableData::parse(&variable.octets()), Ok(variable));
            if ["PK", "KEK", "dbx"].contains(&logged.name) {
                let lists = SignatureList::parse_database(&logged.data).unwrap();
                let again: Vec<_> = lists.iter().flat_map(SignatureList::octets).collect();
                assert_eq!(again, logged.data);
            }
        }
    }
}

/// Digests in the logs of two real boots; the texts are those of the log.
#[test]
fn texts_and_files_of_real_boots() {
    let digest = |event: hgs_tcg::image::PredictedEvent| (event.pcr, hex::encode(&event.digest));
    let logged = |pcr, digest: &str| (pcr, digest.to_owned());
    let (path, arguments) = ("/vmlinuz", "console=ttyS0 quiet gmode=log");
    assert_eq!(
        digest(grub::kernel_command_line(path, arguments)),
        logged(
            8,
            "88e585aafeae01bebae1ab31d0509a682058f5eab4b37d34c854a75995594e36"
        )
    );
    assert_eq!(
        digest(grub::command(
            "linux /vmlinuz console=ttyS0 quiet gmode=log"
        )),
        logged(
            8,
            "2f1d1b4c5db3922f69ecabb78f10b07032e437a9b3ab8bd66dda125da0aab314"
        )
    );
    assert_eq!(
        digest(grub::command("boot")),
        logged(
            8,
            "4509beb0ab401d71fa4a5cd94a55c9a74f13332776ae4019c5bfc4c2005157ff"
        )
    );
    assert_eq!(grub::kernel_command_line("/k", "").digest, sha256(b"/k"));
}

#[test]
fn the_events_of_a_kernel() {
    let places = |events: Vec<hgs_tcg::image::PredictedEvent>| -> Vec<_> {
        events
            .iter()
            .map(|event| (event.pcr, event.digest))
            .collect()
    };
    let (file, image) = ((9, sha256(b"file")), (4, [9; 32]));
    let line = (8, sha256(b"/vmlinuz quiet"));
    let verified = grub::kernel("/vmlinuz", b"file", Some([9; 32]), "quiet");
    assert_eq!(places(verified), [file, image, image, line]);
    let unverified = grub::kernel("/vmlinuz", b"file", None, "quiet");
    assert_eq!(places(unverified), [file, line]);
    assert_eq!(places(vec![kernel::image("UKI", [9; 32])]), [image]);
    assert_eq!(places(vec![grub::file("/vmlinuz", b"file")]), [file]);
    assert_eq!(places(vec![kernel::initrd(b"file")]), [file]);
    // UTF-16 with a NUL, and a character outside the first plane.
    let options = kernel::load_options("q \u{1f512}");
    let preimage = [b'q', 0, b' ', 0, 0x3d, 0xd8, 0x12, 0xdd, 0, 0];
    assert_eq!(places(vec![options]), [(9, sha256(&preimage))]);
}

#[test]
fn malformed_databases() {
    let good = hex::decode(DBX).unwrap();
    let changed = |place, number: u32| {
        let mut octets = good.clone();
        octets[place..place + 4].copy_from_slice(&number.to_le_bytes());
        SignatureList::parse_database(&octets).map(|lists| lists.len())
    };
    assert_eq!(SignatureList::parse_database(&[]), Ok(vec![]));
    assert_eq!(changed(16, 77), Err(SignatureListError::Truncated));
    assert_eq!(changed(16, u32::MAX), Err(SignatureListError::Truncated));
    for length in [0, 15, 27] {
        assert_eq!(changed(16, length), Err(SignatureListError::Sizes));
    }
    for header in [1, 49, u32::MAX] {
        assert_eq!(changed(20, header), Err(SignatureListError::Sizes));
    }
    for size in [0, 15, 17, 47, 49, u32::MAX] {
        assert_eq!(changed(24, size), Err(SignatureListError::Sizes));
    }
    for length in 1..good.len() {
        assert!(SignatureList::parse_database(&good[..length]).is_err());
    }
    let long = vec![0; (1 << 20) + 1];
    let too_long = SignatureListError::TooLong(long.len());
    assert_eq!(SignatureList::parse_database(&long), Err(too_long));
    let entry = |data| SignatureData {
        owner: Guid::SHIM_LOCK,
        data,
    };
    let unequal = SignatureList::encode(Guid::CERT_SHA256, &[entry(&[1; 32]), entry(&[1; 31])]);
    assert_eq!(unequal, Err(SignatureListError::UnequalSignatures));
    assert!(SignatureList::encode(Guid::CERT_X509, &[entry(&long)]).is_err());
}

#[test]
fn malformed_variables() {
    let good = VariableData::new(Guid::SHIM_LOCK, "dbx", b"data")
        .unwrap()
        .octets();
    for length in 0..good.len() {
        assert_eq!(
            VariableData::parse(&good[..length]),
            Err(VariableDataError::Lengths)
        );
    }
    let longer = [&good[..], &[0]].concat();
    assert_eq!(
        VariableData::parse(&longer),
        Err(VariableDataError::Lengths)
    );
    let changed = |place, number: u64| {
        let mut octets = good.clone();
        octets[place..place + 8].copy_from_slice(&number.to_le_bytes());
        VariableData::parse(&octets).map(|_| ())
    };
    assert_eq!(changed(16, 2), Err(VariableDataError::Lengths));
    assert_eq!(changed(24, 5), Err(VariableDataError::Lengths));
    for (place, what) in [(16, "name"), (24, "data")] {
        assert_eq!(
            changed(place, u64::MAX),
            Err(VariableDataError::TooLong(what))
        );
        assert_eq!(
            changed(place, (1 << 20) + 1),
            Err(VariableDataError::TooLong(what))
        );
    }
    let mut surrogate = good.clone();
    surrogate[33] = 0xd8;
    assert_eq!(
        VariableData::parse(&surrogate),
        Err(VariableDataError::Name)
    );
    let name = VariableData::new(Guid::SHIM_LOCK, &"n".repeat(513), &[]);
    assert_eq!(name, Err(VariableDataError::TooLong("name")));
    let data = VariableData::new(Guid::SHIM_LOCK, "n", &vec![0; (1 << 20) + 1]);
    assert_eq!(data, Err(VariableDataError::TooLong("data")));
}

proptest! {
    #[test]
    fn variables_survive_a_round(vendor: [u8; 16], name in ".{0,40}", data: Vec<u8>) {
        let variable = VariableData::new(Guid::from_octets(vendor), &name, &data).unwrap();
        prop_assert_eq!(VariableData::parse(&variable.octets()), Ok(variable));
    }

    #[test]
    fn databases_survive_a_round(lists in prop::collection::vec(
        (any::<[u8; 16]>(), 0..40_usize, prop::collection::vec((any::<[u8; 16]>(), any::<u8>()), 0..5)), 0..4
    )) {
        let octets: Vec<u8> = lists.iter().flat_map(|(kind, length, entries)| {
            let data: Vec<_> = entries.iter().map(|(_, octet)| vec![*octet; *length]).collect();
            let entries: Vec<_> = entries.iter().zip(&data)
                .map(|((owner, _), data)| SignatureData { owner: Guid::from_octets(*owner), data })
                .collect();
            SignatureList::encode(Guid::from_octets(*kind), &entries).unwrap()
        }).collect();
        let parsed = SignatureList::parse_database(&octets).unwrap();
        prop_assert_eq!(parsed.len(), lists.len());
        for (list, (kind, length, entries)) in parsed.iter().zip(&lists) {
            prop_assert_eq!(list.signature_type.octets(), kind);
            let read: Vec<_> = list.signatures()
                .map(|entry| (*entry.owner.octets(), entry.data.to_vec()))
                .collect();
            let written: Vec<_> = entries.iter()
                .map(|(owner, octet)| (*owner, vec![*octet; *length]))
                .collect();
            prop_assert_eq!(read, written);
        }
    }
}
