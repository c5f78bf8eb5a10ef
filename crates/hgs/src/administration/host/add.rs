//! `hgs host add`: one host, or many.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use hgs_admin::types::{self, AddHost, AddHosts, MAX_AT_ONCE};
use hgs_admin::{Administration as _, Client};
use hgs_attest::platform_identity::PlatformIdentity;
use hgs_crypto::hash::sha256;
use hgs_crypto::hex;
use hgs_terminal::{Exit, Failure, Terminal, read_input};
use serde::Serialize;

use super::Changed;
use crate::administration::{LONGEST_FILE, given_text};
use crate::completion;
use crate::failures::OrFail as _;

/// Register a host, which can attest from then on
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs host add host1 --host-key host1.pem     (on the host: guarded-host host-key export --out host1.pem)
  hgs host add host1 --identity host1.json    (on the host: guarded-host identity export --out host1.json)
  hgs host add --identities rack7/ --group rack7

A host with a TPM needs an EK certificate that leads to one of `hgs ek-root list`.")]
#[command(group(clap::ArgGroup::new("credential").required(true)))]
pub(super) struct Add {
    /// Its name from now on
    #[arg(required_unless_present = "identities", conflicts_with = "identities")]
    name: Option<String>,
    /// Its public host key, or a certificate over it: PEM or DER
    #[arg(long, value_name = "FILE", group = "credential")]
    host_key: Option<PathBuf>,
    /// Its platform identity, which names its TPM
    #[arg(long, value_name = "FILE", group = "credential")]
    identity: Option<PathBuf>,
    /// A folder of platform identities, NAME.json each; hosts that are registered already are passed over
    #[arg(long, value_name = "FOLDER", group = "credential")]
    identities: Option<PathBuf>,
    /// The group whose policies it is judged by
    #[arg(long, value_name = "GROUP", add = completion::host_groups(), conflicts_with = "host_key")]
    group: Option<String>,
    /// Register a TPM that no EK certificate vouches for: then you do, and the audit log says so
    #[arg(long, conflicts_with = "host_key")]
    without_ek_certificate: bool,
}

impl Add {
    pub(super) fn run(self, client: &Client, terminal: &Terminal) -> Result<Exit, Failure> {
        if self.without_ek_certificate {
            terminal.confirm(
                "Register without an EK certificate? Nothing but the file says then that the key is a TPM's.",
            )?;
        }
        match &self.identities {
            Some(folder) => self.add_all(folder, client, terminal),
            None => self.add_one(client, terminal),
        }
    }

    fn add_one(&self, client: &Client, terminal: &Terminal) -> Result<Exit, Failure> {
        let host_key = self.host_key.as_deref();
        let host_key = host_key.map(|file| given_text(file, "a host key file"));
        let identity = self.identity.as_deref().map(read_identity).transpose()?;
        let request = AddHost {
            host_key: host_key.transpose()?,
            identity: identity.map(|identity| identity.text),
            ..self.request(self.name.clone().unwrap_or_default())
        };
        terminal.report(&Changed {
            what: "registered",
            host: client.add_host(&request).or_fail()?,
        })?;
        Ok(Exit::Done)
    }

    fn request(&self, name: String) -> AddHost {
        AddHost {
            name,
            host_key: None,
            identity: None,
            group: self.group.clone(),
            without_ek_certificate: self.without_ek_certificate,
        }
    }

    /// Registers what the folder holds, a hundred at a time. What is wrong with a file is said before anything is registered.
    fn add_all(
        &self,
        folder: &Path,
        client: &Client,
        terminal: &Terminal,
    ) -> Result<Exit, Failure> {
        let identities = read_folder(folder)?;
        let registered = crate::administration::all_hosts(client).or_fail()?;
        let known: BTreeMap<_, _> = registered
            .iter()
            .map(|host| (host.name.to_ascii_lowercase(), host))
            .collect();
        let is_known = |(name, identity): &(String, Identity)| {
            let host = known.get(&name.to_ascii_lowercase());
            let digest = host.and_then(|host| host.endorsement_key_digest.as_ref());
            digest == Some(&identity.digest)
        };
        let (known, new): (Vec<_>, Vec<_>) = identities.into_iter().partition(is_known);
        let mut progress = Progress {
            registered: 0,
            of: new.len(),
            known: known.len(),
            hosts: Vec::new(),
        };
        let requests = new.into_iter().map(|(name, identity)| AddHost {
            identity: Some(identity.text),
            ..self.request(name)
        });
        for hosts in batches(requests) {
            let added = client.add_hosts(&AddHosts { hosts }).or_fail();
            progress.hosts = added.map_err(|failure| {
                let before = progress.registered;
                failure.while_doing(format!(
                    "{before} hosts were registered, and none of the next"
                ))
            })?;
            progress.registered += progress.hosts.len();
            terminal.step(&progress)?;
        }
        if progress.of == 0 {
            terminal.step(&progress)?;
        }
        Ok(Exit::Done)
    }
}

/// Requests that are sent at once: a hundred, and fewer if their octets are many.
fn batches(requests: impl Iterator<Item = AddHost>) -> Vec<Vec<AddHost>> {
    const MOST_OCTETS: usize = 384 * 1024;
    let mut batches: Vec<Vec<AddHost>> = Vec::new();
    let mut octets = 0;
    for request in requests {
        let length = serde_json::to_vec(&request).map_or(MOST_OCTETS, |json| json.len());
        octets += length;
        match batches.last_mut() {
            Some(batch) if batch.len() < MAX_AT_ONCE && octets <= MOST_OCTETS => {
                batch.push(request)
            }
            _ => {
                octets = length;
                batches.push(vec![request]);
            }
        }
    }
    batches
}

/// A platform identity that was read.
pub(super) struct Identity {
    pub(super) text: String,
    /// SHA-256 of the endorsement key's TPMT_PUBLIC.
    digest: String,
}

pub(super) fn read_identity(file: &Path) -> Result<Identity, Failure> {
    let octets = read_input(file, LONGEST_FILE)?.complete(file, "a platform identity")?;
    let said = |error: &dyn std::error::Error| {
        Failure::of(error)
            .with_exit(Exit::Refused)
            .while_doing(file.display())
    };
    let identity = PlatformIdentity::from_json(&octets).map_err(|error| {
        said(&error).remedy("export it on the host with `guarded-host identity export`")
    })?;
    Ok(Identity {
        text: String::from_utf8(octets).map_err(|error| said(&error))?,
        digest: hex::encode(&sha256(identity.endorsement_public())),
    })
}

/// The identities of a folder, by the names of their files.
fn read_folder(folder: &Path) -> Result<Vec<(String, Identity)>, Failure> {
    let failed = |error: std::io::Error| Failure::of(&error).while_doing(folder.display());
    let mut identities = Vec::new();
    for entry in folder.read_dir().map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let name = file.file_stem().and_then(|name| name.to_str());
        if file
            .extension()
            .is_some_and(|extension| extension == "json")
            && let Some(name) = name
        {
            identities.push((name.to_owned(), read_identity(&file)?));
        }
    }
    identities.sort_by(|(one, _), (other, _)| one.cmp(other));
    match identities.is_empty() {
        true => Err(
            Failure::refused(format!("{} holds no platform identities", folder.display()))
                .remedy("put one file NAME.json for each host into it"),
        ),
        false => Ok(identities),
    }
}

/// How far it is: a line for people, or a JSON object, for each hundred.
#[derive(Serialize)]
struct Progress {
    /// Hosts that are registered so far.
    registered: usize,
    /// Hosts that are to be registered.
    of: usize,
    /// Hosts that were registered already.
    known: usize,
    /// The hosts of this step.
    hosts: Vec<types::Host>,
}

impl fmt::Display for Progress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            registered,
            of,
            known,
            ..
        } = self;
        write!(formatter, "{registered} of {of} hosts are registered")?;
        match known {
            0 => writeln!(formatter, "."),
            known => writeln!(formatter, "; {known} were registered already."),
        }
    }
}
