//! The same main job with a host that attests by its TPM: a real boot is measured, approved, attested; then one event of it
//! is another, and the refusal names it.
//!
//! The TPM is one in software (swtpm), with a certificate of a maker that lives as long as the quickstart. The boot is a real
//! one: its log was recorded, and the TPM is extended with its digests in their order, as firmware and boot loaders do.

use std::fs;
use std::path::PathBuf;

use hgs_admin::Administration as _;
use hgs_admin::types::{AddEkRoots, AddHost, AddPolicyDocument, DocumentKind, SetServer};
use hgs_attest::Code as AttestationCode;
use hgs_attest::policy::{Baseline, Parameters};
use hgs_client::configuration::TpmSettings;
use hgs_client::service::Sides;
use hgs_client::tpm::OtherTpm;
use hgs_custody_tpm::simulator::{Simulator, SimulatorAuthority, SimulatorError, alter_event};
use hgs_pki::Thumbprint;
use hgs_pki::health::HealthKind;
use hgs_server::Running;
use hgs_terminal::{AtFault, Failure};

use super::folder::Folder;
use super::participants::{Host, Urls};
use super::progress::Progress;
use super::scenario::{
    administer, attest, attestation_code, power_on, power_on_again, prepare, revoke,
    revoked_host_gets_no_keys,
};
use super::{failed, refuse_without};

/// A boot of Debian 12 with Secure Boot, from OVMF by shim and GRUB to the kernel, as its kernel showed the log.
const BOOT: &[u8] = include_bytes!("boot/eventlog.bin");
/// The event in which shim measured the image of GRUB, into PCR 4.
const GRUB: usize = 30;
/// The name of the baseline.
const BASELINE: &str = "reference";

/// Refuses to begin if a program is missing, and says in which package it is.
pub(super) fn check_installed() -> Result<(), Failure> {
    refuse_without(&Simulator::missing())
}

fn simulator_failure(error: &SimulatorError) -> Failure {
    match error.package() {
        Some(package) => Failure::failed(error)
            .at_fault(AtFault::Operator)
            .remedy(format!(
                "install the package {package}: `apt install {package}`"
            )),
        None => Failure::of(error).at_fault(AtFault::Ourselves),
    }
}

/// Makes the maker of TPMs, which lives as long as the quickstart.
pub(super) fn new_maker() -> Result<SimulatorAuthority, Failure> {
    SimulatorAuthority::new().map_err(|error| simulator_failure(&error))
}

/// A TPM, and where the kernel of the host that has it shows the log of the boot.
pub(super) struct Machine {
    tpm: Simulator,
    log: PathBuf,
}

impl Machine {
    /// A TPM for the host `name`, with a certificate of its maker.
    pub(super) fn new(
        name: &str,
        folder: &Folder,
        maker: &SimulatorAuthority,
    ) -> Result<Self, Failure> {
        let tpm = Simulator::certified(maker).map_err(|error| simulator_failure(&error))?;
        let log = folder.work().join(format!("{name}.boot.log"));
        Ok(Self { tpm, log })
    }

    /// The host that has this TPM.
    pub(super) fn host(
        &self,
        name: &'static str,
        folder: &Folder,
        urls: &Urls,
    ) -> Result<Host, Failure> {
        let settings = TpmSettings {
            device: self.tpm.device(),
            event_log: self.log.clone(),
            // There is none: IMA measures files of a system that runs.
            ima_log: folder.work().join("ima.log"),
        };
        Host::with_tpm(name, folder.work(), urls, &settings)
    }

    /// Measures the reference boot.
    pub(super) fn boot_reference(&mut self) -> Result<usize, Failure> {
        self.boot(BOOT)
    }

    fn boot(&mut self, log: &[u8]) -> Result<usize, Failure> {
        let events = self.tpm.boot(log);
        fs::write(&self.log, log).map_err(failed)?;
        events.map_err(|error| simulator_failure(&error))
    }
}

/// The life of a shielded virtual machine on a host with a TPM.
pub(super) async fn shielded_machine(
    progress: &Progress<'_>,
    folder: &Folder,
    guardian: &Running,
    urls: &Urls,
    thumbprint: Thumbprint,
) -> Result<(), Failure> {
    let maker = new_maker()?;
    let mut machine = progress.step("tpm-new", new_tpm(folder, &maker)).await?;
    progress
        .step("boot", async {
            let events = machine.boot_reference()?;
            Ok((
                (),
                format!("{events} events of a real boot were measured into the TPM"),
            ))
        })
        .await?;
    progress
        .step("attestation-mode-tpm", set_mode(guardian))
        .await?;
    progress
        .step("ek-root-add", add_ek_roots(guardian, &maker))
        .await?;
    let host = progress
        .step("identity-add", register(folder, guardian, urls, &machine))
        .await?;
    let refused = host.host.attest(HealthKind::Encryption, Sides::Both);
    progress
        .refusal("unapproved-boot-refused", refused, |error| {
            attestation_code(error) == Some(AttestationCode::PolicyFailed)
        })
        .await?;
    progress
        .step("baseline-add", add_baseline(folder, guardian, &host))
        .await?;

    let vm = prepare(progress, folder, &host, thumbprint).await?;
    host.receive(vm.protector.octets(), &vm.sealed)?;
    progress.step("host-attest", attest(folder, &host)).await?;
    let first = progress
        .step("power-on", power_on(folder, &host, &vm))
        .await?;
    progress
        .step("power-on-again", power_on_again(&host, &vm, &first))
        .await?;
    altered_boot(progress, &mut machine, &host).await?;

    progress
        .step("host-revoke", revoke(guardian, &host))
        .await?;
    revoked_host_gets_no_keys(progress, &host).await
}

/// Something else is booted in one place, and the guardian says in which. The approved boot is good again.
async fn altered_boot(
    progress: &Progress<'_>,
    machine: &mut Machine,
    host: &Host,
) -> Result<(), Failure> {
    let altered = alter_event(BOOT, GRUB).map_err(failed)?;
    let altered = altered.ok_or_else(|| Failure::failed("the log lacks the event"))?;
    progress
        .step("boot-altered", async {
            let events = machine.boot(&altered)?;
            Ok((
                (),
                format!("{events} events, and event {GRUB} is of another boot loader"),
            ))
        })
        .await?;
    let refused = host.host.attest(HealthKind::Encryption, Sides::Both);
    let named = format!("event {GRUB}");
    progress
        .refusal("altered-boot-refused", refused, |error| {
            attestation_code(error) == Some(AttestationCode::PolicyFailed)
                && error.to_string().contains(&named)
        })
        .await?;
    progress
        .step("boot-again", async {
            machine.boot(BOOT)?;
            let attested = host.host.attest(HealthKind::Encryption, Sides::Both);
            attested.await.map_err(failed)?;
            Ok(((), "the approved boot attests again".to_owned()))
        })
        .await
}

async fn new_tpm(
    folder: &Folder,
    maker: &SimulatorAuthority,
) -> Result<(Machine, String), Failure> {
    let machine = Machine::new("host-1", folder, maker)?;
    let detail = format!(
        "a TPM in software with a certificate of its maker, at {}",
        machine.tpm.device()
    );
    Ok((machine, detail))
}

pub(super) async fn set_mode(guardian: &Running) -> Result<((), String), Failure> {
    let change = SetServer {
        attestation_mode: Some("tpm".to_owned()),
        ..SetServer::default()
    };
    administer(guardian, move |guardian| guardian.set_server(&change)).await?;
    Ok(((), "hosts attest by their TPMs from now on".to_owned()))
}

/// The administrator trusts the maker of the TPM.
pub(super) async fn add_ek_roots(
    guardian: &Running,
    maker: &SimulatorAuthority,
) -> Result<((), String), Failure> {
    let certificates = maker.certificates();
    let certificates = certificates.map_err(|error| simulator_failure(&error))?;
    let roots = AddEkRoots {
        certificates: certificates.concat(),
        root: None,
    };
    let added = administer(guardian, move |guardian| guardian.add_ek_roots(&roots)).await?;
    let names: Vec<_> = added.iter().map(|root| root.subject.as_str()).collect();
    Ok((
        (),
        format!("the maker of the TPM is trusted: {}", names.join(", ")),
    ))
}

/// The administrator registers the host by its platform identity, whose EK certificate leads to the maker.
async fn register(
    folder: &Folder,
    guardian: &Running,
    urls: &Urls,
    machine: &Machine,
) -> Result<(Host, String), Failure> {
    let host = machine.host("host-1", folder, urls)?;
    let digest = add_identity(folder, guardian, &host).await?;
    Ok((host, format!("host-1 by the endorsement key {digest}")))
}

/// Registers a host, and returns the digest of its endorsement key.
pub(super) async fn add_identity(
    folder: &Folder,
    guardian: &Running,
    host: &Host,
) -> Result<String, Failure> {
    let identity = host.host.platform_identity(OtherTpm::Refuse);
    let identity = identity.map_err(failed)?.to_json();
    folder.keep(&format!("{}.json", host.name), &identity)?;
    let identity = String::from_utf8(identity).map_err(failed)?;
    let add = AddHost {
        name: host.name.to_owned(),
        identity: Some(identity),
        ..AddHost::default()
    };
    let added = administer(guardian, move |guardian| guardian.add_host(&add)).await?;
    Ok(added.endorsement_key_digest.unwrap_or_default())
}

/// The administrator approves what this host has booted.
pub(super) async fn add_baseline(
    folder: &Folder,
    guardian: &Running,
    host: &Host,
) -> Result<((), String), Failure> {
    let evidence = host.host.evidence().map_err(failed)?;
    let evidence = evidence.prove().map_err(failed)?;
    let baseline = Baseline::of_evidence(&evidence, "the boot of host-1", &Parameters::new());
    let baseline = baseline.map_err(failed)?;
    let components = baseline.components.len();
    let document = baseline.to_json();
    folder.keep("baseline.json", document.as_bytes())?;
    administer(guardian, move |guardian| {
        guardian.add_policy_document(&AddPolicyDocument {
            name: BASELINE.to_owned(),
            kind: DocumentKind::Baseline,
            text: document,
            group: None,
        })
    })
    .await?;
    Ok((
        (),
        format!("what host-1 has booted is approved: {components} components"),
    ))
}
