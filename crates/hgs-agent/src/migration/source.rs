//! The source: offers a VM, sends it, and lets go of it when it runs elsewhere.
//!
//! Until [`Command::Run`] is sent, every failure leaves the VM running here. From then on the source does not run it again
//! before the destination has said that it never will: it asks until it knows.

use std::net::SocketAddr;
use std::time::Duration;

use hgs_client::Fault;
use hgs_crypto::hash::sha256;
use hgs_crypto::{hex, random};
use hgs_vm::description::{Description, FileName};
use hgs_vm::qemu::accelerator;
use hgs_vm::qemu::qmp::{
    Endpoint, GivenDescriptor, Migration, MigrationAddress, MigrationParameters, MigrationStatus,
    RunState,
};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, sleep, timeout};

use super::authority::{Authority, DESTINATION_NAME};
use super::channel::{Channel, ChannelError};
use super::listener::DEFAULT_PORT;
use super::message::{
    Answer, Carrier, Command, LIMIT, OfferedFile, Opening, Outcome, PIECE, Ready, RunningMachine,
    Settlement, Stage,
};
use super::pairing::{self, Credentials, OfferedVm, Paired, answered};
use super::proof::Side;
use super::records::{Departed, Identity, Records};
use super::wiring::{CONNECT, CREDENTIALS, DISK, MEMORY, Wiring};
use crate::failure::blocking;
use crate::machine::Machine;
use crate::machine::running::Running;
use crate::progress::Progress;
use crate::wire::AgentFailure;

/// How often QEMU and the destination are asked how far they are.
const BETWEEN: Duration = Duration::from_millis(200);
/// How often the destination is asked while QEMU works: it takes a source for gone that says nothing for long.
const ASK: Duration = Duration::from_secs(2);
/// Octets a second at most: as many as there may be.
const BANDWIDTH: u64 = 1 << 40;
/// How long a source waits before it asks again how a migration ended.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Where a VM goes: the address that an operator gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    host: String,
    port: u16,
}

/// What became of a VM that did not simply move.
#[derive(Debug)]
pub(crate) enum NotMoved {
    /// It runs here.
    Stays(AgentFailure),
    /// It does not run here, and may run there.
    Unknown(Departed, AgentFailure),
}

impl From<ChannelError> for NotMoved {
    fn from(error: ChannelError) -> Self {
        Self::Stays(error.into())
    }
}

/// The destination of a VM that runs there, and waits to hear that this host has deleted what it had.
pub(crate) struct Gone(Channel);

impl Gone {
    /// It need not remember how the migration ended.
    pub(crate) async fn forget(mut self) {
        let _ = self.0.send(&Command::Forget).await;
    }
}

impl From<AgentFailure> for NotMoved {
    fn from(failure: AgentFailure) -> Self {
        Self::Stays(failure)
    }
}

impl std::str::FromStr for Destination {
    type Err = AgentFailure;

    /// `HOST`, `HOST:PORT`, `[ADDRESS]:PORT`, or an address of IPv6 alone.
    fn from_str(text: &str) -> Result<Self, AgentFailure> {
        let invalid = || {
            AgentFailure::refused(format_args!(
                "{text:?} is no host to migrate to: a name or an address, and `:PORT` if it is not {DEFAULT_PORT}"
            ))
            .at_fault(Fault::Operator)
        };
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']').ok_or_else(invalid)?;
                let port = match rest {
                    "" => None,
                    rest => Some(rest.strip_prefix(':').ok_or_else(invalid)?),
                };
                (address, port)
            }
            None => match text.split_once(':') {
                Some((_, rest)) if rest.contains(':') => (text, None),
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = port.map_or(Ok(DEFAULT_PORT), str::parse);
        let port = port.map_err(|_| invalid())?;
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '%');
        let is_name = !host.is_empty() && host.len() <= 255 && host.chars().all(named);
        match is_name && port != 0 {
            true => Ok(Self {
                host: host.to_owned(),
                port,
            }),
            false => Err(invalid()),
        }
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(formatter, "[{}]:{}", self.host, self.port),
            false => write!(formatter, "{}:{}", self.host, self.port),
        }
    }
}

impl Destination {
    pub(crate) async fn connect(&self) -> Result<(TcpStream, SocketAddr), AgentFailure> {
        let failed = |error: &dyn std::fmt::Display| {
            AgentFailure::failed(format_args!("{self} can't be reached: {error}"))
                .at_fault(Fault::Network)
                .remedy("the agent there must run with `--listen`, and its port must be open between the hosts")
        };
        let addresses = lookup_host((self.host.as_str(), self.port)).await;
        let mut last = failed(&"the name has no address");
        for address in addresses.map_err(|error| failed(&error))? {
            match timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok((stream, address)),
                Ok(Err(error)) => last = failed(&error),
                Err(_) => last = failed(&format_args!("no answer within {} s", CONNECT.as_secs())),
            }
        }
        Err(last)
    }
}

/// Moves a running VM. When this returns without an error, the VM runs at the destination, and this host has to let go of it.
pub(crate) async fn send(
    machine: &Machine,
    running: &mut Running,
    to: &Destination,
    progress: &Progress,
) -> Result<Gone, NotMoved> {
    let surroundings = machine.surroundings();
    let (folder, host) = (machine.folder(), &surroundings.host);
    let description = blocking(move || Ok(Description::load(&folder)?)).await?;
    let vm = offered(machine, running, &description).await?;
    progress.step(&format!("asking {to} to take the VM"));
    let credentials = Credentials::of(host).await?;
    let (stream, address) = to.connect().await?;
    let key = running.proof_key(host).await?;
    let mut paired = pairing::offer(stream, &credentials, &vm, key).await?;
    let Carrier::Agent(offered) = &vm.carrier else {
        return Err(AgentFailure::failed("libvirt moves this VM").into());
    };
    for (file, announced) in files(&description).into_iter().zip(&offered.files) {
        progress.step(&format!("sending {}", file.as_str()));
        send_file(machine, file, announced.octets, &mut paired.channel).await?;
    }
    let ready: Ready = answered(paired.channel.receive(LIMIT).await?)?;
    let identity = Identity::of(&ready)?;

    let (runtime, user) = (machine.runtime()?, surroundings.emulator()?.1);
    let (authority, peer) = (paired.authority.clone(), paired.peer_authority.clone());
    let mut wiring =
        blocking(move || Wiring::new(&runtime, user, Side::Source, &authority, &peer)).await?;
    wiring.send(MEMORY, address, ready.memory.0)?;
    if let Some(token) = ready.disk {
        wiring.send(DISK, address, token.0)?;
    }
    let given = give(running, &wiring).await?;
    let mut outgoing = Outgoing {
        running,
        paired,
        given,
        has_disk: offered.disk.is_some(),
        progress,
        heard: Instant::now(),
    };
    let sent = outgoing.transfer().await;
    let records = Records::in_state(&surroundings.folders.host.state);
    if let Err(failure) = sent {
        let failure = outgoing.come_back(wiring, failure).await;
        return Err(NotMoved::Stays(failure));
    }
    let departed = Departed::new(address.to_string(), &identity);
    if let Err(failure) = records.departed(machine.name(), &departed) {
        let failure = outgoing.come_back(wiring, failure).await;
        return Err(NotMoved::Stays(failure));
    }
    // From here on this host does not run it again unless the destination says that it will not.
    progress.step("the destination takes over");
    let channel = &mut outgoing.paired.channel;
    let told = run_there(channel).await;
    match told {
        Ok(()) => Ok(Gone(outgoing.paired.channel)),
        Err(failure) => match ask(&departed).await {
            Ok((Outcome::Taken, gone)) => Ok(gone),
            Ok((Outcome::Discarded, gone)) => {
                let failure = outgoing.come_back(wiring, failure).await;
                records.forget_departed(machine.name())?;
                gone.forget().await;
                Err(NotMoved::Stays(failure))
            }
            Ok((Outcome::Pending, _)) | Err(_) => Err(NotMoved::Unknown(departed, failure)),
        },
    }
}

async fn run_there(channel: &mut Channel) -> Result<(), AgentFailure> {
    channel.send(&Command::Run).await?;
    match answered(channel.receive_soon(LIMIT).await?)? {
        Stage::Runs => Ok(()),
        other => Err(AgentFailure::failed(format_args!(
            "the destination was told to run the VM, and says {other:?}"
        ))
        .at_fault(Fault::Host)),
    }
}

/// Everything but the disk.
fn files(description: &Description) -> Vec<&FileName> {
    let disk = description.disk.as_ref().map(|disk| &disk.file);
    let mut files = description.files();
    files.retain(|file| Some(*file) != disk);
    files
}

async fn offered(
    machine: &Machine,
    running: &Running,
    description: &Description,
) -> Result<OfferedVm, AgentFailure> {
    let (machine_type, emulator, accelerated, disk) = running
        .monitor(|monitor| {
            Ok((
                monitor.machine_type()?,
                monitor.version()?,
                monitor.is_accelerated()?,
                monitor.disk_size()?,
            ))
        })
        .await?;
    let mut offered = Vec::new();
    for file in files(description) {
        let path = file.within(&machine.folder())?;
        let meta = std::fs::metadata(&path);
        let meta = meta.map_err(|error| hgs_files::FileError::at(&path, error))?;
        offered.push(OfferedFile {
            name: file.as_str().to_owned(),
            octets: meta.len(),
        });
    }
    let generation = running.generation()?;
    let carrier = Carrier::Agent(RunningMachine {
        machine_type: machine_type.to_string(),
        emulator: emulator.to_string(),
        accelerator: accelerator::name(accelerated).to_owned(),
        processor: accelerated.then(processor),
        files: offered,
        disk,
    });
    OfferedVm::of(description, &generation, carrier)
}

/// SHA-256 of what the system says about the first processor: a guest that sees all of it runs on equal ones only.
pub(crate) fn processor() -> String {
    const TOLD: [&str; 5] = ["vendor_id", "cpu family", "model", "stepping", "flags"];
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let first = text.split("\n\n").next().unwrap_or_default();
    let mut told = String::new();
    for line in first.lines() {
        if line
            .split_once(':')
            .is_some_and(|(key, _)| TOLD.contains(&key.trim()))
        {
            told.push_str(line);
            told.push('\n');
        }
    }
    hex::encode(&sha256(told.as_bytes()))
}

async fn send_file(
    machine: &Machine,
    file: &FileName,
    octets: u64,
    channel: &mut Channel,
) -> Result<(), AgentFailure> {
    let path = file.within(&machine.folder())?;
    let failed = |error| AgentFailure::from(hgs_files::FileError::at(&path, error));
    let mut source = tokio::fs::File::open(&path).await.map_err(failed)?;
    let mut left = octets;
    while left > 0 {
        let length = left.min(PIECE as u64);
        let mut piece = vec![0; usize::try_from(length).unwrap_or(PIECE)];
        source.read_exact(&mut piece).await.map_err(failed)?;
        channel.send_octets(&piece).await?;
        left -= length;
    }
    Ok(())
}

/// Gives QEMU the folder, and its keys in it.
async fn give(running: &Running, wiring: &Wiring) -> Result<GivenDescriptor, AgentFailure> {
    let folder = wiring.folder().try_clone_to_owned();
    let folder = folder.map_err(AgentFailure::failed)?;
    running
        .monitor(move |monitor| {
            // What an earlier attempt left, whose agent was killed.
            let _ = monitor.remove_copy_target();
            let _ = monitor.remove_tls_credentials(CREDENTIALS);
            let given = monitor.add_descriptor(std::os::fd::AsFd::as_fd(&folder))?;
            monitor.add_tls_credentials(CREDENTIALS, &given.path(), Endpoint::Client)?;
            Ok(given)
        })
        .await
}

/// A VM on its way.
struct Outgoing<'a> {
    running: &'a mut Running,
    paired: Paired,
    given: GivenDescriptor,
    has_disk: bool,
    progress: &'a Progress,
    /// When the destination answered last.
    heard: Instant,
}

impl Outgoing<'_> {
    /// Disk and memory, until the VM stands still here and is whole there.
    async fn transfer(&mut self) -> Result<(), AgentFailure> {
        if self.has_disk {
            self.copy_disk().await?;
        }
        self.begin_memory().await?;
        self.memory_until(|status| *status == MigrationStatus::Active("pre-switchover".to_owned()))
            .await?;
        if self.has_disk {
            // The guest writes no more: what is equal now stays so.
            self.running
                .monitor(|monitor| monitor.end_disk_copy(false))
                .await?;
            while self
                .running
                .monitor(|monitor| monitor.disk_copy())
                .await?
                .is_some()
            {
                self.pause().await?;
            }
            self.running
                .monitor(|monitor| monitor.remove_copy_target())
                .await?;
        }
        self.running
            .monitor(|monitor| monitor.migrate_continue())
            .await?;
        self.memory_until(|status| *status == MigrationStatus::Completed)
            .await?;
        while self.stage().await? != Stage::Loaded {
            sleep(BETWEEN).await;
        }
        Ok(())
    }

    async fn copy_disk(&mut self) -> Result<(), AgentFailure> {
        let socket = self.given.path().join(DISK);
        self.running
            .monitor(move |monitor| monitor.copy_disk(&socket, CREDENTIALS, DESTINATION_NAME))
            .await?;
        let mut told = None;
        loop {
            let copy = self.running.monitor(|monitor| monitor.disk_copy()).await?;
            let copy = copy.ok_or_else(|| {
                AgentFailure::failed(
                    "the copy of the disk broke off: the connection, or the destination's disk",
                )
                .at_fault(Fault::Network)
            })?;
            // What the guest wrote meanwhile follows by itself.
            let percent = match copy.ready {
                true => 100,
                false => percent(copy.copied, copy.total),
            };
            if told != Some(percent) {
                self.progress
                    .step(&format!("copying the disk: {percent} %"));
                told = Some(percent);
            }
            if copy.ready {
                return Ok(());
            }
            self.pause().await?;
        }
    }

    async fn begin_memory(&self) -> Result<(), AgentFailure> {
        let socket = self.given.path().join(MEMORY);
        self.running
            .monitor(move |monitor| {
                monitor.prepare_outgoing()?;
                monitor.set_migration_parameters(&MigrationParameters {
                    tls_credentials: Some(CREDENTIALS),
                    tls_hostname: Some(DESTINATION_NAME),
                    max_bandwidth: Some(BANDWIDTH),
                    downtime_limit: Some(Duration::from_secs(1)),
                })?;
                monitor.migrate(&MigrationAddress::Unix(socket))
            })
            .await
    }

    /// Follows the memory to a stage.
    async fn memory_until(
        &mut self,
        there: impl Fn(&MigrationStatus) -> bool,
    ) -> Result<(), AgentFailure> {
        let (mut told, mut limit) = (None, Duration::from_secs(1));
        loop {
            let migration = self
                .running
                .monitor(|monitor| monitor.query_migrate())
                .await?;
            match &migration.status {
                status if there(status) => return Ok(()),
                MigrationStatus::Failed
                | MigrationStatus::Cancelled
                | MigrationStatus::Completed => {
                    return Err(self.broke_off(&migration).await);
                }
                _ => {}
            }
            let percent = percent(
                migration.total.saturating_sub(migration.remaining),
                migration.total,
            );
            if told != Some(percent) && migration.total > 0 {
                self.progress
                    .step(&format!("moving the memory: {percent} %"));
                told = Some(percent);
            }
            // A guest that changes its memory without end stands still for longer, rather than never getting there.
            let patient = match migration.passes {
                0..6 => Duration::from_secs(1),
                6..16 => Duration::from_secs(4),
                _ => Duration::from_secs(20),
            };
            if patient != limit {
                limit = patient;
                let parameters = MigrationParameters {
                    downtime_limit: Some(limit),
                    ..MigrationParameters::default()
                };
                self.running
                    .monitor(move |monitor| monitor.set_migration_parameters(&parameters))
                    .await?;
            }
            self.pause().await?;
        }
    }

    /// Why, in the words of who knows more.
    async fn broke_off(&mut self, migration: &Migration) -> AgentFailure {
        if let Err(failure) = self.stage().await {
            return failure;
        }
        let why = migration
            .error
            .as_deref()
            .unwrap_or("QEMU does not say why");
        AgentFailure::failed(format_args!("the memory did not get there: {why}"))
            .at_fault(Fault::Network)
    }

    /// Lets some time pass, in which the destination is asked whether it is there.
    async fn pause(&mut self) -> Result<(), AgentFailure> {
        sleep(BETWEEN).await;
        if self.heard.elapsed() > ASK {
            self.stage().await?;
        }
        Ok(())
    }

    async fn stage(&mut self) -> Result<Stage, AgentFailure> {
        let channel = &mut self.paired.channel;
        channel.send(&Command::Stage).await?;
        let stage = answered(channel.receive_soon(LIMIT).await?)?;
        self.heard = Instant::now();
        Ok(stage)
    }

    /// Has the VM run here as before; returns why it did not move, and what else went wrong.
    async fn come_back(self, mut wiring: Wiring, failure: AgentFailure) -> AgentFailure {
        let Outgoing {
            running,
            mut paired,
            given,
            has_disk,
            ..
        } = self;
        let failure = pairing::refuse(&mut paired.channel, failure).await;
        wiring.cut();
        match bring_back(running, given, has_disk).await {
            Ok(()) => failure,
            Err(second) => AgentFailure {
                message: format!("{failure}; and then: {second}"),
                ..failure
            },
        }
    }
}

async fn bring_back(
    running: &Running,
    given: GivenDescriptor,
    has_disk: bool,
) -> Result<(), AgentFailure> {
    if has_disk {
        let _ = running.monitor(|monitor| monitor.end_disk_copy(true)).await;
    }
    let _ = running.monitor(|monitor| monitor.migrate_cancel()).await;
    let begun = Instant::now();
    while begun.elapsed() < crate::machine::running::PATIENCE {
        let (migration, copy) = running
            .monitor(|monitor| Ok((monitor.query_migrate()?, monitor.disk_copy()?)))
            .await?;
        let over = !matches!(migration.status, MigrationStatus::Active(_));
        if over && copy.is_none() {
            break;
        }
        sleep(BETWEEN).await;
    }
    running
        .monitor(move |monitor| {
            let _ = monitor.remove_copy_target();
            let _ = monitor.remove_tls_credentials(CREDENTIALS);
            let _ = monitor.remove_descriptor(given);
            if monitor.query_status()? != RunState::Running {
                monitor.cont()?;
            }
            Ok(())
        })
        .await
}

fn percent(part: u64, whole: u64) -> u64 {
    (part.min(whole) * 100).checked_div(whole).unwrap_or(100)
}

/// Asks the destination of a migration how it ended.
pub(crate) async fn ask(departed: &Departed) -> Result<(Outcome, Gone), AgentFailure> {
    let unreadable = || {
        AgentFailure::failed("the record of the migration can't be read").at_fault(Fault::Operator)
    };
    let identity = departed.identity().ok_or_else(unreadable)?;
    let to: Destination = departed.destination.parse()?;
    let (stream, _) = to.connect().await?;
    let authority = blocking(Authority::new).await?;
    let (mut channel, _) = Channel::connect(stream, &authority).await?;
    let nonce: [u8; 32] = random::array(&mut random::System::new())?;
    channel
        .send(&Opening::Question(identity.question(&nonce)))
        .await?;
    let settlement: Answer<Settlement> = channel.receive(LIMIT).await?;
    let outcome = identity.outcome(&nonce, &answered(settlement)?);
    let outcome = outcome.ok_or_else(|| {
        AgentFailure::failed("who answers at the destination's address is not the destination")
            .at_fault(Fault::Host)
    })?;
    Ok((outcome, Gone(channel)))
}

/// Asks until it is known.
pub(crate) async fn ask_until_known(departed: &Departed) -> (Outcome, Gone) {
    loop {
        sleep(ASK_AGAIN).await;
        match ask(departed).await {
            Ok((Outcome::Pending, _)) => {}
            Ok(known) => return known,
            Err(failure) => tracing::warn!(
                destination = %departed.destination,
                %failure,
                "it is not known whether the VM runs at its destination"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_hosts_with_or_without_a_port() {
        for (text, read) in [
            ("host2", "host2:7790"),
            ("host2.example.org:9000", "host2.example.org:9000"),
            ("192.0.2.7", "192.0.2.7:7790"),
            ("2001:db8::7", "[2001:db8::7]:7790"),
            ("[2001:db8::7]", "[2001:db8::7]:7790"),
            ("[2001:db8::7]:9000", "[2001:db8::7]:9000"),
        ] {
            let destination: Destination = text.parse().unwrap();
            assert_eq!(destination.to_string(), read);
        }
        for bad in [
            "",
            ":7790",
            "host:",
            "host:0",
            "host:70000",
            "[::1",
            "[::1]9000",
            "a b",
            "host/x",
        ] {
            let refused = bad.parse::<Destination>().unwrap_err();
            assert!(refused.refused, "{bad}");
        }
    }

    #[test]
    fn a_part_of_nothing_is_all_of_it() {
        assert_eq!(percent(0, 0), 100);
        assert_eq!(percent(1, 3), 33);
        assert_eq!(percent(5, 3), 100);
    }
}
