//! The daemon as a value.

use std::net::SocketAddr;
use std::sync::Arc;

use hgs_client::{Environment, Fault, GuardedHost};
use hgs_files::{LocalSocket, Lock};
use hgs_vm::program::Program;
use hgs_vm::qemu::Emulator;
use hgs_vm::qemu::process::User;
use tokio::net::UnixListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

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

/// The agent of a host. It works until it is stopped or dropped; VMs go on then.
#[derive(Debug)]
pub struct Agent {
    tasks: JoinSet<()>,
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
        tasks.spawn(async move { keeper.run().await });
        tasks.spawn(Arc::clone(&service).follow_health());
        tasks.spawn(socket::serve(listener, service));
        tracing::info!(socket = %file.path().display(), "agent listens");
        Ok(Self {
            tasks,
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
