//! `guarded-host agent`: the daemon.

mod service_manager;

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use hgs_agent::{Agent, AgentFolders, Client, ClientError, Settings};
use hgs_terminal::{AtFault, Exit, Failure};
use hgs_vm::memory;
use hgs_vm::qemu::process::User;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::at_fault;
use crate::host_options::HostOptions;
use crate::vm::migrate;

/// Where the agent of a host listens.
#[derive(Debug, clap::Args)]
pub(crate) struct AgentOptions {
    /// Folder of the agent's socket and of what belongs to running VMs [default: /run/guarded-host, or below $XDG_RUNTIME_DIR]
    #[arg(
        long,
        value_name = "FOLDER",
        env = "HGS_HOST_RUNTIME",
        hide_env_values = true
    )]
    runtime: Option<PathBuf>,
}

/// Keep this host attested, and run its shielded VMs, until SIGTERM or SIGINT
///
/// The agent asks for health certificates in time, has the keys of VMs released when they start, and keeps those keys in
/// memory only. `guarded-host vm` is how it is told what to do. VMs go on when the agent ends, and the next agent takes them
/// over. Logs go to standard error.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  systemctl enable --now guarded-host-agent
  guarded-host agent --runtime /tmp/agent          (by hand, as any user)
  guarded-host agent --listen 192.0.2.7            (takes VMs that migrate)")]
pub(crate) struct Arguments {
    #[command(flatten)]
    agent: AgentOptions,
    /// Take running VMs from the agents of other hosts, at this address; without, none are taken
    #[arg(
        long,
        value_name = "ADDRESS[:PORT]",
        env = "HGS_HOST_LISTEN",
        hide_env_values = true,
        value_parser = migrate::listen_address
    )]
    listen: Option<SocketAddr>,
}

impl AgentOptions {
    /// The folders of the agent of this host.
    pub(crate) fn folders(&self, options: &HostOptions) -> Result<AgentFolders, Failure> {
        let host = options.folders()?;
        match &self.runtime {
            Some(runtime) => Ok(AgentFolders {
                host,
                runtime: runtime.clone(),
            }),
            None => AgentFolders::of_this_machine(host).ok_or_else(|| {
                Failure::failed("there is no folder for what is gone after a restart")
                    .at_fault(AtFault::Operator)
                    .remedy("set XDG_RUNTIME_DIR, or give --runtime")
            }),
        }
    }

    /// Who asks the agent of this host.
    pub(crate) fn client(&self, options: &HostOptions) -> Result<Client, Failure> {
        Ok(Client::new(&self.folders(options)?.socket()))
    }
}

impl Arguments {
    pub(crate) fn run(self, options: &HostOptions) -> Result<Exit, Failure> {
        let folders = self.agent.folders(options)?;
        if let Err(error) = memory::lock_all() {
            tracing::warn!("{error}");
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::of(&error).at_fault(AtFault::Ourselves))?;
        runtime.block_on(async {
            let stop =
                stopped().map_err(|error| Failure::of(&error).at_fault(AtFault::Ourselves))?;
            let settings = Settings {
                user: unprivileged_user()?,
                listen: self.listen,
                ..Settings::default()
            };
            let agent = Agent::start(folders, settings)
                .await
                .map_err(agent_failure)?;
            work(agent, stop).await
        })
    }
}

/// Lets the agent work until it is told to stop, or fails. A service manager hears of it.
async fn work(mut agent: Agent, stop: impl Future<Output = ()>) -> Result<Exit, Failure> {
    let liveness = agent.liveness();
    service_manager::notify(NotifyState::Ready);
    let failure = tokio::select! {
        () = stop => None,
        () = service_manager::feed_watchdog(&liveness) => None,
        failure = agent.failed() => Some(failure),
    };
    service_manager::notify(NotifyState::Stopping);
    agent.stop().await;
    match failure {
        None => Ok(Exit::Done),
        Some(failure) => Err(agent_failure(failure)),
    }
}

/// The user that QEMU runs as where the agent is root.
fn unprivileged_user() -> Result<Option<User>, Failure> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let of_name = |name| nix::unistd::User::from_name(name).ok().flatten();
    let user = of_name("guarded-host-vm").or_else(|| of_name("nobody"));
    let user = user.ok_or_else(|| {
        Failure::failed("there is no user that QEMU could run as")
            .at_fault(AtFault::Operator)
            .remedy("make the system user guarded-host-vm in the group of /dev/kvm: packaging/systemd/guarded-host.sysusers does")
    })?;
    // Guests run on the host's processors only for the group of this device.
    let kvm = std::fs::metadata("/dev/kvm").ok().map(|meta| meta.gid());
    Ok(Some(User {
        uid: user.uid.as_raw(),
        gid: kvm.unwrap_or_else(|| user.gid.as_raw()),
    }))
}

/// Resolves at SIGTERM or SIGINT.
fn stopped() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// What an agent could not do.
pub(crate) fn agent_failure(error: hgs_agent::AgentFailure) -> Failure {
    let failure = match error.refused {
        true => Failure::refused(&error.message),
        false => Failure::failed(&error.message),
    };
    let failure = match error.at_fault {
        Some(party) => failure.at_fault(at_fault(party)),
        None => failure,
    };
    let failure = match error.request_id {
        Some(id) => failure.request_id(id),
        None => failure,
    };
    match error.remedy {
        Some(remedy) => failure.remedy(remedy),
        None => failure,
    }
}

/// What the agent answered instead, or why it did not answer.
pub(crate) fn client_failure(error: ClientError) -> Failure {
    match error {
        ClientError::Agent(error) => agent_failure(error),
        ClientError::NotRunning { .. } => Failure::of(&error)
            .at_fault(AtFault::Operator)
            .remedy("start it with `systemctl start guarded-host-agent`, or by hand with `guarded-host agent`"),
        ClientError::Socket { .. } => Failure::of(&error).at_fault(AtFault::Operator),
        ClientError::Answer(_) => Failure::of(&error)
            .at_fault(AtFault::Ourselves)
            .remedy("the agent's log says more; agent and command must be of one version"),
    }
}
