//! Attestation by a TPM in software, over HTTP, with a guardian that decides as the server does.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use hgs_attest::client::AttestationFailure;
use hgs_attest::client::rtpm::RtpmFault;
use hgs_attest::policy::{Baseline, Documents, Parameters, PolicySelection, PolicySet};
use hgs_attest::wire::AttestationOperationMode;
use hgs_attest::{Code, Credential};
use hgs_client::configuration::{Endpoints, TpmSettings};
use hgs_client::service::{Cause, Sides};
use hgs_client::tpm::OtherTpm;
use hgs_client::{Attestation, Error};
use hgs_custody_tpm::Tpm;
use hgs_pki::health::HealthKind;
use hgs_tcg::event_log::Bank;
use hgs_tcg::ima::{ImaLog, Limits};
use hgs_tcg::tpm::EndorsementKey;
use hgs_testkit::swtpm::{SoftwareTpm, altered_log};

use crate::guardian::{Manner, TestClock, TestGuardian, TestHost, nodes};
use crate::unwrap::Vm;

const LOG: &[u8] = include_bytes!("../../../hgs-attest/tests/boots/secure-boot-on-eventlog.bin");
const IMA: &[u8] = include_bytes!("../../../hgs-attest/tests/boots/secure-boot-on-ima.bin");
/// The event of the log in which GRUB's image is measured.
const GRUB: usize = 24;

/// A host with a TPM that has booted, and its guardian.
pub(crate) struct World {
    pub(crate) tpm: SoftwareTpm,
    pub(crate) host: TestHost,
    pub(crate) guardian: TestGuardian,
}

impl World {
    pub(crate) async fn new() -> Self {
        let clock = TestClock::new();
        let guardian = TestGuardian::start(&clock, 12).await;
        let endpoints = guardian.endpoints();
        Self::at(&clock, guardian, endpoints).await
    }

    /// With a guardian whose nodes are at `endpoints`.
    async fn at(clock: &TestClock, guardian: TestGuardian, endpoints: Endpoints) -> Self {
        let host = TestHost::new(clock, endpoints, None);
        let mut tpm = SoftwareTpm::new();
        let host = host.with_tpm(&TpmSettings {
            device: tpm.device(),
            event_log: tpm.folder().join("log"),
            ima_log: tpm.folder().join("ima"),
        });
        let mut world = Self {
            tpm,
            host,
            guardian,
        };
        world.boot(LOG);
        world.guardian.world().manner = Manner::Mode(AttestationOperationMode::Tpm);
        world.approve();
        let identity = world.host.host.platform_identity(OtherTpm::Refuse).unwrap();
        let key = EndorsementKey::parse(identity.endorsement_public()).unwrap();
        world
            .guardian
            .register_as(Credential::EndorsementKey(Box::new(key)));
        world
    }

    fn log(&self) -> PathBuf {
        self.tpm.folder().join("log")
    }

    /// Starts the machine anew.
    fn boot(&mut self, log: &[u8]) {
        self.tpm.boot(log);
        fs::write(self.log(), log).unwrap();
    }

    /// Has the guardian accept what is booted now, and nothing else.
    fn approve(&self) {
        let evidence = self.host.host.evidence().unwrap().prove().unwrap();
        let baseline = Baseline::of_evidence(&evidence, "test", &Parameters::new()).unwrap();
        let documents = Documents {
            baselines: [("reference".to_owned(), baseline)].into(),
            ..Documents::default()
        };
        let policies = PolicySet::compile(&PolicySelection::default(), &documents).unwrap();
        self.guardian.world().policies = Arc::new(policies);
    }

    async fn attest(&self) -> Result<Attestation, Error> {
        let kind = HealthKind::Encryption;
        self.host.host.attest(kind, Sides::Both).await
    }

    fn status(&self) -> &'static str {
        self.host.host.status().unwrap().attestation_status.name
    }

    /// How many identity keys the guardian has recorded.
    fn identity_keys(&self) -> usize {
        self.guardian.world().identity_keys(HealthKind::Encryption)
    }

    #[track_caller]
    pub(crate) fn assert_no_slot_is_taken(&mut self) {
        for which in ["handles-transient", "handles-loaded-session"] {
            let output = self.tpm.tool("tpm2_getcap", &[which]);
            assert!(output.stdout.is_empty(), "{output:?}");
        }
    }
}

fn refusal(error: &Error) -> (Option<Code>, String) {
    match error {
        Error::Services(services) => match &services.last().cause {
            Cause::Attestation(failure) => (failure.code(), failure.to_string()),
            other => panic!("not a refusal: {other}"),
        },
        other => panic!("not a refusal: {other}"),
    }
}

#[tokio::test]
async fn a_host_attests_by_its_tpm_and_unwraps_with_a_key_in_it() {
    let mut world = World::new().await;
    let attestation = world.attest().await.unwrap();
    assert_eq!(world.status(), "Passed");
    let status = world.host.host.status().unwrap();
    assert_eq!(status.attestation_operation_mode.as_deref(), Some("Tpm"));
    assert!(status.is_host_guarded);
    world.assert_no_slot_is_taken();

    // The key is in no file of the host in another form than that which the TPM has encrypted.
    let vm = Vm::of("fabric");
    vm.start(&world.host).await.unwrap();
    world.assert_no_slot_is_taken();
    vm.start(&world.host).await.unwrap();

    // The same key again, which the guardian has recorded.
    let again = world.attest().await.unwrap();
    assert_eq!(
        again.certificate.public_key(),
        attestation.certificate.public_key()
    );
    assert_eq!(world.identity_keys(), 1);

    let signing = world.host.host.attest(HealthKind::Signing, Sides::Both);
    let signing = signing.await.unwrap();
    assert_ne!(
        signing.certificate.public_key(),
        attestation.certificate.public_key()
    );
    world.assert_no_slot_is_taken();
}

#[tokio::test]
async fn a_boot_with_one_other_event_is_refused_and_its_certificate_is_dropped() {
    let mut world = World::new().await;
    world.attest().await.unwrap();
    world.boot(&altered_log(LOG, GRUB));
    let error = world.attest().await.unwrap_err();
    let (code, message) = refusal(&error);
    assert!(error.is_refusal());
    assert_eq!(code.map(Code::status), Some(403), "{message}");
    assert!(message.contains(&format!("event {GRUB}")), "{message}");
    assert_eq!(world.status(), "InsecureHostConfiguration");
    let substatus = world.host.host.status().unwrap().attestation_substatus;
    assert_eq!(substatus[0].name, "SecureBootSettings");
    assert!(!world.host.host.status().unwrap().is_host_guarded);
    world.assert_no_slot_is_taken();

    // A log that says what should have been booted does not help.
    fs::write(world.log(), LOG).unwrap();
    let error = world.attest().await.unwrap_err();
    assert!(error.to_string().contains("PCR 4"), "{error}");

    world.boot(LOG);
    world.attest().await.unwrap();
    assert_eq!(world.status(), "Passed");
}

#[tokio::test]
async fn after_a_patch_a_new_key_is_made_without_an_error() {
    let mut world = World::new().await;
    let before = world.attest().await.unwrap();
    let vm = Vm::of("fabric");
    vm.start(&world.host).await.unwrap();

    world.boot(&altered_log(LOG, GRUB));
    world.approve();
    // The certificate is valid, but the TPM does not work with its key any more.
    vm.start(&world.host).await.unwrap();
    let after = world.attest().await.unwrap();
    assert_ne!(
        before.certificate.public_key(),
        after.certificate.public_key()
    );
    assert_eq!(world.identity_keys(), 2);
}

#[tokio::test]
async fn a_cleared_tpm_has_a_new_key_made() {
    let mut world = World::new().await;
    world.attest().await.unwrap();
    let vm = Vm::of("fabric");
    vm.start(&world.host).await.unwrap();
    // What was under the storage root key is void; the endorsement key stays.
    world.tpm.tool("tpm2_clear", &[]);
    vm.start(&world.host).await.unwrap();
    assert_eq!(world.identity_keys(), 2);
}

#[tokio::test]
async fn another_tpm_is_noticed_by_the_host() {
    let world = World::new().await;
    world.attest().await.unwrap();
    let mut other = SoftwareTpm::new();
    other.boot(LOG);
    let host = world.host.with_tpm(&TpmSettings {
        device: other.device(),
        event_log: world.tpm.folder().join("log"),
        ima_log: world.tpm.folder().join("ima"),
    });
    let error = host.host.attest(HealthKind::Encryption, Sides::Both).await;
    let error = error.unwrap_err();
    assert!(
        error.to_string().contains("another endorsement key"),
        "{error}"
    );
    assert!(error.remedy().unwrap().contains("--other-tpm"));
    let refused = host.host.platform_identity(OtherTpm::Refuse).unwrap_err();
    assert!(refused.to_string().contains("another endorsement key"));
    host.host.platform_identity(OtherTpm::Accept).unwrap();
    // Now it is the guardian that does not know it.
    let error = host.host.attest(HealthKind::Encryption, Sides::Both).await;
    let (code, message) = refusal(&error.unwrap_err());
    assert_eq!(code.map(Code::status), Some(403), "{message}");
}

#[tokio::test]
async fn the_mode_is_followed_when_it_changes_after_it_was_told() {
    let world = World::new().await;
    world.guardian.register(&world.host);
    // A cache on the way still says that the guardian attests by host keys.
    world.guardian.world().stale_info = 1;
    world.guardian.requests();
    world.attest().await.unwrap();
    let requests = world.guardian.requests();
    assert_eq!(requests[1], "/Attestation/v2.0/hostkeyattest");
    assert!(requests.iter().any(|path| path.ends_with("/v2.0/attest")));
    let status = world.host.host.status().unwrap();
    assert_eq!(status.attestation_operation_mode.as_deref(), Some("Tpm"));
    assert_eq!(status.health_certificates.len(), 1);

    // And back: of one service there is a certificate in one mode.
    world.guardian.world().manner = Manner::Proper;
    world.attest().await.unwrap();
    let status = world.host.host.status().unwrap();
    assert_eq!(
        status.attestation_operation_mode.as_deref(),
        Some("HostKey")
    );
    assert_eq!(status.health_certificates.len(), 1);
}

#[tokio::test]
async fn a_rehearsal_in_tpm_mode_asks_for_nothing() {
    let world = World::new().await;
    world.guardian.requests();
    let kinds = [HealthKind::Encryption];
    let rehearsal = world.host.host.rehearse_attestation(&kinds, Sides::Both);
    let rehearsal = rehearsal.await.unwrap();
    assert!(rehearsal.is_ready());
    assert_eq!(rehearsal.host_key, None);
    assert!(rehearsal.endorsement_key.is_some());
    assert!(rehearsal.services[0].url.ends_with("/v2.0/attest"));
    assert_eq!(rehearsal.requests[0].identity_key, None);
    assert_eq!(world.guardian.requests(), ["/Attestation/getinfo"]);
}

#[tokio::test]
async fn a_tpm_without_a_log_has_its_own_refusal() {
    let world = World::new().await;
    fs::remove_file(world.log()).unwrap();
    let error = world.attest().await.unwrap_err();
    let (_, message) = refusal(&error);
    assert!(message.contains("no event log"), "{message}");
}

#[tokio::test]
async fn the_log_of_ima_is_sent_and_has_to_lead_to_pcr_10() {
    let mut world = World::new().await;
    let log = ImaLog::read(IMA.to_vec(), &Limits::LOG).unwrap();
    let extend = |device, digests: Vec<[u8; 32]>| {
        let mut tpm = Tpm::open(&device, None).unwrap();
        for digest in digests {
            tpm.extend_pcr(10, &digest).unwrap();
        }
    };
    let digests = log.unverified().entries().map(|entry| {
        let digest = entry.extension(Bank::Sha256);
        digest.as_bytes().try_into().unwrap()
    });
    extend(world.tpm.device(), digests.collect());
    fs::write(world.tpm.folder().join("ima"), IMA).unwrap();
    world.attest().await.unwrap();
    let evidence = world.host.host.evidence().unwrap();
    assert_eq!(evidence.prove().unwrap().ima().unwrap().later_entries(), 0);

    // Something is measured that the log does not tell of.
    extend(world.tpm.device(), vec![[1; 32]]);
    let error = world.attest().await.unwrap_err();
    let (code, message) = refusal(&error);
    assert_eq!(code, Some(Code::ImaLogMismatch), "{message}");
    let status = world.host.host.status().unwrap();
    assert_eq!(status.attestation_substatus[0].name, "TcgLogVerification");
    // The key is not bound to PCR 10: what IMA sees voids nothing before the next attestation.
    fs::remove_file(world.tpm.folder().join("ima")).unwrap();
    world.attest().await.unwrap();
    assert_eq!(world.identity_keys(), 1);
}

#[tokio::test]
async fn a_foreign_command_is_not_executed() {
    let mut world = World::new().await;
    // TPM2_Clear with the lockout hierarchy's empty password, in place of what is asked first.
    world.guardian.world().foreign_command = Some(vec![
        0x80, 2, 0, 0, 0, 27, 0, 0, 1, 0x26, 0x40, 0, 0, 0x0a, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0,
        0, 0,
    ]);
    let error = world.attest().await.unwrap_err();
    let Error::Services(services) = &error else {
        panic!("{error}");
    };
    assert!(matches!(
        services.last().cause,
        Cause::Attestation(AttestationFailure::Rtpm(RtpmFault::Foreign(_)))
    ));
    assert_eq!(error.fault(), hgs_client::Fault::Guardian);
    world.assert_no_slot_is_taken();
}

/// Between two requests a server keeps nothing: whichever node has the next one goes on.
#[tokio::test]
async fn an_exchange_goes_on_at_another_node_when_one_is_lost_in_it() {
    // All requests of an exchange, and what comes before and after it.
    for answered in 1..8 {
        let clock = TestClock::new();
        let guardian = TestGuardian::start(&clock, 12).await;
        let node = guardian.node_for(answered).await;
        let both = nodes(&[&node.endpoints, &guardian.endpoints()]);
        let mut world = World::at(&clock, guardian, both).await;
        world.attest().await.unwrap();
        // It begins with any of them.
        while !node.is_gone() {
            world.host = world.host.restarted();
            world.attest().await.unwrap();
        }
        assert_eq!(world.identity_keys(), 1, "after {answered}");
        world.assert_no_slot_is_taken();
    }
}
