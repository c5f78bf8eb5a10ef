//! `hgs host`: the registry of hosts.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use hgs_admin::types::{self, AddHost, HostDetail, RevokeHost};
use hgs_admin::{Administration as _, Client, HostSelector};
use hgs_terminal::{Exit, Failure, Table, Terminal};
use serde::Serialize;

use super::{ServerOption, given_text, or_dash};
use crate::failures::OrFail as _;

/// The verbs of `hgs host`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    server: ServerOption,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Register a host, which can attest from then on
    #[command(after_help = "Example:
  hgs host add host1 --host-key host1.pem     (on the host: guarded-host host-key export --out host1.pem)")]
    Add {
        /// What it shall be called
        name: String,
        /// Its public host key, or a certificate over it: PEM or DER
        #[arg(long, value_name = "FILE")]
        host_key: PathBuf,
    },
    /// List the hosts
    List,
    /// Show one host, with the identity keys that it attested with
    Show {
        /// Its name or id
        name: HostSelector,
    },
    /// Bar a host: no keys and no health certificate from its next request on
    Revoke {
        /// Its name or id
        name: HostSelector,
        /// Why, for whoever asks later
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Forget a host: nothing is released to it, and its key can be registered again
    Remove {
        /// Its name or id
        name: HostSelector,
    },
}

impl Arguments {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let client = self.server.client()?;
        match self.verb {
            Verb::Add { name, host_key } => add(&client, name, &host_key, terminal)?,
            Verb::List => terminal.report(&List(client.hosts().or_fail()?))?,
            Verb::Show { name } => terminal.report(&Detail(client.host(&name).or_fail()?))?,
            Verb::Revoke { name, reason } => revoke(&client, &name, reason, terminal)?,
            Verb::Remove { name } => remove(&client, &name, terminal)?,
        }
        Ok(Exit::Done)
    }
}

fn add(client: &Client, name: String, file: &Path, terminal: &Terminal) -> Result<(), Failure> {
    let host_key = given_text(file, "a host key file")?;
    let host = client.add_host(&AddHost { name, host_key }).or_fail()?;
    terminal.report(&Changed {
        what: "registered",
        host,
    })
}

fn revoke(
    client: &Client,
    name: &HostSelector,
    reason: String,
    terminal: &Terminal,
) -> Result<(), Failure> {
    terminal.confirm(format!("Bar the host {name} for good?"))?;
    let host = client.revoke_host(name, &RevokeHost { reason }).or_fail()?;
    terminal.report(&Changed {
        what: "revoked",
        host,
    })
}

fn remove(client: &Client, name: &HostSelector, terminal: &Terminal) -> Result<(), Failure> {
    terminal.confirm(format!(
        "Forget the host {name}? To bar it for good, revoke it instead."
    ))?;
    let host = client.remove_host(name).or_fail()?;
    terminal.report(&Changed {
        what: "removed",
        host,
    })
}

#[derive(Serialize)]
#[serde(transparent)]
struct List(Vec<types::Host>);

#[derive(Serialize)]
#[serde(transparent)]
struct Detail(HostDetail);

#[derive(Serialize)]
struct Changed {
    #[serde(skip)]
    what: &'static str,
    #[serde(flatten)]
    host: types::Host,
}

impl fmt::Display for Changed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "Host {} is {}.", self.host.name, self.what)
    }
}

impl fmt::Display for List {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["NAME", "STATUS", "LAST ATTESTED", "ADDED", "ID"]);
        for host in &self.0 {
            let status = match host.revoked {
                Some(_) => "revoked",
                None => "registered",
            };
            table.row([
                host.name.clone(),
                status.to_owned(),
                or_dash(host.last_attested.as_ref()),
                host.added.clone(),
                host.id.clone(),
            ]);
        }
        table.fmt(formatter)
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(HostDetail {
            host,
            host_key,
            identity_keys,
        }) = self;
        let revoked = host.revoked.as_ref().map(|revocation| {
            let types::Revocation { time, reason, by } = revocation;
            format!("{time} by {by}: {reason}")
        });
        Table::of_pairs([
            ("name", host.name.clone()),
            ("id", host.id.clone()),
            ("added", host.added.clone()),
            ("last attested", or_dash(host.last_attested.as_ref())),
            ("revoked", or_dash(revoked.as_ref())),
            ("host key (SHA-256)", host.host_key_digest.clone()),
        ])
        .fmt(formatter)?;
        writeln!(formatter, "\n{}\n", host_key.trim_end())?;
        let mut table = Table::new(["IDENTITY KEY FOR", "FIRST SEEN", "SUPERSEDED", "DIGEST"]);
        for key in identity_keys {
            table.row([
                key.kind.to_string(),
                key.first_seen.clone(),
                or_dash(key.superseded.as_ref()),
                key.digest.clone(),
            ]);
        }
        table.fmt(formatter)
    }
}
