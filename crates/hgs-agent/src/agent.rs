//! The daemon as a value.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use hgs_client::{Environment, Fault, GuardedHost};
use hgs_files::{LocalSocket, Lock};
use hgs_vm::program::Program;
use hgs_vm::qemu::Emulator;
use hgs_vm::qemu::process::User;
use tokio::net::UnixListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::failure::blocking;
use crate::folders::AgentFolders;
use crate::health::Keeper;
use crate::machine::{Surroundings, Tasks};
use crate::migration::listener::{self, Listener};
use crate::service::Service;
use crate::socket;
use crate::wire::AgentFailure;

/// What an agent is told at its start, beside its folders.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// What a host takes from the system.
    pub environment: Environment,
    /// The QEMU that runs VMs; the installed one unless given.
    pub emulator: Option<Emulator>,
    /// The user that QEMU runs as; that of the agent unless given.
    pub user: Option<User>,
    /// Where other agents may bring VMs; nowhere unless given.
    pub listen: Option<SocketAddr>,
}

/// Whether an agent does its work at all: what the watchdog of a service manager asks.
#[derive(Debug)]
pub struct Liveness {
    /// A watchdog must not keep an agent that was stopped.
    service: Weak<Service>,
}

impl Liveness {
    /// Resolves when a thread that may block has looked at the host's VMs. A host that is refused, or whose guardian is away,
    /// is no fault of its agent. One that says nothing hangs.
    pub async fn proved(&self) {
        if let Some(service) = self.service.upgrade() {
            let looked = blocking(move || {
                service.machines();
                Ok(())
            });
            // It is cancelled only with the runtime.
            let _ = looked.await;
        }
    }
}

/// The agent of a host. It works until it is stopped or dropped; VMs go on then.
#[derive(Debug)]
pub struct Agent {
    tasks: JoinSet<()>,
    service: Weak<Service>,
    surroundings: Arc<Surroundings>,
    listens: Option<SocketAddr>,
    _socket: LocalSocket,
    _lock: Lock,
}

impl Agent {
    /// Takes over the VMs that run, listens at the socket, and begins to keep the host attested.
    ///
    /// # Errors
    /// When the host has another agent, or its folders can't be used.
    pub async fn start(folders: AgentFolders, settings: Settings) -> Result<Self, AgentFailure> {
        hgs_files::private_folder(&folders.host.state)?;
        let lock = Lock::take_or_create(&folders.host.state.join("agent.lock"))?;
        hgs_files::private_folder(&folders.machines())?;
        let (file, listener) = LocalSocket::bind(&folders.socket(), None).map_err(|error| {
            let socket = folders.socket();
            AgentFailure::failed(format_args!("{}: {error}", socket.display()))
                .at_fault(Fault::Operator)
        })?;
        let listener = UnixListener::from_std(listener).map_err(AgentFailure::failed)?;
        let clock = Arc::clone(&settings.environment.clock);
        let host = GuardedHost::open_in(folders.host.clone(), settings.environment)?;
        let host = Arc::new(host);
        let refused = Arc::new(Notify::new());
        let keeper = Keeper::new(Arc::clone(&host), clock, Arc::clone(&refused));
        let surroundings = Surroundings {
            host,
            folders,
            given_emulator: settings.emulator,
            swtpm: Program::installed("swtpm"),
            user: settings.user,
            refused,
            tasks: Tasks::default(),
        };
        let service = Arc::new(Service::new(surroundings, keeper.watch()));
        let surroundings = service.surroundings();
        service.take_over().await?;
        let mut tasks = JoinSet::new();
        let mut listens = None;
        if let Some(address) = settings.listen {
            let port = listener::bind(address).await?;
            listens = port.local_addr().ok();
            tasks.spawn(Listener::new(Arc::clone(&service)).serve(port));
        }
        let weak = Arc::downgrade(&service);
        tasks.spawn(async move { keeper.run().await });
        tasks.spawn(Arc::clone(&service).follow_health());
        tasks.spawn(socket::serve(listener, service));
        tracing::info!(socket = %file.path().display(), "agent listens");
        Ok(Self {
            tasks,
            service: weak,
            surroundings,
            listens,
            _socket: file,
            _lock: lock,
        })
    }

    /// Where other agents may bring VMs.
    #[must_use]
    pub fn migration_address(&self) -> Option<SocketAddr> {
        self.listens
    }

    /// Whether this agent does its work, for as long as it is there.
    #[must_use]
    pub fn liveness(&self) -> Liveness {
        Liveness {
            service: Weak::clone(&self.service),
        }
    }

    /// Resolves when a part of the agent has ended. Each works until the agent is stopped, so it was a fault.
    pub async fn failed(&mut self) -> AgentFailure {
        let ended = self.tasks.join_next().await;
        let why = match ended {
            Some(Err(error)) => error.to_string(),
            Some(Ok(())) | None => "it has ended".to_owned(),
        };
        AgentFailure::failed(format_args!("a part of the agent works no longer: {why}"))
            .at_fault(Fault::Ourselves)
            .remedy("start it again; VMs go on meanwhile. Its log says more")
    }

    /// Stops listening and attesting. VMs go on.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.surroundings.tasks.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::mpsc;
    use std::time::Duration;

    use hgs_client::Folders;
    use tokio::time::timeout;

    use super::*;

    /// Longer than an answer of threads that work.
    const MOMENT: Duration = Duration::from_millis(100);

    async fn agent(root: &tempfile::TempDir) -> Agent {
        let folders = AgentFolders {
            host: Folders::inside(root.path()),
            runtime: root.path().join("run"),
        };
        Agent::start(folders, Settings::default()).await.unwrap()
    }

    #[tokio::test]
    async fn an_agent_has_failed_when_a_part_of_it_has() {
        let root = tempfile::tempdir().unwrap();
        let mut agent = agent(&root).await;
        agent.tasks.spawn(async { panic!("a fault") });
        let failure = agent.failed().await;
        assert_eq!(failure.at_fault, Some(Fault::Ourselves));
        assert!(failure.message.contains("a fault"), "{failure}");
    }

    #[test]
    fn an_agent_whose_threads_hang_proves_nothing() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .build();
        runtime.unwrap().block_on(async {
            let root = tempfile::tempdir().unwrap();
            let agent = agent(&root).await;
            let liveness = agent.liveness();
            liveness.proved().await;
            let (release, hang) = mpsc::channel::<()>();
            tokio::task::spawn_blocking(move || hang.recv());
            let mut proved = pin!(liveness.proved());
            assert!(timeout(MOMENT, &mut proved).await.is_err());
            drop(release);
            proved.await;
        });
    }
}
