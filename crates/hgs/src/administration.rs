//! Commands that ask a running server, over the socket of its administrators or its `[listen.api]`.

mod audit;
mod baseline;
mod certificate;
mod ci_policy;
mod console;
mod document;
mod ek_root;
mod events;
mod host;
mod host_group;
mod network;
mod policy;
mod settings;
mod signer;
mod simulate;
mod status;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use hgs_admin::types::{self, HostQuery, MAX_PAGE, PageQuery};
use hgs_admin::{AdminError, Administration as _, Client, ErrorCode};
use hgs_crypto::base64;
use hgs_custody::Bundle;
use hgs_pki::Time;
use hgs_server::Config;
use hgs_server::config::parse_period;
use hgs_terminal::{AtFault, Exit, Failure, read_input};

use crate::config_option::ConfigOption;
use crate::failures::{IntoFailure, OrFail as _};

pub(crate) use audit::Arguments as Audit;
pub(crate) use baseline::Arguments as Baseline;
pub(crate) use certificate::Arguments as Certificate;
pub(crate) use ci_policy::Arguments as CiPolicy;
pub(crate) use console::Arguments as Console;
pub(crate) use document::Arguments as Document;
pub(crate) use ek_root::Arguments as EkRoot;
pub(crate) use events::Arguments as Events;
pub(crate) use host::Arguments as Host;
pub(crate) use host_group::Arguments as HostGroup;
pub(crate) use policy::Arguments as Policy;
pub(crate) use settings::{Arguments as Settings, SetArguments as SetServer};
pub(crate) use signer::Arguments as Signer;
pub(crate) use status::Arguments as Status;

/// Which server is asked.
#[derive(Debug, clap::Args)]
pub(crate) struct ServerOption {
    /// Socket of the server [default: as its configuration says]
    #[arg(long, global = true, value_name = "PATH", env = "HGS_SOCKET")]
    socket: Option<PathBuf>,
    #[command(flatten)]
    network: network::NetworkOption,
    #[command(flatten)]
    pub(crate) config: ConfigOption,
}

impl ServerOption {
    /// A client of the server. Nothing is asked yet.
    pub(crate) fn client(self) -> Result<Client, Failure> {
        match (self.network.client()?, self.socket) {
            (Some(client), _) => Ok(client),
            (None, Some(socket)) => Ok(Client::new(socket)),
            (None, None) => Ok(Client::new(self.config.load_of_server()?.admin_socket())),
        }
    }

    /// The folder of the state, where the server is that of this machine and its configuration can be read.
    pub(crate) fn state_folder(&self) -> Option<PathBuf> {
        if self.network.is_given() || self.socket.is_some() {
            return None;
        }
        let config = self.config.load_of_server().ok()?;
        Some(config.state_folder())
    }

    /// Refuses `--server` where a command looks at files of the guardian's machine.
    pub(crate) fn require_this_machine(&self) -> Result<(), Failure> {
        match self.network.is_given() {
            false => Ok(()),
            true => Err(Failure::usage(
                "this command reads files of the guardian, so `--server` does not go with it",
            )
            .remedy("run it on the guardian's machine")),
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
            ErrorCode::NotFound | ErrorCode::NotRunning | ErrorCode::TooMany => {
                (Exit::Failed, AtFault::Operator)
            }
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

/// Octets of the largest file with a public key or a certificate.
const LONGEST_FILE: usize = 64 * 1024;

/// The whole of a list, page by page. `key` is what `after` takes.
pub(crate) fn whole<T>(
    page: impl Fn(&PageQuery) -> Result<Vec<T>, AdminError>,
    key: impl Fn(&T) -> Option<String>,
) -> Result<Vec<T>, AdminError> {
    let mut all: Vec<T> = Vec::new();
    loop {
        let after = all.last().and_then(&key);
        let found = page(&PageQuery {
            limit: Some(MAX_PAGE),
            after: after.clone(),
        })?;
        // A server that does not know pages gives the whole list each time.
        if after.is_some() && found.last().and_then(&key) == after {
            return Ok(all);
        }
        let is_last = found.len() != MAX_PAGE;
        all.extend(found);
        if is_last {
            return Ok(all);
        }
    }
}

/// All hosts.
pub(crate) fn all_hosts(client: &Client) -> Result<Vec<types::Host>, AdminError> {
    let page = |page: &PageQuery| {
        client.hosts(&HostQuery {
            limit: page.limit,
            after: page.after.clone(),
            ..HostQuery::default()
        })
    };
    whole(page, |host| Some(host.name.clone()))
}

/// All documents that measurements are compared with.
pub(crate) fn all_documents(client: &Client) -> Result<Vec<types::PolicyDocument>, AdminError> {
    let page = |page: &PageQuery| client.policy_documents(page);
    whole(page, |document| Some(document.name.clone()))
}

/// All certificates of the guardian, by what they are for.
pub(crate) fn all_certificates(client: &Client) -> Result<Vec<types::Certificate>, AdminError> {
    let page = |page: &PageQuery| client.certificates(&page.clone().into());
    let mut all = whole(page, |one| Some(one.thumbprint.clone()))?;
    all.sort_by_cached_key(|one| (one.kind, one.added.clone(), one.thumbprint.clone()));
    Ok(all)
}

/// All signers of health certificates, the guardian's own first.
pub(crate) fn all_signers(client: &Client) -> Result<Vec<types::Signer>, AdminError> {
    let page = |page: &PageQuery| client.signers(&page.clone().into());
    let mut all = whole(page, |signer| Some(signer.thumbprint.clone()))?;
    all.sort_by_cached_key(|signer| {
        let thumbprint = signer.thumbprint.clone();
        (!signer.own, signer.not_before.clone(), thumbprint)
    });
    Ok(all)
}

/// All authorities that vouch for TPMs, by subject.
pub(crate) fn all_ek_roots(client: &Client) -> Result<Vec<types::EkRoot>, AdminError> {
    let page = |page: &PageQuery| client.ek_roots(&page.clone().into());
    let mut all = whole(page, |root| Some(root.thumbprint.clone()))?;
    all.sort_by_cached_key(|root| (root.subject.clone(), root.thumbprint.clone()));
    Ok(all)
}

/// How the last evidence of all hosts is judged.
pub(crate) fn all_judgements(
    client: &Client,
    trial: &types::Trial,
) -> Result<Vec<types::Judgement>, AdminError> {
    let page = |page: &PageQuery| client.simulate_for_hosts(page, trial);
    whole(page, |judged| judged.host.clone())
}

/// The contents of a file of public things as the API takes them: text as it stands, DER in Base64.
fn given_text(path: &Path, what: &str) -> Result<String, Failure> {
    let octets = read_input(path, LONGEST_FILE)?.complete(path, what)?;
    // What is wrong with the file is said here, where its name is known.
    let read = Bundle::read(&octets, None).or_fail();
    read.map_err(|failure| failure.while_doing(path.display()))?;
    Ok(String::from_utf8(octets).unwrap_or_else(|binary| base64::encode(binary.as_bytes())))
}

/// A thumbprint, or the name of something, as it was given.
pub(crate) fn named<T: FromStr<Err: ToString>>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(AdminError::invalid).or_fail()
}

/// A period as people say it: `1h 30min`.
fn for_people(seconds: u64) -> String {
    let parts = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let mut rest = seconds;
    let mut said = Vec::new();
    for (length, unit) in parts {
        if rest >= length {
            said.push(format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    match said.is_empty() {
        true => "0s".to_owned(),
        false => said.join(" "),
    }
}

/// The text for an absent value.
fn or_dash(value: Option<&String>) -> String {
    value.map_or_else(|| "-".to_owned(), Clone::clone)
}

/// A time that an option takes, in the form that requests have.
fn time(text: &str) -> Result<String, String> {
    let time = Time::from_option(text).map_err(|_| {
        "write a date and a time with its offset, such as 2026-11-21T12:00:00Z or 2026-11-21T13:00:00+01:00, or a date alone"
    })?;
    Ok(time.to_string())
}

/// A period of time as the configuration writes them.
fn period(text: &str) -> Result<Duration, String> {
    parse_period(text)
        .ok_or_else(|| "write a number and one of s, min, h, d, such as `24h`".to_owned())
}

fn yes_or_no(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_said_as_people_say_them() {
        for (seconds, said) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1min"),
            (5400, "1h 30min"),
            (28_800, "8h"),
            (2_592_000, "30d"),
        ] {
            assert_eq!(for_people(seconds), said);
        }
    }
}
