//! Commands that ask a running server, over the socket of its administrators.

mod audit;
mod certificate;
mod host;
mod settings;
mod signer;
mod status;

use std::path::PathBuf;

use hgs_server::Config;
use hgs_server::admin::{AdminError, Client, ErrorCode};
use hgs_terminal::{AtFault, Exit, Failure};

use crate::failures::IntoFailure;
use crate::server::ConfigOption;

pub(crate) use audit::Arguments as Audit;
pub(crate) use certificate::Arguments as Certificate;
pub(crate) use host::Arguments as Host;
pub(crate) use settings::Arguments as Settings;
pub(crate) use signer::Arguments as Signer;
pub(crate) use status::Arguments as Status;

/// Which server is asked.
#[derive(Debug, clap::Args)]
pub(crate) struct ServerOption {
    /// Socket of the server [default: as its configuration says]
    #[arg(long, global = true, value_name = "PATH", env = "HGS_SOCKET")]
    socket: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) config: ConfigOption,
}

impl ServerOption {
    /// A client of the server. Nothing is asked yet.
    pub(crate) fn client(self) -> Result<Client, Failure> {
        match self.socket {
            Some(socket) => Ok(Client::new(socket)),
            None => Ok(Client::new(self.config.load()?.admin_socket())),
        }
    }

    /// A client of the server that `config` configures, unless another is named.
    pub(crate) fn client_of(&self, config: &Config) -> Client {
        let configured = || config.admin_socket();
        Client::new(self.socket.clone().unwrap_or_else(configured))
    }
}

impl IntoFailure for AdminError {
    fn into_failure(self) -> Failure {
        let (exit, party) = match self.code {
            ErrorCode::InvalidRequest | ErrorCode::Forbidden | ErrorCode::Conflict => {
                (Exit::Refused, AtFault::Operator)
            }
            ErrorCode::NotFound | ErrorCode::NotRunning => (Exit::Failed, AtFault::Operator),
            ErrorCode::MethodNotAllowed
            | ErrorCode::Unavailable
            | ErrorCode::Internal
            | ErrorCode::NoAnswer => (Exit::Failed, AtFault::Guardian),
        };
        let failure = Failure::of(&self).with_exit(exit).at_fault(party);
        match self.remedy {
            Some(remedy) => failure.remedy(remedy),
            None => failure,
        }
    }
}

/// What is shown where there is nothing.
fn or_dash(value: Option<&String>) -> String {
    value.map_or_else(|| "-".to_owned(), Clone::clone)
}

fn yes_or_no(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}
