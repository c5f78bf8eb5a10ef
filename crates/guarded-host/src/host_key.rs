//! `guarded-host host-key`: Set-, Get- and Remove-HgsClientHostKey.

use std::fmt;

use clap::{Subcommand, ValueEnum};
use hgs_client::host_key::{HostKey, HostKeySize, PublicForm};
use hgs_crypto::hex;
use hgs_files::Readers;
use hgs_terminal::{Exit, Failure, Table, Terminal};
use serde::Serialize;

use crate::failure::failure;
use crate::host_options::HostOptions;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Generate the host key; one that exists is never overwritten
    New {
        /// Bits of the RSA key
        #[arg(long, value_enum, default_value_t)]
        bits: Bits,
    },
    /// Print the public half, for `hgs host add NAME --host-key FILE`
    Export {
        /// As a self-signed certificate instead of a public key
        #[arg(long)]
        certificate: bool,
    },
    /// Remove the host key; the host can't attest until a new one is registered
    Remove,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Bits {
    #[value(name = "2048")]
    Rsa2048,
    #[default]
    #[value(name = "3072")]
    Rsa3072,
}

impl Verb {
    pub(crate) fn run(self, options: &HostOptions, terminal: &Terminal) -> Result<Exit, Failure> {
        match self {
            Self::New { bits } => new(bits, options, terminal),
            Self::Export { certificate } => export(certificate, options, terminal),
            Self::Remove => remove(options, terminal),
        }
    }
}

/// The public half of a host key.
#[derive(Serialize)]
struct Report {
    /// SHA-256 of the SubjectPublicKeyInfo: what the guardian's list of hosts shows.
    sha256: String,
    bits: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pem: Option<String>,
}

impl Report {
    fn new(key: &HostKey) -> Self {
        Self {
            sha256: hex::encode(key.public().digest()),
            bits: key.public().modulus_bits(),
            pem: None,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            ("host key", self.sha256.clone()),
            ("bits", self.bits.to_string()),
        ];
        Table::of_pairs(rows).fmt(formatter)
    }
}

fn new(bits: Bits, options: &HostOptions, terminal: &Terminal) -> Result<Exit, Failure> {
    let size = match bits {
        Bits::Rsa2048 => HostKeySize::Rsa2048,
        Bits::Rsa3072 => HostKeySize::Rsa3072,
    };
    let key = options
        .open(terminal)?
        .create_host_key(size)
        .map_err(failure)?;
    terminal.report(&Report::new(&key))?;
    Ok(Exit::Done)
}

fn export(certificate: bool, options: &HostOptions, terminal: &Terminal) -> Result<Exit, Failure> {
    let host = options.open(terminal)?;
    let key = host.host_key().map_err(failure)?;
    let form = if certificate {
        PublicForm::Certificate
    } else {
        PublicForm::SubjectPublicKeyInfo
    };
    let machine = rustix::system::uname();
    let name = machine.nodename().to_string_lossy();
    let pem = key.export(form, &name, host.now()).map_err(failure)?;
    let report = Report::new(&key);
    if terminal.json() && terminal.out().is_none() {
        terminal.report(&Report {
            pem: Some(pem),
            ..report
        })?;
    } else {
        terminal.document(pem.as_bytes(), Readers::Everybody, &report)?;
    }
    Ok(Exit::Done)
}

fn remove(options: &HostOptions, terminal: &Terminal) -> Result<Exit, Failure> {
    let host = options.open(terminal)?;
    let key = host.host_key().map_err(failure)?;
    terminal.confirm("Remove the key by which the guardian knows this host?")?;
    host.remove_host_key().map_err(failure)?;
    terminal.report(&Report::new(&key))?;
    Ok(Exit::Done)
}
