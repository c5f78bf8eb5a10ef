//! The fifteen policies on Linux: each holds because of what was measured, and never because something is unknown.

use hgs_attest::AttestationSubstatus;
use hgs_attest::policy::{
    Baseline, CiFailure, CiPolicy, CommandLineUnknown, ComponentKind, DecidedBy, Documents,
    DumpKey, Encoding, EventDigest, ExpectedEvent, FileSet, Outcome, PathFiles, PolicyFailure,
    PolicyName, PolicySelection, PolicySet, PolicySetError, Preimage, RecordedEvidence,
    RefusedFileCause, Source, SourceKind, State,
};
use hgs_crypto::hash::sha256;
use hgs_pki::Seconds;
use hgs_tcg::event_log::Action;
use proptest::prelude::*;

use crate::common::{Boot, Event, File, NOW, baseline_of, compiled, recorded};
use crate::compiling::{alternative, component, digest, lanes, small, source};

const ON: &str = "secure-boot-on";

fn outcome(set: &PolicySet, evidence: &RecordedEvidence, policy: PolicyName) -> Outcome {
    let evaluation = set.evaluate(&evidence.prove().unwrap(), NOW);
    let mut results = evaluation.results().iter();
    results
        .find(|result| result.policy == policy)
        .unwrap()
        .outcome
        .clone()
}

/// The boot whose command line is this, with the baseline that approves it.
fn with_command_line(line: &str) -> (RecordedEvidence, PolicySet) {
    let mut boot = Boot::recorded(ON);
    *boot.event(44) = Event::command_line(&format!("/vmlinuz {line}"));
    let set = compiled(&[("reference", &baseline_of(&boot.proved()))]);
    (boot.evidence(), set)
}

fn on_line(line: &str, policy: PolicyName) -> Outcome {
    let (evidence, set) = with_command_line(line);
    outcome(&set, &evidence, policy)
}

#[track_caller]
fn assert_held(line: &str, policy: PolicyName) {
    assert_eq!(
        on_line(line, policy),
        Outcome::Held,
        "{policy} with `{line}`"
    );
}

#[track_caller]
fn assert_failed(line: &str, policy: PolicyName) {
    let outcome = on_line(line, policy);
    assert!(
        matches!(outcome, Outcome::Failed(_)),
        "{policy} with `{line}`"
    );
}

#[test]
fn hypervisor_enforced_ci_policy_is_lockdown_on_the_measured_command_line() {
    let policy = PolicyName::HypervisorEnforcedCiPolicy;
    for line in [
        "lockdown=integrity",
        "quiet lockdown=confidentiality",
        "lsm=lockdown,yama lockdown=integrity",
    ] {
        assert_held(line, policy);
    }
    for line in [
        "",
        "lockdown",
        "lockdown=none",
        "lockdown=integrity lockdown=none",
        "lockdown=integrity lsm=yama,apparmor",
        "lockdown=integrity module.sig_enforce=0",
        "xlockdown=integrity",
        "init=\"x lockdown=integrity\"",
        // What follows is not the kernel's.
        "-- lockdown=integrity",
    ] {
        assert_failed(line, policy);
    }
}

#[test]
fn full_boot_and_no_hibernation_need_a_kernel_that_can_t_resume() {
    for policy in [PolicyName::FullBoot, PolicyName::NoHibernation] {
        for line in ["nohibernate", "hibernate=no", "lockdown=confidentiality"] {
            assert_held(line, policy);
        }
        // User space can take `noresume` back.
        for line in ["", "noresume", "hibernate=noresume", "resume=/dev/sda2"] {
            assert_failed(line, policy);
        }
    }
}

#[test]
fn iommu_must_be_turned_on_and_must_not_be_passed_through() {
    let policy = PolicyName::IommuEnabled;
    for line in [
        "intel_iommu=on",
        "intel-iommu=on,sm_on",
        "amd_iommu=force_enable",
        "iommu=force",
        "iommu.passthrough=0 iommu.strict=1",
    ] {
        assert_held(line, policy);
    }
    for line in [
        "",
        "intel_iommu=off",
        "intel_iommu=on iommu=pt",
        "intel_iommu=on iommu.passthrough=1",
        "intel_iommu=on intel_iommu=off",
        "intel_iommu=on,igfx_off",
        "amd_iommu=off",
        "iommu=force,pt",
        // To the kernel this is one word, and no parameter that it knows.
        "note=\"where intel_iommu=on stands\"",
    ] {
        assert_failed(line, policy);
    }
    // Firmware says that memory was open to devices while it ran.
    let mut boot = Boot::recorded(ON);
    *boot.event(44) = Event::command_line("/vmlinuz intel_iommu=on");
    boot.events.insert(
        3,
        Event::of(7, Action::DmaProtectionDisabled.text().as_bytes()),
    );
    let set = compiled(&[("reference", &baseline_of(&boot.proved()))]);
    let failed = PolicyFailure::Action {
        action: Action::DmaProtectionDisabled,
        event: 4,
    };
    assert_eq!(
        outcome(&set, &boot.evidence(), policy),
        Outcome::Failed(failed)
    );
}

#[test]
fn page_files_and_dumps() {
    for value in ["no", "0", "false", "off"] {
        assert_held(
            &format!("systemd.swap={value}"),
            PolicyName::PageFileEncryptionEnabled,
        );
    }
    for line in ["", "systemd.swap=yes", "systemd.swap"] {
        assert_failed(line, PolicyName::PageFileEncryptionEnabled);
    }
    assert_held("quiet", PolicyName::NoDumps);
    assert_held("quiet", PolicyName::DumpEncryption);
    assert_held("quiet", PolicyName::DumpEncryptionKey);
    for line in [
        "crashkernel=256M",
        "crashkernel=auto quiet",
        "crashkernel=1G,high",
    ] {
        assert_failed(line, PolicyName::NoDumps);
        assert_failed(line, PolicyName::DumpEncryption);
        assert_failed(line, PolicyName::DumpEncryptionKey);
    }
}

#[test]
fn debuggers_of_firmware_and_kernel() {
    let policy = PolicyName::UefiDebugDisabled;
    assert_held("quiet", policy);
    for line in ["kgdboc=ttyS0", "kgdbwait", "ekgdboc=kbd"] {
        assert_failed(line, policy);
    }
    let mut boot = Boot::recorded(ON);
    boot.events
        .insert(3, Event::of(7, Action::DebugMode.text().as_bytes()));
    let set = compiled(&[("reference", &baseline_of(&boot.proved()))]);
    let evaluation = set.evaluate(&boot.proved(), NOW);
    assert_eq!(
        evaluation.substatus(),
        [AttestationSubstatus::DebugMode].into()
    );
    // Without the separator, or with two, firmware may not have said everything.
    for change in [
        (|boot: &mut Boot| drop(boot.events.remove(8))) as fn(&mut Boot),
        |boot| boot.events.insert(9, Event::separator(7)),
    ] {
        let mut boot = Boot::recorded(ON);
        change(&mut boot);
        let failed = Outcome::Failed(PolicyFailure::NoSeparator);
        assert_eq!(outcome(&set, &boot.evidence(), policy), failed);
    }
}

#[test]
fn a_command_line_that_is_not_proved_fails_every_policy_that_needs_it() {
    let of_the_command_line = [
        PolicyName::HypervisorEnforcedCiPolicy,
        PolicyName::FullBoot,
        PolicyName::NoHibernation,
        PolicyName::IommuEnabled,
        PolicyName::PageFileEncryptionEnabled,
        PolicyName::NoDumps,
        PolicyName::DumpEncryption,
        PolicyName::DumpEncryptionKey,
    ];
    let (evidence, _) = with_command_line("quiet");
    let baseline = baseline_of(&evidence.prove().unwrap());
    let unknown = |set: &PolicySet, evidence: &RecordedEvidence, why: &CommandLineUnknown| {
        for policy in of_the_command_line {
            let failed = PolicyFailure::CommandLineUnknown(why.clone());
            assert_eq!(outcome(set, evidence, policy), Outcome::Failed(failed));
        }
    };
    // No slot of it.
    let mut without = baseline.clone();
    for slot in without.lanes.iter_mut().flat_map(|lane| &mut lane.slots) {
        slot.command_line = false;
    }
    unknown(
        &compiled(&[("reference", &without)]),
        &evidence,
        &CommandLineUnknown::NoSlot,
    );
    // Its digest alone.
    let mut opaque = baseline;
    let kernel = opaque
        .components
        .iter_mut()
        .find(|component| component.name == "kernel")
        .unwrap();
    for events in &mut kernel.alternatives[0].events {
        for event in events
            .events
            .iter_mut()
            .filter(|_| events.slot == "command-line")
        {
            let digest = event.digest_with(&Default::default()).unwrap();
            *event = ExpectedEvent::digest(digest, "");
        }
    }
    let set = compiled(&[("reference", &opaque)]);
    unknown(
        &set,
        &evidence,
        &CommandLineUnknown::NoText { pcr: 8, event: 44 },
    );
    // The host says what it is of.
    let mut with_preimage = evidence.clone();
    with_preimage.preimages.push(Preimage {
        pcr: 8,
        event: 44,
        octets: b"/vmlinuz quiet".to_vec(),
    });
    assert_eq!(
        outcome(&set, &with_preimage, PolicyName::NoDumps),
        Outcome::Held
    );
    with_preimage.preimages[0].octets = b"/vmlinuz quiet lockdown=integrity".to_vec();
    unknown(
        &set,
        &with_preimage,
        &CommandLineUnknown::NoText { pcr: 8, event: 44 },
    );
    // No baseline matches.
    let other = recorded("secure-boot-off");
    unknown(&set, &other, &CommandLineUnknown::NoBaselineMatches);
}

#[test]
fn a_prefix_of_grub_says_nothing_about_the_command_line() {
    // `grub_cmd: ` and `kernel_cmdline: ` are exchanged: the digests are the same, and so is what is approved.
    let mut boot = Boot::recorded(ON);
    *boot.event(44) = Event::command_line("/vmlinuz quiet");
    let set = compiled(&[("reference", &baseline_of(&boot.proved()))]);
    let evil = "/vmlinuz init=/bin/sh lockdown=integrity";
    let mut swapped = boot.clone();
    swapped.event(44).data = b"grub_cmd: /vmlinuz quiet\0".to_vec();
    let evaluation = set.evaluate(&swapped.proved(), NOW);
    assert!(evaluation.is_healthy());
    assert!(matches!(
        outcome(
            &set,
            &swapped.evidence(),
            PolicyName::HypervisorEnforcedCiPolicy
        ),
        Outcome::Failed(PolicyFailure::WordMissing { .. })
    ));
    // A further text is an event that no component owns, whatever its prefix.
    for event in [Event::command(evil), Event::command_line(evil)] {
        for place in [43, 44, 47] {
            let mut added = boot.clone();
            added.events.insert(place, event.clone());
            assert!(!set.evaluate(&added.proved(), NOW).is_healthy());
        }
    }
}

#[test]
fn every_command_line_that_is_measured_counts() {
    // GRUB's and the kernel stub's; the second is known by a preimage.
    let mut boot = Boot::recorded(ON);
    *boot.event(44) = Event::command_line("/vmlinuz nohibernate");
    let options: Vec<u8> = "BOOT_IMAGE=/vmlinuz quiet\0"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    boot.events.push(Event {
        data: b"LOADED_IMAGE::LoadOptions".to_vec(),
        ..Event::new(9, sha256(&options))
    });
    let mut evidence = boot.evidence();
    let set = compiled(&[("reference", &baseline_of(&boot.proved()))]);
    let policy = PolicyName::NoHibernation;
    let no_text = CommandLineUnknown::NoText { pcr: 9, event: 50 };
    let failed = Outcome::Failed(PolicyFailure::CommandLineUnknown(no_text));
    assert_eq!(outcome(&set, &evidence, policy), failed);
    evidence.preimages.push(Preimage {
        pcr: 9,
        event: 50,
        octets: options,
    });
    assert!(matches!(
        outcome(&set, &evidence, policy),
        Outcome::Failed(PolicyFailure::WordMissing { .. })
    ));
}

#[test]
fn each_command_line_of_a_repeated_slot_counts() {
    let mut baseline = small();
    let slots = lanes(&[(8, "first/line lines/line*")]).remove(0);
    baseline.lanes.push(slots);
    for (slot, line) in baseline.lanes[2]
        .slots
        .iter_mut()
        .zip(["/a nohibernate", "/b"])
    {
        slot.command_line = true;
        let mut alternative = alternative("approved", &[("line", "x")]);
        alternative.events[0].events = vec![ExpectedEvent::Text {
            text: line.to_owned(),
            encoding: Encoding::Utf8,
        }];
        let of_slot = component(&slot.component, ComponentKind::Shared, &[alternative]);
        baseline.components.push(of_slot);
    }
    let set = compiled(&[("reference", &baseline)]);
    let judge = |lines: &[&str]| {
        let shared = [(4, "one"), (7, "on"), (7, "keys")];
        let shared = shared.map(|(pcr, word)| Event::new(pcr, digest(word).0));
        let lines = lines.iter().map(|line| Event::command_line(line));
        let boot = Boot {
            events: shared.into_iter().chain(lines).collect(),
            ima: Vec::new(),
        };
        outcome(&set, &boot.evidence(), PolicyName::NoHibernation)
    };
    assert_eq!(judge(&["/a nohibernate"]), Outcome::Held);
    // Which of a repeated slot's alternatives stands where is not kept, so its text is known by a preimage only.
    let unknown = CommandLineUnknown::NoText { pcr: 8, event: 5 };
    let failed = Outcome::Failed(PolicyFailure::CommandLineUnknown(unknown));
    assert_eq!(judge(&["/a nohibernate", "/b"]), failed);
}

#[test]
fn not_applicable_is_never_true() {
    let (evidence, set) = with_command_line("lockdown=integrity");
    let evaluation = set.evaluate(&evidence.prove().unwrap(), NOW);
    let evaluated: Vec<_> = evaluation
        .results()
        .iter()
        .map(|result| result.policy)
        .collect();
    for policy in PolicyName::ALL {
        match policy.decided_by() {
            DecidedBy::Evidence => assert!(evaluated.contains(&policy)),
            DecidedBy::Exchange | DecidedBy::Nothing => assert!(!evaluated.contains(&policy)),
        }
    }
    assert_eq!(evaluated.len(), 12);
    let mut selection = PolicySelection::default();
    assert!(selection.set(PolicyName::BitLockerEnabled, true).is_err());
}

fn allowed(files: &[(&str, &str)]) -> CiPolicy {
    let files = files
        .iter()
        .map(|(path, contents)| ((*path).to_owned(), digest(contents)));
    CiPolicy::of_files("Debian 12.9", source(), files)
}

fn with_ci_policies(
    policies: &[(&str, &CiPolicy)],
    baseline: &Baseline,
) -> Result<PolicySet, PolicySetError> {
    let documents = Documents {
        baselines: [("reference".to_owned(), baseline.clone())].into(),
        ci_policies: policies
            .iter()
            .map(|(name, policy)| ((*name).to_owned(), (*policy).clone()))
            .collect(),
        ..Documents::default()
    };
    PolicySet::compile(&PolicySelection::default(), &documents)
}

#[test]
fn trap_10_ci_policy_allows_files_by_path_and_digest_in_any_order() {
    let boot = Boot::recorded(ON);
    let baseline = baseline_of(&boot.proved());
    let policy = allowed(&[
        ("/usr/bin/", "bash"),
        ("/usr/lib/modules/", "virtio"),
        ("/usr/lib/", "libc"),
    ]);
    let set = with_ci_policies(&[("debian", &policy)], &baseline).unwrap();
    assert!(
        set.is_enabled(PolicyName::CiPolicy),
        "a document turns it on"
    );
    let judge = |files: &[File]| set.evaluate(&boot.with_files(files).prove().unwrap(), NOW);
    let causes = |files: &[File]| -> Vec<_> {
        let evaluation = judge(files);
        let failed: Vec<_> = evaluation.failed().collect();
        match failed[..] {
            [] => Vec::new(),
            [result] => match result.failure().unwrap() {
                PolicyFailure::CodeIntegrity {
                    failure: CiFailure::Refused { first, .. },
                    ..
                } => first.iter().map(|file| (file.entry, file.cause)).collect(),
                other => panic!("{other}"),
            },
            _ => panic!("{evaluation}"),
        }
    };
    let (bash, virtio, libc) = (
        File::new("/usr/bin/bash", "bash"),
        File::new("/usr/lib/modules/6.1/virtio.ko", "virtio"),
        File::new("/usr/lib/libc.so.6", "libc"),
    );
    assert_eq!(causes(&[bash.clone(), virtio.clone(), libc.clone()]), []);
    // In any order, and more than once.
    assert_eq!(causes(&[libc.clone(), bash.clone(), bash.clone()]), []);
    assert_eq!(causes(&[]), []);
    use RefusedFileCause::{NotAllowed, OtherPath, Violation};
    assert_eq!(
        causes(&[bash.clone(), File::new("/usr/bin/evil", "evil")]),
        [(2, NotAllowed)]
    );
    assert_eq!(causes(&[File::new("/tmp/bash", "bash")]), [(1, OtherPath)]);
    // The longest beginning of the path counts: a library is no module.
    assert_eq!(
        causes(&[File::new("/usr/lib/modules/libc.so.6", "libc")]),
        [(1, OtherPath)]
    );
    assert_eq!(causes(&[File::new("/usr/bin", "bash")]), [(1, OtherPath)]);
    let violation = File {
        violation: true,
        ..bash.clone()
    };
    assert_eq!(causes(&[violation]), [(1, Violation)]);
    let refused = judge(&[File::new("/usr/bin/e\u{1b}[2Jvil", "evil")]);
    assert_eq!(
        refused.substatus(),
        [AttestationSubstatus::CodeIntegrityPolicy].into()
    );
    assert!(
        refused.to_string().contains("/usr/bin/e\\x1b[2Jvil"),
        "{refused}"
    );
    assert!(refused.to_string().contains("IMA entry 1"), "{refused}");
    // One group, whatever the order of the log.
    let evil = [File::new("/usr/bin/a", "a"), File::new("/usr/bin/b", "b")];
    let turned = [evil[1].clone(), bash, evil[0].clone()];
    assert_eq!(judge(&evil).group(), judge(&turned).group());
    assert_ne!(judge(&evil).group(), judge(&evil[..1]).group());
}

#[test]
fn without_an_ima_log_or_with_one_of_another_boot_no_ci_policy_holds() {
    let boot = Boot::recorded(ON);
    let baseline = baseline_of(&boot.proved());
    let policy = allowed(&[("/", "bash")]);
    let set = with_ci_policies(&[("debian", &policy)], &baseline).unwrap();
    let failure = |evidence: &RecordedEvidence| match outcome(&set, evidence, PolicyName::CiPolicy)
    {
        Outcome::Failed(PolicyFailure::CodeIntegrity { failure, .. }) => failure,
        other => panic!("{other:?}"),
    };
    assert_eq!(failure(&boot.evidence()), CiFailure::NoLog);
    // PCR 10 has a value, and the host keeps its log for itself.
    let mut hidden = boot.with_files(&[File::new("/bin/bash", "bash")]);
    hidden.ima.clear();
    assert_eq!(failure(&hidden), CiFailure::NoLog);
    // The log of another boot: its first entry is of other PCRs.
    let mut other = boot.clone();
    other.event(46).digest = digest("another initrd").0;
    let of_other = other.with_files(&[]);
    let mut mixed = boot.evidence();
    mixed
        .values
        .insert(10, of_other.values.value(10).unwrap().as_bytes())
        .unwrap();
    mixed.ima = of_other.ima;
    assert!(matches!(failure(&mixed), CiFailure::BootAggregate(_)));
    // The entry of the boot does not count as a file that has to be allowed.
    assert_eq!(
        outcome(&set, &boot.with_files(&[]), PolicyName::CiPolicy),
        Outcome::Held
    );
}

#[test]
fn the_modules_of_the_recorded_boot_are_allowed_by_their_digests() {
    let evidence = recorded(ON);
    let proved = evidence.prove().unwrap();
    let entries = proved.ima().unwrap().entries().skip(1);
    let files: Vec<_> = entries
        .map(|entry| {
            (
                "/lib/modules/".to_owned(),
                EventDigest(entry.file_digest().octets.try_into().unwrap()),
            )
        })
        .collect();
    assert_eq!(files.len(), 17);
    let baseline = baseline_of(&proved);
    let policy = CiPolicy::of_files("linux-image", source(), files.clone());
    let set = with_ci_policies(&[("modules", &policy)], &baseline).unwrap();
    let evaluation = set.evaluate(&proved, NOW);
    assert!(evaluation.is_healthy(), "{evaluation}");
    let fewer = CiPolicy::of_files("linux-image", source(), files[1..].to_vec());
    let set = with_ci_policies(&[("modules", &fewer)], &baseline).unwrap();
    let evaluation = set.evaluate(&proved, NOW);
    assert!(
        evaluation
            .to_string()
            .contains("/lib/modules/virtio_ring.ko"),
        "{evaluation}"
    );
}

#[test]
fn sets_of_files_are_staged_promoted_and_retired() {
    let boot = Boot::recorded(ON);
    let baseline = baseline_of(&boot.proved());
    let mut policy = allowed(&[("/", "old")]);
    let expires = NOW.checked_add(Seconds::from_days(7)).unwrap();
    policy.sets.push(FileSet {
        name: "Debian 12.10".to_owned(),
        source: Source {
            kind: SourceKind::Package,
            of: "Debian 12.10".to_owned(),
        },
        state: State::Staged { expires },
        files: vec![PathFiles {
            path: "/".to_owned(),
            digests: vec![digest("new")],
        }],
    });
    let both = [File::new("/bin/a", "old"), File::new("/bin/b", "new")];
    let evidence = boot.with_files(&both).prove().unwrap();
    let judge = |policy: &CiPolicy, now| {
        with_ci_policies(&[("debian", policy)], &baseline)
            .unwrap()
            .evaluate(&evidence, now)
    };
    // While a host is updated, it runs files of both.
    let evaluation = judge(&policy, NOW);
    assert!(evaluation.is_healthy(), "{evaluation}");
    let staged: Vec<_> = evaluation
        .used()
        .iter()
        .filter(|used| used.staged)
        .collect();
    assert_eq!(
        (staged.len(), staged[0].alternative.as_str()),
        (1, "Debian 12.10")
    );
    assert!(!judge(&policy, expires).is_healthy());
    let mut late = policy.clone();
    assert_eq!(late.remove_expired(NOW), 0);
    assert_eq!(late.remove_expired(expires), 1);
    assert_eq!(late.sets, policy.sets[..1]);
    assert!(policy.promote("Debian 12.10", "host-01", NOW));
    assert_eq!(
        policy.unused("debian", evaluation.used()),
        [] as [String; 0]
    );
    assert_eq!(
        policy.unused("debian", &[]),
        ["Debian 12.9", "Debian 12.10"]
    );
    assert!(judge(&policy, expires).is_healthy());
    assert!(policy.retire("Debian 12.9", NOW));
    let evaluation = judge(&policy, NOW);
    assert!(
        evaluation.to_string().contains("retired or expired"),
        "{evaluation}"
    );
    assert!(policy.retire("Debian 12.10", NOW));
    let nothing = with_ci_policies(&[("debian", &policy)], &baseline).unwrap_err();
    assert_eq!(
        nothing,
        PolicySetError::NothingAllowed {
            name: "debian".to_owned()
        }
    );
    assert_eq!(policy.remove_expired(expires), 0);
}

#[test]
fn the_files_of_a_refused_host_become_a_set_once_they_are_approved() {
    let boot = Boot::recorded(ON);
    let baseline = baseline_of(&boot.proved());
    let policy = allowed(&[("/usr/", "old")]);
    let mut files = vec![
        File::new("/usr/bin/a", "old"),
        File::new("/usr/bin/b", "new"),
        File::new("/opt/tool/c", "newer"),
    ];
    let evidence = boot.with_files(&files).prove().unwrap();
    let judge = |policy: &CiPolicy, evidence| {
        let set = with_ci_policies(&[("debian", policy)], &baseline).unwrap();
        set.evaluate(evidence, NOW)
    };
    assert!(!judge(&policy, &evidence).is_healthy());
    let approved = policy
        .with_files_of(&evidence, "approved", source(), NOW)
        .unwrap();
    let paths: Vec<_> = approved.sets[1]
        .files
        .iter()
        .map(|files| files.path.as_str())
        .collect();
    assert_eq!(paths, ["/opt/tool/", "/usr/"]);
    assert!(judge(&approved, &evidence).is_healthy());
    assert_eq!(
        approved.with_files_of(&evidence, "approved", source(), NOW),
        None
    );
    // What changed while it was measured is never approved.
    files.push(File {
        violation: true,
        ..File::new("/usr/bin/d", "d")
    });
    let evidence = boot.with_files(&files).prove().unwrap();
    assert_eq!(
        approved.with_files_of(&evidence, "approved", source(), NOW),
        None
    );
    assert!(!judge(&approved, &evidence).is_healthy());
}

#[test]
fn what_ima_measures_at_all_follows_from_the_command_line() {
    let mut policy = allowed(&[("/", "bash")]);
    policy.ima_policy = vec!["tcb".to_owned()];
    let judge = |line: &str| {
        let mut boot = Boot::recorded(ON);
        *boot.event(44) = Event::command_line(&format!("/vmlinuz {line}"));
        let baseline = baseline_of(&boot.proved());
        let set = with_ci_policies(&[("debian", &policy)], &baseline).unwrap();
        let evidence = boot.with_files(&[File::new("/bin/bash", "bash")]);
        outcome(&set, &evidence, PolicyName::CiPolicy)
    };
    assert_eq!(judge("ima_policy=tcb"), Outcome::Held);
    assert_eq!(judge("ima_policy=critical_data|tcb"), Outcome::Held);
    for line in [
        "",
        "ima_policy=critical_data",
        "ima_policy=tcb_not",
        "-- ima_policy=tcb",
    ] {
        assert!(matches!(judge(line), Outcome::Failed(_)), "{line}");
    }
}

#[test]
fn dumps_go_through_what_a_dump_key_policy_has() {
    let mut boot = Boot::recorded(ON);
    *boot.event(44) = Event::command_line("/vmlinuz crashkernel=256M");
    let baseline = baseline_of(&boot.proved());
    let key = DumpKey {
        files: vec![PathFiles {
            path: "/var/lib/kdump/".to_owned(),
            // No file has the digest of zeros: it stands where a file was changed while it was measured.
            digests: vec![digest("initrd with our key"), EventDigest([0; 32])],
        }],
    };
    let mut selection = PolicySelection::default();
    selection.set(PolicyName::DumpEncryption, true).unwrap();
    let documents = Documents {
        baselines: [("reference".to_owned(), baseline)].into(),
        dump_keys: [("our key".to_owned(), key)].into(),
        ..Documents::default()
    };
    let set = PolicySet::compile(&selection, &documents).unwrap();
    let failed = |files: &[File]| -> Vec<_> {
        let evaluation = set.evaluate(&boot.with_files(files).prove().unwrap(), NOW);
        evaluation.failed().map(|result| result.policy).collect()
    };
    let kdump = |contents: &str| File::new("/var/lib/kdump/initrd.img", contents);
    assert_eq!(failed(&[kdump("initrd with our key")]), []);
    let mut changed = kdump("initrd with our key");
    changed.violation = true;
    assert_eq!(failed(&[changed]), [PolicyName::DumpEncryptionKey]);
    assert_eq!(
        failed(&[kdump("initrd with their key")]),
        [PolicyName::DumpEncryptionKey]
    );
    assert_eq!(
        failed(&[kdump("initrd with our key"), kdump("another")]),
        [PolicyName::DumpEncryptionKey]
    );
    assert_eq!(
        failed(&[]),
        [PolicyName::DumpEncryption, PolicyName::DumpEncryptionKey]
    );
    assert_eq!(
        failed(&[File::new("/bin/bash", "bash")]),
        [PolicyName::DumpEncryption, PolicyName::DumpEncryptionKey]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A log matches if each file is allowed where it is, and only then.
    #[test]
    fn an_ima_log_matches_if_each_of_its_files_is_allowed(
        allowed_files in proptest::collection::vec((0_usize..3, 0_u8..5), 1..6),
        measured in proptest::collection::vec((0_usize..4, 0_u8..6), 0..6),
    ) {
        const PATHS: [&str; 4] = ["/a/", "/a/b/", "/c/", "/d/"];
        let names: Vec<_> = allowed_files.iter().map(|(path, file)| (PATHS[*path], format!("file {file}"))).collect();
        let policy = allowed(&names.iter().map(|(path, file)| (*path, file.as_str())).collect::<Vec<_>>());
        let boot = Boot::recorded(ON);
        let baseline = baseline_of(&boot.proved());
        let set = with_ci_policies(&[("p", &policy)], &baseline).unwrap();
        let files: Vec<_> = measured.iter()
            .map(|(path, file)| File::new(&format!("{}x", PATHS[*path]), &format!("file {file}")))
            .collect();
        let has_rule = |path: usize| allowed_files.iter().any(|(of, _)| *of == path);
        let expected = measured.iter().all(|(path, file)| {
            let rule = if *path == 1 && !has_rule(1) { 0 } else { *path };
            allowed_files.contains(&(rule, *file))
        });
        let evaluation = set.evaluate(&boot.with_files(&files).prove().unwrap(), NOW);
        prop_assert_eq!(evaluation.is_healthy(), expected);
    }
}
