//! A patch day of a fleet: firmware, dbx, shim, kernel and IMA set change at once.

use std::collections::BTreeMap;

use hgs_attest::policy::{
    Baseline, CiPolicy, Documents, Evaluation, EventDigest, FileSet, HostMeasurements, Label,
    PathFiles, PolicySelection, PolicySet, RecordedEvidence, Source, SourceKind, State, approve,
    claim_of_next_boot, proposed_parameters,
};
use hgs_crypto::hash::sha256;
use hgs_pki::{Seconds, Time};
use hgs_tcg::image::{Guid, OwnMokVariables, PeImage, Shim, VariableData};
use hgs_testkit::made_image::{certificate_like, plain, shim_image};

use crate::common::{Boot, Event, File, NOW};
use crate::compiling::{digest, source};

const HOSTS: usize = 64;
const FORMER: &str = "6.1.0-1-amd64";
const NEW: &str = "6.1.0-2-amd64";
const DBX: &[u8] = b"what is revoked as of today";

/// An image whose length is a multiple of 8, as signed ones have it.
fn image(section: &str) -> Vec<u8> {
    padded(plain().with(".text2", section.as_bytes()).octets())
}

fn padded(mut file: Vec<u8>) -> Vec<u8> {
    file.resize(file.len().next_multiple_of(8), 0);
    file
}

fn authenticode(file: &[u8]) -> [u8; 32] {
    PeImage::parse(file).unwrap().authenticode_sha256().as_it_is
}

struct Host {
    name: String,
    root: String,
    patched: bool,
    record: HostMeasurements,
}

struct Fleet {
    shim: Vec<u8>,
    kernels: BTreeMap<&'static str, Vec<u8>>,
    baseline: Baseline,
    files: CiPolicy,
    hosts: Vec<Host>,
}

impl Fleet {
    /// What one host boots.
    fn boot(&self, host: &Host) -> Boot {
        let mut boot = Boot::recorded("secure-boot-on");
        let release = if host.patched { NEW } else { FORMER };
        let kernel = &self.kernels[release];
        let arguments = format!("root=UUID={} ro", host.root);
        for (number, what) in [(10, "BootOrder"), (11, "Boot0001"), (23, "GPT")] {
            boot.event(number).digest = digest(&format!("{what} of {}", host.name)).0;
        }
        *boot.event(40) = Event::command(&format!("linux /boot/vmlinuz-{release} {arguments}"));
        boot.event(41).digest = sha256(kernel);
        boot.event(41).data = format!("/boot/vmlinuz-{release}").into_bytes();
        for number in [42, 43] {
            boot.event(number).digest = authenticode(kernel);
        }
        *boot.event(44) = Event::command_line(&format!("/boot/vmlinuz-{release} {arguments}"));
        *boot.event(45) = Event::command(&format!("initrd /boot/initrd.img-{release}"));
        boot.event(46).digest = self.initrd(host, release).0;
        boot.event(46).data = format!("/boot/initrd.img-{release}").into_bytes();
        if host.patched {
            self.patch(&mut boot);
        }
        boot
    }

    /// What changes beside the kernel.
    fn patch(&self, boot: &mut Boot) {
        boot.event(2).digest = digest("new firmware, PEI").0;
        boot.event(3).digest = digest("new firmware, DXE").0;
        let dbx = VariableData::new(Guid::IMAGE_SECURITY_DATABASE, "dbx", DBX).unwrap();
        *boot.event(8) = Event::of(7, &dbx.octets());
        let image = PeImage::parse(&self.shim).unwrap();
        let shim = Shim::of_image(&image).unwrap();
        boot.event(24).digest = authenticode(&self.shim);
        let own = OwnMokVariables::default();
        boot.event(25).digest = sha256(&shim.mok_list(&own));
        boot.event(26).digest = sha256(&shim.mok_list_x(&own));
        let level = shim.previous_sbat_level().as_bytes();
        let level = VariableData::new(Guid::SHIM_LOCK, "SbatLevel", level).unwrap();
        *boot.event(27) = Event::of(7, &level.octets());
        boot.event(29).digest = shim.authorities()[0].digest;
    }

    fn initrd(&self, host: &Host, release: &str) -> EventDigest {
        digest(&format!("initrd {release} of {}", host.name))
    }

    fn evidence(&self, host: &Host) -> RecordedEvidence {
        let version = if host.patched { "new" } else { "old" };
        let files = [
            File::new("/usr/bin/qemu", &format!("qemu {version}")),
            File::new("/usr/bin/bash", "bash"),
        ];
        self.boot(host).with_files(&files)
    }

    fn set(&self) -> PolicySet {
        let documents = Documents {
            baselines: [("fleet".to_owned(), self.baseline.clone())].into(),
            ci_policies: [("files".to_owned(), self.files.clone())].into(),
            ..Documents::default()
        };
        PolicySet::compile(&PolicySelection::default(), &documents).unwrap()
    }
}

fn judge(set: &PolicySet, host: &Host, evidence: &RecordedEvidence, now: Time) -> Evaluation {
    let set = set.for_host(&host.record).unwrap();
    set.evaluate(&evidence.prove().unwrap(), now)
}

fn fleet() -> Fleet {
    let hosts = (0..HOSTS).map(|number| Host {
        name: format!("host-{number:02}"),
        root: format!("{number:08x}-4a5b-9f57"),
        patched: false,
        record: HostMeasurements::default(),
    });
    let files = ["qemu old", "bash"].map(|file| ("/usr/".to_owned(), digest(file)));
    let mut fleet = Fleet {
        shim: padded(shim_image(&certificate_like(), &[]).octets()),
        kernels: [(FORMER, image("kernel 1")), (NEW, image("kernel 2"))].into(),
        baseline: crate::compiling::small(),
        files: CiPolicy::of_files("today", source(), files),
        hosts: hosts.collect(),
    };
    for number in 0..HOSTS {
        let evidence = fleet.evidence(&fleet.hosts[number]).prove().unwrap();
        let parameters = proposed_parameters(&evidence);
        let whole = Baseline::of_evidence(&evidence, "host-00", &parameters).unwrap();
        let (shared, own) = whole.without_host_alternatives(&parameters);
        fleet.hosts[number].record = own;
        if number == 0 {
            fleet.baseline = shared;
        }
    }
    fleet
}

/// Everything that files determine is staged, and each host stages its initrd.
fn predict(fleet: &mut Fleet, expires: Time) {
    let label = |name: &str| Label {
        name: name.to_owned(),
        source: Source {
            kind: SourceKind::Package,
            of: name.to_owned(),
        },
        expires,
    };
    let baseline = fleet.baseline.clone();
    let own = OwnMokVariables::default();
    for prediction in [
        baseline.predict_shim(&label("shim 17"), &fleet.shim, &own),
        baseline.predict_kernel(&label("linux 2"), &fleet.kernels[NEW], Some(NEW)),
        baseline.predict_variable(&label("dbx today"), "dbx", DBX),
    ] {
        assert!(fleet.baseline.stage(&prediction.unwrap()) > 0);
    }
    fleet.files.sets.push(FileSet {
        name: "tomorrow".to_owned(),
        source: source(),
        state: State::Staged { expires },
        files: vec![PathFiles {
            path: "/usr/".to_owned(),
            digests: vec![digest("qemu new")],
        }],
    });
    for number in 0..HOSTS {
        let host = &fleet.hosts[number];
        let evidence = fleet.evidence(host).prove().unwrap();
        let initrd = [("/boot/initrd.img-6.1.0-1-amd64", fleet.initrd(host, NEW))];
        let claim = claim_of_next_boot(&evidence, &initrd, Some((FORMER, NEW)), "next").unwrap();
        let record = host
            .record
            .accept_claim(&claim, &host.name, expires)
            .unwrap();
        fleet.hosts[number].record = record;
    }
}

#[test]
fn a_patch_day_that_was_predicted_refuses_no_host_but_the_one_with_a_change_of_its_own() {
    let mut fleet = fleet();
    let set = fleet.set();
    for host in &fleet.hosts {
        let evaluation = judge(&set, host, &fleet.evidence(host), NOW);
        assert!(evaluation.is_healthy(), "{}: {evaluation}", host.name);
    }
    let expires = NOW.checked_add(Seconds::from_days(14)).unwrap();
    predict(&mut fleet, expires);

    // A canary boots the new firmware, which no file determines, and is approved.
    fleet.hosts[0].patched = true;
    let canary = &fleet.hosts[0];
    let evaluation = judge(&fleet.set(), canary, &fleet.evidence(canary), NOW);
    let told: Vec<_> = evaluation
        .differences()
        .iter()
        .map(|one| (one.pcr, one.event))
        .collect();
    assert_eq!(told, [(0, Some(2))], "{evaluation}");
    let record = &fleet.hosts[0].record;
    let approval = approve(
        ("fleet", &fleet.baseline),
        record,
        &evaluation,
        "BIOS 2",
        "me",
        NOW,
    );
    let approval = approval.unwrap();
    assert_eq!(approval.components, ["firmware"]);
    fleet.baseline = approval.baseline.unwrap();

    // The day: one host has a change that was not predicted.
    for host in &mut fleet.hosts {
        host.patched = true;
    }
    let set = fleet.set();
    let mut refused = Vec::new();
    let mut used = Vec::new();
    for (number, host) in fleet.hosts.iter().enumerate() {
        let mut evidence = fleet.evidence(host);
        if number == 17 {
            let mut boot = fleet.boot(host);
            boot.events.insert(30, Event::of(4, b"a tool of its own"));
            evidence = boot.with_files(&[]);
        }
        let evaluation = judge(&set, host, &evidence, NOW);
        if !evaluation.is_healthy() {
            let told = evaluation
                .differences()
                .iter()
                .map(|one| (one.pcr, one.event));
            refused.push((host.name.clone(), told.collect::<Vec<_>>()));
        }
        used.extend(evaluation.used().to_vec());
    }
    assert_eq!(refused, [("host-17".to_owned(), vec![(4, Some(31))])]);

    // After: what was booted is promoted, what no host has any more is retired, and all goes on after the expiry.
    for used in used.iter().filter(|used| used.staged && !used.of_host) {
        match used.document.as_str() {
            "fleet" => fleet
                .baseline
                .promote(&used.component, &used.alternative, "host-00", NOW),
            _ => fleet.files.promote(&used.alternative, "host-00", NOW),
        };
    }
    for host in &mut fleet.hosts {
        assert!(host.record.promote("initrd", "next", "itself", NOW));
    }
    let former = "as booted by host-00";
    let unused = fleet.baseline.unused("fleet", &used);
    let expected = ["firmware", "shim", "kernel", "secure-boot"];
    assert_eq!(
        unused,
        expected.map(|of| (of.to_owned(), former.to_owned()))
    );
    for (component, alternative) in unused {
        assert!(fleet.baseline.retire(&component, &alternative, NOW));
    }
    assert_eq!(
        fleet.baseline.remove_expired(expires),
        2,
        "SBAT levels that no host applied"
    );
    let set = fleet.set();
    for host in fleet.hosts.iter().filter(|host| host.name != "host-17") {
        let evaluation = judge(&set, host, &fleet.evidence(host), expires);
        assert!(evaluation.is_healthy(), "{}: {evaluation}", host.name);
    }
    // A host that goes back to what was retired is refused by name.
    fleet.hosts[3].patched = false;
    let host = &fleet.hosts[3];
    let evaluation = judge(&set, host, &fleet.evidence(host), expires);
    assert!(
        evaluation
            .to_string()
            .contains("`as booted by host-00` was retired"),
        "{evaluation}"
    );
}
