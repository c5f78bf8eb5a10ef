//! The main job with real VMs: prepared by their owner, started on guarded hosts, opened by their own TPMs, and refused.
//!
//! Hosts are agents in this process, with QEMU and swtpm as their children, and with TPMs in software of their own. The guest
//! is the demonstration guest: what it says on its serial port, only its opened disk can say.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hgs_agent::{Agent, Client, ClientError, MachineStatus, Migrated, Request, Settings};
use hgs_client::sealed_file::{self, SealedAnew};
use hgs_clock::{Clock as _, SystemClock};
use hgs_crypto::random::{self, System};
use hgs_crypto::{SecretBytes, hex};
use hgs_custody_tpm::simulator::{Simulator, SimulatorAuthority};
use hgs_pki::Thumbprint;
use hgs_protector::GuardianCertificates;
use hgs_server::Running;
use hgs_terminal::{Failure, Terminal};
use hgs_vm::description::{VmId, VmName};
use hgs_vm::image::{self, Hardware, Preparation, Root, demo};
use hgs_vm::parts::Parts;
use hgs_vm::protection::{Policy, Protection};
use hgs_vm::swtpm::StateKey;
use serde::de::DeserializeOwned;
use tokio::task::spawn_blocking;

use super::folder::Folder;
use super::participants::{Host, Owner, Urls};
use super::progress::Progress;
use super::scenario::{import, revoke};
use super::tpm;
use super::{failed, refuse_without};
use crate::failures::OrFail as _;
use crate::guardian::Home;
use crate::vm_image;
use crate::vm_image::keys::VmKeys;
use crate::vm_image::prepare::vtpm_maker;

/// How long a guest may take to say something, translated and on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);
/// What the guest says while it runs.
const HEARTBEAT: &str = "heartbeat";
/// What the guest says when its TPM does not open the disk.
const NOT_OPENED: &str = "the virtual TPM does not open the disk";

/// The hosts.
const NAMES: [&str; 3] = ["host-1", "host-2", "host-3"];

/// The programs that are needed. What is missing is named, or fetched, before anything begins.
pub(super) fn parts(terminal: &Terminal) -> Result<Parts, Failure> {
    refuse_without(&[Simulator::missing(), demo::missing()].concat())?;
    let parts = vm_image::parts(terminal)?;
    vm_image::tools(&parts)?;
    Ok(parts)
}

/// A host whose agent runs.
struct Guarded {
    host: Host,
    client: Client,
    agent: Agent,
}

/// Who owns the VMs: a guardian, and the keys for images.
struct VmOwner {
    guardian: Owner,
    keys: VmKeys,
    fabric: GuardianCertificates,
}

/// A VM as its owner hands it over, and the line that only its opened disk has.
struct Delivered {
    folder: PathBuf,
    line: String,
}

/// The life of a shielded VM.
pub(super) async fn shielded_machine(
    progress: &Progress<'_>,
    folder: &Folder,
    guardian: &Running,
    urls: &Urls,
    thumbprint: Thumbprint,
    parts: &Parts,
) -> Result<(), Failure> {
    let maker = tpm::new_maker()?;
    // They end with this function, after the agents.
    let machines = progress
        .step("hosts-boot", boot_hosts(folder, &maker))
        .await?;
    progress
        .step("attestation-mode-tpm", tpm::set_mode(guardian))
        .await?;
    progress
        .step("ek-root-add", tpm::add_ek_roots(guardian, &maker))
        .await?;
    let hosts = progress
        .step(
            "hosts-register",
            register(folder, guardian, urls, &machines),
        )
        .await?;
    progress
        .step(
            "baseline-add",
            tpm::add_baseline(folder, guardian, &hosts[0]),
        )
        .await?;
    let fabric = progress
        .step("guardian-import", import(folder, &hosts[0], thumbprint))
        .await?;
    let owner = progress
        .step("owner-new", new_owner(folder, fabric))
        .await?;
    let vm = progress
        .step("vm-prepare", prepare(folder, parts, &owner, "demo"))
        .await?;
    let [first, second, stranger] = progress
        .step("agents-start", start_agents(hosts, parts))
        .await?;
    let hosts = [&first, &second, &stranger];
    let told = on_hosts(progress, folder, guardian, parts, (&owner, &vm), hosts).await;
    for guarded in [first, second, stranger] {
        // What still runs belongs to nobody afterwards.
        let client = guarded.client.clone();
        let _ = spawn_blocking(move || end_all(&client)).await;
        guarded.agent.stop().await;
    }
    told
}

/// Three TPMs, into which the same boot was measured.
async fn boot_hosts(
    folder: &Folder,
    maker: &SimulatorAuthority,
) -> Result<([tpm::Machine; 3], String), Failure> {
    let boot = |name| {
        let mut machine = tpm::Machine::new(name, folder, maker)?;
        let events = machine.boot_reference()?;
        Ok::<_, Failure>((machine, events))
    };
    let ((first, events), (second, _), (third, _)) =
        (boot(NAMES[0])?, boot(NAMES[1])?, boot(NAMES[2])?);
    let detail =
        format!("{events} events of a real boot were measured into each of three TPMs in software");
    Ok(([first, second, third], detail))
}

/// The administrator registers two of three hosts.
async fn register(
    folder: &Folder,
    guardian: &Running,
    urls: &Urls,
    machines: &[tpm::Machine; 3],
) -> Result<([Host; 3], String), Failure> {
    let host = |number: usize| machines[number].host(NAMES[number], folder, urls);
    let hosts = [host(0)?, host(1)?, host(2)?];
    for host in &hosts[..2] {
        tpm::add_identity(folder, guardian, host).await?;
    }
    let detail = "host-1 and host-2 by the certificates of their TPMs, host-3 not".to_owned();
    Ok((hosts, detail))
}

async fn on_hosts(
    progress: &Progress<'_>,
    folder: &Folder,
    guardian: &Running,
    parts: &Parts,
    (owner, vm): (&Arc<VmOwner>, &Delivered),
    [first, second, stranger]: [&Guarded; 3],
) -> Result<(), Failure> {
    progress
        .step("vm-import", bring(first, &vm.folder, "demo"))
        .await?;
    progress.step("vm-start", start(first, "demo")).await?;
    progress
        .step("disk-opened", says(first, "demo", &vm.line))
        .await?;
    let refused = ask::<Migrated>(first, migrate_request("demo", stranger)?);
    progress
        .refusal("unattested-host-gets-no-running-vm", refused, |error| {
            error.to_string().contains("host-not-registered")
        })
        .await?;
    progress
        .step("vm-migrate-live", migrate(first, "demo", second))
        .await?;
    progress
        .step("guest-goes-on", says(second, "demo", HEARTBEAT))
        .await?;
    progress.step("vm-stop", stop(second, "demo")).await?;
    progress
        .step("vm-start-after-move", start(second, "demo"))
        .await?;
    progress
        .step("disk-opened-after-move", says(second, "demo", &vm.line))
        .await?;
    progress
        .step("vm-stop-after-move", stop(second, "demo"))
        .await?;

    // A cold move: the folder of the stopped VM goes to another host.
    let moved = second.host.agent_folders().host.state.join("vms/demo");
    progress
        .step("vm-import-unattested", bring(stranger, &moved, "demo"))
        .await?;
    let refused = ask::<MachineStatus>(stranger, start_request("demo"));
    progress
        .refusal("unattested-host-refused", refused, |error| {
            error.to_string().contains("is not registered")
        })
        .await?;

    let thief = progress
        .step("other-vm-prepare", prepare(folder, parts, owner, "thief"))
        .await?;
    std::fs::copy(vm.folder.join("disk.img"), thief.folder.join("disk.img")).map_err(failed)?;
    progress
        .step("stolen-disk-import", bring(first, &thief.folder, "thief"))
        .await?;
    progress
        .step("stolen-disk-start", start(first, "thief"))
        .await?;
    progress
        .step("stolen-disk-stays-closed", says(first, "thief", NOT_OPENED))
        .await?;

    progress
        .step("host-revoke", revoke(guardian, &second.host))
        .await?;
    let refused = ask::<MachineStatus>(second, start_request("demo"));
    progress
        .refusal("revoked-host-gets-no-vm", refused, |error| {
            error.to_string().contains("revoked")
        })
        .await
}

/// Keys that never leave the owner: those of a guardian, of Secure Boot, and of the authority for TPMs.
async fn new_owner(
    folder: &Folder,
    fabric: GuardianCertificates,
) -> Result<(Arc<VmOwner>, String), Failure> {
    let home = folder.work().join("owner");
    let made = spawn_blocking(move || {
        let now = SystemClock.now();
        let passphrase = SecretBytes::random(32, &mut System::new())?;
        hgs_files::private_folder(&home.join("guardians/owner"))?;
        let name = "owner".parse();
        let name = name.map_err(|error: &str| Failure::failed(error))?;
        let (keys, _) = VmKeys::open_or_make(&Home::new(home), &name, &passphrase, now)?;
        Ok::<_, Failure>(VmOwner {
            guardian: Owner::new(now)?,
            keys,
            fabric,
        })
    });
    let owner = made.await.map_err(failed)??;
    let thumbprint = owner
        .guardian
        .certificates
        .signing_certificate()
        .thumbprint();
    let detail = format!("a guardian {thumbprint}, keys of Secure Boot, an authority for TPMs");
    Ok((Arc::new(owner), detail))
}

/// The owner's part, away from the fabric: a VM whose disk opens with its own TPM, in the state of its signed start.
async fn prepare(
    folder: &Folder,
    parts: &Parts,
    owner: &Arc<VmOwner>,
    name: &'static str,
) -> Result<(Delivered, String), Failure> {
    let (work, parts, owner) = (folder.work().to_owned(), parts.clone(), Arc::clone(owner));
    let prepared = spawn_blocking(move || prepare_vm(&work, &parts, &owner, name));
    let (delivered, protector) = prepared.await.map_err(failed)??;
    let detail = format!(
        "an encrypted disk, a signed kernel image, a TPM with certificates, and the protector {protector}"
    );
    Ok((delivered, detail))
}

fn prepare_vm(
    work: &Path,
    parts: &Parts,
    owner: &VmOwner,
    name: &str,
) -> Result<(Delivered, String), Failure> {
    let VmOwner {
        guardian,
        keys,
        fabric,
    } = owner;
    let random = &mut System::new();
    let fabric = std::slice::from_ref(fabric);
    let id = VmId::new(random)?;
    // With a console, on which the guest is heard here.
    let protection = Protection {
        vm: id,
        policy: Policy::EncryptionSupported,
    };
    let document = SecretBytes::new(protection.to_json());
    let (certificates, own) = (&guardian.certificates, &mut &guardian.keys);
    let sealed = sealed_file::seal_anew(&document, certificates, fabric, own, random);
    let SealedAnew {
        key,
        protector,
        file,
    } = sealed.or_fail()?;
    let tools = vm_image::tools(parts)?;
    let kernel = parts.kernel().map_err(failed)?;
    let line = hex::encode(&random::array::<16>(random)?);
    let folder = work.join(name);
    let mut signing = &keys.keys;
    let mut make_vtpm = vtpm_maker(&tools, keys, name);
    let preparation = Preparation {
        target: &folder,
        hardware: Hardware::of_demonstration(
            VmName::try_from(name.to_owned()).map_err(Failure::failed)?,
            id,
        ),
        boot: keys.certificates.boot(&mut signing),
        kernel: Some((&kernel).into()),
        command_line: demo::COMMAND_LINE,
        root: Root::Demo(&line),
        state_key: &StateKey::of_transport_key(key.secret())?,
        protector: protector.octets(),
        protection: &file,
        make_vtpm: &mut make_vtpm,
    };
    image::prepare(preparation, &tools, &mut |_| ()).map_err(vm_image::image_failure)?;
    Ok((Delivered { folder, line }, protector.digest().to_string()))
}

async fn start_agents(hosts: [Host; 3], parts: &Parts) -> Result<([Guarded; 3], String), Failure> {
    let emulator = parts.emulator().map_err(failed)?;
    let mut guarded = Vec::new();
    for host in hosts {
        let folders = host.agent_folders();
        let client = Client::new(&folders.socket());
        let settings = Settings {
            emulator: Some(emulator.clone()),
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            ..Settings::default()
        };
        let agent = Agent::start(folders, settings).await.map_err(failed)?;
        guarded.push(Guarded {
            host,
            client,
            agent,
        });
    }
    let three = guarded.try_into();
    let three = three.map_err(|_| Failure::failed("there are not three hosts"))?;
    Ok((three, format!("three hosts with QEMU {}", emulator.version)))
}

/// Has the agent of a host move a running VM to another one.
async fn migrate(from: &Guarded, name: &str, to: &Guarded) -> Result<((), String), Failure> {
    let request = migrate_request(name, to)?;
    let moved: Migrated = ask(from, request).await.map_err(failed)?;
    let detail = format!(
        "{name} runs on {} ({}); disk, memory and TPM crossed under keys of this migration, and nothing is left on {}",
        to.host.name, moved.to, from.host.name
    );
    Ok(((), detail))
}

fn migrate_request(name: &str, to: &Guarded) -> Result<Request, Failure> {
    let address = to.agent.migration_address();
    let address = address.ok_or_else(|| Failure::failed("the agent does not listen"))?;
    Ok(Request::Migrate {
        name: name.to_owned(),
        to: address.to_string(),
    })
}

fn start_request(name: &str) -> Request {
    Request::Start {
        name: name.to_owned(),
        accept_other_state: false,
        previous_generation: false,
    }
}

/// Asks the agent of a host.
async fn ask<T: DeserializeOwned + Send + 'static>(
    guarded: &Guarded,
    request: Request,
) -> Result<T, ClientError> {
    let client = guarded.client.clone();
    let answer = spawn_blocking(move || client.ask(&request, |_| ()));
    answer
        .await
        .unwrap_or_else(|error| Err(ClientError::Answer(error.to_string())))
}

async fn bring(guarded: &Guarded, folder: &Path, name: &str) -> Result<((), String), Failure> {
    let request = Request::Import {
        folder: folder.to_owned(),
        name: Some(name.to_owned()),
    };
    ask::<MachineStatus>(guarded, request)
        .await
        .map_err(failed)?;
    Ok(((), format!("{name} is a VM of {}", guarded.host.name)))
}

async fn start(guarded: &Guarded, name: &str) -> Result<((), String), Failure> {
    let status: MachineStatus = ask(guarded, start_request(name)).await.map_err(failed)?;
    let accelerator = status.accelerator.unwrap_or_default();
    let detail = format!(
        "keys released; the TPM's state has its next key; {name} runs on {} ({accelerator})",
        guarded.host.name
    );
    Ok(((), detail))
}

async fn stop(guarded: &Guarded, name: &str) -> Result<((), String), Failure> {
    let request = Request::Stop {
        name: name.to_owned(),
        force: false,
    };
    let status: MachineStatus = ask(guarded, request).await.map_err(failed)?;
    match status.warnings.first() {
        None => Ok((
            (),
            "the guest shut down, and the TPM's state has another key".to_owned(),
        )),
        Some(warning) => Err(Failure::failed(warning)),
    }
}

/// Listens at the serial port until the guest says `text`.
async fn says(guarded: &Guarded, name: &str, text: &str) -> Result<((), String), Failure> {
    let (client, name, text) = (guarded.client.clone(), name.to_owned(), text.to_owned());
    let heard = spawn_blocking(move || listen(&client, &name, &text));
    Ok(((), heard.await.map_err(failed)??))
}

fn listen(client: &Client, name: &str, text: &str) -> Result<String, Failure> {
    let mut port = client.console(name).map_err(failed)?;
    let begun = Instant::now();
    port.get_ref()
        .set_read_timeout(Some(PATIENCE))
        .map_err(failed)?;
    let (mut heard, mut octets) = (String::new(), [0; 4096]);
    while begun.elapsed() < PATIENCE {
        let read = port.read(&mut octets).map_err(failed)?;
        heard.push_str(&String::from_utf8_lossy(&octets[..read]));
        // Of a line that has not ended, the rest may be missing.
        let (lines, _) = heard.rsplit_once('\n').unwrap_or_default();
        if let Some(line) = lines.lines().find(|line| line.contains(text)) {
            return Ok(format!("the guest says: {}", line.trim()));
        }
        if read == 0 {
            break;
        }
    }
    let last = heard.lines().last().unwrap_or_default();
    Err(Failure::failed(format!(
        "the guest did not say {text:?}; the last it said was {last:?}"
    )))
}

/// Ends what still runs on a host.
fn end_all(client: &Client) -> Result<(), ClientError> {
    for vm in client.list()? {
        let request = Request::Stop {
            name: vm.name,
            force: true,
        };
        // It may have ended by itself.
        let _ = client.ask::<MachineStatus>(&request, |_| ());
    }
    Ok(())
}
