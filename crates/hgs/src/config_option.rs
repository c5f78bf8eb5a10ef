//! The option that names the configuration of the server.

use std::path::PathBuf;

use hgs_server::Config;
use hgs_server::config::{ConfigError, Environment};
use hgs_terminal::{AtFault, Exit, Failure};

use crate::failures::{IntoFailure, OrFail as _};

/// Where the configuration is.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigOption {
    /// Configuration file [default: openhgs.toml in /etc/openhgs, or below ~/.config]
    #[arg(long, global = true, value_name = "FILE", env = "HGS_CONFIG")]
    config: Option<PathBuf>,
}

impl ConfigOption {
    /// The file that the configuration is read from; it may be absent.
    pub(crate) fn file(&self) -> PathBuf {
        Config::file(self.config.as_deref(), &Environment::of_process())
    }

    pub(crate) fn read(&self) -> Result<Config, ConfigError> {
        Config::load(self.config.as_deref(), &Environment::of_process())
    }

    /// The configuration of the server that is asked.
    pub(crate) fn load_of_server(&self) -> Result<Config, Failure> {
        Config::load_of_server(self.config.as_deref(), &Environment::of_process()).or_fail()
    }

    pub(crate) fn load(&self) -> Result<Config, Failure> {
        self.read().or_fail()
    }
}

impl IntoFailure for ConfigError {
    fn into_failure(self) -> Failure {
        let failure = Failure::of(&self)
            .at_fault(AtFault::Operator)
            .remedy(self.remedy());
        match self {
            Self::Unreadable(_) => failure,
            Self::Invalid { .. } => failure.with_exit(Exit::Refused),
        }
    }
}
