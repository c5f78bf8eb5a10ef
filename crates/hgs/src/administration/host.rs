//! `hgs host`: the registry of hosts.

mod add;
mod approve;
mod evidence;
mod measurements;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use hgs_admin::types::{self, DenyHost, HostDetail, PageQuery, RevokeHost, SetHost};
use hgs_admin::{AdminError, Administration as _, Client, HostSelector, PolicyDigest};
use hgs_pki::Time;
use hgs_terminal::{Exit, Failure, Table, Terminal};
use serde::Serialize;

use add::Add;
use approve::Approve;

use super::{ServerOption, all_hosts, given_text, named, or_dash, period, whole};
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
    Add(Add),
    List(List),
    /// Show one host, with the identity keys that it attested with
    Show {
        /// Its name or id
        #[arg(add = completion::hosts())]
        name: String,
    },
    /// Move a host into another group, or say what only this host measures
    #[command(after_help = "Examples:
  hgs host set host7 --group rack7
  hgs host set host7 --measurements host7-own.json    (on the host: guarded-host baseline export --host-measurements)
  hgs host set host7 --next-boot host7-next.json      (on the host: guarded-host baseline stage)

What a host says of its next boot is the word of a host that was healthy when it said so.")]
    #[command(group(clap::ArgGroup::new("change").required(true).multiple(true)))]
    Set {
        /// Its name or id
        #[arg(add = completion::hosts())]
        name: String,
        /// The group it is in from now on; `default` takes it out of any other
        #[arg(long, value_name = "GROUP", add = completion::host_groups(), group = "change")]
        group: Option<String>,
        /// What it measures beside what its baseline has: parameters, partition table, boot order, initrd
        #[arg(
            long,
            value_name = "FILE",
            group = "change",
            conflicts_with = "next_boot"
        )]
        measurements: Option<PathBuf>,
        /// What it will boot next, beside what it measures now
        #[arg(long, value_name = "FILE", group = "change")]
        next_boot: Option<PathBuf>,
        /// For how long that is accepted, unless the host boots it
        #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = period, requires = "next_boot")]
        expires: Duration,
    },
    Approve(Approve),
    /// Show what a host with a TPM sent about its last boot; with `--out` all of it goes to a file
    Evidence {
        /// Its name or id
        #[arg(add = completion::hosts())]
        name: String,
    },
    /// Bar a host: no keys and no health certificate from its next request on
    Revoke {
        /// Its name or id
        #[arg(add = completion::hosts())]
        name: String,
        /// Why, for the audit log
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Remove a host: nothing is released to it, and its host key or TPM can't be registered again before it is readmitted
    Remove {
        /// Its name or id
        #[arg(add = completion::hosts())]
        name: String,
    },
    /// Let the host key or the TPM of a removed host be registered again
    #[command(
        after_help = "A host that comes back should make a new host key instead: `guarded-host host-key remove` and `guarded-host host-key new`. \
Readmit its old key only if you know that nobody else has it. The identity keys that it had are not accepted again."
    )]
    Readmit {
        /// The name of the removed host, or the SHA-256 digest of its host key or endorsement key
        name: HostSelector,
    },
    /// Give no keys to a host of another cluster, whichever signer attests it
    #[command(after_help = "Examples:
  hgs host deny --host-key host9.pem --reason stolen
  hgs host deny --identity host9.json --reason stolen
  hgs host deny --policy-digest DIGEST --reason stolen     (`hgs audit show` names the digest of each release)

A host that is registered here is revoked instead: `hgs host revoke`.")]
    #[command(group(clap::ArgGroup::new("denied_host").required(true)))]
    Deny {
        /// Its public host key, or a certificate over it: PEM or DER
        #[arg(long, value_name = "FILE", group = "denied_host")]
        host_key: Option<PathBuf>,
        /// Its platform identity, which names its TPM
        #[arg(long, value_name = "FILE", group = "denied_host")]
        identity: Option<PathBuf>,
        /// The policy digest of its health certificates
        #[arg(long, value_name = "DIGEST", group = "denied_host")]
        policy_digest: Option<String>,
        /// Why, for the audit log
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Deny a host of another cluster no longer
    Allow {
        /// The policy digest of its health certificates
        policy_digest: PolicyDigest,
    },
}

/// List the hosts
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs host list --status revoked
  hgs host list --not-attested-for 30d --sort attested
  hgs host list --name rack7
  hgs host list --report --json")]
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
    /// List those that were removed, whose host keys can't be registered again before they are readmitted
    #[arg(long, conflicts_with = "denied")]
    removed: bool,
    /// List the hosts of other clusters that get no keys here
    #[arg(long)]
    denied: bool,
    /// Say how each last attested: when, with what outcome, until when its health certificate is valid, and which policies failed
    #[arg(long, conflicts_with_all = ["removed", "denied"])]
    report: bool,
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
    /// Those of `hosts` that are asked for, in the order that is asked for.
    fn select(&self, hosts: Vec<types::Host>, now: Time) -> Result<Vec<types::Host>, Failure> {
        let text = self
            .name
            .as_deref()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let since = self.not_attested_for.map(|period| {
            let seconds = i64::try_from(period.as_secs()).unwrap_or(i64::MAX);
            Time::from_unix(now.unix().saturating_sub(seconds))
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

fn removed_hosts(client: &Client) -> Result<Vec<types::RemovedHost>, AdminError> {
    let page = |page: &PageQuery| client.removed_hosts(&page.clone().into());
    whole(page, |removed| {
        let digest = removed.host_key_digest.as_ref();
        digest.or(removed.endorsement_key_digest.as_ref()).cloned()
    })
}

fn denied_hosts(client: &Client) -> Result<Vec<types::DeniedHost>, AdminError> {
    let page = |page: &PageQuery| client.denied_hosts(&page.clone().into());
    whole(page, |denied| Some(denied.policy_digest.clone()))
}

impl Arguments {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let client = self.server.client()?;
        match self.verb {
            Verb::Add(add) => return add.run(&client, terminal),
            Verb::List(list) if list.removed => {
                terminal.report(&Removed(removed_hosts(&client).or_fail()?))?;
            }
            Verb::List(list) if list.denied => {
                terminal.report(&Denied(denied_hosts(&client).or_fail()?))?;
            }
            Verb::List(list) if list.report => {
                terminal.report(&Report(list.select(all_hosts(&client).or_fail()?, now())?))?
            }
            Verb::List(list) => {
                terminal.report(&Hosts(list.select(all_hosts(&client).or_fail()?, now())?))?
            }
            Verb::Readmit { name } => readmit(&client, &name, terminal)?,
            Verb::Deny {
                host_key,
                identity,
                policy_digest,
                reason,
            } => {
                let host_key = host_key.map(|file| given_text(&file, "a host key file"));
                let identity = identity.map(|file| add::read_identity(&file));
                let denial = DenyHost {
                    host_key: host_key.transpose()?,
                    identity: identity.transpose()?.map(|identity| identity.text),
                    policy_digest,
                    reason,
                };
                terminal.report(&Denial {
                    what: "denied",
                    host: client.deny_host(&denial).or_fail()?,
                })?;
            }
            Verb::Allow { policy_digest } => allow(&client, &policy_digest, terminal)?,
            Verb::Show { name } => {
                terminal.report(&Detail(client.host(&named(&name)?).or_fail()?))?
            }
            Verb::Set {
                name,
                group,
                measurements,
                next_boot,
                expires,
            } => {
                let selector = named(&name)?;
                if let Some(file) = &measurements {
                    measurements::replace(&client, &selector, file)?;
                }
                if let Some(file) = &next_boot {
                    measurements::add_next_boot(&client, &selector, file, expires)?;
                }
                let host = match group {
                    Some(_) => client.set_host(&selector, &SetHost { group }).or_fail()?,
                    None => client.host(&selector).or_fail()?.host,
                };
                terminal.report(&Hosts(vec![host]))?;
            }
            Verb::Approve(approve) => return approve.run(&client, terminal),
            Verb::Evidence { name } => evidence::show(&client, &named(&name)?, terminal)?,
            Verb::Revoke { name, reason } => revoke(&client, &name, reason, terminal)?,
            Verb::Remove { name } => remove(&client, &name, terminal)?,
        }
        Ok(Exit::Done)
    }
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
        "Remove the host {name}? It gets no keys, and its host key or TPM can't be registered again before it is readmitted."
    ))?;
    let host = client.remove_host(&named(name)?).or_fail()?;
    terminal.report(&Changed {
        what: "removed",
        host,
    })
}

fn readmit(client: &Client, host: &HostSelector, terminal: &Terminal) -> Result<(), Failure> {
    terminal.confirm(format!(
        "Let the host key or the TPM of {host} be registered again? Whoever has it can attest then."
    ))?;
    let host = client.readmit_host(host).or_fail()?;
    terminal.report(&Readmitted(host))
}

fn allow(client: &Client, policy: &PolicyDigest, terminal: &Terminal) -> Result<(), Failure> {
    terminal.confirm(format!(
        "Give keys to the host with the policy digest {policy} again?"
    ))?;
    terminal.report(&Denial {
        what: "allowed",
        host: client.allow_host(policy).or_fail()?,
    })
}

#[derive(Serialize)]
#[serde(transparent)]
struct Removed(Vec<types::RemovedHost>);

#[derive(Serialize)]
#[serde(transparent)]
struct Denied(Vec<types::DeniedHost>);

#[derive(Serialize)]
#[serde(transparent)]
struct Readmitted(types::RemovedHost);

#[derive(Serialize)]
struct Denial {
    #[serde(skip)]
    what: &'static str,
    #[serde(flatten)]
    host: types::DeniedHost,
}

impl fmt::Display for Removed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["NAME", "REMOVED", "REVOKED", "READMITTED", "KEY (SHA-256)"]);
        for host in &self.0 {
            let revoked = host.revoked.as_ref();
            table.row([
                host.name.clone(),
                host.removed.clone(),
                or_dash(revoked.map(|revocation| &revocation.time)),
                or_dash(host.readmitted.as_ref()),
                key_digest(
                    host.host_key_digest.as_ref(),
                    host.endorsement_key_digest.as_ref(),
                ),
            ]);
        }
        table.fmt(formatter)
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["POLICY DIGEST", "DENIED", "BY", "REASON"]);
        for host in &self.0 {
            let types::Revocation { time, reason, by } = &host.denied;
            table.row([
                host.policy_digest.clone(),
                time.clone(),
                by.clone(),
                reason.clone(),
            ]);
        }
        table.fmt(formatter)
    }
}

impl fmt::Display for Readmitted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.0.name;
        writeln!(
            formatter,
            "The host key or TPM of {name} is readmitted: `hgs host add` can register it again."
        )
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, host } = self;
        let digest = &host.policy_digest;
        writeln!(
            formatter,
            "The host with the policy digest {digest} is {what}."
        )
    }
}

/// The digest of a host key, or that of an endorsement key.
fn key_digest(host_key: Option<&String>, endorsement_key: Option<&String>) -> String {
    or_dash(host_key.or(endorsement_key))
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

#[derive(Serialize)]
#[serde(transparent)]
struct Report(Vec<types::Host>);

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new([
            "NAME",
            "ATTESTS BY",
            "GROUP",
            "LAST ATTEMPT",
            "OUTCOME",
            "CERTIFICATE UNTIL",
            "FAILED POLICIES",
        ]);
        for host in &self.0 {
            let attempt = host.last_attempt.as_ref();
            let outcome = match attempt {
                None => "never attested".to_owned(),
                Some(attempt) if attempt.healthy => "healthy".to_owned(),
                Some(attempt) => format!(
                    "refused: {}",
                    attempt.reason.as_deref().unwrap_or("no reason is kept")
                ),
            };
            table.row([
                host.name.clone(),
                host.attestation_mode.to_string(),
                host.group.clone().unwrap_or_else(|| "default".to_owned()),
                or_dash(attempt.map(|attempt| &attempt.time)),
                match &host.revoked {
                    Some(_) => format!("revoked; {outcome}"),
                    None => outcome,
                },
                or_dash(host.certificate_expires.as_ref()),
                attempt.map_or_else(String::new, |attempt| attempt.failed_policies.join(", ")),
            ]);
        }
        table.fmt(formatter)
    }
}

impl fmt::Display for Hosts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new([
            "NAME",
            "STATUS",
            "ATTESTS BY",
            "GROUP",
            "LAST ATTESTED",
            "ADDED",
            "ID",
        ]);
        for host in &self.0 {
            let status = match status(host) {
                HostStatus::Revoked => "revoked",
                HostStatus::Registered => "registered",
            };
            table.row([
                host.name.clone(),
                status.to_owned(),
                host.attestation_mode.to_string(),
                or_dash(host.group.as_ref()),
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
            tpm,
            policy_digest,
            returns_nonces,
            host_key_shared,
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
            ("attests by", host.attestation_mode.to_string()),
            ("group", or_dash(host.group.as_ref())),
            (
                "key (SHA-256)",
                key_digest(
                    host.host_key_digest.as_ref(),
                    host.endorsement_key_digest.as_ref(),
                ),
            ),
            ("policy digest", policy_digest.clone()),
            (
                "returns nonces",
                if *returns_nonces { "yes" } else { "no" }.to_owned(),
            ),
        ])
        .fmt(formatter)?;
        if let Some(time) = host_key_shared {
            writeln!(
                formatter,
                "\nTwo machines use this host key, last at {time}: a clone or a restored copy. Give each a host key of its own."
            )?;
        }
        if let Some(tpm) = tpm {
            let rows = [
                ("TPM maker", &tpm.manufacturer),
                ("TPM model", &tpm.model),
                ("TPM firmware", &tpm.firmware),
                ("EK certificate by", &tpm.issuer),
                ("system UUID", &tpm.system_uuid),
                ("serial number", &tpm.system_serial_number),
            ];
            let rows = rows.map(|(name, value)| (name, or_dash(value.as_ref())));
            write!(formatter, "\n{}", Table::of_pairs(rows))?;
        }
        let tpm_key = tpm.as_ref().map(|tpm| &tpm.endorsement_key);
        if let Some(key) = host_key.as_ref().or(tpm_key) {
            writeln!(formatter, "\n{}\n", key.trim_end())?;
        }
        let mut table = Table::new([
            "IDENTITY KEY FOR",
            "FIRST SEEN",
            "SUPERSEDED",
            "CAME BACK",
            "DIGEST",
        ]);
        for key in identity_keys {
            table.row([
                key.kind.to_string(),
                key.first_seen.clone(),
                or_dash(key.superseded.as_ref()),
                or_dash(key.returned.as_ref()),
                key.digest.clone(),
            ]);
        }
        table.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use hgs_admin::types::{AttestationMode, Revocation};

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Words {
        #[command(flatten)]
        list: List,
    }

    /// Name, day of registration, day of the last attestation, and whether it was revoked.
    const HOSTS: [(&str, u8, Option<u8>, bool); 4] = [
        ("Rack7-a", 3, Some(20), false),
        ("rack7-b", 1, None, false),
        ("rack8", 2, Some(10), true),
        ("attic", 4, Some(5), false),
    ];

    fn time(day: u8) -> String {
        format!("2026-01-{day:02}T12:00:00Z")
    }

    fn listed(words: &str) -> Vec<String> {
        let hosts = HOSTS.map(|(name, added, attested, is_revoked)| types::Host {
            name: name.to_owned(),
            id: String::new(),
            attestation_mode: AttestationMode::HostKey,
            host_key_digest: None,
            endorsement_key_digest: None,
            group: None,
            certificate_expires: None,
            last_attempt: None,
            added: time(added),
            last_attested: attested.map(time),
            revoked: is_revoked.then(|| Revocation {
                time: time(21),
                reason: String::new(),
                by: String::new(),
            }),
        });
        let Words { list } = Words::parse_from(format!("list {words}").split_whitespace());
        let now = time(22).parse().unwrap();
        let kept = list.select(hosts.to_vec(), now).unwrap();
        kept.into_iter().map(|host| host.name).collect()
    }

    #[test]
    fn hosts_are_filtered() {
        assert_eq!(listed("--status revoked"), ["rack8"]);
        assert_eq!(
            listed("--status registered"),
            ["attic", "Rack7-a", "rack7-b"]
        );
        assert_eq!(listed("--name RACK7"), ["Rack7-a", "rack7-b"]);
        assert_eq!(listed("--name nowhere"), Vec::<String>::new());
        // A host that never attested has not attested for any time.
        assert_eq!(
            listed("--not-attested-for 2d"),
            ["attic", "rack7-b", "rack8"]
        );
        assert_eq!(listed("--not-attested-for 1d"), listed(""));
        assert_eq!(
            listed("--not-attested-for 2d --status registered --name r"),
            ["rack7-b"]
        );
    }

    #[test]
    fn hosts_are_sorted() {
        assert_eq!(listed(""), ["attic", "Rack7-a", "rack7-b", "rack8"]);
        assert_eq!(
            listed("--sort added"),
            ["rack7-b", "rack8", "Rack7-a", "attic"]
        );
        assert_eq!(
            listed("--sort attested"),
            ["rack7-b", "attic", "rack8", "Rack7-a"]
        );
        assert_eq!(
            listed("--sort attested --reverse"),
            ["Rack7-a", "rack8", "attic", "rack7-b"]
        );
    }
}
