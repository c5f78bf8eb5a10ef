//! `hgs host`: the registry of hosts.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use hgs_admin::types::{self, AddHost, HostDetail, RevokeHost};
use hgs_admin::{Administration as _, Client};
use hgs_pki::Time;
use hgs_terminal::{Exit, Failure, Table, Terminal};
use serde::Serialize;

use super::{ServerOption, given_text, named, or_dash, period};
use crate::clock::now;
use crate::completion;
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
    List(List),
    /// Show one host, with the identity keys that it attested with
    Show {
        /// Its name or id
        #[arg(add = completion::hosts())]
        name: String,
    },
    /// Bar a host: no keys and no health certificate from its next request on
    Revoke {
        /// Its name or id
        #[arg(add = completion::hosts())]
        name: String,
        /// Why, for whoever asks later
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Forget a host: nothing is released to it, and its key can be registered again
    Remove {
        /// Its name or id
        #[arg(add = completion::hosts())]
        name: String,
    },
}

/// List the hosts
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs host list --status revoked
  hgs host list --not-attested-for 30d --sort attested
  hgs host list --name rack7")]
struct List {
    /// Only hosts that may attest, or only those that may not
    #[arg(long, value_enum)]
    status: Option<HostStatus>,
    /// Only hosts whose name contains this text, in either case
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Only hosts that have not attested for this long, or never
    #[arg(long, value_name = "DURATION", value_parser = period)]
    not_attested_for: Option<Duration>,
    /// What they are sorted by; times with the oldest first, `never` before all
    #[arg(long, value_enum, default_value_t)]
    sort: Order,
    /// Sort the other way round
    #[arg(long)]
    reverse: bool,
}

/// Whether a host may attest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum HostStatus {
    Registered,
    Revoked,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Order {
    #[default]
    Name,
    /// When they last attested
    Attested,
    /// When they were registered
    Added,
}

impl List {
    fn select(&self, hosts: Vec<types::Host>) -> Result<Vec<types::Host>, Failure> {
        let text = self
            .name
            .as_deref()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let since = self.not_attested_for.map(|period| {
            let seconds = i64::try_from(period.as_secs()).unwrap_or(i64::MAX);
            Time::from_unix(now().unix().saturating_sub(seconds))
        });
        let mut kept = Vec::new();
        for host in hosts {
            let attested = host
                .last_attested
                .as_deref()
                .map(named::<Time>)
                .transpose()?;
            if self.status.is_none_or(|wanted| wanted == status(&host))
                && host.name.to_ascii_lowercase().contains(&text)
                && since.is_none_or(|since| attested.is_none_or(|attested| attested < since))
            {
                kept.push((attested, named::<Time>(&host.added)?, host));
            }
        }
        match self.sort {
            Order::Name => kept.sort_by_cached_key(|(_, _, host)| host.name.to_ascii_lowercase()),
            Order::Attested => kept.sort_by_key(|(attested, ..)| *attested),
            Order::Added => kept.sort_by_key(|(_, added, _)| *added),
        }
        if self.reverse {
            kept.reverse();
        }
        Ok(kept.into_iter().map(|(_, _, host)| host).collect())
    }
}

fn status(host: &types::Host) -> HostStatus {
    match host.revoked {
        Some(_) => HostStatus::Revoked,
        None => HostStatus::Registered,
    }
}

impl Arguments {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let client = self.server.client()?;
        match self.verb {
            Verb::Add { name, host_key } => add(&client, name, &host_key, terminal)?,
            Verb::List(list) => terminal.report(&Hosts(list.select(client.hosts().or_fail()?)?))?,
            Verb::Show { name } => {
                terminal.report(&Detail(client.host(&named(&name)?).or_fail()?))?
            }
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

fn revoke(client: &Client, name: &str, reason: String, terminal: &Terminal) -> Result<(), Failure> {
    terminal.confirm(format!("Bar the host {name} for good?"))?;
    let host = client
        .revoke_host(&named(name)?, &RevokeHost { reason })
        .or_fail()?;
    terminal.report(&Changed {
        what: "revoked",
        host,
    })
}

fn remove(client: &Client, name: &str, terminal: &Terminal) -> Result<(), Failure> {
    terminal.confirm(format!(
        "Forget the host {name}? To bar it for good, revoke it instead."
    ))?;
    let host = client.remove_host(&named(name)?).or_fail()?;
    terminal.report(&Changed {
        what: "removed",
        host,
    })
}

#[derive(Serialize)]
#[serde(transparent)]
struct Hosts(Vec<types::Host>);

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

impl fmt::Display for Hosts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["NAME", "STATUS", "LAST ATTESTED", "ADDED", "ID"]);
        for host in &self.0 {
            let status = match status(host) {
                HostStatus::Revoked => "revoked",
                HostStatus::Registered => "registered",
            };
            table.row([
                host.name.clone(),
                status.to_owned(),
                host.last_attested
                    .clone()
                    .unwrap_or_else(|| "never".to_owned()),
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
