//! Names that a shell can complete: those of hosts and groups, policies and documents, certificates, signers, EK roots and
//! guardians. The shell asks the program with the variable `COMPLETE` set; where no server answers, nothing is offered.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use hgs_admin::types::{DocumentKind, PolicyQuery};
use hgs_admin::{AdminError, Administration as _, Client};
use hgs_server::Config;
use hgs_server::config::Environment;

use crate::administration::{
    all_certificates, all_documents, all_ek_roots, all_hosts, all_signers,
};
use crate::guardian::HomeOption;

/// Names of hosts.
pub(crate) fn hosts() -> ArgValueCompleter {
    of_server(|client| {
        let hosts = all_hosts(client)?;
        Ok(hosts.into_iter().map(|host| (host.name, None)).collect())
    })
}

/// Names of groups of hosts.
pub(crate) fn host_groups() -> ArgValueCompleter {
    of_server(|client| {
        let groups = client.host_groups()?.into_iter();
        Ok(groups.map(|group| (group.name, None)).collect())
    })
}

/// Names of policies, and of the documents that are set as they are.
pub(crate) fn policies() -> ArgValueCompleter {
    of_server(|client| {
        let all = client.policies(&PolicyQuery::default())?.into_iter();
        Ok(all.map(|one| (one.name, Some(one.kind))).collect())
    })
}

/// Names of documents of any kind.
pub(crate) fn documents() -> ArgValueCompleter {
    documents_of(|_| true)
}

/// Names of baselines.
pub(crate) fn baselines() -> ArgValueCompleter {
    documents_of(|kind| kind == DocumentKind::Baseline)
}

/// Names of code-integrity policies.
pub(crate) fn ci_policies() -> ArgValueCompleter {
    documents_of(|kind| kind == DocumentKind::CiPolicy)
}

fn documents_of(
    is_meant: impl Fn(DocumentKind) -> bool + Send + Sync + 'static,
) -> ArgValueCompleter {
    of_server(move |client| {
        let all = all_documents(client)?.into_iter();
        let meant = all.filter(|document| is_meant(document.kind));
        let named = meant.map(|document| (document.name, Some(document.kind.to_string())));
        Ok(named.collect())
    })
}

/// Thumbprints of the authorities that vouch for TPMs.
pub(crate) fn ek_roots() -> ArgValueCompleter {
    of_server(|client| {
        let roots = all_ek_roots(client)?.into_iter();
        let named = roots.map(|root| (root.thumbprint, Some(root.subject)));
        Ok(named.collect())
    })
}

/// Thumbprints of the guardian's certificates.
pub(crate) fn certificates() -> ArgValueCompleter {
    of_server(|client| {
        let certificates = all_certificates(client)?.into_iter();
        let named = certificates.map(|one| {
            let label = one.label.unwrap_or(one.subject);
            (one.thumbprint, Some(format!("{}, {label}", one.kind)))
        });
        Ok(named.collect())
    })
}

/// Thumbprints of signers.
pub(crate) fn signers() -> ArgValueCompleter {
    of_server(|client| {
        let signers = all_signers(client)?.into_iter();
        let named = signers.map(|one| (one.thumbprint, one.label.or(Some(one.subject))));
        Ok(named.collect())
    })
}

/// Names of the guardians that a person keeps.
pub(crate) fn guardians() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let home = std::env::var_os("HGS_HOME").map(PathBuf::from);
        let home = HomeOption { home }.open().ok();
        let guardians = home.and_then(|home| home.list().ok()).unwrap_or_default();
        let names = guardians
            .into_iter()
            .map(|guardian| (guardian.name.to_string(), None));
        candidates(current, names)
    })
}

/// A value with a description.
type Named = (String, Option<String>);

fn of_server(
    ask: impl Fn(&Client) -> Result<Vec<Named>, AdminError> + Send + Sync + 'static,
) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| {
        // A guardian elsewhere is too far away for every press of a key.
        if std::env::var_os("HGS_SERVER").is_some() {
            return Vec::new();
        }
        let socket = std::env::var_os("HGS_SOCKET")
            .map(PathBuf::from)
            .or_else(|| {
                let config = Config::load(None, &Environment::of_process());
                config.ok().map(|config| config.admin_socket())
            });
        let found = socket.and_then(|socket| ask(&Client::new(socket)).ok());
        candidates(current, found.unwrap_or_default())
    })
}

fn candidates(current: &OsStr, named: impl IntoIterator<Item = Named>) -> Vec<CompletionCandidate> {
    let begun = current.to_string_lossy();
    let fitting = named
        .into_iter()
        .filter(|(name, _)| name.starts_with(&*begun));
    fitting
        .map(|(name, meaning)| CompletionCandidate::new(name).help(meaning.map(Into::into)))
        .collect()
}
