//! Patch days: what is predicted from files, and what is imported, on a real boot.

use std::collections::BTreeSet;

use hgs_attest::policy::{
    Baseline, Cause, DocumentError, EventDigest, HostMeasurements, Label, PcrlockError,
    PredictionError, Source, SourceKind, State, claim_of_next_boot, component_of_pcrlock,
    read_pcrlock,
};
use hgs_crypto::hash::{Sha256Digest, sha256};
use hgs_pki::{Seconds, Time};
use hgs_tcg::image::{Guid, ORIGINAL_SBAT_LEVEL, OwnMokVariables, PeImage, Shim, VariableData};
use hgs_testkit::made_image::{
    LATEST, MadeImage, PREVIOUS, certificate_like, plain, shim_image, unified,
};

use crate::common::{Boot, Event, NOW, baseline_of, compiled, differences, judged};
use crate::compiling::{alternative, digest};

const ON: &str = "secure-boot-on";

fn label(name: &str) -> Label {
    Label {
        name: name.to_owned(),
        source: Source {
            kind: SourceKind::Package,
            of: format!("package of {name}"),
        },
        expires: expires(),
    }
}

fn expires() -> Time {
    NOW.checked_add(Seconds::from_days(30)).unwrap()
}

/// A shim whose length is a multiple of 8, as signed images have it: then it has one digest.
fn shim_file() -> Vec<u8> {
    let mut file = shim_image(&certificate_like(), &[]).octets();
    file.resize(file.len().next_multiple_of(8), 0);
    file
}

fn authenticode(file: &[u8]) -> Sha256Digest {
    PeImage::parse(file).unwrap().authenticode_sha256().as_it_is
}

fn reference() -> (Boot, Baseline) {
    let boot = Boot::recorded(ON);
    let baseline = baseline_of(&boot.proved());
    (boot, baseline)
}

/// The boot with the events that a shim makes, as its source code and the specifications say.
fn with_shim(boot: &Boot, file: &[u8], level: &str) -> Boot {
    let image = PeImage::parse(file).unwrap();
    let shim = Shim::of_image(&image).unwrap();
    let own = OwnMokVariables::default();
    let mut boot = boot.clone();
    boot.event(24).digest = authenticode(file);
    boot.event(25).digest = sha256(&shim.mok_list(&own));
    boot.event(26).digest = sha256(&shim.mok_list_x(&own));
    let level = VariableData::new(Guid::SHIM_LOCK, "SbatLevel", level.as_bytes()).unwrap();
    boot.event(27).digest = sha256(&level.octets());
    boot.event(29).digest = shim.authorities()[0].digest;
    boot
}

#[test]
fn a_predicted_shim_is_accepted_with_each_sbat_level_it_may_apply() {
    let (boot, mut baseline) = reference();
    let file = shim_file();
    let prediction = baseline
        .predict_shim(&label("shim 17"), &file, &OwnMokVariables::default())
        .unwrap();
    let names: Vec<_> = prediction
        .alternatives
        .iter()
        .map(|(of, one)| (of.as_str(), one.name.as_str()))
        .collect();
    assert_eq!(
        names,
        [
            ("shim", "shim 17, SBAT level as it is"),
            ("shim", "shim 17, previous SBAT level"),
            ("shim", "shim 17, latest SBAT level"),
        ]
    );
    let kept = "sbat,1,2025021800\nshim,4\ngrub,5\n";
    let patched = [kept, PREVIOUS, LATEST].map(|level| with_shim(&boot, &file, level));
    for boot in &patched {
        assert!(!judged(boot, &baseline).is_healthy());
    }
    assert_eq!(baseline.stage(&prediction), 3);
    assert_eq!(baseline.stage(&prediction), 0, "they are there already");
    for (boot, (_, expected)) in patched.iter().zip(&prediction.alternatives) {
        let evaluation = judged(boot, &baseline);
        assert!(evaluation.is_healthy(), "{evaluation}");
        let staged: Vec<_> = evaluation
            .used()
            .iter()
            .filter(|used| used.staged)
            .collect();
        assert_eq!(staged.len(), 1);
        assert_eq!(staged[0].alternative, expected.name);
    }
    assert!(judged(&boot, &baseline).is_healthy());
    // A level that neither the host had nor this shim has.
    let other = with_shim(&boot, &file, ORIGINAL_SBAT_LEVEL);
    assert!(!judged(&other, &baseline).is_healthy());
    // The image of the new shim with the lists of the former.
    let mut mixed = patched[0].clone();
    mixed.event(25).digest = boot.clone().event(25).digest;
    let evaluation = judged(&mixed, &baseline);
    assert!(!evaluation.is_healthy());
    // Once it has expired, the new shim is not accepted.
    let late = compiled(&[("reference", &baseline)]).evaluate(&patched[1].proved(), expires());
    assert!(
        late.differences()
            .iter()
            .all(|one| matches!(one.cause, Cause::Expired { .. }))
    );
    assert!(!late.is_healthy());
    assert_eq!(baseline.remove_expired(expires()), 3);
}

#[test]
fn a_shim_is_predicted_only_where_both_its_lists_of_keys_are_measured() {
    let (_, mut baseline) = reference();
    let predict = |baseline: &Baseline| {
        baseline
            .predict_shim(&label("shim 17"), &shim_file(), &OwnMokVariables::default())
            .map(drop)
    };
    let shim = baseline
        .components
        .iter()
        .position(|component| component.name == "shim")
        .unwrap();
    for lists in [2, 1, 0] {
        let mut slots = baseline.components[shim].alternatives[0].events.iter_mut();
        let of_lists = slots.find(|events| events.slot == "mok-lists").unwrap();
        of_lists.events.truncate(lists);
        match lists {
            2 => assert_eq!(predict(&baseline), Ok(())),
            _ => assert_eq!(
                predict(&baseline),
                Err(PredictionError::OtherForm {
                    component: "shim",
                    why: "PCR 14 has not both lists of keys",
                })
            ),
        }
    }
}

#[test]
fn trap_5_with_secure_boot_off_shim_keeps_the_first_sbat_level() {
    let boot = Boot::recorded("secure-boot-off");
    let baseline = baseline_of(&boot.proved());
    let file = shim_file();
    let prediction = baseline
        .predict_shim(&label("shim 17"), &file, &OwnMokVariables::default())
        .unwrap();
    assert_eq!(prediction.alternatives.len(), 1);
}

#[test]
fn a_predicted_loader_is_accepted() {
    let (boot, mut baseline) = reference();
    let file = plain().with(".mods", b"GRUB 2.12").octets();
    baseline.stage(&baseline.predict_loader(&label("GRUB 2.12"), &file).unwrap());
    let mut patched = boot.clone();
    patched.event(30).digest = authenticode(&file);
    assert!(judged(&patched, &baseline).is_healthy());
    assert!(judged(&boot, &baseline).is_healthy());
}

/// The boot of a kernel in files that have its release in their names, as Debian's GRUB boots it.
fn with_release(boot: &Boot, release: &str, file: &[u8], initrd: &str) -> Boot {
    let mut boot = boot.clone();
    let arguments = "root=UUID=1f4d2a7b-root ro quiet";
    *boot.event(40) = Event::command(&format!("linux /boot/vmlinuz-{release} {arguments}"));
    boot.event(41).digest = sha256(file);
    boot.event(41).data = format!("/boot/vmlinuz-{release}").into_bytes();
    for number in [42, 43] {
        boot.event(number).digest = authenticode(file);
    }
    *boot.event(44) = Event::command_line(&format!("/boot/vmlinuz-{release} {arguments}"));
    *boot.event(45) = Event::command(&format!("initrd /boot/initrd.img-{release}"));
    boot.event(46).digest = digest(initrd).0;
    boot.event(46).data = format!("/boot/initrd.img-{release}").into_bytes();
    boot
}

#[test]
fn a_predicted_kernel_is_accepted_and_parts_of_two_kernels_are_refused() {
    let former = plain().with(".linux", b"kernel 1").octets();
    let new = plain()
        .with(".linux", b"kernel 2, which is longer")
        .octets();
    let recorded = Boot::recorded(ON);
    let boot = with_release(&recorded, "6.1.0-1-amd64", &former, "initrd");
    let mut baseline = baseline_of(&boot.proved());
    let patched = with_release(&recorded, "6.1.0-2-amd64", &new, "initrd");
    let evaluation = judged(&patched, &baseline);
    assert!(!evaluation.is_healthy());
    let prediction = baseline
        .predict_kernel(&label("linux 6.1.0-2"), &new, Some("6.1.0-2-amd64"))
        .unwrap();
    assert_eq!(baseline.stage(&prediction), 1);
    let evaluation = judged(&patched, &baseline);
    assert!(evaluation.is_healthy(), "{evaluation}");
    assert!(judged(&boot, &baseline).is_healthy());
    // The new kernel in PCR 9, the former in PCR 4; and the other way round.
    let mut mixed = patched.clone();
    for number in [42, 43] {
        mixed.event(number).digest = authenticode(&former);
    }
    let evaluation = judged(&mixed, &baseline);
    let [difference] = evaluation.differences() else {
        panic!("{:#?}", differences(&evaluation))
    };
    assert!(
        matches!(difference.cause, Cause::NoAgreement { .. }),
        "{difference}"
    );
    let mut mixed = boot.clone();
    mixed.event(41).digest = sha256(&new);
    assert!(!judged(&mixed, &baseline).is_healthy());
    // The new kernel with the command line of the former.
    let mut mixed = patched.clone();
    *mixed.event(44) = boot.clone().event(44).clone();
    assert!(!judged(&mixed, &baseline).is_healthy());
    // A host booted it.
    assert!(baseline.promote("kernel", "linux 6.1.0-2", "host-01", NOW));
    assert!(
        compiled(&[("reference", &baseline)])
            .evaluate(&patched.proved(), expires())
            .is_healthy()
    );
}

#[test]
fn with_secure_boot_off_a_kernel_is_predicted_for_pcr_9_alone() {
    let boot = Boot::recorded("secure-boot-off");
    let mut baseline = baseline_of(&boot.proved());
    let file = plain().with(".linux", b"kernel 2").octets();
    baseline.stage(
        &baseline
            .predict_kernel(&label("kernel 2"), &file, None)
            .unwrap(),
    );
    let mut patched = boot.clone();
    let kernel = patched
        .events
        .iter_mut()
        .find(|event| event.pcr == 9 && event.data.ends_with(b"/vmlinuz\0"))
        .unwrap();
    kernel.digest = sha256(&file);
    let evaluation = judged(&patched, &baseline);
    assert!(evaluation.is_healthy(), "{evaluation}");
    assert!(evaluation.used().iter().any(|used| used.staged));
}

#[test]
fn an_unsigned_image_is_predicted_as_it_is_and_once_signed() {
    let (boot, mut baseline) = reference();
    let mut made: MadeImage = plain();
    made.trailer = vec![7; 3];
    let file = made.octets();
    let digests = PeImage::parse(&file).unwrap().authenticode_sha256();
    let prediction = baseline.predict_loader(&label("unsigned"), &file).unwrap();
    assert_eq!(prediction.alternatives.len(), 2);
    baseline.stage(&prediction);
    for digest in [digests.as_it_is, digests.once_signed.unwrap()] {
        let mut patched = boot.clone();
        patched.event(30).digest = digest;
        assert!(judged(&patched, &baseline).is_healthy());
    }
}

/// A boot of a unified kernel image, as firmware and systemd-stub measure it.
fn unified_boot(file: &[u8], sections: &[(&str, &[u8])]) -> Boot {
    let mut boot = Boot::recorded(ON);
    boot.events
        .retain(|event| !matches!(event.pcr, 8 | 9 | 14) && event.pcr != 4);
    boot.events.push(Event::separator(4));
    boot.events.push(Event::new(4, authenticode(file)));
    for (name, contents) in sections {
        boot.events
            .push(Event::of(11, format!("{name}\0").as_bytes()));
        boot.events.push(Event::new(11, sha256(contents)));
    }
    boot
}

#[test]
fn a_predicted_unified_kernel_image_is_accepted() {
    let known = [".linux", ".osrel", ".cmdline", ".initrd"];
    let sections = |version: &'static str| {
        [
            (".linux", version.as_bytes()),
            (".osrel", b"ID=debian".as_slice()),
            (".cmdline", b"root=/dev/vda2 lockdown=integrity".as_slice()),
            (".initrd", b"an initrd".as_slice()),
        ]
    };
    let files =
        ["kernel 1", "kernel 2"].map(|version| unified(&known, &sections(version)).octets());
    let boots = [
        unified_boot(&files[0], &sections("kernel 1")),
        unified_boot(&files[1], &sections("kernel 2")),
    ];
    let mut baseline = baseline_of(&boots[0].proved());
    assert!(judged(&boots[0], &baseline).is_healthy());
    assert!(!judged(&boots[1], &baseline).is_healthy());
    let prediction = baseline
        .predict_unified(&label("UKI 2"), &files[1])
        .unwrap();
    baseline.stage(&prediction);
    let evaluation = judged(&boots[1], &baseline);
    assert!(evaluation.is_healthy(), "{evaluation}");
    // The image of one with the sections of the other.
    let mut mixed = boots[1].clone();
    let mut images = mixed.events.iter_mut();
    let image = images.rfind(|event| event.pcr == 4).unwrap();
    image.digest = authenticode(&files[0]);
    assert!(!judged(&mixed, &baseline).is_healthy());
    let as_kernel = baseline.predict_kernel(&label("kernel"), &files[1], None);
    assert!(matches!(as_kernel, Err(PredictionError::OtherForm { .. })));
    let (_, of_grub) = reference();
    let as_unified = of_grub.predict_unified(&label("UKI"), &files[1]);
    assert!(matches!(as_unified, Err(PredictionError::OtherForm { .. })));
}

#[test]
fn trap_5_a_dbx_update_is_one_alternative_of_the_variables() {
    let (boot, mut baseline) = reference();
    let data = b"a newer list of what is revoked";
    baseline.stage(
        &baseline
            .predict_variable(&label("dbx 2026"), "dbx", data)
            .unwrap(),
    );
    let mut patched = boot.clone();
    let variable = VariableData::new(Guid::IMAGE_SECURITY_DATABASE, "dbx", data).unwrap();
    *patched.event(8) = Event::of(7, &variable.octets());
    let evaluation = judged(&patched, &baseline);
    assert!(evaluation.is_healthy(), "{evaluation}");
    let unknown = baseline.predict_variable(&label("x"), "BootOrder", data);
    assert_eq!(
        unknown,
        Err(PredictionError::NoVariable("BootOrder".to_owned()))
    );
}

#[test]
fn an_image_that_is_none_predicts_nothing() {
    let (_, baseline) = reference();
    let text = b"#!/bin/sh\n";
    assert!(matches!(
        baseline.predict_loader(&label("x"), text),
        Err(PredictionError::Image(_))
    ));
    assert!(matches!(
        baseline.predict_kernel(&label("x"), text, None),
        Err(PredictionError::Image(_))
    ));
    let no_shim = plain().octets();
    let own = OwnMokVariables::default();
    assert!(matches!(
        baseline.predict_shim(&label("x"), &no_shim, &own),
        Err(PredictionError::Image(_))
    ));
    let empty = crate::compiling::small();
    let error = empty.predict_loader(&label("x"), &no_shim);
    assert_eq!(error, Err(PredictionError::NoBase("loader")));
}

#[test]
fn trap_12_values_of_sha1_are_refused() {
    let (_, mut baseline) = reference();
    let sha1 = "da39a3ee5e6b4b0d3255bfef95601890afd80709";
    let error = baseline.stage_final_value(&label("BIOS 1.2"), 0, sha1);
    assert_eq!(error, Err(PredictionError::NotSha256));
    let value = digest("value").to_string();
    assert_eq!(
        baseline.stage_final_value(&label("BIOS 1.2"), 0, &value),
        Ok(true)
    );
    assert_eq!(
        baseline.stage_final_value(&label("BIOS 1.2"), 0, &value),
        Ok(false)
    );
    // The next value of the same PCR, and the same value of another.
    let next = digest("next value").to_string();
    for (pcr, value) in [(0, &next), (2, &value)] {
        let staged = baseline.stage_final_value(&label("BIOS 1.2"), pcr, value);
        assert_eq!(staged, Ok(true));
    }
    let names: BTreeSet<_> = baseline.final_values.iter().map(|one| &one.name).collect();
    assert_eq!(names.len(), 3);
    let text = baseline.to_json();
    assert_eq!(Baseline::from_json(text.as_bytes()).unwrap(), baseline);
    assert!(baseline.promote(hgs_attest::policy::FINAL_VALUES, "BIOS 1.2", "canary", NOW));
    assert_eq!(baseline.remove_expired(expires()), 2);
    assert_eq!(baseline.final_values.len(), 1);
}

/// As the manual of systemd-pcrlock and its source show it.
const PCRLOCK: &str = r#"{"records":[
    {"pcr":4,"digests":[{"hashAlg":"sha1","digest":"0000000000000000000000000000000000000000"},
                        {"hashAlg":"sha256","digest":"HERE"}],"content_type":"raw","content":{},"recnum":7}]}"#;

#[test]
fn a_pcrlock_file_is_an_alternative_of_a_component() {
    let (boot, mut baseline) = reference();
    let image = digest("a loader that pcrlock measured");
    let records = read_pcrlock(PCRLOCK.replace("HERE", &image.to_string()).as_bytes()).unwrap();
    assert_eq!(records, [(4, image)]);
    let prediction = baseline
        .predict_pcrlock(&label("640-boot-loader"), "loader", &records)
        .unwrap();
    baseline.stage(&prediction);
    let mut patched = boot;
    patched.event(30).digest = image.0;
    assert!(judged(&patched, &baseline).is_healthy());
    // In the place of the component only, whatever pcrlock would say.
    let mut elsewhere = Boot::recorded(ON);
    elsewhere.events.insert(30, Event::new(4, image.0));
    assert!(!judged(&elsewhere, &baseline).is_healthy());
    let several = baseline.predict_pcrlock(&label("x"), "kernel", &[(8, image)]);
    assert!(matches!(
        several,
        Err(PcrlockError::Slots {
            pcr: 8,
            slots: 3,
            ..
        })
    ));
    let none = baseline.predict_pcrlock(&label("x"), "loader", &[(9, image)]);
    assert!(matches!(
        none,
        Err(PcrlockError::Slots {
            pcr: 9,
            slots: 0,
            ..
        })
    ));
    let unknown = baseline.predict_pcrlock(&label("x"), "nothing", &records);
    assert_eq!(
        unknown,
        Err(PcrlockError::NoComponent("nothing".to_owned()))
    );
    // Without records the component may be absent.
    let absent = read_pcrlock(br#"{"records":[]}"#).unwrap();
    baseline.stage(
        &baseline
            .predict_pcrlock(&label("absent"), "loader", &absent)
            .unwrap(),
    );
    let mut without = Boot::recorded(ON);
    without.events.remove(29);
    assert!(judged(&without, &baseline).is_healthy());
}

#[test]
fn pcrlock_files_that_can_t_be_imported_are_refused_by_name() {
    let read = |text: &str| read_pcrlock(text.as_bytes()).unwrap_err();
    let record = |text: &str| format!("{{\"records\":[{text}]}}");
    assert!(matches!(read("[]"), PcrlockError::Malformed(_)));
    assert!(matches!(read("{}"), PcrlockError::Malformed(_)));
    assert_eq!(
        read(&record(r#"{"nv_index":25165824,"digests":[]}"#)),
        PcrlockError::NvIndex { record: 0 }
    );
    for pcr in ["24", "-1", "null", "1e1"] {
        let error = read(&record(&format!("{{\"pcr\":{pcr},\"digests\":[]}}")));
        assert!(
            matches!(
                error,
                PcrlockError::Pcr { record: 0 } | PcrlockError::Malformed(_)
            ),
            "{error}"
        );
    }
    let with = |digests: &str| read(&record(&format!("{{\"pcr\":4,\"digests\":[{digests}]}}")));
    let no_sha256 = PcrlockError::NoSha256 { record: 0 };
    assert_eq!(with(""), no_sha256);
    assert_eq!(
        with(r#"{"hashAlg":"sha1","digest":"0000000000000000000000000000000000000000"}"#),
        no_sha256
    );
    assert_eq!(with(r#"{"hashAlg":"sha256","digest":"00"}"#), no_sha256);
    let error_separator = EventDigest(sha256(&[0xff; 4]));
    assert_eq!(
        with(&format!(
            "{{\"hashAlg\":\"sha256\",\"digest\":\"{error_separator}\"}}"
        )),
        PcrlockError::ErrorSeparator { record: 0 }
    );
    let long = format!("{{\"records\":[]{}}}", " ".repeat(1024 * 1024));
    assert!(matches!(read(&long), PcrlockError::TooLarge { .. }));
    let many = record(&vec!["{}"; 4097].join(","));
    assert_eq!(read(&many), PcrlockError::TooManyRecords);
}

/// The names that the manual of systemd-pcrlock has.
#[test]
fn the_name_of_a_pcrlock_file_says_which_component_it_is_about() {
    for (name, component) in [
        ("240-secureboot-policy.pcrlock", Some("secure-boot")),
        ("250-firmware-code-early.pcrlock", Some("firmware")),
        ("600-gpt.pcrlock", Some("partition-table")),
        ("610-boot-loader-shim.pcrlock", None),
        ("620-secureboot-authority.pcrlock", Some("image-authority")),
        ("630-shim.pcrlock", Some("shim")),
        ("640-boot-loader.pcrlock.d", Some("loader")),
        ("640-bootloader.pcrlock", Some("loader")),
        ("650-kernel.pcrlock", Some("kernel")),
        ("650-uki.pcrlock", Some("kernel")),
        ("710-kernel-cmdline.pcrlock", Some("kernel")),
        ("720-kernel-initrd.pcrlock.d", Some("initrd")),
        ("820-machine-id.pcrlock", Some("system-identity")),
        ("830-root-file-system.pcrlock", Some("system-identity")),
        ("840-file-system-home.pcrlock", None),
        ("840-file-system", Some("system-identity")),
        ("500-separator.pcrlock.d", None),
    ] {
        assert_eq!(component_of_pcrlock(name), component, "{name}");
    }
}

#[test]
fn trap_8_a_host_stages_its_own_initrd_before_it_boots_it() {
    let (boot, baseline) = reference();
    let set = compiled(&[("reference", &baseline)]);
    let mut patched = boot.clone();
    patched.event(46).digest = digest("initrd-2").0;
    let mut claim = HostMeasurements::default();
    claim.add(
        "initrd",
        alternative("initrd of 6.1.0-2", &[("file", "initrd-2")]),
    );
    claim
        .parameters
        .insert("root".to_owned(), "somewhere-else".to_owned());
    let host = HostMeasurements::default()
        .accept_claim(&claim, "host-07", expires())
        .unwrap();
    // A host does not choose its parameters, and what it stages is staged, whatever it says.
    assert_eq!(host.parameters.len(), 0);
    let staged = &host.alternatives_of("initrd")[0];
    assert_eq!(staged.state, State::Staged { expires: expires() });
    assert_eq!(
        (staged.source.kind, staged.source.of.as_str()),
        (SourceKind::Host, "host-07")
    );
    assert!(!set.evaluate(&patched.proved(), NOW).is_healthy());
    let of_host = set.for_host(&host).unwrap();
    let evaluation = of_host.evaluate(&patched.proved(), NOW);
    assert!(evaluation.is_healthy(), "{evaluation}");
    let used: Vec<_> = evaluation
        .used()
        .iter()
        .filter(|used| used.staged)
        .collect();
    assert!(used.len() == 1 && used[0].of_host);
    assert!(!of_host.evaluate(&patched.proved(), expires()).is_healthy());
    let mut late = host.clone();
    assert_eq!(late.remove_expired(NOW), 0);
    assert_eq!(late.remove_expired(expires()), 1);
    assert_eq!(late, HostMeasurements::default());
    let mut promoted = host;
    assert!(promoted.promote("initrd", "initrd of 6.1.0-2", "host-07", NOW));
    let of_host = set.for_host(&promoted).unwrap();
    assert!(of_host.evaluate(&patched.proved(), expires()).is_healthy());
    // A claim about what is not the host's own is refused when it is saved.
    let mut claim = HostMeasurements::default();
    claim.add("loader", alternative("my own loader", &[("image", "evil")]));
    let host = HostMeasurements::default()
        .accept_claim(&claim, "host-07", expires())
        .unwrap();
    assert!(set.for_host(&host).is_err());
}

#[test]
fn a_host_knows_what_it_will_boot_next() {
    let recorded = Boot::recorded(ON);
    let kernels =
        ["kernel 1", "kernel 2"].map(|name| plain().with(".linux", name.as_bytes()).octets());
    let boot = with_release(&recorded, "6.1.0-1-amd64", &kernels[0], "initrd");
    let mut baseline = baseline_of(&boot.proved());
    let prediction = baseline
        .predict_kernel(&label("linux 6.1.0-2"), &kernels[1], Some("6.1.0-2-amd64"))
        .unwrap();
    baseline.stage(&prediction);
    let evidence = boot.proved();
    let next = with_release(&recorded, "6.1.0-2-amd64", &kernels[1], "initrd 2");
    let files = [(
        "/boot/initrd.img-6.1.0-1-amd64",
        EventDigest(next.events[45].digest),
    )];
    let releases = Some(("6.1.0-1-amd64", "6.1.0-2-amd64"));
    let claim = claim_of_next_boot(&evidence, &files, releases, "after the update").unwrap();
    let names: Vec<_> = claim
        .components
        .iter()
        .map(|component| component.name.as_str())
        .collect();
    assert_eq!(names, ["initrd"]);
    let host = HostMeasurements::default()
        .accept_claim(&claim, "host-07", expires())
        .unwrap();
    let set = compiled(&[("reference", &baseline)]);
    assert!(!set.evaluate(&next.proved(), NOW).is_healthy());
    let evaluation = set.for_host(&host).unwrap().evaluate(&next.proved(), NOW);
    assert!(evaluation.is_healthy(), "{evaluation}");
    let nothing = claim_of_next_boot(&evidence, &[], None, "nothing new").unwrap();
    assert_eq!(nothing.components, []);
    let too_long = "x".repeat(17_000);
    for (releases, name) in [
        (releases, too_long.as_str()),
        (Some(("6.1.0-1-amd64", too_long.as_str())), "next"),
    ] {
        let refused = claim_of_next_boot(&evidence, &files, releases, name);
        assert!(
            matches!(refused, Err(DocumentError::Inconsistent(_))),
            "{refused:?}"
        );
    }
}

#[test]
fn texts_of_grub_that_name_the_release_are_predicted_with_the_kernel() {
    let kernels =
        ["kernel 1", "kernel 2"].map(|name| plain().with(".linux", name.as_bytes()).octets());
    let boot = |release: &str, file: &[u8]| {
        let mut boot = with_release(&Boot::recorded(ON), release, file, "initrd");
        *boot.event(39) = Event::command(&format!("echo 'Loading Linux {release} ...'"));
        boot
    };
    let mut baseline = baseline_of(&boot("6.1.0-1-amd64", &kernels[0]).proved());
    let prediction = baseline.predict_kernel(&label("linux 2"), &kernels[1], Some("6.1.0-2-amd64"));
    let prediction = prediction.unwrap();
    let of: Vec<_> = prediction
        .alternatives
        .iter()
        .map(|(of, _)| of.as_str())
        .collect();
    assert_eq!(of, ["kernel", "loader-script"]);
    baseline.stage(&prediction);
    let evaluation = judged(&boot("6.1.0-2-amd64", &kernels[1]), &baseline);
    assert!(evaluation.is_healthy(), "{evaluation}");
}
