//! Other programs that read images: osslsigncode for digests and signatures, objcopy and objdump for sections.

use std::fs;
use std::path::Path;
use std::process::Command;

use hgs_crypto::hash::Sha256Digest;
use hgs_crypto::hex;
use hgs_tcg::image::PeImage;
use hgs_testkit::tool;

use hgs_testkit::made_image::{MadeImage, plain, shim_image};

/// What the program printed on either stream; it must succeed.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

fn osslsigncode() -> Command {
    Command::new(tool("osslsigncode", "osslsigncode"))
}

/// Makes a key and a certificate in `folder`.
fn make_signer(folder: &Path) {
    run(Command::new(tool("openssl", "openssl"))
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=image tests",
        ])
        .arg("-keyout")
        .arg(folder.join("key.pem"))
        .arg("-out")
        .arg(folder.join("certificate.pem")));
}

/// The image with a signature.
fn sign(folder: &Path, octets: &[u8]) -> Vec<u8> {
    let (unsigned, signed) = (folder.join("unsigned.efi"), folder.join("signed.efi"));
    fs::write(&unsigned, octets).unwrap();
    let _ = fs::remove_file(&signed);
    run(osslsigncode()
        .args(["sign", "-h", "sha256", "-certs"])
        .arg(folder.join("certificate.pem"))
        .arg("-key")
        .arg(folder.join("key.pem"))
        .arg("-in")
        .arg(unsigned)
        .arg("-out")
        .arg(&signed));
    fs::read(signed).unwrap()
}

/// The digest that osslsigncode calculates of the signed file in `folder`.
fn judged_digest(folder: &Path) -> Sha256Digest {
    // It fails because it does not trust the signer, after it has hashed.
    let output = osslsigncode()
        .args(["verify", "-in"])
        .arg(folder.join("signed.efi"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("Calculated message digest : "));
    let digest = line.unwrap_or_else(|| panic!("no digest in: {said}"));
    let octets = hex::decode(&digest.trim().to_lowercase()).unwrap();
    octets.try_into().unwrap()
}

#[test]
fn osslsigncode_finds_the_same_digests_and_signatures() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    make_signer(folder);
    let lengths = [0, 1, 7, 8, 13];
    let images = lengths.iter().flat_map(|length| {
        let trailer = vec![0x11; *length];
        [true, false].map(|pe32| MadeImage {
            pe32,
            trailer: trailer.clone(),
            ..shim_image(&[], &[])
        })
    });
    for image in images {
        let octets = image.octets();
        let unsigned = PeImage::parse(&octets).unwrap();
        assert_eq!(unsigned.certificates(), []);
        let predicted = unsigned.authenticode_sha256();
        assert_eq!(
            predicted.once_signed.is_some(),
            !octets.len().is_multiple_of(8)
        );

        let octets = sign(folder, &octets);
        let signed = PeImage::parse(&octets).unwrap();
        let digests = signed.authenticode_sha256();
        let judged = judged_digest(folder);
        assert_eq!((digests.as_it_is, digests.once_signed), (judged, None));
        assert_eq!(predicted.once_signed.unwrap_or(predicted.as_it_is), judged);
        assert_eq!(predicted.alternatives().last(), Some(judged));

        let extracted = folder.join("signature.der");
        let _ = fs::remove_file(&extracted);
        run(osslsigncode()
            .args(["extract-signature", "-in"])
            .arg(folder.join("signed.efi"))
            .arg("-out")
            .arg(&extracted));
        let [entry] = signed.certificates() else {
            panic!("there is one signature");
        };
        assert_eq!(entry.certificate_type, 2);
        let signature = fs::read(&extracted).unwrap();
        assert!(entry.certificate.starts_with(&signature));
        assert!(entry.certificate.len() - signature.len() < 8);
    }
}

#[test]
fn objcopy_and_objdump_find_the_same_sections() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (original, copied) = (folder.join("original.efi"), folder.join("copied.efi"));
    let payload = folder.join("payload");
    fs::write(&original, shim_image(&[], &[]).octets()).unwrap();
    fs::write(&payload, [3; 1234]).unwrap();
    let objcopy = || Command::new(tool("objcopy", "binutils"));
    let mut add = objcopy();
    for (name, address) in [(".linux", "0x20000"), (".cmdline", "0x30000")] {
        add.arg(format!("--add-section={name}={}", payload.display()))
            .arg(format!("--set-section-flags={name}=data,readonly"))
            .arg(format!("--change-section-vma={name}={address}"));
    }
    run(add.arg(&original).arg(&copied));
    for file in [original, copied] {
        let octets = fs::read(&file).unwrap();
        let image = PeImage::parse(&octets).unwrap();
        let said = run(Command::new(tool("objdump", "binutils"))
            .arg("-h")
            .arg(&file));
        // "  0 .text  00000016 ...": number, name, size.
        let judged: Vec<_> = said
            .lines()
            .filter_map(|line| {
                let fields: Vec<_> = line.split_whitespace().collect();
                let number: usize = fields.first()?.parse().ok()?;
                let size = usize::from_str_radix(fields.get(2)?, 16).ok()?;
                Some((number, fields[1].to_owned(), size))
            })
            .map(|(_, name, size)| (name, size))
            .collect();
        let contents = |section: &hgs_tcg::image::Section<'_>| section.contents().unwrap().to_vec();
        let ours: Vec<_> = image
            .sections()
            .iter()
            .map(|section| (section.name().to_owned(), contents(section).len()))
            .collect();
        assert!(ours.len() >= 4);
        assert_eq!(ours, judged);
        for section in image.sections() {
            let dumped = folder.join("dumped");
            run(objcopy()
                .arg(format!(
                    "--dump-section={}={}",
                    section.name(),
                    dumped.display()
                ))
                .arg(&file)
                .arg(folder.join("ignored.efi")));
            assert_eq!(
                contents(section),
                fs::read(dumped).unwrap(),
                "{}",
                section.name()
            );
        }
    }
}

#[test]
fn checksum_and_signature_are_not_hashed_and_all_else_is() {
    let octets = MadeImage {
        trailer: vec![1, 2, 3],
        ..plain()
    }
    .octets();
    let digests = |octets: &[u8]| PeImage::parse(octets).unwrap().authenticode_sha256();
    let whole = digests(&octets);
    let check_sum = hgs_testkit::made_image::OPTIONAL + 64;
    for place in 0..octets.len() {
        let mut changed = octets.clone();
        changed[place] ^= 0x80;
        let Ok(image) = PeImage::parse(&changed) else {
            continue;
        };
        let outside = (check_sum..check_sum + 4).contains(&place);
        assert_eq!(
            image.authenticode_sha256() == whole,
            outside,
            "octet {place}"
        );
    }
}

#[test]
fn the_order_of_the_section_table_changes_the_headers_alone() {
    let octets = plain().with(".data", &[7; 700]).octets();
    let table = hgs_testkit::made_image::SECTION_TABLE;
    let mut swapped = octets.clone();
    swapped[table..table + 40].copy_from_slice(&octets[table + 40..table + 80]);
    swapped[table + 40..table + 80].copy_from_slice(&octets[table..table + 40]);
    let image = PeImage::parse(&swapped).unwrap();
    let names: Vec<_> = image
        .sections()
        .iter()
        .map(hgs_tcg::image::Section::name)
        .collect();
    assert_eq!(names, [".data", ".text"]);
    let folder = tempfile::tempdir().unwrap();
    make_signer(folder.path());
    sign(folder.path(), &swapped);
    let judged = judged_digest(folder.path());
    assert_eq!(image.authenticode_sha256().as_it_is, judged);
}
