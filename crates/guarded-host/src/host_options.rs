//! The options that say where the configuration and the state of the host are.

use std::path::PathBuf;
use std::sync::Once;

use hgs_client::service::{Side, Sides};
use hgs_client::tpm::Progress;
use hgs_client::{Environment, Error, Folders, GuardedHost};
use hgs_terminal::{AtFault, Failure, Terminal};
use tokio::runtime;

use crate::failure::failure;

/// Options of every command that is about a host.
#[derive(Debug, clap::Args)]
pub(crate) struct HostOptions {
    /// Configuration file [default: /etc/openhgs/guarded-host.toml, or below ~/.config]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "HGS_HOST_CONFIG",
        hide_env_values = true
    )]
    config: Option<PathBuf>,
    /// State folder [default: /var/lib/guarded-host, or below ~/.local/state]
    #[arg(
        long,
        global = true,
        value_name = "FOLDER",
        env = "HGS_HOST_STATE",
        hide_env_values = true
    )]
    state: Option<PathBuf>,
}

impl HostOptions {
    /// The folders of the host.
    pub(crate) fn folders(&self) -> Result<Folders, Failure> {
        let (config, state) = (self.config.clone(), self.state.clone());
        if let (Some(configuration), Some(state)) = (config.clone(), state.clone()) {
            return Ok(Folders {
                configuration,
                state,
            });
        }
        let default = Folders::of_this_machine().ok_or_else(|| {
            Failure::failed("there is no home folder")
                .at_fault(AtFault::Operator)
                .remedy("set HOME, or give --config and --state")
        })?;
        Ok(Folders {
            configuration: config.unwrap_or(default.configuration),
            state: state.unwrap_or(default.state),
        })
    }

    /// Opens the host. People are told once when its TPM begins what takes long.
    pub(crate) fn open(&self, terminal: &Terminal) -> Result<GuardedHost, Failure> {
        let (terminal, told) = (terminal.clone(), Once::new());
        let progress = Progress::new(move |_| {
            told.call_once(|| terminal.note("The TPM makes keys. Some TPMs need a minute or two."));
        });
        let environment = Environment {
            progress,
            ..Environment::default()
        };
        GuardedHost::open_in(self.folders()?, environment).map_err(failure)
    }
}

/// Which of the two services is asked.
#[derive(Debug, clap::Args)]
pub(crate) struct SideOption {
    /// Ask the primary only
    #[arg(long, conflicts_with = "use_fallback")]
    use_primary: bool,
    /// Ask the fallback only
    #[arg(long)]
    use_fallback: bool,
}

impl SideOption {
    pub(crate) fn sides(&self) -> Sides {
        if self.use_primary {
            Sides::Only(Side::Primary)
        } else if self.use_fallback {
            Sides::Only(Side::Fallback)
        } else {
            Sides::Both
        }
    }
}

/// Runs asynchronous work to its end.
pub(crate) fn wait_for<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::of(&error).at_fault(AtFault::Ourselves))?;
    runtime.block_on(work).map_err(failure)
}
