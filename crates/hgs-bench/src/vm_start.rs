//! What the start of a VM by the agent costs, beside what QEMU and swtpm need for it alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hgs_agent::{Agent, AgentFolders, Client, MachineStatus, Request, Settings};
use hgs_client::sealed_file::{self, SealedAnew};
use hgs_client::{Folders, GuardedHost};
use hgs_crypto::SecretBytes;
use hgs_crypto::random::System;
use hgs_kps::ServiceVersion;
use hgs_protector::GuardianCertificates;
use hgs_testkit::fixtures::{Guardian, Keys};
use hgs_vm::description::{Description, VmId};
use hgs_vm::generation::StateFolder;
use hgs_vm::parts::Parts;
use hgs_vm::program::Program;
use hgs_vm::protection::{self, Policy, Protection};
use hgs_vm::qemu::Emulator;
use hgs_vm::qemu::accelerator::Accelerator;
use hgs_vm::qemu::command::{self, Begin, CommandLine, RuntimeFolder, Serial};
use hgs_vm::qemu::process::{self, Lifetime, Process};
use hgs_vm::swtpm::{self, Channels, Contents, StateKey, Swtpm};

use crate::http::{attested, fabric, serve};
use crate::measure::{Effort, Outcome, median};
use crate::vm;

/// A VM with an empty disk: what is measured is over before the firmware reads it.
const DESCRIPTION: &str = r#"
name = "bench"
id = "6f2d1c3e-8d0a-4a53-9f1c-0b7f6a1e2d3c"
memory = "256MiB"
processors = 1
[firmware]
profile = "secure-boot"
variables = "firmware-vars.fd"
[disk]
file = "disk.img"
format = "raw"
"#;
const DISK_OCTETS: usize = 1024 * 1024;
const NAME: &str = "bench";
const PATIENCE: Duration = Duration::from_secs(60);

/// Milliseconds of the parts of one start.
struct Round {
    /// From the request to its answer.
    agent: f64,
    /// QEMU with its TPM, from its start to its first answer.
    emulator: f64,
    /// swtpm four times: three for the new key, one for the VM.
    tpm: f64,
    /// A release, asked for over HTTP.
    release: f64,
}

/// Prints what a start costs, in milliseconds of a clock: what takes the time is other processes and the disk.
pub(crate) fn by_the_agent(effort: Effort) -> Outcome<()> {
    let Ok(emulator) = emulator() else {
        println!(
            "\nleft out: the start of VMs (install qemu-system-x86 and ovmf, or run `hgs quickstart --vm` once)"
        );
        return Ok(());
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let root = tempfile::tempdir_in("/tmp")?;
    let rounds = runtime.block_on(measure(effort, root.path(), &emulator))?;
    let of = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure));
    println!(
        "\n| start of a VM, ms | QEMU alone | swtpm alone, four times | a release alone | what the agent adds to QEMU and swtpm |"
    );
    println!("|---|---|---|---|---|");
    println!(
        "| {:.0} | {:.0} | {:.0} | {:.1} | {:.0} |",
        of(|round| round.agent),
        of(|round| round.emulator),
        of(|round| round.tpm),
        of(|round| round.release),
        of(|round| round.agent - round.emulator - round.tpm),
    );
    Ok(())
}

/// QEMU with its firmware: the installed one, or the one that was fetched for trials.
fn emulator() -> Outcome<Emulator> {
    let cache = Parts::cache_folder(|name| std::env::var_os(name))?;
    let parts = Parts::open(&cache)?.ok_or("nothing was fetched")?;
    Ok(parts.emulator()?)
}

async fn measure(effort: Effort, root: &Path, emulator: &Emulator) -> Outcome<Vec<Round>> {
    let (running, target) = serve(&root.join("guardian")).await?;
    let home = root.join("host");
    let (host, _) = attested(&home, &target, NAME).await?;
    let fabric = fabric(&host, &target).await?;
    let protector = deliver(&root.join("delivered"), emulator, &fabric)?;
    deliver(&root.join("alone"), emulator, &fabric)?;

    let folders = AgentFolders {
        host: Folders::inside(&home),
        runtime: root.join("run"),
    };
    let client = Client::new(&folders.socket());
    let settings = Settings {
        emulator: Some(emulator.clone()),
        ..Settings::default()
    };
    let agent = Agent::start(folders, settings).await?;
    let folder = root.join("delivered");
    ask(&client, Request::Import { folder, name: None }).await?;
    let alone = Alone {
        folder: root.join("alone"),
        runtime: root.join("run/alone"),
        emulator,
    };
    let mut rounds = Vec::new();
    // The first start finds out whether KVM works, once for each start of the host.
    start(&client).await?;
    for _ in 0..effort.loads() {
        rounds.push(Round {
            agent: start(&client).await?,
            emulator: alone.start()?,
            tpm: alone.tpm()?,
            release: release(&host, &protector).await?,
        });
    }
    agent.stop().await;
    let _ = running.shutdown().await;
    Ok(rounds)
}

/// Makes a VM as its owner delivers it, and returns its protector.
fn deliver(folder: &Path, emulator: &Emulator, fabric: &GuardianCertificates) -> Outcome<Vec<u8>> {
    let random = &mut System::new();
    let owner = Guardian::named("owner");
    let fabric = std::slice::from_ref(fabric);
    let protection = SecretBytes::new(protection(Description::read(DESCRIPTION)?.id).to_json());
    let (certificates, keys) = (&owner.certificates, &mut &Keys::of(&[owner]));
    let SealedAnew {
        key,
        protector,
        file,
    } = sealed_file::seal_anew(&protection, certificates, fabric, keys, random)?;

    let mut state = StateFolder::create(folder)?;
    fs::write(folder.join("vm.toml"), DESCRIPTION)?;
    fs::copy(
        &emulator.ovmf.empty_variables,
        folder.join("firmware-vars.fd"),
    )?;
    fs::write(folder.join("disk.img"), vec![0; DISK_OCTETS])?;
    let staged = state.stage()?;
    let swtpm = Program::installed("swtpm");
    let key = StateKey::of_transport_key(key.secret())?;
    vm::run(&swtpm, staged.path(), Contents::New, &key)?;
    fs::write(staged.path().join(protection::SEALED_FILE), file)?;
    state.settle(staged, protector.octets())?;
    Ok(protector.octets().to_vec())
}

const fn protection(vm: VmId) -> Protection {
    Protection {
        vm,
        policy: Policy::Shielded,
    }
}

async fn ask(client: &Client, request: Request) -> Outcome<MachineStatus> {
    let client = client.clone();
    let asked = tokio::task::spawn_blocking(move || client.ask(&request, |_| ()));
    Ok(asked.await??)
}

/// How long the agent takes to start the VM, which is ended again.
async fn start(client: &Client) -> Outcome<f64> {
    let name = NAME.to_owned();
    let begun = Instant::now();
    ask(
        client,
        Request::Start {
            name,
            accept_other_state: false,
            previous_generation: false,
        },
    )
    .await?;
    let taken = millis(begun);
    let name = NAME.to_owned();
    ask(client, Request::Stop { name, force: true }).await?;
    Ok(taken)
}

async fn release(host: &GuardedHost, protector: &[u8]) -> Outcome<f64> {
    let begun = Instant::now();
    host.unwrap(protector, ServiceVersion::V2).await?;
    Ok(millis(begun))
}

/// The same VM without an agent.
struct Alone<'a> {
    folder: PathBuf,
    runtime: PathBuf,
    emulator: &'a Emulator,
}

impl Alone<'_> {
    /// How long QEMU takes, with a TPM that waits for it.
    fn start(&self) -> Outcome<f64> {
        let description = Description::load(&self.folder)?;
        let runtime = RuntimeFolder::at(&self.runtime)?;
        hgs_files::private_folder(runtime.path())?;
        let line = CommandLine::new(&command::Machine {
            description: &description,
            protection: &protection(description.id),
            folder: &self.folder,
            runtime: &runtime,
            emulator: self.emulator,
            accelerator: &Accelerator::Tcg {
                reason: String::new(),
            },
            serial: Serial::None,
            direct_io: false,
            begin: Begin::Running,
        })?;
        let socket = runtime.swtpm_socket();
        let tpm = tempfile::tempdir_in(&self.folder)?;
        let mut tpm = Swtpm::start(&swtpm::Settings {
            program: &Program::installed("swtpm"),
            folder: tpm.path(),
            contents: Contents::New,
            key: &StateKey::random(&mut System::new())?,
            migration_key: None,
            channels: Channels::Hypervisor(&socket),
        })?;
        tpm.hand_over();
        let begun = Instant::now();
        let mut process = Process::start(
            &line,
            &process::Settings {
                runtime: &runtime,
                user: None,
                lifetime: Lifetime::Own,
                patience: PATIENCE,
            },
        )?;
        let taken = millis(begun);
        process.kill()?;
        Ok(taken)
    }

    /// How long swtpm takes to start, open the state and end, four times.
    fn tpm(&self) -> Outcome<f64> {
        let (folder, key) = (tempfile::tempdir()?, StateKey::random(&mut System::new())?);
        let swtpm = Program::installed("swtpm");
        vm::run(&swtpm, folder.path(), Contents::New, &key)?;
        let mut sum = Duration::ZERO;
        for _ in 0..4 {
            sum += vm::run(&swtpm, folder.path(), Contents::Kept, &key)?;
        }
        Ok(sum.as_secs_f64() * 1e3)
    }
}

fn millis(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}
