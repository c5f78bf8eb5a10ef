//! A host with a TPM in software, from its identity to a refusal.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use hgs_attest::Credential;
use hgs_attest::platform_identity::PlatformIdentity;
use hgs_attest::policy::{Baseline, Documents, HostMeasurements, PolicySelection, PolicySet};
use hgs_attest::wire::AttestationOperationMode;
use hgs_clock::{Clock as _, SystemClock};
use hgs_custody_tpm::simulator::SimulatorAuthority;
use hgs_tcg::tpm::EndorsementKey;
use hgs_testkit::swtpm::{SoftwareTpm, altered_log};
use hgs_testkit::tool;

use crate::Folder;
use crate::guardian::{Manner, TestClock, TestGuardian};

const LOG: &[u8] = include_bytes!("../../../hgs-attest/tests/boots/secure-boot-on-eventlog.bin");
/// The event of the log in which GRUB's image is measured.
const GRUB: usize = 30;

fn with_tpm() -> (Folder, SoftwareTpm) {
    let folder = Folder::new();
    let mut tpm = SoftwareTpm::certified(&SimulatorAuthority::new().unwrap());
    let section = format!(
        "mode = \"local\"\n[tpm]\ndevice = \"{}\"\nevent_log = \"{}\"\nima_log = \"{}\"\n",
        tpm.device(),
        folder.path("log").display(),
        folder.path("ima").display(),
    );
    fs::write(folder.path("guarded-host.toml"), section).unwrap();
    (folder, tpm)
}

fn boot(folder: &Folder, tpm: &mut SoftwareTpm, log: &[u8]) {
    tpm.boot(log);
    fs::write(folder.path("log"), log).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_registered_by_its_tpm_attests_and_is_refused_by_name() {
    let (folder, mut tpm) = with_tpm();
    boot(&folder, &mut tpm, LOG);

    let summary = folder.json("identity export --out host.json");
    let octets = fs::read(folder.path("host.json")).unwrap();
    let identity = PlatformIdentity::from_json(&octets).unwrap();
    assert!(identity.endorsement_certificate().is_some());
    let issuer = summary["endorsement_certificate"]["issuer"].as_str();
    assert!(issuer.unwrap().contains("swtpm-localca"), "{summary}");

    folder.json("baseline export --out baseline.json --host-measurements own.json --evidence seen");
    let read = |name: &str| fs::read(folder.path(name)).unwrap();
    let baseline = Baseline::from_json(&read("baseline.json")).unwrap();
    let own = HostMeasurements::from_json(&read("own.json")).unwrap();
    assert_eq!(read("seen/eventlog.bin"), LOG);
    tpm.tool("tpm2_pcrread", &["sha256:all", "-o", "pcrs"]);
    let pcrs = fs::read(tpm.folder().join("pcrs")).unwrap();
    assert_eq!(read("seen/pcrs-sha256.bin"), pcrs);

    // Whoever calls the program sees the clock of the day.
    let clock = TestClock::at(SystemClock.now());
    let guardian = TestGuardian::start(&clock, 12).await;
    let documents = Documents {
        baselines: [("reference".to_owned(), baseline)].into(),
        ..Documents::default()
    };
    let group = PolicySet::compile(&PolicySelection::default(), &documents).unwrap();
    guardian.world().policies = Arc::new(group.for_host(&own).unwrap());
    guardian.world().manner = Manner::Mode(AttestationOperationMode::Tpm);
    let key = EndorsementKey::parse(identity.endorsement_public()).unwrap();
    guardian.register_as(Credential::EndorsementKey(Box::new(key)));

    folder.configure(&guardian);
    let attested = folder.json("attest");
    assert_eq!(attested.as_array().unwrap().len(), 2);
    let status = folder.json("status");
    assert_eq!(status["attestation_operation_mode"], "Tpm");
    assert_eq!(status["is_host_guarded"], true);
    let report = folder.json("trace");
    assert_eq!(report["root_causes"], serde_json::json!([]), "{report:#}");

    boot(&folder, &mut tpm, &altered_log(LOG, GRUB));
    let output = folder.run("attest");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("InsecureHostConfiguration (303), AttestationSubstatus: SecureBootSettings"),
        "{said}"
    );
    let error = folder.error("attest", 2);
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(&format!("event {GRUB}")), "{message}");
    assert!(message.contains("PCR 4"), "{message}");
    assert!(message.contains("reference"), "{message}");
    assert_eq!(error["at_fault"], "host");
    let status = folder.json("status");
    let substatus = &status["attestation_substatus"][0]["name"];
    assert_eq!(substatus, "SecureBootSettings");

    // A log of something else than what was booted.
    fs::write(folder.path("log"), LOG).unwrap();
    let output = folder.run("trace --json");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["root_causes"][0]["id"], "HGS-H022", "{report:#}");
    let error = folder.error("baseline export --out again.json", 2);
    assert!(error["message"].as_str().unwrap().contains("PCR 4"));
    assert!(!folder.path("again.json").exists());
}

#[test]
fn what_is_booted_next_is_staged_by_the_digest_of_its_file() {
    let (folder, mut tpm) = with_tpm();
    boot(&folder, &mut tpm, LOG);
    fs::write(folder.path("new-initrd"), b"the next initrd").unwrap();
    let staged =
        folder.json("baseline stage --file /initrd.gz=new-initrd --name next --out next.json");
    assert_eq!(staged["components"], serde_json::json!(["initrd"]));
    let octets = fs::read(folder.path("next.json")).unwrap();
    let claim = HostMeasurements::from_json(&octets).unwrap();
    let [component] = &claim.components[..] else {
        panic!("{claim:?}");
    };
    let judge = Command::new(tool("sha256sum", "coreutils"))
        .arg(folder.path("new-initrd"))
        .output()
        .unwrap();
    let digest = String::from_utf8_lossy(&judge.stdout)[..64].to_owned();
    let text = String::from_utf8_lossy(&octets);
    assert!(text.contains(&digest), "{text}");
    assert_eq!(component.alternatives[0].name, "next");

    let error = folder.error(
        "baseline stage --file /vmlinuz-x=new-initrd --name next --out none.json",
        2,
    );
    assert_eq!(error["at_fault"], "operator");
    assert!(!folder.path("none.json").exists());
    folder.error(
        "baseline stage --file /initrd.gz=absent --name next --out none.json",
        1,
    );
    folder.error("baseline stage --name next --out none.json", 64);
}

#[test]
fn a_machine_without_a_tpm_has_no_identity() {
    let folder = Folder::new();
    let none = folder.path("no-tpm").display().to_string();
    let section = format!("mode = \"local\"\n[tpm]\ndevice = \"{none}\"\n");
    fs::write(folder.path("guarded-host.toml"), section).unwrap();
    let error = folder.error("identity export --out host.json", 1);
    assert_eq!(error["at_fault"], "host");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.starts_with(&format!("there is no TPM at {none}")),
        "{message}"
    );
    assert!(error["remedy"].as_str().unwrap().contains("[tpm]"));
    assert!(!folder.path("host.json").exists());
}

#[test]
fn a_tpm_without_a_certificate_is_told_about() {
    let (folder, tpm) = with_tpm();
    drop(tpm);
    let mut tpm = SoftwareTpm::new();
    let section = format!("mode = \"local\"\n[tpm]\ndevice = \"{}\"\n", tpm.device());
    fs::write(folder.path("guarded-host.toml"), section).unwrap();
    let output = folder.run("identity export --out host.json");
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("--without-ek-certificate"), "{said}");
    let summary = folder.json("identity export --out again.json");
    assert_eq!(summary["endorsement_certificate"], serde_json::Value::Null);
}
